//! Client session against server session: on virtual time, through random splits.

use super::*;
use crate::wire::message::MediaKind;
use crate::wire::testing::{bytes, random_pieces};

struct Pair {
    server: Server,
    client: ClientSession,
    events: String,
    ended: Option<SessionError>,
    random: fastrand::Rng,
}

impl Pair {
    fn new(role: ClientRole, enhanced: bool, seed: u64) -> Self {
        let settings = ClientSettings {
            app: "live".into(),
            tc_url: "rtmp://h/live".into(),
            name: "s?token=1".into(),
            role,
            enhanced,
        };
        let limits = Arc::new(Limits::default());
        Self {
            server: Server::new(),
            client: ClientSession::new(settings, limits, seed, Duration::ZERO),
            events: String::new(),
            ended: None,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Carries bytes both ways until nobody has more to say.
    fn run(&mut self) {
        loop {
            let to_server = self.client.take_output();
            let to_client = std::mem::take(&mut self.server.output);
            if to_server.is_none() && to_client.is_empty() {
                return;
            }
            if let Some(bytes) = to_server {
                self.send_to_server(&bytes);
            }
            self.send_to_client(&to_client);
        }
    }

    fn send_to_server(&mut self, bytes: &[u8]) {
        for piece in random_pieces(bytes, 3_000, &mut self.random) {
            self.server.feed(piece).unwrap();
        }
    }

    fn send_to_client(&mut self, bytes: &[u8]) {
        for piece in random_pieces(bytes, 3_000, &mut self.random) {
            let mut input = piece;
            while self.ended.is_none() {
                let line = match self.client.next_event(&mut input, Duration::ZERO) {
                    Ok(Some(event)) => show(&event),
                    Ok(None) => break,
                    Err(error) => {
                        let line = error.to_string();
                        self.ended = Some(error);
                        line
                    }
                };
                self.events.push_str(&line);
                self.events.push('\n');
            }
        }
    }

    fn media(&mut self, kind: MediaKind, timestamp: u32, payload: &[u8]) {
        let bytes = self.client.media_output(kind, Timestamp(timestamp), payload);
        self.send_to_server(&bytes);
        self.run();
    }
}

fn show(event: &ClientEvent<'_>) -> String {
    match event {
        ClientEvent::Connected => "connected".into(),
        ClientEvent::Started { message_stream } => format!("started {message_stream}"),
        ClientEvent::Media { message } => {
            let bytes = message.payload_bytes();
            format!("{:?} {bytes} B at {}", message.class().role, message.timestamp().0)
        }
        ClientEvent::Status { code, .. } => format!("status {code}"),
        ClientEvent::ReconnectRequest { tc_url } => format!("reconnect {tc_url:?}"),
        ClientEvent::Ended { code } => format!("ended {code}"),
    }
}

#[test]
fn a_client_publishes() {
    for seed in 0..20 {
        eprintln!("seed {seed}");
        let mut pair = Pair::new(ClientRole::Publish, seed % 2 == 0, seed);
        pair.run();
        assert_lines(&pair.events, "connected\nstarted 1");
        let metadata = b"\x02\x00\x0aonMetaData\x08\0\0\0\0\0\x01a\x05\0\0\x09";
        pair.media(MediaKind::Data, 0, metadata);
        pair.media(MediaKind::Data, 0, b"\x02\x00\x06onText\x05");
        pair.media(MediaKind::Video, 5, &vec![0x17; 150_000]);
        pair.media(MediaKind::Audio, 0x0100_0000, &[0xaf, 1, 2]);
        pair.client.finish();
        pair.run();
        assert_lines(
            &pair.server.events,
            "handshake
            connect live
            publish 1 live/s?token=1
            Metadata 1 25 B
            Data 1 10 B
            KeyFrame 1 150000 B
            AudioFrame 1 3 B
            end publish 1",
        );
        assert_lines(&pair.events, "connected\nstarted 1\nstatus NetStream.Unpublish.Success");
    }
}

#[test]
fn a_client_plays() {
    for seed in 0..20 {
        eprintln!("seed {seed}");
        let mut pair = Pair::new(ClientRole::Play, seed % 2 == 0, seed);
        pair.run();
        assert_lines(
            &pair.events,
            "connected\nstatus NetStream.Play.Reset\nstarted 1\nData 24 B at 0",
        );
        let mut media = Vec::new();
        let class = crate::wire::media::classify_video(&[0x17, 1, 0, 0, 0]).unwrap();
        for (timestamp, length) in [(0, 5), (40, 70_000), (0x0200_0000, 130_000)] {
            let mut message = crate::wire::message::MediaMessage::new(
                MediaKind::Video,
                class,
                Timestamp(timestamp),
                &[&[0x17, 1, 0, 0, 0][..], &vec![0; length - 5]].concat(),
            );
            media.extend_from_slice(&message.take());
        }
        pair.events.clear();
        pair.send_to_client(&media);
        pair.server.session.publish_notify(1);
        pair.server.feed(&[]).unwrap();
        pair.run();
        pair.server.session.unpublish_notify(1);
        pair.server.feed(&[]).unwrap();
        pair.run();
        assert_lines(
            &pair.events,
            "KeyFrame 5 B at 0
            KeyFrame 70000 B at 40
            KeyFrame 130000 B at 33554432
            status NetStream.Play.PublishNotify
            ended NetStream.Play.UnpublishNotify",
        );
        assert!(pair.server.session.wants_close());
    }
}

#[test]
fn a_client_that_plays_can_leave() {
    let mut pair = Pair::new(ClientRole::Play, false, 1);
    pair.run();
    pair.client.finish();
    pair.run();
    assert_eq!(pair.server.events.lines().last(), Some("end play 1"));
}

#[test]
fn acknowledgements_flow_to_the_server() {
    let mut pair = Pair::new(ClientRole::Play, false, 1);
    pair.run();
    let class = crate::wire::media::classify_video(&[0x17, 1, 0, 0, 0]).unwrap();
    let payload = vec![0x17; 700_000];
    let kind = MediaKind::Video;
    for _ in 0..2 {
        let mut message =
            crate::wire::message::MediaMessage::new(kind, class, Timestamp(0), &payload);
        pair.send_to_client(&message.take());
    }
    let said = show_messages(&pair.client.take_output().unwrap());
    assert!(said.starts_with("2/0 Acknowledgement"), "{said}");
}

#[test]
fn refusals_reach_the_client() {
    #[track_caller]
    fn check(role: ClientRole, refuse: fn(&mut ServerSession), verdicts: usize, expected: &str) {
        let mut pair = Pair::new(role, false, 1);
        pair.server.manual = true;
        for verdict in 0..verdicts {
            pair.run();
            assert!(pair.server.session.is_waiting());
            if verdict + 1 == verdicts {
                refuse(&mut pair.server.session);
            } else {
                pair.server.session.accept_connect();
            }
            pair.server.feed(&[]).unwrap();
        }
        pair.run();
        let error = pair.ended.expect("refused");
        assert_eq!(error.reason(), "refused");
        assert_eq!(error.to_string(), format!("the server refused: {expected}: because"));
    }
    let connect = |session: &mut ServerSession| {
        let code = ConnectRefusalCode::Rejected;
        session.reject_connect(&ConnectRefusal { code, description: "because".into() });
    };
    let publish = |session: &mut ServerSession| {
        let code = PublishRefusalCode::BadName;
        session.reject_publish(1, &PublishRefusal { code, description: "because".into() });
    };
    let play = |session: &mut ServerSession| {
        let code = PlayRefusalCode::StreamNotFound;
        session.reject_play(1, &PlayRefusal { code, description: "because".into() });
    };
    check(ClientRole::Publish, connect, 1, "NetConnection.Connect.Rejected");
    check(ClientRole::Publish, publish, 2, "NetStream.Publish.BadName");
    check(ClientRole::Play, play, 2, "NetStream.Play.StreamNotFound");
}

#[test]
fn a_client_is_asked_to_reconnect_or_ended() {
    let mut pair = Pair::new(ClientRole::Publish, true, 1);
    pair.run();
    assert!(pair.server.session.reconnect_request(Some("rtmp://other/live")));
    pair.server.feed(&[]).unwrap();
    pair.run();
    pair.server.session.publish_ended_by_server(1, PublishEnd::TakenOver);
    pair.server.feed(&[]).unwrap();
    pair.run();
    assert_lines(
        &pair.events,
        "connected
        started 1
        reconnect Some(\"rtmp://other/live\")
        ended NetStream.Publish.BadName",
    );
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let mut pair = Pair::new(ClientRole::Play, false, 1);
    let deadline = Duration::from_secs(12);
    assert_eq!(pair.client.next_deadline(), Some(deadline));
    assert_eq!(pair.client.check_deadline(Duration::from_secs(11)), Ok(()));
    assert_eq!(pair.client.check_deadline(deadline), Err(SessionError::AnswerTimeout));
    pair.run();
    assert_eq!(pair.client.next_deadline(), None);
    assert_eq!(pair.client.check_deadline(deadline), Ok(()));
}

#[test]
fn a_client_takes_what_other_servers_send() {
    let connected = |answers: Script| {
        let mut pair = Pair::new(ClientRole::Publish, false, 1);
        pair.send_to_client(&[3]);
        pair.send_to_client(&[9; 3072]);
        pair.send_to_client(&answers.out[3073..]);
        (pair.events, pair.ended)
    };
    let result = |script: Script, transaction, value| {
        script.call(3, 0, "_result", transaction, &[Value::Null, value])
    };
    let start = Value::object([("code", Value::text("NetStream.Publish.Start"))]);
    // Unknown calls, answers out of order, an odd id.
    let script = Script::new()
        .call(3, 0, "onBWDone", 0.0, &[Value::Null, Value::Number(8192.0)])
        .message(3, 0, 20, &[1]);
    let script = result(script, 1.0, Value::Null);
    let script = script.call(3, 0, "_error", 2.0, &[Value::Null, Value::Null]);
    let script = result(script, 4.0, Value::Number(7.0));
    let script = result(script, 3.0, Value::Undefined);
    let script = script.call(5, 7, "onStatus", 0.0, &[Value::Null, start]);
    let (events, ended) = connected(script.call(3, 0, "close", 0.0, &[Value::Null]));
    assert_lines(&events, "connected\nstarted 7\nended close");
    assert_eq!(ended, None);

    // A refusal may come before its time.
    let refused = Value::object([("level", Value::text("error")), ("code", Value::text("no"))]);
    let script = result(Script::new(), 1.0, Value::Null);
    let (_, ended) = connected(script.call(3, 0, "onStatus", 0.0, &[Value::Null, refused]));
    let refusal = SessionError::Refused { code: "no".into(), description: String::new() };
    assert_eq!(ended, Some(refusal));

    let script = result(Script::new(), 1.0, Value::Null);
    let (_, ended) = connected(result(script, 4.0, Value::Null));
    assert_eq!(ended, Some(SessionError::BadAnswer { command: "createStream" }));
}

#[test]
fn a_client_takes_aggregates_apart() {
    let mut pair = Pair::new(ClientRole::Play, false, 1);
    pair.run();
    pair.events.clear();
    // Audio, video, a data message, and a tail that is cut.
    let aggregate = bytes(
        "08 000003 00000A 00 000000 AF 01 07 0000000E
         09 000005 000014 00 000000 17 01 00 00 00 00000010
         12 000009 000014 00 000000 02 0006 6F6E54657874 00000014
         09 000005 00001E 00 000000 17",
    );
    let script = Script::new().message(6, 1, 22, &aggregate).video(1);
    let (_, script) = script.out.split_at(3073);
    pair.send_to_client(script);
    assert_lines(
        &pair.events,
        "AudioFrame 3 B at 0
        KeyFrame 5 B at 10
        Data 9 B at 10
        KeyFrame 5 B at 0",
    );
    assert_eq!(pair.ended, None);
}
