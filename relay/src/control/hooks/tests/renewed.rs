//! Calls about streams that go on: what the worker hears of each answer, and of none.

use super::*;

/// A call about a stream that goes on, and what the worker hears of it.
#[track_caller]
fn check(
    strict: bool,
    subject: fn() -> Subject,
    answer: Option<&'static str>,
    expected: Option<Verdict>,
) {
    run(async {
        let change = |settings: &mut HookSettings, _: &mut Limits| {
            settings.update_strict = strict;
        };
        let answers = Box::new(move |_: &str| answer.map(str::to_owned));
        let scene = Scene::new(change, answers).await;
        scene.send(1, subject());
        scene.calls(1).await;
        scene.hooks.settle(PATIENCE).await;
        let verdict = scene.inbox.next_answer().map(|answer| answer.verdict);
        assert_eq!(verdict, expected, "{strict} {answer:?}");
        assert_eq!(scene.inbox.next_answer(), None);
    });
}

const REDIRECT: &str = "HTTP/1.0 302 Found\r\nLocation: x\r\n\r\n";

#[test]
fn an_update_ends_what_the_back_end_wants_ended() {
    let update = || {
        let (stream, time) = (Scene::stream(1, false), Duration::from_secs(30));
        Subject::Goes { stream, time, timestamp: 30_000 }
    };
    for strict in [false, true] {
        check(strict, update, Some(OK), Some(Verdict::Heard));
        check(strict, update, Some(NO), Some(Verdict::End));
        check(strict, update, Some(BROKEN), Some(Verdict::End));
        let redirected = if strict { Verdict::End } else { Verdict::Heard };
        check(strict, update, Some(REDIRECT), Some(redirected));
        for none in [None, Some("")] {
            check(strict, update, none, strict.then_some(Verdict::End));
        }
    }
}

#[test]
fn a_question_asked_again_ends_by_a_refusal_and_nothing_else() {
    let again = || Subject::Again { stream: Scene::stream(1, false) };
    for (answer, expected) in [
        (Some(OK), Verdict::Holds),
        (Some(NO), Verdict::End),
        (Some(REDIRECT), Verdict::Holds),
        (Some(BROKEN), Verdict::Unheard),
        (None, Verdict::Unheard),
        (Some(""), Verdict::Unheard),
        (Some("nonsense\r\n\r\n"), Verdict::Unheard),
    ] {
        check(true, again, answer, Some(expected));
    }
}

#[test]
fn a_question_that_finds_no_room_is_told_to_have_found_no_answer() {
    run(async {
        let none = |_: &mut HookSettings, limits: &mut Limits| limits.hook_notices_max = 0;
        let scene = Scene::new(none, always(OK)).await;
        scene.send(1, Subject::Again { stream: Scene::stream(7, true) });
        let answer = scene.answer().await;
        assert_eq!((answer.number, answer.verdict), (7, Verdict::Unheard));
        assert_eq!(scene.counted(HookName::OnPublish, HookResult::Overload), 1);
        assert!(scene.requests.lock().is_empty());
    });
}
