//! What one call asks for, in order, and what it counts.

use std::collections::VecDeque;

use bytes::Bytes;

use super::command::{Command, Line};
use super::counters::Counters;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    commands: VecDeque<Command>,
    pub(super) counters: Counters,
}

impl Outbox {
    pub(super) fn push(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    pub(super) fn send(&mut self, line: Line, payload: Bytes) {
        self.counters.sent += 1;
        self.counters.sent_bytes += u64::try_from(payload.len()).unwrap_or(u64::MAX);
        self.push(Command::Send { line, payload });
    }

    pub(super) fn pop(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Gives room back that a storm has left.
    pub(super) fn shrink(&mut self) {
        if self.commands.is_empty() && crate::limits::is_sparse(0, self.commands.capacity()) {
            self.commands.shrink_to_fit();
        }
    }
}
