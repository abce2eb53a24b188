//! The bytes of a file out of what carries them: the body of an HTTP answer, as it is or in chunks
//! (RFC 9112 section 7.1), or the binary frames of a WebSocket (RFC 6455 section 5.2).
//!
//! Written apart from the relay's own, so that the two judge each other. Nothing is kept but the
//! beginning of a header.

use bytes::BytesMut;

/// How a file is carried.
#[derive(Debug)]
pub(super) enum Framing {
    /// Until the connection ends.
    Raw,
    /// In chunks of HTTP.
    Chunks(Chunks),
    /// In frames of a WebSocket.
    Frames(Frames),
}

/// What stands between the bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// To be answered with the same.
    Ping(Vec<u8>),
    /// Nothing more will come: the status of a WebSocket.
    End(Option<u16>),
}

/// Where a body in chunks is read.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// The beginning of a line.
    line: Vec<u8>,
    /// Bytes of the chunk that are to come.
    left: usize,
    /// What the next line is.
    next: Line,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    /// The length of a chunk.
    #[default]
    Length,
    /// The end of a chunk's bytes.
    Empty,
    /// A field behind the last chunk, or the end.
    Trailer,
    /// None: it is over.
    Over,
}

/// Where frames are read.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The beginning of a header.
    header: Vec<u8>,
    /// The opcode of the frame in hand, if there is one.
    opcode: Option<u8>,
    /// Its bytes that are to come.
    left: usize,
    /// What came of a control frame.
    control: Vec<u8>,
}

/// Longest line between chunks.
const LINE_BYTES_MAX: usize = 1_024;

/// Longest payload of a control frame (RFC 6455 section 5.5).
const CONTROL_BYTES_MAX: usize = 125;

impl Framing {
    /// Takes bytes off the front of `input` until it is used up or something stands between;
    /// those of the file are appended to `file`.
    pub(super) fn take(
        &mut self,
        input: &mut &[u8],
        file: &mut BytesMut,
    ) -> Result<Option<Control>, String> {
        match self {
            Self::Raw => {
                file.extend_from_slice(std::mem::take(input));
                Ok(None)
            }
            Self::Chunks(chunks) => chunks.take(input, file),
            Self::Frames(frames) => frames.take(input, file),
        }
    }
}

impl Chunks {
    fn take(&mut self, input: &mut &[u8], file: &mut BytesMut) -> Result<Option<Control>, String> {
        loop {
            let (now, rest) = input.split_at(self.left.min(input.len()));
            file.extend_from_slice(now);
            self.left -= now.len();
            *input = rest;
            if self.next == Line::Over {
                *input = &[];
            }
            let Some((byte, rest)) = input.split_first() else { return Ok(None) };
            *input = rest;
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > LINE_BYTES_MAX {
                    return Err("a line between chunks does not end".to_owned());
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").ok_or("a line between chunks ends without CR")?;
            match self.next {
                Line::Length => {
                    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                    let digits = std::str::from_utf8(digits).unwrap_or_default().trim();
                    let length = usize::from_str_radix(digits, 16)
                        .map_err(|_| "the length of a chunk is no number".to_owned())?;
                    self.left = length;
                    self.next = if length == 0 { Line::Trailer } else { Line::Empty };
                }
                Line::Empty if line.is_empty() => self.next = Line::Length,
                Line::Empty => return Err("a chunk is longer than it says".to_owned()),
                Line::Trailer if line.is_empty() => {
                    self.next = Line::Over;
                    return Ok(Some(Control::End(None)));
                }
                Line::Trailer | Line::Over => {}
            }
        }
    }
}

impl Frames {
    fn take(&mut self, input: &mut &[u8], file: &mut BytesMut) -> Result<Option<Control>, String> {
        loop {
            let opcode = match self.opcode {
                Some(opcode) => opcode,
                None => match self.read_header(input)? {
                    Some(opcode) => opcode,
                    None => return Ok(None),
                },
            };
            let (now, rest) = input.split_at(self.left.min(input.len()));
            *input = rest;
            self.left -= now.len();
            match opcode {
                0 | 2 => file.extend_from_slice(now),
                _ => self.control.extend_from_slice(now),
            }
            if self.left > 0 {
                return Ok(None);
            }
            self.opcode = None;
            let payload = std::mem::take(&mut self.control);
            match opcode {
                8 => {
                    let status = payload.first_chunk().map(|two| u16::from_be_bytes(*two));
                    return Ok(Some(Control::End(status)));
                }
                9 => return Ok(Some(Control::Ping(payload))),
                _ => {}
            }
        }
    }

    /// The opcode of the next frame, whose length is then what is left.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<u8>, String> {
        loop {
            let needed = match self.header.get(1) {
                None => 2,
                Some(126) => 4,
                Some(127) => 10,
                Some(_) => 2,
            };
            if self.header.len() < needed {
                let Some((byte, rest)) = input.split_first() else { return Ok(None) };
                self.header.push(*byte);
                *input = rest;
                continue;
            }
            let header = std::mem::take(&mut self.header);
            let (first, second) = (header[0], header[1]);
            let opcode = first & 0x0f;
            let length = match needed {
                2 => Some(usize::from(second)),
                4 => Some(usize::from(u16::from_be_bytes([header[2], header[3]]))),
                _ => header[2..]
                    .first_chunk()
                    .map(|eight| u64::from_be_bytes(*eight))
                    .and_then(|length| usize::try_from(length).ok()),
            };
            let length = length.ok_or("a frame is too long")?;
            let wrong = if first & 0x70 != 0 {
                Some("a frame has bits that were not agreed on")
            } else if second & 0x80 != 0 {
                Some("a frame of a server is masked")
            } else if !matches!(opcode, 0 | 2 | 8 | 9 | 10) {
                Some("a frame is of another kind than binary")
            } else if opcode >= 8 && (length > CONTROL_BYTES_MAX || first & 0x80 == 0) {
                Some("a control frame is long or in parts")
            } else {
                None
            };
            if let Some(wrong) = wrong {
                return Err(wrong.to_owned());
            }
            self.left = length;
            self.opcode = Some(opcode);
            return Ok(Some(opcode));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Reads `bytes` in one piece, and in two at every place.
    #[track_caller]
    fn check(new: fn() -> Framing, bytes: &[u8], expected: Result<(&[u8], &[Control]), &str>) {
        for cut in 0..=bytes.len() {
            let (mut framing, mut file, mut controls) = (new(), BytesMut::new(), Vec::new());
            let (first, second) = bytes.split_at(cut);
            let read = [first, second].into_iter().try_for_each(|mut piece| {
                while let Some(control) = framing.take(&mut piece, &mut file)? {
                    controls.push(control);
                }
                Ok(())
            });
            match expected {
                Ok(expected) => {
                    assert_eq!(read, Ok(()), "cut at {cut}");
                    assert_eq!((&file[..], &controls[..]), expected, "cut at {cut}");
                }
                Err(part) => {
                    let said: String = read.unwrap_err();
                    assert!(said.contains(part), "cut at {cut}: {said}");
                }
            }
        }
    }

    #[test]
    fn bodies_are_read_at_every_split() {
        check(|| Framing::Raw, b"FLV file", Ok((b"FLV file", &[])));
        let chunks = || Framing::Chunks(Chunks::default());
        check(chunks, b"3\r\nFLV\r\n0b;x=y\r\n and a lot\n\r\n", Ok((b"FLV and a lot\n", &[])));
        let end = [Control::End(None)];
        check(chunks, b"1\r\nF\r\n0\r\nX: y\r\n\r\nrest", Ok((b"F", &end)));
        check(chunks, b"x\r\n", Err("no number"));
        check(chunks, b"ffffffffffffffffff\r\n", Err("no number"));
        check(chunks, b"1\r\nFLV\r\n", Err("longer than it says"));
        check(chunks, b"1\n", Err("without CR"));
        check(chunks, &[b'0'; 2_000], Err("does not end"));
    }

    #[test]
    fn frames_are_read_at_every_split() {
        let frames = || Framing::Frames(Frames::default());
        let long = vec![7; 70_000];
        let mut longest = vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70];
        longest.extend_from_slice(&long);
        let mut framing = frames();
        let mut file = BytesMut::new();
        assert_eq!(framing.take(&mut &longest[..], &mut file), Ok(None));
        assert_eq!(&file[..], &long[..]);
        let medium = [&[0x82, 126, 0, 200][..], &[9; 200]].concat();
        check(frames, &medium, Ok((&[9; 200], &[])));
        // In two parts with a ping between, a pong, and the end.
        let parts = b"\x02\x01F\x89\x02hi\x80\x02LV\x8a\x00\x88\x02\x03\xe8";
        let between = [Control::Ping(b"hi".to_vec()), Control::End(Some(1_000))];
        check(frames, parts, Ok((b"FLV", &between)));
        check(frames, b"\x88\x00", Ok((b"", &[Control::End(None)])));
        check(frames, b"\x82\x81\0\0\0\0F", Err("masked"));
        check(frames, b"\x81\x01F", Err("another kind"));
        check(frames, b"\xc2\x01F", Err("not agreed on"));
        check(frames, b"\x09\x00", Err("in parts"));
        check(frames, b"\x89\x7e\x00\x80", Err("control frame"));
    }
}
