//! How much of the limits that the registrar judges is used, on the node and in applications that
//! have limits of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Registrar;
use crate::worker::publish::app_of;
use crate::worker::settings::Settings;

/// How much of the limits that the registrar judges is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) struct Usage {
    pub(in crate::worker) wanted_names: usize,
    pub(in crate::worker) players: usize,
    /// Players of the application that has the most.
    pub(in crate::worker) of_app: usize,
    /// Players of the stream that has the most.
    pub(in crate::worker) of_stream: usize,
    /// Names of the key that has the most.
    pub(in crate::worker) of_key: usize,
    /// Whether there are as many players as there may be.
    pub(in crate::worker) is_full: bool,
    /// Whether as much is sent as may be.
    pub(in crate::worker) is_sending_all: bool,
}

/// Players of the application, and of the stream, that has the most; by how the settings name them.
pub(in crate::worker) type AppUsage = BTreeMap<String, (usize, usize)>;

impl Registrar {
    /// How much of the limits that are judged here is used.
    pub(in crate::worker) fn usage(&self, now: Duration, settings: &Settings) -> Usage {
        Usage {
            wanted_names: self.unpublished,
            players: self.audience.players(),
            of_app: self.audience.most_of_app(),
            of_stream: self.streams.values().map(|entry| entry.players).max().unwrap_or(0),
            of_key: self.audience.most_of_key(),
            is_full: self.audience.is_full(settings),
            is_sending_all: self.audience.is_sending_all(settings, now),
        }
    }

    /// How many play in applications that have limits of players of their own. Of several
    /// applications with the same settings, the most.
    pub(in crate::worker) fn app_usage(&self, settings: &Settings) -> AppUsage {
        let mut usage = AppUsage::new();
        let all = || settings.apps.values().chain([&settings.other_apps]).map(|app| &app.limits);
        // Applications may be as many as players say; where none has limits, none is looked up.
        if all().any(|limits| limits.players.is_some()) {
            for (app, players) in self.audience.by_app() {
                if settings.app(app).limits.players.is_some() {
                    let (most, _) = usage.entry(settings.section(app).to_owned()).or_default();
                    *most = players.max(*most);
                }
            }
        }
        if all().any(|limits| limits.players_per_stream.is_some()) {
            let mut last = ("", None);
            for entry in self.streams.values() {
                let app = app_of(&entry.name);
                if last.0 != app {
                    last = (app, settings.app(app).limits.players_per_stream);
                }
                if last.1.is_some() {
                    let (_, most) = usage.entry(settings.section(app).to_owned()).or_default();
                    *most = entry.players.max(*most);
                }
            }
        }
        usage
    }
}
