//! The prelude: what a player must be told before the first frame it gets.
//!
//! Metadata, codec headers per track, multichannel layouts and video metadata, as own copies, so
//! that keeping a header does not keep the segment that it came in. Snapshots are immutable: a
//! segment holds the one in force before its first message, and a header that changes makes a new
//! one.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::tags;
use super::view::{ViewFormat, ViewKind};
use crate::limits::Limits;
use crate::wire::chunk_writer::write_message;
use crate::wire::media::{Class, Role, Tracks};
use crate::wire::message::{CHUNK_BYTES, MediaKind, MediaMessage, MessageHeader};
use crate::wire::needs::{Need, add_needs};
use crate::wire::timestamp::Timestamp;
use crate::wire::wire_message::PayloadPieces;

/// Headers in force at one point of a stream.
#[derive(Clone, Debug, Default)]
pub struct Prelude {
    version: u64,
    items: Vec<Item>,
}

/// One kept message: the newest of its role for each of its tracks. A message that holds the
/// headers of many tracks is one item and so is sent once.
#[derive(Clone, Debug)]
struct Item {
    role: Role,
    tracks: Tracks,
    /// Others of its tracks have newer headers, which must be told after it.
    outdated: bool,
    payload: Bytes,
}

impl Prelude {
    /// Counts the changes of the stream's headers, so that two snapshots of a stream are equal when
    /// their versions are.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Payload bytes kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.items.iter().map(|item| item.payload.len()).sum()
    }

    /// Bytes that holding this snapshot costs, for limits. Payloads that it shares with others are
    /// counted in each.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.items.len() * size_of::<Item>() + self.bytes()
    }

    /// The payload of `onMetaData`, if one is kept.
    #[must_use]
    pub fn metadata(&self) -> Option<&[u8]> {
        let metadata = self.items.iter().find(|item| item.role == Role::Metadata);
        metadata.map(|item| &*item.payload)
    }

    /// What the headers ask of players, in the order in which these are told.
    #[must_use]
    pub fn needs(&self) -> Vec<Need> {
        let mut needs = Vec::new();
        for item in &self.items {
            add_needs(&mut needs, item.role, &item.payload);
        }
        needs
    }

    /// How many tracks of video and of audio have a header.
    #[must_use]
    pub fn tracks(&self) -> (usize, usize) {
        let of = |role| {
            let items = self.items.iter().filter(move |item| item.role == role);
            items.map(|item| item.tracks.ids().len()).sum()
        };
        (of(Role::VideoHeader), of(Role::AudioHeader))
    }

    /// The messages that readers of `kind` need, in wire layout and all stamped `timestamp`:
    /// metadata, audio headers, multichannel layouts, video headers, video metadata, each in order
    /// of tracks, but before all others those of several tracks of which some have newer ones.
    #[must_use]
    pub fn render(&self, kind: ViewKind, timestamp: Timestamp) -> Bytes {
        let mut out = BytesMut::new();
        self.render_into(&mut out, kind, timestamp);
        out.freeze()
    }

    /// Whether there is a header for audio that readers of `kind` are told.
    pub(super) fn tells_audio(&self, kind: ViewKind) -> bool {
        self.items.iter().any(|item| {
            item.role == Role::AudioHeader
                && kind.shows(item.role)
                && kind.flv_form().is_none_or(|form| {
                    tags::shows(form, MediaKind::Audio, &item.payload, item.payload.len())
                })
        })
    }

    /// [`Self::render`] behind what is there.
    pub(super) fn render_into(&self, out: &mut BytesMut, kind: ViewKind, timestamp: Timestamp) {
        for item in self.items.iter().filter(|item| kind.shows(item.role)) {
            let media = media_kind(item.role);
            if let Some(form) = kind.flv_form() {
                let payload = &item.payload;
                let pieces = PayloadPieces::whole(payload);
                tags::put(out, (kind, form), media, item.role, timestamp, payload.len(), pieces);
                continue;
            }
            if kind.format == ViewFormat::Published && item.role == Role::Metadata {
                kind.put_metadata(out, timestamp, &item.payload);
                continue;
            }
            let header = MessageHeader {
                timestamp,
                length: u32::try_from(item.payload.len()).unwrap_or(u32::MAX),
                kind: media.message_type(),
                message_stream: kind.message_stream,
            };
            write_message(out, media.chunk_stream(), &header, &item.payload, CHUNK_BYTES);
        }
    }
}

/// Keeps the newest snapshot of a stream's headers on the publisher's worker.
#[derive(Debug, Default)]
pub(super) struct PreludeBuilder {
    current: Arc<Prelude>,
    copied: u64,
}

impl PreludeBuilder {
    /// A builder whose first snapshot, an empty one, has this version.
    pub(super) fn starting_at(version: u64) -> Self {
        Self { current: Arc::new(Prelude { version, items: Vec::new() }), copied: 0 }
    }

    /// The headers in force now.
    pub(super) fn current(&self) -> &Arc<Prelude> {
        &self.current
    }

    /// Payload bytes copied so far.
    pub(super) fn copied_bytes(&self) -> u64 {
        self.copied
    }

    /// Keeps a message if its role is kept. One that repeats what is kept changes nothing. One
    /// longer than `header_bytes_max` is not kept, and neither is what it replaces; a track beyond
    /// `tracks_max` is not kept.
    pub(super) fn keep(&mut self, message: &MediaMessage, limits: &Limits) {
        let Class { role, tracks } = *message.class();
        if !role.is_kept() || self.repeats(message) {
            return;
        }
        let tracks = match role {
            Role::Metadata => Tracks::default(),
            _ if tracks.ids().is_empty() => Tracks::one(0),
            _ => self.within(role, tracks, limits.tracks_max),
        };
        if role != Role::Metadata && tracks.ids().is_empty() {
            return;
        }
        let mut items = self.without(role, tracks);
        if message.payload_bytes() <= limits.header_bytes_max {
            let mut payload = BytesMut::with_capacity(message.payload_bytes());
            message.payload().for_each(|piece| payload.extend_from_slice(piece));
            self.copied += u64::try_from(payload.len()).unwrap_or(u64::MAX);
            let item = Item { role, tracks, outdated: false, payload: payload.freeze() };
            items.push(item);
            items.sort_by_key(Item::order);
        }
        self.replace(items);
    }

    /// Forgets the metadata (`@clearDataFrame`).
    pub(super) fn clear_metadata(&mut self) {
        if self.current.items.iter().any(|item| item.role == Role::Metadata) {
            self.replace(self.without(Role::Metadata, Tracks::default()));
        }
    }

    /// Forgets everything: another publisher begins.
    pub(super) fn reset(&mut self) {
        if !self.current.is_empty() {
            self.replace(Vec::new());
        }
    }

    fn replace(&mut self, items: Vec<Item>) {
        self.current = Arc::new(Prelude { version: self.current.version + 1, items });
    }

    /// Whether the kept item for this role and these tracks has the same payload.
    pub(super) fn repeats(&self, message: &MediaMessage) -> bool {
        let Class { role, tracks } = *message.class();
        self.current.items.iter().any(|item| {
            item.role == role
                && (role == Role::Metadata || item.tracks == tracks)
                && same_payload(message, &item.payload)
        })
    }

    /// Those of `tracks` that are kept already or still fit.
    fn within(&self, role: Role, tracks: Tracks, tracks_max: usize) -> Tracks {
        let kept = || self.current.items.iter().filter(move |item| item.role == role);
        let mut room = tracks_max.saturating_sub(kept().map(|item| item.tracks.ids().len()).sum());
        let mut fitting = Tracks::default();
        for &id in tracks.ids() {
            if kept().any(|item| item.tracks.ids().contains(&id)) {
                fitting.push(id);
            } else if room > 0 {
                room -= 1;
                fitting.push(id);
            }
        }
        fitting
    }

    /// The items left when a message of this role replaces these tracks.
    fn without(&self, role: Role, tracks: Tracks) -> Vec<Item> {
        let mut items = Vec::with_capacity(self.current.items.len() + 1);
        for item in &self.current.items {
            if item.role != role {
                items.push(item.clone());
                continue;
            }
            let mut left = Tracks::default();
            item.tracks
                .ids()
                .iter()
                .filter(|id| !tracks.ids().contains(id))
                .for_each(|&id| left.push(id));
            if !left.ids().is_empty() {
                let outdated = item.outdated || left != item.tracks;
                items.push(Item { tracks: left, outdated, ..item.clone() });
            }
        }
        items
    }
}

impl Item {
    /// Where it stands in a prelude. Those that are outdated in part keep their order among each
    /// other, which is that of their arrival as far as it matters.
    fn order(&self) -> (u8, Option<u8>) {
        let rank = match self.role {
            Role::Metadata => 0,
            Role::AudioHeader => 1,
            Role::AudioChannels => 2,
            Role::VideoHeader => 3,
            _ => 4,
        };
        let track = self.tracks.ids().first().copied().unwrap_or(0);
        (rank, (!self.outdated).then_some(track))
    }
}

fn media_kind(role: Role) -> MediaKind {
    if role.is_audio() {
        MediaKind::Audio
    } else if role.is_video() {
        MediaKind::Video
    } else {
        MediaKind::Data
    }
}

fn same_payload(message: &MediaMessage, kept: &[u8]) -> bool {
    let mut rest = kept;
    for piece in message.payload() {
        match rest.split_at_checked(piece.len()) {
            Some((head, tail)) if head == piece => rest = tail,
            _ => return false,
        }
    }
    rest.is_empty()
}
