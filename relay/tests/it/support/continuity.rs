//! Recordings that are not one piece: across a publisher's restart, across a player's jump.
//!
//! Both are cut into runs in which every packet equals the one sent, in order; what is judged is
//! where a run may begin and what the times do between two runs.

use super::packets::{Packet, Recording};

/// Longest step in time that a restart may leave in the output.
const STEP_MAX_MS: u32 = 15_000;

impl Recording {
    /// Checks a recording made while the publisher sent `self` several times, each time from its
    /// start but the last time alone to its end. Within a life of the publisher every packet must
    /// be equal and all times moved by the same amount; the first life is not moved; the next
    /// begins where the one before it ended, within some seconds. Gives the number of lives.
    pub(crate) fn check_resumed(&self, received: &Self) -> Result<usize, String> {
        let (sent, got) = (self.coded(), received.coded());
        let first_key = sent.iter().position(|packet| packet.key).ok_or("no key frame was sent")?;
        let mut lives = 0;
        let (mut next, mut moved) = (sent.len(), 0);
        for (at, packet) in got.iter().enumerate() {
            let goes_on = sent.get(next).is_some_and(|want| {
                want.same_payload(packet) && want.time_ms.wrapping_add(moved) == packet.time_ms
            });
            if !goes_on {
                let before = at.checked_sub(1).map(|before| got[before]);
                next = begins(&sent[..=first_key], packet, before)?;
                moved = packet.time_ms.wrapping_sub(sent[next].time_ms);
                lives += 1;
                if lives == 1 && moved != 0 {
                    return Err(format!("the first life is moved by {moved} ms"));
                }
            }
            next += 1;
        }
        if next != sent.len() {
            return Err(format!("the last life ends before {:?}", sent[next]));
        }
        self.check_headers(received).map(|()| lives)
    }

    /// Checks the recording of a player that fell behind: it holds what was sent, unmoved and in
    /// order, with jumps forward to key frames, and reaches the end. Gives the times on both sides
    /// of each jump.
    pub(crate) fn check_jumps(&self, received: &Self) -> Result<Vec<(u32, u32)>, String> {
        let (sent, got) = (self.coded(), received.coded());
        let mut jumps = Vec::new();
        let mut next = 0;
        for (at, packet) in got.iter().enumerate() {
            if sent.get(next) != Some(packet) {
                let ahead = sent[next..].iter().position(|other| other == packet);
                let ahead = ahead.ok_or_else(|| format!("{packet:?} was not sent by then"))?;
                if !packet.key {
                    return Err(format!("continues with {packet:?} instead of a key frame"));
                }
                next += ahead;
                jumps.extend(at.checked_sub(1).map(|at| (got[at].time_ms, packet.time_ms)));
            }
            next += 1;
        }
        if next != sent.len() {
            return Err(format!("ends before {:?}", sent[next]));
        }
        self.check_headers(received).map(|()| jumps)
    }
}

/// The place in `openings` at which `packet` begins a new life, after `before`.
fn begins(openings: &[Packet], packet: &Packet, before: Option<Packet>) -> Result<usize, String> {
    let place = openings.iter().position(|opening| opening.same_payload(packet));
    let place = place.ok_or_else(|| format!("{packet:?} neither goes on nor begins anew"))?;
    if let Some(before) = before {
        let step = packet.time_ms.wrapping_sub(before.time_ms);
        if step > STEP_MAX_MS {
            return Err(format!("{packet:?} follows {before:?}: {step} ms"));
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two packets before the first key frame, then key frames every fourth packet.
    fn clip() -> Recording {
        let mut packets = vec![
            Packet::new(8, 0, &[0xaf, 0, 1]),
            Packet::new(9, 0, &[0x17, 0, 1]),
            Packet::new(8, 0, &[0xaf, 1, 200]),
        ];
        for number in 0..12u8 {
            let first = if number % 4 == 0 { 0x17 } else { 0x27 };
            packets.push(Packet::new(9, u32::from(number) * 40, &[first, 1, number]));
        }
        Recording(packets)
    }

    fn moved(packets: &[Packet], by: u32) -> Vec<Packet> {
        packets.iter().map(|p| Packet { time_ms: p.time_ms + by, ..*p }).collect()
    }

    #[test]
    fn lives_are_counted_and_what_does_not_fit_is_named() {
        let sent = clip();
        let all = sent.0.as_slice();
        let check = |parts: &[&[Packet]], want: Option<usize>| {
            let received = Recording(parts.concat());
            assert_eq!(sent.check_resumed(&received).ok(), want, "{received:#?}");
        };
        check(&[all], Some(1));
        check(&[&all[..8], &moved(all, 3000)], Some(2));
        check(&[&all[..8], &moved(&all[3..], 3000)], Some(2));
        check(&[&all[..8], &moved(&all[..9], 500), &moved(all, 900)], Some(3));
        check(&[&all[..8], all], None);
        check(&[&all[..8], &moved(&all[4..], 3000)], None);
        check(&[&all[..8], &moved(all, 60_000)], None);
        check(&[&moved(all, 1)], None);
        check(&[&all[..8]], None);
        check(&[&all[..8], &moved(&all[..5], 900), &moved(&all[5..], 901)], None);
        check(&[&all[2..]], None);
    }

    #[test]
    fn jumps_lead_forward_to_key_frames_only() {
        let sent = clip();
        let all = sent.0.as_slice();
        let check = |parts: &[&[Packet]], want: Option<&[(u32, u32)]>| {
            let received = Recording(parts.concat());
            assert_eq!(sent.check_jumps(&received).ok().as_deref(), want, "{received:#?}");
        };
        check(&[all], Some(&[]));
        check(&[&all[..5], &all[11..]], Some(&[(40, 320)]));
        check(&[&all[..5], &all[7..8], &all[11..]], Some(&[(40, 160), (160, 320)]));
        check(&[&all[..5], &all[10..]], None);
        check(&[&all[..8], &all[7..]], None);
        check(&[&all[..8]], None);
        check(&[&all[..2], &all[3..]], Some(&[]));
    }
}
