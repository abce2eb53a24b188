//! The summary: what a person reads first, and often all of it.

use std::fmt::Write;

use crate::measure::{Span, SpanKind};
use crate::run::{Judgement, Outcome};
use crate::units::{show_bytes, show_count, show_duration, show_micros, show_rate};

/// The summary of a run, in lines of at most 100 columns.
#[must_use]
pub fn summary(outcome: &Outcome) -> String {
    let mut out = String::new();
    // Writing into a String does not fail.
    let _ = write(&mut out, outcome);
    out
}

fn write(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let (plan, collected) = (&outcome.plan, &outcome.collected);
    let counters = &collected.counters;
    let early = if outcome.stopped { ", ended early" } else { "" };
    writeln!(
        out,
        "{} for {} ({}){early}",
        plan.command,
        show_duration(plan.length()),
        super::phases(plan),
    )?;
    if plan.publishers > 0 {
        writeln!(
            out,
            "  publishers  {} of {} began, {} lost; {} frames; sent by all clients: {}",
            show_count(counters.publishers_started),
            show_count(crate::units::wide(plan.publishers)),
            show_count(counters.publishers_lost),
            show_count(counters.messages_sent),
            show_bytes(counters.bytes_sent),
        )?;
    }
    if counters.players_planned > 0 {
        writeln!(
            out,
            "  players     {} of {} joined, {} kept to their end, {} lost",
            show_count(counters.players_joined),
            show_count(counters.players_planned),
            show_count(counters.players_kept),
            show_count(counters.players_lost),
        )?;
        writeln!(
            out,
            "  received    {} at {} under full load; {} frames checked",
            show_bytes(counters.bytes_received),
            show_rate(collected.rate(plan)),
            show_count(counters.messages_received),
        )?;
        writeln!(out, "  content     {}", content(outcome))?;
    }
    if collected.slow.players_planned > 0 {
        let slow = &collected.slow;
        writeln!(
            out,
            "  slow        {} of {} joined, {} kept to their end, {} closed by the server; {} frames \
             skipped in {} places",
            show_count(slow.players_joined),
            show_count(slow.players_planned),
            show_count(slow.players_kept),
            show_count(slow.players_lost),
            show_count(slow.missing),
            show_count(slow.gaps),
        )?;
    }
    write_failover(out, outcome)?;
    if counters.attackers_started > 0 {
        writeln!(
            out,
            "  hostile     {} connections, {} closed by the server, {} open at the end",
            show_count(counters.attackers_started),
            show_count(counters.attackers_closed),
            show_count(counters.attackers_open),
        )?;
    }
    write_spans(out, outcome)?;
    if !collected.failures.is_empty() {
        writeln!(out, "  errors")?;
        for (cause, failed) in &collected.failures {
            writeln!(out, "    {:>6}  {cause}: {}", show_count(failed.count), failed.example)?;
        }
    }
    write_machine(out, outcome)?;
    for verdict in &outcome.verdicts {
        let met = if verdict.met { "met    " } else { "NOT met" };
        writeln!(out, "  {met}  {} (measured: {})", verdict.text, verdict.measured)?;
    }
    for why in &outcome.invalid {
        writeln!(out, "  INVALID: {why}, so the figures are not the server's alone")?;
    }
    if outcome.judgement() == Judgement::Unknown {
        let why = if outcome.stopped {
            "the run was ended early"
        } else if let Some(failure) = outcome.command_failed() {
            failure
        } else {
            "the generator was the bottleneck"
        };
        writeln!(out, "  no verdict: {why}")?;
    }
    Ok(())
}

/// Edges of the histogram of gaps, in milliseconds.
const GAP_EDGES_MS: &[u64] = &[100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// How players came through what `failover` did.
fn write_failover(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let Some(failover) = &outcome.plan.failover else { return Ok(()) };
    let (collected, counters) = (&outcome.collected, &outcome.collected.counters);
    writeln!(
        out,
        "  failover    {} of {} players recovered within {}; {} connections lost or moved",
        show_count(counters.failover_recovered),
        show_count(counters.failover_players),
        show_duration(failover.within),
        show_count(counters.failover_moves),
    )?;
    let gaps = collected.spans.of(SpanKind::Gap).map(Span::sparse).unwrap_or_default();
    let mut from = 0;
    for edge in GAP_EDGES_MS.iter().copied().chain([u64::MAX]) {
        let is_here = |micros: &u64| (from..edge).contains(&(micros / 1_000));
        let count: u64 =
            gaps.iter().filter(|(value, _)| is_here(value)).map(|(_, count)| count).sum();
        if count > 0 {
            let show = |edge: u64| show_micros(edge.saturating_mul(1_000));
            let upper = if edge == u64::MAX { "more".to_owned() } else { show(edge) };
            writeln!(out, "    gap {:>9} to {upper:<9} {}", show(from), show_count(count))?;
        }
        from = edge;
    }
    Ok(())
}

/// What was wrong with the content, or that nothing was.
fn content(outcome: &Outcome) -> String {
    let counters = &outcome.collected.counters;
    let plural = if counters.gaps == 1 { "" } else { "s" };
    let missing = format!("missing in {} gap{plural}", show_count(counters.gaps));
    let wrong: Vec<String> = [
        (counters.missing, missing.as_str()),
        (counters.doubled, "doubled"),
        (counters.reordered, "reordered"),
        (counters.altered, "altered"),
        (counters.foreign, "foreign"),
        (counters.backward, "with timestamps backward"),
        (counters.retimed, "retimed"),
        (counters.headless, "before their header"),
        (counters.keyless, "before a key frame"),
        (counters.gops_unequal, "GOPs unequal"),
        (counters.late, "late by more than 1 s"),
        (counters.stalls, "stalls"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{} {what}", show_count(*count)))
    .collect();
    let proven = match (counters.verified, counters.unverified) {
        (0, 0) => "nothing checked".to_owned(),
        (0, _) => "no truth in the frames, only order and form judged".to_owned(),
        (frames, _) if outcome.plan.file.is_some() => {
            format!("{} frames equal to the file's", show_count(frames))
        }
        _ => format!("{} GOPs equal to the publisher's", show_count(counters.gops_equal)),
    };
    let nothing_came = (counters.verified, counters.unverified) == (0, 0);
    if wrong.is_empty() && nothing_came {
        proven
    } else if wrong.is_empty() {
        format!("nothing missing, doubled, reordered or altered; {proven}")
    } else {
        format!("{}; {proven}", wrong.join(", "))
    }
}

fn write_spans(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let spans = &outcome.collected.spans;
    writeln!(
        out,
        "  {:<24}{:>11}{:>11}{:>11}{:>11}{:>11}",
        "", "p50", "p90", "p99", "max", "count"
    )?;
    for kind in SpanKind::ALL {
        let Some(span) = spans.of(*kind) else { continue };
        let value = |percent: f64| show_micros(Span::percentile(span, percent));
        writeln!(
            out,
            "  {:<24}{:>11}{:>11}{:>11}{:>11}{:>11}",
            kind.title(),
            value(50.0),
            value(90.0),
            value(99.0),
            show_micros(span.max()),
            show_count(span.count()),
        )?;
    }
    Ok(())
}

const MANY_CONNECTIONS: usize = 500;

fn write_machine(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let own = &outcome.own;
    writeln!(
        out,
        "  generator   {} worker(s) on {} in {} process(es), busiest {:.0} % busy, {:.1} CPU-s, {} \
         resident{}",
        own.workers,
        own.reactors.join(" and "),
        own.processes,
        own.busiest * 100.0,
        own.cpu_seconds,
        show_bytes(own.resident_bytes_max),
        // Of few connections it would tell of everything else.
        if outcome.plan.connections_max() >= MANY_CONNECTIONS {
            format!(", {:.1} KB per connection", own.bytes_per_connection / 1000.0)
        } else {
            String::new()
        },
    )?;
    if let Some(server) = &outcome.server {
        let carried = outcome.collected.counters.bytes_received as f64 / 1e9;
        writeln!(
            out,
            "  server      {:.1} CPU-s in {:.0} s, {:.2} CPU-s/GB, {} resident",
            server.cpu_seconds,
            server.seconds,
            server.cpu_seconds / carried.max(1e-9),
            show_bytes(server.resident_bytes_max),
        )?;
    }
    Ok(())
}
