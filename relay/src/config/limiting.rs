//! Settings about limits that are no number of `limits.rs`: whom they judge, what an application
//! has of its own, and where players go that find no room.

use std::time::Duration;

use super::settings::{AppSetting, Choices, LIMITS, Setting, app_row, choose, chosen, times};
use super::text;
use crate::limits::NO_BYTES_LIMIT;
use crate::worker::settings::{AppLimits, AppSettings, Exempt, IngestOver};

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        section: LIMITS,
        name: "exempt",
        why: "Addresses that the limits of each address do not judge: \"nobody\", \"loopback\", or loopback and private networks (\"private\"), where proxies and balancers stand for many clients.",
        flag: None,
        set: |config, text| choose(&mut config.settings.exempt, EXEMPTS, text),
        get: |config| chosen(config.settings.exempt, EXEMPTS),
    },
    Setting {
        section: "overflow",
        name: "to",
        why: "Where players are sent that find no room here (players_max, players_per_app_max, players_per_stream_max, egress_rate_max), in turn: URLs of a host without a path, between commas. Players of RTMP are sent to those of rtmp and rtmps, by Enhanced RTMP's ReconnectRequest if they announced it, else by ex.redirect, which they may or may not follow. Players of HTTP-FLV are sent by 302 to those of http and https; where there is none, to the same hosts and ports as players of RTMP.",
        flag: None,
        set: |config, text| {
            let urls = text::list(text).filter(|urls| urls.iter().all(|url| is_base(url)));
            config.settings.overflow = urls.ok_or_else(|| {
                "URLs such as \"rtmp://b.example:1935, rtmp://c.example\", at most 64, or \"\" for \
                 none"
                    .to_owned()
            })?;
            Ok(())
        },
        get: |config| text::quoted(&config.settings.overflow.join(", ")),
    },
];

pub(super) const APP_SETTINGS: &[AppSetting] = &[
    app_row!(
        limits,
        "players_max",
        players,
        count,
        show_count,
        "Players of all streams of the application; \"limits\": limits.players_per_app_max."
    ),
    app_row!(
        limits,
        "players_per_stream_max",
        players_per_stream,
        count,
        show_count,
        "Players of one stream; \"limits\": limits.players_per_stream_max."
    ),
    app_row!(
        limits,
        "publishers_per_key_max",
        publishers_per_key,
        count,
        show_count,
        "Names published at a time with one key, user or token; \"limits\": limits.publishers_per_key_max."
    ),
    app_row!(
        limits,
        "ingest_rate_max",
        ingest_rate,
        rate,
        show_rate,
        "Bytes per second of one publisher; \"limits\": limits.ingest_rate_max."
    ),
    app_row!(
        limits,
        "ingest_over",
        ingest_over,
        |to: &mut IngestOver, text| choose(to, OVERS, text),
        |value: &IngestOver| chosen(*value, OVERS),
        "A publisher that sends more than ingest_rate_max is told and closed (\"close\"), or read no faster than that (\"slow\")."
    ),
    app_row!(
        limits,
        "session_max",
        session,
        time,
        show_time,
        "How long a connection may publish or play; \"0s\": as long as it likes, \"limits\": limits.session_max."
    ),
    app_row!(
        limits,
        "publisher_unwatched_max",
        unwatched,
        time,
        show_time,
        "A publisher without players, here or on other nodes, for this long is closed; \"0s\": never, \"limits\": limits.publisher_unwatched_max."
    ),
];

fn limits(app: &mut AppSettings) -> &mut AppLimits {
    &mut app.limits
}

/// What stands for the node's own limit.
const AS_LIMITS: &str = "limits";

const EXEMPTS: Choices<Exempt> =
    &[("nobody", Exempt::Nobody), ("loopback", Exempt::Loopback), ("private", Exempt::Private)];
const OVERS: Choices<IngestOver> = &[("close", IngestOver::Close), ("slow", IngestOver::Slow)];

/// `None` when the text is neither the word for the node's limit nor a good value.
fn own<T>(text: &str, value: Option<T>) -> Option<Option<T>> {
    if text == AS_LIMITS { Some(None) } else { value.map(Some) }
}

fn count(to: &mut Option<usize>, text: &str) -> Result<(), String> {
    let value = text::count(text).filter(|count| (1..=1_000_000_000).contains(count));
    *to =
        own(text, value).ok_or_else(|| "\"limits\" or a number from 1 to 1000000000".to_owned())?;
    Ok(())
}

fn show_count(value: &Option<usize>) -> String {
    value.map_or_else(|| text::quoted(AS_LIMITS), |count| count.to_string())
}

fn rate(to: &mut Option<usize>, text: &str) -> Result<(), String> {
    let bytes = text::bytes(text).filter(|bytes| (1..=NO_BYTES_LIMIT).contains(bytes));
    *to = own(text, bytes)
        .ok_or_else(|| "\"limits\" or a number of bytes per second such as \"2MiB\"".to_owned())?;
    Ok(())
}

fn show_rate(value: &Option<usize>) -> String {
    text::quoted(&value.map_or(AS_LIMITS.to_owned(), text::show_bytes))
}

fn time(to: &mut Option<Duration>, text: &str) -> Result<(), String> {
    *to = own(text, text::time(text))
        .ok_or_else(|| format!("\"limits\" or {}", times(Duration::ZERO, text::TIME_MAX)))?;
    Ok(())
}

fn show_time(value: &Option<Duration>) -> String {
    text::quoted(&value.map_or(AS_LIMITS.to_owned(), text::show_time))
}

/// Whether a text is `rtmp://host` or `rtmps://host`, perhaps with a port, and nothing more.
pub(super) fn is_base(url: &str) -> bool {
    let schemes = ["rtmp://", "rtmps://", "http://", "https://"];
    let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
    rest.is_some_and(|host| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        !host.is_empty() && host.len() <= 255 && host.bytes().all(plain)
    })
}
