//! What a tunnelled session says when it is asked: replies, then media straight from the log.
//!
//! The bytes leave the cursor here and are then the carrier's; no queue of the session's own lies
//! between. Lag is judged and players jump as on any other connection, at the moment of asking.

use std::time::Duration;

use bytes::Bytes;

use super::Worker;
use super::connection::{Connection, Parked, PlayNumber};
use super::flush::{has_all, ingested, media_sent};
use crate::reactor::ConnectionKey;
use crate::stream::{Cursor, Next};

impl Worker {
    /// Moves what there is to say behind `out`, up to the limit of one answer and the batch that
    /// passes it. Gives the bytes, and whether more is left.
    pub(super) fn fill(
        &mut self,
        key: ConnectionKey,
        out: &mut Vec<Bytes>,
        now: Duration,
    ) -> (usize, bool) {
        let mut total = 0;
        loop {
            let Some(connection) = self.connections.get_mut(key) else { return (total, false) };
            if connection.may_reply()
                && let Some(batch) = connection.take_replies()
            {
                total += batch.bytes();
                out.extend_from_slice(batch.slices());
                continue;
            }
            let Some(number) = next_play(connection) else { break };
            if total >= self.limits.tunnel_reply_bytes_max {
                self.count_tunnelled(key, total);
                return (total, true);
            }
            match self.pull(key, number, out, now) {
                Some(bytes) => total += bytes,
                None => break,
            }
        }
        self.count_tunnelled(key, total);
        (total, false)
    }

    fn count_tunnelled(&mut self, key: ConnectionKey, bytes: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let count = u64::try_from(bytes).unwrap_or(u64::MAX);
        connection.bytes_out += count;
        self.cells.egress_bytes.at(connection.role).add(count);
    }

    /// A play's turn to be sent has come. If it has something, it waits for a request. False when
    /// it is over.
    pub(super) fn media_ready(&mut self, key: ConnectionKey, number: PlayNumber) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        if connection.speech.makes_requests() {
            return self.media_for_tunnel(key, number);
        }
        let Some(play) = connection.play_numbered(number) else { return false };
        play.parked = Parked::No;
        let stopped = play.is_stopped();
        let Some(cursor) = play.cursor.as_ref() else { return true };
        if stopped && cursor.at_boundary() {
            return true;
        }
        match self.streams.get_mut(play.local) {
            Some(entry) if has_all(&self.hub, entry.log, cursor) => {
                play.parked = Parked::Waiting;
                entry.waiting.push((key, number));
            }
            _ => self.media_waits(key),
        }
        true
    }

    /// Takes a play's next batch; 0 bytes when it has everything, and waits for the next seal from
    /// here on. `None` when its stream is gone.
    pub(super) fn pull(
        &mut self,
        key: ConnectionKey,
        number: PlayNumber,
        out: &mut Vec<Bytes>,
        now: Duration,
    ) -> Option<usize> {
        let connection = self.connections.get_mut(key)?;
        let play = connection.play_numbered(number)?;
        let entry = self.streams.get_mut(play.local)?;
        let log = entry.log?;
        let cursor = play.cursor.as_mut()?;
        let next = self.hub.log(log).and_then(|log| log.get(cursor.segment()));
        let times = next.map(ingested).filter(|_| cursor.is_playing());
        let batch = self.hub.next_batch(log, cursor, now, &mut self.slices);
        let bytes = match batch.next {
            Next::Send { bytes } => {
                out.append(&mut self.slices);
                entry.bytes_out += u64::try_from(bytes).unwrap_or(u64::MAX);
                let times = times.filter(|_| batch.jumped.is_none());
                media_sent(&self.cells, connection, number, times, bytes, now);
                bytes
            }
            Next::AtHead | Next::WaitingForKey => {
                if play.parked == Parked::No {
                    play.parked = Parked::Waiting;
                    entry.waiting.push((key, number));
                }
                0
            }
            Next::Busy | Next::Gone => return None,
        };
        self.count_batch(key, &batch);
        if bytes == 0 {
            // It stands in a list again, or is about to be taken out of one.
            let play = self.connections.get_mut(key)?.play_numbered(number)?;
            if play.parked == Parked::Ring {
                return None;
            }
        }
        Some(bytes)
    }
}

/// The play whose media goes next: one that is within a message goes on, else one that is not known
/// to have everything.
pub(super) fn next_play(connection: &Connection) -> Option<PlayNumber> {
    let within = |cursor: &Cursor| !cursor.at_boundary();
    let plays = &connection.plays;
    let cut = plays.iter().find(|play| play.cursor.as_ref().is_some_and(within));
    let behind = || {
        plays.iter().find(|play| {
            play.cursor.is_some() && play.parked != Parked::Waiting && !play.is_stopped()
        })
    };
    cut.or_else(behind).map(|play| play.number)
}
