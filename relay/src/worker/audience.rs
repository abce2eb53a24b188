//! How many play, of what, and what it costs to send: what the registrar knows against the limits
//! of players, of keys and of what the node sends.
//!
//! Pure. What the node sends is measured by its workers and told here; a player that was just let
//! in is not in that yet, so its stream's rate counts beside it for a while.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::mail::{Credential, PlayRefused};
use super::publish::app_of;
use super::settings::Settings;
use crate::limits::{NO_BYTES_LIMIT, is_sparse};

/// After this time a player that was let in is in what is measured: a measurement covers half a
/// second and is half a second old at most.
const MEASURED_AFTER: Duration = Duration::from_millis(1_500);

/// After a player was refused for what the node sends, it is not ready for so long: what is
/// measured stays just below the limit while players are turned away.
const FULL_FOR: Duration = Duration::from_secs(5);

/// Promises of the same tenth of a second are one.
const TOGETHER: Duration = Duration::from_millis(100);

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Audience {
    /// Players of all streams, those that wait for one included.
    players: usize,
    by_app: HashMap<Arc<str>, usize>,
    /// Names that each key publishes or claims.
    by_key: HashMap<Credential, usize>,
    /// Bytes a second that all workers send.
    egress: u64,
    /// What players will take that came since.
    promised: VecDeque<(Duration, u64)>,
    refused_for_egress: Option<Duration>,
}

impl Audience {
    /// Players of the node.
    pub(super) fn players(&self) -> usize {
        self.players
    }

    /// Players of the application that has the most.
    pub(super) fn most_of_app(&self) -> usize {
        self.by_app.values().copied().max().unwrap_or(0)
    }

    /// Players of each application.
    pub(super) fn by_app(&self) -> impl Iterator<Item = (&str, usize)> {
        self.by_app.iter().map(|(app, players)| (&**app, *players))
    }

    /// Names of the key that has the most.
    pub(super) fn most_of_key(&self) -> usize {
        self.by_key.values().copied().max().unwrap_or(0)
    }

    /// What all workers send is this, in bytes a second. Called many times a second.
    pub(super) fn see_egress(&mut self, egress: u64, now: Duration) {
        self.egress = egress;
        let over = |since: Duration| now.saturating_sub(since) >= MEASURED_AFTER;
        while self.promised.front().is_some_and(|(since, _)| over(*since)) {
            self.promised.pop_front();
        }
    }

    /// Whether one more may play a stream that has so many players on this node and so many bytes a
    /// second.
    pub(super) fn room(
        &mut self,
        name: &str,
        of_stream: usize,
        rate: u64,
        settings: &Settings,
        now: Duration,
    ) -> Result<(), PlayRefused> {
        let (limits, app) = (&settings.limits, app_of(name));
        let own = settings.app(app).limits;
        if of_stream >= own.players_per_stream.unwrap_or(limits.players_per_stream_max) {
            return Err(PlayRefused::Full);
        }
        let of_app = self.by_app.get(app).copied().unwrap_or(0);
        if of_app >= own.players.unwrap_or(limits.players_per_app_max) {
            return Err(PlayRefused::AppFull);
        }
        if self.players >= limits.players_max {
            return Err(PlayRefused::NodeFull);
        }
        if limits.egress_rate_max < NO_BYTES_LIMIT {
            let most = u64::try_from(limits.egress_rate_max).unwrap_or(u64::MAX);
            // Of a stream whose rate is not known yet, nothing more is known than that it has one.
            if self.expected().saturating_add(rate.max(1)) > most {
                self.refused_for_egress = Some(now);
                return Err(PlayRefused::EgressFull);
            }
        }
        Ok(())
    }

    /// A player came.
    pub(super) fn enter(&mut self, name: &str, rate: u64, now: Duration) {
        self.players += 1;
        let app = app_of(name);
        match self.by_app.get_mut(app) {
            Some(players) => *players += 1,
            None => {
                self.by_app.insert(app.into(), 1);
            }
        }
        match self.promised.back_mut() {
            Some((since, sum)) if now.saturating_sub(*since) < TOGETHER => {
                *sum = sum.saturating_add(rate);
            }
            _ => self.promised.push_back((now, rate)),
        }
    }

    /// So many players of a stream went.
    pub(super) fn leave(&mut self, name: &str, players: usize) {
        self.players = self.players.saturating_sub(players);
        take(&mut self.by_app, app_of(name), players);
    }

    /// Names that this key publishes or claims.
    pub(super) fn names_of(&self, key: &Credential) -> usize {
        self.by_key.get(key).copied().unwrap_or(0)
    }

    /// A name is claimed with this key.
    pub(super) fn claimed(&mut self, key: Option<Credential>) {
        if let Some(key) = key {
            *self.by_key.entry(key).or_default() += 1;
        }
    }

    /// A name is no longer claimed or published with this key.
    pub(super) fn released(&mut self, key: Option<Credential>) {
        if let Some(key) = key {
            take(&mut self.by_key, &key, 1);
        }
    }

    /// Whether players find no room because of their number.
    pub(super) fn is_full(&self, settings: &Settings) -> bool {
        self.players >= settings.limits.players_max
    }

    /// Whether players find no room because of what is sent.
    pub(super) fn is_sending_all(&self, settings: &Settings, now: Duration) -> bool {
        let most = settings.limits.egress_rate_max;
        let refused = self.refused_for_egress.is_some_and(|at| now.saturating_sub(at) < FULL_FOR);
        most < NO_BYTES_LIMIT
            && (refused || usize::try_from(self.expected()).is_ok_and(|bytes| bytes >= most))
    }

    fn expected(&self) -> u64 {
        self.promised.iter().fold(self.egress, |sum, (_, rate)| sum.saturating_add(*rate))
    }
}

/// Takes so many from a count; one of none is forgotten.
fn take<K, Q>(counts: &mut HashMap<K, usize>, key: &Q, count: usize)
where
    K: std::hash::Hash + Eq + std::borrow::Borrow<Q>,
    Q: std::hash::Hash + Eq + ?Sized,
{
    let Some(left) = counts.get_mut(key) else { return };
    *left = left.saturating_sub(count);
    if *left == 0 {
        counts.remove(key);
    }
    if is_sparse(counts.len(), counts.capacity()) {
        counts.shrink_to_fit();
    }
}
