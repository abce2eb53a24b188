use relay::wire::media::{Role, classify_audio, classify_video};

use super::*;

const TRUTH: Truth = Truth {
    host: 0xffff_fffe,
    run: 0,
    stream: 77,
    sequence: 0x0102_0304_0506_0708,
    sent_ns: u64::MAX,
    timestamp: 3_000_000_000,
    digest: 1,
};

const CODECS: [VideoCodec; 3] = [VideoCodec::H264, VideoCodec::Hevc, VideoCodec::Av1];

fn frames(size: usize) -> Vec<(Vec<u8>, u64, Role)> {
    let filler = Filler::new(1);
    let mut frames = Vec::new();
    for codec in CODECS {
        for (key, role) in [(true, Role::KeyFrame), (false, Role::InterFrame)] {
            let mut out = vec![9; 3];
            let hash = video_frame(&mut out, codec, key, size, &TRUTH, &filler);
            assert_eq!(classify_video(&out).unwrap().role, role, "{codec:?}");
            frames.push((out, hash, role));
        }
        let header = video_header(codec);
        assert_eq!(classify_video(&header).unwrap().role, Role::VideoHeader, "{codec:?}");
    }
    let mut out = Vec::new();
    let hash = audio_frame(&mut out, size, &TRUTH, &filler);
    assert_eq!(classify_audio(&out).unwrap().role, Role::AudioFrame);
    assert_eq!(classify_audio(&audio_header()).unwrap().role, Role::AudioHeader);
    frames.push((out, hash, Role::AudioFrame));
    frames
}

#[test]
fn frames_carry_their_truth_at_every_size() {
    for size in [0, 1, 70, 160, 161, 420, 5_000, 70_000, 200_000] {
        for (frame, expected, role) in frames(size) {
            let reading = read(frame.chunks(60_000));
            let expected = Reading::Present { truth: TRUTH, intact: true, hash: expected };
            assert_eq!(reading, expected, "{role:?} of {size}");
            if size >= 200 {
                assert!(frame.len().abs_diff(size) <= 4, "{role:?} of {size}: {}", frame.len());
            }
        }
    }
}

#[test]
fn a_change_of_any_byte_is_seen() {
    for (frame, _, role) in frames(300) {
        for place in 0..frame.len() {
            let mut changed = frame.clone();
            changed[place] ^= 0x10;
            match read([&changed[..]].into_iter()) {
                Reading::Absent | Reading::Present { intact: false, .. } => {}
                Reading::Present { .. } => panic!("{role:?}: byte {place} changed unseen"),
            }
        }
        let (short, _) = frame.split_at(frame.len() - 1);
        assert!(!matches!(read([short].into_iter()), Reading::Present { intact: true, .. }));
    }
}

#[test]
fn nothing_that_a_decoder_would_take_for_a_start_code() {
    for (frame, _, role) in frames(4_000) {
        // Behind the media header and the first length.
        let body = &frame[9..];
        assert!(!body.windows(3).any(|three| three == [0, 0, 1]), "{role:?}");
    }
}

#[test]
fn what_has_no_record_is_said_to_have_none() {
    let check = |payload: &[u8]| assert_eq!(read(payload.chunks(7)), Reading::Absent);
    check(&[]);
    check(&[0x17, 1, 0, 0, 0, 1, 2, 3]);
    check(b"loadgen1");
    check(&[7; 500]);
    let mut late = vec![7; 200];
    TRUTH.append(&mut late);
    assert_eq!(read([&late[..]].into_iter()), Reading::Absent);
}
