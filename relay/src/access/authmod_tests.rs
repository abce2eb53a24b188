//! The challenge from both sides: vectors, and a client as FFmpeg and librtmp are.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::access::users::Proof;

const NOW: u64 = 1_790_000_000;

fn users() -> Users {
    Users::parse("f", b"* user pass\ncam* other word\n").unwrap()
}

/// One connect to application `live`.
fn connect(users: &Users, answered: &mut Answered, query: &str, unix: u64) -> Step {
    connect_from(users, answered, query, unix, None)
}

/// The same from a place that does not stand for many.
fn connect_from(
    users: &Users,
    answered: &mut Answered,
    query: &str,
    unix: u64,
    place: Option<&str>,
) -> Step {
    let place = place.map(|place| place.parse().unwrap());
    let asking = Asking { app: "live", place, unix, chance: 7, any_node: false };
    step(users, query, &asking, answered)
}

/// The value of a parameter in a question, found as FFmpeg finds it.
fn asked(question: &str, name: &str) -> String {
    let (_, query) = question.split_once("?reason=needauth").unwrap();
    raw_parameter(query, name).unwrap().to_owned()
}

/// What FFmpeg and librtmp answer.
fn answer(method: Method, question: &str, user: &str, password: &str) -> String {
    match method {
        Method::Adobe => {
            let (salt, opaque) = (asked(question, "salt"), asked(question, "opaque"));
            let inner = base64_md5(&[user, &salt, password]);
            let response = base64_md5(&[&inner, &opaque, "1a2b3c4d"]);
            format!(
                "authmod=adobe&user={user}&challenge=1a2b3c4d&response={response}&opaque={opaque}"
            )
        }
        Method::Limelight => {
            let nonce = asked(question, "nonce");
            let inner = hex_md5(&[user, ":live:", password]);
            let target = hex_md5(&["publish:/live/_definst_"]);
            let parts = [&inner, ":", &nonce, ":00000001:0123abcd:auth:", &target];
            let response = hex_md5(&parts);
            format!(
                "authmod=llnw&user={user}&nonce={nonce}&cnonce=0123abcd&nc=00000001\
                 &response={response}"
            )
        }
    }
}

fn question(users: &Users, method: Method, user: &str, unix: u64) -> String {
    let query = format!("authmod={}&user={user}", method.name());
    match connect(users, &mut Answered::default(), &query, unix) {
        Step::Ask(question) => question,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_responses_are_those_of_the_vectors() {
    let proof = Proof::new("user", "abcd", "pass");
    assert_eq!(proof.adobe, "V1TL65skrxnpPX/TjeSOGg==");
    let check = |parts: &[&str], expected: &str| assert_eq!(base64_md5(parts), expected);
    check(&[&proof.adobe, "AQAA", "1a2b3c4d"], "LBomhbG3JoWhPCrBsfPIcw==");
    check(&[&proof.adobe, "wxyz", "1a2b3c4d"], "MQwnKo8fjyShqm9ekn74Hg==");
    let target = hex_md5(&["publish:/live/_definst_"]);
    let parts = [&proof.limelight, ":NONCE:00000001:0123abcd:auth:", &target];
    assert_eq!(hex_md5(&parts), "111b0b3fd18e305f3ed6f3e13f561f80");
}

#[test]
fn whoever_knows_the_password_is_let_in_by_either_way() {
    let users = users();
    for method in [Method::Adobe, Method::Limelight] {
        let question = question(&users, method, "user", NOW);
        assert!(
            question.starts_with(&format!("authmod={} ?reason=needauth&user=user&", method.name()))
        );
        let right = answer(method, &question, "user", "pass");
        let mut answered = Answered::default();
        let login = Login { user: "user".into(), file: "f".into() };
        assert_eq!(connect(&users, &mut answered, &right, NOW + 59), Step::Proved(login));
        let again = connect(&users, &mut answered, &right, NOW + 59);
        assert!(matches!(again, Step::Ask(_)), "once only: {again:?}");
    }
}

#[test]
fn whoever_does_not_is_not() {
    let users = users();
    for method in [Method::Adobe, Method::Limelight] {
        let asked = question(&users, method, "user", NOW);
        let right = answer(method, &asked, "user", "pass");
        let check =
            |query: &str, unix: u64| match connect(&users, &mut Answered::default(), query, unix) {
                Step::Proved(login) => panic!("{query}: {login:?}"),
                Step::Failed(why) => assert!(why.contains("?reason=authfailed"), "{why}"),
                Step::Ask(why) => assert!(why.contains("auth"), "{why}"),
                Step::None => assert!(!query.contains("authmod=a")),
            };
        check(&answer(method, &asked, "user", "Pass"), NOW);
        check(&answer(method, &asked, "user", ""), NOW);
        check(&answer(method, &asked, "other", "word"), NOW);
        check(&answer(method, &asked, "nobody", "pass"), NOW);
        // Too late, too early, and a challenge that was made for another user or by nobody.
        check(&right, NOW + 60);
        check(&right, NOW - 61);
        check(&right.replace("user=user", "user=other"), NOW);
        let challenge =
            raw_parameter(&right, if method == Method::Adobe { "opaque" } else { "nonce" });
        let forged = asked.replace(challenge.unwrap(), &"0".repeat(48));
        check(&answer(method, &forged, "user", "pass"), NOW);
        let forged = asked.replace(challenge.unwrap(), "x");
        check(&answer(method, &forged, "user", "pass"), NOW);
        // Every parameter left out in turn.
        for part in right.split('&') {
            check(&right.replace(part, "x=y"), NOW);
        }
        // And every character of the response changed.
        let response = raw_parameter(&right, "response").unwrap();
        for at in 0..response.len() {
            let mut wrong = response.to_owned();
            wrong.replace_range(at..=at, "!");
            check(&right.replace(response, &wrong), NOW);
        }
    }
}

#[test]
fn questions_do_not_tell_which_users_there_are() {
    let users = users();
    for method in [Method::Adobe, Method::Limelight] {
        let [known, unknown] = ["user", "nope"].map(|user| {
            let question = question(&users, method, user, NOW);
            question.replace(&format!("&user={user}&"), "&user=U&")
        });
        assert_eq!(known.len(), unknown.len());
        let wrong = |user| answer(method, &question(&users, method, user, NOW), user, "wrong");
        let [known, unknown] = ["user", "nope"]
            .map(|user| connect(&users, &mut Answered::default(), &wrong(user), NOW));
        assert_eq!(known, unknown);
        assert!(matches!(known, Step::Failed(_)));
    }
}

#[test]
fn strange_connects_are_asked_or_left_alone() {
    let users = users();
    let long = format!("authmod=adobe&user={}", "u".repeat(USER_BYTES_MAX + 1));
    let check = |query: &str, expected: &str| {
        let found = connect(&users, &mut Answered::default(), query, NOW);
        assert!(format!("{found:?}").contains(expected), "{query}: {found:?}");
    };
    check("", "None");
    check("authmod=basic&user=user", "None");
    check("authmod=adobe", "Ask(\"code=403 need auth; authmod=adobe\")");
    check("authmod=llnw", "Ask(\"code=403 need auth; authmod=llnw\")");
    check(&long, "Ask(\"code=403 need auth; authmod=adobe\")");
    check("authmod=adobe&user=\u{e9}", "&user=-&");
    check("authmod=adobe&user=user&response=x", "authfailed");
}

#[test]
fn answered_challenges_are_remembered_as_long_as_they_could_be_used() {
    let mut answered = Answered::default();
    let challenge = |n: u32| {
        let mut bytes = [0; CHALLENGE_BYTES];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        bytes
    };
    assert!(answered.enter(challenge(1), NOW, NOW));
    assert!(!answered.enter(challenge(1), NOW, NOW + 59));
    assert!(answered.enter(challenge(2), NOW + 60, NOW + 60));
    assert_eq!((answered.challenges.len(), answered.by_age.len()), (1, 1));
    for n in 0..100_000 {
        answered.enter(challenge(n), NOW + 60 + u64::from(n % 50), NOW + 61);
    }
    assert!(answered.challenges.len() <= ANSWERED_MAX);
    let listed: usize = answered.by_age.values().map(Vec::len).sum();
    assert_eq!(listed, answered.challenges.len());
}

#[test]
fn an_answer_is_good_where_the_question_was_asked() {
    let users = users();
    for method in [Method::Adobe, Method::Limelight] {
        let query = format!("authmod={}&user=user", method.name());
        let asked = |place| {
            let answered = &mut Answered::default();
            match connect_from(&users, answered, &query, NOW, place) {
                Step::Ask(question) => answer(method, &question, "user", "pass"),
                other => panic!("{other:?}"),
            }
        };
        let places = [None, Some("203.0.113.7"), Some("203.0.113.8"), Some("2001:db8::")];
        for here in places {
            for there in places {
                // As if it had not been given before.
                let answered = &mut Answered::default();
                let found = connect_from(&users, answered, &asked(here), NOW, there);
                let proved = matches!(found, Step::Proved(_));
                assert_eq!(proved, here == there, "{here:?} {there:?}: {found:?}");
                assert!(proved || matches!(found, Step::Ask(_)), "{found:?}");
            }
        }
    }
}

#[test]
fn an_answer_is_good_at_the_node_that_asked_unless_any_may_take_it() {
    let users = users();
    let nodes = [Answered::new([1; 32]), Answered::new([2; 32])];
    for (any_node, elsewhere) in [(false, false), (true, true)] {
        let asking = Asking { app: "live", place: None, unix: NOW, chance: 7, any_node };
        let [mut here, mut there] = nodes.each_ref().map(|node| Answered::new(node.node));
        let query = match step(&users, "authmod=adobe&user=user", &asking, &mut here) {
            Step::Ask(question) => answer(Method::Adobe, &question, "user", "pass"),
            other => panic!("{other:?}"),
        };
        // At each of them once, if at all.
        for (node, expected) in [(&mut here, true), (&mut there, elsewhere)] {
            let mut proved = || matches!(step(&users, &query, &asking, node), Step::Proved(_));
            assert_eq!((proved(), proved()), (expected, false), "{any_node}");
        }
        // Nor by this one when it was started anew.
        let mut anew = Answered::new([3; 32]);
        let found = step(&users, &query, &asking, &mut anew);
        assert_eq!(matches!(found, Step::Proved(_)), elsewhere);
    }
    assert!(!format!("{:?}", nodes[0]).contains('1'), "the key is not shown");
}
