//! The report as a page: verdict, figures, plots, tables, in one file without scripts.
//!
//! Whatever a server said is escaped before it stands in the page.

use std::fmt::Write;

use super::plot::{Line, Plot};
use crate::collect::Second;
use crate::measure::SpanKind;
use crate::run::{Judgement, Outcome};
use crate::units::{show_bytes, show_count, show_duration, show_micros, show_rate, whole, wide};

/// The page.
#[must_use]
pub fn html(outcome: &Outcome) -> String {
    let mut out = String::new();
    // Writing into a String does not fail.
    let _ = write(&mut out, outcome);
    out
}

const STYLE: &str = "
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#1c2330;background:#f4f6f9;margin:0}
main{max-width:920px;margin:0 auto;padding:28px 24px 60px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:32px 0 8px}
.sub{color:#5a6474;margin:0 0 18px}
.badge{display:inline-block;padding:3px 12px;border-radius:14px;color:#fff;font-weight:600}
.good{background:#1f8a4c}.bad{background:#c0392b}.unsure{background:#b7791f}
.plain{background:#5a6474}
.note{background:#fff4d6;border-left:4px solid #b7791f;padding:8px 12px;margin:12px 0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(158px,1fr));gap:12px;margin:18px 0}
.tile{background:#fff;border:1px solid #dfe4ec;border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:20px;white-space:nowrap;font-variant-numeric:tabular-nums}
.tile span{color:#5a6474}
.wrong b{color:#c0392b}
figure,.wide{overflow-x:auto;background:#fff;border:1px solid #dfe4ec;border-radius:8px}
figure{padding:14px 16px;margin:14px 0}
svg{width:100%;min-width:620px;height:auto;display:block;font:12px system-ui,sans-serif}
.title{font-size:14px;font-weight:600;fill:#1c2330}.tick{fill:#5a6474}
.grid{stroke:#e4e8ef}.mark{stroke:#8a94a6;stroke-dasharray:4 4}
.line{stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
table{border-collapse:collapse;width:100%}
th,td{padding:5px 12px;text-align:right;white-space:nowrap;border-bottom:1px solid #eef1f5}
td{font-variant-numeric:tabular-nums}tr:last-child td{border-bottom:0}
td.text{white-space:normal;min-width:200px}.none td{color:#8a94a6}
th:first-child,td:first-child,td.text,th.text{text-align:left}
th{color:#5a6474;font-weight:600}
";

const BLUE: &str = "#2563eb";
const ORANGE: &str = "#ea7a1a";
const RED: &str = "#c0392b";
const GREEN: &str = "#1f8a4c";

fn write(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let plan = &outcome.plan;
    let targets: Vec<String> = plan.publish_to.iter().map(|target| target.tc_url()).collect();
    let title = format!("loadgen {} {}", plan.command, targets.join(", "));
    write!(
        out,
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>\
         <meta name='viewport' content='width=device-width'><title>{}</title>\
         <style>{STYLE}</style></head><body><main><h1>{} {}</h1><p class='sub'>{}</p>",
        escape(&title),
        escape(&title),
        badge(outcome),
        escape(&described(outcome)),
    )?;
    for why in &outcome.invalid {
        write!(
            out,
            "<p class='note'><b>Not valid:</b> {}, so the figures are not the server's alone.</p>",
            escape(why)
        )?;
    }
    write_tiles(out, outcome)?;
    write_expectations(out, outcome)?;
    for plot in plots(outcome) {
        write!(out, "<figure>{}</figure>", plot.svg())?;
    }
    write_spans(out, outcome)?;
    write_failures(out, outcome)?;
    write_counters(out, outcome)?;
    out.write_str("</main></body></html>\n")
}

fn badge(outcome: &Outcome) -> &'static str {
    match outcome.judgement() {
        _ if outcome.verdicts.is_empty() => "<span class='badge plain'>nothing expected</span>",
        Judgement::Met => "<span class='badge good'>met</span>",
        Judgement::NotMet => "<span class='badge bad'>not met</span>",
        Judgement::Unknown => "<span class='badge unsure'>no verdict</span>",
    }
}

fn described(outcome: &Outcome) -> String {
    let plan = &outcome.plan;
    let profile = &plan.profile;
    let what = if plan.file.is_some() {
        "a file in a loop".to_owned()
    } else {
        format!(
            "{} at {}, {} fps, a key frame every {}",
            profile.codec.name(),
            show_rate(profile.bits_per_second as f64),
            profile.frames_per_second,
            show_duration(profile.gop)
        )
    };
    let what = if plan.publishers > 0 { what } else { "published elsewhere".to_owned() };
    let early = if outcome.stopped { "; ended early" } else { "" };
    format!(
        "{} ({what}), {}; {}; seed {}{early}",
        counted(plan.streams, "stream"),
        counted(plan.players, "player"),
        super::phases(plan),
        plan.seed
    )
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", show_count(wide(count)))
}

const WRONG_FRAMES: &str = "frames missing, doubled, reordered or altered";

fn write_tiles(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let (collected, counters) = (&outcome.collected, &outcome.collected.counters);
    let percentile = |kind: SpanKind, percent: f64| {
        let span = collected.spans.of(kind);
        span.map_or_else(|| "–".to_owned(), |span| show_micros(span.percentile(percent)))
    };
    let mut tiles = vec![("received under full load", show_rate(collected.rate(&outcome.plan)))];
    let mut alarming = Vec::new();
    if counters.players_planned > 0 {
        let (kept, planned) = (counters.players_kept, counters.players_planned);
        tiles.push(("players kept", format!("{} of {}", show_count(kept), show_count(planned))));
        alarming.extend((kept < planned).then_some("players kept"));
    }
    let wrong = counters.missing + counters.doubled + counters.reordered + counters.altered;
    alarming.extend((wrong > 0).then_some(WRONG_FRAMES));
    alarming.extend((collected.errors() > 0).then_some("errors"));
    tiles.extend([
        ("latency p50", percentile(SpanKind::Latency, 50.0)),
        ("latency p99", percentile(SpanKind::Latency, 99.0)),
        ("join p99", percentile(SpanKind::Join, 99.0)),
        (WRONG_FRAMES, show_count(wrong)),
        ("frames proven equal", show_count(counters.verified)),
        ("errors", show_count(collected.errors())),
        ("generator's busiest core", format!("{:.0} %", outcome.own.busiest * 100.0)),
    ]);
    if let Some(server) = &outcome.server {
        let carried = counters.bytes_received as f64 / 1e9;
        let cost = server.cpu_seconds / carried.max(1e-9);
        tiles.push(("server CPU per GB", format!("{cost:.2} s")));
        tiles.push(("server memory", show_bytes(server.resident_bytes_max)));
    }
    out.write_str("<div class='tiles'>")?;
    for (name, value) in tiles {
        let class = if alarming.contains(&name) { "tile wrong" } else { "tile" };
        write!(out, "<div class='{class}'><b>{}</b><span>{name}</span></div>", escape(&value))?;
    }
    out.write_str("</div>")
}

fn write_expectations(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    if outcome.verdicts.is_empty() {
        return Ok(());
    }
    out.write_str(
        "<h2>Expectations</h2><div class='wide'><table><tr><th>expected</th><th>measured</th>\
         <th></th></tr>",
    )?;
    for verdict in &outcome.verdicts {
        let (class, word) = if verdict.met { ("good", "met") } else { ("bad", "not met") };
        write!(
            out,
            "<tr><td>{}</td><td>{}</td><td><span class='badge {class}'>{word}</span></td></tr>",
            escape(&verdict.text),
            escape(&verdict.measured)
        )?;
    }
    out.write_str("</table></div>")
}

fn plots(outcome: &Outcome) -> Vec<Plot> {
    let seconds = &outcome.collected.seconds;
    // Behind the end of the load there are only farewells.
    let last = seconds.keys().next_back().copied().unwrap_or_default();
    let last = last.min(outcome.plan.length().as_secs());
    let over = |value: &dyn Fn(&Second) -> Option<f64>| -> Vec<(f64, Option<f64>)> {
        seconds
            .iter()
            .filter(|(number, _)| **number < last.max(1))
            .map(|(number, second)| (*number as f64 + 0.5, value(second)))
            .collect()
    };
    let line = |name, color, value: &dyn Fn(&Second) -> Option<f64>| Line {
        name,
        color,
        points: over(value),
        bars: false,
    };
    let bars = |name, color, value: &dyn Fn(&Second) -> Option<f64>| Line {
        bars: true,
        ..line(name, color, value)
    };
    let plot = |title, show: fn(f64) -> String, logarithmic, lines| Plot {
        title,
        lines,
        show,
        logarithmic,
        seconds: last as f64,
        full_from: outcome.plan.full_from().as_secs_f64(),
    };
    let number = |value: f64| show_count(whole(value));
    let tenths = |value: f64| {
        if value.fract() == 0.0 { show_count(whole(value)) } else { format!("{value:.1}") }
    };
    let micros = |value: f64| show_micros(whole(value));
    let some = |value: Option<u64>| value.map(|value| value as f64);
    let count = |value: u64| Some(value as f64);
    let mut rates = Vec::new();
    if outcome.plan.players > 0 {
        rates.push(line("received", BLUE, &|second| count(second.counters.bytes_received * 8)));
    }
    if outcome.plan.publishers > 0 {
        rates.push(line("sent", GREEN, &|second| count(second.counters.bytes_sent * 8)));
    }
    let mut plots = vec![plot("Rate", show_rate, false, rates)];
    if outcome.plan.players > 0 {
        plots.extend([
            plot(
                "Latency",
                micros,
                true,
                vec![
                    line("p50", GREEN, &|second| some(second.latency(50.0))),
                    line("p99", ORANGE, &|second| some(second.latency(99.0))),
                    line("max", RED, &|second| some(second.latency(100.0))),
                ],
            ),
            plot(
                "Players receiving",
                number,
                false,
                vec![line("players", BLUE, &|second| count(second.players))],
            ),
            plot(
                "Join time, by the second of joining",
                micros,
                true,
                vec![
                    line("p50", GREEN, &|second| some(second.join(50.0))),
                    line("p99", ORANGE, &|second| some(second.join(99.0))),
                ],
            ),
            plot(
                "Gaps and stalls per second",
                tenths,
                false,
                vec![
                    bars("gaps", RED, &|second| count(second.counters.gaps)),
                    bars("stalls", ORANGE, &|second| count(second.counters.stalls)),
                ],
            ),
        ]);
    }
    plots
}

fn write_spans(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    out.write_str(
        "<h2>Times</h2><div class='wide'><table><tr><th>what</th><th>p50</th><th>p90</th>\
         <th>p99</th><th>p99.9</th>\
         <th>max</th><th>count</th></tr>",
    )?;
    for kind in SpanKind::ALL {
        let Some(span) = outcome.collected.spans.of(*kind) else { continue };
        write!(out, "<tr><td title='{}'>{}</td>", escape(kind.meaning()), kind.title())?;
        for percent in [50.0, 90.0, 99.0, 99.9, 100.0] {
            write!(out, "<td>{}</td>", show_micros(span.percentile(percent)))?;
        }
        write!(out, "<td>{}</td></tr>", show_count(span.count()))?;
    }
    out.write_str("</table></div>")
}

fn write_failures(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let failures = &outcome.collected.failures;
    if failures.is_empty() {
        return Ok(());
    }
    out.write_str(
        "<h2>Errors</h2><div class='wide'><table><tr><th>cause</th>\
         <th class='text'>first of them</th>\
         <th>count</th></tr>",
    )?;
    for (cause, failed) in failures {
        write!(
            out,
            "<tr><td>{}</td><td class='text'>{}</td><td>{}</td></tr>",
            escape(cause),
            escape(&failed.example),
            show_count(failed.count)
        )?;
    }
    out.write_str("</table></div>")
}

fn write_counters(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let (load, slow) = (&outcome.collected.counters, &outcome.collected.slow);
    let with_slow = slow.players_planned > 0;
    let head = if with_slow { "<th>slow readers</th>" } else { "" };
    write!(
        out,
        "<h2>Counters</h2><div class='wide'><table><tr><th>name</th><th>count</th>{head}\
         <th class='text'>meaning</th></tr>"
    )?;
    for ((name, count, meaning), (_, slow, _)) in load.table().into_iter().zip(slow.table()) {
        let class = if count + slow == 0 { " class='none'" } else { "" };
        write!(out, "<tr{class}><td>{name}</td><td>{}</td>", show_count(count))?;
        if with_slow {
            write!(out, "<td>{}</td>", show_count(slow))?;
        }
        write!(out, "<td class='text'>{}</td></tr>", escape(meaning))?;
    }
    out.write_str("</table></div>")
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_stays_text() {
        assert_eq!(escape("<b a='\"'>&"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;");
    }
}
