//! `/api/v1/nodes`: how this node is, from the cells of its workers, without asking any, and what
//! worker 0 says of others; and `/api/v1/drain`.
//!
//! Numbers that only grow come as totals beside the moment they were read at, so that whoever asks
//! twice has a rate over exactly the time between.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use super::api::{Answer, OfWhich, of_which};
use super::cluster::{self, OtherNode};
use super::draining::DrainReport;
use super::http::{ApiError, JsonLine};
use super::life::Wish;
use super::page::Page;
use super::state::{Phase, State};
use super::together::{self, Of, Whole};
use crate::worker::cells::{Cells, Family};
use crate::worker::handle::WorkerHandle;
use crate::worker::labels::{Label, MemoryKind, Role};
use crate::worker::report::tunnel_tag;

/// The node that answers, in `GET /api/v1/nodes`.
#[derive(Debug, Serialize)]
pub(super) struct NodeReport {
    node: String,
    /// A number drawn at its start.
    process: String,
    /// Whether it is the one that answers.
    own: bool,
    /// Whether the worker that knows the other nodes answered; if not, none follow.
    others_known: bool,
    /// `starting`, `running` or `draining`.
    state: &'static str,
    version: &'static str,
    /// The first characters of the ids of its tunnelled sessions.
    tunnel_tag: String,
    started_unix_ms: u64,
    uptime_ms: u64,
    /// When all this was read, by the node's own clock.
    read_unix_ms: u64,
    streams: u64,
    publishers: u64,
    players: u64,
    connections: u64,
    ingest_bytes: u64,
    egress_bytes: u64,
    /// Of media, by kind.
    memory_bytes: BTreeMap<&'static str, u64>,
    /// Messages that were not taken or not given, by reason.
    messages_dropped: BTreeMap<&'static str, u64>,
    /// Players that were closed or lost, by reason.
    players_dropped: BTreeMap<&'static str, u64>,
    /// Jumps of slow players, by reason.
    player_jumps: BTreeMap<&'static str, u64>,
    /// What was turned away, by reason; reasons that never were are left out.
    refused: BTreeMap<&'static str, u64>,
    cores: Vec<CoreReport>,
    /// Only while it drains.
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<DrainReport>,
}

/// One worker of a node.
#[derive(Debug, Serialize)]
struct CoreReport {
    core: usize,
    reactor: &'static str,
    connections: u64,
    players: u64,
    egress_bytes: u64,
    busy_ms: u64,
    wait_ms: u64,
    flush_ms: u64,
}

/// A row of `GET /api/v1/nodes`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Row {
    Own(Box<NodeReport>),
    Other(OtherNode),
}

/// `GET /api/v1/nodes`; all of them are one page, and the node that answers is the first.
pub(super) async fn nodes(Shared(state): Shared<Arc<State>>, query: OfWhich) -> Answer<Whole> {
    let of = of_which(query)?;
    cluster::spend_if_clustered(&state)?;
    let mut own = own(&state);
    let others = cluster::others(&state).await;
    own.others_known = others.is_some();
    if of == Of::Cluster {
        return together::nodes(&state, own, others.unwrap_or_default()).await;
    }
    let mut items = vec![Row::Own(Box::new(own))];
    items.extend(others.into_iter().flatten().map(Row::Other));
    Whole::of_one(Page { items, next: None })
}

/// `POST /api/v1/drain`: what SIGTERM does. Asked again it changes nothing.
pub(super) async fn drain(Shared(state): Shared<Arc<State>>) -> Result<Response, ApiError> {
    let window = state.in_force().effective.config.drain.window;
    let sent = state.wishes.get().is_some_and(|wishes| wishes.send(Wish::DrainOnce).is_ok());
    if !sent {
        let why = "The node is starting or ending.";
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "not_running", why));
    }
    let body = json!({ "window_ms": u64::try_from(window.as_millis()).unwrap_or(u64::MAX) });
    Ok((StatusCode::ACCEPTED, JsonLine(body)).into_response())
}

fn own(state: &State) -> NodeReport {
    let now = state.now();
    let cells: Vec<&Cells> = state.workers.iter().map(|worker| &*worker.cells).collect();
    let sum = |number: fn(&Cells) -> u64| cells.iter().map(|cells| number(cells)).sum();
    let publishers = |cells: &Cells| role(cells, Role::Publisher);
    NodeReport {
        node: state.node.clone(),
        tunnel_tag: tunnel_tag(&state.node),
        process: state.hooks.shared().mark().to_owned(),
        own: true,
        others_known: true,
        state: match state.phase() {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Draining => "draining",
        },
        version: env!("CARGO_PKG_VERSION"),
        started_unix_ms: state.unix_ms(std::time::Duration::ZERO),
        uptime_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        read_unix_ms: state.unix_ms(now),
        streams: sum(|cells| cells.streams.total()),
        publishers: sum(publishers),
        players: sum(|cells| cells.players.total()),
        connections: state.connections(),
        ingest_bytes: sum(|cells| cells.ingest_bytes.total()),
        egress_bytes: sum(|cells| cells.egress_bytes.total()),
        memory_bytes: by_label(&cells, |cells| &cells.memory, MemoryKind::label),
        messages_dropped: by_label(&cells, |cells| &cells.messages_dropped, |(_, why)| why.label()),
        players_dropped: by_label(&cells, |cells| &cells.players_dropped, |why| why.label()),
        player_jumps: by_label(&cells, |cells| &cells.player_jumps, |why| why.label()),
        refused: by_label(&cells, |cells| &cells.refused, |why| why.label())
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect(),
        cores: state.workers.iter().map(core).collect(),
        drain: DrainReport::of(state),
    }
}

fn core(worker: &WorkerHandle) -> CoreReport {
    const NANOS_PER_MS: u64 = 1_000_000;
    let cells = &*worker.cells;
    CoreReport {
        core: worker.core,
        reactor: worker.backend,
        connections: cells.connections.total(),
        players: cells.players.total(),
        egress_bytes: cells.egress_bytes.total(),
        busy_ms: cells.busy_ns.get() / NANOS_PER_MS,
        wait_ms: cells.wait_ns.get() / NANOS_PER_MS,
        flush_ms: cells.flush_level_ns.get() / NANOS_PER_MS,
    }
}

/// Open connections of one role, however they speak.
fn role(cells: &Cells, role: Role) -> u64 {
    let open = cells.connections.iter().filter(|((of, _), _)| *of == role);
    open.map(|(_, count)| count).sum()
}

/// The sums over all cores of a family, by the text of one label.
fn by_label<L: Label, const N: usize>(
    cells: &[&Cells],
    family: fn(&Cells) -> &Family<L, N>,
    text: fn(L) -> &'static str,
) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for (label, count) in cells.iter().flat_map(|cells| family(cells).iter()) {
        *sums.entry(text(label)).or_default() += count;
    }
    sums
}
