//! Answers of several nodes put together, with nodes that answer late, wrongly or not at all.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::control::proof::Proof;

const SECRET: &[u8] = b"what only the nodes know";

fn member(operators: Option<SocketAddr>) -> NodeShare {
    NodeShare {
        name: "b".to_owned(),
        process: "00000000000000b0".to_owned(),
        zone: String::new(),
        address: "10.0.0.7:11935".parse().unwrap(),
        operators,
        connected: true,
        draining: false,
        version: 1,
        streams: 0,
        clock_micros: None,
    }
}

#[test]
fn a_node_is_asked_at_the_address_that_it_says_or_at_that_of_its_links() {
    fn check(operators: Option<&str>, links: &str, expected: Result<&str, &str>) {
        let operators = operators.map(|text| text.parse().unwrap());
        let member = NodeShare { address: links.parse().unwrap(), ..member(operators) };
        let found = place(&member).map(|place| place.to_string());
        let found = found.map_err(|absence| absence.reason());
        assert_eq!(found, expected.map(str::to_owned), "{operators:?} {links}");
    }
    check(Some("0.0.0.0:8935"), "10.0.0.7:1", Ok("10.0.0.7:8935"));
    check(Some("[::]:8935"), "10.0.0.7:1", Ok("10.0.0.7:8935"));
    check(Some("[::]:8935"), "[2001:db8::7]:1", Ok("[2001:db8::7]:8935"));
    check(Some("[::]:8935"), "[::ffff:10.0.0.7]:1", Ok("10.0.0.7:8935"));
    check(Some("10.1.0.7:80"), "10.0.0.7:1", Ok("10.1.0.7:80"));
    check(Some("127.0.0.1:80"), "127.0.0.1:1", Ok("127.0.0.1:80"));
    check(Some("127.0.0.1:80"), "10.0.0.7:1", Err("no_address"));
    check(Some("[::ffff:127.0.0.1]:80"), "10.0.0.7:1", Err("no_address"));
    check(None, "10.0.0.7:1", Err("no_address"));
}

/// Asks a node that answers so, given the question as it came; `room` bytes at most.
fn asked(room: usize, answer: impl FnOnce(&str) -> Option<String> + Send + 'static) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            while !heard.ends_with(b"\r\n\r\n") {
                let mut part = [0; 1024];
                let length = stream.read(&mut part).await.unwrap();
                heard.extend_from_slice(&part[..length]);
            }
            match answer(std::str::from_utf8(&heard).unwrap()) {
                Some(said) => stream.write_all(said.as_bytes()).await.unwrap(),
                None => std::future::pending().await,
            }
        });
        let member = NodeShare {
            address: (IpAddr::from(Ipv4Addr::LOCALHOST), 1).into(),
            ..member(Some(address))
        };
        let (room, within) = (AtomicUsize::new(room), Duration::from_millis(300));
        let answer = timeout(within, ask(&member, "/api/v1/nodes", SECRET, &room)).await;
        match answer.unwrap_or(Err(Absence::Timeout(within))) {
            Ok(said) => Outcome::Said(said),
            Err(absence) => Outcome::Absent(absence.reason(), absence.to_string()),
        }
    })
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Said(Option<Value>),
    Absent(&'static str, String),
}

/// The answer of a node that knows the secret.
fn proven(heard: &str, status: u16, body: &str) -> String {
    let field = heard.lines().find_map(|line| line.strip_prefix("authorization: "));
    let proof = Proof::shown(field.unwrap().as_bytes()).unwrap();
    let question = Question { node: "b", target: "/api/v1/nodes" };
    assert_eq!(question.judge(SECRET, &proof, unix_seconds()), Ok(()));
    assert!(!heard.contains(std::str::from_utf8(SECRET).unwrap()));
    let shown = proof.answer(SECRET, status, body.as_bytes());
    format!(
        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{}: {shown}\r\n\r\n{body}",
        body.len(),
        proof::ANSWER
    )
}

#[test]
fn what_a_node_answers_is_taken_only_if_it_knows_the_secret() {
    let said = |text: &str| Outcome::Said(Some(serde_json::from_str(text).unwrap()));
    let body = r#"{"items":[1,2]}"#;
    assert_eq!(asked(100, move |heard| Some(proven(heard, 200, body))), said(body));
    assert_eq!(asked(100, |heard| Some(proven(heard, 404, "{}"))), Outcome::Said(None));
    #[track_caller]
    fn check(outcome: Outcome, expected: &str, words: &str) {
        let Outcome::Absent(reason, why) = outcome else { panic!("{outcome:?}") };
        assert_eq!(reason, expected, "{why}");
        assert!(why.contains(words), "{why}");
    }
    let busy = r#"{"error":{"code":"worker_busy","message":"Worker 0 is busy."}}"#;
    let outcome = asked(100, move |heard| Some(proven(heard, 503, busy)));
    check(outcome, "refused", "status 503: Worker 0 is busy.");
    let stranger = |_: &str| Some("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_owned());
    check(asked(100, stranger), "unproven", "secret");
    let altered = |heard: &str| Some(proven(heard, 200, "[1]").replace("[1]", "[2]"));
    check(asked(100, altered), "unproven", "secret");
    check(asked(14, move |heard| Some(proven(heard, 200, body))), "too_long", "limit");
    check(asked(100, |_| None), "timeout", "300ms");
    check(asked(100, |_| Some(String::new())), "unreachable", "no connection to 127.0.0.1:");
    check(asked(100, |_| Some("SSH-2.0\r\n".to_owned())), "unreachable", "127.0.0.1:");
}
