//! How much a synthetic stream is: rates and sizes, and the times at which its frames are due.
//!
//! Frames are due by their number, never by when the last one went out, so that lateness shows as
//! latency and is not forgiven.

use std::time::Duration;

use crate::payload::VideoCodec;
use crate::units::whole;

/// A synthetic stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The codec whose shape the video has.
    pub codec: VideoCodec,
    /// Bits per second of audio and video together.
    pub bits_per_second: u64,
    /// Video frames per second.
    pub frames_per_second: f64,
    /// From key frame to key frame.
    pub gop: Duration,
    /// Bits per second of audio; 0 for none.
    pub audio_bits_per_second: u64,
}

/// A key frame is so many times as large as another.
const KEY_FRAME_FACTOR: f64 = 8.0;

/// Samples of an AAC frame and per second.
const AUDIO_FRAME_SAMPLES: u64 = 1_024;
const AUDIO_SAMPLES_PER_SECOND: u64 = 44_100;

impl Profile {
    /// Frames from one key frame to the next, at least 1.
    #[must_use]
    pub fn gop_frames(&self) -> u64 {
        whole((self.gop.as_secs_f64() * self.frames_per_second).round()).max(1)
    }

    /// Bits per second left for video.
    #[must_use]
    pub fn video_bits_per_second(&self) -> u64 {
        self.bits_per_second.saturating_sub(self.audio_bits_per_second)
    }

    /// Bytes of a video frame.
    #[must_use]
    pub fn video_bytes(&self, key: bool) -> usize {
        let frames = self.gop_frames() as f64;
        let seconds = frames / self.frames_per_second;
        let bytes = self.video_bits_per_second() as f64 / 8.0 * seconds;
        let inter = bytes / (frames - 1.0 + KEY_FRAME_FACTOR);
        let size = if key { inter * KEY_FRAME_FACTOR } else { inter };
        usize::try_from(whole(size)).unwrap_or(usize::MAX).min(FRAME_BYTES_MAX)
    }

    /// Bytes of an audio frame.
    #[must_use]
    pub fn audio_bytes(&self) -> usize {
        let bytes = self.audio_bits_per_second / 8 * AUDIO_FRAME_SAMPLES / AUDIO_SAMPLES_PER_SECOND;
        usize::try_from(bytes).unwrap_or(usize::MAX).min(FRAME_BYTES_MAX)
    }

    /// When a video frame is due, from the start.
    #[must_use]
    pub fn video_due(&self, frame: u64) -> Duration {
        Duration::from_secs_f64(frame as f64 / self.frames_per_second)
    }

    /// When an audio frame is due, from the start; `None` without audio.
    #[must_use]
    pub fn audio_due(&self, frame: u64) -> Option<Duration> {
        let nanos = u128::from(frame) * u128::from(AUDIO_FRAME_SAMPLES) * 1_000_000_000
            / u128::from(AUDIO_SAMPLES_PER_SECOND);
        let due = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        (self.audio_bits_per_second > 0).then_some(due)
    }

    /// Messages per second, audio and video.
    #[must_use]
    pub fn messages_per_second(&self) -> f64 {
        let audio = AUDIO_SAMPLES_PER_SECOND as f64 / AUDIO_FRAME_SAMPLES as f64;
        self.frames_per_second + if self.audio_bits_per_second > 0 { audio } else { 0.0 }
    }
}

/// Far below the longest message, which relays take.
const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gop_has_the_rate_asked_for() {
        for (rate, fps, gop, audio) in
            [(2_500_000, 30.0, 2, 128_000), (500_000, 25.0, 1, 64_000), (8_000_000, 59.94, 4, 0)]
        {
            let profile = Profile {
                codec: VideoCodec::H264,
                bits_per_second: rate,
                frames_per_second: fps,
                gop: Duration::from_secs(gop),
                audio_bits_per_second: audio,
            };
            let frames = profile.gop_frames();
            let video = profile.video_bytes(true) as f64
                + (frames - 1) as f64 * profile.video_bytes(false) as f64;
            let seconds = profile.video_due(frames).as_secs_f64();
            let audio = profile
                .audio_due(1)
                .map_or(0.0, |due| profile.audio_bytes() as f64 / due.as_secs_f64());
            let measured = (video / seconds + audio) * 8.0;
            assert!((measured / rate as f64 - 1.0).abs() < 0.02, "{measured} of {rate}");
        }
    }
}
