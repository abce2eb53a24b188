//! Bodies of the fuzz targets of rules: plain functions that take any bytes and must not panic.

use super::{
    Action, Answered, ConnectJudgement, Connecting, FetchedKeys, Inquiry, Judgement, KeySet, Rules,
    key_line, password_hash,
};
use crate::limits::Limits;
use crate::wire::stream_name::StreamAddress;

const UNIX: u64 = 1_790_000_000;
const KEY: &str = "secret-of-the-fuzzer-0123456789-abc";

/// A name with its query, as of publish or play, judged by a rule of every kind; and the query, as
/// of connect. Verdicts do not change when they are asked for again, and only a key that was shown
/// grants by its rule.
pub fn access(data: &[u8]) {
    let Ok(address) = StreamAddress::resolve(b"", b"", data, &Limits::default()) else { return };
    let fetched = FetchedKeys::default();
    for (action, user) in [(Action::Publish, None), (Action::Play, Some("alice"))] {
        let login = user.map(|user: &str| super::Login { user: user.into(), file: "users".into() });
        let inquiry = Inquiry {
            action,
            name: &address.name,
            query: &address.query,
            peer: [203, 0, 113, 7].into(),
            login: login.as_ref(),
            bearer: None,
            fetched: &fetched,
            unix: UNIX,
            is_guessing: false,
            may_wait: true,
        };
        for list in LISTS {
            let rules = rules(list);
            let verdict = rules.judge(&inquiry);
            assert_eq!(rules.judge(&inquiry), verdict);
            if let Judgement::Granted(grant) = &verdict.judgement {
                let name = grant.name.as_ref().unwrap_or(&address.name);
                assert!(address.name.as_str().starts_with(name.as_str()));
                let shown = String::from_utf8_lossy(data).contains(KEY) || data.contains(&b'%');
                assert!(list[0] != "key keys" || shown, "granted without the key");
            }
        }
    }
    connect(&address.query);
}

/// What a server that asks for user and password may say. The password is in no answer.
pub fn authmod_answer(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(answer) = super::answer(&text, ("ann", KEY), "live", 7) {
        assert!(!answer.contains(KEY) || text.contains(KEY));
        assert!(answer.starts_with("authmod="));
    }
}

/// Files of every kind: read, or refused without a word of what is in them.
pub fn access_files(data: &[u8]) {
    for rule in ["key f", "signed f", "password f", "jwt HS256 f", "jwt RS256 f", "jwt ES256 f"] {
        let parsed = Rules::parse([rule], &mut |_| Ok(data.to_vec()));
        let said = match &parsed {
            Ok(rules) => format!("{rules:?}"),
            Err(error) => error.to_string(),
        };
        let telling = data.split(|byte| byte.is_ascii_whitespace()).filter(|word| word.len() > 24);
        for word in telling.filter_map(|word| std::str::from_utf8(word).ok()) {
            assert!(!said.contains(word), "{said}");
        }
    }
    drop(KeySet::parse_fetched(data));
    if let Ok(text) = std::str::from_utf8(data) {
        drop(Rules::parse(text.lines(), &mut read));
    }
}

fn connect(query: &str) {
    let connecting = Connecting {
        app: "live",
        query,
        is_encoder: true,
        peer: [203, 0, 113, 7].into(),
        stands_for_many: true,
        unix: UNIX,
        chance: 7,
        any_node: false,
        is_guessing: false,
    };
    let mut answered = Answered::default();
    let rules = rules(&["password users", "key keys"]);
    if let ConnectJudgement::Accepted(Some(login)) = rules.judge_connect(&connecting, &mut answered)
    {
        assert_eq!(&*login.user, "alice");
        let again = rules.judge_connect(&connecting, &mut answered);
        assert!(matches!(again, ConnectJudgement::Challenged(_)), "an answer was good twice");
    }
}

const LISTS: &[&[&str]] = &[
    &["key keys"],
    &["signed secrets"],
    &["jwt HS256 secrets", "password users"],
    &["jwt RS256 https://login.example/ and key keys", "hook"],
];

fn rules(list: &[&str]) -> Rules {
    Rules::parse(list.iter().copied(), &mut read).expect("the rules are written above")
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    let text = match path {
        "keys" => format!("cam* {}\n", key_line("s", KEY)),
        "secrets" => format!("{KEY}\n"),
        "users" => format!("* alice {}\n", password_hash("alice", "abcd", KEY)),
        _ => return Err("no such file".to_owned()),
    };
    Ok(text.into_bytes())
}
