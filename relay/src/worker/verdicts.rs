//! The road between workers and the back ends that are asked and told: a bounded queue of calls to
//! the control thread, and what comes back.
//!
//! Nobody waits here. A worker pushes and goes on; the session whose verdict is outstanding waits
//! by itself. Answers come back through the worker's inbox (`handle.rs`). Everything that a call
//! needs travels with it, so the other side keeps nothing of a session that has no call under way.
//! What clients wrote may be secret: nothing here prints it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use super::hook_settings::{Contract, HookSettings};
use super::labels::HookName;
use super::report::ConnectionId;
use crate::reactor::{ConnectionKey, Waker};
use crate::session::StreamWords;

/// Calls on their way to the control thread, from all workers of a node.
#[derive(Debug)]
pub struct Road {
    calls: ArrayQueue<Call>,
    waker: OnceLock<Waker>,
}

/// Something to ask or to tell a back end.
#[derive(Debug)]
pub struct Call {
    /// The hooks of the application.
    pub settings: Arc<HookSettings>,
    /// Who it is about. Calls of one client are made one after the other, in order.
    pub client: Arc<HookClient>,
    /// What it is about.
    pub subject: Subject,
}

/// What a call is about.
#[derive(Debug)]
pub enum Subject {
    /// Asks for a verdict, which is owed whatever happens.
    Ask(Question),
    /// A stream is published or played no longer.
    Ended {
        /// What it was.
        stream: Arc<HookStream>,
        /// Nothing is told if the question of this number was refused, or never put.
        after: Option<u64>,
    },
    /// A stream is published or played still. [`Verdict::End`] or [`Verdict::Heard`] may follow.
    Goes {
        /// What it is.
        stream: Arc<HookStream>,
        /// Since it began.
        time: Duration,
        /// The timestamp of the last message, in milliseconds.
        timestamp: u32,
    },
    /// The verdict on a stream that goes on holds no longer. [`Verdict::End`], [`Verdict::Holds`]
    /// or [`Verdict::Unheard`] follows.
    Again {
        /// What it is.
        stream: Arc<HookStream>,
    },
    /// The connection has ended.
    Closed {
        /// Nothing is told if the question of this number was refused, or never put.
        after: Option<u64>,
        /// Bytes sent to the client.
        sent: u64,
        /// Bytes received from it.
        received: u64,
    },
}

/// A question with its number, which the verdict repeats.
#[derive(Debug)]
pub struct Question {
    /// Counted by the worker; never used again.
    pub number: u64,
    /// The publish or play; `None` for connect.
    pub stream: Option<Arc<HookStream>>,
}

/// A client, as it introduced itself. May carry secrets.
#[derive(Clone)]
pub struct HookClient {
    /// Its connection.
    pub id: ConnectionId,
    /// The same, as its worker finds it.
    pub key: ConnectionKey,
    /// Its address.
    pub peer: SocketAddr,
    /// When it was accepted, since the node's start.
    pub since: Duration,
    /// The application, clean and without query; or the one that a hook named.
    pub app: String,
    /// What followed the question mark of the application.
    pub args: String,
    /// The query of application and tcUrl, merged.
    pub query: String,
    /// Its name and version.
    pub flash_ver: String,
    /// Where the player program came from.
    pub swf_url: String,
    /// tcUrl as it came.
    pub tc_url: String,
    /// The host in it.
    pub host: String,
    /// The page that the player program is on.
    pub page_url: String,
}

/// A publish or a play, as it was asked for. May carry secrets.
pub struct HookStream {
    /// The question that it began with, or a number of its own where nothing was asked.
    pub number: u64,
    /// Whether it is published, and not played.
    pub publishes: bool,
    /// The message stream.
    pub message_stream: u32,
    /// The name as the relay knows it, `app/name`; a redirect does not change it.
    pub name: Arc<str>,
    /// What the client wrote besides the name.
    pub words: StreamWords,
    /// The query of name, application and tcUrl, merged.
    pub query: String,
    /// The host: the query's, else that of tcUrl.
    pub host: String,
}

/// A verdict on its way back.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whose it is.
    pub id: ConnectionId,
    /// The same, as its worker finds it.
    pub key: ConnectionKey,
    /// The number of the question, or of the stream that is to end.
    pub number: u64,
    /// What it is.
    pub verdict: Verdict,
}

/// What a back end said, or what holds instead.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes. `told` when the back end has heard of it, so that it is to hear of the end, too.
    Go {
        /// Whether it has.
        told: bool,
    },
    /// Yes, under another name.
    Rename {
        /// That of the application for connect, else that of the stream within it.
        to: String,
        /// As for `Go`.
        told: bool,
    },
    /// It is at another server, where its client may go.
    Elsewhere {
        /// The URL of the stream there, with `rtmp` or the like. May carry secrets.
        to: String,
    },
    /// Yes: what is published goes on to another server, what is played is fetched from there.
    Forward {
        /// As for `Elsewhere`.
        to: String,
        /// As for `Go`.
        told: bool,
    },
    /// No.
    Refused,
    /// There is no answer, and without one nobody is let in.
    Failed,
    /// The stream, which has long begun, is to end.
    End,
    /// It was asked about again, and may go on.
    Holds,
    /// The back end heard that it goes on, and has nothing against it.
    Heard,
    /// It was to be asked about again, and there is no answer.
    Unheard,
}

impl Verdict {
    /// Whether what was asked about goes on, or would if its client were still there, and its back
    /// end knows: then it is to hear of the end.
    #[must_use]
    pub fn began(&self) -> bool {
        match self {
            Self::Go { told } | Self::Rename { told, .. } | Self::Forward { told, .. } => *told,
            _ => false,
        }
    }
}

impl Road {
    /// A road on which so many calls may be.
    #[must_use]
    pub fn new(calls_max: usize) -> Self {
        Self { calls: ArrayQueue::new(calls_max.max(1)), waker: OnceLock::new() }
    }

    /// Who is woken when a call comes; the first one that is named stays.
    pub fn set_waker(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.waker.set(Waker::new(wake));
    }

    /// Sends a call.
    ///
    /// # Errors
    /// The call, when as many as may be are on their way.
    pub fn send(&self, call: Call) -> Result<(), Call> {
        self.calls.push(call)?;
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
        Ok(())
    }

    /// The oldest call.
    #[must_use]
    pub fn take(&self) -> Option<Call> {
        self.calls.pop()
    }
}

impl Default for Road {
    /// One that leads nowhere much, for workers without a control thread.
    fn default() -> Self {
        Self::new(16)
    }
}

impl Call {
    /// The event that it is counted as when it does not even leave the worker.
    #[must_use]
    pub fn name(&self) -> HookName {
        let is_srs = self.settings.contract == Some(Contract::Srs);
        match &self.subject {
            Subject::Ask(Question { stream: None, .. }) => HookName::OnConnect,
            Subject::Ask(Question { stream: Some(stream), .. }) | Subject::Again { stream } => {
                if stream.publishes {
                    HookName::OnPublish
                } else {
                    HookName::OnPlay
                }
            }
            Subject::Ended { stream, .. } => match (stream.publishes, is_srs) {
                (true, true) => HookName::OnUnpublish,
                (true, false) => HookName::OnPublishDone,
                (false, true) => HookName::OnStop,
                (false, false) => HookName::OnPlayDone,
            },
            Subject::Goes { .. } => HookName::OnUpdate,
            Subject::Closed { .. } if is_srs => HookName::OnClose,
            Subject::Closed { .. } => HookName::OnDisconnect,
        }
    }
}

impl HookClient {
    /// Bytes of memory that it takes up.
    pub(super) fn held_bytes(&self) -> usize {
        let strings = [&self.app, &self.args, &self.query, &self.flash_ver, &self.swf_url];
        let others = [&self.tc_url, &self.host, &self.page_url];
        let strings = strings.into_iter().chain(others).map(|text| text.capacity());
        size_of::<Self>() + strings.sum::<usize>()
    }
}

impl HookStream {
    /// Bytes of memory that it takes up.
    pub(super) fn held_bytes(&self) -> usize {
        let words = &self.words;
        let strings = [&words.args, &words.kind, &self.query, &self.host];
        size_of::<Self>() + strings.map(String::capacity).iter().sum::<usize>()
    }
}

impl fmt::Debug for HookClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("HookClient");
        shown.field("id", &self.id).field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl fmt::Debug for HookStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("HookStream");
        shown.field("number", &self.number).finish_non_exhaustive()
    }
}
