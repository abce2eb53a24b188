//! Messages between nodes as payloads of RTMP data messages (type 18, RTMP 1.0 section 7.1.2).
//!
//! A payload is two AMF0 values: the name `relay` as a short string, which tells ours from a
//! foreign program's, and a long string that holds the message: a byte for its kind, then its
//! fields. So whatever carries RTMP carries them, and a node that announces thousands of streams
//! does not spell out the names of their properties.
//!
//! Kinds that a node does not know, and whatever follows the fields it knows, it passes over: what
//! a later build adds within one version does no harm. The bytes of version 1 are kept in
//! `version_1.txt`, which every later build must go on reading.

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::fields::{Input, Output};
use super::identity::{EPOCH_MAX, NodeKey, Position, SEQ_MAX};
use super::message::{Announced, At, Beat, Digest, Edge, Ended, Message, Part, Phase, Report};
use super::orders::{ORDER_BYTES_MAX, Order, OrderId, OrderText};
use super::refusal::Refusal;
use super::settings::{DOOR_BYTES_MAX, DOORS_MAX};
use crate::limits::Limits;

/// The oldest and newest version of the protocol that this build speaks.
pub const VERSIONS: (u16, u16) = (1, 1);

/// Most nodes that a stream passes, its origin included. Each costs a hop of latency, and with two
/// children each, which is the least that makes sense, a thousand nodes are ten deep.
pub const PATH_MAX: usize = 32;

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// They are not of this protocol at all.
    #[error("this is no message of the cluster's protocol")]
    Foreign,
    /// They end inside a field.
    #[error("the message ends inside a field")]
    Short,
    /// The message is longer than `cluster_message_bytes_max`.
    #[error("the message is longer than cluster_message_bytes_max")]
    Long,
    /// A text is empty, too long, not UTF-8, or has control characters.
    #[error("a name is not valid")]
    Text,
    /// A number is out of its range.
    #[error("a number is out of its range")]
    Number,
}

/// Kinds of the greeting; they never change, whatever the version.
pub(super) mod greeting {
    pub(in crate::cluster) const HELLO: u8 = 1;
    pub(in crate::cluster) const CHALLENGE: u8 = 2;
    pub(in crate::cluster) const PROOF: u8 = 3;
    pub(in crate::cluster) const WELCOME: u8 = 4;
    pub(in crate::cluster) const REFUSED: u8 = 5;
}

mod kind {
    pub(super) const BEAT: u8 = 10;
    pub(super) const BYE: u8 = 11;
    pub(super) const ANNOUNCE: u8 = 12;
    pub(super) const WITHDRAW: u8 = 13;
    pub(super) const REFRESH: u8 = 14;
    pub(super) const RESYNC: u8 = 15;
    pub(super) const WANTS: u8 = 16;
    pub(super) const LEFT: u8 = 17;
    pub(super) const PARENT: u8 = 18;
    pub(super) const PUSHES: u8 = 19;
    pub(super) const STOP_PUSH: u8 = 20;
    pub(super) const UNFED: u8 = 21;
    pub(super) const DOORS: u8 = 22;
    pub(super) const OPERATORS: u8 = 23;
    pub(super) const ORDERS: u8 = 24;
    pub(super) const AT: u8 = 30;
    pub(super) const HEADERS: u8 = 31;
    pub(super) const TAKE: u8 = 32;
    pub(super) const AUDIENCE: u8 = 33;
}

/// The short string `relay`, and the marker of a long string (AMF0 sections 2.4 and 2.14).
const HEAD: &[u8] = b"\x02\x00\x05relay\x0c";

/// Bytes of a payload before its kind.
const HEAD_BYTES: usize = HEAD.len() + 4;

/// Longest text of an address with its port: those of IPv6 with an interface have no more.
const ADDRESS_BYTES_MAX: usize = 64;

/// Puts a message's kind and fields into a payload.
pub(super) fn wrap(body: Output) -> Bytes {
    let mut payload = Vec::with_capacity(HEAD_BYTES + body.0.len());
    payload.extend_from_slice(HEAD);
    payload.extend_from_slice(&u32::try_from(body.0.len()).unwrap_or(0).to_be_bytes());
    payload.extend_from_slice(&body.0);
    payload.into()
}

/// A message's kind and fields.
pub(super) fn unwrap<'a>(
    payload: &'a [u8],
    limits: &Limits,
) -> Result<(u8, Input<'a>), CodecError> {
    if payload.len() > limits.cluster_message_bytes_max {
        return Err(CodecError::Long);
    }
    let mut input = Input(payload.strip_prefix(HEAD).ok_or(CodecError::Foreign)?);
    let length = usize::try_from(input.u32()?).map_err(|_| CodecError::Short)?;
    let mut body = Input(input.take(length)?);
    Ok((body.u8()?, body))
}

impl Message {
    /// The payload of a data message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Output::default();
        self.write(&mut out);
        wrap(out)
    }

    fn write(&self, out: &mut Output) {
        match self {
            Self::Refused(refusal) => write_refusal(out, *refusal),
            Self::Beat(beat) => {
                out.u8(kind::BEAT);
                out.u64(beat.at);
                out.flags([beat.echo.is_some(), beat.draining, beat.full]);
                let (at, held) = beat.echo.unwrap_or_default();
                out.u64(at);
                out.u64(held);
                out.u32(beat.spare_kbit);
            }
            Self::Bye => out.u8(kind::BYE),
            Self::Doors { doors } => {
                out.u8(kind::DOORS);
                out.list(doors, |out, door| out.text(door));
            }
            Self::Orders { entries } => {
                out.u8(kind::ORDERS);
                out.list(entries, write_order);
            }
            Self::Operators { address } => {
                out.u8(kind::OPERATORS);
                out.text(&address.to_string());
            }
            Self::Announce { part, entries } => {
                out.u8(kind::ANNOUNCE);
                write_part(out, *part);
                out.list(entries, |out, entry| {
                    out.text(&entry.name);
                    out.u64(entry.epoch);
                    out.u8(entry.phase.id());
                    out.u32(entry.rate_kbit);
                });
            }
            Self::Withdraw { entries } => {
                out.u8(kind::WITHDRAW);
                out.list(entries, write_ended);
            }
            Self::Refresh(digest) => {
                out.u8(kind::REFRESH);
                out.u32(digest.count);
                out.u64(digest.sum);
            }
            Self::Resync => out.u8(kind::RESYNC),
            Self::Wants { part, entries } => {
                out.u8(kind::WANTS);
                write_part(out, *part);
                out.list(entries, write_report);
            }
            Self::Left(ended) => {
                out.u8(kind::LEFT);
                write_ended(out, ended);
            }
            Self::Parent { name, epoch, order, parent } => {
                out.u8(kind::PARENT);
                out.text(name);
                out.u64(*epoch);
                out.u32(*order);
                write_key(out, *parent);
            }
            Self::Pushes { part, entries } => {
                out.u8(kind::PUSHES);
                write_part(out, *part);
                out.list(entries, write_edge);
            }
            Self::StopPush(edge) => {
                out.u8(kind::STOP_PUSH);
                write_edge(out, edge);
            }
            Self::Unfed(edge) => {
                out.u8(kind::UNFED);
                write_edge(out, edge);
            }
            Self::At(at) => {
                out.u8(kind::AT);
                out.u64(at.position.epoch);
                out.u64(at.position.seq);
                out.u64(at.origin.0);
                out.u64(at.ingested);
                out.list(&at.path, |out, key| out.u64(key.0));
            }
            Self::Headers => out.u8(kind::HEADERS),
            Self::Take { position } => {
                out.u8(kind::TAKE);
                out.flags([position.is_some()]);
                let (epoch, seq) = position.map_or((0, 0), |at| (at.epoch, at.seq));
                out.u64(epoch);
                out.u64(seq);
            }
            Self::Audience { players } => {
                out.u8(kind::AUDIENCE);
                out.u32(*players);
            }
        }
    }

    /// Reads the payload of a data message; `None` for a kind that a later build added.
    ///
    /// # Errors
    /// When it is no message of this protocol, or one that is not as it should be.
    pub fn decode(payload: &[u8], limits: &Limits) -> Result<Option<Self>, CodecError> {
        let (kind, mut input) = unwrap(payload, limits)?;
        let input = &mut input;
        Ok(Some(match kind {
            greeting::REFUSED => Self::Refused(read_refusal(input)?),
            kind::BEAT => {
                let at = input.u64()?;
                let [answers, draining, full] = input.flags()?;
                let (sent, held) = (input.u64()?, input.u64()?);
                let echo = answers.then_some((sent, held));
                Self::Beat(Beat { at, echo, spare_kbit: input.u32()?, draining, full })
            }
            kind::BYE => Self::Bye,
            kind::DOORS => Self::Doors { doors: read_doors(input)? },
            kind::ORDERS => Self::Orders { entries: input.list(read_order)? },
            kind::OPERATORS => {
                let address = input.text(ADDRESS_BYTES_MAX, false)?;
                Self::Operators { address: address.parse().map_err(|_| CodecError::Text)? }
            }
            kind::ANNOUNCE => Self::Announce {
                part: read_part(input)?,
                entries: input.list(|input| read_announced(input, limits))?,
            },
            kind::WITHDRAW => {
                Self::Withdraw { entries: input.list(|input| read_ended(input, limits))? }
            }
            kind::REFRESH => Self::Refresh(Digest { count: input.u32()?, sum: input.u64()? }),
            kind::RESYNC => Self::Resync,
            kind::WANTS => Self::Wants {
                part: read_part(input)?,
                entries: input.list(|input| read_report(input, limits))?,
            },
            kind::LEFT => Self::Left(read_ended(input, limits)?),
            kind::PARENT => Self::Parent {
                name: read_name(input, limits)?,
                epoch: read_epoch(input)?,
                order: input.u32()?,
                parent: read_key(input)?,
            },
            kind::PUSHES => Self::Pushes {
                part: read_part(input)?,
                entries: input.list(|input| read_edge(input, limits))?,
            },
            kind::STOP_PUSH => Self::StopPush(read_edge(input, limits)?),
            kind::UNFED => Self::Unfed(read_edge(input, limits)?),
            kind::AT => Self::At(read_at(input)?),
            kind::HEADERS => Self::Headers,
            kind::TAKE => Self::Take { position: read_position(input)? },
            kind::AUDIENCE => Self::Audience { players: input.u32()? },
            _ => return Ok(None),
        }))
    }

    /// The parts of a list, each with its place in the whole, so that none is longer than
    /// `cluster_message_bytes_max`. An empty list has one part.
    pub(super) fn parts<T>(
        entries: Vec<T>,
        name: fn(&T) -> &str,
        limits: &Limits,
    ) -> Vec<(Part, Vec<T>)> {
        let room = limits.cluster_message_bytes_max.saturating_sub(HEAD_BYTES + LIST_BYTES);
        let mut parts = vec![Vec::new()];
        let mut used = 0;
        for entry in entries {
            used += ENTRY_BYTES_MAX + name(&entry).len();
            let part = parts.last_mut().expect("there is always one");
            if used > room && !part.is_empty() {
                used = ENTRY_BYTES_MAX + name(&entry).len();
                parts.push(vec![entry]);
            } else {
                part.push(entry);
            }
        }
        let last = parts.len() - 1;
        let place = |at| Part { first: at == 0, last: at == last };
        parts.into_iter().enumerate().map(|(at, part)| (place(at), part)).collect()
    }
}

/// Kind, part and count of a message that is a list.
const LIST_BYTES: usize = 4;

/// The longest entry of any list without its name.
const ENTRY_BYTES_MAX: usize = 64;

/// A refusal is written in one way by every version: it is what two versions that have nothing in
/// common say to each other.
pub(super) fn write_refusal(out: &mut Output, refusal: Refusal) {
    out.u8(greeting::REFUSED);
    out.u8(u8::try_from(refusal.index()).unwrap_or(u8::MAX));
    let (ours, theirs) = match refusal {
        Refusal::Version { ours, theirs } => (ours, theirs),
        _ => Default::default(),
    };
    for version in [ours.0, ours.1, theirs.0, theirs.1] {
        out.u16(version);
    }
}

/// What the other one says of itself is here what it says of us, and the reverse.
pub(super) fn read_refusal(input: &mut Input<'_>) -> Result<Refusal, CodecError> {
    let index = input.u8()?;
    let theirs = (input.u16()?, input.u16()?);
    let ours = (input.u16()?, input.u16()?);
    Ok(Refusal::from_index(index, ours, theirs))
}

fn write_part(out: &mut Output, part: Part) {
    out.flags([part.first, part.last]);
}

fn read_part(input: &mut Input<'_>) -> Result<Part, CodecError> {
    let [first, last] = input.flags()?;
    Ok(Part { first, last })
}

fn write_ended(out: &mut Output, ended: &Ended) {
    out.text(&ended.name);
    out.u64(ended.epoch);
}

fn read_ended(input: &mut Input<'_>, limits: &Limits) -> Result<Ended, CodecError> {
    Ok(Ended { name: read_name(input, limits)?, epoch: read_epoch(input)? })
}

fn write_edge(out: &mut Output, edge: &Edge) {
    out.text(&edge.name);
    out.u64(edge.epoch);
    out.u64(edge.child.0);
}

fn read_edge(input: &mut Input<'_>, limits: &Limits) -> Result<Edge, CodecError> {
    Ok(Edge {
        name: read_name(input, limits)?,
        epoch: read_epoch(input)?,
        child: NodeKey(input.u64()?),
    })
}

fn write_report(out: &mut Output, report: &Report) {
    out.text(&report.name);
    out.u64(report.epoch);
    out.u32(report.order);
    write_key(out, report.source);
    out.flags([report.open, report.lost, report.leaving]);
}

fn read_report(input: &mut Input<'_>, limits: &Limits) -> Result<Report, CodecError> {
    let (name, epoch, order) = (read_name(input, limits)?, read_epoch(input)?, input.u32()?);
    let source = read_key(input)?;
    let [open, lost, leaving] = input.flags()?;
    Ok(Report { name, epoch, order, source, open, lost, leaving })
}

fn read_announced(input: &mut Input<'_>, limits: &Limits) -> Result<Announced, CodecError> {
    let (name, epoch) = (read_name(input, limits)?, read_epoch(input)?);
    let phase = match input.u8()? {
        0 => Phase::Pending,
        1 => Phase::Live,
        2 => Phase::Resting,
        _ => return Err(CodecError::Number),
    };
    Ok(Announced { name, epoch, phase, rate_kbit: input.u32()? })
}

fn read_doors(input: &mut Input<'_>) -> Result<Arc<[Arc<str>]>, CodecError> {
    let doors = input.list(|input| input.text(DOOR_BYTES_MAX, false))?;
    if doors.len() > DOORS_MAX {
        return Err(CodecError::Number);
    }
    Ok(doors.into())
}

fn write_order(out: &mut Output, order: &Order) {
    out.u64(order.id.node.0);
    out.u64(order.id.number);
    out.flags([order.text.is_some()]);
    out.text(order.text.as_ref().map_or("", |text| &text.0));
}

fn read_order(input: &mut Input<'_>) -> Result<Order, CodecError> {
    let (node, number) = (NodeKey(input.u64()?), input.u64()?);
    let [stands] = input.flags()?;
    let text = input.text(ORDER_BYTES_MAX, !stands)?;
    Ok(Order { id: OrderId { number, node }, text: stands.then_some(OrderText(text)) })
}

fn read_at(input: &mut Input<'_>) -> Result<At, CodecError> {
    let position = Position { epoch: read_epoch(input)?, seq: read_seq(input)? };
    let (origin, ingested) = (NodeKey(input.u64()?), input.u64()?);
    let path = input.list(|input| input.u64().map(NodeKey))?;
    if path.is_empty() || path.len() > PATH_MAX {
        return Err(CodecError::Number);
    }
    Ok(At { position, origin, ingested, path: path.into() })
}

fn read_position(input: &mut Input<'_>) -> Result<Option<Position>, CodecError> {
    let [is_there] = input.flags()?;
    if !is_there {
        input.take(16)?;
        return Ok(None);
    }
    Ok(Some(Position { epoch: read_epoch(input)?, seq: read_seq(input)? }))
}

/// The name of a stream: `app/name`.
fn read_name(input: &mut Input<'_>, limits: &Limits) -> Result<Arc<str>, CodecError> {
    input.text(limits.app_bytes_max + 1 + limits.name_bytes_max, false)
}

fn read_epoch(input: &mut Input<'_>) -> Result<u64, CodecError> {
    let epoch = input.u64()?;
    if (1..=EPOCH_MAX).contains(&epoch) { Ok(epoch) } else { Err(CodecError::Number) }
}

fn read_seq(input: &mut Input<'_>) -> Result<u64, CodecError> {
    let seq = input.u64()?;
    if seq <= SEQ_MAX { Ok(seq) } else { Err(CodecError::Number) }
}

fn write_key(out: &mut Output, key: Option<NodeKey>) {
    out.flags([key.is_some()]);
    out.u64(key.map_or(0, |key| key.0));
}

fn read_key(input: &mut Input<'_>) -> Result<Option<NodeKey>, CodecError> {
    let [is_there] = input.flags()?;
    let key = NodeKey(input.u64()?);
    Ok(is_there.then_some(key))
}

#[cfg(test)]
#[path = "codec_tests.rs"]
pub(super) mod tests;
