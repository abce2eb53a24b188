//! What a figure depends on besides the code: said with every table.

use std::fs;

use serde::Serialize;

/// The machine and the build.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// As the kernel names it.
    pub(crate) processor: String,
    /// Cores to run on.
    pub(crate) cores: usize,
    /// `release`, or `debug`, whose figures mean nothing.
    pub(crate) build: &'static str,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Self {
        let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name =
            text.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        Self {
            processor: name.unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }

    /// In a few words.
    pub(crate) fn describe(&self) -> String {
        let Self { processor, cores, build } = self;
        format!("{processor}, {cores} cores, {build} build")
    }
}
