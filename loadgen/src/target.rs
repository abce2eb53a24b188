//! Where the load goes: a URL, taken apart and looked up once.
//!
//! `rtmp://host[:port]/app[/name][?query]`, or `rtmps`, `rtmpt`, `rtmpts`; and for those who only
//! play `http`, `https`, `ws`, `wss`, with or without `.flv`. The last segment of two or more is
//! the stream's name, what stands before it the application. With several streams each gets a
//! number: in the place of `{}`, or else behind the name.

use std::net::{SocketAddr, ToSocketAddrs};

pub use relay::session::Scheme;

use crate::failure::Failure;

/// A server and the names of streams on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How streams are carried.
    pub scheme: Scheme,
    /// Every address that the host's name stands for; never empty. Connections take turns.
    pub addresses: Vec<SocketAddr>,
    /// Host and port as in the URL.
    authority: String,
    /// The application.
    pub app: String,
    /// The pattern of stream names, query included.
    name: String,
}

impl Target {
    /// Takes a URL apart and looks its host up.
    ///
    /// # Errors
    /// One sentence when it is no URL of RTMP or the host is not known.
    pub fn parse(url: &str) -> Result<Self, Failure> {
        let (scheme, host, port, path) = split(url)?;
        let addresses: Vec<SocketAddr> = (host, port)
            .to_socket_addrs()
            .map_err(|error| Failure::new(format!("the host of {url} is not known: {error}")))?
            .collect();
        if addresses.is_empty() {
            return Err(Failure::new(format!("the host of {url} has no address")));
        }
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let path = path.trim_matches('/');
        // Said again with the number of the stream.
        let path = if scheme.is_flv() { path.strip_suffix(".flv").unwrap_or(path) } else { path };
        if path.is_empty() {
            return Err(Failure::new(format!(
                "{url} names no application: write rtmp://host/app or rtmp://host/app/name"
            )));
        }
        let (app, name) = path.rsplit_once('/').unwrap_or((path, "loadgen-{}"));
        let name = if query.is_empty() { name.to_owned() } else { format!("{name}?{query}") };
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let authority = format!("{bracketed}:{port}");
        Ok(Self { scheme, addresses, authority, app: app.to_owned(), name })
    }

    /// What connect says as `tcUrl`.
    #[must_use]
    pub fn tc_url(&self) -> String {
        format!("{}://{}/{}", self.scheme.name(), self.authority, self.app)
    }

    /// Host and port as in the URL.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host, of IPv6 in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host)
    }

    /// The name of stream number `index` of `streams`.
    #[must_use]
    pub fn stream_name(&self, index: usize, streams: usize) -> String {
        if self.name.contains("{}") {
            return self.name.replace("{}", &index.to_string());
        }
        if streams <= 1 {
            return self.name.clone();
        }
        match self.name.split_once('?') {
            Some((name, query)) => format!("{name}-{index}?{query}"),
            None => format!("{}-{index}", self.name),
        }
    }

    /// What a request of HTTP asks for to play stream number `index` of `streams`.
    #[must_use]
    pub fn path(&self, index: usize, streams: usize) -> String {
        let name = self.stream_name(index, streams);
        match name.split_once('?') {
            Some((name, query)) => format!("/{}/{name}.flv?{query}", self.app),
            None => format!("/{}/{name}.flv", self.app),
        }
    }

    /// The target that a server sent us to: a `tcUrl`, absolute or relative to this one (E-RTMP
    /// "Reconnect Request"), or where HTTP says that a stream is.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn redirected(&self, tc_url: Option<&str>) -> Result<Self, Failure> {
        let Some(to) = tc_url.filter(|to| !to.is_empty()) else { return Ok(self.clone()) };
        let absolute = if let Some(rest) = to.strip_prefix("//") {
            format!("{}://{rest}", self.scheme.name())
        } else if to.starts_with('/') {
            format!("{}://{}{to}", self.scheme.name(), self.authority)
        } else {
            to.to_owned()
        };
        if self.scheme.is_flv() {
            // It names the one stream that was asked for, and we know which that is.
            return Ok(Self { name: self.name.clone(), ..Self::parse(&absolute)? });
        }
        // A tcUrl has no stream name: all of its path is the application.
        let mut target = Self::parse(&format!("{}/x", absolute.trim_end_matches('/')))?;
        target.name.clone_from(&self.name);
        Ok(target)
    }
}

fn split(url: &str) -> Result<(Scheme, &str, u16, &str), Failure> {
    let wrong = |why: &str| Err(Failure::new(format!("'{url}' is no target: {why}")));
    let Some((scheme, rest)) = url.split_once("://") else {
        return wrong("write rtmp://host/app/name");
    };
    let Some(scheme) = Scheme::parse(scheme) else {
        return wrong(&format!(
            "'{scheme}' is none of rtmp, rtmps, rtmpt, rtmpts, http, https, ws and wss"
        ));
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = if let Some(inner) = authority.strip_prefix('[') {
        let Some((host, port)) = inner.split_once(']') else {
            return wrong("its address lacks a ']'");
        };
        (host, port.strip_prefix(':'))
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if host.is_empty() {
        return wrong("it has no host");
    }
    match port.map_or(Ok(scheme.default_port()), str::parse) {
        Ok(port) if port > 0 => Ok((scheme, host, port, path)),
        _ => wrong("its port is no number from 1 to 65535"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let check = |url: &str, streams: usize, tc_url: &str, name: &str| {
            let target = Target::parse(url).unwrap();
            assert_eq!(target.tc_url(), tc_url, "{url}");
            assert_eq!(target.stream_name(3, streams), name, "{url}");
        };
        check("rtmp://127.0.0.1/live/a", 1, "rtmp://127.0.0.1:1935/live", "a");
        check("rtmp://127.0.0.1:9/live/a", 4, "rtmp://127.0.0.1:9/live", "a-3");
        check("rtmp://127.0.0.1/live", 4, "rtmp://127.0.0.1:1935/live", "loadgen-3");
        check("rtmp://127.0.0.1/live/x/a{}b?k=v", 4, "rtmp://127.0.0.1:1935/live/x", "a3b?k=v");
        check("rtmp://127.0.0.1/live/a?k=v", 4, "rtmp://127.0.0.1:1935/live", "a-3?k=v");
        check("rtmp://127.0.0.1/live/a?k=v", 1, "rtmp://127.0.0.1:1935/live", "a?k=v");
        check("RTMP://[::1]:1936/live/a", 1, "rtmp://[::1]:1936/live", "a");
        check("rtmpt://127.0.0.1/live/a", 1, "rtmpt://127.0.0.1:80/live", "a");
        check("rtmps://127.0.0.1/live/a", 1, "rtmps://127.0.0.1:443/live", "a");
        check("rtmpts://[::1]:9/live/a", 1, "rtmpts://[::1]:9/live", "a");
        assert_eq!(Target::parse("rtmps://[::1]:9/live/a").unwrap().host(), "[::1]");
        assert_eq!(Target::parse("rtmps://127.0.0.1/live/a").unwrap().host(), "127.0.0.1");
    }

    #[test]
    fn what_is_no_target_is_refused_in_one_sentence() {
        let check = |url: &str, part: &str| {
            let sentence = Target::parse(url).unwrap_err().to_string();
            assert!(sentence.contains(part) && !sentence.contains('\n'), "{url}: {sentence}");
        };
        check("127.0.0.1/live/a", "write rtmp://");
        check("ftp://127.0.0.1/live/a", "none of rtmp");
        check("rtmpe://127.0.0.1/live/a", "none of rtmp");
        check("rtmp:///live/a", "no host");
        check("rtmp://127.0.0.1:0/live/a", "port");
        check("rtmp://127.0.0.1:x/live/a", "port");
        check("rtmp://[::1/live/a", "']'");
        check("rtmp://127.0.0.1", "no application");
        check("rtmp://127.0.0.1/", "no application");
    }

    #[test]
    fn files_are_asked_for_by_path() {
        let check = |url: &str, streams: usize, authority: &str, path: &str| {
            let target = Target::parse(url).unwrap();
            assert!(target.scheme.is_flv());
            assert_eq!(target.authority(), authority, "{url}");
            assert_eq!(target.path(3, streams), path, "{url}");
        };
        check("http://127.0.0.1/live/a.flv", 1, "127.0.0.1:80", "/live/a.flv");
        check("https://127.0.0.1/live/a", 4, "127.0.0.1:443", "/live/a-3.flv");
        check("ws://[::1]:9/live/a{}.flv?k=v", 4, "[::1]:9", "/live/a3.flv?k=v");
        check("wss://127.0.0.1:9/live", 4, "127.0.0.1:9", "/live/loadgen-3.flv");
        let moved = Target::parse("http://127.0.0.1:9/live/a{}.flv?k=v").unwrap();
        let moved = moved.redirected(Some("http://127.0.0.2:8/other/a3.flv?k=v")).unwrap();
        assert_eq!(moved.path(3, 9), "/other/a3.flv?k=v");
        assert_eq!(moved.authority(), "127.0.0.2:8");
    }

    #[test]
    fn redirects_keep_the_name() {
        let from = Target::parse("rtmp://127.0.0.1:9/live/a{}").unwrap();
        let check = |to: Option<&str>, tc_url: &str| {
            let target = from.redirected(to).unwrap();
            assert_eq!(target.tc_url(), tc_url);
            assert_eq!(target.stream_name(7, 9), "a7");
        };
        check(None, "rtmp://127.0.0.1:9/live");
        check(Some("rtmp://127.0.0.2:8/other/app"), "rtmp://127.0.0.2:8/other/app");
        check(Some("//127.0.0.2/live"), "rtmp://127.0.0.2:1935/live");
        check(Some("/moved"), "rtmp://127.0.0.1:9/moved");
        check(Some("rtmps://127.0.0.2:8/live"), "rtmps://127.0.0.2:8/live");
    }
}
