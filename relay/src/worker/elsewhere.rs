//! Where a player goes that finds no room here.
//!
//! Players of RTMP are sent to the places of RTMP among those that are set, players of HTTP-FLV to
//! those of HTTP. Relays take both on one port, so where no place of HTTP is set it is made of one
//! of RTMP.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::Worker;
use super::connection::Connection;
use crate::session::Redirect;

impl Worker {
    /// Where a player may play what it asked for, if there is such a place.
    pub(super) fn elsewhere(&mut self, connection: &mut Connection) -> Option<Redirect> {
        let asked = connection.asked.take()?;
        let shown = connection.stream_name.as_deref()?;
        let query =
            |query: &str| if query.is_empty() { String::new() } else { format!("?{query}") };
        let bases = &self.settings.overflow;
        if connection.speech.is_flv() {
            let mut places: Vec<&String> = bases.iter().filter(|base| is_http(base)).collect();
            if places.is_empty() {
                places.extend(bases);
            }
            let base = *self.random.choice(&places)?;
            let base = http_base(base, connection.tls.is_some());
            let path = utf8_percent_encode(asked.name.as_str(), NO_PATH);
            return Some(Redirect {
                tc_url: base.clone(),
                url: format!("{base}/{path}.flv{}", query(&asked.query)),
                shown: format!("{base}/{}.flv", utf8_percent_encode(shown, NO_PATH)),
            });
        }
        let places: Vec<&String> = bases.iter().filter(|base| !is_http(base)).collect();
        let base = *self.random.choice(&places)?;
        let client = connection.speech.client()?;
        Some(Redirect {
            tc_url: format!("{base}/{}{}", client.app, query(&client.query())),
            url: format!("{base}/{}{}", asked.name, query(&asked.query)),
            shown: format!("{base}/{shown}"),
        })
    }
}

/// The way to a stream whose URL of RTMP a back end gave.
pub(super) fn redirect(url: &str, connection: &Connection) -> Redirect {
    let (place, query) =
        url.split_once('?').map_or((url, None), |(place, query)| (place, Some(query)));
    let whole = |place: &str| query.map_or(place.to_owned(), |query| format!("{place}?{query}"));
    let (base, path) = cut_base(place);
    if connection.speech.is_flv() {
        let base = http_base(&base.to_ascii_lowercase(), connection.tls.is_some());
        let shown = format!("{base}/{}.flv", utf8_percent_encode(path, NO_PATH));
        return Redirect { tc_url: base, url: whole(&shown), shown };
    }
    let app = path.rsplit_once('/').map_or("", |(app, _)| app);
    Redirect {
        tc_url: whole(&format!("{base}/{app}")),
        url: url.to_owned(),
        shown: place.to_owned(),
    }
}

/// Scheme and host of a URL, and the path without its first slash.
fn cut_base(url: &str) -> (&str, &str) {
    let host = url.find("://").map_or(0, |at| at + "://".len());
    let rest = url.get(host..).unwrap_or_default();
    match rest.find('/') {
        Some(slash) => (url.get(..host + slash).unwrap_or(url), &rest[slash + 1..]),
        None => (url, ""),
    }
}

/// What cannot stand in a path as it is (RFC 3986 section 3.3).
const NO_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

fn is_http(base: &str) -> bool {
    base.starts_with("http")
}

/// The place of HTTP at a base. Whoever comes over TLS is sent where there is TLS: browsers follow
/// no other way.
fn http_base(base: &str, secure: bool) -> String {
    let Some((scheme, host)) = base.split_once("://").filter(|_| !is_http(base)) else {
        return base.to_owned();
    };
    let has_port = host.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
    // What rtmp and rtmps stand for where no port is named.
    let port = match (has_port, scheme) {
        (true, _) => "",
        (false, "rtmps") => ":443",
        (false, _) => ":1935",
    };
    let scheme = if secure || scheme == "rtmps" { "https" } else { "http" };
    format!("{scheme}://{host}{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_cut_behind_the_host() {
        for (url, base, path) in [
            ("rtmp://h/live/x", "rtmp://h", "live/x"),
            ("RTMPS://[::1]:1935/x", "RTMPS://[::1]:1935", "x"),
            ("rtmp://h", "rtmp://h", ""),
            ("rtmp://h/", "rtmp://h", ""),
        ] {
            assert_eq!(cut_base(url), (base, path));
        }
    }

    #[test]
    fn places_of_rtmp_are_places_of_http() {
        let check = |base: &str, secure: bool, expected: &str| {
            assert_eq!(http_base(base, secure), expected, "{base}, over TLS: {secure}");
        };
        check("rtmp://b.example", false, "http://b.example:1935");
        check("rtmp://b.example", true, "https://b.example:1935");
        check("rtmp://b.example:1936", false, "http://b.example:1936");
        check("rtmps://b.example", false, "https://b.example:443");
        check("rtmps://[::1]", false, "https://[::1]:443");
        check("rtmp://[::1]:9", true, "https://[::1]:9");
        check("http://b.example", true, "http://b.example");
        check("https://b.example:8443", false, "https://b.example:8443");
    }
}
