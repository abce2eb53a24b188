//! Places: who waits for which, and how many wait.

use super::*;

#[test]
fn who_is_in_keeps_nobody_waiting() {
    run(async {
        let one = |settings: &mut HookSettings, _: &mut Limits| {
            settings.concurrency = 1;
            settings.timeout = Some(Duration::from_secs(20));
        };
        // Whoever is asked about again is asked about for ever.
        let answers =
            Box::new(|request: &str| (!request.contains("call=play&")).then(|| OK.to_owned()));
        let scene = Scene::new(one, answers).await;
        for number in 1..=20 {
            scene.send(number, Subject::Again { stream: Scene::stream(number, false) });
        }
        scene.calls(1).await;
        let asked = tokio::time::timeout(Duration::from_secs(5), scene.asked(21)).await;
        assert_eq!(asked, Ok(Verdict::Go { told: true }));
    });
}

#[test]
fn a_slow_server_leaves_places_to_others() {
    run(async {
        let few = |settings: &mut HookSettings, limits: &mut Limits| {
            limits.hook_questions_max = 90;
            settings.timeout = Some(Duration::from_secs(20));
        };
        let answers =
            Box::new(|request: &str| (!request.contains("call=play&")).then(|| OK.to_owned()));
        let scene = Scene::new(few, answers).await;
        for number in 1..=200 {
            scene.ask(number, false);
        }
        for _ in 0..120 {
            assert_eq!(scene.answer().await.verdict, Verdict::Failed);
        }
        assert_eq!(scene.hooks.waiting().0, 80, "a tenth is for others");
        let mut other = HookSettings::clone(&scene.settings);
        other.app = "other".into();
        let question = Question { number: 201, stream: Some(Scene::stream(201, true)) };
        let (settings, client) = (Arc::new(other), Scene::client(201));
        let call = Call { settings, client, subject: Subject::Ask(question) };
        assert!(scene.hooks.shared.hooks().send(call).is_ok());
        assert_eq!(scene.answer().await.verdict, Verdict::Go { told: true });
    });
}

#[test]
fn a_server_keeps_its_failures_and_places_over_a_reload() {
    run(async {
        let two = |settings: &mut HookSettings, _: &mut Limits| {
            settings.concurrency = 2;
            settings.breaker_failures = 4;
            settings.retries = 0;
        };
        let scene = Scene::new(two, always(BROKEN)).await;
        let url = scene.settings.urls(HookName::OnPublish)[0].clone();
        let mut wider = HookSettings::clone(&scene.settings);
        wider.concurrency = 5;
        let wider = Arc::new(wider);
        scene.hooks.know_servers([&wider].into_iter());
        let server = scene.hooks.server(&wider, &url.server());
        // Those of before and of after take turns, and fail.
        for number in 1..=2 {
            assert_eq!(scene.asked(number).await, Verdict::Failed);
            let question = Question { number, stream: Some(Scene::stream(number, true)) };
            let (settings, client) = (Arc::clone(&wider), Scene::client(number));
            let call = Call { settings, client, subject: Subject::Ask(question) };
            assert!(scene.hooks.shared.hooks().send(call).is_ok());
            assert_eq!(scene.answer().await.verdict, Verdict::Failed);
        }
        assert!(server.breaker.lock().is_open());
        assert!(Arc::ptr_eq(&server, &scene.hooks.server(&scene.settings, &url.server())));
        let places = || server.places();
        assert_eq!(places(), (5, 5));
        scene.hooks.know_servers([&scene.settings].into_iter());
        while places() != (2, 2) {
            tokio::task::yield_now().await;
        }
    });
}
