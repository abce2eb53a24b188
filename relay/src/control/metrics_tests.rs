//! The text of `/metrics`: its own rules, every series from the start, and the numbers.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::testing;
use super::*;
use crate::worker::labels::MemoryKind;
use crate::worker::labels::{
    CloseReason, DropReason, Hop, JoinSource, MessageKind, Role, Source, Transport,
};

fn text(state: &Arc<State>) -> String {
    Metrics::new(Arc::clone(state)).text().unwrap()
}

fn state(workers: usize) -> Arc<State> {
    Arc::new(testing::state(testing::workers(workers).0))
}

/// The samples: series as written, and value.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

#[test]
fn names_and_types_keep_the_rules() {
    let text = text(&state(2));
    let mut helped = BTreeSet::new();
    let mut types = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.ends_with('.'), "{name}: the help is a sentence");
            assert!(helped.insert(name.to_owned()), "{name} appears twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            types.insert(name.to_owned(), kind.to_owned());
        }
    }
    assert_eq!(helped.len(), types.len());
    for (name, kind) in &types {
        assert!(helped.contains(name), "{name} has no help");
        assert!(name.starts_with("relay_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        for unit in ["milliseconds", "_ms", "_ns", "_kib", "_mib", "percent", "minutes"] {
            assert!(!name.contains(unit), "{name} is not in base units");
        }
        let suffixes = ["_count", "_sum", "_bucket"];
        assert!(!suffixes.iter().any(|suffix| name.ends_with(suffix)), "{name}");
        if kind == "histogram" {
            assert!(name.ends_with("_seconds"), "{name}");
        }
    }
    for series in samples(&text).keys() {
        let name = series.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix).filter(|name| types.contains_key(*name)));
        assert!(types.contains_key(family.unwrap_or(name)), "{series} has no type");
    }
}

#[test]
fn every_series_is_there_from_the_start() {
    let state = state(2);
    let metrics = Metrics::new(Arc::clone(&state));
    let before = samples(&metrics.text().unwrap());
    for worker in &state.workers {
        busy(&worker.cells);
    }
    let after = samples(&metrics.text().unwrap());
    let keys = |samples: &BTreeMap<String, f64>| samples.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&before), keys(&after));
    let counted = before.iter().filter(|(series, _)| {
        series.starts_with("relay_") && series.split('{').next().unwrap().ends_with("_total")
    });
    for (series, value) in counted {
        assert_eq!(*value, 0.0, "{series}");
    }
    for expected in [
        "relay_connections_closed_total{reason=\"slow\",role=\"player\",transport=\"rtmp\"}",
        "relay_connections{core=\"1\",role=\"publisher\",transport=\"rtmp\"}",
        "relay_fanout_lag_seconds_bucket{hop=\"local\",le=\"0.0005\"}",
        "relay_fanout_lag_seconds_bucket{hop=\"local\",le=\"16.384\"}",
        "relay_fanout_lag_seconds_bucket{hop=\"local\",le=\"+Inf\"}",
        "relay_join_time_seconds_count{source=\"cold\"}",
        "relay_handshakes_total{result=\"bad_version\",transport=\"rtmp\"}",
        "relay_refused_total{reason=\"conflict\"}",
        "relay_players_dropped_total{reason=\"slow\"}",
        "relay_limit{name=\"log_span\"}",
        "relay_limit_used{name=\"connections_max\"}",
        "relay_memory_bytes{kind=\"log\"}",
        "relay_log_messages_total{level=\"error\"}",
        "relay_log_lines_lost_total",
        "relay_draining",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(before.contains_key(expected), "{expected} is missing");
    }
    assert_eq!(before["relay_limit{name=\"log_span\"}"], 12.0);
    let info = "relay_reactor_info{backend=\"sim\",core=\"0\",reason=\"for a test\"}";
    assert_eq!(before[info], 1.0);
}

/// Something of everything.
fn busy(cells: &Cells) {
    cells.opened(Transport::Rtmp);
    cells.opened(Transport::Rtmp);
    cells.changed_role(Role::Pending, Role::Player, Transport::Rtmp);
    cells.closed(Role::Player, Role::Player, Transport::Rtmp, CloseReason::Slow);
    cells.egress_bytes.at(Role::Player).add(1_000);
    cells.messages_dropped.at((MessageKind::Video, DropReason::Lag)).add(5);
    cells.copied_bytes.add(70);
    cells.assembled_bytes.add(7);
    cells.streams.at(Source::Local).add(1);
    cells.memory.at(MemoryKind::Log).add(4_096);
    cells.fanout_lag.at(Hop::Local).observe_many(Duration::from_micros(700), 3);
    cells.join_time.at(JoinSource::Cold).observe(Duration::from_secs(1));
    cells.busy_ns.add(1_500_000_000);
    cells.turns.add(9);
}

#[test]
fn numbers_are_summed_over_cores() {
    let state = state(3);
    busy(&state.workers[0].cells);
    busy(&state.workers[2].cells);
    let samples = samples(&text(&state));
    let check = |series: &str, expected: f64| {
        assert_eq!(samples.get(series), Some(&expected), "{series}");
    };
    check("relay_connections{core=\"0\",role=\"pending\",transport=\"rtmp\"}", 1.0);
    check("relay_connections{core=\"1\",role=\"pending\",transport=\"rtmp\"}", 0.0);
    check("relay_connections_opened_total{role=\"pending\",transport=\"rtmp\"}", 4.0);
    check(
        "relay_connections_closed_total{reason=\"slow\",role=\"player\",transport=\"rtmp\"}",
        2.0,
    );
    check("relay_egress_bytes_total{core=\"2\",via=\"player\"}", 1_000.0);
    check("relay_messages_dropped_total{reason=\"lag\",type=\"video\"}", 10.0);
    check("relay_copied_bytes_total", 154.0);
    check("relay_fanout_lag_seconds_bucket{hop=\"local\",le=\"0.0005\"}", 0.0);
    check("relay_fanout_lag_seconds_bucket{hop=\"local\",le=\"0.001\"}", 6.0);
    check("relay_fanout_lag_seconds_bucket{hop=\"local\",le=\"+Inf\"}", 6.0);
    check("relay_fanout_lag_seconds_count{hop=\"local\"}", 6.0);
    check("relay_fanout_lag_seconds_sum{hop=\"local\"}", 0.0042);
    check("relay_join_time_seconds_sum{source=\"cold\"}", 2.0);
    check("relay_reactor_busy_seconds_total{core=\"0\"}", 1.5);
    check("relay_reactor_turns_total{core=\"2\"}", 9.0);
    check("relay_limit_used{name=\"connections_max\"}", 2.0);
    check("relay_limit_used{name=\"log_bytes_total\"}", 8_192.0);
    check("relay_limit_used{name=\"streams_max\"}", 2.0);
}

#[test]
fn a_strange_node_name_is_escaped() {
    let mut state = testing::state(testing::workers(1).0);
    state.node = "a\"b\\c\nd".to_owned();
    let text = text(&Arc::new(state));
    assert!(text.contains("relay_node_info{node=\"a\\\"b\\\\c\\nd\"} 1\n"));
}

#[test]
fn who_asks_too_often_is_given_the_last_page_again() {
    let (workers, _inboxes) = testing::workers(1);
    let metrics = Metrics::new(Arc::new(testing::state(workers.clone())));
    let pages = || {
        workers[0].cells.sends.increment();
        metrics.text().unwrap()
    };
    let mut made: Vec<String> = (0..200).map(|_| pages()).collect();
    made.dedup();
    assert!((2..=100).contains(&made.len()), "{} different pages", made.len());
}
