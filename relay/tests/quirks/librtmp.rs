//! librtmp and what is built on it: rtmpdump, GStreamer's old sink, VLC and mpv in some builds.

use relay::wire::amf::Value;
use relay::wire::control::{ControlMessage, UserControl};

use crate::support::script::{Script, hex};
use crate::support::server::{CONNECTED, PLAYED, check, served};

#[test]
fn rtmpdump_play_answers_pings_on_a_fresh_chunk_stream() {
    let buffer = |message_stream, milliseconds| {
        ControlMessage::UserControl(UserControl::SetBufferLength { message_stream, milliseconds })
    };
    let script = Script::plain()
        .connect(&[
            ("app", Value::text("live")),
            ("flashVer", Value::text("LNX 10,0,32,18")),
            ("tcUrl", Value::text("rtmp://h:1935/live")),
            ("fpad", Value::Boolean(false)),
            ("capabilities", Value::Number(15.0)),
            ("audioCodecs", Value::Number(3191.0)),
            ("videoCodecs", Value::Number(252.0)),
            ("videoFunction", Value::Number(1.0)),
        ])
        .hex("42 000000 000004 05 002625A0")
        .control(buffer(0, 300))
        .create_stream(2.0)
        .call(8, 1, "play", 0.0, &[Value::Null, Value::text("s"), Value::Number(0.0)])
        .control(buffer(1, 36_000_000))
        .hex("42 000000 000006 04 0007 12345678")
        .call(3, 0, "ping", 0.0, &[Value::Null])
        .call(3, 0, "_onbwcheck", 7.0, &[Value::Null]);
    let mut said = CONNECTED.to_vec();
    said.push("3/0 _result 2 null 1");
    said.extend(PLAYED);
    said.push("3/0 _result 7 null null");
    check(&script, &["handshake", "connect live", "play 1 live/s"], &said);
}

#[test]
fn rtmpdump_play_may_answer_its_first_ping_before_anything_else_on_that_chunk_stream() {
    // The very first header on chunk stream 2 is one of fmt 1.
    let script = Script::plain().hex("42 000000 000006 04 0007 00000001").connect_encoder("live");
    check(&script, &["handshake", "connect live"], &CONNECTED);
}

#[test]
fn vlc_and_mpv_ask_for_the_same_stream_by_other_names() {
    for name in ["s", "mp4:s", "flv:s", "s.flv", "mp4:s.flv", "/s"] {
        let script = Script::plain().connect_encoder("live").create_stream(4.0).play(1, name);
        assert_eq!(served(&script).events.last().unwrap(), "play 1 live/s", "{name}");
    }
}

#[test]
fn rtmpsink_puts_audio_and_video_on_one_chunk_stream_and_time_goes_back() {
    let script = Script::plain()
        .connect_encoder("live")
        .named("releaseStream", 2.0, "s")
        .named("FCPublish", 3.0, "s")
        .create_stream(4.0)
        .publish(1, "s")
        // Video at 1,000; audio 5 ms earlier; audio 23 ms later; video 10 ms later still.
        .hex("04 0003E8 000006 09 01000000 17 01 000000 AA")
        .hex("44 FFFFFF 000003 08 FFFFFFFB AF 01 BB")
        .hex("84 000017 AF 01 CC")
        .hex("44 00000A 000006 09 27 01 000000 DD");
    let media = [
        (1_000, hex("17 01 000000 AA")),
        (995, hex("AF 01 BB")),
        (1_018, hex("AF 01 CC")),
        (1_028, hex("27 01 000000 DD")),
    ];
    assert_eq!(served(&script).media, media);
}
