//! What a server must stand from peers that mean it ill or are broken: every limit at the place
//! where its number first appears, what closes a connection, and what must not.

use std::time::Duration;

use bytes::BytesMut;
use relay::limits::Limits;
use relay::wire::amf::Value;
use relay::wire::amf0::write_value;
use relay::wire::control::{ControlMessage, UserControl};

use crate::support::script::{Script, call, hex, publishing};
use crate::support::server::{Server, served};

/// The client's bytes end the connection with this sentence, without its memory having grown.
#[track_caller]
fn check_closed(script: &Script, sentence: &str) {
    for piece_bytes in [1_000_000, 1_000] {
        let mut server = Server::new();
        let mut result = Ok(());
        for piece in script.out.chunks(piece_bytes) {
            result = server.feed(piece);
            if result.is_err() {
                break;
            }
        }
        assert_eq!(result.unwrap_err().to_string(), sentence, "in pieces of {piece_bytes}");
        assert!(server.session.partial_bytes() <= 24 << 20);
    }
}

/// The client's bytes end nothing: a frame behind them arrives.
#[track_caller]
fn check_survived(script: Script) -> Server {
    let server = served(&script.audio(4_242, &hex("AF 01 77")));
    assert_eq!(server.media.last(), Some(&(4_242, hex("AF 01 77"))), "{:?}", server.events);
    assert!(!server.session.wants_close());
    server
}

#[test]
fn declared_lengths_hold_no_memory() {
    let mut script = publishing();
    for chunk_stream in 3..60_u8 {
        script = script.raw(&[chunk_stream]).hex("000000 FFFFFF 09 01000000").raw(&[0x17; 128]);
    }
    let server = served(&script);
    assert_eq!(server.session.partial_bytes(), 57 * 128);
}

#[test]
fn unfinished_messages_are_bounded_together() {
    // Before publish 256 KiB, afterwards 24 MiB.
    let big = |script: Script, count: u8, bytes: usize| {
        let size = u32::try_from(bytes).unwrap();
        let mut script = script.control(ControlMessage::SetChunkSize(size));
        for chunk_stream in 10..10 + count {
            script = script.raw(&[chunk_stream]).hex("000000 FFFFFE 09 01000000");
            script = script.raw(&vec![0; bytes]);
        }
        script
    };
    let before = big(Script::plain().connect_encoder("live"), 5, 64 * 1024);
    check_closed(&before, "unfinished messages hold more than 262144 bytes");
    let after = big(publishing(), 5, 6 << 20);
    check_closed(&after, "unfinished messages hold more than 25165824 bytes");
}

#[test]
fn chunk_stream_ids_are_counted() {
    let mut script = publishing();
    for chunk_stream in 64..140_u8 {
        script = script.raw(&[0, chunk_stream - 64]).hex("000000 000001 63 01000000 00");
    }
    check_closed(&script, "more than 64 chunk streams");
}

#[test]
fn long_messages_in_tiny_chunks_are_refused_when_they_begin() {
    let sentence = "a message of 65537 bytes in chunks of 63; at most 65536 are taken";
    let tiny = publishing().control(ControlMessage::SetChunkSize(63));
    check_closed(&tiny.clone().hex("06 000000 010001 09 01000000"), sentence);
    check_closed(&tiny.clone().hex("06 000000 010001 63 01000000"), sentence);
    let just = [&hex("17 01 000000")[..], &[5; 65_531]].concat();
    assert_eq!(check_survived(tiny.video(0, &just)).media[0].1, just);
    let at_64 = publishing().control(ControlMessage::SetChunkSize(64));
    let longer = [&hex("17 01 000000")[..], &[5; 65_532]].concat();
    assert_eq!(check_survived(at_64.video(0, &longer)).media[0].1, longer);
}

#[test]
fn a_chunk_size_that_shrinks_under_a_long_message_is_refused() {
    let begun = publishing().hex("06 000000 020000 09 01000000").raw(&[0x17; 128]);
    let sentence = "a message of 130944 bytes in chunks of 1; at most 65536 are taken";
    check_closed(&begun.control(ControlMessage::SetChunkSize(1)), sentence);
    // Nor does the next message of the same length go unseen, when it begins with fmt 3.
    let begun = publishing()
        .control(ControlMessage::SetChunkSize(131_072))
        .hex("06 000000 020000 09 01000000")
        .raw(&[0x17; 131_072])
        .control(ControlMessage::SetChunkSize(1))
        .hex("C6 17");
    let sentence = "a message of 131072 bytes in chunks of 1; at most 65536 are taken";
    check_closed(&begun, sentence);
}

#[test]
fn windows_pings_and_empty_messages_cannot_make_us_talk() {
    let mut script = publishing().control(ControlMessage::WindowAckSize(1));
    for _ in 0..1_000 {
        script = script.audio(0, &[]);
    }
    let mut server = served(&script);
    let acks = server.said().iter().filter(|line| line.contains("Acknowledgement")).count();
    assert!(acks <= 1, "{acks} acknowledgements of 12 KB");
    let ping = ControlMessage::UserControl(UserControl::PingRequest { time: 1 });
    let mut flood = Script::empty();
    for _ in 0..1_000 {
        flood = flood.control(ping);
    }
    server.now = Duration::from_secs(5);
    server.feed(&flood.out).unwrap();
    let said = server.said();
    let answers = said.iter().filter(|line| line.contains("PingResponse")).count();
    assert_eq!(answers, 10, "answers to pings: {said:?}");
    let mut flood = publishing();
    for _ in 0..20_001 {
        flood = flood.audio(0, &[]);
    }
    let error = Server::new().feed(&flood.out).unwrap_err();
    assert_eq!(error.to_string(), "more than 20000 messages within a second");
}

#[test]
fn aggregates_are_bounded_and_never_unfolded_twice() {
    // Empty audio messages, 15 bytes each.
    let part = hex("08 000000 000000 00 000000 0000000B");
    let server = check_survived(publishing().message(6, 1, 0, 22, &part.repeat(5_000)));
    assert_eq!(server.media.len(), 4_096 + 1);
    assert!(server.events.contains(&"dropped bad_aggregate".to_owned()));
    let inner = [&hex("16 00000F 000000 00 000000")[..], &part, &hex("0000001A")].concat();
    assert_eq!(check_survived(publishing().message(6, 1, 0, 22, &inner)).media.len(), 1);
    let cut = hex("09 FFFFFF 000000 00 000000 17");
    assert_eq!(check_survived(publishing().message(6, 1, 0, 22, &cut)).media.len(), 1);
}

/// `onMetaData` with this behind the name.
fn data(body: &[u8]) -> Script {
    publishing().message(5, 1, 0, 18, &[&hex("02 000A 6F6E4D65746144617461")[..], body].concat())
}

#[test]
fn amf_bombs_do_no_harm() {
    // Nested objects, a strict array that claims 2^32 elements, and very many values.
    check_survived(data(&hex("03 0001 61").repeat(10_000)));
    check_survived(data(&hex("0A FFFFFFFF")));
    let many = [&hex("0A 00002710")[..], &[5; 10_000]].concat();
    check_survived(data(&many));
    let nested = [&b"\x02\x00\x05hello"[..], &hex("0A 00000001").repeat(5_000)].concat();
    check_survived(publishing().message(5, 1, 0, 18, &nested));
    // In connect they are a fault.
    let mut object = Value::Null;
    for _ in 0..20 {
        object = Value::Object(vec![(b"app", object)]);
    }
    let script = Script::plain().call(3, 0, "connect", 1.0, &[object]);
    check_closed(&script, "connect cannot be read: AMF values are nested too deeply");
}

#[test]
fn strings_of_connect_have_their_lengths() {
    let long = "x".repeat(5_000);
    let connect = |key, value| Script::plain().connect(&[("app", Value::text("a")), (key, value)]);
    let url = connect("tcUrl", Value::text(&long[..2_049]));
    check_closed(&url, "tcUrl of connect is longer than 2048 bytes");
    let page = connect("pageUrl", Value::text(&long[..4_097]));
    check_closed(&page, "a string of connect is longer than 4096 bytes");
    for app in [&long[..257], "a\nb", "a/../b"] {
        let mut server = served(&Script::plain().connect_encoder(app));
        assert!(server.said().last().unwrap().contains("NetConnection.Connect.InvalidApp"));
        assert!(server.session.wants_close());
    }
    for name in [&long[..513], "a\tb", "..", ""] {
        let script = Script::plain().connect_encoder("live").create_stream(2.0).publish(1, name);
        let mut server = served(&script);
        assert!(server.said().last().unwrap().contains("NetStream.Publish.BadName"), "{name}");
        assert!(server.session.wants_close());
    }
}

#[test]
fn commands_and_data_have_their_lengths() {
    let command = publishing().message(3, 0, 0, 20, &vec![0; 65_537]);
    check_closed(&command, "a message of type 20 with 65537 bytes; at most 65536 are taken");
    let mut long = BytesMut::new();
    write_value(&mut long, &Value::String(&vec![b'x'; 256 * 1024]));
    check_survived(data(&long));
    check_survived(publishing().message(5, 1, 0, 16, &vec![1; 1 << 20]));
    check_survived(publishing().message(5, 1, 0, 19, &vec![1; 1 << 20]));
    check_survived(publishing().message(5, 1, 0, 77, &vec![1; 1 << 20]));
}

#[test]
fn message_streams_are_counted() {
    let mut script = Script::plain().connect_encoder("live");
    for transaction in 2..=18 {
        script = script.create_stream(f64::from(transaction));
    }
    check_closed(&script, "more than 16 message streams on one connection");
}

#[test]
fn replies_that_nobody_reads_are_bounded() {
    // The session's owner takes no output.
    let limits = Limits { output_bytes_max: 8 * 1024, ..Limits::default() };
    let mut server = Server::with(limits);
    let mut script = Script::plain().connect_encoder("live");
    for transaction in 2..2_000 {
        script = script.call(3, 0, "whatever", f64::from(transaction), &[Value::Null]);
    }
    let error = server.feed(&script.out).unwrap_err();
    assert_eq!(error.to_string(), "more than 8192 bytes of replies wait to be sent");
}

#[test]
fn errors_that_close() {
    let connected = || Script::plain().connect_encoder("live");
    check_closed(&Script::empty().raw(&[4]), "the first byte is 0x04, not RTMP version 3");
    for version in [6, 8, 9] {
        let sentence = format!("the peer asks for encrypted RTMP (RTMPE, version {version})");
        check_closed(&Script::empty().raw(&[version]), &sentence);
    }
    check_closed(&connected().hex("87 000000"), "chunk stream 7 starts with a header of format 2");
    check_closed(&connected().hex("C7"), "chunk stream 7 starts with a header of format 3");
    let inside = connected().hex("06 000000 000100 09 01000000").raw(&[0; 128]).hex("06");
    let sentence = "chunk stream 6: a new message header inside an unfinished message";
    check_closed(&inside, sentence);
    for size in ["00000000", "80000000", "FFFFFFFF"] {
        let script = connected().hex("02 000000 000004 01 00000000").hex(size);
        let value = u32::from_str_radix(size, 16).unwrap();
        check_closed(&script, &format!("chunk size {value:#x} is not allowed"));
    }
    for (command, body) in [("publish", "0000 0000"), ("play", "04")] {
        let payload = [&call(command, 1.0, &[Value::Null])[..], &hex(body)[..1]].concat();
        let error = served_error(&connected().message(8, 1, 0, 20, &payload));
        assert!(error.starts_with(&format!("{command} cannot be read")), "{error}");
    }
}

fn served_error(script: &Script) -> String {
    Server::new().feed(&script.out).unwrap_err().to_string()
}

#[test]
fn errors_that_do_not_close() {
    check_survived(data(&[0xFF; 40]));
    check_survived(publishing().call(3, 0, "noSuchCall", 9.0, &[Value::Null]));
    check_survived(publishing().message(3, 0, 0, 20, &[0xFF; 10]));
    check_survived(publishing().message(3, 0, 0, 7, &[0; 4]));
    check_survived(publishing().message(2, 0, 0, 4, &hex("0063 00000000")));
    check_survived(publishing().video(0, &hex("FF FF FF")).video(0, &hex("91 7A7A7A7A 00")));
    check_survived(publishing().audio(9_000, &hex("AF 01 00")).audio(5, &hex("AF 01 00")));
    let more = [Value::Null, Value::text("t"), Value::text("live"), Value::Number(1.0)];
    check_survived(publishing().call(3, 0, "releaseStream", 3.0, &more));
}
