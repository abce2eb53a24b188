//! What is to be done, decided once: every option resolved, every arrival dated.
//!
//! Arrivals are drawn from the seed before the load begins and never depend on how the server
//! answers: a slow server gets its players all the same, and their waiting is measured from when
//! they were due.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use relay::config::ReactorChoice;
use relay::tls::ClientTls;

use crate::expect::Expectation;
use crate::failover::Failover;
use crate::flv::FlvFile;
use crate::profile::Profile;
use crate::target::Target;
use crate::verify::Checks;

/// A whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The command's name, for reports.
    pub command: &'static str,
    /// Where publishers go; they take turns.
    pub publish_to: Vec<Target>,
    /// Where players go; they take turns.
    pub play_from: Vec<Target>,
    /// How many streams there are.
    pub streams: usize,
    /// How many of them are published here, from the first on.
    pub publishers: usize,
    /// How many players; with `stay`, how many at a time on average.
    pub players: usize,
    /// What is published, unless `file` is.
    pub profile: Arc<Profile>,
    /// A file to publish instead.
    pub file: Option<Arc<FlvFile>>,
    /// How long publishers have before the first player comes.
    pub warmup: Duration,
    /// Over which time the players come, evenly.
    pub ramp: Duration,
    /// How long the full load stays on.
    pub duration: Duration,
    /// Worker threads, each on a core of its own where there are so many.
    pub cores: usize,
    /// What carries the bytes of publishers and of players that check.
    pub reactor: ReactorChoice,
    /// How many of the players parse and check everything, 0 to 1; the others count.
    pub verify: f64,
    /// How often the others read; `None`: every few milliseconds, and whenever their thread is
    /// awake.
    pub sweep: Option<Duration>,
    /// Whether connections lost are made again.
    pub reconnect: bool,
    /// Whom connections inside TLS trust, if there are any.
    pub tls: Option<ClientTls>,
    /// The shortest time from one request of a tunnel to the next; `None` for the usual one.
    pub poll: Option<Duration>,
    /// Whether connect names the capabilities of Enhanced RTMP.
    pub enhanced: bool,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// Players leave after this time on average, exponentially, and others come at random.
    pub stay: Option<Duration>,
    /// The share of players that are slow, 0 to 1.
    pub slow: f64,
    /// At which share of the stream's rate slow ones read.
    pub pace: f64,
    /// The share of players that stop reading altogether after their join.
    pub stopped: f64,
    /// Hostile clients, and what they do.
    pub attackers: usize,
    /// Their ways; they take turns.
    pub attacks: Vec<crate::engine::Attack>,
    /// What is killed, cut or drained meanwhile, and when.
    pub failover: Option<Failover>,
    /// Which checks are made.
    pub checks: Checks,
    /// What must hold.
    pub expect: Vec<Expectation>,
    /// Which share of the load this process is: number and count.
    pub part: (usize, usize),
    /// When the load begins, the same for all processes; `None` as soon as possible.
    pub begin: Option<Duration>,
    /// What reports are written, and what is watched meanwhile.
    pub outputs: Outputs,
}

/// Reports and watches.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    /// Everything as JSON.
    pub json: Option<PathBuf>,
    /// A page with plots.
    pub html: Option<PathBuf>,
    /// Where to serve metrics of our own.
    pub metrics: Option<String>,
    /// The server's process.
    pub server_pid: Option<u32>,
    /// The address of the server's `/metrics`.
    pub server_metrics: Option<String>,
    /// Neither progress nor summary.
    pub quiet: bool,
}

/// How a player reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Everything at once.
    Full,
    /// At a share of the stream's rate.
    Share(f64),
    /// Not at all after its first key frame.
    Stopped,
}

/// A player to come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// Its number.
    pub player: usize,
    /// From the beginning of the load.
    pub at: Duration,
    /// From the beginning of the load.
    pub leaves: Duration,
    /// Whether it parses and checks everything.
    pub verifies: bool,
    /// How it reads.
    pub pace: Pace,
}

impl Plan {
    /// From the beginning of the load to the leaving of the last player.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.warmup + self.ramp + self.duration
    }

    /// From the beginning of the load to the point from which the full load is on.
    #[must_use]
    pub fn full_from(&self) -> Duration {
        self.warmup + self.ramp
    }

    /// When a publisher is due, from the beginning of the load. They are spread over the first half
    /// of the warm-up, so that the frames of many do not fall on one instant.
    #[must_use]
    pub fn publisher_due(&self, index: usize) -> Duration {
        let span = if self.players > 0 { self.warmup / 2 } else { self.ramp };
        let spread = span.as_secs_f64().max(0.04);
        Duration::from_secs_f64(spread * index as f64 / self.publishers.max(1) as f64)
    }

    /// Every player to come, in order.
    #[must_use]
    pub fn arrivals(&self) -> Vec<Arrival> {
        let mut random = fastrand::Rng::with_seed(self.seed ^ 0xa11f_0a15);
        let end = self.length();
        let mut arrivals: Vec<Arrival> = match self.stay {
            None => (0..self.players)
                .map(|player| {
                    let part = player as f64 / self.players as f64;
                    let at = self.warmup + self.ramp.mul_f64(part);
                    self.arrival(player, at, end)
                })
                .collect(),
            Some(stay) => self.poisson(stay, &mut random),
        };
        // Which ones are slow is drawn, so that it has nothing to do with when they come.
        let slow = shuffled(arrivals.len(), &mut random);
        let of_all = |share: f64| crate::units::whole((arrivals.len() as f64 * share).round());
        let stopped = of_all(self.stopped);
        let either = of_all(self.slow).saturating_add(stopped);
        for (arrival, place) in arrivals.iter_mut().zip(slow) {
            if place < stopped {
                arrival.pace = Pace::Stopped;
            } else if place < either {
                arrival.pace = Pace::Share(self.pace);
            }
            arrival.verifies |= arrival.pace != Pace::Full;
        }
        arrivals
    }

    fn arrival(&self, player: usize, at: Duration, leaves: Duration) -> Arrival {
        // So that any number of players has the share, evenly spread: counts up at each whole part.
        let before = (player as f64 * self.verify).ceil();
        let verifies = ((player + 1) as f64 * self.verify).ceil() > before;
        Arrival { player, at, leaves, verifies, pace: Pace::Full }
    }

    /// Arrivals at random, as many as leave on average; the first `players` are there from the
    /// ramp.
    fn poisson(&self, stay: Duration, random: &mut fastrand::Rng) -> Vec<Arrival> {
        let end = self.length();
        let mut arrivals = Vec::new();
        let mut exponential = |mean: f64| {
            Duration::from_secs_f64((-mean * (1.0 - random.f64()).ln()).clamp(0.0, 1e6))
        };
        for player in 0..self.players {
            let at = self.warmup + self.ramp.mul_f64(player as f64 / self.players as f64);
            let leaves = at + exponential(stay.as_secs_f64());
            arrivals.push(self.arrival(player, at, leaves.min(end)));
        }
        let mean_gap = stay.as_secs_f64() / self.players.max(1) as f64;
        let mut at = self.warmup;
        while arrivals.len() < ARRIVALS_MAX && self.players > 0 {
            at += exponential(mean_gap);
            if at >= end {
                break;
            }
            let leaves = at + exponential(stay.as_secs_f64());
            arrivals.push(self.arrival(arrivals.len(), at, leaves.min(end)));
        }
        arrivals.sort_by_key(|arrival| arrival.at);
        arrivals
    }

    /// Most connections open at once, as far as can be told beforehand.
    #[must_use]
    pub fn connections_max(&self) -> usize {
        // At random there may be more players than on average, and some are still closing.
        let spare = if self.stay.is_some() { self.players / 4 + 64 } else { 0 };
        self.publishers + self.players + spare + self.attackers
    }

    /// The number of the stream that a player plays.
    #[must_use]
    pub fn stream_of_player(&self, player: usize) -> usize {
        player % self.streams
    }
}

/// More arrivals than any one machine can make.
const ARRIVALS_MAX: usize = 10_000_000;

fn shuffled(count: usize, random: &mut fastrand::Rng) -> Vec<u64> {
    let mut places: Vec<u64> = (0..crate::units::wide(count)).collect();
    random.shuffle(&mut places);
    places
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
