//! What a log holds, by the edges of its limits and against what may be said of any log.

use super::log::Log;
use super::segment::Segment;
use super::testing::{Rig, message, ms, segment};
use crate::limits::Limits;
use crate::wire::media::Role;

fn piece(number: u64, at: u64, key: bool, bytes: usize) -> Segment {
    let role = if key { Role::KeyFrame } else { Role::InterFrame };
    segment(number, ms(at), &mut [message(role, 1, 0, bytes)])
}

/// Pushes segments, given as time and key frame, and expects the oldest held and the newest key.
fn check(limits: &Limits, pushed: &[(u64, bool)], first: u64, key: Option<u64>) {
    let mut log = Log::default();
    for (number, &(at, key)) in pushed.iter().enumerate() {
        assert!(log.push(piece(u64::try_from(number).unwrap(), at, key, 100)));
        log.trim(limits);
    }
    assert_eq!((log.first(), log.newest_key()), (first, key), "{pushed:?}");
    assert_eq!(log.held_bytes(), held(log.from(0)));
}

/// What segments cost that share one prelude.
fn held<'a>(segments: impl Iterator<Item = &'a Segment>) -> usize {
    let mut segments = segments.peekable();
    let prelude = segments.peek().map_or(0, |segment| segment.prelude.held_bytes());
    prelude + segments.map(Segment::held_bytes).sum::<usize>()
}

const K: bool = true;
const P: bool = false;

#[test]
fn the_span_is_kept_to_its_edge() {
    let limits = Limits::default();
    check(&limits, &[(0, P), (1, P), (12_000, P)], 0, None);
    check(&limits, &[(0, P), (1, P), (12_001, P)], 1, None);
    check(&limits, &[(0, P), (90_000, P)], 1, None);
    check(&limits, &[(0, K), (1, P), (5, K), (12_001, P)], 1, Some(2));
}

#[test]
fn the_newest_key_frame_is_kept_longer() {
    let limits = Limits::default();
    check(&limits, &[(0, P), (1, K), (2, P), (40_001, P)], 1, Some(1));
    check(&limits, &[(0, P), (1, K), (2, P), (40_002, P)], 3, None);
    check(&limits, &[(0, K), (1, P), (30_000, P), (30_001, P)], 0, Some(0));
    check(&limits, &[(0, K), (1, P), (30_000, P), (40_001, P)], 2, None);
    check(&limits, &[(0, K), (30_000, K), (30_001, P)], 1, Some(1));
}

#[test]
fn bytes_are_limited_whatever_the_key_frame() {
    let one = piece(0, 0, K, 100).held_bytes();
    let prelude = piece(0, 0, K, 100).prelude.held_bytes();
    let limits = Limits { log_bytes_max: prelude + 3 * one, ..Limits::default() };
    check(&limits, &[(0, K), (1, P), (2, P)], 0, Some(0));
    check(&limits, &[(0, K), (1, P), (2, P), (3, P)], 1, None);
    let limits = Limits { log_bytes_max: 1, ..Limits::default() };
    check(&limits, &[(0, P), (1, K)], 1, Some(1));
}

#[test]
fn a_log_has_no_gap_and_nothing_twice() {
    let mut log = Log::default();
    assert!(log.push(piece(7, 0, K, 100)));
    assert_eq!((log.first(), log.next()), (7, 8), "it starts where the first segment says");
    assert!(!log.push(piece(7, 0, K, 100)));
    assert!(!log.push(piece(3, 0, K, 100)));
    assert!(log.push(piece(8, 0, P, 100)));
    assert!(log.get(6).is_none() && log.get(7).is_some() && log.get(9).is_none());
    assert!(log.push(piece(10, 0, P, 100)), "what lies before a gap is of no use behind it");
    assert_eq!((log.first(), log.next(), log.newest_key()), (10, 11, None));
}

#[test]
fn shrinking_leaves_the_newest_group_of_pictures() {
    let check = |keys: &[bool], first: u64| {
        let mut log = Log::default();
        for (number, &key) in keys.iter().enumerate() {
            log.push(piece(u64::try_from(number).unwrap(), 0, key, 100));
        }
        log.shrink_to_newest_gop();
        assert_eq!(log.first(), first, "{keys:?}");
    };
    check(&[], 0);
    check(&[P], 0);
    check(&[P, P, P], 2);
    check(&[K, P, K, P, P], 2);
    check(&[P, P, K], 2);
}

#[test]
fn lag_is_counted_by_ingest() {
    let mut log = Log::default();
    assert_eq!(log.lag(0), ms(0));
    for (number, at) in [(0, 100), (1, 350), (2, 1_000)] {
        log.push(piece(number, at, P, 100));
    }
    let check = |number, lag| assert_eq!(log.lag(number), ms(lag), "{number}");
    check(0, 900);
    check(1, 650);
    check(2, 0);
    check(3, 0);
}

#[test]
fn random_logs_keep_what_they_should() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let limits = Limits {
            log_span: ms(random.u64(0..2_000)),
            gop_span_max: ms(random.u64(0..5_000)),
            log_bytes_max: random.usize(0..20_000),
            ..Limits::default()
        };
        let mut log = Log::default();
        let mut pushed: Vec<Segment> = Vec::new();
        let (mut number, mut at) = (random.u64(0..5), 0);
        for _ in 0..200 {
            if random.u8(..) < 2 {
                number += 3;
                pushed.clear();
            }
            at += random.u64(0..100);
            let next = piece(number, at, random.u8(0..20) == 0, random.usize(10..1_500));
            assert!(log.push(next.clone()), "seed {seed}");
            log.trim(&limits);
            pushed.push(next);
            number += 1;
            check_log(&log, &pushed, &limits, seed);
        }
    }
}

/// What may be said of any log, given all that was pushed since the last gap.
fn check_log(log: &Log, pushed: &[Segment], limits: &Limits, seed: u64) {
    let newest = pushed.last().unwrap();
    let age = |segment: &Segment| newest.ingested - segment.ingested;
    let held = |from: u64| held(pushed.iter().filter(|segment| segment.number >= from));
    assert_eq!(log.next(), newest.number + 1, "seed {seed}");
    assert!(log.first() >= pushed[0].number, "seed {seed}");
    assert_eq!(log.held_bytes(), held(log.first()), "seed {seed}");
    assert!(held(log.first()) <= limits.log_bytes_max || log.first() == newest.number);
    let key = pushed.iter().rev().find(|segment| segment.key).map(|segment| segment.number);
    for segment in pushed {
        let number = segment.number;
        let fits = held(number) <= limits.log_bytes_max || number == newest.number;
        let young = age(segment) <= limits.log_span;
        let in_gop = key.is_some_and(|key| {
            number >= key
                && age(&pushed[usize::try_from(key - pushed[0].number).unwrap()])
                    <= limits.gop_span_max.max(limits.log_span)
                && held(key) <= limits.log_bytes_max.max(held(newest.number))
        });
        if fits && (young || in_gop) {
            assert!(log.get(number).is_some(), "seed {seed}: {number} is missing");
        }
        let stale = !young && !in_gop && number != newest.number;
        if stale && key.is_none_or(|key| number < key) {
            assert!(log.get(number).is_none(), "seed {seed}: {number} is stale");
        }
    }
    assert_eq!(log.newest_key(), key.filter(|key| log.get(*key).is_some()), "seed {seed}");
}

#[test]
fn headers_that_change_again_and_again_are_counted() {
    let mut rig = Rig::new(Limits { log_bytes_max: 1 << 20, ..Limits::default() });
    for _ in 0..5_000 {
        rig.send(Role::VideoHeader, 2_000);
        rig.seal(Role::KeyFrame, 20);
        rig.pass(1);
    }
    let log = rig.hub.log(rig.key).unwrap();
    let preludes: usize = log.from(0).map(|segment| segment.prelude.bytes()).sum();
    assert!(preludes > 0 && preludes <= 1 << 20, "{preludes}");
    assert!(log.held_bytes() >= preludes);
    rig.hub.shrink(0);
    let log = rig.hub.log(rig.key).unwrap();
    assert_eq!(log.held_bytes(), held(log.from(0)), "the account is true after trimming");
}
