//! A client that plays: reads at its own pace, and has every message judged.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use relay::reactor::sim::SimNet;
use relay::session::{ClientEvent, ClientRole, SessionError};
use relay::wire::amf::Value;

use super::line::{Heard, Line};
use super::material::SharedLedger;
use super::node::{ANY_WORKER, Trace};
use super::viewer::Viewer;

/// How a player reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At once, whatever comes.
    Prompt,
    /// So many bytes, every so often.
    Slow { bytes: usize, every: Duration },
    /// Not at all.
    Stalled,
}

/// A player, over as many connections as it makes.
pub(crate) struct Player {
    pub(crate) stream: u8,
    /// By which it asks for the stream.
    pub(crate) name: String,
    pub(crate) door: SocketAddr,
    pub(crate) host: IpAddr,
    pub(crate) pace: Pace,
    pub(crate) line: Option<Line>,
    pub(crate) viewer: Viewer,
    /// A second play on the same connection, judged by the stream that its messages name.
    pub(crate) second: Option<Viewer>,
    /// Which stream it plays besides, on message stream 2 of every connection that it makes.
    pub(crate) second_stream: Option<u8>,
    /// It was told that the play started, on this connection.
    pub(crate) started: bool,
    /// It was told that its pause has begun, on this connection.
    paused: bool,
    /// Codes of all statuses, over all connections; `eof` and `reset` are ends without one.
    pub(crate) codes: Vec<String>,
    pub(crate) bytes: u64,
    /// A player that loses its connection calls again after so long.
    pub(crate) again_after: Option<Duration>,
    pub(crate) splits: bool,
    /// Plays inside HTTP.
    pub(crate) tunnelled: bool,
    /// Goes where it is asked to connect again, as soon as it is asked.
    pub(crate) obeys: bool,
    /// Where it calls when it calls again, if that is another place.
    pub(crate) next_door: Option<SocketAddr>,
    /// How often it was asked to connect again.
    pub(crate) asked: u32,
    /// The longest time between two messages, over all connections.
    pub(crate) longest_gap: Duration,
    last_message: Option<Duration>,
    /// Goes on when it is told that a play has ended: it has another one.
    pub(crate) stays: bool,
    /// It asked to play anew on the message stream that it plays on: what comes behind the answer
    /// is judged as another play.
    pub(crate) plays_anew: bool,
    retry_at: Option<Duration>,
    next_read: Duration,
    random: fastrand::Rng,
    who: usize,
    trace: Trace,
}

impl Player {
    pub(crate) fn new(
        who: usize,
        stream: u8,
        door: SocketAddr,
        ledger: &SharedLedger,
        seed: u64,
        trace: &Trace,
    ) -> Self {
        Self {
            stream,
            name: format!("s{stream}"),
            door,
            host: IpAddr::from([10, 0, 2, 1]),
            pace: Pace::Prompt,
            line: None,
            viewer: Viewer::new(ledger, stream, format!("player {who}")),
            second: None,
            second_stream: None,
            started: false,
            paused: false,
            codes: Vec::new(),
            bytes: 0,
            again_after: None,
            splits: false,
            tunnelled: false,
            obeys: false,
            next_door: None,
            asked: 0,
            longest_gap: Duration::ZERO,
            last_message: None,
            stays: false,
            plays_anew: false,
            retry_at: None,
            next_read: Duration::ZERO,
            random: fastrand::Rng::with_seed(seed),
            who,
            trace: trace.clone(),
        }
    }

    /// Connects and asks to play.
    pub(crate) fn begin(&mut self, net: &SimNet) {
        self.leave();
        self.viewer.node = node_of(self.door);
        self.viewer.begin_again();
        if self.second_stream.is_some() {
            self.second = None;
        }
        // Half of all announce that they understand a request to connect again.
        let seed = self.random.u64(..) & if self.obeys { !1 } else { !0 };
        let mut line = Line::new(net, self.host, self.door, &self.name, ClientRole::Play, seed);
        if self.tunnelled {
            line.tunnel(net, self.host, self.door);
        }
        self.line = Some(line);
    }

    /// Closes its connection at once.
    pub(crate) fn leave(&mut self) {
        self.line = None;
        self.retry_at = None;
        self.started = false;
        self.paused = false;
    }

    /// Sends a command, of which the session does not know, on a message stream.
    pub(crate) fn command(&mut self, message_stream: u32, name: &str, values: &[Value<'_>]) {
        let line = self.line.as_mut().unwrap();
        line.command(message_stream, name, 77, values);
    }

    /// Whether a status of this code came.
    pub(crate) fn heard(&self, code: &str) -> bool {
        self.codes.iter().any(|heard| heard == code)
    }

    /// From now on takes everything at once and only counts it.
    pub(crate) fn count_only(&mut self) {
        self.pace = Pace::Stalled;
        self.line.as_mut().unwrap().endpoint.count_only();
    }

    /// Bytes counted since.
    pub(crate) fn counted(&self) -> u64 {
        self.line.as_ref().map_or(0, |line| line.endpoint.counted())
    }

    /// When it next does something by itself.
    pub(crate) fn next(&self) -> Option<Duration> {
        let paced = matches!(self.pace, Pace::Slow { .. }) && self.line.is_some();
        let asks = self.line.as_ref().and_then(Line::next);
        paced.then_some(self.next_read).into_iter().chain(self.retry_at).chain(asks).min()
    }

    /// Does what is to be done now; whether anything was.
    pub(crate) fn act(&mut self, net: &SimNet) -> bool {
        let now = net.now();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.begin(net);
        }
        let most = match self.pace {
            Pace::Prompt if self.splits => self.random.usize(1..4_000),
            Pace::Prompt => usize::MAX,
            Pace::Slow { bytes, every } if self.next_read <= now => {
                self.next_read = now + every;
                bytes
            }
            Pace::Slow { .. } | Pace::Stalled => 0,
        };
        let read = most > 0 && self.listen(net, most);
        self.play_second();
        read | self.line.as_mut().is_some_and(|line| line.write(usize::MAX))
    }

    /// Asks for the second stream, once the first one plays.
    fn play_second(&mut self) {
        let Some(stream) = self.second_stream.filter(|_| self.started) else { return };
        if self.second.is_none() {
            self.second = Some(self.viewer.beside(stream));
            let name = format!("s{stream}");
            self.command(0, "createStream", &[Value::Null]);
            self.command(2, "play", &[Value::Null, Value::text(&name), Value::Number(-2.0)]);
        }
    }

    /// Whether it has everything that was published.
    pub(crate) fn is_up_to_date(&self) -> bool {
        let second = self.second.as_ref();
        self.viewer.is_up_to_date()
            && (self.second_stream.is_none() || second.is_some_and(Viewer::is_up_to_date))
    }

    fn listen(&mut self, net: &SimNet, most: usize) -> bool {
        let now = net.now();
        let Some(line) = &mut self.line else { return false };
        let (viewer, second, codes) = (&mut self.viewer, &mut self.second, &mut self.codes);
        let (trace, who) = (&self.trace, self.who);
        let (started, paused) = (&mut self.started, &mut self.paused);
        let stays = self.stays;
        let plays_anew = &mut self.plays_anew;
        let (mut over, mut elsewhere) = (false, None);
        let (last_message, longest_gap) = (&mut self.last_message, &mut self.longest_gap);
        let heard = line.read(most, now, &mut |event| match event {
            // Part of the answer to play, and no media of the stream.
            Ok(ClientEvent::Media { message }) if is_sample_access(message.payload_head()) => {}
            Ok(ClientEvent::Media { message }) => {
                let viewer = match second {
                    Some(second) if second.is_of(message) => second,
                    _ => &mut *viewer,
                };
                let id = viewer.take(message, now);
                let before = last_message.replace(now).unwrap_or(now);
                *longest_gap = (*longest_gap).max(now - before);
                let name = [id.stream.into(), id.epoch.into(), id.seq.into()];
                trace.note(now, who, &name);
            }
            Ok(ClientEvent::Started { .. }) => *started = true,
            Ok(ClientEvent::Status { code, .. }) => {
                match &*code {
                    "NetStream.Pause.Notify" => *paused = true,
                    "NetStream.Unpause.Notify" if std::mem::take(paused) => viewer.resume(),
                    "NetStream.Play.Reset" if std::mem::take(plays_anew) => viewer.begin_again(),
                    _ => {}
                }
                codes.push(code);
            }
            Ok(ClientEvent::Ended { code }) if stays => codes.push(code),
            Ok(ClientEvent::Ended { code }) | Err(SessionError::Refused { code, .. }) => {
                codes.push(code);
                over = true;
            }
            Ok(ClientEvent::ReconnectRequest { tc_url }) => elsewhere = Some(tc_url),
            Ok(_) => {}
            Err(error) => panic!("player {who} at {now:?}: not a valid chunk stream: {error}"),
        });
        if let Heard::Bytes(count) = heard {
            self.bytes += u64::try_from(count).unwrap();
        }
        if let Some(url) = elsewhere {
            self.asked += 1;
            if self.obeys {
                self.door = url.map_or(self.door, |url| door_of(&url));
                self.begin(net);
                return true;
            }
        }
        match heard {
            Heard::Bytes(count) if !over => return count > 0,
            Heard::Eof if !over => self.codes.push("eof".to_owned()),
            Heard::Reset if !over => self.codes.push("reset".to_owned()),
            _ => {}
        }
        self.trace.note(now, who, &[u64::try_from(self.codes.len()).unwrap()]);
        self.leave();
        self.retry_at = self.again_after.map(|after| now + after);
        self.door = self.next_door.unwrap_or(self.door);
        true
    }
}

/// The node behind a door.
pub(crate) fn node_of(door: SocketAddr) -> u8 {
    match door.ip() {
        IpAddr::V4(host) => host.octets()[3].saturating_sub(1),
        IpAddr::V6(_) => 0,
    }
}

/// Where a node takes clients whose URL says `rtmp://node-N.example`.
pub(crate) fn door_of(url: &str) -> SocketAddr {
    let host = url.strip_prefix("rtmp://node-").and_then(|rest| rest.split_once('.'));
    let number: u8 = host.unwrap().0.parse().unwrap();
    SocketAddr::from(([10, 0, 0, 1 + number], ANY_WORKER))
}

fn is_sample_access(payload: &[u8]) -> bool {
    payload.starts_with(b"\x02\x00\x11|RtmpSampleAccess")
}
