//! Proxies in front of several nodes, configured as the README says: every request of a session
//! reaches the node that its id names.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::refused;
use crate::readme::block;
use crate::support::clip::Clip;
use crate::support::process::Process;
use crate::support::relay::{Options, Relay};
use crate::support::{START, Scratch, ffmpeg, http, rtmpdump, wait_for};

/// Two nodes of the names that the README has, which know nothing of each other.
fn nodes(scratch: &Scratch) -> [Relay; 2] {
    ["relay-0", "relay-1"].map(|name| {
        // Proxies may open a connection for each request.
        let configuration = "[limits]\ntunnel_idle_timeout = \"5s\"\n";
        let arguments = &["--node", name];
        let options = Options { arguments, configuration, ..Options::default() };
        Relay::start(scratch.path(), &options)
    })
}

/// What the README says, for these nodes and on a port of its own.
fn configured(text: &str, nodes: &[Relay; 2], listen: (&str, &str)) -> (SocketAddr, String) {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap();
    assert!(text.contains(listen.0), "{text}");
    let mut text = text.replace(listen.0, &listen.1.replace("ADDRESS", &free.to_string()));
    for (node, address) in nodes.iter().zip(["10.0.0.10:1935", "10.0.0.11:1935"]) {
        assert!(text.contains(address), "{text}");
        text = text.replace(address, &node.rtmp.to_string());
        let page = http::get(node.http, "/api/v1/nodes").unwrap().body;
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        let tag = page["items"][0]["tunnel_tag"].as_str().unwrap().to_owned();
        assert!(text.contains(&tag), "{tag} of {page} is not in {text}");
    }
    (free, text)
}

fn nginx(dir: &Path, section: &str) -> Command {
    let shown = dir.display();
    let file = dir.join("nginx.conf");
    let configuration = format!(
        "daemon off; master_process off; worker_processes 1;\n\
         pid {shown}/nginx.pid; error_log {shown}/nginx.err info;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path {shown}/b; proxy_temp_path {shown}/p;\n\
           fastcgi_temp_path {shown}/f; uwsgi_temp_path {shown}/u; scgi_temp_path {shown}/s;\n\
           {section} }}\n"
    );
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir).arg("-c").arg(&file).arg("-e").arg(dir.join("nginx.err"));
    command
}

fn haproxy(dir: &Path, section: &str) -> Command {
    let file = dir.join("haproxy.cfg");
    let configuration = format!(
        "defaults\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n\
         {section}\n"
    );
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(&file);
    command
}

/// The body that a request is answered with. Proxies write fields as they like.
fn post(socket: &mut TcpStream, target: &str) -> Vec<u8> {
    let head = format!("POST {target} HTTP/1.1\r\nHost: relay\r\nContent-Length: 1\r\n\r\n\0");
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(head.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{target}: {head}");
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    socket.read_exact(&mut body).unwrap();
    body
}

/// Sessions by way of a proxy, each over several connections; FFmpeg publishes beside them.
fn check(proxy: &str, listen: (&str, &str), run: fn(&Path, &str) -> Command) {
    let scratch = Scratch::new(&format!("tunnel-{proxy}"));
    let nodes = nodes(&scratch);
    let (address, section) = configured(&block(proxy, "6-Tl"), &nodes, listen);
    let mut process = Process::start(scratch.path(), proxy, &mut run(scratch.path(), &section));
    wait_for("the proxy to accept connections", START, || {
        process.must_run();
        TcpStream::connect(address).ok()
    });
    let mut publishers: Vec<_> = (0..4)
        .map(|number| {
            let url = format!("rtmpt://{address}/live/clip{number}");
            ffmpeg::publish(scratch.path(), &format!("publisher{number}"), Clip::Plain, &url)
        })
        .collect();
    let mut sockets = [0; 3].map(|_| TcpStream::connect(address).unwrap());
    let sessions: Vec<String> = (0..6)
        .map(|number| {
            let id = post(&mut sockets[number % 3], "/open/1");
            String::from_utf8(id).unwrap().trim_end().to_owned()
        })
        .collect();
    // Each by every connection in turn, which all sessions share.
    for number in 0..10 {
        for (place, id) in sessions.iter().enumerate() {
            let body = post(&mut sockets[(number + place) % 3], &format!("/idle/{id}/{number}"));
            assert_eq!(body.len(), 1, "the polling byte");
        }
    }
    for (number, publisher) in publishers.iter_mut().enumerate() {
        assert!(publisher.ended().is_none(), "{number}: {}", publisher.log());
    }
    let of = |name: &str, labels: &[(&str, &str)]| {
        nodes.each_ref().map(|node| node.metrics().sum(name, labels).unwrap_or_default())
    };
    wait_for("all to publish", START, || {
        let publishers = of("relay_connections", &[("role", "publisher")]);
        (publishers[0] + publishers[1] == 4.0).then_some(())
    });
    let sessions = of("relay_tunnel_sessions", &[]);
    assert!(sessions.iter().all(|count| *count >= 3.0), "both are given some: {sessions:?}");
    assert_eq!(sessions[0] + sessions[1], 10.0, "{sessions:?}");
    assert_eq!(nodes.each_ref().map(|node| refused(node, "tunnel_node")), [0.0, 0.0]);
    // librtmp reads the names of fields letter by letter.
    let file = scratch.file("dump.flv");
    let url = format!("rtmpt://{address}/live/clip0");
    let mut dumps = [0, 1]
        .map(|number| rtmpdump::record(scratch.path(), &format!("dump{number}"), &url, &file));
    wait_for("librtmp to play where the stream is", START, || {
        let length = std::fs::metadata(&file).ok()?.len();
        (length > 20_000).then_some(())
    });
    dumps.iter_mut().for_each(|dump| {
        dump.kill();
    });
}

#[test]
fn nginx_as_in_the_readme_keeps_sessions_on_their_node() {
    check("nginx", ("listen 80;", "listen ADDRESS;"), nginx);
}

#[test]
fn haproxy_as_in_the_readme_keeps_sessions_on_their_node() {
    check("haproxy", ("bind :80\n", "bind ADDRESS\n"), haproxy);
}
