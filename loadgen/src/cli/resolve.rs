//! Options into a plan: defaults that depend on others, targets looked up, files read,
//! contradictions refused.

use std::sync::Arc;
use std::time::Duration;

use relay::config::ReactorChoice;
use relay::tls::{ClientTls, Trust};

use super::options::{
    Cli, Codec, Command, LoadOptions, PlayOptions, PublishOptions, Reactor, ReportOptions,
    RunCommand, TargetOptions,
};
use crate::engine::Attack;
use crate::failover::Failover;
use crate::failure::Failure;
use crate::flv::FlvFile;
use crate::payload::VideoCodec;
use crate::plan::{Outputs, Plan};
use crate::profile::Profile;
use crate::target::{Scheme, Target};
use crate::units;
use crate::verify::Checks;

/// Players that verify by default.
const VERIFYING: f64 = 200.0;

/// Players of the default ramp, per second.
const JOINS_PER_SECOND: f64 = 200.0;

/// What makes one command differ from another.
struct Shape {
    command: &'static str,
    players: usize,
    ramp: Option<Duration>,
}

pub(super) fn plan(cli: Cli) -> Result<Plan, Failure> {
    let shape = |command, players, ramp| Shape { command, players, ramp };
    match cli.command {
        Command::Publish(command) => {
            let (target, load) = (command.target, command.load);
            let shape = shape("publish", 0, None);
            assemble(&shape, target, Some(command.publish), None, &[], load, command.reports)
        }
        Command::Play(command) => {
            let shape = shape("play", 1, None);
            let play = Some(command.play);
            assemble(&shape, command.target, None, play, &[], command.load, command.reports)
        }
        Command::Run(command) => run(&shape("run", 10, None), command),
        Command::Storm(command) => run(&shape("storm", 100, Some(Duration::ZERO)), command),
        Command::Churn(command) => {
            if command.stay.is_zero() {
                return Err(Failure::new("players that stay for no time at all cannot play"));
            }
            let plan = run(&shape("churn", 50, None), command.run)?;
            Ok(Plan { stay: Some(command.stay), ..plan })
        }
        Command::Slow(command) => {
            let plan = run(&shape("slow", 20, None), command.run)?;
            let (slow, pace, stopped) = (command.slow, command.pace, command.stopped);
            if slow + stopped > 1.0 {
                return Err(Failure::new("--slow and --stopped are more than all players"));
            }
            Ok(Plan { slow, pace, stopped, ..plan })
        }
        Command::Hostile(command) => {
            let attacks = attacks(&command.attacks)?;
            let plan = run(&shape("hostile", 10, None), command.run)?;
            Ok(Plan { attackers: command.attackers, attacks, ..plan })
        }
        Command::Failover(command) => {
            let plan = run(&shape("failover", 50, None), command.run)?;
            if command.at >= plan.duration {
                return Err(Failure::new("--at lies behind the end: make --duration longer"));
            }
            let fallback = command.fallback.iter().map(|url| Target::parse(url));
            let fallback = fallback.collect::<Result<Vec<_>, _>>()?;
            let (at, within, command_max) = (command.at, command.within, command.command_max);
            let command = command.command;
            let failover = Some(Failover { command, command_max, at, within, fallback });
            Ok(Plan { failover, reconnect: true, verify: 1.0, ..plan })
        }
    }
}

fn run(shape: &Shape, command: RunCommand) -> Result<Plan, Failure> {
    let RunCommand { target, publish, play, play_target, load, reports } = command;
    assemble(shape, target, Some(publish), Some(play), &play_target, load, reports)
}

fn assemble(
    shape: &Shape,
    target: TargetOptions,
    publish: Option<PublishOptions>,
    play: Option<PlayOptions>,
    play_target: &[String],
    load: LoadOptions,
    reports: ReportOptions,
) -> Result<Plan, Failure> {
    let targets = |urls: &[String]| -> Result<Vec<Target>, Failure> {
        urls.iter().map(|url| Target::parse(url)).collect()
    };
    let publish_to = targets(&target.target)?;
    let play_from = if play_target.is_empty() { publish_to.clone() } else { targets(play_target)? };
    let asked_publishers = publish.as_ref().and_then(|publish| publish.publishers);
    let all = || publish_to.iter().chain(&play_from);
    let tls = if all().any(|target| target.scheme.is_tls()) {
        let trust = target.ca_file.map_or(Trust::System, Trust::Authorities);
        Some(ClientTls::new(&trust).map_err(|error| Failure::new(error.to_string()))?)
    } else {
        None
    };
    let streams = target.streams.or(asked_publishers).unwrap_or(1);
    let publishers = if publish.is_some() { asked_publishers.unwrap_or(streams) } else { 0 };
    let players = play.as_ref().map_or(0, |play| play.players.unwrap_or(shape.players));
    if streams == 0 {
        return Err(Failure::new("there is nothing to do without streams"));
    }
    if publishers > streams {
        return Err(Failure::new(format!(
            "{publishers} publishers cannot share {streams} streams: one stream has one publisher"
        )));
    }
    if publishers > 0 && publish_to.iter().any(|target| target.scheme.is_flv()) {
        return Err(Failure::new(
            "FLV over HTTP and WebSockets can only be played: publish with --target rtmp://... and \
             play with --play-target",
        ));
    }
    if publishers == 0 && players == 0 {
        return Err(Failure::new("there is nothing to do without publishers and players"));
    }
    let few = |count: usize, per_second: f64| {
        Duration::from_secs_f64((count as f64 / per_second).max(1.0))
    };
    let ramp = load.ramp.or(shape.ramp).unwrap_or_else(|| {
        if players > 0 { few(players, JOINS_PER_SECOND) } else { few(publishers, 50.0) }
    });
    let warmup = match publish.as_ref().and_then(|publish| publish.warmup) {
        _ if publishers == 0 || players == 0 => Duration::ZERO,
        Some(warmup) => warmup,
        None => few(publishers, 100.0) + Duration::from_secs(1),
    };
    if load.duration.is_zero() {
        return Err(Failure::new("a load that lasts no time measures nothing"));
    }
    let automatic = if players as f64 <= VERIFYING { 1.0 } else { VERIFYING / players as f64 };
    let verify = play.as_ref().and_then(|play| play.verify).unwrap_or(automatic);
    // The kernel can count bytes, but cannot open them.
    let countable = |scheme| matches!(scheme, Scheme::Rtmp | Scheme::Http | Scheme::Ws);
    let plain = play_from.iter().all(|target| countable(target.scheme));
    let verify = if plain { verify } else { 1.0 };
    let file = publish.as_ref().and_then(|publish| publish.file.as_deref());
    let file = file.map(FlvFile::read).transpose()?.map(Arc::new);
    let profile = match &publish {
        Some(publish) => profile(publish)?,
        None => Profile {
            codec: VideoCodec::H264,
            bits_per_second: 2_500_000,
            frames_per_second: 30.0,
            gop: Duration::from_secs(2),
            audio_bits_per_second: 0,
        },
    };
    Ok(Plan {
        command: shape.command,
        publish_to,
        play_from,
        streams,
        publishers,
        players,
        profile: Arc::new(profile),
        file,
        warmup,
        ramp,
        duration: load.duration,
        cores: load.cores.unwrap_or_else(|| crate::pinned::cores().len()).max(1),
        reactor: match load.reactor {
            Reactor::Auto => ReactorChoice::Auto,
            Reactor::IoUring => ReactorChoice::IoUring,
            Reactor::Mio => ReactorChoice::Mio,
        },
        verify,
        sweep: load.sweep,
        reconnect: load.reconnect,
        tls,
        poll: target.poll,
        enhanced: !target.legacy,
        seed: load.seed,
        stay: None,
        slow: 0.0,
        pace: 1.0,
        stopped: 0.0,
        attackers: 0,
        attacks: Vec::new(),
        failover: None,
        checks: Checks::default(),
        expect: reports.expect.into_iter().flat_map(Vec::from).collect(),
        part: part(load.part.as_deref())?,
        begin: load.begin.map(Duration::from_nanos),
        outputs: Outputs {
            json: reports.json,
            html: reports.html,
            metrics: reports.metrics,
            server_pid: reports.server_pid,
            server_metrics: reports.server_metrics,
            quiet: reports.quiet,
        },
    })
}

fn profile(publish: &PublishOptions) -> Result<Profile, Failure> {
    let audio = match publish.audio.as_str() {
        "off" | "0" => 0,
        rate => units::bit_rate(rate)?,
    };
    if !(0.1..=1_000.0).contains(&publish.fps) {
        return Err(Failure::new("--fps is between 0.1 and 1000"));
    }
    if publish.bitrate <= audio {
        return Err(Failure::new(format!(
            "--bitrate {} leaves nothing for video beside audio of {}",
            units::show_rate(publish.bitrate as f64),
            units::show_rate(audio as f64)
        )));
    }
    Ok(Profile {
        codec: match publish.codec {
            Codec::H264 => VideoCodec::H264,
            Codec::Hevc => VideoCodec::Hevc,
            Codec::Av1 => VideoCodec::Av1,
        },
        bits_per_second: publish.bitrate,
        frames_per_second: publish.fps,
        gop: publish.gop,
        audio_bits_per_second: audio,
    })
}

fn attacks(names: &[String]) -> Result<Vec<Attack>, Failure> {
    if names.is_empty() {
        return Ok(Attack::ALL.to_vec());
    }
    let find = |name: &String| {
        let found = Attack::ALL.iter().find(|attack| attack.name() == name.trim()).copied();
        found.ok_or_else(|| {
            let known: Vec<_> = Attack::ALL.iter().map(|attack| attack.name()).collect();
            Failure::new(format!("'{name}' is no attack; there are {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

fn part(text: Option<&str>) -> Result<(usize, usize), Failure> {
    let Some(text) = text else { return Ok((0, 1)) };
    let parts = text.split_once('/');
    let numbers = parts.and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
    numbers
        .filter(|(part, of)| part < of)
        .ok_or_else(|| Failure::new(format!("'{text}' is no part")))
}
