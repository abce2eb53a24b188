//! Buffers for records on their way to a socket, used again and again.
//!
//! A batch is encrypted into one contiguous buffer, which the reactor holds until it is sent. A
//! fresh buffer would have to be cleared first, which costs a tenth of encrypting into it; so those
//! that come back are kept, a few per worker. There is no lock: a buffer may come back from
//! wherever its last handle is dropped.

use std::sync::Arc;

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;

/// Bytes of the buffers that are kept. A batch of the largest size and its records' overhead fit
/// the long ones.
const SHORT: usize = 17 << 10;
const LONG: usize = 64 << 10;

/// How many of each are kept.
const KEPT: usize = 32;

/// The buffers of one worker.
#[derive(Clone, Debug)]
pub struct SealBuffers {
    short: Arc<ArrayQueue<Vec<u8>>>,
    long: Arc<ArrayQueue<Vec<u8>>>,
}

/// A buffer in use.
#[derive(Debug)]
pub(super) struct SealBuffer {
    bytes: Vec<u8>,
    filled: usize,
    home: Option<Arc<ArrayQueue<Vec<u8>>>>,
}

impl Default for SealBuffers {
    fn default() -> Self {
        let [short, long] = [(); 2].map(|()| Arc::new(ArrayQueue::new(KEPT)));
        Self { short, long }
    }
}

impl SealBuffers {
    /// A buffer with room for so many bytes, which hold anything.
    pub(super) fn take(&self, room: usize) -> SealBuffer {
        let (home, size) = match room {
            ..=SHORT => (Some(&self.short), SHORT),
            _ if room <= LONG => (Some(&self.long), LONG),
            _ => (None, room),
        };
        let kept = home.and_then(|home| home.pop());
        let bytes = kept.unwrap_or_else(|| vec![0; size]);
        SealBuffer { bytes, filled: 0, home: home.cloned() }
    }

    /// Bytes of the buffers that wait to be used again.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.short.len() * SHORT + self.long.len() * LONG
    }
}

impl SealBuffer {
    /// The room that is left.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// So many bytes of the room were written.
    pub(super) fn fill(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    /// Bytes written so far.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// Puts bytes, usually none, where others begin; the room has to be large enough.
    pub(super) fn insert(&mut self, at: usize, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes.copy_within(at..self.filled, at + bytes.len());
            self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
            self.filled += bytes.len();
        }
    }

    /// What was written, without a copy. The buffer goes home when the last handle is dropped.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for SealBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for SealBuffer {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            // One too many is freed.
            let _ = home.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_handle_is_dropped() {
        let buffers = SealBuffers::default();
        let both = SHORT + LONG;
        for (room, kept) in [(1, SHORT), (SHORT, SHORT), (SHORT + 1, both), (LONG + 1, both)] {
            let before = buffers.held_bytes();
            let mut buffer = buffers.take(room);
            assert!(buffer.room().len() >= room);
            buffer.room()[0] = 7;
            buffer.fill(1);
            let bytes = buffer.freeze();
            let other = bytes.clone();
            assert_eq!(&other[..], [7]);
            drop(bytes);
            assert!(buffers.held_bytes() <= before, "a handle is left");
            drop(other);
            assert_eq!(buffers.held_bytes(), kept, "{room}");
        }
        let many: Vec<_> = (0..KEPT + 5).map(|_| buffers.take(1).freeze()).collect();
        drop(many);
        assert_eq!(buffers.held_bytes(), KEPT * SHORT + LONG, "no more are kept");
    }
}
