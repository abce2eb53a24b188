#![allow(clippy::unwrap_used)]

use super::*;
use crate::wire::testing::bytes as hex;

fn read_one(bytes: &[u8]) -> Result<(Value<'_>, usize), AmfError> {
    let mut reader = Amf0Reader::new(bytes, &Limits::default());
    let value = reader.read()?;
    Ok((value, reader.rest().len()))
}

#[test]
fn every_marker_is_read() {
    #[track_caller]
    fn check(bytes: &str, expected: Result<Value<'_>, AmfError>) {
        let bytes = hex(bytes);
        let found = read_one(&bytes).map(|(value, rest)| {
            assert_eq!(rest, 0, "all bytes are read");
            value
        });
        assert_eq!(found, expected);
        // Cut anywhere, the value is truncated and nothing else.
        if expected.is_ok() {
            for end in 0..bytes.len() {
                assert_eq!(read_one(&bytes[..end]), Err(AmfError::Truncated), "cut at {end}");
            }
        }
    }
    check("00 3FF0000000000000", Ok(Value::Number(1.0)));
    check("01 00", Ok(Value::Boolean(false)));
    check("01 07", Ok(Value::Boolean(true)));
    check("02 0003 616263", Ok(Value::String(b"abc")));
    check("02 0002 FFFE", Ok(Value::String(b"\xff\xfe")));
    check("03 000009", Ok(Value::Object(vec![])));
    check("03 0001 61 05 000009", Ok(Value::Object(vec![(b"a", Value::Null)])));
    check("03 0000 05 0001 61 05 000009", {
        Ok(Value::Object(vec![(b"", Value::Null), (b"a", Value::Null)]))
    });
    check("05", Ok(Value::Null));
    check("06", Ok(Value::Undefined));
    check("07 0001", Ok(Value::Reference));
    check("08 FFFFFFFF 0001 61 0101 000009", {
        Ok(Value::EcmaArray(vec![(b"a", Value::Boolean(true))]))
    });
    check("0A 00000002 05 06", Ok(Value::StrictArray(vec![Value::Null, Value::Undefined])));
    check("0B 4000000000000000 FFC4", Ok(Value::Date(2.0)));
    check("0C 00000002 6162", Ok(Value::String(b"ab")));
    check("0D", Ok(Value::Unsupported));
    check("0F 00000003 3C612F", Ok(Value::Xml(b"<a/")));
    check("10 0001 43 0001 61 05 000009", {
        Ok(Value::TypedObject { class: b"C", properties: vec![(b"a", Value::Null)] })
    });
    check("11 04 7F", Ok(Value::Number(127.0)));
    check("04", Err(AmfError::Marker(4)));
    check("09", Err(AmfError::Marker(9)));
    check("0E", Err(AmfError::Marker(0x0e)));
    check("12", Err(AmfError::Marker(0x12)));
}

#[test]
fn limits_hold_and_counts_allocate_nothing() {
    #[track_caller]
    fn check(bytes: &[u8], expected: AmfError) {
        assert_eq!(read_one(bytes), Err(expected));
    }
    let limits = Limits::default();
    let nested = |depth: usize| {
        let mut bytes = b"\x03\x00\x01a".repeat(depth);
        bytes.push(5);
        bytes.extend(b"\x00\x00\x09".repeat(depth));
        bytes
    };
    assert!(read_one(&nested(limits.amf_depth_max)).is_ok());
    check(&nested(limits.amf_depth_max + 1), AmfError::Depth);
    check(&nested(100_000), AmfError::Depth);

    let wide = |width: usize| {
        let mut bytes = vec![3];
        bytes.extend(b"\x00\x01a\x05".repeat(width));
        bytes.extend(b"\x00\x00\x09");
        bytes
    };
    assert!(read_one(&wide(limits.amf_properties_max)).is_ok());
    check(&wide(limits.amf_properties_max + 1), AmfError::Properties);
    check(&hex("0A FFFFFFFF 05"), AmfError::Properties);
    check(&hex("0A 00000400 05"), AmfError::Truncated);
    check(&hex("0C FFFFFFFF 05"), AmfError::Truncated);

    // Five arrays of 1,000 values in one message.
    let mut many = Vec::new();
    for _ in 0..5 {
        many.extend(hex("0A 000003E8"));
        many.extend([5].repeat(1000));
    }
    let mut reader = Amf0Reader::new(&many, &limits);
    for _ in 0..4 {
        assert!(reader.read().is_ok());
    }
    assert_eq!(reader.read(), Err(AmfError::Values));
}

#[test]
fn what_is_written_is_read_again() {
    #[track_caller]
    fn check(value: Value<'_>) {
        let mut out = BytesMut::new();
        write_value(&mut out, &value);
        assert_eq!(read_one(&out), Ok((value, 0)));
    }
    let long = vec![b'x'; 70_000];
    check(Value::Number(-1.5));
    check(Value::Boolean(true));
    check(Value::text("short"));
    check(Value::String(&long));
    check(Value::String(&long[..65_535]));
    check(Value::Null);
    check(Value::Undefined);
    check(Value::Unsupported);
    check(Value::object([("a", Value::Null), ("b", Value::text("c"))]));
    check(Value::EcmaArray(vec![(b"", Value::Number(0.0))]));
    check(Value::TypedObject { class: b"C", properties: vec![] });
    check(Value::StrictArray(vec![Value::Date(7.0), Value::Xml(b"<x/>")]));
}

#[test]
fn what_amf0_lacks_is_written_as_what_comes_nearest() {
    #[track_caller]
    fn check(value: Value<'_>, expected: Value<'_>) {
        let mut out = BytesMut::new();
        write_value(&mut out, &value);
        assert_eq!(read_one(&out), Ok((expected, 0)));
    }
    let long = vec![b'x'; 65_536];
    check(Value::Reference, Value::Null);
    check(Value::Bytes(b"abc"), Value::Null);
    check(Value::Object(vec![(&long, Value::Null), (b"a", Value::Null)]), {
        Value::Object(vec![(b"a", Value::Null)])
    });
    check(Value::TypedObject { class: &long, properties: vec![] }, Value::Object(vec![]));
    check(
        Value::MixedArray { properties: vec![(b"a", Value::Null)], elements: vec![Value::Null] },
        Value::EcmaArray(vec![(b"a", Value::Null), (b"0", Value::Null)]),
    );
    check(
        Value::Dictionary(vec![
            (Value::text("k"), Value::Number(1.0)),
            (Value::Number(2.0), Value::Null),
        ]),
        Value::Object(vec![(b"k", Value::Number(1.0))]),
    );
}

#[test]
fn a_damaged_object_gives_what_comes_before_the_damage() {
    #[track_caller]
    fn check(bytes: &str, expected: Option<(usize, Option<AmfError>)>) {
        let bytes = hex(bytes);
        let mut reader = Amf0Reader::new(&bytes, &Limits::default());
        let found = reader.read_object_leniently().map(|(list, fault)| (list.len(), fault));
        assert_eq!(found, expected);
    }
    check("08 00000000 0001 61 05 0001 62 06 000009", Some((2, None)));
    check("08 00000000 0001 61 05 0001 62 06", Some((2, Some(AmfError::Truncated))));
    check("08 00000000 0001 61 05 0001 62", Some((1, Some(AmfError::Truncated))));
    check("03 0001 61 05 0001 62 04", Some((1, Some(AmfError::Marker(4)))));
    check("03", Some((0, Some(AmfError::Truncated))));
    check("08 0000", None);
    check("10 0001 43 0001 61 05 000009", Some((1, None)));
    check("10 0001 43 0001 61 05", None);
    check("11 0A 0B 01 03 61 01 01", Some((1, None)));
    check("11 01", None);
    check("05", None);
    check("", None);
}
