//! `/api/v1`: lists from workers, in pages, as JSON. Unknown values are null, moments are
//! milliseconds since 1970 (`..._unix_ms`), spans are milliseconds (`..._ms`), bytes are payload
//! and headers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query as UrlQuery, State as Shared};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ask::{ask, ask_all};
use super::http::{ApiError, JsonLine};
use super::page::{Page, PageQuery, after};
use super::reload::{self, Reloaded};
use super::state::State;
use super::together::{self, Far, Of, OfQuery, Wanted, Whole};
use super::usage;
use crate::config::Row;
use crate::limits::{self, Limit, Limits};
use crate::worker::clock::in_seconds;
use crate::worker::labels::{Role, Transport};
use crate::worker::report::{
    ConnectionFilter, ConnectionId, ConnectionShare, Query, StreamHome, StreamKey, StreamShare,
    StreamState,
};

/// What is wrong with a path that cannot be read.
const NOT_TEXT: &str = "The path must be UTF-8 text, with %XX for other bytes.";

/// What is wrong with any other query.
const QUERY: &str = "The query may be limit, a number of rows, cursor, a next of this list, and \
    cluster, 0 or 1.";

/// What is wrong with any other query of connections.
const CONNECTIONS_QUERY: &str = "The query may be limit, cursor, role, transport, address, app, \
    name and cluster.";

/// The query of `GET /api/v1/connections`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectionsQuery {
    limit: Option<usize>,
    cursor: Option<String>,
    role: Option<String>,
    transport: Option<String>,
    address: Option<IpAddr>,
    app: Option<String>,
    name: Option<String>,
    #[serde(default)]
    cluster: Of,
}

impl ConnectionsQuery {
    fn page(&self) -> PageQuery {
        let Self { limit, cursor, cluster, .. } = self;
        PageQuery { limit: *limit, cursor: cursor.clone(), cluster: *cluster }
    }

    fn filter(&self) -> Result<ConnectionFilter, ApiError> {
        Ok(ConnectionFilter {
            role: named("role", self.role.as_deref(), Role::ALL, Role::label)?,
            transport: named(
                "transport",
                self.transport.as_deref(),
                Transport::ALL,
                Transport::label,
            )?,
            address: self.address.map(|address| address.to_canonical()),
            app: self.app.clone(),
            name: self.name.clone(),
        })
    }
}

/// The value of a label by its text.
fn named<L: Copy>(
    what: &str,
    text: Option<&str>,
    all: &[L],
    label: fn(L) -> &'static str,
) -> Result<Option<L>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let found = all.iter().find(|value| label(**value) == text).copied();
    found.map(Some).ok_or_else(|| {
        let texts: Vec<_> = all.iter().map(|value| label(*value)).collect();
        ApiError::bad_request(format!("{what} must be one of {}.", texts.join(", ")))
    })
}

type Paging = Result<UrlQuery<PageQuery>, QueryRejection>;
pub(super) type OfWhich = Result<UrlQuery<OfQuery>, QueryRejection>;
pub(super) type Answer<T> = Result<JsonLine<T>, ApiError>;

/// One stream of `GET /api/v1/streams`.
#[derive(Debug, Serialize)]
pub(super) struct StreamReport {
    app: String,
    name: String,
    /// `live`, `grace`, or `waiting`: players wait for a publisher.
    state: &'static str,
    /// Where it comes from: `local`, or `remote` from another node. Null while waiting.
    source: Option<&'static str>,
    /// How often the name was given to another publisher; 0 while waiting.
    epoch: u64,
    /// The worker that is its home.
    core: Option<usize>,
    since_unix_ms: Option<u64>,
    uptime_ms: Option<u64>,
    publisher: Option<PublisherReport>,
    players: usize,
    /// The same by node, and by how they speak.
    nodes: Vec<NodePlayers>,
    bytes_in: u64,
    bytes_out: u64,
    /// Payload that comes in, in bits a second, smoothed over about a second.
    bits_per_second: Option<u64>,
    /// Messages of publishers that were not taken.
    dropped: u64,
    log_bytes: u64,
    video: Option<VideoReport>,
    audio: Option<AudioReport>,
    /// Since the newest key frame.
    last_key_ms: Option<u64>,
    /// Between the last two key frames.
    gop_ms: Option<u64>,
    /// What its headers ask of players: codecs by the names of log lines, `multitrack`,
    /// `video metadata`.
    needs: Vec<String>,
}

/// The players of a stream on one node.
#[derive(Debug, Serialize)]
struct NodePlayers {
    node: String,
    players: usize,
    transports: BTreeMap<&'static str, usize>,
}

#[derive(Debug, Serialize)]
struct PublisherReport {
    id: String,
    peer: String,
    client: String,
    since_unix_ms: u64,
}

#[derive(Debug, Serialize)]
struct VideoReport {
    codec: String,
    width: Option<u32>,
    height: Option<u32>,
    /// At least the one that is there; further ones as far as their headers were seen.
    tracks: usize,
}

#[derive(Debug, Serialize)]
struct AudioReport {
    codec: String,
    tracks: usize,
}

/// One connection of `GET /api/v1/connections`.
#[derive(Debug, Serialize)]
pub(super) struct ConnectionReport {
    id: String,
    core: usize,
    role: Role,
    transport: Transport,
    peer: String,
    client: String,
    app: Option<String>,
    name: Option<String>,
    since_unix_ms: u64,
    bytes_in: u64,
    bytes_out: u64,
    lag_ms: Option<u64>,
    jumps: u64,
    /// Messages that a player jumped over, or that were not taken from a publisher.
    dropped: u64,
}

/// One limit of `GET /api/v1/limits`.
#[derive(Debug, Serialize)]
pub(super) struct LimitReport {
    name: &'static str,
    /// In its unit: `seconds`, `bytes` or `count`.
    value: serde_json::Number,
    /// What it is unless somebody sets it.
    default: serde_json::Number,
    unit: &'static str,
    why: &'static str,
    /// How much of it is used, where that is known: the most of those that it is for.
    used: Option<u64>,
}

/// One setting of `GET /api/v1/config`.
#[derive(Debug, Serialize)]
pub(super) struct SettingReport {
    section: String,
    name: String,
    /// As the file has it; what is secret is left out.
    value: String,
    source: String,
    why: &'static str,
    /// Whether a reload changes it.
    live: bool,
}

/// `GET /api/v1/streams`
pub(super) async fn streams(Shared(state): Shared<Arc<State>>, paging: Paging) -> Answer<Whole> {
    let query = page_query(paging)?;
    let (limit, start) = query.parse::<StreamKey>()?;
    let own = own_streams(&state, limit, start.as_ref()).await?;
    match query.cluster {
        Of::Node => Whole::of_one(own),
        Of::Cluster => together::streams(&state, (limit, start.as_ref()), own).await,
    }
}

async fn own_streams(
    state: &State,
    limit: usize,
    start: Option<&StreamKey>,
) -> Result<Page<StreamReport>, ApiError> {
    spend(state)?;
    let query = |reply| Query::Streams { after: start.cloned(), limit, reply };
    let shares = ask_all(&state.workers, query).await?;
    // Whatever belongs to the smallest `limit` keys of all is among the smallest of each worker.
    let mut more = shares.iter().any(|shares| shares.len() >= limit);
    let mut merged: BTreeMap<StreamKey, Merged> = BTreeMap::new();
    for (core, shares) in shares.into_iter().enumerate() {
        for share in shares {
            merged.entry(share.key.clone()).or_default().add(core, share);
        }
    }
    more |= merged.len() > limit;
    let keys: Vec<_> = merged.keys().take(limit).cloned().collect();
    let next = keys.last().filter(|_| more).map(after);
    let items = merged.into_iter().take(limit).map(|(key, merged)| merged.report(state, &key));
    Ok(Page { items: items.collect(), next })
}

/// `GET /api/v1/streams/{app}/{name...}`; a name may have slashes, and one at its end is not part
/// of it.
pub(super) async fn stream(
    Shared(state): Shared<Arc<State>>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: OfWhich,
) -> Answer<Value> {
    let Path((app, name)) = path.map_err(|_| ApiError::bad_request(NOT_TEXT))?;
    let name = name.strip_suffix('/').unwrap_or(&name);
    let own = own_stream(&state, &StreamKey::new(&app, name)).await?;
    let row = match of_which(query)? {
        Of::Node => own.map(serde_json::to_value).transpose(),
        Of::Cluster => Ok(together::stream(&state, (&app, name), own).await?),
    };
    match row.map_err(|error| ApiError::internal(&error))? {
        Some(row) => Ok(JsonLine(row)),
        None => Err(ApiError::not_found("There is no stream of this name.")),
    }
}

async fn own_stream(state: &State, key: &StreamKey) -> Result<Option<StreamReport>, ApiError> {
    spend(state)?;
    let query = |reply| Query::Stream { key: key.clone(), reply };
    let shares = ask_all(&state.workers, query).await?;
    let mut merged: Option<Merged> = None;
    for (core, share) in shares.into_iter().enumerate() {
        if let Some(share) = share {
            merged.get_or_insert_default().add(core, share);
        }
    }
    Ok(merged.map(|merged| merged.report(state, key)))
}

/// `GET /api/v1/connections`
pub(super) async fn connections(
    Shared(state): Shared<Arc<State>>,
    query: Result<UrlQuery<ConnectionsQuery>, QueryRejection>,
) -> Answer<Whole> {
    let UrlQuery(query) = query.map_err(|_| ApiError::bad_request(CONNECTIONS_QUERY))?;
    let filter = query.filter()?;
    if query.cluster == Of::Node {
        let (limit, start) = query.page().parse::<ConnectionId>()?;
        return Whole::of_one(own_connections(&state, limit, start, filter).await?);
    }
    let (limit, cursor) = query.page().parse::<Far>()?;
    let wanted = Wanted {
        limit,
        cursor,
        role: query.role.as_deref(),
        transport: query.transport.as_deref(),
        address: query.address,
        app: query.app.as_deref(),
        name: query.name.as_deref(),
    };
    let own = match wanted.of(&state.node) {
        Some(start) => Some(own_connections(&state, limit, start, filter).await?),
        None => {
            spend(&state)?;
            None
        }
    };
    together::connections(&state, wanted, own).await
}

async fn own_connections(
    state: &State,
    limit: usize,
    start: Option<ConnectionId>,
    filter: ConnectionFilter,
) -> Result<Page<ConnectionReport>, ApiError> {
    spend(state)?;
    let query = |reply| Query::Connections { after: start, filter: filter.clone(), limit, reply };
    let shares = ask_all(&state.workers, query).await?;
    let full = shares.iter().any(|shares| shares.len() >= limit);
    let mut rows: Vec<_> = shares.into_iter().flatten().collect();
    rows.sort_unstable_by_key(|row| row.id);
    let more = full || rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| after(&row.id));
    let items = rows.into_iter().map(|row| connection(state, row)).collect();
    Ok(Page { items, next })
}

/// `DELETE /api/v1/connections/{id}`
pub(super) async fn close(
    Shared(state): Shared<Arc<State>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, ApiError> {
    let Path(id) = path.map_err(|_| ApiError::bad_request(NOT_TEXT))?;
    let id: ConnectionId =
        id.parse().map_err(|error| ApiError::bad_request(format!("{error}.")))?;
    let gone = || ApiError::not_found("There is no connection of this id.");
    spend(&state)?;
    let worker = state.workers.get(id.core).ok_or_else(gone)?;
    match ask(worker, |reply| Query::Close { connection: id, reply }).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(gone()),
    }
}

/// `GET /api/v1/limits`; all of them are one page.
pub(super) async fn limits(Shared(state): Shared<Arc<State>>) -> JsonLine<Page<LimitReport>> {
    let usage = usage::of(&state);
    let report = |(row, default): (Limit, Limit)| {
        let ((value, unit), (default, _)) = (in_unit(row.value), in_unit(default.value));
        let used = usage.iter().find(|(name, _)| *name == row.name).map(|(_, used)| *used);
        LimitReport { name: row.name, value, default, unit, why: row.why, used }
    };
    let rows = state.in_force().limits.table().into_iter().zip(Limits::default().table());
    JsonLine(Page { items: rows.map(report).collect(), next: None })
}

/// `GET /api/v1/config`; all of it is one page.
pub(super) async fn config(Shared(state): Shared<Arc<State>>) -> JsonLine<Page<SettingReport>> {
    let force = state.in_force();
    let report = |row: &Row| SettingReport {
        section: row.section.clone(),
        name: row.name.clone(),
        value: row.shown_value(),
        source: row.source.to_string(),
        why: row.why,
        live: row.is_live(),
    };
    JsonLine(Page { items: force.effective.rows.iter().map(report).collect(), next: None })
}

/// `POST /api/v1/reload`
pub(super) async fn reload(Shared(state): Shared<Arc<State>>) -> Answer<Reloaded> {
    // On its own, so that an asker who leaves does not leave half of it done.
    let done = tokio::spawn(async move { reload::reload(&state).await }).await;
    match done {
        Ok(Ok(reloaded)) => Ok(JsonLine(reloaded)),
        Ok(Err(mistakes)) => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Err(ApiError::new(status, "bad_configuration", mistakes.join("\n")))
        }
        Err(error) => Err(ApiError::internal(&error)),
    }
}

fn in_unit(value: limits::Value) -> (serde_json::Number, &'static str) {
    let (number, unit) = match value {
        limits::Value::Time(time) => (serde_json::Number::from_f64(in_seconds(time)), "seconds"),
        limits::Value::Bytes(bytes) => (serde_json::Number::from_u128(wide(bytes)), "bytes"),
        limits::Value::Count(count) => (serde_json::Number::from_u128(wide(count)), "count"),
    };
    (number.unwrap_or(0.into()), unit)
}

fn wide(number: usize) -> u128 {
    u128::try_from(number).unwrap_or(u128::MAX)
}

/// Pays for one list from the second's budget.
pub(super) fn spend(state: &State) -> Result<(), ApiError> {
    let per_second = state.in_force().limits.http_lists_per_second_max;
    if state.lists.spend(per_second, Instant::now()) {
        return Ok(());
    }
    state.api_refused.increment();
    Err(ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_requests",
        "More than http_lists_per_second_max lists are asked for, or connections closed, in a second; try again later.",
    ))
}

/// Whether a list is to be of this node or of all.
pub(super) fn of_which(query: OfWhich) -> Result<Of, ApiError> {
    let query = query.map_err(|_| ApiError::bad_request(together::OF))?;
    Ok(query.0.cluster)
}

fn page_query(paging: Paging) -> Result<PageQuery, ApiError> {
    paging.map(|UrlQuery(query)| query).map_err(|_| ApiError::bad_request(QUERY))
}

/// The shares of one stream, added up.
#[derive(Default)]
struct Merged {
    players: usize,
    transports: BTreeMap<&'static str, usize>,
    bytes_out: u64,
    /// The home and its core. While a stream moves from one worker to another both may call
    /// themselves its home; the later publisher's is right.
    home: Option<(usize, StreamHome)>,
}

impl Merged {
    fn add(&mut self, core: usize, share: StreamShare) {
        self.players = self.players.saturating_add(share.players);
        self.bytes_out = self.bytes_out.saturating_add(share.bytes_out);
        for (transport, players) in share.transports {
            *self.transports.entry(transport.label()).or_default() += players;
        }
        if let Some(home) = share.home {
            let newer = self.home.as_ref().is_none_or(|(_, known)| known.epoch < home.epoch);
            if newer {
                self.home = Some((core, home));
            }
        }
    }

    fn report(self, state: &State, key: &StreamKey) -> StreamReport {
        let now = state.now();
        let age = |moment: Duration| millis(now.saturating_sub(moment));
        let (core, home) = self.home.unzip();
        let home = home.as_ref();
        let publisher = home.and_then(|home| home.publisher.as_ref());
        let (video_tracks, audio_tracks) = home.map_or((0, 0), |home| home.tracks);
        let video = home.and_then(|home| home.video.clone().map(|codec| (codec, home.size)));
        StreamReport {
            app: key.app.to_string(),
            name: key.name.to_string(),
            state: match home.map(|home| home.state) {
                Some(StreamState::Live) => "live",
                Some(StreamState::Grace) => "grace",
                None => "waiting",
            },
            source: home.map(|home| home.source.label()),
            epoch: home.map_or(0, |home| home.epoch),
            core,
            since_unix_ms: home.map(|home| state.unix_ms(home.since)),
            uptime_ms: home.map(|home| age(home.since)),
            publisher: publisher.map(|publisher| PublisherReport {
                id: publisher.id.to_string(),
                peer: publisher.peer.to_string(),
                client: publisher.client.clone(),
                since_unix_ms: state.unix_ms(publisher.since),
            }),
            players: self.players,
            nodes: vec![NodePlayers {
                node: state.node.clone(),
                players: self.players,
                transports: self.transports,
            }],
            bytes_in: home.map_or(0, |home| home.bytes_in),
            bytes_out: self.bytes_out,
            bits_per_second: home
                .and_then(|home| home.bytes_per_second)
                .map(|bytes| bytes.saturating_mul(8)),
            dropped: home.map_or(0, |home| home.dropped),
            log_bytes: home.map_or(0, |home| home.log_bytes),
            video: video.map(|(codec, size)| {
                let (width, height) = size.unzip();
                VideoReport { codec, width, height, tracks: video_tracks.max(1) }
            }),
            audio: home
                .and_then(|home| home.audio.clone())
                .map(|codec| AudioReport { codec, tracks: audio_tracks.max(1) }),
            last_key_ms: home.and_then(|home| home.last_key).map(age),
            gop_ms: home.and_then(|home| home.gop).map(millis),
            needs: home.map(|home| home.needs.clone()).unwrap_or_default(),
        }
    }
}

fn connection(state: &State, row: ConnectionShare) -> ConnectionReport {
    let (app, name) = row.stream.map(|key| (key.app.to_string(), key.name.to_string())).unzip();
    ConnectionReport {
        id: row.id.to_string(),
        core: row.id.core,
        role: row.role,
        transport: row.transport,
        peer: row.peer.to_string(),
        client: row.client,
        app,
        name,
        since_unix_ms: state.unix_ms(row.since),
        bytes_in: row.bytes_in,
        bytes_out: row.bytes_out,
        lag_ms: row.lag.map(millis),
        jumps: row.jumps,
        dropped: row.dropped,
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
