//! From sealed segments to sends: the hot path of egress.
//!
//! A seal touches no player: the list of those who wait moves to the send ring as it is, and each
//! player is looked at once, when its turn comes.

use std::time::Duration;

use bytes::Bytes;

use super::cells::Cells;
use super::connection::{Connection, Parked, PlayNumber, Sending, What};
use super::labels::{CloseReason, DropReason, Hop, JumpReason, MessageKind, Role};
use super::limiting::TellRate;
use super::local::Place;
use super::mail::{Mail, Request};
use super::ring::{Entry, Share};
use super::speech::Speech;
use super::table;
use super::{REGISTRAR, Worker};
use crate::reactor::{Batch, ConnectionKey, Operation};
use crate::stream::{self, Cursor, Next};
use crate::tls::TlsError;

impl Worker {
    /// Seals what is due, mails it to the workers that read it and queues the players that wait for
    /// it.
    pub(super) fn flush(&mut self, now: Duration) {
        let mut ready = std::mem::take(&mut self.ready);
        let tells_rates = self.tells_rates();
        self.hub.flush(now, &mut ready);
        for log in ready.drain(..) {
            let Some(local) = self.streams.find_log(log) else { continue };
            let Some(entry) = self.streams.get_mut(local) else { continue };
            entry.wake_all(&mut self.ring);
            self.links.wake(&entry.fed);
            if entry.live_from.is_some() && is_live(&self.hub, log, entry.live_from) {
                entry.live_from = None;
                if let Some(log) = self.hub.log(log).filter(|_| tells_rates) {
                    let (stream, rate) = (entry.id, TellRate::guess(log.pushed().bytes));
                    self.mailbox.send(REGISTRAR, Mail::Request(Request::Rate { stream, rate }));
                }
                self.mailbox.send(REGISTRAR, Mail::Request(Request::Live { stream: entry.id }));
            }
            let Place::Here { readers, .. } = &mut entry.place else { continue };
            let stream = entry.id;
            for segment in self.hub.take_sealed(log) {
                readers.retain(|reader| {
                    let mail = Mail::Segment { stream, segment: segment.clone() };
                    let sent = self.mailbox.send_or_lose(*reader, mail);
                    if sent {
                        self.cells.mail_sent.increment();
                    } else {
                        // It does not keep up. What it missed it is told, and asks for anew.
                        self.cells.mail_lost.increment();
                        self.mailbox.send(*reader, Mail::Lost { stream });
                    }
                    sent
                });
            }
        }
        self.ready = ready;
    }

    /// Submits this turn's share of sends.
    pub(super) fn send_ring(&mut self, now: Duration) {
        let mut share = Share::of_turn(self.limits.sends_per_turn);
        let connections = &self.connections;
        self.ring.clear_up(|(key, play)| {
            let connection = connections.get(*key);
            connection.is_some_and(|connection| connection.plays.iter().any(|p| p.number == *play))
        });
        let mut warmed = 0;
        self.sealed = 0;
        while self.sealed < SEALED_PER_TURN {
            if warmed == 0 {
                self.connections.warm(self.ring.next(WARMED).map(|(key, _)| *key));
                warmed = WARMED;
            }
            warmed -= 1;
            let Some((entry, at_head)) = self.ring.pop(&mut share) else { break };
            if !self.send_media(entry, at_head, now) {
                self.ring.pass_over(&mut share, at_head);
            }
        }
    }

    /// Sends a play what there is for it. `false` when the play is over.
    fn send_media(&mut self, (key, number): Entry, at_head: bool, now: Duration) -> bool {
        if table::is_own(key) {
            return self.media_ready(key, number);
        }
        let Some(connection) = self.connections.get_mut(key) else { return false };
        let others_whole = connection.others_at_boundary(number);
        let busy = connection.sending.is_some() || connection.closing.is_some() || !others_whole;
        let Some(play) = connection.plays.iter_mut().find(|play| play.number == number) else {
            return false;
        };
        play.parked = Parked::No;
        let stopped = play.is_stopped();
        let Some(cursor) = play.cursor.as_mut() else { return true };
        if busy || (stopped && cursor.at_boundary()) {
            // What is under way queues it again once it is gone.
            return true;
        }
        let Some(entry) = self.streams.get_mut(play.local) else { return true };
        let Some(log) = entry.log else { return true };
        if play.leaves && self.hub.is_before_key(log, cursor) {
            self.drain.reached_key((key, number));
            return true;
        }
        let reads =
            self.hub.log(log).and_then(|log| Some((log.get(cursor.segment())?, log.newest()?)));
        let times = reads.map(|(next, newest)| (ingested(next), newest.ingested));
        let times = times.filter(|_| cursor.is_playing());
        let batch = self.hub.next_batch(log, cursor, now, &mut self.slices);
        match batch.next {
            Next::Send { bytes } => {
                let mut handles = one_or_many(&mut self.slices);
                if let Some(tls) = connection.tls.as_deref_mut() {
                    match tls.seal(&handles, &self.seal_buffers) {
                        Ok(sealed) => handles = sealed,
                        Err(error) => {
                            self.seal_failed(key, &error, now);
                            return true;
                        }
                    }
                    cursor.advance(bytes);
                    self.sealed += 1;
                }
                self.operations.push(Operation::Send { connection: key, batch: handles });
                self.cells.sends.increment();
                entry.bytes_out += u64::try_from(bytes).unwrap_or(u64::MAX);
                let times = times.filter(|_| batch.jumped.is_none());
                if let Some(((next, _), newest)) = times {
                    self.cells.player_lag.observe(newest.saturating_sub(next));
                }
                // Those behind wait for themselves, or for what they joined with.
                let ingested = times.map(|(next, _)| next).filter(|_| at_head);
                let what = What::Media { play: number, ingested };
                connection.sending = Some(Sending { since: now, what });
            }
            Next::AtHead | Next::WaitingForKey => {
                play.parked = Parked::Waiting;
                entry.waiting.push((key, number));
            }
            Next::Busy | Next::Gone => {}
        }
        self.count_batch(key, &batch);
        true
    }

    /// What a play was to be sent cannot be sealed: its connection ends.
    fn seal_failed(&mut self, key: ConnectionKey, error: &TlsError, now: Duration) {
        self.work(key, now, |worker, connection| {
            worker.close(connection, CloseReason::Fault, Some(error), now);
        });
    }

    pub(super) fn count_batch(&mut self, key: ConnectionKey, batch: &stream::Batch) {
        if batch.joined {
            self.judge_needs(key);
        }
        if let Some(jump) = batch.jumped {
            let reason = match jump {
                stream::JumpReason::Lag => JumpReason::Lag,
                stream::JumpReason::Trimmed => JumpReason::Trimmed,
            };
            self.cells.player_jumps.at(reason).increment();
            if let Some(connection) = self.connections.get_mut(key) {
                connection.jumps += 1;
                tracing::debug!(id = %connection.id, reason = ?jump, "player moved forward");
            }
        }
        let carried = &batch.carried;
        for (kind, count) in [
            (MessageKind::Audio, carried.audio),
            (MessageKind::Video, carried.video),
            (MessageKind::Data, carried.data),
        ] {
            if count > 0 {
                self.cells.egress_messages.at(kind).add(u64::from(count));
            }
        }
        if batch.skipped > 0 {
            let cell = self.cells.messages_dropped.at((MessageKind::Video, DropReason::Lag));
            cell.add(batch.skipped);
            if let Some(connection) = self.connections.get_mut(key) {
                connection.dropped += batch.skipped;
            }
        }
    }

    /// A batch is gone.
    pub(super) fn sent(&mut self, key: ConnectionKey, bytes: usize, now: Duration) {
        let Some(connection) = self.connections.get_mut(key) else {
            match self.outlets.sockets.get(&key).copied() {
                Some(session) => self.sent(session, bytes, now),
                None => self.link_sent(key, bytes, now),
            }
            return;
        };
        let Some(sending) = connection.sending.take() else { return };
        if let Some(tls) = connection.tls.as_deref_mut() {
            tls.sent();
        }
        let count = u64::try_from(bytes).unwrap_or(u64::MAX);
        connection.bytes_out += count;
        let carries = match (connection.role, &connection.speech) {
            (Role::Carrier | Role::Pending, Speech::Carrier(carrier)) => {
                Some(carrier.overhead(count))
            }
            _ => None,
        };
        // What a carrier carries was counted as its session's.
        self.cells.egress_bytes.at(connection.role).add(carries.unwrap_or(count));
        if let What::Media { play, ingested } = sending.what {
            // A cursor advances when its bytes are sealed.
            let bytes = if connection.tls.is_some() { 0 } else { bytes };
            media_sent(&self.cells, connection, play, ingested, bytes, now);
        }
        if connection.has_replies() {
            self.work(key, now, |worker, connection| worker.send_replies(connection, now));
        }
        if carries.is_some() {
            self.answer_gone(key, now);
        } else {
            self.queue_again(key);
        }
    }

    /// Queues the plays of a connection that nothing else will queue.
    fn queue_again(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.sending.is_some() {
            return;
        }
        for play in &mut connection.plays {
            let Some(cursor) = play.cursor.as_ref() else { continue };
            let may_go = !play.is_stopped() || !cursor.at_boundary();
            if play.parked == Parked::No && may_go {
                match self.streams.get_mut(play.local) {
                    Some(entry) if has_all(&self.hub, entry.log, cursor) => {
                        play.parked = Parked::Waiting;
                        entry.waiting.push((key, play.number));
                    }
                    Some(entry) if is_close(&self.hub, entry.log, cursor) => {
                        play.parked = Parked::Ring;
                        self.ring.push_heads(std::iter::once((key, play.number)), 0);
                    }
                    _ => {
                        play.parked = Parked::Ring;
                        self.ring.push_behind((key, play.number));
                    }
                }
            }
        }
    }

    /// Sends the replies that wait, unless something is under way.
    pub(super) fn send_replies(&mut self, connection: &mut Connection, now: Duration) {
        if !connection.may_reply() {
            return;
        }
        let Some(socket) = connection.socket() else { return };
        let batch = if connection.tls.is_some() {
            match self.sealed_replies(connection) {
                Ok(batch) => batch,
                Err(error) => {
                    self.close(connection, CloseReason::Fault, Some(&error), now);
                    return;
                }
            }
        } else {
            connection.take_replies()
        };
        if let Some(batch) = batch {
            self.operations.push(Operation::Send { connection: socket, batch });
            self.cells.sends.increment();
            connection.sending = Some(Sending { since: now, what: What::Replies });
        }
    }
}

/// When the oldest message of a segment was complete at ingest, and where that was.
pub(super) fn ingested(segment: &stream::Segment) -> (Duration, Hop) {
    (segment.ingested, if segment.is_remote() { Hop::Link } else { Hop::Local })
}

/// A batch of a play is gone; `bytes` of it have not left the cursor yet.
#[inline]
pub(super) fn media_sent(
    cells: &Cells,
    connection: &mut Connection,
    play: PlayNumber,
    ingested: Option<(Duration, Hop)>,
    bytes: usize,
    now: Duration,
) {
    if let Some((ingested, hop)) = ingested {
        cells.fanout_lag.at(hop).observe(now.saturating_sub(ingested));
    }
    if let Some(play) = connection.play_numbered(play)
        && let Some(cursor) = play.cursor.as_mut()
    {
        if bytes > 0 {
            cursor.advance(bytes);
        }
        if !std::mem::replace(&mut play.started, true) {
            let took = now.saturating_sub(play.asked);
            cells.join_time.at(play.found).observe(took);
        }
    }
}

/// Whether the publisher that began with this segment has sent a key frame, or has no video.
fn is_live(hub: &stream::Hub, log: stream::StreamKey, from: Option<u64>) -> bool {
    let (Some(log), Some(from)) = (hub.log(log), from) else { return false };
    let has_key = log.newest_key().is_some_and(|key| key >= from);
    has_key || log.newest().is_some_and(|newest| newest.video == stream::Video::Never)
}

/// Whether a playing cursor has everything that was sealed.
pub(super) fn has_all(hub: &stream::Hub, log: Option<stream::StreamKey>, cursor: &Cursor) -> bool {
    let next = log.and_then(|log| hub.log(log)).map(stream::Log::next);
    cursor.at_boundary() && cursor.is_playing() && next == Some(cursor.segment())
}

/// Whether a playing cursor is so little behind that it counts as at the head: what was sealed
/// while its last batch was under way is no catching up.
fn is_close(hub: &stream::Hub, log: Option<stream::StreamKey>, cursor: &Cursor) -> bool {
    cursor.is_playing() && log.is_some_and(|log| hub.lag(log, cursor) <= CLOSE)
}

/// Batches sealed before they are handed over. A sealed batch has bytes of its own: more of them
/// at a time would be out of the caches, and out of buffers to be used again, before the kernel
/// reads them.
const SEALED_PER_TURN: usize = 32;

/// See [`is_close`]. Longer than a flush window and a turn, and much shorter than a group of
/// pictures.
const CLOSE: Duration = Duration::from_millis(200);

/// Connections that are loaded into the caches together, before the first of them is sent to.
const WARMED: usize = 16;

fn one_or_many(slices: &mut Vec<Bytes>) -> Batch {
    match slices.len() {
        1 => Batch::One(slices.swap_remove(0)),
        2 => {
            let second = slices.swap_remove(1);
            Batch::Two([slices.swap_remove(0), second])
        }
        _ => Batch::Many(std::mem::take(slices)),
    }
}
