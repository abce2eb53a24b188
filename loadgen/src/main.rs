//! The program: arguments in, reports and an exit code out. Everything else is in the library.
//!
//! Exit codes: 0 met, 1 not met, 2 could not be run.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use loadgen::cli::{self, Asked};
use loadgen::exporter::Exporter;
use loadgen::failure::Failure;
use loadgen::parts::run_as_part;
use loadgen::plan::Plan;
use loadgen::report::{self, Progress};
use loadgen::run::{Judgement, Watcher, execute};

const NOT_MET: u8 = 1;
const COULD_NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    match run(std::env::args_os().collect()) {
        Ok(code) => code,
        Err(failure) => {
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "loadgen: {failure}");
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}

fn run(arguments: Vec<OsString>) -> Result<ExitCode, Failure> {
    match cli::parse(arguments)? {
        Asked::Text(text) => {
            say(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Asked::Run(plan) => load(*plan),
    }
}

fn load(plan: Plan) -> Result<ExitCode, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    if plan.part.1 > 1 {
        stop_with_parent(&stop);
        run_as_part(&Arc::new(plan), &stop, io::stdout())?;
        return Ok(ExitCode::SUCCESS);
    }
    stop_on_signal(&stop)?;
    let outputs = plan.outputs.clone();
    for path in [&outputs.json, &outputs.html].into_iter().flatten() {
        // Found out before the run rather than after it.
        write(path, "")?;
    }
    let mut watchers: Vec<Box<dyn Watcher>> = Vec::new();
    if let Some(address) = &outputs.metrics {
        let exporter = Exporter::begin(address)?;
        if !outputs.quiet {
            say(&format!("metrics at http://{}/metrics\n", exporter.address()))?;
        }
        watchers.push(Box::new(exporter));
    }
    if !outputs.quiet && io::stderr().is_terminal() {
        watchers.push(Box::new(Progress::new(&plan)));
    }
    let outcome = execute(plan, &stop, &mut watchers);
    // Takes the line of progress away.
    drop(watchers);
    let outcome = outcome?;
    if let Some(path) = &outputs.json {
        write(path, &format!("{:#}\n", report::json(&outcome)))?;
    }
    if let Some(path) = &outputs.html {
        write(path, &report::html(&outcome))?;
    }
    if !outputs.quiet {
        say(&report::summary(&outcome))?;
    }
    Ok(match outcome.judgement() {
        Judgement::Met => ExitCode::SUCCESS,
        Judgement::NotMet => ExitCode::from(NOT_MET),
        Judgement::Unknown => ExitCode::from(COULD_NOT_RUN),
    })
}

/// Ctrl-C ends the load early; a second one ends the program.
fn stop_on_signal(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    let stop = Arc::clone(stop);
    ctrlc::set_handler(move || {
        if stop.swap(true, Ordering::Relaxed) {
            #[expect(clippy::exit, reason = "somebody asked for it twice")]
            std::process::exit(i32::from(COULD_NOT_RUN));
        }
    })
    .map_err(|error| Failure::new(format!("signals cannot be caught: {error}")))
}

/// A part of a run ends its load when the process that collects closes its input, or is gone. The
/// terminal's Ctrl-C reaches both and is left to the parent.
fn stop_with_parent(stop: &Arc<AtomicBool>) {
    // Without a handler the part ends at once, and the parent says so.
    let _ = ctrlc::set_handler(|| {});
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let _ = io::stdin().read(&mut [0]);
        stop.store(true, Ordering::Relaxed);
    });
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| Failure::new(format!("{} cannot be written: {error}", path.display())))
}

fn say(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result
            .map_err(|error| Failure::new(format!("standard output cannot be written: {error}"))),
    }
}
