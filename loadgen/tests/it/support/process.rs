//! A program started by a test: its output goes to a file, and it is ended by its id when dropped.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait_for;

/// A running program.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program without input; what it says goes to a file in `dir`.
    pub(crate) fn start(dir: &Path, name: &str, command: &mut Command) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log).expect("the test's directory can be written");
        let stdout = file.try_clone().expect("a descriptor is left");
        let started = command.stdin(Stdio::null()).stdout(stdout).stderr(file).spawn();
        let child = started.unwrap_or_else(|error| {
            let program = command.get_program().to_string_lossy();
            match error.kind() {
                ErrorKind::NotFound => panic!("{program} not found: run .ci/install"),
                _ => panic!("{program} cannot be started: {error}"),
            }
        });
        Self { name: name.to_owned(), child, log }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything said so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Fails when the program has ended.
    pub(crate) fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().expect("our own child can be asked") {
            panic!("{} ended with {status}\n{}", self.name, self.said());
        }
    }

    /// Sends a signal to the program, which has not been waited for.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("ids of processes are positive"), signal)
            .expect("our own child can be signalled");
    }

    /// Waits for the program to end by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let name = format!("the end of {}", self.name);
        wait_for(&name, limit, || self.child.try_wait().expect("our own child can be asked"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended by itself when it cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, self.said());
        }
    }
}
