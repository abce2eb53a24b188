//! A connection to be made: for whom, when, where to, and what came before it.

use std::sync::Arc;
use std::time::Duration;

use relay::session::SessionError;

use super::attack::Attack;
use crate::failover::Silence;
use crate::plan::{Arrival, Pace, Plan};
use crate::target::Target;

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Job {
    Publisher(usize),
    Player(Arrival),
    Attacker(usize, Attack),
}

/// A connection to be made.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) job: Job,
    /// When.
    pub(super) due: Duration,
    /// Somewhere else than the plan says, because a server sent us there.
    pub(super) target: Option<Arc<Target>>,
    /// Times that it was lost or refused before.
    pub(super) attempt: u32,
    /// Times that a server sent it elsewhere.
    pub(super) redirects: u32,
    /// A player that came to its first key frame on an earlier connection.
    pub(super) joined_before: bool,
    /// Its last frame on an earlier connection that was lost.
    pub(super) outage_since: Option<Duration>,
    /// What `failover` knows of a player.
    pub(super) silence: Silence,
    /// The client whose place it takes once it has begun.
    pub(super) replaces: Option<u64>,
}

/// Times that one client may be sent elsewhere.
pub(super) const REDIRECTS_MAX: u32 = 8;

impl Task {
    pub(super) fn new(job: Job, due: Duration) -> Self {
        Self {
            job,
            due,
            target: None,
            attempt: 0,
            redirects: 0,
            joined_before: false,
            outage_since: None,
            silence: Silence::default(),
            replaces: None,
        }
    }

    /// The target, and which of its addresses, for this client.
    pub(super) fn target(&self, plan: &Plan) -> (Target, usize) {
        let (number, targets) = match self.job {
            Job::Publisher(index) => (index, &plan.publish_to),
            Job::Player(arrival) => (arrival.player, &plan.play_from),
            Job::Attacker(index, _) => (index, &plan.play_from),
        };
        // Where something is to fail, who comes again tries another one.
        let failover = plan.failover.as_ref().filter(|_| self.attempt > 0);
        let again = if failover.is_some() { self.attempt } else { 0 };
        let number = number + usize::try_from(again).unwrap_or_default();
        let fallback = failover.map(|failover| &failover.fallback);
        let targets = fallback.filter(|fallback| !fallback.is_empty()).unwrap_or(targets);
        let target = match &self.target {
            Some(target) => Target::clone(target),
            None => targets[number % targets.len()].clone(),
        };
        // The first round over the targets takes each one's first address, and so on.
        let address = number / targets.len() % target.addresses.len();
        (target, address)
    }

    /// The number of the stream.
    pub(super) fn stream(&self, plan: &Plan) -> usize {
        match self.job {
            Job::Publisher(index) => index,
            Job::Player(arrival) => plan.stream_of_player(arrival.player),
            Job::Attacker(..) => 0,
        }
    }

    /// How a player reads.
    pub(super) fn pace(&self) -> Pace {
        match self.job {
            Job::Player(arrival) => arrival.pace,
            _ => Pace::Full,
        }
    }

    /// A player that is slow on purpose.
    pub(super) fn is_slow(&self) -> bool {
        self.pace() != Pace::Full
    }
}

/// Why a connection came to nothing, or to an early end.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    /// One word or two, to be counted by.
    pub(super) cause: String,
    /// One sentence.
    pub(super) sentence: String,
}

impl Loss {
    /// The connection could not be made.
    pub(super) fn connect(target: &Target, address: usize, error: &std::io::Error) -> Self {
        let address = target.addresses[address];
        if error.kind() == std::io::ErrorKind::AddrNotAvailable {
            let sentence = format!(
                "no port is left to reach {address} from: let more players only count, or widen \
                 net.ipv4.ip_local_port_range"
            );
            return Self { cause: "no_port".to_owned(), sentence };
        }
        let (cause, why) = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                ("refused_tcp", "refused the connection".into())
            }
            std::io::ErrorKind::TimedOut => ("timeout_tcp", "did not answer".into()),
            _ => ("connect", format!("cannot be reached: {error}")),
        };
        Self { cause: cause.to_owned(), sentence: format!("{address} {why}") }
    }

    /// The connection failed.
    pub(super) fn failed(error: &std::io::Error) -> Self {
        let reset = matches!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
        );
        let cause = if reset { "reset" } else { "connection" };
        let sentence = if reset {
            "the server reset the connection".to_owned()
        } else {
            format!("the connection failed: {error}")
        };
        Self { cause: cause.to_owned(), sentence }
    }

    /// The server ended its direction.
    pub(super) fn closed(while_opening: bool) -> Self {
        if while_opening {
            Self {
                cause: "closed_early".to_owned(),
                sentence: "the server closed the connection instead of answering".to_owned(),
            }
        } else {
            Self {
                cause: "closed".to_owned(),
                sentence: "the server closed the connection".to_owned(),
            }
        }
    }

    /// The session could not go on.
    pub(super) fn session(error: &SessionError) -> Self {
        let cause = match error {
            SessionError::Refused { code, .. } if !code.is_empty() => code.clone(),
            SessionError::Handshake(_) => "not_rtmp".to_owned(),
            _ => error.reason().to_owned(),
        };
        let sentence = match error {
            SessionError::Handshake(_) => format!("the target does not speak RTMP: {error}"),
            _ => error.to_string(),
        };
        Self { cause, sentence }
    }

    /// The server ended the stream.
    pub(super) fn ended(code: &str) -> Self {
        Self { cause: code.to_owned(), sentence: format!("the server ended the stream: {code}") }
    }
}
