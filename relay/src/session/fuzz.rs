//! Bodies of the fuzz targets of AMF, commands, data messages and sessions: plain functions that
//! take any bytes and must not panic.
//!
//! Each checks more than that: what is read must not depend on how the bytes were cut, and what is
//! written must be read back as it was.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::http::HeadReader;
use super::link::{LinkEvent, LinkSession};
use super::proxy;
use super::sniff::{Sniffed, sniff};
use super::tunnel::{Numbered, Order, TunnelIds, TunnelRequest, Turn, Verb};
use super::{
    ClientRole, ClientSession, ClientSettings, ServerEvent, ServerSession, TunnelClient,
    TunnelSettings,
};
use crate::limits::Limits;
use crate::wire::amf::{Budget, Input, Value};
use crate::wire::amf0::{Amf0Reader, write_value};
use crate::wire::amf3::Amf3Reader;
use crate::wire::command::Call;
use crate::wire::data::{self, DataAction};
use crate::wire::message::MessageType;
use crate::wire::stream_name::StreamAddress;

/// Either end of a link between nodes, after its handshake: what is heard does not depend on how
/// the bytes were cut.
pub fn link_session(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let limits = Limits::default();
    let heard = |piece: usize| {
        let dials = first & 1 == 0;
        let mut session =
            if dials { LinkSession::dial(&limits, 1) } else { LinkSession::accept(&limits, 1) };
        if first & 2 != 0 {
            session.expect_media();
        }
        let mut heard = Vec::new();
        let shaken = [&[3][..], &[0; 2 * 1_536]].concat();
        for mut input in std::iter::once(&shaken[..]).chain(data.chunks(piece)) {
            loop {
                match session.next_event(&mut input, Duration::ZERO) {
                    Ok(Some(LinkEvent::Media { message_stream, message })) => {
                        let payload: Vec<u8> = message.payload().flatten().copied().collect();
                        let (kind, time) = (message.kind(), message.timestamp());
                        heard.push(format!("{message_stream} {kind:?} {time:?} {payload:?}"));
                    }
                    Ok(Some(event)) => heard.push(format!("{event:?}")),
                    Ok(None) => break,
                    Err(error) => {
                        heard.push(error.to_string());
                        return heard;
                    }
                }
            }
            assert!(input.is_empty(), "all of it was taken");
            while session.take_output().is_some() {}
        }
        heard
    };
    assert_eq!(heard(usize::MAX), heard(usize::from(first >> 2) + 1));
}

/// Values of a message in AMF0: read, written, read again.
pub fn amf0(data: &[u8]) {
    let limits = Limits::default();
    let mut reader = Amf0Reader::new(data, &limits);
    while let Ok(value) = reader.read() {
        reads_back(&value);
        if reader.is_at_end() {
            break;
        }
    }
    drop(Amf0Reader::new(data, &limits).read_object_leniently());
}

/// One AMF3 value.
pub fn amf3(data: &[u8]) {
    let mut budget = Budget::new(&Limits::default());
    let mut input = Input(data);
    if let Ok(value) = Amf3Reader::new(&mut input, &mut budget).read() {
        reads_back(&value);
    }
}

/// A command, and the name of a stream.
pub fn command(data: &[u8]) {
    let limits = Limits::default();
    for kind in [MessageType::CommandAmf0, MessageType::CommandAmf3] {
        drop(Call::parse(kind, data, &limits));
    }
    let third = data.len() / 3;
    let (app, rest) = data.split_at(third);
    let (url, name) = rest.split_at(third);
    if let Ok(address) = StreamAddress::resolve(app, url, name, &limits) {
        let joined = address.name.as_str();
        assert!(!joined.is_empty() && !joined.chars().any(char::is_control));
        assert!(!joined.starts_with('/') && !joined.ends_with('/') && !joined.contains("//"));
        drop(StreamAddress::resolve(b"", b"", joined.as_bytes(), &limits));
    }
}

/// A data message: metadata that is relayed walks to its end, and what is relayed is not much
/// longer than what came.
pub fn data_message(data: &[u8]) {
    let limits = Limits { amf_reference_bytes_max: 256, ..Limits::default() };
    for kind in [MessageType::DataAmf0, MessageType::DataAmf3] {
        let DataAction::Relay { payload, .. } = data::judge(kind, data, &limits) else { continue };
        // A one-byte value becomes at most nine, behind a key that counts up.
        let longest = 16 * data.len() + limits.amf_reference_bytes_max;
        assert!(payload.len() <= longest.min(limits.data_bytes_max), "{} bytes", payload.len());
        let mut reader = Amf0Reader::new(&payload, &limits);
        let name = reader.read().expect("a name was found before");
        if name == Value::text("onMetaData") {
            let body = reader.read().expect("metadata is whole");
            assert!(body.properties().is_some_and(|properties| !properties.is_empty()));
            assert!(reader.is_at_end(), "nothing follows metadata");
        }
    }
}

/// A server session fed with a client's bytes after the handshake, whole and cut as the first byte
/// says.
pub fn server_session(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let whole = serve(data, data.len().max(1));
    let cut = serve(data, usize::from(cut % 64) + 1);
    assert_eq!(whole, cut, "the same however the bytes are cut");
}

/// A client session fed with a server's bytes after the handshake.
pub fn client_session(data: &[u8]) {
    for role in [ClientRole::Publish, ClientRole::Play] {
        let settings = ClientSettings {
            app: "live".to_owned(),
            tc_url: "rtmp://localhost/live".to_owned(),
            name: "s".to_owned(),
            role,
            enhanced: true,
        };
        let limits = Arc::new(Limits::default());
        let mut session = ClientSession::new(settings, limits, 1, Duration::ZERO);
        let mut input = &[&[3], &[0; 3072][..], data].concat()[..];
        while let Ok(Some(_)) = session.next_event(&mut input, Duration::ZERO) {
            drop(session.take_output());
        }
    }
}

/// Requests of a tunnel: their targets and ids, and then as operations on the order of a session's
/// requests, three bytes each. Every number is answered once, in turn.
pub fn tunnel(data: &[u8]) {
    if let Some(TunnelRequest::Session { id, .. }) = TunnelRequest::parse(data) {
        assert!(!id.contains(&b'/'));
        assert!(TunnelIds::new("node", [1; 32]).read(id).is_err(), "nobody made it");
    }
    let mut order: Order<u8> = Order::default();
    let mut next = None;
    for operation in data.chunks_exact(3) {
        let [what, number, carrier] = *operation else { return };
        let now = Duration::from_millis(u64::from(what) * 10);
        match what % 4 {
            0 | 1 => {
                let number = u64::from(number % 16);
                let request = Numbered { number, verb: Verb::Send, length: number % 3 };
                if let Turn::Now { instead_of } = order.begin(request, carrier, now) {
                    assert_eq!(*next.get_or_insert(number), number);
                    assert_ne!(instead_of, Some(carrier));
                }
            }
            2 => {
                let length = usize::from(number % 4);
                assert!(order.take(length) <= length);
            }
            _ if number.is_multiple_of(2) => order.lost(carrier, now),
            _ if order.asking().is_some() => {
                assert_eq!(order.current().map(|current| current.number), next);
                order.answered(Vec::new(), now);
                next = next.map(|next| next + 1);
            }
            _ => {}
        }
        // The fault ends a session; here the order goes on, and must stay in order.
        let _ = order.check(now);
        assert!(order.carriers().count() <= 5);
    }
}

/// What a server answers to the client of a tunnel, whole and cut as the first byte says.
pub fn tunnel_client(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let whole = answer(data, data.len().max(1));
    let cut = answer(data, usize::from(cut % 64) + 1);
    assert_eq!(whole, cut, "the same however the bytes are cut");
}

/// The RTMP bytes in answers to requests made one after the other, and the fault at the end.
fn answer(data: &[u8], piece_bytes: usize) -> (Vec<u8>, Option<String>) {
    let mut client = TunnelClient::new(TunnelSettings::new("host".to_owned()), Duration::ZERO);
    let later = Duration::from_secs(1);
    let mut heard = Vec::new();
    drop(client.take_request(later));
    for mut input in data.chunks(piece_bytes) {
        loop {
            // Whenever there is something left there was a request.
            drop(client.take_request(later));
            match client.receive_one(&mut input, later) {
                Ok(piece) => heard.extend_from_slice(piece),
                Err(error) => return (heard, Some(error.to_string())),
            }
            if input.is_empty() {
                break;
            }
        }
    }
    (heard, None)
}

/// Events, drops and replies in numbers, and the fault at the end.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    events: usize,
    media_bytes: usize,
    fault: Option<String>,
    output: Vec<u8>,
}

fn serve(data: &[u8], piece_bytes: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let limits = Arc::new(Limits::default());
    let mut session = ServerSession::new(limits, 1, Duration::ZERO);
    let client = [&[3], &[0; 3072][..], data].concat();
    for mut input in client.chunks(piece_bytes.max(client.len() / 10_000)) {
        while outcome.fault.is_none() {
            let verdict = match session.next_event(&mut input, Duration::ZERO) {
                Ok(None) => break,
                Err(error) => {
                    outcome.fault = Some(error.to_string());
                    break;
                }
                Ok(Some(event)) => {
                    outcome.events += 1;
                    if let ServerEvent::Media { message, .. } = &event {
                        outcome.media_bytes += message.payload_bytes();
                    }
                    Verdict::on(&event)
                }
            };
            match verdict {
                Some(Verdict::Connect) => session.accept_connect(),
                Some(Verdict::Publish(stream)) => session.accept_publish(stream),
                Some(Verdict::Play(stream)) => session.accept_play(stream),
                None => {}
            }
            if let Some(bytes) = session.take_output() {
                outcome.output.extend_from_slice(&bytes);
            }
        }
    }
    if let Some(bytes) = session.take_output() {
        outcome.output.extend_from_slice(&bytes);
    }
    outcome
}

enum Verdict {
    Connect,
    Publish(u32),
    Play(u32),
}

impl Verdict {
    fn on(event: &ServerEvent<'_>) -> Option<Self> {
        match event {
            ServerEvent::Connect(_) => Some(Self::Connect),
            ServerEvent::Publish(request) => Some(Self::Publish(request.message_stream)),
            ServerEvent::Play(request) => Some(Self::Play(request.message_stream)),
            _ => None,
        }
    }
}

/// A PROXY header: what it is does not depend on how much of what follows is there.
pub fn proxy_header(data: &[u8]) {
    let Ok(Some(header)) = proxy::read(data) else { return };
    let (whole, _) = data.split_at(header.length);
    assert_eq!(proxy::read(whole), Ok(Some(header)));
    assert_eq!(proxy::read(&whole[..whole.len() - 1]), Ok(None));
    assert_eq!(sniff(data), Sniffed::Proxy);
}

/// Heads of requests, one after the other, whole and byte by byte.
pub fn request_heads(data: &[u8]) {
    let limits = Limits::default();
    let heads = |pieces: std::slice::Chunks<'_, u8>| {
        let (mut reader, mut heads, mut taken) = (HeadReader::default(), Vec::new(), 0);
        for mut piece in pieces {
            while !piece.is_empty() {
                let before = piece.len();
                let found = reader.read(&mut piece, &limits);
                taken += before - piece.len();
                match found {
                    Ok(None) => {}
                    Ok(Some(head)) => heads.push(head),
                    Err(error) => return (heads, taken, Some(error)),
                }
            }
        }
        assert!(reader.held_bytes() <= 4 * limits.request_head_bytes_max, "bounded");
        (heads, taken, None)
    };
    let whole = heads(data.chunks(data.len().max(1)));
    assert_eq!(whole, heads(data.chunks(1)));
    for head in whole.0 {
        assert!(head.target.bytes().all(|byte| byte.is_ascii_graphic()));
        let _ = (head.keeps_alive(), head.body_bytes(), head.path(), head.query());
    }
}

/// What is written in AMF0 is read again; written once more, it is the same bytes.
fn reads_back(value: &Value<'_>) {
    // An AMF0 message may hold more than one limit's worth once AMF3's short forms are written out.
    let limits = Limits { amf_properties_max: 4_096, amf_depth_max: 32, ..Limits::default() };
    let mut first = BytesMut::new();
    write_value(&mut first, value);
    let mut reader = Amf0Reader::new(&first, &limits);
    let read = reader.read().expect("what was written can be read");
    assert!(reader.is_at_end(), "all of it");
    let mut second = BytesMut::new();
    write_value(&mut second, &read);
    assert_eq!(first, second);
}

#[cfg(test)]
mod tests;
