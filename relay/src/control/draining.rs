//! How far a node is on its way out, for the log, `/readyz` and the API.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::state::{Phase, State};
use crate::worker::cells::Cells;
use crate::worker::labels::{LinkWay, Role};

/// How often the log tells of it.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// `drain` of a node that drains, in `GET /api/v1/nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct DrainReport {
    /// The time that there is, and what is left of it.
    window_ms: u64,
    left_ms: u64,
    /// Who is still there.
    publishers: u64,
    players: u64,
    /// Streams that other nodes are fed from here, each once for every node.
    feeds: u64,
}

impl DrainReport {
    /// `None` for a node that does not drain.
    pub(super) fn of(state: &State) -> Option<Self> {
        let (window, until) = state.drain()?;
        let sum = |read: fn(&Cells) -> u64| -> u64 {
            state.workers.iter().map(|worker| read(&worker.cells)).sum()
        };
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Some(Self {
            window_ms: millis(window),
            left_ms: millis(until.saturating_sub(state.now())),
            publishers: sum(|cells| {
                let all = cells.connections.iter();
                all.filter(|((role, _), _)| *role == Role::Publisher).map(|(_, open)| open).sum()
            }),
            players: sum(|cells| cells.players.total()),
            feeds: sum(|cells| cells.link_streams.at(LinkWay::Out).get()),
        })
    }

    /// One sentence.
    pub(super) fn sentence(&self) -> String {
        let Self { left_ms, publishers, players, feeds, .. } = self;
        format!(
            "draining: {publishers} publishers, {players} players and {feeds} streams for other \
             nodes are left, and {left:.0} s",
            left = Duration::from_millis(*left_ms).as_secs_f64()
        )
    }
}

/// Tells the log how far the drain is, until the workers end.
pub(super) async fn tell_progress(state: Arc<State>) {
    while state.phase() == Phase::Draining {
        tokio::time::sleep(TOLD_EVERY).await;
        if let Some(DrainReport { left_ms, publishers, players, feeds, .. }) =
            DrainReport::of(&state)
        {
            tracing::info!(publishers, players, feeds, left_ms, "still draining");
        }
    }
}
