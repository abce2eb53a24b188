//! Flush levels at work: what this worker asks for, what others ask of its streams, and the age at
//! which each stream is flushed.
//!
//! A worker's step is told to all others when it changes, which is rare. Each home makes the level
//! of its streams of it, with the rates that it measures itself: the highest level that it or any
//! worker reading the stream asks for, unless the application has a fixed one.

use std::time::Duration;

use super::flow::{Estimate, Load, Totals};
use super::local::{LocalStream, Place};
use super::mail::{Mail, WorkerIndex};
use super::{Worker, nanos};

impl Worker {
    /// Whether this worker asks for another step by now. Called at every sweep.
    pub(super) fn look_at_load(&mut self, now: Duration) {
        let (controller, streams) = (&mut self.level, &self.streams);
        if !controller.look(now, || Estimate::of(streams.iter().map(|(_, entry)| load(entry)))) {
            return;
        }
        let step = controller.step();
        tracing::debug!(?step, "flush level");
        self.cells.flush_level_ns.set(nanos(step.level(true)));
        let own = self.index();
        for other in (0..self.steps.len()).filter(|other| *other != own) {
            self.mailbox.send(other, Mail::Step { worker: own, step });
        }
        self.asked_for(own, step);
    }

    /// A worker asks for a step from now on.
    pub(super) fn asked_for(&mut self, worker: WorkerIndex, step: super::level::Step) {
        self.steps[worker] = step;
        for local in self.streams.locals() {
            self.set_level(local);
        }
    }

    /// Measures every stream. Called twice a second.
    pub(super) fn observe_flows(&mut self, now: Duration) {
        for local in self.streams.locals() {
            let Some(entry) = self.streams.get_mut(local) else { continue };
            let Some(log) = entry.log.and_then(|log| self.hub.log(log)) else { continue };
            let pushed = log.pushed();
            let (segments, messages, bytes) = (pushed.segments, pushed.messages, pushed.bytes);
            let was_low = entry.flow.is_low();
            entry.flow.observe(now, Totals { messages, segments, bytes });
            if entry.flow.is_low() != was_low {
                self.set_level(local);
            }
        }
    }

    /// Sets the age at which a stream is flushed, if this worker is its home. To be called whenever
    /// its readers change.
    pub(super) fn set_level(&mut self, local: usize) {
        let Some(entry) = self.streams.get(local) else { return };
        let (Some(log), Place::Here { readers, .. }) = (entry.log, &entry.place) else { return };
        let own = self.index();
        let level = entry.fixed_flush.unwrap_or_else(|| {
            let low = entry.flow.is_low();
            let asking = readers.iter().chain([&own]);
            asking.map(|worker| self.steps[*worker].level(low)).max().unwrap_or_default()
        });
        self.hub.set_flush_age(log, level);
    }
}

fn load(entry: &LocalStream) -> Load<'_> {
    let readers = match &entry.place {
        Place::Here { readers, .. } => readers.len(),
        _ => 0,
    };
    Load {
        flow: &entry.flow,
        players: entry.players.len(),
        readers,
        fixed: entry.fixed_flush.is_some(),
    }
}
