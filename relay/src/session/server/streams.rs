//! The message streams of one connection and what each is used for (RTMP 1.0 section 7.2.1.3).
//!
//! Ids count up from 1: GStreamer takes 0 for an error, since it stands for the connection. Some
//! encoders never ask for an id and use 0 or 1 all the same; they get it. No other id can be used
//! that was not given, and a limit bounds all of them together.

use std::collections::VecDeque;

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
    /// Names whose publishing ended here, the newest last.
    ended: VecDeque<StreamName>,
    max: usize,
}

/// The largest id that a client may use without having been given it.
const UNASKED_ID_MAX: u32 = 1;

impl Streams {
    pub(super) fn new(max: usize) -> Self {
        Self { list: Vec::new(), next_id: 1, ended: VecDeque::new(), max }
    }

    /// A new stream's id.
    pub(super) fn create(&mut self) -> Result<u32, SessionError> {
        // Those in use are few, so one that is free comes soon.
        while self.list.iter().any(|stream| stream.id == self.next_id) {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        }
        let id = self.next_id;
        self.next_id = id.checked_add(1).unwrap_or(1);
        self.add(id)?;
        Ok(id)
    }

    /// The stream of that id, made if it is not there and may be used unasked; `None` when it may
    /// not.
    pub(super) fn usable(&mut self, id: u32) -> Result<Option<&mut Stream>, SessionError> {
        let index = match self.list.iter().position(|stream| stream.id == id) {
            Some(index) => index,
            None if id <= UNASKED_ID_MAX => self.add(id)?,
            None => return Ok(None),
        };
        Ok(Some(&mut self.list[index]))
    }

    fn add(&mut self, id: u32) -> Result<usize, SessionError> {
        if self.list.len() >= self.max {
            return Err(SessionError::TooManyStreams { limit: self.max });
        }
        self.list.push(Stream { id, role: Role::Idle });
        Ok(self.list.len() - 1)
    }

    pub(super) fn get(&mut self, id: u32) -> Option<&mut Stream> {
        self.list.iter_mut().find(|stream| stream.id == id)
    }

    /// Removes a stream; gives what it was used for.
    pub(super) fn remove(&mut self, id: u32) -> Option<Role> {
        let index = self.list.iter().position(|stream| stream.id == id)?;
        let role = self.list[index].role.clone();
        self.end(id);
        self.list.remove(index);
        Some(role)
    }

    /// Ends what a stream is used for.
    pub(super) fn end(&mut self, id: u32) {
        let Some(stream) = self.list.iter_mut().find(|stream| stream.id == id) else { return };
        if let Role::Publishing(name) = std::mem::replace(&mut stream.role, Role::Idle) {
            if self.ended.len() >= self.max {
                self.ended.pop_front();
            }
            self.ended.push_back(name);
        }
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

    /// The publishing stream that an FCUnpublish means that came on message stream `id`: the one of
    /// that name, else its own, else the only one there is; for some encoders name it differently
    /// than in publish. A name that ended already means nothing more.
    pub(super) fn publishing_as(&self, id: u32, name: Option<&StreamName>) -> Option<u32> {
        let named = self.list.iter().find(|stream| match &stream.role {
            Role::Publishing(other) => Some(other) == name,
            _ => false,
        });
        match named {
            Some(stream) => Some(stream.id),
            None if self.publishing_exactly(id) => Some(id),
            None if self.ended.iter().any(|ended| Some(ended) == name) => None,
            None => self.publishing(id),
        }
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
