//! Asking the other nodes of the cluster for their lists, by the API that each answers operators
//! by.
//!
//! All are asked side by side, each has the same time, and all answers together have one bound.
//! What is asked is a list of a single node, so nobody who is asked asks on. Questions and answers
//! carry proofs (`proof.rs`) and no secret. A node that gives no answer is named, with the reason,
//! and counted; it keeps nobody's rows from being shown. Workers are not concerned: worker 0 says
//! once who is there.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderValue, StatusCode};
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::handshake;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::cluster;
use super::families::{Families, float};
use super::http::ApiError;
use super::proof::{self, Question};
use super::state::{Count, State};
use crate::worker::report::NodeShare;

/// What the other nodes said.
#[derive(Default)]
pub(super) struct Gathered {
    /// Answers of those that gave one, in the order of their names; `None` where there is nothing
    /// of what was asked for.
    pub(super) answers: Vec<(NodeShare, Option<Value>)>,
    /// Those that gave none.
    pub(super) absent: Vec<Absent>,
}

/// A node that is not in a list of the whole cluster.
#[derive(Debug, Serialize)]
pub(super) struct Absent {
    node: String,
    /// As it is counted.
    reason: &'static str,
    why: String,
}

/// How many ask at a time, and how the questions went.
#[derive(Debug)]
pub(super) struct Gatherer {
    places: Semaphore,
    results: [Count; RESULTS.len()],
    /// The most bytes of answers that one list took.
    bytes_most: AtomicU64,
}

/// Lists of the whole cluster that are made at a time; further ones wait for a place.
const AT_A_TIME: usize = 4;

/// How a question to a node may end.
const RESULTS: [&str; 7] =
    ["ok", "no_address", "unreachable", "timeout", "refused", "too_long", "unproven"];

/// Why a node gave no answer.
#[derive(Debug, thiserror::Error)]
enum Absence {
    #[error("it does not say where it answers operators")]
    NoAddress,
    #[error("it answers operators on its own machine only, at {0} (its setting listen.http)")]
    OwnMachine(SocketAddr),
    #[error("no connection to {0}: {1}")]
    Unreachable(SocketAddr, String),
    #[error("no answer within {0:?} (cluster_answer_timeout)")]
    Timeout(Duration),
    #[error("it refuses with status {0}: {1}")]
    Refused(u16, String),
    #[error("the answers are longer than cluster_answers_bytes_max; ask for a smaller limit")]
    TooLong,
    #[error("what answers at {0} does not know the cluster's secret, or the clocks differ")]
    Unproven(SocketAddr),
}

impl Default for Gatherer {
    fn default() -> Self {
        Self {
            places: Semaphore::new(AT_A_TIME),
            results: Default::default(),
            bytes_most: AtomicU64::new(0),
        }
    }
}

impl Gatherer {
    /// The most bytes that one list of the whole cluster took.
    pub(super) fn bytes_most(&self) -> u64 {
        self.bytes_most.load(Ordering::Relaxed)
    }

    fn count(&self, result: &str) {
        if let Some(index) = RESULTS.iter().position(|known| *known == result) {
            self.results[index].increment();
        }
    }

    pub(super) fn expose(&self, out: &mut Families) {
        let help = "Questions to other nodes for lists of the whole cluster, by result.";
        let mut family = out.counter("relay_cluster_questions_total", &["result"], help);
        for (result, count) in RESULTS.iter().zip(&self.results) {
            family.value(&[result], float(count.get()));
        }
    }
}

/// Asks each other node for the path, with its query, that `target` has for its name; those for
/// which there is none are not asked.
///
/// # Errors
///
/// Worker 0 does not say who is there, or too many lists of this kind are being made.
pub(super) async fn ask_others(
    state: &State,
    target: impl Fn(&str) -> Option<String>,
) -> Result<Gathered, ApiError> {
    let members = cluster::members(state).await?;
    let force = state.in_force();
    let within = force.limits.cluster_answer_timeout;
    let place = timeout(within, state.gatherer.places.acquire()).await;
    let Ok(Ok(_place)) = place else {
        state.api_refused.increment();
        let why = "Too many lists of the whole cluster are being made; ask again later.";
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", why));
    };
    let bytes_max = force.limits.cluster_answers_bytes_max;
    let room = AtomicUsize::new(bytes_max);
    let secret = &force.effective.config.cluster.secret.0;
    let questions = members.into_iter().filter_map(|member| {
        let target = target(&member.name)?;
        let room = &room;
        Some(async move {
            let asked = timeout(within, ask(&member, &target, secret, room)).await;
            (member, asked.unwrap_or(Err(Absence::Timeout(within))))
        })
    });
    let mut gathered = Gathered::default();
    for (member, answer) in join_all(questions).await {
        match answer {
            Ok(answer) => {
                state.gatherer.count("ok");
                gathered.answers.push((member, answer));
            }
            Err(absence) => {
                let reason = absence.reason();
                state.gatherer.count(reason);
                let (node, why) = (member.name, absence.to_string());
                gathered.absent.push(Absent { node, reason, why });
            }
        }
    }
    let taken = bytes_max.saturating_sub(room.load(Ordering::Relaxed));
    let taken = u64::try_from(taken).unwrap_or(u64::MAX);
    state.gatherer.bytes_most.fetch_max(taken, Ordering::Relaxed);
    Ok(gathered)
}

/// The seconds since 1970.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

async fn ask(
    member: &NodeShare,
    target: &str,
    secret: &[u8],
    room: &AtomicUsize,
) -> Result<Option<Value>, Absence> {
    let address = place(member)?;
    let failed = |error: &dyn std::fmt::Display| Absence::Unreachable(address, error.to_string());
    let stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    // Ends with its sender, or with the connection.
    tokio::spawn(connection);
    let proof = Question { node: &member.name, target }.prove(secret, unix_seconds());
    let mut shown = HeaderValue::try_from(proof.header()).map_err(|error| failed(&error))?;
    shown.set_sensitive(true);
    let request = Request::get(target)
        .header(header::HOST, address.to_string())
        .header(header::AUTHORIZATION, shown)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let (head, mut body) = answer.into_parts();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| failed(&error))?.into_data() else { continue };
        let take = |left: usize| left.checked_sub(data.len());
        let taken = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map_err(|_| Absence::TooLong)?;
        text.extend_from_slice(&data);
    }
    let status = head.status.as_u16();
    let proven = head.headers.get(proof::ANSWER).map(HeaderValue::as_bytes);
    if !proven.is_some_and(|shown| proof.is_answered(secret, status, &text, shown)) {
        return Err(Absence::Unproven(address));
    }
    let said: Value = serde_json::from_slice(&text).unwrap_or_default();
    match head.status {
        StatusCode::OK => Ok(Some(said)),
        StatusCode::NOT_FOUND => Ok(None),
        _ => {
            let why = said["error"]["message"].as_str().unwrap_or("no reason");
            Err(Absence::Refused(status, why.to_owned()))
        }
    }
}

/// Where a node answers operators, as it is known here: an address of no host in particular is that
/// at which it takes links.
fn place(member: &NodeShare) -> Result<SocketAddr, Absence> {
    let mut said = member.operators.ok_or(Absence::NoAddress)?;
    let known = member.address.ip().to_canonical();
    if said.ip().is_unspecified() {
        said.set_ip(known);
    }
    match said.ip().to_canonical().is_loopback() && !known.is_loopback() {
        true => Err(Absence::OwnMachine(said)),
        false => Ok(said),
    }
}

impl Absence {
    fn reason(&self) -> &'static str {
        match self {
            Self::NoAddress | Self::OwnMachine(_) => "no_address",
            Self::Unreachable(..) => "unreachable",
            Self::Timeout(_) => "timeout",
            Self::Refused(..) => "refused",
            Self::TooLong => "too_long",
            Self::Unproven(_) => "unproven",
        }
    }
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
