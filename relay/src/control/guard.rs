//! Who may use the API: connections that come from loopback themselves, whoever shows a token, and
//! other nodes of the cluster, which may read.
//!
//! Headers that tell of somebody else give no rights, since anybody can write them: they take away
//! those of loopback, as whoever has them was sent by a proxy or by a page on the network.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State as Shared};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::gather::unix_seconds;
use super::http::ApiError;
use super::proof::{self, Proof, Question};
use super::state::State;

/// What proxies add.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// Lets this host through, and whoever shows a token.
pub(super) async fn guard(
    Shared(state): Shared<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(refused) = refusal(&state, &request) {
        return refused;
    }
    let Some(proof) = shown(&request) else { return next.run(request).await };
    sign(&state, &proof, next.run(request).await).await
}

/// What another node shows that asks.
fn shown(request: &Request) -> Option<Proof> {
    Proof::shown(request.headers().get(header::AUTHORIZATION)?.as_bytes())
}

/// Proves an answer to the node that asked.
async fn sign(state: &State, proof: &Proof, answer: Response) -> Response {
    let (mut head, body) = answer.into_parts();
    // Made by ourselves, and as long as a list may be.
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let secret = &state.in_force().effective.config.cluster.secret.0;
    let shown = proof.answer(secret, head.status.as_u16(), &body);
    if let Ok(shown) = HeaderValue::try_from(shown) {
        head.headers.insert(proof::ANSWER, shown);
    }
    Response::from_parts(head, Body::from(body))
}

/// Judges one request; what is refused is counted, and the answer says why.
pub(super) fn refusal(state: &State, request: &Request) -> Option<Response> {
    let refused = judge(state, request).err()?;
    state.api_refused.increment();
    let wants_token = refused.status() == StatusCode::UNAUTHORIZED;
    let mut response = refused.into_response();
    if wants_token {
        let scheme = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    Some(response)
}

fn judge(state: &State, request: &Request) -> Result<(), ApiError> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let force = state.in_force();
    if let Some(proof) = shown(request) {
        let secret = &force.effective.config.cluster.secret.0;
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        let question = Question { node: &state.node, target };
        let refused = |why: &dyn std::fmt::Display| {
            ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", format!("Not taken: {why}."))
        };
        if request.method() != Method::GET {
            return Err(refused(&"nodes only read"));
        }
        return question.judge(secret, &proof, unix_seconds()).map_err(|why| refused(&why));
    }
    let tokens = &force.effective.config.api.tokens;
    let shown = bearer(request.headers());
    if shown.is_some_and(|token| tokens.hold(token)) {
        return Ok(());
    }
    if peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
        let headers = request.headers();
        match foreign_host(headers, request.uri()).or_else(|| sent_by_others(headers)) {
            None => return Ok(()),
            Some(why) if tokens.is_empty() => {
                return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", why));
            }
            // A proxy on this host may bring who has a token.
            Some(_) => {}
        }
    }
    if tokens.is_empty() {
        let why = "This answers only to the machine that the relay runs on; ask there, or through a \
                   tunnel such as ssh -L 8935:localhost:8935, or set api.token_file.";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", why));
    }
    let why = match shown {
        Some(_) => "The token is wrong.",
        None => "From other hosts this needs a token: Authorization: Bearer <token>.",
    };
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", why))
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// A page in a browser on this host can have loopback ask on its behalf, and a proxy on this host
/// can bring anybody.
fn sent_by_others(headers: &HeaderMap) -> Option<String> {
    if FORWARDED.iter().any(|name| headers.contains_key(*name)) {
        return Some("The request came through a proxy: show a token (api.token_file).".to_owned());
    }
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return Some("The request was made by a page of another site.".to_owned());
    }
    // Browsers that say nothing of sites name the origin of whatever is not a plain GET.
    let origin = headers.get(header::ORIGIN)?.to_str().ok();
    let asked = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let same = origin.and_then(|origin| origin.split_once("://")).map(|(_, host)| host) == asked;
    (!same).then(|| "The request was made by a page of another site.".to_owned())
}

/// A page in a browser on this host can reach loopback under a name of its own, by giving that name
/// our address (DNS rebinding). It gives itself away by the host it asks for.
fn foreign_host(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let host = uri.authority().map(|authority| authority.as_str());
    let host = host.or_else(|| headers.get(header::HOST).and_then(|host| host.to_str().ok()));
    let Some(host) = host else {
        return Some("The request names no host.".to_owned());
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let ours =
        name.eq_ignore_ascii_case("localhost") || address.parse::<std::net::IpAddr>().is_ok();
    (!ours).then(|| "The host asked for must be an address or localhost.".to_owned())
}
