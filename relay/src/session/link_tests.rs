//! Two ends of a link, cut into pieces of every size; and those who are no nodes.

use super::*;
use crate::wire::chunk_writer::write_message;
use crate::wire::message::{CHUNK_BYTES, MediaKind};
use crate::wire::timestamp::Timestamp;
use bytes::BytesMut;

const NOW: Duration = Duration::from_secs(1);

/// What an end heard, as text.
fn heard(end: &mut LinkSession, bytes: &[u8], piece: usize) -> Result<Vec<String>, SessionError> {
    let mut heard = Vec::new();
    for mut input in bytes.chunks(piece) {
        while let Some(event) = end.next_event(&mut input, NOW)? {
            heard.push(match event {
                LinkEvent::Media { message_stream, message } => format!(
                    "media {message_stream} {:?} at {} of {}",
                    message.kind(),
                    message.timestamp().0,
                    message.payload_bytes()
                ),
                event => format!("{event:?}"),
            });
        }
        assert!(input.is_empty());
    }
    Ok(heard)
}

/// Passes bytes both ways in pieces of this size until neither end has any.
fn exchange(
    dialler: &mut LinkSession,
    acceptor: &mut LinkSession,
    piece: usize,
) -> [Vec<String>; 2] {
    let mut all = [Vec::new(), Vec::new()];
    loop {
        let there: Vec<u8> = std::iter::from_fn(|| dialler.take_output()).flatten().collect();
        all[1].extend(heard(acceptor, &there, piece).unwrap());
        let back: Vec<u8> = std::iter::from_fn(|| acceptor.take_output()).flatten().collect();
        all[0].extend(heard(dialler, &back, piece).unwrap());
        if there.is_empty() && back.is_empty() {
            return all;
        }
    }
}

fn media(message_stream: u32, kind: MediaKind, payload: &[u8]) -> Bytes {
    let header = MessageHeader {
        timestamp: Timestamp(40),
        length: 0,
        kind: kind.message_type(),
        message_stream,
    };
    let mut out = BytesMut::new();
    write_message(&mut out, kind.chunk_stream(), &header, payload, CHUNK_BYTES);
    out.freeze()
}

#[test]
fn both_ends_hear_what_the_other_says_in_pieces_of_any_size() {
    let video = |length: usize| [&[0x17, 1, 0, 0, 0][..], &vec![7; length]].concat();
    for piece in [1, 2, 3, 7, 64, 1_000, usize::MAX] {
        let limits = Limits::default();
        let mut dialler = LinkSession::dial(&limits, 1);
        let mut acceptor = LinkSession::accept(&limits, 2);
        assert_eq!(exchange(&mut dialler, &mut acceptor, piece), [["Open"], ["Open"]]);
        dialler.say(0, b"hello");
        acceptor.say(0, b"challenge");
        let [back, there] = exchange(&mut dialler, &mut acceptor, piece);
        assert_eq!(back, [r#"Data { message_stream: 0, payload: b"challenge" }"#]);
        assert_eq!(there, [r#"Data { message_stream: 0, payload: b"hello" }"#]);
        acceptor.expect_media();
        dialler.publish(9, "live/one");
        dialler.say(9, b"at");
        let [_, there] = exchange(&mut dialler, &mut acceptor, piece);
        let publish = r#"Publish { message_stream: 9, name: b"live/one" }"#;
        assert_eq!(there, [publish, r#"Data { message_stream: 9, payload: b"at" }"#]);
        // What a publisher says in data is media, whatever it looks like.
        let data = b"\x02\x00\x05relay\x0c\x00\x00\x00\x01\x0b";
        let sent = [
            media(9, MediaKind::Video, &video(150_000)),
            media(9, MediaKind::Data, data),
            media(10, MediaKind::Audio, &[0xaf, 1, 2]),
            media(9, MediaKind::Data, b"\x02"),
        ];
        let there = heard(&mut acceptor, &sent.concat(), piece).unwrap();
        assert_eq!(
            there,
            [
                "media 9 Video at 40 of 150005",
                "media 9 Data at 40 of 14",
                "media 10 Audio at 40 of 3",
                "Unusable { message_stream: 9 }",
            ]
        );
        acceptor.say(9, b"take");
        acceptor.refuse_stream(10);
        dialler.close_stream(9);
        let [back, there] = exchange(&mut dialler, &mut acceptor, piece);
        let unwanted = "Unwanted { message_stream: 10 }";
        assert_eq!(back, [r#"Data { message_stream: 9, payload: b"take" }"#, unwanted]);
        assert_eq!(there, ["Close { message_stream: 9 }"]);
    }
}

#[test]
fn who_is_no_node_is_told_so() {
    let limits = Limits::default();
    let settings = crate::session::ClientSettings {
        app: "live".to_owned(),
        tc_url: "rtmp://here/live".to_owned(),
        name: "one".to_owned(),
        role: crate::session::ClientRole::Publish,
        enhanced: false,
    };
    let mut client = crate::session::ClientSession::new(settings, limits.clone().into(), 1, NOW);
    let mut acceptor = LinkSession::accept(&limits, 2);
    let mut refused = false;
    for _ in 0..4 {
        let there: Vec<u8> = std::iter::from_fn(|| client.take_output()).flatten().collect();
        refused |= matches!(
            heard(&mut acceptor, &there, usize::MAX),
            Err(SessionError::Refused { code, .. }) if code == CONNECT_REJECTED
        );
        let back: Vec<u8> = std::iter::from_fn(|| acceptor.take_output()).flatten().collect();
        let mut input = &back[..];
        if let Err(error) = client.next_event(&mut input, NOW) {
            assert!(refused, "{error}");
            assert!(error.to_string().contains("port for nodes"), "{error}");
            return;
        }
    }
    panic!("the client was not refused");
}

#[test]
fn nothing_is_kept_before_connect() {
    let limits = Limits::default();
    let shaken = || {
        let mut acceptor = LinkSession::accept(&limits, 2);
        let mut client = ClientHandshake::new(1);
        heard(&mut acceptor, &client.hello(), usize::MAX).unwrap();
        let answer: Vec<u8> = std::iter::from_fn(|| acceptor.take_output()).flatten().collect();
        let HandshakeProgress::Reply(c2) = client.receive(&mut &answer[..]).unwrap() else {
            panic!("no C2")
        };
        heard(&mut acceptor, &c2, usize::MAX).unwrap();
        acceptor
    };
    let mut publish = BytesMut::new();
    reply::call(&mut publish, "publish", 0.0, &[Value::Null, Value::text("live/one")]);
    let header = MessageHeader {
        timestamp: Timestamp(0),
        length: 0,
        kind: MessageType::CommandAmf0,
        message_stream: 9,
    };
    let mut bytes = BytesMut::new();
    write_message(&mut bytes, 3, &header, &publish, 128);
    let error = heard(&mut shaken(), &bytes, usize::MAX).unwrap_err();
    assert!(matches!(error, SessionError::NotConnected { .. }), "{error}");
    // Media and data are passed over.
    let mut acceptor = shaken();
    let mut bytes = BytesMut::new();
    let payload = [0xaf; 100];
    let header = MessageHeader { kind: MessageType::Audio, ..header };
    write_message(&mut bytes, 4, &header, &payload, 128);
    let found = heard(&mut acceptor, &bytes, usize::MAX).unwrap();
    assert_eq!(found, ["Unusable { message_stream: 9 }"]);
    assert_eq!(acceptor.partial_bytes(), 0);
}

#[test]
fn what_nodes_tell_each_other_is_as_long_as_they_agreed() {
    let limits = Limits { data_bytes_max: 1_000, ..Limits::default() };
    for (bytes, fits) in [(limits.cluster_message_bytes_max, true), (70_000, false)] {
        let mut dialler = LinkSession::dial(&limits, 1);
        let mut acceptor = LinkSession::accept(&limits, 2);
        exchange(&mut dialler, &mut acceptor, usize::MAX);
        acceptor.expect_media();
        for message_stream in [0, 9] {
            dialler.say(message_stream, &vec![1; bytes]);
            let there: Vec<u8> = std::iter::from_fn(|| dialler.take_output()).flatten().collect();
            match heard(&mut acceptor, &there, usize::MAX) {
                Ok(heard) => assert!(fits && heard.len() == 1, "{bytes}: {heard:?}"),
                Err(SessionError::NodeMessageTooLong { .. }) => assert!(!fits, "{bytes}"),
                Err(error) => panic!("{bytes}: {error}"),
            }
        }
    }
}

#[test]
fn who_has_proven_nothing_says_no_more_than_clients_may() {
    let limits = Limits { messages_per_second_max: 50, ..Limits::default() };
    for trusted in [false, true] {
        let mut dialler = LinkSession::dial(&limits, 1);
        let mut acceptor = LinkSession::accept(&limits, 2);
        exchange(&mut dialler, &mut acceptor, usize::MAX);
        if trusted {
            acceptor.trust();
        }
        for _ in 0..100 {
            dialler.say(0, b"hello");
            acceptor.say(0, b"hello");
        }
        let there: Vec<u8> = std::iter::from_fn(|| dialler.take_output()).flatten().collect();
        assert_eq!(heard(&mut acceptor, &there, usize::MAX).is_ok(), trusted);
        let back: Vec<u8> = std::iter::from_fn(|| acceptor.take_output()).flatten().collect();
        assert!(heard(&mut dialler, &back, usize::MAX).is_ok(), "who was dialled was listed");
    }
}

/// The bytes of version 1, of one end.
fn version_1(end: &str) -> Vec<u8> {
    let text = include_str!("link_version_1.txt");
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, hex) = lines.find(|(known, _)| *known == end).expect(end);
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// Two ends behind their handshakes, and what each has said since: all that nodes say on a link.
fn spoken() -> ([LinkSession; 2], [Vec<u8>; 2]) {
    const HANDSHAKE: usize = 1 + 2 * 1_536;
    let limits = Limits::default();
    let mut ends = [LinkSession::dial(&limits, 1), LinkSession::accept(&limits, 2)];
    let mut said = [Vec::new(), Vec::new()];
    let mut heard_of = |ends: &mut [LinkSession; 2]| loop {
        let mut quiet = true;
        for (from, to) in [(0, 1), (1, 0)] {
            let bytes: Vec<u8> =
                std::iter::from_fn(|| ends[from].take_output()).flatten().collect();
            quiet &= bytes.is_empty();
            heard(&mut ends[to], &bytes, usize::MAX).unwrap();
            said[from].extend(bytes);
        }
        if quiet {
            return;
        }
    };
    heard_of(&mut ends);
    let [dialler, acceptor] = &mut ends;
    dialler.say(0, b"hello");
    acceptor.say(0, b"challenge");
    acceptor.expect_media();
    dialler.publish(9, "live/one");
    dialler.say(9, b"at");
    acceptor.say(9, b"take");
    heard_of(&mut ends);
    said[0].extend(sent());
    let [dialler, acceptor] = &mut ends;
    acceptor.refuse_stream(10);
    dialler.close_stream(9);
    said[0].extend(std::iter::from_fn(|| dialler.take_output()).flatten());
    said[1].extend(std::iter::from_fn(|| acceptor.take_output()).flatten());
    for end in &mut said {
        end.drain(..HANDSHAKE);
    }
    let fresh = [LinkSession::dial(&limits, 3), LinkSession::accept(&limits, 4)];
    (fresh, said)
}

fn sent() -> Vec<u8> {
    let video = [&[0x17, 1, 0, 0, 0][..], &[7; 70]].concat();
    [media(9, MediaKind::Video, &video), media(9, MediaKind::Audio, &[0xaf, 1, 2])].concat()
}

/// What crosses a link behind the handshake of RTMP is written as ever, and read.
#[test]
fn the_bytes_of_a_link_of_version_1_are_read_and_written_as_ever() {
    let ([mut dialler, mut acceptor], said) = spoken();
    let text = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let recorded = ["dialler", "acceptor"].map(|end| text(&version_1(end)));
    assert_eq!(said.map(|bytes| text(&bytes)), recorded);
    // Their handshakes, without what comes behind these.
    let take = |end: &mut LinkSession| -> Vec<u8> {
        std::iter::from_fn(|| end.take_output()).flatten().collect()
    };
    let hello = take(&mut dialler);
    heard(&mut acceptor, &hello, usize::MAX).unwrap();
    let answer = take(&mut acceptor);
    heard(&mut dialler, &answer, usize::MAX).unwrap();
    let last = take(&mut dialler);
    heard(&mut acceptor, &last[..1_536], usize::MAX).unwrap();
    acceptor.expect_media();
    assert_eq!(
        heard(&mut acceptor, &version_1("dialler"), 5).unwrap(),
        [
            "Open",
            r#"Data { message_stream: 0, payload: b"hello" }"#,
            r#"Publish { message_stream: 9, name: b"live/one" }"#,
            r#"Data { message_stream: 9, payload: b"at" }"#,
            "media 9 Video at 40 of 75",
            "media 9 Audio at 40 of 3",
            "Close { message_stream: 9 }",
        ]
    );
    assert_eq!(
        heard(&mut dialler, &version_1("acceptor"), 5).unwrap(),
        [
            r#"Data { message_stream: 0, payload: b"challenge" }"#,
            r#"Data { message_stream: 9, payload: b"take" }"#,
            "Unwanted { message_stream: 10 }",
        ]
    );
}
