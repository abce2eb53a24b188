//! Rules of every kind, alone and together, right and wrong.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::access::{Action, Claim, FetchedKeys, Login, key_line};
use crate::limits::Limits;

const NOW: u64 = 1_790_000_000;
const PUBLIC: &str = "203.0.113.7";

/// The files of these tests.
fn read(path: &str) -> Result<Vec<u8>, String> {
    let text = match path {
        "keys" => format!("cam1 {}\ntv/* {}\n", key_line("s", "k1"), key_line("s", "k2")),
        "more" => format!("* {}\n", key_line("t", "k1")),
        "secrets" => "0123456789abcdef\n".to_owned(),
        "users" => "cam* alice word\n".to_owned(),
        "broken" => "x\n".to_owned(),
        _ => return Err(format!("{path} cannot be read: no such file")),
    };
    Ok(text.into_bytes())
}

fn rules(list: &[&str]) -> Rules {
    Rules::parse(list.iter().copied(), &mut read).unwrap()
}

/// Somebody who asks for a stream by a name with its query.
struct Asker {
    action: Action,
    peer: &'static str,
    user: Option<&'static str>,
    is_guessing: bool,
}

const ASKER: Asker =
    Asker { action: Action::Publish, peer: PUBLIC, user: None, is_guessing: false };

impl Asker {
    fn ask(&self, rules: &Rules, name: &str) -> Verdict {
        let limits = Limits::default();
        let address = StreamAddress::resolve(b"", b"", name.as_bytes(), &limits).unwrap();
        let login = self.user.map(|user| Login { user: user.into(), file: "users".into() });
        rules.judge(&Inquiry {
            action: self.action,
            name: &address.name,
            query: &address.query,
            peer: self.peer.parse().unwrap(),
            login: login.as_ref(),
            bearer: None,
            fetched: &FetchedKeys::default(),
            unix: NOW,
            is_guessing: self.is_guessing,
            may_wait: true,
        })
    }

    /// `Ok` with the name under which it is granted.
    #[track_caller]
    fn check(&self, list: &[&str], name: &str, expected: Result<&str, Reason>) {
        let Verdict { judgement, wrong_secret } = self.ask(&rules(list), name);
        let plain = name.split('?').next().unwrap();
        match (judgement, expected) {
            (Judgement::Granted(grant), Ok(expected)) => {
                let found = grant.name.as_ref().map_or(plain, |name| name.as_str());
                assert_eq!(found, expected, "{list:?}");
                assert!(!wrong_secret);
            }
            (Judgement::Refused(found), Err(expected)) => {
                assert_eq!(found, expected, "{list:?} {name}");
                assert_eq!(wrong_secret, expected.is_wrong_secret(), "{list:?} {name}");
            }
            (found, expected) => panic!("{list:?} {name}: {found:?}, not {expected:?}"),
        }
    }
}

fn signed(action: Action, name: &str, expires: u64) -> String {
    let claim = Claim { action, name, expires, address: None };
    format!("{name}?{}", claim.sign(b"0123456789abcdef"))
}

#[test]
fn addresses_decide_by_themselves() {
    let (own, other) = (Ok("live/cam1"), Err(Reason::Address));
    let from = |peer| Asker { peer, ..ASKER };
    for (list, peer, expected) in [
        (&["everybody"][..], PUBLIC, own),
        (&["nobody"], "127.0.0.1", Err(Reason::Nobody)),
        (&["private"], "127.0.0.1", own),
        (&["private"], "::1", own),
        (&["private"], "::ffff:10.1.2.3", own),
        (&["private"], PUBLIC, other),
        (&["private"], "2001:db8::1", other),
        (&["203.0.113.0/24"], PUBLIC, own),
        (&["203.0.113.7"], PUBLIC, own),
        (&["203.0.113.8"], PUBLIC, other),
        (&["203.0.113.8", "2001:db8::/32", "private"], "2001:db8::9", own),
        (&["203.0.113.0/24 and private"], PUBLIC, other),
        (&["203.0.113.0/24 and everybody"], PUBLIC, own),
        (&["nobody", "everybody"], PUBLIC, own),
        (&["nobody", "private"], PUBLIC, other),
    ] {
        from(peer).check(list, "live/cam1", expected);
    }
}

#[test]
fn stream_keys_stand_in_the_query_or_at_the_end_of_the_name() {
    let wrong = Err(Reason::WrongKey);
    for (name, expected) in [
        ("live/cam1?key=k1", Ok("live/cam1")),
        ("live/cam1?a=b&key=%6b1", Ok("live/cam1")),
        ("live/cam1/k1", Ok("live/cam1")),
        ("live/tv/9/k2", Ok("live/tv/9")),
        ("live/tv/9?key=k2", Ok("live/tv/9")),
        ("live/cam1", Err(Reason::NoKey)),
        ("live/cam1?key=", Err(Reason::NoKey)),
        ("live/cam1?key=k2", wrong),
        ("live/cam1?key=k11", wrong),
        ("live/cam1?key=K1", wrong),
        ("live/cam2?key=k1", wrong),
        ("live/cam1/k2", wrong),
        // One place only: the key of the query is not asked for twice.
        ("live/cam1/k1?key=k1", wrong),
        ("live/cam1/k1?key=x", wrong),
        ("cam1?key=k1", Ok("cam1")),
        ("cam1/k1", Err(Reason::NoKey)),
    ] {
        ASKER.check(&["key keys"], name, expected);
        Asker { action: Action::Play, ..ASKER }.check(&["key keys"], name, expected);
    }
    ASKER.check(&["key keys and key more"], "live/cam1/k1", Ok("live/cam1"));
    ASKER.check(&["key keys and key more"], "live/tv/1/k2", wrong);
    ASKER.check(&["key keys", "key more"], "live/other/k1", Ok("live/other"));
    // Somebody who may anyway and gives a key: the key is not taken for a part of the name.
    ASKER.check(&["everybody", "key keys"], "live/cam1/k1", Ok("live/cam1"));
    ASKER.check(&["everybody", "key keys"], "live/cam1/x", Ok("live/cam1/x"));
    // Whoever is kept out by address has not guessed.
    ASKER.check(&["private and key keys"], "live/cam1/x", Err(Reason::Address));
    ASKER.check(&["key keys and private"], "live/cam1/k1", Err(Reason::Address));
    ASKER.check(&["key keys and 203.0.113.0/24"], "live/cam1/k1", Ok("live/cam1"));
}

#[test]
fn signatures_and_users_count_for_the_name_without_its_key() {
    let fine = signed(Action::Publish, "live/cam1", NOW + 1);
    ASKER.check(&["signed secrets"], &fine, Ok("live/cam1"));
    let old = signed(Action::Publish, "live/cam1", NOW);
    ASKER.check(&["signed secrets"], &old, Err(Reason::Expired));
    let play = signed(Action::Play, "live/cam1", NOW + 1);
    ASKER.check(&["signed secrets"], &play, Err(Reason::WrongSignature));
    ASKER.check(&["signed secrets"], "live/cam1", Err(Reason::NoSignature));
    let both = fine.replace('?', "/k1?");
    ASKER.check(&["key keys and signed secrets"], &both, Ok("live/cam1"));
    ASKER.check(&["signed secrets and key keys"], &both, Ok("live/cam1"));
    ASKER.check(&["signed secrets and key keys"], &fine, Err(Reason::NoKey));

    let alice = Asker { user: Some("alice"), ..ASKER };
    alice.check(&["password users"], "live/cam1", Ok("live/cam1"));
    alice.check(&["password users"], "live/tv", Err(Reason::User));
    alice.check(&["password users and key keys"], "live/cam1/k1", Ok("live/cam1"));
    ASKER.check(&["password users"], "live/cam1", Err(Reason::NoPassword));
    Asker { user: Some("bob"), ..ASKER }.check(&["password users"], "live/cam1", Err(Reason::User));
}

#[test]
fn the_reason_that_says_most_is_told() {
    let all = ["private", "key keys", "signed secrets", "password users"];
    ASKER.check(&all, "live/cam1", Err(Reason::NoPassword));
    ASKER.check(&all, "live/cam1?key=x", Err(Reason::WrongKey));
    let old = signed(Action::Publish, "live/cam1", NOW);
    ASKER.check(&all, &old, Err(Reason::Expired));
    ASKER.check(&all, &format!("{old}x"), Err(Reason::WrongSignature));
}

#[test]
fn no_secret_of_who_guesses_is_looked_at() {
    let guesser = Asker { is_guessing: true, ..ASKER };
    let fine = signed(Action::Publish, "live/cam1", NOW + 1);
    guesser.check(&["key keys"], "live/cam1/k1", Err(Reason::Guessing));
    guesser.check(&["key keys"], "live/cam1", Err(Reason::NoKey));
    guesser.check(&["signed secrets"], &fine, Err(Reason::Guessing));
    guesser.check(&["everybody", "key keys"], "live/cam1/k1", Ok("live/cam1/k1"));
    guesser.check(&["private and key keys"], "live/cam1/k1", Err(Reason::Address));
}

#[test]
fn a_hook_is_asked_when_nothing_else_decides() {
    let asks = |list: &[&str], name: &str| ASKER.ask(&rules(list), name);
    let plain = Question::Hook(Grant::default());
    let ask = |question| Verdict::from(Judgement::Ask(question));
    assert_eq!(asks(&["hook"], "live/cam1"), ask(plain.clone()));
    assert_eq!(asks(&["private", "hook"], "live/cam1"), ask(plain.clone()));
    let granted = asks(&["hook", "everybody"], "live/cam1");
    assert_eq!(granted.judgement, Judgement::Granted(Grant::default()));
    let refused = asks(&["hook and private"], "live/cam1");
    assert_eq!(refused.judgement, Judgement::Refused(Reason::Address));
    let wrong = asks(&["key keys", "hook"], "live/cam1/x");
    assert_eq!(wrong, Verdict { judgement: Judgement::Ask(plain), wrong_secret: true });
    // Publishers with one query count together; of players nobody counts that.
    let key_of = |action, query: &str| {
        let asker = Asker { action, ..ASKER };
        match asker.ask(&rules(&["hook"]), &format!("live/cam1?{query}")).judgement {
            Judgement::Ask(Question::Hook(grant)) => grant.key,
            other => panic!("{other:?}"),
        }
    };
    let [one, again, other] = ["pass=a", "pass=a", "pass=b"].map(|it| key_of(Action::Publish, it));
    assert!(one.is_some() && one == again && one != other);
    assert_eq!((key_of(Action::Publish, ""), key_of(Action::Play, "pass=a")), (None, None));
    match asks(&["key keys and hook"], "live/cam1/k1").judgement {
        Judgement::Ask(Question::Hook(grant)) => {
            assert_eq!(grant.name.unwrap().as_str(), "live/cam1");
            assert!(grant.key.is_some());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn grants_of_one_rule_hold_together() {
    let granted = |list: &[&str], name: &str| match ASKER.ask(&rules(list), name).judgement {
        Judgement::Granted(grant) => grant,
        other => panic!("{other:?}"),
    };
    let both = signed(Action::Publish, "live/cam1", NOW + 9).replace('?', "/k1?");
    let grant = granted(&["signed secrets and key keys"], &both);
    assert_eq!(grant.until, Some(NOW + 9));
    assert_eq!(grant.key, granted(&["key keys"], "live/cam1?key=k1").key);
    assert_eq!(granted(&["everybody"], "live/cam1"), Grant::default());
}

#[test]
fn names_are_shown_without_what_may_be_a_key() {
    let check = |list: &[&str], name: &str, expected: &str| {
        let limits = Limits::default();
        let address = StreamAddress::resolve(b"", b"", name.as_bytes(), &limits).unwrap();
        assert_eq!(&*rules(list).shown_name(&address), expected, "{name}");
    };
    check(&["private"], "live/cam1/k1", "live/cam1/k1");
    check(&["private", "key keys"], "live/cam1/k1", "live/cam1/***");
    check(&["key keys"], "live/k1", "live/***");
    check(&["key keys"], "k1", "***");
    check(&["key keys and private"], "live/cam1?key=k1", "live/cam1");
}

#[test]
fn a_key_at_the_end_of_a_name_is_known() {
    let check = |list: &[&str], name: &str, expected: bool| {
        let limits = Limits::default();
        let address = StreamAddress::resolve(b"", b"", name.as_bytes(), &limits).unwrap();
        assert_eq!(rules(list).ends_in_key(&address.name), expected, "{list:?} {name}");
    };
    check(&["private", "private and key keys"], "live/cam1/k1", true);
    check(&["key keys"], "live/cam1/k", false);
    check(&["key keys"], "live/cam1", false);
    check(&["key keys"], "live/k1", false);
    check(&["everybody"], "live/cam1/k1", false);
}

#[test]
fn lists_are_read_and_written_alike() {
    for list in [
        &["everybody"][..],
        &["private", "203.0.113.0/24", "2001:db8::/32", "nobody", "hook"],
        &["key keys and 10.0.0.0/8", "signed secrets", "password users", "password users llnw"],
    ] {
        let parsed = rules(list);
        let written: Vec<String> = list.iter().map(|rule| format!("{rule:?}")).collect();
        assert_eq!(parsed.to_string(), format!("[{}]", written.join(", ")));
        assert_eq!(format!("{parsed:?}"), parsed.to_string(), "no secret is printed");
        assert_eq!(rules(list), parsed);
    }
    let spaced = rules(&["  private   and\tkey  keys "]);
    assert_eq!(spaced.to_string(), "[\"private and key keys\"]");
    assert_ne!(rules(&["key keys"]), rules(&["key more"]));
    assert!(Rules::default().is_private() && rules(&["private"]).is_private());
    assert!(!rules(&["private", "private"]).is_private() && !Rules::everybody().is_private());
}

#[test]
fn every_mistake_of_a_list_is_told() {
    #[track_caller]
    fn check(list: &[&str], expected: &[&str]) {
        let error = Rules::parse(list.iter().copied(), &mut read).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{error}");
        }
    }
    check(&[], &["a list of 1 to 64 rules"]);
    check(&[""], &["made of rules, which \"\" is not"]);
    check(
        &["everyone", "private", "all"],
        &["\"everyone\" is not", ", and made of rules, which \"all\" is not"],
    );
    check(&["private and"], &["which \"\" is not"]);
    check(&["and private"], &["which \"\" is not"]);
    check(&["private or hook"], &["which \"private or hook\" is not"]);
    check(&["10.0.0.1/8"], &["which \"10.0.0.1/8\" is not"]);
    check(&["key"], &["which \"key\" is not"]);
    check(&["key a b"], &["which \"key a b\" is not"]);
    check(
        &["key nowhere"],
        &["a rule whose file can be read: nowhere cannot be read: no such file"],
    );
    check(&["key broken", "signed broken"], &["broken has in line 1 nothing", "one secret"]);
    check(&["password users md5"], &["which \"password users md5\" is not"]);
    let many = vec!["private"; 65];
    check(&many, &["a list of 1 to 64 rules"]);
}

#[test]
fn encoders_are_asked_for_a_user_where_nothing_else_lets_them_in() {
    let asker = Connecting {
        app: "live",
        query: "",
        is_encoder: true,
        peer: PUBLIC.parse().unwrap(),
        stands_for_many: false,
        unix: NOW,
        chance: 1,
        any_node: false,
        is_guessing: false,
    };
    let check = |list: &[&str], connecting: &Connecting<'_>, expected: &str| {
        let found = rules(list).judge_connect(connecting, &mut Answered::default());
        assert!(format!("{found:?}").starts_with(expected), "{list:?}: {found:?}");
    };
    let accepted = "Accepted(None)";
    let asked = "Challenged(\"code=403 need auth; authmod=adobe\")";
    check(&["everybody"], &asker, accepted);
    check(&["key keys"], &asker, accepted);
    check(&["password users"], &asker, asked);
    check(&["password users llnw"], &asker, &asked.replace("adobe", "llnw"));
    check(&["private", "password users"], &asker, asked);
    check(&["key keys", "password users"], &asker, asked);
    check(&["hook", "password users"], &asker, asked);
    check(&["203.0.113.0/24 and password users"], &asker, asked);
    check(&["203.0.113.0/24", "password users"], &asker, accepted);
    check(&["password users"], &Connecting { is_encoder: false, ..asker }, accepted);
    let local = Connecting { peer: "::1".parse().unwrap(), ..asker };
    check(&["private", "password users"], &local, accepted);
    check(&["key keys", "password users"], &Connecting { query: "key=x", ..asker }, accepted);
    let offers = Connecting { query: "authmod=adobe&user=alice", is_encoder: false, ..asker };
    let question = "Challenged(\"authmod=adobe ?reason=needauth&user=alice&salt=";
    check(&["password users"], &offers, question);
    check(&["everybody"], &offers, accepted);
    let guesser = Connecting { is_guessing: true, ..offers };
    check(&["password users"], &guesser, "Refused(Guessing, \"Too many");
    check(&["password users"], &Connecting { query: "", ..guesser }, accepted);
    let wrong = Connecting { query: "authmod=adobe&user=alice&response=x", ..asker };
    check(&["password users"], &wrong, "Refused(WrongPassword, \"[ AccessManager.Reject ] : ");
}
