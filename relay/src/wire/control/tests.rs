#![allow(clippy::unwrap_used)]

use super::*;
use crate::limits::Limits;
use crate::wire::chunk_reader::ChunkReader;
use crate::wire::testing::bytes;

/// Written as `text`, and read from it through chunks.
fn check(message: ControlMessage, text: &str) {
    let mut out = BytesMut::new();
    message.write(&mut out);
    assert_eq!(out[..], bytes(text), "{message:?}");

    let mut input = &out[..];
    let fragment = ChunkReader::new(&Limits::default()).next(&mut input).unwrap().unwrap();
    assert!(fragment.first && fragment.last && input.is_empty());
    let kind = fragment.header.kind;
    assert_eq!(ControlMessage::parse(kind, fragment.payload), Ok(Some(message)));

    // More bytes than needed do no harm; fewer are an error or nothing, and never another message.
    let longer = [fragment.payload, &[7; 3]].concat();
    assert_eq!(ControlMessage::parse(kind, &longer), Ok(Some(message)));
    for bytes in 0..fragment.payload.len() {
        match ControlMessage::parse(kind, &fragment.payload[..bytes]) {
            Ok(None) => assert_eq!(kind, MessageType::UserControl),
            // The limit type alone may be missing.
            Ok(Some(_)) => assert_eq!((kind, bytes), (MessageType::SetPeerBandwidth, 4)),
            Err(error) => assert_eq!(error, ShortControlMessage { kind, bytes }),
        }
    }
}

#[test]
fn protocol_control_messages() {
    use BandwidthLimit::{Dynamic, Hard, Soft};
    check(ControlMessage::WindowAckSize(2_500_000), "02 000000 000004 05 00000000 002625A0");
    check(
        ControlMessage::SetPeerBandwidth { window: 2_500_000, limit: Dynamic },
        "02 000000 000005 06 00000000 002625A0 02",
    );
    check(
        ControlMessage::SetPeerBandwidth { window: 1, limit: Hard },
        "02 000000 000005 06 00000000 00000001 00",
    );
    check(
        ControlMessage::SetPeerBandwidth { window: 1, limit: Soft },
        "02 000000 000005 06 00000000 00000001 01",
    );
    check(ControlMessage::SetChunkSize(65_536), "02 000000 000004 01 00000000 00010000");
    check(ControlMessage::Abort { chunk_stream: 6 }, "02 000000 000004 02 00000000 00000006");
    check(
        ControlMessage::Acknowledgement { sequence: 1_250_000 },
        "02 000000 000004 03 00000000 001312D0",
    );
}

#[test]
fn user_control_messages() {
    use UserControl::{
        PingRequest, PingResponse, SetBufferLength, StreamBegin, StreamDry, StreamEof,
        StreamIsRecorded,
    };
    let check = |event, text: &str| check(ControlMessage::UserControl(event), text);
    let message_stream = 1;
    check(StreamBegin { message_stream }, "02 000000 000006 04 00000000 0000 00000001");
    check(StreamEof { message_stream }, "02 000000 000006 04 00000000 0001 00000001");
    check(StreamDry { message_stream }, "02 000000 000006 04 00000000 0002 00000001");
    check(
        SetBufferLength { message_stream, milliseconds: 3000 },
        "02 000000 00000A 04 00000000 0003 00000001 00000BB8",
    );
    check(StreamIsRecorded { message_stream }, "02 000000 000006 04 00000000 0004 00000001");
    check(PingRequest { time: 0x1234_5678 }, "02 000000 000006 04 00000000 0006 12345678");
    check(PingResponse { time: 0x1234_5678 }, "02 000000 000006 04 00000000 0007 12345678");
}

#[test]
fn what_is_ignored() {
    let check = |kind, payload| {
        assert_eq!(ControlMessage::parse(kind, &bytes(payload)), Ok(None), "{kind:?} {payload}");
    };
    for event in ["0005 00000001", "001A", "001B 0101 00000001", "001F 00000001", "FFFF 00000001"] {
        check(MessageType::UserControl, event);
    }
    check(MessageType::Audio, "00000001");
    check(MessageType::Other(0), "00000001");
    // A limit type that nobody defined.
    assert_eq!(
        ControlMessage::parse(MessageType::SetPeerBandwidth, &bytes("00000001 09")),
        Ok(Some(ControlMessage::SetPeerBandwidth { window: 1, limit: BandwidthLimit::Dynamic }))
    );
}
