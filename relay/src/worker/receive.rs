//! Bytes from a peer become session events, and events become deeds.
//!
//! A panic inside a session is our mistake and costs that one connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Worker;
use super::connection::Connection;
use super::dump;
use super::labels::{CloseReason, DropReason, HandshakeResult, MessageKind, RefuseReason, Role};
use super::newcomers::Lane;
use crate::reactor::ConnectionKey;
use crate::session::{self, ServerEvent, SessionError, StreamRequest};
use crate::wire::message::{MediaKind, MediaMessage};

/// What remains to be done after an event whose media, if any, was dealt with on the spot.
enum Deed {
    Nothing,
    CountHandshake,
    AcceptConnect,
    Publish(StreamRequest),
    Play(StreamRequest),
    EndPublish(u32),
    EndPlay(u32),
    ClearMetadata(u32),
    Pause(u32, bool),
    Tracks { message_stream: u32, audio: bool, video: bool },
    Fail { reason: CloseReason, detail: String },
}

impl Worker {
    pub(super) fn received(&mut self, key: ConnectionKey, bytes: &[u8], now: Duration) {
        if self.connections.get(key).is_none() {
            match self.outlets.sockets.get(&key).copied() {
                Some(session) => self.received(session, bytes, now),
                None => self.link_received(key, bytes, now),
            }
            return;
        }
        self.work(key, now, |worker, connection| {
            connection.receiving = false;
            worker.came(connection, bytes, now);
        });
    }

    /// Bytes came on a connection, or for a tunnelled one in the body of a request.
    pub(super) fn came(&mut self, connection: &mut Connection, bytes: &[u8], now: Duration) {
        connection.last_received = now;
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        connection.bytes_in += count;
        if let Some(ingest) = &mut connection.ingest {
            let was_throttled = connection.throttled;
            connection.throttled |= !ingest.received(count);
            if connection.throttled && !was_throttled {
                self.cells.publishers_slowed.increment();
            }
        }
        let (role, fed) = (connection.role, self.tunnels.fed);
        self.listen(connection, bytes, now);
        // What a carrier carries was counted as its session's.
        let carried = if role == Role::Carrier { self.tunnels.fed.wrapping_sub(fed) } else { 0 };
        self.cells.ingest_bytes.at(role).add(count.saturating_sub(carried));
    }

    fn listen(&mut self, connection: &mut Connection, bytes: &[u8], now: Duration) {
        dump::keep_opening(connection, bytes);
        if connection.role == Role::Pending {
            let lane = if connection.shakes_hands_in_tls(bytes) { Lane::Tls } else { Lane::Plain };
            if !self.newcomers.admit(lane) {
                connection.unread.extend_from_slice(bytes);
                connection.queued = true;
                self.newcomers.queue(lane, connection.key);
                return;
            }
        }
        if !connection.unread.is_empty() {
            // Too few bytes had come to tell what they are, or a request is in hand.
            connection.unread.extend_from_slice(bytes);
            self.resume(connection, now);
            return;
        }
        let mut input = bytes;
        self.take_in(connection, &mut input, now);
        connection.unread.extend_from_slice(input);
    }

    /// Reads what this turn's share of newcomers have said.
    pub(super) fn hear_newcomers(&mut self, now: Duration) {
        let shares = [self.limits.newcomers_per_turn, self.limits.tls_handshakes_per_turn];
        self.newcomers.begin_turn(shares);
        while let Some(key) = self.newcomers.next() {
            self.work(key, now, |worker, connection| {
                connection.queued = false;
                worker.resume(connection, now);
            });
        }
    }

    /// Goes on where a verdict had stopped the session.
    pub(super) fn resume(&mut self, connection: &mut Connection, now: Duration) {
        self.go_on_pulling(connection, now);
        let of_tls = connection.tls.as_ref().is_some_and(|tls| tls.has_unread());
        if connection.unread.is_empty() && !of_tls {
            return;
        }
        let unread = std::mem::take(&mut connection.unread);
        let mut input = unread.as_slice();
        self.take_in(connection, &mut input, now);
        connection.unread = input.to_vec();
    }

    /// Handles events until the bytes are used up, a verdict is outstanding or the connection ends.
    pub(super) fn hear_rtmp(
        &mut self,
        connection: &mut Connection,
        input: &mut &[u8],
        now: Duration,
    ) {
        let copied = |connection: &mut Connection| {
            connection.speech.rtmp().map_or(0, |session| session.copied_bytes())
        };
        let before = copied(connection);
        self.handle_events(connection, input, now);
        self.cells.assembled_bytes.add(copied(connection).saturating_sub(before));
    }

    fn handle_events(&mut self, connection: &mut Connection, input: &mut &[u8], now: Duration) {
        while !connection.ended {
            if connection.closing.is_some() {
                *input = &[];
                return;
            }
            match self.next_deed(connection, input, now) {
                Some(deed) => self.do_deed(connection, deed, now),
                None => return,
            }
        }
        *input = &[];
    }

    fn next_deed(
        &mut self,
        connection: &mut Connection,
        input: &mut &[u8],
        now: Duration,
    ) -> Option<Deed> {
        let session = connection.speech.rtmp()?;
        let event = match caught(|| session.next_event(input, now)) {
            Ok(Ok(event)) => event?,
            Ok(Err(error)) => {
                if error.reason() == "rtmpe" {
                    self.count_failed_handshake(connection, HandshakeResult::Rtmpe);
                }
                let (reason, detail) = (close_reason(&error), dump::describe(&error, input));
                return Some(Deed::Fail { reason, detail });
            }
            Err(_) => {
                let detail = "a panic in the session was caught".to_owned();
                return Some(Deed::Fail { reason: CloseReason::Fault, detail });
            }
        };
        Some(match event {
            ServerEvent::Media { message_stream, message } => {
                let publishes = connection.publishes.iter();
                let log =
                    publishes.clone().find(|publish| publish.message_stream == message_stream);
                match log.map(|publish| publish.log) {
                    Some(log) => self.append(log, message, now),
                    None => {
                        connection.dropped += 1;
                        self.count_drop(message_kind(message), DropReason::Unpublished);
                    }
                }
                Deed::Nothing
            }
            ServerEvent::HandshakeDone { .. } => Deed::CountHandshake,
            ServerEvent::Connect(_) => Deed::AcceptConnect,
            ServerEvent::Publish(request) => Deed::Publish(request),
            ServerEvent::Play(request) => Deed::Play(request),
            ServerEvent::EndPublish { message_stream } => Deed::EndPublish(message_stream),
            ServerEvent::EndPlay { message_stream } => Deed::EndPlay(message_stream),
            ServerEvent::ClearMetadata { message_stream } => Deed::ClearMetadata(message_stream),
            ServerEvent::Pause { message_stream, paused } => Deed::Pause(message_stream, paused),
            ServerEvent::ReceiveTracks { message_stream, audio, video } => {
                Deed::Tracks { message_stream, audio, video }
            }
            ServerEvent::Dropped { reason } => {
                if reason == session::DropReason::BadName {
                    self.cells.refused.at(RefuseReason::Name).increment();
                }
                let (kind, reason) = dropped(reason);
                connection.dropped += 1;
                self.count_drop(kind, reason);
                Deed::Nothing
            }
        })
    }

    fn do_deed(&mut self, connection: &mut Connection, deed: Deed, now: Duration) {
        match deed {
            Deed::Nothing => {}
            Deed::CountHandshake => self.count_handshake(connection, now),
            Deed::AcceptConnect => self.ask_to_connect(connection, now),
            Deed::Publish(request) => self.ask_to_publish(connection, request, now),
            Deed::Play(request) => self.ask_to_play(connection, request, now),
            Deed::EndPublish(message_stream) => self.end_publish(connection, message_stream),
            Deed::EndPlay(message_stream) => self.end_play(connection, message_stream, now),
            Deed::ClearMetadata(message_stream) => {
                if let Some(publish) = connection.publish(message_stream) {
                    self.hub.clear_metadata(publish.log);
                }
            }
            Deed::Pause(message_stream, paused) => {
                self.pause(connection, message_stream, paused, now);
            }
            Deed::Tracks { message_stream, audio, video } => {
                self.choose_tracks(connection, message_stream, audio, video, now);
            }
            Deed::Fail { reason, detail } => self.close(connection, reason, Some(&detail), now),
        }
    }

    pub(super) fn count_drop(&self, kind: MessageKind, reason: DropReason) {
        self.cells.messages_dropped.at((kind, reason)).increment();
    }
}

/// Runs a session's code; `Err` when it panicked.
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> std::thread::Result<T> {
    catch_unwind(AssertUnwindSafe(run))
}

/// The kind of a media message, as counted.
pub(super) fn message_kind(message: &MediaMessage) -> MessageKind {
    match message.kind() {
        MediaKind::Audio => MessageKind::Audio,
        MediaKind::Video => MessageKind::Video,
        MediaKind::Data => MessageKind::Data,
    }
}

/// How the end of a session by its peer's fault is counted.
pub(super) fn close_reason(error: &SessionError) -> CloseReason {
    match error.reason() {
        "handshake_timeout" | "request_timeout" | "connect_timeout" | "idle_timeout"
        | "publisher_silent" | "answer_timeout" => CloseReason::Timeout,
        "limit" => CloseReason::Limit,
        _ => CloseReason::Protocol,
    }
}

/// How something that a session did not use is counted.
fn dropped(reason: session::DropReason) -> (MessageKind, DropReason) {
    use session::DropReason as Session;
    match reason {
        Session::NotPublishing => (MessageKind::Data, DropReason::Unpublished),
        Session::BadData => (MessageKind::Data, DropReason::Malformed),
        Session::DataTooLong => (MessageKind::Data, DropReason::Limit),
        Session::EmptyMedia => (MessageKind::Video, DropReason::Malformed),
        Session::BadAggregate => (MessageKind::Video, DropReason::Aggregate),
        Session::SharedObject | Session::UnknownType => (MessageKind::Control, DropReason::Unknown),
        Session::BadCommand | Session::BadName => (MessageKind::Control, DropReason::Malformed),
        Session::PingFlood => (MessageKind::Control, DropReason::Limit),
    }
}
