//! `/watch/{app}/{name}`: a page that plays one stream in a browser, and what it is made of.
//!
//! The page is the same for every stream: it finds out by itself which one, asks the API about it
//! and plays FLV from the port for players. Nothing of it comes from elsewhere, and a policy in its
//! head says so to the browser. Anybody may have it; who may play is decided where FLV is.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::state::State;

/// Where the page finds FLV.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// An origin by configuration.
    pub(super) base: Option<String>,
    /// The port for players, on the host that the page was asked of.
    pub(super) port: u16,
}

const PAGE: &str = include_str!("../../web/watch.html");
const STYLE: &str = include_str!("../../web/watch.css");
const SCRIPT: &str = include_str!("../../web/watch.js");
/// mpegts.js 1.8.2 as published, under the Apache License 2.0 (`web/mpegts.js.LICENSE`).
const PLAYER: &str = include_str!("../../web/mpegts.js");
const PLAYER_LICENSE: &str = concat!(
    include_str!("../../web/mpegts.js.LICENSE.txt"),
    include_str!("../../web/mpegts.js.LICENSE")
);

pub(super) async fn page(Shared(state): Shared<Arc<State>>, headers: HeaderMap) -> Response {
    let base = state.in_force().effective.config.settings.flv_base.clone();
    let place = &Place { base, port: state.port };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let base = place.base.as_deref().unwrap_or_default();
    let body = PAGE.replace("{{base}}", base).replace("{{port}}", &place.port.to_string());
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy(place, host)),
    ];
    (headers, body).into_response()
}

/// What the page may load: its own parts, the API, and FLV from where it is.
fn policy(place: &Place, host: &str) -> String {
    let sources = match &place.base {
        Some(base) => format!("{base} {}", base.replacen("http", "ws", 1)),
        None => {
            let name = match host.rsplit_once(':') {
                Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
                _ => host,
            };
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
            // Policies cannot name addresses in brackets.
            let name = if name.is_empty() || !name.chars().all(plain) { "*" } else { name };
            let on = |scheme| format!("{scheme}://{name}:{}", place.port);
            ["http", "https", "ws", "wss"].map(on).join(" ")
        }
    };
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' {sources}; \
         media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

pub(super) async fn style() -> Response {
    part("text/css; charset=utf-8", STYLE)
}

pub(super) async fn script() -> Response {
    part("text/javascript; charset=utf-8", SCRIPT)
}

pub(super) async fn player() -> Response {
    part("text/javascript; charset=utf-8", PLAYER)
}

pub(super) async fn player_license() -> Response {
    part("text/plain; charset=utf-8", PLAYER_LICENSE)
}

pub(super) fn part(kind: &'static str, body: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_where_flv_is() {
        fn check(base: Option<&str>, host: &str, expected: &str) {
            let place = Place { base: base.map(str::to_owned), port: 1935 };
            let policy = policy(&place, host);
            let connect = policy.split("; ").find(|part| part.starts_with("connect-src"));
            assert_eq!(connect, Some(&*format!("connect-src 'self' {expected}")), "{host}");
            assert!(policy.starts_with("default-src 'none'; script-src 'self'; "));
            assert!(!policy.contains("unsafe"));
        }
        let on = |name: &str| {
            ["http", "https", "ws", "wss"].map(|one| format!("{one}://{name}:1935")).join(" ")
        };
        check(None, "localhost:8935", &on("localhost"));
        check(None, "relay.example", &on("relay.example"));
        check(None, "10.0.0.1:80", &on("10.0.0.1"));
        check(None, "[::1]:8935", &on("*"));
        check(None, "", &on("*"));
        check(None, "a; script-src *:1", &on("*"));
        let origin = "https://live.example.org";
        check(Some(origin), "x", "https://live.example.org wss://live.example.org");
    }

    #[test]
    fn the_parts_fit_together() {
        for part in ["/web/watch.css", "/web/mpegts.js", "/web/watch.js"] {
            assert!(PAGE.contains(&format!("\"{part}\"")), "{part}");
        }
        for id in SCRIPT.split("element(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(PAGE.contains(&format!("id=\"{id}\"")), "{id}");
        }
        let inline = |text: &str| PAGE.contains(text);
        assert!(!inline("style=") && !inline("onclick") && !inline("<style"), "the policy forbids");
        assert!(!PAGE.contains("http://") && !PAGE.contains("https://"), "nothing from elsewhere");
        assert!(PLAYER.contains("1.8.2") && PLAYER_LICENSE.contains("Apache License"));
    }
}
