//! Stream keys in place of names, as back ends of nginx's module have them: they are written
//! nowhere, before the verdict and after it, whatever the verdict is.

use std::thread;
use std::time::Duration;

use crate::support::backend::{Answer, Backend};
use crate::support::client::Client;
use crate::support::relay::{Options, Relay};
use crate::support::{Scratch, http, wait_for};

const END_MAX: Duration = Duration::from_secs(20);

#[test]
fn a_key_in_place_of_a_name_is_written_nowhere() {
    let scratch = Scratch::new("key-as-name");
    let backend =
        Backend::start(|request| match request.field("name").unwrap_or_default().as_str() {
            "k3y-renamed" | "k3y-alias" => Answer::Redirect("camera"),
            "k3y-late" | "k3y-early" => Answer::Late(Duration::from_secs(5)),
            "k3y-elsewhere" => Answer::Redirect("rtmp://192.0.2.1"),
            "k3y-garbage" => Answer::Raw("what?\r\n\r\n"),
            _ => Answer::Status(403),
        });
    let url = backend.url("/h");
    // Nothing listens on the port of the other one.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let configuration = format!(
        "[log]\nlevel = \"trace\"\n[apps.live]\nhooks = \"nginx-rtmp\"\nhooks_fail = \"closed\"\n\
         on_publish = \"{url}\"\non_play = \"{url}\"\non_publish_done = \"{url}\"\n\
         [apps.down]\nhooks = \"nginx-rtmp\"\non_publish = \"http://{nobody}/\"\n\
         on_play = \"http://{nobody}/\"\n"
    );
    let configuration = configuration.as_str();
    let options = Options { configuration, ..Options::default() };
    let relay = Relay::start(scratch.path(), &options);
    let entered = |app: &str| {
        let mut client = Client::open(relay.rtmp).unwrap();
        client.enter(app).unwrap();
        client
    };
    let mut written = String::new();
    let mut look = || {
        for path in ["/metrics", "/metrics/streams", "/api/v1/connections", "/api/v1/streams"] {
            written += &http::get(relay.http, path).unwrap().body;
        }
    };
    let mut publisher = entered("live");
    publisher.publish("k3y-renamed").unwrap();
    let mut player = entered("live");
    player.play("k3y-alias").unwrap();
    look();
    for name in ["k3y-refused", "k3y-garbage", "k3y-elsewhere"] {
        assert!(entered("live").publish(name).is_err(), "{name}");
        assert!(entered("live").play(name).is_err(), "{name}");
        http::get(relay.rtmp, &format!("/live/{name}.flv")).unwrap();
    }
    assert!(entered("down").publish("k3y-down").is_err());
    assert!(entered("down").play("k3y-down").is_err());
    // Two that wait, and one of them that does not wait for the end of it.
    let mut waiting = [entered("live"), entered("live")];
    for (client, name) in waiting.iter_mut().zip(["k3y-early", "k3y-late"]) {
        client.ask_to_publish(name);
        backend.wait(1, |request| request.field("name").as_deref() == Some(name));
    }
    look();
    let [impatient, mut patient] = waiting;
    drop(impatient);
    thread::sleep(Duration::from_secs(6));
    look();
    // What a verdict lets pass as it is, is a name and no key.
    let page = http::get(relay.http, "/api/v1/connections").unwrap().body;
    assert!(page.contains("camera"), "{page}");
    assert!(!patient.wait_closed(Duration::from_millis(100)), "its verdict was yes");
    drop((publisher, player, patient));
    wait_for("the ends to be told", END_MAX, || {
        let ends = backend.received().iter().filter(|it| it.event() == "publish_done").count();
        (ends >= 3).then_some(())
    });
    let log = relay.log_at_end(END_MAX);
    assert!(log.contains("live/***"), "{log}");
    written += &log;
    for key in ["renamed", "alias", "refused", "garbage", "elsewhere", "down", "early"] {
        let key = format!("k3y-{key}");
        let digits: Vec<_> = key.bytes().map(|byte| format!("{byte:02X}")).collect();
        let forms = [key.clone(), digits.concat(), digits.join(" ")];
        let at = forms.iter().find_map(|form| written.find(form));
        let context = at.map(|at| &written[at.saturating_sub(300)..at + key.len()]);
        assert_eq!(context, None, "{key} was written");
    }
}
