//! What the bare sender sends: one contiguous run of wire bytes, and how far it may be sent.
//!
//! The rule by which bytes become sendable is the relay's, so that both send the same bytes in the
//! same batches; nothing else here is. No segments, no reference counts, no index: a player is a
//! number of bytes into this run.

use std::time::Duration;

use bytes::BytesMut;
use relay::wire::media::Role;
use relay::wire::message::MediaMessage;

/// The stream's bytes. Positions count from the beginning of the stream.
#[derive(Debug)]
pub(super) struct Log {
    bytes: BytesMut,
    /// Position of the first byte held.
    first: u64,
    /// Position up to which bytes may be sent.
    sealed: u64,
    /// When the first message behind that came.
    pending_since: Option<Duration>,
    /// Age at which small messages are sent.
    age: Duration,
    newest_key: Option<u64>,
    /// Sequence headers in wire bytes, for whoever joins.
    headers: BytesMut,
}

/// Bytes held for players that join or lag.
const HELD_BYTES: usize = 16 * 1024 * 1024;

/// `segment_bytes` of the relay: small messages gather up to here, and a message of this length
/// waits for nobody.
const WINDOW_BYTES: u64 = 16 * 1024;

/// `batch_bytes_max` of the relay: most bytes of one send.
pub(super) const SEND_BYTES_MAX: usize = 61_440;

impl Log {
    /// An empty stream whose small messages are sent at this age.
    pub(super) fn new(age: Duration) -> Self {
        Self {
            bytes: BytesMut::new(),
            first: 0,
            sealed: 0,
            pending_since: None,
            age,
            newest_key: None,
            headers: BytesMut::new(),
        }
    }

    /// Takes a message that came at `now`.
    pub(super) fn append(&mut self, message: &mut MediaMessage, now: Duration) {
        let role = message.class().role;
        let before = self.bytes.len();
        let large = wide(message.wire_bytes()) >= WINDOW_BYTES;
        if large || role == Role::KeyFrame {
            self.seal();
        }
        let position = self.end();
        if role == Role::KeyFrame {
            self.newest_key = Some(position);
        }
        message.append_to(&mut self.bytes);
        if matches!(role, Role::AudioHeader | Role::VideoHeader) {
            self.headers.extend_from_slice(&self.bytes[before..]);
        }
        self.pending_since.get_or_insert(now);
        if large || self.end() - self.sealed >= WINDOW_BYTES {
            self.seal();
        }
    }

    /// When [`Self::flush`] has something to do.
    pub(super) fn due(&self) -> Option<Duration> {
        self.pending_since.map(|since| since + self.age)
    }

    /// Lets go what is old enough.
    pub(super) fn flush(&mut self, now: Duration) {
        if self.due().is_some_and(|due| due <= now) {
            self.seal();
        }
        if self.bytes.len() > 2 * HELD_BYTES {
            let gone = self.bytes.len() - HELD_BYTES;
            self.first += wide(gone);
            // Copies what stays, which a plain advance would never give back: twice a minute.
            self.bytes = BytesMut::from(&self.bytes[gone..]);
        }
    }

    /// Position up to which bytes may be sent.
    pub(super) fn head(&self) -> u64 {
        self.sealed
    }

    /// Where a player starts: at the newest key frame; `None` before the first one.
    pub(super) fn start(&self) -> Option<u64> {
        self.newest_key.filter(|key| *key < self.sealed)
    }

    /// What a player is sent before its first key frame.
    pub(super) fn headers(&self) -> &[u8] {
        &self.headers
    }

    /// The bytes that may be sent from a position on, as many as one send takes; `None` when they
    /// are no longer held.
    pub(super) fn sendable(&self, position: u64) -> Option<&[u8]> {
        let from = usize::try_from(position.checked_sub(self.first)?).ok()?;
        let to = usize::try_from(self.sealed - self.first).ok()?;
        self.bytes.get(from..to.min(from + SEND_BYTES_MAX))
    }

    fn end(&self) -> u64 {
        self.first + wide(self.bytes.len())
    }

    fn seal(&mut self) {
        self.sealed = self.end();
        self.pending_since = None;
    }
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a length fits 64 bits")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use relay::limits::Limits;
    use relay::stream::Hub;
    use relay::wire::media::{classify_audio, classify_video};
    use relay::wire::message::MediaKind;
    use relay::wire::timestamp::Timestamp;

    use super::super::frames::Frames;
    use super::*;
    use crate::load::Stream;

    fn video(key: bool, bytes: usize) -> MediaMessage {
        let mut payload = vec![7; bytes];
        payload[..5].copy_from_slice(&[if key { 0x17 } else { 0x27 }, 1, 0, 0, 0]);
        let class = classify_video(&payload).unwrap();
        MediaMessage::new(MediaKind::Video, class, Timestamp(0), &payload)
    }

    fn audio(bytes: usize) -> MediaMessage {
        let mut payload = vec![8; bytes];
        payload[..2].copy_from_slice(&[0xaf, 1]);
        let class = classify_audio(&payload).unwrap();
        MediaMessage::new(MediaKind::Audio, class, Timestamp(0), &payload)
    }

    /// The streams that are measured: how much may be sent when.
    #[test]
    fn bytes_become_sendable_when_the_relay_would_send_them() {
        for (rate, age) in [(2_500_000, 0), (2_500_000, 20), (500_000, 50), (8_000_000, 50)] {
            let age = Duration::from_millis(age);
            let mut hub = Hub::new(std::sync::Arc::new(Limits::default()));
            let stream = hub.create();
            hub.begin_publish(stream);
            hub.set_flush_age(stream, age);
            let mut log = Log::new(age);
            let profile = Stream { bits_per_second: rate }.profile();
            let mut frames = [Frames::new(&profile), Frames::new(&profile)];
            let mut sealed = 0;
            for at in (0..12_000).map(Duration::from_millis) {
                frames[0].due(at, Duration::ZERO, |message| log.append(message, at));
                frames[1].due(at, Duration::ZERO, |message| {
                    hub.append(stream, message, at);
                });
                hub.flush(at, &mut Vec::new());
                log.flush(at);
                sealed += hub.take_sealed(stream).map(|segment| segment.bytes.len()).sum::<usize>();
                // The relay learns in the first seconds how long segments are.
                if at > Duration::from_secs(4) {
                    assert_eq!(log.head(), wide(sealed), "{rate} bit/s, {age:?}, at {at:?}");
                }
            }
            assert!(wide(sealed) > rate / 8 * 11, "{rate} bit/s");
        }
    }

    #[test]
    fn what_is_sent_is_what_was_appended() {
        let mut log = Log::new(Duration::ZERO);
        let mut expected = BytesMut::new();
        assert_eq!(log.start(), None);
        log.append(&mut audio(100), Duration::ZERO);
        log.append(&mut video(true, 100_000), Duration::ZERO);
        audio(100).append_to(&mut expected);
        assert_eq!(log.start(), Some(wide(expected.len())));
        video(true, 100_000).append_to(&mut expected);
        let mut position = 0;
        let mut sent = Vec::new();
        while position < log.head() {
            let bytes = log.sendable(position).unwrap();
            assert!(!bytes.is_empty() && bytes.len() <= SEND_BYTES_MAX);
            sent.extend_from_slice(bytes);
            position += wide(bytes.len());
        }
        assert_eq!(sent, expected);
    }

    #[test]
    fn old_bytes_go() {
        let mut log = Log::new(Duration::ZERO);
        while log.sendable(0).is_some() {
            log.append(&mut video(true, 1_000_000), Duration::ZERO);
            log.flush(Duration::ZERO);
            assert!(log.bytes.len() <= 2 * HELD_BYTES + 2_000_000);
        }
        assert!(log.sendable(log.start().unwrap()).is_some());
    }
}
