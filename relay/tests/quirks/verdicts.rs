//! Verdicts of back ends as a whole worker goes by them, the road to the back ends being full.

use std::sync::Arc;
use std::time::Duration;

use relay::access::Rules;
use relay::worker::hook_settings::{Contract, Fail, HookSettings, HookUrl};
use relay::worker::labels::{CloseReason, HookName, Label, Role, Transport};
use relay::worker::settings::{AppSettings, Settings};
use relay::worker::verdicts::{Answer, Call, Subject, Verdict};

use crate::support::node::{Client, Node};
use crate::support::script::publishing_as;

/// Calls that the road of a test's node holds.
const ROAD: usize = 16;

fn settings(lifetime: u64) -> Settings {
    let mut hooks = HookSettings {
        contract: Some(Contract::NginxRtmp),
        fail: Fail::Open,
        verdict_lifetime: Duration::from_secs(lifetime),
        ..HookSettings::default()
    };
    hooks.urls[HookName::OnPublish.index()] = vec![HookUrl::parse("http://h/").unwrap()];
    let other_apps =
        AppSettings { hooks: Arc::new(hooks), publish: Rules::hook(), ..AppSettings::default() };
    Settings { other_apps, ..Settings::default() }
}

/// Takes all calls off the road, and gives those that ask again.
fn taken(node: &Node) -> (usize, Vec<Call>) {
    let calls: Vec<Call> = std::iter::from_fn(|| node.shared.hooks().take()).collect();
    let count = calls.len();
    let again = |call: &Call| matches!(call.subject, Subject::Again { .. });
    (count, calls.into_iter().filter(again).collect())
}

/// The question that is put about a client again within so many milliseconds.
fn ask(node: &mut Node, client: &mut Client, within: u64) -> Option<Call> {
    node.run(&mut [client], within);
    let (_, mut again) = taken(node);
    assert!(again.len() <= 1, "it is asked about once at a time");
    again.pop()
}

#[test]
fn who_found_the_road_full_is_asked_about_later() {
    let mut node = Node::with(settings(5));
    let mut waiting: Vec<_> =
        (0..ROAD).map(|number| node.client(&publishing_as(&format!("w{number}")))).collect();
    assert!(!waiting.iter_mut().any(|client| client.said().concat().contains("Publish.Start")));
    // Nobody could be asked about this one.
    let mut client = node.client(&publishing_as("late"));
    assert!(client.said().concat().contains("NetStream.Publish.Start"));
    assert!(node.cells.hooks_overloaded.at(HookName::OnPublish).get() == 1);
    // Nor when its time is over.
    node.run(&mut [&mut client], 6_000);
    let (count, again) = taken(&node);
    assert_eq!((count, again.len()), (ROAD, 0));
    assert!(node.cells.hooks_overloaded.at(HookName::OnPublish).get() >= 2);
    // It is asked about as soon as there is room, and not a whole lifetime later.
    let call = ask(&mut node, &mut client, 5_500).expect("it was asked about");
    let Subject::Again { stream } = &call.subject else { unreachable!() };
    let answer = |verdict| Answer {
        id: call.client.id,
        key: call.client.key,
        number: stream.number,
        verdict,
    };
    // While the answer is out nobody asks anew; an answer that it may stay holds for its time.
    assert!(ask(&mut node, &mut client, 8_000).is_none());
    node.answer(answer(Verdict::Holds));
    assert!(ask(&mut node, &mut client, 4_000).is_none());
    assert!(ask(&mut node, &mut client, 2_000).is_some());
    node.answer(answer(Verdict::End));
    node.run(&mut [&mut client], 3_000);
    assert!(client.ended);
    let closed = (Role::Publisher, Transport::Rtmp, CloseReason::Hook);
    assert_eq!(node.cells.connections_closed.at(closed).get(), 1);
}

#[test]
fn a_reload_brings_a_lifetime_for_those_who_are_in() {
    let mut node = Node::with(settings(0));
    // Let in without a verdict, the road being full.
    let _waiting: Vec<_> =
        (0..ROAD).map(|number| node.client(&publishing_as(&format!("w{number}")))).collect();
    let mut client = node.client(&publishing_as("late"));
    taken(&node);
    node.run(&mut [&mut client], 10_000);
    assert_eq!(taken(&node).0, 0, "its verdict holds as long as it likes");
    node.go_by(settings(5));
    node.run(&mut [&mut client], 2_000);
    assert_eq!(taken(&node).1.len(), 1, "and is over by the new settings");
    node.go_by(Settings::default());
    node.run(&mut [&mut client], 12_000);
    assert_eq!(taken(&node).0, 0, "there is nobody to ask");
}
