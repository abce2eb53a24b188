//! A player of FLV for tests, over HTTP or a WebSocket. It shares no code with what is tested, and
//! takes nothing that it does not expect: every size, every reserved byte and every frame counts.

/// Reads FLV as it comes.
pub(super) struct FlvPlayer {
    websocket: bool,
    /// Bytes of the FLV that are not read yet.
    flv: Vec<u8>,
    /// Bytes of a frame that is not whole yet.
    frame: Vec<u8>,
    flags: Option<u8>,
}

/// One tag.
pub(super) struct Tag {
    pub(super) kind: u8,
    pub(super) timestamp: u32,
    pub(super) payload: Vec<u8>,
}

impl FlvPlayer {
    pub(super) fn new(websocket: bool) -> Self {
        Self { websocket, flv: Vec::new(), frame: Vec::new(), flags: None }
    }

    /// Whether the header said that there is audio, and video.
    pub(super) fn promised(&self) -> Option<(bool, bool)> {
        self.flags.map(|flags| (flags & 4 != 0, flags & 1 != 0))
    }

    pub(super) fn is_whole(&self) -> bool {
        self.flv.is_empty() && self.frame.is_empty()
    }

    /// The tags that are whole now.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<Tag> {
        let mut tags = Vec::new();
        if !self.websocket {
            self.flv.extend_from_slice(bytes);
            while let Some(tag) = self.next() {
                tags.push(tag);
            }
            return tags;
        }
        self.frame.extend_from_slice(bytes);
        while let Some(payload) = self.next_frame() {
            self.flv.extend(payload);
            let tag = self.next();
            assert!(self.flv.is_empty(), "a frame is the header or one tag");
            tags.extend(tag);
        }
        tags
    }

    fn next_frame(&mut self) -> Option<Vec<u8>> {
        let (first, second) = (*self.frame.first()?, *self.frame.get(1)?);
        assert_eq!(first, 0x82, "one whole binary message");
        assert!(second < 128, "servers do not mask");
        let (header, length) = match second {
            126 => (4, number(self.frame.get(2..4)?)),
            127 => (10, number(self.frame.get(2..10)?)),
            _ => (2, usize::from(second)),
        };
        let shortest = if length < 126 {
            2
        } else if length < 65_536 {
            4
        } else {
            10
        };
        assert_eq!(header, shortest);
        self.frame.get(header..header + length)?;
        self.frame.drain(..header);
        Some(self.frame.drain(..length).collect())
    }

    fn next(&mut self) -> Option<Tag> {
        if self.flags.is_none() {
            let header = self.flv.get(..13)?;
            assert_eq!(&header[..4], b"FLV\x01");
            assert_eq!(header[4] & !5, 0, "reserved flags");
            assert_eq!(&header[5..], [0, 0, 0, 9, 0, 0, 0, 0]);
            self.flags = Some(header[4]);
            self.flv.drain(..13);
        }
        let header = self.flv.get(..11)?;
        let length = number(&header[1..4]);
        let kind = header[0];
        assert!(matches!(kind, 8 | 9 | 18), "a tag of type {kind}");
        let low = u32::try_from(number(&header[4..7])).unwrap_or(0);
        let timestamp = u32::from(header[7]) << 24 | low;
        assert_eq!(&header[8..11], [0, 0, 0], "the stream id");
        let size = self.flv.get(11 + length..11 + length + 4)?;
        assert_eq!(number(size), 11 + length, "the size behind the tag");
        let mut tag: Vec<u8> = self.flv.drain(..11 + length + 4).collect();
        tag.truncate(11 + length);
        tag.drain(..11);
        Some(Tag { kind, timestamp, payload: tag })
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}
