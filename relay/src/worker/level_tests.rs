//! Workers in a closed loop: what they ask for decides what they work, by the cost of sends as it
//! was measured, and that decides what they ask for.

use super::*;
use crate::worker::flow::{Flow, Load, Totals};

/// From one look to the next.
const TICK: Duration = Duration::from_millis(100);

/// Streams are measured in every fifth look.
const OBSERVED: u32 = 5;

/// A stream as it is published.
#[derive(Clone, Copy)]
struct Published {
    messages: f64,
    bytes: f64,
}

/// 2.5 Mbit/s with 50 pictures and 46 pieces of audio a second.
const USUAL: Published = Published { messages: 96.0, bytes: 312_500.0 };

/// 300 kbit/s.
const SMALL: Published = Published { messages: 60.0, bytes: 37_500.0 };

/// One stream on one worker.
struct Part {
    published: Published,
    players: usize,
    readers: usize,
    fixed: Option<Duration>,
    flow: Flow,
    sent: [f64; 3],
}

/// One worker: what it has to do, and how fast its machine is.
struct Bench {
    controller: Controller,
    parts: Vec<Part>,
    /// Work besides sends, as a share of the time.
    other: f64,
    /// By how much its sends are cheaper or dearer than those measured.
    speed: f64,
    steps: Vec<(Duration, Step)>,
    busy: f64,
}

impl Bench {
    fn new(parts: &[(Published, usize)], speed: f64) -> Self {
        let part = |&(published, players): &(Published, usize)| Part {
            published,
            players,
            readers: 0,
            fixed: None,
            flow: Flow::default(),
            sent: [0.0; 3],
        };
        Self {
            controller: Controller::default(),
            parts: parts.iter().map(part).collect(),
            other: 0.02,
            speed,
            steps: Vec::new(),
            busy: 0.0,
        }
    }

    fn level(&self, part: usize) -> Duration {
        let part = &self.parts[part];
        part.fixed.unwrap_or(self.controller.step().level(part.flow.is_low()))
    }

    /// Lets one tick pass at these levels, then looks.
    fn tick(&mut self, tick: u32, levels: &[Duration], noise: f64) {
        let now = TICK * tick;
        let seconds = TICK.as_secs_f64();
        let mut work = self.other;
        for (part, level) in self.parts.iter_mut().zip(levels) {
            let Published { messages, bytes } = part.published;
            let seals = messages / (1.0 + messages * level.as_secs_f64());
            let send = 5.2 + 0.2 * bytes / seals / 1_024.0;
            let sends = seals * part.players as f64;
            let mailed = seals * (1 + part.readers) as f64;
            work += (sends * send * self.speed + mailed) / 1e6;
            for (sum, rate) in part.sent.iter_mut().zip([messages, seals, bytes]) {
                *sum += rate * seconds;
            }
            if tick.is_multiple_of(OBSERVED) {
                let [messages, segments, bytes] = part.sent.map(whole);
                part.flow.observe(now, Totals { messages, segments, bytes });
            }
        }
        self.busy = (work * noise).min(1.0);
        self.controller.worked(TICK.mul_f64(self.busy));
        let loads = self.parts.iter().map(|part| Load {
            flow: &part.flow,
            players: part.players,
            readers: part.readers,
            fixed: part.fixed.is_some(),
        });
        if self.controller.look(now, || Estimate::of(loads)) {
            self.steps.push((now, self.controller.step()));
        }
    }

    /// Runs alone for so many seconds from tick `from` on.
    fn run(&mut self, from: u32, seconds: u32, random: &mut fastrand::Rng) -> u32 {
        let to = from + seconds * 10;
        for tick in from..to {
            let levels: Vec<_> = (0..self.parts.len()).map(|part| self.level(part)).collect();
            self.tick(tick, &levels, 0.9 + 0.2 * random.f64());
        }
        to
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[test]
fn a_worker_settles_where_its_load_belongs_and_stays() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut check = |name: &str, parts: &[(Published, usize)], expected: &[u8]| {
        for speed in [0.8, 1.0, 1.2] {
            let mut bench = Bench::new(parts, speed);
            let settled = bench.run(0, 20, &mut random);
            bench.steps.clear();
            let busy = bench.busy;
            bench.run(settled, 300, &mut random);
            let at = bench.controller.step().0;
            assert_eq!(bench.steps, [], "{name}, speed {speed}: it does not stay");
            assert!(expected.contains(&at), "{name}, speed {speed}: {at}, {busy} busy");
        }
    };
    check("nobody", &[(USUAL, 0)], &[0]);
    check("a few", &[(USUAL, 100)], &[0]);
    // 96 sends a second of 5.8 us each: 56 % of a core for a thousand.
    check("half of a core", &[(USUAL, 800)], &[0]);
    check("more than message by message", &[(USUAL, 1_500)], &[2]);
    check("more than at 20 ms", &[(USUAL, 4_000)], &[4]);
    check("more than a core", &[(USUAL, 20_000)], &[4]);
    check("many small streams", &[(SMALL, 30); 100], &[1, 3]);
    check("very many", &[(SMALL, 50); 100], &[3]);
    check("small streams go first", &[(SMALL, 2_000), (USUAL, 250)], &[1]);
}

#[test]
fn no_load_makes_it_oscillate() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let streams = random.usize(1..6);
        let parts: Vec<_> = (0..streams)
            .map(|_| {
                let published = Published {
                    messages: 20.0 + 100.0 * random.f64(),
                    bytes: 10_000.0 + 600_000.0 * random.f64(),
                };
                (published, random.usize(0..3_000) / streams)
            })
            .collect();
        let mut bench = Bench::new(&parts, 0.5 + 1.5 * random.f64());
        bench.other = 0.5 * random.f64();
        let mut tick = 0;
        // The load changes and stays for ten minutes, three times.
        for _ in 0..3 {
            for part in &mut bench.parts {
                part.players = part.players * random.usize(50..200) / 100;
            }
            tick = bench.run(tick, 300, &mut random);
            bench.steps.clear();
            tick = bench.run(tick, 600, &mut random);
            let ups = bench.steps.windows(2).filter(|pair| pair[0].1 > pair[1].1).count();
            assert!(
                bench.steps.len() <= 2 && ups == 0,
                "seed {seed}: {:?}, {} busy",
                bench.steps,
                bench.busy
            );
        }
    }
}

#[test]
fn an_estimate_that_is_wrong_for_good_is_tried_ever_more_rarely() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut bench = Bench::new(&[(USUAL, 1_500)], 1.0);
    let mut tick = bench.run(0, 20, &mut random);
    bench.steps.clear();
    // Sends cost almost nothing at 20 ms, and too much below.
    for _ in 0..6_000 {
        tick += 1;
        let levels = [bench.level(0)];
        bench.speed = if levels[0].is_zero() { 1.0 } else { 0.2 };
        bench.tick(tick, &levels, 1.0);
    }
    let changes = bench.steps.len();
    assert!((6..=20).contains(&changes), "{changes} changes in ten minutes: {:?}", bench.steps);
}

#[test]
fn an_idle_home_does_not_drown_a_busy_reader() {
    let mut random = fastrand::Rng::with_seed(4);
    let mut home = Bench::new(&[(USUAL, 3)], 1.0);
    home.parts[0].readers = 1;
    let mut reader = Bench::new(&[(USUAL, 4_000)], 1.0);
    let mut late = 0;
    for tick in 0..6_000 {
        let level = home.level(0).max(reader.level(0));
        let noise = 0.9 + 0.2 * random.f64();
        home.tick(tick, &[level], noise);
        reader.tick(tick, &[level], noise);
        late += u32::from(tick > 100 && reader.busy > 0.8);
    }
    assert_eq!(home.controller.step(), Step(0), "the home itself has nothing to do");
    assert_eq!(reader.controller.step(), Step(4));
    assert_eq!(late, 0);
    assert!(reader.steps.len() <= 3, "{:?}", reader.steps);
}

#[test]
fn who_is_relieved_by_another_asks_for_no_more_than_it_needs_itself() {
    let mut random = fastrand::Rng::with_seed(5);
    let mut one = Bench::new(&[(USUAL, 1_500)], 1.0);
    let mut other = Bench::new(&[(USUAL, 4_000)], 1.0);
    let mut together = |one: &mut Bench, other: &mut Bench, ticks: std::ops::Range<u32>| {
        for tick in ticks {
            let level = one.level(0).max(other.level(0));
            let noise = 0.9 + 0.2 * random.f64();
            one.tick(tick, &[level], noise);
            other.tick(tick, &[level], noise);
        }
    };
    together(&mut one, &mut other, 0..1_000);
    assert_eq!((one.controller.step(), other.controller.step()), (Step(2), Step(4)));
    other.parts[0].players = 10;
    together(&mut one, &mut other, 1_000..3_000);
    assert_eq!((one.controller.step(), other.controller.step()), (Step(2), Step(0)));
}

#[test]
fn it_goes_up_within_seconds_and_down_late() {
    let mut random = fastrand::Rng::with_seed(6);
    let mut bench = Bench::new(&[(USUAL, 5_000)], 1.0);
    let tick = bench.run(0, 3, &mut random);
    assert_eq!(bench.controller.step(), Step(4), "{:?}", bench.steps);
    bench.parts[0].players = 10;
    let tick = bench.run(tick, 5, &mut random);
    assert_eq!(bench.controller.step(), Step(4), "it waits for five seconds");
    bench.run(tick, 20, &mut random);
    assert_eq!(bench.controller.step(), Step(0), "{:?}", bench.steps);
}

#[test]
fn a_level_given_by_configuration_is_not_counted_on() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut bench = Bench::new(&[(USUAL, 3_000)], 1.0);
    bench.parts[0].fixed = Some(Duration::ZERO);
    bench.run(0, 60, &mut random);
    assert_eq!(bench.steps, [], "no step would save anything");
}

#[test]
fn time_that_does_not_pass_is_no_load() {
    let mut controller = Controller::default();
    for now in [0, 0, 0, 100, 100] {
        controller.worked(Duration::from_millis(1));
        assert!(!controller.look(Duration::from_millis(now), Estimate::default));
    }
    let busy = controller.busy.unwrap_or_default();
    assert!((0.009..0.04).contains(&busy), "{busy}");
}

#[test]
fn levels_rise_with_steps_and_low_rates_come_first() {
    for (lower, higher) in Step::all().zip(Step::all().skip(1)) {
        for low in [true, false] {
            assert!(lower.level(low) <= higher.level(low));
        }
        let changed = [true, false].map(|low| lower.level(low) != higher.level(low));
        let both = changed == [true, true];
        assert!(!both && changed != [false, false], "{lower:?}: one kind of stream at a time");
    }
    assert!(Step::all().all(|step| step.level(true) >= step.level(false)));
    assert_eq!(Step::LAST.level(false), LEVEL_2);
}
