//! Every limit of the relay: its name, unit, default and reason, in one table.
//!
//! The table makes the [`Limits`] struct, the `[limits]` section of the configuration file, the
//! list printed by `--check` and the `relay_limit` metric, so none of them can forget one. This
//! file imports no other room and every room may import it. A limit is judged where the number that
//! it bounds first appears.

use std::time::Duration;

/// Whether a table has room for so much more than it is used for that giving it back is worth the
/// work.
#[must_use]
pub(crate) fn is_sparse(used: usize, room: usize) -> bool {
    room > 64 && used.saturating_mul(4) < room
}

/// A limit's value, with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A span of time.
    Time(Duration),
    /// A number of bytes.
    Bytes(usize),
    /// A number of things.
    Count(usize),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The name in the configuration, in `/metrics` and in log lines.
    pub name: &'static str,
    /// The value in force.
    pub value: Value,
    /// What it bounds, and why it has this default.
    pub why: &'static str,
}

macro_rules! limit_type {
    (Time) => {
        Duration
    };
    (Bytes) => {
        usize
    };
    (Count) => {
        usize
    };
}

macro_rules! limits {
    ($($name:ident : $kind:ident = $default:expr, $why:literal;)*) => {
        /// The limits in force. `Default` gives the documented defaults.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $(#[doc = $why] pub $name: limit_type!($kind),)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Limits {
            /// Every limit with the value in force, in the order of this file.
            #[must_use]
            pub fn table(&self) -> Vec<Limit> {
                vec![$(Limit {
                    name: stringify!($name),
                    value: Value::$kind(self.$name),
                    why: $why,
                },)*]
            }

            /// Changes one limit. `None` when there is no limit of that name; `Some(Err)` with the
            /// expected unit when the value has another unit.
            pub fn set(&mut self, name: &str, value: Value) -> Option<Result<(), &'static str>> {
                match (name, value) {
                    $((stringify!($name), Value::$kind(new)) => {
                        self.$name = new;
                        Some(Ok(()))
                    })*
                    $((stringify!($name), _) => Some(Err(stringify!($kind))),)*
                    _ => None,
                }
            }
        }
    };
}

/// So many bytes are no limit: the largest number that can be set.
pub(crate) const NO_BYTES_LIMIT: usize = 1 << 40;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

limits! {
    connections_max: Count = 100_000, "Open connections of one node; further ones are closed at accept. Far above what one file table usually allows, which then decides.";
    connections_per_address_max: Count = 1_000, "Open connections from one address (IPv6: one /64); further ones are closed at accept. Addresses in limits.exempt are not judged.";
    handshakes_per_address_max: Count = 100, "Connections accepted from one address (IPv6: one /64) in a second, each of which costs a handshake; further ones are closed at accept. Addresses in limits.exempt are not judged.";
    pending_connections_max: Count = 4_096, "Connections of one worker that have not yet asked to publish or play; more are closed at accept, so that half-open ones cannot fill the node.";
    connect_timeout: Time = secs(12), "From accept to the end of the connect command, PROXY header, TLS and handshake included, or to the end of the first HTTP request's head. Absolute, so that trickled bytes do not prolong it.";
    idle_timeout: Time = secs(30), "From connect to the first publish or play, and how long a connection that does neither may stay.";
    verdict_timeout: Time = secs(30), "How long a publish or play may wait for its verdict; only a fault of ours makes it wait for long.";
    session_max: Time = secs(0), "How long a connection may publish or play, from its accept; then it is told and closed. 0s: as long as it likes.";
    publisher_idle_max: Time = secs(60), "A publisher that sends no audio, video or data for this long, but other bytes, is closed; its stream then enters its grace. 0s: never.";
    publisher_unwatched_max: Time = secs(0), "A publisher whose stream has had no player, here or on other nodes, for this long is told and closed. 0s: never.";
    publisher_silence_max: Time = secs(30), "A publisher that sends no byte for this long is closed; its stream then enters its grace.";
    request_head_bytes_max: Bytes = 8 * KIB, "Head of one HTTP request of a client, on the port for publishers and players.";
    request_headers_max: Count = 64, "Header fields of such a request; browsers behind proxies send about thirty.";
    close_linger: Time = secs(1), "After a final status the peer has this long to close by itself before we do.";
    chunk_streams_max: Count = 64, "Chunk stream ids per connection and direction; real encoders use fewer than ten.";
    small_chunk_bytes: Bytes = 64, "Chunks smaller than this cost more to read than they carry; no message longer than small_chunk_message_bytes_max is taken in them.";
    small_chunk_message_bytes_max: Bytes = 64 * KIB, "Longest message in chunks smaller than small_chunk_bytes; no encoder is known that cuts video so small.";
    message_bytes_max: Bytes = 16 * MIB - 1, "Longest audio, video or aggregate message; the 24-bit length field allows no more.";
    command_bytes_max: Bytes = 64 * KIB, "Longest command message; longer ones are abuse and close the connection.";
    data_bytes_max: Bytes = 256 * KIB, "Longest data message (metadata); longer ones are dropped and counted.";
    partial_bytes_max: Bytes = 24 * MIB, "Bytes of unfinished messages a publishing connection may hold over all its chunk streams.";
    partial_bytes_idle_max: Bytes = 256 * KIB, "The same for a connection that does not publish.";
    partial_bytes_connect_max: Bytes = 32 * KIB, "The same before connect is accepted, when only commands and control messages are kept: all strings of connect at their longest fit.";
    messages_per_second_max: Count = 20_000, "Messages per second and connection; a flood of empty messages costs more than it carries.";
    aggregate_parts_max: Count = 4_096, "Messages inside one aggregate message; the rest of it is dropped.";
    amf_depth_max: Count = 16, "Nesting of AMF values; FFmpeg and GStreamer stop at the same depth.";
    amf_values_max: Count = 4_096, "AMF values in one message.";
    amf_properties_max: Count = 1_024, "Properties or elements of one AMF container.";
    amf_reference_bytes_max: Bytes = 64 * KIB, "Bytes that AMF3 references of one message may stand for together: two bytes on the wire repeat a string of any length, and metadata that is written anew spells each out.";
    app_bytes_max: Bytes = 256, "Length of an application name.";
    name_bytes_max: Bytes = 512, "Length of a stream name without its query.";
    url_bytes_max: Bytes = 2_048, "Length of tcUrl.";
    connect_string_bytes_max: Bytes = 4_096, "Length of any other string of the connect command.";
    streams_per_connection_max: Count = 16, "Message streams (createStream) per connection.";
    output_bytes_max: Bytes = 64 * KIB, "Replies waiting to be sent to one connection; a peer that asks and does not read is closed.";
    window_ack_bytes_min: Bytes = 32 * KIB, "Smallest acknowledgement window obeyed; smaller ones would make us send storms of acknowledgements.";
    pings_per_second_max: Count = 10, "Ping requests answered per second and connection; more are ignored.";
    tracks_max: Count = 16, "Tracks per stream and kind whose sequence header is kept for joining players.";
    header_bytes_max: Bytes = 256 * KIB, "Longest sequence header kept for joining players; a longer one is relayed but not kept.";
    segment_bytes: Bytes = 16 * KIB, "A pending segment is sealed at this size; a message of this size is a segment of its own.";
    batch_bytes_max: Bytes = 61_440, "Most bytes of one send; loopback and TCP segmentation gain nothing from more.";
    log_span: Time = secs(12), "How far back a stream's log reaches; the newest key frame is kept beyond it up to gop_span_max.";
    gop_span_max: Time = secs(40), "Oldest key frame kept for joining players when key frames are further apart than log_span.";
    log_bytes_max: Bytes = 32 * MIB, "Bytes of one stream's log; over it the oldest segments go, if need be the newest key frame too.";
    log_bytes_total: Bytes = 1024 * MIB, "Bytes of all logs of the node; over it logs shrink to their newest group of pictures, largest first, then new publishers and players are refused.";
    connection_bytes_total: Bytes = 1024 * MIB, "Bytes that all connections of the node hold in user space, unfinished messages and unsent replies included; over it new publishers and players are refused.";
    player_lag_max: Time = secs(6), "A player further behind the publisher than this jumps forward to a key frame.";
    send_stall_max: Time = secs(45), "A batch must be gone within this time of its submission, whatever its progress, else the player is closed.";
    video_idle_max: Time = secs(2), "Without coded video for this long a stream counts as audio only: players may then join at any message.";
    key_wait_max: Time = secs(10), "How long a joining player waits for a key frame when the log has none; then it gets the audio.";
    stream_grace: Time = secs(15), "How long a stream without its publisher keeps its players and its name.";
    takeover_holdoff: Time = secs(10), "A publisher that was taken over from another address is refused for this long, unless the holder has been silent for silent_after; each refused try renews it and each further take-over doubles it. From the holder's own address a publisher may take over at once, three times in a row.";
    silent_after: Time = secs(3), "A publisher that sent nothing for so long no longer defends its name.";
    unsubscribe_linger: Time = secs(5), "How long a worker keeps receiving a stream after its last local player left.";
    streams_max: Count = 20_000, "Names published on one node; publishers of further ones are refused.";
    wanted_names_max: Count = 20_000, "Names that players wait for and nobody has published; players of further ones are refused. Apart from streams_max, so that players of made-up names keep no publisher out.";
    players_max: Count = 100_000, "Players of one node; further ones are sent to overflow.to, or refused, and the node is not ready.";
    players_per_app_max: Count = 100_000, "Players of all streams of one application on one node; further ones are sent to overflow.to, or refused.";
    players_per_stream_max: Count = 100_000, "Players of one stream on one node; further ones are sent to overflow.to, or refused.";
    publishers_per_key_max: Count = 1_000, "Names that may be published at a time with one stream key, user or token, or, where a back end decides, with one query; publishers of further ones are refused. A signed URL is for one name.";
    ingest_rate_max: Bytes = 64 * MIB, "Bytes per second that one publisher may send, over ingest_window; what happens to one that sends more is its application's ingest_over.";
    ingest_window: Time = secs(10), "How long a publisher's rate is averaged: it may run ahead of ingest_rate_max by so much.";
    egress_rate_max: Bytes = NO_BYTES_LIMIT, "Bytes per second that the node may send. A player whose stream would not fit beside what is sent is sent to overflow.to, or refused, and the node is not ready. 1TiB: any number.";
    flv_header_wait: Time = secs(1), "How long a player in FLV waits to learn whether a stream that has only begun has audio: the first bytes that it gets must say.";
    flv_input_bytes_max: Bytes = 64 * KIB, "Most that a player in FLV may say while it plays over HTTP, and longest frame of one on a WebSocket: players have nothing to say.";
    views_per_stream_max: Count = 8, "Views of one stream per worker: players that read it without audio or video, or on a message stream other than 1, share one view per such choice, and so do players of FLV with ?only= or ?extras=1. Plain FLV over HTTP and over WebSockets is not counted: two views more. Each holds as much as the stream's log.";
    sends_per_turn: Count = 256, "Sends submitted per turn of a worker before it reads again.";
    newcomers_per_turn: Count = 32, "Times per turn of a worker that connections without a purpose are heard. A handshake costs as much as several sends: thousands at once would make players wait.";
    tls_handshakes_per_turn: Count = 2, "Parts of TLS handshakes heard per turn of a worker. A signature takes 0.1 ms (ECDSA) to 0.3 ms (RSA) of a core: a storm of them must not make players wait.";
    tls_sessions_max: Count = 4_096, "TLS sessions remembered, so that a client that comes again needs no new signature; the oldest are forgotten first.";
    receive_bytes: Bytes = 64 * KIB, "One receive buffer.";
    mail_ring_max: Count = 4_096, "Segments waiting in the ring from one worker to another; one that does not fit makes the reader take a new snapshot.";
    control_mail_max: Count = 65_536, "Control messages waiting from one worker to another; a worker whose queue is full refuses new publishes and plays.";
    http_connections_max: Count = 128, "Connections of operators; for a further one the longest idle one is closed, or itself when none is idle.";
    http_header_timeout: Time = secs(20), "From the end of an answer, or from accept, to the end of the next request's header on a connection of an operator.";
    http_header_bytes_max: Bytes = 16 * KIB, "Header of one request of an operator, and the read buffer of its connection.";
    http_lists_per_second_max: Count = 50, "Questions of operators to workers in a second: lists of streams, connections, nodes and links, and connections to be closed; further ones are answered 429. Workers look through their tables for each.";
    stream_series_max: Count = 200, "Streams that /metrics/streams shows one by one, the largest; all others are added up under the name _other.";
    log_lines_per_second_max: Count = 500, "Lines of one kind that one thread may log in a second; further ones are left out and counted, and the log says how many. 0: any number.";
    http_body_bytes_max: Bytes = 64 * KIB, "Body of one request of an operator.";
    tunnel_sessions_max: Count = 20_000, "Tunnelled sessions (RTMPT) of one node.";
    tunnel_sessions_per_worker_max: Count = 10_000, "Tunnelled sessions of one worker: each costs it a request and an answer many times a second.";
    tunnel_idle_timeout: Time = secs(15), "A tunnelled session that no request came for ends after this long, and so does a connection that carried one.";
    tunnel_hold: Time = millis(100), "A tunnel's request that finds nothing is held this long at most before it is answered empty: librtmp asks again without any pause.";
    tunnel_interval: Time = millis(40), "A tunnelled player is given media no more often than this; more often costs a request and an answer each and shows no one anything sooner than the next frame.";
    tunnel_reply_bytes_max: Bytes = 256 * KIB, "RTMP bytes of one answer of a tunnel, after which one more batch may follow; the rest waits in the log for the next request.";
    tunnel_body_bytes_max: Bytes = 32 * MIB, "Body of one request of a tunnel. It is read as it comes and not kept, so this bounds only what one request may claim.";
    tunnel_body_timeout: Time = secs(12), "The body of a tunnel's request must be whole after this time and a second more for each 16 KiB that came of it, and the requests before it must have come.";
    tunnel_bytes_total: Bytes = 256 * MIB, "Bytes that the tunnels of a node hold: connections that carry them, and last answers in case they are asked for again. Over it last answers are let go, and no tunnel is opened.";
    hook_calls_max: Count = 16_384, "Calls of hooks on their way from workers to the control thread; a question that does not fit is answered as when its back end is down, a notification waits in its worker.";
    hook_questions_max: Count = 1_024, "Connects, publishes and plays that wait for the verdict of a hook; for further ones the back end counts as down, so that a slow one cannot fill the node with clients that wait. One server has at most eight times as many as are left for the others.";
    hook_probe_waiters_max: Count = 512, "Questions that wait, when a back end's breaker has paused, for the one call that decides whether it works again, at most as long as a call may take; for further ones the back end counts as down.";
    hook_notices_max: Count = 16_384, "Notifications that wait for a back end, on the control thread and in each worker; further ones are lost, and counted.";
    hook_reply_bytes_max: Bytes = 32 * KIB, "Longest answer of a back end that is read, header included.";
    hook_cache_max: Count = 65_536, "Verdicts of hooks that are remembered; past it the oldest is forgotten.";
    hook_idle_connections_max: Count = 32, "Connections kept open to one back end between calls, where its contract allows.";
    nodes_max: Count = 128, "Nodes of a cluster, this one included; each pair keeps a connection, so more than a few hundred need thought.";
    node_silence_max: Time = secs(3), "A node from which no byte came for so long is taken for gone; that only cleans up.";
    heartbeat_interval: Time = secs(1), "How often nodes tell each other that they are well. Three are missed before one is taken for gone.";
    redial_max: Time = secs(2), "Longest pause between two tries to reach a listed node; a cluster that was cut in two is whole again not much later.";
    dials_max: Count = 64, "Nodes that are being dialled at one time; the others wait their turn.";
    cluster_hello_timeout: Time = secs(3), "From dialling or accepting a link to the end of its greeting. A node of the cluster needs milliseconds.";
    cluster_strangers_max: Count = 256, "Accepted links that have not greeted yet; more are closed unheard.";
    cluster_strangers_per_address_max: Count = 64, "Those of them from one address (IPv6: one /64), so that one host does not keep nodes out.";
    cluster_answer_timeout: Time = secs(2), "How long another node has to answer for its part of a list of the whole cluster; one that has not by then is named as absent.";
    cluster_answers_bytes_max: Bytes = 32 * MIB, "What all other nodes may answer together for one list of the whole cluster: a thousand streams of one node are a megabyte.";
    cluster_message_bytes_max: Bytes = 64 * KIB, "Longest control message between nodes; longer lists are told in parts.";
    announced_streams_max: Count = 20_000, "Streams that one node may announce; the rest cannot be had from it.";
    directory_names_max: Count = 100_000, "Names that all nodes together may announce; further ones are passed over.";
    directory_refresh: Time = secs(10), "How often a node repeats that what it announced still stands; after three such spans without a word its streams end.";
    link_streams_max: Count = 4_096, "Streams on one link between nodes; further ones are refused.";
    link_messages_per_second_max: Count = 2_000_000, "Messages per second on one link between nodes, which carries many streams.";
    link_queue_bytes_max: Bytes = 64 * MIB, "Control messages that wait to be sent to another node; a node that does not read them is let go.";
    link_lag_max: Time = secs(3), "A link that is further behind its streams than this feeds fewer of them: those with the fewest players end first.";
    link_keep_alive: Time = millis(250), "How often something is said about each stream on a link, even where nothing comes.";
    link_silence: Time = secs(1), "A stream of which nothing came over a link for so long is asked for elsewhere.";
    claims_waiting_max: Count = 16, "Publishers that may wait for one name while its holder yields; further ones are refused.";
    auth_failures_per_address: Count = 10, "Wrong stream keys, signatures, tokens and passwords from one address (IPv6: one /64 network); after so many none is looked at until auth_failure_window has passed. From addresses in limits.exempt they are counted for each stream (or application and user) by itself. Right ones are not either, for guessing would go on; rules that need none still hold.";
    auth_failure_window: Time = secs(60), "After so long without a wrong secret, those of an address are forgotten.";
    auth_failure_addresses_max: Count = 10_000, "Addresses whose wrong secrets are remembered; a further one takes the place of the oldest.";
    token_keys_wait_max: Time = secs(5), "How long a publish or play may wait for keys of tokens that are not there, or not the one that its token names, and how long fetching them may take.";
    token_keys_waiting_max: Count = 1_024, "Publishes and plays of one worker that may wait for keys of tokens; further ones are refused.";
    token_keys_refresh: Time = secs(300), "How often keys of tokens are fetched anew; a token that names an unknown key has it done at once, but not twice in 30s.";
    token_keys_keep: Time = secs(24 * 3_600), "How long keys of tokens that were fetched are used while fetching them anew fails.";
    token_keys_bytes_max: Bytes = 256 * KIB, "Longest answer that is read when keys of tokens are fetched.";
    worker_hang_max: Time = secs(10), "A worker that has not turned for this long makes /livez fail; each turns at least twice a second.";
    outbound_dials_max: Count = 64, "Connections that one worker may be opening to other servers at one time; further tries fail at once, and are made again later.";
    outside_max: Count = 1_000, "Streams that are pushed to and pulled from other servers at one time; further ones wait.";
    outside_targets_max: Count = 1_000, "Pushes and pulls that may be added while the node runs, by the API or by what back ends answer.";
    outside_connect_timeout: Time = secs(10), "From looking up the name of another server to the TCP connection to it.";
    outside_retry_min: Time = secs(1), "Pause after the first failure of a push or pull; it doubles with each further one, and is made up to a quarter shorter by chance.";
    outside_retry_max: Time = secs(60), "Longest pause between two tries of a push or pull, until outside_breaker_failures are reached.";
    outside_breaker_failures: Count = 20, "After so many failures of a push or pull in a row it is left alone for outside_breaker_pause, and then tried once.";
    outside_breaker_pause: Time = secs(300), "Pause of a push or pull that failed outside_breaker_failures times in a row, or that leads back to this node.";
    outside_redirects_max: Count = 5, "Redirects that a push or pull follows from one server to the next before it counts as failed.";
    outside_news_max: Count = 4_096, "News of names and of pushes and pulls on their way from workers to the control thread; further ones wait in their worker.";
    pull_linger: Time = secs(10), "How long a stream that is pulled for its players goes on after the last one left.";
    mail_poll: Time = millis(5), "How often a busy worker with remote subscriptions looks at its mail.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_can_be_set_by_its_name_and_unit() {
        let mut limits = Limits::default();
        for row in limits.table() {
            assert_eq!(limits.set(row.name, row.value), Some(Ok(())), "{}", row.name);
            assert!(row.why.ends_with('.'), "{}: the reason is a sentence", row.name);
        }
        assert_eq!(limits, Limits::default());
        assert_eq!(limits.set("no_such_limit", Value::Count(1)), None);
        assert_eq!(limits.set("log_span", Value::Count(1)), Some(Err("Time")));
    }
}
