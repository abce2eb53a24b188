//! Every limit of addresses, players, rates and sessions, reached by clients: who is over it is
//! told so or closed, and nobody else notices.

use std::time::Duration;

use relay::access::Rules;
use relay::limits::Limits;
use relay::wire::amf::Value;
use relay::wire::control::{ControlMessage, UserControl};
use relay::worker::labels::{CloseReason, Full, LimitUse, RefuseReason, Role, Transport};
use relay::worker::settings::{AppLimits, AppSettings, Exempt, IngestOver, Settings};

use crate::support::node::{Client, Node};
use crate::support::script::{Script, playing, publishing, publishing_as};

/// Settings under which everybody may publish and play.
fn open(limits: Limits) -> Settings {
    let (publish, play) = (Rules::everybody(), Rules::everybody());
    let other_apps = AppSettings { publish, play, ..AppSettings::default() };
    Settings { limits, other_apps, ..Settings::default() }
}

/// The same, with no address exempt.
fn with(limits: Limits) -> Settings {
    Settings { exempt: Exempt::Nobody, ..open(limits) }
}

fn refused(node: &Node, reason: RefuseReason) -> u64 {
    node.cells.refused.at(reason).get()
}

fn closed(node: &Node, role: Role, reason: CloseReason) -> u64 {
    node.cells.connections_closed.at((role, Transport::Rtmp, reason)).get()
}

fn used(node: &Node, limit: LimitUse) -> u64 {
    node.cells.limit_used.at(limit).get()
}

/// A client at an address that sends `script` and is given time for it.
fn from(node: &mut Node, host: &str, script: &Script) -> Client {
    let mut client = node.connect_from(host);
    client.send(&script.out);
    node.run(&mut [&mut client], 300);
    client
}

/// A player of `live/<name>`.
fn player_of(name: &str) -> Script {
    Script::plain().connect(&[("app", Value::text("live"))]).create_stream(4.0).play(1, name)
}

/// What a client was told last, of the commands on its message stream or connection.
fn last_status(client: &mut Client) -> String {
    client.said().into_iter().rfind(|line| line.contains("onStatus")).unwrap_or_default()
}

const KEY_FRAME: &[u8] = &[0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x65];

#[test]
fn connections_of_one_address_are_bounded_and_an_ipv6_network_is_one() {
    let check = |hosts: &[&str], others: &[&str]| {
        let limits = Limits { connections_per_address_max: 2, ..Limits::default() };
        let mut node = Node::with(with(limits));
        let mut kept: Vec<_> = hosts.iter().map(|host| node.connect_from(host)).collect();
        node.run(&mut kept.iter_mut().collect::<Vec<_>>(), 700);
        let ended = kept.iter().map(|client| client.ended).collect::<Vec<_>>();
        assert_eq!(ended, [false, false, true], "{hosts:?}");
        assert_eq!(refused(&node, RefuseReason::AddressConnections), 1);
        assert_eq!(used(&node, LimitUse::ConnectionsPerAddress), 2);
        for other in others {
            assert!(!from(&mut node, other, &playing()).ended, "{other}");
        }
        // Whoever goes makes room.
        kept.remove(0).close();
        node.run(&mut [], 50);
        assert!(!from(&mut node, hosts[2], &playing()).ended);
        assert_eq!(refused(&node, RefuseReason::AddressConnections), 1);
    };
    check(&["192.0.2.1", "192.0.2.1", "192.0.2.1"], &["192.0.2.2"]);
    check(&["2001:db8::1", "2001:db8::2:9", "2001:db8::3:0:7"], &["2001:db8:0:1::1", "192.0.2.1"]);
}

#[test]
fn a_flood_from_one_address_leaves_others_untouched() {
    let mut node = Node::with(with(Limits::default()));
    let mut publisher = from(&mut node, "192.0.2.10", &publishing());
    let mut player = from(&mut node, "192.0.2.11", &playing());
    let mut joined = Vec::new();
    let mut flood = Vec::new();
    for round in 0..50_u32 {
        flood.extend((0..100).map(|_| node.connect_from("203.0.113.9")));
        publisher.send(&Script::empty().video(round * 40, KEY_FRAME).out);
        node.run(&mut [&mut publisher, &mut player], 20);
        joined.push(from(&mut node, &format!("192.0.2.{}", 20 + round), &playing()));
    }
    node.run(&mut [&mut publisher, &mut player], 500);
    let turned_away = refused(&node, RefuseReason::AddressHandshakes)
        + refused(&node, RefuseReason::AddressConnections);
    // Of 5,000 within 16 s, a hundred came at once and a hundred each second.
    assert!((3_000..4_900).contains(&turned_away), "{turned_away}");
    assert!(joined.iter().all(|client| !client.ended));
    assert_eq!(player.media().len(), 50, "every frame came");
    assert_eq!(used(&node, LimitUse::Players), 51);
}

#[test]
fn exempt_addresses_are_not_judged() {
    let limits = Limits { connections_per_address_max: 1, ..Limits::default() };
    let settings = open(limits);
    assert_eq!(settings.exempt, Exempt::Private);
    let mut node = Node::with(settings);
    let mut kept = Vec::new();
    for host in ["10.0.0.7", "10.0.0.7", "fd00::1", "fd00::2", "203.0.113.1", "203.0.113.1"] {
        kept.push(from(&mut node, host, &playing()));
    }
    let ended: Vec<_> = kept.iter().map(|client| client.ended).collect();
    assert_eq!(ended, [false, false, false, false, false, true]);
}

/// A node with one player too many: what that one is told, and how it ends.
fn one_too_many(mut settings: Settings, overflow: &[&str], script: &Script) -> (Node, Vec<String>) {
    settings.overflow = overflow.iter().map(ToString::to_string).collect();
    let mut node = Node::with(settings);
    let mut publisher = node.client(&publishing());
    let mut player = node.client(&playing());
    let mut late = node.client(script);
    let said = late.said();
    node.run(&mut [&mut publisher, &mut player, &mut late], 1_500);
    assert!(late.ended, "who is refused is closed");
    assert!(!player.ended && !publisher.ended);
    (node, said)
}

#[test]
fn players_beyond_a_limit_are_refused_by_its_name() {
    let node_of = |limits: Limits| Settings { limits, ..Settings::default() };
    let own = |limits| AppSettings { limits, ..AppSettings::default() };
    let app = |limits| Settings { other_apps: own(limits), ..Settings::default() };
    for (settings, reason, limit, words) in [
        (
            node_of(Limits { players_max: 1, ..Limits::default() }),
            RefuseReason::NodePlayers,
            LimitUse::Players,
            "The server has as many players as it may",
        ),
        (
            node_of(Limits { players_per_app_max: 1, ..Limits::default() }),
            RefuseReason::AppPlayers,
            LimitUse::PlayersPerApp,
            "The application has as many players as it may",
        ),
        (
            app(AppLimits { players: Some(1), ..AppLimits::default() }),
            RefuseReason::AppPlayers,
            LimitUse::PlayersPerApp,
            "The application has as many players as it may",
        ),
        (
            app(AppLimits { players_per_stream: Some(1), ..AppLimits::default() }),
            RefuseReason::Players,
            LimitUse::PlayersPerStream,
            "The stream has as many players as it may",
        ),
    ] {
        let (node, said) = one_too_many(settings, &[], &playing());
        assert_eq!(refused(&node, reason), 1, "{words}");
        assert_eq!(used(&node, limit), 1, "{words}");
        let told: Vec<_> = said.iter().filter(|line| line.contains("onStatus")).collect();
        assert_eq!(told.len(), 1, "{said:?}");
        assert!(told[0].contains("NetStream.Play.Failed") && told[0].contains(words), "{told:?}");
        let full = node.cells.full.at(Full::Players).get();
        assert_eq!(full, u64::from(reason == RefuseReason::NodePlayers));
        assert_eq!(node.cells.players_redirected.get(), 0);
    }
}

#[test]
fn players_that_find_no_room_are_told_where_there_is_some() {
    let settings = || {
        let limits = Limits { players_max: 1, ..Limits::default() };
        Settings { limits, ..Settings::default() }
    };
    let other = ["rtmp://b.example:1936"];
    let script = |more: &[(&str, Value<'_>)]| {
        let mut properties =
            vec![("app", Value::text("live?sid=7")), ("tcUrl", Value::text("rtmp://h/live?sid=7"))];
        properties.extend(more.iter().cloned());
        Script::plain().connect(&properties).create_stream(4.0).play(1, "s?token=abc")
    };
    // Who announced nothing gets it in a way that SRS and Flash know, and a refusal in plain words.
    let (node, said) = one_too_many(settings(), &other, &script(&[]));
    let told: Vec<_> = said.iter().filter(|line| line.contains("onStatus")).collect();
    assert_eq!(told.len(), 2, "{said:?}");
    for part in [
        "3/0 onStatus",
        "code=NetConnection.Connect.Rejected",
        "code=302",
        "redirect=rtmp://b.example:1936/live?sid=7&sent_on=1",
        "redirect2=rtmp://b.example:1936/live/s?token=abc&sid=7&sent_on=1",
    ] {
        assert!(told[0].contains(part), "{part}: {told:?}");
    }
    let words =
        "The server has as many players as it may; play it from rtmp://b.example:1936/live/s";
    assert!(told[1].contains("NetStream.Play.Failed"), "{told:?}");
    assert!(told[0].contains(words) && told[1].contains(words), "{told:?}");
    assert!(!told[1].contains("token"), "{told:?}");
    assert_eq!(node.cells.players_redirected.get(), 1);

    // Who announced ReconnectRequest is asked that, and nothing that it would take for the end.
    let (node, said) = one_too_many(settings(), &other, &script(&[("capsEx", Value::Number(1.0))]));
    let told: Vec<_> = said.iter().filter(|line| line.contains("onStatus")).collect();
    assert_eq!(told.len(), 1, "{said:?}");
    assert!(told[0].contains("NetConnection.Connect.ReconnectRequest"), "{told:?}");
    assert!(told[0].contains("tcUrl=rtmp://b.example:1936/live?sid=7&sent_on=1"), "{told:?}");
    assert_eq!(node.cells.players_redirected.get(), 1);

    // Who was sent on already is refused, whichever part of its URL says so.
    for (app, name) in [("live?sent_on=1", "s"), ("live", "s?x=y&sent_on=1")] {
        let script = Script::plain().connect(&[("app", Value::text(app))]).create_stream(4.0);
        let (node, said) = one_too_many(settings(), &other, &script.play(1, name));
        assert!(!said.iter().any(|line| line.contains("b.example")), "{said:?}");
        assert_eq!(refused(&node, RefuseReason::NodePlayers), 1);
        assert_eq!(node.cells.players_redirected.get(), 0);
    }

    // The limits of an application and of a stream send on as well.
    for limits in [
        AppLimits { players: Some(1), ..AppLimits::default() },
        AppLimits { players_per_stream: Some(1), ..AppLimits::default() },
    ] {
        let other_apps = AppSettings { limits, ..AppSettings::default() };
        let settings = Settings { other_apps, ..Settings::default() };
        let (node, said) = one_too_many(settings, &other, &script(&[]));
        assert!(said.iter().any(|line| line.contains("b.example")), "{said:?}");
        assert_eq!(node.cells.players_redirected.get(), 1);
    }

    // Who is refused for another reason has no better luck elsewhere.
    let unknown = relay::worker::settings::UnknownStream::Reject;
    let other_apps = AppSettings { unknown_stream: unknown, ..AppSettings::default() };
    let settings = Settings { other_apps, ..Settings::default() };
    let (node, said) = one_too_many(settings, &other, &player_of("nobody"));
    assert!(!said.iter().any(|line| line.contains("redirect")), "{said:?}");
    assert_eq!(node.cells.players_redirected.get(), 0);
}

/// Runs a publisher of `bytes` in each of `frames` frames, 40 ms apart, beside these clients.
fn broadcast(
    node: &mut Node,
    publisher: &mut Client,
    others: &mut [&mut Client],
    frames: u32,
    bytes: usize,
) {
    for frame in 0..frames {
        let payload = [KEY_FRAME, &vec![0; bytes]].concat();
        publisher.send(&Script::empty().video(frame * 40, &payload).out);
        let mut clients = vec![&mut *publisher];
        clients.extend(others.iter_mut().map(|client| &mut **client));
        node.run(&mut clients, 40);
    }
}

#[test]
fn a_player_is_let_in_only_if_its_stream_fits_into_what_may_be_sent() {
    // A stream of 25 kB a second.
    let limits = Limits { egress_rate_max: 60_000, ..Limits::default() };
    let overflow = vec!["rtmp://b.example".to_owned()];
    let mut node = Node::with(Settings { limits, overflow, ..Settings::default() });
    let mut publisher = node.client(&publishing());
    broadcast(&mut node, &mut publisher, &mut [], 75, 1_000);
    let mut players = [node.connect(), node.connect(), node.connect()];
    for player in &mut players {
        player.send(&playing().out);
    }
    // The three ask at once, so none of them is in what is measured.
    let mut others: Vec<_> = players.iter_mut().collect();
    broadcast(&mut node, &mut publisher, &mut others, 25, 1_000);
    let told = players.each_mut().map(last_status);
    let refused_of = |told: &[String]| {
        told.iter().filter(|told| told.contains("The server sends as much as it may")).count()
    };
    assert_eq!((refused_of(&told), refused(&node, RefuseReason::Egress)), (1, 1), "{told:?}");
    assert!(told.iter().any(|told| told.contains("play it from rtmp://b.example/live/s")));
    assert_eq!(node.cells.players_redirected.get(), 1);
    assert_eq!(node.cells.full.at(Full::Egress).get(), 1, "not ready while players are refused");
    let mut others: Vec<_> = players.iter_mut().collect();
    broadcast(&mut node, &mut publisher, &mut others, 250, 1_000);
    assert_eq!(node.cells.full.at(Full::Egress).get(), 0);
    let sent = used(&node, LimitUse::EgressRate);
    assert!((45_000..60_000).contains(&sent), "{sent}");
    // Those that were let in are measured now, and there is still no room for one more.
    let mut late = node.connect();
    late.send(&playing().out);
    broadcast(&mut node, &mut publisher, &mut [&mut late], 10, 1_000);
    assert_eq!(refused_of(&[last_status(&mut late)]), 1);
    // When both have gone there is.
    players.into_iter().for_each(Client::close);
    broadcast(&mut node, &mut publisher, &mut [], 50, 1_000);
    let mut last = node.connect();
    last.send(&playing().out);
    broadcast(&mut node, &mut publisher, &mut [&mut last], 10, 1_000);
    assert!(last_status(&mut last).contains("NetStream.Play.Start"));
}

#[test]
fn a_session_ends_after_its_time_and_is_told_so() {
    let limits = Limits { session_max: Duration::from_secs(20), ..Limits::default() };
    let mut node = Node::with(Settings { limits, ..Settings::default() });
    let mut publisher = node.client(&publishing());
    let mut player = node.client(&playing());
    broadcast(&mut node, &mut publisher, &mut [&mut player], 450, 10);
    assert!(!publisher.ended && !player.ended);
    assert_eq!(used(&node, LimitUse::Session), 18);
    player.take();
    broadcast(&mut node, &mut publisher, &mut [&mut player], 75, 10);
    let words = "The session has lasted as long as it may";
    let told = last_status(&mut publisher);
    assert!(told.contains("NetStream.Publish.Rejected") && told.contains(words), "{told}");
    let told = last_status(&mut player);
    assert!(told.contains("NetStream.Play.Failed") && told.contains(words), "{told}");
    node.run(&mut [&mut publisher, &mut player], 1_500);
    assert!(publisher.ended && player.ended);
    for role in [Role::Publisher, Role::Player] {
        assert_eq!(closed(&node, role, CloseReason::Limit), 1, "{role:?}");
    }
}

#[test]
fn a_publisher_without_media_is_closed_though_it_sends_other_bytes() {
    let limits = Limits { publisher_idle_max: Duration::from_secs(40), ..Limits::default() };
    let mut node = Node::with(Settings { limits, ..Settings::default() });
    let mut idle = node.client(&publishing_as("idle"));
    let mut slow = node.client(&publishing_as("slow"));
    for _ in 0..9 {
        let ping = ControlMessage::UserControl(UserControl::PingRequest { time: 1 });
        idle.send(&Script::empty().control(ping).out);
        slow.send(&Script::empty().video(0, KEY_FRAME).out);
        node.run(&mut [&mut idle, &mut slow], 5_000);
    }
    assert!(idle.ended && !slow.ended);
    assert_eq!(closed(&node, Role::Publisher, CloseReason::Limit), 1);
    assert!(last_status(&mut idle).contains("no media for too long"));
}

#[test]
fn a_publisher_that_nobody_watches_is_closed_where_the_application_says_so() {
    let own = AppLimits { unwatched: Some(Duration::from_secs(10)), ..AppLimits::default() };
    let other_apps = AppSettings { limits: own, ..AppSettings::default() };
    let mut node = Node::with(Settings { other_apps, ..Settings::default() });
    let mut watched = node.client(&publishing_as("watched"));
    let mut player = node.client(&player_of("watched"));
    let mut alone = node.client(&publishing_as("alone"));
    for _ in 0..13 {
        for client in [&mut watched, &mut alone] {
            client.send(&Script::empty().video(0, KEY_FRAME).out);
        }
        node.run(&mut [&mut watched, &mut alone, &mut player], 1_000);
    }
    assert!(alone.ended && !watched.ended && !player.ended);
    assert!(last_status(&mut alone).contains("Nobody has played the stream for too long"));
    // Its last player goes: its time begins.
    player.close();
    for _ in 0..12 {
        watched.send(&Script::empty().video(0, KEY_FRAME).out);
        node.run(&mut [&mut watched], 1_000);
    }
    assert!(watched.ended);
}

fn ingest(over: IngestOver) -> Node {
    let own = AppLimits { ingest_rate: Some(10_000), ingest_over: over, ..AppLimits::default() };
    let other_apps = AppSettings { limits: own, ..AppSettings::default() };
    let limits = Limits { ingest_window: Duration::from_secs(4), ..Limits::default() };
    Node::with(Settings { limits, other_apps, ..Settings::default() })
}

#[test]
fn a_publisher_that_sends_too_much_is_closed() {
    let mut node = ingest(IngestOver::Close);
    let mut modest = node.client(&publishing_as("modest"));
    let mut greedy = node.client(&publishing_as("greedy"));
    // 8 and 20 kB a second: the second is over the window's 40 kB after four seconds.
    for second in 0..8_u32 {
        for (client, bytes) in [(&mut modest, 800), (&mut greedy, 2_000)] {
            let payload = [KEY_FRAME, &vec![0; bytes]].concat();
            for part in 0..10 {
                client.send(&Script::empty().video(second * 1_000 + part, &payload).out);
            }
        }
        node.run(&mut [&mut modest, &mut greedy], 1_000);
        assert!(second > 2 || !greedy.ended, "after {second} s");
    }
    assert!(greedy.ended && !modest.ended);
    assert!(last_status(&mut greedy).contains("The publisher sends more than it may"));
    assert_eq!(closed(&node, Role::Publisher, CloseReason::Limit), 1);
    // What comes in a burst counts over half a second.
    assert!(used(&node, LimitUse::IngestRate) < 17_000);
}

#[test]
fn each_stream_of_a_connection_goes_by_the_rate_of_its_own_application() {
    let app = |rate| {
        let limits = AppLimits { ingest_rate: Some(rate), ..AppLimits::default() };
        AppSettings { limits, ..AppSettings::default() }
    };
    let limits = Limits { ingest_window: Duration::from_secs(4), ..Limits::default() };
    for (wide, narrow, ends) in [(6_000, 800, false), (1_000, 2_000, true)] {
        let apps = [("wide", app(100_000)), ("narrow", app(10_000))];
        let apps = apps.map(|(name, app)| (name.to_owned(), app)).into();
        let mut node = Node::with(Settings { limits: limits.clone(), apps, ..Settings::default() });
        let both = Script::plain().connect_encoder("").create_stream(4.0).create_stream(5.0);
        let mut both = node.client(&both.publish(1, "wide/a").publish(2, "narrow/b"));
        for second in 0..8_u32 {
            for part in 0..10 {
                let time = second * 1_000 + part;
                let payload = |bytes| [KEY_FRAME, &vec![0; bytes]].concat();
                let sent = Script::empty().message(6, 1, time, 9, &payload(wide));
                both.send(&sent.message(7, 2, time, 9, &payload(narrow)).out);
            }
            node.run(&mut [&mut both], 1_000);
        }
        assert_eq!(both.ended, ends, "{wide} and {narrow} bytes ten times a second");
        assert_eq!(closed(&node, Role::Publisher, CloseReason::Limit), u64::from(ends));
    }
}

#[test]
fn a_publisher_that_sends_too_much_is_read_no_faster_than_it_may() {
    let mut node = ingest(IngestOver::Slow);
    let mut greedy = node.client(&publishing_as("greedy"));
    for second in 0..60_u32 {
        let payload = [KEY_FRAME, &vec![0; 5_000]].concat();
        for part in 0..10 {
            greedy.send(&Script::empty().video(second * 1_000 + part, &payload).out);
        }
        node.run(&mut [&mut greedy], 1_000);
    }
    assert!(!greedy.ended);
    let read = node.cells.ingest_bytes.at(Role::Publisher).get();
    // 60 s and the window, at 10 kB a second, and what one receive buffer holds.
    assert!((550_000..=720_000).contains(&read), "{read}");
    assert!(node.cells.publishers_slowed.get() > 0);
}

#[test]
fn new_settings_hold_from_then_on_and_end_nobody() {
    let mut node = Node::new();
    let mut publisher = node.client(&publishing());
    let mut players: Vec<_> = (0..3).map(|_| node.client(&playing())).collect();
    let limits = Limits {
        players_max: 2,
        streams_max: 1,
        session_max: Duration::from_secs(1),
        ..Limits::default()
    };
    node.go_by(Settings { limits, ..Settings::default() });
    let mut others: Vec<_> = players.iter_mut().collect();
    broadcast(&mut node, &mut publisher, &mut others, 100, 100);
    assert!(!publisher.ended && players.iter().all(|player| !player.ended));
    for player in &mut players {
        assert_eq!(player.media().len(), 100, "every frame came");
    }
    assert!(last_status(&mut node.client(&playing())).contains("as many players as it may"));
    let refused = last_status(&mut node.client(&publishing_as("other")));
    assert!(refused.contains("as many streams as it may"), "{refused}");
    node.go_by(Settings::default());
    assert!(last_status(&mut node.client(&playing())).contains("NetStream.Play.Start"));
}
