//! AMF values: the one tree into which both encodings, AMF0 and AMF3, are read.
//!
//! Everything is borrowed from the message: strings are byte slices, because a peer's invalid UTF-8
//! must not fail a message, and containers are lists in the order of the wire. References to
//! objects are never followed, so there is no cycle; AMF3 references to strings and class layouts
//! are, so a tree that is written out again may be longer than its message, by at most
//! `amf_reference_bytes_max`. That and the other limits (`amf_depth_max`, `amf_values_max`,
//! `amf_properties_max`) are judged by the [`Budget`] that every reader of one message shares; a
//! count field on the wire is never used to allocate.

use thiserror::Error;

use crate::limits::Limits;

/// The properties of an object, in the order of the wire. A key may repeat; the last one wins.
pub type Properties<'a> = Vec<(&'a [u8], Value<'a>)>;

/// One AMF value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// A number. AMF3 integers are read as numbers too.
    Number(f64),
    /// A boolean.
    Boolean(bool),
    /// A string, long or short; usually UTF-8, but nobody promised it.
    String(&'a [u8]),
    /// Null.
    Null,
    /// Undefined.
    Undefined,
    /// The AMF0 marker 0D.
    Unsupported,
    /// A reference to an earlier object. It is not followed and reads as nothing.
    Reference,
    /// An anonymous object.
    Object(Properties<'a>),
    /// An AMF0 ECMA array, or the associative part of an AMF3 array whose dense part is empty.
    EcmaArray(Properties<'a>),
    /// An object with a class name (AMF0 typed object, AMF3 object with traits).
    TypedObject {
        /// The class name.
        class: &'a [u8],
        /// Sealed members first, then dynamic ones.
        properties: Properties<'a>,
    },
    /// An array of values without keys.
    StrictArray(Vec<Value<'a>>),
    /// An AMF3 array with both an associative and a dense part.
    MixedArray {
        /// The associative part.
        properties: Properties<'a>,
        /// The dense part.
        elements: Vec<Value<'a>>,
    },
    /// Milliseconds since 1970-01-01 UTC.
    Date(f64),
    /// An XML document.
    Xml(&'a [u8]),
    /// An AMF3 byte array.
    Bytes(&'a [u8]),
    /// An AMF3 dictionary, whose keys are values.
    Dictionary(Vec<(Value<'a>, Value<'a>)>),
}

impl<'a> Value<'a> {
    /// The bytes of a string.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::String(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The number.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The number as an unsigned integer: cut to the range of `u32`, not-a-number is 0.
    #[must_use]
    pub fn as_u32(&self) -> Option<u32> {
        self.as_number().map(saturating_u32)
    }

    /// A boolean, or a number that stands for one (0 is false).
    #[must_use]
    pub fn as_boolean(&self) -> Option<bool> {
        match self {
            Self::Boolean(boolean) => Some(*boolean),
            Self::Number(number) => Some(*number != 0.0),
            _ => None,
        }
    }

    /// The properties of anything that has keys: objects and ECMA arrays are interchangeable on
    /// input.
    #[must_use]
    pub fn properties(&self) -> Option<&Properties<'a>> {
        match self {
            Self::Object(properties)
            | Self::EcmaArray(properties)
            | Self::TypedObject { properties, .. }
            | Self::MixedArray { properties, .. } => Some(properties),
            _ => None,
        }
    }

    /// The property of that name, upper and lower case being equal; the last one wins.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        let properties = self.properties()?;
        properties
            .iter()
            .rev()
            .find(|(name, _)| name.eq_ignore_ascii_case(key.as_bytes()))
            .map(|(_, value)| value)
    }

    /// An object from literal keys, for writing.
    #[must_use]
    pub fn object<const N: usize>(properties: [(&'a str, Value<'a>); N]) -> Self {
        Self::Object(properties.into_iter().map(|(key, value)| (key.as_bytes(), value)).collect())
    }

    /// A string, for writing.
    #[must_use]
    pub fn text(text: &'a str) -> Self {
        Self::String(text.as_bytes())
    }
}

/// A number where an integer is meant: cut to the range of `u32`, not-a-number is 0.
#[must_use]
pub fn saturating_u32(number: f64) -> u32 {
    // A cast from a float saturates and turns not-a-number into 0, which is what is wanted.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let integer = number as u32;
    integer
}

/// A number where an integer is meant: cut to the range of `i64`, not-a-number is 0.
#[must_use]
pub fn saturating_i64(number: f64) -> i64 {
    // A cast from a float saturates and turns not-a-number into 0, which is what is wanted.
    #[allow(clippy::cast_possible_truncation)]
    let integer = number as i64;
    integer
}

/// Why a message could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AmfError {
    /// The message ends inside a value.
    #[error("the AMF message ends inside a value")]
    Truncated,
    /// A marker that is reserved or unknown.
    #[error("AMF marker {0:#04x} is not known")]
    Marker(u8),
    /// `amf_depth_max` was passed.
    #[error("AMF values are nested too deeply")]
    Depth,
    /// `amf_values_max` was passed.
    #[error("the AMF message holds too many values")]
    Values,
    /// `amf_properties_max` was passed.
    #[error("an AMF container holds too many elements")]
    Properties,
    /// `amf_reference_bytes_max` was passed.
    #[error("AMF3 references stand for too many bytes")]
    ReferenceBytes,
    /// An AMF3 reference to something that was not there before.
    #[error("an AMF3 reference points to nothing")]
    Reference,
    /// An AMF3 object whose layout only its class knows.
    #[error("an externalizable AMF3 object cannot be read")]
    Externalizable,
}

/// What is left of the limits while one message is read.
#[derive(Clone, Debug)]
pub struct Budget {
    depth: usize,
    values: usize,
    properties_max: usize,
    reference_bytes: usize,
}

impl Budget {
    /// The budget of one message.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            depth: limits.amf_depth_max,
            values: limits.amf_values_max,
            properties_max: limits.amf_properties_max,
            reference_bytes: limits.amf_reference_bytes_max,
        }
    }

    /// Takes one value.
    ///
    /// # Errors
    /// [`AmfError::Values`] when there are too many.
    pub fn value(&mut self) -> Result<(), AmfError> {
        self.values = self.values.checked_sub(1).ok_or(AmfError::Values)?;
        Ok(())
    }

    /// Takes the bytes that a reference to something earlier stands for.
    ///
    /// # Errors
    /// [`AmfError::ReferenceBytes`] when they are too many.
    pub fn reference(&mut self, bytes: usize) -> Result<(), AmfError> {
        let left = self.reference_bytes.checked_sub(bytes);
        self.reference_bytes = left.ok_or(AmfError::ReferenceBytes)?;
        Ok(())
    }

    /// Enters a container; every successful call is paired with [`Self::leave`].
    ///
    /// # Errors
    /// [`AmfError::Depth`] when it is nested too deeply.
    pub fn enter(&mut self) -> Result<(), AmfError> {
        self.depth = self.depth.checked_sub(1).ok_or(AmfError::Depth)?;
        Ok(())
    }

    /// Leaves a container.
    pub fn leave(&mut self) {
        self.depth += 1;
    }

    /// Judges the number of elements that a container has, or claims to have.
    ///
    /// # Errors
    /// [`AmfError::Properties`] when there are too many.
    pub fn elements(&self, count: usize) -> Result<(), AmfError> {
        if count > self.properties_max { Err(AmfError::Properties) } else { Ok(()) }
    }
}

/// The bytes of a message that are not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`AmfError::Truncated`] when there are fewer.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], AmfError> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(AmfError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`AmfError::Truncated`] when there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], AmfError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(AmfError::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`AmfError::Truncated`] at the end.
    pub fn byte(&mut self) -> Result<u8, AmfError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A 16-bit count.
    ///
    /// # Errors
    /// [`AmfError::Truncated`] at the end.
    pub fn u16(&mut self) -> Result<usize, AmfError> {
        self.array().map(|bytes| usize::from(u16::from_be_bytes(bytes)))
    }

    /// A 32-bit count. On a machine where it does not fit, it is larger than any message.
    ///
    /// # Errors
    /// [`AmfError::Truncated`] at the end.
    pub fn u32(&mut self) -> Result<usize, AmfError> {
        self.array().map(|bytes| usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX))
    }

    /// A double.
    ///
    /// # Errors
    /// [`AmfError::Truncated`] at the end.
    pub fn double(&mut self) -> Result<f64, AmfError> {
        self.array().map(f64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_cut_to_integers() {
        let check = |number: f64, expected: u32| assert_eq!(saturating_u32(number), expected);
        check(0.0, 0);
        check(1.9, 1);
        check(-2000.0, 0);
        check(f64::NAN, 0);
        check(f64::INFINITY, u32::MAX);
        check(4_294_967_296.0, u32::MAX);
    }

    #[test]
    fn properties_are_found_whatever_their_case_and_the_last_one_wins() {
        let value = Value::object([
            ("tcurl", Value::text("a")),
            ("app", Value::text("x")),
            ("App", Value::text("y")),
        ]);
        assert_eq!(value.get("tcUrl"), Some(&Value::text("a")));
        assert_eq!(value.get("app"), Some(&Value::text("y")));
        assert_eq!(value.get("missing"), None);
        assert_eq!(Value::Null.get("app"), None);
    }
}
