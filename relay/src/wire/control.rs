//! Protocol control messages and user control messages, read and written (RTMP 1.0 sections 5.4,
//! 6.2 and 7.1.7).
//!
//! What they ask for is done by the session; here they are only values. They are written on chunk
//! stream 2 and message stream 0 with timestamp 0, and accepted on any.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use super::chunk_writer::{DEFAULT_CHUNK_BYTES, write_message};
use super::message::{MessageHeader, MessageType, chunk_stream};
use super::timestamp::Timestamp;

/// A protocol control message, or a user control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlMessage {
    /// Type 1: the chunk size of what the sender sends from here on, as received: 0 and values with
    /// the top bit set are wrong, and [`ChunkReader::set_chunk_size`] says so.
    ///
    /// [`ChunkReader::set_chunk_size`]: super::chunk_reader::ChunkReader::set_chunk_size
    SetChunkSize(u32),
    /// Type 2: the sender gives up its unfinished message on this chunk stream.
    Abort {
        /// The chunk stream id.
        chunk_stream: u32,
    },
    /// Type 3: bytes received so far, modulo 2^32.
    Acknowledgement {
        /// Bytes, the handshake included with most peers.
        sequence: u32,
    },
    /// Type 5: the receiver is to acknowledge after this many bytes.
    WindowAckSize(u32),
    /// Type 6: how much the receiver may send without an acknowledgement.
    SetPeerBandwidth {
        /// Bytes.
        window: u32,
        /// How the value relates to the one in force.
        limit: BandwidthLimit,
    },
    /// Type 4.
    UserControl(UserControl),
}

/// The limit type of Set Peer Bandwidth (RTMP 1.0 section 5.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BandwidthLimit {
    /// 0: take the value.
    Hard,
    /// 1: take it if it is smaller than the one in force.
    Soft,
    /// 2: as hard if the previous one was hard, else ignore it. Also stands for a missing or
    /// unknown limit type.
    Dynamic,
}

/// A user control event (RTMP 1.0 section 7.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserControl {
    /// 0: a message stream is usable.
    StreamBegin {
        /// The stream; 0 after connect.
        message_stream: u32,
    },
    /// 1: playback of a stream is over.
    StreamEof {
        /// The stream.
        message_stream: u32,
    },
    /// 2: nothing has come on a stream for a while.
    StreamDry {
        /// The stream.
        message_stream: u32,
    },
    /// 3: how much a player buffers; a hint.
    SetBufferLength {
        /// The stream; rtmpdump says 0 before it has one.
        message_stream: u32,
        /// Milliseconds.
        milliseconds: u32,
    },
    /// 4: the stream is a recording.
    StreamIsRecorded {
        /// The stream.
        message_stream: u32,
    },
    /// 6: asks for a [`UserControl::PingResponse`] with the same value.
    PingRequest {
        /// The sender's time; not interpreted.
        time: u32,
    },
    /// 7: answers a ping.
    PingResponse {
        /// The value of the request.
        time: u32,
    },
}

/// A control message that is too short to be understood and too important to be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a control message of type {} with {bytes} bytes", kind.id())]
pub struct ShortControlMessage {
    /// The message type.
    pub kind: MessageType,
    /// Its payload bytes.
    pub bytes: usize,
}

impl ControlMessage {
    /// Reads a message of types 1 to 6. Bytes behind what is needed are allowed.
    ///
    /// `Ok(None)` is a message to ignore: another type, an event that is not known, a user control
    /// message that is too short.
    ///
    /// # Errors
    /// A protocol control message (types 1, 2, 3, 5, 6) without its four bytes.
    pub fn parse(kind: MessageType, payload: &[u8]) -> Result<Option<Self>, ShortControlMessage> {
        let value = || match payload.first_chunk() {
            Some(value) => Ok(u32::from_be_bytes(*value)),
            None => Err(ShortControlMessage { kind, bytes: payload.len() }),
        };
        Ok(Some(match kind {
            MessageType::SetChunkSize => Self::SetChunkSize(value()?),
            MessageType::Abort => Self::Abort { chunk_stream: value()? },
            MessageType::Acknowledgement => Self::Acknowledgement { sequence: value()? },
            MessageType::WindowAckSize => Self::WindowAckSize(value()?),
            MessageType::SetPeerBandwidth => Self::SetPeerBandwidth {
                window: value()?,
                limit: BandwidthLimit::from_id(payload.get(4).copied()),
            },
            MessageType::UserControl => match UserControl::parse(payload) {
                Some(event) => Self::UserControl(event),
                None => return Ok(None),
            },
            _ => return Ok(None),
        }))
    }

    /// Writes the whole message, which is a single chunk at any chunk size of ours.
    pub fn write(&self, out: &mut BytesMut) {
        let mut payload = [0; 10];
        let mut rest = &mut payload[..];
        let kind = match *self {
            Self::SetChunkSize(size) => {
                rest.put_u32(size);
                MessageType::SetChunkSize
            }
            Self::Abort { chunk_stream } => {
                rest.put_u32(chunk_stream);
                MessageType::Abort
            }
            Self::Acknowledgement { sequence } => {
                rest.put_u32(sequence);
                MessageType::Acknowledgement
            }
            Self::WindowAckSize(window) => {
                rest.put_u32(window);
                MessageType::WindowAckSize
            }
            Self::SetPeerBandwidth { window, limit } => {
                rest.put_u32(window);
                rest.put_u8(limit.id());
                MessageType::SetPeerBandwidth
            }
            Self::UserControl(event) => {
                event.write(&mut rest);
                MessageType::UserControl
            }
        };
        let unused = rest.len();
        let payload = &payload[..payload.len() - unused];
        let header = MessageHeader { timestamp: Timestamp(0), length: 0, kind, message_stream: 0 };
        write_message(out, chunk_stream::CONTROL, &header, payload, DEFAULT_CHUNK_BYTES);
    }
}

impl BandwidthLimit {
    fn from_id(id: Option<u8>) -> Self {
        match id {
            Some(0) => Self::Hard,
            Some(1) => Self::Soft,
            _ => Self::Dynamic,
        }
    }

    fn id(self) -> u8 {
        match self {
            Self::Hard => 0,
            Self::Soft => 1,
            Self::Dynamic => 2,
        }
    }
}

impl UserControl {
    fn parse(payload: &[u8]) -> Option<Self> {
        let (event, data) = payload.split_first_chunk()?;
        let (value, rest) = data.split_first_chunk()?;
        let value = u32::from_be_bytes(*value);
        Some(match u16::from_be_bytes(*event) {
            0 => Self::StreamBegin { message_stream: value },
            1 => Self::StreamEof { message_stream: value },
            2 => Self::StreamDry { message_stream: value },
            3 => Self::SetBufferLength {
                message_stream: value,
                milliseconds: u32::from_be_bytes(*rest.first_chunk()?),
            },
            4 => Self::StreamIsRecorded { message_stream: value },
            6 => Self::PingRequest { time: value },
            7 => Self::PingResponse { time: value },
            _ => return None,
        })
    }

    fn write(self, out: &mut impl BufMut) {
        let (event, value) = match self {
            Self::StreamBegin { message_stream } => (0, message_stream),
            Self::StreamEof { message_stream } => (1, message_stream),
            Self::StreamDry { message_stream } => (2, message_stream),
            Self::SetBufferLength { message_stream, .. } => (3, message_stream),
            Self::StreamIsRecorded { message_stream } => (4, message_stream),
            Self::PingRequest { time } => (6, time),
            Self::PingResponse { time } => (7, time),
        };
        out.put_u16(event);
        out.put_u32(value);
        if let Self::SetBufferLength { milliseconds, .. } = self {
            out.put_u32(milliseconds);
        }
    }
}

#[cfg(test)]
mod tests;
