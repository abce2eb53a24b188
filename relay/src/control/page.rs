//! Pages: `?limit=` and `?cursor=` of a list, and the cursor of the next page.
//!
//! A cursor is the key of the last row, in hexadecimal digits so that no name in it needs escaping.
//! It says where to go on, and stays good whatever came or went in between.

use serde::{Deserialize, Serialize};

use super::http::ApiError;
use super::together::Of;
use crate::worker::report::{ConnectionId, PAGE_MAX, StreamKey};

/// Rows of a page unless asked otherwise.
const PAGE_DEFAULT: usize = 100;

/// The query of every list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    pub(super) limit: Option<usize>,
    pub(super) cursor: Option<String>,
    /// Of which nodes the rows are to be.
    #[serde(default)]
    pub(super) cluster: Of,
}

/// One page of a list: `{"items":[...],"next":"..."}`, `next` being null on the last page.
#[derive(Debug, Serialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) next: Option<String>,
}

/// What a list can be ordered by.
pub(super) trait Cursor: Sized {
    fn to_text(&self) -> String;
    fn from_text(text: &str) -> Option<Self>;
}

impl PageQuery {
    /// How many rows, and the key after which they begin.
    pub(super) fn parse<K: Cursor>(&self) -> Result<(usize, Option<K>), ApiError> {
        let limit = self.limit.unwrap_or(PAGE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(ApiError::bad_request(format!("limit must be from 1 to {PAGE_MAX}.")));
        }
        let Some(cursor) = &self.cursor else { return Ok((limit, None)) };
        let key = from_hex(cursor).and_then(|text| K::from_text(&text));
        let key =
            key.ok_or_else(|| ApiError::bad_request("cursor must be a next of this list."))?;
        Ok((limit, Some(key)))
    }
}

/// The cursor after a row.
pub(super) fn after<K: Cursor>(key: &K) -> String {
    key.to_text().bytes().map(|byte| format!("{byte:02x}")).collect()
}

impl Cursor for StreamKey {
    fn to_text(&self) -> String {
        format!("{}:{}{}", self.app.len(), self.app, self.name)
    }

    fn from_text(text: &str) -> Option<Self> {
        let (length, rest) = text.split_once(':')?;
        let length = length.parse().ok()?;
        Some(Self::new(rest.get(..length)?, rest.get(length..)?))
    }
}

impl Cursor for ConnectionId {
    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

fn from_hex(digits: &str) -> Option<String> {
    let value =
        |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    let bytes = pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?));
    String::from_utf8(bytes.collect::<Option<_>>()?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::together::Far;
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_key() {
        fn check<K: Cursor + PartialEq + std::fmt::Debug>(key: K) {
            let cursor = after(&key);
            assert!(cursor.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let query = PageQuery { cursor: Some(cursor), ..PageQuery::default() };
            assert_eq!(query.parse::<K>().unwrap(), (PAGE_DEFAULT, Some(key)));
        }
        check(StreamKey::new("live", "a"));
        check(StreamKey::new("", ""));
        check(StreamKey::new("a/b:1", "/\u{e4}:\u{0}%?&"));
        check(ConnectionId { core: 3, number: u64::MAX });
        check(Far { node: "a@b".to_owned(), id: ConnectionId { core: 0, number: 7 } });
    }

    #[test]
    fn other_cursors_and_sizes_are_refused() {
        for cursor in ["", "0", "zz", "ff", "31", "393a61", "-1", "353ac3a4", "+1"] {
            let query = PageQuery { cursor: Some(cursor.to_owned()), ..PageQuery::default() };
            assert!(query.parse::<StreamKey>().is_err(), "{cursor:?}");
        }
        for (limit, good) in [(0, false), (1, true), (PAGE_MAX, true), (PAGE_MAX + 1, false)] {
            let query = PageQuery { limit: Some(limit), ..PageQuery::default() };
            assert_eq!(query.parse::<StreamKey>().is_ok(), good, "{limit}");
        }
    }
}
