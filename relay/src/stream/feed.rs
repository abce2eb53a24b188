//! Reading a stream for another node: whole messages, each counted, and a word wherever the count
//! does not go on.
//!
//! Like a player's cursor it is a position and holds no queue. Unlike a player's it never cuts a
//! message, because many streams share the connection; it never jumps by itself when it is behind,
//! because whoever shares the connection decides who suffers; and it can begin in the middle of a
//! group of pictures, where the other node left off.

use std::time::Duration;

use bytes::Bytes;

use super::log::Log;
use super::segment::{Carried, Segment, Video};
use super::view::{Renditions, ViewKind};

/// A position in a stream that is fed to another node. To be given back when the feed ends.
#[derive(Debug)]
pub struct Feed {
    view: ViewKind,
    /// Segments before this one are of an earlier source.
    from: u64,
    /// Segments from this one on are of a later source.
    until: Option<u64>,
    /// The next segment, and where in it; `None` while it waits for a key frame.
    place: Option<(u64, usize)>,
    /// Where the next message is in the stream's count, if the other node knows that it comes next.
    expects: Option<u64>,
    /// The time of ingest that the other node was told last.
    dated: Option<Duration>,
}

/// The other node is told when messages were taken in once for so much of the stream, so that it
/// knows that also of what comes in one burst.
const DATED_EVERY: Duration = Duration::from_secs(1);

/// What is next on a feed.
#[derive(Debug)]
pub enum FeedStep {
    /// Nothing for now; it is asked again after the next seal.
    Nothing,
    /// The other node is to be told where the stream goes on, and then asked for more.
    Start(FeedStart),
    /// Whole messages were put out.
    Sent {
        /// Their bytes.
        bytes: usize,
        /// How many, by kind.
        carried: Carried,
    },
}

/// Where a stream goes on.
#[derive(Debug)]
pub struct FeedStart {
    /// The next message, by the stream's count.
    pub seq: u64,
    /// When its segment was begun.
    pub ingested: Duration,
    /// The headers in force there, as wire bytes; empty when there are none. `None`: the stream
    /// goes on without a gap.
    pub headers: Option<Bytes>,
}

impl Feed {
    /// A feed on this view of the segments from `from` on; at the message `seq` if that is there or
    /// still to come, else from the newest key frame on.
    pub(super) fn new(
        renditions: &Renditions,
        view: ViewKind,
        from: u64,
        seq: Option<u64>,
    ) -> Self {
        let place = seq.and_then(|seq| place_of(&renditions.log, from, seq));
        Self { view, from, until: None, place, expects: None, dated: None }
    }

    /// What it reads, counted as one reader of it.
    pub(super) fn view(&self) -> ViewKind {
        self.view
    }

    /// The first segment that it needs.
    pub(super) fn segment(&self) -> Option<u64> {
        self.place.map(|(segment, _)| segment)
    }

    /// Segments from this one on are not fed: they are of another source.
    pub fn stop_at(&mut self, segment: u64) {
        self.until = Some(self.until.map_or(segment, |until| until.min(segment)));
    }

    /// The next message by the stream's count, as far as the other node was told.
    #[must_use]
    pub fn expects(&self) -> Option<u64> {
        self.expects
    }
}

/// Puts the next whole messages behind `out`, at least one and then no more than fit into `room`.
pub(super) fn next(
    renditions: &mut Renditions,
    feed: &mut Feed,
    room: usize,
    out: &mut Vec<Bytes>,
) -> FeedStep {
    let (number, offset) = match feed.place {
        Some(place) => place,
        None => match beginning(renditions, feed) {
            Some(number) => (number, 0),
            None => return FeedStep::Nothing,
        },
    };
    if feed.until.is_some_and(|until| number >= until) {
        return FeedStep::Nothing;
    }
    feed.place = Some((number, offset));
    renditions.cover(feed.view, number);
    let Some(source) = renditions.log.get(number) else {
        if number < renditions.log.first() {
            // It was trimmed away; what follows without it could not be shown.
            (feed.place, feed.expects) = (None, None);
            return match beginning(renditions, feed) {
                Some(_) => next(renditions, feed, room, out),
                None => FeedStep::Nothing,
            };
        }
        return FeedStep::Nothing;
    };
    if source.restates {
        // What it tells is told with the message behind it.
        (feed.place, feed.expects) = (Some((number + 1, 0)), None);
        return next(renditions, feed, room, out);
    }
    let seq = seq_at(source, offset);
    let ingested = source.ingested;
    let is_old = |dated: Duration| ingested.saturating_sub(dated) >= DATED_EVERY;
    let again = offset == 0 && feed.dated.is_none_or(is_old);
    if again || feed.expects != Some(seq) {
        feed.dated = Some(ingested);
    }
    if feed.expects != Some(seq) {
        feed.expects = Some(seq);
        let headers = Some(renditions.prelude_at(number, feed.view, false));
        return FeedStep::Start(FeedStart { seq, ingested, headers });
    }
    if again {
        let headers = None;
        return FeedStep::Start(FeedStart { seq, ingested, headers });
    }
    let Some(segment) = renditions.reading(feed.view).and_then(|log| log.get(number)) else {
        return FeedStep::Nothing;
    };
    let end = end_of(segment, offset, room);
    let behind = if end >= segment.bytes.len() { segment.end_seq() } else { seq_at(segment, end) };
    feed.place = Some(if end >= segment.bytes.len() { (number + 1, 0) } else { (number, end) });
    feed.expects = Some(behind);
    out.push(segment.bytes.slice(offset..end));
    let carried = segment.carried_between(offset, end);
    FeedStep::Sent { bytes: end - offset, carried }
}

/// How far a feed is behind the newest segment, by time of arrival: a stream that comes late is no
/// fault of whoever carries it on.
pub(super) fn lag(renditions: &Renditions, feed: &Feed) -> Duration {
    feed.place.map_or(Duration::ZERO, |(segment, _)| renditions.backlog(segment))
}

/// Where whoever has nothing of the stream begins: at the newest key frame; without video anywhere.
fn beginning(renditions: &Renditions, feed: &Feed) -> Option<u64> {
    let log = &renditions.log;
    let newest = log.newest()?;
    let number = match (log.newest_key(), newest.video) {
        (Some(key), Video::Flowing) => key,
        (None, Video::Flowing) => return None,
        (_, Video::Idle | Video::Never) => newest.number,
    };
    (number >= feed.from).then_some(number)
}

/// Where the message `seq` is among the segments from `from` on, or will be: who is fed may have
/// more than there is here, and waits where this log ends. `None`: it was trimmed away, or never
/// came here.
fn place_of(log: &Log, from: u64, seq: u64) -> Option<(u64, usize)> {
    let first = from.max(log.first());
    let holds = |segment: &&Segment| !segment.restates && segment.end_seq() >= seq;
    let Some(segment) = log.from(first).find(holds) else {
        return Some((from.max(log.next()), 0));
    };
    let is_here = segment.first_seq <= seq;
    is_here.then(|| match offset_of(segment, seq) {
        Some(offset) => (segment.number, offset),
        None => (segment.number + 1, 0),
    })
}

/// Where the message of this count begins; `None` behind the last one.
fn offset_of(segment: &Segment, seq: u64) -> Option<usize> {
    let place = u32::try_from(seq.checked_sub(segment.first_seq)?).ok()?;
    let at = segment.index.partition_point(|entry| entry.place < place);
    segment.index.get(at).map(super::segment::Entry::start)
}

/// The count of the message that begins at a boundary.
fn seq_at(segment: &Segment, offset: usize) -> u64 {
    let entry = segment.message_at(offset).map(|at| segment.index[at].place);
    entry.map_or(segment.end_seq(), |place| segment.first_seq + u64::from(place))
}

/// The last boundary within `room`, but at least one message further.
fn end_of(segment: &Segment, offset: usize, room: usize) -> usize {
    if segment.bytes.len() - offset <= room {
        return segment.bytes.len();
    }
    let end = segment.boundary_before(offset + room);
    if end > offset {
        return end;
    }
    segment.message_at(offset).map_or(segment.bytes.len(), |at| segment.index[at].end())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "feed_tests.rs"]
mod tests;
