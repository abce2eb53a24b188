//! Players of FLV over HTTP and WebSockets: every tag is judged as the messages of RTMP are.

use std::net::IpAddr;

use bytes::BytesMut;
use relay::limits::Limits;
use relay::reactor::sim::{SimEndpoint, SimRead};
use relay::wire::data;
use relay::wire::flv::FlvReader;
use relay::wire::media::Role;
use relay::wire::message::MediaMessage;
use relay::worker::labels::{CloseReason, RefuseReason};
use relay::worker::settings::{AppSettings, Settings};

use super::publisher::Plan;
use super::viewer::Viewer;
use super::world::{World, door, millis, secs};

const WEBSOCKET: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// One connection.
struct Web {
    endpoint: SimEndpoint,
    /// What came and is not read yet.
    incoming: Vec<u8>,
    /// The heads of answers so far, and the body of the last one.
    heads: String,
    /// Reads the stream, once its answer has come.
    flv: Option<(FlvReader, BytesMut)>,
    websocket: bool,
    viewer: Viewer,
    over: bool,
}

impl Web {
    fn connect(world: &World, worker: u16) -> Self {
        let endpoint = world.net.connect_from(IpAddr::from([10, 0, 3, 1]), door(Some(worker)));
        Self {
            endpoint,
            incoming: Vec::new(),
            heads: String::new(),
            flv: None,
            websocket: false,
            viewer: Viewer::new(&world.ledger, 0, "a player of FLV".to_owned()),
            over: false,
        }
    }

    /// Asks for the stream with everything in it.
    fn play(world: &World, worker: u16, websocket: bool) -> Self {
        let mut web = Self::connect(world, worker);
        let more = if websocket { WEBSOCKET } else { "" };
        web.say(&format!("GET /live/s0.flv?extras=1 HTTP/1.1\r\nHost: relay\r\n{more}\r\n"));
        web
    }

    fn say(&mut self, text: &str) {
        assert_eq!(self.endpoint.write(text.as_bytes()), text.len());
    }

    /// Reads at most `most` bytes.
    fn listen(&mut self, world: &World, most: usize) {
        match self.endpoint.read(&mut self.incoming, most) {
            SimRead::Data(_) | SimRead::Empty => {}
            SimRead::Eof | SimRead::Reset => self.over = true,
        }
        if self.flv.is_none() && !self.read_head() {
            return;
        }
        let Some((reader, flv)) = &mut self.flv else { return };
        if self.websocket {
            while let Some((frame, length)) = frame(&self.incoming) {
                let whole: Vec<u8> = self.incoming.drain(..frame + length).collect();
                match whole[0] {
                    0x82 => flv.extend_from_slice(&whole[frame..]),
                    0x88 => assert_eq!(whole[frame..], 1000u16.to_be_bytes()),
                    other => panic!("a frame that begins with {other:#x}"),
                }
            }
        } else {
            flv.extend_from_slice(&std::mem::take(&mut self.incoming));
        }
        while let Some(tag) = reader.next(flv).expect("what comes is FLV") {
            let class = data::class(Role::Data);
            let message = MediaMessage::new(tag.kind, class, tag.timestamp, &tag.payload);
            self.viewer.take(&message, world.now());
        }
    }

    /// Reads answers up to the one behind which the stream comes; whether it is there.
    fn read_head(&mut self) -> bool {
        while let Some(end) = self.incoming.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = self.incoming.drain(..end + 4).collect();
            let head = String::from_utf8(head).unwrap();
            let length = head.split("Content-Length: ").nth(1);
            let length = length.map_or(0, |rest| rest.split('\r').next().unwrap().parse().unwrap());
            let is_head = self.heads.is_empty() && head.contains("404");
            let length: usize = if is_head { 0 } else { length };
            self.incoming.drain(..length.min(self.incoming.len()));
            self.heads.push_str(&head);
            self.websocket = head.starts_with("HTTP/1.1 101 ");
            if self.websocket || head.contains("Connection: close\r\n") && head.contains(" 200 ") {
                self.flv = Some((FlvReader::new(&Limits::default()), BytesMut::new()));
                return true;
            }
        }
        false
    }

    /// What the header of the file said of audio and video.
    fn promised(&self) -> Option<(bool, bool)> {
        let header = self.flv.as_ref()?.0.header()?;
        Some((header.audio, header.video))
    }
}

/// The lengths of a frame's header and of what it holds, if all of it is there.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (header, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?)).unwrap()),
        length => (2, usize::from(length)),
    };
    (bytes.len() >= header + length).then_some((header, length))
}

/// Lets time pass while everybody listens.
fn pass(world: &mut World, webs: &mut [Web], steps: usize, most: usize) {
    for _ in 0..steps {
        world.run(millis(20));
        webs.iter_mut().for_each(|web| web.listen(world, most));
    }
}

#[test]
fn players_on_every_worker_see_every_message_over_publishers_that_come_back() {
    for returns_to in [0, 1] {
        let mut world = World::new(71, Settings::default(), 2, 65_536);
        world.publish(0, Some(0), Plan::default());
        world.run(secs(1));
        let mut webs: Vec<Web> = [(0, false), (0, true), (1, false), (1, true)]
            .map(|(worker, websocket)| Web::play(&world, worker, websocket))
            .into();
        pass(&mut world, &mut webs, 100, usize::MAX);
        world.publishers[0].finish();
        pass(&mut world, &mut webs, 200, usize::MAX);
        world.publish(0, Some(returns_to), Plan { orphans: 3, ..Plan::default() });
        pass(&mut world, &mut webs, 150, usize::MAX);
        for web in &webs {
            assert_eq!(web.promised(), Some((true, true)));
            assert_eq!((web.viewer.jumps, web.viewer.position.unwrap().epoch), (0, 1));
            assert!(web.viewer.seen.keys > 3 && web.viewer.seen.audio > 40);
        }
        // Whoever leaves leaves nothing, and the end of the stream is the end of the file.
        drop(webs.pop());
        world.publishers[1].finish();
        pass(&mut world, &mut webs, 900, usize::MAX);
        assert!(webs.iter().all(|web| web.over), "closed at the end of the grace");
        assert_eq!(world.closed(CloseReason::Ended), 3);
        drop(webs);
        world.end(secs(20));
    }
}

#[test]
fn a_slow_player_jumps_from_tag_to_tag() {
    let mut world = World::new(72, Settings::default(), 2, 4_096);
    let plan = Plan { inter: (3_000, 300), key: (9_000, 500), ..Plan::default() };
    world.publish(0, Some(0), plan);
    world.run(secs(1));
    let mut webs: Vec<Web> = [false, true].map(|websocket| Web::play(&world, 1, websocket)).into();
    // 15 kB a second of a stream of 40.
    pass(&mut world, &mut webs, 3_000, 300);
    for web in &webs {
        assert!(web.viewer.jumps > 2, "{} jumps", web.viewer.jumps);
        assert!(web.viewer.seen.keys > 10);
    }
    drop(webs);
    world.end(secs(20));
}

#[test]
fn one_connection_asks_again_and_again_and_then_plays() {
    for whole in [true, false] {
        let mut world = World::new(73, Settings::default(), 2, 65_536);
        world.publish(0, Some(0), Plan::default());
        world.run(secs(1));
        let mut webs = vec![Web::connect(&world, 1)];
        let text = "HEAD /live/none.flv HTTP/1.1\r\nHost: r\r\n\r\n\
                    OPTIONS /live/s0.flv HTTP/1.1\r\nHost: r\r\n\r\n\
                    GET /live/none.flv HTTP/1.1\r\nHost: r\r\n\r\n\
                    HEAD /live/s0.flv HTTP/1.1\r\nHost: r\r\n\r\n\
                    GET /live/s0.flv?extras=1 HTTP/1.1\r\nHost: r\r\n\r\n";
        if whole {
            webs[0].say(text);
        } else {
            for byte in text.chars() {
                webs[0].say(&byte.to_string());
                pass(&mut world, &mut webs, 1, usize::MAX);
            }
        }
        pass(&mut world, &mut webs, 200, usize::MAX);
        let statuses: Vec<&str> =
            webs[0].heads.split("HTTP/1.1 ").skip(1).map(|head| &head[..3]).collect();
        assert_eq!(statuses, ["404", "204", "404", "200", "200"], "in one: {whole}");
        assert!(webs[0].viewer.seen.keys > 1);
        assert_eq!(world.refused(RefuseReason::UnknownStream), 2);
        drop(webs);
        world.end(secs(20));
    }
}

#[test]
fn players_wait_where_the_application_says_so_and_are_told_the_truth() {
    let other_apps = AppSettings { flv_waits: true, ..AppSettings::default() };
    let settings = Settings { other_apps, ..Settings::default() };
    for (video, audible) in [(true, true), (true, false), (false, true)] {
        let mut world = World::new(74, settings.clone(), 2, 65_536);
        let mut webs: Vec<Web> = [0, 1].map(|worker| Web::play(&world, worker, worker == 0)).into();
        pass(&mut world, &mut webs, 50, usize::MAX);
        assert!(webs.iter().all(|web| web.heads.contains(" OK") || web.websocket));
        webs.iter_mut().for_each(|web| web.viewer.audio_first = !video);
        world.publish(0, Some(1), Plan { video, audible, ..Plan::default() });
        pass(&mut world, &mut webs, 250, usize::MAX);
        for web in &webs {
            assert_eq!(web.promised(), Some((audible, video)));
            let seen = web.viewer.seen;
            assert_eq!((seen.audio > 0, seen.keys > 0), (audible, video));
        }
        drop(webs);
        world.end(secs(20));
    }
}
