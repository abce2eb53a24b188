//! From received bytes to classified messages: chunk reading and assembling at several chunk sizes,
//! and classification alone.

use std::hint::black_box;

use relay::wire::assembler::{Assembled, MessageAssembler};
use relay::wire::chunk_reader::ChunkReader;
use relay::wire::media::{Role, classify_audio, classify_video};

use super::material::{self, Message};
use crate::case::{Aim, Case, Per, Work};

pub(super) fn cases() -> [Case; 4] {
    [
        Case {
            name: "chunks-4096",
            what: "read and assemble, chunks of 4 KiB",
            per: Per::Byte,
            aim: Some(Aim::Above(3.0)),
            counted: Some((1, 6)),
            prepare: || read(material::group_of_pictures(), 4_096),
        },
        Case {
            name: "chunks-128",
            what: "read and assemble, chunks of 128 bytes",
            per: Per::Byte,
            aim: None,
            counted: Some((1, 6)),
            prepare: || read(material::group_of_pictures(), 128),
        },
        Case {
            name: "chunks-1",
            what: "read and assemble, chunks of one byte",
            per: Per::Byte,
            aim: None,
            counted: Some((1, 6)),
            // the key frame and the audio frame that comes with it
            prepare: || read(material::group_of_pictures().into_iter().take(2).collect(), 1),
        },
        Case {
            name: "classify",
            what: "classify a media message",
            per: Per::Each("message"),
            aim: None,
            counted: Some((10, 60)),
            prepare: classify,
        },
    ]
}

/// Reads the messages as the worker does: from receive buffers of 64 KiB, a large message's buffer
/// leaving with it.
fn read(messages: Vec<Message>, chunk_bytes: usize) -> Work {
    let limits = material::limits();
    let input = material::chunks(&messages, chunk_bytes);
    let expected = (messages.len(), material::payload_bytes(&messages));
    let mut reader = ChunkReader::new(&limits);
    reader
        .set_chunk_size(u32::try_from(chunk_bytes).expect("chunk sizes have 31 bits"))
        .expect("the chunk size is allowed");
    let mut assembler = MessageAssembler::new(&limits);
    assembler.set_publishing(true);
    Work::new(input.len(), move |meter| {
        let mut seen = (0, 0);
        meter.measure(|| {
            for mut received in input.chunks(limits.receive_bytes) {
                while let Some(fragment) = reader.next(&mut received).expect("the chunks are sound")
                {
                    let Some(assembled) = assembler.push(&fragment).expect("within the limits")
                    else {
                        continue;
                    };
                    if let Assembled::Media { message, .. } = assembled {
                        seen.0 += 1;
                        seen.1 += message.payload_bytes();
                        if message.wire_bytes() >= limits.segment_bytes {
                            drop(black_box(message.take()));
                        } else {
                            black_box(message);
                        }
                    }
                }
            }
        });
        assert_eq!(seen, expected, "messages and payload bytes read");
    })
}

/// Legacy and enhanced headers of both media.
fn classify() -> Work {
    const VIDEO: [&[u8]; 4] = [
        &[0x17, 1, 0, 0, 0, 9],
        &[0x27, 1, 0, 0, 0, 9],
        // E-RTMP: coded frames of HEVC with a composition time, an inter frame of AV1
        &[0x91, b'h', b'v', b'c', b'1', 0, 0, 0, 9],
        &[0xA1, b'a', b'v', b'0', b'1', 9],
    ];
    const AUDIO: [&[u8]; 2] = [&[0xAF, 1, 9], &[0x91, b'O', b'p', b'u', b's', 9]];
    let video: Vec<&[u8]> = VIDEO.repeat(BATCH);
    let audio: Vec<&[u8]> = AUDIO.repeat(BATCH);
    Work::new(video.len() + audio.len(), move |meter| {
        let (mut keys, mut frames) = (0, 0);
        meter.measure(|| {
            for &head in &video {
                let class = black_box(classify_video(black_box(head)));
                keys += usize::from(class.is_some_and(|class| class.role == Role::KeyFrame));
            }
            for &head in &audio {
                let class = black_box(classify_audio(black_box(head)));
                frames += usize::from(class.is_some_and(|class| class.role == Role::AudioFrame));
            }
        });
        assert_eq!((keys, frames), (2 * BATCH, audio.len()), "key frames and audio frames");
    })
}

const BATCH: usize = 32;
