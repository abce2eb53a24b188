//! Looks at every slice that a reactor is asked to send, and finds out where its bytes lie.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use relay::limits::Limits;
use relay::reactor::sim::SimNet;
use relay::wire::chunk_reader::ChunkReader;
use relay::wire::message::{CHUNK_BYTES, MessageType};

use super::node::Node;

/// Where a slice lies: its first address and the one behind its last.
type Place = (usize, usize);

/// A slice, kept where its bytes have to be looked at.
type Slice = (Place, Option<Bytes>);

/// What was sent, by where it lies.
#[derive(Default)]
pub(crate) struct SentSlices {
    seen: Rc<RefCell<Vec<Slice>>>,
    /// Segments of all logs when they were looked at last: first address to the one behind the
    /// last.
    live: BTreeMap<usize, usize>,
    pub(crate) log_slices: u64,
    pub(crate) log_bytes: u64,
    pub(crate) preludes: u64,
    pub(crate) prelude_places: BTreeSet<Place>,
    pub(crate) reply_bytes: u64,
}

/// Longer slices than replies and preludes are.
const SHORT: usize = 4_000;

impl SentSlices {
    /// Watches a network from now on.
    pub(crate) fn watch(net: &SimNet) -> Self {
        let sent = Self::default();
        let seen = Rc::clone(&sent.seen);
        net.set_send_observer(Box::new(move |bytes: &Bytes| {
            let range = bytes.as_ptr_range();
            let place = (range.start.addr(), range.end.addr());
            // Short ones are copied, not held, so that their place may be used again.
            let copy = (bytes.len() <= SHORT).then(|| Bytes::copy_from_slice(bytes));
            seen.borrow_mut().push((place, copy));
        }));
        sent
    }

    /// Finds out about what was sent since the last call. To be called after every instant, while
    /// what was sent is still in the log.
    pub(crate) fn check(&mut self, node: &Node) {
        let before = std::mem::take(&mut self.live);
        for (core, station) in node.stations.iter().enumerate() {
            let hub = station.worker.hub();
            for log in hub.keys().filter_map(|key| hub.log(key)) {
                for segment in log.from(log.first()) {
                    let range = segment.bytes.as_ptr_range();
                    let (start, end) = (range.start.addr(), range.end.addr());
                    let known = self.live.insert(start, end);
                    assert!(
                        core == 0 || known == Some(end) || before.get(&start) == Some(&end),
                        "worker {core} holds a copy of segment {}",
                        segment.number
                    );
                }
            }
        }
        for (place, bytes) in self.seen.take() {
            let length = u64::try_from(place.1 - place.0).unwrap();
            if contains(&self.live, place) || contains(&before, place) {
                self.log_slices += 1;
                self.log_bytes += length;
                continue;
            }
            let Some(bytes) = bytes else { panic!("{length} bytes that lie in no log") };
            if is_prelude(&bytes) {
                self.preludes += 1;
                self.prelude_places.insert(place);
            } else {
                assert!(!is_media(&bytes), "media that lies in no log");
                self.reply_bytes += length;
            }
        }
    }
}

impl std::fmt::Debug for SentSlices {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SentSlices")
            .field("log_slices", &self.log_slices)
            .field("log_bytes", &self.log_bytes)
            .field("preludes", &self.preludes)
            .field("prelude_places", &self.prelude_places.len())
            .field("reply_bytes", &self.reply_bytes)
            .finish_non_exhaustive()
    }
}

fn contains(live: &BTreeMap<usize, usize>, (start, end): Place) -> bool {
    live.range(..=start).next_back().is_some_and(|(_, last)| end <= *last)
}

/// Whether these are whole messages of a prelude: metadata first, and nothing that is coded.
fn is_prelude(bytes: &[u8]) -> bool {
    bytes.get(7) == Some(&18) && bytes.get(12..25) == Some(b"\x02\x00\x0aonMetaData") && {
        let mut reader = ChunkReader::new(&Limits::default());
        reader.set_chunk_size(u32::try_from(CHUNK_BYTES).unwrap()).unwrap();
        let mut input = bytes;
        let mut whole = true;
        while let Some(fragment) = reader.next(&mut input).unwrap() {
            whole = fragment.last;
            // The second byte of AVC and AAC messages is 0 in a header alone.
            let coded = fragment.payload.get(1) != Some(&0);
            assert!(
                fragment.header.kind == MessageType::DataAmf0 || !coded,
                "a frame in a prelude"
            );
        }
        whole
    }
}

/// Whether this begins as audio or video does, on its chunk stream.
fn is_media(bytes: &[u8]) -> bool {
    matches!((bytes.first(), bytes.get(7)), (Some(4), Some(8)) | (Some(6), Some(9)))
}
