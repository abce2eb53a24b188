//! Pushes and pulls, from the node to itself: what comes back under another name is what went out,
//! and nothing is left when it ends. Whoever decides what runs is scripted.

use std::collections::BTreeMap;

use relay::limits::Limits;
use relay::reactor::sim::SimFaults;
use relay::worker::outside::{News, OutsideFault, OutsideKind, OutsideNews, OutsideOrder, Watch};
use relay::worker::report::Query;
use relay::worker::settings::Settings;

use super::node::{ANY_WORKER, on};
use super::player::Player;
use super::publisher::Plan;
use super::world::{World, millis, secs};

fn settings() -> Settings {
    let limits = Limits {
        stream_grace: secs(2),
        unsubscribe_linger: millis(500),
        tunnel_idle_timeout: secs(3),
        ..Limits::default()
    };
    Settings { limits, ..Settings::default() }
}

fn order(id: u64, kind: OutsideKind, names: (&str, &str), tunnelled: bool) -> OutsideOrder {
    let (here, there) = names;
    OutsideOrder {
        id,
        kind,
        name: format!("live/{here}").into(),
        address: on(ANY_WORKER),
        within: secs(5),
        tls: None,
        tunnel: tunnelled.then(|| "relay.test:80".to_owned()),
        app: "live".to_owned(),
        tc_url: "rtmp://relay.test/live".to_owned(),
        stream: there.to_owned(),
        enhanced: false,
        replaces: false,
        marks: "".into(),
    }
}

fn begin(world: &World, worker: usize, order: OutsideOrder) {
    world.node.stations[worker].handle.ask(Query::Outside(Box::new(order))).unwrap();
}

/// What became of orders so far: those that started and did not end, and how the others ended.
#[derive(Default)]
struct Told {
    up: Vec<u64>,
    ended: BTreeMap<u64, OutsideFault>,
    names: BTreeMap<String, (bool, bool)>,
}

impl Told {
    fn hear(&mut self, world: &World) {
        while let Some(news) = world.node.shared.news().take() {
            match news {
                News::Name(news) => {
                    let how = (news.live.is_some(), news.wanted);
                    assert!(news.live.is_none() || !news.grace);
                    self.names.insert(news.name.to_string(), how);
                }
                News::Anew => self.names.clear(),
                News::Ordered(order) => panic!("{order:?} without a cluster"),
                News::Forward { .. } | News::ForwardOver(_) | News::Fetch { .. } => {}
                News::Outside { id, what: OutsideNews::Started { .. }, .. } => self.up.push(id),
                News::Outside { what: OutsideNews::Reconnect { .. }, .. } => {}
                News::Outside { id, what: OutsideNews::Ended(end), .. } => {
                    self.up.retain(|up| *up != id);
                    assert_eq!(self.ended.insert(id, end.fault), None, "order {id} ended twice");
                }
            }
        }
    }
}

/// A publisher, players of its stream, and players of what a push and a pull made of it.
fn rig(seed: u64, workers: usize, tunnelled: bool, told: &mut Told) -> World {
    let mut world = World::new(seed, settings(), workers, 16_000);
    let watch = Watch::Everything;
    world.node.stations[0].handle.ask(Query::Watch(watch)).unwrap();
    world.publish(0, Some(0), Plan::default());
    for name in ["s0", "pushed", "pulled"] {
        for _ in 0..2 {
            let player = world.add_player(0, None);
            world.players[player].name = name.to_owned();
            world.players[player].begin(&world.net);
        }
    }
    world.run(millis(700));
    told.hear(&world);
    assert_eq!(told.names.get("live/s0"), Some(&(true, true)), "seed {seed}");
    assert_eq!(told.names.get("live/pushed"), Some(&(false, true)), "seed {seed}");
    let last = workers - 1;
    begin(&world, last, order(1, OutsideKind::Push, ("s0", "pushed"), tunnelled));
    begin(&world, last, order(2, OutsideKind::Pull, ("pulled", "s0"), tunnelled));
    world
}

#[test]
fn what_is_pushed_and_pulled_is_what_was_published() {
    for seed in 0..24 {
        let workers = 1 + usize::try_from(seed % 3).unwrap();
        let mut told = Told::default();
        let mut world = rig(seed, workers, seed % 2 == 0, &mut told);
        world.net.set_faults(SimFaults {
            partial_read: 0.2,
            partial_write: 0.2,
            delay_max: millis([0, 20][usize::try_from(seed % 2).unwrap()]),
            ..SimFaults::default()
        });
        world.under_way();
        world.run(secs(3));
        world.net.set_faults(SimFaults::default());
        world.catch_up();
        told.hear(&world);
        told.up.sort_unstable();
        assert_eq!((told.up.as_slice(), told.ended.len()), (&[1, 2][..], 0), "seed {seed}");
        assert_eq!(told.names.get("live/pulled"), Some(&(true, true)), "seed {seed}");
        world.end(secs(8));
        told.hear(&world);
        assert_eq!(told.ended.get(&1), Some(&OutsideFault::Ended), "seed {seed}");
        assert_eq!(told.ended.get(&2), Some(&OutsideFault::ServerEnded), "seed {seed}");
    }
}

#[test]
fn an_order_that_is_taken_back_leaves_nothing() {
    for seed in 0..12 {
        let mut told = Told::default();
        let mut world = rig(seed, 2, seed % 2 == 0, &mut told);
        // Before the connections are there, while they begin, and while the streams flow.
        world.run(millis([0, 1, 50, 2_000][usize::try_from(seed % 4).unwrap()]));
        for id in [1, 2] {
            world.node.stations[1].handle.ask(Query::EndOutside(id)).unwrap();
        }
        world.run(secs(2));
        told.hear(&world);
        let ended: Vec<_> = told.ended.values().copied().collect();
        assert_eq!(ended, [OutsideFault::Stopped; 2], "seed {seed}");
        assert_eq!(told.up, [0; 0], "seed {seed}");
        world.end(secs(8));
    }
}

#[test]
fn connections_that_fail_end_their_orders_once() {
    let mut faults = BTreeMap::new();
    for seed in 0..40 {
        let mut told = Told::default();
        let mut world = rig(seed, 2, seed % 2 == 0, &mut told);
        world.net.set_faults(SimFaults { connect_fail: 0.3, reset: 0.02, ..SimFaults::default() });
        world.run(secs(4));
        world.net.set_faults(SimFaults::default());
        world.end(secs(40));
        told.hear(&world);
        assert_eq!(told.ended.keys().copied().collect::<Vec<_>>(), [1, 2], "seed {seed}");
        for fault in told.ended.values() {
            *faults.entry(*fault).or_insert(0) += 1;
        }
    }
    for fault in [OutsideFault::Dial, OutsideFault::Lost] {
        assert!(faults.get(&fault).is_some_and(|count| *count > 3), "{faults:?}");
    }
}

#[test]
fn a_publisher_takes_the_name_of_a_pull_and_a_pull_takes_nobodys() {
    let mut told = Told::default();
    let mut world = rig(3, 2, false, &mut told);
    world.under_way();
    // A second pull of the same name is refused, and the first goes on.
    begin(&world, 0, order(3, OutsideKind::Pull, ("pulled", "s0"), false));
    world.run(secs(3));
    told.hear(&world);
    assert_eq!(told.ended.get(&3), Some(&OutsideFault::NameTaken));
    // One that is to take its place does, from its own first key frame on: who looks on sees what
    // was before that again, and is no judge of it.
    world.players[4..].iter_mut().for_each(Player::leave);
    let mut instead = order(4, OutsideKind::Pull, ("pulled", "s0"), false);
    instead.replaces = true;
    begin(&world, 0, instead);
    world.run(secs(3));
    told.hear(&world);
    assert_eq!(told.ended.get(&2), Some(&OutsideFault::Takeover));
    assert!(told.up.contains(&4) && told.up.contains(&1));
    // A push of what nobody publishes ends at once.
    begin(&world, 0, order(5, OutsideKind::Push, ("nothing", "nowhere"), false));
    world.run(secs(2));
    told.hear(&world);
    assert_eq!(told.ended.get(&5), Some(&OutsideFault::Ended));
    world.end(secs(8));
}
