//! A back end that is asked and told by hooks: a small HTTP server, written as the documents of
//! nginx's RTMP module and of SRS describe one, that keeps every request and answers as the test
//! wants.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::wait_for;

/// What the test wants to be done with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// The status, with the body `0`, which SRS wants to see.
    Status(u16),
    /// A 302 to there.
    Redirect(&'static str),
    /// Bytes as they are.
    Raw(&'static str),
    /// 200, after this time.
    Late(Duration),
    /// Nothing, and the connection stays open.
    Hang,
    /// A reset.
    Reset,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Method and path, without query.
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    /// The body, or the query of a GET.
    pub(crate) fields: String,
}

/// The server; its threads end with the test's process.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
}

impl Backend {
    pub(crate) fn start(answer: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_over(answer, Some)
    }

    /// The same with a layer over TCP; `None` when that fails.
    pub(crate) fn start_over<S: Read + Write>(
        answer: impl Fn(&Received) -> Answer + Send + Sync + 'static,
        over: impl Fn(TcpStream) -> Option<S> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (seen, counted) = (Arc::clone(&received), Arc::clone(&connections));
        let work = Arc::new((answer, over));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (seen, work) = (Arc::clone(&seen), Arc::clone(&work));
                let counted = Arc::clone(&counted);
                counted.fetch_add(1, Ordering::Relaxed);
                let serving = move || {
                    let (answer, over) = &*work;
                    let raw = stream.try_clone();
                    if let (Ok(raw), Some(stream)) = (raw, over(stream)) {
                        serve(stream, &raw, &seen, answer);
                    }
                    counted.fetch_sub(1, Ordering::Relaxed);
                };
                let _ = thread::Builder::new().stack_size(128 * 1024).spawn(serving);
            }
        });
        Self { address, received, connections }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Every request so far, in the order in which they were complete.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Waits until as many requests as `count` are there that `fits` fits.
    pub(crate) fn wait(&self, count: usize, fits: impl Fn(&Received) -> bool) {
        wait_for(&format!("{count} requests"), Duration::from_secs(30), || {
            (self.received().iter().filter(|request| fits(request)).count() >= count).then_some(())
        });
    }

    /// The events of one connection's life, as `call` or `action` names them.
    pub(crate) fn events(&self) -> Vec<String> {
        self.received().iter().map(Received::event).collect()
    }
}

impl Received {
    /// The value of `call` (nginx) or `action` (SRS).
    pub(crate) fn event(&self) -> String {
        match self.json() {
            Some(json) => json["action"].as_str().unwrap_or_default().to_owned(),
            None => self.field("call").unwrap_or_default(),
        }
    }

    /// A form field as it came, percent-escapes and all.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let mut pairs = self.fields.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    }

    pub(crate) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_str(&self.fields).ok()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

fn serve<S: Read + Write>(
    mut stream: S,
    raw: &TcpStream,
    seen: &Mutex<Vec<Received>>,
    answer: &impl Fn(&Received) -> Answer,
) {
    while let Some(request) = read(&mut stream) {
        seen.lock().unwrap().push(request.clone());
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0";
        let answer = match answer(&request) {
            Answer::Status(status) => {
                format!("HTTP/1.1 {status} So\r\nContent-Length: 1\r\n\r\n0")
            }
            Answer::Redirect(to) => {
                format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
            }
            Answer::Raw(text) => text.to_owned(),
            Answer::Late(time) => {
                thread::sleep(time);
                ok.to_owned()
            }
            Answer::Hang => {
                // Until whoever waits gives up.
                let _ = stream.read(&mut [0; 1]);
                return;
            }
            Answer::Reset => {
                let socket = socket2::SockRef::from(raw);
                let _ = socket.set_linger(Some(Duration::ZERO));
                return;
            }
        };
        let closes = request.header("connection").is_some_and(|value| value == "Close");
        if stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).is_err() || closes {
            return;
        }
    }
}

fn read(stream: &mut impl Read) -> Option<Received> {
    let mut bytes = Vec::new();
    let head = loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
        if bytes.ends_with(b"\r\n\r\n") {
            break String::from_utf8(bytes).ok()?;
        }
    };
    let mut lines = head.lines();
    let (first, _) = lines.next()?.rsplit_once(' ')?;
    let (line, query) = first.split_once('?').unwrap_or((first, ""));
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case("content-length"));
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap_or(0))];
    stream.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    let fields = if body.is_empty() { query.to_owned() } else { body };
    Some(Received { line: line.to_owned(), headers, fields })
}
