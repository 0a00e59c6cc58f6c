//! The one that writes: gathers what waits into a group, writes and syncs it, says that it is done.

use std::collections::VecDeque;
use std::io;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use openconsensus::{EncodedEntries, Index, LogId};

use crate::format::HEADER_BYTES;
use crate::frame::{
    BODY_BYTES_MAX, Cursors, ENTRIES_HEAD_BYTES, Hard, Head, Kind, begin_body, entries_head, padded,
    purge_body,
};
use crate::index::GroupState;
use crate::options::WalOptions;
use crate::queue::{Progress, lock};
use crate::records::{self, Summary};
use crate::replay::{check_purge, check_truncate};
use crate::segment::Segment;
use crate::stock::Stock;

/// Records of at least so many bytes are written from where they are; fewer are copied, which is cheaper than one more part
/// of a write.
const SHARED_BYTES_MIN: usize = 4 << 10;
/// How much memory for writes is kept between them.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// One Raft group in the log.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) id: u64,
    /// What is durable. Changed by the writer only.
    pub(crate) state: Mutex<GroupState>,
    pub(crate) progress: Arc<Progress>,
}

/// What the writer shares with the readers.
#[derive(Default)]
pub(crate) struct Shared {
    /// The segments that hold the log, in order, without a gap.
    pub(crate) segments: Mutex<VecDeque<Arc<Segment>>>,
    pub(crate) groups: Vec<Arc<Group>>,
}

impl Shared {
    /// The segment with this number, if it is still there.
    pub(crate) fn segment(&self, number: u64) -> Option<Arc<Segment>> {
        let segments = lock(&self.segments);
        let place = number.checked_sub(segments.front()?.number)?;
        segments.get(usize::try_from(place).ok()?).cloned()
    }
}

/// A call for the thread that writes.
pub(crate) struct Request {
    pub(crate) group: Arc<Group>,
    /// Its number in [`Progress`].
    pub(crate) call: u64,
    pub(crate) what: Call,
}

pub(crate) enum Call {
    HardState(Hard),
    Append { first: LogId, records: EncodedEntries, commit: Index },
    Truncate { from: Index },
    Purge { upto: LogId },
}

/// Appends to the log. Owned by one thread.
///
/// Invariant: everything before `end` of `active` and in the segments before it is synced, and `synced` is the number of the
/// last frame there. What is staged stands behind `end`, in one piece.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    stock: Arc<Stock>,
    active: Arc<Segment>,
    end: u64,
    next_sequence: u64,
    synced: u64,
    staged: Staged,
    is_purged: bool,
    group_bytes_max: u64,
    frame_bytes_max: u64,
}

/// What will be written and synced at once.
#[derive(Default)]
struct Staged {
    /// Heads, padding, and what was copied.
    own: Vec<u8>,
    pieces: Vec<Piece>,
    bytes: u64,
    changes: Vec<(Arc<Group>, Change)>,
    done: Vec<(Arc<Group>, u64)>,
    /// The last entry of each group that is staged.
    last: Vec<(u64, LogId)>,
}

enum Piece {
    Own(Range<usize>),
    Shared(Bytes),
}

/// What becomes of a group when a frame is durable.
enum Change {
    HardState(Hard),
    Append { offset: u64, summary: Summary, commit: Index },
    Truncate { from: Index },
    Purge { upto: LogId },
}

/// A frame that is to be written.
struct Frame<'a> {
    kind: Kind,
    group: u64,
    body: &'a [u8],
    records: &'a [Bytes],
}

/// Where the log goes on.
pub(crate) struct Place {
    pub(crate) end: u64,
    pub(crate) next_sequence: u64,
}

impl Writer {
    /// Goes on behind the last of the segments, all of which is synced up to `place`.
    pub(crate) fn new(shared: Arc<Shared>, stock: Arc<Stock>, place: &Place, options: &WalOptions) -> Self {
        let active = lock(&shared.segments).back().expect("a log has a segment").clone();
        Self {
            shared,
            stock,
            active,
            end: place.end,
            next_sequence: place.next_sequence,
            synced: place.next_sequence - 1,
            staged: Staged::default(),
            is_purged: false,
            group_bytes_max: options.group_bytes_max,
            frame_bytes_max: options.frame_bytes_max,
        }
    }

    /// Says in the log that it was opened, or closed.
    pub(crate) fn mark(&mut self, kind: Kind) -> io::Result<()> {
        self.stage(&Frame { kind, group: 0, body: &[], records: &[] })?;
        self.flush()
    }

    /// Carries out calls in order; each is answered as soon as it is durable. An error is the last thing it does.
    pub(crate) fn carry_out(&mut self, requests: &mut Vec<Request>) -> io::Result<()> {
        for Request { group, call, what } in requests.drain(..) {
            match what {
                Call::HardState(hard) => self.save_hard_state(&group, hard)?,
                Call::Append { first, records, commit } => self.append(&group, first, &records, commit)?,
                Call::Truncate { from } => self.truncate(&group, from)?,
                Call::Purge { upto } => self.purge(&group, upto)?,
            }
            self.staged.done.push((group, call));
        }
        self.flush()
    }

    /// What can wait until those who write have been answered: old segments that nobody needs any more go.
    pub(crate) fn tidy(&mut self) {
        if !std::mem::take(&mut self.is_purged) {
            return;
        }
        let oldest = self.shared.groups.iter().filter_map(|group| lock(&group.state).oldest_segment()).min();
        let oldest = oldest.unwrap_or(self.active.number);
        let mut segments = lock(&self.shared.segments);
        let count = segments.partition_point(|segment| segment.number < oldest);
        let dropped: Vec<_> = segments.drain(..count).collect();
        drop(segments);
        if !dropped.is_empty() {
            self.stock.drop_segments(dropped);
        }
    }

    fn save_hard_state(&mut self, group: &Arc<Group>, hard: Hard) -> io::Result<()> {
        let mut body = Vec::new();
        hard.put(&mut body);
        self.stage(&Frame { kind: Kind::HardState, group: group.id, body: &body, records: &[] })?;
        self.staged.changes.push((group.clone(), Change::HardState(hard)));
        Ok(())
    }

    fn append(
        &mut self,
        group: &Arc<Group>,
        first: LogId,
        records: &EncodedEntries,
        commit: Index,
    ) -> io::Result<()> {
        GroupState::check_append(self.last_of(group), first).map_err(misuse)?;
        let mut next = first.index;
        let mut rest = Rest { parts: records.parts(), offset: 0 };
        while let Some((slices, summary)) = rest.take(next, self.frame_bytes_max)? {
            let last = LogId::new(summary.last_term, next + u64::from(summary.count) - 1);
            let body = entries_head(next, commit, summary.count);
            let frame = Frame { kind: Kind::Entries, group: group.id, body: &body, records: &slices };
            let offset = self.stage(&frame)?;
            self.staged.changes.push((group.clone(), Change::Append { offset, summary, commit }));
            self.staged.set_last(group.id, last);
            next = last.index + 1;
        }
        Ok(())
    }

    fn truncate(&mut self, group: &Arc<Group>, from: Index) -> io::Result<()> {
        // Where entries are is known of those only that are written.
        self.flush()?;
        let (purged, last) = {
            let state = lock(&group.state);
            (state.cursors().purged, state.cursors().last)
        };
        if last.index < from {
            return Ok(());
        }
        check_truncate(purged, last, from).map_err(misuse)?;
        self.stage(&Frame {
            kind: Kind::Truncate,
            group: group.id,
            body: &from.to_le_bytes(),
            records: &[],
        })?;
        self.staged.changes.push((group.clone(), Change::Truncate { from }));
        let term = lock(&group.state).term_at(from - 1);
        self.staged.set_last(group.id, LogId::new(term, from - 1));
        Ok(())
    }

    fn purge(&mut self, group: &Arc<Group>, upto: LogId) -> io::Result<()> {
        self.flush()?;
        let last = {
            let state = lock(&group.state);
            if upto.index <= state.cursors().purged.index {
                return Ok(());
            }
            check_purge(&state, upto).map_err(misuse)?;
            state.cursors().last
        };
        self.stage(&Frame { kind: Kind::Purge, group: group.id, body: &purge_body(upto), records: &[] })?;
        self.staged.changes.push((group.clone(), Change::Purge { upto }));
        self.staged.set_last(group.id, if last.index <= upto.index { upto } else { last });
        self.is_purged = true;
        Ok(())
    }

    /// The last entry of a group, with what is staged.
    fn last_of(&self, group: &Group) -> LogId {
        let staged = self.staged.last.iter().find(|(id, _)| *id == group.id);
        staged.map_or_else(|| lock(&group.state).cursors().last, |(_, last)| *last)
    }

    /// Adds a frame to what will be written, and returns where it will be.
    fn stage(&mut self, frame: &Frame<'_>) -> io::Result<u64> {
        let record_bytes: u64 = frame.records.iter().map(|part| part.len() as u64).sum();
        let body_bytes = frame.body.len() as u64 + record_bytes;
        if BODY_BYTES_MAX < body_bytes {
            return Err(misuse(format!("an entry of {record_bytes} bytes is too large for the log")));
        }
        self.make_room(padded(body_bytes))?;
        Ok(self.put(frame, body_bytes))
    }

    fn put(&mut self, frame: &Frame<'_>, body_bytes: u64) -> u64 {
        let offset = self.end + self.staged.bytes;
        let mut head = Head {
            sum: 0,
            body_bytes: body_bytes as u32,
            sequence: self.next_sequence,
            synced: self.synced,
            group: frame.group,
            kind: frame.kind,
        };
        let mut sum = self.active.seed.0.clone().with(&head.encode()[4..]).with(frame.body);
        for part in frame.records {
            sum = sum.with(part);
        }
        head.sum = sum.value();
        self.next_sequence += 1;
        self.staged.copy(&head.encode());
        self.staged.copy(frame.body);
        for part in frame.records {
            if part.len() < SHARED_BYTES_MIN {
                self.staged.copy(part);
            } else {
                self.staged.pieces.push(Piece::Shared(part.clone()));
                self.staged.bytes += part.len() as u64;
            }
        }
        let unpadded = head.encode().len() as u64 + body_bytes;
        self.staged.copy(&[0; 8][..(head.padded() - unpadded) as usize]);
        offset
    }

    /// Makes sure that `bytes` more can be staged in the active segment.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        if 0 < self.staged.bytes && self.group_bytes_max < self.staged.bytes + bytes {
            self.flush()?;
        }
        if self.end + self.staged.bytes + bytes <= self.active.bytes {
            return Ok(());
        }
        self.flush()?;
        // It goes there even if it does not fit: what is larger than a segment makes one longer, and is alone in it.
        self.begin_segment()
    }

    /// Goes on in the next segment, which begins with all that the older ones have said and is still true: they can then
    /// be dropped without being read.
    fn begin_segment(&mut self) -> io::Result<()> {
        let segment = self.stock.take()?;
        let groups: Vec<(u64, Cursors)> =
            self.shared.groups.iter().map(|group| (group.id, lock(&group.state).cursors().clone())).collect();
        let body = begin_body(self.end, &groups);
        lock(&self.shared.segments).push_back(segment.clone());
        self.active = segment;
        self.end = HEADER_BYTES as u64;
        self.put(&Frame { kind: Kind::Begin, group: 0, body: &body, records: &[] }, body.len() as u64);
        Ok(())
    }

    /// Writes and syncs what is staged, and answers the calls that are complete with it.
    fn flush(&mut self) -> io::Result<()> {
        if 0 < self.staged.bytes {
            let named = |error: io::Error| {
                let name = self.active.name();
                io::Error::new(error.kind(), format!("{name}, at offset {}: {error}", self.end))
            };
            let parts = self.staged.parts();
            self.active.file.write_at(self.end, &parts).map_err(named)?;
            self.active.file.sync_data().map_err(named)?;
            self.end += self.staged.bytes;
            self.synced = self.next_sequence - 1;
        }
        for (group, change) in self.staged.changes.drain(..) {
            let mut state = lock(&group.state);
            match change {
                Change::HardState(hard) => state.set_hard(hard),
                Change::Append { offset, summary, commit } => {
                    state.append(self.active.number, offset, summary, commit);
                }
                Change::Truncate { from } => state.truncate(from),
                Change::Purge { upto } => state.purge(upto),
            }
        }
        for (group, call) in self.staged.done.drain(..) {
            group.progress.complete(call);
        }
        self.staged.clear();
        Ok(())
    }
}

impl Staged {
    fn copy(&mut self, bytes: &[u8]) {
        let start = self.own.len();
        self.own.extend_from_slice(bytes);
        self.bytes += bytes.len() as u64;
        match self.pieces.last_mut() {
            Some(Piece::Own(range)) => range.end = self.own.len(),
            Some(Piece::Shared(_)) | None => self.pieces.push(Piece::Own(start..self.own.len())),
        }
    }

    fn parts(&self) -> Vec<IoSlice<'_>> {
        let parts = self.pieces.iter().map(|piece| match piece {
            Piece::Own(range) => IoSlice::new(&self.own[range.clone()]),
            Piece::Shared(bytes) => IoSlice::new(bytes),
        });
        parts.collect()
    }

    fn set_last(&mut self, group: u64, last: LogId) {
        match self.last.iter_mut().find(|(id, _)| *id == group) {
            Some((_, known)) => *known = last,
            None => self.last.push((group, last)),
        }
    }

    fn clear(&mut self) {
        self.own.clear();
        self.own.shrink_to(KEPT_BYTES_MAX);
        self.pieces.clear();
        self.bytes = 0;
        self.last.clear();
    }
}

/// Records that are still to be put into frames.
struct Rest<'a> {
    parts: &'a [Bytes],
    /// Where they begin in the first part.
    offset: usize,
}

impl Rest<'_> {
    /// The next records, which begin with entry `first` and fit into a frame of `bytes_max`; at least one. `None` when there
    /// are no more.
    fn take(&mut self, first: Index, bytes_max: u64) -> io::Result<Option<(Vec<Bytes>, Summary)>> {
        let mut summary = Summary::default();
        let mut slices = Vec::new();
        let mut left = bytes_max.saturating_sub(ENTRIES_HEAD_BYTES as u64);
        while let Some(part) = self.parts.first() {
            let taken = records::take(&part[self.offset..], first, left, &mut summary);
            let taken = taken
                .ok_or_else(|| misuse(format!("the records of entries from {first} on make no sense")))?;
            if taken > 0 {
                slices.push(part.slice(self.offset..self.offset + taken));
            }
            self.offset += taken;
            left = left.saturating_sub(taken as u64);
            if self.offset < part.len() {
                break;
            }
            self.parts = &self.parts[1..];
            self.offset = 0;
        }
        Ok((0 < summary.count).then_some((slices, summary)))
    }
}

/// A call that the contract of the trait forbids.
fn misuse(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
