//! The machine of one node among several, as scripts.

use super::*;
use crate::worker::outside::{NodeKey, Order, OrderId, OrderText};

#[test]
fn what_another_node_pulled_is_taken_over_a_moment_after_it_is_gone() {
    let mut rig = Rig::new(&[], &["show rtmp://a/x/key always", "rtmp://b/y/{name}"]);
    rig.commands();
    let tell = |rig: &mut Rig, name: &str, elsewhere: bool, wanted: bool| {
        let name = name.into();
        let news = NameNews { name, live: None, elsewhere, grace: false, wanted, marks: "".into() };
        rig.machine.hear(News::Name(news), rig.now);
        rig.commands()
    };
    // It was begun before anything was known of the other node, which then says that it has it.
    rig.looked_up(1);
    assert_eq!(rig.ended(1, OutsideFault::Elsewhere), NONE);
    assert_eq!(tell(&mut rig, "live/show", true, false), NONE);
    assert_eq!((rig.state(), rig.machine.next_due()), (vec![], None), "nothing is tried");
    assert!(rig.machine.is_elsewhere("live/show"));
    // Players come and go, and change nothing.
    assert_eq!(tell(&mut rig, "live/show", true, true), NONE);
    assert_eq!(tell(&mut rig, "live/show", true, false), NONE);
    // What is to be pulled for players only is forgotten without them.
    assert_eq!(tell(&mut rig, "live/other", true, false), NONE);
    assert!(!rig.machine.is_elsewhere("live/other"));
    assert_eq!(tell(&mut rig, "live/show", false, false), NONE);
    let (waited, commands) = rig.wait();
    assert!(waited <= 500, "{waited} ms");
    assert_eq!(commands, ["look 2 a:1935"]);
    // The first player of a stream that no node had waits for nobody.
    assert_eq!(tell(&mut rig, "live/other", false, true), ["look 3 b:1935"]);
}

#[test]
fn a_push_ends_when_its_publisher_has_come_to_another_node() {
    let mut rig = Rig::new(&["rtmp://a/x/key"], &[]);
    rig.name("live/show", Some(0), false);
    rig.looked_up(1);
    rig.started(1);
    let tell = |rig: &mut Rig, live: Option<usize>, elsewhere: bool| {
        let (name, grace) = ("live/show".into(), live.is_none());
        let news = NameNews { name, live, elsewhere, grace, wanted: false, marks: "".into() };
        rig.machine.hear(News::Name(news), rig.now);
        rig.commands()
    };
    assert_eq!(tell(&mut rig, Some(0), true), NONE, "it is pushed as long as it comes");
    assert_eq!(tell(&mut rig, None, false), NONE, "the publisher may come back");
    assert_eq!(tell(&mut rig, None, true), ["end 1 on 0"]);
    // It comes back here, and the other node may have to end its push first.
    assert_eq!(tell(&mut rig, Some(1), true), NONE);
    assert_eq!(tell(&mut rig, Some(1), false), NONE);
    assert_eq!(rig.wait(), (300, vec!["look 2 a:1935".to_owned()]));
    // Nobody else had this one.
    assert_eq!(rig.name("live/other", Some(0), false), ["look 3 a:1935"]);
}

#[test]
fn what_is_added_to_another_node_holds_here_too() {
    let mut rig = Rig::new(&[], &[]);
    rig.name("live/show", Some(0), false);
    let id = OrderId { number: 3, node: NodeKey(9) };
    let tell = |rig: &mut Rig, text: Option<&str>| {
        let text = text.map(|text| OrderText(text.into()));
        rig.machine.hear(News::Ordered(Order { id, text }), rig.now);
        rig.commands()
    };
    assert_eq!(tell(&mut rig, Some("fold live rtmp://a/x/y")), NONE);
    assert_eq!(tell(&mut rig, Some("push live rtmp://a/x/key")), ["watch Apps({\"live\"})"]);
    assert_eq!(rig.name("live/show", Some(0), false), ["look 1 a:1935"]);
    rig.looked_up(1);
    let shown: Vec<_> = rig.machine.added().map(|(id, _)| id.to_string()).collect();
    assert_eq!(shown, ["3-0000000000000009"]);
    assert_eq!(tell(&mut rig, None), ["watch Nothing", "end 1 on 0"]);
    assert_eq!(tell(&mut rig, None), NONE);
}

#[test]
fn a_pull_says_which_relays_wait_for_it_and_is_tried_again_when_it_leads_to_one() {
    let mut rig = Rig::new(&[], &["rtmp://a/x/{name}"]);
    rig.commands();
    let tell = |rig: &mut Rig, live: Option<usize>, marks: &str| {
        let (name, marks) = ("live/show".into(), marks.into());
        let (elsewhere, grace, wanted) = (false, false, true);
        rig.machine
            .hear(News::Name(NameNews { name, live, elsewhere, grace, wanted, marks }), rig.now);
        rig.commands()
    };
    let marks = |rig: &Rig| {
        let task = rig.machine.tasks.values().next().unwrap();
        task.current.as_ref().unwrap().marks.to_string()
    };
    assert_eq!(tell(&mut rig, None, ""), ["look 1 a:1935"]);
    rig.looked_up(1);
    rig.started(1);
    // A relay comes, and nothing has come from there: it may be waiting for us.
    assert_eq!(tell(&mut rig, None, "0a"), ["end 1 on 0", "look 2 a:1935"]);
    assert_eq!(marks(&rig), "0a");
    rig.looked_up(2);
    rig.ended(2, OutsideFault::Loop);
    assert_eq!(rig.state(), ["waiting"], "it may be no loop soon");
    assert!(rig.wait().0 <= 1_000);
    rig.looked_up(3);
    rig.started(3);
    // Once it flows, further relays change nothing.
    assert_eq!(tell(&mut rig, Some(0), "0a"), NONE);
    assert_eq!(tell(&mut rig, Some(0), "0a,0b"), NONE);
    assert_eq!(rig.state(), ["up"]);
}
