//! Settings of hooks: the back end that is asked and told, per application. The names of events are
//! those that nginx's RTMP module and SRS have for them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::settings::{AppSetting, Choices, SWITCHES, app_row, choose, chosen, times};
use super::text;
use crate::access::Rules;
use crate::worker::hook_settings::{Contract, Fail, HookSettings, HookUrl, Method, PlayElsewhere};
use crate::worker::labels::{HookName, Label};
use crate::worker::settings::AppSettings;

/// Most URLs of one event.
const URLS_MAX: usize = 16;

/// Shortest time from one `on_update` of a session to the next.
const UPDATE_MIN: Duration = Duration::from_secs(1);

const CONTRACTS: Choices<Option<Contract>> =
    &[("off", None), ("nginx-rtmp", Some(Contract::NginxRtmp)), ("srs", Some(Contract::Srs))];
const PLACES: Choices<PlayElsewhere> =
    &[("pull", PlayElsewhere::Pull), ("redirect", PlayElsewhere::Redirect)];

const METHODS: Choices<Method> = &[("post", Method::Post), ("get", Method::Get)];
const FAILS: Choices<Fail> = &[("closed", Fail::Closed), ("open", Fail::Open)];

/// Which rules somebody wrote for an application.
pub(super) struct Ruled {
    pub(super) publish: bool,
    pub(super) play: bool,
}

/// The row of an event.
macro_rules! event {
    ($name:ident, $text:literal, $why:literal) => {
        AppSetting {
            name: $text,
            why: $why,
            set: |app, text| urls(&mut hooks(app).urls[HookName::$name as usize], text),
            get: |app| show_urls(&app.hooks.urls[HookName::$name as usize]),
            inherit: |app, other| {
                let urls = &other.hooks.urls[HookName::$name as usize];
                hooks(app).urls[HookName::$name as usize].clone_from(urls);
            },
        }
    };
}

pub(super) const APP_SETTINGS: &[AppSetting] = &[
    app_row!(
        hooks,
        "hooks",
        contract,
        |to, text| choose(to, CONTRACTS, text),
        |value: &Option<Contract>| chosen(*value, CONTRACTS),
        "The callbacks that the application's back end understands: those of nginx's RTMP module (\"nginx-rtmp\"), those of SRS (\"srs\"), or none (\"off\")."
    ),
    event!(
        OnConnect,
        "on_connect",
        "URL that is asked whether a client may connect. In all of these, http or https; several URLs in a list are called one after the other, and all have to agree."
    ),
    event!(
        OnPublish,
        "on_publish",
        "URL that is asked whether a client may publish; decides alone unless publish has rules, which then have to name \"hook\"."
    ),
    event!(
        OnPlay,
        "on_play",
        "URL that is asked whether a client may play; decides alone unless play has rules, which then have to name \"hook\"."
    ),
    event!(
        OnUpdate,
        "on_update",
        "nginx-rtmp: URL that is told every hooks_update_interval that a client goes on publishing or playing; its answer may end that."
    ),
    event!(
        OnPublishDone,
        "on_publish_done",
        "nginx-rtmp: URL that is told that a client publishes no longer."
    ),
    event!(
        OnPlayDone,
        "on_play_done",
        "nginx-rtmp: URL that is told that a client plays no longer."
    ),
    event!(
        OnDone,
        "on_done",
        "nginx-rtmp: URL that is told that a client publishes or plays no longer."
    ),
    event!(
        OnDisconnect,
        "on_disconnect",
        "nginx-rtmp: URL that is told that a connection has ended."
    ),
    event!(OnUnpublish, "on_unpublish", "SRS: URL that is told that a client publishes no longer."),
    event!(OnStop, "on_stop", "SRS: URL that is told that a client plays no longer."),
    event!(OnClose, "on_close", "SRS: URL that is told that a connection has ended."),
    app_row!(
        hooks,
        "hooks_method",
        method,
        |to, text| choose(to, METHODS, text),
        |value: &Method| chosen(*value, METHODS),
        "nginx-rtmp: whether the fields are in the body (\"post\") or in the query of the URL (\"get\")."
    ),
    app_row!(
        hooks,
        "hooks_timeout",
        timeout,
        timeout,
        |value: &Option<Duration>| {
            text::quoted(&value.map_or("contract".to_owned(), text::show_time))
        },
        "How long one call may take, connecting included. \"contract\": 10s for nginx-rtmp, 30s for SRS."
    ),
    app_row!(
        hooks,
        "hooks_fail",
        fail,
        |to, text| choose(to, FAILS, text),
        |value: &Fail| chosen(*value, FAILS),
        "While the back end gives no usable answer (none in time, no connection, a status of 5xx, nonsense), nobody is let in (\"closed\") or everybody is (\"open\")."
    ),
    app_row!(
        hooks,
        "hooks_concurrency",
        concurrency,
        |to, text| count(to, text, 1, 4_096),
        usize::to_string,
        "Questions under way at a time to one server, and as many notifications and questions about clients that are in."
    ),
    app_row!(
        hooks,
        "hooks_retries",
        retries,
        |to, text| count(to, text, 0, 100),
        usize::to_string,
        "How often a notification that failed is sent again, after 1s, 2s, 4s and so on, at most 60s. Questions are put once."
    ),
    app_row!(
        hooks,
        "hooks_cache",
        cache,
        |to, text| time(to, text, Duration::ZERO),
        |value: &Duration| text::quoted(&text::show_time(*value)),
        "How long a verdict on a publish or play holds when the same address asks the same again; 0s asks each time. What is answered from memory is not told of when it ends."
    ),
    app_row!(
        hooks,
        "hooks_verdict_lifetime",
        verdict_lifetime,
        |to: &mut Duration, text| {
            let lifetime = text::time(text).filter(|time| time.is_zero() || *time >= UPDATE_MIN);
            *to = lifetime
                .ok_or_else(|| format!("\"0s\" or {}", times(UPDATE_MIN, text::TIME_MAX)))?;
            Ok(())
        },
        |value: &Duration| text::quoted(&text::show_time(*value)),
        "How long a verdict lets a client publish or play; then, or up to a tenth earlier, on_publish or on_play is asked again, and a refusal ends it; where there is no answer, it is asked again within ten seconds. It holds for whoever was let in by hooks_cache or hooks_fail, too. \"0s\": for as long as it likes. A back end that counts these calls has to know."
    ),
    app_row!(
        hooks,
        "hooks_breaker_failures",
        breaker_failures,
        |to, text| count(to, text, 1, 1_000_000),
        usize::to_string,
        "After so many failed calls in a row a server is not called for hooks_breaker_pause."
    ),
    app_row!(
        hooks,
        "hooks_breaker_pause",
        breaker_pause,
        |to, text| time(to, text, Duration::from_millis(1)),
        |value: &Duration| text::quoted(&text::show_time(*value)),
        "How long a server that failed is left alone; then one call decides whether for as long again."
    ),
    app_row!(
        hooks,
        "hooks_update_interval",
        update_interval,
        |to, text| time(to, text, UPDATE_MIN),
        |value: &Duration| text::quoted(&text::show_time(*value)),
        "nginx-rtmp: from one on_update of a client to the next."
    ),
    app_row!(
        hooks,
        "hooks_update_strict",
        update_strict,
        |to, text| choose(to, SWITCHES, text),
        |value: &bool| chosen(*value, SWITCHES),
        "nginx-rtmp: whether only a status of 2xx lets a client go on after on_update (\"true\"), or 3xx too (\"false\")."
    ),
    app_row!(
        hooks,
        "hooks_play_elsewhere",
        play_elsewhere,
        |to, text| choose(to, PLACES, text),
        |value: &PlayElsewhere| chosen(*value, PLACES),
        "nginx-rtmp: what becomes of a player whose on_play answers by an rtmp URL. The stream is fetched from there (\"pull\"), as nginx does, or the player is sent there (\"redirect\"), which few follow."
    ),
    app_row!(
        hooks,
        "hooks_secret_file",
        secret_file,
        file,
        show_file,
        "File with a secret that calls are signed by (HMAC-SHA256), so that the back end knows who calls; \"\" for no signature."
    ),
    app_row!(
        hooks,
        "hooks_signature_header",
        signature_header,
        header,
        |value: &String| text::quoted(value),
        "The header of the signature: t=<seconds since 1970>,v1=<HMAC-SHA256 in hex of t, a dot, and the body; with hooks_method get, of path and query in place of the body>."
    ),
    app_row!(
        hooks,
        "hooks_ca_file",
        ca_file,
        file,
        show_file,
        "File with the certificates (PEM) that https servers are trusted by; \"\" for those of the system."
    ),
    app_row!(
        hooks,
        "hooks_vhosts",
        vhosts,
        |to: &mut Vec<String>, text| {
            *to = text::list(text).ok_or("host names between commas, at most 64")?;
            if to.iter().any(|host| host.contains(char::is_control)) {
                return Err("host names between commas, at most 64".to_owned());
            }
            Ok(())
        },
        |value: &Vec<String>| text::quoted(&value.join(", ")),
        "SRS: virtual hosts that calls name, \"*\" for all; every other is __defaultVhost__, as in an SRS without a section for it."
    ),
];

/// Names the hooks by their application, lets them decide where nobody wrote rules, and gives each
/// setting that contradicts another: its name, its text, and what is allowed.
pub(super) fn settle(
    app: &str,
    values: &mut AppSettings,
    ruled: &Ruled,
) -> Vec<(&'static str, String, String)> {
    let settings = hooks(values);
    settings.app = app.into();
    let mut wrong = Vec::new();
    for name in HookName::ALL {
        let urls = &settings.urls[name.index()];
        let text = || urls.iter().map(|url| url.text.clone()).collect::<Vec<_>>().join(", ");
        match (settings.contract, name.contract()) {
            _ if urls.is_empty() => {}
            (None, _) => {
                wrong.push((name.label(), text(), "\"\" while hooks is \"off\"".to_owned()));
            }
            (Some(ours), Some(theirs)) if ours != theirs => {
                let other = chosen(Some(theirs), CONTRACTS);
                wrong.push((name.label(), text(), format!("\"\" unless hooks is {other}")));
            }
            (Some(Contract::NginxRtmp), _) if urls.len() > 1 => {
                wrong.push((name.label(), text(), "one URL in the nginx-rtmp contract".to_owned()));
            }
            _ => {}
        }
    }
    let settings = Arc::clone(&values.hooks);
    for (rules, ruled, name, event) in [
        (&mut values.publish, ruled.publish, "publish", HookName::OnPublish),
        (&mut values.play, ruled.play, "play", HookName::OnPlay),
    ] {
        let (has, event) = (settings.has(event), event.label());
        if !ruled && has {
            *rules = Rules::hook();
        } else if !has && rules.asks_hook() {
            let allowed = format!("without \"hook\" while {event} is \"\"");
            wrong.push((name, rules.to_string(), allowed));
        } else if has && !rules.asks_hook() {
            let allowed = format!("a list with the rule \"hook\" while {event} is set");
            wrong.push((name, rules.to_string(), allowed));
        }
    }
    wrong
}

fn hooks(app: &mut AppSettings) -> &mut HookSettings {
    Arc::make_mut(&mut app.hooks)
}

fn urls(to: &mut Vec<HookUrl>, text: &str) -> Result<(), String> {
    let allowed = || {
        format!(
            "a URL such as \"http://127.0.0.1:8080/on_publish\", http or https, without user or \
             fragment; or a list of at most {URLS_MAX}"
        )
    };
    let texts = text::list(text).filter(|texts| texts.len() <= URLS_MAX).ok_or_else(allowed)?;
    *to =
        texts.iter().map(|text| HookUrl::parse(text)).collect::<Option<_>>().ok_or_else(allowed)?;
    Ok(())
}

fn show_urls(urls: &Vec<HookUrl>) -> String {
    match urls.as_slice() {
        [] => text::quoted(""),
        [url] => text::quoted(&url.text),
        urls => {
            let urls: Vec<_> = urls.iter().map(|url| text::quoted(&url.text)).collect();
            format!("[{}]", urls.join(", "))
        }
    }
}

fn timeout(to: &mut Option<Duration>, text: &str) -> Result<(), String> {
    let least = Duration::from_millis(1);
    *to = match (text, text::time(text)) {
        ("contract", _) => None,
        (_, Some(time)) if time >= least => Some(time),
        _ => return Err(format!("{}, or \"contract\"", times(least, text::TIME_MAX))),
    };
    Ok(())
}

fn time(to: &mut Duration, text: &str, least: Duration) -> Result<(), String> {
    let time = text::time(text).filter(|time| *time >= least);
    *to = time.ok_or_else(|| times(least, text::TIME_MAX))?;
    Ok(())
}

fn count(to: &mut usize, text: &str, least: usize, most: usize) -> Result<(), String> {
    let count = text::count(text).filter(|count| (least..=most).contains(count));
    *to = count.ok_or_else(|| format!("a number from {least} to {most}"))?;
    Ok(())
}

pub(super) fn file(to: &mut Option<PathBuf>, text: &str) -> Result<(), String> {
    if text.contains(char::is_control) {
        return Err("the path of a file, or \"\"".to_owned());
    }
    *to = (!text.is_empty()).then(|| PathBuf::from(text));
    Ok(())
}

pub(super) fn show_file(file: &Option<PathBuf>) -> String {
    text::quoted(&file.as_ref().map(|file| file.display().to_string()).unwrap_or_default())
}

fn header(to: &mut String, text: &str) -> Result<(), String> {
    let named = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if text.is_empty() || text.len() > 64 || !text.bytes().all(named) {
        return Err("the name of a header: 1 to 64 letters, digits and dashes".to_owned());
    }
    text.clone_into(to);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "hooks_tests.rs"]
mod tests;
