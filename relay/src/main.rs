//! The program: reads what it is told, runs a node, and says by its exit code how that went.
//!
//! 0: ended in order. 1: could not start, or failed. 2: bad configuration or arguments.

use std::io::Write;
use std::process::ExitCode;

use relay::config::{self, Command};
use relay::node;

fn main() -> ExitCode {
    match config::load(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(Command::Run(effective)) => match node::run(*effective) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => say(&error, ExitCode::FAILURE),
        },
        Ok(Command::Print(text)) => {
            // A reader that ends early (`relay --help | head`) has read what it wanted.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => say(&error, ExitCode::from(2)),
    }
}

fn say(error: &dyn std::error::Error, code: ExitCode) -> ExitCode {
    // Nothing can be said about a standard error that is closed.
    let _ = writeln!(std::io::stderr(), "relay: {error}");
    code
}
