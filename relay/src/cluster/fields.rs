//! Fields of a message, read and written one after the other.
//!
//! Integers are in network order, texts and lists carry their length. A length on the wire is never
//! used to allocate: what it claims must be there.

use std::sync::Arc;

use super::codec::CodecError;

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CodecError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        self.take(N)?.try_into().map_err(|_| CodecError::Short)
    }

    pub(super) fn u8(&mut self) -> Result<u8, CodecError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, CodecError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A byte of flags.
    pub(super) fn flags<const N: usize>(&mut self) -> Result<[bool; N], CodecError> {
        let byte = self.u8()?;
        Ok(std::array::from_fn(|bit| byte & (1 << bit) != 0))
    }

    /// A text of 1 to `longest` bytes, or none where `empty` is allowed, without control
    /// characters: names go into logs.
    pub(super) fn text(&mut self, longest: usize, empty: bool) -> Result<Arc<str>, CodecError> {
        let length = usize::from(self.u16()?);
        if length > longest || (length == 0 && !empty) {
            return Err(CodecError::Text);
        }
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| CodecError::Text)?;
        if text.chars().any(char::is_control) {
            return Err(CodecError::Text);
        }
        Ok(text.into())
    }

    /// The parts of a list. Each has a length of its own, so that a later version can add to it.
    pub(super) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Input<'a>) -> Result<T, CodecError>,
    ) -> Result<Vec<T>, CodecError> {
        let count = self.u16()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let length = usize::from(self.u16()?);
            entries.push(read(&mut Input(self.take(length)?))?);
        }
        Ok(entries)
    }
}

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Output(pub(super) Vec<u8>);

impl Output {
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }

    pub(super) fn flags<const N: usize>(&mut self, flags: [bool; N]) {
        self.u8(flags.iter().rev().fold(0, |byte, flag| byte << 1 | u8::from(*flag)));
    }

    /// A text; one beyond 64 KiB, which no limit allows, is cut to nothing.
    pub(super) fn text(&mut self, text: &str) {
        let length = u16::try_from(text.len()).unwrap_or(0);
        self.u16(length);
        self.put(&text.as_bytes()[..usize::from(length)]);
    }

    pub(super) fn list<T>(&mut self, entries: &[T], mut write: impl FnMut(&mut Self, &T)) {
        let count = u16::try_from(entries.len()).unwrap_or(u16::MAX);
        self.u16(count);
        for entry in &entries[..usize::from(count)] {
            let mut part = Self::default();
            write(&mut part, entry);
            self.u16(u16::try_from(part.0.len()).unwrap_or(0));
            self.put(&part.0);
        }
    }
}
