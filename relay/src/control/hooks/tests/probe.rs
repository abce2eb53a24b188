//! Behind a breaker's pause one call decides; who asks meanwhile waits for it and shares its fate.

use std::sync::atomic::AtomicU8;

use super::*;

/// What the back end does.
const BREAKS: u8 = 0;
const HESITATES: u8 = 1;
const WORKS: u8 = 2;

const PAUSE: Duration = Duration::from_secs(1);

/// A back end that is left alone after one failure, and that may hold so many questions up.
async fn scene(fail: Fail, waiters_max: usize) -> (Scene, Arc<AtomicU8>) {
    let state = Arc::new(AtomicU8::new(BREAKS));
    let change = |settings: &mut HookSettings, limits: &mut Limits| {
        settings.breaker_failures = 1;
        settings.breaker_pause = PAUSE;
        settings.timeout = Some(Duration::from_secs(5));
        settings.concurrency = 3;
        settings.fail = fail;
        limits.hook_probe_waiters_max = waiters_max;
    };
    let now = Arc::clone(&state);
    let answers = Box::new(move |_: &str| {
        let answer = match now.load(Ordering::Relaxed) {
            BREAKS => BROKEN,
            HESITATES => LATER,
            _ => OK,
        };
        Some(answer.to_owned())
    });
    let scene = Scene::new(change, answers).await;
    // The breaker opens, and its pause goes by.
    let kept = if fail == Fail::Open { Verdict::Go { told: true } } else { Verdict::Failed };
    assert_eq!(scene.asked(1).await, kept);
    tokio::time::sleep(PAUSE + Duration::from_millis(20)).await;
    state.store(HESITATES, Ordering::Relaxed);
    (scene, state)
}

impl Scene {
    /// Asks so many times, of which only the first reaches the back end for now.
    async fn ask_while_it_hesitates(&self, numbers: std::ops::RangeInclusive<u64>) {
        for number in numbers {
            self.ask(number, true);
        }
        self.calls(2).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(self.requests.lock().len(), 2, "one call decides");
    }

    async fn answers(&self, count: usize) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        while verdicts.len() < count {
            verdicts.push(self.answer().await.verdict);
        }
        verdicts
    }
}

#[test]
fn who_waited_is_asked_about_when_the_server_works_again() {
    run(async {
        let (scene, state) = scene(Fail::Closed, 9).await;
        scene.ask_while_it_hesitates(2..=12).await;
        // One is the call that decides, nine wait, and there is no room for one more.
        assert_eq!(scene.answers(1).await, [Verdict::Failed]);
        assert_eq!(scene.counted(HookName::OnPublish, HookResult::Overload), 1);
        assert!(scene.inbox.next_answer().is_none());
        assert_eq!(scene.hooks.waiting_for_probe(), 9);
        state.store(WORKS, Ordering::Relaxed);
        let verdicts = scene.answers(10).await;
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Go { told: true }));
        assert_eq!((scene.requests.lock().len(), scene.hooks.waiting_for_probe()), (11, 0));
        assert_eq!(scene.counted(HookName::OnPublish, HookResult::Breaker), 0);
    });
}

#[test]
fn who_waited_shares_the_fate_of_a_call_that_fails() {
    fn check(fail: Fail, first: &Verdict, others: &Verdict) {
        run(async {
            let (scene, state) = scene(fail, 100).await;
            scene.ask_while_it_hesitates(2..=11).await;
            assert_eq!(scene.hooks.waiting_for_probe(), 9);
            state.store(BREAKS, Ordering::Relaxed);
            let verdicts = scene.answers(10).await;
            assert_eq!(
                verdicts.iter().filter(|verdict| *verdict == first).count(),
                if first == others { 10 } else { 1 }
            );
            assert!(verdicts.iter().all(|verdict| verdict == first || verdict == others));
            assert_eq!((scene.requests.lock().len(), scene.hooks.waiting_for_probe()), (2, 0));
            assert_eq!(scene.counted(HookName::OnPublish, HookResult::Breaker), 9);
            // And the next pause has begun.
            assert_eq!(scene.asked(12).await, *others);
            assert_eq!(scene.requests.lock().len(), 2);
        });
    }
    check(Fail::Closed, &Verdict::Failed, &Verdict::Failed);
    check(Fail::Open, &Verdict::Go { told: true }, &Verdict::Go { told: false });
}

#[test]
fn nobody_waits_longer_than_a_call_may_take() {
    run(async {
        let (scene, _state) = scene(Fail::Closed, 100).await;
        let begun = Instant::now();
        scene.ask_while_it_hesitates(2..=5).await;
        let verdicts = scene.answers(4).await;
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Failed));
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(6) && waited > Duration::from_secs(4), "{waited:?}");
    });
}
