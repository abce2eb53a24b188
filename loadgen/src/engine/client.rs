//! One connection of a worker, whoever it is for: its way through the reactor.

use std::collections::VecDeque;

use std::time::Duration;

use bytes::Bytes;
use relay::reactor::{Batch, ConnectionKey, SLICES_MAX};

use super::attack::Attacker;
use super::lane::Lane;
use super::player::Player;
use super::publisher::Publisher;
use super::task::{Loss, Task};

/// A connection made or being made.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) task: Task,
    pub(super) role: Role,
    /// Once the connection is there.
    pub(super) key: Option<ConnectionKey>,
    /// It says goodbye, and is closed when the server has closed, or soon.
    pub(super) leaving: bool,
    /// Our direction is ended, so that the server can end its own in order.
    pub(super) ended: bool,
    /// What lies below RTMP, unless it is TCP.
    pub(super) lane: Option<Box<Lane>>,
    sending: bool,
    outbox: VecDeque<Bytes>,
    outbox_bytes: usize,
}

/// What it is for.
#[derive(Debug)]
pub(super) enum Role {
    Opening,
    Publisher(Box<Publisher>),
    Player(Box<Player>),
    Attacker(Box<Attacker>),
}

impl Client {
    pub(super) fn new(task: Task) -> Self {
        Self {
            task,
            role: Role::Opening,
            key: None,
            leaving: false,
            ended: false,
            lane: None,
            sending: false,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
        }
    }

    /// Bytes that wait for the kernel to take them.
    pub(super) fn outbox_bytes(&self) -> usize {
        self.outbox_bytes + self.lane.as_ref().map_or(0, |lane| lane.waiting_bytes())
    }

    /// Puts bytes behind those that wait.
    pub(super) fn push(&mut self, bytes: Bytes) {
        let bytes = match &mut self.lane {
            Some(lane) => lane.push(bytes),
            None => Some(bytes),
        };
        let Some(bytes) = bytes else { return };
        self.outbox_bytes += bytes.len();
        self.outbox.push_back(bytes);
    }

    /// Puts what the session has to say behind what waits.
    pub(super) fn push_output(&mut self) {
        let output = match &mut self.role {
            Role::Publisher(publisher) => publisher.dialogue.take_output(),
            Role::Player(player) => player.voice.take_output(),
            Role::Opening | Role::Attacker(_) => None,
        };
        if let Some(bytes) = output {
            self.push(bytes);
        }
    }

    /// The next batch, unless one is on its way.
    pub(super) fn next_batch(&mut self, now: Duration) -> Result<Option<Batch>, Loss> {
        if self.sending {
            return Ok(None);
        }
        let mut slices = match &mut self.lane {
            Some(lane) => lane.next_batch(&mut self.outbox, now)?,
            None => {
                let count = self.outbox.len().min(SLICES_MAX);
                let slices: Vec<Bytes> = self.outbox.drain(..count).collect();
                self.outbox_bytes -= slices.iter().map(Bytes::len).sum::<usize>();
                slices
            }
        };
        if self.outbox.is_empty() {
            self.outbox_bytes = 0;
        }
        self.sending = !slices.is_empty();
        Ok(match slices.len() {
            0 => None,
            1 => slices.pop().map(Batch::One),
            _ => Some(Batch::Many(slices)),
        })
    }

    /// The batch is gone.
    pub(super) fn sent(&mut self) {
        self.sending = false;
    }

    /// Its connection is over. Whether its session can go on by another one.
    pub(super) fn outlives_connection(&mut self) -> bool {
        let outlives = self.lane.as_mut().is_some_and(|lane| lane.outlives_connection());
        self.sending &= !outlives;
        outlives
    }

    /// Whether the server has ended the connection, but not the session.
    pub(super) fn needs_connection(&self) -> bool {
        self.lane.as_ref().is_some_and(|lane| lane.needs_connection())
    }

    /// Nothing waits and nothing is on its way.
    pub(super) fn is_silent(&self) -> bool {
        let lane = self.lane.as_ref().is_none_or(|lane| lane.is_silent());
        !self.sending && self.outbox.is_empty() && lane
    }

    /// Whether the server let it begin.
    pub(super) fn began(&self) -> bool {
        match &self.role {
            Role::Publisher(publisher) => publisher.started().is_some(),
            Role::Player(player) => player.started(),
            Role::Opening | Role::Attacker(_) => false,
        }
    }
}
