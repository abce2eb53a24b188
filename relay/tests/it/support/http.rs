//! The least of an HTTP client, and reading a page of metrics.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Asks for `path`. Any failure to get an answer within 5 s is an error of one sentence.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<Response, String> {
    ask(address, "GET", path)
}

/// The same by another method.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str) -> Result<Response, String> {
    send(address, method, path, "")
}

/// The same with a body, which says of itself that it is JSON.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    json: &str,
) -> Result<Response, String> {
    let fail = |why: &str| format!("{method} {path}: {why}");
    let answer = exchange(address, method, path, json).map_err(|error| fail(&error.to_string()))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| fail("no header"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| fail(&format!("no status in {head:?}")))?;
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return Ok(Response { status, body: unchunk(body) });
    }
    Ok(Response { status, body: body.to_owned() })
}

fn exchange(address: SocketAddr, method: &str, path: &str, json: &str) -> std::io::Result<String> {
    let limit = Duration::from_secs(5);
    let mut socket = TcpStream::connect_timeout(&address, limit)?;
    socket.set_read_timeout(Some(limit))?;
    write!(socket, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n")?;
    if !json.is_empty() {
        write!(socket, "Content-Type: application/json\r\nContent-Length: {}\r\n", json.len())?;
    }
    write!(socket, "\r\n{json}")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        let Some(part) = rest.get(..size).filter(|part| !part.is_empty()) else { break };
        whole.push_str(part);
        body = rest[size..].strip_prefix("\r\n").unwrap_or_default();
    }
    whole
}

/// The numbers of a page in Prometheus' text format.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(String);

impl Metrics {
    pub(crate) fn parse(page: String) -> Self {
        Self(page)
    }

    /// The page as it came.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// The sum of all series of `name` that carry all of `labels`; `None` when there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: Vec<_> = labels.iter().map(|(key, of)| format!("{key}=\"{of}\"")).collect();
        let values: Vec<f64> = self
            .0
            .lines()
            .filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                let (labels, value) = match rest.strip_prefix('{') {
                    Some(rest) => rest.split_once("} ")?,
                    None => ("", rest.strip_prefix(' ')?),
                };
                let fits = wanted.iter().all(|label| labels.split(',').any(|have| have == label));
                fits.then(|| value.trim().parse().ok())?
            })
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_added_up_by_their_labels() {
        let page = "# HELP a_total x\na_total{core=\"0\",reason=\"eof\"} 2\n\
                    a_total{core=\"1\",reason=\"eof\"} 3\na_total{core=\"1\",reason=\"tls\"} 5\n\
                    a_total_more 7\nb 1.5\n";
        let metrics = Metrics::parse(page.to_owned());
        let check = |name, labels: &[_], want| assert_eq!(metrics.sum(name, labels), want);
        check("a_total", &[], Some(10.0));
        check("a_total", &[("reason", "eof")], Some(5.0));
        check("a_total", &[("reason", "eof"), ("core", "1")], Some(3.0));
        check("a_total", &[("reason", "slow")], None);
        check("b", &[], Some(1.5));
        check("c", &[], None);
    }

    #[test]
    fn chunked_bodies_are_put_together() {
        assert_eq!(unchunk("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"), "abc0123456789");
        assert_eq!(unchunk("0\r\n\r\n"), "");
    }
}
