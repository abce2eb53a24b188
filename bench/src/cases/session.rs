//! A publisher's whole way in, as the worker calls it: session, chunks, assembling, the stream's
//! log.

use std::time::Duration;

use relay::limits::Limits;
use relay::session::{ClientRole, ClientSession, ClientSettings, ServerEvent, ServerSession};
use relay::stream::{Hub, StreamKey};
use relay::wire::control::ControlMessage;

use super::material;
use crate::case::{Aim, Case, Per, Work};

pub(super) fn cases() -> [Case; 1] {
    [Case {
        name: "publisher",
        what: "session to log, chunks of 4 KiB",
        per: Per::Byte,
        aim: Some(Aim::Above(3.0)),
        counted: Some((1, 6)),
        prepare: publisher,
    }]
}

fn publisher() -> Work {
    // the stream arrives far faster than it plays
    let limits = Limits { messages_per_second_max: usize::MAX, ..Limits::default() };
    let limits = std::sync::Arc::new(limits);
    let mut hub = Hub::new(limits.clone());
    let key = hub.create();
    hub.begin_publish(key);
    let mut server = published(limits.clone());

    let messages = material::group_of_pictures();
    let mut announced = bytes::BytesMut::new();
    ControlMessage::SetChunkSize(4_096).write(&mut announced);
    let mut now = NOW;
    let mut rest = &announced[..];
    assert!(matches!(server.next_event(&mut rest, now), Ok(None)), "a control message is no event");

    let input = material::chunks(&messages, 4_096);
    let pieces = input.len().div_ceil(limits.receive_bytes);
    let step = Duration::from_secs(2) / u32::try_from(pieces).expect("a few pieces");
    let mut ready = Vec::new();
    Work::new(input.len(), move |meter| {
        let before = taken(&hub, key);
        meter.measure(|| {
            for mut received in input.chunks(limits.receive_bytes) {
                now += step;
                while let Some(event) =
                    server.next_event(&mut received, now).expect("the publisher is sound")
                {
                    if let ServerEvent::Media { message, .. } = event {
                        hub.append(key, message, now);
                    }
                }
                hub.flush(now, &mut ready);
                ready.clear();
                // acknowledgements
                while server.take_output().is_some() {}
            }
        });
        assert_eq!(taken(&hub, key) - before, messages.len(), "messages in the log");
    })
}

fn taken(hub: &Hub, key: StreamKey) -> usize {
    let stats = hub.stats(key).expect("the stream is there");
    usize::try_from(stats.messages).expect("few")
}

/// A server session whose client publishes.
fn published(limits: std::sync::Arc<Limits>) -> ServerSession {
    let settings = ClientSettings {
        app: "live".to_owned(),
        tc_url: "rtmp://relay.example/live".to_owned(),
        name: "camera".to_owned(),
        role: ClientRole::Publish,
        enhanced: false,
    };
    let mut client = ClientSession::new(settings, limits.clone(), 1, NOW);
    let mut server = ServerSession::new(limits, 2, NOW);
    for _ in 0..20 {
        while let Some(bytes) = client.take_output() {
            let mut rest = &bytes[..];
            while let Some(request) = request(&mut server, &mut rest) {
                match request {
                    Request::Connect => server.accept_connect(),
                    Request::Publish(message_stream) => server.accept_publish(message_stream),
                    Request::None => {}
                }
            }
        }
        while let Some(bytes) = server.take_output() {
            let mut rest = &bytes[..];
            while client.next_event(&mut rest, NOW).expect("the server is sound").is_some() {}
        }
    }
    assert_eq!(server.state(), relay::session::SessionState::Publishing);
    server
}

/// What the server session wants to know.
enum Request {
    None,
    Connect,
    Publish(u32),
}

fn request(server: &mut ServerSession, rest: &mut &[u8]) -> Option<Request> {
    Some(match server.next_event(rest, NOW).expect("the client is sound")? {
        ServerEvent::Connect(_) => Request::Connect,
        ServerEvent::Publish(publish) => Request::Publish(publish.message_stream),
        _ => Request::None,
    })
}

const NOW: Duration = Duration::from_secs(1);
