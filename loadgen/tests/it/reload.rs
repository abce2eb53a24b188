//! relay under load while its configuration changes: nobody loses a frame; and players that find no
//! room go where they are told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::servers::{nginx_that_pushes_to, relay, relay_with};
use crate::support::{Scratch, tester};

/// Asks relay to read its configuration again, and gives the status of the answer.
fn reload(address: SocketAddr) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let request = "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_reload_under_load_loses_no_frame() {
    let dir = Scratch::new();
    let file = dir.file("relay.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("");
    let server = relay_with(dir.path(), &["--config", file.to_str().unwrap(), "--workers", "2"]);
    let http = server.http.unwrap();
    let over = AtomicBool::new(false);
    let (good, bad) = thread::scope(|scope| {
        let reloading = scope.spawn(|| {
            let (mut good, mut bad) = (0, 0);
            let process = i32::try_from(server.process.id()).unwrap();
            let process = Pid::from_raw(process).unwrap();
            while !over.load(Ordering::Relaxed) {
                for (text, status) in [
                    ("[limits]\nplayers_max = 40\nlog_span = \"9s\"\n", "200"),
                    ("[limits]\nplayers_max = none\n", "422"),
                    ("[apps.live]\nflush = \"20ms\"\n[limits]\nstreams_max = 1\n", "200"),
                    ("[apps.live]\njoin = \"live\"\n[node]\nworkers = 7\n", "200"),
                    ("]", "422"),
                    ("[log]\nlevel = \"debug\"\n[overflow]\nto = \"rtmp://a\"\n", "200"),
                ] {
                    write(text);
                    assert_eq!(reload(http), status, "{text:?}");
                    if status == "200" {
                        good += 1
                    } else {
                        bad += 1
                    }
                    kill_process(process, Signal::HUP).unwrap();
                    thread::sleep(Duration::from_millis(60));
                }
            }
            (good, bad)
        });
        let url = server.url("reload");
        let clean = "missing=0,doubled=0,reordered=0,altered=0,foreign=0,backward=0,keyless=0,\
                     headless=0,gops_unequal=0,kept=1,joined=1,errors=0";
        let ended = tester::program(&[
            "run",
            "--target",
            &url,
            "--players",
            "30",
            "--streams",
            "1",
            "--bitrate",
            "800k",
            "--gop",
            "1s",
            "--duration",
            "6s",
            "--cores",
            "1",
            "--expect",
            clean,
        ]);
        over.store(true, Ordering::Relaxed);
        assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
        reloading.join().unwrap()
    });
    assert!(good > 20 && bad > 10, "{good} good and {bad} bad reloads");
}

#[test]
fn players_that_find_no_room_play_elsewhere() {
    let dirs = [Scratch::new(), Scratch::new(), Scratch::new()];
    let roomy = relay(dirs[0].path());
    let file = dirs[1].file("relay.toml");
    let text =
        format!("[limits]\nplayers_max = 2\n[overflow]\nto = \"rtmp://{}\"\n", roomy.address);
    std::fs::write(&file, text).unwrap();
    let full = relay_with(dirs[1].path(), &["--config", file.to_str().unwrap()]);
    // Both have the stream.
    let front = nginx_that_pushes_to(dirs[2].path(), &[roomy.address, full.address]);
    for (more, name) in [(&["--legacy"][..], "legacy"), (&[][..], "enhanced")] {
        let (to, from) = (front.url(name), full.url(name));
        let mut arguments = vec![
            "run",
            "--target",
            &to,
            "--play-target",
            &from,
            "--players",
            "6",
            "--bitrate",
            "300k",
            "--gop",
            "1s",
            "--duration",
            "5s",
            "--cores",
            "1",
            "--expect",
            "missing=0,altered=0,joined=1,kept=1",
        ];
        arguments.extend(more);
        let (ended, json) = tester::program_with_json(dirs[2].path(), &arguments);
        assert_eq!(ended.code, 0, "{name}: {}{}", ended.stdout, ended.stderr);
        assert_eq!(json["counters"]["redirects"], 4, "{name}: {}", json["counters"]);
    }
}
