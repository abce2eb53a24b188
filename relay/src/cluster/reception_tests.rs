//! The way that a stream says it has come: one that leads through this node is not taken, whatever
//! its origin placed.

use super::super::hello::{Credentials, Secret};
use super::super::identity::Identity;
use super::super::machine::Cluster;
use super::super::settings::Settings;
use super::*;
use crate::limits::Limits;

const ME: NodeKey = NodeKey(1);
const PARENT: NodeKey = NodeKey(2);
const THIRD: NodeKey = NodeKey(3);
const TERM: Term = Term { epoch: 7, origin: NodeKey(9) };
const NOW: Duration = Duration::from_secs(1);

fn node() -> Cluster {
    let identity =
        Identity { name: "me".into(), key: ME, started: 1, zone: "".into(), link_port: 11_935 };
    let secret = Secret::new(b"sixteen bytes or more").expect("long enough");
    Cluster::new(Settings {
        credentials: Arc::new(Credentials { identity, secret, versions: 1..=1 }),
        limits: Arc::new(Limits::default()),
        fanout_max: 2,
        doors: Arc::default(),
        operators: None,
        link_linger: Duration::from_secs(1),
        seed: [3; 32],
    })
}

/// A stream with a player, whose origin named `PARENT`.
fn placed(cluster: &mut Cluster) -> Reception {
    let mut reception = Reception::default();
    let (_, mut ctx) = cluster.split(NOW);
    reception.set_players(true, NOW);
    let name = "live/show".into();
    assert!(reception.settle(&name, Some(TERM), false, &mut ctx));
    reception.parent(TERM, 1, Some(PARENT), NOW);
    reception
}

/// What is said of streams and their links.
fn said(cluster: &mut Cluster) -> Vec<Command> {
    let all = std::iter::from_fn(|| cluster.next_command());
    all.filter(|said| matches!(said, Command::Adopt { .. } | Command::Drop { .. })).collect()
}

#[test]
fn a_parent_whose_stream_came_through_this_node_is_not_taken() {
    let paths: [(&[NodeKey], bool); 4] = [
        (&[TERM.origin, PARENT], true),
        (&[TERM.origin, THIRD, PARENT], true),
        (&[TERM.origin, ME, PARENT], false),
        (&[ME, PARENT], false),
    ];
    for (path, taken) in paths {
        let mut cluster = node();
        let mut reception = placed(&mut cluster);
        let name: Arc<str> = "live/show".into();
        let (_, mut ctx) = cluster.split(NOW);
        reception.fed(&name, PARENT, TERM, path.into(), &mut ctx);
        reception.settle(&name, Some(TERM), false, &mut ctx);
        assert_eq!(reception.from(), taken.then_some(PARENT), "{path:?}");
        let adopted = Command::Adopt { name: Arc::clone(&name), from: PARENT, term: TERM };
        assert_eq!(said(&mut cluster), taken.then_some(adopted).as_slice(), "{path:?}");
    }
}

#[test]
fn a_source_whose_way_comes_to_lead_through_this_node_is_dropped_and_counted() {
    let mut cluster = node();
    let mut reception = placed(&mut cluster);
    let name: Arc<str> = "live/show".into();
    let (_, mut ctx) = cluster.split(NOW);
    reception.fed(&name, PARENT, TERM, [TERM.origin, PARENT].into(), &mut ctx);
    reception.settle(&name, Some(TERM), false, &mut ctx);
    assert_eq!(reception.from(), Some(PARENT));
    // It comes another way, which is no circle.
    let way: Path = [TERM.origin, THIRD, PARENT].into();
    assert!(reception.fed(&name, PARENT, TERM, Arc::clone(&way), &mut ctx));
    assert_eq!((reception.path(), ctx.out.counters.loops_refused), (Some(&way), 0));
    // And now it would go round.
    reception.fed(&name, PARENT, TERM, [TERM.origin, ME, PARENT].into(), &mut ctx);
    assert_eq!((reception.from(), ctx.out.counters.loops_refused), (None, 1));
    // Its origin is asked for another parent.
    let pleas = ctx.out.counters.pleas;
    reception.settle(&name, Some(TERM), false, &mut ctx);
    assert_eq!(ctx.out.counters.pleas, pleas + 1);
    let dropped = Command::Drop { name, from: PARENT };
    assert_eq!(said(&mut cluster).last(), Some(&dropped));
}
