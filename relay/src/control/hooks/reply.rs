//! What a back end's answer means, by its contract. Pure.

use crate::worker::hook_settings::Contract;

/// An answer, read as far as its limit allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// The header of that name.
    pub(super) location: Option<String>,
    pub(super) body: Vec<u8>,
}

/// What it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Yes,
    /// Yes, under this name.
    Renamed(String),
    /// It names another server, by this URL.
    Elsewhere(String),
    No,
    /// It is no answer in this contract.
    Garbage,
    /// The back end itself has failed.
    Broken,
}

impl Reply {
    /// What it means in a contract.
    pub(super) fn meaning(&self, contract: Contract) -> Meaning {
        if (500..600).contains(&self.status) {
            return Meaning::Broken;
        }
        match contract {
            Contract::NginxRtmp => self.by_status(),
            Contract::Srs => self.by_code(),
        }
    }

    /// nginx looks at the first digit of the status, and at where a 3xx leads.
    fn by_status(&self) -> Meaning {
        let location = self.location.as_deref().map(str::trim).filter(|text| !text.is_empty());
        match (self.status / 100, location) {
            (2, _) | (3, None) => Meaning::Yes,
            (3, Some(to)) => {
                let scheme = to.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
                match scheme.as_deref() {
                    Some("rtmp" | "rtmps" | "rtmpt" | "rtmpts") => {
                        Meaning::Elsewhere(to.to_owned())
                    }
                    _ => Meaning::Renamed(to.to_owned()),
                }
            }
            _ => Meaning::No,
        }
    }

    /// SRS wants 200 or 201 and a body: the text `0`, or an object whose `code` is 0.
    fn by_code(&self) -> Meaning {
        if !matches!(self.status, 200 | 201) {
            return Meaning::No;
        }
        let value = serde_json::from_slice::<serde_json::Value>(&self.body);
        let code = match &value {
            Ok(serde_json::Value::Object(object)) => object.get("code"),
            Ok(value) => Some(value),
            Err(_) => None,
        };
        match code.and_then(serde_json::Value::as_i64) {
            Some(0) => Meaning::Yes,
            Some(_) => Meaning::No,
            None => Meaning::Garbage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_goes_by_the_status_and_the_location() {
        fn check(status: u16, location: Option<&str>, expected: Meaning) {
            let location = location.map(str::to_owned);
            let reply = Reply { status, location, body: b"whatever".to_vec() };
            assert_eq!(reply.meaning(Contract::NginxRtmp), expected, "{reply:?}");
        }
        check(200, None, Meaning::Yes);
        check(201, Some("x"), Meaning::Yes);
        check(204, None, Meaning::Yes);
        check(302, Some("other"), Meaning::Renamed("other".to_owned()));
        check(301, Some(" other "), Meaning::Renamed("other".to_owned()));
        check(302, None, Meaning::Yes);
        check(302, Some(""), Meaning::Yes);
        for to in ["rtmp://192.0.2.1/live/x", "RTMP://192.0.2.1/live/x", "rtmps://a/live/x?k=1"] {
            check(302, Some(to), Meaning::Elsewhere(to.to_owned()));
        }
        check(400, None, Meaning::No);
        check(403, Some("x"), Meaning::No);
        check(404, None, Meaning::No);
        check(100, None, Meaning::No);
        check(600, None, Meaning::No);
        check(500, None, Meaning::Broken);
        check(503, None, Meaning::Broken);
    }

    #[test]
    fn srs_goes_by_the_code() {
        fn check(status: u16, body: &str, expected: Meaning) {
            let reply = Reply { status, location: None, body: body.into() };
            assert_eq!(reply.meaning(Contract::Srs), expected, "{status} {body}");
        }
        check(200, "0", Meaning::Yes);
        check(201, "0", Meaning::Yes);
        check(200, "0\r\n", Meaning::Yes);
        check(200, r#"{"code":0,"data":""}"#, Meaning::Yes);
        check(200, r#"{"code": 0, "msg": "OK"}"#, Meaning::Yes);
        check(200, "1", Meaning::No);
        check(200, "-1", Meaning::No);
        check(200, r#"{"code":1}"#, Meaning::No);
        check(200, r#"{"code":100, "data": null}"#, Meaning::No);
        check(204, "0", Meaning::No);
        check(302, "0", Meaning::No);
        check(403, "0", Meaning::No);
        check(500, "0", Meaning::Broken);
        for garbage in ["", "OK", "{", "{}", r#"{"code":"0"}"#, r#"{"code":0.0}"#, "null", "[0]"] {
            check(200, garbage, Meaning::Garbage);
        }
    }
}
