//! How pushes and pulls stand, for the API and for metrics. Nothing here holds a secret.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Outside;
use super::orders::AddedId;
use super::task::{State, Task, TaskKey};
use crate::control::families::{Families, float};
use crate::worker::labels::{OutsideFault, OutsideKind};

/// Why an operator's push or pull is not added: what is wrong with its URL or with the body of the
/// request, or that there are `outside_targets_max`.
const REFUSALS: &[&str] =
    &["scheme", "host", "path", "placeholder", "text", "words", "body", "full"];

/// One row of `GET /api/v1/pushes` or `/pulls`.
#[derive(Debug, Serialize)]
pub(crate) struct OutsideReport {
    /// Of one that was added by the API: what `DELETE` names.
    id: Option<String>,
    /// `config`, `api`, or `hook`: the stream's back end asked for it.
    source: &'static str,
    app: String,
    /// The stream here; null for one of all streams of which none is there.
    name: Option<String>,
    /// The server and the application there. What comes behind may be secret.
    target: String,
    /// `resting`, `elsewhere` (another node of the cluster has the stream), `connecting`, `up`,
    /// `waiting` (tried again soon) or `broken` (much later).
    state: &'static str,
    /// The connection, while it is up.
    connection: Option<String>,
    since_unix_ms: Option<u64>,
    /// Until it is tried again.
    again_in_ms: Option<u64>,
    attempts: u64,
    failures: u64,
    /// Failures in a row.
    failed_in_a_row: u32,
    /// Why it last ended or failed, as counted in `relay_outside_failures_total`.
    reason: Option<&'static str>,
    /// The same for people.
    detail: Option<String>,
}

impl Outside {
    /// All of a kind, at most as many as tasks and rules.
    pub(crate) fn list(
        &self,
        kind: OutsideKind,
        unix_ms: impl Fn(std::time::Duration) -> u64,
    ) -> Vec<OutsideReport> {
        let now = self.clock.now();
        let machine = self.machine.lock();
        let mut seen = Vec::new();
        let mut rows: Vec<OutsideReport> = Vec::new();
        for (key, task) in machine.tasks.iter().filter(|(key, _)| key.kind == kind) {
            let added = machine.added().find(|(_, added)| {
                added.kind == kind && task.rules.iter().any(|rule| **rule == *added.rule)
            });
            let id = added.map(|(id, _)| id);
            seen.extend(id);
            let of_hook = |rule: &std::sync::Arc<_>| machine.is_of_hook((kind, &key.name), rule);
            let source = match id {
                Some(_) => "api",
                None if task.rules.iter().any(of_hook) => "hook",
                None => "config",
            };
            rows.push(OutsideReport { source, ..row(key, task, id, now, &unix_ms) });
        }
        for (id, added) in machine.added().filter(|(_, added)| added.kind == kind) {
            if seen.contains(&id) {
                continue;
            }
            rows.push(idle(&machine, Some(id), &added.app, &added.rule));
        }
        for (app, rule) in machine.configured(kind) {
            let of = |task: &Task| task.rules.iter().any(|known| **known == *rule);
            let in_use = machine.tasks.iter().any(|(key, task)| key.kind == kind && of(task));
            if !in_use {
                rows.push(idle(&machine, None, app, rule));
            }
        }
        rows
    }

    /// Adds the families of metrics.
    pub(crate) fn families(&self, out: &mut Families) {
        let machine = self.machine.lock();
        let mut up: BTreeMap<(OutsideKind, String), bool> = BTreeMap::new();
        for (key, task) in &machine.tasks {
            let Some(rule) = task.rule() else { continue };
            // As it was written: what is filled in was chosen by those who publish and play.
            let row = up.entry((key.kind, rule.url.target())).or_insert(true);
            *row &= task.is_up();
        }
        let help = "Whether all streams that are to go to or come from a server do, by the \
                    server and its application.";
        let mut family = out.gauge("relay_outside_up", &["kind", "target"], help);
        for ((kind, target), up) in &up {
            family.value(&[kind.label(), target], float(u64::from(*up)));
        }
        let help = "Tries to push or pull a stream.";
        let mut family = out.counter("relay_outside_attempts_total", &["kind"], help);
        for kind in OutsideKind::ALL {
            let count = machine.attempts_made.get(kind).copied().unwrap_or(0);
            family.value(&[kind.label()], float(count));
        }
        let help =
            "Pushes and pulls that operators asked for and that could not be added, by reason.";
        let mut family = out.counter("relay_outside_refused_total", &["reason"], help);
        let refused = self.refused.lock();
        for reason in REFUSALS {
            family.value(&[reason], float(refused.get(reason).copied().unwrap_or(0)));
        }
        let help = "Pushes and pulls that failed, and redirects, by reason.";
        let mut family = out.counter("relay_outside_failures_total", &["kind", "reason"], help);
        for kind in OutsideKind::ALL {
            for fault in OutsideFault::ALL {
                let count = machine.failures.get(&(*kind, *fault)).copied().unwrap_or(0);
                family.value(&[kind.label(), fault.label()], float(count));
            }
        }
    }
}

fn row(
    key: &TaskKey,
    task: &Task,
    id: Option<AddedId>,
    now: std::time::Duration,
    unix_ms: &impl Fn(std::time::Duration) -> u64,
) -> OutsideReport {
    let (state, since, until) = match task.state {
        State::Resting => ("resting", None, None),
        State::Beginning => ("connecting", None, None),
        State::Up { since } => ("up", Some(since), None),
        State::Waiting { until } => ("waiting", None, Some(until)),
        State::Broken { until } => ("broken", None, Some(until)),
    };
    let (app, name) = key.name.split_once('/').unwrap_or(("", &key.name));
    let again = until.map(|until| until.saturating_sub(now).as_millis());
    let connection = task.current.as_ref().and_then(|attempt| attempt.connection);
    OutsideReport {
        id: id.map(|id| id.to_string()),
        source: if id.is_some() { "api" } else { "config" },
        app: app.to_owned(),
        name: Some(name.to_owned()),
        target: task.target(&key.name),
        state,
        connection: connection.map(|connection| connection.to_string()),
        since_unix_ms: since.map(unix_ms),
        again_in_ms: again.and_then(|again| u64::try_from(again).ok()),
        attempts: task.attempts,
        failures: task.failed,
        failed_in_a_row: task.failures,
        reason: task.last.as_ref().map(|(fault, _)| fault.label()),
        detail: task.last.as_ref().map(|(_, detail)| detail.clone()),
    }
}

fn idle(
    machine: &super::Machine,
    id: Option<AddedId>,
    app: &str,
    rule: &crate::worker::outside_url::OutsideRule,
) -> OutsideReport {
    let name = |stream: &String| format!("{app}/{stream}");
    let elsewhere = rule.stream.as_ref().is_some_and(|it| machine.is_elsewhere(&name(it)));
    OutsideReport {
        id: id.map(|id| id.to_string()),
        source: if id.is_some() { "api" } else { "config" },
        app: app.to_owned(),
        name: rule.stream.clone(),
        target: rule.url.target(),
        state: if elsewhere { "elsewhere" } else { "resting" },
        connection: None,
        since_unix_ms: None,
        again_in_ms: None,
        attempts: 0,
        failures: 0,
        failed_in_a_row: 0,
        reason: None,
        detail: None,
    }
}
