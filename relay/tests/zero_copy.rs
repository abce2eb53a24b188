//! The proof that a player costs no copy: what a thousand players are sent is the log itself.
//!
//! One publisher and up to a thousand players on one worker over the simulated reactor, which lends
//! every buffer that it sends to an observer. A counting allocator (the `allocation-counter` crate,
//! which replaces the global one in this program) tells what a message allocates.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[allow(dead_code)]
#[path = "sim/line.rs"]
mod line;
#[allow(dead_code)]
#[path = "sim/node.rs"]
mod node;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use line::Line;
use node::{ANY_WORKER, Node, on};
use relay::limits::Limits;
use relay::reactor::sim::{SimFaults, SimNet};
use relay::session::{ClientEvent, ClientRole};
use relay::wire::amf::Value;
use relay::wire::amf0::{write_string, write_value};
use relay::wire::message::MediaKind;
use relay::worker::labels::Role;
use relay::worker::settings::Settings;

/// Time between two steps, and between two messages.
const STEP: Duration = Duration::from_millis(10);

/// A key frame every so many messages: 2 s.
const GOP: u32 = 200;

/// One stream and its players.
struct Show {
    net: SimNet,
    node: Node,
    publisher: Line,
    sent: u32,
    /// Slices handed to the kernel, kept so that no address is used twice.
    seen: Rc<RefCell<Option<Vec<Bytes>>>>,
}

impl Show {
    fn new(players: u8, rows: u8) -> Self {
        let net = SimNet::new(1, SimFaults::default());
        let limits = Limits { log_span: Duration::from_secs(60), ..Limits::default() };
        let settings = Arc::new(Settings { limits, ..Settings::default() });
        let node = Node::new(&net, &settings, 1, 1);
        let publisher = caller(&net, 0, 0, ClientRole::Publish);
        let seen = Rc::new(RefCell::new(Some(Vec::new())));
        let sink = Rc::clone(&seen);
        net.set_send_observer(Box::new(move |bytes: &Bytes| {
            if let Some(seen) = sink.borrow_mut().as_mut() {
                seen.push(bytes.clone());
            }
        }));
        let mut show = Self { net, node, publisher, sent: 0, seen };
        show.publisher = show.started(ClientRole::Publish, 0, 0);
        show.publish_headers();
        for _ in 0..20 {
            show.publish();
        }
        for row in 0..rows {
            for player in 1..=players {
                let mut line = show.started(ClientRole::Play, row, player);
                line.endpoint.count_only();
                // The endpoint lives on in the network; what it is sent is counted there.
                std::mem::forget(line);
            }
        }
        show
    }

    /// Calls and talks until the server has accepted.
    fn started(&mut self, role: ClientRole, row: u8, number: u8) -> Line {
        let mut line = caller(&self.net, row, number, role);
        let mut started = false;
        for _ in 0..200 {
            line.write(usize::MAX);
            self.pass(Duration::from_millis(1));
            line.read(usize::MAX, self.net.now(), &mut |event| {
                started |= matches!(event.unwrap(), ClientEvent::Started { .. });
            });
            if started {
                return line;
            }
        }
        panic!("a client was not accepted");
    }

    fn publish_headers(&mut self) {
        let mut metadata = BytesMut::new();
        write_string(&mut metadata, b"@setDataFrame");
        write_string(&mut metadata, b"onMetaData");
        write_value(&mut metadata, &Value::object([("width", Value::Number(640.0))]));
        self.publisher.publish(MediaKind::Data, 0, &metadata);
        self.publisher.publish(MediaKind::Audio, 0, &[0xaf, 0, 0x12, 0x10]);
        self.publisher.publish(MediaKind::Video, 0, &[0x17, 0, 0, 0, 0, 1, 2, 3]);
    }

    /// Publishes one video message and passes on what is due: key frames of 100,000 bytes, which
    /// become segments by themselves, and frames of 3,000, which gather.
    fn publish(&mut self) {
        let key = self.sent.is_multiple_of(GOP);
        let mut payload = vec![0x5a; if key { 100_000 } else { 3_000 }];
        payload[..5].copy_from_slice(&[if key { 0x17 } else { 0x27 }, 1, 0, 0, 0]);
        self.publisher.publish(MediaKind::Video, self.sent * 10, &payload);
        self.sent += 1;
        while self.publisher.waiting() > 0 {
            self.publisher.write(usize::MAX);
            self.turn();
        }
        self.pass(STEP);
    }

    /// Passes what is due for some time, and lets the publisher hear what it is told.
    fn pass(&mut self, time: Duration) {
        let end = self.net.now() + time;
        loop {
            self.turn();
            let next = [self.net.next_event_time(), self.node.next_due()];
            match next.into_iter().flatten().min().filter(|next| *next <= end) {
                Some(next) => self.net.advance_to(next.max(self.net.now())),
                None => break,
            }
        }
        self.net.advance_to(end);
        self.turn();
        let now = self.net.now();
        self.publisher.read(usize::MAX, now, &mut |event| {
            event.unwrap();
        });
    }

    fn turn(&mut self) {
        while self.node.turn() {}
    }

    /// Where the segments of the log lie in memory, in order.
    fn segments(&self) -> Vec<Range<usize>> {
        let hub = self.node.stations[0].worker.hub();
        let segments = hub.logs().flat_map(|log| log.from(0));
        let mut ranges: Vec<_> = segments.map(|segment| place(&segment.bytes)).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges
    }

    fn egress(&self) -> u64 {
        self.node.sum(|cells| cells.egress_bytes.at(Role::Player).get())
    }

    fn ingest(&self) -> u64 {
        self.node.sum(|cells| cells.ingest_bytes.at(Role::Publisher).get())
    }

    fn copied(&self) -> u64 {
        self.node.stations[0].worker.hub().copied_bytes()
    }
}

fn caller(net: &SimNet, row: u8, number: u8, role: ClientRole) -> Line {
    let from = IpAddr::from([10, 1, row, number]);
    Line::new(net, from, on(ANY_WORKER), "show", role, u64::from(number))
}

fn place(bytes: &Bytes) -> Range<usize> {
    let start = bytes.as_ptr().addr();
    start..start + bytes.len()
}

/// Whether a slice lies whole inside one of the ranges.
fn inside(ranges: &[Range<usize>], slice: &Range<usize>) -> bool {
    let at = ranges.partition_point(|range| range.start <= slice.start);
    at > 0 && slice.end <= ranges[at - 1].end
}

fn share(part: u64, whole: u64) -> f64 {
    f64::from(u32::try_from(part).unwrap()) / f64::from(u32::try_from(whole).unwrap())
}

#[test]
fn a_thousand_players_are_sent_the_log_itself() {
    let mut show = Show::new(200, 5);
    show.pass(Duration::from_millis(100));

    // What joining players were sent before: replies, the prelude, and the log.
    let joined = show.seen.borrow_mut().replace(Vec::new()).unwrap();
    let is_prelude = |bytes: &&Bytes| bytes.windows(10).any(|window| window == b"onMetaData");
    let preludes: Vec<_> = joined.iter().filter(is_prelude).map(place).collect();
    let segments = show.segments();
    let rendered: BTreeSet<_> = preludes
        .iter()
        .filter(|prelude| !inside(&segments, prelude))
        .map(|range| range.start)
        .collect();
    assert!(preludes.len() >= 1_000, "every player was sent a prelude");
    assert_eq!(rendered.len(), 1, "one key frame, one rendered prelude for all");

    let (ingest, egress, copied) = (show.ingest(), show.egress(), show.copied());
    for _ in 0..GOP * 2 {
        show.publish();
    }
    show.pass(Duration::from_millis(100));
    let ingested = show.ingest() - ingest;
    let sent = show.egress() - egress;
    // The assembler copies each payload once into its chunk layout, at most what was received.
    let copied = ingested + show.copied() - copied;
    let (fan_out, copies) = (share(sent / 1_000, ingested / 1_000), share(copied, ingested));
    println!("egress / ingest {fan_out:.3}, bytes copied / bytes ingested {copies:.3}");
    assert!((980.0..=1_020.0).contains(&fan_out), "a thousand players: {fan_out}");
    assert!(copies <= 2.0, "{copies}");

    let segments = show.segments();
    let seen = show.seen.borrow_mut().take().unwrap();
    let foreign = seen.iter().map(place).filter(|slice| !inside(&segments, slice));
    // Acknowledgements to the publisher are the only other bytes.
    let foreign: Vec<_> = foreign.filter(|slice| slice.len() > 64).collect();
    assert!(foreign.is_empty(), "{} slices are not of the log", foreign.len());
    assert!(seen.len() > 100_000, "{} slices were looked at", seen.len());
}

#[test]
fn a_message_allocates_as_much_for_ten_players_as_for_a_thousand() {
    let allocations = |players, rows| {
        let mut show = Show::new(players, rows);
        show.seen.borrow_mut().take();
        // Two groups of pictures let every table reach its size.
        for _ in 0..GOP * 2 {
            show.publish();
        }
        let info = allocation_counter::measure(|| {
            for _ in 0..GOP {
                show.publish();
            }
        });
        info.count_total
    };
    let (ten, thousand) = (allocations(10, 1), allocations(200, 5));
    println!("allocations per {GOP} messages: {ten} with 10 players, {thousand} with 1,000");
    let slack = u64::from(GOP) / 10;
    assert!(thousand <= ten + slack, "{ten} with ten players, {thousand} with a thousand");
}
