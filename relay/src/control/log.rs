//! Log lines on standard error: text or JSON, counted by level, never waited for.
//!
//! A thread of its own writes the lines. When standard error is slower than the lines come, lines
//! are dropped and counted, since no worker may wait for a pipe that nobody reads. Lines of one
//! kind that come too fast are left out and counted, too.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

use crate::config::{Log, LogFormat, LogLevel};

/// Lines that may wait to be written.
const LINES_MAX: usize = 8_192;

/// The levels, from the most severe on.
pub(super) const LEVELS: [Level; 5] =
    [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

/// The log while it is there; dropping it writes what still waits.
pub struct Logging {
    /// What was logged so far.
    pub counts: LogCounts,
    _writer: WorkerGuard,
}

/// What was logged so far.
#[derive(Clone)]
pub struct LogCounts {
    messages: Arc<[AtomicU64; LEVELS.len()]>,
    lost: ErrorCounter,
    /// Lines that were left out since there were too many of their kind.
    left_out: Arc<AtomicU64>,
    /// How many of one kind a thread may log in a second; 0 for any number.
    lines_per_second: Arc<AtomicU64>,
    handle: Option<reload::Handle<LevelFilter, Registry>>,
    level: Arc<Mutex<LogLevel>>,
}

/// Makes standard error the log of this process.
///
/// # Errors
///
/// There is a log already.
pub fn start(log: Log) -> Result<Logging, tracing::subscriber::SetGlobalDefaultError> {
    let (subscriber, logging) = subscriber(log, std::io::stderr());
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(logging)
}

/// Logs what `act` logs on standard error, before there is a log of this process or after it was
/// ended.
pub fn apart(log: Log, act: impl FnOnce()) {
    let (subscriber, logging) = subscriber(log, std::io::stderr());
    tracing::subscriber::with_default(subscriber, act);
    drop(logging);
}

fn subscriber(
    log: Log,
    writer: impl Write + Send + 'static,
) -> (impl Subscriber + Send + Sync, Logging) {
    let builder = NonBlockingBuilder::default();
    let builder = builder.lossy(true).buffered_lines_limit(LINES_MAX).thread_name("relay-log");
    let (writer, guard) = builder.finish(writer);
    let (level, handle) = reload::Layer::new(filter(log.level));
    let lost = writer.error_counter();
    let counts = LogCounts {
        messages: Arc::default(),
        lost,
        left_out: Arc::default(),
        lines_per_second: Arc::default(),
        handle: Some(handle),
        level: Arc::new(Mutex::new(log.level)),
    };
    let lines = lines(log.format, writer).with_filter(Flood(counts.clone()));
    let subscriber = Registry::default().with(level).with(lines).with(counts.clone());
    (subscriber, Logging { counts, _writer: guard })
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn lines<S>(format: LogFormat, writer: NonBlocking) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_target(false);
    match format {
        LogFormat::Text => layer.with_ansi(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

impl LogCounts {
    /// Messages of one level, those that were dropped included.
    #[must_use]
    pub fn messages(&self, level: Level) -> u64 {
        self.messages[position(level)].load(Ordering::Relaxed)
    }

    /// Writes lines of this level and above from now on.
    pub(super) fn set_level(&self, level: LogLevel) {
        *self.level.lock() = level;
        // Where the log is gone there is nothing to set.
        let _ = self.handle.as_ref().map(|handle| handle.modify(|now| *now = filter(level)));
    }

    /// The level in force.
    pub(super) fn level(&self) -> LogLevel {
        *self.level.lock()
    }

    /// Leaves out what is more than this of one kind, from one thread, in one second; 0 for
    /// nothing.
    pub(super) fn set_lines_per_second(&self, most: usize) {
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        self.lines_per_second.store(most, Ordering::Relaxed);
    }

    /// Lines left out since there were too many of their kind.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Lines dropped since they could not be written in time.
    #[must_use]
    pub fn lost(&self) -> u64 {
        u64::try_from(self.lost.dropped_lines()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
impl LogCounts {
    /// Counts of a log that nobody writes to.
    pub(super) fn unused() -> Self {
        let (writer, _) = NonBlockingBuilder::default().finish(std::io::sink());
        Self {
            messages: Arc::default(),
            lost: writer.error_counter(),
            left_out: Arc::default(),
            lines_per_second: Arc::default(),
            handle: None,
            level: Arc::new(Mutex::new(LogLevel::Info)),
        }
    }
}

impl<S: Subscriber> Layer<S> for LogCounts {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.messages[position(*event.metadata().level())].fetch_add(1, Ordering::Relaxed);
    }
}

/// Leaves out lines of a kind of which a thread writes too many: an attack that makes a line for
/// each of its connections must not fill a disk. A kind is a place in the code. Errors are never
/// left out.
struct Flood(LogCounts);

/// Of one kind, in the second that began then.
struct Second {
    began: Instant,
    lines: u64,
}

thread_local! {
    /// Each thread counts by itself, so that logging takes no lock.
    static SECONDS: RefCell<HashMap<Identifier, Second>> = RefCell::default();
}

impl<S> Filter<S> for Flood {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let most = self.0.lines_per_second.load(Ordering::Relaxed);
        let fits = most == 0
            || *event.metadata().level() == Level::ERROR
            || has_room(event.metadata().callsite(), most, Instant::now());
        if !fits {
            self.0.left_out.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }
}

impl Second {
    fn has_room(&mut self, most: u64, now: Instant) -> bool {
        if now.saturating_duration_since(self.began) >= Duration::from_secs(1) {
            *self = Self { began: now, lines: 0 };
        }
        self.lines += 1;
        self.lines <= most
    }
}

fn has_room(kind: Identifier, most: u64, now: Instant) -> bool {
    SECONDS.with_borrow_mut(|seconds| {
        let second = seconds.entry(kind).or_insert(Second { began: now, lines: 0 });
        second.has_room(most, now)
    })
}

fn position(level: Level) -> usize {
    LEVELS.iter().position(|known| *known == level).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: Log, act: impl FnOnce()) -> (String, LogCounts) {
        let memory = Memory::default();
        let (subscriber, logging) = subscriber(log, memory.clone());
        tracing::subscriber::with_default(subscriber, act);
        let counts = logging.counts.clone();
        drop(logging);
        let text = String::from_utf8(memory.0.lock().clone()).unwrap();
        (text, counts)
    }

    #[test]
    fn lines_are_filtered_and_counted_by_level() {
        let log = Log { format: LogFormat::Text, level: LogLevel::Info };
        let (text, counts) = logged(log, || {
            tracing::warn!(peer = ?"a\nb", "closed");
            tracing::info!("one");
            tracing::info!("two");
            tracing::debug!("unseen");
        });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains("WARN") && lines[0].contains("closed peer=\"a\\nb\""), "{text}");
        let messages = LEVELS.map(|level| counts.messages(level));
        assert_eq!((messages, counts.lost()), ([0, 1, 2, 0, 0], 0));
    }

    #[test]
    fn json_lines_are_json() {
        let log = Log { format: LogFormat::Json, level: LogLevel::Trace };
        let (text, counts) = logged(log, || tracing::trace!(core = 1, "a \"quoted\"\nline"));
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "a \"quoted\"\nline");
        assert_eq!((&line["core"], &line["level"]), (&1.into(), &"TRACE".into()));
        assert_eq!(counts.messages(Level::TRACE), 1);
    }

    #[test]
    fn of_a_flood_of_one_kind_some_lines_are_written_and_all_are_counted() {
        let memory = Memory::default();
        let log = Log { format: LogFormat::Text, level: LogLevel::Info };
        let (subscriber, logging) = subscriber(log, memory.clone());
        logging.counts.set_lines_per_second(20);
        let begun = Instant::now();
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..1_000 {
                tracing::info!("a flood");
                tracing::error!("never left out");
            }
            tracing::info!("another kind");
        });
        let seconds = begun.elapsed().as_secs() + 1;
        let counts = logging.counts.clone();
        drop(logging);
        let text = String::from_utf8(memory.0.lock().clone()).unwrap();
        let of = |words: &str| u64::try_from(text.matches(words).count()).unwrap();
        assert!((20..=20 * seconds).contains(&of("a flood")), "{}", of("a flood"));
        assert_eq!((of("never left out"), of("another kind")), (1_000, 1));
        assert_eq!(counts.left_out(), 1_000 - of("a flood"));
        assert_eq!((counts.messages(Level::INFO), counts.messages(Level::ERROR)), (1_001, 1_000));
    }

    #[test]
    fn the_next_second_has_room_again() {
        let start = Instant::now();
        let mut second = Second { began: start, lines: 0 };
        let mut check = |millis, expected| {
            let now = start + Duration::from_millis(millis);
            assert_eq!(second.has_room(2, now), expected, "{millis} ms");
        };
        check(0, true);
        check(500, true);
        check(999, false);
        check(1_000, true);
        check(1_001, true);
        check(1_002, false);
    }

    /// Writes nothing until it is let go.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv_timeout(Duration::from_secs(30));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_standard_error_costs_lines_and_no_time() {
        let (release, stuck) = mpsc::channel();
        let log = Log { format: LogFormat::Text, level: LogLevel::Info };
        let (subscriber, logging) = subscriber(log, Stuck(stuck));
        let lines = u64::try_from(LINES_MAX).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..lines + 100 {
                tracing::info!("a line");
            }
        });
        assert_eq!(logging.counts.messages(Level::INFO), lines + 100);
        let lost = logging.counts.lost();
        assert!((95..=100).contains(&lost), "{lost} lost");
        drop(release);
        drop(logging);
    }
}
