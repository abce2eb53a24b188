//! Everything measured, as JSON. Spans are in microseconds; every other unit stands in its name.

use serde_json::{Map, Value, json as value};

use crate::measure::{Counters, Span, SpanKind};
use crate::run::{Judgement, Outcome};

/// The document.
#[must_use]
pub fn json(outcome: &Outcome) -> Value {
    let (plan, collected) = (&outcome.plan, &outcome.collected);
    let planned = collected.counters.players_planned as f64;
    let share = |count: u64| (planned > 0.0).then(|| count as f64 / planned);
    let judgement = match outcome.judgement() {
        Judgement::Met => "met",
        Judgement::NotMet => "not met",
        Judgement::Unknown => "unknown",
    };
    let profile = &plan.profile;
    value!({
        "loadgen": env!("CARGO_PKG_VERSION"),
        "began_unix_seconds": outcome.began_at,
        "ended_early": outcome.stopped,
        "plan": {
            "command": plan.command,
            "publish_to": plan.publish_to.iter().map(|target| target.tc_url()).collect::<Vec<_>>(),
            "play_from": plan.play_from.iter().map(|target| target.tc_url()).collect::<Vec<_>>(),
            "streams": plan.streams,
            "publishers": plan.publishers,
            "players": plan.players,
            "codec": profile.codec.name(),
            "bits_per_second": profile.bits_per_second,
            "frames_per_second": profile.frames_per_second,
            "gop_seconds": profile.gop.as_secs_f64(),
            "audio_bits_per_second": profile.audio_bits_per_second,
            "file": plan.file.is_some(),
            "warmup_seconds": plan.warmup.as_secs_f64(),
            "ramp_seconds": plan.ramp.as_secs_f64(),
            "duration_seconds": plan.duration.as_secs_f64(),
            "cores": plan.cores,
            "verify": plan.verify,
            "reconnect": plan.reconnect,
            "seed": plan.seed,
            "stay_seconds": plan.stay.map(|stay| stay.as_secs_f64()),
            "slow": plan.slow,
            "pace": plan.pace,
            "stopped": plan.stopped,
            "attackers": plan.attackers,
        },
        "judgement": judgement,
        "expectations": outcome.verdicts.iter().map(|verdict| value!({
            "term": verdict.text, "measured": verdict.measured, "met": verdict.met,
        })).collect::<Vec<_>>(),
        "valid": outcome.invalid.is_empty(),
        "invalid_because": outcome.invalid,
        "failover": plan.failover.as_ref().map(|failover| value!({
            "command": failover.command,
            "at_seconds": failover.at.as_secs_f64(),
            "within_seconds": failover.within.as_secs_f64(),
            "ran": outcome.ran,
            "players": collected.counters.failover_players,
            "recovered": collected.recovered(),
            "moves": collected.counters.failover_moves,
            "gaps_us": gaps(outcome),
        })),
        "kept": share(collected.counters.players_kept),
        "joined": share(collected.counters.players_joined),
        "rate_bits_per_second": collected.rate(plan),
        "errors": collected.errors(),
        "errors_by_cause": collected.failures,
        "counters": counters(&collected.counters),
        "slow_counters": counters(&collected.slow),
        "spans_us": spans(outcome),
        "seconds": seconds(outcome),
        "generator": outcome.own,
        "server": outcome.server.as_ref().map(|server| value!({
            "report": server,
            "cpu_seconds_per_gb": server.cpu_seconds
                / (collected.counters.bytes_received as f64 / 1e9).max(1e-9),
        })),
    })
}

fn counters(counters: &Counters) -> Value {
    let table = counters.table().into_iter();
    Value::Object(table.map(|(name, count, _)| (name.to_owned(), count.into())).collect())
}

/// Every player's longest gap: value in microseconds, players.
fn gaps(outcome: &Outcome) -> Value {
    let gaps = outcome.collected.spans.of(SpanKind::Gap).map(Span::sparse).unwrap_or_default();
    value!(gaps)
}

fn spans(outcome: &Outcome) -> Value {
    let mut all = Map::new();
    for kind in SpanKind::ALL {
        let Some(span) = outcome.collected.spans.of(*kind) else { continue };
        let percentile = |percent: f64| span.percentile(percent);
        all.insert(
            kind.name().to_owned(),
            value!({
                "count": span.count(), "mean": span.mean(), "min": span.min(),
                "p50": percentile(50.0), "p75": percentile(75.0), "p90": percentile(90.0),
                "p95": percentile(95.0), "p99": percentile(99.0), "p99.9": percentile(99.9),
                "max": span.max(),
            }),
        );
    }
    Value::Object(all)
}

fn seconds(outcome: &Outcome) -> Value {
    let seconds = outcome.collected.seconds.iter();
    let rows = seconds.map(|(number, second)| {
        value!({
            "second": number,
            "players": second.players,
            "publishers": second.publishers,
            "bytes_received": second.counters.bytes_received,
            "bytes_sent": second.counters.bytes_sent,
            "latency_p50_us": second.latency(50.0),
            "latency_p99_us": second.latency(99.0),
            "latency_max_us": second.latency(100.0),
            "joins": second.joins(),
            "join_p50_us": second.join(50.0),
            "join_p99_us": second.join(99.0),
            "gaps": second.counters.gaps,
            "missing": second.counters.missing,
            "stalls": second.counters.stalls,
        })
    });
    Value::Array(rows.collect())
}
