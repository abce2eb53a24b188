//! Players of FLV that are not the relay's own: curl, and a WebSocket of a library.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tungstenite::Message;

use super::process::Process;

/// Runs curl and gives what it printed: the heads and bodies of answers, with `-i`.
pub(crate) fn curl(arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "10"]).args(arguments);
    let output = command.output().expect("curl not found: run .ci/install");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Records `url` with curl until the stream ends.
pub(crate) fn record_with_curl(dir: &Path, name: &str, url: &str, file: &Path) -> Process {
    let mut command = Command::new("curl");
    command.args(["-sS", "--fail", "-o"]).arg(file).arg(url);
    Process::start(dir, name, &mut command)
}

/// Records what comes over a WebSocket until the relay closes it, which it must do in order; gives
/// the number of messages.
pub(crate) fn record_websocket(
    relay: SocketAddr,
    path: &str,
    file: &Path,
    limit: Duration,
) -> JoinHandle<Result<usize, String>> {
    let (url, mut file) = (format!("ws://{relay}{path}"), File::create(file).unwrap());
    thread::spawn(move || {
        let socket = TcpStream::connect(relay).map_err(|error| error.to_string())?;
        let patience = Some(Duration::from_secs(1));
        socket.set_read_timeout(patience).map_err(|error| error.to_string())?;
        let (mut socket, _) =
            tungstenite::client(&url, socket).map_err(|error| error.to_string())?;
        let end = Instant::now() + limit;
        let (mut messages, mut pinged) = (0, 0);
        loop {
            match socket.read() {
                Ok(Message::Binary(bytes)) => {
                    file.write_all(&bytes).map_err(|error| error.to_string())?;
                    messages += 1;
                    if messages % 100 == 0 {
                        let ping = Message::Ping(vec![1, 2, 3].into());
                        socket.send(ping).map_err(|error| error.to_string())?;
                        pinged += 1;
                    }
                }
                Ok(Message::Pong(payload)) => {
                    assert_eq!(&payload[..], [1, 2, 3]);
                    pinged -= 1;
                }
                Ok(Message::Close(frame)) => {
                    let code = frame.map(|frame| u16::from(frame.code));
                    return match (code, pinged) {
                        (Some(1000), 0) => Ok(messages),
                        other => Err(format!("closed with {other:?} (status, pings unanswered)")),
                    };
                }
                Ok(other) => return Err(format!("an unexpected message: {other:?}")),
                Err(tungstenite::Error::Io(error))
                    if error.kind() == std::io::ErrorKind::WouldBlock && Instant::now() < end => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    })
}
