//! `/`: the page that shows the node in a browser, live, and what it is made of.
//!
//! The page knows nothing by itself and so is open; it asks the API, which has its guard, and asks
//! its reader for a token where the API wants one. Nothing of it comes from elsewhere, and a policy
//! in its head says so to the browser.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::watch::part;

const PAGE: &str = include_str!("../../web/status.html");
const STYLE: &str = include_str!("../../web/status.css");
const SCRIPT: &str = include_str!("../../web/status.js");

/// What the page may load.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "Accept"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    (headers, PAGE).into_response()
}

pub(super) async fn style() -> Response {
    part("text/css; charset=utf-8", STYLE)
}

pub(super) async fn script() -> Response {
    part("text/javascript; charset=utf-8", SCRIPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_fit_together() {
        for part in ["/web/status.css", "/web/status.js"] {
            assert!(PAGE.contains(&format!("\"{part}\"")), "{part}");
        }
        let ids = SCRIPT.split("element(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let mut count = 0;
        for id in ids {
            assert!(PAGE.contains(&format!("id=\"{id}\"")), "{id}");
            count += 1;
        }
        assert!(count > 10, "{count}");
        for (name, text) in [("page", PAGE), ("script", SCRIPT), ("style", STYLE)] {
            assert!(!text.contains("http://") && !text.contains("https://"), "{name}: elsewhere");
        }
        let inline = |text: &str| PAGE.contains(text);
        assert!(!inline("style=") && !inline("onclick") && !inline("<style"), "the policy forbids");
        assert!(!SCRIPT.contains("innerHTML"), "names of streams are text, never markup");
        assert!(!POLICY.contains("unsafe"));
    }
}
