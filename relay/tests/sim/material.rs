//! What is published: messages that tell which they are, and the ledger of all of them.
//!
//! A message's payload is made from its stream, the epoch (which of the stream's publishers sent
//! it), its number in the epoch and its length, every byte of it, so that a player that finds out
//! which one it received can check it whole.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use relay::limits::Limits;
use relay::wire::amf::Value;
use relay::wire::amf0::{Amf0Reader, write_string, write_value};
use relay::wire::message::MediaKind;

/// Names a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) stream: u8,
    pub(crate) epoch: u16,
    pub(crate) seq: u32,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Metadata,
    AudioHeader,
    VideoHeader,
    /// Video metadata, in streams of Enhanced RTMP.
    Colour,
    Key,
    Inter,
    Audio,
}

impl Kind {
    pub(crate) fn media(self) -> MediaKind {
        match self {
            Self::Metadata => MediaKind::Data,
            Self::AudioHeader | Self::Audio => MediaKind::Audio,
            Self::VideoHeader | Self::Colour | Self::Key | Self::Inter => MediaKind::Video,
        }
    }

    pub(crate) fn is_coded(self) -> bool {
        matches!(self, Self::Key | Self::Inter | Self::Audio)
    }

    /// The place of a header among those in force.
    fn header(self) -> Option<usize> {
        match self {
            Self::Metadata => Some(0),
            Self::AudioHeader => Some(1),
            Self::VideoHeader => Some(2),
            Self::Colour => Some(3),
            _ => None,
        }
    }
}

/// Headers in force: the numbers of the newest metadata, audio header, video header and video
/// metadata.
pub(crate) type Headers = [Option<u32>; 4];

/// Whether a stream is one of Enhanced RTMP: every other one is.
pub(crate) fn is_enhanced(stream: u8) -> bool {
    stream % 2 == 1
}

/// Sets the header that this message is, if it is one.
pub(crate) fn set_header(headers: &mut Headers, kind: Kind, seq: u32) {
    if let Some(place) = kind.header() {
        headers[place] = Some(seq);
    }
}

/// One message as it was published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) kind: Kind,
    /// Payload bytes.
    pub(crate) bytes: usize,
    /// As the publisher stamped it, in milliseconds.
    pub(crate) timestamp: u32,
    /// When the publisher made it.
    pub(crate) at: Duration,
}

/// Everything that was published, and what players found out together.
#[derive(Default)]
pub(crate) struct Ledger {
    streams: BTreeMap<u8, Vec<Vec<Sent>>>,
    /// By how much each node moved each epoch's coded messages in time: the same for all players.
    offsets: BTreeMap<(u8, u16, u8), Moved>,
    /// The last message of each epoch that players who missed nothing were sent.
    tails: BTreeMap<(u8, u16), BTreeSet<u32>>,
}

/// How a node moved the coded messages of an epoch.
#[derive(Clone, Copy, Debug)]
struct Moved {
    offset: u32,
    /// The first time of which that was seen.
    time: u32,
    /// The time of those that were held up.
    floor: Option<u32>,
    /// It was seen of two times.
    sure: bool,
}

/// By how much a message may have been held up, in milliseconds.
const HELD_UP_MAX: u32 = 1_000;

/// Shared by publishers, who write it, and players, who check against it.
pub(crate) type SharedLedger = Rc<RefCell<Ledger>>;

impl Ledger {
    /// Another publisher of a stream begins; gives its epoch.
    pub(crate) fn begin(&mut self, stream: u8) -> u16 {
        let epochs = self.streams.entry(stream).or_default();
        epochs.push(Vec::new());
        u16::try_from(epochs.len() - 1).unwrap()
    }

    /// The next message of an epoch.
    pub(crate) fn note(&mut self, stream: u8, epoch: u16, sent: Sent) -> Id {
        let messages = &mut self.streams.get_mut(&stream).unwrap()[usize::from(epoch)];
        messages.push(sent);
        Id { stream, epoch, seq: u32::try_from(messages.len() - 1).unwrap() }
    }

    /// A message that was published; `None` when there was none of that number.
    pub(crate) fn get(&self, id: Id) -> Option<&Sent> {
        self.epoch(id.stream, id.epoch)?.get(usize::try_from(id.seq).unwrap())
    }

    /// All messages of an epoch.
    pub(crate) fn epoch(&self, stream: u8, epoch: u16) -> Option<&[Sent]> {
        self.streams.get(&stream)?.get(usize::from(epoch)).map(Vec::as_slice)
    }

    /// The newest message of a stream.
    pub(crate) fn last(&self, stream: u8) -> Option<Id> {
        let epochs = self.streams.get(&stream)?;
        let epoch = epochs.iter().rposition(|epoch| !epoch.is_empty())?;
        let seq = u32::try_from(epochs[epoch].len() - 1).unwrap();
        Some(Id { stream, epoch: u16::try_from(epoch).unwrap(), seq })
    }

    /// The most that a log may hold of a stream: what was published within `span` of the newest
    /// message, each message a segment of its own, and a rendered prelude.
    pub(crate) fn log_bytes_max(&self, stream: u8, span: Duration) -> usize {
        let newest_first = self.streams.get(&stream).into_iter().flatten().flatten().rev();
        let newest = newest_first.clone().next().map_or(Duration::ZERO, |sent| sent.at);
        let held = newest_first.take_while(|sent| newest.saturating_sub(sent.at) <= span);
        held.map(|sent| sent.bytes + MESSAGE_OVERHEAD).sum::<usize>() + MESSAGE_OVERHEAD
    }

    /// Messages of one kind.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        self.streams.values().flatten().flatten().filter(|sent| sent.kind == kind).count()
    }

    /// Payload bytes of all messages of audio and video.
    pub(crate) fn payload_bytes(&self) -> u64 {
        let media = |sent: &&Sent| sent.kind != Kind::Metadata;
        let all = self.streams.values().flatten().flatten().filter(media);
        u64::try_from(all.map(|sent| sent.bytes).sum::<usize>()).unwrap()
    }

    /// Messages of all streams.
    pub(crate) fn messages(&self) -> usize {
        self.streams.values().flatten().map(Vec::len).sum()
    }

    /// The headers that a player must know before it can use the message `id`.
    pub(crate) fn in_force(&self, id: Id) -> Headers {
        let mut headers = Headers::default();
        let before = self.epoch(id.stream, id.epoch).unwrap_or_default();
        for (seq, sent) in before.iter().enumerate().take(usize::try_from(id.seq).unwrap()) {
            set_header(&mut headers, sent.kind, u32::try_from(seq).unwrap());
        }
        headers
    }

    /// A player of this node was sent a coded message at this time of the relay's: moved as every
    /// other of its epoch there, but for those that would have come before what players were sent
    /// of an earlier epoch, which all have the time of the newest of that.
    pub(crate) fn check_offset(&mut self, id: Id, time: u32, node: u8) {
        let offset = time.wrapping_sub(self.get(id).unwrap().timestamp);
        let moved = Moved { offset, time, floor: None, sure: false };
        let known = self.offsets.entry((id.stream, id.epoch, node)).or_insert(moved);
        if offset == known.offset {
            known.sure |= time != known.time;
            return;
        }
        let later = offset.wrapping_sub(known.offset);
        if later < HELD_UP_MAX && known.floor.is_none_or(|floor| floor == time) {
            known.floor = Some(time);
            return;
        }
        let held_up = known.floor.is_none_or(|floor| floor == known.time) && !known.sure;
        assert!(
            later.wrapping_neg() < HELD_UP_MAX && held_up,
            "{id:?} was moved by {offset} ms on node {node}, others of its epoch by {known:?}"
        );
        *known = Moved { floor: Some(known.time), ..moved };
    }

    /// A node on which nobody plays a stream may forget it, and with it how it moved its time.
    pub(crate) fn forget_offsets(&mut self, stream: u8, node: u8) {
        self.offsets.retain(|(of, _, on), _| (*of, *on) != (stream, node));
    }

    /// Whether any player was sent a coded message of this epoch.
    pub(crate) fn was_relayed(&self, stream: u8, epoch: u16) -> bool {
        let of_epoch = (stream, epoch, 0)..=(stream, epoch, u8::MAX);
        self.offsets.range(of_epoch).next().is_some()
    }

    /// The first node's time of a coded message that some player was sent there.
    pub(crate) fn relayed_time(&self, id: Id) -> u32 {
        let offset = self.offsets[&(id.stream, id.epoch, 0)].offset;
        self.get(id).unwrap().timestamp.wrapping_add(offset)
    }

    /// The last message of an epoch, as all who missed nothing saw it.
    pub(crate) fn tail(&self, stream: u8, epoch: u16) -> Option<Id> {
        let seq = *self.tails.get(&(stream, epoch))?.first()?;
        Some(Id { stream, epoch, seq })
    }

    /// A player that misses nothing went over from this message to the next epoch.
    pub(crate) fn note_tail(&mut self, id: Id) {
        self.tails.entry((id.stream, id.epoch)).or_default().insert(id.seq);
    }

    /// Whether all who missed nothing saw an epoch end with the last message of it.
    pub(crate) fn was_whole(&self, stream: u8, epoch: u16) -> bool {
        let last = self.epoch(stream, epoch).and_then(|sent| sent.len().checked_sub(1));
        let tails = self.tails.get(&(stream, epoch)).into_iter().flatten();
        let mut tails = tails.map(|seq| usize::try_from(*seq).ok());
        tails.next() == Some(last) && tails.next().is_none()
    }

    /// All who missed nothing saw every epoch end with the same message.
    pub(crate) fn check_tails(&self) {
        for ((stream, epoch), tails) in &self.tails {
            let several = tails.len() > 1;
            assert!(!several, "stream {stream}, epoch {epoch} ended with each of {tails:?}");
        }
    }
}

/// The payload of a message, `bytes` long in all or as short as it can be.
pub(crate) fn payload(id: Id, kind: Kind, bytes: usize) -> Vec<u8> {
    let enhanced = |first| [&[first][..], b"hvc1"].concat();
    let mut behind = Vec::new();
    let mut out = match kind {
        Kind::Metadata => return metadata(id, bytes),
        Kind::AudioHeader => vec![0xAF, 0],
        Kind::Audio => vec![0xAF, 1],
        // One message for two tracks; that of the second one is short.
        Kind::VideoHeader if is_enhanced(id.stream) => {
            behind = vec![1, 0, 0, 2, 0xDD, 0xEE];
            let own = bytes.saturating_sub(MANY_TRACKS + behind.len()).max(ID_BYTES);
            let own = u32::try_from(own).unwrap().to_be_bytes();
            [&[MANY_TRACKS_HEADER.0, MANY_TRACKS_HEADER.1][..], b"hvc1", &[0], &own[1..]].concat()
        }
        Kind::Key if is_enhanced(id.stream) => enhanced(0x93),
        // Every third frame is of the second track, and half of those are its key frames.
        Kind::Inter if is_enhanced(id.stream) && id.seq.is_multiple_of(3) => {
            let first = if id.seq.is_multiple_of(2) { 0x96 } else { 0xA6 };
            [&[first, ONE_TRACK][..], b"hvc1", &[1]].concat()
        }
        Kind::Inter if is_enhanced(id.stream) => enhanced(0xA3),
        Kind::Colour => enhanced(0xD4),
        Kind::VideoHeader => vec![0x17, 0, 0, 0, 0],
        Kind::Key => vec![0x17, 1, 0, 0, 0],
        Kind::Inter => vec![0x27, 1, 0, 0, 0],
    };
    out.push(id.stream);
    out.extend_from_slice(&id.epoch.to_be_bytes());
    out.extend_from_slice(&id.seq.to_be_bytes());
    fill(&mut out, id, bytes.saturating_sub(behind.len()));
    out.extend_from_slice(&behind);
    out
}

/// The first bytes of a sequence header of many tracks, and of a frame of one track among several.
const MANY_TRACKS_HEADER: (u8, u8) = (0x96, 0x10);
const ONE_TRACK: u8 = 1;
/// Bytes before the first track's body.
const MANY_TRACKS: usize = 10;
/// Bytes in which a payload says which message it is.
const ID_BYTES: usize = 7;

/// Which message a payload says it is.
pub(crate) fn read(media: MediaKind, payload: &[u8]) -> Option<Id> {
    let ids = match media {
        MediaKind::Data => return read_metadata(payload),
        MediaKind::Audio => payload.get(2..9)?,
        MediaKind::Video => {
            let at = match *payload.first_chunk()? {
                [first, second] if (first, second) == MANY_TRACKS_HEADER => MANY_TRACKS,
                [0x96 | 0xA6, ONE_TRACK] => 7,
                _ => 5,
            };
            payload.get(at..at + ID_BYTES)?
        }
    };
    Some(Id {
        stream: ids[0],
        epoch: u16::from_be_bytes(*ids[1..].first_chunk()?),
        seq: u32::from_be_bytes(*ids[3..].first_chunk()?),
    })
}

fn metadata(id: Id, bytes: usize) -> Vec<u8> {
    let mut filler = Vec::new();
    fill(&mut filler, id, bytes);
    let filler: String = filler.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    let mut out = BytesMut::new();
    write_string(&mut out, b"onMetaData");
    let properties = vec![
        (&b"stream"[..], Value::Number(id.stream.into())),
        (b"epoch", Value::Number(id.epoch.into())),
        (b"seq", Value::Number(id.seq.into())),
        (b"filler", Value::text(&filler)),
    ];
    write_value(&mut out, &Value::EcmaArray(properties));
    out.to_vec()
}

fn read_metadata(payload: &[u8]) -> Option<Id> {
    let mut reader = Amf0Reader::new(payload, &Limits::default());
    if reader.read().ok()?.as_bytes()? != b"onMetaData" {
        return None;
    }
    let body = reader.read().ok()?;
    let number = |key| body.get(key).and_then(Value::as_u32);
    Some(Id {
        stream: u8::try_from(number("stream")?).ok()?,
        epoch: u16::try_from(number("epoch")?).ok()?,
        seq: number("seq")?,
    })
}

/// Appends bytes that follow from the message's name until `out` has its length.
fn fill(out: &mut Vec<u8>, id: Id, bytes: usize) {
    let seed = (u64::from(id.stream) << 48) | (u64::from(id.epoch) << 32) | u64::from(id.seq);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while out.len() < bytes {
        state = state.wrapping_mul(0xd129_0d3a_95c2_5b1d).rotate_left(17) ^ seed;
        let word = state.to_le_bytes();
        out.extend_from_slice(&word[..word.len().min(bytes - out.len())]);
    }
}

/// What a message costs in a log besides its payload: chunk headers, its entry in the index, what a
/// segment costs, and the rest of a metadata message.
const MESSAGE_OVERHEAD: usize = 450;
