//! The cells in which a worker counts, and which the control thread sums when it is scraped.
//!
//! Every worker owns one [`Cells`]. Only that worker writes to it, with a relaxed load and a
//! relaxed store and no locked instruction, so counting costs a few nanoseconds; anybody may read.
//! A reader sees each cell whole and never falling (counters), but two cells need not be of the
//! same moment. There are no locks, no strings and no clocks here: durations are handed in, labels
//! are enums (`labels.rs`), names of metrics are the control room's affair.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::labels::{
    CloseReason, DialResult, DrainRole, DrainWay, DropReason, Full, HandshakeResult, HookName, Hop,
    JoinSource, JumpReason, Label, LimitUse, LinkRefusal, LinkWay, LinkZone, MemoryKind,
    MessageKind, PlayerDropReason, RefuseReason, Role, Source, StreamNeed, TlsResult, Transport,
};

/// Everything one worker counts. Times are in nanoseconds, sizes in bytes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Cells {
    /// Open connections (gauge). Written through [`Cells::opened`] and its two companions.
    pub connections: Family<(Role, Transport), { Role::COUNT * Transport::COUNT }>,
    /// Connections that entered a role: pending when they are accepted, others later.
    pub connections_opened: Family<(Role, Transport), { Role::COUNT * Transport::COUNT }>,
    /// Connections that ended, each once, under the last role it had other than pending.
    pub connections_closed: Family<
        (Role, Transport, CloseReason),
        { Role::COUNT * Transport::COUNT * CloseReason::COUNT },
    >,
    /// What was turned away, before or after accept.
    pub refused: Family<RefuseReason, { RefuseReason::COUNT }>,
    /// How often somebody came whose token needs keys that are not there.
    pub token_keys_wanted: Cell64,
    /// Calls of hooks that found the road to the control thread full.
    pub hooks_overloaded: Family<HookName, { HookName::COUNT }>,
    /// Handshakes by how they ended.
    pub handshakes:
        Family<(HandshakeResult, Transport), { HandshakeResult::COUNT * Transport::COUNT }>,
    /// From accept to the end of the handshake; successful ones only. 1 ms to 16.4 s.
    pub handshake_duration: CellHistogram<1_000_000, 16>,

    /// Handshakes of TLS by how they ended.
    pub tls_handshakes: Family<TlsResult, { TlsResult::COUNT }>,
    /// From accept to the end of the handshake of TLS; successful ones only. 1 ms to 16.4 s.
    pub tls_handshake_duration: CellHistogram<1_000_000, 16>,

    /// Bytes received, by the role of the connection at that moment.
    pub ingest_bytes: Family<Role, { Role::COUNT }>,
    /// Bytes handed to the kernel, by the role of the connection at that moment.
    pub egress_bytes: Family<Role, { Role::COUNT }>,
    /// Complete messages received.
    pub ingest_messages: Family<MessageKind, { MessageKind::COUNT }>,
    /// Messages handed to the kernel, once for each player that is sent one.
    pub egress_messages: Family<MessageKind, { MessageKind::COUNT }>,
    /// Media bytes that this worker's hub copied in user space (small messages into a segment,
    /// rendering a prelude or a view). It must not grow with the number of players.
    pub copied_bytes: Cell64,
    /// Bytes that this worker's sessions copied to put messages together.
    pub assembled_bytes: Cell64,
    /// Messages that a reader was not given, or that were not taken from a publisher.
    pub messages_dropped:
        Family<(MessageKind, DropReason), { MessageKind::COUNT * DropReason::COUNT }>,

    /// Streams whose home is this worker (gauge).
    pub streams: Family<Source, { Source::COUNT }>,
    /// Players on this worker (gauge).
    pub players: Family<Source, { Source::COUNT }>,
    /// Players that the relay closed, or lost through an error.
    pub players_dropped: Family<PlayerDropReason, { PlayerDropReason::COUNT }>,
    /// Players whose connect did not announce what the stream asks for, by what it is.
    pub players_unannounced: Family<StreamNeed, { StreamNeed::COUNT }>,
    /// Jumps of slow players.
    pub player_jumps: Family<JumpReason, { JumpReason::COUNT }>,
    /// From a message complete at ingest to written to a player's socket, for players that had
    /// everything before it: who is behind counts in `player_lag`. 0.5 ms to 16.4 s.
    pub fanout_lag: Histograms<Hop, { Hop::COUNT }, 500_000, 17>,
    /// From the play command to the first key frame written. 0.5 ms to 16.4 s.
    pub join_time: Histograms<JoinSource, { JoinSource::COUNT }, 500_000, 17>,
    /// How far a player is behind the publisher, observed whenever it is sent to. 0.5 ms to 16.4 s.
    pub player_lag: CellHistogram<500_000, 17>,

    /// Links and streams that were refused or let go.
    pub link_refused: Family<LinkRefusal, { LinkRefusal::COUNT }>,
    /// Connections between nodes (gauge).
    pub links: Family<LinkWay, { LinkWay::COUNT }>,
    /// Streams on them (gauge).
    pub link_streams: Family<LinkWay, { LinkWay::COUNT }>,
    /// Bytes on them.
    pub link_bytes: Family<(LinkWay, LinkZone), { LinkWay::COUNT * LinkZone::COUNT }>,
    /// Nodes that are known, this one not counted (gauge).
    pub nodes: Cell64,
    /// Sources of streams that this node took up from others.
    pub link_adopted: Cell64,
    /// Publishers of this node that were taken over on another one.
    pub link_yielded: Cell64,
    /// How old messages are when a link brings them, divided by the nodes that they passed. 0.1 ms
    /// to 6.6 s.
    pub hop_latency: CellHistogram<100_000, 18>,
    /// How old they are, since their origin took them in. 0.1 ms to 6.6 s.
    pub origin_age: CellHistogram<100_000, 18>,

    /// Time spent working (from the end of a wait to the next).
    pub busy_ns: Cell64,
    /// Time spent waiting in the reactor.
    pub wait_ns: Cell64,
    /// Turns of the loop. A worker turns at least once a second: this is also its heartbeat.
    pub turns: Cell64,
    /// Working time of one turn. 16 us to 1.05 s.
    pub turn_duration: CellHistogram<16_000, 18>,
    /// Sends submitted, each a whole batch or all replies that waited.
    pub sends: Cell64,
    /// Attempts to write that could not take all that was left of a send; a send may need several.
    pub short_sends: Cell64,
    /// System calls made by the reactor.
    pub syscalls: Cell64,
    /// Operations submitted to the reactor.
    pub submissions: Cell64,
    /// The flush age this worker asks for at present (gauge).
    pub flush_level_ns: Cell64,

    /// Connections to other servers that were to be opened, by what became of them.
    pub dials: Family<DialResult, { DialResult::COUNT }>,

    /// Fresh connections given to an emptier worker.
    pub connections_given: Cell64,
    /// Fresh connections taken from a fuller worker.
    pub connections_taken: Cell64,

    /// Tunnelled sessions (gauge).
    pub tunnels: Cell64,
    /// Requests of tunnels that were answered.
    pub tunnel_polls: Cell64,
    /// Those that brought nothing.
    pub tunnel_empty_polls: Cell64,
    /// Carriers of tunnels that went to the core of a session.
    pub tunnel_moves: Cell64,

    /// Segments put into other workers' rings.
    pub mail_sent: Cell64,
    /// Segments that did not fit into another worker's ring; its subscription was marked lost.
    pub mail_lost: Cell64,
    /// Snapshots handed to subscribing workers, first ones and those after a loss.
    pub mail_snapshots: Cell64,

    /// How much of a limit is used, as far as this worker knows (gauge). What is the node's as a
    /// whole is set by one worker, or is the sum or the largest of all.
    pub limit_used: Family<LimitUse, { LimitUse::COUNT }>,
    /// Listeners on which accepting failed and is tried again a moment later (gauge).
    pub accepts_failed: Cell64,
    /// 1 while the node is not ready for players, by the limit that is why (gauge).
    pub full: Family<Full, { Full::COUNT }>,
    /// Players that found no room and were told where there is some.
    pub players_redirected: Cell64,
    /// Times that a publisher was not read on since it sent more than it may.
    pub publishers_slowed: Cell64,

    /// Publishers and players that were let go while the node drains.
    pub drained: Family<(DrainRole, DrainWay), { DrainRole::COUNT * DrainWay::COUNT }>,

    /// Bytes held, by what holds them (gauge).
    pub memory: Family<MemoryKind, { MemoryKind::COUNT }>,
}

impl Cells {
    /// Counts an accepted connection. It starts without a role, as pending.
    pub fn opened(&self, transport: Transport) {
        self.connections_opened.at((Role::Pending, transport)).increment();
        self.connections.at((Role::Pending, transport)).increment();
    }

    /// Counts a connection that we opened: its role is known from the start.
    pub fn opened_by_us(&self, role: Role, transport: Transport) {
        self.connections_opened.at((role, transport)).increment();
        self.connections.at((role, transport)).increment();
    }

    /// Counts a connection's change of role. Falling back to pending opens nothing, so that those
    /// opened as pending, less all that were closed, are open at any time.
    pub fn changed_role(&self, from: Role, to: Role, transport: Transport) {
        if to != Role::Pending {
            self.connections_opened.at((to, transport)).increment();
        }
        self.connections.at((from, transport)).subtract(1);
        self.connections.at((to, transport)).increment();
    }

    /// Counts what a connection turned out to speak. All are opened as RTMP: they are counted
    /// before their first byte.
    pub fn changed_transport(&self, role: Role, from: Transport, to: Transport) {
        self.connections.at((role, from)).subtract(1);
        self.connections.at((role, to)).increment();
    }

    /// A connection goes to another worker, which counts it from then on.
    pub fn left(&self, role: Role, transport: Transport) {
        self.connections.at((role, transport)).subtract(1);
    }

    /// A connection comes from another worker.
    pub fn arrived(&self, role: Role, transport: Transport) {
        self.connections.at((role, transport)).increment();
    }

    /// Counts the end of a connection that has the role `at_end`, and that was `last` before it
    /// perhaps fell back to pending.
    pub fn closed(&self, at_end: Role, last: Role, transport: Transport, reason: CloseReason) {
        self.connections_closed.at((last, transport, reason)).increment();
        self.connections.at((at_end, transport)).subtract(1);
    }
}

/// One number with one writer.
#[derive(Debug, Default)]
pub struct Cell64(AtomicU64);

impl Cell64 {
    /// Adds one. Only the owning worker may call this.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`, wrapping at 2^64. Only the owning worker may call this.
    pub fn add(&self, amount: u64) {
        if cfg!(feature = "uncounted") {
            return;
        }
        self.set(self.get().wrapping_add(amount));
    }

    /// Takes `amount` from a gauge, stopping at 0. Only the owning worker may call this.
    pub fn subtract(&self, amount: u64) {
        self.set(self.get().saturating_sub(amount));
    }

    /// Replaces the value. Only the owning worker may call this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value; any thread may ask.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A cell for each value of a label (or of a tuple of labels). `N` is the label's `COUNT`.
#[derive(Debug)]
pub struct Family<L, const N: usize> {
    cells: [Cell64; N],
    label: PhantomData<fn() -> L>,
}

impl<L: Label, const N: usize> Default for Family<L, N> {
    fn default() -> Self {
        const { assert!(N == L::COUNT, "N must be the number of values of the label") }
        Self { cells: [const { Cell64(AtomicU64::new(0)) }; N], label: PhantomData }
    }
}

impl<L: Label, const N: usize> Family<L, N> {
    /// The cell of one value.
    #[must_use]
    pub fn at(&self, label: L) -> &Cell64 {
        &self.cells[label.index()]
    }

    /// Every cell, in the order of the label's values.
    pub fn iter(&self) -> impl Iterator<Item = (L, u64)> {
        self.cells.iter().enumerate().map(|(index, cell)| (L::at(index), cell.get()))
    }

    /// The sum of all cells.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.cells.iter().map(Cell64::get).fold(0, u64::wrapping_add)
    }
}

/// A histogram whose bounds double: `BASE_NS`, 2 `BASE_NS`, 4 `BASE_NS`, ...; the last of the `N`
/// buckets has no bound.
#[derive(Debug)]
pub struct CellHistogram<const BASE_NS: u64, const N: usize> {
    buckets: [Cell64; N],
    sum_ns: Cell64,
}

impl<const BASE_NS: u64, const N: usize> Default for CellHistogram<BASE_NS, N> {
    fn default() -> Self {
        const { assert!(BASE_NS > 0 && N > 0 && N <= 64, "bounds must fit 64 bits") }
        let buckets = [const { Cell64(AtomicU64::new(0)) }; N];
        Self { buckets, sum_ns: Cell64::default() }
    }
}

impl<const BASE_NS: u64, const N: usize> CellHistogram<BASE_NS, N> {
    /// Counts one duration. Only the owning worker may call this.
    pub fn observe(&self, duration: Duration) {
        self.observe_many(duration, 1);
    }

    /// Counts the same duration `times` times, for the messages of one segment. Only the owning
    /// worker may call this.
    pub fn observe_many(&self, duration: Duration, times: u64) {
        if cfg!(feature = "uncounted") {
            return;
        }
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[Self::bucket(nanos)].add(times);
        self.sum_ns.add(nanos.saturating_mul(times));
    }

    /// What was counted so far.
    #[must_use]
    pub fn read(&self) -> HistogramReading {
        HistogramReading {
            base_ns: BASE_NS,
            counts: self.buckets.iter().map(Cell64::get).collect(),
            sum_ns: self.sum_ns.get(),
        }
    }

    /// The bucket of a duration: a bound belongs to its bucket ("less or equal").
    fn bucket(nanos: u64) -> usize {
        let doublings = 64 - (nanos.saturating_sub(1) / BASE_NS).leading_zeros();
        usize::try_from(doublings).map_or(N - 1, |bucket| bucket.min(N - 1))
    }
}

/// A histogram for each value of a label.
#[derive(Debug)]
pub struct Histograms<L, const COUNT: usize, const BASE_NS: u64, const N: usize> {
    histograms: [CellHistogram<BASE_NS, N>; COUNT],
    label: PhantomData<fn() -> L>,
}

impl<L: Label, const COUNT: usize, const BASE_NS: u64, const N: usize> Default
    for Histograms<L, COUNT, BASE_NS, N>
{
    fn default() -> Self {
        const { assert!(COUNT == L::COUNT, "COUNT must be the number of values of the label") }
        Self { histograms: std::array::from_fn(|_| CellHistogram::default()), label: PhantomData }
    }
}

impl<L: Label, const COUNT: usize, const BASE_NS: u64, const N: usize>
    Histograms<L, COUNT, BASE_NS, N>
{
    /// The histogram of one value.
    #[must_use]
    pub fn at(&self, label: L) -> &CellHistogram<BASE_NS, N> {
        &self.histograms[label.index()]
    }

    /// Every histogram, in the order of the label's values.
    pub fn iter(&self) -> impl Iterator<Item = (L, HistogramReading)> {
        self.histograms.iter().enumerate().map(|(index, cells)| (L::at(index), cells.read()))
    }
}

/// A histogram's numbers, read once; readings of several workers are added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramReading {
    base_ns: u64,
    counts: Vec<u64>,
    sum_ns: u64,
}

impl HistogramReading {
    /// Adds another worker's reading of the same histogram.
    pub fn add(&mut self, other: &Self) {
        debug_assert_eq!((self.base_ns, self.counts.len()), (other.base_ns, other.counts.len()));
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine = mine.wrapping_add(*theirs);
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }

    /// The bounded buckets: upper bound in nanoseconds and the count of everything up to it.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut bound = self.base_ns;
        let mut below = 0_u64;
        let bounded = self.counts.len().saturating_sub(1);
        self.counts.iter().take(bounded).map(move |count| {
            below = below.wrapping_add(*count);
            let row = (bound, below);
            bound = bound.saturating_mul(2);
            row
        })
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }

    /// Their sum in nanoseconds.
    #[must_use]
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opened_less_closed_is_open_and_each_end_counts_once_under_the_last_role() {
        let cells = Cells::default();
        let transport = Transport::Rtmp;
        for _ in 0..3 {
            cells.opened(transport);
        }
        cells.changed_role(Role::Pending, Role::Publisher, transport);
        cells.changed_role(Role::Pending, Role::Player, transport);
        cells.closed(Role::Player, Role::Player, transport, CloseReason::Slow);
        // One that was taken over neither publishes nor plays when it ends.
        cells.changed_role(Role::Publisher, Role::Pending, transport);
        cells.closed(Role::Pending, Role::Publisher, transport, CloseReason::Takeover);

        let open = [Role::Pending, Role::Publisher, Role::Player]
            .map(|role| cells.connections.at((role, transport)).get());
        assert_eq!(open, [1, 0, 0]);
        let opened = [Role::Pending, Role::Publisher, Role::Player]
            .map(|role| cells.connections_opened.at((role, transport)).get());
        assert_eq!(opened, [3, 1, 1]);
        let closed = |role, reason| cells.connections_closed.at((role, transport, reason)).get();
        assert_eq!(closed(Role::Player, CloseReason::Slow), 1);
        assert_eq!(closed(Role::Publisher, CloseReason::Takeover), 1);
        assert_eq!(cells.connections_closed.total(), 2);
    }

    #[test]
    fn a_gauge_stops_at_zero() {
        let cell = Cell64::default();
        cell.add(3);
        cell.subtract(5);
        assert_eq!(cell.get(), 0);
    }

    #[test]
    fn each_tuple_of_labels_has_a_cell_of_its_own() {
        let cells = Cells::default();
        for ((kind, reason), _) in cells.messages_dropped.iter() {
            cells.messages_dropped.at((kind, reason)).increment();
        }
        assert!(cells.messages_dropped.iter().all(|(_, count)| count == 1));
        assert_eq!(
            cells.messages_dropped.total(),
            u64::try_from(MessageKind::COUNT * DropReason::COUNT).unwrap_or(0)
        );
    }

    #[test]
    fn a_duration_falls_into_the_bucket_whose_bound_is_not_below_it() {
        fn check(nanos: u64, bucket: usize) {
            let histogram = CellHistogram::<1_000, 4>::default();
            histogram.observe(Duration::from_nanos(nanos));
            let reading = histogram.read();
            let found = reading.counts.iter().position(|count| *count == 1);
            assert_eq!(found, Some(bucket), "{nanos} ns");
            assert_eq!((reading.count(), reading.sum_ns()), (1, nanos));
        }
        check(0, 0);
        check(1, 0);
        check(1_000, 0);
        check(1_001, 1);
        check(2_000, 1);
        check(2_001, 2);
        check(4_000, 2);
        check(4_001, 3);
        check(u64::MAX, 3);
    }

    #[test]
    fn readings_add_up_and_accumulate() {
        let one = CellHistogram::<1_000, 4>::default();
        let two = CellHistogram::<1_000, 4>::default();
        one.observe_many(Duration::from_nanos(1_500), 3);
        two.observe(Duration::from_nanos(500));
        two.observe(Duration::from_secs(1));
        let mut sum = one.read();
        sum.add(&two.read());
        let rows: Vec<_> = sum.cumulative().collect();
        assert_eq!(rows, [(1_000, 1), (2_000, 4), (4_000, 4)]);
        assert_eq!(sum.count(), 5);
        assert_eq!(sum.sum_ns(), 4_500 + 500 + 1_000_000_000);
    }
}
