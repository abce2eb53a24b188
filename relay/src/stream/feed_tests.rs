//! What another node is fed, and where it is told that the stream goes on.

use std::sync::Arc;

use super::*;
use crate::limits::Limits;
use crate::stream::testing::{Player, message};
use crate::stream::{Hub, StreamKey};
use crate::wire::media::Role;

const LINK_STREAM: u32 = 77;

/// A stream with groups of 5 messages each, of which the first is a key frame of 20,000 bytes.
struct Rig {
    hub: Hub,
    key: StreamKey,
    now: Duration,
    next: u32,
}

impl Rig {
    fn new(limits: Limits) -> Self {
        let mut hub = Hub::new(Arc::new(limits));
        let key = hub.create();
        hub.begin_publish(key);
        let mut rig = Self { hub, key, now: Duration::ZERO, next: 0 };
        rig.hub.append(key, &mut message(Role::VideoHeader, 1_000, 0, 40), rig.now);
        rig
    }

    /// Appends `count` messages whose ids are their places in the count, less the header's.
    fn append(&mut self, count: u32) {
        for _ in 0..count {
            let id = self.next;
            let (role, bytes) = if id.is_multiple_of(5) {
                (Role::KeyFrame, 20_000)
            } else {
                (Role::InterFrame, 500)
            };
            self.hub.append(self.key, &mut message(role, id, id * 40, bytes), self.now);
            self.next += 1;
            self.now += Duration::from_millis(40);
            if id.is_multiple_of(2) {
                self.hub.seal(self.key);
            }
        }
        self.hub.seal(self.key);
    }

    fn open(&mut self, from: u64, seq: Option<u64>) -> Feed {
        self.hub.open_feed(self.key, LINK_STREAM, from, seq).unwrap()
    }

    /// Reads all there is, in steps of this room: places told, and ids of headers and messages.
    fn read(&mut self, feed: &mut Feed, room: usize) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            let mut out = Vec::new();
            match self.hub.next_of_feed(self.key, feed, room, &mut out) {
                FeedStep::Nothing => return told,
                FeedStep::Start(FeedStart { headers: None, .. }) => {}
                FeedStep::Start(start) => {
                    let mut player = Player::new();
                    player.receive(&start.headers.unwrap());
                    told.push(format!("at {} after headers {:?}", start.seq, player.ids()));
                }
                FeedStep::Sent { bytes, carried } => {
                    let mut player = Player::new();
                    let sent: Vec<u8> = out.concat();
                    assert_eq!(sent.len(), bytes);
                    player.receive(&sent);
                    assert!(player.is_between_messages());
                    assert!(player.seen.iter().all(|seen| seen.message_stream == LINK_STREAM));
                    let ids = player.ids();
                    let messages = carried.audio + carried.video + carried.data;
                    assert_eq!(ids.len(), usize::try_from(messages).unwrap());
                    assert!(bytes <= room || ids.len() == 1, "{bytes} bytes of {room}");
                    told.extend(ids.iter().map(u32::to_string));
                }
            }
        }
    }
}

/// What a feed from `seq` on tells of 13 messages and, later, of 3 more.
#[track_caller]
fn check(seq: Option<u64>, expected: &str) {
    for room in [1, 600, 21_000, 1 << 20] {
        let mut rig = Rig::new(Limits::default());
        rig.append(13);
        let mut feed = rig.open(0, seq);
        let mut told = rig.read(&mut feed, room);
        rig.append(3);
        told.extend(rig.read(&mut feed, room));
        assert_eq!(told.join(" "), expected, "from {seq:?} with room for {room}");
        rig.hub.close_feed(rig.key, &feed);
    }
}

#[test]
fn a_feed_begins_at_the_newest_key_frame_or_where_the_other_node_left_off() {
    // The header is the message 0 of the count, so an id is one less than the place.
    check(None, "at 11 after headers [1000] 10 11 12 13 14 15");
    check(Some(4), "at 4 after headers [1000] 3 4 5 6 7 8 9 10 11 12 13 14 15");
    check(Some(9), "at 9 after headers [1000] 8 9 10 11 12 13 14 15");
    check(Some(0), "at 0 after headers [] 1000 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15");
    // All that there is, so that the next one is the first.
    check(Some(14), "at 14 after headers [1000] 13 14 15");
    // More than there is: another one fed it more, and what is missing comes behind all there is.
    check(Some(15), "at 14 after headers [1000] 13 14 15");
    check(Some(1_000), "at 14 after headers [1000] 13 14 15");
}

#[test]
fn what_was_trimmed_away_is_passed_over_and_said() {
    let limits = Limits { log_span: Duration::from_millis(300), ..Limits::default() };
    let mut rig = Rig::new(limits);
    rig.append(7);
    let mut feed = rig.open(0, None);
    assert_eq!(rig.read(&mut feed, 1 << 20).join(" "), "at 6 after headers [1000] 5 6");
    rig.append(30);
    let told = rig.read(&mut feed, 1 << 20).join(" ");
    assert_eq!(told, "at 36 after headers [1000] 35 36");
}

#[test]
fn a_feed_ends_and_begins_where_another_source_does() {
    let mut rig = Rig::new(Limits::default());
    rig.append(7);
    let mut feed = rig.open(0, None);
    rig.read(&mut feed, 1 << 20);
    let next = rig.hub.log(rig.key).unwrap().next();
    feed.stop_at(next);
    let mut after = rig.open(next, None);
    assert_eq!(rig.read(&mut after, 1 << 20), [""; 0], "there is no key frame of it");
    rig.append(5);
    assert_eq!(rig.read(&mut feed, 1 << 20), [""; 0]);
    assert_eq!(rig.read(&mut after, 1 << 20).join(" "), "at 11 after headers [1000] 10 11");
}

#[test]
fn a_count_that_goes_on_elsewhere_is_said() {
    let mut rig = Rig::new(Limits::default());
    rig.append(6);
    let mut feed = rig.open(0, None);
    rig.read(&mut feed, 1 << 20);
    let (key, now) = (rig.key, rig.now);
    for (seq, id) in [(7, 6), (100, 99), (101, 100)] {
        rig.hub.append_at(key, seq, &mut message(Role::InterFrame, id, 400, 100), now, now);
    }
    rig.hub.seal(key);
    assert_eq!(rig.read(&mut feed, 1 << 20).join(" "), "6 at 100 after headers [1000] 99 100");
    assert_eq!(rig.hub.next_seq(key), Some(102));
}

#[test]
fn it_is_said_once_a_second_of_the_stream_when_messages_were_taken_in() {
    let mut rig = Rig::new(Limits::default());
    let key = rig.key;
    let mut feed = rig.open(0, None);
    // 40 messages that were taken in over 4 s and come here all at once.
    for id in 0..40_u32 {
        let role = if id == 0 { Role::KeyFrame } else { Role::InterFrame };
        let ingested = Duration::from_millis(100) * id;
        let now = Duration::from_secs(9);
        rig.hub.append_at(
            key,
            1 + u64::from(id),
            &mut message(role, id, id * 100, 50),
            ingested,
            now,
        );
        rig.hub.seal(key);
    }
    assert_eq!(rig.hub.feed_lag(key, &feed), Duration::ZERO, "it came late, and all at once");
    let mut told = Vec::new();
    loop {
        match rig.hub.next_of_feed(key, &mut feed, 1 << 20, &mut Vec::new()) {
            FeedStep::Nothing => break,
            FeedStep::Start(start) => told.push((start.seq, start.ingested.as_millis())),
            FeedStep::Sent { .. } => {}
        }
    }
    assert_eq!(told, [(1, 0), (11, 1_000), (21, 2_000), (31, 3_000)]);
}

#[test]
fn headers_that_are_only_told_again_have_no_place_in_the_count() {
    let mut rig = Rig::new(Limits::default());
    let key = rig.key;
    rig.append(6);
    let now = rig.now;
    rig.hub.append_header(key, &mut message(Role::VideoHeader, 2_000, 200, 40), now);
    rig.hub.append_header(key, &mut message(Role::AudioHeader, 3_000, 200, 20), now);
    rig.hub.append_header(key, &mut message(Role::AudioHeader, 3_000, 200, 20), now);
    assert_eq!(rig.hub.next_seq(key), Some(7), "of the header and six frames");
    rig.append(3);
    // A player of this node is told of them.
    let log = rig.hub.log(key).unwrap();
    let restating = log.from(0).filter(|segment| segment.restates).count();
    assert_eq!((restating, rig.hub.next_seq(key)), (2, Some(10)));
    for (seq, expected) in [
        (6, "at 6 after headers [1000] 5 at 7 after headers [3000 2000] 6 7 8"),
        (7, "at 7 after headers [3000 2000] 6 7 8"),
        (8, "at 8 after headers [3000 2000] 7 8"),
    ] {
        let mut feed = rig.open(0, Some(seq));
        let told = rig.read(&mut feed, 1 << 20).join(" ").replace(',', "");
        assert_eq!(told, expected, "from {seq}");
    }
}
