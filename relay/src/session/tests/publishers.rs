//! Publishers against a server: replies, order, what becomes of media, the ways to end.

use super::*;
use crate::wire::testing::{bytes, every_split};

const PUBLISHING: &str = "handshake\nconnect live\npublish 1 live/s\n";

const START: &str = "5/1 onStatus 0 null {level=status, code=NetStream.Publish.Start, \
    description=Start publishing}";

fn publishing() -> Script {
    Script::connected("live").create_stream().publish(1, "s")
}

#[track_caller]
fn check_publishing(script: Script, events: &str, said: &str) -> Server {
    let events = format!("{PUBLISHING}{events}");
    let said = format!("{CONNECTED}3/0 _result 4 null 1\n{START}\n{said}");
    check(script, &events, &said)
}

#[test]
fn replies_are_exact_to_the_byte() {
    let mut server = Server::new();
    server.feed(&publishing().out).unwrap();
    let expected = bytes(
        "02 000000 000004 05 00000000 002625A0
         02 000000 000005 06 00000000 002625A0 02
         02 000000 000004 01 00000000 0000EA60
         03 000000 0000BF 14 00000000
         02 0007 5F726573756C74 00 3FF0000000000000
         03 0006 666D73566572 02 000E 464D532F332C352C372C37303039
            000C 6361706162696C6974696573 00 403F000000000000 000009
         03 0005 6C6576656C 02 0006 737461747573
            0004 636F6465 02 001D 4E6574436F6E6E656374696F6E2E436F6E6E6563742E53756363657373
            000B 6465736372697074696F6E 02 0015 436F6E6E656374696F6E207375636365656465642E
            000E 6F626A656374456E636F64696E67 00 0000000000000000 000009
         03 000000 00001D 14 00000000
         02 0007 5F726573756C74 00 4010000000000000 05 00 3FF0000000000000
         05 000000 000069 14 01000000
         02 0008 6F6E537461747573 00 0000000000000000 05
         03 0005 6C6576656C 02 0006 737461747573
            0004 636F6465 02 0017 4E657453747265616D2E5075626C6973682E5374617274
            000B 6465736372697074696F6E 02 0010 5374617274207075626C697368696E67 000009",
    );
    assert_eq!(server.output.split_off(3073), expected);
}

#[test]
fn connect_is_answered_in_one_write_and_only_after_the_verdict() {
    let mut server = Server::new();
    server.manual = true;
    server.feed(&Script::connected("live").out).unwrap();
    assert_lines(&server.events, "handshake\nconnect live");
    assert_eq!(server.output.len(), 3073, "nothing but the handshake");
    assert!(server.session.is_waiting());
    server.session.accept_connect();
    assert!(!server.session.is_waiting());
    let written = server.session.take_output().unwrap();
    assert_lines(&show_messages(&written), CONNECTED);
    assert_eq!(server.session.take_output(), None);
}

#[test]
fn every_split_of_a_publishers_bytes_gives_the_same() {
    let script = publishing().metadata(1).video(1).named(0, "FCUnpublish", 6.0, "s");
    let run = |pieces: &[&[u8]]| {
        let mut server = Server::new();
        for piece in pieces {
            server.feed(piece).unwrap();
        }
        (server.events, server.output)
    };
    let whole = run(&[&script.out]);
    // The handshake has splits of its own, tested where it is.
    let (handshake, rest) = script.out.split_at(3073);
    every_split(rest, |pieces| {
        let pieces: Vec<&[u8]> = [handshake].into_iter().chain(pieces.iter().copied()).collect();
        assert_eq!(run(&pieces), whole);
    });
}

#[test]
fn media_comes_through_in_order() {
    let script = publishing()
        .metadata(1)
        .message(6, 1, 9, &[0x17, 0, 0, 0, 0, 1])
        .message(4, 1, 8, &[0xaf, 0, 0x12, 0x10])
        .video(1)
        .message(4, 1, 8, &[0xaf, 1, 0])
        .message(4, 1, 8, &[])
        .message(6, 1, 9, &[0x27, 1, 0, 0, 0])
        .message(4, 1, 18, &bytes("02 0006 6F6E54657874 05"))
        .message(4, 1, 15, &bytes("00 02 0006 6F6E54657874 05"))
        .message(4, 1, 18, &bytes("02 000F 40636C656172446174614672616D65"));
    let events = "Metadata 1 37 B
        VideoHeader 1 6 B
        AudioHeader 1 4 B
        KeyFrame 1 5 B
        AudioFrame 1 3 B
        AudioFrame 1 0 B
        InterFrame 1 5 B
        Data 1 10 B
        Data 1 10 B
        clear 1";
    check_publishing(script, events, "");
}

#[test]
fn what_cannot_be_used_is_dropped_and_counted() {
    let script = Script::connected("live")
        .video(1)
        .metadata(1)
        .message(6, 1, 22, &[])
        .create_stream()
        .publish(1, "s")
        .message(4, 1, 18, &[0, 0, 0, 0])
        .message(4, 1, 18, &vec![0; 300_000])
        .message(4, 1, 16, &[1, 2, 3])
        .message(4, 1, 7, &[1, 2, 3])
        .message(4, 1, 99, &[])
        .message(6, 1, 9, &[])
        .message(6, 1, 9, &[0x17])
        .message(3, 0, 20, &[0, 1, 2])
        .message(3, 0, 4, &[0, 26, 1]);
    let mut server = Server::new();
    server.feed(&script.out).unwrap();
    assert_lines(
        &server.events,
        "handshake
        connect live
        dropped not_publishing
        dropped not_publishing
        dropped not_publishing
        publish 1 live/s
        dropped bad_data
        dropped data_too_long
        dropped shared_object
        dropped unknown_type
        dropped unknown_type
        dropped empty_media
        dropped empty_media
        dropped bad_command",
    );
}

#[test]
fn aggregates_are_split() {
    let aggregate = bytes(
        "09 000005 000064 00 000001 1701000000 00000010
         08 000003 00006E 00 000001 AF0100 0000000E
         12 000009 00006F 00 000001 02 0006 6F6E54657874 00000014
         16 000001 000000 00 000001 00 0000000C
         09 000001 000000 00 000001 17 0000000C
         09 0000FF",
    );
    let mut server = Server::new();
    server.feed(&publishing().message(6, 1, 22, &aggregate).video(1).out).unwrap();
    let events = "
        dropped bad_aggregate
        KeyFrame 1 5 B
        AudioFrame 1 3 B
        Data 1 9 B
        dropped empty_media
        KeyFrame 1 5 B";
    assert_lines(&server.events, &format!("{PUBLISHING}{events}"));
}

#[test]
fn media_with_a_wrong_message_stream_belongs_to_the_only_publisher() {
    check_publishing(publishing().video(0).video(9), "KeyFrame 1 5 B\nKeyFrame 1 5 B", "");
    // With two there is no telling.
    let script = publishing().create_stream().publish(2, "t").video(2).video(1).video(0);
    let second = START.replace("5/1", "5/2");
    check_publishing(
        script,
        "publish 2 live/t\nKeyFrame 2 5 B\nKeyFrame 1 5 B\ndropped not_publishing",
        &format!("3/0 _result 4 null 2\n{second}"),
    );
    // Nor can a message stream that plays publish.
    let script = publishing().create_stream().play(2, "t").video(2);
    let mut server = Server::new();
    server.feed(&script.out).unwrap();
    assert_lines(&server.events, &format!("{PUBLISHING}play 2 live/t\nKeyFrame 1 5 B"));
}

#[test]
fn publishing_ends_in_any_of_four_ways() {
    const ENDED: &str = "5/1 onStatus 0 null {level=status, code=NetStream.Unpublish.Success, \
        description=Stopped publishing}";
    let end = "end publish 1";
    check_publishing(
        publishing().named(0, "FCUnpublish", 6.0, "s"),
        end,
        &format!(
            "3/0 onFCUnpublish 0 null {{code=NetStream.Unpublish.Success, description=s}}
            3/0 _result 6 null undefined
            {ENDED}"
        ),
    );
    let number = [Value::Null, Value::Number(1.0)];
    check_publishing(publishing().call(3, 0, "deleteStream", 7.0, &number), end, "");
    // GStreamer gives the name.
    check_publishing(publishing().named(0, "deleteStream", 7.0, "s"), end, "");
    check_publishing(publishing().call(3, 1, "closeStream", 0.0, &[Value::Null]), end, ENDED);
    let stop = [Value::Null, Value::Boolean(false)];
    check_publishing(publishing().call(8, 1, "publish", 0.0, &stop), end, ENDED);
    // Another message stream is not meant.
    let number = [Value::Null, Value::Number(2.0)];
    check_publishing(publishing().call(3, 0, "deleteStream", 7.0, &number), "", "");
    check_publishing(publishing().call(3, 2, "closeStream", 0.0, &[Value::Null]), "", "");
}

#[test]
fn a_message_stream_can_publish_again() {
    let script = publishing()
        .call(3, 1, "closeStream", 0.0, &[Value::Null])
        .video(1)
        .publish(1, "t")
        .video(1)
        .named(0, "FCUnpublish", 0.0, "t")
        .publish(1, "u");
    let mut server = Server::new();
    server.feed(&script.out).unwrap();
    assert_lines(
        &server.events,
        &format!(
            "{PUBLISHING}
            end publish 1
            dropped not_publishing
            publish 1 live/t
            KeyFrame 1 5 B
            end publish 1
            publish 1 live/u"
        ),
    );
    assert_eq!(server.session.state(), SessionState::Publishing);
}

#[test]
fn a_second_publish_on_a_message_stream_is_refused_and_the_first_goes_on() {
    let script = publishing().publish(1, "t").video(1).play(1, "t").video(1);
    let server = check_publishing(
        script,
        "KeyFrame 1 5 B\nKeyFrame 1 5 B",
        "5/1 onStatus 0 null {level=error, code=NetStream.Publish.BadName, \
            description=The message stream is in use}
        5/1 onStatus 0 null {level=error, code=NetStream.Play.Failed, \
            description=The message stream is in use}",
    );
    assert!(!server.session.wants_close());
}

#[test]
fn fc_unpublish_finds_its_stream_by_name() {
    let two = || publishing().create_stream().publish(2, "t");
    let run = |script: Script| {
        let mut server = Server::new();
        server.feed(&script.out).unwrap();
        server.events.lines().last().unwrap().to_owned()
    };
    assert_eq!(run(two().named(0, "FCUnpublish", 0.0, "s?x=y")), "end publish 1");
    assert_eq!(run(two().named(0, "FCUnpublish", 0.0, "t")), "end publish 2");
    assert_eq!(run(two().named(0, "FCUnpublish", 0.0, "other")), "publish 2 live/t");
    assert_eq!(run(two().named(0, "FCUnpublish", 0.0, "")), "publish 2 live/t");
    let own = |script: Script, stream| script.named(stream, "FCUnpublish", 0.0, "other");
    assert_eq!(run(own(two(), 2)), "end publish 2");
    assert_eq!(run(own(two(), 1)), "end publish 1");
    assert_eq!(run(own(publishing(), 0)), "end publish 1");
}

#[test]
fn fc_unpublish_of_a_stream_that_ended_ends_no_other() {
    let two = || publishing().create_stream().publish(2, "t");
    let number = [Value::Null, Value::Number(1.0)];
    for (ended, end) in [
        (two().call(3, 1, "closeStream", 0.0, &[Value::Null]), "end publish 1"),
        (two().call(3, 0, "deleteStream", 0.0, &number), "end publish 1"),
        (two().named(0, "FCUnpublish", 0.0, "s"), "end publish 1"),
    ] {
        let mut server = Server::new();
        server.feed(&ended.named(0, "FCUnpublish", 0.0, "s").out).unwrap();
        assert_eq!(server.events.lines().last(), Some(end));
        assert_eq!(server.session.state(), SessionState::Publishing);
    }
}

#[test]
fn publish_waits_for_its_verdict_and_loses_nothing() {
    let mut server = Server::new();
    server.feed(&Script::connected("live").create_stream().out).unwrap();
    server.manual = true;
    let mut more = Script::new().publish(1, "s").metadata(1).video(1);
    server.feed(&more.out.split_off(3073)).unwrap();
    assert!(server.session.is_waiting());
    let kept = server.kept.len();
    assert!(kept > 0);
    let mut later = Script::new().video(1);
    server.feed(&later.out.split_off(3073)).unwrap();
    assert!(server.kept.len() > kept, "more waits, nothing is consumed");
    assert_eq!(server.events.lines().last(), Some("publish 1 live/s"));
    server.session.accept_publish(1);
    server.feed(&[]).unwrap();
    let events: Vec<_> = server.events.lines().skip(3).collect();
    assert_eq!(events, ["Metadata 1 37 B", "KeyFrame 1 5 B", "KeyFrame 1 5 B"]);
}

#[test]
fn refusals_say_why_and_close() {
    #[track_caller]
    fn check(code: PublishRefusalCode, expected: &str) {
        let mut server = Server::new();
        server.feed(&Script::connected("live").create_stream().out).unwrap();
        server.said();
        server.manual = true;
        let mut more = Script::new().publish(1, "s").video(1).create_stream();
        server.feed(&more.out.split_off(3073)).unwrap();
        let refusal = PublishRefusal { code, description: "because".into() };
        server.session.reject_publish(2, &refusal);
        assert!(server.session.is_waiting(), "another message stream is not meant");
        server.session.reject_publish(1, &refusal);
        assert!(server.session.wants_close());
        assert_eq!(server.session.state(), SessionState::Closing);
        server.feed(&[]).unwrap();
        assert!(server.kept.is_empty(), "what comes after is consumed");
        assert_lines(
            &server.said(),
            &format!("5/1 onStatus 0 null {{level=error, code={expected}, description=because}}"),
        );
        assert_eq!(server.events.lines().last(), Some("publish 1 live/s"), "and not looked at");
        assert_eq!(server.session.next_deadline(), None);
    }
    check(PublishRefusalCode::BadName, "NetStream.Publish.BadName");
    check(PublishRefusalCode::Denied, "NetStream.Publish.Denied");
    check(PublishRefusalCode::Rejected, "NetStream.Publish.Rejected");
}

#[test]
fn a_name_that_cannot_be_is_refused_at_once() {
    let mut server = check(
        Script::connected("live").create_stream().publish(1, "a..b").video(1),
        "handshake\nconnect live\ndropped bad_name",
        &format!(
            "{CONNECTED}3/0 _result 4 null 1
            5/1 onStatus 0 null {{level=error, code=NetStream.Publish.BadName, \
description=the stream name holds characters that are not allowed}}"
        ),
    );
    assert!(server.session.wants_close());
    assert_lines(&server.said(), "");
    // An empty name is taken from the end of the application (GoPro).
    let mut server = Server::new();
    server.feed(&Script::connected("live/key").create_stream().publish(1, "").out).unwrap();
    assert_eq!(server.events.lines().last(), Some("publish 1 live/key"));
}

#[test]
fn a_publisher_is_told_that_it_was_ended() {
    #[track_caller]
    fn check(reason: PublishEnd, expected: &str) {
        let mut server = Server::new();
        server.feed(&publishing().out).unwrap();
        server.said();
        server.session.publish_ended_by_server(2, reason.clone());
        assert!(!server.session.wants_close(), "another message stream is not meant");
        server.session.publish_ended_by_server(1, reason);
        assert!(server.session.wants_close());
        server.feed(&[]).unwrap();
        let said = server.said();
        assert!(said.contains(expected), "{said}");
        assert_eq!(said.lines().count(), 1);
    }
    check(PublishEnd::TakenOver, "level=error, code=NetStream.Publish.BadName");
    let stopped = PublishEnd::Stopped("As a rule says".into());
    check(stopped, "level=error, code=NetStream.Publish.Rejected");
    check(PublishEnd::Draining, "level=status, code=NetStream.Unpublish.Success");
}

#[test]
fn acknowledgements_come_at_half_the_window() {
    let mut server = Server::new();
    server.feed(&publishing().out).unwrap();
    server.said();
    let mut frame = vec![0x27, 1, 0, 0, 0];
    frame.resize(100_000, 0);
    let chunks = ControlMessage::SetChunkSize(65_536);
    let script = Script::new().control(chunks).message(6, 1, 9, &frame);
    let frame = &script.out[3073..];
    // Without a word from the client, the window is 2,500,000 bytes.
    let mut sent = 0;
    while sent + frame.len() < 1_200_000 {
        server.feed(frame).unwrap();
        sent += frame.len();
    }
    assert_lines(&server.said(), "");
    while server.session.bytes_received() < 1_250_000 {
        server.feed(frame).unwrap();
    }
    let received = server.session.bytes_received();
    assert_lines(&server.said(), &format!("2/0 Acknowledgement {{ sequence: {received} }}"));
    // A client that wants more than we are willing to say is told at 32 KiB.
    let mut window = Script::new().control(ControlMessage::WindowAckSize(1));
    server.feed(&window.out.split_off(3073)).unwrap();
    let mut said = 0;
    for piece in frame.chunks(1_000) {
        server.feed(piece).unwrap();
        said += server.said().lines().count();
    }
    assert_eq!(said, 5, "after 17 pieces each, which is where 16 KiB are full");
}
