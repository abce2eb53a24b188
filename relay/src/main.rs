//! The program: reads what it is told, runs a node, and says by its exit code how that went.
//!
//! 0: ended in order. 1: could not start, or failed. 2: bad configuration or arguments.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use relay::config::{self, Command};
use relay::{node, top};

fn main() -> ExitCode {
    match config::load(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(Command::Run(effective)) => {
            let log = effective.config.log;
            match node::run(*effective) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    node::complain(log, &[error.to_string()]);
                    ExitCode::FAILURE
                }
            }
        }
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Top(options)) => match top::run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(sentence) => {
                node::complain(config::Log::DEFAULT, &[sentence]);
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            node::complain(error.log, &error.sentences);
            ExitCode::from(2)
        }
    }
}

fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that ends early (`relay --help | head`) has read what it wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let sentence = format!("Standard output cannot be written: {error}.");
            node::complain(config::Log::DEFAULT, &[sentence]);
            ExitCode::FAILURE
        }
    }
}
