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
mod cluster;
mod cycles;
mod floor;
mod flv;
mod instructions;
mod latency;
mod load;
mod machine;
mod micro;
mod place;
mod progress;
mod report;
mod server;
mod storm;
mod streams;
mod tls;
mod tunnel;
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
    /// From a publisher's frame to a player's, on an idle core and on one that is half busy.
    Latency(latency::Arguments),
    /// Thousands of players join one stream within a second.
    Storm(storm::Arguments),
    /// Many streams of few players: CPU, memory, publishers that come all at once.
    Streams(streams::Arguments),
    /// Where the server's time goes with thousands of players.
    Cycles(cycles::Arguments),
    /// RTMPS beside RTMP: CPU per delivered GB, handshakes, and a storm of them.
    Tls(tls::Arguments),
    /// What FLV over HTTP and WebSockets costs beside RTMP.
    Flv(flv::Arguments),
    /// Players inside HTTP beside plain ones: whether these notice, and what the tunnel costs.
    Tunnel(tunnel::Arguments),
    /// One hop and three beside one node, and many streams on one link beside a connection each.
    Cluster(cluster::Arguments),
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

/// Figures of a debug build mean nothing.
fn release_only(command: &str) -> Result<(), CannotRun> {
    if cfg!(debug_assertions) {
        return Err(CannotRun(format!(
            "figures of a debug build mean nothing: cargo build --release && cargo run --release \
             -p bench -- {command}"
        )));
    }
    Ok(())
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Micro(arguments) => micro::run(&arguments),
        Command::Instructions(arguments) => instructions::run(&arguments),
        Command::Floor(arguments) => floor::run(&arguments),
        Command::Latency(arguments) => latency::run(&arguments),
        Command::Storm(arguments) => storm::run(&arguments),
        Command::Streams(arguments) => streams::run(&arguments),
        Command::Cycles(arguments) => cycles::run(&arguments),
        Command::Tls(arguments) => tls::run(&arguments),
        Command::Flv(arguments) => flv::run(&arguments),
        Command::Tunnel(arguments) => tunnel::run(&arguments),
        Command::Cluster(arguments) => cluster::run(&arguments),
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
