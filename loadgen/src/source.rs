//! What a publisher sends, message by message, each with the time at which it is due.
//!
//! A source knows no connection and reads no clock; it is asked what is due and writes it.

use std::sync::Arc;
use std::time::Duration;

use relay::wire::message::MediaKind;
use relay::wire::timestamp::Timestamp;

use crate::flv::FileStream;
use crate::payload::{self, Filler, Truth};
use crate::profile::Profile;
use crate::units::{low_bits, millis, nanos};

/// An endless stream.
#[derive(Debug)]
pub enum Source {
    /// Made here, with the truth inside.
    Synthetic(Synthetic),
    /// A file over and over, its time going on from round to round.
    File(FileLoop),
}

/// One message, its payload elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Audio, video or data.
    pub kind: MediaKind,
    /// The time to publish it with.
    pub timestamp: Timestamp,
    /// A synthetic key frame: the place to go on from after a change of connection.
    pub key: bool,
}

impl Source {
    /// Metadata and sequence headers, in order.
    #[must_use]
    pub fn headers(&self) -> Vec<(MediaKind, Vec<u8>)> {
        match self {
            Self::Synthetic(source) => {
                let profile = &source.profile;
                let (audio, video) =
                    (profile.audio_bits_per_second, profile.video_bits_per_second());
                let fps = profile.frames_per_second;
                let metadata = payload::metadata(profile.codec, fps, video, audio);
                let mut headers = vec![(MediaKind::Data, metadata)];
                if audio > 0 {
                    headers.push((MediaKind::Audio, payload::audio_header()));
                }
                headers.push((MediaKind::Video, payload::video_header(profile.codec)));
                headers
            }
            // The file's own come with its messages.
            Self::File(_) => Vec::new(),
        }
    }

    /// When the next message is due, from the start of the source.
    #[must_use]
    pub fn next_due(&self) -> Duration {
        match self {
            Self::Synthetic(source) => source.next_due().0,
            Self::File(source) => source.next_due(),
        }
    }

    /// Writes the next message's payload into `out`. `start` is when the source started.
    pub fn next(&mut self, start: Duration, out: &mut Vec<u8>) -> Message {
        match self {
            Self::Synthetic(source) => source.next(start, out),
            Self::File(source) => source.next(start, out),
        }
    }
}

/// A synthetic stream.
#[derive(Debug)]
pub struct Synthetic {
    profile: Arc<Profile>,
    filler: Arc<Filler>,
    host: u32,
    run: u32,
    stream: u32,
    video_frames: u64,
    audio_frames: u64,
    sequence: u64,
    /// The sum of the hashes since the last key frame.
    digest: u64,
}

impl Synthetic {
    /// The stream of number `stream`; `run` is another number for each session of its publisher.
    #[must_use]
    pub fn new(profile: Arc<Profile>, filler: Arc<Filler>, stream: u32, run: u32) -> Self {
        Self {
            profile,
            filler,
            host: crate::clock::host_tag(),
            run,
            stream,
            video_frames: 0,
            audio_frames: 0,
            sequence: 0,
            digest: 0,
        }
    }

    /// When the next message is due, and whether it is video.
    fn next_due(&self) -> (Duration, bool) {
        let video = self.profile.video_due(self.video_frames);
        match self.profile.audio_due(self.audio_frames) {
            Some(audio) if audio < video => (audio, false),
            _ => (video, true),
        }
    }

    fn next(&mut self, start: Duration, out: &mut Vec<u8>) -> Message {
        let (due, is_video) = self.next_due();
        let timestamp = low_bits(millis(due));
        let key = is_video && self.video_frames.is_multiple_of(self.profile.gop_frames());
        let truth = Truth {
            host: self.host,
            run: self.run,
            stream: self.stream,
            sequence: self.sequence,
            sent_ns: nanos(start + due),
            timestamp,
            digest: if key { std::mem::take(&mut self.digest) } else { 0 },
        };
        let hash = if is_video {
            self.video_frames += 1;
            let size = self.profile.video_bytes(key);
            payload::video_frame(out, self.profile.codec, key, size, &truth, &self.filler)
        } else {
            self.audio_frames += 1;
            payload::audio_frame(out, self.profile.audio_bytes(), &truth, &self.filler)
        };
        self.digest = self.digest.wrapping_add(hash);
        self.sequence += 1;
        let kind = if is_video { MediaKind::Video } else { MediaKind::Audio };
        Message { kind, timestamp: Timestamp(timestamp), key }
    }
}

/// A file in a loop.
#[derive(Debug)]
pub struct FileLoop {
    stream: Arc<FileStream>,
    next: usize,
    round: u64,
}

impl FileLoop {
    /// From the start of the file.
    #[must_use]
    pub fn new(stream: Arc<FileStream>) -> Self {
        Self { stream, next: 0, round: 0 }
    }

    /// The time since the first coded message of the first round, which metadata and headers share.
    fn milliseconds(&self) -> u64 {
        let file = &self.stream.file;
        let own = file.messages[self.next].time_ms.saturating_sub(file.first_ms);
        u64::from(own) + self.round * u64::from(file.round_ms)
    }

    fn next_due(&self) -> Duration {
        Duration::from_millis(self.milliseconds())
    }

    fn next(&mut self, start: Duration, out: &mut Vec<u8>) -> Message {
        if self.next == 0 && self.round == 0 {
            self.stream.begin(start);
        }
        let timestamp = low_bits(self.milliseconds());
        let message = &self.stream.file.messages[self.next];
        out.clear();
        out.extend_from_slice(&message.payload);
        self.next += 1;
        if self.next == self.stream.file.messages.len() {
            self.next = 0;
            self.round += 1;
        }
        Message { kind: message.kind, timestamp: Timestamp(timestamp), key: false }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::flv::FlvFile;

    /// Three frames 40 ms apart behind a sequence header, the file's time beginning at 5 s.
    const FILE: &[u8] = b"FLV\x01\x01\0\0\0\x09\0\0\0\0\
        \x09\0\0\x06\0\x13\x88\0\0\0\0\x17\0\0\0\0h\0\0\0\0\
        \x09\0\0\x06\0\x13\x88\0\0\0\0\x17\x01\0\0\0a\0\0\0\0\
        \x09\0\0\x06\0\x13\xb0\0\0\0\0\x27\x01\0\0\0b\0\0\0\0\
        \x09\0\0\x06\0\x13\xd8\0\0\0\0\x27\x01\0\0\0c\0\0\0\0";

    #[test]
    fn time_goes_on_from_round_to_round() {
        let scratch = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(scratch.path(), FILE).unwrap();
        let file = Arc::new(FlvFile::read(scratch.path()).unwrap());
        let stream = Arc::new(FileStream::new(Arc::clone(&file)));
        let mut source = Source::File(FileLoop::new(Arc::clone(&stream)));
        let mut payload = Vec::new();
        let mut coded = 0;
        for _ in 0..40 {
            let due = source.next_due();
            let message = source.next(Duration::from_secs(9), &mut payload);
            assert_eq!(due.as_millis(), u128::from(message.timestamp.0));
            if payload[1] == 1 {
                // From the last frame of a round to the first of the next as from any to the next.
                let expected = 40 * coded;
                assert_eq!(u64::from(message.timestamp.0), expected, "frame {coded}");
                assert_eq!(file.due_ms(coded), expected);
                coded += 1;
            }
        }
        assert_eq!((coded, file.round_ms), (30, 120));
        assert_eq!(stream.began(), Some(Duration::from_secs(9)));
    }
}
