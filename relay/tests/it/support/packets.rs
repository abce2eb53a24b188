//! FLV files as lists of packets, and the comparison of what was sent with what arrived.
//!
//! A packet is (kind, timestamp, hash of its payload), read straight from the tags (FLV 10.1 annex
//! E.4.1): no demuxer stands between the file and the verdict. Recordings are compared exactly and
//! in order; what a recording program adds of its own (sequence headers at its own places, an end
//! of sequence) is put into other roles than [`Role::Coded`] and judged apart.

use std::fmt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A data message, such as `onMetaData`.
    Data,
    /// An audio or video sequence header.
    Header,
    /// Coded audio or video.
    Coded,
    /// No media: the end of sequence that muxers write when they close, or an empty message.
    Nothing,
}

/// One audio, video or data message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Tag or message type: 8 audio, 9 video, 18 data.
    pub(crate) kind: u8,
    pub(crate) time_ms: u32,
    pub(crate) role: Role,
    /// The track; 0 where the message names none.
    pub(crate) track: u8,
    /// A video key frame of track 0.
    pub(crate) key: bool,
    pub(crate) bytes: usize,
    pub(crate) hash: [u8; 16],
}

impl Packet {
    pub(crate) fn new(kind: u8, time_ms: u32, payload: &[u8]) -> Self {
        let digest = Sha256::digest(payload);
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest[..16]);
        let (role, track) = role(kind, payload);
        let is_key = kind == 9 && payload.first().is_some_and(|byte| (byte >> 4) & 7 == 1);
        Self { kind, time_ms, role, track, key: is_key && track == 0, bytes: payload.len(), hash }
    }

    /// Whether both carry the same payload, whatever their times.
    pub(crate) fn same_payload(&self, other: &Self) -> bool {
        self.kind == other.kind && self.bytes == other.bytes && self.hash == other.hash
    }

    fn is_key_frame(&self) -> bool {
        self.key && self.role == Role::Coded
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            8 => "audio",
            9 if self.key => "key frame",
            9 => "video",
            _ => "data",
        };
        let [a, b, c, d, ..] = self.hash;
        write!(out, "{name} {:?} {} at {} ms, ", self.role, self.track, self.time_ms)?;
        write!(out, "{} bytes, {a:02x}{b:02x}{c:02x}{d:02x}", self.bytes)
    }
}

/// Role and track by what the clips and FFmpeg use: the legacy headers of H.264 and AAC (FLV annex
/// E.4.2 and E.4.3), and those of Enhanced RTMP v2 with at most one track in a message.
fn role(kind: u8, payload: &[u8]) -> (Role, u8) {
    match (kind, payload) {
        (8, [first, 0, ..]) if first >> 4 == 10 => (Role::Header, 0),
        (9, [first, 0, ..]) if first & 0x8f == 7 => (Role::Header, 0),
        (9, [first, 2, ..]) if first & 0x8f == 7 => (Role::Nothing, 0),
        (8, [0x95, multitrack, _, _, _, _, track, ..]) => (enhanced_role(*multitrack), *track),
        (9, [first, multitrack, _, _, _, _, track, ..]) if first & 0x8f == 0x86 => {
            (enhanced_role(*multitrack), *track)
        }
        (8, [first, ..]) if first >> 4 == 9 => (enhanced_role(*first), 0),
        (9, [first, ..]) if first & 0x80 != 0 => (enhanced_role(*first), 0),
        (8 | 9, []) => (Role::Nothing, 0),
        (8 | 9, _) => (Role::Coded, 0),
        _ => (Role::Data, 0),
    }
}

/// By a packet type of Enhanced RTMP: 4 is colour metadata or the layout of audio channels.
fn enhanced_role(byte: u8) -> Role {
    match byte & 15 {
        0 | 4 => Role::Header,
        2 => Role::Nothing,
        _ => Role::Coded,
    }
}

/// One tag of an FLV file: what a message carries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag<'a> {
    pub(crate) kind: u8,
    pub(crate) time_ms: u32,
    pub(crate) payload: &'a [u8],
}

/// The tags of a whole FLV file. A tag cut off at the end is left out, since a recorder that was
/// stopped leaves one; anything else that is not FLV is an error.
pub(crate) fn tags(file: &[u8]) -> Result<Vec<Tag<'_>>, String> {
    let Some((header, mut rest)) = file.split_at_checked(13) else {
        return Err(format!("only {} bytes, no FLV header", file.len()));
    };
    if !header.starts_with(b"FLV\x01") || header[5..9] != [0, 0, 0, 9] {
        return Err("does not start with an FLV header".to_owned());
    }
    let mut tags = Vec::new();
    while let Some((tag, behind)) = rest.split_at_checked(11) {
        let length = usize::from(tag[1]) << 16 | usize::from(tag[2]) << 8 | usize::from(tag[3]);
        let time_ms = u32::from_be_bytes([tag[7], tag[4], tag[5], tag[6]]);
        let Some((payload, behind)) = behind.split_at_checked(length) else { break };
        let Some((size, behind)) = behind.split_at_checked(4) else { break };
        let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]);
        if usize::try_from(size) != Ok(length + 11) {
            return Err(format!("tag {} says {size} behind {length} bytes", tags.len()));
        }
        tags.push(Tag { kind: tag[0], time_ms, payload });
        rest = behind;
    }
    Ok(tags)
}

/// What a file holds, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recording(pub(crate) Vec<Packet>);

impl Recording {
    pub(crate) fn of_file(path: &Path) -> Self {
        let bytes = std::fs::read(path)
            .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
        Self::parse(&bytes).unwrap_or_else(|wrong| panic!("{}: {wrong}", path.display()))
    }

    /// Reads a whole FLV file, as [`tags`] does.
    pub(crate) fn parse(file: &[u8]) -> Result<Self, String> {
        let packet = |tag: &Tag<'_>| Packet::new(tag.kind, tag.time_ms, tag.payload);
        Ok(Self(tags(file)?.iter().map(packet).collect()))
    }

    /// Coded audio and video, in order.
    pub(crate) fn coded(&self) -> Vec<Packet> {
        self.0.iter().copied().filter(|packet| packet.role == Role::Coded).collect()
    }

    pub(crate) fn data(&self) -> Vec<Packet> {
        self.0.iter().copied().filter(|packet| packet.role == Role::Data).collect()
    }

    /// How many packets may be missing at the start of a recording made by a player that was there
    /// from the beginning: what precedes the first key frame, or nothing when there is no video.
    pub(crate) fn before_first_key_frame(&self) -> usize {
        self.coded().iter().position(Packet::is_key_frame).unwrap_or(0)
    }

    /// Checks the recording of a player that was there before the publisher: every packet equal,
    /// in order and in time, but that it may begin at the first key frame.
    pub(crate) fn check_whole(&self, received: &Self) -> Result<(), String> {
        self.check_whole_but_last(received, 0)
    }

    /// The same for a recorder that may lose up to `lost_max` packets when it closes.
    pub(crate) fn check_whole_but_last(
        &self,
        received: &Self,
        lost_max: usize,
    ) -> Result<(), String> {
        let missing = self.check_tail(received, lost_max)?;
        let allowed = self.before_first_key_frame();
        if missing > allowed {
            return Err(format!("the first {missing} packets are missing, at most {allowed} may"));
        }
        Ok(())
    }

    /// Checks the recording of a player that joined on the way: it begins at a key frame and every
    /// packet from there to the end is equal, in order and in time. Gives the number of packets
    /// that went before.
    pub(crate) fn check_from_key_frame(&self, received: &Self) -> Result<usize, String> {
        match received.coded().first() {
            Some(first) if first.is_key_frame() => self.check_tail(received, 0),
            Some(first) => Err(format!("begins with {first:?} instead of a key frame")),
            None => Err("nothing was recorded".to_owned()),
        }
    }

    /// Checks a recording by a program that may put packets of different tracks into another
    /// order: from the first key frame recorded every packet of each track is equal, in order and
    /// in time, and nothing precedes it in the order of sending. Gives the number of packets that
    /// went before.
    pub(crate) fn check_tracks(&self, received: &Self) -> Result<usize, String> {
        let (sent, got) = (self.coded(), received.coded());
        let key = got.iter().find(|packet| packet.is_key_frame()).ok_or("no key frame came")?;
        let from = sent.iter().position(|packet| packet == key);
        let from = from.ok_or_else(|| format!("{key:?} was never sent"))?;
        let mut tracks: Vec<_> = sent.iter().map(|packet| (packet.kind, packet.track)).collect();
        tracks.sort_unstable();
        tracks.dedup();
        for track in tracks {
            let of_track = |packets: &[Packet]| {
                let own = packets.iter().copied().filter(|p| (p.kind, p.track) == track);
                Self(own.collect())
            };
            let (want, have) = (of_track(&sent[from..]), of_track(&got));
            let same = want.0.iter().zip(&have.0).take_while(|(want, have)| want == have).count();
            if same < want.0.len().max(have.0.len()) {
                let (want, have) = (want.0.get(same), have.0.get(same));
                return Err(format!(
                    "packet {same} of {track:?}: {want:?} was sent, {have:?} came"
                ));
            }
        }
        if got.len() != sent.len() - from {
            return Err(format!("{} packets came of {}", got.len(), sent.len() - from));
        }
        self.check_headers(received).map(|()| from)
    }

    /// Checks the recording of a player that joined a stream without video: every packet from its
    /// first to the end. Gives the number of packets that went before.
    pub(crate) fn check_from_anywhere(&self, received: &Self) -> Result<usize, String> {
        self.check_tail(received, 0)
    }

    /// Checks a recording that may end anywhere.
    pub(crate) fn check_start(&self, received: &Self) -> Result<(), String> {
        self.check_whole_but_last(received, usize::MAX / 2)
    }

    /// Checks that `received` is the end of what was sent, up to `lost_max` last packets, and gives
    /// the number of packets before it.
    fn check_tail(&self, received: &Self, lost_max: usize) -> Result<usize, String> {
        let (sent, got) = (self.coded(), received.coded());
        let first = got.first().ok_or("nothing was recorded")?;
        let from = sent
            .iter()
            .position(|packet| packet == first)
            .ok_or_else(|| format!("begins with {first:?}, which was never sent"))?;
        for (at, (want, have)) in sent[from..].iter().zip(&got).enumerate() {
            if want != have {
                return Err(format!("packet {at}: {want:?} was sent, {have:?} arrived"));
            }
        }
        let expected = sent.len() - from;
        if let Some(more) = got.get(expected) {
            return Err(format!("{} packets too many, first {more:?}", got.len() - expected));
        }
        if got.len() + lost_max < expected {
            let next = sent[from + got.len()];
            return Err(format!("{} of {expected} packets came, then {next:?} not", got.len()));
        }
        self.check_headers(received).map(|()| from)
    }

    /// Checks that each kind of media is preceded by a sequence header that was sent.
    pub(crate) fn check_headers(&self, received: &Self) -> Result<(), String> {
        let sent: Vec<_> = self.0.iter().filter(|packet| packet.role == Role::Header).collect();
        let mut ready = Vec::new();
        for packet in &received.0 {
            match packet.role {
                Role::Header if !sent.iter().any(|other| other.same_payload(packet)) => {
                    return Err(format!("{packet:?} was never sent"));
                }
                Role::Header => ready.push((packet.kind, packet.track)),
                Role::Coded if !ready.contains(&(packet.kind, packet.track)) => {
                    return Err(format!("{packet:?} comes without a sequence header before it"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks that within each kind of media no time lies before the one preceding it.
    pub(crate) fn check_monotonic(&self) -> Result<(), String> {
        for kind in [8, 9] {
            let of_kind: Vec<_> = self.coded().into_iter().filter(|p| p.kind == kind).collect();
            if let Some(pair) = of_kind.windows(2).find(|pair| pair[1].time_ms < pair[0].time_ms) {
                return Err(format!("{:?} comes after {:?}", pair[1], pair[0]));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip() -> Recording {
        let mut packets = vec![
            Packet::new(18, 0, b"\x02\x00\x0aonMetaData"),
            Packet::new(9, 0, &[0x17, 0, 0, 0, 0, 1]),
            Packet::new(8, 0, &[0xaf, 0, 0x12]),
            Packet::new(8, 0, &[0xaf, 1, 0]),
        ];
        for frame in 0..20u8 {
            let first = if frame % 5 == 0 { 0x17 } else { 0x27 };
            let time_ms = u32::from(frame) * 40;
            packets.push(Packet::new(9, time_ms + 1, &[first, 1, 0, 0, 0, frame]));
            packets.push(Packet::new(8, time_ms + 20, &[0xaf, 1, frame]));
        }
        packets.push(Packet::new(9, 900, &[0x17, 2, 0, 0, 0]));
        Recording(packets)
    }

    /// Applies `damage` to a perfect recording and says what the two verdicts are.
    fn check(whole: bool, from_key_frame: bool, damage: impl FnOnce(&mut Vec<Packet>)) {
        let sent = clip();
        let mut received = clip();
        damage(&mut received.0);
        assert_eq!(sent.check_whole(&received).is_ok(), whole, "{received:#?}");
        assert_eq!(sent.check_from_key_frame(&received).is_ok(), from_key_frame, "{received:#?}");
    }

    #[test]
    fn the_comparison_tells_every_kind_of_damage() {
        check(true, false, |_| {});
        check(true, true, |p| _ = p.remove(3));
        check(false, false, |p| drop(p.drain(3..5)));
        check(false, true, |p| drop(p.drain(3..14)));
        check(false, false, |p| _ = p.remove(20));
        check(false, false, |p| p.swap(20, 21));
        check(false, false, |p| p[20].time_ms += 1);
        check(false, false, |p| p[20].hash[15] ^= 1);
        check(false, false, |p| p.insert(20, p[20]));
        check(false, false, |p| _ = p.remove(p.len() - 2));
        check(false, false, |p| p.insert(p.len() - 1, Packet::new(8, 2000, &[0xaf, 1, 9])));
        check(false, false, |p| _ = p.remove(1));
        check(false, false, |p| p[2] = Packet::new(8, 0, &[0xaf, 0, 0x13]));
        check(false, false, |p| p.clear());
        check(true, false, |p| _ = p.pop());
    }

    /// Two tracks of each kind, the second one by messages of Enhanced RTMP.
    fn tracks() -> Recording {
        let second = |first, inner, body| [&[first, inner][..], b"avc1\x01", &[body]].concat();
        let mut packets = vec![
            Packet::new(9, 0, &[0x17, 0, 1]),
            Packet::new(9, 0, &second(0x96, 0, 1)),
            Packet::new(8, 0, &[0xaf, 0, 1]),
            Packet::new(8, 0, &second(0x95, 0, 1)),
            Packet::new(8, 0, &[0xaf, 1, 200]),
        ];
        for number in 0..10u8 {
            let (first, other) = if number % 5 == 0 { (0x17, 0x96) } else { (0x27, 0xa6) };
            let time_ms = u32::from(number) * 40;
            packets.push(Packet::new(9, time_ms, &[first, 1, number]));
            packets.push(Packet::new(9, time_ms, &second(other, 1, number)));
            packets.push(Packet::new(8, time_ms, &[0xaf, 1, number]));
            packets.push(Packet::new(8, time_ms, &second(0x95, 1, number)));
        }
        Recording(packets)
    }

    #[test]
    fn tracks_are_compared_each_in_its_own_order() {
        let check = |before: Option<usize>, damage: fn(&mut Vec<Packet>)| {
            let mut received = tracks();
            damage(&mut received.0);
            assert_eq!(tracks().check_tracks(&received).ok(), before, "{received:#?}");
        };
        let (key, second) = (5, 5 + 20);
        assert!(tracks().0[key].key && tracks().0[second].key && !tracks().0[key + 1].key);
        check(Some(1), |p| _ = p.remove(4));
        check(Some(1), |p| (p.remove(4), p.swap(5, 6)).1);
        check(Some(1), |p| (p.remove(4), p.swap(4, 7)).1);
        check(Some(21), |p| drop(p.drain(4..25)));
        // Too early a start, lost, doubled, swapped and changed packets, missing headers.
        check(None, |_| {});
        check(None, |p| drop(p.drain(4..24)));
        check(None, |p| drop(p.drain(4..26)));
        check(None, |p| (p.remove(4), _ = p.pop()).1);
        check(None, |p| (p.remove(4), p.insert(9, p[9])).1);
        check(None, |p| (p.remove(4), p.swap(5, 9)).1);
        check(None, |p| (p.remove(4), p[9].time_ms += 1).1);
        check(None, |p| (p.remove(4), p[9].hash[0] ^= 1).1);
        check(None, |p| (p.remove(4), _ = p.remove(1)).1);
        check(None, |p| p.clear());
    }

    #[test]
    fn packets_may_be_lost_at_the_end_only_where_allowed() {
        let (sent, mut received) = (clip(), clip());
        received.0.truncate(received.0.len() - 3);
        assert!(sent.check_whole_but_last(&received, 1).is_err());
        assert_eq!(sent.check_whole_but_last(&received, 2), Ok(()));
    }

    #[test]
    fn a_step_back_in_time_is_seen_within_a_kind_only() {
        assert_eq!(clip().check_monotonic(), Ok(()));
        let mut back = clip();
        back.0[10].time_ms = 0;
        assert!(back.check_monotonic().is_err());
    }

    #[test]
    fn a_file_is_read_tag_by_tag_at_every_length() {
        let mut file = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        for (kind, time, body) in [(9, [0, 0, 1, 0], &b"\x17\x01abc"[..]), (8, [0, 1, 2, 3], b"x")]
        {
            let start = file.len();
            file.extend([kind, 0, 0, u8::try_from(body.len()).unwrap()]);
            file.extend(time);
            file.extend([0; 3]);
            file.extend(body);
            let size = u32::try_from(file.len() - start).unwrap();
            file.extend(size.to_be_bytes());
        }
        let (one, two) = (13 + 11 + 5 + 4, 13 + 11 + 5 + 4 + 11 + 1 + 4);
        for length in 0..=file.len() {
            let tags = Recording::parse(&file[..length]).map(|recording| recording.0.len());
            let want = match length {
                0..13 => None,
                _ if length < one => Some(0),
                _ if length < two => Some(1),
                _ => Some(2),
            };
            assert_eq!(tags.ok(), want, "at {length} bytes");
        }
        let whole = Recording::parse(&file).unwrap();
        assert_eq!(whole.0[0], Packet::new(9, 1, b"\x17\x01abc"));
        assert_eq!(whole.0[1], Packet::new(8, 0x0300_0102, b"x"));
        file[one - 1] ^= 1;
        assert!(Recording::parse(&file).is_err());
    }
}
