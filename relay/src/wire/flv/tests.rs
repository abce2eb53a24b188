use super::*;
use crate::wire::testing::{bytes, every_split, pattern};

/// Type, timestamp, pattern, length.
type Row = (u8, u32, char, usize);

/// All that a file was read as.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    header: Option<FlvHeader>,
    tags: Vec<FlvTag>,
    dropped: usize,
    error: Option<FlvError>,
}

fn read(pieces: &[&[u8]], limits: &Limits) -> Read {
    let mut reader = FlvReader::new(limits);
    let (mut input, mut tags, mut error) = (BytesMut::new(), Vec::new(), None);
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match reader.next(&mut input) {
                Ok(Some(tag)) => tags.push(tag),
                Ok(None) => break,
                Err(wrong) => {
                    let left = input.len();
                    assert_eq!(reader.next(&mut input), Err(wrong), "an error stays");
                    assert_eq!(input.len(), left);
                    error = Some(wrong);
                    break;
                }
            }
        }
    }
    Read { header: reader.header(), tags, dropped: reader.dropped(), error }
}

fn check_limited(
    limits: &Limits,
    text: &str,
    rows: &[Row],
    dropped: usize,
    ends: Option<FlvError>,
) {
    let file = bytes(text);
    every_split(&file, |pieces| {
        let found = read(pieces, limits);
        assert_eq!(found.tags.len(), rows.len(), "{text}");
        for (tag, &(kind, timestamp, letter, length)) in found.tags.iter().zip(rows) {
            assert_eq!(tag.kind.message_type().id(), kind, "{text}");
            assert_eq!(tag.timestamp, Timestamp(timestamp), "{text}");
            assert_eq!(tag.payload, pattern(letter, length), "{text}");
        }
        assert_eq!((found.dropped, found.error), (dropped, ends), "{text}");
    });
}

/// The tags of a file whose header is right.
fn check(text: &str, rows: &[Row], dropped: usize) {
    let text = format!("{HEADER} {text}");
    check_limited(&Limits::default(), &text, rows, dropped, None);
}

const HEADER: &str = "464C5601 05 00000009 00000000";

#[test]
fn tags_are_messages() {
    let text = "12 00000A 000000 00 000000 a*10 00000015
                09 000005 000064 00 000000 b*5 00000010
                08 000000 00006E 00 000000 0000000B
                08 000001 00005A 00 000000 c*1 0000000C";
    check(text, &[(18, 0, 'a', 10), (9, 100, 'b', 5), (8, 110, 'c', 0), (8, 90, 'c', 1)], 0);
    check("", &[], 0);
}

#[test]
fn the_high_byte_of_the_timestamp_comes_last() {
    let check = |text: &str, expected: u32| {
        let text = format!("09 000001 {text} 000000 a*1 0000000C");
        check(&text, &[(9, expected, 'a', 1)], 0);
    };
    check("FFFFFF 00", 0xFF_FFFF);
    check("000000 01", 0x100_0000);
    check("000004 80", 0x8000_0004);
    check("FFFFFF FF", u32::MAX);
}

#[test]
fn sizes_of_tags_and_stream_ids_are_not_trusted() {
    let rows = [(9, 5, 'a', 3), (8, 6, 'b', 1)];
    for size in ["0000000E", "00000000", "FFFFFFFF"] {
        let text = format!("09 000003 000005 00 000007 a*3 {size} 08 000001 000006 00 FFFFFF b*1");
        // The last one may be missing, or be cut.
        check(&text, &rows, 0);
        check(&format!("{text} 0000"), &rows, 0);
        check(&format!("{text} {size}"), &rows, 0);
    }
}

#[test]
fn what_is_no_message_is_skipped() {
    let after = "08 000001 000006 00 000000 b*1 0000000C";
    let row = [(8, 6, 'b', 1)];
    // Another type, an encrypted tag, and bits that are reserved and mean nothing.
    check(&format!("0F 000003 000005 00 000000 a*3 0000000E {after}"), &row, 1);
    check(&format!("29 000003 000005 00 000000 a*3 0000000E {after}"), &row, 1);
    check("C8 000001 000006 00 000000 b*1 0000000C", &row, 0);
    // Skipped as a whole, so a length may say anything.
    check("0F FFFFFF 000005 00 000000 a*3", &[], 1);
}

#[test]
fn lengths_are_judged_where_they_appear() {
    let limits = Limits { message_bytes_max: 4, data_bytes_max: 2, ..Limits::default() };
    let check = |text: &str, rows: &[Row], dropped: usize, ends: Option<FlvError>| {
        check_limited(&limits, &format!("{HEADER} {text}"), rows, dropped, ends);
    };
    check("08 000004 000000 00 000000 a*4", &[(8, 0, 'a', 4)], 0, None);
    let too_long = |kind| Some(FlvError::TagTooLong { kind, length: 5, limit: 4 });
    check("08 000005 000000 00 000000", &[], 0, too_long(MediaKind::Audio));
    check("09 000005 000000 00 000000", &[], 0, too_long(MediaKind::Video));
    check("12 000002 000000 00 000000 a*2", &[(18, 0, 'a', 2)], 0, None);
    let after = "08 000001 000006 00 000000 b*1";
    let row = [(8, 6, 'b', 1)];
    check(&format!("12 000003 000000 00 000000 a*3 0000000E {after}"), &row, 1, None);
}

#[test]
fn nothing_is_reserved_for_a_length_that_is_only_claimed() {
    let mut input = BytesMut::from(&bytes(&format!("{HEADER} 09 FFFFFF 000000 00 000000"))[..]);
    let mut reader = FlvReader::new(&Limits::default());
    assert_eq!(reader.next(&mut input), Ok(None));
    assert!(input.capacity() < 1_000, "{}", input.capacity());
}

#[test]
fn headers() {
    let check = |text: &str, expected: Result<Option<(bool, bool)>, FlvError>| {
        every_split(&bytes(text), |pieces| {
            let found = read(pieces, &Limits::default());
            assert_eq!((found.tags.len(), found.dropped), (0, 0), "{text}");
            let header = found.header.map(|header| (header.audio, header.video));
            assert_eq!(found.error.map_or(Ok(header), Err), expected, "{text}");
        });
    };
    check("464C5601 00 00000009", Ok(Some((false, false))));
    check("464C5601 01 00000009", Ok(Some((false, true))));
    check("464C5601 04 00000009", Ok(Some((true, false))));
    check("464C5601 FF 00000009", Ok(Some((true, true))));
    for cut in ["", "46", "464C", "464C56", "464C5601", "464C5601 05 000000"] {
        check(cut, Ok(None));
    }
    for wrong in ["00", "474554", "464C57", "464C 00"] {
        check(wrong, Err(FlvError::BadSignature));
    }
    check("464C5602", Err(FlvError::BadVersion(2)));
    check("464C5600 05 00000009", Err(FlvError::BadVersion(0)));
    check("464C5601 05 00000008", Err(FlvError::BadOffset(8)));
    check("464C5601 05 00000000", Err(FlvError::BadOffset(0)));
    check("464C5601 05 FFFFFFFF 00000000 09", Ok(Some((true, true))));
}

#[test]
fn a_longer_header_is_passed_over() {
    let text = "464C5601 01 0000000C AAAAAA 00000000 09 000001 000006 00 000000 a*1";
    check_limited(&Limits::default(), text, &[(9, 6, 'a', 1)], 0, None);
}

#[test]
fn a_file_that_was_cut_has_the_tags_that_are_whole() {
    let text = "12 00000A 000000 00 000000 a*10 00000015 0F 000002 000000 00 000000 c*2 0000000D
                09 000005 000064 00 000000 b*5 00000010";
    let file = bytes(&format!("{HEADER} {text}"));
    let whole = read(&[&file], &Limits::default());
    assert_eq!(whole.tags.len(), 2);
    for end in 0..file.len() {
        let cut = read(&[&file[..end]], &Limits::default());
        assert_eq!(cut.error, None, "{end}");
        // Up to the end of each payload: 13 + 11 + 10, and the last four bytes are a size.
        let tags = usize::from(end >= 34) + usize::from(end >= file.len() - 4);
        assert_eq!(cut.tags, whole.tags[..tags], "{end}");
    }
}

#[test]
fn what_is_written_is_as_the_annex_says() {
    let mut out = BytesMut::new();
    FlvHeader { audio: true, video: true }.write(&mut out);
    write_tag(&mut out, MediaKind::Data, Timestamp(0), &pattern('a', 2));
    write_tag(&mut out, MediaKind::Video, Timestamp(0x0102_0304), &pattern('b', 300));
    write_tag(&mut out, MediaKind::Audio, Timestamp(u32::MAX), &[]);
    let text = "12 000002 000000 00 000000 a*2 0000000D
                09 00012C 020304 01 000000 b*300 00000137
                08 000000 FFFFFF FF 000000 0000000B";
    assert_eq!(out, bytes(&format!("{HEADER} {text}")));
    for (audio, video, flags) in [(false, false, 0), (true, false, 4), (false, true, 1)] {
        let mut out = BytesMut::new();
        FlvHeader { audio, video }.write(&mut out);
        assert_eq!(out[4], flags);
    }
}

#[test]
#[should_panic = "24 bits"]
fn a_payload_longer_than_the_length_field_can_say_is_our_fault() {
    let payload = vec![0; MESSAGE_BYTES_MAX + 1];
    write_tag(&mut BytesMut::new(), MediaKind::Data, Timestamp(0), &payload);
}
