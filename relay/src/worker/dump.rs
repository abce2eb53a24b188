//! Bytes of peers in log lines: what an operator needs when a device fails and nobody has its
//! source.
//!
//! A few bytes from where a chunk stream could no longer be followed are part of the line that says
//! how the connection ended. The first 3 KiB of a connection that never got anywhere, which is its
//! handshake and nothing that may be secret, are kept and logged at level debug only.

use std::fmt;

use super::connection::Connection;
use super::labels::Role;
use super::speech::Speech;
use crate::session::SessionError;

/// Bytes of a connection's beginning that are kept: one less than the handshake has.
const OPENING_BYTES: usize = 3 * 1024;

/// Bytes shown from where a chunk stream could not be followed: the longest header.
const HEADER_BYTES: usize = 18;

/// Bytes in hexadecimal digits, with a space between any two bytes.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            let space = if place == 0 { "" } else { " " };
            write!(formatter, "{space}{byte:02X}")?;
        }
        Ok(())
    }
}

/// What ended a session, in words, and for a fault of its chunks the bytes that were `next`. Text
/// in them may be the rest of a command, and so of a key: but for the first byte it is left out.
pub(super) fn describe(error: &SessionError, next: &[u8]) -> String {
    if error.reason() == "chunk" && !next.is_empty() {
        format!("{error}; next came {}", without_text(next))
    } else {
        error.to_string()
    }
}

fn without_text(next: &[u8]) -> String {
    let shown = next.iter().take(HEADER_BYTES).enumerate().map(|(place, byte)| {
        let is_text = byte.is_ascii_graphic() || *byte == b' ';
        if place > 0 && is_text { "..".to_owned() } else { format!("{byte:02X}") }
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// Keeps the first bytes of a connection, if anybody wants to see them; not those of requests of
/// HTTP, which may hold tokens and begin with a capital letter, as no handshake does.
pub(super) fn keep_opening(connection: &mut Connection, bytes: &[u8]) {
    let room = OPENING_BYTES.saturating_sub(connection.opening.len());
    let is_first = u64::try_from(bytes.len()).is_ok_and(|count| connection.bytes_in == count);
    let is_text = bytes.first().is_some_and(u8::is_ascii_uppercase);
    if connection.opening.is_empty() && (!is_first || is_text) {
        return;
    }
    let pending = connection.purpose == Role::Pending;
    if room > 0 && pending && tracing::enabled!(tracing::Level::DEBUG) {
        connection.opening.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Logs how a connection began that neither published nor played. What lies behind a PROXY header
/// may be HTTP too.
pub(super) fn log_opening(connection: &Connection) {
    if !matches!(connection.speech, Speech::Rtmp(_) | Speech::Unknown) {
        return;
    }
    if connection.purpose == Role::Pending && !connection.opening.is_empty() {
        let bytes = Hex(&connection.opening);
        tracing::debug!(id = %connection.id, %bytes, "the connection began with");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_came_next_no_text_is_shown_but_a_single_byte() {
        assert_eq!(without_text(b"\xa1\x00\x00\x10\xab\xcd"), "A1 00 00 10 AB CD");
        assert_eq!(without_text(b"Cret-key\x00\x09"), "43 .. .. .. .. .. .. .. 00 09");
        assert_eq!(without_text(&[7; 40]).split(' ').count(), HEADER_BYTES);
    }
}
