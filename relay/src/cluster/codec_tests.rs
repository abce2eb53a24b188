//! Bytes of messages: those of version 1, cut ones, wrong ones, and those of later builds.

use super::*;

const VERSION_1: &str = include_str!("version_1.txt");

/// The bytes of version 1 by name.
fn recorded(name: &str) -> Vec<u8> {
    let lines = VERSION_1.lines().filter_map(|line| line.split_once(' '));
    let (_, hex) = lines.clone().find(|(known, _)| *known == name).expect(name);
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}

const A: NodeKey = NodeKey(0x1111_1111_1111_1111);
const B: NodeKey = NodeKey(0x2222_2222_2222_2222);
const C: NodeKey = NodeKey(0x3333_3333_3333_3333);

fn ended() -> Ended {
    Ended { name: "live/one".into(), epoch: 7 }
}

fn edge() -> Edge {
    Edge { name: "live/one".into(), epoch: 7, child: C }
}

fn announced() -> Vec<Announced> {
    vec![
        Announced { name: "live/one".into(), epoch: 7, phase: Phase::Live, rate_kbit: 2_500 },
        Announced { name: "live/zwei ü".into(), epoch: 1, phase: Phase::Pending, rate_kbit: 0 },
    ]
}

fn orders() -> Vec<Order> {
    let text = |text: &str| Some(OrderText(text.into()));
    vec![
        Order { id: OrderId { number: 3, node: A }, text: text("push live rtmp://h/a/key") },
        Order { id: OrderId { number: 4, node: B }, text: None },
    ]
}

/// Every message that version 1 knows.
fn messages() -> Vec<(&'static str, Message)> {
    let whole = Part { first: true, last: true };
    let mut digest = Digest::default();
    for entry in announced() {
        digest.add(&entry.name, entry.epoch, entry.phase);
    }
    let reports = vec![
        Report {
            name: "live/one".into(),
            epoch: 7,
            order: 3,
            source: Some(A),
            open: false,
            lost: true,
            leaving: true,
        },
        Report {
            name: "live/b".into(),
            epoch: 1,
            order: 0,
            source: None,
            open: true,
            lost: false,
            leaving: false,
        },
    ];
    let parent = |parent| Message::Parent { name: "live/one".into(), epoch: 7, order: 4, parent };
    let beat = |at, echo, spare_kbit, draining| {
        Message::Beat(Beat { at, echo, spare_kbit, draining, full: false })
    };
    vec![
        ("beat", beat(5_000_000, Some((4_000_000, 250)), 900_000, true)),
        ("first_beat", beat(1, None, u32::MAX, false)),
        (
            "full_beat",
            Message::Beat(Beat { at: 1, echo: None, spare_kbit: 7, draining: false, full: true }),
        ),
        ("bye", Message::Bye),
        (
            "doors",
            Message::Doors { doors: ["rtmp://a.example:1936".into(), "https://a".into()].into() },
        ),
        ("orders", Message::Orders { entries: orders() }),
        ("operators", Message::Operators { address: "[2001:db8::7]:8935".parse().unwrap() }),
        ("announce", Message::Announce { part: whole, entries: announced() }),
        ("announce_nothing", Message::Announce { part: whole, entries: Vec::new() }),
        ("withdraw", Message::Withdraw { entries: vec![ended()] }),
        ("refresh", Message::Refresh(digest)),
        ("resync", Message::Resync),
        ("wants", Message::Wants { part: Part { first: true, last: false }, entries: reports }),
        ("left", Message::Left(ended())),
        ("parent", parent(Some(B))),
        ("patience", parent(None)),
        (
            "pushes",
            Message::Pushes { part: Part { first: false, last: true }, entries: vec![edge()] },
        ),
        ("stop_push", Message::StopPush(edge())),
        ("unfed", Message::Unfed(edge())),
        (
            "at",
            Message::At(At {
                position: Position { epoch: 7, seq: 123_456 },
                origin: A,
                ingested: 60_000_000,
                path: [A, B].into(),
            }),
        ),
        ("headers", Message::Headers),
        ("take", Message::Take { position: Some(Position { epoch: 7, seq: 123_456 }) }),
        ("take_all", Message::Take { position: None }),
        ("audience", Message::Audience { players: 70_000 }),
        ("refused", Message::Refused(Refusal::Secret)),
    ]
}

#[test]
fn the_bytes_of_version_1_are_read_and_written_as_ever() {
    let limits = Limits::default();
    for (name, message) in messages() {
        let bytes = recorded(name);
        assert_eq!(Message::decode(&bytes, &limits), Ok(Some(message.clone())), "{name}");
        assert_eq!(message.encode(), bytes, "{name}");
    }
    let named = messages().len();
    let greetings = ["refused_version", "hello", "challenge", "proof", "welcome"];
    let lines = VERSION_1.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(lines, named + greetings.len(), "each recorded message is looked at");
}

#[test]
fn a_refusal_of_versions_is_turned_round_for_its_reader() {
    let bytes = recorded("refused_version");
    let read = Message::decode(&bytes, &Limits::default());
    let refusal = Refusal::Version { ours: (2, 3), theirs: (1, 1) };
    assert_eq!(read, Ok(Some(Message::Refused(refusal))));
    let said = Refusal::Version { ours: (1, 1), theirs: (2, 3) };
    assert_eq!(Message::Refused(said).encode(), bytes);
}

#[test]
fn what_a_later_build_adds_is_passed_over() {
    let limits = Limits::default();
    let unknown = wrap(Output(vec![99, 1, 2, 3]));
    assert_eq!(Message::decode(&unknown, &limits), Ok(None));
    // More fields at the end of a message, and at the end of a list's entry.
    let mut longer = vec![kind::LEFT];
    longer.extend_from_slice(b"\0\x08live/one\0\0\0\0\0\0\0\x07 and more");
    let read = Message::decode(&wrap(Output(longer)), &limits);
    assert_eq!(read, Ok(Some(Message::Left(ended()))));
    let mut entry = vec![kind::WITHDRAW, 0, 1, 0, 22];
    entry.extend_from_slice(b"\0\x08live/one\0\0\0\0\0\0\0\x07more");
    let read = Message::decode(&wrap(Output(entry)), &limits);
    assert_eq!(read, Ok(Some(Message::Withdraw { entries: vec![ended()] })));
}

#[test]
fn messages_that_are_cut_short_are_refused() {
    let limits = Limits::default();
    for (name, message) in messages() {
        let bytes = message.encode();
        for length in 0..bytes.len() {
            let read = Message::decode(&bytes[..length], &limits);
            assert!(read.is_err(), "{name} cut to {length} bytes");
        }
        // The inner length says less than the fields need.
        for length in 1..bytes.len() - HEAD_BYTES {
            let body = bytes[HEAD_BYTES..HEAD_BYTES + length].to_vec();
            let read = Message::decode(&wrap(Output(body)), &limits);
            assert!(read.is_err(), "{name} with a body of {length} bytes");
        }
    }
}

#[track_caller]
fn check(body: &[u8], expected: CodecError) {
    let read = Message::decode(&wrap(Output(body.to_vec())), &Limits::default());
    assert_eq!(read, Err(expected), "{body:?}");
}

#[test]
fn what_is_not_as_it_should_be_is_refused() {
    let limits = Limits::default();
    assert_eq!(Message::decode(b"", &limits), Err(CodecError::Foreign));
    assert_eq!(Message::decode(b"\x02\0\x0aonMetaData", &limits), Err(CodecError::Foreign));
    let long = vec![0; limits.cluster_message_bytes_max + 1];
    assert_eq!(Message::decode(&long, &limits), Err(CodecError::Long));
    let left = |name: &[u8], epoch: u64| {
        let mut body = vec![kind::LEFT];
        body.extend_from_slice(&u16::try_from(name.len()).expect("short").to_be_bytes());
        body.extend_from_slice(name);
        body.extend_from_slice(&epoch.to_be_bytes());
        body
    };
    check(&left(b"", 1), CodecError::Text);
    check(&left(b"live/\xff", 1), CodecError::Text);
    check(&left(b"live/a\nb", 1), CodecError::Text);
    check(&left(&[b'a'; 770], 1), CodecError::Text);
    check(&left(b"live/a", 0), CodecError::Number);
    check(&left(b"live/a", EPOCH_MAX + 1), CodecError::Number);
    let take = |epoch: u64, seq: u64| {
        [&[kind::TAKE, 1][..], &epoch.to_be_bytes(), &seq.to_be_bytes()].concat()
    };
    check(&take(0, 1), CodecError::Number);
    check(&take(1, SEQ_MAX + 1), CodecError::Number);
    // A list that claims more than there is, and a path that is too long or leads nowhere.
    check(&[kind::WITHDRAW, 0xff, 0xff], CodecError::Short);
    let path = |nodes: u16| {
        let mut body = vec![kind::AT];
        body.extend_from_slice(&1u64.to_be_bytes());
        body.extend_from_slice(&[0; 24]);
        body.extend_from_slice(&nodes.to_be_bytes());
        for _ in 0..nodes {
            body.extend_from_slice(&[0, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
        }
        body
    };
    check(&path(0), CodecError::Number);
    check(&path(33), CodecError::Number);
}

#[test]
fn long_lists_are_told_in_parts_that_are_short_enough() {
    let limits = Limits::default();
    for (count, bytes) in [(0, 10), (1, 700), (90, 700), (3_000, 40), (20_000, 9)] {
        let name = |n: usize| format!("{n:0bytes$}");
        let entries: Vec<Report> = (0..count)
            .map(|n| Report {
                name: name(n).into(),
                epoch: 1,
                order: 1,
                source: Some(A),
                open: true,
                lost: true,
                leaving: true,
            })
            .collect();
        let parts = Message::parts(entries.clone(), |report| &report.name, &limits);
        let last = parts.len() - 1;
        let mut told = Vec::new();
        for (at, (part, entries)) in parts.into_iter().enumerate() {
            assert_eq!(part, Part { first: at == 0, last: at == last });
            let payload = Message::Wants { part, entries: entries.clone() }.encode();
            assert!(payload.len() <= limits.cluster_message_bytes_max, "{}", payload.len());
            told.extend(entries);
        }
        assert_eq!(told, entries);
    }
}

#[test]
fn every_reason_has_its_name_and_number() {
    let versions = (1, 1);
    for (index, name) in super::super::refusal::REFUSALS.iter().enumerate() {
        let number = u8::try_from(index).expect("few");
        let refusal = Refusal::from_index(number, versions, versions);
        assert_eq!(refusal.index(), index, "{name}");
        assert!(!refusal.to_string().is_empty());
    }
    assert_eq!(Refusal::from_index(200, versions, versions), Refusal::Malformed);
}

/// For the greeting's tests.
pub(in crate::cluster) fn version_1(name: &str) -> Vec<u8> {
    recorded(name)
}
