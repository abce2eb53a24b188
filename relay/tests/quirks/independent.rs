//! Another implementation, `rml_rtmp`, against ours: its client publishes to and plays from a whole
//! worker, and its server half takes and gives streams of our client session. What arrives is what
//! was sent, to the byte and to the millisecond.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use relay::limits::Limits;
use relay::session::{ClientEvent, ClientRole, ClientSession, ClientSettings};
use relay::wire::handshake::{ClientHandshake, Schema};
use relay::wire::message::MediaKind;
use relay::wire::timestamp::Timestamp;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession as ForeignClient, ClientSessionConfig, ClientSessionEvent, ClientSessionResult,
    PublishRequestType, ServerSession as ForeignServer, ServerSessionConfig, ServerSessionEvent,
    ServerSessionResult, StreamMetadata,
};
use rml_rtmp::time::RtmpTimestamp;

use crate::support::node::{Client, Node};
use crate::support::script::playing;

/// Type, timestamp, payload.
type Sent = (u8, u32, Vec<u8>);

/// A clip with small and large messages, over several chunk sizes and an extended timestamp.
fn clip() -> Vec<Sent> {
    let mut clip = vec![(9, 0, vec![0x17, 0, 0, 0, 0, 1]), (8, 0, vec![0xAF, 0, 0x12, 0x10])];
    let sizes = [6, 127, 128, 129, 4_095, 4_096, 4_097, 59_999, 60_000, 60_001, 200_000];
    for (place, bytes) in sizes.into_iter().enumerate() {
        let time = 16_777_000 + 40 * u32::try_from(place).unwrap();
        let mut frame = vec![if place % 5 == 0 { 0x17 } else { 0x27 }, 1, 0, 0, 0];
        frame.resize(bytes, place.to_le_bytes()[0]);
        clip.push((9, time, frame));
        clip.push((8, time + 7, vec![0xAF, 1, place.to_le_bytes()[0]]));
    }
    clip
}

/// The other implementation's client, over the simulated network.
struct Foreign {
    socket: Client,
    handshake: Option<Handshake>,
    session: ForeignClient,
    media: Vec<Sent>,
    metadata: Vec<StreamMetadata>,
    accepted: Vec<&'static str>,
}

impl Foreign {
    fn connect(node: &mut Node) -> Self {
        let mut handshake = Handshake::new(PeerType::Client);
        let mut socket = node.connect();
        socket.send(&handshake.generate_outbound_p0_and_p1().unwrap());
        let (session, first) = ForeignClient::new(ClientSessionConfig::new()).unwrap();
        let (media, metadata, accepted) = (Vec::new(), Vec::new(), Vec::new());
        let handshake = Some(handshake);
        let mut foreign = Self { socket, handshake, session, media, metadata, accepted };
        foreign.take(first);
        foreign.turn(node);
        assert!(foreign.handshake.is_none(), "hands are shaken");
        let request = foreign.session.request_connection("live".to_owned()).unwrap();
        foreign.take(vec![request]);
        foreign.turn(node);
        assert_eq!(foreign.accepted, ["connect"]);
        foreign
    }

    /// Lets time pass and deals with what has come.
    fn turn(&mut self, node: &mut Node) {
        for _ in 0..4 {
            node.run(&mut [&mut self.socket], 50);
            let mut bytes = self.socket.take_raw();
            if let Some(handshake) = &mut self.handshake {
                match handshake.process_bytes(&bytes).unwrap() {
                    HandshakeProcessResult::InProgress { response_bytes } => {
                        self.socket.send(&response_bytes);
                        continue;
                    }
                    HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                        self.socket.send(&response_bytes);
                        self.handshake = None;
                        bytes = remaining_bytes;
                    }
                }
            }
            let results = self.session.handle_input(&bytes).unwrap();
            self.take(results);
        }
    }

    fn take(&mut self, results: Vec<ClientSessionResult>) {
        for result in results {
            let event = match result {
                ClientSessionResult::OutboundResponse(packet) => {
                    self.socket.send(&packet.bytes);
                    continue;
                }
                ClientSessionResult::RaisedEvent(event) => event,
                ClientSessionResult::UnhandleableMessageReceived(_) => continue,
            };
            match event {
                ClientSessionEvent::ConnectionRequestAccepted => self.accepted.push("connect"),
                ClientSessionEvent::PublishRequestAccepted => self.accepted.push("publish"),
                ClientSessionEvent::PlaybackRequestAccepted => self.accepted.push("play"),
                ClientSessionEvent::StreamMetadataReceived { metadata } => {
                    self.metadata.push(metadata);
                }
                ClientSessionEvent::VideoDataReceived { timestamp, data } => {
                    self.media.push((9, timestamp.value, data.to_vec()));
                }
                ClientSessionEvent::AudioDataReceived { timestamp, data } => {
                    self.media.push((8, timestamp.value, data.to_vec()));
                }
                _ => {}
            }
        }
    }

    fn publish(&mut self, (kind, timestamp, payload): &Sent) {
        let (data, timestamp) = (Bytes::from(payload.clone()), RtmpTimestamp::new(*timestamp));
        let result = match kind {
            8 => self.session.publish_audio_data(data, timestamp, false),
            _ => self.session.publish_video_data(data, timestamp, false),
        };
        self.take(vec![result.unwrap()]);
    }
}

fn picture() -> StreamMetadata {
    StreamMetadata {
        video_width: Some(640),
        video_height: Some(360),
        encoder: Some("another one".to_owned()),
        ..StreamMetadata::new()
    }
}

#[test]
fn its_publisher_and_its_player_meet_in_our_worker() {
    let mut node = Node::new();
    let mut early = Foreign::connect(&mut node);
    let request = early.session.request_playback("s".to_owned()).unwrap();
    early.take(vec![request]);
    early.turn(&mut node);
    assert_eq!(early.accepted, ["connect", "play"]);
    let mut ours = node.client(&playing());

    let mut publisher = Foreign::connect(&mut node);
    let kind = PublishRequestType::Live;
    let request = publisher.session.request_publishing("s".to_owned(), kind).unwrap();
    publisher.take(vec![request]);
    publisher.turn(&mut node);
    assert_eq!(publisher.accepted, ["connect", "publish"]);
    let metadata = publisher.session.publish_metadata(&picture()).unwrap();
    publisher.take(vec![metadata]);
    for sent in clip() {
        publisher.publish(&sent);
        publisher.turn(&mut node);
        early.turn(&mut node);
        node.run(&mut [&mut ours], 10);
    }

    assert_eq!(early.metadata, [picture()]);
    // Who waits for a stream gets its headers with the first key frame, at that frame's time.
    let mut expected = clip();
    expected[..2].rotate_left(1);
    expected[..2].iter_mut().for_each(|(_, timestamp, _)| *timestamp = 16_777_000);
    assert!(early.media == expected, "{:?}", heads(&early.media));
    let ours: Vec<Sent> = ours.media().into_iter().filter(|(kind, _, _)| *kind != 18).collect();
    assert!(ours == expected, "{:?}", heads(&ours));
    let end = publisher.session.stop_publishing().unwrap();
    publisher.take(end);
    publisher.turn(&mut node);
    assert!(!publisher.socket.ended && !early.socket.ended);
}

/// Messages without most of their bytes.
fn heads(media: &[Sent]) -> Vec<(u8, u32, usize)> {
    media.iter().map(|(kind, timestamp, payload)| (*kind, *timestamp, payload.len())).collect()
}

/// Our client on one side, its server on the other, and bytes between them.
struct Pair {
    client: ClientSession,
    server: ForeignServer,
    handshake: Option<Handshake>,
    /// What the server says first of all, once hands are shaken.
    first: Vec<ServerSessionResult>,
    to_client: Vec<u8>,
    /// What the server was sent.
    media: Vec<Sent>,
    metadata: Vec<StreamMetadata>,
    /// What the client was sent.
    received: Vec<Sent>,
    asked: Vec<String>,
    started: bool,
    /// The message stream that plays.
    playing: Option<u32>,
}

impl Pair {
    /// With a digest in this schema, or with a plain handshake.
    fn new(role: ClientRole, enhanced: bool, schema: Option<Schema>) -> Self {
        let settings = ClientSettings {
            app: "live".to_owned(),
            tc_url: "rtmp://h/live".to_owned(),
            name: "s".to_owned(),
            role,
            enhanced,
        };
        let handshake = match schema {
            Some(schema) => ClientHandshake::with_digest(schema, 1),
            None => ClientHandshake::new(1),
        };
        let limits = Arc::new(Limits::default());
        let client = ClientSession::with_handshake(settings, limits, handshake, Duration::ZERO);
        let (server, first) = ForeignServer::new(ServerSessionConfig::new()).unwrap();
        let mut pair = Self {
            client,
            server,
            handshake: Some(Handshake::new(PeerType::Server)),
            first,
            to_client: Vec::new(),
            media: Vec::new(),
            metadata: Vec::new(),
            received: Vec::new(),
            asked: Vec::new(),
            started: false,
            playing: None,
        };
        for _ in 0..20 {
            pair.turn();
        }
        assert!(pair.started, "our client was let in: {:?}", pair.asked);
        pair
    }

    /// Carries what either side has written to the other.
    fn turn(&mut self) {
        let input = std::mem::take(&mut self.to_client);
        let mut input = &input[..];
        while let Some(event) = self.client.next_event(&mut input, Duration::ZERO).unwrap() {
            match event {
                ClientEvent::Started { .. } => self.started = true,
                ClientEvent::Media { message } => {
                    let payload = message.payload().flatten().copied().collect();
                    let kind = message.kind().message_type().id();
                    self.received.push((kind, message.timestamp().0, payload));
                }
                _ => {}
            }
        }
        while let Some(bytes) = self.client.take_output() {
            self.serve(&bytes);
        }
    }

    fn serve(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        if let Some(handshake) = &mut self.handshake {
            let result = handshake.process_bytes(&bytes).unwrap();
            match result {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    self.to_client.extend(response_bytes);
                    return;
                }
                HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                    self.to_client.extend(response_bytes);
                    self.handshake = None;
                    bytes = remaining_bytes;
                    let first = std::mem::take(&mut self.first);
                    self.take(first);
                }
            }
        }
        let results = self.server.handle_input(&bytes).unwrap();
        self.take(results);
    }

    fn take(&mut self, results: Vec<ServerSessionResult>) {
        for result in results {
            let event = match result {
                ServerSessionResult::OutboundResponse(packet) => {
                    self.to_client.extend(packet.bytes);
                    continue;
                }
                ServerSessionResult::RaisedEvent(event) => event,
                ServerSessionResult::UnhandleableMessageReceived(_) => continue,
            };
            match event {
                ServerSessionEvent::ConnectionRequested { request_id, app_name } => {
                    self.accept(request_id, format!("connect {app_name}"));
                }
                ServerSessionEvent::ReleaseStreamRequested { request_id, stream_key, .. } => {
                    self.accept(request_id, format!("release {stream_key}"));
                }
                ServerSessionEvent::PublishStreamRequested { request_id, stream_key, .. } => {
                    self.accept(request_id, format!("publish {stream_key}"));
                }
                ServerSessionEvent::PlayStreamRequested {
                    request_id,
                    stream_key,
                    stream_id,
                    ..
                } => {
                    self.playing = Some(stream_id);
                    self.accept(request_id, format!("play {stream_key}"));
                }
                ServerSessionEvent::PublishStreamFinished { stream_key, .. } => {
                    self.asked.push(format!("end {stream_key}"));
                }
                ServerSessionEvent::StreamMetadataChanged { metadata, .. } => {
                    self.metadata.push(metadata);
                }
                ServerSessionEvent::VideoDataReceived { data, timestamp, .. } => {
                    self.media.push((9, timestamp.value, data.to_vec()));
                }
                ServerSessionEvent::AudioDataReceived { data, timestamp, .. } => {
                    self.media.push((8, timestamp.value, data.to_vec()));
                }
                _ => {}
            }
        }
    }

    fn accept(&mut self, request: u32, asked: String) {
        self.asked.push(asked);
        let results = self.server.accept_request(request).unwrap();
        self.take(results);
    }
}

#[test]
fn our_client_publishes_to_its_server() {
    let plain = [(false, None), (true, None)];
    let digests = [Schema::KeyFirst, Schema::DigestFirst].map(|schema| (false, Some(schema)));
    for (enhanced, schema) in plain.into_iter().chain(digests) {
        let mut pair = Pair::new(ClientRole::Publish, enhanced, schema);
        assert_eq!(pair.asked, ["connect live", "publish s"]);
        let properties = [("width", relay::wire::amf::Value::Number(640.0))];
        let metadata = crate::support::script::metadata(&properties);
        let bytes = pair.client.media_output(MediaKind::Data, Timestamp(0), &metadata);
        pair.serve(&bytes);
        for (kind, timestamp, payload) in clip() {
            let kind = if kind == 8 { MediaKind::Audio } else { MediaKind::Video };
            let bytes = pair.client.media_output(kind, Timestamp(timestamp), &payload);
            pair.serve(&bytes);
            pair.turn();
        }
        assert!(pair.media == clip(), "{:?}", heads(&pair.media));
        let expected = StreamMetadata { video_width: Some(640), ..StreamMetadata::new() };
        assert_eq!(pair.metadata, [expected]);
        pair.client.finish();
        pair.turn();
        assert_eq!(pair.asked.last().unwrap(), "end s");
    }
}

#[test]
fn our_client_plays_from_its_server() {
    let mut pair = Pair::new(ClientRole::Play, false, Some(Schema::DigestFirst));
    assert_eq!(pair.asked, ["connect live", "play s"]);
    let stream = pair.playing.unwrap();
    let packet = pair.server.send_metadata(stream, &picture()).unwrap();
    pair.to_client.extend(packet.bytes);
    for (kind, timestamp, payload) in clip() {
        let (data, timestamp) = (Bytes::from(payload), RtmpTimestamp::new(timestamp));
        let packet = match kind {
            8 => pair.server.send_audio_data(stream, data, timestamp, false),
            _ => pair.server.send_video_data(stream, data, timestamp, false),
        };
        pair.to_client.extend(packet.unwrap().bytes);
        pair.turn();
    }
    let (data, media): (Vec<Sent>, Vec<Sent>) =
        pair.received.into_iter().partition(|(kind, _, _)| *kind == 18);
    assert!(media == clip(), "{:?}", heads(&media));
    // Its server also tells of the sample access and of a start.
    let shown: Vec<String> =
        data.iter().map(|(_, _, payload)| crate::support::words::show_values(payload)).collect();
    let metadata = shown.iter().find(|words| words.starts_with("onMetaData")).unwrap();
    assert!(metadata.contains("width=640") && metadata.contains("encoder=another one"));
}
