//! Fragments to messages: the one copy that a media message costs on its way in.
//!
//! Each chunk stream has a buffer of its own, because messages of different chunk streams
//! interleave. Audio and video are copied straight into the layout in which they are sent on
//! ([`MediaMessage`]); everything else is put together plain. Buffers grow with the bytes received
//! and never with the length that a header claims, and all unfinished messages of a connection
//! share one limit. Nothing is interpreted here but the media headers.

use bytes::BytesMut;
use thiserror::Error;

use super::chunk_reader::Fragment;
use super::media::{classify_audio, classify_video};
use super::message::{HEADROOM, MediaKind, MediaMessage, MessageHeader, MessageType};
use crate::limits::Limits;

/// A complete message. What it borrows is reused by the next [`MessageAssembler::push`].
#[derive(Debug)]
pub enum Assembled<'a> {
    /// Audio or video, classified.
    Media {
        /// The header as it came: its message stream id is the publisher's.
        header: MessageHeader,
        /// The message; its wire bytes may be taken.
        message: &'a mut MediaMessage,
    },
    /// Any other message that is wanted: control, command, data, aggregate.
    Plain {
        /// The header as it came.
        header: MessageHeader,
        /// The whole payload, which may be taken out of its buffer.
        payload: &'a mut BytesMut,
    },
    /// A message of which nothing is kept; to be counted.
    Dropped {
        /// The header as it came.
        header: MessageHeader,
        /// Why it is not wanted.
        reason: DropReason,
    },
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// A data message longer than `data_bytes_max`.
    DataTooLong,
    /// A shared object message (types 16 and 19).
    SharedObject,
    /// A type that is not known, or (7) not meant for us.
    UnknownType,
    /// Audio or video too short to hold its own header.
    EmptyMedia,
    /// Audio, video, data or an aggregate that began before connect.
    NotConnected,
}

/// A connection's limit was exceeded; the connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AssembleError {
    /// More bytes of unfinished messages than allowed.
    #[error("unfinished messages hold more than {limit} bytes")]
    TooManyPartialBytes {
        /// `partial_bytes_max`, `partial_bytes_idle_max` or `partial_bytes_connect_max`.
        limit: usize,
    },
}

/// Puts together the messages of one direction of one connection.
///
/// Memory held is at most twice the limit of unfinished bytes in force, per chunk stream what is
/// kept between messages (32 KiB while publishing, else 128 bytes), and while publishing up to 4
/// MiB taken ahead for messages under way, each on a chunk stream that delivered one half as long.
#[derive(Debug)]
pub struct MessageAssembler {
    slots: Vec<Slot>,
    /// Payload bytes held of unfinished messages, over all slots.
    partial_bytes: usize,
    /// Room taken ahead for unfinished messages, over all slots.
    ahead_bytes: usize,
    /// The slot whose message was handed out last and may still be held.
    delivered: Option<usize>,
    publishing: bool,
    connected: bool,
    publishing_bytes_max: usize,
    idle_bytes_max: usize,
    connect_bytes_max: usize,
    data_bytes_max: usize,
}

/// One chunk stream.
#[derive(Debug)]
struct Slot {
    media: MediaMessage,
    plain: BytesMut,
    /// Bytes copied into `plain` so far.
    plain_copied: u64,
    /// Payload bytes held of the unfinished message.
    partial_bytes: usize,
    /// Room taken ahead for the unfinished message.
    ahead_bytes: usize,
    /// Most bytes taken at once for a message: twice those of the longest that came whole. What of
    /// it is too much, the length that a message claims cuts off.
    usual_bytes: usize,
}

/// A publisher's slot keeps a buffer of this size for its next message: all that is copied into
/// segments fits, and what is longer leaves with its buffer anyway.
const KEPT_BYTES_PUBLISHING: usize = 32 * 1024;

/// The same for a connection that does not publish: there may be very many of them, and after its
/// first commands it says little but acknowledgements.
const KEPT_BYTES_IDLE: usize = 128;

/// Most bytes taken at once for a message because earlier ones were as long: the key frames of most
/// video fit, so that none of their bytes is copied again because a buffer had to grow.
const USUAL_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes taken ahead at the same time: a stream of video and a few of audio.
const AHEAD_BYTES_MAX: usize = 4 * USUAL_BYTES_MAX;

impl MessageAssembler {
    /// An assembler for a connection that does not publish yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            slots: Vec::new(),
            partial_bytes: 0,
            ahead_bytes: 0,
            delivered: None,
            publishing: false,
            connected: true,
            publishing_bytes_max: limits.partial_bytes_max,
            idle_bytes_max: limits.partial_bytes_idle_max,
            connect_bytes_max: limits.partial_bytes_connect_max,
            data_bytes_max: limits.data_bytes_max,
        }
    }

    /// Whether connect was accepted (it was until this is called); before, no more than
    /// `partial_bytes_connect_max` is held.
    pub fn set_connected(&mut self, connected: bool) {
        self.connected = connected;
    }

    /// Whether the connection publishes: `partial_bytes_max` then bounds it, else
    /// `partial_bytes_idle_max`. Judged at the next [`Self::push`].
    pub fn set_publishing(&mut self, publishing: bool) {
        self.publishing = publishing;
        if !publishing {
            for slot in self.slots.iter_mut().filter(|slot| slot.partial_bytes == 0) {
                slot.usual_bytes = 0;
                slot.settle(KEPT_BYTES_IDLE);
            }
        }
    }

    /// Payload bytes held of unfinished messages.
    #[must_use]
    pub fn partial_bytes(&self) -> usize {
        self.partial_bytes
    }

    /// Bytes copied so far, those of buffers that had to grow once more. Of the media messages in
    /// whose place another one was left, what was copied for that one.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.slots.iter().map(|slot| slot.plain_copied + slot.media.copied_bytes()).sum()
    }

    /// Adds a fragment; gives the message when it is complete.
    ///
    /// # Errors
    /// [`AssembleError::TooManyPartialBytes`], before anything is stored.
    pub fn push(
        &mut self,
        fragment: &Fragment<'_>,
    ) -> Result<Option<Assembled<'_>>, AssembleError> {
        self.settle_delivered();
        let header = fragment.header;
        if fragment.discard {
            let length = usize::try_from(header.length).unwrap_or(usize::MAX);
            let reason = match header.kind {
                MessageType::DataAmf0 | MessageType::DataAmf3 if length > self.data_bytes_max => {
                    DropReason::DataTooLong
                }
                MessageType::DataAmf0
                | MessageType::DataAmf3
                | MessageType::Audio
                | MessageType::Video
                | MessageType::Aggregate => DropReason::NotConnected,
                MessageType::SharedObjectAmf0 | MessageType::SharedObjectAmf3 => {
                    DropReason::SharedObject
                }
                _ => DropReason::UnknownType,
            };
            return Ok(fragment.last.then_some(Assembled::Dropped { header, reason }));
        }
        if fragment.first {
            self.abort(fragment.slot);
        }
        let limit = match (self.connected, self.publishing) {
            (false, _) => self.connect_bytes_max,
            (true, false) => self.idle_bytes_max,
            (true, true) => self.publishing_bytes_max,
        };
        let partial_bytes = self.partial_bytes + fragment.payload.len();
        if partial_bytes > limit {
            return Err(AssembleError::TooManyPartialBytes { limit });
        }
        if self.slots.len() <= fragment.slot {
            self.slots.resize_with(fragment.slot + 1, Slot::new);
        }
        let slot = &mut self.slots[fragment.slot];
        let media = match header.kind {
            MessageType::Audio => Some(MediaKind::Audio),
            MessageType::Video => Some(MediaKind::Video),
            _ => None,
        };
        if fragment.first && !fragment.last && self.publishing && media.is_some() {
            let length = usize::try_from(header.length).unwrap_or(usize::MAX);
            let ahead = slot.usual_bytes.min(length);
            if self.ahead_bytes + ahead <= AHEAD_BYTES_MAX {
                slot.ahead_bytes = ahead;
                self.ahead_bytes += ahead;
            }
        }
        slot.store(fragment, media, self.publishing);
        if !fragment.last {
            slot.partial_bytes += fragment.payload.len();
            self.partial_bytes = partial_bytes;
            return Ok(None);
        }
        self.partial_bytes -= std::mem::take(&mut slot.partial_bytes);
        self.ahead_bytes -= std::mem::take(&mut slot.ahead_bytes);
        self.delivered = Some(fragment.slot);
        Ok(Some(slot.deliver(header, media)))
    }

    /// Drops the unfinished message of a slot, if there is one.
    pub fn abort(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            let partial_bytes = std::mem::take(&mut slot.partial_bytes);
            self.partial_bytes -= partial_bytes;
            self.ahead_bytes -= std::mem::take(&mut slot.ahead_bytes);
            if partial_bytes > 0 {
                // What nobody waits for any longer does not count, so it may not stay.
                slot.settle(KEPT_BYTES_IDLE);
            }
        }
    }

    /// Gives back what the last message needed beyond what is usual.
    fn settle_delivered(&mut self) {
        if let Some(slot) = self.delivered.take() {
            let kept = if self.publishing { KEPT_BYTES_PUBLISHING } else { KEPT_BYTES_IDLE };
            self.slots[slot].settle(kept);
        }
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            media: MediaMessage::empty(),
            plain: BytesMut::new(),
            plain_copied: 0,
            partial_bytes: 0,
            ahead_bytes: 0,
            usual_bytes: 0,
        }
    }

    fn store(&mut self, fragment: &Fragment<'_>, media: Option<MediaKind>, publishing: bool) {
        let Some(kind) = media else {
            if fragment.first {
                self.plain.clear();
            }
            let grows = self.plain.capacity() < self.plain.len() + fragment.payload.len();
            let again = if grows { self.plain.len() } else { 0 };
            let copied = again + fragment.payload.len();
            self.plain_copied += u64::try_from(copied).unwrap_or(u64::MAX);
            self.plain.extend_from_slice(fragment.payload);
            return;
        };
        if fragment.first {
            self.media.begin(kind, fragment.header.timestamp);
        }
        let length = usize::try_from(fragment.header.length).unwrap_or(usize::MAX);
        // A little more than was taken ahead, for the headers between the chunks.
        let expected = if self.ahead_bytes == 0 { 0 } else { self.usual_bytes };
        self.media.extend(fragment.payload, length, expected);
        if fragment.last && publishing {
            let needed = HEADROOM + self.media.wire_bytes();
            self.usual_bytes = self.usual_bytes.max((2 * needed).min(USUAL_BYTES_MAX));
        }
    }

    fn deliver(&mut self, header: MessageHeader, media: Option<MediaKind>) -> Assembled<'_> {
        let class = match media {
            Some(MediaKind::Audio) => classify_audio(self.media.payload_head()),
            Some(_) => classify_video(self.media.payload_head()),
            None => return Assembled::Plain { header, payload: &mut self.plain },
        };
        let Some(class) = class else {
            return Assembled::Dropped { header, reason: DropReason::EmptyMedia };
        };
        self.media.finish(class);
        Assembled::Media { header, message: &mut self.media }
    }

    /// Gives back buffers larger than `kept_bytes_max`. Only between messages.
    fn settle(&mut self, kept_bytes_max: usize) {
        if self.media.capacity() > kept_bytes_max {
            self.media.release();
        }
        if self.plain.capacity() > kept_bytes_max {
            self.plain = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests;
