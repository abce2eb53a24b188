//! `/metrics/streams`: series of single streams, a bounded number of them.
//!
//! Names of streams are chosen by publishers, so they are unlimited, and Prometheus keeps a series
//! for each it ever saw. The largest streams have series of their own, as many as
//! `stream_series_max`; all others are added up under [`OTHER`]. A stream that is shown stays until
//! another one is clearly larger, or the series would flicker. The counters of the sum never fall:
//! it counts what streams gain while they are among the others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus::{Encoder, TextEncoder};
use sha2::{Digest, Sha256};

use super::ask::{NoAnswer, ask};
use super::families::{Families, float};
use super::http::ApiError;
use super::state::State;
use crate::worker::report::{HomeSum, PAGE_MAX, Query, StreamSum};

/// The name of all that have no series of their own. No stream's name is without a slash.
const OTHER: &str = "_other";

/// Longest value of a label.
const LABEL_BYTES_MAX: usize = 64;

/// Whoever asks sooner than this is given the same answer again: the page is open to everybody, and
/// workers go through all their streams for it.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// A shown stream counts for so many quarters of its size against those that are not.
const STAYING_QUARTERS: u64 = 5;

/// What is remembered from one scrape to the next.
#[derive(Default)]
pub(super) struct StreamSeries(tokio::sync::Mutex<Memory>);

#[derive(Default)]
struct Memory {
    table: Table,
    answer: Option<(Instant, String)>,
}

/// All streams there are, and which of them are shown.
#[derive(Debug, Default)]
struct Table {
    known: HashMap<Arc<str>, Known>,
    other: Totals,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    shown: bool,
    seen: Totals,
}

/// Bytes that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Totals {
    bytes_in: u64,
    bytes_out: u64,
}

/// One stream, added up over all workers.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    players: usize,
    bytes_out: u64,
    home: Option<HomeSum>,
}

/// What the page shows.
#[derive(Debug, Default)]
struct View {
    streams: Vec<(Arc<str>, Sum)>,
    other: Totals,
    other_players: usize,
    other_streams: usize,
}

/// `GET /metrics/streams`
pub(super) async fn exposition(Shared(state): Shared<Arc<State>>) -> Result<Response, ApiError> {
    // One at a time: who waits finds a fresh answer.
    let mut memory = state.stream_series.0.lock().await;
    let fresh = memory.answer.as_ref().filter(|(made, _)| made.elapsed() < FRESH_FOR);
    let text = match fresh {
        Some((_, text)) => text.clone(),
        None => {
            let sums = all(&state).await?;
            let most = state.in_force().limits.stream_series_max;
            let view = memory.table.take(sums, most);
            let text = text(&view, &state).map_err(|error| {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                ApiError::new(status, "internal", error.to_string())
            })?;
            memory.answer = Some((Instant::now(), text.clone()));
            text
        }
    };
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}

/// Every stream of every worker, some at a time so that no worker is kept from its players.
async fn all(state: &State) -> Result<BTreeMap<Arc<str>, Sum>, NoAnswer> {
    let mut sums: BTreeMap<Arc<str>, Sum> = BTreeMap::new();
    for worker in &state.workers {
        let mut from = Some(0);
        while let Some(slot) = from {
            let query = |reply| Query::StreamSums { from: slot, limit: PAGE_MAX, reply };
            let part = ask(worker, query).await?;
            for row in part.rows {
                add(&mut sums, row);
            }
            from = part.next;
        }
    }
    Ok(sums)
}

fn add(sums: &mut BTreeMap<Arc<str>, Sum>, row: StreamSum) {
    let sum = sums.entry(row.name).or_default();
    sum.players = sum.players.saturating_add(row.players);
    sum.bytes_out = sum.bytes_out.saturating_add(row.bytes_out);
    // While a stream moves, two workers may call themselves its home; the older count is behind.
    let more = |home: &HomeSum| sum.home.is_none_or(|known| known.bytes_in < home.bytes_in);
    if let Some(home) = row.home.filter(more) {
        sum.home = Some(home);
    }
}

impl Sum {
    fn totals(&self) -> Totals {
        let bytes_in = self.home.map_or(0, |home| home.bytes_in);
        Totals { bytes_in, bytes_out: self.bytes_out }
    }
}

impl Table {
    /// Takes all streams that there are now, and says which are shown: at most so many.
    fn take(&mut self, sums: BTreeMap<Arc<str>, Sum>, most: usize) -> View {
        self.known.retain(|name, _| sums.contains_key(name));
        let mut ranked: Vec<(Arc<str>, Sum)> = sums.into_iter().collect();
        // Players first; among those with as many, by what came in. Names settle the rest.
        ranked.sort_by_cached_key(|(name, sum)| {
            let shown = self.known.get(name).is_some_and(|known| known.shown);
            let size = u64::try_from(sum.players).unwrap_or(u64::MAX).saturating_mul(4);
            let bytes = sum.totals().bytes_in;
            let rank = match shown {
                true => (size / 4 * STAYING_QUARTERS + size.min(1), bytes / 4 * STAYING_QUARTERS),
                false => (size, bytes),
            };
            (std::cmp::Reverse(rank), Arc::clone(name))
        });
        let mut view = View::default();
        for (place, (name, sum)) in ranked.into_iter().enumerate() {
            let shown = place < most;
            let totals = sum.totals();
            let known = self.known.entry(Arc::clone(&name)).or_default();
            if shown {
                view.streams.push((name, sum));
            } else {
                let gain = |now: u64, before: u64| now.saturating_sub(before);
                let other = &mut self.other;
                other.bytes_in += gain(totals.bytes_in, known.seen.bytes_in);
                other.bytes_out += gain(totals.bytes_out, known.seen.bytes_out);
                view.other_players = view.other_players.saturating_add(sum.players);
                view.other_streams += 1;
            }
            *known = Known { shown, seen: totals };
        }
        view.streams.sort_by(|a, b| a.0.cmp(&b.0));
        view.other = self.other;
        view
    }
}

fn text(view: &View, state: &State) -> Result<String, prometheus::Error> {
    const LABELS: &[&str] = &["stream"];
    let mut out = Families::default();
    let labels: Vec<String> = view.streams.iter().map(|(name, _)| label(name)).collect();
    let rows = || labels.iter().zip(view.streams.iter().map(|(_, sum)| sum));
    let moment = |moment: Duration| float(state.unix_ms(moment)) / 1e3;

    let help = "Payload bytes received for a stream; _other is what streams without series got.";
    let mut family = out.counter("relay_stream_ingest_bytes_total", LABELS, help);
    for (label, sum) in rows() {
        family.value(&[label], float(sum.totals().bytes_in));
    }
    family.value(&[OTHER], float(view.other.bytes_in));

    let help = "Bytes handed to the kernel for players of a stream.";
    let mut family = out.counter("relay_stream_egress_bytes_total", LABELS, help);
    for (label, sum) in rows() {
        family.value(&[label], float(sum.bytes_out));
    }
    family.value(&[OTHER], float(view.other.bytes_out));

    let count = |number: usize| float(u64::try_from(number).unwrap_or(u64::MAX));
    let help = "Players of a stream on this node, those that wait for it included.";
    let mut family = out.gauge("relay_stream_players", LABELS, help);
    for (label, sum) in rows() {
        family.value(&[label], count(sum.players));
    }
    family.value(&[OTHER], count(view.other_players));

    let help = "When a stream's publisher began, in seconds since 1970; none while it is gone.";
    let mut family = out.gauge("relay_stream_publisher_start_timestamp_seconds", LABELS, help);
    let published = rows().filter_map(|(label, sum)| Some((label, sum.home?.published?)));
    for (label, published) in published {
        family.value(&[label], moment(published));
    }
    let help = "When a stream's newest key frame came, in seconds since 1970.";
    let mut family = out.gauge("relay_stream_last_key_frame_timestamp_seconds", LABELS, help);
    let keys = rows().filter_map(|(label, sum)| Some((label, sum.home?.last_key?)));
    for (label, last_key) in keys {
        family.value(&[label], moment(last_key));
    }
    out.gauge("relay_stream_series_shown", &[], "Streams with series of their own.")
        .value(&[], count(view.streams.len()));
    out.gauge("relay_stream_series_others", &[], "Streams that are added up as _other.")
        .value(&[], count(view.other_streams));

    let mut families = out.into_inner();
    families.retain(|family| !family.get_metric().is_empty());
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A name as the value of a label. One that has to be cut ends in a digest of all of it, so that no
/// two streams share a series.
fn label(name: &str) -> String {
    if name.len() <= LABEL_BYTES_MAX && name != OTHER {
        return name.to_owned();
    }
    let digest: String =
        Sha256::digest(name).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let mut end = (LABEL_BYTES_MAX - 1 - digest.len()).min(name.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{digest}", &name[..end])
}

#[cfg(test)]
#[path = "stream_series_tests.rs"]
mod tests;
