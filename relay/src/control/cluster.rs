//! Other nodes of the cluster, on the slow side: where they are, and what operators are shown.
//!
//! Names are looked up again and again, because addresses behind them come and go; what cannot be
//! looked up changes nothing. Who is really there is found out by worker 0.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::api::{Answer, OfWhich, millis, of_which, spend};
use super::ask::{NoAnswer, ask, ask_all};
use super::families::Families;
use super::http::ApiError;
use super::metrics::AllCells;
use super::page::Page;
use super::state::State;
use super::together::{self, Of, Whole};
use crate::config::Peer;
use crate::worker::labels::LinkWay;
use crate::worker::report::{LinkShare, NodeShare, Query, tunnel_tag};

/// How often names are looked up: as often as the DNS of Kubernetes changes.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);

/// While one is not known or cannot be looked up, it is tried so often; and for so long after the
/// start, since nodes that start side by side appear behind their name one after the other.
const LOOK_UP_SOON: Duration = Duration::from_secs(1);
const STARTING: Duration = Duration::from_secs(30);

/// A server of names that has not answered by then does not count as there.
const LOOK_UP_MAX: Duration = Duration::from_secs(10);

/// Names that are looked up within so long are told at once.
const GATHER: Duration = Duration::from_millis(50);

/// One other node of `GET /api/v1/nodes`: what this one knows of it.
#[derive(Debug, Serialize)]
pub(super) struct OtherNode {
    node: String,
    /// Whether it is the one that answers.
    own: bool,
    /// A number drawn at its start.
    pub(super) process: String,
    zone: String,
    /// The first characters of the ids of its tunnelled sessions.
    tunnel_tag: String,
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
    pub(super) core: usize,
    /// The other node's process.
    pub(super) process: String,
    /// The other end.
    pub(super) peer: String,
    /// `in`: it brings streams; `out`: it feeds the other node.
    pub(super) way: LinkWay,
    pub(super) streams: usize,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) tls: bool,
    pub(super) lag_ms: u64,
}

/// The other nodes that are known, in the order of their names; `None` when worker 0, which knows
/// them, does not say.
pub(super) async fn others(state: &State) -> Option<Vec<OtherNode>> {
    let members = members(state).await.ok()?;
    Some(members.into_iter().map(OtherNode::of).collect())
}

/// The same as worker 0 tells it.
pub(super) async fn members(state: &State) -> Result<Vec<NodeShare>, NoAnswer> {
    let Some(worker) = state.workers.first().filter(|_| is_clustered(state)) else {
        return Ok(Vec::new());
    };
    let mut nodes = ask(worker, |reply| Query::Nodes { reply }).await?;
    nodes.sort_unstable_by(|a, b| (&a.name, &a.process).cmp(&(&b.name, &b.process)));
    Ok(nodes)
}

/// Pays for a question to workers, which only a node of a cluster has to ask.
pub(super) fn spend_if_clustered(state: &State) -> Result<(), ApiError> {
    if is_clustered(state) { spend(state) } else { Ok(()) }
}

/// Why a node of a cluster has not found the list of its nodes, while that is so. Without it a node
/// would take players and publishers of which no other one ever hears; in a rollout a wrong name
/// must stop at the first node.
pub(super) fn unfound(state: &State) -> Option<String> {
    let in_force = state.in_force();
    let first = in_force.effective.config.cluster.peers.first()?;
    let found = state.peers_found.get().is_some();
    (!found).then(|| format!("no name in cluster.peers can be looked up yet, such as {first}"))
}

/// A node without peers has no other nodes and no links, whatever its workers do.
pub(super) fn is_clustered(state: &State) -> bool {
    !state.in_force().effective.config.cluster.peers.is_empty()
}

/// `GET /api/v1/links`; all of them are one page.
pub(super) async fn links(Shared(state): Shared<Arc<State>>, query: OfWhich) -> Answer<Whole> {
    match of_which(query)? {
        Of::Node => {
            spend_if_clustered(&state)?;
            Whole::of_one(own_links(&state).await?)
        }
        Of::Cluster => {
            spend(&state)?;
            together::list(&state, "/api/v1/links", own_links(&state).await?).await
        }
    }
}

pub(super) async fn own_links(state: &State) -> Result<Page<LinkReport>, NoAnswer> {
    if !is_clustered(state) {
        return Ok(Page { items: Vec::new(), next: None });
    }
    let shares = ask_all(&state.workers, |reply| Query::Links { reply }).await?;
    let mut items = Vec::new();
    for (core, links) in shares.into_iter().enumerate() {
        items.extend(links.into_iter().map(|link| LinkReport::of(core, link)));
    }
    Ok(Page { items, next: None })
}

impl OtherNode {
    fn of(node: NodeShare) -> Self {
        let (clock_us, clock_error_us) = node.clock_micros.unzip();
        Self {
            tunnel_tag: tunnel_tag(&node.name),
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
            tls: link.tls,
            lag_ms: millis(link.lag),
        }
    }
}

/// Looks the list of nodes up for as long as the node runs.
pub(super) async fn look_up_peers(state: Arc<State>) {
    let peers = state.in_force().effective.config.cluster.peers.clone();
    let Some(worker) = state.workers.first().filter(|_| !peers.is_empty()) else { return };
    let look_up = |peer: Peer| async move {
        let found = tokio::net::lookup_host((peer.host.as_str(), peer.port)).await;
        found.map(Iterator::collect)
    };
    follow(peers, look_up, |addresses| {
        // Only the first time counts: what cannot be looked up later changes nothing.
        let _ = state.peers_found.set(());
        if worker.ask(Query::Peers(addresses)).is_err() {
            tracing::warn!(core = worker.core, "a worker takes no orders, trying again");
        }
    })
    .await;
}

/// Looks each entry of the list up again and again, side by side: a server that does not answer for
/// one keeps no other waiting. `tell` hears all that is known whenever something was looked up,
/// what comes within [`GATHER`] at once. An entry that cannot be looked up stands for what it did
/// before.
async fn follow<F>(
    peers: Vec<Peer>,
    look_up: impl Fn(Peer) -> F + Clone + Send + 'static,
    mut tell: impl FnMut(Vec<SocketAddr>),
) where
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    let mut known = vec![Vec::new(); peers.len()];
    let (found, mut all_found) = mpsc::channel(peers.len().max(1));
    let begun = Instant::now();
    // They end with the set.
    let mut entries = JoinSet::new();
    for (index, peer) in peers.into_iter().enumerate() {
        let (look_up, found) = (look_up.clone(), found.clone());
        entries.spawn(async move {
            let mut failed = false;
            loop {
                let result = tokio::time::timeout(LOOK_UP_MAX, look_up(peer.clone())).await;
                let result = result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                let settled = result.is_ok() && begun.elapsed() >= STARTING;
                let pause = if settled { LOOK_UP_EVERY } else { LOOK_UP_SOON };
                match result {
                    Ok(addresses) => {
                        failed = false;
                        if found.send((index, addresses)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut failed, true) {
                            let text = "a name in cluster.peers cannot be looked up; it is tried \
                                        again every second";
                            tracing::warn!(%peer, %error, "{text}");
                        }
                    }
                }
                tokio::time::sleep(pause).await;
            }
        });
    }
    drop(found);
    while let Some((index, addresses)) = all_found.recv().await {
        known[index] = addresses;
        tokio::time::sleep(GATHER).await;
        while let Ok((index, addresses)) = all_found.try_recv() {
            known[index] = addresses;
        }
        let mut addresses: Vec<SocketAddr> = known.iter().flatten().copied().collect();
        addresses.sort_unstable();
        addresses.dedup();
        if !addresses.is_empty() {
            tell(addresses);
        }
    }
}

/// The series of the cluster.
pub(super) fn expose(out: &mut Families, cells: &AllCells<'_>, state: &State) {
    // A node that stands alone misses nobody.
    if is_clustered(state) {
        out.gauge("relay_cluster_nodes", &[], "Other nodes that are known.")
            .value(&[], cells.total(|cells| &cells.nodes));
    }
    state.peers.expose(out);
    out.gauge("relay_links", &["way"], "Connections between nodes.")
        .cells(&[], cells.sum(|cells| &cells.links));
    out.gauge("relay_link_streams", &["way"], "Streams on links.")
        .cells(&[], cells.sum(|cells| &cells.link_streams));
    let help = "Bytes on links, both directions of each, by whether they stay in this node's zone.";
    out.counter("relay_link_bytes_total", &["way", "zone"], help)
        .cells(&[], cells.sum(|cells| &cells.link_bytes));
    let help = "Links between nodes, or streams on them, that were refused or let go.";
    out.counter("relay_link_refused_total", &["reason"], help)
        .cells(&[], cells.sum(|cells| &cells.link_refused));
    let help = "Sources of streams that were taken up from other nodes.";
    out.counter("relay_link_adopted_total", &[], help)
        .value(&[], cells.total(|cells| &cells.link_adopted));
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_whose_server_does_not_answer_keeps_no_other_waiting() {
        let peer = |host: &str| Peer { host: host.to_owned(), port: 7 };
        let look_up = |peer: Peer| async move {
            match &*peer.host {
                "dead" => std::future::pending().await,
                "unknown" => Err(io::ErrorKind::NotFound.into()),
                host => Ok(vec![SocketAddr::new(host.parse().unwrap(), peer.port)]),
            }
        };
        let peers = ["dead", "10.0.0.1", "unknown", "10.0.0.2"].map(peer).to_vec();
        let mut told = Vec::new();
        let followed = follow(peers, look_up, |addresses| told.push(addresses));
        assert!(tokio::time::timeout(LOOK_UP_SOON, followed).await.is_err(), "it never ends");
        let expected: Vec<SocketAddr> =
            ["10.0.0.1:7", "10.0.0.2:7"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(told, [expected]);
    }
}
