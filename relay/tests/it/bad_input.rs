//! Bytes that no honest client sends, over real sockets: each costs its own connection and no more.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::amf::{self, Value};
use crate::support::bystander::Bystander;
use crate::support::chunk;
use crate::support::client::Client;
use crate::support::relay::{Options, Relay};
use crate::support::{Scratch, long, wait_for};

const CLOSE_MAX: Duration = Duration::from_secs(15);

/// How far a connection gets before it misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Connected over TCP, no byte sent.
    Fresh,
    /// Hands are shaken.
    Shaken,
    /// `connect` and `createStream` are answered.
    Entered,
    /// It publishes.
    Publishing,
}

/// One way to misbehave.
struct Case {
    name: &'static str,
    stage: Stage,
    bytes: Vec<u8>,
    /// The label of `relay_connections_closed_total` that must rise by one.
    reason: &'static str,
    /// What the line in the log must say of it.
    says: &'static str,
    /// Whether the client ends its direction after its bytes.
    leaves: bool,
}

fn case(
    name: &'static str,
    stage: Stage,
    (reason, says): (&'static str, &'static str),
    bytes: Vec<u8>,
) -> Case {
    Case { name, stage, bytes, reason, says, leaves: false }
}

fn cases() -> Vec<Case> {
    use Stage::{Entered, Fresh, Publishing, Shaken};
    let protocol = |says| ("protocol", says);
    let limit = |says| ("limit", says);
    let control = |kind, value: u32| chunk::write(2, 0, kind, 0, &value.to_be_bytes(), 128);
    let hello = |version: u8| [&[version][..], &[0; 1536]].concat();
    let mut deep = amf::bytes(&[Value::String("connect"), Value::Number(1.0)]);
    deep.extend(b"\x03\0\x01a".repeat(5_000));
    let wide: Vec<u8> = (0..62).flat_map(|id| [&[id + 2][..], &PARTIAL].concat()).collect();
    let wider: Vec<u8> = (0..40).flat_map(|id| [&[0, id][..], &PARTIAL].concat()).collect();
    let cut = amf::bytes(&[Value::String("connect"), Value::Number(1.0), Value::String("abc")]);
    let mut many = amf::bytes(&[Value::String("connect"), Value::Number(1.0)]);
    many.push(3);
    many.extend(b"\0\x01a\x05".repeat(2_000));
    many.extend([0, 0, 9]);
    let command = |payload: &[u8]| chunk::write(3, 0, 20, 0, payload, 128);
    let play = [Value::String("play"), Value::Number(2.0), Value::Null, Value::String("x")];
    let publish = [Value::String("publish"), Value::Number(2.0), Value::Null, Value::String("x")];
    let interrupted = {
        let start = chunk::write(3, 0, 20, 0, &[0; 128], 128);
        [&[3, 0, 0, 0, 0, 4, 0, 20, 0, 0, 0, 0][..], &[0; 128], &start].concat()
    };
    let oversized = vec![3, 0, 0, 0, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0, 0];
    let garbage = || vec![0xff; 4096];
    vec![
        Case {
            leaves: true,
            ..case("handshake cut off", Fresh, ("eof", "eof"), hello(3)[..700].to_vec())
        },
        case("RTMPE", Fresh, protocol("RTMPE, version 9"), hello(9)),
        case("wrong version", Fresh, protocol("0x04"), hello(4)),
        case("random bytes", Fresh, protocol("0xe1"), random(4096)),
        case("garbage after the handshake", Shaken, protocol("format 3"), garbage()),
        case("first header of format 3", Shaken, protocol("format 3"), vec![0xc3, 1, 2, 3]),
        case("first header of format 2", Shaken, protocol("format 2"), vec![0x83, 0, 0, 0]),
        case("header inside a message", Shaken, protocol("unfinished message"), interrupted),
        case("oversized command", Shaken, limit("16777215 bytes"), oversized),
        case("chunk size 0", Shaken, protocol("chunk size"), control(1, 0)),
        case("chunk size with the top bit", Shaken, protocol("chunk size"), control(1, 1 << 31)),
        case("flood of chunk streams", Shaken, limit("chunk stream"), [wide, wider].concat()),
        case("deep AMF", Shaken, protocol("too deeply"), command(&deep)),
        case("AMF cut off", Shaken, protocol("inside a value"), command(&cut[..cut.len() - 2])),
        case("too many AMF properties", Shaken, protocol("too many elements"), command(&many)),
        case("play before connect", Shaken, protocol("play"), command(&amf::bytes(&play))),
        case("publish before connect", Shaken, protocol("publish"), command(&amf::bytes(&publish))),
        case("garbage after connect", Entered, protocol("format 3"), garbage()),
        case("garbage while publishing", Publishing, protocol("format 3"), garbage()),
        case("chunk size 0 while publishing", Publishing, protocol("chunk size"), control(1, 0)),
    ]
}

/// The rest of a header of format 0 of a message of 4,096 bytes, and the first chunk of it.
const PARTIAL: [u8; 11 + 128] = {
    let mut bytes = [0; 11 + 128];
    bytes[4] = 16;
    bytes[6] = 9;
    bytes
};

/// Bytes that look like nothing, the same in every run; the first is no version of RTMP.
fn random(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    let mut bytes: Vec<u8> = (0..count).map(|_| next()).collect();
    bytes[0] = 0xe1;
    bytes
}

impl Case {
    /// Misbehaves once. Gives the address the relay saw; the connection must be closed by it.
    fn commit(&self, relay: SocketAddr, publish_as: &str) -> Result<SocketAddr, String> {
        let wrong = |error: std::io::Error| format!("{}: {error}", self.name);
        if self.stage == Stage::Fresh {
            let mut socket = TcpStream::connect(relay).map_err(wrong)?;
            // The relay may close at the first byte and reset the rest.
            let _ = socket.write_all(&self.bytes);
            if self.leaves {
                socket.shutdown(Shutdown::Write).map_err(wrong)?;
            }
            let local = socket.local_addr().map_err(wrong)?;
            let mut client = Client::bare(socket);
            return self.closed(&mut client).map(|()| local);
        }
        let mut client = Client::open(relay).map_err(wrong)?;
        if self.stage != Stage::Shaken {
            client.enter("live")?;
        }
        if self.stage == Stage::Publishing {
            client.publish(publish_as)?;
        }
        let _ = client.send(&self.bytes);
        self.closed(&mut client).map(|()| client.local())
    }

    fn closed(&self, client: &mut Client) -> Result<(), String> {
        let closed = client.wait_closed(CLOSE_MAX);
        closed.then_some(()).ok_or_else(|| format!("{}: not closed in {CLOSE_MAX:?}", self.name))
    }
}

/// How often connections were closed for `reason`, in whatever role.
fn closed(relay: &Relay, reason: &str) -> f64 {
    let labels = [("reason", reason)];
    relay.metrics().sum("relay_connections_closed_total", &labels).unwrap_or_default()
}

#[test]
fn each_kind_of_bad_input_closes_its_connection_with_one_log_line_and_one_count() {
    let scratch = Scratch::new("bad-input");
    let relay = Relay::start(scratch.path(), &Options::default());
    let mut committed = Vec::new();
    for case in cases() {
        let before = closed(&relay, case.reason);
        let address = case.commit(relay.rtmp, "bad").unwrap();
        wait_for(&format!("{}: a count of reason {}", case.name, case.reason), CLOSE_MAX, || {
            (closed(&relay, case.reason) >= before + 1.0).then_some(())
        });
        assert!(closed(&relay, case.reason) < before + 1.5, "{}: counted twice", case.name);
        let port = format!(":{} ", address.port());
        committed.push((case, port));
    }
    let log = relay.log_at_end(CLOSE_MAX);
    for (case, port) in committed {
        let lines: Vec<_> =
            log.lines().filter(|line| line.contains(&port) && line.contains("closed")).collect();
        let [line] = lines[..] else { panic!("{}: {lines:#?}", case.name) };
        assert!(line.contains(case.says), "{}: {line}", case.name);
    }
}

#[test]
fn a_handshake_that_trickles_is_closed_at_its_deadline() {
    let scratch = Scratch::new("trickle");
    let configuration = "[limits]\nconnect_timeout = \"1s\"\n";
    let relay = Relay::start(scratch.path(), &Options { configuration, ..Options::default() });
    let mut socket = TcpStream::connect(relay.rtmp).unwrap();
    let started = Instant::now();
    let mut writing = socket.try_clone().unwrap();
    let trickle = thread::spawn(move || {
        // One byte now and then, never enough: the deadline is absolute.
        let _ = writing.write_all(&[3]);
        while started.elapsed() < CLOSE_MAX && writing.write_all(&[0]).is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    });
    socket.flush().unwrap();
    let closed_in_time = Client::bare(socket).wait_closed(CLOSE_MAX);
    let after = started.elapsed();
    assert!(closed_in_time && after < Duration::from_secs(4), "closed after {after:?}");
    trickle.join().unwrap();
    assert!(closed(&relay, "timeout") >= 1.0);
}

#[test]
fn bad_input_500_times_over_is_noticed_by_nobody_else() {
    let scratch = Scratch::new("bad-often");
    let dir = scratch.path();
    let configuration = "[limits]\nstream_grace = \"2s\"\n";
    let mut relay = Relay::start(dir, &Options { configuration, ..Options::default() });
    let bystander = Bystander::join(&relay, dir);
    let rounds = if long() { 5_000 } else { 500 };
    let address = relay.rtmp;
    let attack = move |name: &str, rounds: usize| -> Result<(), String> {
        let cases = cases();
        for round in 0..rounds {
            for case in &cases {
                case.commit(address, &format!("{name}-{round}"))?;
            }
        }
        Ok(())
    };
    let attack_at_once = |name: &str, rounds: usize| {
        let attackers: Vec<_> = (0..4)
            .map(|number| {
                let name = format!("{name}-{number}");
                thread::spawn(move || attack(&name, rounds / 4))
            })
            .collect();
        for attacker in attackers {
            attacker.join().unwrap().unwrap();
        }
    };
    // The first rounds bring everything into memory that such connections ever need.
    attack_at_once("first", 200);
    thread::sleep(Duration::from_secs(3));
    let before = relay.resident_bytes();
    attack_at_once("bad", rounds);
    bystander.noticed_nothing();
    relay.must_run();
    relay.wait_for_role("pending", 0);
    // As before: what is kept of streams for their grace is gone.
    thread::sleep(Duration::from_secs(3));
    let after = relay.resident_bytes();
    let bound = 4 * 1024 * 1024;
    eprintln!("bad input: relay went from {before} to {after} bytes");
    assert!(after < before + bound, "the relay grew from {before} to {after} bytes");
}
