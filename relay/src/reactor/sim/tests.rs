//! What the simulation alone promises: virtual time, chance from the seed, faults, cuts.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::{SimFaults, SimNet, SimReactor, SimRead};
use crate::reactor::{Batch, Completion, ConnectionKey, Operation, Reactor};

const PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 1935);
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 1));

/// A reactor that accepts at `PORT`.
fn server(net: &SimNet) -> SimReactor {
    let mut reactor = net.reactor_at(PORT.ip());
    let (listener, address) = reactor.listen(PORT);
    assert_eq!(address, PORT);
    reactor.submit(&mut vec![Operation::Accept { listener, on: true }]);
    reactor
}

/// Has the reactor do everything it can without time passing.
fn turn(reactor: &mut SimReactor, mut each: impl FnMut(Completion<'_>)) {
    while reactor.watch().has_work() {
        reactor.wait(None);
        reactor.drain(&mut each);
    }
}

/// The one connection that waits to be reported.
fn accepted(reactor: &mut SimReactor) -> ConnectionKey {
    let mut found = None;
    turn(reactor, |completion| match completion {
        Completion::Accepted { connection, .. } => assert_eq!(found.replace(connection), None),
        completion => panic!("{completion:?}"),
    });
    found.unwrap()
}

fn send(reactor: &mut SimReactor, connection: ConnectionKey, bytes: &Bytes) {
    let batch = Batch::One(bytes.clone());
    reactor.submit(&mut vec![Operation::Send { connection, batch }]);
}

fn words(reactor: &mut SimReactor) -> Vec<String> {
    let mut words = Vec::new();
    turn(reactor, |completion| words.push(format!("{completion:?}")));
    words
}

/// A server that receives and answers until each of its clients has gone, with all kinds of faults.
fn story(seed: u64) -> Vec<String> {
    let faults = SimFaults {
        partial_read: 0.3,
        partial_write: 0.3,
        delay_max: Duration::from_millis(30),
        reset: 0.01,
        connect_fail: 0.1,
    };
    let net = SimNet::new(seed, faults);
    let mut reactors = [server(&net), server(&net)];
    let mut clients: Vec<_> = (0..20).map(|_| Some(net.connect(PORT))).collect();
    let mut story = Vec::new();
    let answer = Bytes::from(vec![7; 5_000]);
    while clients.iter().any(Option::is_some) || net.connections() > 0 {
        let tick = net.now() + Duration::from_millis(100);
        let next = net.next_event_time().unwrap_or(tick).min(tick);
        assert!(next < Duration::from_secs(60), "seed {seed}: it does not end");
        net.advance_to(next);
        for slot in &mut clients {
            let Some(client) = slot else { continue };
            client.write(b"more, please");
            let outcome = client.read(&mut Vec::new(), 10_000);
            if outcome == SimRead::Reset || next > Duration::from_secs(1) {
                *slot = None;
            }
        }
        for (id, reactor) in reactors.iter_mut().enumerate() {
            while reactor.watch().has_work() {
                let mut operations = Vec::new();
                turn(reactor, |completion| {
                    story.push(format!("{next:?} {id} {completion:?}"));
                    operations.extend(reply(&completion, &answer));
                });
                reactor.submit(&mut operations);
            }
        }
    }
    for reactor in &reactors {
        assert_eq!(reactor.connections(), 0, "seed {seed}");
    }
    assert_eq!(net.connections(), 0, "seed {seed}");
    assert!(answer.is_unique(), "seed {seed}");
    story
}

/// What that server does next.
fn reply(completion: &Completion<'_>, answer: &Bytes) -> Option<Operation> {
    match *completion {
        Completion::Accepted { connection, .. } | Completion::Sent { connection, .. } => {
            Some(Operation::Receive { connection })
        }
        Completion::Received { connection, .. } => {
            Some(Operation::Send { connection, batch: Batch::One(answer.clone()) })
        }
        Completion::ReceiveEnded { connection, .. } | Completion::SendFailed { connection, .. } => {
            Some(Operation::Close { connection })
        }
        _ => None,
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..30 {
        let first = story(seed);
        assert!(first == story(seed), "seed {seed}");
        assert!(first != story(seed + 1_000), "seed {seed} and another give one run");
        // All that can happen did.
        for word in ["Accepted", "Received", "Sent", "ConnectionReset", "Closed"] {
            assert!(first.iter().any(|event| event.contains(word)), "seed {seed}: no {word}");
        }
    }
}

#[test]
fn reactors_at_one_address_share_its_calls() {
    let net = SimNet::new(5, SimFaults::default());
    let mut reactors = [server(&net), server(&net), server(&net)];
    let clients: Vec<_> = (0..300).map(|_| net.connect(PORT)).collect();
    let counts = reactors.each_mut().map(|reactor| words(reactor).len());
    assert_eq!(counts.iter().sum::<usize>(), clients.len());
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
}

#[test]
fn a_direction_holds_its_capacity() {
    for capacity in [1, 1_000, 65_536] {
        let net = SimNet::new(6, SimFaults::default());
        if capacity != 65_536 {
            net.set_capacity(capacity);
        }
        let mut reactor = server(&net);
        let mut client = net.connect(PORT);
        let connection = accepted(&mut reactor);
        assert_eq!(client.write(&vec![1; 2 * capacity]), capacity);
        assert_eq!(client.write(&[1]), 0);
        let bytes = Bytes::from(vec![2; capacity + 1]);
        send(&mut reactor, connection, &bytes);
        assert_eq!(words(&mut reactor), [""; 0]);
        let mut read = Vec::new();
        assert_eq!(client.read(&mut read, 2 * capacity), SimRead::Data(capacity));
        assert_eq!(words(&mut reactor).len(), 1, "Sent, once there is room for the rest");
        assert_eq!(client.read(&mut read, 2 * capacity), SimRead::Data(1));
        assert_eq!(client.read(&mut read, 2 * capacity), SimRead::Empty);
        assert_eq!(read, bytes);
    }
}

#[test]
fn a_counting_client_takes_everything() {
    let net = SimNet::new(7, SimFaults::default());
    let mut reactor = server(&net);
    let bytes = Bytes::from(vec![3; 10_000_000]);
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = net.connect(PORT);
        let connection = accepted(&mut reactor);
        send(&mut reactor, connection, &bytes);
        assert_eq!(words(&mut reactor), [""; 0], "stalled, as it does not read");
        client.count_only();
        assert_eq!(words(&mut reactor).len(), 1, "Sent");
        send(&mut reactor, connection, &bytes);
        assert_eq!(words(&mut reactor).len(), 1, "Sent");
        clients.push(client);
    }
    for client in clients {
        assert_eq!(client.counted(), 20_000_000);
    }
}

#[test]
fn the_observer_sees_the_very_bytes_that_are_sent() {
    let net = SimNet::new(8, SimFaults::default());
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (log, clock) = (Rc::clone(&seen), net.clone());
    net.set_send_observer(Box::new(move |bytes| {
        log.borrow_mut().push((clock.now(), bytes.as_ptr_range()));
    }));
    let mut reactor = server(&net);
    let _client = net.connect(PORT);
    let connection = accepted(&mut reactor);
    let bytes = Bytes::from(vec![4; 300]);
    net.advance(Duration::from_secs(1));
    send(&mut reactor, connection, &bytes.slice(..100));
    assert_eq!(words(&mut reactor).len(), 1, "Sent");
    let batch = Batch::Many(vec![bytes.slice(100..150), bytes.slice(150..)]);
    reactor.submit(&mut vec![Operation::Send { connection, batch }]);
    let second = Duration::from_secs(1);
    let expected = [&bytes[..100], &bytes[100..150], &bytes[150..]];
    assert_eq!(*seen.borrow(), expected.map(|slice| (second, slice.as_ptr_range())));
}

#[test]
fn what_is_sent_arrives_within_the_delay_and_in_order() {
    let delay_max = Duration::from_millis(100);
    for seed in 0..20 {
        let net = SimNet::new(seed, SimFaults { delay_max, ..SimFaults::default() });
        let mut reactor = server(&net);
        let mut client = net.connect(PORT);
        assert!(net.next_event_time().unwrap() <= delay_max, "seed {seed}");
        net.advance(delay_max);
        let connection = accepted(&mut reactor);
        reactor.submit(&mut vec![Operation::Receive { connection }]);
        let sent: Vec<u8> = (0..100).collect();
        sent.iter().for_each(|byte| assert_eq!(client.write(&[*byte]), 1));
        let until = net.now() + delay_max;
        let mut received = Vec::new();
        let mut arrivals = 0;
        while let Some(next) = net.next_event_time() {
            net.advance_to(next);
            turn(&mut reactor, |completion| match completion {
                Completion::Received { bytes, .. } => {
                    received.extend_from_slice(bytes);
                    arrivals += 1;
                }
                completion => panic!("{completion:?}"),
            });
            reactor.submit(&mut vec![Operation::Receive { connection }]);
        }
        assert!(net.now() <= until, "seed {seed}");
        assert_eq!(received, sent, "seed {seed}");
        assert!(arrivals > 1, "seed {seed}: bytes written apart arrived together");
    }
}

#[test]
fn a_cut_holds_everything_back_in_its_direction() {
    let net = SimNet::new(9, SimFaults::default());
    let mut reactor = server(&net);
    let mut client = net.connect(PORT);
    let connection = accepted(&mut reactor);
    net.set_cut(CLIENT, PORT.ip(), true);
    reactor.submit(&mut vec![Operation::Receive { connection }]);
    assert_eq!(client.write(b"held"), 4);
    send(&mut reactor, connection, &Bytes::from_static(b"passes"));
    client.shutdown();
    net.advance(Duration::from_secs(5));
    assert_eq!(words(&mut reactor).len(), 1, "Sent and nothing else");
    let mut read = Vec::new();
    assert_eq!(client.read(&mut read, 10), SimRead::Data(6));
    net.set_cut(CLIENT, PORT.ip(), false);
    let [received] = &words(&mut reactor)[..] else { panic!("one receive") };
    assert!(received.starts_with("Received"), "{received}");
    reactor.submit(&mut vec![Operation::Receive { connection }]);
    let [ended] = &words(&mut reactor)[..] else { panic!("one end") };
    assert!(ended.starts_with("ReceiveEnded") && ended.contains("None"), "{ended}");
}

#[test]
fn a_peer_that_closed_behind_a_cut_is_missed_only_when_mended() {
    let net = SimNet::new(14, SimFaults::default());
    let mut reactor = server(&net);
    let mut client = net.connect(PORT);
    let connection = accepted(&mut reactor);
    net.set_cut(CLIENT, PORT.ip(), true);
    net.set_cut(PORT.ip(), CLIENT, true);
    client.close();
    reactor.submit(&mut vec![Operation::Receive { connection }]);
    let bytes = Bytes::from(vec![5; 65_536]);
    send(&mut reactor, connection, &bytes);
    assert_eq!(words(&mut reactor).len(), 1, "Sent: a direction holds that much");
    send(&mut reactor, connection, &bytes);
    net.advance(Duration::from_secs(100));
    assert_eq!(words(&mut reactor), [""; 0], "stalled");
    net.set_cut(PORT.ip(), CLIENT, false);
    assert_eq!(words(&mut reactor), [""; 0], "the answer to what arrived there is held back");
    net.set_cut(CLIENT, PORT.ip(), false);
    let ends = words(&mut reactor);
    assert_eq!(ends.len(), 2, "{ends:?}");
    for word in ["SendFailed", "ReceiveEnded"] {
        assert!(ends.iter().any(|end| end.starts_with(word)), "{ends:?}");
    }
}

#[test]
fn a_call_into_a_cut_is_answered_when_mended_or_given_up() {
    let far = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
    let minute = Duration::from_secs(60);
    // Cut on the way there, or only on the way back; mended after so many seconds.
    for (there, mended_after) in [(true, 10), (false, 10), (true, 100), (false, 100)] {
        let net = SimNet::new(10, SimFaults::default());
        let mut called = server(&net);
        let mut caller = net.reactor_at(far);
        let (from, to) = if there { (far, PORT.ip()) } else { (PORT.ip(), far) };
        net.set_cut(from, to, true);
        caller.submit(&mut vec![Operation::Connect { token: 4, address: PORT }]);
        assert_eq!(words(&mut caller), [""; 0]);
        assert_eq!(words(&mut called).len(), usize::from(!there));
        net.advance(Duration::from_secs(mended_after));
        net.set_cut(from, to, false);
        net.advance(minute);
        let mut answers = Vec::new();
        turn(&mut caller, |completion| match completion {
            Completion::Connected { token: 4, .. } => answers.push(None),
            Completion::ConnectFailed { token: 4, error } => answers.push(Some(error.kind())),
            completion => panic!("{completion:?}"),
        });
        let expected = (mended_after > 60).then_some(ErrorKind::TimedOut);
        assert_eq!(answers, [expected], "{there} {mended_after}");
    }
}

#[test]
fn a_call_can_be_refused_by_chance() {
    let net = SimNet::new(11, SimFaults { connect_fail: 0.5, ..SimFaults::default() });
    let mut reactor = server(&net);
    let mut clients: Vec<_> = (0..100).map(|_| net.connect(PORT)).collect();
    let accepted = words(&mut reactor).len();
    let refused = clients
        .iter_mut()
        .filter_map(|client| (client.read(&mut Vec::new(), 1) == SimRead::Reset).then_some(()))
        .count();
    assert_eq!(accepted + refused, 100);
    assert!((20..80).contains(&refused), "{refused}");
}

#[test]
fn a_reactor_that_dies_takes_its_connections_with_it() {
    let net = SimNet::new(12, SimFaults::default());
    let mut reactor = server(&net);
    let mut clients = [net.connect(PORT), net.connect(PORT)];
    words(&mut reactor);
    let mut queued = net.connect(PORT);
    clients[1].write(b"unread");
    let watch = reactor.watch();
    assert!(watch.has_work(), "one waits to be accepted");
    drop(reactor);
    assert!(!watch.has_work());
    let mut ends = Vec::new();
    for client in clients.iter_mut().chain([&mut queued, &mut net.connect(PORT)]) {
        ends.push(client.read(&mut Vec::new(), 1));
    }
    assert_eq!(ends, [SimRead::Eof, SimRead::Reset, SimRead::Reset, SimRead::Reset]);
    drop((clients, queued));
    assert_eq!(net.connections(), 0);
    let mut next = server(&net);
    let _client = net.connect(PORT);
    accepted(&mut next);
}

#[test]
fn a_wake_is_seen_until_the_next_wait() {
    let net = SimNet::new(13, SimFaults::default());
    let mut reactor = net.reactor();
    let watch = reactor.watch();
    assert!(!watch.woken() && !watch.has_work());
    reactor.waker().wake();
    assert!(watch.woken() && watch.has_work());
    reactor.wait(None);
    assert!(!watch.woken() && !watch.has_work());
}
