//! One connection of the bare sender: RTMP until it plays or publishes, then only bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use relay::limits::Limits;
use relay::session::{ServerEvent, ServerSession};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::log::Log;

/// A connection.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    state: State,
}

enum State {
    /// It says what it wants, or sends what it publishes.
    Talking(Box<ServerSession>),
    /// It plays, from the first key frame on.
    Waiting,
    /// It plays; how far it was sent.
    Playing(u64),
    /// It is to be let go.
    Ended,
}

/// The connection is of no more use.
pub(super) struct Gone;

impl Client {
    pub(super) fn new(stream: TcpStream, limits: &Arc<Limits>, now: Duration) -> Self {
        let session = ServerSession::new(Arc::clone(limits), 1, now);
        Self { stream, state: State::Talking(Box::new(session)) }
    }

    /// Whether what it says matters: a player that plays is not listened to.
    pub(super) fn talks(&self) -> bool {
        matches!(self.state, State::Talking(_))
    }

    /// Reads what came, answers it, and takes what it publishes into the log.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        log: &mut Log,
        now: Duration,
    ) -> Result<(), Gone> {
        let session = match &mut self.state {
            State::Talking(session) => session,
            State::Ended => return Err(Gone),
            State::Waiting | State::Playing(_) => return Ok(()),
        };
        let count = match self.stream.read(buffer) {
            Ok(0) => return Err(Gone),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(Gone),
        };
        let mut input = &buffer[..count];
        let mut plays = false;
        while !plays {
            let verdict = match session.next_event(&mut input, now).map_err(|_| Gone)? {
                None => break,
                Some(ServerEvent::Connect(_)) => Verdict::Connect,
                Some(ServerEvent::Publish(request)) => Verdict::Publish(request.message_stream),
                Some(ServerEvent::Play(request)) => Verdict::Play(request.message_stream),
                Some(ServerEvent::Media { message, .. }) => {
                    log.append(message, now);
                    continue;
                }
                Some(_) => continue,
            };
            match verdict {
                Verdict::Connect => session.accept_connect(),
                Verdict::Publish(message_stream) => session.accept_publish(message_stream),
                Verdict::Play(message_stream) => session.accept_play(message_stream),
            }
            plays = matches!(verdict, Verdict::Play(_));
        }
        let mut answer = session.take_output().map(|bytes| bytes.to_vec()).unwrap_or_default();
        if plays {
            answer.extend_from_slice(log.headers());
            self.state = State::Waiting;
        }
        // A few kilobytes into a socket that has sent nothing yet: the kernel takes them all.
        self.stream.write_all(&answer).map_err(|_| Gone)
    }

    /// Sends what the kernel takes of what the player has not been sent; gives how many calls that
    /// took.
    pub(super) fn send(&mut self, log: &Log) -> Result<u64, Gone> {
        if matches!(self.state, State::Waiting)
            && let Some(start) = log.start()
        {
            self.state = State::Playing(start);
        }
        let State::Playing(position) = &mut self.state else { return Ok(0) };
        let mut sends = 0;
        while *position < log.head() {
            // One that lags behind all that is held ends: the figures of such a run are void.
            let bytes = log.sendable(*position).ok_or(Gone)?;
            sends += 1;
            match send(&self.stream, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => {
                    *position += u64::try_from(count).unwrap_or_default();
                    if count < bytes.len() {
                        return Ok(sends);
                    }
                }
                Err(error) if error == Errno::AGAIN => return Ok(sends),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Gone),
            }
        }
        Ok(sends)
    }

    /// Nothing more is done for it until it is let go.
    pub(super) fn end(&mut self) {
        self.state = State::Ended;
    }
}

enum Verdict {
    Connect,
    Publish(u32),
    Play(u32),
}
