//! loadgen itself: as a program with its exit code, and as a library with its checks.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loadgen::cli::{self, Asked};
use loadgen::plan::Plan;
use loadgen::run::{Outcome, execute};

/// How a run of the program ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program to its end.
pub(crate) fn program(arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).args(arguments).output();
    let Output { status, stdout, stderr } = output.expect("the program that cargo built");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("what it says is text");
    Ended { code: status.code().expect("it ended"), stdout: text(stdout), stderr: text(stderr) }
}

/// Runs the program and reads its JSON.
pub(crate) fn program_with_json(dir: &Path, arguments: &[&str]) -> (Ended, serde_json::Value) {
    let file = dir.join("run.json");
    let mut arguments = arguments.to_vec();
    arguments.extend(["--json", file.to_str().unwrap()]);
    let ended = program(&arguments);
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let json = serde_json::from_str(&text).unwrap_or(serde_json::Value::Null);
    (ended, json)
}

/// The plan that a command line makes.
pub(crate) fn plan(line: &str) -> Plan {
    let words = std::iter::once("loadgen").chain(line.split_whitespace());
    match cli::parse(words.map(Into::into).collect()) {
        Ok(Asked::Run(plan)) => *plan,
        other => panic!("{line}: {other:?}"),
    }
}

/// Runs a plan in this process.
pub(crate) fn run(plan: Plan) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    execute(plan, &stop, &mut []).unwrap_or_else(|failure| panic!("{failure}"))
}
