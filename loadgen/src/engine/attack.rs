//! Hostile clients: what each kind says, and how a kind is chosen.
//!
//! None of them needs the server to be wrong: every byte is one that a broken or ill-meant client
//! may send. They are counted by whether the server gets rid of them, and judged by whether the
//! good clients beside them notice anything.

use bytes::{BufMut, Bytes, BytesMut};
use relay::wire::amf::Value;
use relay::wire::chunk_writer::write_message;
use relay::wire::control::{ControlMessage, UserControl};
use relay::wire::handshake::{ClientHandshake, HandshakeProgress};
use relay::wire::message::{MessageHeader, MessageType, chunk_stream};
use relay::wire::reply;
use relay::wire::timestamp::Timestamp;

macro_rules! attacks {
    ($($kind:ident $name:literal: $meaning:literal;)*) => {
        /// A way to be hostile.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Attack {
            $(#[doc = $meaning] $kind,)*
        }

        impl Attack {
            /// Every way.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The name on the command line.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// What it does.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$kind => $meaning,)* }
            }
        }
    };
}

attacks! {
    Silent "silent": "Connects and says nothing.";
    HalfHandshake "half-handshake": "Says half of the handshake and waits.";
    Trickle "trickle": "Says the handshake at a byte a second.";
    Garbage "garbage": "Says random bytes.";
    Http "http": "Asks for a page.";
    Idle "idle": "Connects in order and then does nothing.";
    HugeMessage "huge-message": "Claims a message of 16 MiB and sends little of it.";
    ManyStreams "many-streams": "Begins a message on each of 60,000 chunk streams.";
    TinyChunks "tiny-chunks": "Sets a chunk size of 1 and sends a long command.";
    DeepValues "deep-values": "Sends AMF objects 20,000 deep.";
    BadChunk "bad-chunk": "Goes on with a chunk stream that never began.";
    PingFlood "ping-flood": "Asks for a sign of life 2,000 times a second and reads nothing.";
    Flood "flood": "Calls unknown commands as fast as the server takes them.";
}

/// A hostile client on one connection.
#[derive(Debug)]
pub(super) struct Attacker {
    kind: Attack,
    handshake: Option<ClientHandshake>,
    /// Of the trickle.
    left: Bytes,
    attacking: bool,
    random: fastrand::Rng,
}

impl Attacker {
    pub(super) fn new(kind: Attack, seed: u64) -> Self {
        Self {
            kind,
            handshake: None,
            left: Bytes::new(),
            attacking: false,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// What it says when the connection is there.
    pub(super) fn hello(&mut self) -> Option<Bytes> {
        let mut handshake = ClientHandshake::new(self.random.u64(..));
        let mut hello = handshake.hello();
        match self.kind {
            Attack::Silent => None,
            Attack::HalfHandshake => Some(hello.split_to(hello.len() / 2)),
            Attack::Trickle => {
                self.left = hello;
                None
            }
            Attack::Garbage => {
                Some((0..4_000).map(|_| self.random.u8(..)).collect::<Vec<u8>>().into())
            }
            Attack::Http => Some(Bytes::from_static(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")),
            _ => {
                self.handshake = Some(handshake);
                Some(hello)
            }
        }
    }

    /// Takes what the server said; what it says to that.
    pub(super) fn receive(&mut self, mut bytes: &[u8]) -> Vec<Bytes> {
        let mut out = Vec::new();
        while let Some(handshake) = &mut self.handshake {
            match handshake.receive(&mut bytes) {
                Ok(HandshakeProgress::Reply(reply)) => out.push(reply),
                Ok(HandshakeProgress::Done) => {
                    self.handshake = None;
                    self.attacking = true;
                    out.extend(self.attack());
                }
                Ok(HandshakeProgress::More) | Err(_) => break,
            }
        }
        out
    }

    /// Whether it reads what the server says.
    pub(super) fn reads(&self) -> bool {
        !(self.attacking && self.kind == Attack::PingFlood)
    }

    /// What it says next, asked ten times a second.
    pub(super) fn step(&mut self, tenth: u64) -> Option<Bytes> {
        match self.kind {
            Attack::Trickle if tenth.is_multiple_of(10) && !self.left.is_empty() => {
                Some(self.left.split_to(1))
            }
            Attack::PingFlood | Attack::Flood if self.attacking => self.attack(),
            _ => None,
        }
    }

    fn attack(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        match self.kind {
            Attack::Idle => command(&mut out, "connect", &[connect()], 128),
            Attack::HugeMessage => {
                // Video of 16 MiB - 1 on chunk stream 6 and message stream 1; a first chunk of it.
                out.extend_from_slice(&[6, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0]);
                out.put_bytes(0x17, 128);
            }
            Attack::ManyStreams => {
                for id in 0..60_000_u16 {
                    let [low, high] = id.to_le_bytes();
                    out.extend_from_slice(&[1, low, high, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0]);
                    out.put_bytes(0x17, 128);
                }
            }
            Attack::TinyChunks => {
                ControlMessage::SetChunkSize(1).write(&mut out);
                let text = "x".repeat(30_000);
                command(&mut out, "connect", &[Value::text(&text)], 1);
            }
            Attack::DeepValues => {
                let mut payload = BytesMut::new();
                reply::call(&mut payload, "connect", 1.0, &[]);
                for _ in 0..20_000 {
                    // An object whose property "a" is an object.
                    payload.extend_from_slice(&[3, 0, 1, b'a']);
                }
                message(&mut out, &payload, 128);
            }
            // A header of format 3 on chunk stream 9.
            Attack::BadChunk => out.extend_from_slice(&[0xc0 | 9, 1, 2, 3]),
            Attack::PingFlood => {
                for time in 0..200 {
                    let ping = UserControl::PingRequest { time };
                    ControlMessage::UserControl(ping).write(&mut out);
                }
            }
            Attack::Flood => {
                for _ in 0..500 {
                    command(&mut out, "pleaseRepeat", &[Value::Null], 128);
                }
            }
            Attack::Silent
            | Attack::HalfHandshake
            | Attack::Trickle
            | Attack::Garbage
            | Attack::Http => return None,
        }
        Some(out.freeze())
    }
}

fn connect() -> Value<'static> {
    Value::object([("app", Value::text("live")), ("tcUrl", Value::text("rtmp://localhost/live"))])
}

fn command(out: &mut BytesMut, name: &str, values: &[Value<'_>], chunk_bytes: usize) {
    let mut payload = BytesMut::new();
    reply::call(&mut payload, name, 1.0, values);
    message(out, &payload, chunk_bytes);
}

fn message(out: &mut BytesMut, payload: &[u8], chunk_bytes: usize) {
    let kind = MessageType::CommandAmf0;
    let header = MessageHeader { timestamp: Timestamp(0), length: 0, kind, message_stream: 0 };
    write_message(out, chunk_stream::COMMAND, &header, payload, chunk_bytes);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use relay::wire::handshake::ServerHandshake;

    use super::*;

    #[test]
    fn each_kind_says_something_of_its_own() {
        for kind in Attack::ALL {
            let mut attacker = Attacker::new(*kind, 1);
            let hello = attacker.hello();
            let speaks = !matches!(kind, Attack::Silent | Attack::Trickle);
            assert_eq!(hello.is_some(), speaks, "{kind:?}");
            let mut server = ServerHandshake::new(2);
            let hello = hello.unwrap_or_default();
            let Ok(HandshakeProgress::Reply(answer)) = server.receive(&mut &hello[..]) else {
                continue;
            };
            let said = attacker.receive(&answer);
            let goes_on = attacker.attacking;
            assert_eq!(said.len(), if goes_on { 2 } else { 0 }, "{kind:?}");
        }
    }

    #[test]
    fn the_trickle_is_a_byte_a_second() {
        let mut attacker = Attacker::new(Attack::Trickle, 1);
        assert!(attacker.hello().is_none());
        let said: Vec<_> = (0..100).filter_map(|tenth| attacker.step(tenth)).collect();
        assert_eq!(said.len(), 10);
        assert!(said.iter().all(|bytes| bytes.len() == 1));
    }
}
