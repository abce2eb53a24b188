//! No stream goes round in a circle: connections to other servers carry marks in the name of their
//! program, this node's, and behind it those of the relays that the stream has passed, or is to
//! pass: what is pulled for players that are relays themselves goes on to those. A relay that finds
//! its own mark, or one of its cluster, in a connect refuses it.

use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// are too many. `players`: the marks of relays for which a stream is pulled.
    pub(super) fn marks_for(&self, kind: OutsideKind, name: &str, players: &str) -> Option<String> {
        let own = self.shared.mark();
        if own.is_empty() {
            return Some(String::new());
        }
        let publisher = || {
            let mut entries = self.streams.iter();
            let (_, entry) = entries.find(|(_, entry)| &*entry.name == name)?;
            let Place::Here { publisher, .. } = &entry.place else { return None };
            self.connections.get(publisher.as_ref()?.connection)
        };
        let others = match (kind, publisher()) {
            (OutsideKind::Pull, _) => players,
            (OutsideKind::Push, Some(publisher)) => marks(publisher.client()),
            (OutsideKind::Push, None) => "",
        };
        // What others say is passed on only where it is what relays say.
        let others: Vec<_> = others.split(',').filter(|mark| is_mark(mark)).collect();
        if others.len() >= MARKS_MAX {
            return None;
        }
        let all: Vec<_> = std::iter::once(own).chain(others).collect();
        Some(format!("{MARKS}{}", all.join(",")))
    }

    /// The relays behind a player, if it is one itself.
    pub(super) fn marks_of(connection: &Connection) -> Option<Box<str>> {
        let client = connection.speech.client()?;
        let all: Vec<_> =
            marks(&client.flash_ver).split(',').filter(|mark| is_mark(mark)).collect();
        let few = all.get(..MARKS_MAX.min(all.len())).unwrap_or_default();
        (!few.is_empty()).then(|| few.join(",").into())
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

/// The relays that play, by the names of what they play.
#[derive(Debug, Default)]
pub(super) struct Marks(BTreeMap<Arc<str>, BTreeMap<Box<str>, usize>>);

impl Marks {
    /// A player with these marks has begun, or is gone.
    pub(super) fn count(&mut self, name: &Arc<str>, marks: &str, begun: bool) {
        let of_name = self.0.entry(Arc::clone(name)).or_default();
        for mark in marks.split(',').filter(|mark| !mark.is_empty()) {
            let count = of_name.entry(mark.into()).or_default();
            *count = if begun { *count + 1 } else { count.saturating_sub(1) };
        }
        of_name.retain(|_, count| *count > 0);
        if of_name.is_empty() {
            self.0.remove(name);
        }
    }

    /// Those of a name, with commas between them; of many some, since a connection has room for
    /// few.
    pub(super) fn of(&self, name: &str) -> Arc<str> {
        let marks = self.0.get(name).into_iter().flat_map(BTreeMap::keys).take(MARKS_MAX - 1);
        marks.map(|mark| &**mark).collect::<Vec<_>>().join(",").into()
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

    #[test]
    fn relays_that_play_are_known_as_long_as_they_do() {
        let mut marks = Marks::default();
        let (one, two): (Arc<str>, Arc<str>) = ("live/one".into(), "live/two".into());
        marks.count(&one, "0a,1b", true);
        marks.count(&one, "1b", true);
        marks.count(&two, "2c", true);
        assert_eq!((&*marks.of(&one), &*marks.of(&two)), ("0a,1b", "2c"));
        marks.count(&one, "0a,1b", false);
        marks.count(&two, "2c", false);
        assert_eq!((&*marks.of(&one), &*marks.of(&two)), ("1b", ""));
        for number in 0..20 {
            marks.count(&two, &format!("{number:02}"), true);
        }
        assert_eq!(marks.of(&two).split(',').count(), MARKS_MAX - 1);
        marks.count(&one, "1b", false);
        assert_eq!(marks.0.len(), 1);
    }
}
