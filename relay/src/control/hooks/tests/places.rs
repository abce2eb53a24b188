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
