//! How a node of a cluster lets its clients go before it ends, so that they lose as little as they
//! can: publishers first, then players.
//!
//! ```text
//!   0 %      nobody is accepted any more; nodes that are fed from here are fed from elsewhere, and
//!            what is pulled is pulled by another node
//! 5-40 %   publishers, one after the other: asked to connect again, or ended in order; and whoever
//! has neither published nor played for a while, all at once 50 %     those of them that were asked
//! and are still there are ended 50-90 %  players, one after the other, each where its stream has a
//! key frame 95 %     players that are still there are ended 100 %    everything else; sooner when
//! nobody is left ```
//!
//! A stream whose publisher has moved to another node goes on coming here by a link until its last
//! player has left. A node without others has nowhere to send anybody: there everybody who
//! publishes or plays may stay until the window is over. Pushes and pulls of this node's own hold
//! nothing up: they end with their publishers, and when nobody is fed from them any more. Nothing
//! here decides where clients go; see `elsewhere.rs`.

use std::collections::VecDeque;
use std::time::Duration;

use super::Worker;
use super::connection::{Connection, Parked};
use super::labels::{CloseReason, DrainRole, DrainWay, Role};
use super::ring::Entry;
use super::{Ending, table};
use crate::reactor::{ConnectionKey, Operation};

/// From one look at who is to go next to another.
const STEP: Duration = Duration::from_millis(100);

/// A player whose turn has come waits at most so long for a key frame.
const KEY_WAIT: Duration = Duration::from_secs(3);

/// Who has been there for so long, and neither publishes nor plays, is not about to.
const IDLE: Duration = Duration::from_secs(5);

/// Parts of the window, in percent.
const PUBLISHERS_FROM: u32 = 5;
const PUBLISHERS_ASKED: u32 = 40;
const PUBLISHERS_OVER: u32 = 50;
const PLAYERS_ASKED: u32 = 90;
const PLAYERS_OVER: u32 = 95;

/// What clients are told.
const WHY: &str = "The server is about to end; connect again";

/// A worker's part of its node's drain.
#[derive(Debug, Default)]
pub(super) struct Drain {
    window: Duration,
    begun: Option<Duration>,
    /// When somebody is next let go.
    due: Duration,
    /// Players that go with the next key frame, and when they go without one.
    leaving: VecDeque<(Duration, Entry)>,
    /// Those of them that have come to one.
    parting: Vec<Entry>,
}

impl Drain {
    fn at(&self, percent: u32) -> Duration {
        self.begun.unwrap_or_default() + self.window * percent / 100
    }

    /// A player that was to leave has come to a key frame.
    pub(super) fn reached_key(&mut self, play: Entry) {
        self.parting.push(play);
    }
}

impl Worker {
    /// The control thread wants the node to end, and gives it so much time.
    pub(super) fn drain(&mut self, window: Duration, now: Duration) {
        self.shared.start_draining();
        self.drain_links(now);
        // Streams whose publishers have moved come from other nodes until the end.
        let closed = self.listeners.extract_if(.., |listener| !self.links.listens(*listener));
        self.operations.extend(closed.map(|listener| Operation::CloseListener { listener }));
        if self.ending == Ending::No {
            self.ending = Ending::Draining;
            self.drain = Drain { window, begun: Some(now), due: now, ..Drain::default() };
        }
    }

    /// Lets those go whose turn it is. `true`: the worker is to end.
    pub(super) fn drain_on(&mut self, now: Duration) -> bool {
        if now >= self.drain.due {
            self.drain.due = now + STEP;
            self.let_idle_go(now);
            if self.links.siblings.are_there() {
                self.let_publishers_go(now);
                self.let_players_go(now);
            }
            // What carries a tunnel ends with that.
            let left = self.those(|connection| connection.role != Role::Carrier).len();
            self.shared.show_left(self.index(), left);
        }
        now >= self.drain.at(100) || self.nobody_is_left()
    }

    /// Whether no client is there, on any worker, and nobody is fed from here.
    fn nobody_is_left(&self) -> bool {
        self.shared.nobody_is_left() && self.shared.feeds() == 0
    }

    fn let_idle_go(&mut self, now: Duration) {
        if now < self.drain.at(PUBLISHERS_FROM) {
            return;
        }
        let is_over = now >= self.drain.at(PUBLISHERS_OVER);
        let keys = self.those(|connection| {
            let idle = connection.role == Role::Pending && !connection.speech.is_waiting();
            let stays = connection.closing.is_none() && (is_over || !connection.asked_to_go);
            idle && stays && now.saturating_sub(connection.since) >= IDLE
        });
        for key in keys {
            if is_over {
                self.force_out(key, DrainRole::Idle, now);
            } else {
                self.work(key, now, |worker, connection| {
                    worker.dismiss(connection, DrainRole::Idle, now);
                });
            }
        }
    }

    fn let_publishers_go(&mut self, now: Duration) {
        let publishes = |connection: &Connection| {
            connection.role == Role::Publisher && connection.closing.is_none()
        };
        if now >= self.drain.at(PUBLISHERS_OVER) {
            for key in self.those(publishes) {
                self.force_out(key, DrainRole::Publisher, now);
            }
        } else if now >= self.drain.at(PUBLISHERS_FROM) {
            let keys = self.those(|connection| publishes(connection) && !connection.asked_to_go);
            let share = share(keys.len(), now, self.drain.at(PUBLISHERS_ASKED));
            for key in keys.into_iter().take(share) {
                self.work(key, now, |worker, connection| {
                    worker.dismiss(connection, DrainRole::Publisher, now);
                });
            }
        }
    }

    fn let_players_go(&mut self, now: Duration) {
        let plays = |connection: &Connection| {
            connection.role == Role::Player && connection.closing.is_none()
        };
        if now >= self.drain.at(PLAYERS_OVER) {
            for key in self.those(plays) {
                self.force_out(key, DrainRole::Player, now);
            }
        } else if now >= self.drain.at(PUBLISHERS_OVER) {
            while let Some((until, (key, number))) = self.drain.leaving.front().copied()
                && until <= now
            {
                self.drain.leaving.pop_front();
                self.part(key, number, now);
            }
            let keys = self.those(|connection| {
                let leaves = connection.plays.iter().any(|play| play.leaves);
                plays(connection) && !connection.asked_to_go && !leaves
            });
            let share = share(keys.len(), now, self.drain.at(PLAYERS_ASKED));
            let until = (now + KEY_WAIT).min(self.drain.at(PLAYERS_OVER));
            for key in keys.into_iter().take(share) {
                self.leave_at_key(key, until, now);
            }
        }
    }

    /// The connections of clients of which this is true, in order.
    fn those(&self, is_one: impl Fn(&Connection) -> bool) -> Vec<ConnectionKey> {
        let all = self.connections.iter().filter(|connection| !connection.speech.is_outside());
        all.filter(|connection| is_one(connection)).map(|connection| connection.key).collect()
    }

    /// A player is to go with the next key frame of what it plays; at once if it waits for its
    /// stream, or takes it by asking for it.
    fn leave_at_key(&mut self, key: ConnectionKey, until: Duration, now: Duration) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(play) = connection.plays.first_mut() else { return };
        let number = play.number;
        let comes = play.cursor.is_some() && !play.is_stopped() && !table::is_own(key);
        if comes {
            play.leaves = true;
            self.drain.leaving.push_back((until, (key, number)));
        } else {
            self.work(key, now, |worker, connection| {
                worker.dismiss(connection, DrainRole::Player, now);
            });
        }
    }

    /// Lets those players go that have come to a key frame.
    pub(super) fn part_at_keys(&mut self, now: Duration) {
        for (key, number) in std::mem::take(&mut self.drain.parting) {
            self.part(key, number, now);
        }
    }

    fn part(&mut self, key: ConnectionKey, number: u64, now: Duration) {
        self.work(key, now, |worker, connection| {
            let Some(play) = connection.play_numbered(number).filter(|play| play.leaves) else {
                return;
            };
            play.leaves = false;
            worker.dismiss(connection, DrainRole::Player, now);
            // Who was only asked goes on playing until it leaves.
            if let Some(play) = connection.play_numbered(number)
                && play.parked == Parked::No
                && connection.sending.is_none()
                && let Some(play) = connection.play_numbered(number)
            {
                play.parked = Parked::Ring;
                worker.ring.push_behind((key, number));
            }
        });
    }

    /// Asks a client to connect again elsewhere, or ends what it does.
    fn dismiss(&mut self, connection: &mut Connection, role: DrainRole, now: Duration) {
        if connection.closing.is_some() || connection.asked_to_go {
            return;
        }
        let to = self.sibling_url(connection);
        let way = if connection.speech.reconnect_request(to.as_deref()) {
            connection.asked_to_go = true;
            DrainWay::Asked
        } else {
            self.end_session(connection, CloseReason::Drain, WHY, now);
            DrainWay::Ended
        };
        self.cells.drained.at((role, way)).increment();
        tracing::debug!(id = %connection.id, role = role.label(), way = way.label(), "let go");
    }

    fn force_out(&mut self, key: ConnectionKey, role: DrainRole, now: Duration) {
        self.work(key, now, |worker, connection| {
            worker.cells.drained.at((role, DrainWay::Forced)).increment();
            worker.end_session(connection, CloseReason::Drain, WHY, now);
        });
    }
}

/// How many of `left` go in this step, so that the last of them goes just before `until`.
fn share(left: usize, now: Duration, until: Duration) -> usize {
    let steps = until.saturating_sub(now).as_millis().div_ceil(STEP.as_millis()).max(1);
    left.div_ceil(usize::try_from(steps).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_gone_when_their_time_is_over_and_no_step_takes_many() {
        for count in [0, 1, 7, 99, 100, 101, 5_000] {
            let (mut left, mut most, mut last) = (count, 0, Duration::ZERO);
            for step in 0..100_u32 {
                let now = STEP * step;
                let share = share(left, now, STEP * 100);
                assert!(share <= left, "{share} of {left}");
                (left, most) = (left - share, most.max(share));
                last = if share > 0 { now } else { last };
            }
            assert_eq!(left, 0, "of {count}");
            assert!(most <= count.div_ceil(100), "{most} of {count} at once");
            assert!(last < STEP * 100);
        }
        assert_eq!(share(5, STEP * 3, STEP), 5, "too late: all of them");
    }
}
