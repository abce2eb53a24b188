//! Limits of sessions that run, and how much of every limit is used: looked at twice a second.
//!
//! Who has to end is told why where the protocol has a word for it, and closed soon after.

use std::time::Duration;

use super::Worker;
use super::connection::Connection;
use super::ingest::{Ingest, Verdict};
use super::labels::{CloseReason, Full, LimitUse, PlayerDropReason, Role};
use super::mail::{Party, Request};
use super::play::leave_rest;
use super::publish::app_of;
use crate::limits::NO_BYTES_LIMIT;
use crate::reactor::ConnectionKey;
use crate::session::PublishEnd;
use crate::stream::Log;

/// From one look at a stream's rate to the next.
const RATE_SPAN: Duration = Duration::from_secs(2);

/// The first one is soon: players may be many before the second.
const FIRST_RATE_SPAN: Duration = Duration::from_millis(450);

/// A publisher's first key frame, and what came before it, take about so long to be sent again.
const GUESS_SPAN: Duration = Duration::from_millis(200);

/// What the registrar knows of a stream's rate.
#[derive(Debug, Default)]
pub(super) struct TellRate {
    looked: Option<(Duration, u64)>,
    told: u64,
}

impl TellRate {
    /// Looks at how many bytes a stream had so far. The rate, if the registrar should know.
    fn look(&mut self, bytes: u64, now: Duration) -> Option<u64> {
        let (then, before) = *self.looked.get_or_insert((now, bytes));
        let passed = now.saturating_sub(then);
        if passed < if self.told == 0 { FIRST_RATE_SPAN } else { RATE_SPAN } {
            return None;
        }
        self.looked = Some((now, bytes));
        let millis = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let rate = bytes.saturating_sub(before).saturating_mul(1_000).checked_div(millis)?;
        if rate.abs_diff(self.told) <= self.told / 4 {
            return None;
        }
        self.told = rate;
        Some(rate)
    }

    /// What is told of a stream that has only begun: its rate if the bytes so far had come in
    /// [`GUESS_SPAN`]. That is near enough for players and nodes that come before it is measured,
    /// which is after [`FIRST_RATE_SPAN`].
    pub(super) fn guess(bytes: u64) -> u64 {
        let millis = u64::try_from(GUESS_SPAN.as_millis()).unwrap_or(u64::MAX);
        (bytes.saturating_mul(1_000) / millis).max(1)
    }

    /// Another publisher: it is told anew.
    pub(super) fn begin_again(&mut self) {
        *self = Self::default();
    }
}

impl Worker {
    /// A connection publishes or plays a stream of this application from now on.
    pub(super) fn begin_session(&self, connection: &mut Connection, name: &str, now: Duration) {
        if connection.speech.is_outside() {
            // The operator ordered it: it may go on.
            return;
        }
        let own = &self.settings.app(app_of(name)).limits;
        let most = own.session.unwrap_or(self.limits.session_max);
        if !most.is_zero() {
            let end = connection.since.saturating_add(most);
            connection.ends_at = Some(connection.ends_at.map_or(end, |known| known.min(end)));
        }
        let (window, over) = (self.limits.ingest_window, own.ingest_over);
        if let Some(publish) = connection.publishes.last_mut().filter(|it| it.ingest.is_none()) {
            let rate = own.ingest_rate.unwrap_or(self.limits.ingest_rate_max);
            let ingest = || Box::new(Ingest::new(rate, window, over, now));
            publish.ingest = Some(ingest());
            publish.bytes = self.hub.log(publish.log).map_or(0, |log| log.pushed().bytes);
            connection.ingest.get_or_insert_with(ingest);
            fit_ingest(connection);
        }
    }

    /// Ends a session that is over a limit, and goes on reading a publisher that may send again.
    pub(super) fn check_session(&mut self, key: ConnectionKey, now: Duration) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.role == Role::Pending || connection.closing.is_some() {
            return;
        }
        fit_ingest(connection);
        let of_all = connection.ingest.as_mut().map(|ingest| ingest.look(now));
        let shares = connection.publishes.len() > 1;
        let of_each = connection.publishes.iter_mut().map(|publish| {
            let bytes = self.hub.log(publish.log).map_or(0, |log| log.pushed().bytes);
            let more = bytes.saturating_sub(std::mem::replace(&mut publish.bytes, bytes));
            let Some(ingest) = publish.ingest.as_mut() else { return Verdict::Fine };
            // One alone is judged by all that its connection sends.
            ingest.received(if shares { more } else { 0 });
            ingest.look(now)
        });
        let verdict = of_each.chain(of_all).max().unwrap_or(Verdict::Fine);
        let freed = connection.throttled && verdict == Verdict::Fine;
        let was_throttled = std::mem::replace(&mut connection.throttled, verdict == Verdict::Wait);
        if connection.throttled && !was_throttled {
            self.cells.publishers_slowed.increment();
        }
        // Whoever is at the limit is slowed again and again; it is told once.
        if was_throttled && !std::mem::replace(&mut connection.slowed, true) {
            let (id, peer) = (connection.id, connection.peer);
            let stream = connection.stream_name.as_deref().unwrap_or("-");
            tracing::warn!(%id, %peer, stream, "publisher sends more than it may and is read no faster");
        }
        let mut why = None;
        if verdict == Verdict::Close {
            why = Some("The publisher sends more than it may");
            connection.ending = excess(connection)
                .map(|excess| format!("it sends more than it may: {excess}").into());
        } else if connection.ends_at.is_some_and(|end| end <= now) {
            why = Some("The session has lasted as long as it may");
        }
        let idle_max = self.limits.publisher_idle_max;
        for publish in &mut connection.publishes {
            let pushed = self.hub.log(publish.log).map(Log::pushed);
            let messages = pushed.map_or(0, |pushed| pushed.messages);
            if messages != publish.messages || connection.throttled {
                (publish.messages, publish.heard) = (messages, now);
            } else if !idle_max.is_zero() && now.saturating_sub(publish.heard) >= idle_max {
                why = why.or(Some("The publisher has sent no media for too long"));
            }
        }
        if freed || why.is_some() {
            self.work(key, now, |worker, connection| {
                if let Some(why) = why {
                    worker.end_session(connection, CloseReason::Limit, why, now);
                }
            });
        }
    }

    /// Ends whatever a connection publishes and plays, tells it why, and closes it soon.
    pub(super) fn end_session(
        &mut self,
        connection: &mut Connection,
        reason: CloseReason,
        why: &'static str,
        now: Duration,
    ) {
        if connection.closing.is_some() {
            return;
        }
        let key = connection.key;
        connection.ending.get_or_insert_with(|| why.into());
        while let Some(publish) = connection.publishes.pop() {
            self.publish_ended(key, &publish);
            self.hook_ended(connection, publish.message_stream);
            let end = match reason {
                CloseReason::Drain => PublishEnd::Draining,
                _ => PublishEnd::Stopped(why.into()),
            };
            connection.speech.publish_ended(publish.message_stream, end);
        }
        while let Some(mut play) = connection.plays.pop() {
            leave_rest(connection, &mut play);
            let message_stream = play.message_stream;
            self.play_ended(key, play, now);
            self.hook_ended(connection, message_stream);
            connection.speech.play_ended(message_stream, why);
            let dropped = match reason {
                CloseReason::Limit => PlayerDropReason::Limit,
                CloseReason::Drain => PlayerDropReason::Drain,
                _ => continue,
            };
            self.cells.players_dropped.at(dropped).increment();
        }
        self.update_role(connection);
        self.close_soon(connection, reason, now);
    }

    /// The registrar says that nobody has watched this publisher for too long.
    pub(super) fn unwatched(&mut self, publisher: Party, now: Duration) {
        self.work(publisher.connection, now, |worker, connection| {
            if connection.publish(publisher.message_stream).is_some() {
                let why = "Nobody has played the stream for too long";
                worker.end_session(connection, CloseReason::Limit, why, now);
            }
        });
    }

    /// Shows how much of the limits is used. Called twice a second.
    pub(super) fn show_usage(&mut self, now: Duration) {
        self.tell_rates(now);
        let set = |limit, used: usize| {
            self.cells.limit_used.at(limit).set(u64::try_from(used).unwrap_or(u64::MAX));
        };
        set(LimitUse::Pending, self.pending);
        set(LimitUse::ControlMail, self.mailbox.waiting());
        let logs = self.streams.iter().filter_map(|(_, entry)| self.hub.log(entry.log?));
        set(LimitUse::LogBytes, logs.map(Log::held_bytes).max().unwrap_or(0));
        self.cells.limit_used.at(LimitUse::Session).set(self.sweep.seen.oldest);
        self.cells.limit_used.at(LimitUse::PublisherIdle).set(self.sweep.seen.silent);
        self.cells.limit_used.at(LimitUse::IngestRate).set(self.sweep.seen.fastest);
        set(LimitUse::TunnelsPerWorker, self.tunnels.sessions.len());
        set(LimitUse::TokenKeysWaiting, self.waiting_for_keys.len());
        let Some(registrar) = &self.registrar else { return };
        self.shared.show_app_usage(registrar.app_usage(&self.settings));
        // There is one registrar, so what is the whole node's is shown by it.
        let usage = registrar.usage(now, &self.settings);
        set(LimitUse::WantedNames, usage.wanted_names);
        set(LimitUse::Players, usage.players);
        set(LimitUse::PlayersPerApp, usage.of_app);
        set(LimitUse::PlayersPerStream, usage.of_stream);
        set(LimitUse::PublishersPerKey, usage.of_key);
        set(LimitUse::ConnectionsPerAddress, self.shared.addresses().most_open());
        set(LimitUse::HandshakesPerAddress, self.shared.addresses().take_peak());
        self.cells.full.at(Full::Players).set(u64::from(usage.is_full));
        self.cells.full.at(Full::Egress).set(u64::from(usage.is_sending_all));
    }

    /// Whether the registrar is told of rates.
    pub(super) fn tells_rates(&self) -> bool {
        self.limits.egress_rate_max < NO_BYTES_LIMIT || self.links.is_on()
    }

    /// Tells the registrar what the streams at home here have in bytes per second, if it is asked
    /// what fits, here or on other nodes.
    fn tell_rates(&mut self, now: Duration) {
        if !self.tells_rates() {
            return;
        }
        for local in self.streams.locals() {
            let Some(entry) = self.streams.get_mut(local).filter(|entry| entry.is_here()) else {
                continue;
            };
            let Some(log) = entry.log.and_then(|log| self.hub.log(log)) else { continue };
            let stream = entry.id;
            if let Some(rate) = entry.rate.look(log.pushed().bytes, now) {
                self.ask_registrar(Request::Rate { stream, rate });
            }
        }
    }
}

/// How much more it sends than it may, if it does.
fn excess(connection: &Connection) -> Option<String> {
    let of_each = connection.publishes.iter().filter_map(|it| it.ingest.as_deref());
    of_each.chain(connection.ingest.as_deref()).find_map(Ingest::excess)
}

/// A connection may send what the publishers that it is now may send together.
fn fit_ingest(connection: &mut Connection) {
    if let Some(of_all) = &mut connection.ingest {
        of_all.fit(connection.publishes.iter().filter_map(|publish| publish.ingest.as_deref()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_soon_and_then_when_it_changes_by_much() {
        let mut tell = TellRate::default();
        let mut bytes = 0;
        let mut told = Vec::new();
        for half in 0..40_u64 {
            let now = Duration::from_millis(half * 500);
            told.extend(tell.look(bytes, now).map(|rate| (half, rate)));
            // 1,000 bytes a second, a tenth more from 5 s on, twice as much from 10 s on.
            bytes += match half {
                0..10 => 500,
                10..20 => 550,
                _ => 1_000,
            };
        }
        let first = told.first().copied();
        assert_eq!(first, Some((1, 1_000)));
        assert_eq!(told.last().map(|(_, rate)| *rate), Some(2_000));
        assert!(told.len() <= 3, "{told:?}");
    }
}
