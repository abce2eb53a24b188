//! Which pages of the web may play: what browsers ask and are told (the Fetch standard's CORS).

use bytes::Bytes;

use crate::session::http::{RequestHead, response_head};

/// Which pages may play: the origins that browsers let read what they are sent, and from which
/// WebSockets are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// Those of every origin.
    #[default]
    Any,
    /// Only those of our own, which no page of ours has: none.
    Off,
    /// Those of these origins, such as `https://example.org`.
    Origins(Vec<String>),
}

impl Cors {
    /// Whether a page of this origin may read the answers.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Off => false,
            Self::Origins(origins) => origins.iter().any(|one| one.eq_ignore_ascii_case(origin)),
        }
    }

    /// The fields of an answer to a request of this origin.
    pub(super) fn fields<'a>(&self, origin: Option<&'a str>) -> Vec<(&'static str, &'a str)> {
        let mut fields = Vec::new();
        match (self, origin) {
            (Self::Any, _) => fields.push(("Access-Control-Allow-Origin", "*")),
            (Self::Off, _) => return fields,
            (Self::Origins(_), Some(origin)) if self.allows(origin) => {
                fields.push(("Access-Control-Allow-Origin", origin));
                fields.push(("Vary", "Origin"));
            }
            (Self::Origins(_), _) => {
                fields.push(("Vary", "Origin"));
                return fields;
            }
        }
        fields.push(("Access-Control-Expose-Headers", "*"));
        fields
    }
}

/// The answer to OPTIONS, by which browsers ask whether a page may send a request.
#[must_use]
pub fn preflight(head: &RequestHead, cors: &Cors) -> Bytes {
    let mut fields = vec![("Allow", METHODS)];
    let shared = cors.fields(head.header("origin"));
    if shared.iter().any(|(name, _)| *name == "Access-Control-Allow-Origin") {
        fields.push(("Access-Control-Allow-Methods", METHODS));
        // The asterisk does not stand for Authorization.
        fields.push(("Access-Control-Allow-Headers", "*, Authorization"));
        fields.push(("Access-Control-Max-Age", "86400"));
    }
    fields.extend(shared);
    fields.push(("Connection", persistence(head.keeps_alive())));
    response_head((204, "No Content"), &fields)
}

const METHODS: &str = "GET, HEAD, OPTIONS";

/// The value of Connection.
pub(super) fn persistence(keeps_alive: bool) -> &'static str {
    if keeps_alive { "keep-alive" } else { "close" }
}
