//! A configuration in the making: values are taken source by source, each one judged when it is
//! taken, so that a mistake is found even where a stronger source hides it.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::environment::variable;
use super::key::{Given, Key};
use super::nearest::nearest;
use super::settings::{self, ANY_APP, APPS, LIMITS};
use super::{
    Api, Config, ConfigError, Drain, Effective, Listen, Log, Node, ReactorChoice, Row, Sockets,
    Source, Tls, cluster, fronts, hooks, text,
};
use crate::worker::settings::{AppSettings, Settings, Speaks, prefixes};

pub(super) struct Draft {
    config: Config,
    /// What was set for each application, `*` included; settings that nobody set are inherited.
    apps: BTreeMap<String, AppSettings>,
    sources: HashMap<Key, Source>,
    /// What was wrong so far, as one sentence each.
    mistakes: Vec<String>,
    /// Further mistakes, not told one by one.
    untold: usize,
}

/// Most mistakes that are told one by one.
const MISTAKES_MAX: usize = 20;

/// Most applications with settings of their own.
const APPS_MAX: usize = 10_000;

impl Draft {
    /// The defaults.
    pub(super) fn new() -> Self {
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let config = Config {
            node: Node {
                name: host_name(),
                workers: None,
                reactor: ReactorChoice::Auto,
                zone: String::new(),
                advertise: Vec::new(),
            },
            listen: Listen { rtmp: any(1935), http: any(8935), link: any(cluster::LINK_PORT) },
            listeners: Vec::new(),
            tls: Tls::default(),
            sockets: Sockets::default(),
            settings: Settings::default(),
            drain: Drain { window: Duration::ZERO },
            log: Log::DEFAULT,
            api: Api::default(),
            cluster: cluster::Cluster::default(),
        };
        let apps = BTreeMap::from([(ANY_APP.to_owned(), AppSettings::default())]);
        Self { config, apps, sources: HashMap::new(), mistakes: Vec::new(), untold: 0 }
    }

    /// Takes the values of one source; they win over those taken before.
    pub(super) fn take(&mut self, values: Vec<Given>) {
        for given in values {
            match self.set(&given.key, &given.text) {
                Some(Ok(())) => {
                    self.sources.insert(given.key, given.source);
                }
                // Looking for the nearest name takes time that a hostile file could make long.
                _ if self.mistakes.len() >= MISTAKES_MAX => self.untold += 1,
                Some(Err(allowed)) => self.mistakes.push(bad(&given, &allowed)),
                None => self.mistakes.push(self.unknown(&given)),
            }
        }
    }

    /// Notes that a source could not be taken.
    pub(super) fn mistaken(&mut self, sentence: String) {
        self.mistakes.push(sentence);
    }

    /// The configuration, after the values were compared with each other.
    pub(super) fn finish(mut self) -> Result<Effective, ConfigError> {
        if self.mistakes.is_empty() {
            self.compare();
        }
        if !self.mistakes.is_empty() {
            if self.untold > 0 {
                self.mistakes.push(format!("There are {} more mistakes.", self.untold));
            }
            return Err(ConfigError { sentences: self.mistakes, log: self.config.log });
        }
        let window = Key::new(&["drain", "window"]);
        if !self.config.cluster.peers.is_empty() && !self.sources.contains_key(&window) {
            self.config.drain.window = cluster::DRAIN_WINDOW;
        }
        self.inherit();
        self.settle_hooks();
        if !self.mistakes.is_empty() {
            return Err(ConfigError { sentences: self.mistakes, log: self.config.log });
        }
        let rows = self.rows();
        let mut apps: HashMap<_, _> = self.apps.into_iter().collect();
        let settings = &mut self.config.settings;
        settings.other_apps = apps.remove(ANY_APP).unwrap_or_default();
        settings.apps = apps;
        let further = self.config.listeners.iter().map(|listener| listener.speaks);
        settings.listeners = std::iter::once(Speaks::default()).chain(further).collect();
        Ok(Effective { config: self.config, rows, origin: Arc::default() })
    }

    /// `None` when there is no such setting; otherwise done, or what is allowed.
    fn set(&mut self, key: &Key, text: &str) -> Option<Result<(), String>> {
        match key.0.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [LIMITS, name] if setting(LIMITS, name).is_none() => {
                let limits = &mut self.config.settings.limits;
                let row = limits.table().into_iter().find(|row| row.name == name)?;
                let value = match settings::limit(row.name, row.value, text) {
                    Ok(value) => value,
                    Err(allowed) => return Some(Err(allowed)),
                };
                limits.set(row.name, value).map(|set| set.map_err(str::to_owned))
            }
            [APPS, app, name] => {
                let setting = settings::of_apps().find(|setting| setting.name == name)?;
                let app_bytes_max = self.config.settings.limits.app_bytes_max;
                let full = self.apps.len() >= APPS_MAX && !self.apps.contains_key(app);
                if app.is_empty() || app.len() > app_bytes_max || full {
                    return Some(Err(format!(
                        "set for one of at most {APPS_MAX} applications, with a name of 1 to \
                         {app_bytes_max} bytes"
                    )));
                }
                Some((setting.set)(self.apps.entry(app.to_owned()).or_default(), text))
            }
            ["listeners", number, name] => self.set_item(fronts::LISTENERS, number, name, text),
            ["tls", "certificates", number, name] => {
                self.set_item(fronts::CERTIFICATES, number, name, text)
            }
            [section, name] => Some((setting(section, name)?.set)(&mut self.config, text)),
            _ => None,
        }
    }

    /// A setting of a numbered table, which is made unless it is there.
    fn set_item(
        &mut self,
        table: &[&str],
        number: &str,
        name: &str,
        text: &str,
    ) -> Option<Result<(), String>> {
        let mut known = fronts::ITEM_SETTINGS.iter();
        let setting = known.find(|item| item.table == table && item.name == name)?;
        let number = text::count(number).filter(|number| (1..=fronts::ITEMS_MAX).contains(number));
        let Some(number) = number else {
            let most = fronts::ITEMS_MAX;
            return Some(Err(format!("set for a table with a number from 1 to {most}")));
        };
        fronts::grow(&mut self.config, table, number);
        Some((setting.set)(&mut self.config, number - 1, text))
    }

    fn unknown(&self, given: &Given) -> String {
        let typed = given.key.to_string();
        if let Some(sentence) = not_a_table(given) {
            return sentence;
        }
        let app = match given.key.0.as_slice() {
            [section, app, _] if section == APPS => app,
            _ => ANY_APP,
        };
        let fixed = settings::all().map(|row| Key::new(&[row.section, row.name]));
        let limits = self.config.settings.limits.table();
        let limits = limits.iter().map(|row| Key::new(&[LIMITS, row.name]));
        let apps = settings::of_apps().map(|row| Key::new(&[APPS, app, row.name]));
        let items = fronts::ITEM_SETTINGS.iter().map(|item| item_key(item, 1));
        let known: Vec<_> = fixed
            .chain(limits)
            .chain(apps)
            .chain(items)
            .map(|key| (key.to_string(), key))
            .collect();
        // A name that is known elsewhere was written into the wrong section.
        let misplaced = |(_, key): &&(String, Key)| key.name() == given.key.name();
        let nearest =
            nearest(&typed, known.iter().filter(misplaced).map(|(name, _)| name.as_str()))
                .or_else(|| nearest(&typed, known.iter().map(|(name, _)| name.as_str())));
        let key = known.iter().find(|(name, _)| Some(name.as_str()) == nearest).map(|(_, key)| key);
        let nearest = match (&given.source, key) {
            (Source::Environment(_), Some(key)) => format!("{key}, as {}", variable(key)),
            _ => nearest.unwrap_or_default().to_owned(),
        };
        let (typed, source) = (text::shown(&typed), &given.source);
        format!("{typed} ({source}) is not a setting; the nearest is {nearest}.")
    }

    /// Rules between two settings.
    fn compare(&mut self) {
        let limits = &self.config.settings.limits;
        let (span, span_most) = (limits.log_span, limits.gop_span_max);
        let (log, total) = (limits.log_bytes_max, limits.log_bytes_total);
        if span > span_most {
            let allowed = format!("at most limits.gop_span_max, {}", text::show_time(span_most));
            self.too_large("log_span", text::show_time(span), &allowed);
        }
        if log > total {
            let allowed = format!("at most limits.log_bytes_total, {}", text::show_bytes(total));
            self.too_large("log_bytes_max", text::show_bytes(log), &allowed);
        }
        let Listen { rtmp, http, link } = self.config.listen;
        let is_node = !self.config.cluster.peers.is_empty();
        if overlap(rtmp, http) {
            let allowed = format!("another address or port than listen.rtmp, which is {rtmp}");
            self.not_together(Key::new(&["listen", "http"]), http.to_string(), &allowed);
        }
        for (name, other) in [("rtmp", rtmp), ("http", http)] {
            if is_node && overlap(other, link) {
                let allowed =
                    format!("another address or port than listen.{name}, which is {other}");
                self.not_together(Key::new(&["listen", "link"]), link.to_string(), &allowed);
            }
        }
        if let Some((name, text, allowed)) = cluster::mistakes(&self.config) {
            self.not_together(Key::new(&["cluster", name]), text, &allowed);
        }
        for app in super::outside::nameless(&self.apps) {
            let allowed = "a list without \"always\": these settings are for many applications, so \
                           no stream can be named that is pulled before somebody plays it";
            self.not_together(Key::new(&[APPS, &app, "pull"]), String::new(), allowed);
        }
        for (table, number, name, text, allowed) in fronts::mistakes(&self.config) {
            let item = Key::new(table).with(&[&number.to_string(), name]);
            self.not_together(item, text, &allowed);
        }
    }

    fn too_large(&mut self, name: &str, text: String, allowed: &str) {
        self.not_together(Key::new(&[LIMITS, name]), text, allowed);
    }

    fn not_together(&mut self, key: Key, text: String, allowed: &str) {
        let source = self.sources.get(&key).cloned().unwrap_or(Source::Default);
        self.mistakes.push(bad(&Given { key, text, source }, allowed));
    }

    /// What nobody set for an application is as the longest beginning of its name has it, else as
    /// `*` has it.
    fn inherit(&mut self) {
        let given = self.apps.clone();
        for (app, values) in &mut self.apps {
            for setting in settings::of_apps() {
                let from = giver(&self.sources, app, setting.name);
                if let Some(from) = given.get(&from).filter(|_| from != *app) {
                    (setting.inherit)(values, from);
                }
            }
        }
    }

    /// Names the hooks by their application, lets them decide where nobody wrote rules, and finds
    /// what contradicts itself.
    fn settle_hooks(&mut self) {
        let mut apps = std::mem::take(&mut self.apps);
        for (app, values) in &mut apps {
            let ruled = |setting: &str| {
                let from = giver(&self.sources, app, setting);
                self.sources.contains_key(&Key::new(&[APPS, &from, setting]))
            };
            let ruled = hooks::Ruled { publish: ruled("publish"), play: ruled("play") };
            for (name, text, allowed) in hooks::settle(app, values, &ruled) {
                let from = giver(&self.sources, app, name);
                if self.mistakes.len() < MISTAKES_MAX && from == *app {
                    self.not_together(Key::new(&[APPS, app, name]), text, &allowed);
                }
            }
        }
        self.apps = apps;
    }

    /// Every setting, in the order of the documentation.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for section in settings::sections() {
            for setting in settings::all().filter(|setting| setting.section == section) {
                let key = Key::new(&[section, setting.name]);
                rows.push(self.row(key, (setting.get)(&self.config), setting.why));
            }
            if section == "listen" || section == "tls" {
                let table =
                    if section == "listen" { fronts::LISTENERS } else { fronts::CERTIFICATES };
                for index in 0..fronts::items(&self.config, table) {
                    for item in fronts::ITEM_SETTINGS.iter().filter(|item| item.table == table) {
                        let value = (item.get)(&self.config, index);
                        rows.push(self.row(item_key(item, index + 1), value, item.why));
                    }
                }
            }
            if section == LIMITS {
                for row in self.config.settings.limits.table() {
                    let value = settings::show_limit(row.value);
                    rows.push(self.row(Key::new(&[LIMITS, row.name]), value, row.why));
                }
            }
            if section == APPS {
                for (app, values) in &self.apps {
                    for setting in settings::of_apps() {
                        let key = Key::new(&[APPS, app, setting.name]);
                        rows.push(self.row(key, (setting.get)(values), setting.why));
                    }
                }
            }
        }
        rows
    }

    fn row(&self, key: Key, value: String, why: &'static str) -> Row {
        let own = self.sources.get(&key);
        let inherited = match key.0.as_slice() {
            [section, app, name] if section == APPS => {
                self.sources.get(&Key::new(&[APPS, &giver(&self.sources, app, name), name]))
            }
            _ => None,
        };
        let source = own.or(inherited).cloned().unwrap_or(Source::Default);
        Row { section: key.section(), name: key.name().to_owned(), value, source, why }
    }
}

/// The application whose section decides a setting of `app`.
fn giver(sources: &HashMap<Key, Source>, app: &str, setting: &str) -> String {
    let mut sections = std::iter::once(app.to_owned()).chain(prefixes(app));
    let has = |section: &String| sources.contains_key(&Key::new(&[APPS, section, setting]));
    sections.find(has).unwrap_or_else(|| ANY_APP.to_owned())
}

/// The name of a setting of a numbered table.
fn item_key(item: &fronts::ItemSetting, number: usize) -> Key {
    Key::new(item.table).with(&[&number.to_string(), item.name])
}

fn setting(section: &str, name: &str) -> Option<&'static settings::Setting> {
    settings::all().find(|setting| setting.section == section && setting.name == name)
}

/// A value that stands where the file has a table.
fn not_a_table(given: &Given) -> Option<String> {
    let Source::File(..) = given.source else { return None };
    let is_table = match given.key.0.as_slice() {
        [section] => settings::sections().any(|known| known == section),
        [section, _] => section == APPS,
        _ => false,
    };
    let (key, value) = (text::shown(&given.key.to_string()), text::shown(&given.text));
    is_table.then(|| {
        format!("{key} is \"{value}\" ({}), but it must be a table: [{key}].", given.source)
    })
}

/// Whether two listeners would have a port in common. `[::]` is every address, of IPv4 too.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let takes_all = |address: SocketAddr| address.is_ipv6() && address.ip().is_unspecified();
    let any_v4 = (one.ip().is_unspecified() || other.ip().is_unspecified())
        && one.is_ipv4()
        && other.is_ipv4();
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || takes_all(one) || takes_all(other) || any_v4)
}

fn bad(given: &Given, allowed: &str) -> String {
    let Given { key, text, source } = given;
    // What stands in the URLs of these is secret.
    let is_secret = matches!(key.name(), "push" | "pull");
    let value = if is_secret { "***".to_owned() } else { text::shown(text) };
    let key = text::shown(&key.to_string());
    format!("{key} is \"{value}\" ({source}), but it must be {allowed}.")
}

/// The host's name, where it can be a node's name.
fn host_name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    let named = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = name.chars().filter(named).take(63).collect();
    if name.is_empty() { "relay".to_owned() } else { name }
}
