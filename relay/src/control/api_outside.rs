//! `/api/v1/pushes` and `/api/v1/pulls`: streams that go to and come from other servers, those of
//! the configuration and those that are added here, which hold on all nodes of a cluster and live
//! as long as one of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::api::{Answer, OfWhich, of_which, spend};
use super::http::{ApiError, JsonLine};
use super::outside::{Added, AddedId};
use super::page::Page;
use super::state::State;
use super::together::{self, Of, Whole};
use crate::worker::labels::OutsideKind;
use crate::worker::outside_url::OutsideRule;

/// What is asked for by `POST`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    app: String,
    /// The stream; all of the application unless it is named.
    name: Option<String>,
    url: String,
    /// Of a pull: from now on, and not only while somebody plays it.
    #[serde(default)]
    always: bool,
}

/// What was added.
#[derive(Debug, Serialize)]
pub(super) struct Made {
    id: String,
}

type Body = Result<Json<Wanted>, JsonRejection>;
type Id = Result<Path<String>, PathRejection>;

/// `GET /api/v1/pushes`; all of them are one page.
pub(super) async fn pushes(state: Shared<Arc<State>>, query: OfWhich) -> Answer<Whole> {
    list(&state, OutsideKind::Push, "/api/v1/pushes", query).await
}

/// `GET /api/v1/pulls`; all of them are one page.
pub(super) async fn pulls(state: Shared<Arc<State>>, query: OfWhich) -> Answer<Whole> {
    list(&state, OutsideKind::Pull, "/api/v1/pulls", query).await
}

/// `POST /api/v1/pushes`
pub(super) async fn push(
    state: Shared<Arc<State>>,
    body: Body,
) -> Result<(StatusCode, JsonLine<Made>), ApiError> {
    add(&state, OutsideKind::Push, body)
}

/// `POST /api/v1/pulls`
pub(super) async fn pull(
    state: Shared<Arc<State>>,
    body: Body,
) -> Result<(StatusCode, JsonLine<Made>), ApiError> {
    add(&state, OutsideKind::Pull, body)
}

/// `DELETE /api/v1/pushes/{id}`
pub(super) async fn end_push(state: Shared<Arc<State>>, id: Id) -> Result<StatusCode, ApiError> {
    remove(&state, OutsideKind::Push, id)
}

/// `DELETE /api/v1/pulls/{id}`
pub(super) async fn end_pull(state: Shared<Arc<State>>, id: Id) -> Result<StatusCode, ApiError> {
    remove(&state, OutsideKind::Pull, id)
}

async fn list(state: &State, kind: OutsideKind, path: &str, query: OfWhich) -> Answer<Whole> {
    let items = state.outside.list(kind, |moment| state.unix_ms(moment));
    let own = Page { items, next: None };
    match of_which(query)? {
        Of::Node => Whole::of_one(own),
        Of::Cluster => {
            spend(state)?;
            together::list(state, path, own).await
        }
    }
}

fn add(
    state: &State,
    kind: OutsideKind,
    body: Body,
) -> Result<(StatusCode, JsonLine<Made>), ApiError> {
    // What could not be read may hold a secret, so no word of it is repeated.
    let refuse = |reason, error: ApiError| {
        state.outside.refuse(reason);
        error
    };
    let Json(wanted) = body.map_err(|rejection| {
        let error = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(),
            _ => ApiError::bad_request(BODY),
        };
        refuse("body", error)
    })?;
    let Wanted { app, name, url, always } = wanted;
    let clean = |text: &str| {
        let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '?' | '*');
        !text.is_empty() && text.len() <= 512 && !text.contains(odd)
    };
    if !clean(&app) || app.contains('/') || !name.as_deref().is_none_or(clean) {
        return Err(refuse("body", ApiError::bad_request(BODY)));
    }
    let name = name.map(|name| format!("{name} ")).unwrap_or_default();
    let always = if always { " always" } else { "" };
    let text = format!("{name}{url}{always}");
    let rule = match kind {
        OutsideKind::Push => OutsideRule::push(&text),
        OutsideKind::Pull => OutsideRule::pull(&text),
    };
    let rule = rule.map_err(|fault| {
        refuse(fault.label(), ApiError::bad_request(format!("It must be {fault}.")))
    })?;
    let target = rule.url.target();
    let added = Added { kind, app, rule: Arc::new(rule) };
    let stream = format!("{}/{}", added.app, added.rule.stream.as_deref().unwrap_or("*"));
    let id = state.outside.add(added).ok_or_else(|| {
        let message = "There are outside_targets_max of these already.";
        refuse("full", ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "full", message))
    })?;
    tracing::info!(kind = kind.label(), %id, stream, target, "added by an operator");
    Ok((StatusCode::CREATED, JsonLine(Made { id: id.to_string() })))
}

fn remove(state: &State, kind: OutsideKind, id: Id) -> Result<StatusCode, ApiError> {
    let gone = || {
        ApiError::not_found(
            "There is none of this id; what the configuration asks for is ended there.",
        )
    };
    let Path(id) = id.map_err(|_| gone())?;
    let id = AddedId::parse(&id).ok_or_else(gone)?;
    if !state.outside.remove(kind, id) {
        return Err(gone());
    }
    tracing::info!(kind = kind.label(), %id, "taken away by an operator");
    Ok(StatusCode::NO_CONTENT)
}

/// What is wrong with a body that cannot be used.
const BODY: &str = "The body must be JSON such as {\"app\":\"live\",\"name\":\"show\",\
    \"url\":\"rtmp://host/app/name\"}, with Content-Type application/json; name may be left \
    out, and a pull may have \"always\":true.";
