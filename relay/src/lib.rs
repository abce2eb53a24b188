//! relay: a zero-copy RTMP relay.
//!
//! # One idea
//!
//! **A stream is a log of wire bytes; a player is a position in it.** A message becomes wire bytes
//! once, when it is complete. From then on it is counted and pointed at: fan-out, sharing between
//! cores, late joiners and slow players are all readings of the same log. The bytes can be equal
//! for everybody because four things are fixed: the outbound chunk size, the chunk stream ids, the
//! message stream id, and absolute timestamps in type 0 headers ([`wire::message`]).
//!
//! Sending costs far more per send than per byte. So small messages gather for one flush window of
//! 0, 20 or 50 ms, as busy as the workers that send them are, into a *segment*, which every player
//! is sent whole; and players hold no queues.
//!
//! # The rooms
//!
//! | room | what it is | may import |
//! | --- | --- | --- |
//! | [`limits`] | every limit: name, unit, default, reason | nothing |
//! | [`wire`] | RTMP as bytes and values | - |
//! | [`session`] | one connection as a state machine, bytes in, events out | `wire` |
//! | [`stream`] | segments, logs, cursors, views, the hub | `wire` |
//! | [`tls`] | TLS as bytes: records in and out, certificates, trust | - |
//! | [`access`] | who may publish and play: rules and what they are judged by | `wire` |
//! | [`cluster`] | who is there, who has which stream, who feeds whom; moves no media | - |
//! | [`reactor`] | operations in, completions out: io_uring, mio, or the simulation | - |
//! | [`worker`] | one core; the only room that introduces the others to each other | those above |
//! | [`control`] | one slow thread: HTTP, metrics, logs | `worker`, `config`, `access`, `tls` |
//! | [`config`] | flags, environment, file, defaults | `worker`'s settings, `access`, `tls` |
//! | [`top`] | a client of the API, in a terminal | `config` |
//! | [`node`] | puts the rooms together and starts the threads | all |
//!
//! Every room may import `limits`. Names come from the RTMP specification (Adobe, 1.0, December
//! 2012), which comments cite by section, and from Enhanced RTMP v2.
//!
//! # The way of a video message
//!
//! ```text
//! publisher's socket
//!   Reactor::drain -> Completion::Received { bytes: &[u8] }   lent; gone after the handler
//!   ServerSession::next_event                                 pulled until there is none
//!     ChunkReader::next -> Fragment                           header judged, limits applied
//!     MessageAssembler::push                                  copy 1, into outbound chunk layout
//!   Hub::append                                               copy 2 when below 16 KiB: into the
//!                                                             pending segment; else none
//!   Hub::flush                                                sealed by age, by size, at a key
//!   Worker::flush                                             mailed once to each worker that
//!                                                             reads; players join the send ring
//!   Hub::next_batch(cursor) -> Bytes                          no copy; one slice, at most 61,440 B
//!   Operation::Send
//! player's socket
//!   Completion::Sent -> Cursor::advance -> the ring, or wait for the next seal
//! ```
//!
//! Players of FLV, over HTTP or a WebSocket, read a *view* of the log: tags made of each segment
//! when it is sealed, once per worker and kind, which is one copy for all of them. So do players
//! without audio or without video, and those on another message stream.
//!
//! Data messages cost two copies more: they are put together plain, judged, and only then laid out
//! as media is; the prelude of joining players keeps one more of metadata. The parts of aggregate
//! messages (type 22) cost one more, because they are laid out one by one out of the whole. A
//! buffer that has to grow is copied once more, which happens to a frame twice as long as any that
//! its publisher sent before, and beyond 1 MiB. All of it counts in `relay_copied_bytes_total`.
//!
//! A port takes everything: the first bytes of a connection decide what it speaks, layer by layer
//! (PROXY header, TLS, then RTMP or HTTP). TLS lies under whatever is spoken: what comes is opened
//! before anybody reads it; what goes is sealed from the same log when it is its turn, into one
//! buffer per batch, and the cursor advances at once, so that a player holds at most one batch of
//! its own.
//!
//! # Laws
//!
//! A test (`tests/tidy.rs`) and lints keep most of them.
//!
//! - **Imports run one way**, as in the table.
//! - **Time and chance enter at one door.** `wire`, `session`, `stream`, `access` and `cluster`
//!   name no clock, socket, thread, lock, random source or logger. The worker reads the clock three
//!   times a turn and owns one seeded generator; so whole nodes run on one thread under virtual
//!   time, and the same seed gives the same run.
//! - **One owner.** A connection belongs to one worker for life; one that was just accepted may be
//!   given to a much emptier worker before its first byte is read. Workers share nothing but mail,
//!   cells that one writes and others read, and a few sums.
//! - **Nothing on the data path** takes a lock, looks up a string, reads the clock per message, or
//!   does work per player except the send itself.
//! - **`unsafe` is denied** but in `reactor/uring.rs`, the io_uring backend's face to the kernel.
//! - **Everything has a limit**, named in [`limits`] and judged where the number first appears.
//! - **Two kinds of wrong.** A peer's fault is a typed error that closes one connection and counts
//!   in one metric. Ours is a panic: in a session it is caught and costs that connection; anywhere
//!   else it ends the process, and whoever runs it starts it again.
//!
//! # Who is asked
//!
//! A publish or play is judged by the rules of its application ([`access`]). Where they say so, the
//! application's back end is asked: the worker sends the question down a bounded road
//! ([`worker::verdicts`]) and the session takes no bytes until the control thread brings the
//! verdict back; the worker goes on. The control thread speaks HTTP in the contract of nginx's RTMP
//! module or of SRS, bounds what waits, leaves a server alone that fails, and tells it in order of
//! every end that followed a beginning. Verdicts may hold for a time: whoever a hook let in is then
//! asked about again, by the settings in force.
//!
//! # Inside HTTP
//!
//! A tunnelled session (RTMPT) is a connection without a socket: whoever publishes and plays does
//! not know. Its bytes come in the bodies of requests and leave when a request asks, straight from
//! the log and no sooner. The HTTP connections that carry it belong to nobody: each serves one
//! request at a time, whichever session it is for, and between two may go to another core, with
//! what it has not read. That is the one exception to a connection's having one owner.
//!
//! # Where names are decided
//!
//! Worker 0 holds the registrar. Every publish and play asks it once, by mail. A stream's log is
//! filled on the worker of its publisher, its *home*; workers with players of it subscribe there
//! and are sent segments. When the next publisher arrives on another worker, the home moves there
//! and the log, its numbers and its time go on.
//!
//! # Other servers
//!
//! Streams are pushed to and pulled from other servers. What runs is decided by the control thread,
//! which hears from worker 0 which names are live and wanted, looks hosts up and tries again; a
//! worker dials, by `Operation::Connect`, and carries the stream. A push is a reader of the log
//! like a player, of a view with metadata as publishers send it; a pull is a publisher whose media
//! a client session brings. Both are connections of the worker like those that it accepted; inside
//! HTTP a session goes from one such connection to the next, under a key of its own.
//!
//! Of a cluster one node pushes or pulls a stream: the one that has its publisher pushes; of those
//! that want it pulled one does, which the directory tells the others as it tells of a publisher.
//! A node that drains or is gone keeps no name, so that another takes over. What operators add at
//! run time the nodes tell each other as orders, which mean nothing to the cluster's machine.
//!
//! # What is too much, and what changes meanwhile
//!
//! Addresses are judged when a connection comes, in one table for all workers whose locks only
//! accept and close take; names, players, keys and what the node sends by the registrar; rates and
//! spans of sessions by the sweep of their worker, twice a second. How much of each limit is used
//! lies in cells. A reload reads and judges everything on the control thread, then gives each
//! worker the whole of its settings by a query: new sessions go by them, and nobody is ended by
//! it. Permissions with an end are asked for again when it comes, by the same rules.
//!
//! # What is seen of it
//!
//! Workers count in cells of their own, which the control thread sums when it is scraped: nothing
//! is asked, so metrics cost the data path what counting does. Lists of streams and connections
//! come out of workers' tables by queries, a page at a time and so many in a second. Names of
//! streams become series only on `/metrics/streams`, the largest of them, the rest added up. The
//! page at `/` and [`top`] are clients of the API and know nothing else. Of one kind of log line a
//! thread writes so many in a second; what is left out is counted.
//!
//! Any node tells of all: nodes say where they answer operators when they greet, and the control
//! thread that is asked asks the others' side by side, with a proof made of the cluster's secret in
//! place of a token. Nobody who is asked asks on; who does not answer in time is named. A stream
//! has one mark in the logs of all nodes: the epoch and process of its source.
//!
//! # The cluster
//!
//! [`cluster`] decides, and moves no media: nodes greet, keep one control connection per pair,
//! announce their streams to all, and ask a stream's origin who feeds them. The workers carry out
//! what it asks for, over connections of their own kind
//! ([`LinkSession`](session::link::LinkSession)) on a port of their own:
//!
//! ```text
//!   control connections (any worker)          worker 0 drives Cluster, beside the registrar
//!     bytes -> session -> data message  --->  Cluster::received
//!     data message <- session           <---  Command::Send
//!   registrar (names of this node)      --->  claim, live, resting, released, wanted, unwanted
//!                                       <---  Vanished, Yield
//!   a stream's home                     <---  Feed, Repath, StopFeed: reads its log through a view
//!                                             with a message stream id of its own, and writes that
//!                                             to the media link that its worker has to the peer
//!   who takes a peer's link             --->  fed, quiet, unfed
//!                                       <---  Adopt: the link claims the stream's name like a
//!                                             publisher; Drop: it is told that it is not wanted
//! ```
//!
//! Nodes speak RTMP as it is, or in TLS by certificates of their own; then what proves the secret
//! is bound to the very connection.
//!
//! A link offers its streams; when one is taken up, whoever takes it says where its log ends, and
//! only then media flows. Every message is counted by its origin, so a node that changes from one
//! feeder to another goes on at the very message. What it takes follows one law, kept in one place
//! ([`stream::Hub::append_at`]): the places of a source's count are passed once and forward, so
//! that nothing comes twice, whatever feeders send: they may be behind, jump, or overlap. What has
//! a place that was passed is dropped and counted (`reason="held"`); a jump begins at a key frame.
//! Counts of two sources are never compared: a log remembers where the last few of its sources were
//! left, and whoever comes back goes on there. The log of a node that is fed is made by the same
//! path as a publisher's: nothing below the registrar knows where a stream comes from.
//!
//! Time is the origin's. A node that is fed moves it only where it does not go on from what its own
//! players were sent, and takes that off again for the nodes that it feeds: by whichever way a
//! stream comes, it is told the same time.
//!
//! A segment has two times: when its origin took it in, by which players are behind wherever they
//! play, and when it arrived here, by which a link is behind that carries it on. So what comes late
//! in one burst moves players forward, and is no fault of the link to the next node.
//!
//! A publisher takes over from one on another node as it does on its own: what its node read of
//! the older source ends at once, and everywhere else that plays on until the new one's first key
//! frame. Who is thrown out by another node may come back three times; then it is held off like
//! one that lost to a neighbour.
//!
//! A node that is to end lets go of everything in the order in which that costs least: the nodes
//! that it feeds, its publishers, whose streams it then has from elsewhere, its players, and last
//! its links.

/// Test support that is shared with the tests outside names the crate as they do.
#[cfg(test)]
extern crate self as relay;

pub mod access;
pub mod cluster;
pub mod config;
pub mod control;
pub mod limits;
pub mod node;
pub mod reactor;
pub mod session;
pub mod stream;
pub mod tls;
pub mod top;
pub mod wire;
pub mod worker;
