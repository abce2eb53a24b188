#![allow(clippy::unwrap_used)]

use super::*;
use crate::limits::Limits;
use crate::wire::testing::bytes as hex;

fn read_one(bytes: &[u8]) -> Result<(Value<'_>, usize), AmfError> {
    let mut input = Input(bytes);
    let mut budget = Budget::new(&Limits::default());
    let value = Amf3Reader::new(&mut input, &mut budget).read()?;
    Ok((value, input.0.len()))
}

#[track_caller]
fn check(bytes: &str, expected: Result<Value<'_>, AmfError>) {
    let bytes = hex(bytes);
    let found = read_one(&bytes).map(|(value, rest)| {
        assert_eq!(rest, 0, "all bytes are read");
        value
    });
    assert_eq!(found, expected);
    if expected.is_ok() {
        for end in 0..bytes.len() {
            assert_eq!(read_one(&bytes[..end]), Err(AmfError::Truncated), "cut at {end}");
        }
    }
}

#[test]
fn plain_values_are_read() {
    check("00", Ok(Value::Undefined));
    check("01", Ok(Value::Null));
    check("02", Ok(Value::Boolean(false)));
    check("03", Ok(Value::Boolean(true)));
    check("04 00", Ok(Value::Number(0.0)));
    check("04 7F", Ok(Value::Number(127.0)));
    check("04 8100", Ok(Value::Number(128.0)));
    check("04 FF7F", Ok(Value::Number(16_383.0)));
    check("04 818000", Ok(Value::Number(16_384.0)));
    check("04 FFFF7F", Ok(Value::Number(2_097_151.0)));
    check("04 80C08000", Ok(Value::Number(2_097_152.0)));
    check("04 BFFFFFFF", Ok(Value::Number(268_435_455.0)));
    check("04 C0808000", Ok(Value::Number(-268_435_456.0)));
    check("04 FFFFFFFF", Ok(Value::Number(-1.0)));
    check("05 3FF8000000000000", Ok(Value::Number(1.5)));
    check("06 01", Ok(Value::String(b"")));
    check("06 07 616263", Ok(Value::String(b"abc")));
    check("07 03 3C", Ok(Value::Xml(b"<")));
    check("08 01 4000000000000000", Ok(Value::Date(2.0)));
    check("0B 03 3C", Ok(Value::Xml(b"<")));
    check("0C 05 0102", Ok(Value::Bytes(&[1, 2])));
    check("12", Err(AmfError::Marker(0x12)));
}

#[test]
fn containers_are_read() {
    check("09 01 01", Ok(Value::StrictArray(vec![])));
    check("09 05 01 02 03", {
        Ok(Value::StrictArray(vec![Value::Boolean(false), Value::Boolean(true)]))
    });
    check("09 01 03 61 01 01", Ok(Value::EcmaArray(vec![(b"a", Value::Null)])));
    check("09 03 03 61 01 01 00", {
        Ok(Value::MixedArray {
            properties: vec![(b"a", Value::Null)],
            elements: vec![Value::Undefined],
        })
    });
    // Dynamic, no class, no sealed members.
    check("0A 0B 01 03 61 01 01", Ok(Value::Object(vec![(b"a", Value::Null)])));
    // Class C with the sealed members a and b.
    check("0A 23 03 43 03 61 03 62 01 02", {
        Ok(Value::TypedObject {
            class: b"C",
            properties: vec![(b"a", Value::Null), (b"b", Value::Boolean(false))],
        })
    });
    check("0D 05 00 FFFFFFFF 00000002", {
        Ok(Value::StrictArray(vec![Value::Number(-1.0), Value::Number(2.0)]))
    });
    check("0E 03 00 FFFFFFFF", Ok(Value::StrictArray(vec![Value::Number(4_294_967_295.0)])));
    check("0F 03 01 3FF8000000000000", Ok(Value::StrictArray(vec![Value::Number(1.5)])));
    check("10 03 00 01 01", Ok(Value::StrictArray(vec![Value::Null])));
    check("11 03 00 06 03 61 01", {
        Ok(Value::Dictionary(vec![(Value::String(b"a"), Value::Null)]))
    });
}

#[test]
fn references_to_strings_and_traits_are_resolved_and_those_to_objects_are_not() {
    let object = |value| Value::Object(vec![(&b"a"[..], value)]);
    // An array of "ab", the same by reference, and the array itself.
    check("09 07 01 06 05 6162 06 00 09 00", {
        Ok(Value::StrictArray(vec![Value::String(b"ab"), Value::String(b"ab"), Value::Reference]))
    });
    // Two objects of the same traits (one sealed member, a), then the first object by reference.
    check("09 07 01 0A 13 01 03 61 01 0A 01 02 0A 02", {
        Ok(Value::StrictArray(vec![
            object(Value::Null),
            object(Value::Boolean(false)),
            Value::Reference,
        ]))
    });
    check("06 00", Err(AmfError::Reference));
    check("0A 00", Err(AmfError::Reference));
    check("0A 01", Err(AmfError::Reference));
    check("08 02", Err(AmfError::Reference));
    check("0A 07 03 43", Err(AmfError::Externalizable));
}

#[test]
fn references_draw_on_an_allowance_of_the_message() {
    let limits = Limits { amf_reference_bytes_max: 6, ..Limits::default() };
    let check = |bytes: &str, left: Option<usize>| {
        let bytes = hex(bytes);
        let mut budget = Budget::new(&limits);
        let found = Amf3Reader::new(&mut Input(&bytes), &mut budget).read();
        match left {
            Some(left) => {
                assert!(found.is_ok(), "{found:?}");
                assert_eq!(budget.reference(left), Ok(()));
                assert_eq!(budget.reference(1), Err(AmfError::ReferenceBytes));
            }
            None => assert_eq!(found, Err(AmfError::ReferenceBytes)),
        }
    };
    // A string of three bytes, and the same once, twice and three times more.
    check("09 05 01 06 07 616263 06 00", Some(3));
    check("09 07 01 06 07 616263 06 00 06 00", Some(0));
    check("09 09 01 06 07 616263 06 00 06 00 06 00", None);
    // As a key, as the name of a class, as the name of a sealed member.
    check("0A 0B 01 07 616263 01 00 01 00 01 01", Some(0));
    check("0A 0B 01 07 616263 01 00 01 00 01 00 01 01", None);
    check("09 07 01 06 07 616263 0A 0B 00 01 0A 0B 00 01", Some(0));
    check("09 05 01 06 0F 61626364656667 0A 0B 00 01", None);
    check("09 05 01 06 0F 61626364656667 0A 13 01 00 01", None);
    // The layout of a class: its name and those of its members.
    check("09 05 01 0A 13 05 4344 03 61 01 0A 01 01", Some(3));
    check("09 07 01 0A 13 05 4344 05 6162 01 0A 01 01 0A 01 01", None);
}

#[test]
fn limits_hold_and_counts_allocate_nothing() {
    check("09 FFFFFFFF", Err(AmfError::Properties));
    check("0D FFFFFFFF 00", Err(AmfError::Properties));
    check("11 FFFFFFFF 00", Err(AmfError::Properties));
    check("0A FFFFFFF3 01", Err(AmfError::Properties));
    check("06 FFFFFFFF", Err(AmfError::Truncated));
    let arrays = b"\x09\x03\x01".repeat(100_000);
    assert_eq!(read_one(&arrays), Err(AmfError::Depth));
}
