//! One connection: what it speaks, what it publishes and plays, and what is under way to its peer.

use std::collections::VecDeque;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use super::access::Permit;
use super::hooks::Hooked;
use super::ingest::Ingest;
use super::labels::{CloseReason, Hop, JoinSource, Role, Transport};
use super::report::ConnectionId;
use super::secure::Secured;
use super::settings::Speaks;
use super::speech::Speech;
use super::table::is_own;
use super::tunnel::Tunnelled;
use crate::access::Login;
use crate::limits::Limits;
use crate::reactor::{Batch, ConnectionKey};
use crate::session::SessionError;
use crate::stream::{Cursor, StreamKey, ViewKind};
use crate::wire::stream_name::StreamAddress;

/// How much of what a client says may wait with it for the verdict of a hook. Those that are in
/// order say little before they are answered.
const READ_AHEAD_BYTES: usize = 1_024;

/// A connection of this worker. It belongs to it for life.
///
/// What every send looks at lies together, in this order: thousands of connections fit into no
/// cache, so a send costs about as much as the lines of memory that it touches.
#[repr(C)]
pub(super) struct Connection {
    pub(super) key: ConnectionKey,
    pub(super) bytes_out: u64,
    /// What everything else is in, if it began so.
    pub(super) tls: Option<Box<Secured>>,
    pub(super) sending: Option<Sending>,
    pub(super) closing: Option<Closing>,
    pub(super) role: Role,
    /// It was ended; nothing more is done with it.
    pub(super) ended: bool,
    /// It stands among the newcomers, and what it said is unread.
    pub(super) queued: bool,
    /// A receive is outstanding.
    pub(super) receiving: bool,
    /// Nearly always one. It lies in the connection and not behind a pointer, which would be a miss
    /// of the caches for every player at every flush.
    pub(super) plays: SmallVec<[Play; 1]>,
    /// The rest of a message whose play has ended when it was half sent. It goes before anything
    /// else, or the peer could read nothing more.
    pub(super) rest: Bytes,
    /// Replies that wait for the send under way.
    pub(super) outbox: VecDeque<Bytes>,
    // From here on: what other than sending needs.
    /// The id in log lines and in the API.
    pub(super) id: ConnectionId,
    pub(super) peer: SocketAddr,
    /// It counts among the connections of this address.
    pub(super) counted: Option<IpAddr>,
    pub(super) since: Duration,
    pub(super) speech: Speech,
    /// It has no socket: it lives inside HTTP requests.
    pub(super) tunnel: Option<Box<Tunnelled>>,
    pub(super) transport: Transport,
    /// What its listener takes.
    pub(super) speaks: Speaks,
    /// A proxy passes it on and has said whose it is.
    pub(super) proxied: bool,
    /// The last role other than pending, for the line that says how it ended.
    pub(super) purpose: Role,
    /// Bytes received behind a request whose verdict is outstanding, at most one receive buffer; or
    /// too few bytes to tell what they are.
    pub(super) unread: Vec<u8>,
    pub(super) publishes: Vec<Publish>,
    /// What was granted to the publish or play that waits for its name.
    pub(super) permit: Option<Box<Permit>>,
    /// The user that connect proved itself to be.
    pub(super) login: Option<Box<Login>>,
    /// When its session is over.
    pub(super) ends_at: Option<Duration>,
    /// What it sends against what it may, once it publishes.
    pub(super) ingest: Option<Box<Ingest>>,
    /// It is not read since it sent more than it may.
    pub(super) throttled: bool,
    /// That it was not read was told.
    pub(super) slowed: bool,
    /// What was asked to be played while that is undecided, where there is another place to play
    /// it. May carry secrets.
    pub(super) asked: Option<Box<StreamAddress>>,
    pub(super) last_received: Duration,
    pub(super) handshake_counted: bool,
    /// It ended what it published or played by itself.
    pub(super) said_goodbye: bool,
    /// Why it is ended, for the log.
    pub(super) ending: Option<Box<str>>,
    /// It was asked for user and password by a refusal, and is to come again.
    pub(super) challenged: bool,
    /// What its first stream asks for was held against what it announced.
    pub(super) needs_judged: bool,
    /// What its applications' hooks have to do with it; `None` when they have none.
    pub(super) hooked: Option<Box<Hooked>>,
    /// It published or played before: what it begins from now on is logged at debug only, since a
    /// peer can begin and end again without pause.
    pub(super) introduced: bool,
    /// Since when a verdict is outstanding.
    pub(super) asked_since: Option<Duration>,
    /// It was asked to connect again elsewhere, since the node drains.
    pub(super) asked_to_go: bool,
    /// Its first bytes, while it neither published nor played and the log's level is debug.
    pub(super) opening: Vec<u8>,
    /// What it last published or played, for log lines.
    pub(super) stream_name: Option<Arc<str>>,
    pub(super) bytes_in: u64,
    pub(super) jumps: u64,
    /// Messages that it jumped over, or that it sent and that were not taken.
    pub(super) dropped: u64,
}

/// The first byte of TLS (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// The batch under way.
pub(super) struct Sending {
    /// When it was submitted; it must be gone within `send_stall_max` of this.
    pub(super) since: Duration,
    pub(super) what: What,
}

/// What a batch carries.
pub(super) enum What {
    /// Replies.
    Replies,
    /// Media for this play, which may be over by the time that they are gone.
    Media {
        play: PlayNumber,
        /// When the oldest message in it was complete at ingest, if the play had everything before
        /// that, and where that was.
        ingested: Option<(Duration, Hop)>,
    },
}

/// One publish that was granted.
pub(super) struct Publish {
    pub(super) message_stream: u32,
    /// The worker's own number of the stream.
    pub(super) local: usize,
    pub(super) log: StreamKey,
    pub(super) since: Duration,
    /// Messages of the stream when one last came, and when that was.
    pub(super) messages: u64,
    pub(super) heard: Duration,
    pub(super) permit: Option<Box<Permit>>,
    /// What it may send by its own application, beside others of its connection.
    pub(super) ingest: Option<Box<Ingest>>,
    /// Bytes of its log at the last look.
    pub(super) bytes: u64,
    /// Of one whose back end may send it on: the number by which its end is told.
    pub(super) forward: Option<u64>,
}

/// A play of this worker, counted from 1 and never used again: a message stream may be played on
/// anew while the last batch of its play before is under way.
pub(super) type PlayNumber = u64;

/// One play that was accepted.
pub(super) struct Play {
    pub(super) number: PlayNumber,
    pub(super) message_stream: u32,
    /// The worker's own number of the stream.
    pub(super) local: usize,
    /// The position, once the stream has a log on this worker.
    pub(super) cursor: Option<Cursor>,
    pub(super) view: ViewKind,
    pub(super) paused: bool,
    /// Neither audio nor video is wanted.
    pub(super) silenced: bool,
    pub(super) parked: Parked,
    /// How its connection speaks, as it was counted.
    pub(super) transport: Transport,
    pub(super) asked: Duration,
    /// Whether it was sent its first media.
    pub(super) started: bool,
    /// What was there when it asked.
    pub(super) found: JoinSource,
    /// It is a push to another server.
    pub(super) push: bool,
    /// It is to end, or be asked to, before the next key frame.
    pub(super) leaves: bool,
    pub(super) permit: Option<Box<Permit>>,
    /// The relays behind it, where it is one itself.
    pub(super) marks: Option<Box<str>>,
}

/// Where a play stands while it is not being sent to. It stands in one place at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parked {
    /// Nowhere.
    No,
    /// In the send ring.
    Ring,
    /// Among those who wait for the next seal of their stream.
    Waiting,
}

/// A connection that is to end once its last replies are gone.
#[derive(Clone, Copy)]
pub(super) struct Closing {
    pub(super) reason: CloseReason,
    /// When it is closed even if the peer has not done so.
    pub(super) at: Duration,
}

impl Play {
    /// Whether nothing more is to be sent for now.
    pub(super) fn is_stopped(&self) -> bool {
        self.paused || self.silenced
    }
}

impl Connection {
    pub(super) fn new(
        key: ConnectionKey,
        id: ConnectionId,
        peer: SocketAddr,
        speaks: Speaks,
        now: Duration,
    ) -> Self {
        Self {
            key,
            id,
            peer,
            counted: None,
            since: now,
            speech: Speech::Unknown,
            tunnel: None,
            transport: Transport::Rtmp,
            tls: None,
            speaks,
            proxied: false,
            role: Role::Pending,
            purpose: Role::Pending,
            unread: Vec::new(),
            outbox: VecDeque::new(),
            rest: Bytes::new(),
            sending: None,
            publishes: Vec::new(),
            plays: SmallVec::new(),
            permit: None,
            login: None,
            closing: None,
            ends_at: None,
            ingest: None,
            throttled: false,
            slowed: false,
            asked: None,
            last_received: now,
            handshake_counted: false,
            queued: false,
            receiving: true,
            ended: false,
            said_goodbye: false,
            ending: None,
            challenged: false,
            needs_judged: false,
            asked_since: None,
            hooked: None,
            introduced: false,
            asked_to_go: false,
            opening: Vec::new(),
            stream_name: None,
            bytes_in: 0,
            bytes_out: 0,
            jumps: 0,
            dropped: 0,
        }
    }

    /// How it speaks.
    pub(super) fn transport(&self) -> Transport {
        self.transport
    }

    /// The socket that operations name: its own, or the one that carries it now.
    pub(super) fn socket(&self) -> Option<ConnectionKey> {
        match &self.speech {
            Speech::Outside(client) if client.tunnel.is_some() => client.socket,
            _ => (!is_own(self.key)).then_some(self.key),
        }
    }

    /// What the client calls itself; empty before connect.
    pub(super) fn client(&self) -> &str {
        self.speech.client_name()
    }

    /// User-space bytes that it holds besides its unfinished messages.
    pub(super) fn held_bytes(&self) -> usize {
        let replies: usize = self.outbox.iter().map(Bytes::len).sum();
        let spilled = if self.plays.spilled() { self.plays.capacity() } else { 0 };
        let plays = spilled * size_of::<Play>();
        let publishes = self.publishes.capacity() * size_of::<Publish>();
        let address = |asked: &StreamAddress| asked.query.capacity() + asked.host.capacity();
        let asked = self.asked.as_deref().map_or(0, |it| size_of::<StreamAddress>() + address(it));
        let input = self.unread.capacity() + self.opening.capacity() + asked;
        let speech = self.speech.held_bytes();
        let hooked = self.hooked.as_ref().map_or(0, |hooked| hooked.held_bytes());
        let permits = self.permits().map(Permit::held_bytes).sum::<usize>();
        size_of::<Self>() + input + replies + plays + publishes + speech + hooked + permits
    }

    /// Whether what it says next is part of a TLS handshake, which costs much more than anything
    /// else that a newcomer says.
    pub(super) fn shakes_hands_in_tls(&self, next: &[u8]) -> bool {
        match &self.tls {
            Some(tls) => tls.is_shaking_hands(),
            None => {
                let first = self.unread.first().or(next.first());
                matches!(self.speech, Speech::Unknown) && first == Some(&TLS_HANDSHAKE)
            }
        }
    }

    /// Logs that a publish or a play started.
    pub(super) fn log_start(&mut self, what: &str) {
        let stream = self.stream_name.as_deref().unwrap_or("-");
        let (id, client) = (&self.id, self.client());
        if self.introduced {
            tracing::debug!(%id, stream, client, "{what}");
        } else {
            tracing::info!(%id, stream, client, "{what}");
        }
        self.introduced = true;
    }

    /// Whether the verdict of a hook is outstanding.
    pub(super) fn waits_for_hook(&self) -> bool {
        self.hooked.as_ref().is_some_and(|hooked| hooked.asked.is_some())
    }

    /// Whether it is read although it waits for a hook, as long as little comes: so a client that
    /// hangs up is noticed at once, and not when its back end has answered.
    pub(super) fn listens_for_end(&self) -> bool {
        let carried = self.tunnel.is_some() || matches!(self.speech, Speech::Carrier(_));
        let unread = self.unread.len() + self.tls.as_ref().map_or(0, |tls| tls.unread_bytes());
        let held_up = carried || self.queued || self.throttled || self.closing.is_some();
        self.waits_for_hook() && !held_up && unread <= READ_AHEAD_BYTES
    }

    /// Everything that was granted and has to be remembered.
    pub(super) fn permits(&self) -> impl Iterator<Item = &Permit> {
        let publishes = self.publishes.iter().filter_map(|publish| publish.permit.as_deref());
        let plays = self.plays.iter().filter_map(|play| play.permit.as_deref());
        self.permit.as_deref().into_iter().chain(publishes).chain(plays)
    }

    /// Judges whether its peer took too long.
    pub(super) fn check_deadline(
        &mut self,
        limits: &Limits,
        now: Duration,
    ) -> Result<(), SessionError> {
        // Requests that lead nowhere, one after the other, keep nobody a newcomer for ever.
        let asks = matches!(self.speech, Speech::Http(_) | Speech::Carrier(_));
        if asks && self.role == Role::Pending && now >= self.since + limits.idle_timeout {
            return Err(SessionError::RequestTimeout);
        }
        self.speech.check_deadline(self.since, limits, now)
    }

    /// The publish on a message stream.
    pub(super) fn publish(&self, message_stream: u32) -> Option<&Publish> {
        self.publishes.iter().find(|publish| publish.message_stream == message_stream)
    }

    /// The play on a message stream.
    pub(super) fn play_mut(&mut self, message_stream: u32) -> Option<&mut Play> {
        self.plays.iter_mut().find(|play| play.message_stream == message_stream)
    }

    /// The play of this number, unless it is over.
    pub(super) fn play_numbered(&mut self, number: PlayNumber) -> Option<&mut Play> {
        self.plays.iter_mut().find(|play| play.number == number)
    }

    /// Whether replies may be sent now: no send is under way and no message is cut in half.
    pub(super) fn may_reply(&self) -> bool {
        // What goes inside requests was put in order before they were made.
        self.sending.is_none() && (self.speech.makes_requests() || self.is_at_boundary())
    }

    fn is_at_boundary(&self) -> bool {
        self.plays.iter().all(|play| play.cursor.as_ref().is_none_or(Cursor::at_boundary))
    }

    /// Whether every other play's messages are whole, so that one of this play may begin: they
    /// share their chunk streams.
    pub(super) fn others_at_boundary(&self, number: PlayNumber) -> bool {
        let mut others = self.plays.iter().filter(|play| play.number != number);
        others.all(|play| play.cursor.as_ref().is_none_or(Cursor::at_boundary))
    }

    /// Whether nothing more may be received for now. What comes of a tunnel waits behind what came
    /// before it; what nobody has recognised waits for more of it.
    pub(super) fn is_paused(&self) -> bool {
        let carries = match &self.speech {
            Speech::Carrier(carrier) if carrier.is_paused() => return true,
            Speech::Carrier(_) => true,
            _ => self.tunnel.is_some(),
        };
        let waits = self.queued || self.throttled || self.speech.is_waiting();
        let unread =
            || !self.unread.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.has_unread());
        waits || (carries && unread())
    }

    /// Takes replies over, in order.
    pub(super) fn collect_replies(&mut self) {
        if self.speech.makes_requests() {
            let whole = self.is_at_boundary();
            if let Some(client) = self.speech.outside_mut() {
                client.push_media(Some(std::mem::take(&mut self.rest)).into_iter());
            }
            if !whole {
                return;
            }
        }
        while let Some(reply) = self.speech.take_output() {
            self.outbox.push_back(reply);
        }
    }

    /// Whether anything but media of a play waits to be sent.
    pub(super) fn has_replies(&self) -> bool {
        let of_tls = self.tls.as_ref().is_some_and(|tls| tls.has_output());
        !self.rest.is_empty() || !self.outbox.is_empty() || of_tls
    }

    /// All replies that wait, as one batch, behind the rest of a message.
    pub(super) fn take_replies(&mut self) -> Option<Batch> {
        if !self.rest.is_empty() {
            self.outbox.push_front(std::mem::take(&mut self.rest));
        }
        // Replies are rare: nothing is kept for the next ones, which may never come.
        let mut waiting = std::mem::take(&mut self.outbox);
        match waiting.len() {
            0 => None,
            1 => waiting.pop_front().map(Batch::One),
            _ => Some(Batch::Many(waiting.into())),
        }
    }

    /// Loads what sending looks at, and uses none of it: something of each line of memory.
    pub(super) fn warm(&self) {
        let play = self.plays.first();
        let cursor = play.and_then(|play| play.cursor.as_ref());
        black_box((self.key, self.role, self.rest.len(), self.outbox.len()));
        black_box(play.map(|play| (play.number, play.parked, play.started)));
        black_box(cursor.map(|cursor| (cursor.segment(), cursor.outstanding(), cursor.view())));
    }

    /// When the batch under way was submitted.
    pub(super) fn sending_since(&self) -> Option<Duration> {
        self.sending.as_ref().map(|sending| sending.since)
    }
}
