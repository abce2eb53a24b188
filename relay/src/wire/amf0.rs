//! AMF0: the encoding of commands and data messages (Action Message Format AMF 0, section 2).
//!
//! [`Amf0Reader`] reads values one after the other from a message and stops wherever the caller
//! stops; it never copies a string. [`write_value`] is the other direction. What follows the last
//! value that is needed is not looked at.

use bytes::{BufMut, BytesMut};

use super::amf::{AmfError, Budget, Input, Properties, Value};
use super::amf3::Amf3Reader;
use crate::limits::Limits;

mod marker {
    pub(super) const NUMBER: u8 = 0x00;
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const OBJECT: u8 = 0x03;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const REFERENCE: u8 = 0x07;
    pub(super) const ECMA_ARRAY: u8 = 0x08;
    pub(super) const OBJECT_END: u8 = 0x09;
    pub(super) const STRICT_ARRAY: u8 = 0x0a;
    pub(super) const DATE: u8 = 0x0b;
    pub(super) const LONG_STRING: u8 = 0x0c;
    pub(super) const UNSUPPORTED: u8 = 0x0d;
    pub(super) const XML: u8 = 0x0f;
    pub(super) const TYPED_OBJECT: u8 = 0x10;
    pub(super) const AMF3: u8 = 0x11;
}

/// Reads the values of one message.
#[derive(Debug)]
pub struct Amf0Reader<'a> {
    input: Input<'a>,
    budget: Budget,
    amf3_seen: bool,
}

impl<'a> Amf0Reader<'a> {
    /// A reader of `payload`, within the limits for one message.
    #[must_use]
    pub fn new(payload: &'a [u8], limits: &Limits) -> Self {
        Self { input: Input(payload), budget: Budget::new(limits), amf3_seen: false }
    }

    /// Whether the message ends here.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.input.0.is_empty()
    }

    /// What is not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.input.0
    }

    /// Whether a value read so far was in AMF3 (marker 11).
    #[must_use]
    pub fn amf3_seen(&self) -> bool {
        self.amf3_seen
    }

    /// Reads one value.
    ///
    /// # Errors
    /// When the message ends inside the value, the value is of no known kind, or a limit is passed.
    pub fn read(&mut self) -> Result<Value<'a>, AmfError> {
        self.budget.value()?;
        match self.input.byte()? {
            marker::NUMBER => self.input.double().map(Value::Number),
            marker::BOOLEAN => self.input.byte().map(|byte| Value::Boolean(byte != 0)),
            marker::STRING => self.short_string().map(Value::String),
            marker::OBJECT => self.object().map(Value::Object),
            marker::NULL => Ok(Value::Null),
            marker::UNDEFINED => Ok(Value::Undefined),
            marker::REFERENCE => self.input.u16().map(|_| Value::Reference),
            marker::ECMA_ARRAY => {
                // The count is a hint, often 0 or wrong.
                self.input.u32()?;
                self.object().map(Value::EcmaArray)
            }
            marker::STRICT_ARRAY => self.strict_array().map(Value::StrictArray),
            marker::DATE => {
                let milliseconds = self.input.double()?;
                let _time_zone = self.input.u16()?;
                Ok(Value::Date(milliseconds))
            }
            marker::LONG_STRING => self.long_string().map(Value::String),
            marker::UNSUPPORTED => Ok(Value::Unsupported),
            marker::XML => self.long_string().map(Value::Xml),
            marker::TYPED_OBJECT => {
                let class = self.short_string()?;
                let properties = self.object()?;
                Ok(Value::TypedObject { class, properties })
            }
            marker::AMF3 => {
                self.amf3_seen = true;
                Amf3Reader::new(&mut self.input, &mut self.budget).read()
            }
            unknown => Err(AmfError::Marker(unknown)),
        }
    }

    /// Reads an object or ECMA array as far as it can be read: the properties before the first
    /// fault, and the fault if there was one. `None` when there is no object at all.
    pub fn read_object_leniently(&mut self) -> Option<(Properties<'a>, Option<AmfError>)> {
        let mut input = self.input;
        match input.byte().ok()? {
            marker::OBJECT => {}
            marker::ECMA_ARRAY => {
                input.u32().ok()?;
            }
            // These have no layout worth repairing.
            marker::TYPED_OBJECT | marker::AMF3 => {
                return match self.read() {
                    Ok(
                        Value::MixedArray { properties, .. }
                        | Value::Object(properties)
                        | Value::EcmaArray(properties)
                        | Value::TypedObject { properties, .. },
                    ) => Some((properties, None)),
                    Ok(_) | Err(_) => None,
                };
            }
            _ => return None,
        }
        self.input = input;
        self.budget.value().ok()?;
        let mut properties = Properties::new();
        let fault = self.fill(&mut properties).err();
        Some((properties, fault))
    }

    fn object(&mut self) -> Result<Properties<'a>, AmfError> {
        let mut properties = Properties::new();
        self.fill(&mut properties)?;
        Ok(properties)
    }

    fn fill(&mut self, properties: &mut Properties<'a>) -> Result<(), AmfError> {
        self.budget.enter()?;
        loop {
            let key = self.short_string()?;
            // An empty key that is not followed by the end marker is an ordinary, nameless
            // property.
            if key.is_empty() && self.input.0.first() == Some(&marker::OBJECT_END) {
                self.input.byte()?;
                break;
            }
            self.budget.elements(properties.len() + 1)?;
            let value = self.read()?;
            properties.push((key, value));
        }
        self.budget.leave();
        Ok(())
    }

    fn strict_array(&mut self) -> Result<Vec<Value<'a>>, AmfError> {
        self.budget.enter()?;
        let count = self.input.u32()?;
        self.budget.elements(count)?;
        let mut elements = Vec::new();
        for _ in 0..count {
            elements.push(self.read()?);
        }
        self.budget.leave();
        Ok(elements)
    }

    fn short_string(&mut self) -> Result<&'a [u8], AmfError> {
        let length = self.input.u16()?;
        self.input.take(length)
    }

    fn long_string(&mut self) -> Result<&'a [u8], AmfError> {
        let length = self.input.u32()?;
        self.input.take(length)
    }
}

/// Writes a value in AMF0. What AMF0 or its readers lack is written as what comes nearest:
/// references and undefined-like values as null or undefined, AMF3 byte arrays as null,
/// dictionaries with string keys as objects. A property whose key is longer than 65,535 bytes is
/// left out.
pub fn write_value(out: &mut BytesMut, value: &Value<'_>) {
    match value {
        Value::Number(number) => {
            out.put_u8(marker::NUMBER);
            out.put_f64(*number);
        }
        Value::Boolean(boolean) => {
            out.put_u8(marker::BOOLEAN);
            out.put_u8(u8::from(*boolean));
        }
        Value::String(bytes) => write_string(out, bytes),
        Value::Null | Value::Reference | Value::Bytes(_) => out.put_u8(marker::NULL),
        Value::Undefined => out.put_u8(marker::UNDEFINED),
        Value::Unsupported => out.put_u8(marker::UNSUPPORTED),
        Value::Object(properties) => {
            out.put_u8(marker::OBJECT);
            write_properties(out, properties);
        }
        Value::EcmaArray(properties) => {
            write_ecma_head(out, properties.len());
            write_properties(out, properties);
        }
        Value::TypedObject { class, properties } => {
            match u16::try_from(class.len()) {
                Ok(length) => {
                    out.put_u8(marker::TYPED_OBJECT);
                    out.put_u16(length);
                    out.put_slice(class);
                }
                Err(_) => out.put_u8(marker::OBJECT),
            }
            write_properties(out, properties);
        }
        Value::StrictArray(elements) => {
            out.put_u8(marker::STRICT_ARRAY);
            out.put_u32(u32::try_from(elements.len()).unwrap_or(u32::MAX));
            for element in elements {
                write_value(out, element);
            }
        }
        Value::MixedArray { properties, elements } => {
            write_ecma_head(out, properties.len() + elements.len());
            for (key, value) in properties {
                write_property(out, key, value);
            }
            for (index, element) in elements.iter().enumerate() {
                write_property(out, index.to_string().as_bytes(), element);
            }
            write_object_end(out);
        }
        Value::Date(milliseconds) => {
            out.put_u8(marker::DATE);
            out.put_f64(*milliseconds);
            out.put_u16(0);
        }
        Value::Xml(bytes) => write_long(out, marker::XML, bytes),
        Value::Dictionary(entries) => {
            out.put_u8(marker::OBJECT);
            for (key, value) in entries {
                if let Value::String(key) = key {
                    write_property(out, key, value);
                }
            }
            write_object_end(out);
        }
    }
}

/// Writes a string, as a short one (marker 02) whenever it fits.
pub fn write_string(out: &mut BytesMut, bytes: &[u8]) {
    match u16::try_from(bytes.len()) {
        Ok(length) => {
            out.put_u8(marker::STRING);
            out.put_u16(length);
            out.put_slice(bytes);
        }
        Err(_) => write_long(out, marker::LONG_STRING, bytes),
    }
}

fn write_long(out: &mut BytesMut, marker: u8, bytes: &[u8]) {
    // A message is at most 16 MiB long, so the length always fits; a longer string would be cut.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let kept = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
    out.put_u8(marker);
    out.put_u32(length);
    out.put_slice(&bytes[..kept]);
}

fn write_ecma_head(out: &mut BytesMut, count: usize) {
    out.put_u8(marker::ECMA_ARRAY);
    out.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
}

fn write_properties(out: &mut BytesMut, properties: &Properties<'_>) {
    for (key, value) in properties {
        write_property(out, key, value);
    }
    write_object_end(out);
}

fn write_property(out: &mut BytesMut, key: &[u8], value: &Value<'_>) {
    if let Ok(length) = u16::try_from(key.len()) {
        out.put_u16(length);
        out.put_slice(key);
        write_value(out, value);
    }
}

fn write_object_end(out: &mut BytesMut) {
    out.put_slice(&[0, 0, marker::OBJECT_END]);
}

#[cfg(test)]
mod tests;
