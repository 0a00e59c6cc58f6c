//! Reads entries beside the writer, on a thread of its own.

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use openconsensus::{
    Entries, Entry, EntryCodec, Index, MaybeSend, MembershipAt, Payload, RaftLogReader, TypeConfig,
};
use openconsensus_store_common::invalid_data;
use openconsensus_store_common::worker::{Call, Handle, Work};

use crate::frame::{HEAD_BYTES, Kind, Said};
use crate::index::{RUN_BYTES, Run};
use crate::queue::lock;
use crate::records::Record;
use crate::segment::{Blocks, Segment};
use crate::writer::{Group, Shared};

/// How much is read at once, at most.
const BLOCK_BYTES_MAX: u64 = 1 << 20;
/// How many runs are looked up at once.
const RUNS_MAX: usize = 64;
/// By how much the size that limits count an entry with is larger than its record, at least.
const OVERHEAD_BYTES: u64 = 48 - 13;

/// Reads entries of one [`WalLog`](crate::WalLog) beside its writer. Cheap to clone; all clones share one thread.
///
/// The checksums of what is read are checked. Entries are decoded by whoever polls the future.
pub struct WalReader<C: TypeConfig, K: EntryCodec<C>> {
    handle: Handle<Reading>,
    // A function of the types, so that the reader is `Send` and `Sync` whatever they are.
    types: PhantomData<fn() -> (C, K)>,
}

impl<C: TypeConfig, K: EntryCodec<C>> WalReader<C, K> {
    pub(crate) fn new(handle: Handle<Reading>) -> Self {
        Self { handle, types: PhantomData }
    }

    fn chunk(&self, range: Range<Index>, bytes_max: u64, truncations: Option<u64>) -> Call<Chunk> {
        self.handle.read(move |reading| reading.read(range, bytes_max, truncations))
    }

    async fn entries(&self, range: Range<Index>, bytes_max: u64) -> io::Result<Entries<C>> {
        'anew: loop {
            let mut parts: Vec<Entries<C>> = Vec::new();
            let (mut next, mut bytes, mut truncations) = (range.start, 0, None);
            loop {
                let chunk = self.chunk(next..range.end, bytes_max.saturating_sub(bytes), truncations).await?;
                if chunk.is_cut {
                    // What was read before is not of the same moment as what would be read now.
                    continue 'anew;
                }
                truncations = Some(chunk.truncations);
                let entries = Entries::decode::<K>(next, chunk.records).map_err(invalid_codec)?;
                next += entries.len() as u64;
                bytes += entries.size_bytes();
                let is_last = chunk.is_last || entries.is_empty();
                parts.push(entries);
                // Records are smaller than the sizes that count, so mostly one chunk is enough.
                if is_last || bytes_max <= bytes {
                    return Ok(Entries::concat(parts).limit_bytes(bytes_max));
                }
            }
        }
    }
}

impl<C: TypeConfig, K: EntryCodec<C>> WalReader<C, K> {
    /// The index knows which entries carry one; only those are read.
    async fn known_memberships(&self, range: Range<Index>) -> io::Result<Option<Vec<MembershipAt<C>>>> {
        'anew: loop {
            let range = range.clone();
            let known = self.handle.read(move |reading| Ok(reading.memberships(&range))).await?;
            let mut memberships = Vec::with_capacity(known.len());
            for index in known {
                let entries = self.entries(index..index + 1, 0).await?;
                let Some(Entry { log_id, payload: Payload::Membership(membership) }) = entries.iter().next()
                else {
                    // It was truncated or purged meanwhile.
                    continue 'anew;
                };
                memberships.push(MembershipAt { log_id: *log_id, membership: membership.clone() });
            }
            return Ok(Some(memberships));
        }
    }
}

fn invalid_codec(error: openconsensus::CodecError) -> io::Error {
    invalid_data(format!("entries cannot be decoded: {error}"))
}

impl<C: TypeConfig, K: EntryCodec<C>> RaftLogReader<C> for WalReader<C, K> {
    fn read(
        &mut self,
        range: Range<Index>,
        bytes_max: u64,
    ) -> impl Future<Output = io::Result<Entries<C>>> + MaybeSend {
        self.entries(range, bytes_max)
    }

    fn memberships(
        &mut self,
        range: Range<Index>,
    ) -> impl Future<Output = io::Result<Option<Vec<MembershipAt<C>>>>> + MaybeSend {
        self.known_memberships(range)
    }
}

impl<C: TypeConfig, K: EntryCodec<C>> Clone for WalReader<C, K> {
    fn clone(&self) -> Self {
        Self::new(self.handle.clone())
    }
}

impl<C: TypeConfig, K: EntryCodec<C>> std::fmt::Debug for WalReader<C, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WalReader").finish_non_exhaustive()
    }
}

/// What the reading thread owns.
pub(crate) struct Reading {
    shared: Arc<Shared>,
    group: Arc<Group>,
    /// Where blocks of files are read into, kept for its memory.
    buffer: Vec<u8>,
}

impl Reading {
    pub(crate) fn new(shared: Arc<Shared>, group: Arc<Group>) -> Self {
        Self { shared, group, buffer: Vec::new() }
    }
}

impl Work for Reading {}

/// Records of consecutive entries.
#[derive(Debug, Default)]
struct Chunk {
    records: Bytes,
    /// There are no more of those that were asked for.
    is_last: bool,
    /// Entries were truncated since the chunk before it; there are no records.
    is_cut: bool,
    truncations: u64,
}

/// Where to look for entries.
struct Plan {
    /// The entries, as far as they are there.
    range: Range<Index>,
    /// In which runs the first of them are, each with the index behind its last one.
    runs: Vec<(Run, Arc<Segment>, Index)>,
    truncations: u64,
}

impl Reading {
    /// As many records of `range` as have `bytes_max`, and one more; at least one, if there is one. With a number of
    /// `truncations`, none if there were others since.
    fn read(&mut self, range: Range<Index>, bytes_max: u64, truncations: Option<u64>) -> io::Result<Chunk> {
        let Some(plan) = self.plan(range) else {
            return Ok(Chunk { is_last: true, is_cut: truncations.is_some(), ..Chunk::default() });
        };
        if truncations.is_some_and(|truncations| truncations != plan.truncations) {
            return Ok(Chunk { is_cut: true, ..Chunk::default() });
        }
        let mut records = Records { next: plan.range.start, bytes: Vec::new(), counted: 0, bytes_max };
        for (run, segment, end) in plan.runs {
            let end = end.min(plan.range.end);
            read_run(&run, &segment, end, &mut records, &mut self.buffer)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", segment.name())))?;
            if records.is_full() || records.next == plan.range.end {
                break;
            }
        }
        Ok(Chunk {
            is_last: records.next == plan.range.end,
            records: records.bytes.into(),
            is_cut: false,
            truncations: plan.truncations,
        })
    }

    fn memberships(&self, range: &Range<Index>) -> Vec<Index> {
        let state = lock(&self.group.state);
        let live = state.live();
        state.memberships(&(range.start.max(live.start)..range.end.min(live.end)))
    }

    /// `None` when the first entry is not there.
    fn plan(&self, range: Range<Index>) -> Option<Plan> {
        // The writer removes segments only when the state does not name them any more, so all that it names are there.
        let state = lock(&self.group.state);
        let live = state.live();
        if range.is_empty() || !live.contains(&range.start) {
            return None;
        }
        let range = range.start..range.end.min(live.end);
        let runs = state.runs_from(range.start, RUNS_MAX).into_iter();
        let runs = runs.take_while(|(run, _)| run.first < range.end).map(|(run, end)| {
            let segment = self.shared.segment(run.segment).expect("a segment that is needed is there");
            (run, segment, end)
        });
        Some(Plan { runs: runs.collect(), range, truncations: state.truncations() })
    }
}

/// Records that have been read.
struct Records {
    /// The entry that comes next.
    next: Index,
    bytes: Vec<u8>,
    /// How many bytes count, at least.
    counted: u64,
    bytes_max: u64,
}

impl Records {
    fn is_full(&self) -> bool {
        self.bytes_max < self.counted
    }

    /// Takes those of the entries before `end` that come next from the records of a frame, whose first entry is `first`.
    fn take(&mut self, mut first: Index, records: &[u8], end: Index) -> io::Result<()> {
        let (mut at, mut from) = (0, 0);
        while at < records.len() && first < end && !self.is_full() {
            let record = Record::first_of(&records[at..]);
            let record =
                record.ok_or_else(|| invalid_data(format!("the record of entry {first} makes no sense")))?;
            at += record.bytes;
            if first < self.next {
                from = at;
            } else {
                self.next += 1;
                self.counted += record.bytes as u64 + OVERHEAD_BYTES;
            }
            first += 1;
        }
        self.bytes.extend_from_slice(&records[from..at.max(from)]);
        Ok(())
    }
}

/// Reads the entries of a run that come next, before `end`.
fn read_run(
    run: &Run,
    segment: &Segment,
    end: Index,
    records: &mut Records,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let block_bytes = records.bytes_max.saturating_add(RUN_BYTES / 2).clamp(RUN_BYTES / 2, BLOCK_BYTES_MAX);
    let memory = std::mem::take(buffer);
    let mut blocks = Blocks::with_buffer(&*segment.file, block_bytes as usize, memory)?;
    let mut offset = run.offset;
    while records.next < end && !records.is_full() {
        let Some(head) = blocks.head(offset)? else { return Err(unreadable(offset)) };
        let body_from = HEAD_BYTES as u64 + offset;
        let next_offset = offset + head.padded();
        if head.kind == Kind::Entries && head.group == 0 {
            let numbers = blocks.at(body_from, 24)?;
            let number = |at: usize| numbers.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            let (Some(first), Some(counts)) = (number(0), number(16)) else { return Err(unreadable(offset)) };
            let count = u64::from_le_bytes(counts) as u32;
            // Those in front of what is wanted are passed over; if that was wrong, no frame is found in the end.
            if records.next < u64::from_le_bytes(first).saturating_add(u64::from(count)) {
                let frame = blocks.frame(offset, &segment.seed.0)?;
                let said = frame.and_then(|(head, body)| Said::decode(head.kind, body));
                let Some(Said::Entries { first, records: found, .. }) = said else {
                    return Err(unreadable(offset));
                };
                if records.next < first {
                    return Err(unreadable(offset));
                }
                records.take(first, found, end)?;
            }
        }
        offset = next_offset;
    }
    *buffer = blocks.into_buffer();
    // One that was large for the sake of one entry is not kept.
    buffer.truncate(BLOCK_BYTES_MAX as usize);
    buffer.shrink_to(BLOCK_BYTES_MAX as usize);
    Ok(())
}

fn unreadable(offset: u64) -> io::Error {
    invalid_data(format!("the frame at offset {offset} is damaged"))
}
