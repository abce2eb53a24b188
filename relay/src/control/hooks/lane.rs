//! One connection's calls, one after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Version, header};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::breaker::Admission;
use super::exchange::{self, Failed, Failure};
use super::reply::{Meaning, Reply};
use super::server::Server;
use super::{Hooks, cache, form, json, sign, verdict_of, without_answer};
use crate::worker::hook_settings::{Contract, HookSettings, HookUrl, Method};
use crate::worker::labels::HookName::{self, *};
use crate::worker::labels::HookResult;
use crate::worker::report::ConnectionId;
use crate::worker::verdicts::{Call, HookStream, Question, Subject, Verdict};

/// The longest pause before a notification is sent again.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How often a notification looks whether its server may be called again.
const BREAKER_LOOK: Duration = Duration::from_millis(250);

/// A notification waits no longer than this for a server that is left alone.
const PATIENCE: Duration = Duration::from_secs(600);

/// How one call went.
enum Outcome {
    /// There was an answer.
    Answered(Meaning),
    /// There was none.
    Failed,
    /// The server was not called.
    Skipped,
}

/// What a back end says to a stream that goes on.
enum Still {
    Yes,
    No,
    /// Nothing usable.
    Unheard,
}

/// Makes the calls of a connection until none is left.
pub(super) async fn run(hooks: Arc<Hooks>, id: ConnectionId) {
    // The question that nothing came of, if that was the last one.
    let mut kept_out = None;
    loop {
        let call = {
            let mut lanes = hooks.lanes.lock();
            let call = lanes.get_mut(&id).and_then(|lane| lane.pop_front());
            if call.is_none() {
                lanes.remove(&id);
            }
            call
        };
        let Some(call) = call else { return };
        match &call.subject {
            Subject::Ask(question) => {
                let verdict = ask(&hooks, &call, question).await;
                let began = verdict.began();
                kept_out = (!began).then_some(question.number);
                hooks.answered(&call);
                hooks.answer(&call.client, question.number, verdict);
            }
            Subject::Goes { stream, .. } => {
                match still_agrees(&hooks, &call).await {
                    Still::Yes => hooks.answer(&call.client, stream.number, Verdict::Heard),
                    Still::No => hooks.answer(&call.client, stream.number, Verdict::End),
                    Still::Unheard => {}
                }
                hooks.notices.fetch_sub(1, Ordering::Relaxed);
            }
            Subject::Again { stream } => {
                let verdict = match still_lets_in(&hooks, &call, stream).await {
                    Still::Yes => Verdict::Holds,
                    Still::No => Verdict::End,
                    Still::Unheard => Verdict::Unheard,
                };
                hooks.answer(&call.client, stream.number, verdict);
                hooks.notices.fetch_sub(1, Ordering::Relaxed);
            }
            Subject::Ended { after, .. } | Subject::Closed { after, .. } => {
                if after.is_none() || *after != kept_out {
                    tell(&hooks, &call).await;
                }
                hooks.notices.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// Asks every URL of an event; the first that does not agree decides.
async fn ask(hooks: &Hooks, call: &Call, question: &Question) -> Verdict {
    let (name, settings) = (call.name(), &call.settings);
    let mut said = Meaning::Yes;
    let mut told = false;
    for url in settings.urls(name) {
        match once(hooks, call, name, url, true).await {
            Outcome::Answered(Meaning::Yes) => told = true,
            Outcome::Answered(meaning) => {
                hooks.count(name, result_of(&meaning));
                said = meaning;
                told = true;
                break;
            }
            Outcome::Failed => return without_answer(settings, true),
            Outcome::Skipped => return without_answer(settings, told),
        }
        hooks.count(name, HookResult::Allowed);
    }
    if let Some(stream) = &question.stream
        && !matches!(said, Meaning::Garbage | Meaning::Broken)
    {
        remember(hooks, call, stream, &said);
    }
    verdict_of(name, said, settings, told)
}

/// Keeps a verdict for others that ask the same, if that is wanted.
fn remember(hooks: &Hooks, call: &Call, stream: &HookStream, said: &Meaning) {
    let settings = &call.settings;
    if !settings.cache.is_zero() {
        let key = cache::Key::new(call.name(), settings, &call.client, stream);
        let now = hooks.clock.now();
        hooks.cache.lock().put(key, said.clone(), now + settings.cache, now);
    }
}

/// Asks again about a stream that was let in. Who is in stays in while the back end gives no usable
/// answer, and under the name that it was let in by.
async fn still_lets_in(hooks: &Hooks, call: &Call, stream: &HookStream) -> Still {
    let name = call.name();
    for url in call.settings.urls(name) {
        let Outcome::Answered(meaning) = once(hooks, call, name, url, true).await else {
            return Still::Unheard;
        };
        hooks.count(name, result_of(&meaning));
        match meaning {
            Meaning::No => {
                remember(hooks, call, stream, &meaning);
                return Still::No;
            }
            Meaning::Garbage | Meaning::Broken => return Still::Unheard,
            Meaning::Yes | Meaning::Renamed(_) | Meaning::Elsewhere(_) => {}
        }
    }
    Still::Yes
}

/// Tells that a stream goes on. A server that gives no answer ends nothing unless the operator
/// wants that, as nginx's documentation has it.
async fn still_agrees(hooks: &Hooks, call: &Call) -> Still {
    let settings = &call.settings;
    let mut said = Still::Unheard;
    for url in settings.urls(OnUpdate) {
        let goes_on = match once(hooks, call, OnUpdate, url, false).await {
            Outcome::Answered(meaning) => {
                hooks.count(OnUpdate, result_of(&meaning));
                said = Still::Yes;
                match meaning {
                    Meaning::Yes => true,
                    Meaning::Renamed(_) | Meaning::Elsewhere(_) => !settings.update_strict,
                    Meaning::No | Meaning::Broken | Meaning::Garbage => false,
                }
            }
            Outcome::Failed => !settings.update_strict,
            Outcome::Skipped => true,
        };
        if !goes_on {
            return Still::No;
        }
    }
    said
}

/// Tells of an end, again and again if need be.
async fn tell(hooks: &Hooks, call: &Call) {
    let is_srs = call.settings.contract == Some(Contract::Srs);
    let names: &[HookName] = match (&call.subject, is_srs) {
        (Subject::Ended { stream, .. }, false) if stream.publishes => &[OnPublishDone, OnDone],
        (Subject::Ended { .. }, false) => &[OnPlayDone, OnDone],
        (Subject::Ended { stream, .. }, true) if stream.publishes => &[OnUnpublish],
        (Subject::Ended { .. }, true) => &[OnStop],
        (_, false) => &[OnDisconnect],
        (_, true) => &[OnClose],
    };
    for name in names {
        for url in call.settings.urls(*name) {
            deliver(hooks, call, *name, url).await;
        }
    }
}

async fn deliver(hooks: &Hooks, call: &Call, name: HookName, url: &HookUrl) {
    let begun = Instant::now();
    let mut pause = Duration::from_secs(1);
    let mut tries = call.settings.retries;
    loop {
        match once(hooks, call, name, url, false).await {
            Outcome::Answered(Meaning::Broken) | Outcome::Failed => {}
            Outcome::Answered(_) => {
                hooks.count(name, HookResult::Delivered);
                return;
            }
            Outcome::Skipped if may_wait(hooks, call) && begun.elapsed() < PATIENCE => {
                sleep(BREAKER_LOOK).await;
                continue;
            }
            Outcome::Skipped => tries = 0,
        }
        if tries == 0 || !may_wait(hooks, call) {
            hooks.count(name, HookResult::Lost);
            tracing::debug!(hook = name.label(), server = url.server(), "notification lost");
            return;
        }
        tries -= 1;
        hooks.count(name, HookResult::Retried);
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Whether there is time: not when the node ends, nor while the same client waits for a verdict.
fn may_wait(hooks: &Hooks, call: &Call) -> bool {
    let asks = |call: &Call| matches!(call.subject, Subject::Ask(_));
    let lanes = hooks.lanes.lock();
    let waits = lanes.get(&call.client.id).is_some_and(|lane| lane.iter().any(asks));
    !waits && !hooks.ending.load(Ordering::Relaxed)
}

/// One call to one URL, when its server may be called and has a place.
async fn once(
    hooks: &Hooks,
    call: &Call,
    name: HookName,
    url: &HookUrl,
    is_question: bool,
) -> Outcome {
    let settings = &call.settings;
    let Some(contract) = settings.contract else { return Outcome::Skipped };
    let server_name = url.server();
    let server = hooks.server(settings, &server_name);
    let within = settings.timeout();
    // Who is in already keeps nobody waiting who wants to be let in.
    let is_awaited = matches!(call.subject, Subject::Ask(_));
    let place = match admitted(hooks, &server, settings, is_awaited).await {
        Ok(place) => place,
        Err(HookResult::Breaker) if !is_question && name != OnUpdate => return Outcome::Skipped,
        Err(result) => {
            hooks.count(name, result);
            return Outcome::Skipped;
        }
    };
    let begun = Instant::now();
    let answer = match request(hooks, call, name, url, contract) {
        Some(request) => timeout(within, hooks.client.call(request)).await,
        None => Ok(Err(Failed::new(Failure::Unreachable, "its secret or trust is not read"))),
    };
    hooks.duration.observe(begun.elapsed());
    drop(place);
    let late = |_| Err(Failed::new(Failure::Timeout, format!("none came in {within:?}")));
    let reply = answer.unwrap_or_else(late);
    let status = reply.as_ref().map_or(0, |reply| reply.status);
    let outcome = reply.and_then(|reply| judge(&reply, contract, is_question));
    let why = match &outcome {
        Err(failed) => Some(failed.why.clone()),
        Ok(Meaning::Broken) => Some(format!("it answers with the status {status}")),
        Ok(_) => None,
    };
    let now = hooks.clock.now();
    if let Some(why) = &why {
        server.tell_failure((&settings.app, &server_name), name.label(), why, now);
    }
    server.note(why.is_none(), settings, &server_name, now);
    match outcome {
        Ok(meaning) => Outcome::Answered(meaning),
        Err(Failed { failure, .. }) => {
            hooks.count(
                name,
                match failure {
                    Failure::Timeout => HookResult::Timeout,
                    Failure::Unreachable => HookResult::Unreachable,
                    Failure::Garbage => HookResult::Garbage,
                },
            );
            Outcome::Failed
        }
    }
}

/// A place for a call to a server that may be called; or how it is counted that there is none. A
/// client that wants to be let in waits for a call that is under way and decides whether the server
/// works again, and is not refused meanwhile for want of an answer.
async fn admitted<'a>(
    hooks: &Hooks,
    server: &'a Server,
    settings: &HookSettings,
    is_awaited: bool,
) -> Result<Option<SemaphorePermit<'a>>, HookResult> {
    let within = settings.timeout();
    let until = Instant::now() + within;
    let mut waiter = None;
    loop {
        let place = timeout(within, server.place(is_awaited)).await;
        let place = place.map_err(|_| HookResult::Overload)?;
        let decided = server.decided();
        match server.admits(settings, hooks.clock.now()) {
            Admission::Call => return Ok(place),
            Admission::Left => return Err(HookResult::Breaker),
            Admission::Wait if !is_awaited => return Err(HookResult::Breaker),
            Admission::Wait => {}
        }
        drop(place);
        if waiter.is_none() {
            let room = hooks.probe_waiters.try_acquire();
            waiter = Some(room.map_err(|_| HookResult::Overload)?);
        }
        timeout_at(until, decided).await.map_err(|_| HookResult::Breaker)?;
    }
}

/// What an answer means. Nonsense counts against its server only where an answer was wanted.
fn judge(reply: &Reply, contract: Contract, is_question: bool) -> Result<Meaning, Failed> {
    match reply.meaning(contract) {
        Meaning::Garbage if is_question => {
            let why = "what it answers is neither yes nor no";
            Err(Failed::new(Failure::Garbage, why))
        }
        meaning => Ok(meaning),
    }
}

/// The request of a call, signed if it is to be; `None` when it cannot be made.
fn request<'a>(
    hooks: &Hooks,
    call: &Call,
    name: HookName,
    url: &'a HookUrl,
    contract: Contract,
) -> Option<exchange::Call<'a>> {
    let settings: &HookSettings = &call.settings;
    let in_url = contract == Contract::NginxRtmp && settings.method == Method::Get;
    let text = match contract {
        Contract::NginxRtmp => form::fields(name, call, in_url),
        Contract::Srs => {
            let server = json::Server { id: &hooks.node, service: &hooks.service };
            json::body(name, call, &server)
        }
    };
    let (method, target, body) = if in_url {
        let mark = if url.target.contains('?') { '&' } else { '?' };
        ("GET", format!("{}{mark}{text}", url.target), String::new())
    } else {
        ("POST", url.target.clone(), text)
    };
    let is_default_port = url.port == if url.tls { 443 } else { 80 };
    let bare_host = url.host.contains(':').then(|| format!("[{}]", url.host));
    let bare_host = bare_host.unwrap_or_else(|| url.host.to_string());
    let mut request = Request::builder().method(method).uri(&target);
    request = match contract {
        // The order in which nginx has them, and no port, which it leaves out.
        Contract::NginxRtmp => request
            .version(Version::HTTP_10)
            .header(header::HOST, bare_host)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::CONNECTION, "Close")
            .header(header::CONTENT_LENGTH, body.len()),
        Contract::Srs => request
            .header(header::HOST, if is_default_port { bare_host } else { url.server() })
            .header(header::CONNECTION, "Keep-Alive")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("relay/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_LENGTH, body.len()),
    };
    if let Some(path) = &settings.secret_file {
        let secret = hooks.keys.read().secret(path)?;
        // As the host's calendar has it now: it may have been wrong at the start.
        let unix = (hooks.clock.epoch() + hooks.clock.now()).as_secs();
        let signed = if in_url { target.as_bytes() } else { body.as_bytes() };
        let signature = sign::signature(&secret, unix, signed);
        request = request.header(settings.signature_header.as_str(), signature);
    }
    let trust = match url.tls {
        true => Some((settings.ca_file.clone(), hooks.keys.read().trust(&settings.ca_file)?)),
        false => None,
    };
    let request = request.body(Full::new(Bytes::from(body))).ok()?;
    Some(exchange::Call { url, request, trust, reuse: contract == Contract::Srs })
}

fn result_of(meaning: &Meaning) -> HookResult {
    match meaning {
        Meaning::Yes => HookResult::Allowed,
        Meaning::Renamed(_) => HookResult::Renamed,
        Meaning::Elsewhere(_) => HookResult::Elsewhere,
        Meaning::No => HookResult::Refused,
        Meaning::Garbage => HookResult::Garbage,
        Meaning::Broken => HookResult::Broken,
    }
}
