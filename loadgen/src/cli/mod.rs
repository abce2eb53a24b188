//! The command line: what is said there or in a scenario file, made into a [`Plan`].

mod options;
mod resolve;
mod scenario;

use std::ffi::OsString;

use clap::Parser;
use clap::error::ErrorKind;

use self::options::Cli;
use crate::failure::Failure;
use crate::plan::Plan;

/// What the command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// A run.
    Run(Box<Plan>),
    /// A text to be printed: help or version.
    Text(String),
}

/// Reads the command line, and the scenario file that it names.
///
/// # Errors
/// One sentence about the first thing that is wrong.
pub fn parse(arguments: Vec<OsString>) -> Result<Asked, Failure> {
    let arguments = scenario::expand(arguments)?;
    match Cli::try_parse_from(arguments) {
        Ok(cli) => resolve::plan(cli).map(|plan| Asked::Run(Box::new(plan))),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Ok(Asked::Text(error.render().to_string()))
            }
            _ => Err(Failure::new(sentence(&error.to_string()))),
        },
    }
}

/// The first paragraph of clap's message, as one sentence.
fn sentence(message: &str) -> String {
    let first = message.split("\n\n").next().unwrap_or(message);
    let first = first.strip_prefix("error: ").unwrap_or(first);
    first.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
