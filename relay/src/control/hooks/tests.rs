//! Hooks against a small back end of these tests: every question is answered, whatever it does.

use std::sync::atomic::AtomicU32;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::*;
use crate::limits::Limits;
use crate::reactor::{ConnectionKey, Waker};
use crate::session::StreamWords;
use crate::wire::command::PlayRange;
use crate::worker::handle::QueryInbox;
use crate::worker::hook_settings::{Contract, HookUrl, Method};
use crate::worker::labels::Label;
use crate::worker::settings::AppSettings;
use crate::worker::verdicts::HookStream;

mod files;
mod places;
mod probe;
mod renewed;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0";
const NO: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n";
/// Instead of an answer: ask for it again.
const LATER: &str = "later";
const LOOK: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(10);

/// What a request is answered with; `None` for never.
type Answers = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// A back end and its hooks, without workers.
struct Scene {
    hooks: Arc<Hooks>,
    inbox: QueryInbox,
    settings: Arc<HookSettings>,
    /// Whole requests, in the order in which they came.
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicU32>,
}

impl Scene {
    async fn new(change: impl FnOnce(&mut HookSettings, &mut Limits), answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicU32::new(0));
        let (seen, counted) = (Arc::clone(&requests), Arc::clone(&connections));
        let answers = Arc::new(answers);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, Arc::clone(&seen), Arc::clone(&answers)));
            }
        });

        let mut settings = HookSettings {
            app: "live".into(),
            contract: Some(Contract::NginxRtmp),
            timeout: Some(Duration::from_millis(300)),
            ..HookSettings::default()
        };
        let url = HookUrl::parse(&format!("http://127.0.0.1:{port}/hook?a=b")).unwrap();
        for name in HookName::ALL {
            settings.urls[name.index()] = vec![url.clone()];
        }
        let mut limits = Limits::default();
        change(&mut settings, &mut limits);
        let settings = Arc::new(settings);
        let app = AppSettings { hooks: Arc::clone(&settings), ..AppSettings::default() };
        let all = Settings { limits, other_apps: app, ..Settings::default() };
        let (worker, inbox) =
            WorkerHandle::new(0, "none", String::new(), Arc::default(), Waker::new(|| {}));
        let hooks = Hooks::new(Parts {
            workers: vec![worker],
            shared: Arc::new(Shared::of(1).with_road(1_000)),
            settings: &all,
            clock: Clock::start(),
            node: "node",
            vital: Vital::default(),
        });
        let hooks = hooks.unwrap();
        tokio::spawn(Arc::clone(&hooks).run());
        tokio::task::yield_now().await;
        Self { hooks, inbox, settings, requests, connections }
    }

    fn client(number: u64) -> Arc<HookClient> {
        Arc::new(HookClient {
            id: ConnectionId { core: 0, number },
            key: ConnectionKey(number),
            peer: "192.0.2.7:4000".parse().unwrap(),
            since: Duration::from_millis(1_234),
            app: "live".to_owned(),
            args: "c=1".to_owned(),
            query: "c=1&t=2".to_owned(),
            flash_ver: "FMLE/3.0 (x; y)".to_owned(),
            swf_url: "http://s/?q".to_owned(),
            tc_url: "rtmp://h:1935/live?t=2".to_owned(),
            host: "h".to_owned(),
            page_url: String::new(),
        })
    }

    fn stream(number: u64, publishes: bool) -> Arc<HookStream> {
        Arc::new(HookStream {
            number,
            publishes,
            message_stream: 1,
            name: "live/cam era.flv".into(),
            words: StreamWords {
                args: "key=s+x".to_owned(),
                kind: "live".to_owned(),
                range: PlayRange { start: -2_000, duration: 5, reset: true },
            },
            query: "key=s+x&c=1&t=2".to_owned(),
            host: "h".to_owned(),
        })
    }

    fn send(&self, client: u64, subject: Subject) {
        let (settings, client) = (Arc::clone(&self.settings), Self::client(client));
        assert!(self.hooks.shared.hooks().send(Call { settings, client, subject }).is_ok());
    }

    fn ask(&self, number: u64, publishes: bool) {
        let stream = Some(Self::stream(number, publishes));
        self.send(number, Subject::Ask(Question { number, stream }));
    }

    fn end(&self, number: u64, after: Option<u64>) {
        self.send(number, Subject::Ended { stream: Self::stream(number, true), after });
    }

    async fn answer(&self) -> Answer {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.inbox.next_answer() {
                return answer;
            }
            assert!(Instant::now() < end, "no verdict");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn asked(&self, number: u64) -> Verdict {
        self.ask(number, true);
        let answer = self.answer().await;
        assert_eq!((answer.number, answer.key), (number, ConnectionKey(number)));
        answer.verdict
    }

    /// Waits until so many requests have come, and gives the fields `call` of all.
    async fn calls(&self, count: usize) -> Vec<String> {
        let end = Instant::now() + PATIENCE;
        while self.requests.lock().len() < count {
            assert!(Instant::now() < end, "{:?}", self.requests.lock());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let requests = self.requests.lock();
        let call = |request: &String| {
            let at = request.find("call=").map_or(0, |at| at + 5);
            request[at..].split('&').next().unwrap_or_default().to_owned()
        };
        requests.iter().map(call).collect()
    }

    fn counted(&self, name: HookName, result: HookResult) -> u64 {
        self.hooks.calls.at((name, result)).get()
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Vec<String>>>, answers: Arc<Answers>) {
    let mut text = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        text.extend_from_slice(&buffer[..count]);
        let whole = String::from_utf8_lossy(&text).into_owned();
        let Some((header, body)) = whole.split_once("\r\n\r\n") else { continue };
        let length = header.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        if body.len() < length.map_or(0, |length| length.parse().unwrap()) {
            continue;
        }
        seen.lock().push(whole.clone());
        text.clear();
        let answer = loop {
            match answers(&whole) {
                Some(answer) if answer == LATER => tokio::time::sleep(LOOK).await,
                answer => break answer,
            }
        };
        let Some(answer) = answer else {
            tokio::time::sleep(Duration::from_secs(30)).await;
            return;
        };
        if stream.write_all(answer.as_bytes()).await.is_err() || answer.is_empty() {
            return;
        }
        if whole.contains("HTTP/1.0") {
            return;
        }
    }
}

fn always(answer: &'static str) -> Answers {
    Box::new(move |_| Some(answer.to_owned()))
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_call_of_nginx_is_this_to_the_byte() {
    run(async {
        let scene = Scene::new(|_, _| {}, always(OK)).await;
        assert_eq!(scene.asked(7).await, Verdict::Go { told: true });
        let session = "app=live&flashver=FMLE/3.0%20(x%3B%20y)&swfurl=http://s/%3Fq\
                       &tcurl=rtmp://h:1935/live%3Ft=2&pageurl=&addr=192.0.2.7&clientid=7000";
        let form = format!("{session}&call=publish&name=cam%20era.flv&type=live&key=s+x");
        let expected = format!(
            "POST /hook?a=b HTTP/1.0\r\nHost: 127.0.0.1\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nConnection: Close\r\n\
             Content-Length: {}\r\n\r\n{form}",
            form.len()
        );
        assert_eq!(*scene.requests.lock(), [expected]);

        scene.ask(8, false);
        scene.answer().await;
        scene.end(7, None);
        let (client, number) = (Scene::client(9), 9);
        scene.send(number, Subject::Ask(Question { number, stream: None }));
        scene.answer().await;
        scene.send(9, Subject::Closed { after: None, sent: 1, received: 2 });
        let (time, timestamp) = (Duration::from_millis(61_900), 61_234);
        let stream = Scene::stream(10, true);
        scene.send(10, Subject::Goes { stream, time, timestamp });
        let calls = scene.calls(7).await;
        for call in ["play", "publish_done", "done", "connect", "disconnect", "update_publish"] {
            assert!(calls.iter().any(|made| made == call), "{call}: {calls:?}");
        }
        let requests = scene.requests.lock();
        let body = |call: &str| {
            let sign = format!("&call={call}&");
            let found = requests.iter().find(|request| request.contains(&sign));
            let found = found.unwrap_or_else(|| panic!("{call}"));
            found.split_once("\r\n\r\n").unwrap().1.to_owned()
        };
        let in_session = |number: u64| session.replace("7000", &format!("{number}000"));
        let play = "&call=play&name=cam%20era.flv&start=4294965296&duration=5&reset=1&key=s+x";
        assert_eq!(body("play"), format!("{}{play}", in_session(8)));
        for call in ["publish_done", "done"] {
            let tail = format!("&call={call}&name=cam%20era.flv&key=s+x");
            assert_eq!(body(call), format!("{session}{tail}"));
        }
        let update = "&call=update_publish&time=61&timestamp=61234&name=cam%20era.flv&key=s+x";
        assert_eq!(body("update_publish"), format!("{}{update}", in_session(10)));
        let disconnect = format!("{}&call=disconnect&app=live&c=1", in_session(9));
        assert_eq!(body("disconnect"), disconnect);
        let connect = in_session(9).replace("&clientid=9000", "&epoch=1234&call=connect&c=1");
        assert_eq!(body("connect"), connect);
        assert_eq!(client.id.number, 9);
    });
}

#[test]
fn a_get_has_the_fields_in_its_url_and_a_signature_if_wanted() {
    run(async {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\n").unwrap();
        let path = file.path().to_owned();
        let get = move |settings: &mut HookSettings, _: &mut Limits| {
            settings.method = Method::Get;
            settings.secret_file = Some(path);
            settings.signature_header = "X-Hub".to_owned();
        };
        let scene = Scene::new(get, always(OK)).await;
        scene.asked(7).await;
        let request = scene.requests.lock()[0].clone();
        let target = request.split(' ').nth(1).unwrap();
        assert!(target.starts_with("/hook?a=b&app=live&flashver="), "{request}");
        assert!(
            target.ends_with("&call=publish&name=cam%20era.flv&type=live&key=s+x"),
            "{request}"
        );
        assert!(request.contains("\r\nContent-Length: 0\r\n"), "{request}");
        let header = request.to_ascii_lowercase();
        let header = header.lines().find_map(|line| line.strip_prefix("x-hub: t="));
        let (unix, _) = header.unwrap().split_once(",v1=").unwrap();
        let signed = sign::signature(b"secret", unix.parse().unwrap(), target.as_bytes());
        assert_eq!(format!("t={}", header.unwrap()), signed);
    });
}

#[test]
fn a_call_of_srs_is_this_object() {
    run(async {
        let srs = |settings: &mut HookSettings, _: &mut Limits| {
            settings.contract = Some(Contract::Srs);
        };
        let scene = Scene::new(srs, always(OK)).await;
        assert_eq!(scene.asked(7).await, Verdict::Go { told: true });
        scene.ask(8, false);
        scene.answer().await;
        scene.send(9, Subject::Ask(Question { number: 9, stream: None }));
        scene.answer().await;
        scene.end(7, None);
        scene.send(9, Subject::Closed { after: None, sent: 11, received: 22 });
        scene.calls(5).await;
        let requests = scene.requests.lock().clone();
        let head = "POST /hook?a=b HTTP/1.1\r\nHost: 127.0.0.1:";
        let service = &scene.hooks.service;
        let body = |action: &str| {
            let sign = format!("\"action\":\"{action}\"");
            let request = requests.iter().find(|request| request.contains(&sign)).unwrap();
            assert!(request.starts_with(head), "{request}");
            assert!(request.contains("\r\nConnection: Keep-Alive\r\n"), "{request}");
            assert!(request.contains("\r\nContent-Type: application/json\r\n"), "{request}");
            request.split_once("\r\n\r\n").unwrap().1.to_owned()
        };
        let whose = |action: &str, number: u64| {
            format!(
                "{{\"server_id\":\"node\",\"service_id\":\"{service}\",\"action\":\"{action}\",\
                 \"client_id\":\"0-{number}\",\"ip\":\"192.0.2.7\",\"vhost\":\"__defaultVhost__\",\
                 \"app\":\"live\","
            )
        };
        let url = "\"tcUrl\":\"rtmp://h:1935/live?t=2\"";
        let stream = "\"stream\":\"cam era.flv\",\"param\":\"?key=s+x&c=1&t=2\"";
        let id = json::stream_id("node", "/live/cam era");
        let tail = format!("\"stream_url\":\"/live/cam era\",\"stream_id\":\"{id}\"}}");
        let publish = |action, number| format!("{}{url},{stream},{tail}", whose(action, number));
        assert_eq!(body("on_publish"), publish("on_publish", 7));
        assert_eq!(body("on_unpublish"), publish("on_unpublish", 7));
        let play = format!("{}{url},{stream},\"pageUrl\":\"\",{tail}", whose("on_play", 8));
        assert_eq!(body("on_play"), play);
        let connect = format!(
            "{}\"stream\":\"\",\"param\":\"?c=1&t=2\",{url},\"pageUrl\":\"\"}}",
            whose("on_connect", 9)
        );
        assert_eq!(body("on_connect"), connect);
        let close = format!("{}\"send_bytes\":11,\"recv_bytes\":22}}", whose("on_close", 9));
        assert_eq!(body("on_close"), close);
        let connections = scene.connections.load(Ordering::Relaxed);
        assert!(connections < 5, "{connections} connections: none was used again");
    });
}

#[test]
fn every_misbehaviour_is_answered_by_the_policy() {
    #[track_caller]
    fn check(answer: Option<&'static str>, expected: HookResult) {
        for (fail, verdict) in
            [(Fail::Closed, Verdict::Failed), (Fail::Open, Verdict::Go { told: true })]
        {
            run(async {
                let srs = |settings: &mut HookSettings, limits: &mut Limits| {
                    settings.contract = Some(Contract::Srs);
                    settings.fail = fail;
                    limits.hook_reply_bytes_max = 8 * 1024;
                };
                let answers = Box::new(move |_: &str| answer.map(str::to_owned));
                let scene = Scene::new(srs, answers).await;
                assert_eq!(scene.asked(1).await, verdict, "{answer:?}");
                assert_eq!(scene.counted(HookName::OnPublish, expected), 1, "{answer:?}");
            });
        }
    }
    check(None, HookResult::Timeout);
    check(Some(""), HookResult::Unreachable);
    check(Some("no HTTP at all\r\n\r\n"), HookResult::Garbage);
    check(Some("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"), HookResult::Garbage);
    check(Some("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), HookResult::Garbage);
    check(Some("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n0"), HookResult::Timeout);
    check(Some(BROKEN), HookResult::Broken);
    let long: &'static str = Box::leak(
        format!("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n{}", "0".repeat(20_000))
            .into_boxed_str(),
    );
    check(Some(long), HookResult::Garbage);
    let head: &'static str = Box::leak(
        format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n0", "x".repeat(20_000)).into_boxed_str(),
    );
    check(Some(head), HookResult::Garbage);
}

#[test]
fn a_verdict_is_what_the_back_end_says() {
    #[track_caller]
    fn check(answer: &'static str, verdict: Verdict) {
        run(async {
            let scene = Scene::new(|_, _| {}, always(answer)).await;
            assert_eq!(scene.asked(1).await, verdict, "{answer}");
        });
    }
    check(OK, Verdict::Go { told: true });
    check(NO, Verdict::Refused);
    let to = "other".to_owned();
    check("HTTP/1.0 302 Found\r\nLocation: other\r\n\r\n", Verdict::Rename { to, told: true });
    let to = "rtmp://192.0.2.1/a/b".to_owned();
    let answer = "HTTP/1.0 302 Found\r\nLocation: rtmp://192.0.2.1/a/b\r\n\r\n";
    check(answer, Verdict::Forward { to, told: true });
}

#[test]
fn all_urls_of_an_event_have_to_agree() {
    run(async {
        let srs = |settings: &mut HookSettings, _: &mut Limits| {
            settings.contract = Some(Contract::Srs);
            let publish = &mut settings.urls[HookName::OnPublish.index()];
            let other = HookUrl::parse(&publish[0].text.replace("/hook", "/other")).unwrap();
            *publish = vec![publish[0].clone(), other, publish[0].clone()];
        };
        let answers = Box::new(|request: &str| {
            let refused = request.starts_with("POST /other");
            Some(if refused { NO.to_owned() } else { OK.to_owned() })
        });
        let scene = Scene::new(srs, answers).await;
        assert_eq!(scene.asked(1).await, Verdict::Refused);
        assert_eq!(scene.requests.lock().len(), 2, "the third is not asked any more");
    });
}

#[test]
fn the_breaker_opens_is_shown_and_closes() {
    run(async {
        let broken = Arc::new(AtomicBool::new(true));
        let state = Arc::clone(&broken);
        let change = |settings: &mut HookSettings, _: &mut Limits| {
            settings.breaker_failures = 3;
            settings.breaker_pause = Duration::from_secs(2);
        };
        let answers = Box::new(move |_: &str| {
            Some(if state.load(Ordering::Relaxed) { BROKEN } else { OK }.to_owned())
        });
        let scene = Scene::new(change, answers).await;
        let open = || {
            let mut out = Families::default();
            scene.hooks.expose(&mut out, &[]);
            let families = out.into_inner();
            let family = families.iter().find(|family| family.name() == "relay_hook_breaker_open");
            family.unwrap().get_metric()[0].get_gauge().get_value()
        };
        for number in 1..=3 {
            assert_eq!(open(), 0.0);
            assert_eq!(scene.asked(number).await, Verdict::Failed);
        }
        assert_eq!(open(), 1.0);
        for number in 4..=20 {
            assert_eq!(scene.asked(number).await, Verdict::Failed);
        }
        assert_eq!(scene.requests.lock().len(), 3, "an open breaker lets nothing through");
        assert_eq!(scene.counted(HookName::OnPublish, HookResult::Breaker), 17);
        broken.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        assert_eq!(scene.asked(21).await, Verdict::Go { told: true });
        assert_eq!((open(), scene.requests.lock().len()), (0.0, 4));
    });
}

#[test]
fn questions_beyond_the_limit_are_answered_at_once() {
    run(async {
        let few = |settings: &mut HookSettings, limits: &mut Limits| {
            limits.hook_questions_max = 5;
            settings.concurrency = 2;
        };
        let scene = Scene::new(few, Box::new(|_| None)).await;
        for number in 1..=50 {
            scene.ask(number, false);
        }
        for _ in 0..50 {
            assert_eq!(scene.answer().await.verdict, Verdict::Failed);
        }
        let count = |result| scene.counted(HookName::OnPlay, result);
        assert!(count(HookResult::Overload) >= 45, "{}", count(HookResult::Overload));
        let most = scene.connections.load(Ordering::Relaxed);
        assert!(most <= 5, "{most} connections for two places, three turns");
        assert_eq!(scene.hooks.questions.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_verdict_is_remembered_for_its_time() {
    run(async {
        let change = |settings: &mut HookSettings, _: &mut Limits| {
            settings.cache = Duration::from_secs(2);
        };
        let scene = Scene::new(change, always(OK)).await;
        // Of the same address and words, though not of the same connection.
        assert_eq!(scene.asked(1).await, Verdict::Go { told: true });
        assert_eq!(scene.asked(2).await, Verdict::Go { told: false });
        scene.ask(3, false);
        assert_eq!(scene.answer().await.verdict, Verdict::Go { told: true }, "another action");
        assert_eq!(scene.requests.lock().len(), 2);
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        assert_eq!(scene.asked(4).await, Verdict::Go { told: true });
        assert_eq!(scene.requests.lock().len(), 3);
    });
}

#[test]
fn calls_of_one_connection_keep_their_order_and_ends_follow_their_beginning() {
    run(async {
        let srs = |settings: &mut HookSettings, _: &mut Limits| {
            settings.timeout = Some(Duration::from_secs(5));
        };
        let scene = Scene::new(srs, always(OK)).await;
        scene.send(1, Subject::Ask(Question { number: 100, stream: None }));
        scene.ask(1, true);
        scene.end(1, Some(1));
        scene.send(1, Subject::Closed { after: None, sent: 0, received: 0 });
        let calls = scene.calls(5).await;
        assert_eq!(calls, ["connect", "publish", "publish_done", "done", "disconnect"]);
    });
    run(async {
        let refuses = |request: &str| {
            Some(if request.contains("call=publish&") { NO } else { OK }.to_owned())
        };
        let scene = Scene::new(|_, _| {}, Box::new(refuses)).await;
        scene.ask(1, true);
        scene.end(1, Some(1));
        scene.send(1, Subject::Closed { after: None, sent: 0, received: 0 });
        assert_eq!(scene.calls(2).await, ["publish", "disconnect"], "what was refused never was");
    });
}

#[test]
fn notifications_are_tried_again_and_questions_are_not() {
    run(async {
        let tries = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&tries);
        let answers = Box::new(move |_: &str| {
            let first = count.fetch_add(1, Ordering::Relaxed) == 0;
            Some(if first { BROKEN } else { NO }.to_owned())
        });
        let only_done = |settings: &mut HookSettings, _: &mut Limits| {
            settings.urls[HookName::OnDone.index()].clear();
        };
        let scene = Scene::new(only_done, answers).await;
        scene.end(1, None);
        assert_eq!(scene.calls(2).await, ["publish_done", "publish_done"]);
        let counted = |result| scene.counted(HookName::OnPublishDone, result);
        while counted(HookResult::Delivered) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!((counted(HookResult::Retried), counted(HookResult::Lost)), (1, 0));
        scene.hooks.settle(PATIENCE).await;
        assert!(scene.hooks.lanes.lock().is_empty());
    });
    run(async {
        let scene = Scene::new(|_, _| {}, always(BROKEN)).await;
        assert_eq!(scene.asked(1).await, Verdict::Failed);
        assert_eq!(scene.requests.lock().len(), 1);
    });
}
