//! Permissions that end while they are used: asked for again as they were given, and taken back.
//!
//! Looked at twice a second, where the operator wants that now: a reload may bring it for those who
//! are in. What was granted without an end is never asked for again; what rules say now to the same
//! request decides, and who was let in by a hook stays in as long as the rules would ask it (the
//! hook has its own way to end a session).

use std::time::Duration;

use super::Worker;
use super::access::Permit;
use super::connection::Connection;
use super::labels::CloseReason;
use crate::access::{Judgement, Question};
use crate::reactor::ConnectionKey;

impl Worker {
    /// Ends a session whose permission is over and is not given again.
    pub(super) fn check_permits(&mut self, key: ConnectionKey, now: Duration) {
        if !self.settings.end_with_token {
            return;
        }
        let unix = self.unix(now);
        let Some(connection) = self.connections.get(key) else { return };
        let is_over = |permit: &Permit| permit.grant.until.is_some_and(|until| until <= unix);
        if connection.closing.is_some() || !connection.permits().any(is_over) {
            return;
        }
        self.work(key, now, |worker, connection| {
            if let Err(why) = worker.renew_permits(connection, now) {
                worker.end_session(connection, CloseReason::Revoked, why, now);
            }
        });
    }

    fn renew_permits(
        &mut self,
        connection: &mut Connection,
        now: Duration,
    ) -> Result<(), &'static str> {
        for index in 0..connection.publishes.len() {
            if let Some(mut permit) = connection.publishes[index].permit.take() {
                self.renew(connection, &mut permit, now)?;
                connection.publishes[index].permit = Some(permit);
            }
        }
        for index in 0..connection.plays.len() {
            if let Some(mut permit) = connection.plays[index].permit.take() {
                self.renew(connection, &mut permit, now)?;
                connection.plays[index].permit = Some(permit);
            }
        }
        Ok(())
    }

    fn renew(
        &mut self,
        connection: &Connection,
        permit: &mut Permit,
        now: Duration,
    ) -> Result<(), &'static str> {
        let unix = self.unix(now);
        let Some(until) = permit.grant.until.filter(|until| *until <= unix) else { return Ok(()) };
        match self.authorise(connection, permit.action, &permit.request, now) {
            Judgement::Granted(grant) | Judgement::Ask(Question::Hook(grant))
                if grant.until.is_none_or(|until| until > unix) =>
            {
                permit.grant.until = grant.until;
                Ok(())
            }
            // They are being fetched.
            Judgement::Ask(Question::Keys)
                if unix < until.saturating_add(self.limits.verdict_timeout.as_secs()) =>
            {
                Ok(())
            }
            Judgement::Refused(reason) => Err(reason.text(permit.action)),
            Judgement::Granted(_) | Judgement::Ask(_) => Err("The permission is over"),
        }
    }
}
