//! The command line. Flags that are settings come from the table of settings, like everything else.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use super::draft::Draft;
use super::key::{Given, Key};
use super::{Log, LogFormat, Source, listing, settings, tools};

pub(super) enum Parsed {
    /// Help or version: print it and end well.
    Print(String),
    /// Show another relay.
    Top(tools::Top),
    Given(Arguments),
}

pub(super) struct Arguments {
    pub(super) config: Option<PathBuf>,
    pub(super) check: bool,
    pub(super) settings: Vec<Given>,
}

/// Reads the arguments, the program's name not among them; a mistake is one sentence, with the form
/// in which to say it.
pub(super) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Parsed, (String, Log)> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let matches = match command().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    Ok(Parsed::Print(error.to_string()))
                }
                _ => Err((sentence(&error), log(&arguments))),
            };
        }
    };
    if let Some((name, matches)) = matches.subcommand() {
        let run = match name {
            "top" => tools::top(matches).map(Parsed::Top),
            _ => tools::run(name, matches).map(Parsed::Print),
        };
        return run.map_err(|sentence| (sentence, log(&arguments)));
    }
    let mut given = Vec::new();
    for setting in settings::all() {
        let Some((flag, _)) = setting.flag else { continue };
        if let Some(text) = matches.get_one::<String>(flag) {
            let key = Key::new(&[setting.section, setting.name]);
            let source = Source::Flag(flag);
            given.push(Given { key, text: text.clone(), source });
        }
    }
    Ok(Parsed::Given(Arguments {
        config: matches.get_one::<PathBuf>("config").cloned(),
        check: matches.get_flag("check"),
        settings: given,
    }))
}

fn command() -> Command {
    let defaults = Draft::new().rows();
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("Configuration file (TOML)");
    let check = Arg::new("check")
        .long("check")
        .action(ArgAction::SetTrue)
        .help("Print the configuration in force, with the source of each value, and exit");
    let flags = settings::all().filter_map(|setting| {
        let (flag, value) = setting.flag?;
        let long = flag.trim_start_matches('-');
        Some(Arg::new(flag).long(long).value_name(value).help(setting.why))
    });
    Command::new("relay")
        .version(env!("CARGO_PKG_VERSION"))
        .about("An RTMP relay")
        .no_binary_name(true)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .subcommands(tools::commands())
        .arg(config)
        .arg(check)
        .args(flags)
        .after_help(listing::help(&defaults))
}

/// The form of log lines that arguments ask for which cannot be parsed.
fn log(arguments: &[OsString]) -> Log {
    let is_flag = |argument: &OsString| argument == "--log";
    let apart = arguments.windows(2).any(|pair| is_flag(&pair[0]) && pair[1] == "json");
    let format = if apart || arguments.iter().any(|argument| argument == "--log=json") {
        LogFormat::Json
    } else {
        LogFormat::Text
    };
    Log { format, ..Log::DEFAULT }
}

/// The parser's report, several lines long, as one sentence.
fn sentence(error: &clap::Error) -> String {
    let report = error.to_string();
    let first = report.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first).trim_end_matches(['.', ':']);
    if let (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(missing))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    {
        return format!("The arguments are wrong: {} is missing; see --help.", missing.join(", "));
    }
    match error.get(ContextKind::SuggestedArg) {
        Some(near) => format!("The arguments are wrong: {first}; the nearest is {near}."),
        None => format!("The arguments are wrong: {first}; see --help."),
    }
}
