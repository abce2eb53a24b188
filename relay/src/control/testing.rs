//! Workers for tests: real handles and cells, and threads that answer from a script.

use std::sync::Arc;
use std::time::Duration;

use super::certificates::Certificates;
use super::hooks::{self, Hooks};
use super::log::LogCounts;
use super::outside::Outside;
use super::reload::Reloader;
use super::state::State;
use super::vital::Vital;
use crate::config::{self, Command, Effective};
use crate::reactor::Waker;
use crate::worker::cells::Cells;
use crate::worker::clock::Clock;
use crate::worker::handle::{QueryInbox, WorkerHandle};
use crate::worker::report::{ConnectionShare, HomeSum, Query, StreamShare, StreamSum, StreamSums};
use crate::worker::settings::Settings;

/// Workers that answer nothing; the inboxes are theirs.
pub(super) fn workers(count: usize) -> (Vec<WorkerHandle>, Vec<QueryInbox>) {
    let one = |core| {
        let reason = "for a test".to_owned();
        WorkerHandle::new(core, "sim", reason, Arc::new(Cells::default()), Waker::new(|| {}))
    };
    (0..count).map(one).unzip()
}

/// The default configuration.
pub(super) fn effective() -> Effective {
    effective_with([])
}

/// The same with variables of the environment.
pub(super) fn effective_with<const N: usize>(variables: [(&str, &str); N]) -> Effective {
    match config::load([], variables.map(|(name, value)| (name.into(), value.into()))) {
        Ok(Command::Run(effective)) => *effective,
        other => panic!("the defaults are good: {other:?}"),
    }
}

/// The state over these workers.
pub(super) fn state(workers: Vec<WorkerHandle>) -> State {
    state_of(workers, effective())
}

/// The same under another configuration.
pub(super) fn state_of(workers: Vec<WorkerHandle>, effective: Effective) -> State {
    let (log, reloader) = (LogCounts::unused(), Reloader::default());
    let clock = Clock::start();
    let hooks = hooks::Parts {
        workers: workers.clone(),
        shared: Arc::default(),
        settings: &effective.config.settings,
        clock,
        node: "test",
        vital: Vital::default(),
    };
    let hooks = Hooks::new(hooks).unwrap();
    let outside = Outside::new(workers.clone(), Arc::default(), clock, 1, None);
    State::new(
        workers,
        effective,
        clock,
        log,
        reloader,
        Certificates::new(None, None),
        (hooks, outside),
    )
}

/// What a scripted worker knows, in any order.
#[derive(Default)]
pub(super) struct Script {
    pub(super) streams: Vec<StreamShare>,
    pub(super) connections: Vec<ConnectionShare>,
    /// What it was told to go by.
    pub(super) settings: Option<Arc<Settings>>,
    /// Ends its thread by a panic when told to drain.
    pub(super) panics: bool,
    /// Does not end when told to drain.
    pub(super) clings: bool,
}

/// Turns and answers until it is stopped, or drained and not clinging.
pub(super) fn work(worker: &WorkerHandle, inbox: &QueryInbox, mut script: Script) {
    script.streams.sort_by(|a, b| a.key.cmp(&b.key));
    script.connections.sort_by_key(|row| row.id);
    loop {
        worker.cells.turns.increment();
        while let Some(query) = inbox.next() {
            match query {
                Query::Streams { after, limit, reply } => {
                    let rows = script.streams.iter().filter(|row| Some(&row.key) > after.as_ref());
                    reply.send(rows.take(limit).cloned().collect());
                }
                Query::Stream { key, reply } => {
                    reply.send(script.streams.iter().find(|row| row.key == key).cloned());
                }
                Query::StreamSums { from, limit, reply } => reply.send(sums(&script, from, limit)),
                Query::Connections { after, filter, limit, reply } => {
                    let rows = script.connections.iter().filter(|row| Some(row.id) > after);
                    let fits = |row: &&ConnectionShare| {
                        let app = row.stream.as_ref().map(|key| &*key.app);
                        filter.role.is_none_or(|role| role == row.role)
                            && filter.app.as_deref().is_none_or(|wanted| app == Some(wanted))
                    };
                    reply.send(rows.filter(fits).take(limit).cloned().collect());
                }
                Query::Close { connection, reply } => {
                    let before = script.connections.len();
                    script.connections.retain(|row| row.id != connection);
                    reply.send(script.connections.len() < before);
                }
                Query::Settings { settings, reply } => {
                    script.settings = Some(settings);
                    reply.send(());
                }
                Query::Drain { .. } if script.panics => panic!("as the script says"),
                Query::TokenKeys(_)
                | Query::Peers(_)
                | Query::Outside(_)
                | Query::EndOutside(_)
                | Query::Order(_)
                | Query::Watch(_) => {}
                Query::Nodes { reply } => reply.send(Vec::new()),
                Query::Links { reply } => reply.send(Vec::new()),
                Query::Elsewhere { reply, .. } => reply.send(false),
                Query::Drain { .. } if script.clings => {}
                Query::Drain { .. } | Query::Stop => return,
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn sums(script: &Script, from: usize, limit: usize) -> StreamSums {
    let sum = |share: &StreamShare| StreamSum {
        name: share.key.to_string().into(),
        players: share.players,
        bytes_out: share.bytes_out,
        home: share.home.as_ref().map(|home| HomeSum {
            bytes_in: home.bytes_in,
            published: home.publisher.as_ref().map(|publisher| publisher.since),
            last_key: home.last_key,
        }),
    };
    let end = from.saturating_add(limit).min(script.streams.len());
    let rows = script.streams.get(from..end).unwrap_or_default().iter().map(sum).collect();
    StreamSums { rows, next: (end < script.streams.len()).then_some(end) }
}
