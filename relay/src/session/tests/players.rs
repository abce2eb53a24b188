//! Players against a server: replies, order, pause and its like, the ways to end.

use super::*;
use crate::wire::control::{BandwidthLimit, UserControl};

const PLAYING: &str = "handshake\nconnect live\nplay 1 live/s\n";

const START: &str = "
    2/0 UserControl(StreamBegin { message_stream: 1 })
    5/1 onStatus 0 null {level=status, code=NetStream.Play.Reset, \
        description=Playing and resetting stream, details=s}
    5/1 onStatus 0 null {level=status, code=NetStream.Play.Start, \
        description=Started playing stream, details=s}
    5/1 |RtmpSampleAccess true true
";

fn playing() -> Script {
    Script::connected("live").create_stream().play(1, "s")
}

#[track_caller]
fn check_playing(script: Script, events: &str, said: &str) -> Server {
    let said = format!("{CONNECTED}3/0 _result 4 null 1\n{START}\n{said}");
    check(script, &format!("{PLAYING}{events}"), &said)
}

fn call(script: Script, name: &str, argument: Value<'_>) -> Script {
    script.call(8, 1, name, 0.0, &[Value::Null, argument])
}

#[test]
fn play_is_answered_in_order() {
    let server = check_playing(playing(), "", "");
    assert_eq!(server.session.state(), SessionState::Playing);
    assert_eq!(server.session.next_deadline(), None, "a player may be silent for ever");
}

#[test]
fn small_calls_are_answered() {
    check_playing(
        playing()
            .named(0, "getStreamLength", 8.0, "s")
            .named(0, "FCSubscribe", 9.0, "s")
            .named(0, "releaseStream", 10.0, "s")
            .call(3, 0, "_checkbw", 11.0, &[Value::Null])
            .call(3, 0, "whatever", 12.0, &[Value::Null, Value::Null])
            .call(3, 0, "whatever", 0.0, &[Value::Null])
            .call(3, 0, "_result", 13.0, &[Value::Null, Value::Null])
            .call(3, 0, "_error", 14.0, &[Value::Null, Value::Null])
            .call(3, 1, "onStatus", 15.0, &[Value::Null, Value::Null]),
        "",
        "3/0 _result 8 null 0
        3/0 _result 9 null null
        3/0 _result 10 null undefined
        3/0 _result 11 null null
        3/0 _result 12 null null",
    );
}

#[test]
fn pause_seek_and_tracks() {
    let script = playing();
    let script = call(script, "pause", Value::Boolean(true));
    let script = call(script, "pauseRaw", Value::Boolean(false));
    let script = call(script, "seek", Value::Number(1000.0));
    let script = call(script, "receiveAudio", Value::Boolean(false));
    let script = call(script, "receiveVideo", Value::Boolean(false));
    let script = call(script, "receiveAudio", Value::Boolean(true));
    check_playing(
        script,
        "pause 1 true
        pause 1 false
        tracks 1 false true
        tracks 1 false false
        tracks 1 true false",
        "5/1 onStatus 0 null {level=status, code=NetStream.Pause.Notify, description=Paused}
        2/0 UserControl(StreamEof { message_stream: 1 })
        5/1 onStatus 0 null {level=status, code=NetStream.Unpause.Notify, description=Going on}
        2/0 UserControl(StreamBegin { message_stream: 1 })
        5/1 onStatus 0 null {level=status, code=NetStream.Seek.Notify, description=Seeking}
        5/1 onStatus 0 null {level=status, code=NetStream.Seek.Notify, description=Seeking}
        5/1 onStatus 0 null {level=status, code=NetStream.Play.Start, \
            description=Started playing stream}",
    );
    // On a message stream that does not play they mean nothing.
    let script = Script::connected("live").create_stream();
    let script = call(script, "pause", Value::Boolean(true));
    let script = call(script, "receiveAudio", Value::Boolean(false));
    check(script, "handshake\nconnect live", &format!("{CONNECTED}3/0 _result 4 null 1"));
}

#[test]
fn a_second_play_takes_the_place_of_the_first() {
    let again = START.replace("details=s", "details=t");
    check_playing(playing().play(1, "t"), "end play 1\nplay 1 live/t", &again);
    let options = Value::object([("streamName", Value::text("t"))]);
    let script = call(playing(), "play2", options);
    check_playing(script, "end play 1\nplay 1 live/t", &again);
}

#[test]
fn playing_ends_in_any_of_three_ways() {
    let end = "end play 1";
    check_playing(playing().call(8, 1, "closeStream", 0.0, &[Value::Null]), end, "");
    let delete = [Value::Null, Value::Number(1.0)];
    check_playing(playing().call(3, 0, "deleteStream", 0.0, &delete), end, "");
    check_playing(call(playing(), "play", Value::Boolean(false)), end, "");
    let mut server = check_playing(
        playing().call(8, 1, "closeStream", 0.0, &[Value::Null]).play(1, "t"),
        "end play 1\nplay 1 live/t",
        &START.replace("details=s", "details=t"),
    );
    assert_eq!(server.session.state(), SessionState::Playing);
    assert_lines(&server.said(), "");
}

#[test]
fn several_message_streams_play_side_by_side() {
    let script = playing().create_stream().play(2, "t");
    let mut server = Server::new();
    server.feed(&script.out).unwrap();
    assert_lines(&server.events, &format!("{PLAYING}play 2 live/t"));
    server.session.unpublish_notify(1);
    assert!(!server.session.wants_close(), "the other goes on");
    server.session.unpublish_notify(1);
    server.session.unpublish_notify(2);
    assert!(server.session.wants_close());
}

#[test]
fn a_player_is_told_what_becomes_of_its_stream() {
    let mut server = check_playing(playing(), "", "");
    server.session.publish_notify(1);
    server.session.publish_notify(2);
    server.feed(&[]).unwrap();
    assert_lines(
        &server.said(),
        "5/1 onStatus 0 null {level=status, code=NetStream.Play.PublishNotify, \
            description=The stream is published}",
    );
    server.session.unpublish_notify(2);
    assert!(!server.session.wants_close());
    server.session.unpublish_notify(1);
    assert!(server.session.wants_close());
    server.feed(&[]).unwrap();
    assert_lines(
        &server.said(),
        "2/0 UserControl(StreamEof { message_stream: 1 })
        5/1 onStatus 0 null {level=status, code=NetStream.Play.UnpublishNotify, \
            description=The stream is no longer published}",
    );
}

#[test]
fn refusals_say_why_and_close() {
    #[track_caller]
    fn check(code: PlayRefusalCode, expected: &str) {
        let mut server = Server::new();
        server.feed(&Script::connected("live").create_stream().out).unwrap();
        server.said();
        server.manual = true;
        let mut more = Script::new().play(1, "s");
        server.feed(&more.out.split_off(3073)).unwrap();
        server.session.reject_play(1, &PlayRefusal { code, description: "because".into() });
        assert!(server.session.wants_close());
        server.feed(&[]).unwrap();
        assert_lines(
            &server.said(),
            &format!("5/1 onStatus 0 null {{level=error, code={expected}, description=because}}"),
        );
    }
    check(PlayRefusalCode::StreamNotFound, "NetStream.Play.StreamNotFound");
    check(PlayRefusalCode::Failed, "NetStream.Play.Failed");
    let server = super::check(
        Script::connected("live").create_stream().play(1, ""),
        "handshake\nconnect live\ndropped bad_name",
        &format!(
            "{CONNECTED}3/0 _result 4 null 1
            5/1 onStatus 0 null {{level=error, code=NetStream.Play.StreamNotFound, \
description=the stream name is empty}}"
        ),
    );
    assert!(server.session.wants_close());
}

#[test]
fn control_messages_are_obeyed() {
    let ping = |time| ControlMessage::UserControl(UserControl::PingRequest { time });
    let bandwidth = |window, limit| ControlMessage::SetPeerBandwidth { window, limit };
    let length = UserControl::SetBufferLength { message_stream: 1, milliseconds: 3000 };
    check_playing(
        playing()
            .control(ping(0x1234_5678))
            .control(ControlMessage::UserControl(length))
            .control(ControlMessage::UserControl(UserControl::PingResponse { time: 1 }))
            .control(ControlMessage::Acknowledgement { sequence: 5 })
            .control(bandwidth(2_500_000, BandwidthLimit::Dynamic))
            .control(bandwidth(3_000_000, BandwidthLimit::Soft))
            .control(bandwidth(1_000_000, BandwidthLimit::Hard))
            .control(bandwidth(1_000_000, BandwidthLimit::Dynamic))
            .control(bandwidth(0, BandwidthLimit::Hard))
            .control(bandwidth(0x8000_0000, BandwidthLimit::Hard))
            .message(2, 0, 4, &[0, 26, 0, 0, 0, 0])
            .message(2, 0, 4, &[0]),
        "",
        "2/0 UserControl(PingResponse { time: 305419896 })
        2/0 WindowAckSize(1000000)",
    );
}

#[test]
fn only_so_many_pings_are_answered() {
    let mut server = Server::new();
    server.feed(&playing().out).unwrap();
    server.said();
    let ping = ControlMessage::UserControl(UserControl::PingRequest { time: 1 });
    let mut pings = Script::new();
    for _ in 0..12 {
        pings = pings.control(ping);
    }
    let pings = pings.out.split_off(3073);
    for second in [10, 11] {
        server.now = Duration::from_secs(second);
        server.events.clear();
        server.feed(&pings).unwrap();
        assert_eq!(server.said().lines().count(), 10);
        assert_lines(&server.events, "dropped ping_flood\ndropped ping_flood");
    }
}

#[test]
fn who_would_not_understand_is_not_asked_to_reconnect() {
    let mut server = check_playing(playing(), "", "");
    assert!(!server.session.reconnect_request(None), "a legacy client would not understand");
    server.feed(&[]).unwrap();
    assert_lines(&server.said(), "");
}
