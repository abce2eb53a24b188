//! Mail from other workers.

use std::time::Duration;

use super::Worker;
use super::local::Place;
use super::mail::{Granted, Mail, Order, StreamId, WorkerIndex};
use crate::stream::Segment;

/// Pieces of mail read in one turn; the rest waits for the next. Fixed: about as much work as a
/// turn of sends.
const MAIL_PER_TURN: usize = 4_096;

impl Worker {
    pub(super) fn read_mail(&mut self, now: Duration) {
        for _ in 0..MAIL_PER_TURN {
            let Some(mail) = self.mailbox.receive() else { return };
            match mail {
                // The registrar lives on this worker.
                Mail::Request(request) => self.decide(request, now),
                Mail::Order(order) => self.obey(order, now),
                Mail::Subscribe { stream, worker } => self.subscribed(stream, worker, now),
                Mail::Unsubscribe { stream, worker, bytes_out } => {
                    self.unsubscribed(stream, worker, bytes_out);
                }
                Mail::Snapshot { stream, segments } => self.take_snapshot(stream, &segments, now),
                Mail::Segment { stream, segment } => {
                    self.last_segment = Some(now);
                    self.take_segment(stream, &segment);
                }
                Mail::Lost { stream } => self.begin_again(stream),
                Mail::Socket { socket, door } => self.take_over_socket(socket, door),
                Mail::Carrier { parcel } => self.take_over_carrier(*parcel, now),
                Mail::Step { worker, step } => self.asked_for(worker, step),
                Mail::Link(mail) => self.read_link_mail(*mail, now),
                Mail::Handover { stream, name, heritage, inheritance } => {
                    self.inherit(stream, &name, *heritage, inheritance, now);
                }
            }
        }
    }

    fn obey(&mut self, order: Order, now: Duration) {
        match order {
            Order::Grant { stream, publisher: party, name, fresh, term, link } => {
                let granted = Granted { party, term, link, over: false };
                self.granted(stream, granted, &name, fresh, now);
            }
            Order::Refuse { publisher, refusal } => self.refused(publisher, refusal, now),
            Order::Yield { stream, to, if_silent } => {
                self.asked_to_yield(stream, to, if_silent, now)
            }
            Order::Unwatched { publisher } => self.unwatched(publisher, now),
            Order::Overtaken { publisher } => self.overtaken(publisher, now),
            Order::Play { stream, player, name, home, push } => {
                self.play_granted((stream, push), player, &name, home, now);
            }
            Order::RefusePlay { player, name, why } => {
                self.play_refused(player, &name, why, now);
            }
            Order::Appeared { stream, home } => self.appeared(stream, home, now),
            Order::Ended { stream } => self.ended(stream, now),
        }
    }

    /// Another worker reads this stream from now on; it is sent what there is.
    pub(super) fn subscribed(&mut self, stream: StreamId, reader: WorkerIndex, now: Duration) {
        let Some(local) = self.streams.find(stream) else {
            self.early.add(stream, reader, now);
            return;
        };
        let Some(entry) = self.streams.get_mut(local) else { return };
        let readers = match &mut entry.place {
            Place::Here { readers, .. } => readers,
            // It has moved on since the reader was told: so does the request.
            Place::There { home, .. } if entry.granted.is_none() => {
                let home = *home;
                self.mailbox.send(home, Mail::Subscribe { stream, worker: reader });
                return;
            }
            // It is about to come here.
            Place::There { .. } | Place::Nowhere => {
                if !entry.early_readers.contains(&reader) {
                    entry.early_readers.push(reader);
                }
                return;
            }
        };
        let first = !readers.contains(&reader);
        let Some(log) = entry.log else { return };
        // What is sealed by now goes into the snapshot, and to the others, before the new one is
        // listed.
        let segments = self.hub.snapshot(log);
        self.flush(now);
        if first
            && let Some(Place::Here { readers, .. }) =
                self.streams.get_mut(local).map(|entry| &mut entry.place)
        {
            readers.push(reader);
            self.set_level(local);
        }
        self.cells.mail_snapshots.increment();
        self.mailbox.send(reader, Mail::Snapshot { stream, segments });
    }

    fn unsubscribed(&mut self, stream: StreamId, reader: WorkerIndex, bytes_out: u64) {
        self.early.remove(stream, reader);
        let Some(local) = self.streams.find(stream) else { return };
        let Some(entry) = self.streams.get_mut(local) else { return };
        entry.early_readers.retain(|early| *early != reader);
        match &mut entry.place {
            Place::Here { readers, .. } => {
                readers.retain(|listed| *listed != reader);
                entry.bytes_out += bytes_out;
                self.set_level(local);
            }
            Place::There { home, .. } => {
                let home = *home;
                let mail = Mail::Unsubscribe { stream, worker: reader, bytes_out };
                self.mailbox.send(home, mail);
            }
            Place::Nowhere => entry.bytes_out += bytes_out,
        }
    }

    fn take_snapshot(&mut self, stream: StreamId, segments: &[Segment], now: Duration) {
        let Some(local) = self.streams.find(stream) else { return };
        let Some(entry) = self.streams.get_mut(local) else { return };
        let Place::There { awaiting_snapshot, .. } = &mut entry.place else { return };
        *awaiting_snapshot = false;
        let log = match entry.log {
            Some(log) => log,
            None => {
                let log = self.hub.create();
                self.streams.set_log(local, log);
                log
            }
        };
        for segment in segments {
            self.hub.receive(log, segment);
        }
        self.seat_players(local, now);
    }

    /// A segment is missing: what the home has is asked for anew.
    fn begin_again(&mut self, stream: StreamId) {
        let worker = self.index();
        let Some(local) = self.streams.find(stream) else { return };
        let Some(entry) = self.streams.get_mut(local) else { return };
        let Place::There { home, awaiting_snapshot } = &mut entry.place else { return };
        if !std::mem::replace(awaiting_snapshot, true) {
            self.mailbox.send(*home, Mail::Subscribe { stream, worker });
        }
    }

    fn take_segment(&mut self, stream: StreamId, segment: &Segment) {
        let Some(local) = self.streams.find(stream) else { return };
        let Some(entry) = self.streams.get(local) else { return };
        let Place::There { awaiting_snapshot: false, .. } = entry.place else { return };
        let Some(log) = entry.log else { return };
        let next = self.hub.log(log).map_or(0, crate::stream::Log::next);
        if segment.number > next {
            // Mail of the old home may still be on its way when the new home's is here.
            self.begin_again(stream);
            return;
        }
        self.hub.receive(log, segment);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "post_tests.rs"]
mod tests;
