//! As much of AMF0 as a test client needs: writing commands, and finding a status code.
//!
//! Written from the specification (AMF0 section 2), sharing nothing with the relay's own codec, so
//! that one cannot hide the other's mistakes.

/// A value to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Number(f64),
    Bool(bool),
    String(&'a str),
    Null,
    Object(&'a [(&'a str, Value<'a>)]),
}

/// The bytes of `values`, one after the other.
pub(crate) fn bytes(values: &[Value<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in values {
        write(&mut out, *value);
    }
    out
}

fn write(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Number(number) => {
            out.push(0);
            out.extend(number.to_be_bytes());
        }
        Value::Bool(flag) => out.extend([1, u8::from(flag)]),
        Value::String(text) => {
            out.push(2);
            write_text(out, text);
        }
        Value::Null => out.push(5),
        Value::Object(properties) => {
            out.push(3);
            for (key, value) in properties {
                write_text(out, key);
                write(out, *value);
            }
            out.extend([0, 0, 9]);
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("the tests write short strings");
    out.extend(length.to_be_bytes());
    out.extend(text.as_bytes());
}

/// The name that a command message starts with.
pub(crate) fn command_name(payload: &[u8]) -> Option<&str> {
    text(payload.strip_prefix(&[2])?)
}

/// The string behind the property `code`, wherever in the message it is.
pub(crate) fn status_code(payload: &[u8]) -> Option<&str> {
    let mark = b"\x00\x04code\x02";
    let at = payload.windows(mark.len()).position(|window| window == mark)?;
    text(&payload[at + mark.len()..])
}

fn text(bytes: &[u8]) -> Option<&str> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    std::str::from_utf8(rest.get(..usize::from(u16::from_be_bytes(*length)))?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_and_found_again() {
        let info = [("level", Value::String("status")), ("code", Value::String("A.B.C"))];
        let status = bytes(&[
            Value::String("onStatus"),
            Value::Number(0.0),
            Value::Null,
            Value::Object(&info),
            Value::Bool(true),
        ]);
        assert_eq!(command_name(&status), Some("onStatus"));
        assert_eq!(status_code(&status), Some("A.B.C"));
        assert_eq!(status_code(b"\x02\x00\x01a"), None);
        assert_eq!(&status[11..21], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(&status[status.len() - 5..], &[0, 0, 9, 1, 1]);
    }
}
