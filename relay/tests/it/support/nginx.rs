//! nginx with its RTMP module: a server by other people, to try the measuring itself on and to
//! relay to and from.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use super::process::Process;
use super::secure::Pair;
use super::{START, wait_for};

/// A running nginx with the application `live`.
pub(crate) struct Nginx {
    pub(crate) address: SocketAddr,
    /// Ends the server when dropped.
    _process: Process,
}

impl Nginx {
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, "", "")
    }

    /// The same with further directives for the server and for the application.
    pub(crate) fn start_with(dir: &Path, server: &str, app: &str) -> Self {
        // nginx cannot be asked for its port, so one is chosen that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap();
        Self::run(dir, address, &configuration(dir, address, server, app))
    }

    fn run(dir: &Path, address: SocketAddr, configuration: &str) -> Self {
        let file = dir.join("nginx.conf");
        std::fs::write(&file, configuration).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir).arg("-c").arg(&file).arg("-e").arg(dir.join("nginx.err"));
        let mut process = Process::start(dir, "nginx", &mut command);
        wait_for("nginx to accept connections", START, || {
            process.must_run();
            TcpStream::connect(address).ok()
        });
        Self { address, _process: process }
    }

    /// nginx before a server whose sessions go inside HTTP, by TCP and, with the pair, by TLS: it
    /// ends each of its clients' connections after so many requests.
    pub(crate) fn before(dir: &Path, to: SocketAddr, requests: u32, tls: Option<&Pair>) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap();
        let ssl = tls.map_or(String::new(), |pair| {
            let (certificate, key) = (pair.certificate.display(), pair.key.display());
            format!("ssl_certificate {certificate}; ssl_certificate_key {key};")
        });
        let listen = if tls.is_some() { format!("{address} ssl") } else { address.to_string() };
        let shown = dir.display();
        let configuration = format!(
            "daemon off; master_process off; worker_processes 1;\n\
             pid {shown}/nginx.pid; error_log {shown}/nginx.err info;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; client_body_temp_path {shown}/b; proxy_temp_path {shown}/p;\n\
               fastcgi_temp_path {shown}/f; uwsgi_temp_path {shown}/u; scgi_temp_path {shown}/s;\n\
               server {{ listen {listen}; {ssl} keepalive_requests {requests};\n\
                 client_max_body_size 32m; location / {{ proxy_pass http://{to}; }} }} }}\n"
        );
        Self::run(dir, address, &configuration)
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("rtmp://{}/live/{name}", self.address)
    }
}

fn configuration(dir: &Path, address: SocketAddr, server: &str, app: &str) -> String {
    let dir = dir.display();
    format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;\n\
         daemon off; master_process off; worker_processes 1;\n\
         pid {dir}/nginx.pid; error_log {dir}/nginx.err info;\n\
         events {{ worker_connections 256; }}\n\
         rtmp {{ access_log off; server {{\n\
           listen {address}; chunk_size 4096; {server}\n\
           application live {{ {app}\n\
             live on; wait_key on; wait_video on; publish_notify on; idle_streams on;\n\
           }}\n\
         }} }}\n"
    )
}
