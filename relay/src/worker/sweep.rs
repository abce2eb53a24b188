//! Deadlines and limits that need no better than half a second: each connection and each stream is
//! looked at twice a second, a fifth of the connections at a time.

use std::time::Duration;

use super::connection::Connection;
use super::labels::{CloseReason, MemoryKind, Role, Source};
use super::local::{LocalStream, Place};
use super::mail::{Mail, Request};
use super::{Ending, Worker};
use crate::limits::is_sparse;
use crate::reactor::{ListenerKey, Operation};
use crate::stream::{self, HeldBytes};

/// From one sweep to the next.
const INTERVAL: Duration = Duration::from_millis(100);

/// Sweeps in which each connection is looked at once.
const PARTS: usize = 5;

/// After accepting failed, it is tried again so much later.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Where the sweep is.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    due: Duration,
    part: usize,
    accept_again: Vec<(Duration, ListenerKey)>,
    /// This worker's share of the node's log bytes, as last reported.
    log_bytes: usize,
    /// Cuts of logs, here or elsewhere, that were followed here.
    log_cuts_seen: usize,
    /// And of the bytes that connections hold.
    connection_bytes: usize,
    /// What was seen of the connections when each of them was last looked at.
    pub(super) seen: Seen,
    /// And of those that were looked at since.
    seeing: Seen,
}

/// Sums over connections, made while each is looked at anyway: all of them at once, several times
/// over, would cost more than all other deeds of a sweep.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// User-space bytes that they hold besides unfinished messages.
    held: usize,
    /// Bytes of unfinished messages.
    partial: usize,
    /// Bytes that TLS holds.
    tls: usize,
    /// The longest time, in whole seconds, for which one that publishes or plays has been there.
    pub(super) oldest: u64,
    /// The longest time, in whole seconds, that one that publishes has sent no media for.
    pub(super) silent: u64,
    /// The highest rate that a publisher sends at, in bytes per second.
    pub(super) fastest: u64,
}

impl Seen {
    fn add(&mut self, connection: &Connection, now: Duration) {
        if connection.role != Role::Carrier {
            self.held += connection.held_bytes();
        }
        self.partial += connection.speech.partial_bytes();
        self.tls += connection.tls.as_ref().map_or(0, |tls| tls.held_bytes());
        if connection.role != Role::Pending {
            self.oldest = self.oldest.max(now.saturating_sub(connection.since).as_secs());
            let silent = connection.publishes.iter().map(|p| now.saturating_sub(p.heard)).max();
            self.silent = self.silent.max(silent.map_or(0, |silent| silent.as_secs()));
            let rate = connection.ingest.as_ref().map_or(0, |ingest| ingest.measured());
            self.fastest = self.fastest.max(rate);
        }
    }
}

impl Sweep {
    pub(super) fn next(&self, now: Duration) -> Duration {
        self.due.max(now)
    }

    pub(super) fn accept_later(&mut self, listener: ListenerKey, now: Duration) {
        self.accept_again.push((now + ACCEPT_PAUSE, listener));
    }
}

impl Worker {
    pub(super) fn sweep(&mut self, now: Duration) {
        self.sweep_ending(now);
        if now < self.sweep.due {
            return;
        }
        self.sweep.due = now + INTERVAL;
        self.accept_again(now);
        self.look_at_load(now);
        self.early.tick(now);
        self.check_dials(now);
        self.stop_waiting_for_keys(now);
        self.send_notices();
        self.tick_registrar(now);
        self.tend_links(now);
        self.tell_names();
        let part = self.sweep.part;
        self.sweep.part = (part + 1) % PARTS;
        if part == 0 {
            self.sweep.seen = std::mem::take(&mut self.sweep.seeing);
        }
        for slot in (part..self.connections.slots()).step_by(PARTS) {
            if let Some(key) = self.connections.key_at(slot) {
                self.check_deadlines(key, now);
                self.hook_updates(key, now);
                self.check_session(key, now);
                self.check_permits(key, now);
                if let Some(connection) = self.connections.get(key) {
                    self.sweep.seeing.add(connection, now);
                }
            }
        }
        if part == 0 {
            self.leave_empty_streams(now);
            self.reads_remote = self.streams.reads_remote();
            self.hub.forget_left_views(now);
            self.observe_flows(now);
            self.publish_egress(now);
            self.show_usage(now);
            self.shrink_tables();
            self.watch_memory();
        }
    }

    /// Gives back the memory of tables that once held much more than they do now.
    fn shrink_tables(&mut self) {
        self.connections.shrink();
        self.streams.shrink();
        self.ring.shrink(usize::try_from(self.players).unwrap_or(usize::MAX));
        if is_sparse(self.wanted.len(), self.wanted.capacity()) {
            self.wanted.shrink_to_fit();
        }
        self.hub.shrink_tables();
    }

    fn accept_again(&mut self, now: Duration) {
        let operations = &mut self.operations;
        self.sweep.accept_again.retain(|(at, listener)| {
            let wait = *at > now;
            if !wait {
                operations.push(Operation::Accept { listener: *listener, on: true });
            }
            wait
        });
        self.show_failed_accepts();
    }

    /// Who listens and cannot accept is not ready.
    pub(super) fn show_failed_accepts(&self) {
        let failed = u64::try_from(self.sweep.accept_again.len()).unwrap_or(u64::MAX);
        self.cells.accepts_failed.set(failed);
    }

    /// Closes a connection whose time is over.
    fn check_deadlines(&mut self, key: crate::reactor::ConnectionKey, now: Duration) {
        self.check_tunnel(key, now);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let stalled = connection
            .sending_since()
            .is_some_and(|since| now.saturating_sub(since) >= self.limits.send_stall_max);
        let over = connection.closing.filter(|closing| closing.at <= now);
        // Who is not read cannot be heard.
        let is_read = !connection.throttled;
        let late = connection.check_deadline(&self.limits, now).err().filter(|_| is_read);
        let unanswered = !connection.waits_for_hook()
            && connection
                .asked_since
                .is_some_and(|since| now.saturating_sub(since) >= self.limits.verdict_timeout);
        if !stalled && over.is_none() && late.is_none() && !unanswered {
            return;
        }
        self.work(key, now, |worker, connection| {
            if let Some(closing) = over {
                worker.close(connection, closing.reason, None, now);
            } else if stalled {
                let detail = "a batch was not gone within send_stall_max";
                worker.close(connection, CloseReason::Slow, Some(&detail), now);
            } else if let Some(error) = late {
                worker.close(connection, CloseReason::Timeout, Some(&error), now);
            } else if unanswered {
                let detail = "no verdict on its publish or play within verdict_timeout";
                worker.close(connection, CloseReason::Timeout, Some(&detail), now);
            }
        });
    }

    /// Streams of which this worker has had no players for a while are no longer mailed here.
    fn leave_empty_streams(&mut self, now: Duration) {
        let linger = self.limits.unsubscribe_linger;
        let is_left = |since: Option<Duration>| since.is_some_and(|since| now >= since + linger);
        let left: Vec<usize> = self
            .streams
            .iter()
            .filter(|(_, entry)| !entry.is_here() && entry.granted.is_none())
            .filter(|(_, entry)| {
                is_left(entry.empty_since) && !self.wanted.contains_key(&entry.name)
            })
            .map(|(local, _)| local)
            .collect();
        let worker = self.index();
        for local in left {
            let Some(entry) = self.streams.get(local) else { continue };
            let (stream, bytes_out) = (entry.id, entry.bytes_out);
            if let Place::There { home, .. } = entry.place {
                self.mailbox.send(home, Mail::Unsubscribe { stream, worker, bytes_out });
            }
            self.ask_registrar(Request::Unwant { worker, stream });
            self.forget_stream(local);
        }
    }

    /// Reports this worker's share of the logs, and shrinks it when the node holds too much.
    fn watch_memory(&mut self) {
        let mut held = self.hub.held_bytes();
        self.report_log_bytes(held);
        let total = self.shared.log_bytes();
        if total > self.limits.log_bytes_total {
            // Every worker sees the same sum and cuts its own part of the excess.
            let excess = total - self.limits.log_bytes_total;
            let mine = held.home + held.views;
            self.hub.shrink(mine - part_of(mine, excess, total));
            self.shared.count_log_cut();
            held = self.hub.held_bytes();
            self.report_log_bytes(held);
        }
        let cuts = self.shared.log_cuts();
        if std::mem::replace(&mut self.sweep.log_cuts_seen, cuts) != cuts {
            // Logs mailed here are not in the sum, since homes share their bytes. They keep what
            // joining players need and no more, so as not to hold on to what homes let go of.
            self.hub.shrink_remote(0);
        }
        let tunnels = self.watch_tunnels();
        let set = |kind, bytes: usize| {
            self.cells.memory.at(kind).set(u64::try_from(bytes).unwrap_or(u64::MAX));
        };
        set(MemoryKind::Log, held.home);
        set(MemoryKind::View, held.views);
        let Seen { held, partial, tls, .. } = self.sweep.seen;
        set(MemoryKind::Connection, held);
        set(MemoryKind::Partial, partial);
        set(MemoryKind::Tunnel, tunnels);
        let tls = tls + self.link_tls_bytes();
        set(MemoryKind::Tls, tls + self.seal_buffers.held_bytes());
        let share = held + partial + tls + tunnels;
        self.shared.move_connection_bytes(self.sweep.connection_bytes, share);
        self.sweep.connection_bytes = share;
        self.cells.copied_bytes.set(self.hub.copied_bytes());
        let homes = || self.streams.iter().filter(|(_, entry)| entry.is_here());
        let remote = homes().filter(|(_, entry)| self.links.is_fed(entry)).count();
        let local = homes().count() - remote;
        for (source, count) in [(Source::Local, local), (Source::Remote, remote)] {
            self.cells.streams.at(source).set(u64::try_from(count).unwrap_or(u64::MAX));
        }
        let is_remote = |entry: &&LocalStream| {
            let log = entry.log.and_then(|log| self.hub.log(log));
            log.and_then(stream::Log::newest).is_some_and(stream::Segment::is_remote)
        };
        let fed = self.streams.iter().map(|(_, entry)| entry).filter(is_remote);
        let remote: usize =
            fed.map(|entry| entry.transports().map(|(_, players)| players).sum::<usize>()).sum();
        self.players_remote = u64::try_from(remote).unwrap_or(u64::MAX);
        self.count_players();
    }

    /// Logs of streams mailed here share their bytes with the home's; views are this worker's own.
    fn report_log_bytes(&mut self, held: HeldBytes) {
        let bytes = held.home + held.views;
        self.shared.move_log_bytes(self.sweep.log_bytes, bytes);
        self.sweep.log_bytes = bytes;
    }

    pub(super) fn count_players(&self) {
        let remote = self.players_remote.min(self.players);
        self.cells.players.at(Source::Remote).set(remote);
        self.cells.players.at(Source::Local).set(self.players - remote);
    }

    fn sweep_ending(&mut self, now: Duration) {
        match self.ending {
            Ending::No | Ending::Ended => {}
            Ending::Draining => {
                if self.drain_on(now) {
                    self.ending = Ending::Now;
                    self.end(now);
                }
            }
            Ending::Now => self.end(now),
        }
    }

    fn end(&mut self, now: Duration) {
        for slot in 0..self.connections.slots() {
            let Some(key) = self.connections.key_at(slot) else { continue };
            self.work(key, now, |worker, connection| {
                worker.close(connection, CloseReason::Drain, None, now);
            });
        }
        for listener in std::mem::take(&mut self.listeners) {
            self.operations.push(Operation::CloseListener { listener });
        }
        self.end_links(now);
        self.give_up_verdicts();
        self.ending = Ending::Ended;
    }
}

/// The part of `excess` that falls to somebody who holds `held` of `total`, rounded up.
fn part_of(held: usize, excess: usize, total: usize) -> usize {
    let [held_wide, excess, total] =
        [held, excess, total].map(|bytes| u128::try_from(bytes).unwrap_or(u128::MAX));
    let part = held_wide.saturating_mul(excess).div_ceil(total.max(1));
    usize::try_from(part).map_or(held, |part| part.min(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excess_is_cut_in_proportion() {
        fn check(held: usize, excess: usize, total: usize, part: usize) {
            assert_eq!(part_of(held, excess, total), part, "{held} of {total}, {excess} too many");
        }
        check(0, 100, 1_000, 0);
        check(1_000, 100, 1_000, 100);
        check(500, 100, 1_000, 50);
        check(1, 1, 1_000, 1);
        check(999, 1, 1_000, 1);
        // More than the sum says, since it was reported a moment ago.
        check(3_000, 500, 1_000, 1_500);
        check(10, 1_000, 1_000, 10);
        check(usize::MAX, usize::MAX, usize::MAX, usize::MAX);
        check(7, 5, 0, 7);
    }
}
