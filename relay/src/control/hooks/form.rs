//! What is asked and told in the contract of nginx's RTMP module: form fields in a fixed order, the
//! client's own arguments verbatim behind them.
//!
//! The order, the names and the escaping are the interface; back ends have been seen that depend on
//! each. Application and name of a stream are those by which the relay knows it, cut where its
//! settings are chosen: however a client wrote them, its back end judges what the client is given.

use crate::worker::labels::HookName;
use crate::worker::report::ConnectionId;
use crate::worker::verdicts::{Call, HookClient, HookStream, Question, Subject};

/// The fields of a call. `in_url` when they are to stand in a URL, where arguments cannot be quite
/// verbatim.
pub(super) fn fields(name: HookName, call: &Call, in_url: bool) -> String {
    let mut form = Form(String::with_capacity(512));
    let client = &call.client;
    let mut args = &client.args;
    match &call.subject {
        Subject::Ask(Question { stream: None, .. }) => {
            form.introduce(client, &client.app);
            // Milliseconds, as its clock has them: no back end can know from when.
            let epoch = u32::try_from(client.since.as_millis() & u128::from(u32::MAX));
            form.number("epoch", epoch.unwrap_or_default());
            form.plain("call", "connect");
        }
        Subject::Ask(Question { stream: Some(stream), .. }) | Subject::Again { stream } => {
            let (app, stream_name) = parts(stream);
            form.session(client, app);
            if stream.publishes {
                form.plain("call", "publish");
                form.text("name", stream_name);
                form.text("type", &stream.words.kind);
            } else {
                form.plain("call", "play");
                form.text("name", stream_name);
                let range = stream.words.range;
                form.number("start", wrapped(range.start));
                form.number("duration", wrapped(range.duration));
                form.number("reset", u32::from(range.reset));
            }
            args = &stream.words.args;
        }
        Subject::Ended { stream, .. } => {
            let (app, stream_name) = parts(stream);
            form.session(client, app);
            let call = match name {
                HookName::OnPublishDone => "publish_done",
                HookName::OnPlayDone => "play_done",
                _ => "done",
            };
            form.plain("call", call);
            form.text("name", stream_name);
            args = &stream.words.args;
        }
        Subject::Goes { stream, time, timestamp } => {
            let (app, stream_name) = parts(stream);
            form.session(client, app);
            let call = if stream.publishes { "update_publish" } else { "update_play" };
            form.plain("call", call);
            form.plain("time", &time.as_secs().to_string());
            form.number("timestamp", *timestamp);
            form.text("name", stream_name);
            args = &stream.words.args;
        }
        Subject::Closed { .. } => {
            form.session(client, &client.app);
            form.plain("call", "disconnect");
            form.text("app", &client.app);
        }
    }
    if !args.is_empty() {
        form.0.push('&');
        match in_url {
            true => escape(&mut form.0, args, |byte| byte <= b' ' || byte >= 0x7F || byte == b'#'),
            false => form.0.push_str(args),
        }
    }
    form.0
}

/// Application and name of a stream; no application where the name has but one segment.
fn parts(stream: &HookStream) -> (&str, &str) {
    stream.name.split_once('/').unwrap_or(("", &stream.name))
}

/// A number that no other connection of the node has.
fn client_id(id: ConnectionId) -> u64 {
    // A node has fewer than a thousand workers.
    id.number.wrapping_mul(1_000).wrapping_add(u64::try_from(id.core).unwrap_or_default())
}

/// The low 32 bits, which is how nginx writes what may be negative.
fn wrapped(number: i64) -> u32 {
    u32::try_from(number & i64::from(u32::MAX)).unwrap_or_default()
}

struct Form(String);

impl Form {
    /// What a client said of itself, after the application that it is about.
    fn introduce(&mut self, client: &HookClient, app: &str) {
        self.text("app", app);
        self.text("flashver", &client.flash_ver);
        self.text("swfurl", &client.swf_url);
        self.text("tcurl", &client.tc_url);
        self.text("pageurl", &client.page_url);
        self.text("addr", &client.peer.ip().to_canonical().to_string());
    }

    /// What every call but connect begins with.
    fn session(&mut self, client: &HookClient, app: &str) {
        self.introduce(client, app);
        self.plain("clientid", &client_id(client.id).to_string());
    }

    fn key(&mut self, key: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(key);
        self.0.push('=');
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        escape(&mut self.0, value, |byte| {
            byte <= b' ' || byte >= 0x7F || b"\"#%&+;<>?\\^`{|}".contains(&byte)
        });
    }

    fn plain(&mut self, key: &str, value: &str) {
        self.key(key);
        self.0.push_str(value);
    }

    fn number(&mut self, key: &str, value: u32) {
        self.plain(key, &value.to_string());
    }
}

fn escape(out: &mut String, text: &str, is_special: impl Fn(u8) -> bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if is_special(byte) {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from(DIGITS[usize::from(digit)]));
            }
        } else {
            out.push(char::from(byte));
        }
    }
}
