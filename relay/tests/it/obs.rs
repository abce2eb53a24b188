//! OBS Studio, the publisher that matters most: streams, and comes back after a restart of the
//! relay.

use std::thread;
use std::time::Duration;

use crate::support::obs::Obs;
use crate::support::packets::{Recording, Role};
use crate::support::process::Process;
use crate::support::relay::{Options, Relay};
use crate::support::{Scratch, ffmpeg, wait_for};

/// OBS takes some seconds to come up, and more when other tests keep the cores busy.
const PUBLISH_MAX: Duration = Duration::from_secs(60);

const END_MAX: Duration = Duration::from_secs(30);

/// How long OBS streams before the relay restarts, and after it.
const STREAM: Duration = Duration::from_secs(20);

#[test]
fn obs_publishes_and_reconnects_by_itself_after_the_relay_restarts() {
    let scratch = Scratch::new("obs");
    let dir = scratch.path();
    let relay = Relay::start(dir, &Options::default());
    let address = relay.rtmp.to_string();
    let url = relay.url("obs");
    let mut obs = Obs::publish(dir, &format!("rtmp://{address}/live"), "obs");

    let mut before = record(&scratch, &relay, "before", &url);
    thread::sleep(STREAM);
    obs.process.must_run();
    let status = relay.terminate(END_MAX);
    assert!(status.success(), "the relay ended with {status}");
    before.wait(END_MAX);

    let relay = Relay::start(dir, &Options { rtmp: &address, ..Options::default() });
    let mut after = record(&scratch, &relay, "after", &url);
    thread::sleep(STREAM / 2);
    obs.process.must_run();
    drop(obs);
    after.wait(END_MAX);

    check(&scratch, "before", STREAM);
    check(&scratch, "after", STREAM / 2);
}

/// Waits until OBS publishes, then starts a player that records.
fn record(scratch: &Scratch, relay: &Relay, name: &str, url: &str) -> Process {
    wait_for("OBS to publish", PUBLISH_MAX, || {
        let publishers = relay.metrics().sum("relay_connections", &[("role", "publisher")]);
        (publishers == Some(1.0)).then_some(())
    });
    ffmpeg::record(scratch.path(), name, url, &scratch.file(&format!("{name}.flv")))
}

/// Checks that a recording of OBS is sound and lasts nearly as long as OBS streamed.
fn check(scratch: &Scratch, name: &str, length: Duration) {
    let recording = Recording::of_file(&scratch.file(&format!("{name}.flv")));
    assert_eq!(recording.check_monotonic(), Ok(()), "{name}");
    assert_eq!(recording.check_headers(&recording), Ok(()), "{name}");
    let coded = recording.coded();
    assert!(coded.iter().find(|packet| packet.kind == 9).is_some_and(|first| first.key), "{name}");
    for (kind, least_per_second) in [(8, 40), (9, 18)] {
        let times: Vec<u32> =
            coded.iter().filter(|packet| packet.kind == kind).map(|p| p.time_ms).collect();
        let (first, last) = (times[0], times[times.len() - 1]);
        let span = Duration::from_millis(u64::from(last - first));
        let wanted = length.mul_f64(0.8);
        assert!(span > wanted, "{name}: {span:?} of kind {kind} instead of {length:?}");
        let least = span.as_secs() * least_per_second;
        let count = u64::try_from(times.len()).unwrap();
        assert!(count > least, "{name}: {count} packets of kind {kind} in {span:?}");
    }
    let headers = recording.0.iter().filter(|packet| packet.role == Role::Header).count();
    assert!(headers >= 2, "{name}: {headers} sequence headers");
}
