//! Messages that are small on the wire and large in what they ask for: none makes the relay hold,
//! copy or say more than its limits allow.

use relay::limits::Limits;

use crate::support::script::{hex, publishing};
use crate::support::server::served;

/// An unsigned 29-bit integer of AMF3.
fn u29(value: usize) -> Vec<u8> {
    let byte = |shift: usize| u8::try_from((value >> shift) & 0x7F).unwrap();
    match value {
        0..0x80 => vec![byte(0)],
        0x80..0x4000 => vec![byte(7) | 0x80, byte(0)],
        _ => vec![byte(14) | 0x80, byte(7) | 0x80, byte(0)],
    }
}

/// An AMF3 array of a string of `length` bytes and of arrays of 1,000 references to it each.
fn references(length: usize, arrays: usize, reference: u8) -> Vec<u8> {
    let array = |count: usize| [&[9][..], &u29(count << 1 | 1), &[1]].concat();
    let mut value = [array(arrays + 1), vec![6], u29(length << 1 | 1)].concat();
    value.extend(vec![b'x'; length]);
    for _ in 0..arrays {
        value.extend(array(1_000));
        value.extend([6, reference].repeat(1_000));
    }
    value
}

#[test]
fn amf3_references_cannot_make_a_data_message_grow() {
    let longest = Limits::default().data_bytes_max;
    let hello = |length, arrays| {
        [&hex("00 02 0005 68656C6C6F 11")[..], &references(length, arrays, 0)].concat()
    };
    // The string is the second of its table: the key is the first.
    let metadata = |length, arrays| {
        let head = hex("02 000A 6F6E4D65746144617461 11 0A 0B 01 03 6B");
        [&head[..], &references(length, arrays, 2), &[1]].concat()
    };
    for (kind, payload, reason) in [
        (15, hello(60_000, 4), "dropped data_too_long"),
        (18, metadata(60_000, 4), "dropped bad_data"),
    ] {
        assert!(payload.len() < 70_000);
        let server = served(&publishing().message(5, 1, 0, kind, &payload));
        assert_eq!(server.events.last().unwrap(), reason);
        assert!(server.media.is_empty());
    }
    // A few of them are spelt out.
    for (kind, payload) in [(15, hello(20, 2)), (18, metadata(20, 2))] {
        let server = served(&publishing().message(5, 1, 0, kind, &payload));
        let relayed = server.media[0].1.len();
        assert!(relayed > 2_000 * 20 && relayed < longest, "{relayed}");
    }
}
