//! What the operator decided about applications, in the form in which workers use it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::hook_settings::HookSettings;
use crate::limits::Limits;

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
    /// The back end that is asked and told.
    pub hooks: Arc<HookSettings>,
}

/// Everything a worker is configured by. Immutable; a reload replaces it whole.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// All limits.
    pub limits: Limits,
    /// Applications by name.
    pub apps: HashMap<String, AppSettings>,
    /// Applications that are not listed (`[apps."*"]`).
    pub other_apps: AppSettings,
}

impl Settings {
    /// The settings of an application. Called once per publish or play, never per message.
    #[must_use]
    pub fn app(&self, name: &str) -> &AppSettings {
        self.apps.get(name).unwrap_or(&self.other_apps)
    }
}
