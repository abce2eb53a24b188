//! The registrar's decisions, as scripts of requests and the mail that they cause.

use super::*;
use crate::reactor::ConnectionKey;

struct Table {
    registrar: Registrar,
    settings: Settings,
    now: Duration,
}

fn party(worker: WorkerIndex, connection: u64) -> Party {
    Party { worker, connection: ConnectionKey(connection), message_stream: 1 }
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

impl Table {
    fn new() -> Self {
        let limits = Limits { streams_max: 3, wanted_names_max: 3, ..Limits::default() };
        let settings = Settings { limits, ..Settings::default() };
        Self { registrar: Registrar::default(), settings, now: Duration::from_secs(100) }
    }

    fn ask(&mut self, request: Request) -> Vec<String> {
        let mut out = Vec::new();
        let mut send = |worker, mail| out.push(describe(worker, &mail));
        self.registrar.handle(request, self.now, &self.settings, &mut send);
        out
    }

    fn claim(&mut self, publisher: Party, from: u8) -> Vec<String> {
        let (name, address) = ("live/a".into(), address(from));
        let conflict = PublishConflict::Takeover;
        self.ask(Request::Claim { publisher, name, address, conflict, key: None })
    }

    fn want(&mut self, player: Party, name: &str, unknown: UnknownStream) -> Vec<String> {
        self.ask(Request::Want { player, name: name.into(), unknown, push: false })
    }

    fn yielded(&mut self, yielded: bool) -> Vec<String> {
        self.ask(Request::Yielded { stream: StreamId(1), yielded })
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        let mut out = Vec::new();
        let mut send = |worker, mail| out.push(describe(worker, &mail));
        self.registrar.tick(0, self.now, &self.settings, &mut send);
        out
    }
}

fn describe(worker: WorkerIndex, mail: &Mail) -> String {
    let Mail::Order(order) = mail else { panic!("the registrar sends orders, not {mail:?}") };
    let text = match order {
        Order::Grant { stream, publisher, fresh, .. } => {
            format!("grant {} to {} fresh={fresh}", stream.0, publisher.connection.0)
        }
        Order::Refuse { publisher, refusal } => {
            format!("refuse {} {refusal:?}", publisher.connection.0)
        }
        Order::Yield { to, if_silent, .. } => {
            format!("yield to {} if_silent={if_silent}", to.connection.0)
        }
        Order::Overtaken { publisher } => format!("{} is overtaken", publisher.connection.0),
        Order::Unwatched { publisher } => format!("{} is unwatched", publisher.connection.0),
        Order::Play { stream, player, home, .. } => {
            format!("play {} by {} home={home:?}", stream.0, player.connection.0)
        }
        Order::RefusePlay { player, why, .. } => {
            format!("no play for {}: {why:?}", player.connection.0)
        }
        Order::Appeared { stream, home } => format!("{} appeared at {home}", stream.0),
        Order::Ended { stream } => format!("{} ended", stream.0),
    };
    format!("{worker}: {text}")
}

#[test]
fn a_publisher_is_granted_and_its_readers_are_told() {
    let mut table = Table::new();
    assert_eq!(
        table.want(party(1, 7), "live/a", UnknownStream::Wait),
        ["1: play 1 by 7 home=None"]
    );
    let granted = table.claim(party(0, 5), 1);
    assert_eq!(granted, ["0: grant 1 to 5 fresh=true", "1: 1 appeared at 0"]);
    let known = table.want(party(1, 8), "live/a", UnknownStream::Reject);
    assert_eq!(known, ["1: play 1 by 8 home=Some(0)"]);
}

#[test]
fn an_unknown_name_is_refused_where_the_application_says_so() {
    let mut table = Table::new();
    let refused = table.want(party(1, 7), "live/b", UnknownStream::Reject);
    assert_eq!(refused, ["1: no play for 7: Unknown"]);
    assert_eq!(table.registrar.names(), 0);
}

#[test]
fn a_name_is_free_after_its_grace() {
    let mut table = Table::new();
    table.claim(party(0, 5), 1);
    table.want(party(1, 7), "live/a", UnknownStream::Wait);
    table.ask(Request::Release { stream: StreamId(1), publisher: party(0, 5) });
    assert!(table.pass(table.settings.limits.stream_grace - Duration::from_millis(1)).is_empty());
    assert_eq!(table.pass(Duration::from_millis(1)), ["1: 1 ended", "0: 1 ended"]);
    assert_eq!(table.registrar.names(), 0);
    assert_eq!(table.claim(party(0, 6), 1), ["0: grant 2 to 6 fresh=true"]);
}

#[test]
fn a_publisher_that_returns_in_its_grace_continues_the_log() {
    let mut table = Table::new();
    table.claim(party(0, 5), 1);
    table.ask(Request::Release { stream: StreamId(1), publisher: party(0, 5) });
    assert_eq!(table.claim(party(1, 6), 1), ["0: yield to 6 if_silent=false"]);
    assert!(table.pass(Duration::from_secs(100)).is_empty(), "no grace ends during a yield");
    assert_eq!(table.yielded(true), ["1: grant 1 to 6 fresh=false"]);
}

#[test]
fn a_release_by_somebody_else_is_ignored() {
    let mut table = Table::new();
    table.claim(party(0, 5), 1);
    table.ask(Request::Release { stream: StreamId(1), publisher: party(0, 4) });
    assert!(table.pass(Duration::from_secs(1000)).is_empty());
    assert_eq!(table.registrar.names(), 1);
}

#[test]
fn two_encoders_that_fight_end_with_one_of_them() {
    let mut table = Table::new();
    table.claim(party(0, 1), 1);
    assert_eq!(table.claim(party(0, 2), 2), ["0: yield to 2 if_silent=false"]);
    table.yielded(true);
    // The loser returns every second: refused, and every try renews the hold-off.
    for connection in 3..60 {
        table.pass(Duration::from_secs(1));
        let asked = table.claim(party(0, connection), 1);
        assert_eq!(asked, [format!("0: yield to {connection} if_silent=true")]);
        assert_eq!(table.yielded(false), [format!("0: refuse {connection} HeldOff")]);
    }
    // Long after, it may take over again; then the other one is held off, twice as long.
    table.pass(Duration::from_secs(11));
    assert_eq!(table.claim(party(0, 70), 1), ["0: yield to 70 if_silent=false"]);
    table.yielded(true);
    table.pass(Duration::from_secs(19));
    assert_eq!(table.claim(party(0, 71), 2), ["0: yield to 71 if_silent=true"]);
    // A holder that fell silent yields even so.
    assert_eq!(table.yielded(true), ["0: grant 1 to 71 fresh=false"]);
}

#[test]
fn an_encoder_that_comes_back_is_let_in_at_once() {
    let mut table = Table::new();
    table.claim(party(0, 1), 1);
    for connection in 2..5 {
        table.pass(Duration::from_secs(1));
        let asked = table.claim(party(0, connection), 1);
        assert_eq!(asked, [format!("0: yield to {connection} if_silent=false")]);
        table.yielded(true);
    }
    // Somebody else takes over, and may come back as well; who lost may not.
    assert_eq!(table.claim(party(0, 10), 2), ["0: yield to 10 if_silent=false"]);
    table.yielded(true);
    assert_eq!(table.claim(party(0, 11), 1), ["0: yield to 11 if_silent=true"]);
    table.yielded(false);
    let mut table = Table::new();
    table.claim(party(0, 1), 1);
    table.claim(party(0, 2), 2);
    table.yielded(true);
    for connection in 3..6 {
        let asked = table.claim(party(0, connection), 2);
        assert_eq!(asked, [format!("0: yield to {connection} if_silent=false")]);
        table.yielded(true);
        let lost = table.claim(party(0, 90), 1);
        assert_eq!(lost, ["0: yield to 90 if_silent=true"], "still held off");
        table.yielded(false);
    }
}

#[test]
fn encoders_behind_one_address_that_fight_end_with_one_of_them() {
    let mut table = Table::new();
    table.claim(party(0, 1), 1);
    for connection in 2..6 {
        let asked = table.claim(party(0, connection), 1);
        assert_eq!(asked, [format!("0: yield to {connection} if_silent=false")]);
        table.yielded(true);
    }
    for connection in 6..60 {
        table.pass(Duration::from_secs(1));
        let asked = table.claim(party(0, connection), 1);
        assert_eq!(asked, [format!("0: yield to {connection} if_silent=true")]);
        assert_eq!(table.yielded(false), [format!("0: refuse {connection} HeldOff")]);
    }
    // The next take-over doubles the hold-off.
    table.pass(Duration::from_secs(11));
    assert_eq!(table.claim(party(0, 70), 1), ["0: yield to 70 if_silent=false"]);
    table.yielded(true);
    table.pass(Duration::from_secs(19));
    assert_eq!(table.claim(party(0, 71), 1), ["0: yield to 71 if_silent=true"]);
    table.yielded(false);
    // After a quiet spell nothing of it is remembered.
    table.pass(Duration::from_secs(200));
    for connection in 80..83 {
        let asked = table.claim(party(0, connection), 1);
        assert_eq!(asked, [format!("0: yield to {connection} if_silent=false")]);
        table.yielded(true);
    }
}

#[test]
fn a_claim_under_way_outlives_a_grace_of_nothing() {
    let mut table = Table::new();
    table.settings.limits.stream_grace = Duration::ZERO;
    table.claim(party(0, 1), 1);
    table.claim(party(1, 2), 2);
    table.ask(Request::Release { stream: StreamId(1), publisher: party(0, 1) });
    assert!(table.pass(Duration::from_secs(1)).is_empty(), "somebody waits for an answer");
    assert_eq!(table.yielded(true), ["1: grant 1 to 2 fresh=false"]);
    table.ask(Request::Release { stream: StreamId(1), publisher: party(1, 2) });
    assert_eq!(table.pass(Duration::ZERO), ["1: 1 ended"]);
    // The same when the home says no: then the name is free.
    table.claim(party(0, 3), 1);
    table.claim(party(0, 4), 2);
    table.ask(Request::Release { stream: StreamId(2), publisher: party(0, 3) });
    let no = table.ask(Request::Yielded { stream: StreamId(2), yielded: false });
    assert_eq!(no, ["0: refuse 4 HeldOff"]);
    assert_eq!(table.pass(Duration::ZERO), ["0: 2 ended"]);
    assert_eq!(table.registrar.names(), 0);
}

#[test]
fn claims_wait_while_a_yield_is_under_way() {
    let mut table = Table::new();
    table.claim(party(0, 1), 1);
    table.claim(party(0, 2), 2);
    assert!(table.claim(party(1, 3), 3).is_empty());
    let answer = table.yielded(true);
    assert_eq!(answer, ["0: grant 1 to 2 fresh=false", "0: yield to 3 if_silent=false"]);
    for connection in 10..10 + 16 - 1 {
        assert!(table.claim(party(1, connection), 3).is_empty());
    }
    assert_eq!(table.claim(party(1, 99), 3), ["1: refuse 99 Busy"]);
}

#[test]
fn a_second_publisher_is_refused_where_the_application_says_so() {
    let mut table = Table::new();
    table.claim(party(0, 1), 1);
    let request = Request::Claim {
        publisher: party(0, 2),
        name: "live/a".into(),
        address: address(2),
        conflict: PublishConflict::Reject,
        key: None,
    };
    assert_eq!(table.ask(request), ["0: refuse 2 Busy"]);
}

#[test]
fn wanted_names_are_bounded_and_unwanted_ones_forgotten() {
    let mut table = Table::new();
    for (n, name) in ["a", "b", "live/a"].iter().enumerate() {
        table.want(party(1, n as u64), name, UnknownStream::Wait);
    }
    let full = table.want(party(1, 9), "d", UnknownStream::Wait);
    assert_eq!(full, ["1: no play for 9: TooManyNames"]);
    // Players of made-up names keep no publisher out.
    assert_eq!(table.claim(party(0, 1), 1), ["0: grant 3 to 1 fresh=true", "1: 3 appeared at 0"]);
    // A published name no longer counts as wanted.
    assert_eq!(table.want(party(1, 9), "d", UnknownStream::Wait), ["1: play 4 by 9 home=None"]);
    table.ask(Request::Unwant { worker: 1, stream: StreamId(2) });
    assert_eq!(table.registrar.names(), 3);
    assert_eq!(table.want(party(1, 5), "e", UnknownStream::Wait), ["1: play 5 by 5 home=None"]);
}

#[test]
fn players_of_a_stream_are_bounded_over_all_workers() {
    let mut table = Table::new();
    table.settings.limits.players_per_stream_max = 2;
    table.claim(party(0, 5), 1);
    for (worker, connection) in [(0, 1), (1, 2)] {
        let answer = table.want(party(worker, connection), "live/a", UnknownStream::Wait);
        assert_eq!(answer, [format!("{worker}: play 1 by {connection} home=Some(0)")]);
    }
    let refused = table.want(party(2, 3), "live/a", UnknownStream::Wait);
    assert_eq!(refused, ["2: no play for 3: Full"]);
    // Another stream's players do not count, nor do those who left.
    table.ask(Request::Leave { stream: StreamId(9), push: false });
    assert_eq!(table.want(party(2, 3), "live/a", UnknownStream::Wait).len(), 1);
    table.ask(Request::Leave { stream: StreamId(1), push: false });
    let granted = table.want(party(2, 3), "live/a", UnknownStream::Wait);
    assert_eq!(granted, ["2: play 1 by 3 home=Some(0)"]);
}

#[test]
fn published_names_are_bounded() {
    let mut table = Table::new();
    let mut claim = |connection, name: &str| {
        let (name, conflict) = (name.into(), PublishConflict::Takeover);
        let publisher = party(0, connection);
        table.ask(Request::Claim { publisher, name, address: address(1), conflict, key: None })
    };
    for (n, name) in ["a", "b", "c"].iter().enumerate() {
        assert_eq!(claim(n as u64, name).len(), 1);
    }
    assert_eq!(claim(9, "d"), ["0: refuse 9 TooManyStreams"]);
    assert_eq!(claim(9, "a"), ["0: yield to 9 if_silent=false"]);
}

#[test]
fn a_key_publishes_so_many_names_and_may_come_back_for_its_own() {
    let mut table = Table::new();
    table.settings.limits.streams_max = 100;
    table.settings.limits.publishers_per_key_max = 2;
    let mut claim = |connection, name: &str, key: u8| {
        let (name, conflict) = (name.into(), PublishConflict::Takeover);
        let (publisher, key) = (party(0, connection), Some([key; 16]));
        table.ask(Request::Claim { publisher, name, address: address(1), conflict, key })
    };
    assert_eq!(claim(1, "a", 7), ["0: grant 1 to 1 fresh=true"]);
    assert_eq!(claim(2, "b", 7), ["0: grant 2 to 2 fresh=true"]);
    assert_eq!(claim(3, "c", 7), ["0: refuse 3 TooManyOfKey"]);
    assert_eq!(claim(3, "c", 8), ["0: grant 3 to 3 fresh=true"]);
    // A name that it has already is not one more; its take-over counts once.
    assert_eq!(claim(4, "a", 7), ["0: yield to 4 if_silent=false"]);
    let granted = table.ask(Request::Yielded { stream: StreamId(1), yielded: true });
    assert_eq!(granted, ["0: grant 1 to 4 fresh=false"]);
    assert_eq!(table.registrar.usage(table.now, &table.settings).of_key, 2);
    // What it gives up it may use again.
    table.ask(Request::Release { stream: StreamId(1), publisher: party(0, 4) });
    let (publisher, key) = (party(0, 5), Some([7; 16]));
    let (name, conflict) = ("d".into(), PublishConflict::Takeover);
    let claim = Request::Claim { publisher, name, address: address(1), conflict, key };
    assert_eq!(table.ask(claim), ["0: grant 4 to 5 fresh=true"]);
    assert_eq!(table.registrar.usage(table.now, &table.settings).of_key, 2);
}

#[test]
fn a_publisher_that_nobody_watches_is_told_after_its_time() {
    let mut table = Table::new();
    table.settings.limits.publisher_unwatched_max = Duration::from_secs(60);
    table.claim(party(0, 5), 1);
    let nearly = Duration::from_secs(59);
    assert!(table.pass(nearly).is_empty());
    // A player that comes and goes begins the time anew.
    table.want(party(1, 1), "live/a", UnknownStream::Wait);
    assert!(table.pass(nearly * 3).is_empty());
    table.ask(Request::Leave { stream: StreamId(1), push: false });
    assert!(table.pass(nearly).is_empty());
    assert_eq!(table.pass(Duration::from_secs(1)), ["0: 5 is unwatched"]);
    assert!(table.pass(nearly).is_empty(), "it is not told at every tick");
    table.ask(Request::Release { stream: StreamId(1), publisher: party(0, 5) });
    assert!(!table.pass(nearly * 3).contains(&"0: 5 is unwatched".to_owned()));
}

#[test]
fn players_are_bounded_by_application_by_node_and_by_what_is_sent() {
    let mut table = Table::new();
    table.settings.limits.wanted_names_max = 100;
    table.settings.limits.players_max = 3;
    let mut app = crate::worker::settings::AppSettings::default();
    app.limits.players = Some(2);
    table.settings.apps.insert("live".to_owned(), app);
    let want = |table: &mut Table, connection, name: &str| {
        let said = table.want(party(1, connection), name, UnknownStream::Wait).remove(0);
        said.rsplit(": ").next().unwrap_or_default().to_owned()
    };
    assert!(want(&mut table, 1, "live/a").starts_with("play"));
    assert!(want(&mut table, 2, "live/b").starts_with("play"));
    assert_eq!(want(&mut table, 3, "live/c"), "AppFull");
    assert!(want(&mut table, 4, "other/a").starts_with("play"));
    assert_eq!(want(&mut table, 5, "other/a"), "NodeFull");
    let usage = table.registrar.usage(table.now, &table.settings);
    assert_eq!((usage.players, usage.of_app, usage.of_stream), (3, 2, 1));
    assert!(usage.is_full && !usage.is_sending_all);
    table.ask(Request::Leave { stream: StreamId(1), push: false });
    assert!(want(&mut table, 6, "live/c").starts_with("play"));
    // A stream that ends takes its players with it.
    table.claim(party(0, 9), 1);
    table.ask(Request::Release { stream: StreamId(1), publisher: party(0, 9) });
    table.pass(Duration::from_secs(60));
    assert_eq!(table.registrar.usage(table.now, &table.settings).players, 3);
}

#[test]
fn players_that_came_just_now_count_for_what_is_sent() {
    let mut table = Table::new();
    table.settings.limits.egress_rate_max = 1_000;
    table.claim(party(0, 5), 1);
    table.ask(Request::Rate { stream: StreamId(1), rate: 300 });
    let mut came = 0;
    let mut crowd = |table: &mut Table| {
        let before = came;
        while table.want(party(1, came + 10), "live/a", UnknownStream::Wait)[0].contains("play 1") {
            came += 1;
        }
        came - before
    };
    assert_eq!(crowd(&mut table), 3);
    let full = |table: &Table| table.registrar.usage(table.now, &table.settings).is_sending_all;
    assert!(full(&table));
    // Two seconds later they are in what is measured, which is now told.
    table.now += Duration::from_secs(2);
    let sent = |table: &mut Table, egress| {
        table.registrar.tick(egress, table.now, &table.settings, &mut |_, _| {});
    };
    sent(&mut table, 900);
    assert_eq!(crowd(&mut table), 0);
    sent(&mut table, 650);
    assert_eq!(crowd(&mut table), 1);
    // Nobody is refused any more, and it does not send all: ready again.
    table.now += Duration::from_secs(6);
    sent(&mut table, 600);
    assert!(!full(&table));
    sent(&mut table, 1_000);
    assert!(full(&table));
}

/// A link from another node claims the name.
fn claim_link(table: &mut Table, publisher: Party) -> Vec<String> {
    let mut out = Vec::new();
    let mut send = |worker, mail| out.push(describe(worker, &mail));
    let (name, settings) = ("live/a".into(), table.settings.clone());
    let term = Term { epoch: 7, origin: crate::cluster::NodeKey(9) };
    table.registrar.claim_link(publisher, &name, term, table.now, &settings, &mut send);
    out
}

#[test]
fn an_encoder_that_was_taken_over_on_another_node_is_held_off() {
    let mut table = Table::new();
    table.claim(party(0, 1), 1);
    let limits = table.settings.limits.clone();
    table.registrar.overtaken("live/a", table.now, &limits);
    table.ask(Request::Release { stream: StreamId(1), publisher: party(0, 1) });
    assert_eq!(claim_link(&mut table, party(1, 50)), ["0: yield to 50 if_silent=false"]);
    assert_eq!(table.yielded(true), ["1: grant 1 to 50 fresh=false"]);
    assert_eq!(table.claim(party(0, 2), 1), ["1: yield to 2 if_silent=true"]);
    assert_eq!(table.yielded(false), ["0: refuse 2 HeldOff"]);
    // Whoever else comes takes over.
    assert_eq!(table.claim(party(0, 3), 2), ["1: yield to 3 if_silent=false"]);
}

#[test]
fn a_link_does_not_follow_a_publisher_that_came_before_its_turn() {
    let mut table = Table::new();
    claim_link(&mut table, party(0, 50));
    assert_eq!(table.claim(party(0, 1), 1), ["0: yield to 1 if_silent=false"]);
    assert!(claim_link(&mut table, party(1, 51)).is_empty(), "it waits");
    assert_eq!(table.yielded(true), ["0: grant 1 to 1 fresh=false"], "and nobody after it");
    assert_eq!(table.claim(party(0, 2), 2), ["0: yield to 2 if_silent=false"]);
}
