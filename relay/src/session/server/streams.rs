//! The message streams of one connection and what each is used for (RTMP 1.0 section 7.2.1.3).
//!
//! Ids count up from 1: GStreamer takes 0 for an error, since it stands for the connection. A
//! client that never asked for an id and uses one all the same gets it; a limit bounds both kinds
//! together.

use super::super::error::SessionError;
use crate::wire::stream_name::StreamName;

/// What a message stream is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Idle,
    /// Publishing was asked for; the verdict is outstanding.
    WantsPublish(StreamName),
    Publishing(StreamName),
    /// Playing was asked for; the verdict is outstanding.
    WantsPlay(StreamName),
    Playing {
        audio: bool,
        video: bool,
    },
}

/// One message stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) role: Role,
}

/// All of them, in the order in which they were created.
#[derive(Debug)]
pub(super) struct Streams {
    list: Vec<Stream>,
    next_id: u32,
    max: usize,
}

impl Streams {
    pub(super) fn new(max: usize) -> Self {
        Self { list: Vec::new(), next_id: 1, max }
    }

    /// A new stream's id.
    pub(super) fn create(&mut self) -> Result<u32, SessionError> {
        let id = self.next_id;
        self.add(id)?;
        Ok(id)
    }

    /// The stream of that id, made if it is not there.
    pub(super) fn get_or_create(&mut self, id: u32) -> Result<&mut Stream, SessionError> {
        let index = match self.list.iter().position(|stream| stream.id == id) {
            Some(index) => index,
            None => self.add(id)?,
        };
        Ok(&mut self.list[index])
    }

    fn add(&mut self, id: u32) -> Result<usize, SessionError> {
        if self.list.len() >= self.max {
            return Err(SessionError::TooManyStreams { limit: self.max });
        }
        self.list.push(Stream { id, role: Role::Idle });
        self.next_id = self.next_id.max(id.saturating_add(1));
        Ok(self.list.len() - 1)
    }

    pub(super) fn get(&mut self, id: u32) -> Option<&mut Stream> {
        self.list.iter_mut().find(|stream| stream.id == id)
    }

    /// Removes a stream; gives what it was used for.
    pub(super) fn remove(&mut self, id: u32) -> Option<Role> {
        let index = self.list.iter().position(|stream| stream.id == id)?;
        Some(self.list.remove(index).role)
    }

    /// The only or most recent stream.
    pub(super) fn newest(&self) -> Option<u32> {
        self.list.last().map(|stream| stream.id)
    }

    /// The publishing stream to which media of this message stream belongs: the one of that id, or,
    /// since some encoders use an id that they were never given, the only one there is.
    #[inline]
    pub(super) fn publishing(&self, id: u32) -> Option<u32> {
        if let Some(stream) = self.list.iter().find(|stream| stream.id == id)
            && stream.is_publishing()
        {
            return Some(id);
        }
        let mut publishing = self.list.iter().filter(|stream| stream.is_publishing());
        match (publishing.next(), publishing.next()) {
            (Some(only), None) => Some(only.id),
            _ => None,
        }
    }

    /// Whether the stream of exactly that id publishes.
    pub(super) fn publishing_exactly(&self, id: u32) -> bool {
        self.list.iter().any(|stream| stream.id == id && stream.is_publishing())
    }

    /// The publishing stream that FCUnpublish means: the one of that name, else the newest.
    pub(super) fn publishing_as(&self, name: Option<&StreamName>) -> Option<u32> {
        let newest = || self.list.iter().rev().find(|stream| stream.is_publishing());
        let named = self.list.iter().find(|stream| match &stream.role {
            Role::Publishing(other) => Some(other) == name,
            _ => false,
        });
        named.or_else(newest).map(|stream| stream.id)
    }

    pub(super) fn any_publishing(&self) -> bool {
        self.list.iter().any(Stream::is_publishing)
    }

    pub(super) fn any_playing(&self) -> bool {
        self.list.iter().any(|stream| matches!(stream.role, Role::Playing { .. }))
    }
}

impl Stream {
    fn is_publishing(&self) -> bool {
        matches!(self.role, Role::Publishing(_))
    }
}
