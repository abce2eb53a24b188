//! What a pod of the StatefulSet does when what it is given is wrong: one sentence in its log, and
//! the probe that is to fail fails, and no other.

use std::time::Duration;

use serde_json::Value;

use crate::support::manifests::Source;
use crate::support::stateful::StatefulSet;
use crate::support::{START, Scratch, wait_for};

fn secret(name: &str) -> Source {
    Source::Secret(name.to_owned())
}

/// Starts a pod that ends by itself, with this exit code and one line of log for each mistake,
/// which has these words; its startup probe has never succeeded.
fn check_refusal(set: &mut StatefulSet, code: i32, mistakes: usize, words: &[&str]) {
    set.create(0);
    let mut pod = set.take(0);
    let status = pod.process.wait(START);
    let said = pod.process.said();
    assert_eq!(status.code(), Some(code), "{said}");
    assert!(!pod.is_started() && !pod.is_ready());
    let wrong = |line: &&str| line.contains("\"ERROR\"") || line.contains("\"error\"");
    let lines: Vec<&str> = said.lines().filter(wrong).collect();
    assert_eq!(lines.len(), mistakes, "one sentence for each: {said}");
    for line in lines {
        let line: Value = serde_json::from_str(line).expect("the log is JSON");
        let sentence = line["message"].as_str().expect("a sentence");
        for word in words {
            assert!(sentence.contains(word), "{word:?} is missing in {sentence}");
        }
    }
}

#[test]
fn what_a_pod_cannot_start_without_is_named_in_one_sentence() {
    let dir = Scratch::new();
    let mut set = StatefulSet::new(dir.path(), "production", 1);
    let good = set.files.clone();
    let mut check =
        |spoil: &dyn Fn(&mut StatefulSet), code: i32, mistakes: usize, words: &[&str]| {
            set.files = good.clone();
            spoil(&mut set);
            check_refusal(&mut set, code, mistakes, words);
        };
    let lacks = |of: &'static str, file: &'static str| {
        move |set: &mut StatefulSet| {
            set.files.get_mut(&secret(of)).unwrap().remove(file).unwrap();
        }
    };
    let holds = |of: &'static str, file: &'static str, text: &'static str| {
        move |set: &mut StatefulSet| text.clone_into(set.file(&secret(of), file))
    };
    check(&lacks("relay", "cluster"), 2, 1, &["/etc/relay/secrets/cluster", "No such file"]);
    check(&holds("relay", "cluster", "short"), 2, 1, &["/etc/relay/secrets/cluster", "16 bytes"]);
    check(
        &lacks("relay", "stream-keys"),
        2,
        1,
        &["/etc/relay/secrets/stream-keys", "No such file"],
    );
    check(&lacks("relay", "api-tokens"), 2, 1, &["/etc/relay/secrets/api-tokens", "No such file"]);
    check(&lacks("relay-tls", "tls.key"), 1, 1, &["/etc/relay/tls/tls.key", "No such file"]);
    check(&holds("relay-tls", "tls.crt", "nothing"), 1, 1, &["/etc/relay/tls/tls.crt"]);
    // Without fsGroup files belong to root alone.
    check(&|set: &mut StatefulSet| set.manifests.forget_group(), 2, 3, &["Permission denied"]);
}

#[test]
fn a_pod_whose_cluster_has_no_name_yet_is_alive_and_not_ready() {
    let dir = Scratch::new();
    let mut set = StatefulSet::new(dir.path(), "test", 1);
    set.create(0);
    set.net.list(0, false);
    wait_for("its startup probe", START, || set.pod(0).is_started().then_some(()));
    std::thread::sleep(Duration::from_secs(5));
    let (ready, live) = (set.pod(0).get("/readyz").unwrap(), set.pod(0).get("/livez").unwrap());
    assert_eq!((ready.status, live.status), (503, 200));
    assert_eq!(ready.body, "no name in cluster.peers can be looked up yet, such as relay:11935\n");
    assert!(!set.pod(0).is_ready() && !set.pod(0).is_killed());
    let said = set.pod(0).process.said();
    let lines = said.lines().filter(|line| line.contains("cannot be looked up")).count();
    assert_eq!(lines, 1, "{said}");
    set.net.list(0, true);
    wait_for("its readiness probe", Duration::from_secs(10), || {
        set.pod(0).is_ready().then_some(())
    });
}
