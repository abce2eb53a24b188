//! Streams that back ends connect with another server: what is published here is pushed there, what
//! is played here is fetched from there.
//!
//! The control thread decides what is pushed and pulled, and is told of both. Of publishers it is
//! told whose back end may send them on: where to, or that a stream goes nowhere, so that what was
//! said of the publisher before holds no longer; and when they are gone. The URLs may hold stream
//! keys: nothing here prints them.

use std::sync::Arc;

use super::Worker;
use super::connection::{Connection, Publish};
use super::outside::{Forward, News};
use super::outside_url::OutsideRule;
use super::publish::app_of;

/// Where what a connection is about to publish goes, and where what it plays comes from, by
/// message stream.
pub(super) type Forwards = Vec<(u32, Arc<OutsideRule>)>;

impl Worker {
    /// A publisher begins. Gives the number by which its end is to be told.
    pub(super) fn tell_forward(
        &mut self,
        connection: &mut Connection,
        message_stream: u32,
        name: &Arc<str>,
    ) -> Option<u64> {
        if !self.settings.app(app_of(name)).hooks.may_forward() {
            return None;
        }
        let to = take_forward(connection, message_stream);
        let number = self.hooks.next_number();
        let forward = Forward { name: Arc::clone(name), core: self.index(), number };
        self.tell_news(News::Forward { forward, to });
        Some(number)
    }

    /// A player is about to ask for a stream. Whether that is fetched by the word of its back end.
    pub(super) fn tell_fetch(
        &mut self,
        connection: &mut Connection,
        message_stream: u32,
        name: &Arc<str>,
    ) -> bool {
        let from = take_forward(connection, message_stream);
        let fetches = from.is_some();
        if let Some(from) = from {
            self.tell_news(News::Fetch { name: Arc::clone(name), from });
        }
        fetches
    }

    /// A publisher is gone.
    pub(super) fn forward_over(&mut self, publish: &Publish) {
        let Some(number) = publish.forward else { return };
        let Some(entry) = self.streams.get(publish.local) else { return };
        let forward = Forward { name: Arc::clone(&entry.name), core: self.index(), number };
        self.tell_news(News::ForwardOver(forward));
    }
}

fn take_forward(connection: &mut Connection, message_stream: u32) -> Option<Arc<OutsideRule>> {
    let forwards = &mut connection.hooked.as_mut()?.forwards;
    let place = forwards.iter().position(|(stream, _)| *stream == message_stream)?;
    Some(forwards.swap_remove(place).1)
}
