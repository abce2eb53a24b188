//! One question to the API: three lists, each with a deadline and a bound on what is read.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::figures::{Absent, Answer, Link, List, Node, Stream};
use crate::config::Top;

/// An answer that takes longer is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Most that is read of one list: a thousand streams are about a megabyte.
const LIST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Who is asked, and how.
pub(super) struct Client {
    runtime: Runtime,
    host: String,
    port: u16,
    authority: HeaderValue,
    bearer: Option<HeaderValue>,
    /// All nodes are asked for.
    cluster: bool,
}

#[derive(serde::Deserialize)]
struct Refusal {
    error: Reason,
}

#[derive(serde::Deserialize)]
struct Reason {
    message: String,
}

impl Client {
    pub(super) fn new(options: &Top) -> Result<Self, String> {
        let wrong = || {
            let api = options.api.escape_debug();
            format!("\"{api}\" is no address of an API: it must be like http://localhost:8935.")
        };
        let uri: Uri = options.api.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let plain = uri.scheme_str().is_none_or(|scheme| scheme == "http");
        if !plain || !matches!(uri.path(), "" | "/") || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let bearer = options.token.as_ref().map(|token| {
            let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| "The token is no line of printable ASCII characters.".to_owned())?;
            bearer.set_sensitive(true);
            Ok::<_, String>(bearer)
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            runtime: runtime.map_err(|error| format!("The network cannot be used: {error}."))?,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(8935),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong())?,
            bearer: bearer.transpose()?,
            cluster: options.cluster,
        })
    }

    /// All that a screen shows; what was wrong is one sentence.
    pub(super) fn ask(&self) -> Result<Answer, String> {
        self.runtime.block_on(async {
            let asked = timeout(ANSWER_WITHIN, self.lists());
            asked.await.unwrap_or_else(|_| Err("The relay does not answer in time.".to_owned()))
        })
    }

    async fn lists(&self) -> Result<Answer, String> {
        let of = u8::from(self.cluster);
        let nodes: List<serde_json::Value> =
            self.get(&format!("/api/v1/nodes?cluster={of}")).await?;
        let streams: List<Stream> =
            self.get(&format!("/api/v1/streams?cluster={of}&limit=1000")).await?;
        let links: List<Link> = self.get(&format!("/api/v1/links?cluster={of}")).await?;
        let mut absent: Vec<Absent> = nodes.absent;
        absent.extend(streams.absent.into_iter().chain(links.absent));
        absent.sort_by(|a, b| a.node.cmp(&b.node));
        absent.dedup_by(|a, b| a.node == b.node);
        let (known, more) = (nodes.items.len(), streams.next.is_some());
        // Of nodes that do not answer, or were not asked, less is known than is shown.
        let whole = |node| serde_json::from_value::<Node>(node).ok();
        let nodes = nodes.items.into_iter().filter_map(whole).collect();
        Ok(Answer {
            nodes,
            known,
            streams: streams.items,
            links: links.items,
            more,
            cluster: self.cluster,
            absent: absent.into_iter().map(|absent| absent.node).collect(),
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let address = (self.host.as_str(), self.port);
        let gone = |error: &dyn std::fmt::Display| {
            format!("The relay at {}:{} cannot be asked: {error}.", self.host, self.port)
        };
        let socket = TcpStream::connect(address).await.map_err(|error| gone(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(|error| gone(&error))?;
        let driver = tokio::spawn(connection);
        let mut request = Request::get(path).header(HOST, &self.authority);
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|error| gone(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| gone(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LIST_BYTES_MAX).collect().await;
        let body = body.map_err(|error| gone(&error))?.to_bytes();
        driver.abort();
        if status != StatusCode::OK {
            return Err(serde_json::from_slice(&body).map_or_else(
                |_| format!("What answers at {}:{} is no relay.", self.host, self.port),
                |refusal: Refusal| refusal.error.message,
            ));
        }
        serde_json::from_slice(&body)
            .map_err(|_| format!("What answers at {}:{} is no relay.", self.host, self.port))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_plain_http_and_nothing_behind_it() {
        fn check(api: &str, expected: Option<(&str, u16)>) {
            let options = Top { api: api.to_owned(), ..Top::default() };
            let client = Client::new(&options).ok();
            let found = client.as_ref().map(|client| (client.host.as_str(), client.port));
            assert_eq!(found, expected, "{api}");
        }
        check("http://localhost:8935", Some(("localhost", 8_935)));
        check("http://relay-0.relay/", Some(("relay-0.relay", 8_935)));
        check("http://[::1]:80", Some(("::1", 80)));
        check("10.0.0.1:9000", Some(("10.0.0.1", 9_000)));
        for wrong in ["", "https://a", "http://a/api", "rtmp://a", "http://", "http://u:p@a", "a b"]
        {
            check(wrong, None);
        }
        let token = Some("a\nb".to_owned());
        assert!(Client::new(&Top { token, ..Top::default() }).is_err());
    }

    #[test]
    fn who_is_not_there_is_told_in_a_sentence() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let client = Client::new(&Top { api, ..Top::default() }).unwrap();
        let error = client.ask().unwrap_err();
        assert!(error.starts_with("The relay at 127.0.0.1:") && error.ends_with('.'), "{error}");
    }
}
