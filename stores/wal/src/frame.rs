//! Frames: what a segment consists of behind its header.

use openconsensus::{Index, LogId, Term};

/// The head of a frame, before its body.
pub(crate) const HEAD_BYTES: usize = 40;
/// Every frame begins at a multiple of it.
pub(crate) const ALIGN: u64 = 8;
const FRAME_VERSION: u8 = 1;
/// What stands in an entries frame before the records.
pub(crate) const ENTRIES_HEAD_BYTES: usize = 24;
/// The most that a body may have: its length is a number of four bytes.
pub(crate) const BODY_BYTES_MAX: u64 = u32::MAX as u64;

/// How much of a segment a frame with a body of `body_bytes` takes.
pub(crate) const fn padded(body_bytes: u64) -> u64 {
    (HEAD_BYTES as u64 + body_bytes).next_multiple_of(ALIGN)
}

/// A checksum that is being computed.
#[derive(Clone)]
pub(crate) struct Sum(crc32fast::Hasher);

impl Sum {
    /// What all checksums of one segment begin with: a frame of another segment or another log does not fit, be it where
    /// it may.
    pub(crate) fn of_segment(log: u64, number: u64) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&log.to_le_bytes());
        hasher.update(&number.to_le_bytes());
        Self(hasher)
    }

    pub(crate) fn with(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    pub(crate) fn value(self) -> u32 {
        self.0.finalize()
    }
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Begins a segment: says what the older ones would have said.
    Begin = 1,
    HardState = 2,
    Entries = 3,
    Truncate = 4,
    Purge = 5,
    /// The log was opened: what comes next is of another process.
    Opened = 6,
    /// The log was closed when all before it was synced.
    Closed = 7,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Begin, Self::HardState, Self::Entries, Self::Truncate, Self::Purge, Self::Opened, Self::Closed]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) sum: u32,
    pub(crate) body_bytes: u32,
    /// Counts all frames of the log, from 1 on.
    pub(crate) sequence: u64,
    /// All frames up to this one were synced before this one was written.
    pub(crate) synced: u64,
    pub(crate) group: u64,
    pub(crate) kind: Kind,
}

impl Head {
    /// The bytes of the head but for the checksum, which depends on the body.
    pub(crate) fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[0..4].copy_from_slice(&self.sum.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.synced.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.group.to_le_bytes());
        bytes[32] = self.kind as u8;
        bytes[33] = FRAME_VERSION;
        bytes
    }

    /// The head that `bytes` begin with, if it can be one. Whether it is, its checksum says.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEAD_BYTES>()?;
        let kind = Kind::of(bytes[32])?;
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let short = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let (sequence, synced) = (long(8), long(16));
        let is_possible = bytes[33] == FRAME_VERSION && bytes[34..] == [0; 6] && synced < sequence;
        is_possible.then_some(Self {
            sum: short(0),
            body_bytes: short(4),
            sequence,
            synced,
            group: long(24),
            kind,
        })
    }

    /// How much of the segment the frame takes.
    pub(crate) fn padded(&self) -> u64 {
        padded(u64::from(self.body_bytes))
    }

    /// Whether `bytes`, head and body, are those that the checksum was made of.
    pub(crate) fn fits(&self, seed: &Sum, bytes: &[u8]) -> bool {
        seed.clone().with(&bytes[4..]).value() == self.sum
    }
}

/// A frame as it is written, without its records: what follows the head in `body`, and `records` bytes that others hold.
pub(crate) fn put_frame(out: &mut Vec<u8>, seed: &Sum, head: Head, body: &[u8]) {
    let at = out.len();
    out.extend(Head { sum: 0, body_bytes: body.len() as u32, ..head }.encode());
    out.extend(body);
    let sum = seed.clone().with(&out[at + 4..]).value();
    out[at..at + 4].copy_from_slice(&sum.to_le_bytes());
    out.resize(at + padded(body.len() as u64) as usize, 0);
}

/// What a group has said in older segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursors {
    pub(crate) purged: LogId,
    pub(crate) last: LogId,
    /// The latest hint that came with entries.
    pub(crate) hint: Index,
    pub(crate) hard: Hard,
}

/// A hard state whose vote is encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hard {
    pub(crate) term: Term,
    pub(crate) commit: Index,
    pub(crate) vote: Option<Vec<u8>>,
}

impl Hard {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.term.to_le_bytes());
        out.extend(self.commit.to_le_bytes());
        out.extend(u32::from(self.vote.is_some()).to_le_bytes());
        out.extend((self.vote.as_ref().map_or(0, Vec::len) as u32).to_le_bytes());
        out.extend(self.vote.as_deref().unwrap_or_default());
    }

    fn take(from: &mut Taker<'_>) -> Option<Self> {
        let (term, commit) = (from.long()?, from.long()?);
        let (has_vote, length) = (from.short()?, from.short()?);
        let vote = from.bytes(length as usize)?;
        match has_vote {
            0 if vote.is_empty() => Some(Self { term, commit, vote: None }),
            1 => Some(Self { term, commit, vote: Some(vote.to_vec()) }),
            _ => None,
        }
    }
}

/// What a frame says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    Begin {
        /// Where the frames of the segment before end; 0 for the first segment of the log.
        previous_end: u64,
        groups: Vec<(u64, Cursors)>,
    },
    HardState(Hard),
    Entries {
        first: Index,
        commit: Index,
        count: u32,
        records: &'a [u8],
    },
    Truncate {
        from: Index,
    },
    Purge {
        upto: LogId,
    },
    Opened,
    Closed,
}

impl<'a> Said<'a> {
    /// What the body of a frame says. `None` where it is not laid out as its kind is.
    pub(crate) fn decode(kind: Kind, body: &'a [u8]) -> Option<Self> {
        let mut from = Taker(body);
        let said = match kind {
            Kind::Begin => {
                let previous_end = from.long()?;
                let count = from.long()?;
                let mut groups = Vec::new();
                for _ in 0..count {
                    let id = from.long()?;
                    let (purged, last, hint) = (from.log_id()?, from.log_id()?, from.long()?);
                    groups.push((id, Cursors { purged, last, hint, hard: Hard::take(&mut from)? }));
                }
                Said::Begin { previous_end, groups }
            }
            Kind::HardState => Said::HardState(Hard::take(&mut from)?),
            Kind::Entries => {
                let (first, commit) = (from.long()?, from.long()?);
                let (count, zero) = (from.short()?, from.short()?);
                let records = std::mem::take(&mut from.0);
                if zero != 0 {
                    return None;
                }
                Said::Entries { first, commit, count, records }
            }
            Kind::Truncate => Said::Truncate { from: from.long()? },
            Kind::Purge => Said::Purge { upto: from.log_id()? },
            Kind::Opened => Said::Opened,
            Kind::Closed => Said::Closed,
        };
        from.0.is_empty().then_some(said)
    }
}

/// The body of a begin frame.
pub(crate) fn begin_body(previous_end: u64, groups: &[(u64, Cursors)]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(previous_end.to_le_bytes());
    body.extend((groups.len() as u64).to_le_bytes());
    for (id, Cursors { purged, last, hint, hard }) in groups {
        for number in [*id, purged.term, purged.index, last.term, last.index, *hint] {
            body.extend(number.to_le_bytes());
        }
        hard.put(&mut body);
    }
    body
}

/// The body of a purge frame.
pub(crate) fn purge_body(upto: LogId) -> [u8; 16] {
    let mut body = [0; 16];
    body[..8].copy_from_slice(&upto.term.to_le_bytes());
    body[8..].copy_from_slice(&upto.index.to_le_bytes());
    body
}

/// The body of an entries frame before its records.
pub(crate) fn entries_head(first: Index, commit: Index, count: u32) -> [u8; ENTRIES_HEAD_BYTES] {
    let mut body = [0; ENTRIES_HEAD_BYTES];
    body[..8].copy_from_slice(&first.to_le_bytes());
    body[8..16].copy_from_slice(&commit.to_le_bytes());
    body[16..20].copy_from_slice(&count.to_le_bytes());
    body
}

/// Takes numbers from the front of bytes.
struct Taker<'a>(&'a [u8]);

impl<'a> Taker<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn long(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().expect("eight bytes")))
    }

    fn short(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().expect("four bytes")))
    }

    fn log_id(&mut self) -> Option<LogId> {
        Some(LogId::new(self.long()?, self.long()?))
    }
}

#[cfg(test)]
mod tests;
