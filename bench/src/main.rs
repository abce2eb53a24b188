//! bench: what measures the relay.
//!
//! `micro` gives times of hot functions, `instructions` their instruction counts, which other load
//! on the machine does not move and which are therefore held to bounds. Neither opens a socket.
//! The others measure whole servers, each on a core of its own, under load from another core:
//!
//! ```text
//!   floor, ...  ->  turn: server (relay or bare) on one core, load (loadgen) on the other
//!                   account: what the server took     load: what arrived, and whether it was right
//! ```

mod account;
mod bare;
mod case;
mod cases;
mod floor;
mod instructions;
mod load;
mod machine;
mod micro;
mod place;
mod progress;
mod report;
mod server;
mod turn;

use std::io::{Write, stderr};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadgen::failure::Failure;

/// Measures the relay.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Times of hot functions, in memory, on one core.
    Micro(micro::Arguments),
    /// Instruction counts of hot functions, held to the bounds of `bench/instructions.json`.
    Instructions(instructions::Arguments),
    /// The relay beside a bare sender that does nothing else, in turns: CPU per delivered GB.
    Floor(floor::Arguments),
    /// Sends a stream and does nothing else, to be measured against.
    #[command(hide = true)]
    Bare(bare::Arguments),
    /// Runs rounds of one case, for `instructions` to count.
    #[command(hide = true)]
    Rounds {
        /// The case.
        case: String,
        /// How often.
        rounds: u32,
    },
}

/// How a command ended; the exit code says the same.
enum Outcome {
    /// 0: all is as it should be.
    Met,
    /// 1: a bound is exceeded.
    NotMet,
}

/// Why a command could not run, as a sentence; exit code 2.
struct CannotRun(String);

impl From<Failure> for CannotRun {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Micro(arguments) => micro::run(&arguments),
        Command::Instructions(arguments) => instructions::run(&arguments),
        Command::Floor(arguments) => floor::run(&arguments),
        Command::Bare(arguments) => bare::run(&arguments),
        Command::Rounds { case, rounds } => instructions::rounds(&case, rounds),
    };
    match outcome {
        Ok(Outcome::Met) => ExitCode::SUCCESS,
        Ok(Outcome::NotMet) => ExitCode::from(1),
        Err(CannotRun(sentence)) => {
            // There is nobody left to tell when this fails too.
            let _ = writeln!(stderr(), "bench: {sentence}");
            ExitCode::from(2)
        }
    }
}
