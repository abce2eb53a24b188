//! Messages read from chunks, and as text: what a client sees of the server.

use std::collections::HashMap;

use relay::limits::Limits;
use relay::wire::chunk_reader::ChunkReader;
use relay::wire::control::ControlMessage;
use relay::wire::message::{MessageHeader, MessageType};

use super::words::show_values;

/// A message as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) chunk_stream: u32,
    pub(crate) header: MessageHeader,
    pub(crate) payload: Vec<u8>,
}

/// A reader that obeys Set Chunk Size and does nothing else.
pub(crate) struct Reader {
    chunks: ChunkReader,
    partial: HashMap<usize, Vec<u8>>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { chunks: ChunkReader::new(&Limits::default()), partial: HashMap::new() }
    }

    /// The messages that `bytes` complete.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(fragment) = self.chunks.next(&mut bytes).unwrap() {
            let partial = self.partial.entry(fragment.slot).or_default();
            partial.extend_from_slice(fragment.payload);
            if fragment.last {
                let payload = std::mem::take(partial);
                let (chunk_stream, header) = (fragment.chunk_stream, fragment.header);
                if let Ok(Some(ControlMessage::SetChunkSize(size))) =
                    ControlMessage::parse(header.kind, &payload)
                {
                    self.chunks.set_chunk_size(size).unwrap();
                }
                messages.push(Message { chunk_stream, header, payload });
            }
        }
        messages
    }
}

impl Message {
    /// Type, and what is in it, on one line: `3/0 _result 1 {...}` is chunk stream 3, message
    /// stream 0.
    pub(crate) fn show(&self) -> String {
        let place = format!("{}/{}", self.chunk_stream, self.header.message_stream);
        let kind = self.header.kind;
        if let Ok(Some(message)) = ControlMessage::parse(kind, &self.payload) {
            return format!("{place} {message:?}");
        }
        match kind {
            MessageType::CommandAmf0 | MessageType::DataAmf0 => {
                format!("{place} {}", show_values(&self.payload))
            }
            _ => format!("{place} {kind:?} {} B", self.payload.len()),
        }
    }

    /// Whether it is audio, video or data of a stream, the sample access of Flash left out.
    pub(crate) fn is_media(&self) -> bool {
        let data = self.header.kind == MessageType::DataAmf0;
        matches!(self.header.kind, MessageType::Audio | MessageType::Video)
            || (data && !self.payload.starts_with(b"\x02\x00\x11|RtmpSampleAccess"))
    }
}
