//! Who may use the API: connections that come from loopback themselves, and whoever shows a token.
//!
//! Forwarded headers count for nothing: anybody can write them.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State as Shared};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::http::ApiError;
use super::state::State;

/// Lets this host through, and whoever shows a token.
pub(super) async fn guard(
    Shared(state): Shared<Arc<State>>,
    request: Request,
    next: Next,
) -> Response {
    match check(&state, &request) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused,
    }
}

/// Judges one request; what is refused is counted, and the answer says why.
pub(super) fn check(state: &State, request: &Request) -> Result<(), Response> {
    let Err(refused) = judge(state, request) else { return Ok(()) };
    state.api_refused.increment();
    let wants_token = refused.status() == StatusCode::UNAUTHORIZED;
    let mut response = refused.into_response();
    if wants_token {
        let scheme = header::HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    Err(response)
}

fn judge(state: &State, request: &Request) -> Result<(), ApiError> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let force = state.in_force();
    let tokens = &force.effective.config.api.tokens;
    let shown = bearer(request.headers());
    if shown.is_some_and(|token| tokens.hold(token)) {
        return Ok(());
    }
    if peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback()) {
        match foreign_host(request.headers(), request.uri()) {
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

/// A page in a browser on this host can reach loopback under a name of its own, by giving that name
/// our address (DNS rebinding), and a proxy on this host can bring anybody. Both give themselves
/// away by the host they ask for.
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
