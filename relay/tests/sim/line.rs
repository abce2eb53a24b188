//! One connection of a client to the node: a client session over a simulated endpoint, and what it
//! has yet to write.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use relay::limits::Limits;
use relay::reactor::sim::{SimEndpoint, SimNet, SimRead};
use relay::session::{
    ClientEvent, ClientRole, ClientSession, ClientSettings, SessionError, TunnelClient,
    TunnelSettings,
};
use relay::wire::amf::Value;
use relay::wire::chunk_writer::write_message;
use relay::wire::control::ControlMessage;
use relay::wire::message::{CHUNK_BYTES, MediaKind, MessageHeader, MessageType};
use relay::wire::reply;
use relay::wire::timestamp::Timestamp;

/// A connection.
pub(crate) struct Line {
    pub(crate) endpoint: SimEndpoint,
    session: ClientSession,
    /// RTMP goes inside HTTP.
    tunnel: Option<Tunnel>,
    /// Written to the session's peer, as far as there is room.
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// Every byte that was read, for tests that look below the session.
    pub(crate) tape: Option<Vec<u8>>,
}

/// A session inside HTTP, over as many connections as it takes.
struct Tunnel {
    client: TunnelClient,
    net: SimNet,
    from: IpAddr,
    to: SocketAddr,
    /// The server refused a request, or none was answered.
    over: bool,
    reconnects: u32,
}

/// Connections that a tunnel may lose.
const RECONNECTS_MAX: u32 = 50;

/// How a read of everything at hand ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// So many bytes; more may come.
    Bytes(usize),
    /// The other side has ended.
    Eof,
    /// The connection is broken.
    Reset,
}

impl Line {
    /// Calls the node and begins to talk.
    pub(crate) fn new(
        net: &SimNet,
        from: IpAddr,
        to: SocketAddr,
        name: &str,
        role: ClientRole,
        seed: u64,
    ) -> Self {
        let settings = ClientSettings {
            app: "live".to_owned(),
            tc_url: "rtmp://relay.test/live".to_owned(),
            name: name.to_owned(),
            role,
            enhanced: seed.is_multiple_of(2),
        };
        let limits = Arc::new(Limits::default());
        let session = ClientSession::new(settings, limits, seed, net.now());
        let endpoint = net.connect_from(from, to);
        let (outgoing, incoming) = (Vec::new(), Vec::new());
        Self { endpoint, session, tunnel: None, outgoing, incoming, tape: None }
    }

    /// From here on RTMP goes inside HTTP, to `to`, where each further connection goes too.
    pub(crate) fn tunnel(&mut self, net: &SimNet, from: IpAddr, to: SocketAddr) {
        let client = TunnelClient::new(TunnelSettings::new("relay.test".to_owned()), net.now());
        let net = net.clone();
        self.tunnel = Some(Tunnel { client, net, from, to, over: false, reconnects: 0 });
    }

    /// When it next has something to say although nothing happens.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.tunnel.as_ref().filter(|tunnel| !tunnel.over)?.client.next_due()
    }

    /// The connection is gone: whether the session goes on by another one.
    fn reconnects(&mut self) -> bool {
        let Some(tunnel) = &mut self.tunnel else { return false };
        if tunnel.over || tunnel.reconnects >= RECONNECTS_MAX {
            return false;
        }
        tunnel.reconnects += 1;
        self.endpoint = tunnel.net.connect_from(tunnel.from, tunnel.to);
        tunnel.client.reconnected();
        self.outgoing = tunnel.client.repeat_request().unwrap_or_default().concat();
        true
    }

    /// Bytes that wait for room.
    pub(crate) fn waiting(&self) -> usize {
        self.outgoing.len()
    }

    /// Queues a media message.
    pub(crate) fn publish(&mut self, kind: MediaKind, timestamp: u32, payload: &[u8]) {
        self.collect();
        let bytes = self.session.media_output(kind, Timestamp(timestamp), payload);
        self.outgoing.extend_from_slice(&bytes);
    }

    /// Queues a media message on another message stream than the session's.
    pub(crate) fn publish_on(
        &mut self,
        message_stream: u32,
        kind: MediaKind,
        timestamp: u32,
        payload: &[u8],
    ) {
        self.collect();
        let timestamp = Timestamp(timestamp);
        let kind_id = kind.message_type();
        let header = MessageHeader { timestamp, length: 0, kind: kind_id, message_stream };
        let mut out = BytesMut::new();
        write_message(&mut out, kind.chunk_stream(), &header, payload, CHUNK_BYTES);
        self.outgoing.extend_from_slice(&out);
    }

    /// Queues several media messages as one aggregate message (RTMP 1.0 section 7.1.6), whose own
    /// time is that of the first.
    pub(crate) fn publish_aggregate(&mut self, parts: &[(MediaKind, u32, Vec<u8>)]) {
        self.collect();
        let mut payload = BytesMut::new();
        for (kind, timestamp, part) in parts {
            let length = u32::try_from(part.len()).unwrap().to_be_bytes();
            let [high, low @ ..] = timestamp.to_be_bytes();
            payload.extend_from_slice(&[kind.message_type().id()]);
            payload.extend_from_slice(&length[1..]);
            payload.extend_from_slice(&low);
            payload.extend_from_slice(&[high, 0, 0, 0]);
            payload.extend_from_slice(part);
            payload.extend_from_slice(&u32::try_from(part.len() + 11).unwrap().to_be_bytes());
        }
        let header = MessageHeader {
            timestamp: Timestamp(parts[0].1),
            length: 0,
            kind: MessageType::Aggregate,
            message_stream: self.session.message_stream(),
        };
        let mut out = BytesMut::new();
        write_message(&mut out, 9, &header, &payload, CHUNK_BYTES);
        self.outgoing.extend_from_slice(&out);
    }

    /// Queues the first chunk of a message, and then that it is given up.
    pub(crate) fn give_up_a_message(&mut self) {
        self.collect();
        let header = MessageHeader {
            timestamp: Timestamp(1),
            length: 0,
            kind: MessageType::Video,
            message_stream: self.session.message_stream(),
        };
        let mut out = BytesMut::new();
        write_message(&mut out, 10, &header, &[0x17; CHUNK_BYTES + 1], CHUNK_BYTES);
        // The second chunk is a byte and its header.
        out.truncate(out.len() - 2);
        ControlMessage::Abort { chunk_stream: 10 }.write(&mut out);
        self.outgoing.extend_from_slice(&out);
    }

    /// Queues a command on a message stream, which the session does not know of.
    pub(crate) fn command(
        &mut self,
        message_stream: u32,
        name: &str,
        transaction: u32,
        values: &[Value<'_>],
    ) {
        self.collect();
        let mut payload = BytesMut::new();
        reply::call(&mut payload, name, transaction.into(), values);
        let header = MessageHeader {
            timestamp: Timestamp(0),
            length: 0,
            kind: MessageType::CommandAmf0,
            message_stream,
        };
        let mut out = BytesMut::new();
        write_message(&mut out, 3, &header, &payload, CHUNK_BYTES);
        self.outgoing.extend_from_slice(&out);
    }

    /// Queues the words by which an encoder or a player ends.
    pub(crate) fn finish(&mut self) {
        self.session.finish();
        self.collect();
    }

    /// Writes what there is room for, at most `most` bytes; whether anything was written.
    pub(crate) fn write(&mut self, most: usize) -> bool {
        self.collect();
        if let Some(tunnel) = &mut self.tunnel {
            let now = tunnel.net.now();
            tunnel.over |= tunnel.client.check_deadline(now).is_err();
            if let Some(request) = tunnel.client.take_request(now).filter(|_| !tunnel.over) {
                self.outgoing.extend_from_slice(&request.concat());
            }
        }
        let length = self.outgoing.len().min(most);
        let written = if length > 0 { self.endpoint.write(&self.outgoing[..length]) } else { 0 };
        self.outgoing.drain(..written);
        written > 0
    }

    /// Reads at most `most` bytes and reports what they say.
    pub(crate) fn read(
        &mut self,
        most: usize,
        now: Duration,
        each: &mut dyn FnMut(Result<ClientEvent<'_>, SessionError>),
    ) -> Heard {
        self.incoming.clear();
        let outcome = self.endpoint.read(&mut self.incoming, most);
        if let Some(tape) = &mut self.tape {
            tape.extend_from_slice(&self.incoming);
        }
        let mut input = self.incoming.as_slice();
        if let Some(tunnel) = &mut self.tunnel {
            loop {
                match tunnel.client.receive(&mut input, now) {
                    Ok(None) => break,
                    Ok(Some(piece)) => hear(&mut self.session, piece, now, each),
                    Err(_) => {
                        tunnel.over = true;
                        break;
                    }
                }
            }
            if tunnel.over {
                return Heard::Eof;
            }
            let lost = matches!(outcome, SimRead::Eof | SimRead::Reset);
            if (lost || tunnel.client.needs_connection()) && self.reconnects() {
                return Heard::Bytes(1);
            }
        } else {
            hear(&mut self.session, input, now, each);
        }
        match outcome {
            SimRead::Data(bytes) => Heard::Bytes(bytes),
            SimRead::Empty => Heard::Bytes(0),
            SimRead::Eof => Heard::Eof,
            SimRead::Reset => Heard::Reset,
        }
    }

    fn collect(&mut self) {
        if let Some(tunnel) = &mut self.tunnel {
            while let Some(bytes) = self.session.take_output() {
                tunnel.client.push(bytes);
            }
            return;
        }
        while let Some(bytes) = self.session.take_output() {
            self.outgoing.extend_from_slice(&bytes);
        }
    }
}

/// Gives bytes to a session, and what they say to whoever wants to know.
fn hear(
    session: &mut ClientSession,
    mut input: &[u8],
    now: Duration,
    each: &mut dyn FnMut(Result<ClientEvent<'_>, SessionError>),
) {
    loop {
        match session.next_event(&mut input, now) {
            Ok(None) => return,
            Ok(Some(event)) => each(Ok(event)),
            Err(error) => {
                each(Err(error));
                return;
            }
        }
    }
}
