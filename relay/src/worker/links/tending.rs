//! Looking after the links that feed other nodes, at each sweep: streams are kept alive on them,
//! what a link cannot carry is let go, and one without streams is closed.
//!
//! How far a link is behind is told by time of arrival, and by how much more a stream is behind
//! than it was at best since it began there: whoever takes a stream up begins with its newest key
//! frame, which may be many seconds old, and has not been kept waiting for that.

use std::cmp::Reverse;
use std::time::Duration;

use super::feeding::{OutFeed, OutLink};
use crate::cluster::NodeKey;
use crate::reactor::ConnectionKey;
use crate::stream::Hub;
use crate::worker::Worker;
use crate::worker::labels::{CloseReason, LinkRefusal};

/// How long a stream that is behind is let go after another one was.
const SHED_PAUSE: Duration = Duration::from_millis(500);

impl OutFeed {
    /// How far it is behind, beyond what it began with.
    fn lag(&self, hub: &Hub) -> Duration {
        let lag = self.reader.as_ref().map_or(Duration::ZERO, |own| hub.feed_lag(self.log, own));
        lag.saturating_sub(self.allowance)
    }

    /// What it has caught up is not granted to it again.
    fn shrink_allowance(&mut self, hub: &Hub) {
        if let Some(own) = &self.reader {
            self.allowance = self.allowance.min(hub.feed_lag(self.log, own));
        }
    }

    /// Players that depend on it; before that was said they may be many.
    fn worth(&self) -> u32 {
        self.players.unwrap_or(u32::MAX)
    }
}

impl OutLink {
    /// How far it is behind its streams.
    pub(super) fn lag(&self, hub: &Hub) -> Duration {
        self.feeds.values().map(|feed| feed.lag(hub)).max().unwrap_or_default()
    }

    /// The stream that is missed least: with the fewest players, and of those the one that is
    /// furthest behind.
    fn least(&self, hub: &Hub) -> Option<u32> {
        let running = self.feeds.iter().filter(|(_, feed)| feed.reader.is_some());
        let least = running.min_by_key(|(_, feed)| (feed.worth(), Reverse(feed.lag(hub))));
        least.map(|(message_stream, _)| *message_stream)
    }
}

impl Worker {
    /// Keeps links alive, lets go of what they cannot carry, and closes those without streams.
    pub(super) fn tend_out_links(&mut self, now: Duration) {
        for to in self.links.out.keys().copied().collect::<Vec<_>>() {
            self.keep_alive(to, now);
            self.shed(to, now);
            let Some(link) = self.links.out.get_mut(&to) else { continue };
            let age = now.saturating_sub(link.since);
            if !link.up && age >= self.limits.cluster_hello_timeout {
                tracing::info!(node = %to, "a node that is to be fed does not greet in time");
                let connection = link.connection;
                self.close_out_link(to, connection, CloseReason::Timeout);
                continue;
            }
            if !link.feeds.is_empty() {
                continue;
            }
            let idle = *link.idle_since.get_or_insert(now);
            if now.saturating_sub(idle) >= self.links.linger {
                let connection = link.connection;
                self.close_out_link(to, connection, CloseReason::Ended);
            }
        }
    }

    fn close_out_link(
        &mut self,
        to: NodeKey,
        connection: Option<ConnectionKey>,
        reason: CloseReason,
    ) {
        self.end_out_link(to);
        let link = connection.and_then(|key| self.links.connections.remove(&key));
        if let Some(link) = link {
            self.close_link(link, reason, None);
        }
    }

    fn keep_alive(&mut self, to: NodeKey, now: Duration) {
        let every = self.limits.link_keep_alive;
        let Some(link) = self.links.out.get(&to).filter(|link| link.up) else { return };
        let due = |feed: &OutFeed| now.saturating_sub(feed.said) >= every;
        let due: Vec<u32> =
            link.feeds.iter().filter(|(_, feed)| due(feed)).map(|(id, _)| *id).collect();
        for message_stream in due {
            self.say_at(to, message_stream, now);
        }
    }

    /// A link that is behind by more than it may be feeds one stream less.
    fn shed(&mut self, to: NodeKey, now: Duration) {
        let Some(link) = self.links.out.get_mut(&to) else { return };
        for feed in link.feeds.values_mut() {
            feed.shrink_allowance(&self.hub);
        }
        if link.lag(&self.hub) < self.limits.link_lag_max
            || now.saturating_sub(link.shed) < SHED_PAUSE
        {
            return;
        }
        let Some(message_stream) = link.least(&self.hub) else { return };
        let Some(feed) = link.feeds.get(&message_stream) else { return };
        let local = feed.local;
        tracing::warn!(
            node = %to,
            stream = &*feed.order.name,
            players = feed.players,
            "a stream is let go since the link to its node is behind"
        );
        link.shed = now;
        self.cells.link_refused.at(LinkRefusal::Behind).increment();
        self.let_go(to, message_stream, local);
    }
}
