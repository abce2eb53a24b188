//! Data messages (types 15 and 18): which of a publisher's go to players, and in which form.
//!
//! One data message in an unexpected form makes an FFmpeg player lose a third of a clip or fail to
//! open, so players are sent only what every player can walk: a short name first, and metadata
//! whose body is one object that ends where the message ends. Metadata that does not is written
//! anew from what can be read of it, and so is metadata that claims a duration, by which ExoPlayer
//! takes a live stream for a recording; everything else is relayed byte for byte or not at all.

use std::borrow::Cow;

use bytes::BytesMut;

use super::amf::{AmfError, Properties, Value};
use super::amf0::{Amf0Reader, write_string, write_value};
use super::command::without_selector;
use super::media::{Class, Role, Tracks};
use super::message::{MESSAGE_BYTES_MAX, MessageType};
use crate::limits::Limits;

/// What becomes of a data message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataAction<'a> {
    /// It goes to players as a message of type 18 with this payload.
    Relay {
        /// [`Role::Metadata`] or [`Role::Data`].
        role: Role,
        /// The payload, without selector byte and without `@setDataFrame`.
        payload: Cow<'a, [u8]>,
    },
    /// `@clearDataFrame`: the metadata kept for joining players is no longer true.
    ClearMetadata,
    /// It goes nowhere.
    Drop(DataFault),
}

/// Why a data message goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataFault {
    /// Its first value is not a string of 1 to 63 bytes.
    Name,
    /// It is metadata without a readable property.
    Metadata,
    /// As it came, or as players would get it, it is longer than `data_bytes_max`.
    TooLong,
}

/// Longest name of a data message that all players stand, in bytes.
pub const NAME_BYTES_MAX: usize = 63;
/// Longest key in metadata that all players stand, in bytes.
pub const KEY_BYTES_MAX: usize = 127;

/// The name by which publishers mark what is to be kept for joining players (16 bytes with its
/// marker).
pub const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0d@setDataFrame";

const CLEAR_DATA_FRAME: &[u8] = b"@clearDataFrame";
const ON_META_DATA: &[u8] = b"onMetaData";

/// Judges the payload of a message of type 15 or 18. What is relayed is never longer than
/// `data_bytes_max`, nor than a message can be.
#[must_use]
pub fn judge<'a>(kind: MessageType, payload: &'a [u8], limits: &Limits) -> DataAction<'a> {
    let longest = limits.data_bytes_max.min(MESSAGE_BYTES_MAX);
    if payload.len() > longest {
        return DataAction::Drop(DataFault::TooLong);
    }
    match judge_values(kind, payload, limits) {
        // Written anew, AMF3 becomes longer.
        DataAction::Relay { payload, .. } if payload.len() > longest => {
            DataAction::Drop(DataFault::TooLong)
        }
        action => action,
    }
}

fn judge_values<'a>(kind: MessageType, payload: &'a [u8], limits: &Limits) -> DataAction<'a> {
    let mut payload = without_selector(kind, payload);
    let mut reader = Amf0Reader::new(payload, limits);
    let mut name = read_name(&mut reader);
    if name == Some(b"@setDataFrame") {
        payload = reader.rest();
        reader = Amf0Reader::new(payload, limits);
        name = read_name(&mut reader);
    }
    match name {
        Some(CLEAR_DATA_FRAME) => DataAction::ClearMetadata,
        Some(b"@setDataFrame") | None => DataAction::Drop(DataFault::Name),
        Some(ON_META_DATA) => judge_metadata(payload, reader),
        Some(name) => {
            let payload = match kind {
                MessageType::DataAmf3 => plain_values(name, payload, reader),
                _ => Ok(Cow::Borrowed(payload)),
            };
            match payload {
                Ok(payload) => DataAction::Relay { role: Role::Data, payload },
                Err(fault) => DataAction::Drop(fault),
            }
        }
    }
}

/// The class of a data message that is relayed.
#[must_use]
pub fn class(role: Role) -> Class {
    Class { role, tracks: Tracks::default() }
}

/// The name, if it is one that players stand. A long string (marker 0C) is not.
fn read_name<'a>(reader: &mut Amf0Reader<'a>) -> Option<&'a [u8]> {
    const SHORT_STRING: u8 = 2;
    if reader.rest().first() != Some(&SHORT_STRING) {
        return None;
    }
    let name = reader.read().ok()?.as_bytes()?;
    (1..=NAME_BYTES_MAX).contains(&name.len()).then_some(name)
}

fn judge_metadata<'a>(payload: &'a [u8], mut reader: Amf0Reader<'a>) -> DataAction<'a> {
    // An object (03) or an ECMA array (08); other bodies with properties are written anew.
    let is_walkable = matches!(reader.rest().first(), Some(3 | 8));
    let Some((properties, fault)) = reader.read_object_leniently() else {
        return DataAction::Drop(DataFault::Metadata);
    };
    if properties.is_empty() {
        return DataAction::Drop(DataFault::Metadata);
    }
    let role = Role::Metadata;
    let is_clean = is_walkable && fault.is_none() && !reader.amf3_seen();
    if is_clean && properties.iter().all(|entry| is_plain_property(entry) && !is_duration(entry)) {
        // What follows the body would be read as more of its properties.
        let end = payload.len() - reader.rest().len();
        return DataAction::Relay { role, payload: Cow::Borrowed(&payload[..end]) };
    }
    let mut out = BytesMut::with_capacity(payload.len());
    let mut properties = plain_properties(properties);
    properties.retain(|entry| !is_duration(entry));
    if properties.is_empty() {
        return DataAction::Drop(DataFault::Metadata);
    }
    write_string(&mut out, ON_META_DATA);
    write_value(&mut out, &Value::EcmaArray(properties));
    DataAction::Relay { role, payload: Cow::Owned(out.into()) }
}

/// The payload of a type 15 message: as it is, unless values are in AMF3, which no player of type
/// 18 reads.
fn plain_values<'a>(
    name: &[u8],
    payload: &'a [u8],
    mut reader: Amf0Reader<'a>,
) -> Result<Cow<'a, [u8]>, DataFault> {
    let mut values = Vec::new();
    while !reader.is_at_end() {
        match reader.read() {
            Ok(value) => values.push(value),
            Err(AmfError::ReferenceBytes) => return Err(DataFault::TooLong),
            Err(_) => break,
        }
    }
    if !reader.amf3_seen() {
        return Ok(Cow::Borrowed(payload));
    }
    let mut out = BytesMut::with_capacity(payload.len());
    write_string(&mut out, name);
    for value in values {
        write_value(&mut out, &plain_value(value));
    }
    Ok(Cow::Owned(out.into()))
}

fn is_plain_property((key, value): &(&[u8], Value<'_>)) -> bool {
    key.len() <= KEY_BYTES_MAX && is_plain(value)
}

/// Whether the property says how long the stream is. Live encoders write 0, which does no harm.
fn is_duration((key, value): &(&[u8], Value<'_>)) -> bool {
    *key == b"duration" && value.as_number().is_some_and(|seconds| seconds != 0.0)
}

/// Whether FFmpeg can step over the value; it knows neither undefined nor references nor classes.
fn is_plain(value: &Value<'_>) -> bool {
    match value {
        Value::Number(_) | Value::Boolean(_) | Value::String(_) | Value::Null | Value::Date(_) => {
            true
        }
        Value::Object(properties) | Value::EcmaArray(properties) => {
            properties.iter().all(is_plain_property)
        }
        Value::StrictArray(elements) => elements.iter().all(is_plain),
        Value::Undefined
        | Value::Unsupported
        | Value::Reference
        | Value::TypedObject { .. }
        | Value::MixedArray { .. }
        | Value::Xml(_)
        | Value::Bytes(_)
        | Value::Dictionary(_) => false,
    }
}

fn plain_properties(properties: Properties<'_>) -> Properties<'_> {
    properties
        .into_iter()
        .filter(|(key, _)| key.len() <= KEY_BYTES_MAX)
        .map(|(key, value)| (key, plain_value(value)))
        .collect()
}

fn plain_value(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Object(properties) | Value::TypedObject { properties, .. } => {
            Value::Object(plain_properties(properties))
        }
        Value::EcmaArray(properties) => Value::EcmaArray(plain_properties(properties)),
        Value::StrictArray(elements) => {
            Value::StrictArray(elements.into_iter().map(plain_value).collect())
        }
        Value::MixedArray { properties, elements } => Value::MixedArray {
            properties: plain_properties(properties),
            elements: elements.into_iter().map(plain_value).collect(),
        },
        Value::Dictionary(entries) => {
            let entries = entries.into_iter();
            Value::Object(plain_properties(
                entries.filter_map(|(key, value)| Some((key.as_bytes()?, value))).collect(),
            ))
        }
        Value::Xml(text) => Value::String(text),
        Value::Undefined | Value::Unsupported | Value::Reference | Value::Bytes(_) => Value::Null,
        Value::Number(_) | Value::Boolean(_) | Value::String(_) | Value::Null | Value::Date(_) => {
            value
        }
    }
}

#[cfg(test)]
mod tests;
