//! A client that publishes: metadata, headers, then audio and video by the clock, all of it noted
//! in the ledger.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use relay::reactor::sim::SimNet;
use relay::session::{ClientEvent, ClientRole, SessionError};
use relay::wire::amf::Value;
use relay::wire::message::MediaKind;

use super::line::{Heard, Line};
use super::material::{Kind, Sent, SharedLedger, is_enhanced, payload};
use super::node::Trace;
use super::player::door_of;

/// What a publisher's media is like.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// From one tick, of a video frame and an audio frame, to the next.
    pub(crate) tick: Duration,
    /// Frames of a group of pictures.
    pub(crate) gop: u32,
    /// Payload bytes of frames: the least, and by how much more they vary.
    pub(crate) inter: (usize, usize),
    pub(crate) key: (usize, usize),
    pub(crate) audio: (usize, usize),
    /// One key frame in so many is of this size instead.
    pub(crate) large_key: Option<(u32, usize)>,
    /// One group of pictures in so many begins with new headers; 0: none does.
    pub(crate) new_headers: u32,
    /// The first timestamp of every epoch.
    pub(crate) first_timestamp: u32,
    /// Inter frames before the first key frame of an epoch.
    pub(crate) orphans: u32,
    pub(crate) video: bool,
    pub(crate) audible: bool,
    /// What belongs to one tick is sent as one aggregate message.
    pub(crate) aggregates: bool,
    /// Before one tick in so many a message is begun and given up; 0: never.
    pub(crate) aborts: u32,
    /// Another stream that is published on message stream 2 of the same connection.
    pub(crate) companion: Option<u8>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(80),
            gop: 10,
            inter: (40, 300),
            key: (400, 1_500),
            audio: (20, 80),
            large_key: None,
            new_headers: 4,
            first_timestamp: 0,
            orphans: 0,
            video: true,
            audible: true,
            aggregates: false,
            aborts: 0,
            companion: None,
        }
    }
}

/// A publisher, over as many connections as it needs.
pub(crate) struct Publisher {
    pub(crate) stream: u8,
    pub(crate) door: SocketAddr,
    pub(crate) host: IpAddr,
    pub(crate) plan: Plan,
    pub(crate) line: Option<Line>,
    /// When a lost or refused publisher tries again after so long.
    pub(crate) again_after: Option<Duration>,
    /// Writes at most so many bytes at once, chosen by chance.
    pub(crate) splits: bool,
    /// Goes where it is asked to connect again: publishes there before it ends here.
    pub(crate) obeys: bool,
    /// The connection on which it is about to.
    next_line: Option<Line>,
    /// It sends nothing for now, but stays.
    pub(crate) silent: bool,
    pub(crate) epoch: Option<u16>,
    /// The companion's epoch, and how often it ticked.
    companion: Option<(u16, u32)>,
    pub(crate) codes: Vec<String>,
    pub(crate) tries: u32,
    retry_at: Option<Duration>,
    /// Messages of the tick that wait for the others of their aggregate message.
    parts: Vec<(MediaKind, u32, Vec<u8>)>,
    ledger: SharedLedger,
    random: fastrand::Rng,
    now: Duration,
    next_tick: Duration,
    ticks: u32,
    who: usize,
    trace: Trace,
}

/// How a publisher names itself in traces: above all players.
const WHO: usize = 1_000_000;

impl Publisher {
    pub(crate) fn new(
        who: usize,
        stream: u8,
        door: SocketAddr,
        plan: Plan,
        ledger: &SharedLedger,
        seed: u64,
        trace: &Trace,
    ) -> Self {
        Self {
            stream,
            door,
            host: IpAddr::from([10, 0, 2, 10 + u8::try_from(who).unwrap()]),
            plan,
            line: None,
            again_after: None,
            splits: false,
            obeys: false,
            next_line: None,
            silent: false,
            epoch: None,
            companion: None,
            codes: Vec::new(),
            tries: 0,
            retry_at: None,
            parts: Vec::new(),
            ledger: ledger.clone(),
            random: fastrand::Rng::with_seed(seed),
            now: Duration::ZERO,
            next_tick: Duration::ZERO,
            ticks: 0,
            who: WHO + who,
            trace: trace.clone(),
        }
    }

    /// Connects and asks to publish.
    pub(crate) fn begin(&mut self, net: &SimNet) {
        let name = format!("s{}", self.stream);
        // Half of all announce that they understand a request to connect again.
        let seed = self.random.u64(..) & if self.obeys { !1 } else { !0 };
        self.tries += 1;
        self.retry_at = None;
        self.epoch = None;
        self.companion = None;
        let role = ClientRole::Publish;
        self.line = Some(Line::new(net, self.host, self.door, &name, role, seed));
    }

    /// Whether it was let publish and still is.
    pub(crate) fn is_live(&self) -> bool {
        self.line.is_some() && self.epoch.is_some()
    }

    /// It goes silent for ever without a word; gives what must be kept for it to look alive.
    pub(crate) fn vanish(&mut self) -> Option<Line> {
        self.epoch = None;
        self.retry_at = None;
        self.line.take()
    }

    /// It goes on after a silence, by its clock.
    pub(crate) fn speak(&mut self) {
        self.silent = false;
    }

    /// It says that it has finished, and closes once that is written.
    pub(crate) fn finish(&mut self) {
        self.again_after = None;
        self.retry_at = None;
        self.epoch = None;
        if let Some(line) = &mut self.line {
            line.finish();
            while line.write(usize::MAX) {}
        }
        self.line = None;
    }

    /// Whether a status of this code came; `lost` is an end without one.
    pub(crate) fn heard(&self, code: &str) -> bool {
        self.codes.iter().any(|heard| heard == code)
    }

    /// When it next does something by itself.
    pub(crate) fn next(&self) -> Option<Duration> {
        let tick = (self.is_live() && !self.silent).then_some(self.next_tick);
        tick.into_iter().chain(self.retry_at).min()
    }

    /// Does what is to be done now; whether anything was.
    pub(crate) fn act(&mut self, net: &SimNet) -> bool {
        let now = net.now();
        self.now = now;
        if self.retry_at.is_some_and(|at| at <= now) {
            self.begin(net);
        }
        let mut moved = self.listen(net) | self.go_over();
        if self.is_live() && !self.silent && self.next_tick <= now {
            self.next_tick += self.plan.tick;
            if self.line.as_ref().is_some_and(|line| line.waiting() < WAITING_MAX) {
                self.tick();
            }
            moved = true;
        }
        let most = if self.splits { self.random.usize(1..2_000) } else { usize::MAX };
        moved |= self.next_line.as_mut().is_some_and(|line| line.write(usize::MAX));
        moved | self.line.as_mut().is_some_and(|line| line.write(most))
    }

    fn listen(&mut self, net: &SimNet) -> bool {
        let now = net.now();
        let Some(line) = &mut self.line else { return false };
        let mut started = false;
        let mut companion_started = false;
        let mut over = false;
        let mut elsewhere = None;
        let (codes, trace, who) = (&mut self.codes, &self.trace, self.who);
        let heard = line.read(usize::MAX, now, &mut |event| match event {
            Ok(ClientEvent::Started { .. }) => started = true,
            Ok(ClientEvent::Status { code, .. } | ClientEvent::Ended { code }) => {
                trace.note(now, who, &[u64::try_from(code.len()).unwrap()]);
                companion_started |= code == "NetStream.Publish.Start";
                over |= code != "NetStream.Publish.Start";
                codes.push(code);
            }
            Ok(ClientEvent::Media { .. }) => panic!("a publisher is sent media"),
            Ok(ClientEvent::ReconnectRequest { tc_url }) => elsewhere = Some(tc_url),
            Ok(_) => {}
            Err(SessionError::Refused { code, .. }) => {
                over = true;
                codes.push(code);
            }
            Err(error) => panic!("publisher {who}: {error}"),
        });
        if let Some(url) = elsewhere.filter(|_| self.obeys) {
            self.door = url.map_or(self.door, |url| door_of(&url));
            let (name, seed) = (format!("s{}", self.stream), self.random.u64(..) & !1);
            let role = ClientRole::Publish;
            self.next_line = Some(Line::new(net, self.host, self.door, &name, role, seed));
        }
        if started {
            self.start(now);
        }
        if let (true, Some(stream)) = (companion_started, self.plan.companion) {
            let epoch = self.ledger.borrow_mut().begin(stream);
            self.trace.note(now, self.who, &[2, epoch.into()]);
            self.companion = Some((epoch, 0));
        }
        match heard {
            Heard::Bytes(count) if !over => return count > 0,
            Heard::Eof | Heard::Reset if !over => self.codes.push("lost".to_owned()),
            _ => {}
        }
        self.line = None;
        self.epoch = None;
        self.companion = None;
        self.retry_at = self.again_after.map(|after| now + after);
        true
    }

    /// Once it may publish on its next connection, it goes on there and leaves the one before.
    fn go_over(&mut self) -> bool {
        let Some(next) = &mut self.next_line else { return false };
        let mut started = false;
        let heard = next.read(usize::MAX, self.now, &mut |event| {
            started |= matches!(event, Ok(ClientEvent::Started { .. }));
        });
        if started {
            let next_line = self.next_line.take();
            if let Some(mut before) = std::mem::replace(&mut self.line, next_line) {
                before.finish();
                while before.write(usize::MAX) {}
            }
            self.start(self.now);
        }
        started || heard != Heard::Bytes(0)
    }

    fn start(&mut self, now: Duration) {
        let epoch = self.ledger.borrow_mut().begin(self.stream);
        self.trace.note(now, self.who, &[1, epoch.into()]);
        self.epoch = Some(epoch);
        self.next_tick = now;
        self.ticks = 0;
        if let (Some(stream), Some(line)) = (self.plan.companion, &mut self.line) {
            let name = format!("s{stream}");
            let publish = [Value::Null, Value::text(&name), Value::text("live")];
            line.command(0, "createStream", 77, &[Value::Null]);
            line.command(2, "publish", 78, &publish);
        }
    }

    fn tick(&mut self) {
        let plan = self.plan.clone();
        let frame = self.ticks;
        self.ticks += 1;
        let milliseconds = u32::try_from(plan.tick.as_millis()).unwrap().wrapping_mul(frame);
        let time = plan.first_timestamp.wrapping_add(milliseconds);
        let coded = frame.checked_sub(plan.orphans);
        let is_key = coded.is_some_and(|coded| coded.is_multiple_of(plan.gop));
        let group = coded.unwrap_or(0) / plan.gop;
        if plan.aborts > 0
            && self.random.u32(0..plan.aborts) == 0
            && let Some(line) = &mut self.line
        {
            line.give_up_a_message();
        }
        let renewed = plan.new_headers > 0 && group > 0 && group.is_multiple_of(plan.new_headers);
        if frame == 0 || (is_key && renewed) {
            self.send_headers(time);
        }
        if plan.video {
            let (kind, range) =
                if is_key { (Kind::Key, plan.key) } else { (Kind::Inter, plan.inter) };
            let bytes = match plan.large_key {
                Some((one_in, bytes)) if is_key && self.random.u32(0..one_in) == 0 => bytes,
                _ => self.size(range),
            };
            self.send(kind, bytes, time);
        }
        if plan.audible {
            let bytes = self.size(plan.audio);
            self.send(Kind::Audio, bytes, time);
        }
        self.tick_companion(time);
        let parts = std::mem::take(&mut self.parts);
        if let (Some(line), false) = (&mut self.line, parts.is_empty()) {
            line.publish_aggregate(&parts);
        }
    }

    /// The companion's share of a tick.
    fn tick_companion(&mut self, time: u32) {
        let (Some(stream), Some((epoch, ticks))) = (self.plan.companion, self.companion) else {
            return;
        };
        self.companion = Some((epoch, ticks + 1));
        let is_key = ticks.is_multiple_of(self.plan.gop);
        let mut sends = Vec::new();
        if ticks == 0 {
            sends.extend([(Kind::Metadata, 60), (Kind::VideoHeader, 48), (Kind::AudioHeader, 16)]);
        }
        sends.push(match is_key {
            true => (Kind::Key, self.size(self.plan.key)),
            false => (Kind::Inter, self.size(self.plan.inter)),
        });
        sends.push((Kind::Audio, self.size(self.plan.audio)));
        let Some(line) = &mut self.line else { return };
        for (kind, bytes) in sends {
            let sent = Sent { kind, bytes, timestamp: time, at: self.now };
            let id = self.ledger.borrow_mut().note(stream, epoch, sent);
            line.publish_on(2, kind.media(), time, &payload(id, kind, bytes));
        }
    }

    /// Metadata and the headers of what it sends.
    fn send_headers(&mut self, time: u32) {
        self.send(Kind::Metadata, 60, time);
        if self.plan.video {
            self.send(Kind::VideoHeader, 48, time);
            if is_enhanced(self.stream) {
                self.send(Kind::Colour, 40, time);
            }
        }
        if self.plan.audible {
            self.send(Kind::AudioHeader, 16, time);
        }
    }

    fn size(&mut self, (least, more): (usize, usize)) -> usize {
        least + self.random.usize(0..=more)
    }

    fn send(&mut self, kind: Kind, bytes: usize, timestamp: u32) {
        let (Some(line), Some(epoch)) = (&mut self.line, self.epoch) else { return };
        let sent = Sent { kind, bytes, timestamp, at: self.now };
        let id = self.ledger.borrow_mut().note(self.stream, epoch, sent);
        let payload = payload(id, kind, bytes);
        if self.plan.aggregates {
            self.parts.push((kind.media(), timestamp, payload));
        } else {
            line.publish(kind.media(), timestamp, &payload);
        }
    }
}

/// With so much unwritten an encoder leaves frames out before it makes them.
const WAITING_MAX: usize = 200_000;
