//! The bounded tail of recent entries in memory.

use std::collections::VecDeque;
use std::hash::Hash;
use std::ops::Range;

use crate::entries::Entries;
use crate::entry::Index;
use crate::type_config::TypeConfig;

use super::Fingerprint;

/// So many chunks at the end are looked at one by one before all others are searched.
const RECENT_CHUNKS: usize = 8;

/// The end of the log in memory, in the batches in which it came.
///
/// Invariant: the chunks are consecutive, none is empty, and `bytes` is the sum of their sizes.
#[derive(Clone, Debug)]
pub(super) struct Tail<C: TypeConfig> {
    chunks: VecDeque<SizedChunk<C>>,
    /// The index behind the last entry.
    end: Index,
    bytes: u64,
}

#[derive(Clone, Debug)]
struct SizedChunk<C: TypeConfig> {
    entries: Entries<C>,
    /// The indexes of its entries: beside the others of the tail, so that looking for one of them touches no entry.
    start: Index,
    end: Index,
    bytes: u64,
    /// All bytes from some fixed point to the end of this chunk, so that the size of any range is a difference.
    end_bytes: u64,
}

impl<C: TypeConfig> SizedChunk<C> {
    /// What comes behind the first `before` bytes and has so many itself.
    fn new(entries: Entries<C>, before: u64, bytes: u64) -> Self {
        let Range { start, end } = entries.range();
        Self { entries, start, end, bytes, end_bytes: before + bytes }
    }

    /// The entries whose indexes are in `range`.
    fn slice(&self, range: &Range<Index>) -> Entries<C> {
        if range.start <= self.start && self.end <= range.end {
            return self.entries.clone();
        }
        self.entries.slice(range.clone())
    }
}

impl<C: TypeConfig> Tail<C> {
    /// An empty tail; the next entry has index `end`.
    pub(super) fn new(end: Index) -> Self {
        Self { chunks: VecDeque::new(), end, bytes: 0 }
    }

    /// The chunks matter too: they leave memory as a whole.
    pub(super) fn fingerprint(&self, to: &mut Fingerprint<'_, C>)
    where
        C::Command: Hash,
        C::Node: Hash,
    {
        let Self { chunks, end, bytes: _ } = self;
        to.value((end, chunks.len()));
        for SizedChunk { entries, start: _, end: _, bytes: _, end_bytes: _ } in chunks {
            to.value(entries.len());
            entries.iter().for_each(|entry| to.entry(entry));
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn end_bytes(&self) -> u64 {
        self.chunks.back().map_or(0, |chunk| chunk.end_bytes)
    }

    /// The bytes of all entries from `from` on; `None` when some of them are not in memory.
    pub(super) fn bytes_from(&self, from: Index) -> Option<u64> {
        if from < self.start() {
            return None;
        }
        let Some(chunk) = self.chunks.get(self.place(from)) else { return Some(0) };
        let inside = chunk.slice(&(from..Index::MAX)).size_bytes();
        Some(self.end_bytes() - chunk.end_bytes + inside)
    }

    /// The first index in memory, or the index of the next entry when there is none.
    fn start(&self) -> Index {
        self.chunks.front().map_or(self.end, |chunk| chunk.start)
    }

    /// Where the chunk is that holds `index`, or the first one behind it.
    fn place(&self, index: Index) -> usize {
        // What is looked for is most often among the last that came.
        let behind =
            self.chunks.iter().rev().take(RECENT_CHUNKS).take_while(|chunk| index < chunk.end).count();
        if behind < RECENT_CHUNKS {
            return self.chunks.len() - behind;
        }
        self.chunks.partition_point(|chunk| chunk.end <= index)
    }

    /// Adds entries of so many bytes.
    pub(super) fn push(&mut self, entries: Entries<C>, bytes: u64) {
        let chunk = SizedChunk::new(entries, self.end_bytes(), bytes);
        assert_eq!(chunk.start, self.end, "entries must follow the tail");
        self.end = chunk.end;
        self.bytes += chunk.bytes;
        self.chunks.push_back(chunk);
    }

    /// Removes the entries at and after `from`.
    pub(super) fn truncate(&mut self, from: Index) {
        while self.chunks.back().is_some_and(|chunk| from < chunk.end) {
            let Some(chunk) = self.chunks.pop_back() else { break };
            self.bytes -= chunk.bytes;
            let kept = chunk.slice(&(chunk.start..from));
            if !kept.is_empty() {
                self.end = chunk.start;
                let bytes = kept.size_bytes();
                self.push(kept, bytes);
            }
        }
        self.end = self.end.min(from);
    }

    /// Lets go of the entries up to `upto`.
    pub(super) fn evict_to(&mut self, upto: Index) {
        while let Some(chunk) = self.chunks.front_mut() {
            if upto < chunk.start {
                break;
            }
            self.bytes -= chunk.bytes;
            let kept = chunk.slice(&(upto + 1..chunk.end));
            if kept.is_empty() {
                self.chunks.pop_front();
                continue;
            }
            let bytes = kept.size_bytes();
            *chunk = SizedChunk::new(kept, chunk.end_bytes - bytes, bytes);
            self.bytes += chunk.bytes;
            break;
        }
    }

    /// Lets go of whole chunks from the front while there are more than `bytes_max`, but of nothing behind `stable`.
    pub(super) fn shrink(&mut self, bytes_max: u64, stable: Index) {
        while bytes_max < self.bytes {
            let Some(chunk) = self.chunks.front() else { break };
            if stable + 1 < chunk.end {
                break;
            }
            self.bytes -= chunk.bytes;
            self.chunks.pop_front();
        }
    }

    /// Entries from `from` on, as many as fit into `bytes_max`, at least one. `None` when `from` is not in memory.
    pub(super) fn from(&self, from: Index, bytes_max: u64) -> Option<Entries<C>> {
        if from == self.end {
            return Some(Entries::empty());
        }
        if from < self.start() || self.end < from {
            return None;
        }
        if let Some(last) = self.chunks.back()
            && last.start == from
            && last.bytes <= bytes_max
        {
            return Some(last.entries.clone());
        }
        let mut left = Some(bytes_max);
        let mut is_first = true;
        let parts = self.chunks.range(self.place(from)..).map_while(|chunk| {
            let bytes_max = left?;
            let is_needed = std::mem::take(&mut is_first);
            let part = chunk.slice(&(from..Index::MAX));
            let bytes = if from <= chunk.start { chunk.bytes } else { part.size_bytes() };
            left = bytes_max.checked_sub(bytes);
            if left.is_some() {
                return Some(part);
            }
            let start = part.limit_bytes(bytes_max);
            (is_needed || start.size_bytes() <= bytes_max).then_some(start)
        });
        Some(Entries::concat(parts))
    }

    /// The entries of `range` that are in memory.
    pub(super) fn range(&self, range: Range<Index>) -> Entries<C> {
        if let Some(last) = self.chunks.back()
            && last.start <= range.start
        {
            return last.slice(&range);
        }
        let chunks = self.chunks.range(self.place(range.start)..);
        let parts = chunks.take_while(|chunk| chunk.start < range.end).map(|chunk| chunk.slice(&range));
        Entries::concat(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Entry, LogId, Payload};
    use crate::testing::U64;

    fn batch(range: Range<Index>) -> Entries<U64> {
        let entries =
            range.map(|index| Entry { log_id: LogId::new(1, index), payload: Payload::Command(index) });
        entries.collect::<Vec<_>>().into()
    }

    fn push(tail: &mut Tail<U64>, entries: Entries<U64>) {
        let bytes = entries.size_bytes();
        tail.push(entries, bytes);
    }

    fn tail() -> Tail<U64> {
        let mut tail = Tail::new(5);
        for range in [5..8, 8..9, 9..14] {
            push(&mut tail, batch(range));
        }
        tail
    }

    const ENTRY: u64 = Entry::<U64>::OVERHEAD_BYTES + 8;

    #[test]
    fn any_range_is_found_whatever_the_batches() {
        let tail = tail();
        for start in 3..16 {
            for end in start..16 {
                let expected = start.max(5)..end.min(14);
                let found = tail.range(start..end);
                if expected.is_empty() {
                    assert!(found.is_empty(), "{start}..{end}");
                } else {
                    assert_eq!(found.range(), expected, "{start}..{end}");
                }
            }
        }
    }

    /// The lag of a peer in bytes is counted with it, also after the tail was cut at either end.
    #[test]
    fn the_bytes_from_any_index_on_are_those_of_the_entries_there() {
        let mut tail = tail();
        let check = |tail: &Tail<U64>, start: Index, end: Index| {
            for from in 0..end + 3 {
                let expected = (start <= from).then(|| end.saturating_sub(from) * ENTRY);
                assert_eq!(tail.bytes_from(from), expected, "from {from} of {start}..{end}");
            }
        };
        check(&tail, 5, 14);
        tail.evict_to(6);
        check(&tail, 7, 14);
        tail.truncate(12);
        check(&tail, 7, 12);
        push(&mut tail, batch(12..20));
        check(&tail, 7, 20);
        tail.shrink(9 * ENTRY, 19);
        check(&tail, 12, 20);
        check(&Tail::new(5), 5, 5);
    }

    #[test]
    fn entries_from_an_index_keep_the_limit_in_bytes_but_are_never_none() {
        let tail = tail();
        assert_eq!(tail.from(4, u64::MAX).map(|e| e.range()), None);
        assert_eq!(tail.from(15, u64::MAX).map(|e| e.range()), None);
        assert!(tail.from(14, u64::MAX).unwrap().is_empty());
        for start in 5..14 {
            for count in 0..10 {
                let end = (start + count.max(1)).min(14);
                assert_eq!(
                    tail.from(start, count * ENTRY).unwrap().range(),
                    start..end,
                    "from {start}, {count} entries"
                );
            }
        }
    }

    #[test]
    fn truncating_and_evicting_keep_the_sum_of_bytes() {
        for cut in 4..16 {
            let mut truncated = tail();
            truncated.truncate(cut);
            let left = cut.clamp(5, 14) - 5;
            assert_eq!(truncated.bytes(), left * ENTRY, "truncated at {cut}");
            push(&mut truncated, batch(cut.clamp(5, 14).min(cut)..20).slice(cut.min(14)..20));
            assert_eq!(truncated.range(0..20).range().end, 20);

            let mut evicted = tail();
            evicted.evict_to(cut);
            assert_eq!(evicted.bytes(), (13 - cut.clamp(4, 13)) * ENTRY, "evicted to {cut}");
        }
    }

    #[test]
    fn what_is_not_stable_is_never_let_go() {
        let mut tail = tail();
        tail.shrink(0, 7);
        assert_eq!(tail.range(0..20).range(), 8..14);
        tail.shrink(0, 8);
        assert_eq!(tail.range(0..20).range(), 9..14);
        tail.shrink(0, 12);
        assert_eq!(tail.range(0..20).range(), 9..14);
        tail.shrink(0, 13);
        assert_eq!(tail.bytes(), 0);
    }
}
