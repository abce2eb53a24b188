//! The labels under which workers count: closed lists, as enums, so that counting never touches a
//! string and no peer can make a new series.
//!
//! One row per value: variant, text in `/metrics`, meaning. A new row is all that a new value
//! needs.

/// A closed list of values, numbered from 0. Tuples of labels are labels.
pub trait Label: Copy + 'static {
    /// How many values there are.
    const COUNT: usize;

    /// The number of this value, below `COUNT`.
    fn index(self) -> usize;

    /// The value of a number; numbers of `COUNT` and above give the last value.
    fn at(index: usize) -> Self;

    /// Appends the text of this value; a tuple appends that of each part in order.
    fn texts(self, out: &mut Vec<&'static str>);
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident {
        $first:ident = $first_text:literal, $first_why:literal;
        $($variant:ident = $text:literal, $why:literal;)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            #[doc = $first_why]
            $first,
            $(#[doc = $why] $variant,)*
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[Self::$first, $(Self::$variant),*];
            /// How many values there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The text in `/metrics`, in the API and in log lines.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    Self::$first => $first_text,
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl Label for $name {
            const COUNT: usize = Self::ALL.len();

            fn index(self) -> usize {
                // A plain enum's discriminants are its positions in `ALL`.
                self as usize
            }

            fn at(index: usize) -> Self {
                Self::ALL[index.min(Self::ALL.len() - 1)]
            }

            fn texts(self, out: &mut Vec<&'static str>) {
                out.push(self.label());
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.label())
            }
        }
    )*};
}

labels! {
    /// What a connection is there for.
    Role {
        Pending = "pending", "It has neither asked to publish nor to play yet.";
        Publisher = "publisher", "It publishes a stream.";
        Player = "player", "It plays a stream.";
        Link = "link", "It carries streams, or messages, between two nodes.";
        Carrier = "carrier", "It carries the requests of tunnels. The sessions inside count by themselves.";
        Push = "push", "We opened it, to publish a stream on another server.";
        Pull = "pull", "We opened it, to play a stream of another server.";
    }

    /// How a client speaks to us.
    Transport {
        Rtmp = "rtmp", "RTMP over TCP, or nothing that could be recognised so far.";
        Rtmps = "rtmps", "RTMP inside TLS.";
        Rtmpt = "rtmpt", "RTMP in a tunnel of HTTP requests.";
        Rtmpts = "rtmpts", "The same inside TLS.";
        Flv = "flv", "HTTP, or HTTPS: FLV.";
        WsFlv = "wsflv", "WebSocket, with or without TLS: FLV.";
    }

    /// Why a connection ended.
    CloseReason {
        Client = "client", "The client said that it was done, then ended.";
        Eof = "eof", "The client ended its direction without a word.";
        Reset = "reset", "The client ended by resetting the connection.";
        Error = "error", "The socket failed (unreachable, timed out in the kernel).";
        Timeout = "timeout", "A deadline passed: connect, idle, or a silent publisher.";
        Slow = "slow", "A batch was not gone in time, or replies were not read.";
        Protocol = "protocol", "The peer broke the protocol.";
        Tls = "tls", "TLS with the peer failed.";
        Challenge = "challenge", "It was asked for user and password, and comes back with them on another connection.";
        Refused = "refused", "Its publish or play was refused.";
        Takeover = "takeover", "Another publisher took its stream over.";
        Ended = "ended", "Its stream ended for good.";
        Limit = "limit", "It passed a limit.";
        Operator = "operator", "An operator closed it.";
        Revoked = "revoked", "Its permission ended.";
        Drain = "drain", "The node is ending.";
        Fault = "fault", "We failed: a panic was caught and cost this connection.";
        Hook = "hook", "A hook ended it: on_update, or a question asked again.";
    }

    /// What was turned away.
    RefuseReason {
        Connections = "connections", "A connection, since connections_max are open.";
        Pending = "pending", "A connection, since pending_connections_max wait already.";
        AddressConnections = "address_connections", "A connection, since its address has connections_per_address_max.";
        AddressHandshakes = "address_handshakes", "A connection, since its address opened handshakes_per_address_max within a second.";
        Files = "files", "A connection, since the process has no file descriptor left.";
        Draining = "draining", "A connection, publish or play, since the node is ending.";
        Overload = "overload", "A publish or play, since control_mail_max pieces of mail wait.";
        Streams = "streams", "A publish, since streams_max names are live.";
        Memory = "memory", "A publish or play, at log_bytes_total or connection_bytes_total.";
        Conflict = "conflict", "A publish, since the name is live and is not to be taken over.";
        Holdoff = "holdoff", "A publish, since this publisher was taken over a moment ago.";
        Players = "players", "A play, since the stream has players_per_stream_max players.";
        AppPlayers = "app_players", "A play, since the application has players_per_app_max players.";
        NodePlayers = "node_players", "A play, since the node has players_max players.";
        Egress = "egress", "A play, since its stream would not fit into egress_rate_max.";
        KeyPublishers = "key_publishers", "A publish, since its key publishes publishers_per_key_max names.";
        Views = "views", "A play, or its choice of tracks, since the stream has views_per_stream_max views.";
        UnknownStream = "unknown_stream", "A play, since the name is not live.";
        WantedNames = "wanted_names", "A play, since wanted_names_max names are waited for.";
        Name = "name", "A publish or play whose application or name is empty or too long.";
        Hook = "hook", "A connect, publish or play that a hook refused.";
        HookFailed = "hook_failed", "A connect, publish or play whose hook gave no usable answer.";
        HookElsewhere = "hook_elsewhere", "A play that a hook sent to another server, or a connect.";
        Nobody = "nobody", "A publish or play, since the rules let nobody.";
        Address = "address", "A publish or play, since the rules do not name the address.";
        Key = "key", "A publish or play without the right stream key.";
        Signature = "signature", "A publish or play without the right signature.";
        Token = "token", "A publish or play without the right token.";
        Password = "password", "A publish without the right user and password.";
        User = "user", "A publish, since its user may not use that name.";
        Scope = "scope", "A publish or play, since what was shown holds for another name, or not for this.";
        SignedAddress = "signed_address", "A publish or play, since its URL was signed for another address.";
        TokenIssuer = "token_issuer", "A publish or play, since its token is not from whom the rule says (iss).";
        TokenAudience = "token_audience", "A publish or play, since its token is for another audience (aud).";
        TokenTimes = "token_times", "A publish or play, since its token does not say in seconds when it holds (exp, nbf).";
        Expired = "expired", "A publish or play, since what was shown holds no longer, or not yet.";
        Guessing = "guessing", "A publish or play, since too many wrong secrets came from its address.";
        Unavailable = "unavailable", "A publish or play, since nobody could be asked about it.";
        NoCertificate = "no_certificate", "A connection that begins with TLS, since there is no certificate.";
        PlainText = "plain_text", "A connection that does not begin with TLS, on a listener for nothing else.";
        NotSpoken = "not_spoken", "A connection that speaks what its listener does not take.";
        Proxy = "proxy", "A connection that begins with a PROXY header and does not come from a trusted proxy.";
        ProxyHeader = "proxy_header", "A connection of a trusted proxy whose PROXY header is malformed.";
        TunnelSessions = "tunnel_sessions", "A tunnel, since its worker or the node has as many as it may.";
        TunnelId = "tunnel_id", "A tunnel's request with an id that this run of the node never gave: guessed, or old.";
        TunnelExpired = "tunnel_expired", "A tunnel's request whose session has ended, often since none came for tunnel_idle_timeout.";
        TunnelNode = "tunnel_node", "A tunnel's request with the id of another node: the balancer is at fault.";
        TunnelStale = "tunnel_stale", "A tunnel's request that was answered long ago, that came by another connection too, or whose session ended.";
        TunnelOrder = "tunnel_order", "A tunnel, since requests before one that came are missing, or one came twice with two bodies.";
        TunnelBody = "tunnel_body", "A tunnel's request whose body is too long or does not tell its length.";
        HttpMalformed = "http_malformed", "An HTTP request that is malformed or ambiguous.";
        HttpHead = "http_head", "An HTTP request whose head is too long or has too many fields.";
        Origin = "origin", "A WebSocket of a page whose origin may not play (http_flv.cors).";
        HttpMethod = "http_method", "An HTTP request of a method that is not known here.";
        Loop = "loop", "A connect of a push or pull that leads back to where it came from.";
        HttpNotFound = "http_not_found", "An HTTP request of something that is not there.";
    }

    /// Which way a stream goes between this node and another server.
    OutsideKind {
        Push = "push", "It is published there.";
        Pull = "pull", "It is fetched from there.";
    }

    /// What became of a connection that we tried to open.
    DialResult {
        Ok = "ok", "It is there.";
        Refused = "refused", "Nobody listens there.";
        Timeout = "timeout", "Nobody answered in time.";
        Failed = "failed", "The network or the kernel said no.";
        Full = "full", "Not tried, since outbound_dials_max or connections_max is reached.";
        Unwanted = "unwanted", "Nobody wanted it any more before it was there.";
    }

    /// Why a push or pull ended, or did not come about.
    OutsideFault {
        Stopped = "stopped", "It was to end: nobody wants it any more, or the node is ending.";
        Ended = "ended", "Its stream ended here.";
        Takeover = "takeover", "Another publisher took over the stream that was pulled.";
        Url = "url", "It was sent to a URL that is none, or of a scheme that is not known.";
        Resolve = "resolve", "The name of the server could not be looked up.";
        Dial = "dial", "No connection to the server could be had.";
        Timeout = "timeout", "The server did not answer, or sent nothing, for too long.";
        Tls = "tls", "TLS with the server failed.";
        Tunnel = "tunnel", "The server, or something before it, does not take tunnels.";
        Protocol = "protocol", "The server broke the protocol.";
        Refused = "refused", "The server refused.";
        Password = "password", "The server wants another user or password.";
        Loop = "loop", "It leads back to where it comes from.";
        Redirects = "redirects", "The server sent it on, too often.";
        Redirected = "redirected", "The server sent it on; it goes there next.";
        ServerEnded = "server_ended", "The server ended it.";
        Lost = "lost", "The connection was lost.";
        Slow = "slow", "The server took nothing for send_stall_max.";
        Elsewhere = "elsewhere", "Another node of the cluster has the stream; this one waits.";
        NameTaken = "name_taken", "The name is published here already.";
        Limit = "limit", "It passed a limit of this node.";
        Operator = "operator", "An operator closed its connection.";
        Fault = "fault", "We failed: a panic was caught and cost its connection.";
    }

    /// How a handshake ended.
    HandshakeResult {
        Ok = "ok", "Complete.";
        Timeout = "timeout", "Not complete in time.";
        BadVersion = "bad_version", "The first byte was none we speak.";
        Rtmpe = "rtmpe", "The peer asked for encrypted RTMP (RTMPE), which is refused.";
        Eof = "eof", "The peer left before its end.";
        Closed = "closed", "We ended it: the node is ending, a limit, an operator, TLS that failed, or our fault.";
    }

    /// How a handshake of TLS ended.
    TlsResult {
        Full13 = "full_1_3", "Complete, TLS 1.3.";
        Full12 = "full_1_2", "Complete, TLS 1.2.";
        Resumed13 = "resumed_1_3", "Complete by an earlier session, TLS 1.3.";
        Resumed12 = "resumed_1_2", "Complete by an earlier session, TLS 1.2.";
        Incompatible = "incompatible", "No version or cipher suite in common.";
        Alert = "alert", "The peer ended it with an alert: it does not trust the certificate, perhaps.";
        Malformed = "malformed", "The peer's bytes were not those of TLS.";
        Timeout = "timeout", "Not complete in time.";
        Eof = "eof", "The peer left before its end.";
        Failed = "failed", "We ended it: the node is ending, a limit, an operator, or our fault.";
    }

    /// What a message carries.
    MessageKind {
        Audio = "audio", "Audio.";
        Video = "video", "Video.";
        Data = "data", "Metadata and other data.";
        Control = "control", "Commands and protocol control.";
    }

    /// Why a message was not taken from a publisher or not given to a player.
    DropReason {
        Limit = "limit", "Longer than its limit.";
        Aggregate = "aggregate", "In the part of an aggregate beyond aggregate_parts_max, or cut off.";
        Malformed = "malformed", "It could not be understood where it has to be.";
        Unknown = "unknown", "A message type that has no meaning here.";
        Unpublished = "unpublished", "Media on a message stream that does not publish.";
        BeforeKey = "before_key", "A frame of a returning publisher before its first key frame.";
        Lag = "lag", "A slow player jumped over it.";
        Held = "held", "Another node fed it already: a new feeder begins before that one ended.";
    }

    /// Why a player was closed by us, or lost.
    PlayerDropReason {
        Slow = "slow", "A batch was not gone within send_stall_max, or replies were not read.";
        Limit = "limit", "It passed a limit.";
        Drain = "drain", "The node is ending.";
        Error = "error", "Its socket failed, or it broke the protocol.";
    }

    /// Who was let go while the node drains.
    DrainRole {
        Publisher = "publisher", "It published.";
        Player = "player", "It played.";
        Idle = "idle", "It did neither.";
    }

    /// How somebody was let go while the node drains.
    DrainWay {
        Asked = "asked", "It was asked to connect again (ReconnectRequest), and leaves when it likes.";
        Ended = "ended", "Its publish or play was ended in order.";
        Forced = "forced", "It was still there when its part of the window was over, and was ended.";
        Redirected = "redirected", "It came while the node drained, and was told where to go.";
    }

    /// What a stream asks of players.
    StreamNeed {
        Codec = "codec", "A codec, by the name that its messages use for it.";
        Multitrack = "multitrack", "Messages that name their track (Enhanced RTMP).";
        VideoMetadata = "video_metadata", "Colour and other video metadata (Enhanced RTMP).";
    }

    /// Why a slow player was moved forward.
    JumpReason {
        Lag = "lag", "It was further behind than player_lag_max.";
        Trimmed = "trimmed", "The log no longer reached back to it.";
    }

    /// Where a stream comes from.
    Source {
        Local = "local", "It is published on this node.";
        Remote = "remote", "It comes from another node.";
    }

    /// What a message passed between ingest and the player.
    Hop {
        Local = "local", "Nothing but this node.";
        Link = "link", "A link from another node, or several: from its origin on.";
    }

    /// What a joining player found.
    JoinSource {
        Local = "local", "A key frame in the log of this node.";
        Remote = "remote", "The same, of a stream that comes from another node.";
        Cold = "cold", "No key frame, or no stream yet: it had to wait.";
    }

    /// An event that a back end is asked about or told of, by the name that its contract has.
    HookName {
        OnConnect = "on_connect", "A client connects.";
        OnPublish = "on_publish", "A client wants to publish.";
        OnPlay = "on_play", "A client wants to play.";
        OnUpdate = "on_update", "A client goes on publishing or playing.";
        OnPublishDone = "on_publish_done", "A client publishes no longer.";
        OnPlayDone = "on_play_done", "A client plays no longer.";
        OnDone = "on_done", "A client publishes or plays no longer, behind either of those.";
        OnDisconnect = "on_disconnect", "A connection has ended.";
        OnUnpublish = "on_unpublish", "A client publishes no longer.";
        OnStop = "on_stop", "A client plays no longer.";
        OnClose = "on_close", "A connection has ended.";
    }

    /// What came of a call to a back end, or instead of one.
    HookResult {
        Allowed = "allowed", "The back end agreed.";
        Renamed = "renamed", "It agreed, under another name.";
        Refused = "refused", "It refused.";
        Elsewhere = "elsewhere", "It named another server: players are sent there, publishers pushed there.";
        Delivered = "delivered", "A notification was taken, whatever the answer.";
        Cached = "cached", "Not called: its last verdict on the same still holds.";
        Timeout = "timeout", "It did not answer in time.";
        Unreachable = "unreachable", "No connection, or one that broke before the answer.";
        Garbage = "garbage", "What it answered is no answer.";
        Broken = "broken", "It answered with a 5xx status.";
        Breaker = "breaker", "Not called: it failed too often just now.";
        Overload = "overload", "Not called: too many questions or notifications wait.";
        Retried = "retried", "A notification failed and is sent again.";
        Lost = "lost", "A notification was given up.";
    }

    /// Limits whose use is known. The text is the limit's name.
    LimitUse {
        ConnectionsPerAddress = "connections_per_address_max", "The address with the most.";
        HandshakesPerAddress = "handshakes_per_address_max", "The fastest address.";
        Pending = "pending_connections_max", "The worker with the most.";
        Session = "session_max", "The oldest connection that publishes or plays, in seconds.";
        PublisherIdle = "publisher_idle_max", "The publisher that has sent no media for longest, in seconds.";
        TunnelsPerWorker = "tunnel_sessions_per_worker_max", "The worker with the most.";
        TokenKeysWaiting = "token_keys_waiting_max", "The worker with the most.";
        WantedNames = "wanted_names_max", "All of them.";
        Players = "players_max", "All of them, those that wait for a stream included.";
        PlayersPerApp = "players_per_app_max", "The application with the most.";
        PlayersPerStream = "players_per_stream_max", "The stream with the most.";
        PublishersPerKey = "publishers_per_key_max", "The key with the most.";
        IngestRate = "ingest_rate_max", "The fastest publisher, in bytes per second.";
        EgressRate = "egress_rate_max", "What is sent, in bytes per second.";
        LogBytes = "log_bytes_max", "The largest log.";
        ControlMail = "control_mail_max", "The worker with the most.";
    }

    /// Limits of the node at which it is not ready for players.
    Full {
        Players = "players_max", "As many players as there may be.";
        Egress = "egress_rate_max", "As many bytes as may be sent.";
    }

    /// Why a link between nodes was refused or let go.
    LinkRefusal {
        Version = "version", "The two nodes have no version of the protocol in common.";
        Secret = "secret", "The other side does not know the cluster's secret.";
        Oneself = "oneself", "It led to this very node.";
        Replaced = "replaced", "A process of that name that started later is the node.";
        SameKey = "same_key", "Another node drew the same number.";
        TooManyNodes = "too_many_nodes", "nodes_max nodes are known.";
        Duplicate = "duplicate", "The two nodes have another connection.";
        Timeout = "timeout", "The greeting took longer than cluster_hello_timeout.";
        Malformed = "malformed", "What came is no message of the cluster's protocol.";
        Silence = "silence", "Nothing was heard for node_silence_max.";
        Left = "left", "The node left.";
        Strangers = "strangers", "cluster_strangers_max links have not greeted yet.";
        Foreign = "foreign", "Some other program called on the port for nodes.";
        Streams = "streams", "A stream, since its link carries link_streams_max.";
        Behind = "behind", "A stream, since its link was behind by more than link_lag_max.";
        Queue = "queue", "A node that does not read, with link_queue_bytes_max waiting.";
        Stalled = "stalled", "A node to which a batch was not gone within send_stall_max.";
        NoRoom = "no_room", "A stream that was taken up, at streams_max, claims_waiting_max or log_bytes_total.";
        Unknown = "unknown", "Of a node that is not known, or that has more links than workers.";
        Announcements = "announcements", "A stream that a node announced beyond announced_streams_max or directory_names_max.";
        Unasked = "unasked", "A stream that nobody had asked for, or no longer.";
        Loop = "loop", "A stream that had come through this node.";
        Tls = "tls", "TLS was not agreed on, by certificates or since one of the two does not speak it.";
    }

    /// Which way a link carries streams.
    LinkWay {
        In = "in", "From another node.";
        Out = "out", "To another node.";
        Control = "control", "Messages, both ways.";
    }

    /// Whether the node at the other end of a link stands in this one's zone.
    LinkZone {
        Same = "same", "Both stand in one zone.";
        Other = "other", "They stand in different zones.";
        Unknown = "unknown", "One of them says no zone, or has not yet said who it is.";
    }

    /// What holds memory.
    MemoryKind {
        Log = "log", "The segments of streams' logs.";
        Partial = "partial", "Unfinished messages.";
        View = "view", "Logs rendered for readers that need other bytes.";
        Tls = "tls", "TLS of connections: keys, buffers, and batches that are being sent.";
        Connection = "connection", "Connections themselves, their input and their replies.";
        Tunnel = "tunnel", "Connections that carry tunnels, and the last answers of those.";
    }
}

impl<A: Label, B: Label> Label for (A, B) {
    const COUNT: usize = A::COUNT * B::COUNT;

    fn index(self) -> usize {
        self.0.index() * B::COUNT + self.1.index()
    }

    fn at(index: usize) -> Self {
        (A::at(index / B::COUNT), B::at(index % B::COUNT))
    }

    fn texts(self, out: &mut Vec<&'static str>) {
        self.0.texts(out);
        self.1.texts(out);
    }
}

impl<A: Label, B: Label, C: Label> Label for (A, B, C) {
    const COUNT: usize = A::COUNT * B::COUNT * C::COUNT;

    fn index(self) -> usize {
        (self.0, (self.1, self.2)).index()
    }

    fn at(index: usize) -> Self {
        let (first, (second, third)) = <(A, (B, C))>::at(index);
        (first, second, third)
    }

    fn texts(self, out: &mut Vec<&'static str>) {
        (self.0, (self.1, self.2)).texts(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_values_of_a_label_agree() {
        fn check<L: Label + PartialEq + std::fmt::Debug>() {
            let mut seen = std::collections::BTreeSet::new();
            for index in 0..L::COUNT {
                assert_eq!(L::at(index).index(), index);
                let mut texts = Vec::new();
                L::at(index).texts(&mut texts);
                let plain = |text: &&str| {
                    text.bytes().all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit())
                };
                assert!(texts.iter().all(plain), "{texts:?}");
                assert!(seen.insert(texts), "two values of one text");
            }
        }
        check::<Role>();
        check::<Transport>();
        check::<CloseReason>();
        check::<RefuseReason>();
        check::<HandshakeResult>();
        check::<TlsResult>();
        check::<MessageKind>();
        check::<DropReason>();
        check::<PlayerDropReason>();
        check::<StreamNeed>();
        check::<JumpReason>();
        check::<Source>();
        check::<Hop>();
        check::<JoinSource>();
        check::<MemoryKind>();
        check::<HookName>();
        check::<HookResult>();
        check::<OutsideKind>();
        check::<OutsideFault>();
        check::<DialResult>();
        check::<LimitUse>();
        check::<Full>();
        check::<LinkRefusal>();
        check::<LinkWay>();
        check::<LinkZone>();
        check::<(LinkWay, LinkZone)>();
        check::<(Role, Transport)>();
        check::<(Role, Transport, CloseReason)>();
        check::<(MessageKind, DropReason)>();
    }
}
