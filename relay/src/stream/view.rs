//! Views: readings of a log in other bytes.
//!
//! A view is a log of its own with the same segment numbers as its source. It is rendered once per
//! worker from each sealed segment, from where its first reader begins until soon after the last
//! one goes, and a stream has at most `views_per_stream_max` of them besides plain FLV, so its cost
//! never grows per player. A segment of which a view shows one contiguous piece is not copied.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::log::Log;
use super::segment::{Carried, Entry, Segment};
use super::tags::{self, FlvForm};
use crate::limits::Limits;
use crate::wire::chunk_writer::write_message;
use crate::wire::data::SET_DATA_FRAME;
use crate::wire::flv::FlvHeader;
use crate::wire::media::Role;
use crate::wire::message::{
    CHUNK_BYTES, MEDIA_STREAM, MESSAGE_BYTES_MAX, MediaKind, MessageHeader,
};
use crate::wire::timestamp::Timestamp;
use crate::wire::wire_message::WireMessage;

/// How long a view that nobody reads is still made.
pub(super) const VIEW_LINGER: Duration = Duration::from_secs(1);

/// Which bytes a reader is sent. The default is the log itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ViewKind {
    /// Which kinds of media; data messages are in every view.
    pub tracks: ViewTracks,
    /// The message stream id in the chunk headers; [`MEDIA_STREAM`] where there are none.
    pub message_stream: u32,
    /// What messages are made into.
    pub format: ViewFormat,
}

/// What the messages of a view are made into. One byte: it is compared for every player at every
/// flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ViewFormat {
    /// Chunks of RTMP.
    #[default]
    Chunks,
    /// The same as a publisher sends them: metadata behind `@setDataFrame`, by which servers know
    /// what to keep.
    Published,
    /// FLV, which begins with a header of its own.
    Flv,
    /// The same, with all of Enhanced RTMP.
    FlvWithExtras,
    /// FLV in frames of a WebSocket.
    WebSocket,
    /// The same, with all of Enhanced RTMP.
    WebSocketWithExtras,
    /// Chunks of RTMP for other nodes, on a message stream of the stream's own and in the time of
    /// the stream's source.
    Link,
}

/// Which kinds of media a view shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ViewTracks {
    /// Audio and video.
    #[default]
    Both,
    /// No video.
    AudioOnly,
    /// No audio.
    VideoOnly,
}

impl Default for ViewKind {
    fn default() -> Self {
        Self { tracks: ViewTracks::Both, message_stream: MEDIA_STREAM, format: ViewFormat::Chunks }
    }
}

impl ViewKind {
    /// FLV.
    #[must_use]
    pub fn flv(tracks: ViewTracks, form: FlvForm) -> Self {
        let format = match (form.websocket, form.extras) {
            (false, false) => ViewFormat::Flv,
            (false, true) => ViewFormat::FlvWithExtras,
            (true, false) => ViewFormat::WebSocket,
            (true, true) => ViewFormat::WebSocketWithExtras,
        };
        Self { tracks, message_stream: MEDIA_STREAM, format }
    }

    /// Whether messages of this role are shown.
    #[must_use]
    pub fn shows(self, role: Role) -> bool {
        match self.tracks {
            ViewTracks::Both => true,
            ViewTracks::AudioOnly => !role.is_video(),
            ViewTracks::VideoOnly => !role.is_audio(),
        }
    }

    /// Whether video is shown.
    #[must_use]
    pub fn has_video(self) -> bool {
        self.tracks != ViewTracks::AudioOnly
    }

    /// Whether audio is shown.
    #[must_use]
    pub fn has_audio(self) -> bool {
        self.tracks != ViewTracks::VideoOnly
    }

    /// The same without video.
    #[must_use]
    pub fn audio_only(self) -> Self {
        Self { tracks: ViewTracks::AudioOnly, ..self }
    }

    /// For other nodes that are fed.
    #[must_use]
    pub fn link(message_stream: u32) -> Self {
        Self { tracks: ViewTracks::Both, message_stream, format: ViewFormat::Link }
    }

    /// Whether players choose how many such views there are.
    fn is_counted(self) -> bool {
        self.format != ViewFormat::Link && !self.is_plain_flv()
    }

    /// Whether it is FLV with all tracks and no extras.
    fn is_plain_flv(self) -> bool {
        let plain = self.flv_form().is_some_and(|form| !form.extras);
        plain && self.tracks == ViewTracks::Both
    }

    /// How it is made into FLV, if it is.
    pub(super) fn flv_form(self) -> Option<FlvForm> {
        let (websocket, extras) = match self.format {
            ViewFormat::Chunks | ViewFormat::Published | ViewFormat::Link => return None,
            ViewFormat::Flv => (false, false),
            ViewFormat::FlvWithExtras => (false, true),
            ViewFormat::WebSocket => (true, false),
            ViewFormat::WebSocketWithExtras => (true, true),
        };
        Some(FlvForm { websocket, extras })
    }

    /// A segment of the stream as this view shows it; adds the bytes copied to `copied`.
    fn render(self, source: &Segment, copied: &mut u64) -> Segment {
        if let Some(form) = self.flv_form() {
            let segment = tags::render(self, form, source);
            *copied += u64::try_from(segment.bytes.len()).unwrap_or(u64::MAX);
            return segment;
        }
        if self.format == ViewFormat::Link && source.shift != 0 {
            let segment = self.render_moved_back(source);
            *copied += u64::try_from(segment.bytes.len()).unwrap_or(u64::MAX);
            return segment;
        }
        let mut metadata = source.index.iter().filter(|entry| entry.role == Role::Metadata);
        if self.format == ViewFormat::Published && metadata.next().is_some() {
            let segment = self.render_published(source);
            *copied += u64::try_from(segment.bytes.len()).unwrap_or(u64::MAX);
            return segment;
        }
        let mut index = Vec::with_capacity(source.index.len());
        let mut length = 0;
        let mut pieces = Pieces::None;
        for entry in source.index.iter().filter(|entry| self.shows(entry.role)) {
            pieces = pieces.and(entry);
            index.push(Entry { offset: length, ..*entry });
            length += entry.length;
        }
        let bytes = match pieces {
            Pieces::None => Bytes::new(),
            Pieces::One { start, end } if self.message_stream == MEDIA_STREAM => {
                source.bytes.slice(start..end)
            }
            _ => {
                let bytes = self.copy(source);
                *copied += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                bytes
            }
        };
        let carried = Carried::of(&index);
        Segment { bytes, index: index.into(), carried, ..source.clone() }
    }

    /// A segment with metadata, as a publisher sends it.
    fn render_published(self, source: &Segment) -> Segment {
        let mut index = Vec::with_capacity(source.index.len());
        let mut out = BytesMut::with_capacity(source.bytes.len() + SET_DATA_FRAME.len());
        for entry in source.index.iter().filter(|entry| self.shows(entry.role)) {
            let start = out.len();
            let bytes = &source.bytes[entry.start()..entry.end()];
            match WireMessage::parse(bytes).filter(|_| entry.role == Role::Metadata) {
                Some((message, _)) => {
                    let payload: Vec<u8> = message.payload().flatten().copied().collect();
                    self.put_metadata(&mut out, message.header.timestamp, &payload);
                }
                None => {
                    out.extend_from_slice(bytes);
                    if let Some(field) = out[start..].get_mut(WireMessage::MESSAGE_STREAM_AT) {
                        field.copy_from_slice(&self.message_stream.to_le_bytes());
                    }
                }
            }
            let [offset, length] = [start, out.len() - start]
                .map(|bytes| u32::try_from(bytes).expect("little longer than a segment"));
            index.push(Entry { offset, length, ..*entry });
        }
        let carried = Carried::of(&index);
        Segment { bytes: out.freeze(), index: index.into(), carried, ..source.clone() }
    }

    /// A segment in the time of the stream's source, which this node has moved for its players.
    fn render_moved_back(self, source: &Segment) -> Segment {
        let mut index = Vec::with_capacity(source.index.len());
        let mut out = BytesMut::with_capacity(source.bytes.len());
        for entry in &*source.index {
            let start = out.len();
            let timestamp = entry.timestamp.minus(source.shift);
            let bytes = &source.bytes[entry.start()..entry.end()];
            if let Some((message, _)) = WireMessage::parse(bytes) {
                message.put_as(&mut out, timestamp, self.message_stream);
            }
            let [offset, length] = [start, out.len() - start]
                .map(|bytes| u32::try_from(bytes).expect("little longer than a segment"));
            index.push(Entry { offset, length, timestamp, ..*entry });
        }
        Segment { bytes: out.freeze(), index: index.into(), shift: 0, ..source.clone() }
    }

    /// Metadata with the name by which servers know what to keep before it, unless that would be
    /// too long for a message.
    pub(super) fn put_metadata(self, out: &mut BytesMut, timestamp: Timestamp, payload: &[u8]) {
        let named = [SET_DATA_FRAME, payload].concat();
        let payload = if named.len() <= MESSAGE_BYTES_MAX { &named } else { payload };
        let header = MessageHeader {
            timestamp,
            length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            kind: MediaKind::Data.message_type(),
            message_stream: self.message_stream,
        };
        write_message(out, MediaKind::Data.chunk_stream(), &header, payload, CHUNK_BYTES);
    }

    fn copy(self, source: &Segment) -> Bytes {
        let shown = || source.index.iter().filter(|entry| self.shows(entry.role));
        let mut out =
            BytesMut::with_capacity(shown().map(|entry| entry.end() - entry.start()).sum());
        for entry in shown() {
            let start = out.len();
            out.extend_from_slice(&source.bytes[entry.start()..entry.end()]);
            if let Some(field) = out[start..].get_mut(WireMessage::MESSAGE_STREAM_AT) {
                field.copy_from_slice(&self.message_stream.to_le_bytes());
            }
        }
        out.freeze()
    }
}

/// Where the shown messages lie in the source.
enum Pieces {
    None,
    One { start: usize, end: usize },
    Many,
}

impl Pieces {
    fn and(self, entry: &Entry) -> Self {
        match self {
            Self::None => Self::One { start: entry.start(), end: entry.end() },
            Self::One { start, end } if end == entry.start() => {
                Self::One { start, end: entry.end() }
            }
            _ => Self::Many,
        }
    }
}

/// A stream's log and the views of it.
#[derive(Debug, Default)]
pub(super) struct Renditions {
    pub(super) log: Log,
    views: Vec<View>,
    /// The audio part of a prelude, for all readers who want it at one place.
    audio: Option<(u64, ViewKind, Bytes)>,
    copied: u64,
}

#[derive(Debug)]
struct View {
    kind: ViewKind,
    readers: usize,
    /// When the last reader went, or a little before: the newest segment's time of ingest.
    unread_since: Duration,
    log: Log,
}

impl View {
    /// Makes the view reach back to the segment `from`, as far as the source does.
    fn cover(&mut self, source: &Log, from: u64, copied: &mut u64) {
        let from = from.clamp(source.first(), source.next());
        if self.log.first() <= from && self.log.next() == source.next() {
            return;
        }
        self.log = Log::starting_at(from);
        for segment in source.from(from) {
            self.log.push(self.kind.render(segment, copied));
        }
    }

    /// Whether nobody has read it for [`VIEW_LINGER`].
    fn is_left(&self, now: Duration) -> bool {
        self.readers == 0 && now.saturating_sub(self.unread_since) >= VIEW_LINGER
    }
}

impl Renditions {
    /// Adds a sealed segment to the log and to every view, and trims them. `false`: it was held
    /// already.
    pub(super) fn push(&mut self, segment: Segment, limits: &Limits) -> bool {
        if segment.number < self.log.next() {
            return false;
        }
        for view in &mut self.views {
            view.log.push(view.kind.render(&segment, &mut self.copied));
        }
        self.log.push(segment);
        self.log.trim(limits);
        self.trim_views();
        true
    }

    /// Drops all but the newest group of pictures.
    pub(super) fn shrink_to_newest_gop(&mut self) {
        self.log.shrink_to_newest_gop();
        self.trim_views();
    }

    /// The log that readers of `kind` read; `None` when nobody does.
    pub(super) fn reading(&self, kind: ViewKind) -> Option<&Log> {
        if kind == ViewKind::default() {
            return Some(&self.log);
        }
        self.views.iter().find(|view| view.kind == kind).map(|view| &view.log)
    }

    /// Whether a reader of `kind` may come: it reads what others read, or there are fewer than
    /// `views_per_stream_max` views with readers. Plain FLV does not count, over HTTP and over a
    /// WebSocket: what every player of it asks for is never refused. Nor does the one for other
    /// nodes, which no player may keep from being fed.
    pub(super) fn has_room(&self, kind: ViewKind, limits: &Limits) -> bool {
        let counted = |view: &&View| view.readers > 0 && view.kind.is_counted();
        kind == ViewKind::default()
            || !kind.is_counted()
            || self.views.iter().any(|view| view.readers > 0 && view.kind == kind)
            || self.views.iter().filter(counted).count() < limits.views_per_stream_max
    }

    /// One reader more of `kind`, from the segment `from` on. `false`: there is no room for it.
    pub(super) fn acquire(&mut self, kind: ViewKind, from: u64, limits: &Limits) -> bool {
        if kind == ViewKind::default() {
            return true;
        }
        if !self.has_room(kind, limits) {
            return false;
        }
        let place = self.views.iter().position(|view| view.kind == kind).unwrap_or_else(|| {
            if self.views.len() >= limits.views_per_stream_max && kind.is_counted() {
                self.views.retain(|view| view.readers > 0 || !view.kind.is_counted());
            }
            let log = Log::starting_at(self.log.next());
            self.views.push(View { kind, readers: 0, unread_since: Duration::ZERO, log });
            self.views.len() - 1
        });
        self.views[place].readers += 1;
        self.views[place].cover(&self.log, from, &mut self.copied);
        true
    }

    /// A reader of `kind` goes on at the segment `from`.
    pub(super) fn cover(&mut self, kind: ViewKind, from: u64) {
        if let Some(view) = self.views.iter_mut().find(|view| view.kind == kind) {
            view.cover(&self.log, from, &mut self.copied);
        }
    }

    /// Forgets views that nobody has read for [`VIEW_LINGER`].
    pub(super) fn forget_left_views(&mut self, now: Duration) {
        self.views.retain(|view| !view.is_left(now));
        if self.views.is_empty() {
            self.views = Vec::new();
            self.audio = None;
        }
    }

    /// One reader less of `kind`. A view that nobody reads stays for [`VIEW_LINGER`], so that
    /// readers who change their minds again and again do not have it made again and again.
    pub(super) fn release(&mut self, kind: ViewKind) {
        let now = self.log.newest().map_or(Duration::ZERO, |segment| segment.ingested);
        if let Some(view) = self.views.iter_mut().find(|view| view.kind == kind) {
            view.readers = view.readers.saturating_sub(1);
            view.unread_since = now;
        }
    }

    /// The prelude for a reader of `kind` that joins at the segment `number`, stamped with the time
    /// of the segment's first message; behind the header of the format if it has one and `greets`.
    /// Rendered once per segment and kind. Empty when it is not held.
    pub(super) fn prelude_at(&mut self, number: u64, kind: ViewKind, greets: bool) -> Bytes {
        let Some(segment) = self.log.get(number) else { return Bytes::new() };
        let (prelude, at) = (segment.prelude.clone(), segment.timestamp().unwrap_or_default());
        let shift = if kind.format == ViewFormat::Link { segment.shift } else { 0 };
        let at = at.minus(shift);
        let header = kind.flv_form().map(|form| (form, self.flv_header(number, kind)));
        let copied = &mut self.copied;
        let log = if kind == ViewKind::default() {
            Some(&mut self.log)
        } else {
            self.views.iter_mut().find(|view| view.kind == kind).map(|view| &mut view.log)
        };
        let render = || {
            let mut out = BytesMut::new();
            if let Some((form, header)) = header {
                tags::put_header(&mut out, form, header);
            }
            prelude.render_into(&mut out, kind, at);
            if let Some((_, header)) = header {
                tags::agree(&mut out, header);
            }
            *copied += u64::try_from(out.len()).unwrap_or(u64::MAX);
            out.freeze()
        };
        let Some(log) = log else { return Bytes::new() };
        let bytes = log.prelude_at(number, header.map(|(_, header)| header), render);
        match header {
            Some((form, _)) if !greets => bytes.slice(tags::header_bytes(form)..),
            _ => bytes,
        }
    }

    /// What a reader of `kind` that joins at the segment `number` will find: video if it starts
    /// with a key frame, audio if there is a header for it or there are messages of it.
    fn flv_header(&self, number: u64, kind: ViewKind) -> FlvHeader {
        let Some(log) = self.reading(kind) else { return FlvHeader { audio: false, video: false } };
        let first = log.get(number);
        let video = first.is_some_and(|first| first.key && first.carried.video > 0);
        let told = first.is_some_and(|first| first.prelude.tells_audio(kind));
        let audio = kind.has_audio() && (told || heard(log, number));
        FlvHeader { audio, video: video && kind.has_video() }
    }

    /// Whether it is known if a reader of `kind` that joins at the segment `number` will find
    /// audio: there are signs of it, or so much of the stream is held that there would be.
    pub(super) fn knows_audio(&self, number: u64, kind: ViewKind, limits: &Limits) -> bool {
        let log = &self.log;
        !kind.has_audio()
            || log.get(number).is_none_or(|segment| segment.prelude.tells_audio(kind))
            || heard(log, number)
            || (log.lag(log.first()) >= limits.flv_header_wait && !heard(log, log.first()))
    }

    /// The audio part of the prelude, for a reader to whom audio is added between key frames.
    /// Rendered once per segment, unless readers of several kinds take turns.
    pub(super) fn audio_prelude(&mut self, number: u64, kind: ViewKind) -> Bytes {
        let kind = kind.audio_only();
        if let Some((at, of, bytes)) = &self.audio
            && (*at, *of) == (number, kind)
        {
            return bytes.clone();
        }
        let Some(segment) = self.log.get(number) else { return Bytes::new() };
        let at = segment.timestamp().unwrap_or_default();
        let mut bytes = BytesMut::new();
        segment.prelude.render_into(&mut bytes, kind, at);
        let bytes = bytes.freeze();
        self.copied += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.audio = Some((number, kind, bytes.clone()));
        bytes
    }

    /// Bytes copied for views and preludes so far.
    pub(super) fn copied_bytes(&self) -> u64 {
        self.copied
    }

    /// Bytes held by views, those shared with the log included.
    pub(super) fn view_bytes(&self) -> usize {
        let views: usize = self.views.iter().map(|view| view.log.held_bytes()).sum();
        views + self.audio.as_ref().map_or(0, |(.., bytes)| bytes.len())
    }

    /// How far a reader at the segment `number` is behind, by time of ingest.
    pub(super) fn lag(&self, number: u64) -> Duration {
        self.log.lag(number)
    }

    /// The same by time of arrival at this node.
    pub(super) fn backlog(&self, number: u64) -> Duration {
        self.log.backlog(number)
    }

    fn trim_views(&mut self) {
        let first = self.log.first();
        self.audio = self.audio.take().filter(|(at, ..)| *at >= first);
        self.views.iter_mut().for_each(|view| view.log.trim_before(first));
    }
}

/// Whether there are messages of audio from the segment `number` on.
fn heard(log: &Log, number: u64) -> bool {
    log.from(number).any(|segment| segment.carried.audio > 0)
}
