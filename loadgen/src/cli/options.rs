//! Every option, declared once; `--help` and the scenario file are made from this.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::units;

/// Tests an RTMP server under load: latency, continuity and correctness, with a verdict.
///
/// Publishes streams whose every frame says what it is and when it was sent, plays them, and finds
/// what is missing, doubled, reordered, altered or late. Works against any RTMP server.
///
/// Exit code: 0 when all that was expected was met, 1 when something was not, 2 when the test could
/// not be run.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, max_term_width = 100, arg_required_else_help = true)]
pub(super) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
    /// Read options from a TOML file: `command = "run"`, and every option by its long name. What
    /// the command line says comes first
    #[arg(long, global = true, value_name = "FILE", help_heading = "Reports")]
    pub(super) scenario: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Publish streams
    Publish(PublishCommand),
    /// Play streams that somebody else publishes
    Play(PlayCommand),
    /// Publish and play: the usual test
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunCommand),
    /// Publish, then let all players join within a moment
    Storm(RunCommand),
    /// Publish and play, with players that come and go at random
    Churn(ChurnCommand),
    /// Publish and play, with players that read too slowly or not at all
    Slow(SlowCommand),
    /// Publish and play, beside clients that mean harm
    Hostile(HostileCommand),
    /// Publish and play while something is killed, cut or drained, and tell how players came
    /// through
    #[command(after_help = FAILOVER_EXAMPLES)]
    Failover(FailoverCommand),
}

const FAILOVER_EXAMPLES: &str = "\
Players and publishers obey redirects and requests to connect again, and who loses its connection
tries the next target after 0.1 s and up to 2 s. All players check every frame.

Examples:
  loadgen failover --target rtmp://a/live --target rtmp://b/live --players 200 --gop 1s \\
      --command 'kill -9 $(pidof relay)' --expect 'recovered>=0.99,gap.p99<3s'
      Players on two nodes, one of which dies 5 s after the full load is on.
  loadgen failover --target rtmp://b/live --publishers 0 --streams 1 --players 50 \\
      --command 'curl -X POST http://a:8935/api/v1/drain' --at 3s --expect 'gap.max<1s'
      What viewers of one node see when another one drains.

Beside what run compares: recovered (the share of players that were never without a frame for longer
than --within), gap.p50, gap.p99, gap.max (each player's longest silence that ended after the
command), failover_players, failover_recovered, failover_moves.

Ctrl-C before its time means that the command is not run. When it fails, or takes longer than
--command-max, the report is written all the same, without a verdict: exit code 2.";

const RUN_EXAMPLES: &str = "\
Examples:
  loadgen run --target rtmp://localhost/live --players 50 --duration 20s
      One stream, 50 players that check every frame.
  loadgen run --target rtmp://server/live --streams 10 --players 2000 --bitrate 2.5M --ramp 20s \\
      --duration 2m --expect 'p99<100ms,gaps=0,kept>=0.999' --json run.json --html run.html
      Ten streams, 2,000 players of which 200 check every frame and the others count bytes.
  loadgen run --target 'rtmp://server/app/name?key=secret' --play-target rtmp://edge/app/name
      A stream of a given name, published with a key to one server, played from another.

What --expect compares, with < <= = != >= >:
  p50, p99, p99.9, mean, max, count
      of the latency, from when a frame was due at the publisher to its arrival at a player
  jitter.p99, join.p99, outage.max, ...
      the same of another time: jitter, join, tcp, handshake, connect, create_stream, publish,
      first_byte, first_key, outage, timer_late
  kept, joined
      the share of the planned players that received to their end, or came to a key frame
  missing, gaps, doubled, reordered, altered, foreign, backward, retimed, headless, keyless,
  gops_unequal, late, stalls, players_lost, publishers_lost, ...
      counters; the JSON has all of them, and the page of --html says what each one means
  errors, rate
      failures of any cause; received bits per second under full load

Exit code: 0 all met, 1 something not met or nobody could play, 2 not run, ended early, or not
judged because loadgen was too slow.";

/// `publish`
#[derive(Debug, Args)]
pub(super) struct PublishCommand {
    #[command(flatten)]
    pub(super) target: TargetOptions,
    #[command(flatten)]
    pub(super) publish: PublishOptions,
    #[command(flatten)]
    pub(super) load: LoadOptions,
    #[command(flatten)]
    pub(super) reports: ReportOptions,
}

/// `play`
#[derive(Debug, Args)]
pub(super) struct PlayCommand {
    #[command(flatten)]
    pub(super) target: TargetOptions,
    #[command(flatten)]
    pub(super) play: PlayOptions,
    #[command(flatten)]
    pub(super) load: LoadOptions,
    #[command(flatten)]
    pub(super) reports: ReportOptions,
}

/// `run` and `storm`
#[derive(Debug, Args)]
pub(super) struct RunCommand {
    #[command(flatten)]
    pub(super) target: TargetOptions,
    #[command(flatten)]
    pub(super) publish: PublishOptions,
    #[command(flatten)]
    pub(super) play: PlayOptions,
    /// Play from here instead of from where is published; may be given several times
    #[arg(long, value_name = "URL", help_heading = "Target")]
    pub(super) play_target: Vec<String>,
    #[command(flatten)]
    pub(super) load: LoadOptions,
    #[command(flatten)]
    pub(super) reports: ReportOptions,
}

/// `churn`
#[derive(Debug, Args)]
pub(super) struct ChurnCommand {
    #[command(flatten)]
    pub(super) run: RunCommand,
    /// How long a player stays on average; as many come as leave
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    #[arg(help_heading = "Churn")]
    pub(super) stay: Duration,
}

/// `slow`
#[derive(Debug, Args)]
pub(super) struct SlowCommand {
    #[command(flatten)]
    pub(super) run: RunCommand,
    /// The share of players that read slowly
    #[arg(long, value_name = "SHARE", default_value = "20%", value_parser = units::share)]
    #[arg(help_heading = "Slow readers")]
    pub(super) slow: f64,
    /// The share of the stream's rate at which they read
    #[arg(long, value_name = "SHARE", default_value = "50%", value_parser = units::share)]
    #[arg(help_heading = "Slow readers")]
    pub(super) pace: f64,
    /// The share of players that stop reading altogether
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = units::share)]
    #[arg(help_heading = "Slow readers")]
    pub(super) stopped: f64,
}

/// `hostile`
#[derive(Debug, Args)]
pub(super) struct HostileCommand {
    #[command(flatten)]
    pub(super) run: RunCommand,
    /// How many hostile clients, which come again when they are closed
    #[arg(long, value_name = "N", default_value = "13", value_parser = units::count)]
    #[arg(help_heading = "Hostile clients")]
    pub(super) attackers: usize,
    /// What they do, separated by commas; all of it by default
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Hostile clients")]
    pub(super) attacks: Vec<String>,
}

/// `failover`
#[derive(Debug, Args)]
pub(super) struct FailoverCommand {
    #[command(flatten)]
    pub(super) run: RunCommand,
    /// What kills, cuts or drains something, run by `sh -c`; none where somebody else does it
    #[arg(long, value_name = "COMMAND", help_heading = "Failover")]
    pub(super) command: Option<String>,
    /// The longest that the command may run; then it is ended, and has failed
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration)]
    #[arg(help_heading = "Failover")]
    pub(super) command_max: Duration,
    /// Where players and publishers go that lose their connection, in turn; to the other targets by
    /// default; may be given several times
    #[arg(long, value_name = "URL", help_heading = "Failover")]
    pub(super) fallback: Vec<String>,
    /// When, from the point from which the full load is on
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration)]
    #[arg(help_heading = "Failover")]
    pub(super) at: Duration,
    /// A player has recovered when it was never without a frame for longer than this
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration)]
    #[arg(help_heading = "Failover")]
    pub(super) within: Duration,
}

/// Where to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Target")]
pub(super) struct TargetOptions {
    /// rtmp://host[:port]/app[/name], or rtmps, rtmpt, rtmpts, and to play FLV from http, https,
    /// ws, wss; for several servers that share their streams it may be given several times, and
    /// all addresses of a host take turns. `{}` in the name becomes the number of the stream, which
    /// else stands behind it
    #[arg(long, value_name = "URL", required = true)]
    pub(super) target: Vec<String>,
    /// How many streams there are; as many as publishers by default, else 1
    #[arg(long, value_name = "N", value_parser = units::count)]
    pub(super) streams: Option<usize>,
    /// The authorities to trust inside TLS (a PEM file); those of the host by default
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// From one request of a tunnel (rtmpt, rtmpts) to the next at the least
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(super) poll: Option<Duration>,
    /// Name no capabilities of Enhanced RTMP in connect, for servers that refuse what they do not
    /// know
    #[arg(long)]
    pub(super) legacy: bool,
}

/// What is published.
#[derive(Debug, Args)]
#[command(next_help_heading = "Publishing")]
pub(super) struct PublishOptions {
    /// How many of the streams are published here; all by default
    #[arg(long, value_name = "N", value_parser = units::count)]
    pub(super) publishers: Option<usize>,
    /// Bits per second of a stream, audio included
    #[arg(long, value_name = "RATE", default_value = "2.5M", value_parser = units::bit_rate)]
    pub(super) bitrate: u64,
    /// Video frames per second
    #[arg(long, value_name = "N", default_value_t = 30.0)]
    pub(super) fps: f64,
    /// From key frame to key frame
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::duration)]
    pub(super) gop: Duration,
    /// Bits per second of audio, or `off`
    #[arg(long, value_name = "RATE", default_value = "128k")]
    pub(super) audio: String,
    /// The codec whose shape the frames have
    #[arg(long, value_enum, default_value_t = Codec::H264)]
    pub(super) codec: Codec,
    /// Publish an FLV file in a loop, its time going on from round to round; players compare every
    /// frame with it, and measure latency where publisher and player are of one process
    #[arg(long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// How long publishers have before the first player comes; by default 2 s, of more than 100
    /// publishers longer
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(super) warmup: Option<Duration>,
}

/// Who plays.
#[derive(Debug, Args)]
#[command(next_help_heading = "Playing")]
pub(super) struct PlayOptions {
    /// How many players, spread over the streams; by default 10, in a storm 100, with churn 50,
    /// with slow ones 20, for play alone 1
    #[arg(long, value_name = "N", value_parser = units::count)]
    pub(super) players: Option<usize>,
    /// The share of players that parse and check every frame; the others count bytes. By default
    /// all up to 200 players, and 200 of more
    #[arg(long, value_name = "SHARE", value_parser = units::share)]
    pub(super) verify: Option<f64>,
}

/// How much, how long.
#[derive(Debug, Args)]
#[command(next_help_heading = "Load")]
pub(super) struct LoadOptions {
    /// Over which time the players (or publishers) come, evenly; by default 200 players a second
    /// (50 publishers), at least 1 s, in a storm all at once
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(super) ramp: Option<Duration>,
    /// How long the full load stays on
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration)]
    pub(super) duration: Duration,
    /// Threads, each on a core of its own; all cores by default
    #[arg(long, value_name = "N", value_parser = units::count)]
    pub(super) cores: Option<usize>,
    /// How often players that only count read; by default every 5 ms, and whenever another client
    /// of their thread has something to do
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(super) sweep: Option<Duration>,
    /// What carries the bytes of publishers and of players that check; `auto` takes the best that
    /// the kernel allows
    #[arg(long, value_enum, default_value_t = Reactor::Auto)]
    pub(super) reactor: Reactor,
    /// Connect again after a loss, after 0.5 s and up to 15 s
    #[arg(long)]
    pub(super) reconnect: bool,
    /// Decides everything that is drawn, so that a run can be repeated
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    #[arg(long, hide = true)]
    pub(super) part: Option<String>,
    #[arg(long, hide = true)]
    pub(super) begin: Option<u64>,
}

/// What comes of it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reports")]
pub(super) struct ReportOptions {
    /// What must hold, separated by commas: 'p99<50ms,gaps=0,kept>=0.999,join.p95<1s'. What can be
    /// compared stands at the end of this help
    #[arg(long, value_name = "TERMS", value_parser = expectations)]
    pub(super) expect: Vec<Terms>,
    /// Write everything measured as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write a page with plots, in one file
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Serve what is measured, while it is measured, as Prometheus metrics at http://ADDR/metrics
    #[arg(long, value_name = "ADDR")]
    pub(super) metrics: Option<String>,
    /// Add what the server takes, from its process on this machine: CPU seconds per GB, memory
    #[arg(long, value_name = "PID")]
    pub(super) server_pid: Option<u32>,
    /// Add what the server takes and counts, from its own Prometheus metrics at host:port
    #[arg(long, value_name = "ADDR", conflicts_with = "server_pid")]
    pub(super) server_metrics: Option<String>,
    /// Neither progress nor summary
    #[arg(long, short)]
    pub(super) quiet: bool,
}

/// The terms of one `--expect`.
pub(super) type Terms = Box<[crate::expect::Expectation]>;

fn expectations(text: &str) -> Result<Terms, String> {
    crate::expect::parse(text).map(Vec::into_boxed_slice)
}

/// `--reactor`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Reactor {
    /// io_uring where the kernel allows it, else mio
    Auto,
    /// io_uring or nothing
    #[value(name = "io_uring")]
    IoUring,
    /// epoll
    Mio,
}

/// `--codec`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Codec {
    /// AVC, as every server knows it
    H264,
    /// HEVC by Enhanced RTMP
    Hevc,
    /// AV1 by Enhanced RTMP
    Av1,
}
