//! A program started by a test: its output goes to a file, its end is always waited for.
//!
//! Programs are ended by their id and by nothing else, so tests running side by side cannot hurt
//! each other. A program that is missing fails the test with one sentence.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A running program, or one that has ended and was not asked about yet.
pub(crate) struct Process {
    name: String,
    child: Child,
    output: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` without input; standard output and error go to `<dir>/<name>.log`.
    pub(crate) fn start(dir: &Path, name: &str, command: &mut Command) -> Self {
        let output = dir.join(format!("{name}.log"));
        let file = File::create(&output).expect("the test's directory can be written");
        let stdout = file.try_clone().expect("a descriptor is left");
        Self::start_with(name, output, command.stdout(stdout).stderr(file))
    }

    /// The same for a program whose standard output is wanted apart: it goes to `stdout`.
    pub(crate) fn start_apart(
        dir: &Path,
        name: &str,
        stdout: &Path,
        command: &mut Command,
    ) -> Self {
        let output = dir.join(format!("{name}.log"));
        let stderr = File::create(&output).expect("the test's directory can be written");
        let stdout = File::create(stdout).expect("the test's directory can be written");
        Self::start_with(name, output, command.stdout(stdout).stderr(stderr))
    }

    fn start_with(name: &str, output: PathBuf, command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| {
            let program = command.get_program().to_string_lossy();
            match error.kind() {
                ErrorKind::NotFound => panic!("{program} not found: run .ci/install"),
                _ => panic!("{program} cannot be started: {error}"),
            }
        });
        Self { name: name.to_owned(), child, output, ended: None }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything written so far to the log file of this program.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// The program's end, if it has come.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("our own child can be asked for");
        }
        self.ended
    }

    /// Waits for the program to end by itself; fails after `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        self.ended_within(limit).unwrap_or_else(|| {
            panic!("{} did not end within {limit:?}\n{}", self.name, self.tail())
        })
    }

    /// Waits for the program to end by itself with exit code 0; fails after `limit`.
    pub(crate) fn succeed(&mut self, limit: Duration) {
        let status = self.wait(limit);
        assert!(status.success(), "{} ended with {status}\n{}", self.name, self.tail());
    }

    /// Fails unless the program is still running: the same process, never restarted.
    pub(crate) fn must_run(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended by itself with {status}\n{}", self.name, self.tail());
        }
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let id = i32::try_from(self.child.id()).expect("ids of processes fit");
            let pid = Pid::from_raw(id).expect("ids of processes are positive");
            kill_process(pid, signal).expect("our own child can be signalled");
        }
    }

    /// Ends the program: `signal`, and SIGKILL when that was not enough within 5 s.
    pub(crate) fn stop(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        if let Some(status) = self.ended_within(Duration::from_secs(5)) {
            return status;
        }
        self.kill()
    }

    /// Ends the program at once, as a crash would.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        if self.ended().is_none() {
            self.child.kill().expect("our own child can be signalled");
            self.ended = Some(self.child.wait().expect("our own child can be waited for"));
        }
        self.ended.unwrap_or_else(|| ExitStatus::from_raw(0))
    }

    /// The last lines of the log, for messages.
    pub(crate) fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(25);
        format!("--- {} ---\n{}", self.name, lines[from..].join("\n"))
    }

    fn ended_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            let ended = self.ended();
            if ended.is_some() || Instant::now() >= end {
                return ended;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

/// Resident memory of a process in bytes, as the kernel counts it (`VmRSS`).
pub(crate) fn resident_bytes(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS is there");
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().expect("a number of KiB");
    kib * 1024
}
