//! Greetings that end well, and every way in which they must not.

use super::*;
use crate::cluster::codec::tests::version_1;

const SECRET: &[u8] = b"sixteen bytes or more";

fn credentials(name: &str, key: u64, secret: &[u8], versions: (u16, u16)) -> Arc<Credentials> {
    let (started, zone, link_port) = match name {
        "relay-0" => (100, "a", 11_935),
        _ => (101, "", 11_936),
    };
    Arc::new(Credentials {
        identity: Identity {
            name: name.into(),
            key: NodeKey(key),
            started,
            zone: zone.into(),
            link_port,
        },
        secret: Secret::new(secret).expect("long enough"),
        versions: versions.0..=versions.1,
    })
}

const A: u64 = 0x1111_1111_1111_1111;
const B: u64 = 0x2222_2222_2222_2222;

fn pair(versions: [(u16, u16); 2]) -> [Arc<Credentials>; 2] {
    [credentials("relay-0", A, SECRET, versions[0]), credentials("relay-1", B, SECRET, versions[1])]
}

/// What each side made of the greeting, and all that crossed. `alter` may change what crosses.
fn greet(
    [dialler, acceptor]: &[Arc<Credentials>; 2],
    bindings: [Binding; 2],
    mut alter: impl FnMut(usize, Vec<u8>) -> Vec<u8>,
) -> ([Option<Greeted>; 2], Vec<Vec<u8>>) {
    let limits = Limits::default();
    let (dial, hello) = Greeting::dial(dialler, Role::Control, [0xd1; 32], bindings[0]);
    let accept = Greeting::accept(acceptor, [0xac; 32], bindings[1]);
    let mut sides = [dial, accept];
    let mut results = [None, None];
    let mut crossed = Vec::new();
    let mut next = Some((1, hello));
    while let Some((to, payload)) = next.take() {
        let payload = alter(crossed.len(), payload.to_vec());
        crossed.push(payload.clone());
        let reply = match sides[to].receive(&payload, &limits) {
            Greeted::Reply(reply) => Some(reply),
            done => {
                let reply = match &done {
                    Greeted::Done(_, reply) | Greeted::Refused(_, reply) => reply.clone(),
                    _ => None,
                };
                results[to] = Some(done);
                reply
            }
        };
        next = reply.map(|reply| (1 - to, reply)).filter(|(to, _)| results[*to].is_none());
    }
    (results, crossed)
}

fn untouched(_: usize, payload: Vec<u8>) -> Vec<u8> {
    payload
}

fn why(result: &Option<Greeted>) -> Option<Refusal> {
    match result {
        Some(Greeted::Refused(why, _) | Greeted::TurnedAway(why, _)) => Some(*why),
        _ => None,
    }
}

#[test]
fn two_nodes_with_the_secret_meet_in_the_bytes_of_version_1() {
    let sides = pair([(1, 1), (1, 1)]);
    let (results, crossed) = greet(&sides, [None, None], untouched);
    let names = ["hello", "challenge", "proof", "welcome"];
    assert_eq!(crossed, names.map(version_1));
    let met = |result: &Option<Greeted>| match result {
        Some(Greeted::Done(met, _)) => met.clone(),
        other => panic!("{other:?}"),
    };
    let role = Role::Control;
    let other = |side: usize| Met { identity: sides[side].identity.clone(), role, version: 1 };
    assert_eq!([met(&results[0]), met(&results[1])], [other(1), other(0)]);
}

#[track_caller]
fn check(
    sides: &[Arc<Credentials>; 2],
    bindings: [Binding; 2],
    alter: impl FnMut(usize, Vec<u8>) -> Vec<u8>,
    expected: Refusal,
) {
    let (results, crossed) = greet(sides, bindings, alter);
    let reasons = results.each_ref().map(why);
    assert!(reasons.contains(&Some(expected)), "{reasons:?} after {} messages", crossed.len());
    for result in &results {
        assert!(!matches!(result, Some(Greeted::Done(_, None))), "the dialler was taken in");
    }
}

#[test]
fn whoever_does_not_know_the_secret_is_not_taken_in() {
    let [right, _] = pair([(1, 1), (1, 1)]);
    let wrong = credentials("relay-1", B, b"another secret that is long", (1, 1));
    check(&[right.clone(), wrong.clone()], [None, None], untouched, Refusal::Secret);
    let wrong_dialler = credentials("relay-0", A, b"another secret that is long", (1, 1));
    let sides = [wrong_dialler, credentials("relay-1", B, SECRET, (1, 1))];
    let (results, crossed) = greet(&sides, [None, None], untouched);
    assert_eq!(why(&results[1]), Some(Refusal::Secret));
    assert_eq!(crossed.len(), 4, "and is shown no proof but a refusal");
    assert_eq!(crossed[3], refused(Refusal::Secret));
}

#[test]
fn every_byte_of_the_greeting_is_bound() {
    let sides = pair([(1, 1), (1, 1)]);
    let (_, crossed) = greet(&sides, [None, None], untouched);
    for (number, message) in crossed.iter().enumerate() {
        for at in 0..message.len() {
            let (results, _) = greet(&sides, [None, None], |crossing, mut payload| {
                if crossing == number {
                    payload[at] ^= 1;
                }
                payload
            });
            // A welcome that was altered harms only the dialler, who is then not taken in.
            let taken = if number == 3 { &results[..1] } else { &results[..] };
            for result in taken {
                let done = matches!(result, Some(Greeted::Done(..)));
                assert!(!done, "byte {at} of message {number} was altered");
            }
        }
    }
}

#[test]
fn nothing_recorded_is_of_use() {
    let sides = pair([(1, 1), (1, 1)]);
    let (_, crossed) = greet(&sides, [None, None], untouched);
    let limits = Limits::default();
    // To the acceptor, which has drawn another nonce.
    let mut acceptor = Greeting::accept(&sides[1], [0xad; 32], None);
    assert!(matches!(acceptor.receive(&crossed[0], &limits), Greeted::Reply(_)));
    let result = Some(acceptor.receive(&crossed[2], &limits));
    assert_eq!(why(&result), Some(Refusal::Secret));
    // To the dialler.
    let (mut dialler, _) = Greeting::dial(&sides[0], Role::Control, [0xd2; 32], None);
    assert!(matches!(dialler.receive(&crossed[1], &limits), Greeted::Reply(_)));
    let result = Some(dialler.receive(&crossed[3], &limits));
    assert_eq!(why(&result), Some(Refusal::Secret));
    // The dialler's own proof sent back to it.
    let (mut dialler, _) = Greeting::dial(&sides[0], Role::Control, [0xd1; 32], None);
    assert!(matches!(dialler.receive(&crossed[1], &limits), Greeted::Reply(_)));
    let mut reflected = crossed[2].clone();
    let kind = reflected.len() - 33;
    reflected[kind] = greeting::WELCOME;
    let result = Some(dialler.receive(&reflected, &limits));
    assert_eq!(why(&result), Some(Refusal::Secret));
    // The proof of a control connection is none of a media link.
    let media = Role::Media { worker: 3 };
    let (_, hello) = Greeting::dial(&sides[0], media, [0xd1; 32], None);
    let mut acceptor = Greeting::accept(&sides[1], [0xac; 32], None);
    assert!(matches!(acceptor.receive(&hello, &limits), Greeted::Reply(_)));
    let result = Some(acceptor.receive(&crossed[2], &limits));
    assert_eq!(why(&result), Some(Refusal::Secret));
}

#[test]
fn both_must_be_ends_of_one_tls_connection() {
    let sides = pair([(1, 1), (1, 1)]);
    let (results, _) = greet(&sides, [Some([7; 32]); 2], untouched);
    assert!(results.iter().all(|result| matches!(result, Some(Greeted::Done(..)))));
    check(&sides, [Some([7; 32]), Some([8; 32])], untouched, Refusal::Secret);
    check(&sides, [Some([0; 32]), None], untouched, Refusal::Secret);
}

#[test]
fn the_newest_common_version_is_spoken_or_the_reason_said() {
    #[track_caller]
    fn agreed(dialler: (u16, u16), acceptor: (u16, u16), version: Option<u16>) {
        let (results, _) = greet(&pair([dialler, acceptor]), [None, None], untouched);
        let Some(version) = version else {
            let turned = Refusal::Version { ours: dialler, theirs: acceptor };
            let refusing = Refusal::Version { ours: acceptor, theirs: dialler };
            assert_eq!(results.each_ref().map(why), [Some(turned), Some(refusing)]);
            let text = turned.to_string();
            assert!(text.contains(&format!("versions {} to {}", dialler.0, dialler.1)), "{text}");
            return;
        };
        for result in results {
            assert!(matches!(result, Some(Greeted::Done(met, _)) if met.version == version));
        }
    }
    agreed((1, 1), (1, 1), Some(1));
    agreed((1, 3), (1, 2), Some(2));
    agreed((2, 3), (1, 2), Some(2));
    agreed((1, 1), (1, 9), Some(1));
    agreed((2, 2), (1, 1), None);
    agreed((1, 1), (2, 3), None);
}

#[test]
fn one_does_not_meet_oneself_nor_who_drew_the_same_number() {
    let own = credentials("relay-0", A, SECRET, (1, 1));
    check(&[own.clone(), own.clone()], [None, None], untouched, Refusal::Oneself);
    let twin = credentials("relay-1", A, SECRET, (1, 1));
    check(&[own, twin], [None, None], untouched, Refusal::SameKey);
}

#[test]
fn a_foreign_program_is_told_nothing() {
    let [_, acceptor] = pair([(1, 1), (1, 1)]);
    let limits = Limits::default();
    for foreign in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"\x02\0\x07connect\0\x3f\xf0"] {
        let mut greeting = Greeting::accept(&acceptor, [1; 32], None);
        let greeted = greeting.receive(foreign, &limits);
        assert_eq!(greeted, Greeted::Refused(Refusal::Malformed, None), "{foreign:?}");
    }
    let mut greeting = Greeting::accept(&acceptor, [1; 32], None);
    let early = greeting.receive(&version_1("proof"), &limits);
    assert_eq!(why(&Some(early)), Some(Refusal::Malformed), "out of its turn");
}

#[test]
fn a_secret_has_a_least_length_and_is_never_shown() {
    assert!(Secret::new(b"fifteen bytes..").is_none());
    let secret = Secret::new(SECRET).expect("long enough");
    assert_eq!(format!("{secret:?}"), "Secret");
}
