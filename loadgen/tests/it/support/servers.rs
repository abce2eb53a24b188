//! Servers to test: nginx with its RTMP module, relay, and FFmpeg in listen mode.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::Process;
use super::{START, free_port, wait_for};

/// A running server with the application `live`.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Where its metrics are, if it has any.
    pub(crate) http: Option<SocketAddr>,
    pub(crate) process: Process,
}

impl Server {
    pub(crate) fn url(&self, name: &str) -> String {
        format!("rtmp://{}/live/{name}", self.address)
    }
}

/// nginx; the application `closed` lets nobody publish.
pub(crate) fn nginx(dir: &Path) -> Server {
    nginx_with(dir, "")
}

/// nginx that sends every stream of `live` on to another server.
pub(crate) fn nginx_that_pushes(dir: &Path, to: SocketAddr) -> Server {
    nginx_that_pushes_to(dir, &[to])
}

/// The same to several others.
pub(crate) fn nginx_that_pushes_to(dir: &Path, to: &[SocketAddr]) -> Server {
    let pushes: Vec<_> = to.iter().map(|to| format!("push rtmp://{to}/live;")).collect();
    nginx_with(dir, &pushes.join(" "))
}

fn nginx_with(dir: &Path, live: &str) -> Server {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let shown = dir.display();
    let configuration = format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
         daemon off; master_process off; worker_processes 1;\n\
         pid {shown}/nginx.pid; error_log {shown}/nginx.err info;\n\
         events {{ worker_connections 1024; }}\n\
         rtmp {{ access_log off; server {{ listen {address}; chunk_size 4096;\n\
           application live {{ live on; wait_key on; wait_video on; idle_streams on; {live} }}\n\
           application closed {{ live on; deny publish all; }}\n\
         }} }}\n"
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir).arg("-c").arg(&file).arg("-e").arg(dir.join("nginx.err"));
    let process = Process::start(dir, "nginx", &mut command);
    up(Server { address, http: None, process })
}

/// nginx before a server whose sessions go inside HTTP: it ends its clients' connections after some
/// requests, and speaks HTTP/1.0 to the server, one connection for each request.
pub(crate) fn nginx_before(dir: &Path, to: SocketAddr, requests: u32) -> Server {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let shown = dir.display();
    let configuration = format!(
        "daemon off; master_process off; worker_processes 1;\n\
         pid {shown}/proxy.pid; error_log {shown}/proxy.err info;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; client_body_temp_path {shown}/body; proxy_temp_path {shown}/proxy;\n\
           fastcgi_temp_path {shown}/f; uwsgi_temp_path {shown}/u; scgi_temp_path {shown}/s;\n\
           server {{ listen {address}; keepalive_requests {requests};\n\
             client_max_body_size 32m; location / {{ proxy_pass http://{to}; }} }} }}\n"
    );
    let file = dir.join("proxy.conf");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir).arg("-c").arg(&file).arg("-e").arg(dir.join("proxy.err"));
    let process = Process::start(dir, "proxy", &mut command);
    up(Server { address, http: None, process })
}

/// relay's program, as the workspace was built: beside loadgen.
pub(crate) fn relay_program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_loadgen")).with_file_name("relay");
    assert!(program.exists(), "relay is not built: run cargo build --workspace");
    program
}

/// relay.
pub(crate) fn relay(dir: &Path) -> Server {
    relay_with(dir, &[])
}

/// relay with more arguments.
pub(crate) fn relay_with(dir: &Path, more: &[&str]) -> Server {
    let mut command = Command::new(relay_program());
    command.args(["--rtmp", "127.0.0.1:0", "--http", "127.0.0.1:0"]).args(more);
    forget_ours(&mut command);
    let mut process = Process::start(dir, "relay", &mut command);
    let mut address = |what: &str| {
        wait_for(&format!("relay's {what} port"), START, || {
            process.must_run();
            let said = process.said();
            let line = said.lines().find(|line| line.starts_with(what))?;
            line.split('/').find_map(|word| word.parse::<SocketAddr>().ok())
        })
    };
    let (rtmp, http) = (address("rtmp"), address("http"));
    up(Server { address: rtmp, http: Some(http), process })
}

/// Takes away what is meant for tests, such as `RELAY_TEST_LONG`, which relay would take for
/// settings.
pub(crate) fn forget_ours(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RELAY_TEST_") {
            command.env_remove(name);
        }
    }
}

/// FFmpeg that waits for one publisher and records what it sends.
pub(crate) fn ffmpeg_recorder(dir: &Path, file: &Path) -> (Process, String) {
    let url = format!("rtmp://127.0.0.1:{}/live/a", free_port());
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "warning", "-listen", "1", "-i", &url]);
    command.args(["-c", "copy", "-copyts", "-flush_packets", "1", "-f", "flv", "-y"]).arg(file);
    (Process::start(dir, "recorder", &mut command), url)
}

/// FFmpeg that waits for one player and plays a file to it at native speed.
pub(crate) fn ffmpeg_player(dir: &Path, file: &Path) -> (Process, String) {
    let url = format!("rtmp://127.0.0.1:{}/live/a", free_port());
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "warning", "-re", "-i"]).arg(file);
    command.args(["-c", "copy", "-copyts", "-f", "flv", "-listen", "1", &url]);
    (Process::start(dir, "server", &mut command), url)
}

/// Whether something listens there, seen from outside: FFmpeg takes one connection and no more.
pub(crate) fn wait_until_listening(url: &str) {
    let port: u16 = url.split([':', '/']).find_map(|word| word.parse().ok()).unwrap();
    let listening = format!(":{port:04X} 00000000:0000 0A");
    let mut seen = 0;
    wait_for("FFmpeg to listen", START, || {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        // Another test that looks for a free port may listen there for a moment.
        seen = if table.contains(&listening) { seen + 1 } else { 0 };
        (seen >= 5).then_some(())
    });
}

fn up(mut server: Server) -> Server {
    wait_for("the server to accept connections", START, || {
        server.process.must_run();
        TcpStream::connect(server.address).ok()
    });
    server
}
