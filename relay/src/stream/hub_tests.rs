//! The hub: flushing, mailing, publishers that follow one another, limits over all streams.

use std::sync::Arc;

use super::cursor::{Join, Next};
use super::home::Dropped;
use super::hub::{Hub, StreamKey};
use super::segment::Segment;
use super::testing::{Player, Rig, message, ms, to_head};
use super::view::ViewKind;
use crate::limits::Limits;
use crate::wire::media::Codec;
use crate::wire::media::Role::{
    self, AudioFrame, AudioHeader, InterFrame, KeyFrame, Metadata, VideoHeader, VideoOpaque,
};

fn flush(rig: &mut Rig) -> Vec<StreamKey> {
    let mut ready = Vec::new();
    rig.hub.flush(rig.now, &mut ready);
    ready
}

fn segments(rig: &Rig) -> Vec<Segment> {
    rig.hub.log(rig.key).unwrap().from(0).cloned().collect()
}

#[test]
fn a_pending_segment_is_sealed_at_the_flush_age() {
    let mut rig = Rig::new(Limits::default());
    assert_eq!(rig.hub.next_flush(), None);
    rig.send(AudioFrame, 100);
    let due = rig.now + ms(20);
    assert_eq!(rig.hub.next_flush(), Some(due));
    rig.pass(19);
    rig.send(AudioFrame, 100);
    assert_eq!((flush(&mut rig), rig.hub.next_flush()), (vec![], Some(due)));
    rig.pass(1);
    assert_eq!(flush(&mut rig), [rig.key]);
    assert_eq!((flush(&mut rig), rig.hub.next_flush()), (vec![], None));
    assert_eq!(segments(&rig)[0].messages, 2);
}

#[test]
fn a_key_frame_that_starts_another_pending_segment_starts_its_age() {
    let mut rig = Rig::new(Limits::default());
    rig.send(AudioFrame, 100);
    rig.pass(15);
    rig.send(KeyFrame, 100);
    assert_eq!((flush(&mut rig), segments(&rig).len()), (vec![rig.key], 1));
    assert_eq!(rig.hub.next_flush(), Some(rig.now + ms(20)));
    rig.pass(20);
    assert_eq!((flush(&mut rig), segments(&rig).len()), (vec![rig.key], 2));
}

#[test]
fn a_small_segment_does_not_make_later_ones_small() {
    let mut rig = Rig::new(Limits::default());
    rig.hub.set_flush_age(rig.key, ms(50));
    // headers alone, sealed by the key frame
    rig.send(VideoHeader, 50);
    rig.send(KeyFrame, 20_000);
    for _ in 0..60 {
        flush(&mut rig);
        rig.send(InterFrame, 3_000);
        rig.pass(20);
    }
    let counts: Vec<u32> = segments(&rig).iter().map(|segment| segment.messages).collect();
    assert!(counts.iter().skip(8).all(|messages| *messages == 3), "{counts:?}");
}

#[test]
fn the_flush_age_of_a_stream_can_be_changed_at_any_time() {
    let mut rig = Rig::new(Limits::default());
    rig.send(AudioFrame, 100);
    rig.hub.set_flush_age(rig.key, ms(5));
    assert_eq!(rig.hub.next_flush(), Some(rig.now + ms(5)));
    rig.pass(5);
    assert_eq!(flush(&mut rig), [rig.key]);
    rig.hub.set_flush_age(rig.key, ms(50));
    rig.send(AudioFrame, 100);
    assert_eq!(rig.hub.next_flush(), Some(rig.now + ms(50)));
    rig.hub.set_flush_age(rig.key, ms(0));
    assert_eq!(flush(&mut rig), [rig.key]);
    rig.send(AudioFrame, 100);
    rig.send(AudioFrame, 100);
    assert_eq!(rig.hub.next_flush(), Some(rig.now), "an age of zero waits for the next flush");
    assert_eq!(flush(&mut rig), [rig.key]);
    let messages: Vec<_> = segments(&rig).iter().map(|segment| segment.messages).collect();
    assert_eq!(messages, [1, 1, 2], "what arrived together leaves together");
}

#[test]
fn sizes_and_key_frames_cut_segments() {
    // roles with sizes, and how many messages each segment holds; what is pending is sealed at the
    // end
    let check = |sent: &[(Role, usize)], expected: &[u32]| {
        let mut rig = Rig::new(Limits::default());
        for &(role, bytes) in sent {
            rig.send(role, bytes);
        }
        rig.hub.seal(rig.key);
        let segments = segments(&rig);
        let messages: Vec<u32> = segments.iter().map(|segment| segment.messages).collect();
        assert_eq!(messages, expected, "{sent:?}");
        let mut seq = 0;
        for (number, segment) in segments.iter().enumerate() {
            assert_eq!(segment.number, u64::try_from(number).unwrap());
            assert_eq!(segment.first_seq, seq);
            assert_eq!(segment.index.last().unwrap().end(), segment.bytes.len());
            assert_eq!(segment.key, segment.index[0].role == KeyFrame);
            assert!(segment.index.iter().skip(1).all(|entry| entry.role != KeyFrame));
            seq = segment.end_seq();
        }
    };
    check(&[(InterFrame, 5_000), (AudioFrame, 100), (InterFrame, 5_000)], &[3]);
    check(&[(InterFrame, 8_180), (InterFrame, 8_180), (AudioFrame, 9)], &[2, 1]);
    check(&[(InterFrame, 8_179), (InterFrame, 8_180), (AudioFrame, 9)], &[3]);
    check(&[(AudioFrame, 100), (KeyFrame, 100), (InterFrame, 100), (KeyFrame, 100)], &[1, 2, 1]);
    check(&[(AudioFrame, 100), (InterFrame, 16_372), (AudioFrame, 100)], &[1, 1, 1]);
    check(&[(AudioFrame, 100), (InterFrame, 16_371), (AudioFrame, 100)], &[2, 1]);
    check(&[(KeyFrame, 90_000), (KeyFrame, 90_000)], &[1, 1]);
}

#[test]
fn large_messages_are_not_copied() {
    let mut rig = Rig::new(Limits::default());
    let mut large = message(KeyFrame, 1, 0, 90_000);
    let at = large.payload_head().as_ptr();
    rig.hub.append(rig.key, &mut large, rig.now);
    assert_eq!(rig.hub.copied_bytes(), 0);
    assert_eq!(segments(&rig)[0].bytes[12..].as_ptr(), at);
    rig.hub.append(rig.key, &mut message(InterFrame, 2, 0, 1_000), rig.now);
    assert_eq!(rig.hub.copied_bytes(), 1_012);
}

#[test]
fn segments_share_no_allocation_and_waste_less_than_half() {
    let mut rig = Rig::new(Limits::default());
    for bytes in [9_000, 300, 10_000, 300, 300, 300, 9_000] {
        rig.seal(InterFrame, bytes);
    }
    let bytes: Vec<_> = segments(&rig).into_iter().map(|segment| segment.bytes).collect();
    drop(rig);
    for bytes in bytes {
        let length = bytes.len();
        let owned = bytes.try_into_mut().expect("nothing else counts on it");
        assert!(owned.capacity() <= 2 * length, "{} for {length}", owned.capacity());
    }
}

#[test]
fn sealed_segments_are_given_out_for_mailing_once() {
    let mut rig = Rig::new(Limits::default());
    let taken = |rig: &mut Rig| -> Vec<u64> {
        rig.hub.take_sealed(rig.key).map(|segment| segment.number).collect()
    };
    assert!(taken(&mut rig).is_empty());
    rig.run(InterFrame, 60, 20);
    assert_eq!(taken(&mut rig), [0, 1, 2]);
    assert!(taken(&mut rig).is_empty());
    rig.send(InterFrame, 100);
    assert!(taken(&mut rig).is_empty());
    rig.seal(KeyFrame, 100);
    assert_eq!(taken(&mut rig), [3, 4]);
}

#[test]
fn a_mailed_stream_is_the_same_stream() {
    let mut home = Rig::new(Limits::default());
    home.send(VideoHeader, 50);
    home.run(InterFrame, 100, 20);
    let key = home.seal(KeyFrame, 30_000);
    home.send(AudioFrame, 50);

    let mut hub = Hub::new(Arc::new(Limits::default()));
    let remote = hub.create();
    let snapshot = home.hub.snapshot(home.key);
    assert_eq!(snapshot.len(), 2, "from the newest key frame, what was pending included");
    for segment in &snapshot {
        assert!(hub.receive(remote, segment));
        assert!(!hub.receive(remote, segment), "twice is once");
    }
    // what was sealed before the snapshot may come by mail too
    let mailed: Vec<Segment> = home.hub.take_sealed(home.key).cloned().collect();
    assert!(mailed.iter().all(|segment| !hub.receive(remote, segment)));

    let mut cursor = hub.open(remote, Join::Gop, ViewKind::default(), home.now).unwrap();
    let mut player = Player::new();
    to_head(&mut hub, remote, &mut cursor, home.now, &mut player);
    assert_eq!(player.ids(), [1, key, key + 1]);
    let mut ready = Vec::new();
    hub.flush(home.now, &mut ready);
    assert_eq!(ready, [remote]);
    assert_eq!(hub.held_bytes().home, 0);
    assert!(hub.held_bytes().remote > 30_000);
    let here = hub.log(remote).unwrap().newest().unwrap();
    let there = home.hub.log(home.key).unwrap().newest().unwrap();
    assert_eq!(here.bytes.as_ptr(), there.bytes.as_ptr(), "the bytes are shared, not copied");
}

#[test]
fn the_next_publisher_continues_the_stream() {
    let mut rig = Rig::new(Limits::default());
    let ids = [Metadata, AudioHeader, VideoHeader].map(|role| rig.send(role, 50));
    rig.send(KeyFrame, 100);
    rig.run(InterFrame, 1_000, 40);
    let (mut cursor, mut player) = rig.open(Join::Gop, ViewKind::default());
    rig.drain(&mut cursor, &mut player);
    assert_eq!(player.seen.len(), 3 + 1 + 25);
    let last = player.seen.back().unwrap().timestamp;
    player.seen.clear();

    rig.hub.end_publish(rig.key);
    let mut late = message(InterFrame, 99, 0, 50);
    let appended = rig.hub.append(rig.key, &mut late, rig.now);
    assert_eq!(appended.dropped, Some(Dropped::NoPublisher));
    rig.pass(5_000);
    rig.hub.begin_publish(rig.key);
    let mut send = |role, id, timestamp| {
        rig.hub.append(rig.key, &mut message(role, id, timestamp, 50), rig.now).dropped
    };
    assert_eq!(send(VideoHeader, 100, 0), None);
    assert_eq!(send(InterFrame, 101, 0), Some(Dropped::BeforeKey));
    assert_eq!(send(AudioFrame, 102, 3), None);
    assert_eq!(send(VideoOpaque, 103, 4), None);
    assert_eq!(send(KeyFrame, 104, 20), None);
    assert_eq!(send(InterFrame, 105, 60), None);
    rig.hub.seal(rig.key);
    assert_eq!(rig.hub.stats(rig.key).unwrap().dropped, 2);
    let batch = rig.drain(&mut cursor, &mut player);
    assert!(batch.jumped.is_none() && !batch.joined, "players stay where they are");
    let seen: Vec<(u32, u32)> =
        player.seen.drain(..).map(|seen| (seen.id, seen.timestamp - last)).collect();
    assert_eq!(seen, [(100, 0), (102, 40), (103, 41), (104, 57), (105, 97)]);
    let (mut cursor, mut player) = rig.open(Join::Gop, ViewKind::default());
    rig.drain(&mut cursor, &mut player);
    let joined = player.ids();
    assert_eq!(joined, [100, 104, 105], "no header of the previous publisher: {ids:?}");
}

#[test]
fn a_publisher_may_return_on_another_worker() {
    let mut first = Rig::new(Limits::default());
    first.send(VideoHeader, 50);
    first.send(KeyFrame, 100);
    first.run(InterFrame, 400, 40);
    let mut hub = Hub::new(Arc::new(Limits::default()));
    let key = hub.create();
    for segment in first.hub.snapshot(first.key) {
        hub.receive(key, &segment);
    }
    let mut cursor = hub.open(key, Join::Gop, ViewKind::default(), first.now).unwrap();
    let mut player = Player::new();
    to_head(&mut hub, key, &mut cursor, first.now, &mut player);
    let last = player.seen.back().unwrap().timestamp;
    player.seen.clear();

    first.hub.end_publish(first.key);
    let heritage = first.hub.hand_over(first.key).unwrap();
    assert!(first.hub.hand_over(first.key).is_none());
    assert_eq!(first.hub.held_bytes().home, 0, "there it is now a stream that is mailed");
    hub.inherit(key, heritage);
    hub.begin_publish(key);
    for (role, id, timestamp) in [(VideoHeader, 50, 0), (KeyFrame, 51, 0), (InterFrame, 52, 40)] {
        let appended = hub.append(key, &mut message(role, id, timestamp, 50), first.now);
        assert_eq!(appended.dropped, None);
    }
    hub.seal(key);
    to_head(&mut hub, key, &mut cursor, first.now, &mut player);
    let seen: Vec<(u32, u32)> =
        player.seen.drain(..).map(|seen| (seen.id, seen.timestamp - last)).collect();
    assert_eq!(seen, [(50, 0), (51, 40), (52, 80)]);
    let mailed: Vec<Segment> = hub.take_sealed(key).cloned().collect();
    assert_eq!(mailed.len(), 2);
    assert!(mailed.iter().all(|segment| first.hub.receive(first.key, segment)));
    let (mut cursor, mut player) = first.open(Join::Gop, ViewKind::default());
    first.drain(&mut cursor, &mut player);
    assert_eq!(player.ids(), [50, 51, 52]);
}

#[test]
fn a_publisher_may_follow_on_a_worker_that_has_but_the_log() {
    let mut first = Rig::new(Limits::default());
    first.send(VideoHeader, 50);
    first.send(KeyFrame, 100);
    first.run(InterFrame, 400, 40);
    first.seal(Metadata, 50);
    let last = u32::try_from(first.now.as_millis()).unwrap();
    let mut hub = Hub::new(Arc::new(Limits::default()));
    let key = hub.create();
    let snapshot = first.hub.snapshot(first.key);
    assert!(snapshot.iter().all(|segment| hub.receive(key, segment)));
    hub.begin_publish(key);
    for (role, id, timestamp) in [(InterFrame, 60, 0), (VideoHeader, 61, 0), (KeyFrame, 62, 7)] {
        hub.append(key, &mut message(role, id, timestamp, 50), first.now);
    }
    hub.seal(key);
    assert_eq!(hub.stats(key).unwrap().dropped, 1);
    let taken: Vec<Segment> = hub.take_sealed(key).cloned().collect();
    assert_eq!(taken.len(), 2, "what came by mail is not mailed again");
    assert_eq!(taken[0].number, snapshot.last().unwrap().number + 1);
    assert_eq!(taken[0].first_seq, snapshot.last().unwrap().end_seq());
    assert!(taken[1].prelude.version() > snapshot.last().unwrap().prelude.version());
    assert_eq!(taken[1].timestamp().unwrap().0, last + 20);
    let mut cursor = hub.open(key, Join::Gop, ViewKind::default(), first.now).unwrap();
    let mut player = Player::new();
    to_head(&mut hub, key, &mut cursor, first.now, &mut player);
    assert_eq!(player.ids(), [61, 62]);
}

#[test]
fn logs_shrink_largest_first() {
    let mut hub = Hub::new(Arc::new(Limits::default()));
    let keys: Vec<StreamKey> = (0..3).map(|_| hub.create()).collect();
    for (place, &key) in keys.iter().enumerate() {
        hub.begin_publish(key);
        for _ in 0..=place {
            hub.append(key, &mut message(KeyFrame, 1, 0, 100_000), ms(1));
        }
    }
    let lengths = |hub: &Hub| -> Vec<usize> {
        keys.iter().map(|&key| hub.log(key).unwrap().from(0).count()).collect()
    };
    let total = hub.held_bytes().home;
    assert_eq!(hub.shrink(total), total);
    assert_eq!(lengths(&hub), [1, 2, 3], "within the limit nothing goes");
    hub.shrink(total - 1);
    assert_eq!(lengths(&hub), [1, 2, 1]);
    let left = hub.shrink(0);
    assert_eq!(lengths(&hub), [1, 1, 1], "the newest group of pictures stays");
    assert_eq!(left, hub.held_bytes().home);
}

#[test]
fn streams_stay_within_their_limits_whatever_they_carry() {
    // roles of the frames of each second, bytes of each, seconds
    let check = |frames: &[Role], bytes: usize, seconds: u64| {
        let mut rig = Rig::new(Limits::default());
        let (cursor, _) = rig.open(Join::Gop, ViewKind::default());
        for _ in 0..seconds {
            for &role in frames {
                rig.pass(1_000 / u64::try_from(frames.len()).unwrap());
                rig.send(role, bytes);
                flush(&mut rig);
                assert!(rig.hub.held_bytes().home <= rig.limits.log_bytes_max);
            }
        }
        let log = rig.hub.log(rig.key).unwrap();
        assert!(log.lag(log.first()) <= rig.limits.gop_span_max, "{frames:?}");
        let stats = rig.hub.stats(rig.key).unwrap();
        rig.hub.close(rig.key, cursor);
        (log_span(&rig), stats)
    };
    let (span, stats) = check(&[InterFrame; 25], 1_000, 60);
    assert!((11_900..=12_000).contains(&span), "no key frames: {span}");
    assert_eq!(stats.key_frames, 0);
    let (span, stats) = check(&[KeyFrame, InterFrame, InterFrame, InterFrame], 1_000, 60);
    assert!((11_700..=12_000).contains(&span), "key frames every second: {span}");
    assert_eq!((stats.key_frames, stats.gop), (60, Some(ms(1_000))));
    let (span, _) = check(&[AudioFrame; 50], 300, 60);
    assert!((11_900..=12_000).contains(&span), "audio only: {span}");
    let (span, _) = check(&[InterFrame; 50], 125_000, 20);
    assert!((5_000..=5_400).contains(&span), "50 Mbit/s fill 32 MiB in 5.3 s: {span}");
}

fn log_span(rig: &Rig) -> u64 {
    let log = rig.hub.log(rig.key).unwrap();
    u64::try_from(log.lag(log.first()).as_millis()).unwrap()
}

#[test]
fn key_frames_thirty_seconds_apart_stay_in_the_log() {
    let mut rig = Rig::new(Limits::default());
    for _ in 0..3 {
        rig.seal(KeyFrame, 100);
        for _ in 0..300 {
            rig.run(InterFrame, 100, 100);
            assert!(rig.hub.log(rig.key).unwrap().newest_key().is_some());
        }
        assert_eq!(log_span(&rig), 30_000);
    }
}

#[test]
fn codecs_are_known_from_headers_and_frames() {
    let mut rig = Rig::new(Limits::default());
    // a payload begins with its id: 0x17.. is a legacy AVC key frame, 0xAF.. AAC
    let mut append = |role, id| {
        rig.hub.append(rig.key, &mut message(role, id, 0, 50), rig.now);
        let stats = rig.hub.stats(rig.key).unwrap();
        (stats.video_codec, stats.audio_codec)
    };
    assert_eq!(append(KeyFrame, 0x1700_0000), (Some(Codec::Video(7)), None));
    assert_eq!(append(AudioFrame, 0x2F00_0000), (Some(Codec::Video(7)), Some(Codec::Audio(2))));
    assert_eq!(append(AudioFrame, 0xAF01_0000).1, Some(Codec::Audio(2)));
    assert_eq!(append(AudioHeader, 0xAF00_0000).1, Some(Codec::Audio(10)));
}

#[test]
fn calls_for_a_stream_that_is_gone_do_nothing() {
    let mut rig = Rig::new(Limits::default());
    rig.seal(KeyFrame, 100);
    let (mut cursor, _) = rig.open(Join::Gop, ViewKind::default());
    let gone = rig.key;
    let copied = rig.hub.copied_bytes();
    rig.hub.remove(gone);
    rig.hub.remove(gone);
    assert!(rig.hub.is_empty());
    assert_eq!(rig.hub.copied_bytes(), copied);
    let other = rig.hub.create();
    assert_ne!(other, gone, "a slot used again has another key");
    let mut out = Vec::new();
    assert_eq!(rig.hub.next_batch(gone, &mut cursor, rig.now, &mut out).next, Next::Gone);
    assert!(rig.hub.open(gone, Join::Gop, ViewKind::default(), rig.now).is_none());
    assert!(rig.hub.snapshot(gone).is_empty() && rig.hub.stats(gone).is_none());
    rig.hub.begin_publish(gone);
    rig.hub.seal(gone);
    let appended = rig.hub.append(gone, &mut message(KeyFrame, 1, 0, 9), rig.now);
    assert_eq!(appended.dropped, Some(Dropped::NoPublisher));
    assert_eq!(flush(&mut rig), [], "what was ready is forgotten with the stream");
    rig.hub.close(gone, cursor);
    assert_eq!(rig.hub.len(), 1);
}
