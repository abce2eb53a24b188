//! Whose turn it is among the requests of one session: each number once and in order, on however
//! many connections they come.
//!
//! A request that is next is taken, its body as it streams in. One that comes early waits in its
//! connection, unread, for at most a second while nobody brings what stands before it. One that
//! was cut off goes on where it stopped when it comes again; one that was answered is answered
//! again as long as the answer is held, which is until the next one is.

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::request::Verb;

/// How many requests may wait for those before them.
pub const AHEAD_MAX: u64 = 4;

/// How long they wait while nobody brings what stands before them.
const GAP_MAX: Duration = Duration::from_secs(1);

/// How long the first requests wait for one with the number 0. Clients begin with it, but for Flash
/// Player, which may begin with 1, and by several connections another may overtake it.
const FIRST_MAX: Duration = Duration::from_millis(200);

/// A request as its head tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Its number.
    pub number: u64,
    /// What for.
    pub verb: Verb,
    /// Length of its body in bytes.
    pub length: u64,
}

/// What is to be done with a request. `K` names the carrier, the connection that brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn<K> {
    /// It is its turn: its body is to be [taken](Order::take), then it is to be answered.
    Now {
        /// A carrier that had brought the same request and is owed nothing any more.
        instead_of: Option<K>,
    },
    /// Others come first. The carrier is to ask again when [`Order::answered`] or [`Order::next`]
    /// names it.
    Wait {
        /// As above.
        instead_of: Option<K>,
    },
    /// It came before, and was answered or is about to be. Its body is to be read over; then
    /// [`Order::repeat`] says what to do.
    Again,
    /// It was answered long ago.
    Stale,
    /// The session cannot go on.
    Fault(OrderFault),
}

/// What to do with a request that came again, once its body is read over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat<K> {
    /// [`Order::held_answer`] is to be said again.
    Held,
    /// It is to be answered in the place of the carrier that brought it before.
    InsteadOf(Option<K>),
    /// It was answered long ago.
    Stale,
}

/// Why a session cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderFault {
    /// Requests are missing: too many at once, or for too long.
    #[error("requests are missing before one that came")]
    Gap,
    /// A request came again as another one.
    #[error("a request came again with another body")]
    Changed,
}

/// The requests of one session.
#[derive(Clone, Debug)]
pub struct Order<K> {
    /// The number that is next; `None` before the first is known, which may have any.
    next: Option<u64>,
    /// The request whose turn it is.
    current: Option<Current<K>>,
    /// Those that wait, by number.
    ahead: SmallVec<[(u64, K); 1]>,
    /// The last answer, without its head.
    held: Option<(u64, Vec<Bytes>)>,
    /// Since when some wait for what nobody brings.
    gap_since: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Current<K> {
    request: Numbered,
    /// Bytes of its body that were taken.
    taken: u64,
    /// Bytes of its body that its present carrier has brought.
    brought: u64,
    /// Gone when it was cut off.
    carrier: Option<K>,
}

impl<K> Default for Order<K> {
    fn default() -> Self {
        Self { next: None, current: None, ahead: SmallVec::new(), held: None, gap_since: None }
    }
}

impl<K: Copy + PartialEq> Order<K> {
    /// A carrier brings a request. It brings no other one before this one is answered.
    pub fn begin(&mut self, request: Numbered, carrier: K, now: Duration) -> Turn<K> {
        let turn = self.judge(request, carrier);
        self.watch_gap(now);
        turn
    }

    fn judge(&mut self, request: Numbered, carrier: K) -> Turn<K> {
        let number = request.number;
        if let Some(current) = &mut self.current {
            let turn = current.request.number;
            if number == turn {
                if request != current.request {
                    return Turn::Fault(OrderFault::Changed);
                }
                if current.carrier.is_some() && current.brought >= request.length {
                    // Whoever comes late may have been sent early, and never bring all of it.
                    return Turn::Again;
                }
                current.brought = 0;
                let other = current.carrier.replace(carrier).filter(|other| *other != carrier);
                return Turn::Now { instead_of: other };
            }
            return if number > turn {
                self.wait(number, turn, carrier)
            } else {
                self.answered_before(number)
            };
        }
        let next = match self.next {
            Some(next) => next,
            // It may have overtaken the first one.
            None if (1..=AHEAD_MAX).contains(&number) || !self.ahead.is_empty() && number > 0 => {
                return self.wait(number, 0, carrier);
            }
            None => *self.next.insert(number),
        };
        if number < next {
            return self.answered_before(number);
        }
        if number > next {
            return self.wait(number, next, carrier);
        }
        let instead_of = self.unwait(number, carrier);
        self.current = Some(Current { request, taken: 0, brought: 0, carrier: Some(carrier) });
        Turn::Now { instead_of }
    }

    /// A carrier has brought again the whole of a request that had come before.
    pub fn repeat(&mut self, number: u64, carrier: K) -> Repeat<K> {
        let held = self.answered_before(number) == Turn::Again;
        match &mut self.current {
            Some(current)
                if current.request.number == number && current.taken >= current.request.length =>
            {
                current.brought = current.taken;
                let other = current.carrier.replace(carrier);
                Repeat::InsteadOf(other.filter(|other| *other != carrier))
            }
            _ if held => Repeat::Held,
            _ => Repeat::Stale,
        }
    }

    fn answered_before(&self, number: u64) -> Turn<K> {
        match &self.held {
            Some((held, _)) if *held == number => Turn::Again,
            _ => Turn::Stale,
        }
    }

    fn wait(&mut self, number: u64, turn: u64, carrier: K) -> Turn<K> {
        if number - turn > AHEAD_MAX {
            return Turn::Fault(OrderFault::Gap);
        }
        let instead_of = self.unwait(number, carrier);
        self.ahead.push((number, carrier));
        Turn::Wait { instead_of }
    }

    /// Takes a request from those that wait, and gives its carrier unless it is this one.
    fn unwait(&mut self, number: u64, carrier: K) -> Option<K> {
        let place = self.ahead.iter().position(|(waiting, _)| *waiting == number)?;
        Some(self.ahead.swap_remove(place).1).filter(|other| *other != carrier)
    }

    /// The carrier of the current request brings so many more bytes of its body. Returns how many
    /// of them, at the beginning, were taken when the request came before.
    pub fn take(&mut self, length: usize) -> usize {
        let Some(current) = &mut self.current else { return 0 };
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let known = current.taken.saturating_sub(current.brought).min(length);
        current.brought = current.brought.saturating_add(length);
        current.taken = current.taken.max(current.brought);
        usize::try_from(known).unwrap_or(usize::MAX)
    }

    /// The request whose turn it is.
    #[must_use]
    pub fn current(&self) -> Option<Numbered> {
        self.current.as_ref().map(|current| current.request)
    }

    /// The carrier to be answered: of the current request, once its body is whole.
    #[must_use]
    pub fn asking(&self) -> Option<K> {
        let current = self.current.as_ref()?;
        current.carrier.filter(|_| current.brought >= current.request.length)
    }

    /// The carrier of the current request, as long as some of the body is missing.
    #[must_use]
    pub fn bringing(&self) -> Option<K> {
        let current = self.current.as_ref()?;
        current.carrier.filter(|_| current.brought < current.request.length)
    }

    /// The current request is answered, with these bytes. Returns the carrier whose turn is next,
    /// if it is there.
    pub fn answered(&mut self, answer: Vec<Bytes>, now: Duration) -> Option<K> {
        let current = self.current.take()?;
        self.held = Some((current.request.number, answer));
        self.next = Some(current.request.number + 1);
        self.watch_gap(now);
        self.next()
    }

    /// The carrier that waits and whose turn it is.
    #[must_use]
    pub fn next(&self) -> Option<K> {
        let next = self.next.filter(|_| self.current.is_none())?;
        let found = self.ahead.iter().find(|(number, _)| *number == next)?;
        Some(found.1)
    }

    /// The answer of the request before, as long as it is held.
    #[must_use]
    pub fn held_answer(&self) -> &[Bytes] {
        self.held.as_ref().map_or(&[], |(_, answer)| answer)
    }

    /// Bytes of the answer held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_answer().iter().map(Bytes::len).sum()
    }

    /// Lets go of the answer: whoever comes for it again finds it no more.
    pub fn let_go(&mut self) {
        self.held = None;
    }

    /// A carrier is gone.
    pub fn lost(&mut self, carrier: K, now: Duration) {
        self.ahead.retain(|(_, waiting)| *waiting != carrier);
        if let Some(current) = &mut self.current
            && current.carrier == Some(carrier)
        {
            current.carrier = None;
        }
        self.watch_gap(now);
    }

    /// Every carrier that brings a request now.
    pub fn carriers(&self) -> impl Iterator<Item = K> {
        let current = self.current.as_ref().and_then(|current| current.carrier);
        current.into_iter().chain(self.ahead.iter().map(|(_, carrier)| *carrier))
    }

    /// When [`Self::check`] may change something, or be an error.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let most = if self.next.is_none() { FIRST_MAX } else { GAP_MAX };
        self.gap_since.map(|since| since.saturating_add(most))
    }

    /// Judges whether requests waited too long for those before them. The first ones of a session
    /// need not: the lowest of them is then where numbers begin.
    ///
    /// # Errors
    /// When they did: the session is over.
    pub fn check(&mut self, now: Duration) -> Result<(), OrderFault> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        if self.next.is_some() {
            return Err(OrderFault::Gap);
        }
        self.next = self.ahead.iter().map(|(number, _)| *number).min();
        self.watch_gap(now);
        Ok(())
    }

    fn watch_gap(&mut self, now: Duration) {
        let nobody = self.current.as_ref().is_none_or(|current| current.carrier.is_none());
        // One whose turn it is waits for nobody: it is about to be told.
        let gap = nobody && !self.ahead.is_empty() && self.next().is_none();
        self.gap_since = if gap { self.gap_since.or(Some(now)) } else { None };
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
#[allow(clippy::unwrap_used)]
mod tests;
