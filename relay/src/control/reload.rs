//! A changed configuration takes effect while the node runs: by SIGHUP, and by the API.
//!
//! All of it is read and judged before any of it is used, so that a bad file changes nothing. Live
//! sessions are not touched: workers go on with the new settings from their next turn, and what was
//! granted before stays granted. What needs a restart is listed each time.

use std::sync::Arc;

use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::ask::{self, ANSWER_WITHIN};
use super::state::{InForce, State};
use super::vital::Vital;
use crate::config::{Change, Config, Effective};
use crate::worker::handle::WorkerHandle;
use crate::worker::report::{Query, Reply};
use crate::worker::settings::Settings;

/// Something beside the settings that a reload reads again, in two steps: files of other rooms.
pub trait Reread: Send {
    /// What it is, in a word or two.
    fn what(&self) -> &'static str;

    /// Reads what the configuration names and keeps it aside.
    ///
    /// # Errors
    /// Every mistake, as one sentence each; nothing has changed then.
    fn prepare(&mut self, config: &Config) -> Result<(), Vec<String>>;

    /// Uses what was kept aside. Called only if everything else could be read, too.
    fn commit(&mut self);
}

/// Fits limits to what this host allows, as at the start, or says in a sentence what does not fit.
pub type Fit = Box<dyn Fn(&mut Effective) -> Result<(), String> + Send>;

/// What a reload needs besides the state.
pub(super) struct Reloader {
    pub(super) parts: Vec<Box<dyn Reread>>,
    pub(super) fit: Fit,
    pub(super) vital: Vital,
}

/// What came of a reload.
#[derive(Debug, Default, Serialize)]
pub(super) struct Reloaded {
    /// What is in force from now on.
    changed: Vec<ChangeReport>,
    /// What will be after a restart.
    restart: Vec<ChangeReport>,
    /// What was read again besides.
    reread: Vec<&'static str>,
    /// Workers that have not said within two seconds that they go by it; they will.
    unconfirmed: Vec<usize>,
}

#[derive(Debug, Serialize)]
struct ChangeReport {
    name: String,
    from: Option<String>,
    to: Option<String>,
}

impl Default for Reloader {
    fn default() -> Self {
        Self { parts: Vec::new(), fit: Box::new(|_| Ok(())), vital: Vital::default() }
    }
}

/// Reads everything again and uses it.
///
/// # Errors
/// Every mistake, as one sentence each; nothing has changed then.
pub(super) async fn reload(state: &State) -> Result<Reloaded, Vec<String>> {
    // One at a time: the second one finds what the first one left.
    let mut reloader = state.reloader.lock().await;
    let result = try_reload(state, &mut reloader).await;
    match &result {
        Ok(reloaded) => tell(reloaded),
        Err(mistakes) => {
            for why in mistakes {
                tracing::error!("{why}");
            }
            tracing::error!("not reloaded; nothing has changed");
        }
    }
    state.reloads.count(result.is_ok());
    result
}

async fn try_reload(state: &State, reloader: &mut Reloader) -> Result<Reloaded, Vec<String>> {
    let old = state.in_force();
    let before = Arc::clone(&old);
    // A disk may be slow, and whether this node lives is asked meanwhile.
    let read = tokio::task::spawn_blocking(move || before.effective.read_again()).await;
    let new =
        read.map_err(|error| vec![format!("The configuration cannot be read: {error}.")])??;
    let (mut parts, config) = (std::mem::take(&mut reloader.parts), new.config.clone());
    let prepared = tokio::task::spawn_blocking(move || {
        let prepare = |part: &mut Box<dyn Reread>| part.prepare(&config).err().unwrap_or_default();
        let mistakes: Vec<String> = parts.iter_mut().flat_map(prepare).collect();
        (parts, mistakes)
    });
    let (parts, mistakes) = prepared.await.map_err(|error| {
        // The parts are gone: a later reload would read nothing.
        reloader.vital.judge(&error);
        vec![format!("Files cannot be read: {error}.")]
    })?;
    reloader.parts = parts;
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let (changed, restart): (Vec<_>, Vec<_>) =
        old.effective.changes(&new).into_iter().partition(|change| change.live);
    let mut new = new.as_far_as_live(&old.effective);
    (reloader.fit)(&mut new).map_err(|why| vec![why])?;
    state.log.set_level(new.config.log.level);
    state.log.set_lines_per_second(new.config.settings.limits.log_lines_per_second_max);
    let settings = Arc::new(new.config.settings.clone());
    let unconfirmed = give(&state.workers, &settings).await;
    state.outside.configure(&settings);
    let mut reread: Vec<&'static str> = Vec::new();
    if !new.config.api.tokens.is_empty() {
        reread.push("api.token_file");
    }
    reread.push("files of rules");
    for part in &mut reloader.parts {
        part.commit();
        reread.push(part.what());
    }
    state.put_in_force(InForce::new(new));
    let report = |changes: Vec<Change>| changes.into_iter().map(ChangeReport::from).collect();
    Ok(Reloaded { changed: report(changed), restart: report(restart), reread, unconfirmed })
}

/// Gives all workers the new settings; the answer is who has not taken them yet.
async fn give(workers: &[WorkerHandle], settings: &Arc<Settings>) -> Vec<usize> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    let mut asked = Vec::new();
    for worker in workers {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let reply = Reply::new(move |()| {
            // When nobody waits any more there is nobody to tell.
            let _ = sender.send(());
        });
        let settings = Arc::clone(settings);
        if worker.ask(Query::Settings { settings: Arc::clone(&settings), reply }).is_err() {
            let again = move || {
                let reply = Reply::new(|()| {});
                Query::Settings { settings: Arc::clone(&settings), reply }
            };
            tokio::spawn(ask::insist(worker.clone(), again));
        }
        asked.push((worker.core, receiver));
    }
    let mut missing = Vec::new();
    for (core, receiver) in asked {
        if !matches!(timeout_at(deadline, receiver).await, Ok(Ok(()))) {
            missing.push(core);
        }
    }
    missing
}

fn tell(reloaded: &Reloaded) {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    for change in &reloaded.changed {
        let (name, from, to) = (&change.name, shown(&change.from), shown(&change.to));
        tracing::info!(name, from, to, "setting changed");
    }
    for change in &reloaded.restart {
        let (name, from, to) = (&change.name, shown(&change.from), shown(&change.to));
        tracing::warn!(name, from, to, "setting changes with a restart only");
    }
    tracing::info!(
        changed = reloaded.changed.len(),
        restart = reloaded.restart.len(),
        reread = reloaded.reread.join(", "),
        "reloaded"
    );
}

impl From<Change> for ChangeReport {
    fn from(change: Change) -> Self {
        Self { name: change.name, from: change.from, to: change.to }
    }
}

impl InForce {
    pub(super) fn new(effective: Effective) -> Self {
        let limits = effective.config.settings.limits.clone();
        Self { hash: super::state::hash(&effective), limits, effective }
    }
}
