use relay::wire::media::{classify_audio, classify_video};

use super::*;
use crate::payload::{Filler, VideoCodec};
use crate::profile::Profile;
use crate::source::{Source, Synthetic};

/// A message on its way, as a fault may change it.
#[derive(Clone)]
struct Sent {
    kind: MediaKind,
    timestamp: Timestamp,
    payload: Vec<u8>,
    /// When it arrives.
    at: Duration,
}

const START: Duration = Duration::from_secs(1_000);

/// Six seconds of a stream, its headers included, on a network that takes 3 ms.
fn stream(number: u32, run: u32) -> Vec<Sent> {
    let profile = Profile {
        codec: VideoCodec::H264,
        bits_per_second: 300_000,
        frames_per_second: 25.0,
        gop: Duration::from_secs(1),
        audio_bits_per_second: 64_000,
    };
    let source = Synthetic::new(Arc::new(profile), Arc::new(Filler::new(1)), number, run);
    let mut source = Source::Synthetic(source);
    let headers = source.headers().into_iter();
    let mut sent: Vec<Sent> = headers
        .map(|(kind, payload)| Sent { kind, timestamp: Timestamp(0), payload, at: START })
        .collect();
    while source.next_due() < Duration::from_secs(6) {
        let at = START + source.next_due() + Duration::from_millis(3);
        let mut payload = Vec::new();
        let message = source.next(START, &mut payload);
        sent.push(Sent { kind: message.kind, timestamp: message.timestamp, payload, at });
    }
    sent
}

/// A message as a player's session hands it over.
fn received(message: &Sent) -> MediaMessage {
    let class = match message.kind {
        MediaKind::Audio => classify_audio(&message.payload),
        MediaKind::Video => classify_video(&message.payload),
        MediaKind::Data => Some(relay::wire::data::class(Role::Metadata)),
    };
    MediaMessage::new(message.kind, class.unwrap(), message.timestamp, &message.payload)
}

/// What a player counts that receives these messages.
fn counted(sent: &[Sent], expected: &Expected, checks: Checks) -> (Counters, Spans) {
    let host = crate::clock::host_tag();
    let mut verifier = Verifier::new(expected.clone(), checks, host, START);
    let (mut counters, mut spans) = (Counters::default(), Spans::default());
    let mut end = START;
    for message in sent {
        verifier.receive(&received(message), message.at, &mut counters, &mut spans);
        end = message.at;
    }
    verifier.finish(end, &mut counters);
    (counters, spans)
}

/// The names and values of those counters that say that something is wrong.
fn wrong(counters: &Counters) -> Vec<(&'static str, u64)> {
    const HARMLESS: &[&str] = &["messages_received", "verified", "gops_equal"];
    let table = counters.table().into_iter();
    table
        .filter(|(name, count, _)| *count > 0 && !HARMLESS.contains(name))
        .map(|(name, count, _)| (name, count))
        .collect()
}

/// The place of a video inter frame in the middle of the stream, with audio before and after.
fn middle(sent: &[Sent]) -> usize {
    let is_video = |place: &usize| sent[*place].kind == MediaKind::Video;
    (sent.len() / 2..).filter(is_video).find(|place| sent[*place].payload[0] == 0x27).unwrap()
}

/// The check that must find a fault, the fault, and every counter that must then say so.
type Fault = (&'static str, fn(&mut Vec<Sent>), &'static [(&'static str, u64)]);

const FAULTS: &[Fault] = &[
    (
        "missing",
        |sent| drop(sent.remove(middle(sent))),
        &[("missing", 1), ("gaps", 1), ("gops_unequal", 1)],
    ),
    (
        "doubled",
        |sent| {
            let place = middle(sent);
            sent.insert(place, sent[place].clone());
        },
        &[("doubled", 1), ("gops_unequal", 1)],
    ),
    (
        "reordered",
        |sent| {
            let place = middle(sent);
            let (at, later) = (sent[place].at, sent[place + 1].at);
            sent.swap(place, place + 1);
            (sent[place].at, sent[place + 1].at) = (at, later);
        },
        &[("reordered", 1)],
    ),
    (
        "altered",
        |sent| {
            let place = middle(sent);
            *sent[place].payload.last_mut().unwrap() ^= 0x40;
        },
        &[("altered", 1), ("gops_unequal", 1)],
    ),
    (
        "foreign",
        |sent| {
            let place = middle(sent);
            let other = stream(8, 1).into_iter().find(|m| m.payload[..2] == [0x27, 1]).unwrap();
            let (at, timestamp) = (sent[place].at, sent[place].timestamp);
            sent.insert(place, Sent { at, timestamp, ..other });
        },
        &[("foreign", 1)],
    ),
    (
        "backward",
        |sent| {
            let place = middle(sent);
            sent[place].timestamp = Timestamp(sent[place].timestamp.0 - 500);
        },
        &[("backward", 1), ("retimed", 2)],
    ),
    (
        "retimed",
        |sent| {
            let place = middle(sent);
            sent[place..].iter_mut().for_each(|message| message.timestamp.0 += 7);
        },
        // Once for audio, once for video.
        &[("retimed", 2)],
    ),
    (
        "headless",
        |sent| sent.retain(|message| message.payload[..2] != [0xaf, 0]),
        // Every audio frame.
        &[("headless", 259)],
    ),
    (
        "keyless",
        |sent| {
            let key = sent.iter().position(|message| message.payload[..2] == [0x17, 1]);
            sent.remove(key.unwrap());
        },
        // Until the second key frame nothing is judged to be missing.
        &[("keyless", 24)],
    ),
    (
        "gops",
        |sent| drop(sent.remove(middle(sent))),
        &[("missing", 1), ("gaps", 1), ("gops_unequal", 1)],
    ),
    (
        "late",
        |sent| {
            let place = middle(sent);
            let late = sent[place].at + Duration::from_millis(1_002);
            sent[place..].iter_mut().for_each(|message| message.at = message.at.max(late));
        },
        // It, and the one that is due less than 5 ms after it; the others come less than 1 s late.
        &[("late", 2), ("stalls", 1)],
    ),
    (
        "stalls",
        |sent| {
            let place = middle(sent);
            let late = sent[place].at + Duration::from_millis(1_002);
            sent[place..].iter_mut().for_each(|message| message.at = message.at.max(late));
        },
        &[("late", 2), ("stalls", 1)],
    ),
];

#[test]
fn a_clean_stream_is_found_clean() {
    for expected in [Expected::Synthetic(7), Expected::Anything] {
        let sent = stream(7, 1);
        let (counters, spans) = counted(&sent, &expected, Checks::default());
        assert_eq!(wrong(&counters), [], "{expected:?}");
        assert_eq!(counters.gops_equal, 5);
        assert_eq!(counters.verified, counters.messages_received);
        let latency = spans.of(SpanKind::Latency).unwrap();
        assert_eq!((latency.min(), latency.max(), latency.count()), (3_000, 3_001, 409));
        assert!(spans.of(SpanKind::Jitter).unwrap().max() <= 1);
    }
}

#[test]
fn each_fault_is_found_by_its_own_counters() {
    for (check, fault, expected) in FAULTS {
        let mut sent = stream(7, 1);
        fault(&mut sent);
        let (counters, _) = counted(&sent, &Expected::Synthetic(7), Checks::default());
        let mut expected = expected.to_vec();
        let mut found = wrong(&counters);
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "{check}");
    }
}

#[test]
fn no_fault_is_found_by_a_check_that_is_off() {
    let mut seen: Vec<&str> = FAULTS.iter().map(|(check, ..)| *check).collect();
    let mut names = Checks::NAMES.to_vec();
    seen.sort_unstable();
    names.sort_unstable();
    assert_eq!(seen, names, "every check has a fault");
    for (check, fault, _) in FAULTS {
        let mut sent = stream(7, 1);
        fault(&mut sent);
        let (counters, _) = counted(&sent, &Expected::Synthetic(7), Checks::without(check));
        let counter = if *check == "gops" { "gops_unequal" } else { check };
        let found = wrong(&counters);
        assert!(found.iter().all(|(name, _)| name != &counter), "{check}: {found:?}");
    }
}

#[test]
fn a_publisher_that_begins_anew_breaks_nothing() {
    let mut sent = stream(7, 1);
    let later = sent.last().unwrap().at - START;
    sent.extend(stream(7, 2).into_iter().map(|message| {
        let millis = u32::try_from(later.as_millis()).unwrap();
        let timestamp = message.timestamp.plus(millis);
        Sent { at: message.at + later, timestamp, ..message }
    }));
    let (counters, _) = counted(&sent, &Expected::Synthetic(7), Checks::default());
    let found: Vec<_> = wrong(&counters).into_iter().filter(|(name, _)| *name != "late").collect();
    assert_eq!(found, [("republished", 1)]);
}

#[test]
fn a_join_amid_the_stream_is_judged_from_its_key_frame() {
    let sent = stream(7, 1);
    let headers: Vec<Sent> = sent[..3].to_vec();
    for skipped in 1..100 {
        // As a server without a cache of pictures does it: audio at once, video from a key frame.
        let mut key_seen = false;
        let rest = sent[3 + skipped..].iter().filter(|message| {
            key_seen |= message.payload[..2] == [0x17, 1];
            key_seen || message.kind == MediaKind::Audio
        });
        let heard: Vec<Sent> = headers.iter().chain(rest).cloned().collect();
        let (counters, _) = counted(&heard, &Expected::Synthetic(7), Checks::default());
        let found: Vec<_> = wrong(&counters);
        assert_eq!(found, [], "{skipped} skipped");
    }
}

#[test]
fn what_was_cached_before_the_join_has_no_latency() {
    let sent = stream(7, 1);
    let join = START + Duration::from_secs(3);
    let burst = sent.into_iter().map(|message| Sent { at: message.at.max(join), ..message });
    let burst: Vec<Sent> = burst.collect();
    let mut verifier =
        Verifier::new(Expected::Synthetic(7), Checks::default(), crate::clock::host_tag(), START);
    verifier.begin(join);
    let (mut counters, mut spans) = (Counters::default(), Spans::default());
    for message in &burst {
        verifier.receive(&received(message), message.at, &mut counters, &mut spans);
    }
    assert_eq!(wrong(&counters), []);
    assert_eq!(spans.of(SpanKind::Latency).unwrap().max(), 3_001);
}

#[test]
fn frames_without_truth_are_judged_by_order_and_form() {
    let frame = |first: u8, time: u32| Sent {
        kind: MediaKind::Video,
        timestamp: Timestamp(time),
        payload: vec![first, 1, 0, 0, 0, 1, 2, 3],
        at: START,
    };
    let header = Sent { payload: vec![0x17, 0, 0, 0, 0, 1], ..frame(0x17, 0) };
    let sent = [header, frame(0x17, 40), frame(0x27, 80), frame(0x27, 60)];
    let (counters, _) = counted(&sent, &Expected::Anything, Checks::default());
    assert_eq!(wrong(&counters), [("unverified", 3), ("backward", 1)]);
    let (counters, _) = counted(&sent, &Expected::Synthetic(0), Checks::default());
    assert_eq!(wrong(&counters), [("altered", 3), ("backward", 1)]);
}
