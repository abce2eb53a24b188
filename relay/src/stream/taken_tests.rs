//! The one law of what is taken from other nodes, at random: a node changes its feeder as it likes,
//! asks for what it likes, and feeders are behind, jump and have times of their own.

use std::sync::Arc;
use std::time::Duration;

use super::feed::{Feed, FeedStep};
use super::hub::{Hub, Left, StreamKey};
use super::testing::{Player, message};
use crate::limits::Limits;
use crate::wire::media::Role;
use crate::wire::timestamp::Timestamp;

/// Messages from one key frame to the next.
const GOP: u32 = 5;

/// The time of the source's first message: soon timestamps need another field in each chunk.
const FIRST_AT: u32 = 0xFF_FFFF - 2_000;

fn time_of(id: u32) -> u32 {
    FIRST_AT + id * 40
}

/// One node: the origin, those that feed, and the one that is fed. A message's id is its place.
struct Node {
    hub: Hub,
    key: StreamKey,
    /// The first segment of the source.
    from: u64,
    /// The place of the message that comes next.
    at: u64,
    now: Duration,
    held: u32,
}

impl Node {
    /// A node that had something else before, which ended at this time.
    fn new(before: Option<u32>) -> Self {
        let mut hub = Hub::new(Arc::new(Limits::default()));
        let key = hub.create();
        hub.begin_publish(key);
        if let Some(at) = before {
            hub.append(key, &mut message(Role::KeyFrame, 1_000_000, at, 10), Duration::ZERO);
            hub.end_publish(key);
            hub.begin_link(key, Left::default());
        }
        let from = hub.next_number(key);
        Self { hub, key, from, at: 0, now: Duration::ZERO, held: 0 }
    }

    fn publish(&mut self, id: u32) {
        self.now += Duration::from_millis(40);
        let (role, bytes) = role_of(id);
        self.hub.append(self.key, &mut message(role, id, time_of(id), bytes), self.now);
        self.hub.seal(self.key);
    }

    fn open(&mut self, seq: Option<u64>) -> Feed {
        self.hub.open_feed(self.key, 9, self.from, seq).unwrap()
    }

    /// Takes so many steps of what another node feeds.
    fn take(&mut self, from: &mut Self, feed: &mut Feed, steps: usize) {
        for _ in 0..steps {
            let mut out = Vec::new();
            match from.hub.next_of_feed(from.key, feed, 600, &mut out) {
                FeedStep::Nothing => return,
                FeedStep::Start(start) => self.at = start.seq,
                FeedStep::Sent { .. } => self.hear(&out.concat()),
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let mut player = Player::new();
        player.receive(bytes);
        for seen in player.seen {
            self.now += Duration::from_millis(1);
            let (role, bytes) = role_of(seen.id);
            assert_eq!(seen.timestamp, time_of(seen.id), "links carry the source's own time");
            let mut message = message(role, seen.id, seen.timestamp, bytes);
            let taken = self.hub.append_at(self.key, self.at, &mut message, self.now, self.now);
            self.held += u32::from(taken.dropped.is_some());
            self.at += 1;
        }
        self.hub.seal(self.key);
    }

    /// Ids of all that it has of the source, each with how much its time was moved.
    fn has(&self) -> Vec<(u32, u32)> {
        let mut has = Vec::new();
        for segment in self.hub.log(self.key).unwrap().from(self.from) {
            let mut player = Player::new();
            player.receive(&segment.bytes);
            for (place, seen) in (segment.first_seq..).zip(&player.seen) {
                assert_eq!(u64::from(seen.id), place, "it stands in its place");
                has.push((seen.id, Timestamp(seen.timestamp).minus(time_of(seen.id)).0));
            }
        }
        has
    }
}

fn role_of(id: u32) -> (Role, usize) {
    if id.is_multiple_of(GOP) { (Role::KeyFrame, 17_000) } else { (Role::InterFrame, 50) }
}

#[test]
fn whoever_feeds_it_a_node_has_each_message_once_in_order_and_in_one_time() {
    let mut held = 0;
    for seed in 0..100 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut origin = Node::new(None);
        let mut befores = || Some(random.u32(..0x200_0000));
        let mut feeders = [Node::new(befores()), Node::new(befores())];
        let mut leaf = Node::new(befores());
        let mut fed = [origin.open(None), origin.open(None)];
        let (mut feeder, mut feed) = (0, feeders[0].open(None));
        let mut id = 0;
        for _ in 0..200 {
            let one = random.usize(..2);
            match random.u8(..6) {
                0 => {
                    for _ in 0..random.u32(1..8) {
                        origin.publish(id);
                        id += 1;
                    }
                }
                1 | 2 => feeders[one].take(&mut origin, &mut fed[one], random.usize(..20)),
                3 if random.u8(..4) == 0 => {
                    origin.hub.close_feed(origin.key, &fed[one]);
                    fed[one] = origin.open(None);
                }
                3 | 4 => leaf.take(&mut feeders[feeder], &mut feed, random.usize(..20)),
                _ => {
                    let next = leaf.hub.next_seq(leaf.key).unwrap();
                    let claimed = next.saturating_sub(random.u64(..3) * random.u64(..9));
                    feeders[feeder].hub.close_feed(feeders[feeder].key, &feed);
                    feeder = one;
                    feed = feeders[one].open(random.bool().then_some(claimed));
                }
            }
        }
        // All becomes quiet.
        for one in 0..2 {
            feeders[one].take(&mut origin, &mut fed[one], 10_000);
        }
        feed = feeders[feeder].open(leaf.hub.next_seq(leaf.key));
        leaf.take(&mut feeders[feeder], &mut feed, 10_000);
        let has = leaf.has();
        assert_eq!(has.last().map(|(id, _)| *id), id.checked_sub(1), "it has the newest one");
        for pair in has.windows(2) {
            let [(before, shift), (next, moved)] = pair else { continue };
            assert!(next > before, "{next} behind {before}");
            assert!(*next == before + 1 || next.is_multiple_of(GOP), "{next} behind {before}");
            assert_eq!(moved, shift, "{next} was moved otherwise than {before}");
        }
        held += leaf.held;
    }
    assert!(held > 100, "of {held} messages it was said that they are held");
}

#[test]
fn a_source_that_comes_back_goes_on_where_it_was_left() {
    let mut node = Node::new(Some(9_000));
    let take = |node: &mut Node, ids: std::ops::Range<u32>, moved: u32| {
        for id in ids {
            let (role, bytes) = role_of(id);
            let mut message = message(role, id, moved + id * 40, bytes);
            node.hub.append_at(node.key, id.into(), &mut message, node.now, node.now);
        }
        node.hub.seal(node.key);
    };
    take(&mut node, 0..7, 0);
    let left = node.hub.left(node.key);
    assert_eq!((left.seq, left.shift), (7, 9_020), "it went on 20 ms behind what was");
    // Another one, of which one message comes.
    node.hub.begin_link(node.key, Left::default());
    take(&mut node, 0..1, 9_300);
    assert_eq!(node.hub.left(node.key), Left { seq: 1, shift: 0 });
    node.from = node.hub.next_number(node.key);
    node.hub.begin_link(node.key, left);
    take(&mut node, 5..12, 0);
    assert_eq!(node.hub.left(node.key), Left { seq: 12, shift: 9_020 });
    let ids: Vec<u32> = node.has().iter().map(|(id, _)| *id).collect();
    assert_eq!(
        ids,
        [10, 11],
        "what it had is not taken, and behind another one it needs a key frame"
    );
}
