//! No stream goes round in a circle: connections to other servers carry marks in the name of their
//! program, this node's, and behind it those of the relays that the stream has passed. A relay that
//! finds its own mark, or one of its cluster, in a connect refuses it.

use super::Worker;
use super::client::LOOP;
use super::connection::Connection;
use super::labels::RefuseReason;
use super::local::Place;
use super::outside::OutsideKind;
use crate::session::{ConnectRefusal, ConnectRefusalCode};

/// What introduces the marks of relays in the name of a program.
const MARKS: &str = "relay-path=";

/// Most relays that a stream may pass by pushes.
pub(super) const MARKS_MAX: usize = 8;

impl Worker {
    /// What a connection to another server is to say of the relays on the way: `None` when they
    /// are too many.
    pub(super) fn marks_for(&self, kind: OutsideKind, name: &str) -> Option<String> {
        let own = self.shared.mark();
        if own.is_empty() {
            return Some(String::new());
        }
        let publisher = || {
            let (_, entry) = self.streams.iter().find(|(_, entry)| &*entry.name == name)?;
            let Place::Here { publisher, .. } = &entry.place else { return None };
            self.connections.get(publisher.as_ref()?.connection)
        };
        let before = match (kind, publisher()) {
            (OutsideKind::Push, Some(publisher)) => marks(publisher.client()),
            _ => "",
        };
        // What a publisher says is passed on only where it is what relays say.
        let before: Vec<_> = before.split(',').filter(|mark| is_mark(mark)).collect();
        if before.len() >= MARKS_MAX {
            return None;
        }
        let all: Vec<_> = std::iter::once(own).chain(before).collect();
        Some(format!("{MARKS}{}", all.join(",")))
    }

    /// Whether a client that connects is this node or its cluster, perhaps by others.
    pub(super) fn judge_loop(&mut self, connection: &Connection) -> Option<ConnectRefusal> {
        let own = self.shared.mark();
        let client = connection.speech.client()?;
        let ours = |mark: &str| mark == own || self.links.siblings.are_marked(mark);
        if own.is_empty() || !marks(&client.flash_ver).split(',').any(ours) {
            return None;
        }
        self.cells.refused.at(RefuseReason::Loop).increment();
        let (id, peer) = (&connection.id, &connection.peer);
        let reason = RefuseReason::Loop.label();
        tracing::warn!(%id, %peer, reason, "connect refused: a push or pull leads back here");
        let description = format!("{LOOP}the stream comes from this server").into();
        Some(ConnectRefusal { code: ConnectRefusalCode::Rejected, description })
    }
}

/// The marks of relays in the name of a program, with commas between them.
fn marks(flash_ver: &str) -> &str {
    let Some((_, marks)) = flash_ver.split_once(MARKS) else { return "" };
    let end = |c: char| !(c.is_ascii_alphanumeric() || c == ',');
    marks.split(end).next().unwrap_or_default()
}

/// Whether this has the form of a mark: sixteen hexadecimal digits.
fn is_mark(mark: &str) -> bool {
    mark.len() == 16 && mark.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_relays_say_is_a_mark() {
        for (mark, expected) in [
            ("00000000000000a1", true),
            ("ffffffffffffffff", true),
            ("", false),
            ("0a1b", false),
            ("00000000000000a10", false),
            ("00000000000000g1", false),
        ] {
            assert_eq!(is_mark(mark), expected, "{mark:?}");
        }
    }

    #[test]
    fn marks_are_found_in_the_name_of_a_program() {
        let check = |said: &str, expected: &str| assert_eq!(marks(said), expected, "{said:?}");
        check("", "");
        check("FMLE/3.0 (compatible; relay)", "");
        check("FMLE/3.0 (compatible; relay-path=0a1b)", "0a1b");
        check("LNX 9,0,124,2 (relay-path=0a1b,2c3d; x)", "0a1b,2c3d");
        check("relay-path=", "");
    }
}
