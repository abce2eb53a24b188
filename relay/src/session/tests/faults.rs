//! What ends a session: each fault with its label, limits, and time running out.

use super::*;
use crate::wire::testing::bytes;

#[track_caller]
fn check(script: Script, reason: &str, sentence: &str) {
    check_limited(script, Limits::default(), reason, sentence);
}

#[track_caller]
fn check_limited(script: Script, limits: Limits, reason: &str, sentence: &str) {
    let mut server = Server::with(limits);
    let error = server.feed(&script.out).expect_err("a fault");
    assert_eq!((error.reason(), error.to_string().as_str()), (reason, sentence));
}

fn raw(text: &str) -> Script {
    Script { out: bytes(text).as_slice().into(), chunk_size: 128 }
}

fn after_handshake(text: &str) -> Script {
    let mut script = Script::new();
    script.out.extend_from_slice(&bytes(text));
    script
}

#[test]
fn a_handshake_of_another_kind() {
    check(raw("06"), "rtmpe", "the peer asks for encrypted RTMP (RTMPE, version 6)");
    check(raw("47455420"), "bad_version", "the first byte is 0x47, not RTMP version 3");
}

#[test]
fn chunks_that_cannot_be_followed() {
    let sentence = "chunk stream 3 starts with a header of format 3";
    check(after_handshake("C3"), "chunk", sentence);
    let mut script = Script::connected("live");
    script.out.extend_from_slice(&bytes("A1 000000"));
    check(script, "chunk", "chunk stream 33 starts with a header of format 2");
    let script = Script::connected("live").message(2, 0, 1, &[0, 0, 0, 0]);
    check(script, "chunk", "chunk size 0x0 is not allowed");
    let script = Script::connected("live").message(2, 0, 1, &[0x80, 0, 0, 1]);
    check(script, "chunk", "chunk size 0x80000001 is not allowed");
    let script = Script::connected("live").message(2, 0, 1, &[0]);
    check(script, "protocol", "a control message of type 1 with 1 bytes");
}

#[test]
fn commands_before_connect() {
    let check_early = |script: Script, command: &str| {
        check(script, "protocol", &format!("{command} came before connect"));
    };
    check_early(Script::new().create_stream(), "createStream");
    check_early(Script::new().publish(1, "s"), "publish");
    check_early(Script::new().play(1, "s"), "play");
    // Other commands and media are passed over.
    let mut server = Server::new();
    let script = Script::new().named(0, "releaseStream", 2.0, "s").video(1);
    server.feed(&script.out).unwrap();
    assert_lines(&server.events, "handshake\ndropped not_publishing");
    assert_lines(&server.said(), "");
}

#[test]
fn commands_that_cannot_be_read() {
    let garbage = bytes("00 01 02 03");
    let sentence = "a command message has no readable name";
    check(Script::new().message(3, 0, 20, &garbage), "amf", sentence);
    let connect = bytes("02 0007 636F6E6E656374 00 3FF0000000000000 03 0003");
    let sentence = "connect cannot be read: the AMF message ends inside a value";
    check(Script::new().message(3, 0, 20, &connect), "amf", sentence);
    let publish = bytes("02 0007 7075626C697368 00 3FF0000000000000 05 04");
    let sentence = "publish cannot be read: AMF marker 0x04 is not known";
    check(Script::connected("live").message(3, 1, 20, &publish), "amf", sentence);
    let script = Script::connected("live").connect(&[("app", Value::text("live"))]);
    check(script, "protocol", "connect came a second time");
}

#[test]
fn connect_strings_are_limited() {
    let long = "x".repeat(5_000);
    let url = "rtmp://h/".to_owned() + &"x".repeat(2_048);
    let script = Script::new().connect(&[("flashVer", Value::text(&long))]);
    check(script, "limit", "a string of connect is longer than 4096 bytes");
    let script = Script::new().connect(&[("tcUrl", Value::text(&url))]);
    check(script, "limit", "tcUrl of connect is longer than 2048 bytes");
    // An application that cannot be is refused in words.
    for app in ["a\nb", &long[..300]] {
        let mut server = Server::new();
        server.feed(&Script::connected(app).out).unwrap();
        assert_lines(&server.events, "handshake\ndropped bad_name");
        assert!(server.session.wants_close());
        let said = String::from_utf8_lossy(&server.output[3073..]).into_owned();
        assert!(said.contains("NetConnection.Connect.InvalidApp"), "{said}");
    }
}

#[test]
fn connect_can_be_refused() {
    #[track_caller]
    fn check(code: ConnectRefusalCode, expected: &str) {
        let mut server = Server::new();
        server.manual = true;
        server.feed(&Script::connected("live").create_stream().out).unwrap();
        server.session.reject_connect(&ConnectRefusal { code, description: "no".into() });
        assert!(server.session.wants_close());
        server.feed(&[]).unwrap();
        assert!(server.kept.is_empty());
        assert_lines(&server.events, "handshake\nconnect live");
        // The answer is in chunks of 128 bytes: nothing else was announced.
        assert_lines(
            &server.said(),
            &format!("3/0 _error 1 null {{level=error, code={expected}, description=no}}"),
        );
    }
    check(ConnectRefusalCode::Rejected, "NetConnection.Connect.Rejected");
    check(ConnectRefusalCode::InvalidApp, "NetConnection.Connect.InvalidApp");
    check(ConnectRefusalCode::Failed, "NetConnection.Connect.Failed");
    check(ConnectRefusalCode::AppShutdown, "NetConnection.Connect.AppShutdown");
}

#[test]
fn everything_has_a_limit() {
    let mut script = Script::connected("live");
    for _ in 0..17 {
        script = script.create_stream();
    }
    check(script, "limit", "more than 16 message streams on one connection");
    let mut script = Script::connected("live");
    for _ in 0..16 {
        script = script.create_stream();
    }
    // Message stream 0 can be used unasked, and is one too many.
    check(script.publish(0, "s"), "limit", "more than 16 message streams on one connection");

    let mut script = Script::connected("live");
    for _ in 0..20_001 {
        script = script.message(6, 1, 9, &[]);
    }
    check(script, "limit", "more than 20000 messages within a second");

    let mut script = Script::connected("live");
    for _ in 0..2_000 {
        script = script.create_stream().call(3, 0, "deleteStream", 0.0, &[Value::Null]);
    }
    check(script, "limit", "more than 65536 bytes of replies wait to be sent");

    let script = Script::connected("live").message(3, 0, 20, &vec![0; 65_537]);
    let sentence = "a message of type 20 with 65537 bytes; at most 65536 are taken";
    check(script, "limit", sentence);

    let mut script = Script::connected("live").control(ControlMessage::SetChunkSize(1_000_000));
    script.out.extend_from_slice(&bytes("06 000000 0F4240 09 01000000"));
    script.out.extend_from_slice(&vec![0x17; 300_000]);
    check(script, "limit", "unfinished messages hold more than 262144 bytes");

    let limits = Limits { chunk_streams_max: 1, ..Limits::default() };
    let script = Script::connected("live").video(1);
    check_limited(script, limits, "limit", "more than 1 chunk streams");
}

#[test]
fn a_publisher_may_send_large_messages_and_no_one_else() {
    let frame = vec![0x17; 1_000_000];
    let large = ControlMessage::SetChunkSize(1_000_000);
    let script = Script::connected("live")
        .create_stream()
        .publish(1, "s")
        .control(large)
        .message(6, 1, 9, &frame);
    let mut server = Server::new();
    for piece in script.out.chunks(65_536) {
        server.feed(piece).unwrap();
    }
    assert_eq!(server.events.lines().last(), Some("KeyFrame 1 1000000 B"));
    let script = script.call(3, 1, "closeStream", 0.0, &[Value::Null]).message(6, 1, 9, &frame);
    let mut server = Server::new();
    let fault = script.out.chunks(65_536).find_map(|piece| server.feed(piece).err()).unwrap();
    assert_eq!(fault.reason(), "limit");
}

#[test]
fn time_runs_out() {
    let seconds = Duration::from_secs;
    let run = |script: Script, at: u64| {
        let mut server = Server::new();
        server.now = seconds(at);
        server.feed(&script.out).unwrap();
        server
    };
    #[track_caller]
    fn check(mut server: Server, deadline: u64, reason: &str) {
        let deadline = Duration::from_secs(deadline);
        assert_eq!(server.session.next_deadline(), Some(deadline));
        let before = deadline - Duration::from_millis(1);
        assert_eq!(server.session.check_deadline(before), Ok(()));
        let error = server.session.check_deadline(deadline).expect_err("too late");
        assert_eq!(error.reason(), reason);
    }
    let half = || {
        let mut script = Script::new();
        script.out.truncate(2_000);
        script
    };
    // Absolute from accept, however the bytes trickle.
    check(run(half(), 0), 12, "handshake_timeout");
    check(run(half(), 11), 12, "handshake_timeout");
    check(run(Script::new(), 11), 12, "connect_timeout");
    check(run(Script::connected("live"), 5), 35, "idle_timeout");
    let publishing = || Script::connected("live").create_stream().publish(1, "s");
    check(run(publishing(), 5), 35, "publisher_silent");
    // Any byte is a sign of life.
    let mut server = run(publishing(), 5);
    server.now = seconds(20);
    server.feed(&[6]).unwrap();
    check(server, 50, "publisher_silent");
    // Idle again.
    let mut server = run(publishing(), 5);
    server.now = seconds(20);
    let mut end = Script::new().call(3, 1, "closeStream", 0.0, &[Value::Null]);
    server.feed(&end.out.split_off(3073)).unwrap();
    check(server, 50, "idle_timeout");
    // After long and silent playing, the time of idling begins at its end.
    let mut server = run(Script::connected("live").create_stream().play(1, "s"), 5);
    assert_eq!(server.session.next_deadline(), None);
    assert_eq!(server.session.check_deadline(seconds(1_000_000)), Ok(()));
    server.now = seconds(2_000);
    let mut end = Script::new().call(3, 1, "closeStream", 0.0, &[Value::Null]);
    server.feed(&end.out.split_off(3073)).unwrap();
    check(server, 2_030, "idle_timeout");
}

#[test]
fn the_time_of_a_verdict_is_not_the_clients() {
    let mut server = Server::new();
    server.manual = true;
    server.feed(&Script::connected("live").create_stream().publish(1, "s").out).unwrap();
    let late = Duration::from_secs(100);
    assert_eq!(server.session.next_deadline(), None, "the verdict is ours to give");
    assert_eq!(server.session.check_deadline(late), Ok(()));
    server.session.accept_connect();
    assert_eq!(server.session.check_deadline(late), Ok(()));
    assert_eq!(server.session.next_deadline(), Some(Duration::from_secs(130)));
    server.now = late;
    server.feed(&[]).unwrap();
    assert!(server.session.is_waiting());
    server.session.accept_publish(1);
    let later = Duration::from_secs(200);
    assert_eq!(server.session.check_deadline(later), Ok(()));
    assert_eq!(server.session.next_deadline(), Some(Duration::from_secs(230)));
}

#[test]
fn verdicts_that_nobody_asked_for_do_nothing() {
    let mut server = Server::new();
    server.feed(&Script::connected("live").create_stream().out).unwrap();
    server.said();
    let refusal = ConnectRefusal { code: ConnectRefusalCode::Failed, description: "".into() };
    server.session.accept_connect();
    server.session.reject_connect(&refusal);
    server.session.accept_publish(1);
    server.session.accept_play(1);
    assert_eq!(server.session.take_output(), None);
    assert_eq!(server.session.state(), SessionState::Idle);
}

#[test]
fn secrets_are_not_printed() {
    let mut server = Server::new();
    server.manual = true;
    let script = Script::new().connect(&[
        ("app", Value::text("live?token=secret")),
        ("tcUrl", Value::text("rtmp://user:secret@h/live?token=secret")),
    ]);
    server.feed(&script.out).unwrap();
    let printed = format!("{:?}", server.session);
    assert!(printed.contains("live"));
    assert!(!printed.contains("secret"), "{printed}");
}
