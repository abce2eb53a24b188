//! Figures made into lines of text of a given width. Pure: it knows no terminal.
//!
//! Names come from publishers. Whatever in them could move a cursor or change a colour is shown as
//! a question mark.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::figures::{Figures, Node, Stream};

/// What a line is, for whoever gives it a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text.
    Plain,
    /// The headings of columns.
    Heading,
    /// Something is wrong.
    Trouble,
    /// Said beside the matter.
    Soft,
}

/// One line of the screen, at most as wide as it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) kind: Kind,
    pub(super) text: String,
}

/// By what streams are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Players,
    In,
    Out,
    Name,
    Age,
}

/// What the user has chosen.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) order: Order,
    pub(super) upside_down: bool,
    pub(super) paused: bool,
    /// Why the figures are old.
    pub(super) trouble: Option<String>,
    /// The first stream shown.
    first: usize,
}

/// Columns besides the name: heading, width, whether numbers.
const COLUMNS: [(&str, usize, bool); 7] = [
    ("STATE", 8, false),
    ("PLAYERS", 8, true),
    ("IN", 13, true),
    ("OUT", 13, true),
    ("MEDIA", 20, false),
    ("GOP", 7, true),
    ("AGE", 12, true),
];

impl Order {
    /// The order that a key stands for.
    pub(super) fn of(letter: char) -> Option<Self> {
        Some(match letter {
            'p' => Self::Players,
            'i' => Self::In,
            'o' => Self::Out,
            'n' => Self::Name,
            'a' => Self::Age,
            _ => return None,
        })
    }
}

impl Table {
    /// Moves the list by so many rows.
    pub(super) fn scroll(&mut self, rows: isize, streams: usize) {
        self.first = self.first.saturating_add_signed(rows).min(streams.saturating_sub(1));
    }

    /// The whole screen.
    pub(super) fn lines(&self, figures: &Figures, width: usize, height: usize) -> Vec<Line> {
        let mut lines = self.head(figures, width);
        let room = height.saturating_sub(lines.len() + 1);
        let streams = self.sorted(figures);
        let first = self.first.min(streams.len().saturating_sub(1));
        let shown = streams.iter().skip(first).take(room);
        lines.extend(shown.map(|stream| plain(row(figures, stream, width))));
        if streams.is_empty() && room > 0 {
            lines.push(soft("Nobody publishes, nobody waits.".to_owned()));
        }
        while lines.len() + 1 < height {
            lines.push(plain(String::new()));
        }
        lines.truncate(height.saturating_sub(1));
        lines.push(soft(self.foot(figures, streams.len(), first, room)));
        for line in &mut lines {
            line.text = fit(&line.text, width);
        }
        // The headings are a bar over the whole width.
        if let Some(heading) = lines.iter_mut().find(|line| line.kind == Kind::Heading) {
            heading.text = format!("{:<width$}", heading.text);
        }
        lines
    }

    /// All of it without a screen, as wide as it is.
    pub(super) fn plain(&self, figures: &Figures) -> Vec<String> {
        const WIDTH: usize = 120;
        let head = self.head(figures, WIDTH).into_iter().map(|line| line.text);
        let rows = self.sorted(figures).into_iter().map(|stream| row(figures, stream, WIDTH));
        head.chain(rows).collect()
    }

    fn head(&self, figures: &Figures, width: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        if let Some(own) = figures.own() {
            lines.push(plain(format!(
                "relay {}, node {}, {}, up {}",
                shown(&own.version),
                shown(&own.node),
                shown(&own.state),
                span(own.uptime_ms)
            )));
        }
        let nodes = &figures.now().nodes;
        let sum = |number: fn(&Node) -> u64| nodes.iter().map(number).sum::<u64>();
        let links = &figures.now().links;
        // A stream that is on several nodes is one.
        let there = figures.streams().iter().filter(|stream| stream.state != "waiting").count();
        let streams = match figures.now().cluster {
            true => format!("{there}{}", if figures.now().more { "+" } else { "" }),
            false => sum(|node| node.streams).to_string(),
        };
        let mut counts = format!(
            "{} streams, {} publishing, {} players, {} connections, in {}, out {}",
            streams,
            sum(|node| node.publishers),
            sum(|node| node.players),
            sum(|node| node.connections),
            rate(figures.rate(|node| node.ingest_bytes)),
            rate(figures.rate(|node| node.egress_bytes)),
        );
        if figures.now().known > 1 || !links.is_empty() {
            let feeding = links.iter().filter(|link| link.way == "out").count();
            let fed = links.len() - feeding;
            let known = figures.now().known;
            counts.push_str(&format!(", {known} nodes, links {fed} in {feeding} out"));
        }
        lines.push(plain(counts));
        if figures.now().cluster {
            lines.extend(nodes.iter().map(|node| plain(self::node(figures, node))));
        } else {
            let busy = figures.own().map(|own| figures.busy(own)).unwrap_or_default();
            lines.push(plain(format!("busy {}", cores(&busy))));
        }
        let lost = losses(nodes);
        if !figures.now().absent.is_empty() {
            let text = format!("no answer from {}", shown(&figures.now().absent.join(", ")));
            lines.push(Line { kind: Kind::Trouble, text });
        }
        lines.push(match (&self.trouble, lost.is_empty()) {
            (Some(trouble), _) => Line { kind: Kind::Trouble, text: shown(trouble) },
            (None, true) => soft("nothing lost, nobody refused".to_owned()),
            (None, false) => plain(lost),
        });
        lines.push(plain(String::new()));
        lines.push(Line {
            kind: Kind::Heading,
            text: cells("STREAM", width, COLUMNS.map(|c| c.0.to_owned())),
        });
        lines
    }

    fn foot(&self, figures: &Figures, streams: usize, first: usize, room: usize) -> String {
        let mut text = "q quit, p i o n a sort, r reverse, space pause".to_owned();
        if streams > room {
            let last = (first + room).min(streams);
            text.push_str(&format!(", arrows: {} to {last} of {streams}", first + 1));
        }
        if figures.now().more {
            text.push_str(" (the first by name; there are more)");
        }
        if self.paused {
            text.push_str("  PAUSED");
        }
        text
    }

    fn sorted<'a>(&self, figures: &'a Figures) -> Vec<&'a Stream> {
        let mut streams: Vec<&Stream> = figures.streams().iter().collect();
        let name = |stream: &Stream| (stream.app.clone(), stream.name.clone());
        streams.sort_by_cached_key(|stream| {
            let by = match self.order {
                Order::Players => stream.players,
                Order::In => stream.bits_per_second.unwrap_or(0),
                Order::Out => figures.out(stream).unwrap_or(0),
                Order::Age => stream.uptime_ms.unwrap_or(0),
                Order::Name => 0,
            };
            (Reverse(by), name(stream))
        });
        if self.upside_down {
            streams.reverse();
        }
        streams
    }
}

fn row(figures: &Figures, stream: &Stream, width: usize) -> String {
    let name = shown(&format!("{}/{}", stream.app, stream.name));
    let mut media = Vec::new();
    if let Some(video) = &stream.video {
        let size = video.width.zip(video.height);
        let size = size.map(|(width, height)| format!(" {width}x{height}")).unwrap_or_default();
        media.push(format!("{}{size}", shown(&video.codec)));
    }
    if let Some(audio) = &stream.audio {
        media.push(shown(&audio.codec));
    }
    let seconds = |ms: u64| format!("{}.{} s", ms / 1_000, ms % 1_000 / 100);
    cells(
        &name,
        width,
        [
            shown(&stream.state),
            stream.players.to_string(),
            rate(stream.bits_per_second),
            rate(figures.out(stream)),
            media.join(" "),
            stream.gop_ms.map_or_else(|| "-".to_owned(), seconds),
            stream.uptime_ms.map_or_else(|| "-".to_owned(), span),
        ],
    )
}

/// A row: the name takes what room the columns leave; those that have none are left out.
fn cells(name: &str, width: usize, texts: [String; 7]) -> String {
    const NAME_MIN: usize = 16;
    const NAME_MAX: usize = 40;
    let mut room = width.saturating_sub(NAME_MIN);
    let mut rest = String::new();
    for ((_, columns, number), text) in COLUMNS.iter().zip(texts) {
        if room < columns + 1 {
            break;
        }
        room -= columns + 1;
        let text = fit(&text, *columns);
        rest.push_str(&match number {
            true => format!(" {text:>columns$}"),
            false => format!(" {text:<columns$}"),
        });
    }
    let name_width = (NAME_MIN + room).min(NAME_MAX);
    format!("{:<name_width$}{rest}", fit(name, name_width))
}

fn plain(text: String) -> Line {
    Line { kind: Kind::Plain, text }
}

fn soft(text: String) -> Line {
    Line { kind: Kind::Soft, text }
}

/// One node of a cluster.
fn node(figures: &Figures, node: &Node) -> String {
    format!(
        "{:<20} {:>6} players, out {:>13}, busy {}",
        fit(&format!("{} {}", shown(&node.node), shown(&node.state)), 20),
        node.players,
        rate(figures.rate_of(node, |node| node.egress_bytes)),
        cores(&figures.busy(node))
    )
}

/// What was lost and refused, by reason, the most first.
fn losses(nodes: &[Node]) -> String {
    let part = |what: &str, of: fn(&Node) -> &BTreeMap<String, u64>| {
        let mut counts: BTreeMap<&String, u64> = BTreeMap::new();
        for (why, count) in nodes.iter().flat_map(of) {
            let sum = counts.entry(why).or_default();
            *sum = sum.saturating_add(*count);
        }
        let mut counts: Vec<_> = counts.iter().filter(|(_, count)| **count > 0).collect();
        counts.sort_by_key(|(why, count)| (Reverse(**count), (**why).clone()));
        let counts: Vec<_> =
            counts.iter().take(3).map(|(why, count)| format!("{count} {}", shown(why))).collect();
        (!counts.is_empty()).then(|| format!("{what}: {}", counts.join(", ")))
    };
    let parts = [
        part("players lost", |node| &node.players_dropped),
        part("jumps", |node| &node.player_jumps),
        part("messages dropped", |node| &node.messages_dropped),
        part("refused", |node| &node.refused),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// A bar of ten for each core.
fn cores(busy: &[Option<u64>]) -> String {
    let core = |(number, busy): (usize, &Option<u64>)| match busy {
        None => format!("{number} [..........]    -"),
        Some(percent) => {
            let full = usize::try_from(percent / 10).unwrap_or(10).min(10);
            format!("{number} [{}{}] {percent:>3} %", "#".repeat(full), ".".repeat(10 - full))
        }
    };
    busy.iter().enumerate().map(core).collect::<Vec<_>>().join("  ")
}

/// `2.50 Mbit/s`, or a dash.
fn rate(bits: Option<u64>) -> String {
    let Some(bits) = bits else { return "-".to_owned() };
    let units = [("Gbit/s", 1_000_000_000), ("Mbit/s", 1_000_000), ("kbit/s", 1_000)];
    match units.iter().find(|(_, size)| bits >= *size) {
        None => format!("{bits} bit/s"),
        Some((unit, size)) => {
            let (whole, hundredths) = (bits / size, bits % size / (size / 100));
            match whole {
                0..=9 => format!("{whole}.{hundredths:02} {unit}"),
                10..=99 => format!("{whole}.{} {unit}", hundredths / 10),
                _ => format!("{whole} {unit}"),
            }
        }
    }
}

/// `2 h 5 min`.
fn span(ms: u64) -> String {
    let seconds = ms / 1_000;
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, min, s) => format!("{min} min {s} s"),
        (0, h, min, _) => format!("{h} h {min} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

/// Text of others, without what a terminal would take for an order.
fn shown(text: &str) -> String {
    let mark = |c: char| {
        let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || hidden { '?' } else { c }
    };
    text.chars().map(mark).collect()
}

fn fit(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        false => text.to_owned(),
        true if width == 0 => String::new(),
        true => text.chars().take(width - 1).chain(['~']).collect(),
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
