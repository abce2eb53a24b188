//! The order of requests, by table and against a naive model.

use super::*;

type Carrier = u32;

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn send(number: u64, length: u64) -> Numbered {
    Numbered { number, verb: Verb::Send, length }
}

fn now() -> Turn<Carrier> {
    Turn::Now { instead_of: None }
}

fn wait() -> Turn<Carrier> {
    Turn::Wait { instead_of: None }
}

/// Takes a whole request and answers it with its number.
fn serve(order: &mut Order<Carrier>, request: Numbered, carrier: Carrier) -> Option<Carrier> {
    assert_eq!(order.begin(request, carrier, at(0)), now());
    let length = usize::try_from(request.length).unwrap();
    assert_eq!(order.take(length), 0);
    assert_eq!(order.asking(), Some(carrier));
    order.answered(vec![Bytes::from(request.number.to_string())], at(0))
}

/// Lets a session begin with this number: what may have overtaken the first is waited for.
fn begin(order: &mut Order<Carrier>, first: u64) {
    if (1..=AHEAD_MAX).contains(&first) {
        assert_eq!(order.begin(send(first, 3), 1, at(0)), wait());
        assert_eq!((order.next(), order.deadline()), (None, Some(at(200))));
        assert_eq!(order.check(at(199)), Ok(()));
        assert_eq!(order.next(), None);
        assert_eq!(order.check(at(200)), Ok(()));
        assert_eq!((order.next(), order.deadline()), (Some(1), None));
    }
}

#[test]
fn the_first_requests_may_overtake_each_other() {
    for numbers in [[1, 0, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]] {
        let mut order = Order::default();
        let mut answered = 0;
        for number in numbers {
            // Their carriers are called by the numbers.
            let carrier = Carrier::try_from(number).unwrap();
            let turn = order.begin(send(number, 1), carrier, at(150));
            assert_eq!(turn, if number == answered { now() } else { wait() }, "{numbers:?}");
            if number > answered {
                continue;
            }
            let mut next = Some(carrier);
            while let Some(carrier) = next {
                if carrier > 0 && u64::from(carrier) != number {
                    assert_eq!(order.begin(send(answered, 1), carrier, at(150)), now());
                }
                order.take(1);
                next = order.answered(Vec::new(), at(150));
                answered += 1;
            }
        }
        assert_eq!(answered, 4, "{numbers:?}");
        assert_eq!(order.check(at(9_000)), Ok(()));
    }
    // Not all that comes first is near the first.
    let mut order = Order::default();
    assert_eq!(order.begin(send(2, 1), 1, at(0)), wait());
    assert_eq!(order.begin(send(9, 1), 2, at(0)), Turn::Fault(OrderFault::Gap));
    order.lost(1, at(0));
    assert_eq!((order.deadline(), order.carriers().count()), (None, 0));
    assert_eq!(order.begin(send(9, 1), 2, at(0)), now());
}

#[test]
fn numbers_go_up_from_wherever_they_begin() {
    for first in [0, 1, 4, 5, 7] {
        let mut order = Order::default();
        begin(&mut order, first);
        for number in first..first + 5 {
            assert_eq!(serve(&mut order, send(number, 3), 1), None);
        }
    }
}

#[test]
fn an_answer_is_held_until_the_next_one() {
    let mut order = Order::default();
    serve(&mut order, send(0, 1), 1);
    assert_eq!(order.begin(send(0, 1), 2, at(0)), Turn::Again);
    assert_eq!(order.held_answer(), [Bytes::from("0")]);
    assert_eq!(order.held_bytes(), 1);
    assert_eq!(order.begin(send(1, 1), 1, at(0)), now());
    assert_eq!(order.begin(send(0, 1), 2, at(0)), Turn::Again, "its client may not have it yet");
    order.take(1);
    order.answered(vec![], at(0));
    assert_eq!(order.begin(send(0, 1), 2, at(0)), Turn::Stale);
    assert_eq!(order.begin(send(1, 1), 2, at(0)), Turn::Again);
    order.let_go();
    assert_eq!(order.begin(send(1, 1), 2, at(0)), Turn::Stale);
}

#[test]
fn those_that_come_early_wait_for_their_turn() {
    let mut order = Order::default();
    assert_eq!(order.begin(send(0, 5), 1, at(0)), now());
    for (number, carrier) in [(2, 3), (1, 2), (4, 5), (3, 4)] {
        assert_eq!(order.begin(send(number, 1), carrier, at(0)), wait());
    }
    assert_eq!(order.begin(send(5, 1), 6, at(0)), Turn::Fault(OrderFault::Gap));
    assert_eq!(order.begin(send(2, 1), 9, at(0)), Turn::Wait { instead_of: Some(3) });
    assert_eq!(order.deadline(), None, "the first one is being brought");
    order.take(5);
    assert_eq!(order.answered(vec![], at(0)), Some(2));
    assert_eq!(order.next(), Some(2));
    assert_eq!(order.deadline(), None);
    assert_eq!(serve(&mut order, send(1, 1), 2), Some(9));
    assert_eq!(serve(&mut order, send(2, 1), 9), Some(4));
    assert_eq!(serve(&mut order, send(3, 1), 4), Some(5));
    assert_eq!(serve(&mut order, send(4, 1), 5), None);
}

#[test]
fn a_gap_is_borne_for_a_second() {
    let mut order = Order::default();
    serve(&mut order, send(0, 1), 1);
    assert_eq!(order.begin(send(2, 1), 2, at(100)), wait());
    assert_eq!(order.begin(send(3, 1), 3, at(900)), wait());
    assert_eq!(order.check(at(1_099)), Ok(()));
    assert_eq!(order.check(at(1_100)), Err(OrderFault::Gap));
    assert_eq!(order.begin(send(1, 1), 1, at(1_050)), now());
    assert_eq!(order.check(at(9_000)), Ok(()), "it is being brought");
    order.lost(1, at(9_000));
    assert_eq!(order.deadline(), Some(at(10_000)), "and now it is not");
    order.lost(2, at(9_000));
    order.lost(3, at(9_000));
    assert_eq!(order.deadline(), None, "nobody waits");
    assert_eq!(order.carriers().count(), 0);
}

#[test]
fn one_that_was_cut_off_goes_on_where_it_stopped() {
    let mut order = Order::default();
    assert_eq!(order.begin(send(0, 10), 1, at(0)), now());
    assert_eq!(order.take(4), 0);
    assert_eq!(order.asking(), None);
    order.lost(1, at(0));
    assert_eq!(order.begin(send(0, 10), 2, at(0)), now());
    assert_eq!(order.take(3), 3, "known");
    // A third carrier while the second is still there: the network broke silently.
    assert_eq!(order.begin(send(0, 10), 3, at(0)), Turn::Now { instead_of: Some(2) });
    assert_eq!(order.take(6), 4);
    assert_eq!(order.take(4), 0);
    assert_eq!(order.asking(), Some(3));
    order.lost(3, at(0));
    assert_eq!(order.asking(), None);
    assert_eq!(order.begin(send(0, 10), 4, at(0)), now());
    assert_eq!((order.bringing(), order.asking()), (Some(4), None));
    assert_eq!(order.take(10), 10);
    assert_eq!((order.bringing(), order.asking()), (None, Some(4)));
    // One more, which may be what the network had kept back.
    assert_eq!(order.begin(send(0, 10), 5, at(0)), Turn::Again);
    assert_eq!(order.asking(), Some(4));
    assert_eq!(order.repeat(0, 5), Repeat::InsteadOf(Some(4)));
    assert_eq!(order.asking(), Some(5));
    for other in [send(0, 9), Numbered { verb: Verb::Idle, ..send(0, 10) }] {
        assert_eq!(order.begin(other, 5, at(0)), Turn::Fault(OrderFault::Changed));
    }
}

#[test]
fn what_came_again_is_answered_like_the_first() {
    let mut order = Order::default();
    assert_eq!(order.begin(send(0, 1), 1, at(0)), now());
    order.take(1);
    assert_eq!(order.begin(send(0, 1), 2, at(0)), Turn::Again);
    order.answered(vec![Bytes::from("0")], at(0));
    assert_eq!(order.repeat(0, 2), Repeat::Held);
    assert_eq!(order.begin(send(0, 1), 3, at(0)), Turn::Again);
    serve(&mut order, send(1, 1), 1);
    assert_eq!(order.repeat(0, 3), Repeat::Stale);
}

/// Clients on a bad network: every request may be cut, repeated, brought by another carrier or
/// early. The bytes taken are those sent, once each and in order.
#[test]
fn what_is_taken_is_what_was_sent() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let base = random.u64(0..3);
        let bodies: Vec<Vec<u8>> =
            (0..20).map(|_| (0..random.usize(0..9)).map(|_| random.u8(..)).collect()).collect();
        let mut order = Order::default();
        let mut taken: Vec<u8> = Vec::new();
        // Begins the numbering.
        begin(&mut order, base);
        assert_eq!(order.begin(send(base, bodies[0].len() as u64), 1, at(0)), now());
        let mut carrier: Carrier = 1;
        let mut done = 0;
        for step in 0.. {
            assert!(step < 20_000, "seed {seed}: it does not end");
            if done == bodies.len() {
                break;
            }
            carrier += 1;
            let index = random.usize(done.saturating_sub(2)..bodies.len().min(done + 5));
            let body = &bodies[index];
            let request = send(base + index as u64, body.len() as u64);
            match order.begin(request, carrier, at(0)) {
                Turn::Now { .. } => {
                    assert_eq!(index, done, "seed {seed}");
                    let mut left = &body[..];
                    while !left.is_empty() && random.u8(0..4) > 0 {
                        let (piece, rest) = left.split_at(random.usize(1..=left.len()));
                        let known = order.take(piece.len());
                        taken.extend_from_slice(&piece[known..]);
                        left = rest;
                    }
                    if order.asking() == Some(carrier) && random.bool() {
                        order.answered(vec![Bytes::from(index.to_string())], at(0));
                        done += 1;
                    } else {
                        order.lost(carrier, at(0));
                    }
                }
                Turn::Wait { .. } => {
                    assert!(index > done && index - done <= 4, "seed {seed}");
                    order.lost(carrier, at(0));
                }
                Turn::Again if index == done => {
                    // The one before has brought all of it, and was not answered.
                    assert!(matches!(order.repeat(request.number, carrier), Repeat::InsteadOf(_)));
                    order.lost(carrier, at(0));
                }
                Turn::Again => {
                    assert_eq!(index + 1, done, "seed {seed}");
                    assert_eq!(order.held_answer(), [Bytes::from(index.to_string())]);
                }
                Turn::Stale => assert!(index + 1 < done, "seed {seed}"),
                Turn::Fault(fault) => panic!("seed {seed}: {fault}"),
            }
        }
        assert_eq!(taken, bodies.concat(), "seed {seed}");
    }
}
