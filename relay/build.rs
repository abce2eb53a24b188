//! Tells the program of which commit it is, for `relay_build_info`.
//!
//! `BUILD_COMMIT` wins where the sources come without their history. Git is asked for release
//! builds only: others would be compiled anew after each commit for nothing else. The name does not
//! begin with `RELAY_`, because `cargo run` passes it on to the program, which would take it for a
//! setting.

#![allow(clippy::print_stdout)]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=BUILD_COMMIT");
    let given = std::env::var("BUILD_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(from_git).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=BUILD_COMMIT={commit}");
}

fn from_git() -> Option<String> {
    if std::env::var("PROFILE").is_ok_and(|profile| profile != "release") {
        return None;
    }
    // One of the two changes whenever another commit is checked out. A file that is not there would
    // be taken for one that changed, every time.
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
