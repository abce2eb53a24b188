//! Other nodes of the cluster, on the slow side: where they are, and what operators are shown.
//!
//! Names are looked up again and again, because addresses behind them come and go; what cannot be
//! looked up changes nothing. Who is really there is found out by worker 0.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use serde::Serialize;
use tokio::task::JoinSet;

use super::api::{Answer, millis};
use super::ask::{ask, ask_all};
use super::families::Families;
use super::http::{ApiError, JsonLine};
use super::metrics::AllCells;
use super::page::Page;
use super::state::State;
use crate::config::Peer;
use crate::worker::labels::LinkWay;
use crate::worker::report::{LinkShare, NodeShare, Query};

/// How often names are looked up: as often as the DNS of Kubernetes changes.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);

/// While one is not known or cannot be looked up, it is tried so often.
const LOOK_UP_SOON: Duration = Duration::from_secs(1);

/// How long a name server may take.
const LOOK_UP_MAX: Duration = Duration::from_secs(2);

/// One other node of `GET /api/v1/nodes`: what this one knows of it.
#[derive(Debug, Serialize)]
pub(super) struct OtherNode {
    node: String,
    /// Whether it is the one that answers.
    own: bool,
    /// A number drawn at its start.
    process: String,
    zone: String,
    /// Where it takes links.
    address: String,
    connected: bool,
    draining: bool,
    /// The version of the cluster's protocol.
    protocol: u16,
    /// Streams published there.
    streams: usize,
    /// Its time since its start less ours, in microseconds, and how wrong that may be.
    clock_us: Option<i64>,
    clock_error_us: Option<i64>,
}

/// One link of `GET /api/v1/links`.
#[derive(Debug, Serialize)]
pub(super) struct LinkReport {
    /// The worker that has it.
    core: usize,
    /// The other node's process.
    process: String,
    /// The other end.
    peer: String,
    /// `in`: it brings streams; `out`: it feeds the other node.
    way: LinkWay,
    streams: usize,
    bytes_in: u64,
    bytes_out: u64,
    lag_ms: u64,
}

/// The other nodes that are known, in the order of their names.
pub(super) async fn others(state: &State) -> Result<Vec<OtherNode>, ApiError> {
    let Some(worker) = state.workers.first().filter(|_| is_clustered(state)) else {
        return Ok(Vec::new());
    };
    let nodes = ask(worker, |reply| Query::Nodes { reply }).await?;
    let mut items: Vec<OtherNode> = nodes.into_iter().map(OtherNode::of).collect();
    items.sort_unstable_by(|a, b| (&a.node, &a.process).cmp(&(&b.node, &b.process)));
    Ok(items)
}

/// A node without peers has no other nodes and no links, whatever its workers do.
fn is_clustered(state: &State) -> bool {
    !state.in_force().effective.config.cluster.peers.is_empty()
}

/// `GET /api/v1/links`; all of them are one page.
pub(super) async fn links(Shared(state): Shared<Arc<State>>) -> Answer<Page<LinkReport>> {
    if !is_clustered(&state) {
        return Ok(JsonLine(Page { items: Vec::new(), next: None }));
    }
    let shares = ask_all(&state.workers, |reply| Query::Links { reply }).await?;
    let mut items = Vec::new();
    for (core, links) in shares.into_iter().enumerate() {
        items.extend(links.into_iter().map(|link| LinkReport::of(core, link)));
    }
    Ok(JsonLine(Page { items, next: None }))
}

impl OtherNode {
    fn of(node: NodeShare) -> Self {
        let (clock_us, clock_error_us) = node.clock_micros.unzip();
        Self {
            node: node.name,
            own: false,
            process: node.process,
            zone: node.zone,
            address: node.address.to_string(),
            connected: node.connected,
            draining: node.draining,
            protocol: node.version,
            streams: node.streams,
            clock_us,
            clock_error_us,
        }
    }
}

impl LinkReport {
    fn of(core: usize, link: LinkShare) -> Self {
        Self {
            core,
            process: link.process,
            peer: link.peer.to_string(),
            way: link.way,
            streams: link.streams,
            bytes_in: link.bytes_in,
            bytes_out: link.bytes_out,
            lag_ms: millis(link.lag),
        }
    }
}

/// Looks the list of nodes up for as long as the node runs.
pub(super) async fn look_up_peers(state: Arc<State>) {
    let peers = state.in_force().effective.config.cluster.peers.clone();
    let Some(worker) = state.workers.first().filter(|_| !peers.is_empty()) else { return };
    let mut known: Vec<Known> = peers.into_iter().map(Known::new).collect();
    loop {
        let whole = look_up_all(&mut known).await;
        let mut addresses: Vec<SocketAddr> =
            known.iter().flat_map(|peer| &peer.addresses).copied().collect();
        addresses.sort_unstable();
        addresses.dedup();
        if !addresses.is_empty() && worker.ask(Query::Peers(addresses)).is_err() {
            tracing::warn!(core = worker.core, "a worker takes no orders, trying again");
        }
        tokio::time::sleep(if whole { LOOK_UP_EVERY } else { LOOK_UP_SOON }).await;
    }
}

/// An entry of the list, and what it was last known to stand for.
struct Known {
    peer: Peer,
    addresses: Vec<SocketAddr>,
    failed: bool,
}

impl Known {
    fn new(peer: Peer) -> Self {
        Self { peer, addresses: Vec::new(), failed: false }
    }

    /// What it stands for now. If it could not be looked up, it stands for what it did before.
    fn learn(&mut self, found: Result<Vec<SocketAddr>, String>) {
        match found {
            Ok(found) => {
                self.addresses = found;
                self.failed = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    let peer = &self.peer;
                    tracing::warn!(%peer, %error, "a name of the list of nodes is not known");
                }
            }
        }
    }
}

/// Looks all names up side by side, so that one whose server does not answer holds up no other for
/// long. Whether all could be.
async fn look_up_all(known: &mut [Known]) -> bool {
    let mut questions = JoinSet::new();
    for (number, known) in known.iter().enumerate() {
        let Peer { host, port } = known.peer.clone();
        questions.spawn(async move {
            let question = tokio::net::lookup_host((host, port));
            let found = match tokio::time::timeout(LOOK_UP_MAX, question).await {
                Ok(Ok(found)) => Ok(found.collect()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("the name server does not answer in time".to_owned()),
            };
            (number, found)
        });
    }
    while let Some(answer) = questions.join_next().await {
        if let Ok((number, found)) = answer
            && let Some(known) = known.get_mut(number)
        {
            known.learn(found);
        }
    }
    known.iter().all(|known| !known.failed)
}

/// The series of the cluster.
pub(super) fn expose(out: &mut Families, cells: &AllCells<'_>) {
    out.gauge("relay_cluster_nodes", &[], "Other nodes that are known.")
        .value(&[], cells.total(|cells| &cells.nodes));
    out.gauge("relay_links", &["way"], "Connections between nodes.")
        .cells(&[], cells.sum(|cells| &cells.links));
    out.gauge("relay_link_streams", &["way"], "Streams on links.")
        .cells(&[], cells.sum(|cells| &cells.link_streams));
    out.counter("relay_link_bytes_total", &["way"], "Bytes on links, both directions of each.")
        .cells(&[], cells.sum(|cells| &cells.link_bytes));
    let help = "Links between nodes, or streams on them, that were refused or let go.";
    out.counter("relay_link_refused_total", &["reason"], help)
        .cells(&[], cells.sum(|cells| &cells.link_refused));
    let help = "Sources of streams that were taken up from other nodes.";
    out.counter("relay_link_adopted_total", &[], help)
        .value(&[], cells.total(|cells| &cells.link_adopted));
    let help = "Messages of streams from other nodes that could not be used here.";
    out.counter("relay_link_messages_lost_total", &[], help)
        .value(&[], cells.total(|cells| &cells.link_lost));
    let help = "Publishers of this node that were taken over on another one.";
    out.counter("relay_link_yielded_total", &[], help)
        .value(&[], cells.total(|cells| &cells.link_yielded));
    let help = "From a message complete at its origin to its arrival here, divided by the nodes \
                that it passed.";
    out.histogram("relay_hop_latency_seconds", &[], help)
        .reading(&[], &cells.merge(|cells| cells.hop_latency.read()));
    let help = "From a message complete at its origin to its arrival here.";
    out.histogram("relay_origin_age_seconds", &[], help)
        .reading(&[], &cells.merge(|cells| cells.origin_age.read()));
}
