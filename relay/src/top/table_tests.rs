//! Figures from the API's own JSON, and what is seen of them.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::super::figures::Answer;
use super::*;

fn node(at_s: u64, out: u64, busy: u64, wait: u64) -> Value {
    json!({
        "node": "studio", "own": true, "state": "running", "version": "1.2.3",
        "started_unix_ms": 1_000, "uptime_ms": at_s * 1_000, "read_unix_ms": at_s * 1_000,
        "streams": 2, "publishers": 1, "players": 3, "connections": 5,
        "ingest_bytes": out / 3, "egress_bytes": out,
        "messages_dropped": {"lag": 4, "limit": 0}, "players_dropped": {"slow": 0},
        "player_jumps": {}, "refused": {"conflict": 2, "nobody": 7},
        "cores": [{"core": 0, "busy_ms": busy, "wait_ms": wait}, {"core": 1, "busy_ms": 0, "wait_ms": 0}],
        "memory_bytes": {},
    })
}

fn stream(name: &str, players: u64, bytes_out: u64) -> Value {
    json!({
        "app": "live", "name": name, "state": "live", "players": players, "bytes_out": bytes_out,
        "bits_per_second": 2_500_000, "uptime_ms": 3_725_000, "gop_ms": 2_040,
        "video": {"codec": "avc", "width": 1920, "height": 1080, "tracks": 1},
        "audio": {"codec": "aac", "tracks": 1},
    })
}

fn answer(node: Value, streams: Vec<Value>) -> Answer {
    let streams = streams.into_iter().map(|stream| serde_json::from_value(stream).unwrap());
    Answer {
        nodes: vec![serde_json::from_value(node).unwrap()],
        streams: streams.collect(),
        known: 1,
        links: Vec::new(),
        more: false,
        cluster: false,
        absent: Vec::new(),
    }
}

#[test]
fn a_cluster_has_a_line_for_each_node_and_says_who_is_missing() {
    let at = |now: u64, bytes: u64| {
        let one = |name: &str, own: bool, players: u64| {
            let mut node = node(now, bytes, 100 + now, 100);
            (node["node"], node["own"], node["players"]) =
                (name.into(), own.into(), players.into());
            serde_json::from_value(node).unwrap()
        };
        let answer = answer(node(now, 0, 0, 0), vec![stream("a", 6, bytes)]);
        let nodes = vec![one("studio", true, 3), one("edge", false, 3)];
        Answer { nodes, known: 3, cluster: true, absent: vec!["gone".to_owned()], ..answer }
    };
    let mut figures = Figures::new(at(10, 0));
    figures.take(at(12, 1_000_000));
    let lines = Table::default().lines(&figures, 120, 12);
    let lines = texts(&lines);
    assert!(lines[1].starts_with("1 streams, 2 publishing, 6 players"), "{lines:#?}");
    assert!(lines[1].contains("3 nodes"), "{lines:#?}");
    assert!(lines[2].starts_with("studio running            3 players, out"), "{lines:#?}");
    assert!(lines[3].starts_with("edge running"), "{lines:#?}");
    assert_eq!(lines[4], "no answer from gone", "{lines:#?}");
}

/// Two answers, two seconds apart.
fn figures() -> Figures {
    let streams = |bytes: u64| vec![stream("a", 1, bytes), stream("big", 2, bytes * 3)];
    let mut figures = Figures::new(answer(node(10, 0, 100, 100), streams(0)));
    figures.take(answer(node(12, 3_000_000, 600, 1_600), streams(1_000_000)));
    figures
}

fn texts(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|line| line.text.trim_end()).collect()
}

#[test]
fn a_screen_shows_totals_rates_cores_losses_and_streams() {
    let lines = Table::default().lines(&figures(), 120, 12);
    let expected = [
        "relay 1.2.3, node studio, running, up 12 s",
        "2 streams, 1 publishing, 3 players, 5 connections, in 4.00 Mbit/s, out 12.0 Mbit/s",
        "busy 0 [##........]  25 %  1 [..........]    -",
        "messages dropped: 4 lag; refused: 7 nobody, 2 conflict",
        "",
    ];
    assert_eq!(texts(&lines)[..5], expected);
    let headings = &lines[5];
    assert_eq!((headings.kind, headings.text.chars().count()), (Kind::Heading, 120));
    let words = |line: &Line| line.text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(headings), "STREAM STATE PLAYERS IN OUT MEDIA GOP AGE");
    let big = "live/big live 2 2.50 Mbit/s 12.0 Mbit/s avc 1920x1080 aac 2.0 s 1 h 2 min";
    assert_eq!(words(&lines[6]), big);
    assert!(lines[7].text.starts_with("live/a "));
    assert_eq!(lines.len(), 12);
    assert!(lines[11].text.starts_with("q quit"));
}

#[test]
fn every_size_of_screen_is_filled_and_never_overrun() {
    let mut many = figures();
    let streams = (0..300).map(|n| stream(&format!("name-{n}"), n, 0)).collect();
    many.take(answer(node(14, 1, 700, 1_700), streams));
    for (width, height) in [(1, 1), (20, 3), (40, 8), (80, 24), (121, 40), (300, 100)] {
        for figures in [&figures(), &many] {
            let lines = Table::default().lines(figures, width, height);
            assert_eq!(lines.len(), height, "{width} x {height}");
            let widest = lines.iter().map(|line| line.text.chars().count()).max().unwrap();
            assert!(widest <= width, "{widest} on {width} x {height}");
            let ends = |line: &str, word: &str| line.find(word).map(|at| at + word.len());
            if let [.., heading, row] = &lines[..lines.len().min(7)]
                && width >= 60
            {
                // Numbers stand under the end of their heading.
                let under = ends(&heading.text, " IN").unwrap();
                assert!(row.text[..under].ends_with("bit/s"), "{heading:?} {row:?}");
            }
        }
    }
    let mut table = Table::default();
    table.scroll(10_000, 300);
    assert!(table.lines(&many, 80, 24)[6].text.starts_with("live/name-0 "), "the last one");
    table.scroll(-295, 300);
    let lines = table.lines(&many, 120, 24);
    assert!(lines[6].text.starts_with("live/name-295"), "{:?}", lines[6]);
    assert!(lines[23].text.contains("arrows: 5 to 21 of 300"), "{:?}", lines[23]);
}

#[test]
fn streams_are_sorted_as_asked() {
    let figures = figures();
    let check = |order, upside_down, expected: [&str; 2]| {
        let table = Table { order, upside_down, ..Table::default() };
        let lines = table.lines(&figures, 100, 20);
        let names = [6, 7].map(|at| lines[at].text.split(' ').next().unwrap().to_owned());
        assert_eq!(names, expected, "{order:?}");
    };
    check(Order::Players, false, ["live/big", "live/a"]);
    check(Order::Players, true, ["live/a", "live/big"]);
    check(Order::Out, false, ["live/big", "live/a"]);
    for order in [Order::Name, Order::Age, Order::In] {
        check(order, false, ["live/a", "live/big"]);
    }
    assert_eq!([Order::of('o'), Order::of('x')], [Some(Order::Out), None]);
}

#[test]
fn names_give_the_terminal_no_orders() {
    let bad = "\u{1b}[2J\u{7}\u{9b}31m\r\n\u{202e}x";
    let mut figures = figures();
    figures.take(answer(node(14, 1, 700, 1_700), vec![stream(bad, 1, 0)]));
    let table = Table { trouble: Some(bad.to_owned()), ..Table::default() };
    for line in table.lines(&figures, 120, 12) {
        let clean = !line.text.contains(char::is_control) && !line.text.contains('\u{202e}');
        assert!(clean, "{:?}", line.text);
    }
}

#[test]
fn a_node_that_was_started_anew_has_no_rates_until_it_was_asked_twice() {
    let mut figures = figures();
    let mut new = node(13, 0, 0, 0);
    new["started_unix_ms"] = 12_500.into();
    figures.take(answer(new, vec![stream("a", 1, 0)]));
    assert_eq!(figures.rate(|node| node.egress_bytes), None);
    assert_eq!(figures.busy(figures.own().unwrap()), [None, None]);
    let lines = Table::default().lines(&figures, 120, 12);
    assert!(lines[1].text.ends_with("in -, out -"), "{:?}", lines[1]);
}

#[test]
fn what_is_wrong_takes_the_place_of_losses() {
    let table = Table { trouble: Some("The relay is gone.".to_owned()), ..Table::default() };
    let lines = table.lines(&figures(), 80, 12);
    assert_eq!((lines[3].kind, &*lines[3].text), (Kind::Trouble, "The relay is gone."));
    let paused = Table { paused: true, ..Table::default() };
    assert!(paused.lines(&figures(), 80, 12)[11].text.ends_with("PAUSED"));
}

#[test]
fn numbers_are_said_as_people_say_them() {
    let check = |bits, expected: &str| assert_eq!(rate(bits), expected);
    check(None, "-");
    check(Some(999), "999 bit/s");
    check(Some(1_000), "1.00 kbit/s");
    check(Some(2_545_000), "2.54 Mbit/s");
    check(Some(12_345_678), "12.3 Mbit/s");
    check(Some(123_456_789_000), "123 Gbit/s");
    let check = |ms, expected: &str| assert_eq!(span(ms), expected);
    check(59_999, "59 s");
    check(61_000, "1 min 1 s");
    check(90_000_000, "1 d 1 h");
}
