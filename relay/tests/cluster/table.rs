//! One stream that everybody watches, on clusters of several sizes, as a table: how deep its tree
//! is, what each node carries, and how long it takes until all are served, at first and after
//! losses. `RELAY_CLUSTER_TABLE=1000` adds clusters of that size, which take minutes.

use std::time::Duration;

use relay::cluster::Conflict;

use super::world::World;

/// Time is told to this.
const STEP: Duration = Duration::from_millis(50);

const LONGEST: Duration = Duration::from_secs(30);

/// One line of the table.
#[derive(Debug)]
struct Row {
    nodes: usize,
    fanout_max: usize,
    /// Nodes that a message passes at most, the origin not counted.
    depth: usize,
    /// Nodes that feed others, and the most that one feeds.
    feeding: usize,
    most: usize,
    /// Messages that the origin was sent until all were served.
    asked: u64,
    /// From the publish to everybody's being served; the same after a node in the middle fell
    /// silent, and after the source died and its publisher came back elsewhere.
    first: Duration,
    silent: Duration,
    source: Duration,
}

fn took(world: &mut World, what: &str, served: impl Fn(&World) -> bool) -> Duration {
    let begun = world.now;
    while !served(world) {
        assert!(world.now - begun < LONGEST, "{what}: {:?}", world.unsettled());
        world.run(STEP);
    }
    world.now - begun
}

/// Whether every node that runs has what is published, those left out that are `gone`.
fn all_served(world: &World, gone: &[usize]) -> bool {
    let there = world.running().filter(|process| !gone.contains(&process.station.slot));
    let mut there = there.filter(|process| !process.publishers.contains_key(&0));
    there.all(|process| world.is_served(process, 0))
}

fn row(nodes: usize, fanout_max: usize) -> Row {
    let mut world = World::new(1, nodes, 1, fanout_max);
    (0..nodes).for_each(|slot| world.start(slot, true));
    world.relist();
    took(&mut world, "they meet", |world| {
        world.running().all(|process| process.cluster.connected() == nodes - 1)
    });
    (1..nodes).for_each(|slot| world.play(slot, 0, true));
    let received = |world: &World| {
        world.nodes[0].as_ref().map_or(0, |process| process.cluster.counters().received)
    };
    let before = received(&world);
    assert!(world.publish(0, 0, Conflict::Takeover));
    let first = took(&mut world, "all are served", |world| all_served(world, &[]));
    let asked = received(&world) - before;
    let feeds = || world.running().map(|process| process.feeds.len());
    let (feeding, most) = (feeds().filter(|feeds| *feeds > 0).count(), feeds().max().unwrap());
    let depth = world.deepest();
    let fed = |slot: &usize| !world.nodes[*slot].as_ref().unwrap().feeds.is_empty();
    let middle = (1..nodes).find(fed);
    let gone: Vec<usize> = middle.into_iter().collect();
    gone.iter().for_each(|slot| world.kill(*slot, true));
    // They are served until they notice.
    world.run(Duration::from_millis(500));
    let begun = Duration::from_millis(500);
    let silent = begun + took(&mut world, "mended", |world| all_served(world, &gone));
    world.kill(0, false);
    world.run(Duration::from_secs(2));
    let next = nodes - 1;
    assert!(world.publish(next, 0, Conflict::Takeover));
    let both = [&gone[..], &[0]].concat();
    let source = took(&mut world, "another source", |world| all_served(world, &both));
    Row { nodes, fanout_max, depth, feeding, most, asked, first, silent, source }
}

#[test]
fn one_stream_that_everybody_watches() {
    let mut sizes = vec![(8, 2), (32, 2), (32, 8), (100, 8)];
    if let Ok(nodes) = std::env::var("RELAY_CLUSTER_TABLE") {
        let nodes = nodes.parse().expect("how many nodes");
        sizes.extend([(nodes, 4), (nodes, 8), (nodes, 16)]);
    }
    println!("| nodes | fanout | depth | feeding | most fed | asked | first | silent | source |");
    for (nodes, fanout_max) in sizes {
        let row = row(nodes, fanout_max);
        let Row { nodes, fanout_max, depth, feeding, most, asked, first, silent, source } = &row;
        println!(
            "| {nodes} | {fanout_max} | {depth} | {feeding} | {most} | {asked} | {first:?} | \
             {silent:?} | {source:?} |"
        );
        // A tree that is as flat as it can be has this many levels.
        let (mut flat, mut reached, mut level) = (0, 1, 1);
        while reached < *nodes {
            level *= fanout_max;
            reached += level;
            flat += 1;
        }
        assert!(row.depth <= flat + 2, "{row:?}: it could be {flat} deep");
        assert!(row.most <= *fanout_max, "{row:?}");
        assert!(row.first < Duration::from_secs(5), "{row:?}");
        assert!(row.silent < Duration::from_secs(5) && row.source < Duration::from_secs(5));
    }
}
