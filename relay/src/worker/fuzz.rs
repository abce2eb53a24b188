//! Bodies of the fuzz targets of what other servers send us: plain functions that take any bytes
//! and must not panic.

use super::outside_url::{OutsideRule, OutsideUrl};

/// A rule of pushes or pulls, and where a server sends us. What may be shown is no secret, and what
/// was sent somewhere else stays a URL.
pub fn outside_url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (rule, to) = text.split_once('\n').unwrap_or((&text, ""));
    for rule in [OutsideRule::push(rule), OutsideRule::pull(rule)].into_iter().flatten() {
        assert_eq!(rule.shown(), format!("{rule:?}"));
        assert!(rule.is_for("live/a") || rule.stream.is_some());
        let url = rule.url.filled("live/a/b");
        assert!(!url.host.is_empty() && url.port > 0 && !url.stream().is_empty());
        assert!(!url.target().contains('?') && url.target().ends_with(&url.app("")));
        if let Ok(moved) = url.moved(to) {
            assert_eq!(moved.stream(), url.stream());
            assert!(!moved.host.is_empty() && moved.port > 0);
            let again = moved.moved("");
            assert_eq!(again.as_ref().map(OutsideUrl::target), Ok(moved.target()));
        }
    }
}
