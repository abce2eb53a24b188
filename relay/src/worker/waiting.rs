//! Those whose tokens cannot be checked yet: their keys are being fetched.
//!
//! Fetching is the control thread's work, which sees that keys are wanted by a counter and sends
//! what it got, or that it got nothing. Each session waits meanwhile as it does for every verdict;
//! nobody waits longer than `token_keys_wait_max`, and no more than `token_keys_waiting_max` do.

use std::time::Duration;

use super::Worker;
use super::connection::Connection;
use crate::access::{Action, FetchedKeys, Reason};
use crate::reactor::ConnectionKey;
use crate::session::StreamRequest;

/// A publish or play that waits for keys.
pub(super) struct Waiting {
    connection: ConnectionKey,
    action: Action,
    request: StreamRequest,
    until: Duration,
}

impl Worker {
    /// Has the keys fetched; the session waits.
    pub(super) fn wait_for_keys(
        &mut self,
        connection: &mut Connection,
        action: Action,
        request: StreamRequest,
        now: Duration,
    ) {
        if self.waiting_for_keys.len() >= self.limits.token_keys_waiting_max {
            let reason = Reason::Unavailable;
            self.not_permitted(connection, action, request.message_stream, reason);
            return;
        }
        self.cells.token_keys_wanted.increment();
        let until = now + self.limits.token_keys_wait_max;
        self.waiting_for_keys.push(Waiting { connection: connection.key, action, request, until });
    }

    /// New keys are there, or it is known that there are none.
    pub(super) fn take_keys(&mut self, keys: FetchedKeys, now: Duration) {
        self.fetched_keys = keys;
        for waiting in std::mem::take(&mut self.waiting_for_keys) {
            self.judge_anew(waiting, now, true);
        }
    }

    /// Refuses those who waited too long.
    pub(super) fn stop_waiting_for_keys(&mut self, now: Duration) {
        if self.waiting_for_keys.iter().all(|waiting| waiting.until > now) {
            return;
        }
        for waiting in std::mem::take(&mut self.waiting_for_keys) {
            if waiting.until > now {
                self.waiting_for_keys.push(waiting);
            } else {
                self.judge_anew(waiting, now, false);
            }
        }
    }

    fn judge_anew(&mut self, waiting: Waiting, now: Duration, may_wait: bool) {
        let Waiting { connection, action, request, until } = waiting;
        self.work(connection, now, |worker, connection| {
            if connection.closing.is_some() {
                return;
            }
            let judgement =
                worker.authorise_now(connection, action, &request, now, may_wait && until > now);
            worker.follow(connection, action, request, judgement, now);
        });
    }
}
