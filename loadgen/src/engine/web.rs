//! A player's dialogue over HTTP or a WebSocket: one request, and FLV in the answer.
//!
//! ```text
//!   GET /app/name.flv -> [head of the answer] -> Framing -> FlvReader -> MediaMessage
//! ```

use bytes::{Bytes, BytesMut};
use relay::limits::Limits;
use relay::session::ClientEvent;
use relay::wire::data;
use relay::wire::flv::FlvReader;
use relay::wire::media::{Role, classify_audio, classify_video};
use relay::wire::message::{MediaKind, MediaMessage};

use super::dialogue::Opening;
use super::task::Loss;
use super::unframe::{Chunks, Control, Frames, Framing};

/// One request, and what came of it.
#[derive(Debug)]
pub(super) struct WebDialogue {
    websocket: bool,
    output: Vec<u8>,
    /// The beginning of the answer's head; then what is left of the file.
    input: BytesMut,
    body: Option<Body>,
    /// The file has ended.
    ended: bool,
    message: MediaMessage,
    limits: Limits,
    random: fastrand::Rng,
    /// Where the server said that the stream is.
    location: Option<String>,
    received: u64,
}

#[derive(Debug)]
struct Body {
    framing: Framing,
    flv: FlvReader,
    /// Whether it was told that it began.
    told: bool,
}

/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Fields of an answer.
const FIELDS_MAX: usize = 64;

/// The key of RFC 6455 section 1.3, and what proves that it was read.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

impl WebDialogue {
    /// The connection is there: the request waits to be sent.
    pub(super) fn new(opening: &Opening<'_>) -> Self {
        let target = opening.target;
        let websocket = target.scheme.is_websocket();
        let upgrade = if websocket {
            format!(
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: {KEY}\r\n"
            )
        } else {
            String::new()
        };
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: loadgen\r\nAccept: */*\r\n{upgrade}\r\n",
            target.path(opening.stream, opening.streams),
            target.authority(),
        );
        Self {
            websocket,
            output: request.into_bytes(),
            input: BytesMut::new(),
            body: None,
            ended: false,
            message: MediaMessage::empty(),
            limits: Limits::clone(opening.limits),
            random: fastrand::Rng::with_seed(opening.seed),
            location: None,
            received: 0,
        }
    }

    /// What is to be sent.
    pub(super) fn take_output(&mut self) -> Option<Bytes> {
        (!self.output.is_empty()).then(|| std::mem::take(&mut self.output).into())
    }

    /// Bytes received so far.
    pub(super) fn bytes_received(&self) -> u64 {
        self.received
    }

    /// Where a server sent us that answered with a redirection.
    pub(super) fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// Says goodbye, if there is a word for it.
    pub(super) fn finish(&mut self) {
        if self.websocket && self.body.is_some() {
            self.say(8, &1_000_u16.to_be_bytes());
        }
    }

    /// The next event, or `None` when all of `bytes` is used up.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<ClientEvent<'_>>, Loss> {
        loop {
            let Some(body) = &mut self.body else {
                self.received += bytes.len() as u64;
                self.input.extend_from_slice(std::mem::take(bytes));
                if self.read_head()? {
                    continue;
                }
                return Ok(None);
            };
            if !std::mem::replace(&mut body.told, true) {
                return Ok(Some(ClientEvent::Started { message_stream: 0 }));
            }
            if let Some(tag) = body.flv.next(&mut self.input).map_err(|error| lost(&error))? {
                let class = match tag.kind {
                    MediaKind::Audio => classify_audio(&tag.payload),
                    MediaKind::Video => classify_video(&tag.payload),
                    MediaKind::Data => Some(data::class(Role::Data)),
                };
                // What has no class is nothing that could be judged.
                let Some(class) = class else { continue };
                if self.message.replace(tag.kind, class, tag.timestamp, &tag.payload) {
                    return Ok(Some(ClientEvent::Media { message: &mut self.message }));
                }
                continue;
            }
            if self.ended {
                self.ended = false;
                return Ok(Some(ClientEvent::Ended { code: "end of the file".to_owned() }));
            }
            if bytes.is_empty() {
                return Ok(None);
            }
            let before = bytes.len();
            let control = body.framing.take(bytes, &mut self.input);
            self.received += (before - bytes.len()) as u64;
            match control.map_err(|why| lost(&why))? {
                Some(Control::Ping(payload)) => self.say(10, &payload),
                Some(Control::End(_)) => self.ended = true,
                None => {}
            }
        }
    }

    /// Reads the head of the answer; whether it was all there, and FLV follows.
    fn read_head(&mut self) -> Result<bool, Loss> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut head = httparse::Response::new(&mut fields);
        let length = match head.parse(&self.input) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if self.input.len() < HEAD_BYTES_MAX => return Ok(false),
            Ok(httparse::Status::Partial) => return Err(lost(&"the head of the answer is long")),
            Err(error) => {
                return Err(Loss {
                    cause: "not_http".to_owned(),
                    sentence: format!("the target does not speak HTTP: {error}"),
                });
            }
        };
        let field = |name: &str| {
            let mut fields = head.headers.iter();
            let found = fields.find(|field| field.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok().map(str::trim)
        };
        let (code, reason) = (head.code.unwrap_or(0), head.reason.unwrap_or_default());
        let framing = match (code, self.websocket) {
            (101, true) if field("sec-websocket-accept") == Some(ACCEPT) => {
                Framing::Frames(Frames::default())
            }
            (101, true) => return Err(lost(&"the server did not read the key of the WebSocket")),
            (200, false) if field("transfer-encoding").is_some_and(is_chunked) => {
                Framing::Chunks(Chunks::default())
            }
            (200, false) => Framing::Raw,
            _ => {
                let rest = self.input.get(length..).unwrap_or_default();
                let said = String::from_utf8_lossy(rest);
                let said = said.lines().next().unwrap_or_default();
                let sentence = format!("the server answered {code} {reason}: {said}");
                if matches!(code, 301 | 302 | 303 | 307 | 308) {
                    self.location = field("location").map(str::to_owned);
                }
                let sentence = sentence.trim_end_matches([' ', ':']).to_owned();
                return Err(Loss { cause: format!("http_{code}"), sentence });
            }
        };
        // What follows the head is framed, too.
        let rest = self.input.split_off(length);
        self.input.clear();
        let mut body = Body { framing, flv: FlvReader::new(&self.limits), told: false };
        let mut left = &rest[..];
        while let Some(control) =
            body.framing.take(&mut left, &mut self.input).map_err(|why| lost(&why))?
        {
            match control {
                Control::Ping(payload) => self.say(10, &payload),
                Control::End(_) => self.ended = true,
            }
        }
        self.body = Some(body);
        Ok(true)
    }

    /// A control frame of a client, which is masked (RFC 6455 section 5.3).
    fn say(&mut self, opcode: u8, payload: &[u8]) {
        let mask = self.random.u32(..).to_be_bytes();
        let length = u8::try_from(payload.len()).unwrap_or(u8::MAX).min(125);
        self.output.extend_from_slice(&[0x80 | opcode, 0x80 | length]);
        self.output.extend_from_slice(&mask);
        let payload = payload.iter().take(usize::from(length)).zip(mask.iter().cycle());
        self.output.extend(payload.map(|(byte, mask)| byte ^ mask));
    }
}

fn is_chunked(coding: &str) -> bool {
    coding.eq_ignore_ascii_case("chunked")
}

fn lost(why: &dyn std::fmt::Display) -> Loss {
    Loss { cause: "flv".to_owned(), sentence: format!("what came is no FLV: {why}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use relay::session::ClientRole;
    use relay::wire::flv::{FlvHeader, write_tag};
    use relay::wire::timestamp::Timestamp;

    use super::*;
    use crate::target::Target;

    fn dialogue(url: &str) -> WebDialogue {
        WebDialogue::new(&Opening {
            target: &Target::parse(url).unwrap(),
            stream: 0,
            streams: 1,
            role: ClientRole::Play,
            limits: &Arc::new(Limits::default()),
            enhanced: true,
            seed: 7,
        })
    }

    /// A file of three tags.
    fn file() -> Vec<u8> {
        let mut out = BytesMut::new();
        FlvHeader { audio: true, video: true }.write(&mut out);
        for (kind, payload) in [
            (MediaKind::Data, &b"\x02\0\x0aonMetaData\x05"[..]),
            (MediaKind::Video, &[0x17, 1, 0, 0, 0, 1]),
            (MediaKind::Audio, &[0xaf, 1, 2, 3]),
        ] {
            write_tag(&mut out, kind, Timestamp(40), payload);
        }
        out.to_vec()
    }

    /// Reads an answer in two pieces, cut at every place: what happened, in words.
    #[track_caller]
    fn check(url: &str, answer: &[u8], expected: &str) {
        for cut in 0..=answer.len() {
            let mut dialogue = dialogue(url);
            let mut happened = String::new();
            let (first, second) = answer.split_at(cut);
            'pieces: for mut piece in [first, second] {
                loop {
                    let event = match dialogue.next(&mut piece) {
                        Ok(None) => break,
                        Ok(Some(ClientEvent::Started { .. })) => "start".to_owned(),
                        Ok(Some(ClientEvent::Media { message })) => {
                            format!("{:?} {}", message.kind(), message.payload_bytes())
                        }
                        Ok(Some(ClientEvent::Ended { .. })) => "end".to_owned(),
                        Ok(Some(other)) => panic!("{other:?}"),
                        Err(loss) => {
                            happened += &format!("{}, ", loss.cause);
                            break 'pieces;
                        }
                    };
                    happened += &format!("{event}, ");
                }
            }
            assert_eq!(happened.trim_end_matches(", "), expected, "cut at {cut}");
        }
    }

    #[test]
    fn answers_are_read_at_every_split() {
        let (http, ws) = ("http://127.0.0.1:9/live/a.flv", "ws://127.0.0.1:9/live/a.flv");
        let all = "start, Data 14, Video 6, Audio 4";
        let file = file();
        let ok = b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n\r\n";
        check(http, &[&ok[..], &file].concat(), all);
        let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in file.chunks(20) {
            chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            chunked.extend_from_slice(chunk);
            chunked.extend_from_slice(b"\r\n");
        }
        check(http, &chunked, all);
        chunked.extend_from_slice(b"0\r\n\r\n");
        check(http, &chunked, &format!("{all}, end"));
        let upgraded =
            format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n");
        let mut frames = upgraded.clone().into_bytes();
        for chunk in file.chunks(33) {
            frames.extend_from_slice(&[0x82, u8::try_from(chunk.len()).unwrap()]);
            frames.extend_from_slice(chunk);
        }
        check(ws, &frames, all);
        frames.extend_from_slice(b"\x88\x02\x03\xe8");
        check(ws, &frames, &format!("{all}, end"));
        check(ws, upgraded.replace("s3p", "xxx").as_bytes(), "flv");
        check(http, b"HTTP/1.1 200 OK\r\n\r\nGIF89a", "start, flv");
        check(http, b"\x03 what RTMP says", "not_http");
        check(ws, b"HTTP/1.1 200 OK\r\n\r\n", "http_200");
    }

    #[test]
    fn refusals_are_told_and_redirections_known() {
        let mut asked = dialogue("http://127.0.0.1:9/live/a");
        let request = asked.take_output().unwrap();
        assert!(request.starts_with(b"GET /live/a.flv HTTP/1.1\r\nHost: 127.0.0.1:9\r\n"));
        let mut answer = &b"HTTP/1.1 404 Not Found\r\n\r\nNobody publishes this stream.\n"[..];
        let loss = asked.next(&mut answer).unwrap_err();
        assert_eq!(loss.cause, "http_404");
        assert!(loss.sentence.ends_with("404 Not Found: Nobody publishes this stream."));
        let mut asked = dialogue("http://127.0.0.1:9/live/a");
        let mut answer = &b"HTTP/1.1 302 Found\r\nLocation: http://b/live/a.flv\r\n\r\n"[..];
        assert_eq!(asked.next(&mut answer).unwrap_err().cause, "http_302");
        assert_eq!(asked.location(), Some("http://b/live/a.flv"));
    }

    #[test]
    fn pings_are_answered_and_the_end_is_said_masked() {
        let mut asked = dialogue("ws://127.0.0.1:9/live/a");
        asked.take_output();
        let answer =
            format!("HTTP/1.1 101 X\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n\u{0}").into_bytes();
        let mut answer = &[&answer[..answer.len() - 1], b"\x89\x02hi"].concat()[..];
        assert!(asked.next(&mut answer).unwrap().is_some());
        assert!(asked.next(&mut answer).unwrap().is_none());
        let unmasked = |frame: &[u8]| -> (u8, Vec<u8>) {
            let (mask, payload) = (&frame[2..6], &frame[6..]);
            (frame[0], payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b).collect())
        };
        assert_eq!(unmasked(&asked.take_output().unwrap()), (0x8a, b"hi".to_vec()));
        asked.finish();
        assert_eq!(unmasked(&asked.take_output().unwrap()), (0x88, vec![3, 0xe8]));
    }
}
