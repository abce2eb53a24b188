//! What is asked and told in the contract of SRS: one JSON object per call.

use sha2::{Digest, Sha256};

use crate::worker::labels::HookName;
use crate::worker::verdicts::{Call, HookStream, Question, Subject};

/// The virtual host of whoever names none that is configured.
const DEFAULT_VHOST: &str = "__defaultVhost__";

/// The application of whoever names none.
const DEFAULT_APP: &str = "__defaultApp__";

/// Who calls.
pub(super) struct Server<'a> {
    /// The node's name.
    pub(super) id: &'a str,
    /// Another one after each start.
    pub(super) service: &'a str,
}

/// The body of a call.
pub(super) fn body(name: HookName, call: &Call, server: &Server<'_>) -> String {
    let client = &call.client;
    let mut json = Json(String::with_capacity(512));
    json.text("server_id", server.id);
    json.text("service_id", server.service);
    json.text("action", name.label());
    json.text("client_id", &client.id.to_string());
    json.text("ip", &client.peer.ip().to_canonical().to_string());
    match &call.subject {
        Subject::Ask(Question { stream: Some(stream), .. })
        | Subject::Again { stream }
        | Subject::Ended { stream, .. }
        | Subject::Goes { stream, .. } => {
            let vhost = vhost(&stream.host, call);
            let (app, stream_name) = parts(stream);
            json.text("vhost", vhost);
            json.text("app", app);
            json.text("tcUrl", &client.tc_url);
            json.text("stream", stream_name);
            json.text("param", &param(&stream.query));
            if name == HookName::OnPlay {
                json.text("pageUrl", &client.page_url);
            }
            let url = stream_url(vhost, app, stream_name);
            json.text("stream_url", &url);
            json.text("stream_id", &stream_id(server.id, &url));
        }
        Subject::Ask(Question { stream: None, .. }) => {
            json.text("vhost", vhost(&client.host, call));
            json.text("app", named(&client.app));
            json.text("stream", "");
            json.text("param", &param(&client.query));
            json.text("tcUrl", &client.tc_url);
            json.text("pageUrl", &client.page_url);
        }
        Subject::Closed { sent, received, .. } => {
            json.text("vhost", vhost(&client.host, call));
            json.text("app", named(&client.app));
            json.number("send_bytes", *sent);
            json.number("recv_bytes", *received);
        }
    }
    json.0.push('}');
    json.0
}

fn vhost<'a>(host: &'a str, call: &Call) -> &'a str {
    let is_named = call.settings.vhosts.iter().any(|known| known == "*" || known == host);
    if is_named && !host.is_empty() { host } else { DEFAULT_VHOST }
}

fn named(app: &str) -> &str {
    if app.is_empty() { DEFAULT_APP } else { app }
}

/// The stream is what follows the last slash.
fn parts(stream: &HookStream) -> (&str, &str) {
    stream.name.rsplit_once('/').unwrap_or((DEFAULT_APP, &stream.name))
}

fn param(query: &str) -> String {
    if query.is_empty() { String::new() } else { format!("?{query}") }
}

/// Without extension, and without the virtual host unless it has a name.
fn stream_url(vhost: &str, app: &str, stream: &str) -> String {
    let vhost = if vhost == DEFAULT_VHOST { "" } else { vhost };
    let stream = stream.rsplit_once('.').map_or(stream, |(stem, _)| stem);
    format!("{vhost}/{app}/{stream}")
}

/// The same for the same stream on the same node.
pub(super) fn stream_id(server: &str, url: &str) -> String {
    let digest = Sha256::digest(format!("{server}{url}"));
    let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("vid-{}", &digits[..7])
}

struct Json(String);

impl Json {
    fn key(&mut self, key: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push('"');
        self.0.push_str(key);
        self.0.push_str("\":");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.0.push_str(&serde_json::Value::from(value).to_string());
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.0.push_str(&value.to_string());
    }
}
