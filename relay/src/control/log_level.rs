//! `/api/v1/log`: how much is logged, looked at and changed while the node runs.
//!
//! A level set here holds until the next reload or restart, which go by the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::extract::rejection::BytesRejection;
use serde::{Deserialize, Serialize};

use super::http::{ApiError, JsonLine};
use super::log::LEVELS;
use super::state::State;
use crate::config::LogLevel;

/// What is wrong with any other body.
const BODY: &str =
    "The body must be {\"level\":\"...\"} with one of error, warn, info, debug and trace.";

/// `GET /api/v1/log`
#[derive(Debug, Serialize)]
pub(super) struct LogReport {
    level: LogLevel,
    /// Messages so far by level, whether written or not.
    messages: BTreeMap<String, u64>,
    /// Lines that standard error was too slow for.
    lost: u64,
    /// Lines left out since there were too many of their kind.
    left_out: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    level: LogLevel,
}

/// `GET /api/v1/log`
pub(super) async fn show(Shared(state): Shared<Arc<State>>) -> JsonLine<LogReport> {
    JsonLine(report(&state))
}

/// `PUT /api/v1/log`
pub(super) async fn set(
    Shared(state): Shared<Arc<State>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<JsonLine<LogReport>, ApiError> {
    let body = body.map_err(|rejection| ApiError::bad_body(&rejection))?;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|_| ApiError::bad_request(BODY))?;
    let old = state.log.level();
    state.log.set_level(wanted.level);
    if old != wanted.level {
        // At warn, so that it is told at whatever level but error.
        tracing::warn!(from = ?old, to = ?wanted.level, "the log's level was changed by the API");
    }
    Ok(JsonLine(report(&state)))
}

fn report(state: &State) -> LogReport {
    let messages = LEVELS.map(|level| (level.as_str().to_lowercase(), state.log.messages(level)));
    LogReport {
        level: state.log.level(),
        messages: messages.into_iter().collect(),
        lost: state.log.lost(),
        left_out: state.log.left_out(),
    }
}
