//! Streams that their publishers' back ends send on: published here, and pushed to the server that
//! the back end named.
//!
//! The worker tells the control thread, which decides what is pushed, of each publisher whose back
//! end may do so: where its stream goes, or that it goes nowhere, so that what was said of the
//! publisher before it holds no longer; and when that publisher is gone. The URL may hold a stream
//! key: nothing here prints it.

use std::sync::Arc;

use super::Worker;
use super::connection::{Connection, Publish};
use super::labels::HookName::OnPublish;
use super::outside::{Forward, News};
use super::outside_url::OutsideRule;
use super::publish::app_of;

/// What a connection's publishers are sent on to, by their message streams, until they begin.
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
        let forwards = connection.hooked.as_mut().map(|hooked| &mut hooked.forwards);
        let to = forwards.and_then(|forwards| {
            let place = forwards.iter().position(|(stream, _)| *stream == message_stream)?;
            Some(forwards.swap_remove(place).1)
        });
        let number = self.hooks.next_number();
        let forward = Forward { name: Arc::clone(name), core: self.index(), number };
        self.tell_news(News::Forward { forward, to });
        Some(number)
    }

    /// A publisher is gone.
    pub(super) fn forward_over(&mut self, publish: &Publish) {
        let Some(number) = publish.forward else { return };
        let Some(entry) = self.streams.get(publish.local) else { return };
        let forward = Forward { name: Arc::clone(&entry.name), core: self.index(), number };
        self.tell_news(News::ForwardOver(forward));
    }
}

impl super::hook_settings::HookSettings {
    /// Whether an answer may send publishers on to another server: nginx's module asks for that by
    /// a redirect.
    #[must_use]
    pub fn may_forward(&self) -> bool {
        self.contract == Some(super::hook_settings::Contract::NginxRtmp) && self.has(OnPublish)
    }
}
