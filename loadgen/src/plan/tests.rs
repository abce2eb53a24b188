use super::*;
use crate::payload::VideoCodec;

fn plan(players: usize) -> Plan {
    let target = Target::parse("rtmp://127.0.0.1/live/a").unwrap();
    Plan {
        command: "run",
        publish_to: vec![target.clone()],
        play_from: vec![target],
        streams: 1,
        publishers: 1,
        players,
        profile: Arc::new(Profile {
            codec: VideoCodec::H264,
            bits_per_second: 1_000_000,
            frames_per_second: 30.0,
            gop: Duration::from_secs(1),
            audio_bits_per_second: 0,
        }),
        file: None,
        warmup: Duration::from_secs(1),
        ramp: Duration::from_secs(10),
        duration: Duration::from_secs(100),
        cores: 1,
        reactor: ReactorChoice::Auto,
        verify: 1.0,
        sweep: None,
        reconnect: false,
        tls: None,
        poll: None,
        enhanced: true,
        seed: 7,
        stay: None,
        slow: 0.0,
        pace: 0.5,
        stopped: 0.0,
        attackers: 0,
        attacks: Vec::new(),
        failover: None,
        checks: Checks::default(),
        expect: Vec::new(),
        part: (0, 1),
        begin: None,
        outputs: Outputs::default(),
    }
}

#[test]
fn players_come_evenly_over_the_ramp_and_stay_to_the_end() {
    let plan = plan(5);
    let arrivals = plan.arrivals();
    let times: Vec<_> = arrivals.iter().map(|arrival| arrival.at.as_millis()).collect();
    assert_eq!(times, [1_000, 3_000, 5_000, 7_000, 9_000]);
    assert!(arrivals.iter().all(|arrival| arrival.leaves == plan.length()));
}

#[test]
fn shares_are_met() {
    for (players, verify, slow, stopped, expected) in [
        (1_000, 0.1, 0.0, 0.0, (100, 0, 0)),
        (1_000, 1.0, 0.2, 0.1, (1_000, 200, 100)),
        (3, 0.01, 0.0, 0.0, (1, 0, 0)),
        (10, 0.0, 0.0, 0.0, (0, 0, 0)),
    ] {
        let plan = Plan { verify, slow, stopped, ..plan(players) };
        let arrivals = plan.arrivals();
        let count = |pick: &dyn Fn(&Arrival) -> bool| arrivals.iter().filter(|a| pick(a)).count();
        let found = (
            count(&|arrival| arrival.verifies),
            count(&|arrival| matches!(arrival.pace, Pace::Share(_))),
            count(&|arrival| arrival.pace == Pace::Stopped),
        );
        assert_eq!(found, expected, "{players} players");
    }
}

#[test]
fn churn_keeps_the_number_of_players_on_average_and_the_seed_decides() {
    let plan = Plan { stay: Some(Duration::from_secs(10)), ..plan(500) };
    let arrivals = plan.arrivals();
    assert_eq!(arrivals, plan.arrivals());
    assert_ne!(arrivals, Plan { seed: 8, ..plan.clone() }.arrivals());
    for second in [40, 60, 80] {
        let at = Duration::from_secs(second);
        let present = arrivals.iter().filter(|a| a.at <= at && a.leaves > at).count();
        // Poisson: the deviation is the square root of 500, 22; five of them.
        assert!(present.abs_diff(500) < 112, "{present} at {second} s");
    }
    assert!(arrivals.iter().all(|arrival| arrival.leaves <= plan.length()));
}
