//! The command line. Flags that are settings come from the table of settings, like everything else.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgAction, Command};

use super::draft::Draft;
use super::key::{Given, Key};
use super::settings::SETTINGS;
use super::{ConfigError, Source, listing};

pub(super) enum Parsed {
    /// Help or version: print it and end well.
    Print(String),
    Given(Arguments),
}

pub(super) struct Arguments {
    pub(super) config: Option<PathBuf>,
    pub(super) check: bool,
    pub(super) settings: Vec<Given>,
}

/// Reads the arguments, the program's name not among them.
pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, ConfigError> {
    let matches = match command()?.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    Ok(Parsed::Print(error.to_string()))
                }
                _ => Err(ConfigError(sentence(&error))),
            };
        }
    };
    let mut settings = Vec::new();
    for setting in SETTINGS {
        let Some((flag, _)) = setting.flag else { continue };
        if let Some(text) = matches.get_one::<String>(flag) {
            let key = Key::new(&[setting.section, setting.name]);
            let source = Source::Flag(flag);
            settings.push(Given { key, text: text.clone(), source });
        }
    }
    Ok(Parsed::Given(Arguments {
        config: matches.get_one::<PathBuf>("config").cloned(),
        check: matches.get_flag("check"),
        settings,
    }))
}

fn command() -> Result<Command, ConfigError> {
    let defaults = Draft::new().finish()?.rows;
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("Configuration file (TOML)");
    let check = Arg::new("check")
        .long("check")
        .action(ArgAction::SetTrue)
        .help("Print the configuration in force, with the source of each value, and exit");
    let flags = SETTINGS.iter().filter_map(|setting| {
        let (flag, value) = setting.flag?;
        let long = flag.trim_start_matches('-');
        Some(Arg::new(flag).long(long).value_name(value).help(setting.why))
    });
    Ok(Command::new("relay")
        .version(env!("CARGO_PKG_VERSION"))
        .about("An RTMP relay")
        .no_binary_name(true)
        .arg(config)
        .arg(check)
        .args(flags)
        .after_help(listing::help(&defaults)))
}

/// The parser's report, several lines long, as one sentence.
fn sentence(error: &clap::Error) -> String {
    let report = error.to_string();
    let first = report.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first).trim_end_matches(['.', ':']);
    match error.get(ContextKind::SuggestedArg) {
        Some(near) => format!("The arguments are wrong: {first}; the nearest is {near}."),
        None => format!("The arguments are wrong: {first}; see --help."),
    }
}
