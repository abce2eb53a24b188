//! The command of `failover`: run when it is time, unless the run is over or given up before, and
//! for no longer than it may. What became of it is told; it never ends the report.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::clock;
use crate::units::show_duration;

/// How often it is looked at whether it is time, and whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What became of the command.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Ran {
    /// How it ended; 0 is well, and one that was ended has no code.
    pub exit_code: Option<i32>,
    /// How long it ran.
    pub seconds: f64,
    /// One sentence, unless it ended well.
    pub failure: Option<String>,
}

/// A command that waits for its time, or runs.
#[derive(Debug)]
pub struct Pending {
    thread: JoinHandle<Option<Ran>>,
    over: Arc<AtomicBool>,
}

/// Runs `command` at the `moment`, for at most `longest`; not when `stop` is set before, which ends
/// one that runs.
pub(super) fn begin(
    command: String,
    moment: Duration,
    longest: Duration,
    stop: &Arc<AtomicBool>,
) -> Pending {
    let (over, stop) = (Arc::new(AtomicBool::new(false)), Arc::clone(stop));
    let no_more = Arc::clone(&over);
    let thread = thread::spawn(move || {
        while clock::now() < moment {
            if stop.load(Ordering::Relaxed) || no_more.load(Ordering::Relaxed) {
                return None;
            }
            thread::sleep(LOOK.min(moment.saturating_sub(clock::now())));
        }
        (!stop.load(Ordering::Relaxed)).then(|| run(&command, longest, &stop))
    });
    Pending { thread, over }
}

impl Pending {
    /// The run is over: what became of the command, once it has ended. `None`: it was not run,
    /// since the run ended before its time.
    #[must_use]
    pub fn end(self) -> Option<Ran> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| {
            Some(Ran::failed(Duration::ZERO, "the command's thread panicked".to_owned()))
        })
    }
}

impl Ran {
    fn failed(after: Duration, failure: String) -> Self {
        Self { exit_code: None, seconds: after.as_secs_f64(), failure: Some(failure) }
    }
}

fn run(command: &str, longest: Duration, stop: &AtomicBool) -> Ran {
    let started = Instant::now();
    // A group of its own, so that what it started ends with it.
    let mut shell = Command::new("sh");
    let child = shell.args(["-c", command]).stdin(Stdio::null()).process_group(0).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            return Ran::failed(Duration::ZERO, format!("no shell runs the command: {error}"));
        }
    };
    loop {
        let after = started.elapsed();
        match child.try_wait() {
            Ok(Some(status)) => {
                let failure = match status.code() {
                    Some(0) => None,
                    Some(code) => Some(format!("the command ended with exit code {code}")),
                    None => Some("the command was ended by a signal".to_owned()),
                };
                let exit_code = status.code();
                return Ran { exit_code, seconds: after.as_secs_f64(), failure };
            }
            Ok(None) if stop.load(Ordering::Relaxed) => {
                end(&mut child);
                return Ran::failed(after, "the command was ended with the run".to_owned());
            }
            Ok(None) if after >= longest => {
                end(&mut child);
                let most = show_duration(longest);
                let why = format!("the command ran for {most} (--command-max), and was ended");
                return Ran::failed(after, why);
            }
            Ok(None) => thread::sleep(LOOK),
            Err(error) => {
                return Ran::failed(after, format!("the command cannot be waited for: {error}"));
            }
        }
    }
}

/// Ends a command and all that it started and did not give away.
fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended by itself a moment ago.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    /// What becomes of a command that may run for half a second, where the run is stopped, or over,
    /// at these times from its moment.
    fn outcome(command: &str, stopped: Option<i32>, over: Option<i32>) -> Option<Ran> {
        let stop = Arc::new(AtomicBool::new(false));
        let moment = clock::now() + SOON;
        let longest = Duration::from_millis(500);
        let pending = begin(command.to_owned(), moment, longest, &stop);
        let wait = |millis: i32| {
            let at = SOON.as_secs_f64() + f64::from(millis) / 1e3;
            thread::sleep(Duration::from_secs_f64(at));
        };
        if let Some(millis) = stopped {
            wait(millis);
            stop.store(true, Ordering::Relaxed);
        }
        if let Some(millis) = over {
            wait(millis);
        }
        pending.end()
    }

    #[track_caller]
    fn check(command: &str, stopped: Option<i32>, exit_code: Option<i32>, says: &str) {
        let began = Instant::now();
        let ran = outcome(command, stopped, Some(100)).expect("it was run");
        assert_eq!(ran.exit_code, exit_code, "{command}");
        let failure = ran.failure.unwrap_or_default();
        assert!(failure.contains(says) && failure.is_empty() == says.is_empty(), "{failure}");
        assert!(began.elapsed() < Duration::from_secs(10), "{command} was waited for");
    }

    #[test]
    fn a_command_ends_well_or_is_told_of_and_never_waited_for_long() {
        check("true", None, Some(0), "");
        check("exit 7", None, Some(7), "exit code 7");
        check("kill -9 $$", None, None, "by a signal");
        check("sleep 60", None, None, "--command-max");
        check("sleep 60 | sleep 60", None, None, "--command-max");
        check("sleep 60", Some(100), None, "ended with the run");
    }

    #[test]
    fn a_command_is_not_run_when_the_run_ends_before_its_time() {
        let file = std::env::temp_dir().join(format!("loadgen-command-{}", std::process::id()));
        let command = format!("touch {}", file.display());
        assert_eq!(outcome(&command, Some(-150), None), None);
        assert_eq!(outcome(&command, None, Some(-150)), None);
        thread::sleep(2 * SOON);
        assert!(!file.exists());
        assert!(outcome(&command, None, Some(100)).is_some());
        assert!(file.exists());
        std::fs::remove_file(&file).expect("it is ours");
    }
}
