//! Several processes for one run, when one may not open enough files.
//!
//! Each child is this program with the same arguments and the number of its part; it writes an
//! interval per line to its standard output, and the parent adds them up as if they came from
//! threads.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use crate::engine;
use crate::failure::Failure;
use crate::measure::Interval;
use crate::plan::Plan;
use crate::units::nanos;

/// How a run is split into processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    count: usize,
}

/// Files that a process needs besides its connections.
const OTHER_FILES: usize = 128;

/// More processes than this are not started.
const PARTS_MAX: usize = 64;

impl Parts {
    /// As many processes as `connections` need when each may open `files`.
    ///
    /// # Errors
    /// One sentence when even many processes are not enough.
    pub fn needed(connections: usize, files: u64) -> Result<Self, Failure> {
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        let each = files.saturating_sub(OTHER_FILES).max(1);
        let count = connections.div_ceil(each).max(1);
        if count > PARTS_MAX {
            return Err(Failure::new(format!(
                "{connections} connections need {count} processes of at most {files} open files \
                 each: raise the limit (ulimit -Hn)"
            )));
        }
        Ok(Self { count })
    }

    /// How many processes.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// How long before the load begins everything is started.
    #[must_use]
    pub fn start_up(&self) -> Duration {
        if self.count > 1 { Duration::from_secs(1) } else { Duration::from_millis(100) }
    }

    /// Runs all parts, each in a process of its own, and hands on what they measure.
    ///
    /// # Errors
    /// One sentence when a process cannot be started or fails.
    pub fn run(
        &self,
        plan: &Plan,
        stop: &Arc<AtomicBool>,
        intervals: &Sender<Interval>,
    ) -> Result<(), Failure> {
        let begin = nanos(plan.begin.unwrap_or_default()).to_string();
        let mut children = Vec::new();
        for part in 0..self.count {
            let part = format!("{part}/{}", self.count);
            match start(&part, &begin) {
                Ok(child) => children.push(child),
                Err(failure) => {
                    end(children);
                    return Err(failure);
                }
            }
        }
        thread::scope(|scope| {
            let readers: Vec<_> = children
                .iter_mut()
                .filter_map(|child| child.stdout.take())
                .map(|output| {
                    scope.spawn(move || {
                        for line in BufReader::new(output).lines().map_while(Result::ok) {
                            if let Ok(interval) = serde_json::from_str(&line) {
                                // Nobody listens any more when the run was given up.
                                let _ = intervals.send(interval);
                            }
                        }
                    })
                })
                .collect();
            while readers.iter().any(|reader| !reader.is_finished()) {
                thread::sleep(Duration::from_millis(50));
                if stop.load(Ordering::Relaxed) {
                    // Closing their input tells the children to end their load.
                    children.iter_mut().for_each(|child| drop(child.stdin.take()));
                }
            }
        });
        for child in &mut children {
            match child.wait() {
                Ok(status) if status.success() => {}
                Ok(status) => {
                    return Err(Failure::new(format!("a part of the run ended with {status}")));
                }
                Err(error) => {
                    return Err(Failure::new(format!("a part of the run is lost: {error}")));
                }
            }
        }
        Ok(())
    }
}

fn start(part: &str, begin: &str) -> Result<Child, Failure> {
    let failed = |error| Failure::new(format!("a part of the run cannot be started: {error}"));
    let mut arguments = std::env::args_os();
    arguments.next();
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(arguments).args(["--part", part, "--begin", begin]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command.spawn().map_err(failed)
}

/// Ends children whose siblings could not be started.
fn end(children: Vec<Child>) {
    for mut child in children {
        // It has ended by itself when it cannot be killed.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Runs one part, as a child of the process that collects: an interval per line to `output`.
///
/// # Errors
/// As [`engine::run`].
pub fn run_as_part(
    plan: &Arc<Plan>,
    stop: &Arc<AtomicBool>,
    mut output: impl Write + Send + 'static,
) -> Result<(), Failure> {
    let (sender, receiver) = mpsc::channel::<Interval>();
    let writer = thread::spawn(move || {
        for interval in receiver {
            let Ok(line) = serde_json::to_string(&interval) else { continue };
            // When the parent is gone there is nobody to measure for.
            if writeln!(output, "{line}").and_then(|()| output.flush()).is_err() {
                return;
            }
        }
    });
    let result = engine::run(plan, stop, sender);
    if writer.join().is_err() {
        return Err(Failure::new("what was measured could not be handed on"));
    }
    result
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_as_many_as_files_ask_for() {
        let check = |connections: usize, files: u64, expected: usize| {
            assert_eq!(Parts::needed(connections, files).unwrap().count(), expected);
        };
        check(0, 1_024, 1);
        check(896, 1_024, 1);
        check(897, 1_024, 2);
        check(50_000, 20_000, 3);
        check(50_000, u64::MAX, 1);
        assert!(Parts::needed(1_000_000, 1_024).is_err());
    }
}
