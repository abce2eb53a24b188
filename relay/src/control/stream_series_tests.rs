//! The table behind `/metrics/streams`: bounded, steady, and never counting backwards.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::super::testing;
use super::*;

fn sum(players: usize, bytes_in: u64) -> Sum {
    let home = HomeSum {
        bytes_in,
        published: Some(Duration::ZERO),
        last_key: Some(Duration::from_secs(1)),
    };
    Sum { players, bytes_out: bytes_in * 2, home: Some(home) }
}

fn sums(rows: &[(&str, usize, u64)]) -> BTreeMap<Arc<str>, Sum> {
    rows.iter().map(|(name, players, bytes)| (Arc::from(*name), sum(*players, *bytes))).collect()
}

fn shown(view: &View) -> Vec<&str> {
    view.streams.iter().map(|(name, _)| &**name).collect()
}

fn state() -> State {
    testing::state(testing::workers(1).0)
}

/// The series of a page, without values.
fn series(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0).collect()
}

#[test]
fn ten_thousand_streams_have_no_more_series_than_the_cap() {
    let state = state();
    let mut table = Table::default();
    let mut random = fastrand::Rng::with_seed(11);
    let mut all = BTreeSet::new();
    let mut bytes = vec![0_u64; 10_000];
    for _ in 0..10 {
        let rows: BTreeMap<Arc<str>, Sum> = (0..10_000)
            .map(|n| {
                bytes[n] += random.u64(0..1_000);
                (format!("live/stream-{n}").into(), sum(random.usize(0..3), bytes[n]))
            })
            .collect();
        let view = table.take(rows, 200);
        assert_eq!((view.streams.len(), view.other_streams), (200, 9_800));
        let text = text(&view, &state).unwrap();
        let series = series(&text);
        // Five families of 200, three of them with the others, and two counts.
        assert_eq!(series.len(), 5 * 200 + 3 + 2);
        assert!(text.len() < 200_000);
        all.extend(series.into_iter().map(str::to_owned));
    }
    // Chance moves every stream about; what Prometheus ever sees stays a small multiple.
    assert!(all.len() < 5 * 2_000, "{} series over ten scrapes", all.len());
    assert_eq!(table.known.len(), 10_000);
    table.take(sums(&[("live/a", 1, 1)]), 200);
    assert_eq!(table.known.len(), 1, "streams that ended are forgotten");
}

#[test]
fn the_largest_are_shown_and_stay_until_another_is_clearly_larger() {
    let mut table = Table::default();
    let mut check = |rows: &[(&str, usize, u64)], expected: &[&str]| {
        assert_eq!(shown(&table.take(sums(rows), 2)), expected, "{rows:?}");
    };
    check(&[("a", 10, 0), ("b", 9, 0), ("c", 8, 0)], &["a", "b"]);
    // One more or less does not change the series.
    check(&[("a", 10, 0), ("b", 9, 0), ("c", 10, 0)], &["a", "b"]);
    check(&[("a", 10, 0), ("b", 9, 0), ("c", 11, 0)], &["a", "b"]);
    check(&[("a", 10, 0), ("b", 9, 0), ("c", 12, 0)], &["a", "c"]);
    check(&[("a", 10, 0), ("b", 11, 0), ("c", 10, 0)], &["a", "c"]);
    // Without players the rate decides, and names where nothing else does.
    check(&[("a", 0, 5), ("b", 0, 900), ("c", 0, 800)], &["b", "c"]);
    check(&[("x", 0, 0), ("y", 0, 0), ("z", 0, 0)], &["x", "y"]);
    check(&[("z", 0, 0)], &["z"]);
    check(&[], &[]);
}

#[test]
fn the_sum_of_the_others_never_falls_and_nothing_is_counted_twice() {
    let mut table = Table::default();
    let others = |view: &View| (view.other.bytes_in, view.other.bytes_out, view.other_players);
    let view = table.take(sums(&[("a", 5, 100), ("b", 1, 50)]), 1);
    assert_eq!(others(&view), (50, 100, 1));
    // b becomes the large one: what it gains from now on is its own, what a gains is the others'.
    let view = table.take(sums(&[("a", 1, 110), ("b", 50, 70)]), 1);
    assert_eq!((shown(&view), others(&view)), (vec!["b"], (60, 120, 1)));
    let view = table.take(sums(&[("a", 1, 120), ("b", 50, 90)]), 1);
    assert_eq!(others(&view), (70, 140, 1));
    // Whoever ends takes nothing along; one that begins anew counts from its beginning.
    let view = table.take(sums(&[("b", 50, 95)]), 1);
    assert_eq!(others(&view), (70, 140, 0));
    let view = table.take(sums(&[("a", 1, 7), ("b", 50, 95)]), 1);
    assert_eq!(others(&view), (77, 154, 1));
    // None shown at all.
    let view = table.take(sums(&[("a", 1, 8), ("b", 50, 95)]), 0);
    assert_eq!((view.streams.len(), others(&view)), (0, (78, 156, 51)));
}

#[test]
fn shares_of_workers_are_added_up() {
    let mut all = BTreeMap::new();
    let row = |players, bytes_out, home| StreamSum { name: "a/b".into(), players, bytes_out, home };
    let home = |bytes_in| Some(HomeSum { bytes_in, published: None, last_key: None });
    for row in [row(2, 10, None), row(3, 20, home(7)), row(0, 1, home(5))] {
        add(&mut all, row);
    }
    let sum = all["a/b"];
    assert_eq!((sum.players, sum.totals()), (5, Totals { bytes_in: 7, bytes_out: 31 }));
}

#[test]
fn names_are_cut_at_64_bytes_and_stay_apart() {
    assert_eq!(label("live/talk"), "live/talk");
    let long = |end: &str| format!("live/{}{end}", "x".repeat(70));
    let cut = [label(&long("a")), label(&long("b"))];
    assert!(cut.iter().all(|label| label.len() == LABEL_BYTES_MAX), "{cut:?}");
    assert_ne!(cut[0], cut[1]);
    assert_ne!(label(OTHER), OTHER);
    let wide = label(&"\u{1f3a5}".repeat(40));
    assert!(wide.len() <= LABEL_BYTES_MAX && wide.starts_with("\u{1f3a5}"), "{wide}");
    assert_eq!(label(&"x".repeat(64)).len(), 64);
    // What a name holds is escaped by the format.
    let view = Table::default().take(sums(&[("a/\"b\\\nc", 1, 1)]), 1);
    let text = text(&view, &state()).unwrap();
    assert!(text.contains("relay_stream_players{stream=\"a/\\\"b\\\\\\nc\"} 1\n"), "{text}");
}
