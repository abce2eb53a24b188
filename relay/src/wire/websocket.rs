//! WebSocket frames (RFC 6455 section 5): those that we send, and what a client may say.
//!
//! We send whole messages as single binary frames. A client of ours has nothing to say: its data is
//! passed over without being kept, whatever it is cut into, and only pings and the end of the
//! connection are told. The opening handshake is HTTP and not here.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// Most bytes that a frame of ours has before its payload.
pub const HEADER_BYTES_MAX: usize = 10;

/// Most payload bytes of a control frame (section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// What a frame of ours is (section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Binary data.
    Binary,
    /// The end of the connection; two bytes of status lead its payload, if it has any.
    Close,
    /// The answer to a ping, with the ping's payload.
    Pong,
}

/// Appends the header of an unmasked frame that is a whole message, to be followed by
/// `payload_bytes` of payload.
pub fn write_header(out: &mut BytesMut, opcode: Opcode, payload_bytes: usize) {
    out.put_u8(match opcode {
        Opcode::Binary => FINAL | BINARY,
        Opcode::Close => FINAL | CLOSE,
        Opcode::Pong => FINAL | PONG,
    });
    match (u8::try_from(payload_bytes), u16::try_from(payload_bytes)) {
        (Ok(length), _) if length < LENGTH_16 => out.put_u8(length),
        (_, Ok(length)) => {
            out.put_u8(LENGTH_16);
            out.put_u16(length);
        }
        _ => {
            out.put_u8(LENGTH_64);
            out.put_u64(u64::try_from(payload_bytes).unwrap_or(u64::MAX));
        }
    }
}

/// What a client says that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    /// Asks for a pong with this payload, at most [`CONTROL_BYTES_MAX`] bytes.
    Ping(Vec<u8>),
    /// Ends the connection, for the reason of this status if there is one.
    Close(Option<u16>),
    /// Anything else, which has no meaning here.
    Other,
}

/// How a client broke the protocol. The connection is to be closed with [`FrameError::status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Only masked frames may come from clients (section 5.1).
    #[error("a frame is not masked")]
    NotMasked,
    /// Extensions were not agreed on.
    #[error("a reserved bit is set")]
    Reserved,
    /// An opcode without a meaning.
    #[error("the opcode {0} is not known")]
    UnknownOpcode(u8),
    /// Control frames are short and never fragmented (section 5.5).
    #[error("a control frame is fragmented or longer than 125 bytes")]
    BadControl,
    /// A continuation without a beginning, or a beginning within a message (section 5.4).
    #[error("a message is not continued where it must be, or continued where none began")]
    BadContinuation,
    /// A length in more bytes than it needs (section 5.2).
    #[error("the length of a frame is written in more bytes than it needs")]
    BadLength,
    /// A close frame with one byte of status.
    #[error("a close frame has half a status")]
    BadClose,
    /// A frame longer than is taken from those who have nothing to say.
    #[error("a frame of {length} bytes; at most {limit} are taken")]
    TooLong {
        /// Payload bytes claimed.
        length: u64,
        /// The limit in force.
        limit: usize,
    },
}

impl FrameError {
    /// The status with which the connection is closed (section 7.4.1).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::TooLong { .. } => 1009,
            _ => 1002,
        }
    }
}

/// Reads the frames of one client.
#[derive(Debug)]
pub struct FrameReader {
    payload_bytes_max: usize,
    /// The header so far.
    header: Vec<u8>,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// A message was begun and not ended.
    fragmented: bool,
}

#[derive(Debug)]
struct Frame {
    opcode: u8,
    mask: [u8; 4],
    /// Payload bytes to come.
    rest: usize,
    /// What a control frame holds, unmasked.
    payload: Vec<u8>,
}

impl FrameReader {
    /// A reader behind the opening handshake. No frame may be longer than `payload_bytes_max`.
    #[must_use]
    pub fn new(payload_bytes_max: usize) -> Self {
        Self { payload_bytes_max, header: Vec::new(), frame: None, fragmented: false }
    }

    /// Takes the next frame off the front of `input`. `None` when all of it is used up: nothing of
    /// it need be kept.
    ///
    /// # Errors
    /// As soon as the header that breaks the protocol is there. Nothing behind it has a meaning.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<ClientFrame>, FrameError> {
        loop {
            if let Some(frame) = self.frame.as_mut() {
                let (now, later) = input.split_at(frame.rest.min(input.len()));
                *input = later;
                frame.take(now);
                if frame.rest > 0 {
                    return Ok(None);
                }
                return self.frame.take().map(Frame::end).transpose();
            }
            let Some((&byte, later)) = input.split_first() else { return Ok(None) };
            *input = later;
            self.header.push(byte);
            self.frame = self.read_header()?;
            if self.frame.is_some() {
                self.header.clear();
            }
        }
    }

    /// The frame whose header is complete; `None` while it is not.
    fn read_header(&mut self) -> Result<Option<Frame>, FrameError> {
        let &[first, ref rest @ ..] = self.header.as_slice() else { return Ok(None) };
        let (last, opcode) = (first & FINAL != 0, first & OPCODE);
        let is_control = opcode >= CLOSE;
        match opcode {
            _ if first & RESERVED != 0 => return Err(FrameError::Reserved),
            CONTINUATION if !self.fragmented => return Err(FrameError::BadContinuation),
            TEXT | BINARY if self.fragmented => return Err(FrameError::BadContinuation),
            CONTINUATION | TEXT | BINARY => {}
            CLOSE | PING | PONG if !last => return Err(FrameError::BadControl),
            CLOSE | PING | PONG => {}
            other => return Err(FrameError::UnknownOpcode(other)),
        }
        let &[second, ref rest @ ..] = rest else { return Ok(None) };
        if second & MASKED == 0 {
            return Err(FrameError::NotMasked);
        }
        let (length, rest) = match (second & LENGTH, rest) {
            (LENGTH_16 | LENGTH_64, _) if is_control => return Err(FrameError::BadControl),
            (LENGTH_16, &[a, b, ref rest @ ..]) => (u64::from(u16::from_be_bytes([a, b])), rest),
            (LENGTH_64, &[a, b, c, d, e, f, g, h, ref rest @ ..]) => {
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), rest)
            }
            (LENGTH_16 | LENGTH_64, _) => return Ok(None),
            (length, rest) => (u64::from(length), rest),
        };
        let least = match second & LENGTH {
            LENGTH_16 => u64::from(LENGTH_16),
            LENGTH_64 => 1 << 16,
            _ => 0,
        };
        if length < least || length >> 63 != 0 {
            return Err(FrameError::BadLength);
        }
        let limit = self.payload_bytes_max.max(CONTROL_BYTES_MAX);
        let rest_bytes = usize::try_from(length).ok().filter(|length| *length <= limit);
        let Some(rest_bytes) = rest_bytes else {
            return Err(FrameError::TooLong { length, limit });
        };
        let &[a, b, c, d] = rest else { return Ok(None) };
        if !is_control {
            self.fragmented = !last;
        }
        let mask = [a, b, c, d];
        Ok(Some(Frame { opcode, mask, rest: rest_bytes, payload: Vec::new() }))
    }
}

impl Frame {
    fn take(&mut self, bytes: &[u8]) {
        self.rest -= bytes.len();
        if matches!(self.opcode, CLOSE | PING) {
            let at = self.payload.len();
            let mask = self.mask.iter().cycle().skip(at % self.mask.len());
            self.payload.extend(bytes.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        }
    }

    fn end(self) -> Result<ClientFrame, FrameError> {
        Ok(match (self.opcode, self.payload.as_slice()) {
            (PING, _) => ClientFrame::Ping(self.payload),
            (CLOSE, []) => ClientFrame::Close(None),
            (CLOSE, [_]) => return Err(FrameError::BadClose),
            (CLOSE, &[a, b, ..]) => ClientFrame::Close(Some(u16::from_be_bytes([a, b]))),
            _ => ClientFrame::Other,
        })
    }
}

/// Parts of a frame's first two bytes.
const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0F;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;

/// Lengths that say: the real one follows in 2 or in 8 bytes.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[cfg(test)]
mod tests;
