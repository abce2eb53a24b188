//! Where clients go that find no room here, or have to leave since the node ends.
//!
//! Players of RTMP are sent to the places of RTMP among those that are set, players of HTTP-FLV to
//! those of HTTP. Relays take both on one port, so where no place of HTTP is set it is made of one
//! of RTMP. Before those that are set come other nodes of the cluster that have room and say where
//! clients reach them. Who was sent on once is not sent on again, so that nobody goes to and fro
//! between two that are full: a mark in the URL says so.
//!
//! While the node drains, the places are other nodes of its cluster, whether they have room or not,
//! and publishers are sent there, too. Whoever speaks inside TLS is sent where there is TLS, or
//! nowhere.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use std::sync::Arc;

use super::Worker;
use super::connection::Connection;
use super::labels::{DrainRole, DrainWay, RefuseReason, Transport};
use super::mail::Refusal;
use super::play::failed;
use super::publish::app_of;
use crate::session::{PublishRefusal, PublishRefusalCode, Redirect, StreamRequest};
use crate::wire::stream_name::StreamAddress;

impl Worker {
    /// Where a player may play what it asked for, if there is such a place.
    pub(super) fn elsewhere(&mut self, connection: &mut Connection) -> Option<Redirect> {
        let asked = connection.asked.take()?;
        if asked.query.split('&').any(|pair| pair == SENT_ON) {
            return None;
        }
        let near = self.links.siblings.with_room();
        let near = near.filter_map(|doors| place_for(way(connection), doors));
        let near: Vec<String> = near.collect();
        let to = match (self.random.choice(&near), connection.speech.is_flv()) {
            (Some(base), true) => at_http(base, connection, &asked),
            (Some(base), false) => at_rtmp(base, connection, &asked),
            (None, _) => self.beyond(connection, &asked),
        };
        to.map(|to| sent_on(to, connection.speech.is_flv()))
    }

    /// One of the places that are set, for who finds no room in the cluster.
    fn beyond(&mut self, connection: &Connection, asked: &StreamAddress) -> Option<Redirect> {
        let bases = &self.settings.overflow;
        if connection.speech.is_flv() {
            let mut places: Vec<&String> = bases.iter().filter(|base| is_http(base)).collect();
            if places.is_empty() {
                places.extend(bases);
            }
            let base = *self.random.choice(&places)?;
            return at_http(&http_base(base, connection.tls.is_some()), connection, asked);
        }
        let places: Vec<&String> = bases.iter().filter(|base| !is_http(base)).collect();
        let base = *self.random.choice(&places)?;
        at_rtmp(base, connection, asked)
    }

    /// The URL by which a client of RTMP that is connected reaches another node of the cluster, by
    /// the transport that it speaks; `None` when no node says such a one.
    pub(super) fn sibling_url(&mut self, connection: &Connection) -> Option<String> {
        let base = self.sibling(connection)?;
        tc_url(&base, connection)
    }

    /// The place of another node of the cluster for clients that speak so.
    fn sibling(&mut self, connection: &Connection) -> Option<String> {
        let there = self.links.siblings.all();
        let places: Vec<_> = there.filter_map(|doors| place_for(way(connection), doors)).collect();
        self.random.choice(&places).cloned()
    }

    /// A player came while the node drains.
    pub(super) fn send_player_away(
        &mut self,
        connection: &mut Connection,
        request: &StreamRequest,
    ) {
        let (message_stream, reason) = (request.message_stream, RefuseReason::Draining);
        let refusal = failed(DRAINING);
        let base = self.sibling(connection);
        let to = base.and_then(|base| {
            if connection.speech.is_flv() {
                at_http(&base, connection, &as_asked(request))
            } else {
                at_rtmp(&base, connection, &as_asked(request))
            }
        });
        let Some(to) = to else {
            return self.reject_play(connection, message_stream, reason, &refusal);
        };
        self.cells.drained.at((DrainRole::Player, DrainWay::Redirected)).increment();
        self.redirect_play(connection, message_stream, reason, (&refusal, &to));
    }

    /// A publisher came while the node drains.
    pub(super) fn send_publisher_away(
        &mut self,
        connection: &mut Connection,
        request: &StreamRequest,
    ) {
        let base = self.sibling(connection);
        let Some(to) = base.and_then(|base| at_rtmp(&base, connection, &as_asked(request))) else {
            return self.refuse_publish(connection, request.message_stream, Refusal::Draining);
        };
        self.cells.refused.at(RefuseReason::Draining).increment();
        self.cells.drained.at((DrainRole::Publisher, DrainWay::Redirected)).increment();
        let code = PublishRefusalCode::Rejected;
        let refusal = PublishRefusal { code, description: DRAINING.into() };
        connection.speech.redirect_publish(request.message_stream, &refusal, &to);
    }
}

/// The parameter by which a player is known that was sent on for want of room.
const SENT_ON: &str = "sent_on=1";

/// A way with that mark: clients take either the whole URL or the `tcUrl` with the name that they
/// had.
fn sent_on(to: Redirect, is_flv: bool) -> Redirect {
    let marked = |url: String| {
        let joint = if url.contains('?') { '&' } else { '?' };
        format!("{url}{joint}{SENT_ON}")
    };
    let tc_url = if is_flv { to.tc_url } else { marked(to.tc_url) };
    Redirect { tc_url, url: marked(to.url), shown: to.shown }
}

/// What clients are told that come while the node drains.
const DRAINING: &str = "The server is about to end";

/// The `tcUrl` of a connected client at another place, where it is asked about again by what it
/// said itself.
fn tc_url(base: &str, connection: &Connection) -> Option<String> {
    let client = connection.speech.client()?;
    Some(format!("{base}/{}{}", client.asked_app(), query(&client.query())))
}

/// What a client has to ask for elsewhere: what it said, not what hooks made of it here.
pub(super) fn as_asked(request: &StreamRequest) -> StreamAddress {
    StreamAddress { name: request.asked.clone(), ..request.address.clone() }
}

/// What a client of RTMP asked for, at another place.
fn at_rtmp(base: &str, connection: &Connection, asked: &StreamAddress) -> Option<Redirect> {
    let shown = shown(connection, asked)?;
    let tc_url = tc_url(base, connection)?;
    Some(Redirect {
        tc_url,
        url: format!("{base}/{}{}", asked.name, query(&asked.query)),
        shown: shown.map_or(base.to_owned(), |shown| format!("{base}/{shown}")),
    })
}

/// What anybody may read of the name. Where a hook gave the application another one, neither that
/// nor what the client said, which may be a key.
fn shown<'a>(connection: &'a Connection, asked: &StreamAddress) -> Option<Option<&'a str>> {
    let shown = connection.stream_name.as_deref()?;
    Some((app_of(shown) == asked.name.app()).then_some(shown))
}

/// What a player of FLV asked for, at another place.
fn at_http(base: &str, connection: &Connection, asked: &StreamAddress) -> Option<Redirect> {
    let shown = shown(connection, asked)?;
    let path = utf8_percent_encode(asked.name.as_str(), NO_PATH);
    let file = |name| format!("{base}/{}.flv", utf8_percent_encode(name, NO_PATH));
    Some(Redirect {
        tc_url: base.to_owned(),
        url: format!("{base}/{path}.flv{}", query(&asked.query)),
        shown: shown.map_or(base.to_owned(), file),
    })
}

fn query(query: &str) -> String {
    if query.is_empty() { String::new() } else { format!("?{query}") }
}

/// What a client speaks, and whether inside TLS.
fn way(connection: &Connection) -> (Transport, bool) {
    (connection.transport(), connection.tls.is_some())
}

/// Of the places that a node says, the one for clients that speak so.
fn place_for((transport, secure): (Transport, bool), doors: &[Arc<str>]) -> Option<String> {
    let of = |scheme: &str| {
        let mut doors = doors.iter();
        doors.find(|door| door.split_once("://").is_some_and(|(known, _)| known == scheme))
    };
    let plain = |scheme: &str| of(scheme).map(|door| door.to_string());
    // A tunnel goes to the port of RTMP, which takes both.
    let tunnel = |door: &Arc<str>| http_base(door, false).replacen("http", "rtmpt", 1);
    match transport {
        Transport::Rtmp => plain("rtmp").or_else(|| plain("rtmps")),
        Transport::Rtmps => plain("rtmps"),
        Transport::Rtmpt => of("rtmp").map(tunnel),
        Transport::Rtmpts => of("rtmps").map(tunnel),
        // What is asked for may hold a secret, and browsers leave TLS for nobody.
        Transport::Flv | Transport::WsFlv if secure => {
            plain("https").or_else(|| of("rtmps").map(|door| http_base(door, true)))
        }
        Transport::Flv | Transport::WsFlv => {
            let own = plain("http").or_else(|| plain("https"));
            own.or_else(|| of("rtmp").or_else(|| of("rtmps")).map(|door| http_base(door, false)))
        }
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
    fn a_node_is_reached_by_the_transport_that_a_client_speaks() {
        #[track_caller]
        fn check(doors: &[&str], expected: [Option<&str>; 6]) {
            let doors: Vec<Arc<str>> = doors.iter().map(|door| (*door).into()).collect();
            use Transport::{Flv, Rtmp, Rtmps, Rtmpt, Rtmpts};
            let ways = [(Rtmp, false), (Rtmps, true), (Rtmpt, false), (Rtmpts, true)];
            let found = ways.into_iter().chain([(Flv, false), (Flv, true)]);
            let found: Vec<_> = found.map(|way| place_for(way, &doors)).collect();
            let found: [Option<String>; 6] = found.try_into().expect("as many as ways");
            assert_eq!(found.each_ref().map(Option::as_deref), expected, "{doors:?}");
        }
        check(&[], [None; 6]);
        let (rtmp, tunnel, http) = ("rtmp://a", "rtmpt://a:1935", "http://a:1935");
        check(&["rtmp://a"], [Some(rtmp), None, Some(tunnel), None, Some(http), None]);
        let (rtmps, tunnel, https) = ("rtmps://a:1936", "rtmpts://a:1936", "https://a:1936");
        check(
            &["rtmps://a:1936"],
            [Some(rtmps), Some(rtmps), None, Some(tunnel), Some(https), Some(https)],
        );
        let both = ["https://w", "rtmp://a:1", "rtmps://b:2"];
        let tunnels = (Some("rtmpt://a:1"), Some("rtmpts://b:2"));
        let ways = [Some("rtmp://a:1"), Some("rtmps://b:2"), tunnels.0, tunnels.1];
        let https = Some("https://w");
        check(&both, [ways[0], ways[1], ways[2], ways[3], https, https]);
        let http = ["http://w", "rtmps://b:2"];
        check(
            &http,
            [Some("rtmps://b:2"), ways[1], None, ways[3], Some("http://w"), Some("https://b:2")],
        );
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
