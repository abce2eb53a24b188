//! What a publisher of loadgen sends, as wire bytes, without a publisher: to try the rule by which
//! bytes become sendable.

use std::sync::Arc;
use std::time::Duration;

use loadgen::payload::Filler;
use loadgen::profile::Profile;
use loadgen::source::{Source, Synthetic};
use relay::wire::media::{classify_audio, classify_video};
use relay::wire::message::{MediaKind, MediaMessage};
use relay::wire::timestamp::Timestamp;

/// An endless synthetic stream.
pub(super) struct Frames {
    source: Source,
    payload: Vec<u8>,
    message: MediaMessage,
    /// Metadata and sequence headers are still to come.
    headers: bool,
}

impl Frames {
    /// The same stream as a publisher of loadgen sends.
    pub(super) fn new(profile: &Arc<Profile>) -> Self {
        let filler = Arc::new(Filler::new(SEED));
        let source = Synthetic::new(Arc::clone(profile), filler, 0, 1);
        Self {
            source: Source::Synthetic(source),
            payload: Vec::new(),
            message: MediaMessage::empty(),
            headers: true,
        }
    }

    /// When the next frame is due; `started` is when the stream began.
    pub(super) fn next_due(&self, started: Duration) -> Duration {
        started + self.source.next_due()
    }

    /// Every message that is due at `now`, in order.
    pub(super) fn due(
        &mut self,
        now: Duration,
        started: Duration,
        mut each: impl FnMut(&mut MediaMessage),
    ) {
        if std::mem::take(&mut self.headers) {
            for (kind, payload) in self.source.headers() {
                if put(&mut self.message, kind, Timestamp(0), &payload) {
                    each(&mut self.message);
                }
            }
        }
        while self.next_due(started) <= now {
            let frame = self.source.next(started, &mut self.payload);
            if put(&mut self.message, frame.kind, frame.timestamp, &self.payload) {
                each(&mut self.message);
            }
        }
    }
}

/// Makes a message of a payload; not of metadata, which no player here looks at.
fn put(out: &mut MediaMessage, kind: MediaKind, timestamp: Timestamp, payload: &[u8]) -> bool {
    let class = match kind {
        MediaKind::Audio => classify_audio(payload),
        MediaKind::Video => classify_video(payload),
        MediaKind::Data => None,
    };
    let Some(class) = class else { return false };
    out.replace(kind, class, timestamp, payload)
}

const SEED: u64 = 1;
