//! Who may take a name over from whom, so that two encoders cannot fight for ever.
//!
//! Pure: addresses and time in, a verdict out. It knows no connection and sends nothing.

use std::net::IpAddr;
use std::time::Duration;

use crate::limits::Limits;

/// The memory of take-overs, so that two encoders cannot fight for ever: who was taken over is held
/// off, each refused try renews the hold-off, and each further take-over doubles it.
///
/// Who comes from the holder's own address is taken for the holder itself, back from a network that
/// failed, and is let in at once; but only [`RECONNECTS_MAX`] times without a quiet spell, since
/// two encoders may share an address. So is, as often, who takes over from another node or was
/// taken over there: nobody here knows from where that one came.
#[derive(Debug, Default)]
pub(super) struct Contest {
    loser: Option<IpAddr>,
    until: Duration,
    takeovers: u32,
    /// Take-overs from the holder's own address.
    reconnects: u32,
    last: Duration,
}

impl Contest {
    pub(super) fn taken_over(
        &mut self,
        loser: IpAddr,
        winner: Option<IpAddr>,
        now: Duration,
        limits: &Limits,
    ) {
        // A quiet spell makes the next take-over the first one again.
        let spell = limits.takeover_holdoff.saturating_mul(QUIET_HOLDOFFS);
        if now > self.until.max(self.last).saturating_add(spell) {
            (self.takeovers, self.reconnects) = (0, 0);
        }
        self.last = now;
        if winner.is_none_or(|winner| winner == loser) {
            self.reconnects = self.reconnects.saturating_add(1);
            if self.reconnects <= RECONNECTS_MAX {
                return;
            }
        }
        self.takeovers = self.takeovers.saturating_add(1);
        self.loser = Some(loser);
        self.until = now.saturating_add(self.holdoff(limits));
    }

    /// Until when somebody is held off, unless that is renewed.
    pub(super) fn until(&self) -> Duration {
        self.until
    }

    pub(super) fn refused(&mut self, now: Duration, limits: &Limits) {
        self.until = now.saturating_add(self.holdoff(limits));
    }

    pub(super) fn holds_off(&self, address: IpAddr, holder: Option<IpAddr>, now: Duration) -> bool {
        let may_be_it = holder.is_none_or(|holder| holder == address);
        let may_be_holder = may_be_it && self.reconnects <= RECONNECTS_MAX;
        self.loser == Some(address) && now < self.until && !may_be_holder
    }

    fn holdoff(&self, limits: &Limits) -> Duration {
        let doublings = self.takeovers.saturating_sub(1).min(HOLDOFF_DOUBLINGS_MAX);
        limits.takeover_holdoff.saturating_mul(2u32.pow(doublings))
    }
}

/// How often the hold-off doubles at most (10 s becomes at most 5 min 20 s).
const HOLDOFF_DOUBLINGS_MAX: u32 = 5;

/// How often the holder's own address may take over before it counts as a fight.
const RECONNECTS_MAX: u32 = 3;

/// After so many hold-offs without a take-over, those before are forgotten.
const QUIET_HOLDOFFS: u32 = 10;
