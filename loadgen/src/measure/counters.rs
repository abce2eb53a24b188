//! Counters: one table makes the struct, its names and what they mean.

use serde::{Deserialize, Serialize};

macro_rules! counters {
    ($($name:ident: $meaning:literal;)*) => {
        /// Plain numbers that only grow.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Counters {
            $(#[doc = $meaning] pub $name: u64,)*
        }

        impl Counters {
            /// Name, value and meaning of each, in the order of this file.
            #[must_use]
            pub fn table(&self) -> Vec<(&'static str, u64, &'static str)> {
                vec![$((stringify!($name), self.$name, $meaning),)*]
            }

            /// Adds others.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    publishers_started: "Sessions of publishers that the server let start.";
    publishers_lost: "Publishers whose session ended before its time.";
    players_planned: "Players that were due.";
    players_started: "Sessions of players that the server let start.";
    players_joined: "Players that came to their first key frame (of audio alone: first frame).";
    players_kept: "Players that received from their join until they left by plan.";
    players_lost: "Players whose session ended before its time.";
    bytes_received: "Bytes read from servers, handshakes included.";
    bytes_sent: "Bytes handed to the kernel for servers, handshakes included.";
    messages_received: "Audio and video frames received by verifying players.";
    messages_sent: "Audio and video frames published.";
    verified: "Frames whose content was proven to be the publisher's.";
    unverified: "Frames that carry no truth, of which only order and form were judged.";
    missing: "Frames that never came although later ones did.";
    gaps: "Places where frames are missing, each counted once per player.";
    doubled: "Frames that came again.";
    reordered: "Frames that came after later ones.";
    altered: "Frames whose bytes are not the publisher's.";
    foreign: "Frames of another stream than the one asked for.";
    backward: "Frames whose timestamp lies before that of an earlier one of its kind.";
    retimed: "Frames whose timestamp moved against the publisher's.";
    headless: "Frames that came before the sequence header of their kind.";
    keyless: "Video frames that came before the first key frame.";
    gops_equal: "Groups of pictures whose hash, audio included, is the publisher's.";
    gops_unequal: "Groups of pictures whose hash is not.";
    late: "Frames that came more than a second after they were due, a join's burst excepted.";
    stalls: "Silences of more than a second, each counted once per player.";
    republished: "Times that players saw the publisher begin anew.";
    reconnects: "Connections made again after a loss.";
    redirects: "Requests of servers to go elsewhere, obeyed.";
    failover_players: "Players that had frames before the command of failover.";
    failover_recovered: "Of those, players that were never without a frame for longer than --within after it.";
    failover_moves: "Times that they lost their connection after it, or were sent elsewhere.";
    attackers_started: "Hostile connections made.";
    attackers_closed: "Hostile connections that the server closed.";
    attackers_open: "Hostile connections still open when the load ended.";
    reads: "Reads of verifying players and publishers.";
    full_reads: "Of those, reads that filled their buffer, so that more was waiting.";
    counted_reads: "Reads of players that only count.";
    late_timers: "Timers that fired more than 10 ms late.";
    timers: "Timers that fired.";
    polls: "Requests of tunnels that were answered and could bring something.";
    empty_polls: "Of those, requests that brought nothing.";
    carriers: "Further connections of tunnels, whose server ended the one before.";
    unsent: "Frames that had to wait because the server took no more bytes.";
}
