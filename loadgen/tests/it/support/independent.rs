//! A publisher and a player in which nothing of loadgen takes part, nor of relay: blocking sockets,
//! somebody else's RTMP, the standard library's clock.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType,
};
use rml_rtmp::time::RtmpTimestamp;

const FRAMES_PER_SECOND: u32 = 10;

/// How long each frame took from when it was due at the publisher to its arrival at the player,
/// shortest first.
pub(crate) fn latencies(
    publish_to: SocketAddr,
    play_from: SocketAddr,
    name: &str,
    length: Duration,
) -> Vec<Duration> {
    let epoch = Instant::now();
    let mut publisher = Peer::connect(publish_to);
    let kind = PublishRequestType::Live;
    let request = publisher.session.request_publishing(name.to_owned(), kind).unwrap();
    publisher.ask(request, |event| matches!(event, ClientSessionEvent::PublishRequestAccepted));
    let began = Instant::now();
    let publishing = thread::spawn(move || publish(&mut publisher, epoch, began, length));

    let mut player = Peer::connect(play_from);
    let request = player.session.request_playback(name.to_owned()).unwrap();
    player.ask(request, |event| matches!(event, ClientSessionEvent::PlaybackRequestAccepted));
    let playing = Instant::now();
    let mut latencies = Vec::new();
    while began.elapsed() < length {
        for event in player.receive() {
            let ClientSessionEvent::VideoDataReceived { data, .. } = event else { continue };
            let arrived = epoch.elapsed();
            let Some(due) = data.get(5..13).filter(|_| data[1] == 1) else { continue };
            let due = Duration::from_nanos(u64::from_be_bytes(due.try_into().unwrap()));
            // What the server had in store says nothing of the way.
            if epoch + due >= playing {
                latencies.push(arrived.saturating_sub(due));
            }
        }
    }
    publishing.join().unwrap();
    latencies.sort_unstable();
    latencies
}

fn publish(publisher: &mut Peer, epoch: Instant, began: Instant, length: Duration) {
    let header = vec![0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 0x1f, 0xff, 0xe0, 0];
    publisher.publish(0, header);
    for frame in 0.. {
        let due = Duration::from_secs(1) * frame / FRAMES_PER_SECOND;
        if due >= length + Duration::from_millis(500) {
            return;
        }
        thread::sleep(due.saturating_sub(began.elapsed()));
        let first = if frame.is_multiple_of(FRAMES_PER_SECOND) { 0x17 } else { 0x27 };
        let mut payload = vec![first, 1, 0, 0, 0];
        let nanos = u64::try_from((began + due - epoch).as_nanos()).unwrap();
        payload.extend_from_slice(&nanos.to_be_bytes());
        payload.resize(2_500, 7);
        publisher.publish(u32::try_from(due.as_millis()).unwrap(), payload);
    }
}

struct Peer {
    socket: TcpStream,
    session: ClientSession,
}

impl Peer {
    fn connect(address: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        let mut handshake = Handshake::new(PeerType::Client);
        socket.write_all(&handshake.generate_outbound_p0_and_p1().unwrap()).unwrap();
        let mut buffer = [0; 4_096];
        let remaining = loop {
            let count = socket.read(&mut buffer).unwrap();
            assert!(count > 0, "the server closed the connection within the handshake");
            match handshake.process_bytes(&buffer[..count]).unwrap() {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    socket.write_all(&response_bytes).unwrap();
                }
                HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                    socket.write_all(&response_bytes).unwrap();
                    break remaining_bytes;
                }
            }
        };
        let (session, first) = ClientSession::new(ClientSessionConfig::new()).unwrap();
        let mut peer = Self { socket, session };
        peer.take(first);
        let results = peer.session.handle_input(&remaining).unwrap();
        peer.take(results);
        let request = peer.session.request_connection("live".to_owned()).unwrap();
        peer.ask(request, |event| matches!(event, ClientSessionEvent::ConnectionRequestAccepted));
        peer
    }

    /// Asks, and waits for the answer.
    fn ask(&mut self, request: ClientSessionResult, answers: fn(&ClientSessionEvent) -> bool) {
        self.take(vec![request]);
        while !self.receive().iter().any(answers) {}
    }

    fn publish(&mut self, timestamp: u32, payload: Vec<u8>) {
        let (data, timestamp) = (Bytes::from(payload), RtmpTimestamp::new(timestamp));
        let result = self.session.publish_video_data(data, timestamp, false).unwrap();
        self.take(vec![result]);
    }

    /// Waits for bytes; gives what they meant.
    fn receive(&mut self) -> Vec<ClientSessionEvent> {
        let mut buffer = [0; 65_536];
        let count = self.socket.read(&mut buffer).unwrap();
        assert!(count > 0, "the server closed the connection");
        let results = self.session.handle_input(&buffer[..count]).unwrap();
        self.take(results)
    }

    /// Sends what is to be sent; gives the rest.
    fn take(&mut self, results: Vec<ClientSessionResult>) -> Vec<ClientSessionEvent> {
        let mut events = Vec::new();
        for result in results {
            match result {
                ClientSessionResult::OutboundResponse(packet) => {
                    self.socket.write_all(&packet.bytes).unwrap();
                }
                ClientSessionResult::RaisedEvent(event) => events.push(event),
                ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
        events
    }
}
