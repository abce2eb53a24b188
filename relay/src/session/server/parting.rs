//! How a server parts from clients before they do: told where to go instead, or that it is over.

use super::dialogue::Dialogue;
use crate::session::event::{PlayRefusal, PlayRefusalCode, PublishRefusal, Redirect};
use crate::wire::control::UserControl;
use crate::wire::reply::{self, Level};

impl Dialogue {
    /// The verdict on play: not here. Who announced that it understands is asked to connect there
    /// (E-RTMP "Reconnect Request") and told nothing else, or it would take it for the end. Others
    /// are refused, and told where in a way that some of them know.
    pub(super) fn redirect_play(&mut self, stream: u32, refusal: &PlayRefusal, to: &Redirect) {
        if !self.take_play_verdict(stream) {
            return;
        }
        let description = format!("{}; play it from {}", refusal.description, to.shown);
        self.redirect(stream, refusal.code.as_str(), description, to);
    }

    /// The verdict on publish: not here. Who publishes is told where in the same two ways.
    pub(super) fn redirect_publish(
        &mut self,
        stream: u32,
        refusal: &PublishRefusal,
        to: &Redirect,
    ) {
        if !self.take_publish_verdict(stream) {
            return;
        }
        let description = format!("{}; publish it to {}", refusal.description, to.shown);
        self.redirect(stream, refusal.code.as_str(), description, to);
    }

    fn redirect(&mut self, stream: u32, code: &str, description: String, to: &Redirect) {
        if self.reconnect_request(Some(&to.tc_url)) {
            self.give_up(stream, description);
            return;
        }
        self.output.connection_command(|out| {
            reply::redirect(out, &description, &to.tc_url, &to.url);
        });
        self.refuse(stream, code, &description);
    }

    /// Ends a play before its stream does, and says why.
    pub(super) fn play_ended(&mut self, stream: u32, description: &str) {
        if !self.is_playing(stream) {
            return;
        }
        self.output.event(UserControl::StreamEof { message_stream: stream });
        let code = PlayRefusalCode::Failed.as_str();
        self.output.stream_command(stream, |out| {
            reply::status(out, Level::Error, code, description, None);
        });
        self.give_up(stream, description.to_owned());
    }
}
