//! How clients end: leaving in order, refused, redirected, lost, and coming back.

use super::*;
use crate::failover;

impl State {
    /// Where something is to fail, each player's silences are followed.
    pub(super) fn follow(&mut self, task: &mut Task) {
        let Job::Player(arrival) = task.job else { return };
        self.away.remove(&arrival.player);
        if let Some(failover) = &self.shared.plan.failover
            && !task.silence.is_followed()
        {
            let moment = failover.moment(&self.shared.plan, self.shared.begin);
            task.silence = Silence::new(moment);
        }
    }

    /// A player is at its end.
    pub(super) fn settle_silence(&mut self, silence: &mut Silence, now: Duration) {
        if let Some(failover) = &self.shared.plan.failover {
            silence.settle(failover.within, now, &mut self.meter);
        }
    }

    /// A client's time is over: it says goodbye and goes.
    pub(super) fn leave(&mut self, id: u64, now: Duration) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.leaving) else {
            return;
        };
        client.leaving = true;
        let first = client.task.attempt == 0;
        let (counters, _) = self.meter.of(client.task.is_slow());
        match &mut client.role {
            Role::Opening => {
                if let Some(failover) = &self.shared.plan.failover {
                    client.task.silence.settle(failover.within, now, &mut self.meter);
                }
                if matches!(client.task.job, Job::Player(_)) {
                    self.meter.fail("still_opening", || "no answer came before the end".to_owned());
                }
            }
            Role::Attacker(_) => counters.attackers_open += 1,
            Role::Publisher(publisher) => publisher.dialogue.session.finish(),
            Role::Player(player) => {
                if player.joined() {
                    counters.players_kept += u64::from(first);
                } else {
                    self.meter.fail("no_media", || "no key frame came before the end".to_owned());
                }
                player.finish(now, &mut self.meter);
                if let Some(failover) = &self.shared.plan.failover {
                    player.silence.settle(failover.within, now, &mut self.meter);
                }
                player.voice.finish();
            }
        }
        client.push_output();
        if let Some(lane) = &mut client.lane {
            lane.finish();
        }
        self.timers.set(now + Duration::from_secs(1), Event::Close(id));
        self.flush(id);
    }

    pub(super) fn judge_deadline(&mut self, id: u64, now: Duration) {
        let late = self.clients.get_mut(&id).and_then(|client| match &mut client.role {
            Role::Publisher(publisher) => {
                let late = publisher.dialogue.session.check_deadline(now);
                late.map_err(|error| Loss::session(&error)).err()
            }
            Role::Player(player) => player.check_deadline(now).err(),
            Role::Opening | Role::Attacker(_) => None,
        });
        if let Some(loss) = late {
            self.lost(id, &loss);
        }
    }

    /// The session cannot go on: the server said no, perhaps naming another place, or is wrong.
    pub(super) fn refused(&mut self, id: u64, loss: &Loss) {
        let Some(client) = self.clients.get(&id) else { return };
        let redirect = match &client.role {
            Role::Publisher(publisher) => publisher.dialogue.session.redirect(),
            Role::Player(player) => player.voice.redirect(),
            Role::Opening | Role::Attacker(_) => None,
        };
        let (target, _) = client.task.target(&self.shared.plan);
        let elsewhere = redirect.map(|to| target.redirected(Some(to)));
        match elsewhere {
            Some(Ok(target)) if client.task.redirects < REDIRECTS_MAX => {
                self.meter.counters.redirects += 1;
                let redirects = client.task.redirects + 1;
                let target = Some(Arc::new(target));
                let task = Task { target, redirects, due: clock::now(), ..client.task.clone() };
                self.close(id);
                self.timers.set(task.due, Event::Start(Box::new(task)));
            }
            _ => self.lost(id, loss),
        }
    }

    /// The server asks a running client to go elsewhere: it goes on until the other connection has
    /// begun (E-RTMP "Reconnect Request").
    pub(super) fn move_to(&mut self, id: u64, tc_url: Option<&str>, now: Duration) {
        let Some(client) = self.clients.get(&id).filter(|client| !client.leaving) else { return };
        let (target, _) = client.task.target(&self.shared.plan);
        if client.task.redirects >= REDIRECTS_MAX {
            return;
        }
        match target.redirected(tc_url) {
            Ok(target) => {
                self.meter.counters.redirects += 1;
                let joined = matches!(&client.role, Role::Player(player) if player.joined());
                let silence = match &client.role {
                    Role::Player(player) => player.silence,
                    _ => client.task.silence,
                };
                silence.moved(now, &mut self.meter);
                let task = Task {
                    target: Some(Arc::new(target)),
                    redirects: client.task.redirects + 1,
                    due: now,
                    joined_before: client.task.joined_before || joined,
                    silence,
                    replaces: Some(id),
                    ..client.task.clone()
                };
                self.timers.set(now, Event::Start(Box::new(task)));
            }
            Err(failure) => self.meter.fail("bad_redirect", || failure.to_string()),
        }
    }

    /// A client that takes another's place has begun: the other one goes.
    pub(super) fn take_over(&mut self, id: u64, now: Duration) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let begun = match &client.role {
            Role::Player(player) => player.joined(),
            Role::Publisher(publisher) => publisher.started().is_some(),
            Role::Opening | Role::Attacker(_) => false,
        };
        let Some(old) = client.task.replaces.filter(|_| begun) else { return };
        client.task.replaces = None;
        let Some(old_client) = self.clients.get_mut(&old) else { return };
        old_client.leaving = true;
        let silence = match &old_client.role {
            Role::Player(player) => Some(player.silence),
            _ => None,
        };
        match &mut old_client.role {
            Role::Player(player) => {
                player.finish(now, &mut self.meter);
                player.voice.finish();
            }
            Role::Publisher(publisher) => publisher.dialogue.session.finish(),
            Role::Opening | Role::Attacker(_) => {}
        }
        old_client.push_output();
        if let Some(lane) = &mut old_client.lane {
            lane.finish();
        }
        self.timers.set(now + Duration::from_secs(1), Event::Close(old));
        self.flush(old);
        if let (Some(silence), Some(client)) = (silence, self.clients.get_mut(&id))
            && let Role::Player(player) = &mut client.role
        {
            player.silence.merge(&silence);
        }
    }

    /// A client came to an early end.
    pub(super) fn lost(&mut self, id: u64, loss: &Loss) {
        let Some(mut client) = self.remove(id) else { return };
        let now = clock::now();
        if client.leaving {
            return;
        }
        let slow = client.task.is_slow();
        let mut task = client.task;
        if matches!(task.job, Job::Attacker(..)) {
            self.meter.counters.attackers_closed += u64::from(client.key.is_some());
            // Hostile clients come again.
            let due = now + Duration::from_secs(1);
            if due < self.end && !self.stopped {
                self.timers.set(due, Event::Start(Box::new(Task { due, ..task })));
            }
            return;
        }
        match &mut client.role {
            Role::Player(player) => {
                player.finish(now, &mut self.meter);
                self.meter.of(slow).0.players_lost += u64::from(player.started());
                task.joined_before |= player.joined();
                task.silence = player.silence.onward();
                task.silence.moved(now, &mut self.meter);
                task.outage_since = player.last_arrival().or(task.outage_since);
            }
            Role::Publisher(publisher) => {
                self.meter.counters.publishers_lost += u64::from(publisher.started().is_some());
            }
            Role::Opening | Role::Attacker(_) => {}
        }
        if slow {
            self.meter.fail(&format!("slow: {}", loss.cause), || loss.sentence.clone());
        } else {
            self.meter.fail(&loss.cause, || loss.sentence.clone());
        }
        // Whoever was to take its place goes on alone.
        let next = self.clients.values_mut().find(|client| client.task.replaces == Some(id));
        if let Some(next) = next.filter(|_| self.shared.plan.failover.is_some()) {
            next.task.replaces = None;
            match &mut next.role {
                Role::Player(player) => player.silence.merge(&task.silence),
                _ => next.task.silence.merge(&task.silence),
            }
            return;
        }
        self.again(task);
    }

    /// Connects again after a while, if that is wanted.
    pub(super) fn again(&mut self, mut task: Task) {
        // One that was to take another's place came to nothing: the other goes on.
        let stays = |old: u64| self.clients.get(&old).is_some_and(|client| !client.leaving);
        if task.replaces.is_some_and(stays) {
            return;
        }
        let fails = self.shared.plan.failover.is_some();
        let now = clock::now();
        let pause = if fails { failover::backoff } else { backoff };
        let due = now + pause(task.attempt, &mut self.random);
        if fails {
            task.target = None;
        }
        let leaves = match task.job {
            Job::Player(arrival) => (self.shared.begin + arrival.leaves).min(self.end),
            _ => self.end,
        };
        if self.shared.plan.reconnect && due < leaves && !self.stopped {
            self.meter.counters.reconnects += 1;
            task.attempt += 1;
            task.replaces = None;
            task.due = due;
            if let Job::Player(arrival) = task.job
                && task.silence.is_followed()
            {
                self.away.insert(arrival.player, task.silence);
            }
            self.timers.set(due, Event::Start(Box::new(task)));
        } else {
            self.settle_silence(&mut task.silence, now);
        }
    }
}

/// 0.5 s and up to 15 s, doubled each time, drawn between half of it and all of it.
fn backoff(attempt: u32, random: &mut fastrand::Rng) -> Duration {
    let longest = Duration::from_millis(500).saturating_mul(1 << attempt.min(5));
    let longest = longest.min(Duration::from_secs(15));
    Duration::from_nanos(random.u64(nanos(longest) / 2..=nanos(longest)))
}
