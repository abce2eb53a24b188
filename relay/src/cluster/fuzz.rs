//! Bodies of the fuzz targets of the cluster's protocol: plain functions that take any bytes and
//! must not panic.

use std::sync::Arc;
use std::time::Duration;

use super::hello::{Credentials, Greeted, Greeting, Role, Secret};
use super::identity::{Identity, NodeKey};
use super::message::Message;
use super::{Cluster, Command, Conflict, Line, Settings};
use crate::limits::Limits;

/// A message between nodes: read, then written and read again, there and back, since "ours" and
/// "theirs" of a refused version change places with each reader.
pub fn message(data: &[u8]) {
    let limits = Limits::default();
    if let Ok(Some(message)) = Message::decode(data, &limits) {
        let there = Message::decode(&message.encode(), &limits);
        let Ok(Some(there)) = there else { panic!("{message:?} is read as {there:?}") };
        let back = Message::decode(&there.encode(), &limits);
        assert_eq!(back, Ok(Some(message)), "what is written is read back");
    }
}

/// A message of a greeting, at each of its places: nobody is taken in who does not know the secret.
pub fn greeting(data: &[u8]) {
    let limits = Limits::default();
    let (us, them) = (credentials("a", 1), credentials("b", 2));
    let mut acceptor = Greeting::accept(&us, [1; 32], None);
    drop(acceptor.receive(data, &limits));
    let (mut dialler, _) = Greeting::dial(&us, Role::Control, [1; 32], None);
    if let Greeted::Reply(_) = dialler.receive(data, &limits) {
        assert!(!matches!(dialler.receive(data, &limits), Greeted::Done(..)));
    }
    let (_, hello) = Greeting::dial(&them, Role::Control, [2; 32], None);
    let mut acceptor = Greeting::accept(&us, [1; 32], None);
    assert!(matches!(acceptor.receive(&hello, &limits), Greeted::Reply(_)));
    assert!(!matches!(acceptor.receive(data, &limits), Greeted::Done(..)));
}

/// What a peer says that was taken in: messages behind their lengths of two bytes each, to a node
/// that publishes one stream and wants others. Time passes between them.
pub fn peer(data: &[u8]) {
    let mut node = Cluster::new(Settings {
        credentials: credentials("a", 1),
        limits: Arc::new(Limits::default()),
        fanout_max: 2,
        doors: ["rtmp://a".into()].into(),
        operators: None,
        link_linger: Duration::from_secs(1),
        seed: [3; 32],
    });
    let mut now = Duration::from_secs(1);
    let line = Line::Accepted(1);
    let limits = Limits::default();
    let from = std::net::SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), 1);
    node.accepted(line, from, None, now);
    let (mut dialler, hello) = Greeting::dial(&credentials("b", 2), Role::Control, [2; 32], None);
    node.received(line, &hello, now);
    while let Some(command) = node.next_command() {
        if let Command::Send { payload, .. } = command
            && let Greeted::Reply(reply) = dialler.receive(&payload, &limits)
        {
            node.received(line, &reply, now);
        }
    }
    assert_eq!(node.connected(), 1, "it was taken in");
    let own: Arc<str> = "live/one".into();
    assert!(node.claim(&own, Conflict::Takeover, now).is_ok());
    node.live(&own, now);
    for wanted in ["live/one", "live/b", "live/zwei ü"] {
        node.wanted(&wanted.into(), now);
    }
    let mut rest = data;
    while let Some((length, more)) = rest.split_at_checked(2) {
        let length = usize::from(u16::from_be_bytes([length[0], length[1]])).min(more.len());
        let (payload, more) = more.split_at(length);
        rest = more;
        node.received(line, payload, now);
        now += Duration::from_millis(u64::try_from(length).unwrap_or(0) * 10);
        node.tick(now);
        while let Some(command) = node.next_command() {
            if let Command::Feed { name, to, .. } = command {
                node.feed_ended(&name, to, now);
            }
        }
        let usage = node.usage();
        assert!(usage.peers <= 1 && usage.lines <= 1 && usage.feeds <= 4 * usage.names);
    }
}

fn credentials(name: &str, key: u64) -> Arc<Credentials> {
    let identity = Identity {
        name: name.into(),
        key: NodeKey(key),
        started: key,
        zone: "".into(),
        link_port: 11_935,
    };
    let secret = Secret::new(b"sixteen bytes or more").expect("long enough");
    Arc::new(Credentials { identity, secret, versions: 1..=1 })
}
