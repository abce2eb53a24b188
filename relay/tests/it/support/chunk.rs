//! A second, independent reader and writer of the chunk stream (RTMP 1.0 section 5.3).
//!
//! It is strict where the relay is the sender: whatever a careful player could stumble over is an
//! error here. Beside each message it keeps the bytes it came in, so that players can be compared
//! byte for byte.

use std::collections::HashMap;

/// A complete message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) time_ms: u32,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
    /// The chunks it came in, headers included.
    pub(crate) wire: Vec<u8>,
}

/// What the last header of a chunk stream said.
#[derive(Clone, Debug, Default)]
struct State {
    time_ms: u32,
    delta_ms: u32,
    length: usize,
    kind: u8,
    stream: u32,
    extended: bool,
    payload: Vec<u8>,
    wire: Vec<u8>,
    inside: bool,
}

/// Takes bytes in any portions, gives messages.
#[derive(Debug)]
pub(crate) struct ChunkReader {
    chunk_bytes: usize,
    waiting: Vec<u8>,
    streams: HashMap<u32, State>,
}

impl ChunkReader {
    pub(crate) fn new() -> Self {
        Self { chunk_bytes: 128, waiting: Vec::new(), streams: HashMap::new() }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next complete message; `None` when more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, String> {
        let mut at = 0;
        let mut found = None;
        while found.is_none() {
            let Some(used) = self.chunk(at)? else { break };
            at += used.0;
            found = used.1;
        }
        self.waiting.drain(..at);
        if let Some(message) = &found
            && message.kind == 1
        {
            let size = message.payload.as_slice().try_into().map(u32::from_be_bytes);
            let size = size.map_err(|_| "Set Chunk Size without its four bytes")?;
            self.chunk_bytes = usize::try_from(size).unwrap_or(0);
            if self.chunk_bytes == 0 || size >> 31 != 0 {
                return Err(format!("Set Chunk Size of {size}"));
            }
        }
        Ok(found)
    }

    /// Reads one chunk at `at`: the bytes it takes, and the message it completes.
    fn chunk(&mut self, at: usize) -> Result<Option<(usize, Option<Message>)>, String> {
        let bytes = &self.waiting[at..];
        let mut header = Header { bytes, used: 0 };
        let Some(first) = header.number(1) else { return Ok(None) };
        let id = match first & 63 {
            0 => header.number(1).map(|low| low + 64),
            1 => header.number_little(2).map(|low| low + 64),
            id => Some(id),
        };
        let Some(id) = id else { return Ok(None) };
        let format = first >> 6;
        let known = self.streams.get(&id);
        if format != 0 && known.is_none() {
            return Err(format!("chunk format {format} on chunk stream {id}, which has no header"));
        }
        let mut state = known.cloned().unwrap_or_default();
        if state.inside && format != 3 {
            return Err(format!("chunk format {format} inside a message on chunk stream {id}"));
        }
        let Some(()) = header.apply(format, &mut state) else { return Ok(None) };
        let size = self.chunk_bytes.min(state.length - state.payload.len());
        let Some(body) = bytes.get(header.used..header.used + size) else { return Ok(None) };
        let used = header.used + size;
        state.payload.extend_from_slice(body);
        state.wire.extend_from_slice(&bytes[..used]);
        state.inside = state.payload.len() < state.length;
        let message = (!state.inside).then(|| Message {
            kind: state.kind,
            time_ms: state.time_ms,
            stream: state.stream,
            payload: std::mem::take(&mut state.payload),
            wire: std::mem::take(&mut state.wire),
        });
        self.streams.insert(id, state);
        Ok(Some((used, message)))
    }
}

/// The part of the waiting bytes in which a chunk header is being read.
struct Header<'a> {
    bytes: &'a [u8],
    used: usize,
}

impl Header<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let part = self.bytes.get(self.used..self.used + count)?;
        self.used += count;
        Some(part)
    }

    fn number(&mut self, count: usize) -> Option<u32> {
        Some(self.take(count)?.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }

    fn number_little(&mut self, count: usize) -> Option<u32> {
        Some(self.take(count)?.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }

    /// Reads the message header of `format` into `state` (RTMP 1.0 section 5.3.1.2). The extended
    /// timestamp is repeated on chunks of format 3 (section 5.3.1.3).
    fn apply(&mut self, format: u32, state: &mut State) -> Option<()> {
        let mut time = None;
        if format < 3 {
            time = Some(self.number(3)?);
        }
        if format < 2 {
            state.length = usize::try_from(self.number(3)?).ok()?;
            state.kind = u8::try_from(self.number(1)?).ok()?;
        }
        if format == 0 {
            state.stream = self.number_little(4)?;
        }
        if let Some(field) = time {
            state.extended = field == 0x00ff_ffff;
        }
        if state.extended {
            let extended = self.number(4)?;
            time = time.map(|_| extended);
        }
        match (format, time) {
            (0, Some(time)) => (state.time_ms, state.delta_ms) = (time, 0),
            (_, Some(delta)) => {
                state.delta_ms = delta;
                state.time_ms = state.time_ms.wrapping_add(delta);
            }
            (_, None) if !state.inside => {
                state.time_ms = state.time_ms.wrapping_add(state.delta_ms);
            }
            _ => {}
        }
        Some(())
    }
}

/// `payload` as a message in chunks of `chunk_bytes`, its first header of format 0.
pub(crate) fn write(
    chunk_stream: u8,
    time_ms: u32,
    kind: u8,
    stream: u32,
    payload: &[u8],
    chunk_bytes: usize,
) -> Vec<u8> {
    assert!((2..64).contains(&chunk_stream), "one byte is enough for the tests");
    let time = time_ms.min(0x00ff_ffff).to_be_bytes();
    let length = u32::try_from(payload.len()).expect("the tests write short messages");
    let extended = (time_ms >= 0x00ff_ffff).then(|| time_ms.to_be_bytes());
    let mut out = vec![chunk_stream];
    out.extend(&time[1..]);
    out.extend(&length.to_be_bytes()[1..]);
    out.push(kind);
    out.extend(stream.to_le_bytes());
    out.extend(extended.iter().flatten());
    for (number, part) in payload.chunks(chunk_bytes).enumerate() {
        if number > 0 {
            out.push(0xc0 | chunk_stream);
            out.extend(extended.iter().flatten());
        }
        out.extend(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_at_every_split() {
        let payload: Vec<u8> = (0..=255).cycle().take(300).collect();
        let mut bytes = write(5, 7, 20, 0, b"abc", 128);
        bytes.extend(write(6, 0x0100_0000, 9, 1, &payload, 128));
        bytes.extend(write(2, 0, 1, 0, &[0, 0, 16, 0], 128));
        bytes.extend(write(6, 9, 9, 1, &payload, 4096));
        for split in 0..=bytes.len() {
            let mut reader = ChunkReader::new();
            let mut messages = Vec::new();
            for part in [&bytes[..split], &bytes[split..]] {
                reader.feed(part);
                while let Some(message) = reader.next().unwrap() {
                    messages.push(message);
                }
            }
            let facts: Vec<_> =
                messages.iter().map(|m| (m.kind, m.time_ms, m.stream, m.payload.len())).collect();
            let want = [(20, 7, 0, 3), (9, 0x0100_0000, 1, 300), (1, 0, 0, 4), (9, 9, 1, 300)];
            assert_eq!(facts, want, "split at {split}");
            assert!(messages[1].payload == payload && messages[3].payload == payload);
            let wire: Vec<u8> = messages.into_iter().flat_map(|message| message.wire).collect();
            assert_eq!(wire, bytes);
        }
    }

    #[test]
    fn deltas_are_added_and_faults_are_named() {
        let read = |bytes: &[u8]| {
            let mut reader = ChunkReader::new();
            reader.feed(bytes);
            let mut times = Vec::new();
            loop {
                match reader.next() {
                    Ok(Some(message)) => times.push(message.time_ms),
                    Ok(None) => return Ok(times),
                    Err(wrong) => return Err(wrong),
                }
            }
        };
        let whole = [4, 0, 0, 10, 0, 0, 1, 8, 1, 0, 0, 0, 9];
        let check = |rest: &[u8], want: Option<&[u32]>| {
            let times = read(&[&whole, rest].concat());
            assert_eq!(times.ok().as_deref(), want, "{rest:?}");
        };
        check(&[0xc4, 9], Some(&[10, 10]));
        check(&[0x84, 0, 0, 5, 9, 0xc4, 9], Some(&[10, 15, 20]));
        check(&[0x44, 0, 0, 5, 0, 0, 1, 9, 9], Some(&[10, 15]));
        check(&[0x44, 0, 0, 5, 0, 1, 0, 9], Some(&[10]));
        check(&[0xc5, 9], None);
        check(&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0], None);
    }
}
