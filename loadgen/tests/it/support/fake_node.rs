//! A node of a cluster that knows the secret and does what nodes do not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use relay::cluster::message::Message;
use relay::cluster::{Credentials, Greeted, Greeting, Identity, NodeKey, Role, Secret};
use relay::limits::Limits;
use relay::session::link::{LinkEvent, LinkSession};

use super::START;
use super::nets::Space;

/// A control connection to a node, greeted.
pub(crate) struct FakeNode {
    socket: TcpStream,
    session: LinkSession,
}

impl FakeNode {
    /// Dials a node from this network and greets it.
    pub(crate) fn join(space: &Space, to: SocketAddr, secret: &str, name: &str) -> Self {
        let mut socket = space.within(|| TcpStream::connect(to)).unwrap();
        socket.set_read_timeout(Some(START)).unwrap();
        let identity = Identity {
            name: name.into(),
            key: NodeKey(1),
            started: 1,
            zone: "".into(),
            link_port: 1,
        };
        let secret = Secret::new(secret.as_bytes()).unwrap();
        let credentials = Arc::new(Credentials { identity, secret, versions: 1..=1 });
        let (mut greeting, hello) = Greeting::dial(&credentials, Role::Control, [7; 32], None);
        let limits = Limits::default();
        let mut session = LinkSession::dial(&limits, 1);
        let (mut buffer, begun, mut is_met) = (vec![0; 65_536], Instant::now(), false);
        while !is_met {
            flush(&mut session, &mut socket);
            let count = socket.read(&mut buffer).unwrap();
            assert!(count > 0, "the node does not let us in");
            let mut input = &buffer[..count];
            loop {
                let mut said = None;
                match session.next_event(&mut input, begun.elapsed()).unwrap() {
                    None => break,
                    Some(LinkEvent::Open) => said = Some(hello.clone()),
                    Some(LinkEvent::Data { payload, .. }) if !is_met => {
                        match greeting.receive(&payload, &limits) {
                            Greeted::Reply(payload) => said = Some(payload),
                            Greeted::Done(_, payload) => (said, is_met) = (payload, true),
                            Greeted::Refused(why, _) | Greeted::TurnedAway(why, _) => {
                                panic!("not let in: {why}")
                            }
                        }
                    }
                    Some(_) => {}
                }
                if let Some(payload) = said {
                    session.say(0, &payload);
                }
            }
        }
        flush(&mut session, &mut socket);
        Self { socket, session }
    }

    /// Says something, and reads past whatever was said meanwhile.
    pub(crate) fn say(&mut self, message: &Message) {
        self.session.say(0, &message.encode());
        flush(&mut self.session, &mut self.socket);
        self.socket.set_read_timeout(Some(Duration::from_micros(1))).unwrap();
        let _ = self.socket.read(&mut [0; 65_536]);
    }
}

fn flush(session: &mut LinkSession, socket: &mut TcpStream) {
    while let Some(bytes) = session.take_output() {
        socket.write_all(&bytes).unwrap();
    }
}
