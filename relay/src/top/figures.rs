//! What the API tells, as far as it is shown, and the rates between two answers.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A list of the API.
#[derive(Debug, Deserialize)]
pub(super) struct List<T> {
    pub(super) items: Vec<T>,
    pub(super) next: Option<String>,
    #[serde(default)]
    pub(super) absent: Vec<Absent>,
}

/// A node whose part of a list is missing.
#[derive(Debug, Deserialize)]
pub(super) struct Absent {
    pub(super) node: String,
}

/// One row of `/api/v1/nodes`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Node {
    pub(super) node: String,
    pub(super) own: bool,
    pub(super) state: String,
    pub(super) version: String,
    pub(super) started_unix_ms: u64,
    pub(super) uptime_ms: u64,
    pub(super) read_unix_ms: u64,
    pub(super) streams: u64,
    pub(super) publishers: u64,
    pub(super) players: u64,
    pub(super) connections: u64,
    pub(super) ingest_bytes: u64,
    pub(super) egress_bytes: u64,
    pub(super) messages_dropped: BTreeMap<String, u64>,
    pub(super) players_dropped: BTreeMap<String, u64>,
    pub(super) player_jumps: BTreeMap<String, u64>,
    pub(super) refused: BTreeMap<String, u64>,
    pub(super) cores: Vec<Core>,
}

/// One worker.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Core {
    pub(super) busy_ms: u64,
    pub(super) wait_ms: u64,
}

/// One row of `/api/v1/streams`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Stream {
    pub(super) app: String,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) players: u64,
    pub(super) bytes_out: u64,
    pub(super) bits_per_second: Option<u64>,
    pub(super) uptime_ms: Option<u64>,
    pub(super) gop_ms: Option<u64>,
    pub(super) video: Option<Video>,
    pub(super) audio: Option<Audio>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Video {
    pub(super) codec: String,
    pub(super) width: Option<u64>,
    pub(super) height: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Audio {
    pub(super) codec: String,
}

/// One row of `/api/v1/links`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Link {
    pub(super) way: String,
}

/// Everything that was told at one time.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Nodes that tell their totals.
    pub(super) nodes: Vec<Node>,
    /// How many nodes there are.
    pub(super) known: usize,
    pub(super) streams: Vec<Stream>,
    pub(super) links: Vec<Link>,
    /// There are more streams than were asked for.
    pub(super) more: bool,
    /// It is of all nodes.
    pub(super) cluster: bool,
    /// Nodes that did not answer.
    pub(super) absent: Vec<String>,
}

/// The newest answer, and the one before.
#[derive(Debug)]
pub(super) struct Figures {
    before: Option<Answer>,
    now: Answer,
}

impl Figures {
    pub(super) fn new(first: Answer) -> Self {
        Self { before: None, now: first }
    }

    pub(super) fn take(&mut self, answer: Answer) {
        self.before = Some(std::mem::replace(&mut self.now, answer));
    }

    pub(super) fn now(&self) -> &Answer {
        &self.now
    }

    pub(super) fn streams(&self) -> &[Stream] {
        &self.now.streams
    }

    /// The node that answers.
    pub(super) fn own(&self) -> Option<&Node> {
        self.now.nodes.iter().find(|node| node.own)
    }

    /// Bits a second of something that only grows, of all nodes together.
    pub(super) fn rate(&self, total: fn(&Node) -> u64) -> Option<u64> {
        self.now
            .nodes
            .iter()
            .filter_map(|node| self.rate_of(node, total))
            .reduce(u64::saturating_add)
    }

    /// The same of one node, by its own clock.
    pub(super) fn rate_of(&self, node: &Node, total: fn(&Node) -> u64) -> Option<u64> {
        let then = self.then(node)?;
        let passed = node.read_unix_ms.checked_sub(then.read_unix_ms)?;
        per_second(total(then), total(node), passed)
    }

    /// Bits a second sent to players of a stream.
    pub(super) fn out(&self, stream: &Stream) -> Option<u64> {
        let same = |other: &&Stream| other.name == stream.name && other.app == stream.app;
        let then = self.before.as_ref()?.streams.iter().find(same)?;
        per_second(then.bytes_out, stream.bytes_out, self.passed()?)
    }

    /// How busy each core of a node was, in percent.
    pub(super) fn busy(&self, node: &Node) -> Vec<Option<u64>> {
        let then = self.then(node);
        let percent = |(number, core): (usize, &Core)| {
            let then = then?.cores.get(number)?;
            let busy = core.busy_ms.checked_sub(then.busy_ms)?;
            let waited = core.wait_ms.checked_sub(then.wait_ms)?;
            busy.saturating_mul(100).checked_div(busy + waited)
        };
        node.cores.iter().enumerate().map(percent).collect()
    }

    /// The same node as it was before, unless it was started anew since.
    fn then(&self, node: &Node) -> Option<&Node> {
        let mut nodes = self.before.as_ref()?.nodes.iter();
        let same = |other: &&Node| {
            other.node == node.node && other.started_unix_ms == node.started_unix_ms
        };
        nodes.find(same)
    }

    /// Milliseconds between the two answers, by the clock of the node.
    fn passed(&self) -> Option<u64> {
        let own = self.own()?;
        own.read_unix_ms.checked_sub(self.then(own)?.read_unix_ms).filter(|passed| *passed > 0)
    }
}

fn per_second(before: u64, now: u64, passed_ms: u64) -> Option<u64> {
    now.checked_sub(before)?.saturating_mul(8_000).checked_div(passed_ms)
}
