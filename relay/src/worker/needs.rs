//! What a stream asks of its players, held against what a player announced in connect.
//!
//! Nothing is kept from a player for it: FFmpeg announces nothing and understands nearly all. But
//! an operator whose players stay dark can see why: in one line of the log per connection, and in
//! one count.

use super::Worker;
use super::labels::StreamNeed;
use crate::reactor::ConnectionKey;
use crate::wire::needs::Need;

impl Worker {
    /// A player has joined: says, once per connection, what it did not announce.
    pub(super) fn judge_needs(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if std::mem::replace(&mut connection.needs_judged, true) {
            return;
        }
        let Some(client) = connection.speech.client() else { return };
        let log = connection.plays.first().and_then(|play| self.streams.get(play.local)?.log);
        let Some(newest) = log.and_then(|log| self.hub.log(log)?.newest()) else { return };
        let mut missing = newest.prelude.needs();
        missing.retain(|need| !client.announced(*need));
        if missing.is_empty() {
            return;
        }
        for label in StreamNeed::ALL.iter().filter(|label| missing.iter().any(|n| is(n, **label))) {
            self.cells.players_unannounced.at(*label).increment();
        }
        let needs: Vec<String> = missing.iter().map(Need::to_string).collect();
        tracing::info!(
            id = %connection.id,
            peer = %connection.peer,
            stream = connection.stream_name.as_deref().unwrap_or("-"),
            client = connection.client(),
            needs = needs.join(", "),
            "player did not announce what its stream asks for"
        );
    }
}

fn is(need: &Need, label: StreamNeed) -> bool {
    label
        == match need {
            Need::Codec(_) => StreamNeed::Codec,
            Need::Multitrack => StreamNeed::Multitrack,
            Need::VideoMetadata => StreamNeed::VideoMetadata,
        }
}
