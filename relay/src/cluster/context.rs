//! What the parts of the machine that deal with one stream are lent.

use std::sync::Arc;
use std::time::Duration;

use super::command::{Command, Path};
use super::entry::Local;
use super::identity::{NodeKey, Term};
use super::members::Members;
use super::message::{Digest, Edge, Ended, Message};
use super::outbox::Outbox;
use super::settings::Settings;
use super::tree::{Facts, Landscape};

pub(super) struct Context<'a> {
    pub(super) settings: &'a Settings,
    pub(super) members: &'a mut Members,
    pub(super) out: &'a mut Outbox,
    /// All that this node announces.
    pub(super) digest: &'a mut Digest,
    pub(super) now: Duration,
}

impl Context<'_> {
    pub(super) fn me(&self) -> NodeKey {
        self.settings.credentials.identity.key
    }

    /// Sends to a node, if it is connected.
    pub(super) fn tell(&mut self, key: NodeKey, message: &Message) {
        if let Some(line) = self.members.peer(key).and_then(|peer| peer.line) {
            self.out.send(line, message.encode());
        }
    }

    /// Sends to every connected node.
    pub(super) fn tell_all(&mut self, message: &Message) {
        let payload = message.encode();
        for line in self.members.peers().filter_map(|peer| peer.line) {
            self.out.send(line, payload.clone());
        }
    }

    pub(super) fn is_connected(&self, key: NodeKey) -> bool {
        self.members.peer(key).is_some_and(|peer| peer.line.is_some())
    }

    pub(super) fn left(&mut self, name: &Arc<str>, term: Term) {
        let ended = Ended { name: Arc::clone(name), epoch: term.epoch };
        self.tell(term.origin, &Message::Left(ended));
    }

    pub(super) fn withdraw(&mut self, name: &Arc<str>, local: Local) {
        let entries = vec![Ended { name: Arc::clone(name), epoch: local.epoch }];
        self.digest.remove(name, local.epoch, local.phase);
        self.tell_all(&Message::Withdraw { entries });
    }

    pub(super) fn unfed(&mut self, name: &Arc<str>, term: Term, child: NodeKey) {
        self.out.counters.unfed += 1;
        let edge = Edge { name: Arc::clone(name), epoch: term.epoch, child };
        self.tell(term.origin, &Message::Unfed(edge));
    }

    pub(super) fn drop_link(&mut self, name: &Arc<str>, from: NodeKey) {
        self.out.push(Command::Drop { name: Arc::clone(name), from });
    }

    pub(super) fn stop_feed(&mut self, name: &Arc<str>, to: NodeKey) {
        self.out.push(Command::StopFeed { name: Arc::clone(name), to });
    }

    pub(super) fn repath(&mut self, name: &Arc<str>, path: Path) {
        self.out.push(Command::Repath { name: Arc::clone(name), path });
    }
}

impl Landscape for Context<'_> {
    fn facts(&self, node: NodeKey) -> Option<Facts<'_>> {
        let own = &self.settings.credentials.identity;
        if node == own.key {
            let (spare_kbit, draining) = self.members.own_spare();
            return Some(Facts { zone: &own.zone, spare_kbit, draining });
        }
        let peer = self.members.peer(node).filter(|peer| peer.line.is_some())?;
        let (spare_kbit, draining) = (peer.spare_kbit, peer.draining);
        Some(Facts { zone: &peer.identity.zone, spare_kbit, draining })
    }

    fn promise(&mut self, node: NodeKey, kbit: u32) {
        self.members.promise(node, kbit);
    }
}
