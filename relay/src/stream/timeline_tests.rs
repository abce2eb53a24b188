//! Time over several publishers.

use super::timeline::Timeline;
use crate::wire::media::Role;
use crate::wire::timestamp::Timestamp;

const KEY: Role = Role::KeyFrame;
const AUDIO: Role = Role::AudioFrame;
const HEADER: Role = Role::VideoHeader;

/// Runs publishers one after the other; each row is a role, the time sent and the time expected.
fn check(publishers: &[&[(Role, u32, u32)]]) {
    let mut timeline = Timeline::default();
    for (number, publisher) in publishers.iter().enumerate() {
        timeline.begin();
        for &(role, sent, expected) in *publisher {
            let placed = timeline.place(role, Timestamp(sent));
            assert_eq!(placed, Timestamp(expected), "publisher {number}: {role:?} at {sent}");
        }
    }
}

#[test]
fn the_first_publisher_passes_unchanged() {
    check(&[&[(HEADER, 0, 0), (KEY, 500, 500), (AUDIO, 490, 490), (HEADER, 0, 0), (KEY, 9, 9)]]);
    check(&[&[(KEY, u32::MAX, u32::MAX), (KEY, 3, 3)]]);
}

#[test]
fn a_later_publisher_continues() {
    // a frame of video is 40 ms long here, so the next one begins 40 ms behind the newest frame
    let first: &[_] = &[(KEY, 1_000, 1_000), (KEY, 1_040, 1_040), (AUDIO, 1_050, 1_050)];
    check(&[first, &[(HEADER, 0, 1_050), (KEY, 0, 1_090), (AUDIO, 7, 1_097), (KEY, 33, 1_123)]]);
    check(&[first, &[(AUDIO, 5_000_000, 1_090), (KEY, 5_000_010, 1_100)]]);
    // headers in the middle that carry no time are stamped with the newest
    check(&[first, &[(KEY, 70_000, 1_090), (KEY, 70_040, 1_130), (HEADER, 0, 1_130)]]);
    // interleaving jitter before the first frame does not go back behind the previous publisher
    check(&[first, &[(KEY, 100, 1_090), (AUDIO, 30, 1_050), (AUDIO, 75, 1_065)]]);
    // a long step back is the publisher's own affair
    check(&[first, &[(KEY, 90_000, 1_090), (KEY, 80_000, 1_090u32.wrapping_sub(10_000))]]);
    // nothing but headers leaves the next publisher where the first one was
    check(&[first, &[(HEADER, 0, 1_050)], &[(KEY, 0, 1_090)]]);
}

#[test]
fn the_step_between_publishers_is_one_frame() {
    let audio: &[_] = &[(AUDIO, 0, 0), (AUDIO, 23, 23)];
    check(&[audio, &[(AUDIO, 0, 46)]]);
    let one: &[_] = &[(KEY, 100, 100)];
    check(&[one, &[(KEY, 0, 120)]]);
    let slow: &[_] = &[(KEY, 0, 0), (KEY, 5_000, 5_000)];
    check(&[slow, &[(KEY, 0, 5_020)]]);
    let both: &[_] = &[(KEY, 0, 0), (KEY, 33, 33), (AUDIO, 0, 0), (AUDIO, 23, 23)];
    check(&[both, &[(KEY, 0, 66)]]);
}

#[test]
fn time_continues_over_the_wrap() {
    let first: &[_] = &[(KEY, u32::MAX - 30, u32::MAX - 30), (KEY, u32::MAX - 10, u32::MAX - 10)];
    check(&[first, &[(KEY, 0, 9), (AUDIO, 20, 29)], &[(KEY, 77, 49)]]);
}

#[test]
fn random_publishers_never_step_back_where_they_meet() {
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut timeline = Timeline::default();
        for _ in 0..10 {
            timeline.begin();
            let floor = timeline.newest();
            let mut time = random.u32(..);
            let mut offset = None;
            for _ in 0..random.usize(1..50) {
                time = time.wrapping_add(random.u32(0..60));
                let sent = Timestamp(time.wrapping_sub(random.u32(0..200)));
                let role = if random.bool() { KEY } else { AUDIO };
                let placed = timeline.place(role, sent);
                if let Some(floor) = floor {
                    assert!(placed.since(floor) >= 0, "seed {seed}: {placed:?} before {floor:?}");
                    let moved = placed.0.wrapping_sub(sent.0);
                    let fixed = *offset.get_or_insert(moved);
                    assert!(moved == fixed || placed == floor, "seed {seed}: two offsets");
                } else {
                    assert_eq!(placed, sent, "seed {seed}");
                }
            }
        }
    }
}

#[test]
fn a_link_on_the_streams_own_time_is_not_moved() {
    #[track_caller]
    fn check(shift: u32, first: u32, expected: u32) {
        let mut timeline = Timeline::default();
        timeline.begin();
        for at in [1_000, 1_040] {
            timeline.place(KEY, Timestamp(at));
        }
        timeline.begin();
        assert_eq!(timeline.shift(), 0, "a publisher's time is the stream's");
        timeline.trust(shift);
        assert_eq!(timeline.place(KEY, Timestamp(first)), Timestamp(expected), "{first}");
        assert_eq!(timeline.shift(), expected.wrapping_sub(first), "{first}");
        let next = timeline.place(KEY, Timestamp(first + 40));
        assert_eq!(next, Timestamp(expected + 40), "behind {first}");
    }
    check(0, 1_080, 1_080);
    check(0, 9_000, 9_000);
    // Of another time: it goes on behind what was.
    check(0, 0, 1_080);
    check(0, 500_000, 1_080);
    // It was moved before, and still is, or no longer can be.
    check(5_000, 100, 5_100);
    check(u32::MAX - 999, 2_100, 1_100);
    check(5_000, 50_000, 1_080);
}
