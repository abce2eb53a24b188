//! A server that does what a test says: refuses some or all, or sends clients elsewhere.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use relay::limits::Limits;
use relay::session::{
    PlayRefusal, PlayRefusalCode, PublishRefusal, PublishRefusalCode, ServerEvent, ServerSession,
};
use relay::wire::amf::Value;
use relay::wire::chunk_writer::write_message;
use relay::wire::handshake::{HandshakeProgress, ServerHandshake};
use relay::wire::message::{MessageHeader, MessageType, chunk_stream};
use relay::wire::reply;
use relay::wire::timestamp::Timestamp;

/// What the server does to every client.
#[derive(Clone, Debug)]
pub(crate) enum Script {
    /// Publish is denied.
    RefusePublish,
    /// Every other player is denied; the others get nothing.
    RefuseSomePlayers,
    /// Connect is refused, as somebody who gave no password is.
    RefuseConnect,
    /// Everybody may begin, and is asked after a second to connect to this `tcUrl`.
    AskElsewhere(String),
    /// Connect is refused with a redirect to this `tcUrl`.
    Redirect(String),
}

/// Starts the server; it ends with the test.
pub(crate) fn start(script: Script) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let plays = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let (script, plays) = (script.clone(), Arc::clone(&plays));
            // A client that ends ends its thread.
            thread::spawn(move || match script {
                Script::Redirect(to) => refuse_connect(client, Some(&to)),
                Script::RefuseConnect => refuse_connect(client, None),
                script => serve(client, &script, &plays),
            });
        }
    });
    address
}

fn serve(mut client: TcpStream, script: &Script, plays: &AtomicUsize) -> Option<()> {
    let began = Instant::now();
    let mut session = ServerSession::new(Arc::new(Limits::default()), 1, Duration::ZERO);
    let mut buffer = vec![0; 65_536];
    let mut asked = false;
    client.set_read_timeout(Some(Duration::from_millis(50))).ok()?;
    loop {
        let count = match client.read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(_) => return None,
        };
        let mut input = &buffer[..count];
        loop {
            enum Verdict {
                Connect,
                Publish(u32),
                Play(u32),
                None,
            }
            let verdict = match session.next_event(&mut input, began.elapsed()).ok()? {
                None => break,
                Some(ServerEvent::Connect(_)) => Verdict::Connect,
                Some(ServerEvent::Publish(request)) => Verdict::Publish(request.message_stream),
                Some(ServerEvent::Play(request)) => Verdict::Play(request.message_stream),
                Some(_) => Verdict::None,
            };
            match verdict {
                Verdict::Connect => session.accept_connect(),
                Verdict::Publish(stream) if matches!(script, Script::RefusePublish) => {
                    let refusal = PublishRefusal {
                        code: PublishRefusalCode::Denied,
                        description: "wrong key".into(),
                    };
                    session.reject_publish(stream, &refusal);
                }
                Verdict::Publish(stream) => session.accept_publish(stream),
                Verdict::Play(stream)
                    if matches!(script, Script::RefuseSomePlayers)
                        && plays.fetch_add(1, Ordering::SeqCst) % 2 == 1 =>
                {
                    let code = PlayRefusalCode::Failed;
                    session.reject_play(stream, &PlayRefusal { code, description: "full".into() });
                }
                Verdict::Play(stream) => session.accept_play(stream),
                Verdict::None => {}
            }
        }
        if let Script::AskElsewhere(to) = script
            && !asked
            && began.elapsed() > Duration::from_secs(1)
        {
            asked = true;
            assert!(session.reconnect_request(Some(to)), "loadgen says that it understands");
        }
        if let Some(bytes) = session.take_output() {
            client.write_all(&bytes).ok()?;
        }
    }
}

/// `_error`; as some clusters do it, with `ex.redirect`.
fn refuse_connect(mut client: TcpStream, to: Option<&str>) -> Option<()> {
    let mut handshake = ServerHandshake::new(1);
    let mut buffer = vec![0; 65_536];
    loop {
        let count = client.read(&mut buffer).ok().filter(|count| *count > 0)?;
        let mut input = &buffer[..count];
        loop {
            match handshake.receive(&mut input).ok()? {
                HandshakeProgress::More => break,
                HandshakeProgress::Reply(reply) => client.write_all(&reply).ok()?,
                HandshakeProgress::Done => {
                    let mut information = vec![
                        (&b"level"[..], Value::text("error")),
                        (b"code", Value::text("NetConnection.Connect.Rejected")),
                        (b"description", Value::text(to.map_or("no password", |_| "elsewhere"))),
                    ];
                    if let Some(to) = to {
                        let code = ("code", Value::Number(302.0));
                        let ex = Value::object([code, ("redirect", Value::text(to))]);
                        information.push((b"ex", ex));
                    }
                    let information = Value::Object(information);
                    let mut payload = BytesMut::new();
                    reply::call(&mut payload, "_error", 1.0, &[Value::Null, information]);
                    let header = MessageHeader {
                        timestamp: Timestamp(0),
                        length: 0,
                        kind: MessageType::CommandAmf0,
                        message_stream: 0,
                    };
                    let mut out = BytesMut::new();
                    write_message(&mut out, chunk_stream::COMMAND, &header, &payload, 128);
                    client.write_all(&out).ok()?;
                    // The client closes.
                    let _ = client.read_to_end(&mut Vec::new());
                    return Some(());
                }
            }
        }
    }
}
