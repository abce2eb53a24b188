//! What was measured so far as Prometheus text (exposition format 0.0.4), for a run that is watched
//! from outside.

use std::fmt::Write;

use crate::collect::Collected;
use crate::measure::SpanKind;
use crate::plan::Plan;

/// The page.
#[must_use]
pub fn prometheus(plan: &Plan, collected: &Collected) -> String {
    let mut out = String::new();
    // Writing into a String does not fail.
    let _ = write(&mut out, plan, collected);
    out
}

fn write(out: &mut String, plan: &Plan, collected: &Collected) -> std::fmt::Result {
    for (name, count, meaning) in collected.counters.table() {
        writeln!(out, "# HELP loadgen_{name}_total {meaning}")?;
        writeln!(out, "# TYPE loadgen_{name}_total counter\nloadgen_{name}_total {count}")?;
    }
    out.write_str(
        "# HELP loadgen_errors_total Failures by cause.\n# TYPE loadgen_errors_total counter\n",
    )?;
    for (cause, failed) in &collected.failures {
        writeln!(out, "loadgen_errors_total{{cause=\"{}\"}} {}", escape(cause), failed.count)?;
    }
    let present = collected.whole_second();
    let gauges = [
        ("players_present", "Players that receive.", present.map_or(0, |second| second.players)),
        (
            "publishers_present",
            "Publishers that send.",
            present.map_or(0, |second| second.publishers),
        ),
        ("players_wanted", "Players under full load.", crate::units::wide(plan.players)),
    ];
    for (name, meaning, value) in gauges {
        writeln!(out, "# HELP loadgen_{name} {meaning}")?;
        writeln!(out, "# TYPE loadgen_{name} gauge\nloadgen_{name} {value}")?;
    }
    let cpu = collected.cpu().as_secs_f64();
    writeln!(out, "# HELP loadgen_cpu_seconds_total CPU time of all workers of the generator.")?;
    writeln!(out, "# TYPE loadgen_cpu_seconds_total counter\nloadgen_cpu_seconds_total {cpu}")?;
    for kind in SpanKind::ALL {
        let Some(span) = collected.spans.of(*kind) else { continue };
        let name = kind.name();
        writeln!(out, "# HELP loadgen_{name}_seconds {}", kind.meaning())?;
        writeln!(out, "# TYPE loadgen_{name}_seconds summary")?;
        for percent in [50.0, 90.0, 99.0, 99.9, 100.0] {
            let seconds = span.percentile(percent) as f64 / 1e6;
            let quantile = percent / 100.0;
            writeln!(out, "loadgen_{name}_seconds{{quantile=\"{quantile}\"}} {seconds}")?;
        }
        let (count, sum) = (span.count(), span.mean() * span.count() as f64 / 1e6);
        writeln!(out, "loadgen_{name}_seconds_sum {sum}\nloadgen_{name}_seconds_count {count}")?;
    }
    Ok(())
}

/// A cause may be what a server said.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_stays_within_its_label() {
        assert_eq!(escape("a\\b\"} 7\nc"), "a\\\\b\\\"} 7\\nc");
    }
}
