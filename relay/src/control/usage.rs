//! How much of each limit is used, from the cells of all workers.

use std::time::Duration;

use super::families::float;
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
        ("cluster_answers_bytes_max", state.gatherer.bytes_most()),
    ];
    let (questions, notices) = state.hooks.waiting();
    rows.extend([("hook_questions_max", questions), ("hook_notices_max", notices)]);
    let probe = u64::try_from(state.hooks.waiting_for_probe()).unwrap_or(u64::MAX);
    rows.push(("hook_probe_waiters_max", probe));
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

/// A limit that an application has of its own.
pub(super) struct AppLimit {
    /// As the configuration names it.
    pub(super) app: String,
    /// As its setting is called.
    pub(super) name: &'static str,
    pub(super) limit: f64,
    /// Where that is counted for each application.
    pub(super) used: Option<u64>,
}

/// The limits that applications have of their own.
pub(super) fn of_apps(state: &State) -> Vec<AppLimit> {
    let in_force = state.in_force();
    let settings = &in_force.effective.config.settings;
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let mut rows = Vec::new();
    let listed = settings.apps.iter().map(|(app, of)| (app.as_str(), of));
    let mut listed: Vec<_> = listed.chain([("*", &settings.other_apps)]).collect();
    listed.sort_by_key(|(app, _)| *app);
    for (app, of) in listed {
        let (players, of_stream) = state.hooks.shared().app_usage(app);
        let own = &of.limits;
        let count = |limit: Option<usize>| limit.map(|limit| float(number(limit)));
        let time = |limit: Option<Duration>| limit.map(|limit| limit.as_secs_f64());
        for (name, limit, used) in [
            ("players_max", count(own.players), Some(number(players))),
            ("players_per_stream_max", count(own.players_per_stream), Some(number(of_stream))),
            ("publishers_per_key_max", count(own.publishers_per_key), None),
            ("ingest_rate_max", count(own.ingest_rate), None),
            ("session_max", time(own.session), None),
            ("publisher_unwatched_max", time(own.unwatched), None),
        ] {
            let row = |limit| AppLimit { app: app.to_owned(), name, limit, used };
            rows.extend(limit.map(row));
        }
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
