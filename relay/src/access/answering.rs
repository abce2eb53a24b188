//! User and password by challenge, as Adobe's and Limelight's ingest points ask for them: the
//! client's side of `authmod.rs`, for pushes and pulls. Each step is a new connection, which
//! carries the answer to the refusal before it in the query of its application.
//!
//! Pure: refusals in, queries out. Nothing here is logged.

use super::users::{base64_md5, hex_md5};

/// What a refusal of connect asks for: the query of the next connect, or `None` when it asks for
/// nothing of this, or says that user or password are wrong. `app` is the application, `chance`
/// makes our part of the answer.
#[must_use]
pub fn answer(
    refusal: &str,
    (user, password): (&str, &str),
    app: &str,
    chance: u64,
) -> Option<String> {
    let method = if refusal.contains("authmod=adobe") {
        "adobe"
    } else if refusal.contains("authmod=llnw") {
        "llnw"
    } else {
        return None;
    };
    let Some((_, question)) = refusal.split_once("?reason=needauth") else {
        let wants_user = refusal.contains("code=403 need auth");
        return wants_user.then(|| format!("authmod={method}&user={user}"));
    };
    let value = |key: &str| {
        let mut pairs = question.split('&').filter_map(|pair| pair.split_once('='));
        // What ends a description, a blank or a bracket, belongs to no value.
        let end = |value: &str| value.trim_end_matches([' ', ']', '\'']).to_owned();
        pairs.find(|(name, _)| *name == key).map(|(_, value)| end(value))
    };
    let own = format!("{:08x}", chance & 0xffff_ffff);
    if method == "llnw" {
        let nonce = value("nonce")?;
        let instance = if app.contains('/') { "" } else { "/_definst_" };
        let proof = hex_md5(&[user, ":live:", password]);
        let target = hex_md5(&["publish:/", app, instance]);
        let parts = [&proof, ":", &nonce, ":00000001:", &own, ":auth:", &target];
        let response = hex_md5(&parts);
        return Some(format!(
            "authmod=llnw&user={user}&nonce={nonce}&cnonce={own}&nc=00000001&response={response}"
        ));
    }
    let (salt, challenge, opaque) = (value("salt")?, value("challenge"), value("opaque"));
    let proof = base64_md5(&[user, &salt, password]);
    let theirs = opaque.clone().or(challenge).unwrap_or_default();
    let response = base64_md5(&[&proof, &theirs, &own]);
    let opaque = opaque.map(|opaque| format!("&opaque={opaque}")).unwrap_or_default();
    Some(format!("authmod=adobe&user={user}&challenge={own}&response={response}{opaque}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Answered, ConnectJudgement, Connecting, Rules};
    use super::*;

    #[test]
    fn who_knows_the_password_is_let_in_by_the_server_of_this_house() {
        fn check(password: &str, expected: bool) {
            let read = &mut |_: &str| Ok(b"* ann secret-word\n".to_vec());
            let rules = Rules::parse(["password users"], read).unwrap();
            let mut answered = Answered::default();
            let mut query = String::new();
            for step in 0..3_u64 {
                let connecting = Connecting {
                    app: "live",
                    query: &query,
                    is_encoder: true,
                    peer: [10, 0, 0, 1].into(),
                    stands_for_many: false,
                    unix: 1_000,
                    chance: step,
                    any_node: false,
                    is_guessing: false,
                };
                let refusal = match rules.judge_connect(&connecting, &mut answered) {
                    ConnectJudgement::Accepted(login) => {
                        assert!(expected && login.is_some() && step == 2, "{step}");
                        return;
                    }
                    ConnectJudgement::Challenged(text) => text,
                    ConnectJudgement::Refused(_, text) => text,
                };
                match answer(&refusal, ("ann", password), "live", 0x1234_5678_9abc) {
                    Some(next) => query = next,
                    None => assert!(!expected && step == 2, "{step}: {refusal}"),
                }
            }
            assert!(!expected);
        }
        check("secret-word", true);
        check("wrong", false);
    }

    #[test]
    fn other_refusals_ask_for_nothing() {
        for refusal in ["", "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=authfailed"] {
            assert_eq!(answer(refusal, ("a", "b"), "live", 1), None, "{refusal}");
        }
        let asks = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=llnw ]";
        let first = answer(asks, ("a", "b"), "live", 1);
        assert_eq!(first.as_deref(), Some("authmod=llnw&user=a"));
        let nonce = "authmod=llnw ?reason=needauth&user=a&nonce=n";
        let second = answer(nonce, ("a", "b"), "live", 1).unwrap();
        assert!(second.starts_with("authmod=llnw&user=a&nonce=n&cnonce=00000001&nc=00000001"));
    }
}
