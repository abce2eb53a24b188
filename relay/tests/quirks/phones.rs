//! Telephones, cameras on sticks, drones.

use relay::wire::amf::Value;
use relay::worker::settings::Settings;

use crate::support::digest;
use crate::support::node::Node;
use crate::support::script::{PACKET, Script, hex, playing, publishing};
use crate::support::server::{CONNECTED, PUBLISHED, Server, check, served};

#[test]
fn haishinkit_sends_c0_and_c1_apart_and_null_properties() {
    let script = Script::plain()
        .connect(&[
            ("app", Value::text("live")),
            ("flashVer", Value::text("FMLE/3.0 (compatible; FMSc/1.0)")),
            ("swfUrl", Value::Null),
            ("tcUrl", Value::text("rtmp://h/live")),
            ("fpad", Value::Boolean(false)),
            ("capabilities", Value::Number(239.0)),
            ("audioCodecs", Value::Number(1024.0)),
            ("videoCodecs", Value::Number(128.0)),
            ("videoFunction", Value::Number(1.0)),
            ("pageUrl", Value::Null),
            ("objectEncoding", Value::Number(0.0)),
        ])
        .create_stream(2.0)
        .publish(1, "s");
    let mut said = CONNECTED.to_vec();
    said.extend(["3/0 _result 2 null 1", PUBLISHED]);
    check(&script, &["handshake", "connect live", "publish 1 live/s"], &said);
    let mut server = Server::new();
    for piece in [&script.out[..1], &script.out[1..1 + PACKET], &script.out[1 + PACKET..]] {
        server.feed(piece).unwrap();
    }
    assert_eq!(server.events.last().unwrap(), "publish 1 live/s");
}

#[test]
fn haishinkit_names_its_codecs_and_is_told_ours() {
    let script = Script::plain().connect(&[
        ("app", Value::text("live")),
        ("swfUrl", Value::Null),
        ("CapsEx", Value::Number(1.0)),
        ("fourCcList", Value::StrictArray(vec![Value::text("hvc1"), Value::text("Opus")])),
        ("videoFourCcInfoMap", Value::object([("hvc1", Value::Number(3.0))])),
        ("audioFourCcInfoMap", Value::object([("Opus", Value::Number(2.0))])),
    ]);
    let mut server = served(&script);
    let said = server.said();
    let fields = "fourCcList=[*], videoFourCcInfoMap={*=4}, audioFourCcInfoMap={*=4}, capsEx=15";
    assert_eq!(said.last().unwrap().matches(fields).count(), 2, "in both objects: {said:?}");
    assert_eq!(server.session.client().unwrap().caps_ex(), 1);
    assert!(server.session.reconnect_request(None), "it said that it follows");
}

#[test]
fn rootencoder_names_begin_with_the_query_or_a_slash() {
    #[track_caller]
    fn check(app: &str, name: &str, expected: &str) {
        let script = Script::plain().connect_encoder(app).create_stream(4.0).publish(1, name);
        assert_eq!(served(&script).events.last().unwrap(), &format!("publish 1 {expected}"));
    }
    check("live", "/key", "live/key");
    check("live/key", "?token=1", "live/key?token=1");
    check("live", "key?token=1", "live/key?token=1");
}

#[test]
fn rootencoder_sends_stale_frames_after_a_retry() {
    let script = publishing()
        .video(90_000, &hex("17 01 000000 AA"))
        .video(88_500, &hex("27 01 000000 BB"))
        .video(90_040, &hex("27 01 000000 CC"));
    let mut node = Node::new();
    let mut player = node.client(&playing());
    let mut phone = node.client(&script);
    node.run(&mut [&mut player, &mut phone], 300);
    let times: Vec<u32> = player.media().into_iter().map(|(_, timestamp, _)| timestamp).collect();
    assert_eq!(times, [90_000, 88_500, 90_040], "time is passed on as it is");
}

#[test]
fn streampack_compares_s2_with_c1_byte_for_byte() {
    let mut c1: [u8; PACKET] = std::array::from_fn(|at| (at * 13 + 5).to_le_bytes()[0]);
    c1[4..8].fill(0);
    assert_ne!(c1[..4], [0; 4], "its time is not zero");
    let server = served(&Script::after(&c1));
    assert_eq!(server.output[0], 3);
    assert_eq!(server.output[1 + PACKET..], c1);
}

#[test]
fn streamlabs_mobile_shakes_hands_in_either_form() {
    for schema in [0, 1] {
        for version in [[9, 0, 0x7C, 2], [0x80, 0, 7, 2], [10, 0, 0x2D, 2]] {
            let c1 = digest::c1(schema, version);
            let server = served(&Script::after(&c1).connect_encoder("live"));
            assert_eq!(server.events, ["digest handshake", "connect live"]);
            let (s1, s2) = server.output[1..].split_at(PACKET);
            digest::assert_answered(schema, &c1, s1, &s2[..PACKET]);
        }
    }
    let mut c1 = digest::c1(0, [1, 2, 3, 4]);
    c1[8..].fill(0x11);
    let server = served(&Script::after(&c1).connect_encoder("live"));
    assert_eq!(server.events, ["handshake", "connect live"], "a version without a digest");
}

#[test]
fn dji_sends_hevc_as_codec_12_and_asks_for_the_bandwidth() {
    let header = hex("1C 00 000000 0101");
    let (key, inter) = (hex("1C 01 000000 AA"), hex("2C 01 000000 BB"));
    let script = Script::plain()
        .connect_encoder("live")
        .call(3, 0, "_checkbw", 2.0, &[Value::Null])
        .create_stream(4.0)
        .publish(1, "s")
        .video(0, &header)
        .video(0, &key)
        .video(40, &inter);
    let mut said = CONNECTED.to_vec();
    said.extend(["3/0 _result 2 null null", "3/0 _result 4 null 1", PUBLISHED]);
    let media = ["VideoHeader 1 7 B", "KeyFrame 1 6 B", "InterFrame 1 6 B"];
    let events = [&["handshake", "connect live", "publish 1 live/s"][..], &media].concat();
    check(&script, &events, &said);
    let mut node = Node::new();
    let mut drone = node.client(&script);
    let mut late = node.client(&playing());
    node.run(&mut [&mut drone, &mut late], 200);
    assert_eq!(late.media(), [(9, 0, header), (9, 0, key), (9, 40, inter)]);
}

#[test]
fn dji_out_of_step_is_closed_and_named() {
    let mut server = Server::new();
    let error = server.feed(&publishing().hex("A1 000000").out).unwrap_err();
    assert_eq!(error.to_string(), "chunk stream 33 starts with a header of format 2");
    assert_eq!(error.reason(), "chunk");
}

#[test]
fn gopro_publishes_with_an_empty_name() {
    for name in [Value::text(""), Value::Null] {
        let script = Script::plain().connect_encoder("live/key").create_stream(4.0);
        let values = [Value::Null, name, Value::text("live")];
        let script = script.call(4, 1, "publish", 5.0, &values);
        assert_eq!(served(&script).events.last().unwrap(), "publish 1 live/key");
    }
    let script = Script::plain().connect_encoder("live").create_stream(4.0).publish(1, "");
    let mut server = served(&script);
    assert!(server.said().last().unwrap().contains("NetStream.Publish.BadName"));
    assert!(server.session.wants_close());
}

#[test]
fn gopro_comes_back_while_its_old_session_holds_the_name() {
    let mut node = Node::with(Settings::default());
    let mut player = node.client(&playing());
    let key = |last: u8| [&hex("17 01 000000")[..], &[last]].concat();
    let mut old = node.client(&publishing().video(0, &key(1)));
    node.run(&mut [&mut player, &mut old], 100);
    // The network of the first is gone, which nobody was told.
    let mut new = node.connect_from("10.0.2.77");
    new.send(&publishing().video(0, &key(2)).out);
    node.run(&mut [&mut player, &mut new, &mut old], 500);
    assert!(new.said().contains(&PUBLISHED.to_owned()), "it is let in at once");
    assert!(old.said().last().unwrap().contains("NetStream.Publish.BadName"));
    let got: Vec<_> = player.media().into_iter().map(|(_, _, payload)| payload).collect();
    assert_eq!(got, [key(1), key(2)]);
    node.run(&mut [&mut player, &mut new, &mut old], 1_500);
    assert!(old.ended && !new.ended && !player.ended);
}
