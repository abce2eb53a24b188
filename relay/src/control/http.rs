//! Routes, who may use them, and how errors look.
//!
//! `/startupz`, `/readyz`, `/livez`, `/metrics`, `/metrics/streams`, the page at `/` and those at
//! `/watch` are open. Everything else is guarded (`guard.rs`). Errors are
//! `{"error":{"code","message"}}`.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::Serialize;
use serde_json::json;

use super::ask::NoAnswer;
use super::metrics::Metrics;
use super::state::{Phase, State};
use super::{
    api, api_outside, cluster, guard, health, log_level, nodes, openapi, status, stream_series,
    watch,
};

/// Every route of the node.
pub(super) fn router(state: Arc<State>) -> Router {
    let body_bytes_max = state.in_force().limits.http_body_bytes_max;
    let metrics = Arc::new(Metrics::new(Arc::clone(&state)));
    let open = Router::new()
        .route("/startupz", get(health::started))
        .route("/readyz", get(health::ready))
        .route("/livez", get(health::live))
        .route("/watch/{app}/{*name}", get(watch::page))
        .route("/watch/{app}", get(watch::page))
        .route("/", get(first_page))
        .route("/web/status.css", get(status::style))
        .route("/web/status.js", get(status::script))
        .route("/metrics/streams", get(stream_series::exposition))
        .route("/web/watch.css", get(watch::style))
        .route("/web/watch.js", get(watch::script))
        .route("/web/mpegts.js", get(watch::player))
        .route("/web/mpegts.js.LICENSE", get(watch::player_license))
        .with_state(Arc::clone(&state))
        .route("/metrics", get(exposition).with_state(metrics));
    let guarded = Router::new()
        .route("/api/v1/streams", get(api::streams))
        .route("/api/v1/streams/", get(api::streams))
        .route("/api/v1/streams/{app}/{*name}", get(api::stream))
        .route("/api/v1/connections", get(api::connections))
        .route("/api/v1/connections/", get(api::connections))
        .route("/api/v1/connections/{id}", delete(api::close))
        .route("/api/v1/connections/{id}/", delete(api::close))
        .route("/api/v1/nodes", get(nodes::nodes))
        .route("/api/v1/nodes/", get(nodes::nodes))
        .route("/api/v1/links", get(cluster::links))
        .route("/api/v1/links/", get(cluster::links))
        .route("/api/v1/log", get(log_level::show).put(log_level::set))
        .route("/api/v1/log/", get(log_level::show).put(log_level::set))
        .route("/api/v1/drain", post(nodes::drain))
        .route("/api/v1/drain/", post(nodes::drain))
        .route("/api/v1/openapi.json", get(openapi::document))
        .route("/api/v1/limits", get(api::limits))
        .route("/api/v1/limits/", get(api::limits))
        .route("/api/v1/config", get(api::config))
        .route("/api/v1/config/", get(api::config))
        .route("/api/v1/reload", post(api::reload))
        .route("/api/v1/reload/", post(api::reload))
        .route("/api/v1/pushes", get(api_outside::pushes).post(api_outside::push))
        .route("/api/v1/pushes/", get(api_outside::pushes).post(api_outside::push))
        .route("/api/v1/pushes/{id}", delete(api_outside::end_push))
        .route("/api/v1/pushes/{id}/", delete(api_outside::end_push))
        .route("/api/v1/pulls", get(api_outside::pulls).post(api_outside::pull))
        .route("/api/v1/pulls/", get(api_outside::pulls).post(api_outside::pull))
        .route("/api/v1/pulls/{id}", delete(api_outside::end_pull))
        .route("/api/v1/pulls/{id}/", delete(api_outside::end_pull))
        .fallback(nothing_here)
        .with_state(Arc::clone(&state))
        .layer(middleware::from_fn_with_state(state, guard::guard));
    open.merge(guarded)
        .method_not_allowed_fallback(not_that_way)
        .layer(DefaultBodyLimit::max(body_bytes_max))
}

/// JSON with an end of line, for terminals.
pub(super) struct JsonLine<T>(pub(super) T);

impl<T: Serialize> IntoResponse for JsonLine<T> {
    fn into_response(self) -> Response {
        let Ok(mut text) = serde_json::to_string(&self.0) else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        text.push('\n');
        ([(header::CONTENT_TYPE, "application/json")], text).into_response()
    }
}

/// An error as operators see it.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// A fault of ours.
    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("{error}."))
    }

    /// A body that could not be read, most likely since it is too long.
    pub(super) fn bad_body(rejection: &BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large(),
            _ => Self::bad_request("The body cannot be read."),
        }
    }

    pub(super) fn too_large() -> Self {
        let why = "The body is longer than http_body_bytes_max.";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", why)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }
}

impl From<NoAnswer> for ApiError {
    fn from(error: NoAnswer) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "worker_busy", format!("{error}."))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code, "message": self.message } });
        (self.status, JsonLine(body)).into_response()
    }
}

async fn exposition(Shared(metrics): Shared<Arc<Metrics>>) -> Result<Response, ApiError> {
    let text = metrics.text().map_err(|error| ApiError::internal(&error))?;
    let kind = [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)];
    Ok((kind, text).into_response())
}

/// `/`: a page for browsers, which is open since it knows nothing by itself; for everybody else a
/// few lines, which tell something and so are guarded.
async fn first_page(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/html")) {
        return status::page();
    }
    match guard::refusal(&state, &request) {
        None => overview(&state).into_response(),
        Some(refused) => refused,
    }
}

/// What is where, for a person with curl.
fn overview(state: &State) -> String {
    let streams: u64 = state.workers.iter().map(|worker| worker.cells.streams.total()).sum();
    let players: u64 = state.workers.iter().map(|worker| worker.cells.players.total()).sum();
    format!(
        "relay {version}, node {node}, {phase}, up {up}\n\
         {workers}, {connections}, {streams}, {players}\n\n\
         /api/v1/streams  /api/v1/streams/{{app}}/{{name}}  /api/v1/connections  /api/v1/nodes\n\
         /api/v1/links  /api/v1/pushes  /api/v1/pulls  /api/v1/limits  /api/v1/config\n\
         /api/v1/log  /api/v1/openapi.json\n\
         lists of the whole cluster with ?cluster=1\n\
         /metrics  /metrics/streams  /startupz  /readyz  /livez\n\
         /  and  /watch/{{app}}/{{name}}  in a browser; relay top  in a terminal\n",
        version = env!("CARGO_PKG_VERSION"),
        node = state.node,
        phase = match state.phase() {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Draining => "draining",
        },
        up = up(state.now().as_secs()),
        workers = counted(u64::try_from(state.workers.len()).unwrap_or(u64::MAX), "worker"),
        connections = counted(state.connections(), "connection"),
        streams = counted(streams, "stream"),
        players = counted(players, "player"),
    )
}

/// `1 stream`, `2 streams`.
fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A span as people say it, in its two largest units: `2 d 3 h`, `4 min 5 s`, `6 s`.
fn up(seconds: u64) -> String {
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = parts.iter().position(|(number, _)| *number > 0).unwrap_or(3);
    let shown = parts.iter().skip(first).take(2);
    shown.map(|(number, unit)| format!("{number} {unit}")).collect::<Vec<_>>().join(" ")
}

async fn nothing_here() -> ApiError {
    ApiError::not_found("There is nothing at this path.")
}

async fn not_that_way() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "This path does not take this method.",
    )
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
