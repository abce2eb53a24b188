use super::*;
use crate::wire::testing::{bytes, pattern};

/// Type, timestamp, pattern, length.
type Row = (u8, u32, char, usize);

fn check_limited(parts_max: usize, timestamp: u32, text: &str, rows: &[Row], dropped: usize) {
    let limits = Limits { aggregate_parts_max: parts_max, ..Limits::default() };
    let aggregate = MessageHeader {
        timestamp: Timestamp(timestamp),
        length: 0,
        kind: MessageType::Aggregate,
        message_stream: 5,
    };
    let payload = bytes(text);
    let mut parts = AggregateParts::new(&aggregate, &payload, &limits);
    let found: Vec<_> = parts.by_ref().collect();
    assert_eq!(found.len(), rows.len(), "{text}");
    for (part, &(kind, timestamp, letter, length)) in found.iter().zip(rows) {
        assert_eq!(part.header.kind.id(), kind, "{text}");
        assert_eq!(part.header.timestamp, Timestamp(timestamp), "{text}");
        assert_eq!(part.header.message_stream, 5, "that of the aggregate");
        assert_eq!(usize::try_from(part.header.length), Ok(length));
        assert_eq!(part.payload, pattern(letter, length), "{text}");
    }
    assert_eq!(parts.dropped(), dropped, "{text}");
    assert_eq!(parts.next(), None, "the end stays the end");
}

fn check(timestamp: u32, text: &str, rows: &[Row], dropped: usize) {
    check_limited(4096, timestamp, text, rows, dropped);
}

#[test]
fn parts_are_moved_to_the_time_of_the_aggregate() {
    let text = "09 000003 000064 00 000001 a*3 0000000E
                08 000002 00006E 00 000001 b*2 0000000D
                12 000001 00005A 00 000000 c*1 0000000C";
    check(1000, text, &[(9, 1000, 'a', 3), (8, 1010, 'b', 2), (18, 990, 'c', 1)], 0);
    // The high eight bits come last; time wraps.
    let text = "09 000001 FFFFFF FF 000000 a*1 0000000C 08 000001 000004 00 000000 b*1 0000000C";
    check(u32::MAX, text, &[(9, u32::MAX, 'a', 1), (8, 4, 'b', 1)], 0);
    check(7, "09 000000 000001 00 000000 0000000B", &[(9, 7, 'a', 0)], 0);
    check(7, "", &[], 0);
}

#[test]
fn back_pointers_are_not_trusted() {
    let rows = [(9, 5, 'a', 3)];
    check(5, "09 000003 000000 00 000000 a*3", &rows, 0);
    check(5, "09 000003 000000 00 000000 a*3 0000", &rows, 0);
    check(5, "09 000003 000000 00 000000 a*3 FFFFFFFF", &rows, 0);
}

#[test]
fn what_cannot_be_read_ends_it() {
    let good = "09 000003 000000 00 000000 a*3 0000000E";
    let rows = [(9, 5, 'a', 3)];
    check(5, &format!("{good} 08 000003 000000 00 000000 b*2"), &rows, 1);
    check(5, &format!("{good} 08 FFFFFF 000000 00 000000 b*2"), &rows, 1);
    check(5, &format!("{good} 08 000003 000000 00"), &rows, 1);
}

#[test]
fn only_media_and_data_come_out() {
    // A nested aggregate, a command, a control message; the first part sets the time whatever it
    // is.
    let text = "16 00000C 000064 00 000000 a*12 00000000
                14 000001 000065 00 000000 b*1 00000000
                01 000004 000066 00 000000 b*4 00000000
                08 000001 000067 00 000000 c*1 00000000";
    check(0, text, &[(8, 3, 'c', 1)], 3);
}

#[test]
fn parts_are_limited() {
    let part = "08 000000 000000 00 000000 00000000";
    let row = (8, 0, 'a', 0);
    check_limited(3, 0, &part.repeat(3), &[row; 3], 0);
    check_limited(3, 0, &part.repeat(9), &[row; 3], 1);
    // Skipped ones count too.
    let skipped = "14 000000 000000 00 000000 00000000";
    check_limited(3, 0, &format!("{}{part}", skipped.repeat(2)), &[row], 2);
    check_limited(3, 0, &format!("{}{part}", skipped.repeat(3)), &[], 4);
}

#[test]
fn every_cut_gives_the_parts_before_it() {
    let payload =
        bytes("09 000003 000064 00 000001 a*3 0000000E 08 000002 00006E 00 000001 b*2 0000000D");
    let limits = Limits::default();
    let aggregate = MessageHeader {
        timestamp: Timestamp(0),
        length: 0,
        kind: MessageType::Aggregate,
        message_stream: 1,
    };
    for end in 0..=payload.len() {
        let parts = AggregateParts::new(&aggregate, &payload[..end], &limits).count();
        let expected = usize::from(end >= 14) + usize::from(end >= 18 + 13);
        assert_eq!(parts, expected, "cut at {end}");
    }
}
