//! Streams between this node and other servers, as the control thread and workers speak of them:
//! orders to push or to pull one come by queries, and news go back by a bounded road.
//!
//! The control thread decides what runs, looks names up, and tries again; a worker opens one
//! connection for each order, carries the stream, and says once why it ended. What is in a URL may
//! be secret: nothing here prints it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

pub use super::labels::{OutsideFault, OutsideKind};
use super::outside_url::OutsideRule;
use super::report::ConnectionId;
pub use crate::cluster::{NodeKey, Order, OrderId, OrderText};
use crate::reactor::Waker;
use crate::tls::ClientTls;

/// One try to push a stream to another server, or to pull one from there.
#[derive(Clone)]
pub struct OutsideOrder {
    /// Names this try; never used again.
    pub id: u64,
    /// Which way.
    pub kind: OutsideKind,
    /// The stream here, `app/name`.
    pub name: Arc<str>,
    /// The server.
    pub address: SocketAddr,
    /// The TCP connection must be there within this time.
    pub within: Duration,
    /// Whom to trust, and the name that the server has to prove, where TLS is spoken.
    pub tls: Option<(ClientTls, String)>,
    /// Host and port for requests, where RTMP goes inside HTTP.
    pub tunnel: Option<String>,
    /// The application there, perhaps with a query.
    pub app: String,
    /// The URL without the stream's name.
    pub tc_url: String,
    /// The stream there, perhaps with a query.
    pub stream: String,
    /// Whether to name the capabilities of E-RTMP.
    pub enhanced: bool,
    /// It takes the place of one that runs: of a pull, it takes the name over.
    pub replaces: bool,
    /// Of a pull: see [`NameNews::marks`].
    pub marks: Arc<str>,
}

/// Shows nothing of the URL.
impl fmt::Debug for OutsideOrder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("OutsideOrder");
        shown.field("id", &self.id).field("kind", &self.kind).field("name", &self.name);
        shown.finish_non_exhaustive()
    }
}

/// Which names the control thread is to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Watch {
    /// None.
    #[default]
    Nothing,
    /// Those of these applications.
    Apps(BTreeSet<String>),
    /// All.
    Everything,
}

impl Watch {
    /// Whether the names of an application are among them.
    #[must_use]
    pub fn holds(&self, app: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Apps(apps) => apps.contains(app),
            Self::Everything => true,
        }
    }
}

/// Something that the control thread is told.
#[derive(Debug)]
pub enum News {
    /// How a name stands now.
    Name(NameNews),
    /// A publisher of an application whose back end may send it on has begun.
    Forward {
        /// Which.
        forward: Forward,
        /// Where to; whatever held for the name before holds no longer.
        to: Option<Arc<OutsideRule>>,
    },
    /// That publisher is gone.
    ForwardOver(Forward),
    /// Somebody is about to play a stream that its back end has fetched from another server.
    Fetch {
        /// `app/name`.
        name: Arc<str>,
        /// Where from.
        from: Arc<OutsideRule>,
    },
    /// An operator gave an order to another node, or took it back.
    Ordered(Order),
    /// All names are told anew after this; those that are not, are neither live nor wanted.
    Anew,
    /// What became of an order.
    Outside {
        /// The order.
        id: u64,
        /// The worker that has it.
        core: usize,
        /// What it is.
        what: OutsideNews,
    },
}

/// A publisher whose back end may send it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// `app/name`.
    pub name: Arc<str>,
    /// Its worker.
    pub core: usize,
    /// Counted by the worker; never used again.
    pub number: u64,
}

/// How a name stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameNews {
    /// `app/name`.
    pub name: Arc<str>,
    /// The worker of its publisher, while it has one on this node.
    pub live: Option<usize>,
    /// Whether another node that stays publishes it, is about to, or waits for its publisher to
    /// come back: then it is not pulled here, and pushed there.
    pub elsewhere: bool,
    /// Whether it is waited for its publisher to come back: what is pushed goes on, unless that
    /// has come to another node.
    pub grace: bool,
    /// Whether somebody plays it, or waits to, here or on nodes that are fed from here.
    pub wanted: bool,
    /// The marks of relays that play it, with commas between them: what is pulled for them must
    /// not come through them.
    pub marks: Arc<str>,
}

/// What became of an order.
#[derive(Debug, PartialEq, Eq)]
pub enum OutsideNews {
    /// The stream flows, or will when it has media.
    Started {
        /// The connection to the server.
        connection: ConnectionId,
    },
    /// The server asks to connect again, there or to the same URL; meanwhile it goes on.
    Reconnect {
        /// Absolute, or relative to the URL in use.
        tc_url: Option<String>,
    },
    /// It is over. Comes once for each order.
    Ended(OutsideEnd),
}

/// How an order ended.
#[derive(Clone, PartialEq, Eq)]
pub struct OutsideEnd {
    /// Why, as counted.
    pub fault: OutsideFault,
    /// Why, for people. What the server wrote may be in it.
    pub detail: String,
    /// Where the server that refused sends us instead: a `tcUrl`.
    pub redirect: Option<String>,
}

/// A redirect may hold a token.
impl fmt::Debug for OutsideEnd {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("OutsideEnd");
        shown.field("fault", &self.fault).finish_non_exhaustive()
    }
}

/// News on their way to the control thread, from all workers of a node.
#[derive(Debug)]
pub struct NewsRoad {
    news: ArrayQueue<News>,
    waker: OnceLock<Waker>,
}

impl NewsRoad {
    /// A road on which so many may be.
    #[must_use]
    pub fn new(news_max: usize) -> Self {
        Self { news: ArrayQueue::new(news_max.max(1)), waker: OnceLock::new() }
    }

    /// Who is woken when some come; the first one that is named stays.
    pub fn set_waker(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.waker.set(Waker::new(wake));
    }

    /// Sends some.
    ///
    /// # Errors
    /// The news, when as many as may be are on their way.
    pub fn send(&self, news: News) -> Result<(), News> {
        self.news.push(news)?;
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
        Ok(())
    }

    /// The oldest.
    #[must_use]
    pub fn take(&self) -> Option<News> {
        self.news.pop()
    }
}

impl Default for NewsRoad {
    /// One that leads nowhere much, for workers without a control thread.
    fn default() -> Self {
        Self::new(16)
    }
}
