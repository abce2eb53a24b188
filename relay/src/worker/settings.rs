//! What the operator decided about applications, in the form in which workers use it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::hook_settings::HookSettings;
use super::outside_url::{OutsideRule, PullWhen};
use crate::access::{Action, Rules, is_private};
use crate::limits::Limits;
use crate::reactor::ListenerKey;
pub use crate::session::http_flv::Cors;
use crate::wire::stream_name::StreamAddress;

/// Where a joining player starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// At the newest key frame that the log holds: a picture at once, behind by part of a group of
    /// pictures.
    #[default]
    Gop,
    /// At the next key frame: least delay, no picture until it comes.
    Live,
}

/// What happens when a second publisher asks for a live name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublishConflict {
    /// The new one takes over: a phone that lost its network cannot wait for its old connection to
    /// time out.
    #[default]
    Takeover,
    /// The new one is refused.
    Reject,
}

/// What happens when a player asks for a name that nobody publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownStream {
    /// It waits for a publisher.
    #[default]
    Wait,
    /// It is told that there is no such stream, and closed.
    Reject,
}

/// Settings of one application (`[apps."name"]`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppSettings {
    /// Fixed flush age; `None` lets the relay choose.
    pub flush: Option<Duration>,
    /// Where joining players start.
    pub join: Join,
    /// Second publishers.
    pub publish_conflict: PublishConflict,
    /// Players of unknown names.
    pub unknown_stream: UnknownStream,
    /// Whether players of FLV wait for a publisher. Nearly all of them take no answer for a fault,
    /// and expect to be told at once.
    pub flv_waits: bool,
    /// The back end that is asked and told.
    pub hooks: Arc<HookSettings>,
    /// Who may publish.
    pub publish: Rules,
    /// Who may play.
    pub play: Rules,
    /// Limits of this application in place of the node's.
    pub limits: AppLimits,
    /// Where its streams are pushed to.
    pub push: Arc<[OutsideRule]>,
    /// Where its streams are pulled from.
    pub pull: Arc<[OutsideRule]>,
}

impl AppSettings {
    /// Whether a stream `app/name` of this application is fetched when somebody plays it.
    #[must_use]
    pub fn pulls(&self, stream: &str) -> bool {
        let fetched = |rule: &OutsideRule| rule.when == PullWhen::Demand && rule.is_for(stream);
        self.pull.iter().any(fetched)
    }

    /// The name under which a request is logged and listed until it is granted. A back end that may
    /// give streams other names is asked about them by their keys.
    #[must_use]
    pub fn shown_name(&self, action: Action, address: &StreamAddress) -> Arc<str> {
        let rules = self.rules(action);
        if rules.asks_hook() && self.hooks.may_rename(action) {
            return format!("{}/***", address.name.app()).into();
        }
        rules.shown_name(address)
    }

    /// The rules for one of the two.
    #[must_use]
    pub fn rules(&self, action: Action) -> &Rules {
        match action {
            Action::Publish => &self.publish,
            Action::Play => &self.play,
        }
    }
}

/// What happens to a publisher that sends more than `ingest_rate_max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IngestOver {
    /// It is told and closed.
    #[default]
    Close,
    /// It is read no faster than that, so that its encoder has to send less.
    Slow,
}

/// Limits that an application may have of its own; `None` where the node's holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppLimits {
    /// In place of `players_per_app_max`.
    pub players: Option<usize>,
    /// In place of `players_per_stream_max`.
    pub players_per_stream: Option<usize>,
    /// In place of `publishers_per_key_max`.
    pub publishers_per_key: Option<usize>,
    /// In place of `ingest_rate_max`, in bytes per second.
    pub ingest_rate: Option<usize>,
    /// What happens beyond that.
    pub ingest_over: IngestOver,
    /// In place of `session_max`.
    pub session: Option<Duration>,
    /// In place of `publisher_unwatched_max`.
    pub unwatched: Option<Duration>,
}

/// Addresses that the limits of each address do not judge: proxies, balancers and tools, which
/// stand for many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exempt {
    /// None.
    Nobody,
    /// This host.
    Loopback,
    /// This host, private networks and links (RFC 1918, RFC 4193, link-local).
    #[default]
    Private,
}

impl Exempt {
    /// Whether an address is not judged.
    #[must_use]
    pub fn holds(self, address: IpAddr) -> bool {
        match self {
            Self::Nobody => false,
            Self::Loopback => address.to_canonical().is_loopback(),
            Self::Private => is_private(address),
        }
    }
}

/// What is spoken on a listener. Whatever else comes is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaks {
    /// RTMP.
    pub rtmp: bool,
    /// RTMP inside TLS.
    pub rtmps: bool,
    /// HTTP: FLV and tunnels.
    pub http: bool,
    /// HTTP inside TLS.
    pub https: bool,
}

impl Default for Speaks {
    fn default() -> Self {
        Self { rtmp: true, rtmps: true, http: true, https: true }
    }
}

/// Which nodes take the answer to a question for a password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Challenges {
    /// The one that asked.
    #[default]
    OwnNode,
    /// All that have the same file of users.
    AnyNode,
}

/// Everything a worker is configured by. Immutable; a reload replaces it whole.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// All limits.
    pub limits: Limits,
    /// Applications by name, or by how their names begin: `live*`.
    pub apps: HashMap<String, AppSettings>,
    /// Whether a session ends when what it was granted by expires; otherwise it may go on.
    pub end_with_token: bool,
    /// Which nodes take the answer to a question for a password.
    pub challenges: Challenges,
    /// The file with the certificates that servers of token keys are trusted by, instead of the
    /// system's.
    pub token_keys_ca_file: Option<PathBuf>,
    /// Applications that are not listed (`[apps."*"]`).
    pub other_apps: AppSettings,
    /// Which pages may play FLV.
    pub cors: Arc<Cors>,
    /// Where browsers find FLV, such as `https://live.example.org`; `None`: on the port for players
    /// of the host that they were sent a page from.
    pub flv_base: Option<String>,
    /// Whom the limits of each address do not judge.
    pub exempt: Exempt,
    /// Where players are sent that find no room here: `rtmp://host:port`, nothing behind it.
    pub overflow: Vec<String>,
    /// What is spoken on each listener, in the order in which they were added to a reactor; on
    /// those that are not here, everything.
    pub listeners: Vec<Speaks>,
    /// Networks of proxies whose PROXY headers are believed.
    pub proxy_from: Vec<IpNet>,
    /// `[outside]`: what holds for all pushes and pulls.
    pub outside: OutsideSettings,
}

/// What holds for all pushes and pulls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutsideSettings {
    /// The authorities that servers are to be known by; `None` for those that the host trusts.
    pub ca_file: Option<PathBuf>,
    /// Whether to name the capabilities of E-RTMP.
    pub enhanced: bool,
}

impl Settings {
    /// Whether PROXY headers from an address are believed.
    #[must_use]
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxy_from.iter().any(|network| network.contains(&address))
    }

    /// Whether any publisher that nobody watches is closed after a time.
    #[must_use]
    pub fn closes_unwatched(&self) -> bool {
        let mut apps = self.apps.values().chain([&self.other_apps]);
        let own = |app: &AppSettings| app.limits.unwatched.is_some_and(|most| !most.is_zero());
        !self.limits.publisher_unwatched_max.is_zero() || apps.any(own)
    }

    /// Whether an address is not judged one by one: it is exempt, or a proxy that stands for
    /// others.
    #[must_use]
    pub fn stands_for_many(&self, address: IpAddr) -> bool {
        self.exempt.holds(address) || self.is_proxy(address)
    }

    /// What is spoken on a listener.
    #[must_use]
    pub fn speaks(&self, listener: ListenerKey) -> Speaks {
        let place = usize::try_from(listener.0).unwrap_or(usize::MAX);
        self.listeners.get(place).copied().unwrap_or_default()
    }

    /// Whether no application was given rules of who may publish or play.
    #[must_use]
    pub fn access_is_default(&self) -> bool {
        let mut apps = self.apps.values().chain([&self.other_apps]);
        apps.all(|app| app.publish.is_private() && app.play.is_private())
    }

    /// Who may publish and play, in a line for each section of applications, that of all others
    /// last; rules name their files and no secret.
    #[must_use]
    pub fn access_lines(&self) -> Vec<String> {
        let mut apps: Vec<_> = self.apps.iter().map(|(name, app)| (name.as_str(), app)).collect();
        apps.sort_unstable_by_key(|(name, _)| *name);
        let line = |(name, app): (&str, &AppSettings)| {
            format!("{name}: publish {}, play {}", app.publish, app.play)
        };
        let hidden = apps.len().saturating_sub(ACCESS_LINES_MAX);
        let mut lines: Vec<_> = apps.into_iter().take(ACCESS_LINES_MAX).map(line).collect();
        if hidden > 0 {
            lines.push(format!("and {hidden} applications more: relay --check shows them"));
        }
        lines.push(line(("*", &self.other_apps)));
        lines
    }

    /// Under which name an application has its settings: its own, a beginning such as `live*`, or
    /// `*`.
    #[must_use]
    pub fn section(&self, name: &str) -> &str {
        self.own(name).map_or("*", |(section, _)| section)
    }

    /// The settings of an application: its own, else those of the longest beginning of its name,
    /// else those of all others. Called a few times per publish or play, never per message.
    #[must_use]
    pub fn app(&self, name: &str) -> &AppSettings {
        self.own(name).map_or(&self.other_apps, |(_, app)| app)
    }

    fn own(&self, name: &str) -> Option<(&String, &AppSettings)> {
        let found = self.apps.get_key_value(name);
        if found.is_some() || self.apps.is_empty() {
            return found;
        }
        // Clients choose names, so a long one costs no more than one text.
        let mut prefix = String::with_capacity(name.len() + 1);
        prefix_ends(name).find_map(|end| {
            prefix.clear();
            prefix.push_str(&name[..end]);
            prefix.push('*');
            self.apps.get_key_value(&prefix)
        })
    }
}

/// Most applications that are told of one by one.
const ACCESS_LINES_MAX: usize = 20;

/// How the settings of an application may be named other than by its own name or `*`: the longest
/// beginning first. A name that is such a beginning itself (`live*`) has only shorter ones.
pub fn prefixes(name: &str) -> impl Iterator<Item = String> {
    prefix_ends(name).map(|end| format!("{}*", &name[..end]))
}

/// Where these beginnings end, without their `*`.
fn prefix_ends(name: &str) -> impl Iterator<Item = usize> {
    let longest = name.strip_suffix('*');
    let ends = name.char_indices().map(|(at, c)| at + c.len_utf8()).rev();
    ends.filter(move |end| longest.is_none_or(|longest| *end < longest.len()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_application_has_the_settings_of_the_longest_beginning_of_its_name() {
        let app = |join| AppSettings { join, ..AppSettings::default() };
        let apps = [("live", Join::Live), ("live*", Join::Gop), ("l*", Join::Live)];
        let settings = Settings {
            apps: apps.map(|(name, join)| (name.to_owned(), app(join))).into(),
            ..Settings::default()
        };
        let found = |name: &str| settings.apps.iter().find(|(_, app)| *app == settings.app(name));
        let check = |name, expected: Option<Join>| {
            let join = found(name).map(|_| settings.app(name).join);
            assert_eq!(join, expected, "{name}");
        };
        check("live", Some(Join::Live));
        check("live2", Some(Join::Gop));
        check("liv", Some(Join::Live));
        check("l", Some(Join::Live));
        assert!(std::ptr::eq(settings.app("k"), &settings.other_apps));
        assert!(std::ptr::eq(settings.app(""), &settings.other_apps));
        assert_eq!(prefixes("a\u{e9}b*").collect::<Vec<_>>(), ["a\u{e9}*", "a*"]);
        assert_eq!(prefixes("ab").collect::<Vec<_>>(), ["ab*", "a*"]);
        assert_eq!(prefixes("*").count(), 0);
    }

    #[test]
    fn who_may_is_told_for_each_section() {
        let open = AppSettings { play: Rules::everybody(), ..AppSettings::default() };
        let mut settings =
            Settings { apps: [("live".to_owned(), open)].into(), ..Settings::default() };
        let others = "*: publish [\"private\"], play [\"private\"]";
        let live = "live: publish [\"private\"], play [\"everybody\"]";
        assert_eq!(settings.access_lines(), [live, others]);
        for number in 0..30 {
            settings.apps.insert(format!("z{number}"), AppSettings::default());
        }
        let lines = settings.access_lines();
        assert_eq!((lines.len(), &*lines[0], &*lines[21]), (22, live, others));
        assert!(lines[20].starts_with("and 11 applications more"), "{}", lines[20]);
    }

    #[test]
    fn who_is_exempt_is_told_by_the_address() {
        fn check(address: &str, loopback: bool, private: bool) {
            let address = address.parse().unwrap();
            let judged = [Exempt::Nobody, Exempt::Loopback, Exempt::Private];
            let found = judged.map(|exempt| exempt.holds(address));
            assert_eq!(found, [false, loopback, private], "{address}");
        }
        check("127.0.0.1", true, true);
        check("127.9.9.9", true, true);
        check("::1", true, true);
        check("::ffff:127.0.0.1", true, true);
        check("10.1.2.3", false, true);
        check("172.31.0.1", false, true);
        check("192.168.1.1", false, true);
        check("::ffff:192.168.1.1", false, true);
        check("169.254.1.1", false, true);
        check("fd00::1", false, true);
        check("fe80::1", false, true);
        check("172.32.0.1", false, false);
        check("8.8.8.8", false, false);
        check("::ffff:8.8.8.8", false, false);
        check("2001:db8::1", false, false);
        check("fec0::1", false, false);
    }
}
