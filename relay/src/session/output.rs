//! What a session has to say: replies as wire bytes, in order and bounded.
//!
//! Media never passes through here, except where a client session writes its own. The buffer is
//! given away whole, so that a connection with nothing to say holds no memory for it.

use bytes::{Bytes, BytesMut};

use super::error::SessionError;
use crate::wire::chunk_writer::{DEFAULT_CHUNK_BYTES, write_message};
use crate::wire::control::{ControlMessage, UserControl};
use crate::wire::message::{CHUNK_BYTES, MessageHeader, MessageType, chunk_stream};
use crate::wire::timestamp::Timestamp;

/// Replies waiting to be taken.
pub(super) struct Output {
    bytes: BytesMut,
    chunk_size: usize,
    limit: usize,
}

impl Output {
    /// At most `limit` bytes wait; chunks have the default size until [`Self::grow_chunks`].
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: BytesMut::new(), chunk_size: DEFAULT_CHUNK_BYTES, limit }
    }

    /// Everything written since the last call.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        if self.bytes.is_empty() {
            return None;
        }
        Some(std::mem::take(&mut self.bytes).freeze())
    }

    /// Judges how much waits. What is already written stays.
    pub(super) fn check(&self) -> Result<(), SessionError> {
        if self.bytes.len() > self.limit {
            return Err(SessionError::OutputFull { limit: self.limit });
        }
        Ok(())
    }

    /// Handshake packets.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Announces the chunk size in which all media is cut, and uses it from here on.
    pub(super) fn grow_chunks(&mut self) {
        let size = u32::try_from(CHUNK_BYTES).expect("60,000 fits 32 bits");
        self.control(ControlMessage::SetChunkSize(size));
        self.chunk_size = CHUNK_BYTES;
    }

    /// A protocol control or user control message.
    pub(super) fn control(&mut self, message: ControlMessage) {
        message.write(&mut self.bytes);
    }

    /// A user control event.
    pub(super) fn event(&mut self, event: UserControl) {
        self.control(ControlMessage::UserControl(event));
    }

    /// A command on the connection itself.
    pub(super) fn connection_command(&mut self, write: impl FnOnce(&mut BytesMut)) {
        self.message(chunk_stream::COMMAND, MessageType::CommandAmf0, 0, write);
    }

    /// A command or status on a message stream.
    pub(super) fn stream_command(&mut self, stream: u32, write: impl FnOnce(&mut BytesMut)) {
        self.message(chunk_stream::DATA, MessageType::CommandAmf0, stream, write);
    }

    /// A data message on a message stream.
    pub(super) fn stream_data(&mut self, stream: u32, write: impl FnOnce(&mut BytesMut)) {
        self.message(chunk_stream::DATA, MessageType::DataAmf0, stream, write);
    }

    fn message(
        &mut self,
        chunk_stream: u32,
        kind: MessageType,
        message_stream: u32,
        write: impl FnOnce(&mut BytesMut),
    ) {
        let mut payload = BytesMut::new();
        write(&mut payload);
        let header = MessageHeader { timestamp: Timestamp(0), length: 0, kind, message_stream };
        write_message(&mut self.bytes, chunk_stream, &header, &payload, self.chunk_size);
    }
}
