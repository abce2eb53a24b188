//! Verdicts hold for a time: when a back end is told that a stream goes on, and asked again whether
//! it may.
//!
//! Whoever was let in by way of a hook is asked about again when `hooks_verdict_lifetime` is over,
//! however it was let in: by a verdict, a remembered one, or for want of one. What could not be
//! asked, or found no answer, is asked again soon. Times and back ends are those of the settings in
//! force, which a reload changes for those who are in already.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::Worker;
use super::hook_settings::HookSettings;
use super::hooks::HookedStream;
use super::labels::HookName::{OnPlay, OnPublish, OnUpdate};
use super::publish::app_of;
use super::settings::Settings;
use super::verdicts::{Call, HookStream, Subject, Verdict};
use crate::reactor::ConnectionKey;

/// A question that found no answer is put again so much later at most.
const SOON: Duration = Duration::from_secs(10);

/// When the back end of a stream is called about it again.
#[derive(Clone, Debug)]
pub(super) struct Renewal {
    begun: Duration,
    /// The settings that the times below were made by.
    generation: u64,
    /// When `on_update` is next due.
    next_update: Option<Duration>,
    /// Since when the verdict holds; `None` where no hook let it in.
    verdict_at: Option<Duration>,
    /// When the verdict holds no longer.
    next_question: Option<Duration>,
    /// It is being asked again.
    is_asked: bool,
    /// The settings in force have no hooks for it any more.
    is_off: bool,
}

/// A call about a stream that goes on.
enum Due {
    /// That it does, since so long.
    Update(Duration),
    /// Whether it may.
    Question,
}

impl Renewal {
    /// Of a stream that a hook lets in now.
    pub(super) fn new(
        settings: &HookSettings,
        publishes: bool,
        generation: u64,
        now: Duration,
        chance: f64,
    ) -> Self {
        let next_question = expiry(settings, publishes, now, chance);
        let granted = Self::of_granted(settings, generation, now);
        Self { verdict_at: Some(now), next_question, ..granted }
    }

    /// Of a stream that began without a hook's leave.
    pub(super) fn of_granted(settings: &HookSettings, generation: u64, now: Duration) -> Self {
        Self {
            begun: now,
            generation,
            next_update: settings.has(OnUpdate).then(|| now + settings.update_interval),
            verdict_at: None,
            next_question: None,
            is_asked: false,
            is_off: false,
        }
    }

    /// Goes by other settings from now on; by none if there are no hooks any more.
    fn go_by(&mut self, settings: &HookSettings, publishes: bool, now: Duration, chance: f64) {
        self.is_off = settings.contract.is_none();
        let update = now + settings.update_interval;
        let next_update = self.next_update.map_or(update, |known| known.min(update));
        self.next_update = settings.has(OnUpdate).then_some(next_update);
        let question = self.verdict_at.and_then(|since| expiry(settings, publishes, since, chance));
        // Those whose verdict is over by the new settings are not asked about all at once.
        let spread = now + settings.verdict_lifetime.mul_f64(chance / 10.0);
        self.next_question = question.map(|at| {
            if at > now { at } else { self.next_question.map_or(spread, |known| known.min(spread)) }
        });
    }

    /// What is due now, of both at most one each.
    fn take_due(&mut self, settings: &HookSettings, now: Duration) -> SmallVec<[Due; 2]> {
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        let mut due = SmallVec::new();
        if is_due(self.next_update) {
            self.next_update = Some(now + settings.update_interval);
            due.push(Due::Update(now.saturating_sub(self.begun)));
        }
        if is_due(self.next_question) && !self.is_asked {
            self.is_asked = true;
            due.push(Due::Question);
        }
        due
    }

    /// The back end said again that it may.
    fn holds(&mut self, settings: &HookSettings, publishes: bool, now: Duration, chance: f64) {
        self.is_asked = false;
        self.verdict_at = Some(now);
        let question = expiry(settings, publishes, now, chance);
        self.next_question = question.filter(|_| !self.is_off);
    }

    /// The question could not be put, or found no answer.
    fn unheard(&mut self, settings: &HookSettings, now: Duration, chance: f64) {
        self.is_asked = false;
        let soon = SOON.min(settings.verdict_lifetime).mul_f64(1.0 - chance / 2.0);
        self.next_question = self.next_question.map(|_| now + soon);
    }
}

impl HookedStream {
    /// Goes by the settings in force, if those have changed since it was last looked at. Where they
    /// have no hooks any more, the back end of before is still told of the end.
    fn go_by(&mut self, settings: &Settings, generation: u64, now: Duration, chance: f64) {
        if self.renewal.generation == generation {
            return;
        }
        self.renewal.generation = generation;
        let hooks = &settings.app(app_of(&self.stream.name)).hooks;
        if hooks.contract.is_some() {
            self.settings = Arc::clone(hooks);
        }
        self.renewal.go_by(hooks, self.stream.publishes, now, chance);
    }
}

impl Worker {
    /// Tells of a connection's streams that they go on, and asks again whether they may, where that
    /// is due.
    pub(super) fn hook_updates(&mut self, key: ConnectionKey, now: Duration) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(hooked) = &mut connection.hooked else { return };
        let outstanding = hooked.asked.as_ref().map(|(number, _)| *number);
        let mut due = SmallVec::<[(Arc<HookStream>, Arc<HookSettings>, Due); 1]>::new();
        for hooked in &mut hooked.streams {
            if Some(hooked.stream.number) == outstanding {
                continue;
            }
            let generation = self.hooks.generation;
            hooked.go_by(&self.settings, generation, now, self.random.f64());
            for what in hooked.renewal.take_due(&hooked.settings, now) {
                due.push((Arc::clone(&hooked.stream), Arc::clone(&hooked.settings), what));
            }
        }
        let client = Arc::clone(&hooked.client);
        for (stream, settings, what) in due {
            let number = stream.number;
            let asks = matches!(what, Due::Question);
            let subject = match what {
                Due::Update(time) => {
                    let timestamp = self.last_timestamp(key, &stream);
                    Subject::Goes { stream, time, timestamp }
                }
                Due::Question => Subject::Again { stream },
            };
            let client = Arc::clone(&client);
            if let Err(unsent) = self.shared.hooks().send(Call { settings, client, subject }) {
                self.cells.hooks_overloaded.at(unsent.name()).increment();
                if asks {
                    self.hear_again(key, number, &Verdict::Unheard, now);
                }
            }
        }
    }

    /// What came of a call about a stream that goes on, and may go on.
    pub(super) fn hear_again(
        &mut self,
        key: ConnectionKey,
        number: u64,
        verdict: &Verdict,
        now: Duration,
    ) {
        let chance = self.random.f64();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(hooked) = connection.hooked.as_mut().and_then(|it| it.stream(number)) else {
            return;
        };
        let (settings, publishes) = (&hooked.settings, hooked.stream.publishes);
        hooked.told |= *verdict != Verdict::Unheard;
        match verdict {
            Verdict::Holds => hooked.renewal.holds(settings, publishes, now, chance),
            Verdict::Unheard => hooked.renewal.unheard(settings, now, chance),
            _ => {}
        }
    }

    /// The timestamp of the last message that was received or sent, in milliseconds.
    fn last_timestamp(&self, key: ConnectionKey, stream: &HookStream) -> u32 {
        let timestamp = || {
            let connection = self.connections.get(key)?;
            let message_stream = stream.message_stream;
            let newest = |log| Some(self.hub.log(log)?.newest()?.index.last()?.timestamp.0);
            if stream.publishes {
                return newest(connection.publish(message_stream)?.log);
            }
            let mut plays = connection.plays.iter();
            let play = plays.find(|play| play.message_stream == message_stream)?;
            let log = self.streams.get(play.local)?.log?;
            let lag = self.hub.lag(log, play.cursor.as_ref()?).as_millis();
            Some(newest(log)?.wrapping_sub(u32::try_from(lag).unwrap_or(u32::MAX)))
        };
        timestamp().unwrap_or_default()
    }
}

/// When a verdict of `since` holds no longer; `None` when it holds for as long as its session
/// lasts. By `chance`, from 0 to 1, up to a tenth early: those who came at once are not asked about
/// at once for ever.
fn expiry(
    settings: &HookSettings,
    publishes: bool,
    since: Duration,
    chance: f64,
) -> Option<Duration> {
    let question = if publishes { OnPublish } else { OnPlay };
    let ends = settings.has(question) && !settings.verdict_lifetime.is_zero();
    ends.then(|| since + settings.verdict_lifetime.mul_f64(1.0 - chance / 10.0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::hook_settings::{Contract, HookUrl};
    use super::super::labels::Label;
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Hooks that are asked, and are told each five minutes.
    fn settings(lifetime: u64) -> HookSettings {
        let mut settings = HookSettings {
            contract: Some(Contract::NginxRtmp),
            update_interval: secs(300),
            verdict_lifetime: secs(lifetime),
            ..HookSettings::default()
        };
        for name in [OnPublish, OnUpdate] {
            settings.urls[name.index()] = HookUrl::parse("http://h/").into_iter().collect();
        }
        settings
    }

    /// Updates and questions that are due at a time.
    fn due(renewal: &mut Renewal, settings: &HookSettings, at: u64) -> (usize, usize) {
        let due = renewal.take_due(settings, secs(at));
        let questions = due.iter().filter(|due| matches!(due, Due::Question)).count();
        (due.len() - questions, questions)
    }

    #[test]
    fn verdicts_of_one_moment_end_at_many() {
        let mut settings = settings(100);
        let at = |settings: &HookSettings, chance| {
            expiry(settings, true, secs(7), chance).map(|time| time.as_secs())
        };
        for (chance, expected) in [(0.0, 107), (0.5, 102), (1.0, 97)] {
            assert_eq!(at(&settings, chance), Some(expected));
        }
        settings.verdict_lifetime = Duration::ZERO;
        assert_eq!(at(&settings, 0.5), None);
        settings.verdict_lifetime = secs(100);
        settings.contract = None;
        assert_eq!(at(&settings, 0.0), None, "nobody was asked");
    }

    #[test]
    fn a_question_is_put_once_until_it_is_answered_and_soon_again_if_it_is_not() {
        let settings = settings(100);
        let mut renewal = Renewal::new(&settings, true, 0, secs(0), 0.0);
        assert_eq!(due(&mut renewal, &settings, 99), (0, 0));
        assert_eq!(due(&mut renewal, &settings, 100), (0, 1));
        assert_eq!(due(&mut renewal, &settings, 150), (0, 0), "it is being asked");
        renewal.unheard(&settings, secs(150), 0.0);
        assert_eq!(due(&mut renewal, &settings, 159), (0, 0));
        assert_eq!(due(&mut renewal, &settings, 160), (0, 1), "soon, not a lifetime later");
        renewal.holds(&settings, true, secs(161), 0.0);
        assert_eq!(due(&mut renewal, &settings, 260), (0, 0));
        assert_eq!(due(&mut renewal, &settings, 261), (0, 1));
        assert_eq!(due(&mut renewal, &settings, 300), (1, 0), "the update");
        let mut granted = Renewal::of_granted(&settings, 0, secs(0));
        assert_eq!(due(&mut granted, &settings, 299), (0, 0));
        assert_eq!(due(&mut granted, &settings, 1_000), (1, 0), "no hook let it in");
        granted.unheard(&settings, secs(1_000), 0.0);
        assert_eq!(due(&mut granted, &settings, 1_299), (0, 0));
    }

    #[test]
    fn other_settings_hold_for_those_who_are_in() {
        let (never, short) = (settings(0), settings(20));
        let mut renewal = Renewal::new(&never, true, 0, secs(0), 0.0);
        assert_eq!(due(&mut renewal, &never, 200), (0, 0));
        // Its verdict is long over by those: within a tenth of the new time, and no later for
        // another reload.
        renewal.go_by(&short, true, secs(200), 1.0);
        assert_eq!(due(&mut renewal, &short, 201), (0, 0));
        renewal.go_by(&short, true, secs(201), 1.0);
        assert_eq!(due(&mut renewal, &short, 202), (0, 1));
        renewal.holds(&short, true, secs(202), 0.0);
        renewal.go_by(&settings(40), true, secs(210), 0.0);
        assert_eq!(due(&mut renewal, &settings(40), 241), (0, 0));
        assert_eq!(due(&mut renewal, &settings(40), 242), (0, 1));
        // None any more.
        renewal.go_by(&HookSettings::default(), true, secs(243), 0.0);
        assert_eq!(due(&mut renewal, &HookSettings::default(), 10_000), (0, 0));
        // A sooner update is not put off.
        let mut renewal = Renewal::new(&never, true, 0, secs(0), 0.0);
        renewal.go_by(&never, true, secs(299), 0.0);
        assert_eq!(due(&mut renewal, &never, 300), (1, 0));
    }
}
