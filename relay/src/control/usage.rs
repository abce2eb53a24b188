//! How much of each limit is used, from the cells of all workers.

use super::state::State;
use crate::worker::labels::{Label, LimitUse, MemoryKind};

/// What is judged by `connection_bytes_total`.
const PER_CONNECTION: [MemoryKind; 4] =
    [MemoryKind::Connection, MemoryKind::Partial, MemoryKind::Tls, MemoryKind::Tunnel];

/// Names of limits and how much of each is used: of a limit of the node what all use, of a limit of
/// each address, stream, key or worker the most that one uses.
pub(super) fn of(state: &State) -> Vec<(&'static str, u64)> {
    let cells = || state.workers.iter().map(|worker| &*worker.cells);
    let sum = |numbers: &mut dyn Iterator<Item = u64>| numbers.fold(0, u64::saturating_add);
    let held = |kinds: &[MemoryKind]| {
        let of = |kind: &MemoryKind| sum(&mut cells().map(|cells| cells.memory.at(*kind).get()));
        sum(&mut kinds.iter().map(of))
    };
    let mut rows = vec![
        ("connections_max", state.connections()),
        ("streams_max", sum(&mut cells().map(|cells| cells.streams.total()))),
        ("log_bytes_total", held(&[MemoryKind::Log, MemoryKind::View])),
        ("connection_bytes_total", held(&PER_CONNECTION)),
        ("tunnel_sessions_max", sum(&mut cells().map(|cells| cells.tunnels.get()))),
        ("tunnel_bytes_total", held(&[MemoryKind::Tunnel])),
    ];
    let (questions, notices) = state.hooks.waiting();
    rows.extend([("hook_questions_max", questions), ("hook_notices_max", notices)]);
    for limit in (0..LimitUse::COUNT).map(LimitUse::at) {
        let mut used = cells().map(|cells| cells.limit_used.at(limit).get());
        let used = match limit {
            // Each worker knows what it sends itself.
            LimitUse::EgressRate => sum(&mut used),
            _ => used.max().unwrap_or(0),
        };
        rows.push((limit.label(), used));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn every_row_is_a_limit_and_workers_are_added_up_or_compared() {
        let (workers, _inboxes) = testing::workers(2);
        for (worker, players) in workers.iter().zip([3, 5]) {
            worker.cells.limit_used.at(LimitUse::Session).set(players);
            worker.cells.limit_used.at(LimitUse::EgressRate).set(players);
        }
        let rows = of(&testing::state(workers));
        let table = Limits::default().table();
        for (name, _) in &rows {
            assert!(table.iter().any(|limit| limit.name == *name), "{name}");
            assert_eq!(rows.iter().filter(|(other, _)| other == name).count(), 1, "{name}");
        }
        for name in [
            "connections_max",
            "connections_per_address_max",
            "handshakes_per_address_max",
            "streams_max",
            "players_max",
            "players_per_app_max",
            "players_per_stream_max",
            "publishers_per_key_max",
            "ingest_rate_max",
            "egress_rate_max",
            "session_max",
            "publisher_idle_max",
            "tunnel_sessions_max",
            "tunnel_bytes_total",
            "hook_questions_max",
        ] {
            assert!(rows.iter().any(|(row, _)| *row == name), "{name}");
        }
        assert!(rows.contains(&("session_max", 5)) && rows.contains(&("egress_rate_max", 8)));
    }
}
