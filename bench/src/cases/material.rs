//! What the cases are fed with: a stream as a common encoder sends it, the same at every run.

use std::sync::Arc;

use bytes::BytesMut;
use relay::limits::Limits;
use relay::wire::chunk_writer::write_message;
use relay::wire::media::{Class, classify_audio, classify_video};
use relay::wire::message::{MediaKind, MediaMessage, MessageHeader};
use relay::wire::timestamp::Timestamp;

/// One message of the publisher.
pub(super) struct Message {
    pub(super) kind: MediaKind,
    pub(super) timestamp: Timestamp,
    pub(super) payload: Vec<u8>,
}

/// Two seconds of H.264 at 30 frames per second with AAC, 2.5 Mbit/s in all: a key frame of 60,000
/// bytes, 59 other frames of 9,000 on average, 94 audio frames of 340.
pub(super) fn group_of_pictures() -> Vec<Message> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut messages = Vec::new();
    for frame in 0..60_u32 {
        let bytes = if frame == 0 { 60_000 } else { random.usize(6_000..12_000) };
        messages.push(video(frame == 0, frame * 1_000 / 30, bytes));
    }
    messages.extend((0..94).map(|frame| audio(frame * 1_000 / 47, 340)));
    messages.sort_by_key(|message| message.timestamp.0);
    messages
}

/// A video frame.
pub(super) fn video(is_key: bool, timestamp: u32, bytes: usize) -> Message {
    let head = [if is_key { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    Message::new(MediaKind::Video, timestamp, &head, bytes)
}

/// An audio frame.
pub(super) fn audio(timestamp: u32, bytes: usize) -> Message {
    Message::new(MediaKind::Audio, timestamp, &[0xAF, 1], bytes)
}

/// A sequence header of video and one of audio, of the usual sizes.
pub(super) fn headers() -> [Message; 2] {
    [
        Message::new(MediaKind::Video, 0, &[0x17, 0, 0, 0, 0], 45),
        Message::new(MediaKind::Audio, 0, &[0xAF, 0], 7),
    ]
}

/// The messages as a publisher sends them with this chunk size.
pub(super) fn chunks(messages: &[Message], chunk_bytes: usize) -> Vec<u8> {
    let mut out = BytesMut::new();
    for message in messages {
        let header = MessageHeader {
            timestamp: message.timestamp,
            length: u32::try_from(message.payload.len()).expect("messages are short"),
            kind: message.kind.message_type(),
            message_stream: 1,
        };
        let chunk_stream = message.kind.chunk_stream();
        write_message(&mut out, chunk_stream, &header, &message.payload, chunk_bytes);
    }
    out.to_vec()
}

/// Payload bytes of messages.
pub(super) fn payload_bytes(messages: &[Message]) -> usize {
    messages.iter().map(|message| message.payload.len()).sum()
}

/// The documented limits.
pub(super) fn limits() -> Arc<Limits> {
    Arc::new(Limits::default())
}

impl Message {
    fn new(kind: MediaKind, timestamp: u32, head: &[u8], bytes: usize) -> Self {
        let mut payload = head.to_vec();
        let mut random = fastrand::Rng::with_seed(SEED ^ u64::from(timestamp));
        payload.resize_with(bytes, || random.u8(..));
        Self { kind, timestamp: Timestamp(timestamp), payload }
    }

    /// What the relay makes of it.
    pub(super) fn class(&self) -> Class {
        let class = match self.kind {
            MediaKind::Audio => classify_audio(&self.payload),
            _ => classify_video(&self.payload),
        };
        class.expect("the material is sound")
    }

    /// The message as the assembler gives it.
    pub(super) fn assembled(&self) -> MediaMessage {
        MediaMessage::new(self.kind, self.class(), self.timestamp, &self.payload)
    }
}

const SEED: u64 = 0x5EED;
