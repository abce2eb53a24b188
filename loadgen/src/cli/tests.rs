use super::*;
use crate::plan::Pace;

fn asked(line: &str) -> Result<Asked, Failure> {
    let arguments = line.split_whitespace().map(OsString::from);
    parse(std::iter::once(OsString::from("loadgen")).chain(arguments).collect())
}

fn plan(line: &str) -> Plan {
    match asked(line) {
        Ok(Asked::Run(plan)) => *plan,
        other => panic!("{line}: {other:?}"),
    }
}

const TARGET: &str = "--target rtmp://127.0.0.1/live/a";

#[test]
fn every_command_has_its_defaults() {
    let check = |line: &str, publishers: usize, players: usize, ramp_ms: u128| {
        let plan = plan(&format!("{line} {TARGET}"));
        assert_eq!((plan.publishers, plan.players), (publishers, players), "{line}");
        assert_eq!(plan.ramp.as_millis(), ramp_ms, "{line}");
    };
    check("publish", 1, 0, 1_000);
    check("publish --streams 200", 200, 0, 4_000);
    check("play --players 5k", 0, 5_000, 25_000);
    check("run", 1, 10, 1_000);
    check("run --streams 3", 3, 10, 1_000);
    check("run --publishers 4", 4, 10, 1_000);
    check("storm", 1, 100, 0);
    check("churn", 1, 50, 1_000);
    check("slow", 1, 20, 1_000);
    check("hostile", 1, 10, 1_000);
}

#[test]
fn options_reach_the_plan() {
    let plan = plan(&format!(
        "slow {TARGET} --streams 4 --publishers 2 --players 100 --bitrate 800k --fps 25 --gop 1s \
         --audio 64k --codec hevc --warmup 3s --ramp 5s --duration 1m --cores 3 --verify 10% \
         --reconnect --seed 9 --slow 30% --pace 25% --stopped 5% --expect gaps=0 --expect p99<1s \
         --legacy"
    ));
    assert_eq!((plan.streams, plan.publishers, plan.players, plan.cores), (4, 2, 100, 3));
    assert_eq!(
        (plan.profile.bits_per_second, plan.profile.audio_bits_per_second),
        (800_000, 64_000)
    );
    assert_eq!(plan.profile.gop_frames(), 25);
    assert_eq!(plan.length().as_secs(), 68);
    assert_eq!((plan.verify, plan.slow, plan.pace, plan.stopped), (0.1, 0.3, 0.25, 0.05));
    assert!(plan.reconnect && !plan.enhanced);
    assert_eq!((plan.seed, plan.expect.len()), (9, 2));
    let slow = plan.arrivals().iter().filter(|a| a.pace == Pace::Share(0.25)).count();
    assert_eq!(slow, 30);
}

#[test]
fn what_cannot_be_run_is_refused_in_one_sentence() {
    let check = |line: &str, part: &str| {
        let sentence = asked(line).unwrap_err().to_string();
        assert!(sentence.contains(part) && !sentence.contains('\n'), "{line}: {sentence}");
    };
    check("run", "--target");
    check("walk", "walk");
    check("run --target ftp://127.0.0.1/live", "is none of rtmp");
    check("run --target http://127.0.0.1/live", "can only be played");
    check(&format!("run {TARGET} --players many"), "many");
    check(&format!("run {TARGET} --speed 9"), "--speed");
    check(&format!("run {TARGET} --publishers 5 --streams 2"), "one stream has one publisher");
    check(&format!("run {TARGET} --publishers 0 --players 0"), "nothing to do");
    check(&format!("run {TARGET} --expect kept>=2"), "can never be met");
    check(&format!("run {TARGET} --bitrate 100k"), "leaves nothing for video");
    check(&format!("run {TARGET} --fps 0"), "--fps");
    check(&format!("run {TARGET} --duration 0s"), "measures nothing");
    check(&format!("run {TARGET} --file /nowhere.flv"), "/nowhere.flv");
    check(&format!("run {TARGET} --scenario /nowhere.toml"), "/nowhere.toml");
    check(&format!("slow {TARGET} --slow 80% --stopped 30%"), "more than all");
    check(&format!("hostile {TARGET} --attacks tickle"), "'tickle'");
    check(&format!("churn {TARGET} --stay 0s"), "no time at all");
    check(&format!("failover {TARGET} --duration 5s --at 5s"), "--at lies behind the end");
    check(&format!("failover {TARGET} --command-max soon"), "--command-max");
}

#[test]
fn failover_has_a_command_its_time_and_a_bound() {
    let of = |more: &str| plan(&format!("failover {TARGET} {more}")).failover.unwrap();
    let failover = of("--command reboot --at 2s --command-max 3s --fallback rtmp://127.0.0.2/live");
    assert_eq!(failover.command.as_deref(), Some("reboot"));
    assert_eq!((failover.at.as_secs(), failover.command_max.as_secs()), (2, 3));
    assert_eq!(failover.fallback.len(), 1);
    let usual = of("");
    assert_eq!((usual.command, usual.command_max.as_secs()), (None, 30));
}

#[test]
fn a_scenario_says_the_same() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "command = 'churn'\ntarget = 'rtmp://127.0.0.1/live/a'\nplayers = 7\nstay = '3s'\n";
    std::fs::write(file.path(), text).unwrap();
    let plan_of = |more: &str| plan(&format!("--scenario {} {more}", file.path().display()));
    let plan = plan_of("");
    assert_eq!((plan.command, plan.players, plan.stay.unwrap().as_secs()), ("churn", 7, 3));
    assert_eq!(plan_of("--players 9").players, 9);
    std::fs::write(file.path(), "command = 'churn'\nplayers 7").unwrap();
    let sentence = asked(&format!("--scenario {}", file.path().display())).unwrap_err().to_string();
    assert!(sentence.contains("line 2") && !sentence.contains('\n'), "{sentence}");
}

#[test]
fn help_is_a_text_and_names_every_option_group() {
    let Ok(Asked::Text(text)) = asked("run --help") else { panic!("no text") };
    for part in ["Target", "Publishing", "Playing", "Load", "Reports", "Examples"] {
        assert!(text.contains(part), "{part}");
    }
    assert!(matches!(asked("--version"), Ok(Asked::Text(_))));
    assert!(matches!(asked(""), Ok(Asked::Text(_))));
}
