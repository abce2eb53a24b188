//! What both sides of a connection do with messages that are not put together as media: aggregates
//! are taken apart, and data and the parts of aggregates are put into the shape of media.
//!
//! Whose messages are wanted is not decided here.

use std::collections::VecDeque;

use bytes::Bytes;

use super::event::DropReason;
use crate::limits::Limits;
use crate::wire::aggregate::AggregateParts;
use crate::wire::data::{self, DataAction};
use crate::wire::media::{classify_audio, classify_video};
use crate::wire::message::{MediaKind, MediaMessage, MessageHeader, MessageType};

/// What is left of an aggregate message: slices of its one payload.
#[derive(Default)]
pub(super) struct Parts {
    queue: VecDeque<(MessageHeader, Bytes)>,
}

impl Parts {
    /// Takes an aggregate message apart. False when a part of it cannot be used.
    pub(super) fn unfold(
        &mut self,
        header: &MessageHeader,
        payload: &Bytes,
        limits: &Limits,
    ) -> bool {
        let mut parts = AggregateParts::new(header, payload, limits);
        for part in parts.by_ref() {
            self.queue.push_back((part.header, payload.slice_ref(part.payload)));
        }
        parts.dropped() == 0
    }

    /// The next part, in order. The memory of the queue goes with the last one.
    pub(super) fn next(&mut self) -> Option<(MessageHeader, Bytes)> {
        let part = self.queue.pop_front()?;
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        Some(part)
    }
}

/// What became of a message.
pub(super) enum Placed {
    /// It is in the media message.
    Media,
    /// It said that the metadata is no longer true.
    ClearMetadata,
    /// It cannot be used.
    Dropped(DropReason),
}

/// Puts data, or audio or video out of an aggregate, in the place of `media` (one copy).
pub(super) fn place(
    media: &mut MediaMessage,
    header: &MessageHeader,
    payload: &[u8],
    limits: &Limits,
) -> Placed {
    let mut put = |kind, class, payload: &[u8], reason| {
        if media.replace(kind, class, header.timestamp, payload) {
            Placed::Media
        } else {
            Placed::Dropped(reason)
        }
    };
    let (kind, class) = match header.kind {
        MessageType::Audio => (MediaKind::Audio, classify_audio(payload)),
        MessageType::Video => (MediaKind::Video, classify_video(payload)),
        _ => {
            return match data::judge(header.kind, payload, limits) {
                DataAction::Relay { role, payload } => {
                    put(MediaKind::Data, data::class(role), &payload, DropReason::DataTooLong)
                }
                DataAction::ClearMetadata => Placed::ClearMetadata,
                DataAction::Drop(fault) => Placed::Dropped(fault.into()),
            };
        }
    };
    match class {
        Some(class) => put(kind, class, payload, DropReason::BadAggregate),
        None => Placed::Dropped(DropReason::EmptyMedia),
    }
}
