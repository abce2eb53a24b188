//! What a server took of its core: by its threads' own account, and by samples of the core.
//!
//! The two need not agree. The kernel now and then books part of a burst of io_uring sends to
//! nobody, so a thread's own account flatters it; samples taken by the core's timer do not. Samples
//! need `perf`; without it there are none, and a table says so.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// CPU time of all threads that a process has now.
pub(crate) fn cpu_of(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let ran = |thread: fs::DirEntry| -> Option<u64> {
        // The first number is the time spent on a core, in nanoseconds (proc(5)).
        let account = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        account.split(' ').next()?.parse().ok()
    };
    let sum = threads.into_iter().flatten().flatten().filter_map(ran).sum();
    Duration::from_nanos(sum)
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident_of(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// Samples per second; no divisor of what anything else does in a second.
const SAMPLES_PER_SECOND: u32 = 1_999;

/// Takes samples of one core while it lives.
pub(crate) struct Sampler {
    perf: Child,
    file: PathBuf,
}

/// One sample: where the core was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// The process.
    pub(crate) process: u32,
    /// Its name.
    pub(crate) command: String,
    /// The function, and the file that it is in; empty unless symbols were asked for.
    pub(crate) symbol: String,
    pub(crate) file: String,
}

impl Sampler {
    /// Samples a core for so long; `None` where there is no `perf`, or it is not allowed.
    pub(crate) fn start(core: usize, length: Duration) -> Option<Self> {
        let file = std::env::temp_dir().join(format!("bench-{}.perf", std::process::id()));
        let mut command = Command::new("perf");
        command.args(["record", "-q", "-e", "cpu-clock", "-F", &SAMPLES_PER_SECOND.to_string()]);
        command.args(["-C", &core.to_string(), "-o"]).arg(&file);
        command.args(["--", "sleep", &length.as_secs_f64().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Some(Self { perf: command.spawn().ok()?, file })
    }

    /// Waits for the end and gives the samples.
    pub(crate) fn end(mut self, symbols: bool) -> Option<Vec<Sample>> {
        let sampled = self.perf.wait().ok()?.success();
        if !sampled {
            return None;
        }
        let fields = if symbols { "comm,pid,ip,sym,dso" } else { "comm,pid" };
        let mut command = Command::new("perf");
        command.args(["script", "-F", fields, "-i"]).arg(&self.file);
        let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        Some(text.lines().filter_map(|line| sample(line, symbols)).collect())
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // Ended long ago, unless somebody gave up.
        let _ = self.perf.kill();
        let _ = self.perf.wait();
        let _ = fs::remove_file(&self.file);
    }
}

/// The share of a core's time that went into a process, network interrupts deferred on its core
/// included.
pub(crate) fn share_of(samples: &[Sample], process: u32) -> f64 {
    let ours =
        |sample: &&Sample| sample.process == process || sample.command.starts_with("ksoftirqd/");
    samples.iter().filter(ours).count() as f64 / samples.len().max(1) as f64
}

/// `command pid [address symbol (file)]`, where the command may hold spaces.
fn sample(line: &str, symbols: bool) -> Option<Sample> {
    let (head, symbol, file) = if symbols {
        let (head, file) = line.trim_end().strip_suffix(')')?.rsplit_once(" (")?;
        // An address in sixteen or fewer hexadecimal digits ends the head.
        let mut words = head.split_whitespace().rev();
        let hexadecimal = |word: &&str| word.len() >= 8 && u64::from_str_radix(word, 16).is_ok();
        let address = words.find(hexadecimal)?;
        let (head, symbol) = head.split_once(address)?;
        (head.trim_end(), symbol.trim().to_owned(), file.to_owned())
    } else {
        (line.trim_end(), String::new(), String::new())
    };
    let (command, process) = head.rsplit_once(' ')?;
    let process = process.parse().ok()?;
    Some(Sample { process, command: command.trim().to_owned(), symbol, file })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read() {
        let check = |line: &str, symbols, process, command: &str, symbol: &str, file: &str| {
            let expected = Sample {
                process,
                command: command.to_owned(),
                symbol: symbol.to_owned(),
                file: file.to_owned(),
            };
            assert_eq!(sample(line, symbols), Some(expected), "{line}");
        };
        check("  relay-worker-0  12658 ", false, 12658, "relay-worker-0", "", "");
        check(" lto cgu.02  9670", false, 9670, "lto cgu.02", "", "");
        check(
            "  relay-worker-0 17  ffffffff81336a4b tcp_sendmsg_locked ([kernel.kallsyms])",
            true,
            17,
            "relay-worker-0",
            "tcp_sendmsg_locked",
            "[kernel.kallsyms]",
        );
        check(
            "relay 17      565365268bd0 relay::worker::Worker::send_ring (/a b/relay)",
            true,
            17,
            "relay",
            "relay::worker::Worker::send_ring",
            "/a b/relay",
        );
        assert_eq!(sample("nonsense", false), None);
    }

    #[test]
    fn a_process_has_its_share_and_the_core_its_interrupts() {
        let of = |process, command: &str| Sample {
            process,
            command: command.to_owned(),
            symbol: String::new(),
            file: String::new(),
        };
        let samples = [of(7, "relay"), of(0, "swapper"), of(12, "ksoftirqd/0"), of(9, "load-0")];
        assert_eq!(share_of(&samples, 7), 0.5);
        assert_eq!(share_of(&[], 7), 0.0);
    }

    #[test]
    fn this_process_takes_time_and_memory() {
        let end = loadgen::clock::thread_cpu() + Duration::from_millis(30);
        while loadgen::clock::thread_cpu() < end {}
        assert!(cpu_of(std::process::id()) >= Duration::from_millis(25));
        assert!(resident_of(std::process::id()) > 100_000);
    }
}
