//! Queries of the control thread, answered from this worker's tables within the turn.

use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
use super::labels::{CloseReason, Role, Source};
use super::local::{LocalStream, Place};
use super::publish::app_of;
use super::report::{
    ConnectionFilter, ConnectionId, ConnectionShare, HomeSum, PAGE_MAX, Publisher, Query,
    StreamHome, StreamKey, StreamShare, StreamState, StreamSum, StreamSums,
};
use super::settings::Settings;
use super::{Ending, Worker};
use crate::stream;
use crate::wire::amf0::Amf0Reader;
use crate::wire::needs::Need;

/// Queries answered in one turn: a list looks at every stream or connection once, and must not keep
/// players waiting for many of its kind.
const QUERIES_PER_TURN: usize = 4;

impl Worker {
    pub(super) fn answer_queries(&mut self, now: Duration) {
        for _ in 0..QUERIES_PER_TURN {
            let Some(query) = self.queries.next() else { return };
            match query {
                Query::Streams { after, limit, reply } => {
                    reply.send(self.stream_shares(after.as_ref(), limit));
                }
                Query::Stream { key, reply } => {
                    let wanted = (&*key.app, &*key.name);
                    let found = self.streams.iter().find(|(_, entry)| parts(&entry.name) == wanted);
                    reply.send(found.map(|(_, entry)| self.stream_share(entry)));
                }
                Query::StreamSums { from, limit, reply } => {
                    reply.send(self.stream_sums(from, limit));
                }
                Query::Connections { after, filter, limit, reply } => {
                    reply.send(self.connection_shares(after, &filter, limit));
                }
                Query::Close { connection, reply } => reply.send(self.close_by_id(connection, now)),
                Query::Settings { settings, reply } => {
                    self.go_by(settings);
                    reply.send(());
                }
                Query::Peers(addresses) => self.take_peers(&addresses, now),
                Query::Nodes { reply } => reply.send(self.node_shares()),
                Query::Elsewhere { name, reply } => reply.send(self.is_elsewhere(&name)),
                Query::Links { reply } => reply.send(self.link_shares()),
                Query::TokenKeys(keys) => self.take_keys(keys, now),
                Query::Outside(order) => self.begin_outside(*order, now),
                Query::EndOutside(id) => self.end_outside(id, now),
                Query::Order(order) => self.take_order(order, now),
                Query::Watch(watch) => self.watch_names(watch),
                Query::Drain { window } => self.drain(window, now),
                Query::Stop => self.ending = Ending::Now,
            }
        }
    }

    /// New sessions, new streams and all that is judged from now on go by these settings. Sessions
    /// keep the limits of their own protocol that they began with.
    fn go_by(&mut self, settings: Arc<Settings>) {
        self.limits = Arc::new(settings.limits.clone());
        self.hub.set_limits(Arc::clone(&self.limits));
        self.limit_cluster();
        self.settings = settings;
        self.hooks.generation += 1;
        for local in self.streams.locals() {
            let Some(entry) = self.streams.get_mut(local) else { continue };
            let app = self.settings.app(app_of(&entry.name));
            entry.join = app.join;
            entry.fixed_flush = app.flush;
            self.set_level(local);
        }
    }

    fn close_by_id(&mut self, id: ConnectionId, now: Duration) -> bool {
        let found = self.connections.iter().find(|connection| connection.id == id);
        let Some(key) = found.map(|connection| connection.key) else { return false };
        self.work(key, now, |worker, connection| {
            if connection.publishes.is_empty() && connection.plays.is_empty() {
                worker.close(connection, CloseReason::Operator, None, now);
            } else {
                worker.end_session(connection, CloseReason::Operator, "An operator ended it", now);
            }
        });
        true
    }

    fn stream_shares(&self, after: Option<&StreamKey>, limit: usize) -> Vec<StreamShare> {
        let after = after.map(|after| (&*after.app, &*after.name));
        let mut found: Vec<&LocalStream> = self
            .streams
            .iter()
            .map(|(_, entry)| entry)
            .filter(|entry| entry.log.is_some() || !entry.players.is_empty())
            .filter(|entry| after.is_none_or(|after| parts(&entry.name) > after))
            .collect();
        keep_smallest(&mut found, limit.min(PAGE_MAX), |entry| parts(&entry.name));
        found.into_iter().map(|entry| self.stream_share(entry)).collect()
    }

    fn stream_share(&self, entry: &LocalStream) -> StreamShare {
        StreamShare {
            key: key_of(entry),
            players: entry.transports().map(|(_, players)| players).sum(),
            transports: entry.transports().collect(),
            bytes_out: entry.bytes_out,
            home: self.stream_home(entry),
        }
    }

    fn stream_sums(&self, from: usize, limit: usize) -> StreamSums {
        let end = from.saturating_add(limit.clamp(1, PAGE_MAX)).min(self.streams.slots());
        let entries = (from..end).filter_map(|local| self.streams.get(local));
        let listed = entries.filter(|entry| entry.log.is_some() || !entry.players.is_empty());
        let rows = listed.map(|entry| StreamSum {
            name: Arc::clone(&entry.name),
            players: entry.players.len(),
            bytes_out: entry.bytes_out,
            home: self.home_sum(entry),
        });
        StreamSums { rows: rows.collect(), next: (end < self.streams.slots()).then_some(end) }
    }

    fn home_sum(&self, entry: &LocalStream) -> Option<HomeSum> {
        let Place::Here { publisher, .. } = entry.place else { return None };
        let stats = self.hub.stats(entry.log?)?;
        let published = publisher.and_then(|party| {
            let connection = self.connections.get(party.connection)?;
            Some(connection.publish(party.message_stream)?.since)
        });
        Some(HomeSum { bytes_in: stats.payload_bytes, published, last_key: stats.last_key })
    }

    fn stream_home(&self, entry: &LocalStream) -> Option<StreamHome> {
        let Place::Here { publisher, since, epoch, .. } = &entry.place else { return None };
        let stats = self.hub.stats(entry.log?)?;
        let holder = publisher.and_then(|party| {
            let connection = self.connections.get(party.connection)?;
            let publish = connection.publish(party.message_stream)?;
            Some(Publisher {
                id: connection.id,
                peer: connection.peer,
                since: publish.since,
                client: connection.client().to_owned(),
            })
        });
        // In its grace it is where it came from last.
        let newest = entry.log.and_then(|log| self.hub.log(log)).and_then(stream::Log::newest);
        let was_fed = publisher.is_none() && newest.is_some_and(stream::Segment::is_remote);
        let is_remote = was_fed || self.links.is_fed(entry);
        Some(StreamHome {
            source: if is_remote { Source::Remote } else { Source::Local },
            epoch: *epoch,
            state: if publisher.is_some() { StreamState::Live } else { StreamState::Grace },
            publisher: holder,
            since: *since,
            bytes_in: stats.payload_bytes,
            bytes_per_second: publisher.and_then(|_| entry.flow.bytes_per_second()),
            dropped: stats.dropped,
            log_bytes: u64::try_from(stats.log_bytes).unwrap_or(u64::MAX),
            video: stats.video_codec.map(|codec| codec.name().to_owned()),
            size: self.size_of(entry),
            audio: stats.audio_codec.map(|codec| codec.name().to_owned()),
            tracks: self.tracks_of(entry),
            last_key: stats.last_key,
            gop: stats.gop,
            needs: self.needs_of(entry),
        })
    }

    /// What the newest headers ask of players.
    fn needs_of(&self, entry: &LocalStream) -> Vec<String> {
        let newest = entry.log.and_then(|log| self.hub.log(log)?.newest());
        let needs = newest.map(|newest| newest.prelude.needs()).unwrap_or_default();
        needs.iter().map(Need::to_string).collect()
    }

    /// Tracks of video and of audio, as far as their headers are kept.
    fn tracks_of(&self, entry: &LocalStream) -> (usize, usize) {
        let newest = entry.log.and_then(|log| self.hub.log(log)?.newest());
        newest.map_or((0, 0), |newest| newest.prelude.tracks())
    }

    /// Width and height in pixels, as the publisher's metadata tells them.
    fn size_of(&self, entry: &LocalStream) -> Option<(u32, u32)> {
        let newest = self.hub.log(entry.log?)?.newest()?;
        let mut metadata = Amf0Reader::new(newest.prelude.metadata()?, &self.limits);
        metadata.read().ok()?;
        let properties = metadata.read().ok()?;
        Some((properties.get("width")?.as_u32()?, properties.get("height")?.as_u32()?))
    }

    fn connection_shares(
        &self,
        after: Option<ConnectionId>,
        filter: &ConnectionFilter,
        limit: usize,
    ) -> Vec<ConnectionShare> {
        let later = |connection: &&Connection| after.is_none_or(|after| connection.id > after);
        // What a carrier carries is listed by itself, wherever its carriers are.
        let listed = |connection: &&Connection| connection.role != Role::Carrier;
        let found = self.connections.iter().filter(later).filter(listed);
        let found = found.filter(|connection| fits(connection, filter));
        let mut found: Vec<&Connection> = found.collect();
        keep_smallest(&mut found, limit.min(PAGE_MAX), |connection| connection.id);
        found.into_iter().map(|connection| self.connection_share(connection)).collect()
    }

    /// How far a player is behind its publisher, by its first play.
    pub(super) fn lag_of(&self, connection: &Connection) -> Option<Duration> {
        let play = connection.plays.first()?;
        let log = self.streams.get(play.local)?.log?;
        Some(self.hub.lag(log, play.cursor.as_ref()?))
    }

    fn connection_share(&self, connection: &Connection) -> ConnectionShare {
        let name = connection.stream_name.as_deref();
        ConnectionShare {
            id: connection.id,
            role: connection.role,
            transport: connection.transport(),
            peer: connection.peer,
            stream: name.map(split),
            client: connection.client().to_owned(),
            since: connection.since,
            bytes_in: connection.bytes_in,
            bytes_out: connection.bytes_out,
            lag: self.lag_of(connection),
            jumps: connection.jumps,
            dropped: connection.dropped,
        }
    }
}

/// Whether a connection is one of those that are meant.
fn fits(connection: &Connection, filter: &ConnectionFilter) -> bool {
    let name = connection.stream_name.as_deref().map(parts).unzip();
    filter.role.is_none_or(|role| role == connection.role)
        && filter.transport.is_none_or(|transport| transport == connection.transport())
        && filter.address.is_none_or(|address| address == connection.peer.ip().to_canonical())
        && filter.app.as_deref().is_none_or(|app| name.0 == Some(app))
        && filter.name.as_deref().is_none_or(|wanted| name.1 == Some(wanted))
}

/// Keeps the `count` items of the smallest keys, in order: only those are sorted.
fn keep_smallest<'a, T, K: Ord>(
    items: &mut Vec<&'a T>,
    count: usize,
    key: impl Fn(&'a T) -> K + Copy,
) {
    if count < items.len() {
        items.select_nth_unstable_by(count, |a, b| key(a).cmp(&key(b)));
        items.truncate(count);
    }
    items.sort_unstable_by_key(|item| key(item));
}

fn key_of(entry: &LocalStream) -> StreamKey {
    split(&entry.name)
}

fn split(name: &str) -> StreamKey {
    let (app, name) = parts(name);
    StreamKey::new(app, name)
}

/// The application and the name within it.
fn parts(name: &str) -> (&str, &str) {
    let app = app_of(name);
    (app, name[app.len()..].trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_the_smallest_keys_in_order() {
        let mut random = fastrand::Rng::with_seed(7);
        let all: Vec<u32> = (0..1_000).map(|_| random.u32(..500)).collect();
        let mut sorted = all.clone();
        sorted.sort_unstable();
        for count in [0, 1, 2, 499, 999, 1_000, 2_000] {
            let mut page: Vec<&u32> = all.iter().collect();
            keep_smallest(&mut page, count, |number| *number);
            let page: Vec<u32> = page.into_iter().copied().collect();
            assert_eq!(page, sorted[..count.min(1_000)], "{count}");
        }
    }

    #[test]
    fn a_name_has_two_parts() {
        assert_eq!(parts("live/a"), ("live", "a"));
        assert_eq!(parts("live/a/b"), ("live", "a/b"));
        assert_eq!(parts("/a"), ("", "a"));
    }
}
