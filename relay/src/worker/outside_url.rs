//! URLs of other servers, and what is pushed to or pulled from which.
//!
//! `rtmp://[user:password@]host[:port]/app/name[?query]`, or `rtmps`, `rtmpt`, `rtmpts`. The last
//! segment of the path is the stream's name there, what stands before it the application, however
//! many segments it has. `{app}` and `{name}` stand for the application and the name of the stream
//! here; since the path is cut where it is written and not where it was filled in, a name with
//! slashes stays a name. Names of streams are keys on many servers: only [`OutsideUrl::target`] may
//! be shown.

use std::fmt;

use crate::session::Scheme;

/// A stream on another server. May carry secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct OutsideUrl {
    /// How RTMP is carried.
    pub scheme: Scheme,
    /// A name or an address, of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// User and password, for servers that ask for them.
    pub user: Option<(String, String)>,
    /// The application there.
    app: String,
    /// What a redirect put behind the application.
    app_query: String,
    /// A server sent us here: what stands behind the first segment of the application may be a
    /// token of it.
    sent: bool,
    /// The stream there, with its query.
    stream: String,
}

/// What is wrong with a URL. Shows nothing of it but its scheme.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// It has none of the four schemes.
    #[error("the scheme of a URL must be rtmp, rtmps, rtmpt or rtmpts")]
    Scheme,
    /// No host, or a port that is none.
    #[error("a URL needs a host, and a port from 1 to 65535 if it names one")]
    Host,
    /// No application or no name.
    #[error("a URL needs an application and a name, as in rtmp://host/app/name")]
    Path,
    /// Something in braces that stands for nothing.
    #[error("only {{app}} and {{name}} stand for something in a URL, behind its host")]
    Placeholder,
    /// Longer than any that servers take, or with characters that no URL has.
    #[error("a URL has at most 2,048 bytes and no blanks or control characters")]
    Text,
    /// A redirect away from TLS: the stream's name, which may be a key, would be told to whoever
    /// listens.
    #[error("a server that is reached by TLS may not send us to one that is not")]
    Plain,
}

impl UrlFault {
    /// As it is counted.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Scheme => "scheme",
            Self::Host => "host",
            Self::Path => "path",
            Self::Placeholder => "placeholder",
            Self::Text => "text",
            Self::Plain => "plain",
        }
    }
}

/// Longest URL.
const URL_BYTES_MAX: usize = 2_048;

impl OutsideUrl {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, UrlFault> {
        let (mut url, path, query) = Self::parse_head(text)?;
        let (app, name) = path.rsplit_once('/').ok_or(UrlFault::Path)?;
        let app = app.trim_matches('/');
        if app.is_empty() || name.is_empty() {
            return Err(UrlFault::Path);
        }
        url.app = app.to_owned();
        url.stream = if query.is_empty() { name.to_owned() } else { format!("{name}?{query}") };
        let filled = url.app.replace("{app}", "") + &url.stream.replace("{app}", "");
        if filled.replace("{name}", "").contains(['{', '}']) || url.host.contains(['{', '}']) {
            return Err(UrlFault::Placeholder);
        }
        Ok(url)
    }

    /// The same of a URL in which the stream's name may be missing: then it is that of the stream
    /// here.
    ///
    /// # Errors
    /// What is wrong with it.
    fn parse_forward(text: &str) -> Result<Self, UrlFault> {
        let (place, query) =
            text.split_once('?').map_or((text, ""), |(place, _)| (place, &text[place.len()..]));
        let path = place.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        match path.map(|(_, path)| path.trim_end_matches('/')) {
            Some(app) if !app.is_empty() && !app.contains('/') => {
                let place = place.trim_end_matches('/');
                Self::parse(&format!("{place}/{{name}}{query}"))
            }
            _ => Self::parse(text),
        }
    }

    /// Everything before the path; the path without its first slash, and the query.
    fn parse_head(text: &str) -> Result<(Self, &str, &str), UrlFault> {
        let odd = |c: char| c.is_control() || c.is_whitespace();
        if text.len() > URL_BYTES_MAX || text.contains(odd) {
            return Err(UrlFault::Text);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlFault::Scheme)?;
        let scheme = Scheme::parse(scheme).filter(|scheme| !scheme.is_flv());
        let scheme = scheme.ok_or(UrlFault::Scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, authority) = match authority.rsplit_once('@') {
            Some((user, authority)) => {
                let (user, password) = user.split_once(':').unwrap_or((user, ""));
                (Some((user.to_owned(), password.to_owned())), authority)
            }
            None => (None, authority),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(UrlFault::Host)?;
                let port = match port {
                    "" => None,
                    port => Some(port.strip_prefix(':').ok_or(UrlFault::Host)?),
                };
                (host, port)
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            None => Some(scheme.default_port()),
            Some(port) => port.parse().ok().filter(|port| *port > 0),
        };
        let port = port.filter(|_| !host.is_empty()).ok_or(UrlFault::Host)?;
        let url = Self {
            scheme,
            host: host.to_owned(),
            port,
            user,
            app: String::new(),
            app_query: String::new(),
            sent: false,
            stream: String::new(),
        };
        Ok((url, path, query))
    }

    /// With the application and the name of the stream `app/name` in the places that stand for
    /// them.
    #[must_use]
    pub fn filled(&self, stream: &str) -> Self {
        let (app, name) = stream.split_once('/').unwrap_or(("", stream));
        let fill = |text: &str| text.replace("{app}", app).replace("{name}", name);
        Self { app: fill(&self.app), stream: fill(&self.stream), ..self.clone() }
    }

    /// Where a server sends us: a `tcUrl`, absolute or relative to this one (E-RTMP "Reconnect
    /// Request"). The stream's name stays, and user and password if the host does. What was
    /// reached by TLS stays so.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn moved(&self, to: &str) -> Result<Self, UrlFault> {
        let absolute = if to.is_empty() {
            return Ok(self.clone());
        } else if to.starts_with("//") {
            format!("{}:{to}", self.scheme.name())
        } else if to.starts_with('/') {
            format!("{}://{}{to}", self.scheme.name(), self.authority())
        } else {
            to.to_owned()
        };
        let (mut url, path, query) = Self::parse_head(&absolute)?;
        if self.scheme.is_tls() && !url.scheme.is_tls() {
            return Err(UrlFault::Plain);
        }
        let app = path.trim_matches('/');
        url.sent = self.sent || !app.is_empty();
        url.app = if app.is_empty() { self.app.clone() } else { app.to_owned() };
        url.app_query = query.to_owned();
        url.stream.clone_from(&self.stream);
        if url.user.is_none() && url.host == self.host {
            url.user.clone_from(&self.user);
        }
        Ok(url)
    }

    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The application, with what is put behind it: of a redirect, and of a challenge.
    #[must_use]
    pub fn app(&self, challenge: &str) -> String {
        let parts = [self.app_query.as_str(), challenge];
        let query = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        match query.is_empty() {
            true => self.app.clone(),
            false => format!("{}?{}", self.app, query.join("&")),
        }
    }

    /// The URL without the stream's name, as connect says it.
    #[must_use]
    pub fn tc_url(&self, challenge: &str) -> String {
        format!("{}://{}/{}", self.scheme.name(), self.authority(), self.app(challenge))
    }

    /// The stream's name there, with its query. A secret.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// What of it may be shown: the server and the application.
    #[must_use]
    pub fn target(&self) -> String {
        let app = match self.app.split_once('/') {
            Some((first, _)) if self.sent => format!("{first}/***"),
            _ => self.app.clone(),
        };
        format!("{}://{}/{app}", self.scheme.name(), self.authority())
    }
}

/// Shows nothing that may be secret.
impl fmt::Debug for OutsideUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.target())
    }
}

/// When a stream is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullWhen {
    /// While somebody plays it.
    #[default]
    Demand,
    /// From the start on.
    Always,
}

/// One entry of `push` or `pull`: `[NAME] URL`, and of `pull` perhaps `always`.
#[derive(Clone, PartialEq, Eq)]
pub struct OutsideRule {
    /// The stream of the application that it is for; `None` for all.
    pub stream: Option<String>,
    /// Where to, or where from.
    pub url: OutsideUrl,
    /// Of a pull.
    pub when: PullWhen,
    /// As it was written. A secret.
    text: String,
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// The words are not those of an entry.
    #[error("\"URL\" or \"NAME URL\"{}", behind(.pull))]
    Words {
        /// Of `pull`.
        pull: bool,
    },
    /// Its URL is none.
    #[error("with a URL such as rtmp://host/app/name: {0}")]
    Url(#[from] UrlFault),
}

impl RuleFault {
    /// As it is counted.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Words { .. } => "words",
            Self::Url(fault) => fault.label(),
        }
    }
}

fn behind(pull: &bool) -> &'static str {
    if *pull { ", or \"NAME URL always\"" } else { "" }
}

impl OutsideRule {
    /// Reads an entry of `push`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn push(text: &str) -> Result<Self, RuleFault> {
        Self::parse(text, false)
    }

    /// Reads an entry of `pull`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn pull(text: &str) -> Result<Self, RuleFault> {
        Self::parse(text, true)
    }

    /// A push of the stream `app/name`, or a pull, to or from where a back end says.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn forward(stream: &str, url: &str) -> Result<Self, UrlFault> {
        let name = stream.split_once('/').map_or(stream, |(_, name)| name);
        let stream = Some(name.to_owned());
        let text = format!("{name} {url}");
        let url = OutsideUrl::parse_forward(url)?;
        Ok(Self { stream, url, when: PullWhen::Demand, text })
    }

    fn parse(text: &str, pull: bool) -> Result<Self, RuleFault> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (stream, url, when) = match words.as_slice() {
            [url] => (None, url, PullWhen::Demand),
            [stream, url] => (Some(*stream), url, PullWhen::Demand),
            [stream, url, "always"] if pull => (Some(*stream), url, PullWhen::Always),
            _ => return Err(RuleFault::Words { pull }),
        };
        let named = |stream: &str| !stream.contains(['{', '}', '?']) && !stream.contains("://");
        if !stream.is_none_or(named) {
            return Err(RuleFault::Words { pull });
        }
        let url = OutsideUrl::parse(url)?;
        let stream = stream.map(|stream| stream.trim_matches('/').to_owned());
        Ok(Self { stream, url, when, text: words.join(" ") })
    }

    /// Whether it is for a stream `app/name` of its application.
    #[must_use]
    pub fn is_for(&self, stream: &str) -> bool {
        let name = stream.split_once('/').map_or(stream, |(_, name)| name);
        self.stream.as_deref().is_none_or(|own| own == name)
    }

    /// As it was written, by which two are told apart. A secret.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Bytes of memory that it takes up.
    pub(super) fn held_bytes(&self) -> usize {
        // The URL lies in it taken apart once more.
        size_of::<Self>() + 2 * self.text.capacity()
    }

    /// As it may be shown: without the stream's name there, user, password and query.
    #[must_use]
    pub fn shown(&self) -> String {
        let stream = self.stream.as_ref().map(|stream| format!("{stream} ")).unwrap_or_default();
        let always = if self.when == PullWhen::Always { " always" } else { "" };
        format!("{stream}{}/***{always}", self.url.target())
    }
}

impl fmt::Debug for OutsideRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_cut_where_it_is_written() {
        fn check(text: &str, expected: Result<(&str, &str), UrlFault>) {
            let url = OutsideUrl::parse(text).map(|url| url.filled("live/a/b"));
            let found = url.as_ref().map(|url| (url.tc_url(""), url.stream().to_owned()));
            let expected = expected.map(|(url, stream)| (url.to_owned(), stream.to_owned()));
            assert_eq!(found.map_err(Clone::clone), expected, "{text}");
        }
        check("rtmp://h/app/key", Ok(("rtmp://h:1935/app", "key")));
        check("RTMPS://h/app/key?x=1&y", Ok(("rtmps://h:443/app", "key?x=1&y")));
        check("rtmpt://h:81/a/_definst_/k", Ok(("rtmpt://h:81/a/_definst_", "k")));
        check("rtmpts://[::1]:9/a/k", Ok(("rtmpts://[::1]:9/a", "k")));
        check("rtmpts://[::1]/a/k", Ok(("rtmpts://[::1]:443/a", "k")));
        check("rtmp://u:p@h/{app}/{name}", Ok(("rtmp://h:1935/live", "a/b")));
        check("rtmp://h/x/{app}-{name}?n={name}", Ok(("rtmp://h:1935/x", "live-a/b?n=a/b")));
        for (bad, fault) in [
            ("http://h/a/b", UrlFault::Scheme),
            ("rtmpe://h/a/b", UrlFault::Scheme),
            ("h/a/b", UrlFault::Scheme),
            ("", UrlFault::Scheme),
            ("rtmp:///a/b", UrlFault::Host),
            ("rtmp://h:0/a/b", UrlFault::Host),
            ("rtmp://h:65536/a/b", UrlFault::Host),
            ("rtmp://[::1/a/b", UrlFault::Host),
            ("rtmp://[::1]x/a/b", UrlFault::Host),
            ("rtmp://h", UrlFault::Path),
            ("rtmp://h/a", UrlFault::Path),
            ("rtmp://h/a/", UrlFault::Path),
            ("rtmp://h//b", UrlFault::Path),
            ("rtmp://{name}/a/b", UrlFault::Placeholder),
            ("rtmp://h/a/{stream}", UrlFault::Placeholder),
            ("rtmp://h/a/b\n", UrlFault::Text),
        ] {
            check(bad, Err(fault));
        }
        check(&format!("rtmp://h/a/{}", "x".repeat(2_048)), Err(UrlFault::Text));
    }

    #[test]
    fn a_back_end_may_leave_the_name_to_us() {
        fn check(url: &str, expected: Result<(&str, &str), UrlFault>) {
            let rule = OutsideRule::forward("live/a/b", url);
            let url = rule.as_ref().map(|rule| rule.url.filled("live/a/b"));
            let found = url.as_ref().map(|url| (url.tc_url(""), url.stream().to_owned()));
            let expected = expected.map(|(url, stream)| (url.to_owned(), stream.to_owned()));
            assert_eq!(found.map_err(|fault| (*fault).clone()), expected);
            if let Ok(rule) = rule {
                assert!(rule.is_for("live/a/b") && !rule.is_for("live/a"));
            }
        }
        check("rtmp://h/app/key?x=/y", Ok(("rtmp://h:1935/app", "key?x=/y")));
        check("rtmps://u:p@h/app", Ok(("rtmps://h:443/app", "a/b")));
        check("rtmp://h/app/", Ok(("rtmp://h:1935/app", "a/b")));
        check("rtmp://h/app?x=1/2", Ok(("rtmp://h:1935/app", "a/b?x=1/2")));
        check("rtmp://h", Err(UrlFault::Path));
        check("rtmp://h/", Err(UrlFault::Path));
        check("rtmp://h/a/b/", Err(UrlFault::Path));
        check("rtmp://h/a/{key}", Err(UrlFault::Placeholder));
        check("rtmp://h/a/b c", Err(UrlFault::Text));
    }

    #[test]
    fn a_server_may_send_us_elsewhere() {
        fn check(to: &str, expected: Result<&str, UrlFault>) {
            let url = OutsideUrl::parse("rtmps://u:p@h:9/app/key?secret").unwrap();
            let moved = url.moved(to);
            let found = moved.as_ref().map(|url| url.tc_url("")).map_err(Clone::clone);
            assert_eq!(found, expected.map(str::to_owned), "{to}");
            if let Ok(moved) = moved {
                assert_eq!(moved.stream(), "key?secret");
                assert_eq!(moved.user.is_some(), moved.host == "h", "{to}");
            }
        }
        check("", Ok("rtmps://h:9/app"));
        check("rtmps://other/live", Ok("rtmps://other:443/live"));
        check("rtmpts://other:7/live/x?token=1", Ok("rtmpts://other:7/live/x?token=1"));
        check("//other/live", Ok("rtmps://other:443/live"));
        check("/elsewhere", Ok("rtmps://h:9/elsewhere"));
        check("rtmps://other", Ok("rtmps://other:443/app"));
        check("http://other/live", Err(UrlFault::Scheme));
        check("rtmp://other/live", Err(UrlFault::Plain));
        check("rtmpt://h:9/app", Err(UrlFault::Plain));
        let url = OutsideUrl::parse("rtmp://h/a/b/key").unwrap();
        assert_eq!(url.target(), "rtmp://h:1935/a/b");
        let moved = url.moved("rtmp://other/live/token/x?token").unwrap();
        assert_eq!(moved.target(), "rtmp://other:1935/live/***");
        assert_eq!(moved.moved("rtmp://third").unwrap().target(), "rtmp://third:1935/live/***");
        assert_eq!(url.moved("rtmp://third").unwrap().target(), "rtmp://third:1935/a/b");
    }

    #[test]
    fn rules_are_read_and_show_no_secret() {
        fn check(text: &str, pull: bool, expected: Option<&str>) {
            let rule = OutsideRule::parse(text, pull);
            let shown = rule.as_ref().ok().map(OutsideRule::shown);
            assert_eq!(shown.as_deref(), expected, "{text}: {rule:?}");
            assert!(!format!("{rule:?}").contains("key"), "{text}");
        }
        check("rtmp://h/a/key", false, Some("rtmp://h:1935/a/***"));
        check("main rtmp://u:key@h/a/key?key", false, Some("main rtmp://h:1935/a/***"));
        check("main rtmp://h/a/key always", true, Some("main rtmp://h:1935/a/*** always"));
        check("main rtmp://h/a/key always", false, None);
        check("rtmp://h/a/key always", true, None);
        check("rtmp://h/a/key rtmp://h/a/key", true, None);
        check("a b c d", true, None);
        check("", true, None);
        let rule = OutsideRule::push("a/b rtmp://h/a/key").unwrap();
        assert!(rule.is_for("live/a/b") && !rule.is_for("live/a") && !rule.is_for("a/b"));
    }

    #[test]
    fn what_is_put_behind_the_application_comes_in_order() {
        let url = OutsideUrl::parse("rtmp://h/a/b").unwrap();
        assert_eq!(url.tc_url("authmod=adobe"), "rtmp://h:1935/a?authmod=adobe");
        let moved = url.moved("rtmp://h/c?x").unwrap();
        assert_eq!(moved.app("y"), "c?x&y");
        assert_eq!(moved.target(), "rtmp://h:1935/c");
    }
}
