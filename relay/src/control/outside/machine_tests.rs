//! The machine as scripts: news, answers and time in, commands out.

use super::*;
use crate::worker::hook_settings::{Contract, HookSettings, HookUrl};
use crate::worker::labels::{HookName, Label};
use crate::worker::outside::Forward;
use crate::worker::settings::AppSettings;

#[path = "machine_nodes_tests.rs"]
mod nodes;

/// A machine of two workers, with what it was told and asked for.
struct Rig {
    machine: Machine,
    now: Duration,
}

fn rule(kind: OutsideKind, text: &str) -> OutsideRule {
    match kind {
        OutsideKind::Push => OutsideRule::push(text).unwrap(),
        OutsideKind::Pull => OutsideRule::pull(text).unwrap(),
    }
}

fn settings(push: &[&str], pull: &[&str]) -> Settings {
    let rules =
        |kind, texts: &[&str]| texts.iter().map(|text| rule(kind, text)).collect::<Vec<_>>();
    let app = AppSettings {
        push: rules(OutsideKind::Push, push).into(),
        pull: rules(OutsideKind::Pull, pull).into(),
        ..AppSettings::default()
    };
    Settings { apps: [("live".to_owned(), app)].into(), ..Settings::default() }
}

const ADDRESS: &str = "10.0.0.9:1935";

impl Rig {
    fn new(push: &[&str], pull: &[&str]) -> Self {
        let mut rig = Self { machine: Machine::new(2, 7), now: Duration::from_secs(100) };
        rig.machine.configure(Arc::new(settings(push, pull)), rig.now);
        rig
    }

    fn name(&mut self, name: &str, live: Option<usize>, wanted: bool) -> Vec<String> {
        let news = NameNews {
            name: name.into(),
            live,
            elsewhere: false,
            grace: false,
            wanted,
            marks: "".into(),
        };
        self.machine.hear(News::Name(news), self.now);
        self.commands()
    }

    /// The publisher is gone, and may come back.
    fn grace(&mut self, name: &str) -> Vec<String> {
        let name = name.into();
        let news = NameNews {
            name,
            live: None,
            elsewhere: false,
            grace: true,
            wanted: false,
            marks: "".into(),
        };
        self.machine.hear(News::Name(news), self.now);
        self.commands()
    }

    fn hear(&mut self, id: u64, what: OutsideNews) -> Vec<String> {
        self.machine.hear(News::Outside { id, core: 0, what }, self.now);
        self.commands()
    }

    fn started(&mut self, id: u64) -> Vec<String> {
        let connection = ConnectionId { core: 0, number: id };
        self.hear(id, OutsideNews::Started { connection })
    }

    fn ended(&mut self, id: u64, fault: OutsideFault) -> Vec<String> {
        self.ended_with(id, fault, "", None)
    }

    fn ended_with(
        &mut self,
        id: u64,
        fault: OutsideFault,
        detail: &str,
        redirect: Option<&str>,
    ) -> Vec<String> {
        let redirect = redirect.map(str::to_owned);
        let end = OutsideEnd { fault, detail: detail.to_owned(), redirect };
        self.hear(id, OutsideNews::Ended(end))
    }

    fn looked_up(&mut self, id: u64) -> Vec<String> {
        self.machine.looked_up(id, Ok(vec![ADDRESS.parse().unwrap()]), self.now);
        self.commands()
    }

    /// Lets time pass up to what is due next; gives how long that was, in milliseconds.
    fn wait(&mut self) -> (u128, Vec<String>) {
        let due = self.machine.next_due().expect("something is due");
        let waited = due.saturating_sub(self.now).as_millis();
        self.now = due.max(self.now);
        self.machine.tick(self.now);
        (waited, self.commands())
    }

    fn commands(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(command) = self.machine.next_command() {
            out.push(match command {
                Command::LookUp { attempt, host, port, .. } => {
                    format!("look {attempt} {host}:{port}")
                }
                Command::Begin(begin) => format!(
                    "begin {} on {} {} {} {}{}",
                    begin.attempt,
                    begin.worker,
                    begin.kind.label(),
                    begin.url.tc_url(&begin.challenge),
                    begin.url.stream(),
                    if begin.replaces { " instead" } else { "" }
                ),
                Command::End { attempt, worker } => format!("end {attempt} on {worker}"),
                Command::Watch(watch) => format!("watch {watch:?}"),
            });
        }
        out
    }

    fn state(&self) -> Vec<&'static str> {
        let word = |task: &Task| match task.state {
            State::Resting => "resting",
            State::Beginning => "beginning",
            State::Up { .. } => "up",
            State::Waiting { .. } => "waiting",
            State::Broken { .. } => "broken",
        };
        self.machine.tasks.values().map(word).collect()
    }

    /// The publisher of this number, whose back end was asked, begins on worker 0.
    fn forward(&mut self, name: &str, number: u64, to: Option<&str>) -> Vec<String> {
        let forward = Forward { name: name.into(), core: 0, number };
        let to = to.map(|url| Arc::new(OutsideRule::forward(name, url).unwrap()));
        self.machine.hear(News::Forward { forward, to }, self.now);
        self.commands()
    }

    /// Somebody is about to play what is to be had there.
    fn fetch(&mut self, name: &str, url: &str) -> Vec<String> {
        let from = Arc::new(OutsideRule::forward(name, url).unwrap());
        self.machine.hear(News::Fetch { name: name.into(), from }, self.now);
        self.commands()
    }

    /// It is gone.
    fn forward_over(&mut self, name: &str, number: u64) -> Vec<String> {
        let forward = Forward { name: name.into(), core: 0, number };
        self.machine.hear(News::ForwardOver(forward), self.now);
        self.commands()
    }
}

const NONE: [&str; 0] = [];

#[test]
fn a_live_stream_is_pushed_from_its_worker_to_each_target_until_it_ends() {
    let mut rig = Rig::new(&["rtmp://a/x/{name}", "show rtmps://b/y/key"], &[]);
    assert_eq!(rig.commands(), ["watch Apps({\"live\"})"]);
    assert_eq!(rig.name("other/show", Some(1), false), NONE);
    assert_eq!(rig.name("live/show", None, true), NONE);
    assert_eq!(rig.name("live/show", Some(1), false), ["look 1 a:1935", "look 2 b:443"]);
    assert_eq!(rig.name("live/two", Some(0), false), ["look 3 a:1935"]);
    assert_eq!(rig.looked_up(1), ["begin 1 on 1 push rtmp://a:1935/x show"]);
    assert_eq!(rig.looked_up(2), ["begin 2 on 1 push rtmps://b:443/y key"]);
    assert_eq!(rig.started(1), NONE);
    assert_eq!(rig.name("live/show", Some(1), true), NONE);
    // The publisher comes back, to another worker.
    assert_eq!(rig.grace("live/show"), NONE);
    assert_eq!(rig.name("live/show", Some(0), true), NONE);
    assert_eq!(rig.grace("live/show"), NONE);
    assert_eq!(rig.grace("live/other"), NONE);
    assert_eq!(rig.name("live/show", None, true), ["end 1 on 1", "end 2 on 1"]);
    assert_eq!(rig.state(), ["beginning"]);
    // What comes late is about nothing that is known.
    assert_eq!(rig.ended(1, OutsideFault::Stopped), NONE);
    assert_eq!(rig.looked_up(3), ["begin 3 on 0 push rtmp://a:1935/x two"]);
}

#[test]
fn a_target_that_fails_is_left_alone_for_longer_and_longer() {
    let mut rig = Rig::new(&["rtmp://a/x/key"], &[]);
    rig.name("live/show", Some(0), false);
    let mut pauses = Vec::new();
    for id in 1..=24 {
        rig.looked_up(id);
        assert_eq!(rig.ended(id, OutsideFault::Dial), NONE);
        assert_eq!(rig.state(), [if id < 20 { "waiting" } else { "broken" }]);
        let (pause, commands) = rig.wait();
        assert_eq!(commands, [format!("look {} a:1935", id + 1)]);
        pauses.push(pause);
    }
    let bounds = |most: u128| most * 3 / 4..=most;
    for (failure, pause) in pauses[..19].iter().enumerate() {
        let most = (1_000 << failure.min(6)).min(60_000);
        assert!(bounds(most).contains(pause), "{failure}: {pause}");
    }
    assert!(pauses[19..].iter().all(|pause| *pause == 300_000), "{pauses:?}");
    // One that has run for a while begins again with a short pause.
    rig.looked_up(25);
    rig.started(25);
    rig.now += Duration::from_secs(10);
    assert_eq!(rig.ended(25, OutsideFault::Lost), NONE);
    assert!(bounds(1_000).contains(&rig.wait().0));
    let failed = rig.machine.failures.get(&(OutsideKind::Push, OutsideFault::Dial)).copied();
    assert_eq!(failed, Some(24));
}

#[test]
fn a_name_that_cannot_be_looked_up_is_a_failure() {
    for found in [Err("no such host".to_owned()), Ok(vec![])] {
        let mut rig = Rig::new(&["rtmp://a/x/key"], &[]);
        rig.name("live/show", Some(0), false);
        rig.commands();
        rig.machine.looked_up(1, found, rig.now);
        assert_eq!(rig.commands(), NONE);
        assert_eq!(rig.state(), ["waiting"]);
        let failed = rig.machine.failures.get(&(OutsideKind::Push, OutsideFault::Resolve)).copied();
        assert_eq!(failed, Some(1));
    }
}

#[test]
fn redirects_are_followed_but_not_in_a_circle() {
    let mut rig = Rig::new(&["rtmp://a/x/key"], &[]);
    rig.name("live/show", Some(0), false);
    for id in 1..=5 {
        rig.looked_up(id);
        let to = Some("rtmp://b:7/z?t=1");
        let next = rig.ended_with(id, OutsideFault::Refused, "elsewhere", to);
        assert_eq!(next, [format!("look {} b:7", id + 1)]);
    }
    assert_eq!(rig.looked_up(6), ["begin 6 on 0 push rtmp://b:7/z?t=1 key"]);
    assert_eq!(rig.ended_with(6, OutsideFault::Refused, "", Some("rtmp://a/x")), NONE);
    assert_eq!(rig.state(), ["waiting"]);
    let count = |fault| rig.machine.failures.get(&(OutsideKind::Push, fault)).copied();
    assert_eq!(count(OutsideFault::Redirects), Some(1));
    assert_eq!(count(OutsideFault::Redirected), Some(5));
    let last = rig.machine.tasks.values().next().unwrap().last.clone().unwrap();
    assert_eq!(last.1, "sent from server to server more than outside_redirects_max (5) times");
    // After a pause it begins where it was told to.
    assert_eq!(rig.wait().1, ["look 7 a:1935"]);
    assert_eq!(rig.ended_with(7, OutsideFault::Refused, "", Some("http://c/d")), NONE);
    let count = rig.machine.failures.get(&(OutsideKind::Push, OutsideFault::Url)).copied();
    assert_eq!(count, Some(1));
}

#[test]
fn a_loop_is_left_alone_for_long_at_once() {
    let mut rig = Rig::new(&["rtmp://a/x/key"], &[]);
    rig.name("live/show", Some(0), false);
    rig.looked_up(1);
    rig.ended(1, OutsideFault::Loop);
    assert_eq!(rig.state(), ["broken"]);
}

#[test]
fn a_server_that_wants_user_and_password_is_answered() {
    let mut rig = Rig::new(&["rtmp://ann:secret@a/x/key"], &[]);
    rig.name("live/show", Some(0), false);
    rig.looked_up(1);
    let asks = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ]";
    rig.ended_with(1, OutsideFault::Refused, asks, None);
    let begun = rig.looked_up(2);
    assert_eq!(begun, ["begin 2 on 0 push rtmp://a:1935/x?authmod=adobe&user=ann key"]);
    let asks = "authmod=adobe ?reason=needauth&user=ann&salt=s&challenge=c&opaque=o&";
    rig.ended_with(2, OutsideFault::Refused, asks, None);
    let begun = rig.looked_up(3);
    assert!(begun[0].contains("&response=") && begun[0].contains("&opaque=o key"), "{begun:?}");
    let no = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=authfailed";
    rig.ended_with(3, OutsideFault::Refused, no, None);
    assert_eq!(rig.state(), ["waiting"]);
    let count = rig.machine.failures.get(&(OutsideKind::Push, OutsideFault::Password)).copied();
    assert_eq!(count, Some(1));
}

#[test]
fn a_server_that_asks_to_connect_again_is_obeyed_and_left_when_the_other_has_begun() {
    let mut rig = Rig::new(&["rtmp://a/x/key"], &[]);
    rig.name("live/show", Some(0), false);
    rig.looked_up(1);
    rig.started(1);
    let again = |tc_url: &str| OutsideNews::Reconnect { tc_url: Some(tc_url.to_owned()) };
    assert_eq!(rig.hear(1, again("rtmp://b/x")), ["look 2 b:1935"]);
    assert_eq!(rig.hear(1, again("rtmp://c/x")), NONE);
    assert_eq!(rig.looked_up(2), ["begin 2 on 0 push rtmp://b:1935/x key instead"]);
    assert_eq!(rig.started(2), ["end 1 on 0"]);
    // One that comes to nothing changes nothing.
    assert_eq!(rig.hear(2, again("/z")), ["look 3 b:1935"]);
    rig.looked_up(3);
    assert_eq!(rig.ended(3, OutsideFault::Dial), NONE);
    assert_eq!(rig.state(), ["up"]);
    // The old one ends while the new one begins.
    assert_eq!(rig.hear(2, again("")), ["look 4 b:1935"]);
    assert_eq!(rig.ended(2, OutsideFault::Lost), NONE);
    rig.looked_up(4);
    assert_eq!(rig.started(4), NONE);
    assert_eq!(rig.state(), ["up"]);
}

#[test]
fn a_stream_is_pulled_while_somebody_plays_it_and_a_little_longer() {
    let mut rig = Rig::new(&[], &["rtmp://a/x/{name}", "rtmp://b/y/{name}"]);
    rig.commands();
    assert_eq!(rig.name("live/show", None, true), ["look 1 a:1935"]);
    // The idlest worker takes it.
    rig.name("live/two", None, true);
    assert_eq!(rig.looked_up(1), ["begin 1 on 0 pull rtmp://a:1935/x show"]);
    assert_eq!(rig.looked_up(2), ["begin 2 on 1 pull rtmp://a:1935/x two"]);
    assert_eq!(rig.ended(1, OutsideFault::Refused), NONE);
    // The next server is tried.
    assert_eq!(rig.wait().1, ["look 3 b:1935"]);
    rig.looked_up(3);
    rig.started(3);
    assert_eq!(rig.name("live/show", Some(0), true), NONE);
    assert_eq!(rig.name("live/show", Some(0), false), NONE);
    assert_eq!(rig.state(), ["up", "beginning"]);
    // Somebody comes back.
    rig.now += Duration::from_secs(9);
    assert_eq!(rig.name("live/show", Some(0), true), NONE);
    assert_eq!(rig.machine.next_due(), None);
    assert_eq!(rig.name("live/show", Some(0), false), NONE);
    assert_eq!(rig.wait(), (10_000, vec!["end 3 on 0".to_owned()]));
    assert_eq!(rig.name("live/show", None, false), NONE);
    assert_eq!(rig.state(), ["beginning"]);
}

#[test]
fn a_publisher_of_this_node_goes_before_what_is_pulled() {
    let mut rig = Rig::new(&[], &["show rtmp://a/x/key always"]);
    assert_eq!(rig.commands(), ["watch Apps({\"live\"})", "look 1 a:1935"]);
    rig.looked_up(1);
    assert_eq!(rig.name("live/show", Some(1), false), ["end 1 on 0"]);
    assert_eq!(rig.state(), NONE);
    assert_eq!(rig.name("live/show", None, false), ["look 2 a:1935"]);
    rig.looked_up(2);
    rig.started(2);
    assert_eq!(rig.name("live/show", Some(0), false), NONE);
    assert_eq!(rig.ended(2, OutsideFault::Takeover), NONE);
    assert_eq!(rig.state(), NONE, "the name is live, and not by us");
    assert_eq!(rig.name("live/show", None, false), ["look 3 a:1935"]);
}

#[test]
fn what_another_node_publishes_is_not_pulled() {
    let mut rig = Rig::new(&[], &["show rtmp://a/x/key"]);
    rig.commands();
    let mut tell = |elsewhere: bool, wanted: bool| {
        let name = "live/show".into();
        let news = NameNews { name, live: None, elsewhere, grace: false, wanted, marks: "".into() };
        rig.machine.hear(News::Name(news), rig.now);
        rig.commands()
    };
    assert_eq!(tell(true, true), NONE);
    assert_eq!(tell(false, true), NONE, "another node may take it over first");
    assert_eq!(tell(true, true), NONE, "and has, so nothing is due");
    assert_eq!(tell(false, false), NONE);
    assert_eq!(rig.machine.next_due(), None);
}

#[test]
fn rules_come_and_go_while_the_node_runs() {
    let mut rig = Rig::new(&[], &[]);
    assert_eq!(rig.commands(), NONE);
    let added = |text: &str| Added {
        kind: OutsideKind::Push,
        app: "live".to_owned(),
        rule: Arc::new(rule(OutsideKind::Push, text)),
    };
    let first = rig.machine.add(added("rtmp://a/x/{name}"), None, rig.now).unwrap();
    assert_eq!(rig.commands(), ["watch Apps({\"live\"})"]);
    assert_eq!(rig.name("live/show", Some(0), false), ["look 1 a:1935"]);
    rig.machine.add(added("rtmp://b/x/{name}"), None, rig.now).unwrap();
    assert_eq!(rig.commands(), ["look 2 b:1935"]);
    rig.looked_up(1);
    rig.started(1);
    assert!(!rig.machine.remove(OutsideKind::Pull, first, rig.now));
    assert!(rig.machine.remove(OutsideKind::Push, first, rig.now));
    assert!(!rig.machine.remove(OutsideKind::Push, first, rig.now));
    assert_eq!(rig.commands(), ["end 1 on 0"]);
    // A reload adds one and touches nobody.
    let new = settings(&["rtmp://c/x/{name}"], &[]);
    rig.machine.configure(Arc::new(new), rig.now);
    assert_eq!(rig.commands(), ["look 3 c:1935"]);
    assert_eq!(rig.state(), ["beginning", "beginning"]);
    let mut few = settings(&[], &[]);
    few.limits.outside_targets_max = 1;
    rig.machine.configure(Arc::new(few), rig.now);
    assert_eq!(rig.machine.add(added("rtmp://d/x/{name}"), None, rig.now), None);
}

#[test]
fn as_many_run_as_may_and_none_is_begun_when_the_node_ends() {
    let mut rig = Rig::new(&["rtmp://a/x/{name}"], &[]);
    let mut few = settings(&["rtmp://a/x/{name}"], &[]);
    few.limits.outside_max = 1;
    rig.machine.configure(Arc::new(few), rig.now);
    rig.commands();
    assert_eq!(rig.name("live/one", Some(0), false), ["look 1 a:1935"]);
    assert_eq!(rig.name("live/two", Some(0), false), NONE);
    assert_eq!(rig.state(), ["beginning", "waiting"]);
    assert_eq!(rig.name("live/one", None, false), NONE);
    assert_eq!(rig.wait().1, ["look 2 a:1935"]);
    rig.machine.end();
    assert_eq!(rig.name("live/three", Some(0), false), NONE);
}

#[test]
fn what_is_told_anew_replaces_what_was_told() {
    let mut rig = Rig::new(&["rtmp://a/x/{name}"], &[]);
    rig.commands();
    rig.name("live/one", Some(0), false);
    rig.machine.hear(News::Anew, rig.now);
    assert_eq!(rig.commands(), NONE);
    assert_eq!(rig.state(), NONE);
    assert_eq!(rig.name("live/one", Some(0), false), ["look 2 a:1935"]);
}

/// Settings whose back end may send publishers of `live` on, and have what is played fetched.
fn hooked() -> Settings {
    let mut hooks = HookSettings { contract: Some(Contract::NginxRtmp), ..Default::default() };
    for event in [HookName::OnPublish, HookName::OnPlay] {
        hooks.urls[event.index()] = HookUrl::parse("http://h/").into_iter().collect();
    }
    let mut settings = settings(&[], &[]);
    settings.apps.get_mut("live").unwrap().hooks = Arc::new(hooks);
    settings
}

#[test]
fn a_stream_that_a_back_end_sends_on_is_pushed_as_long_as_its_publisher_may_come_back() {
    let mut rig = Rig::new(&[], &[]);
    rig.machine.configure(Arc::new(hooked()), rig.now);
    assert_eq!(rig.commands(), ["watch Apps({\"live\"})"]);
    assert_eq!(rig.forward("live/no", 1, None), NONE);
    // Whichever is heard of first.
    assert_eq!(rig.forward("live/show", 2, Some("rtmp://a/x/key")), NONE);
    assert_eq!(rig.name("live/show", Some(0), false), ["look 1 a:1935"]);
    assert_eq!(rig.looked_up(1), ["begin 1 on 0 push rtmp://a:1935/x key"]);
    rig.started(1);
    assert_eq!(rig.name("live/two", Some(1), false), NONE);
    assert_eq!(rig.forward("live/two", 3, Some("rtmp://b/x")), ["look 2 b:1935"]);
    assert_eq!(rig.looked_up(2), ["begin 2 on 1 push rtmp://b:1935/x two"]);
    // It is gone, and comes back, and is sent to the same place: what runs goes on.
    assert_eq!(rig.forward_over("live/show", 2), NONE);
    assert_eq!(rig.grace("live/show"), NONE);
    assert_eq!(rig.name("live/show", Some(0), false), NONE);
    assert_eq!(rig.forward("live/show", 4, Some("rtmp://a/x/key")), NONE);
    // It is taken over; the end of the one before is heard of late.
    let elsewhere = rig.forward("live/show", 5, Some("rtmp://c/x"));
    assert_eq!(elsewhere, ["end 1 on 0", "look 3 c:1935"]);
    assert_eq!(rig.forward_over("live/show", 4), NONE);
    assert_eq!(rig.forward("live/show", 6, None), NONE, "nobody had the order yet");
    assert_eq!(rig.state(), ["beginning"]);
    // The grace ends.
    assert_eq!(rig.forward_over("live/two", 3), NONE);
    assert_eq!(rig.grace("live/two"), NONE);
    assert_eq!(rig.name("live/two", None, false), ["end 2 on 1"]);
    assert_eq!(rig.name("live/two", Some(1), false), NONE);
}

#[test]
fn what_a_back_end_sends_on_is_bounded_and_ends_with_its_publisher_after_a_reload() {
    let mut rig = Rig::new(&[], &[]);
    let mut few = hooked();
    few.limits.outside_targets_max = 1;
    rig.machine.configure(Arc::new(few), rig.now);
    rig.name("live/one", Some(0), false);
    rig.name("live/two", Some(0), false);
    assert_eq!(rig.forward("live/one", 1, Some("rtmp://a/x")), ["look 1 a:1935"]);
    assert_eq!(rig.forward("live/two", 2, Some("rtmp://a/x")), NONE);
    let refused = rig.machine.failures.get(&(OutsideKind::Push, OutsideFault::Limit)).copied();
    assert_eq!(refused, Some(1));
    // Its own place is free for it.
    assert_eq!(rig.forward("live/one", 3, Some("rtmp://b/x")), ["look 2 b:1935"]);
    rig.looked_up(2);
    // No back end is asked any more; who is pushed goes on, and is followed by nobody.
    rig.machine.configure(Arc::new(settings(&[], &[])), rig.now);
    assert_eq!(rig.commands(), NONE);
    assert_eq!(rig.state(), ["beginning"]);
    assert_eq!(rig.forward_over("live/one", 3), ["end 2 on 0"]);
}

#[test]
fn a_stream_that_a_back_end_names_is_fetched_while_somebody_plays_it() {
    let mut rig = Rig::new(&[], &[]);
    rig.machine.configure(Arc::new(hooked()), rig.now);
    rig.commands();
    assert_eq!(rig.fetch("live/show", "rtmp://a/x"), NONE);
    assert_eq!(rig.name("live/show", None, true), ["look 1 a:1935"]);
    assert_eq!(rig.looked_up(1), ["begin 1 on 0 pull rtmp://a:1935/x show"]);
    rig.started(1);
    assert_eq!(rig.name("live/show", Some(0), true), NONE);
    // The next one is told of another place, where it is when this one ends.
    assert_eq!(rig.fetch("live/show", "rtmp://b/x/key"), NONE);
    assert_eq!(rig.state(), ["up"]);
    assert_eq!(rig.ended(1, OutsideFault::Lost), NONE);
    assert_eq!(rig.wait().1, ["look 2 b:1935"]);
    rig.looked_up(2);
    rig.started(2);
    assert_eq!(rig.name("live/show", Some(0), false), NONE);
    assert_eq!(rig.wait(), (10_000, vec!["end 2 on 0".to_owned()]));
    assert_eq!(rig.name("live/show", None, false), NONE);
    assert_eq!((rig.state(), rig.machine.next_due()), (vec![], None));
    assert_eq!(rig.name("live/show", None, true), NONE, "nobody says where it is");
    // One that was refused a place never plays, and nothing is kept of it.
    assert_eq!(rig.fetch("live/never", "rtmp://a/x"), NONE);
    assert_eq!(rig.wait(), (10_000, vec![]));
    assert_eq!(rig.machine.next_due(), None);
}
