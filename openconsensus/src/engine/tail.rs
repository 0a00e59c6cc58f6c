//! The bounded tail of recent entries in memory.

use std::collections::VecDeque;
use std::ops::Range;

use crate::entries::Entries;
use crate::entry::Index;
use crate::type_config::TypeConfig;

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
    bytes: u64,
}

impl<C: TypeConfig> SizedChunk<C> {
    fn new(entries: Entries<C>) -> Self {
        let bytes = entries.size_bytes();
        Self { entries, bytes }
    }
}

impl<C: TypeConfig> Tail<C> {
    /// An empty tail; the next entry has index `end`.
    pub(super) fn new(end: Index) -> Self {
        Self { chunks: VecDeque::new(), end, bytes: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first index in memory, or the index of the next entry when there is none.
    fn start(&self) -> Index {
        self.chunks.front().map_or(self.end, |chunk| chunk.entries.range().start)
    }

    pub(super) fn push(&mut self, entries: Entries<C>) {
        assert_eq!(entries.range().start, self.end, "entries must follow the tail");
        self.end = entries.range().end;
        let chunk = SizedChunk::new(entries);
        self.bytes += chunk.bytes;
        self.chunks.push_back(chunk);
    }

    /// Removes the entries at and after `from`.
    pub(super) fn truncate(&mut self, from: Index) {
        while let Some(chunk) = self.chunks.back() {
            let range = chunk.entries.range();
            if range.end <= from {
                break;
            }
            let kept = chunk.entries.slice(range.start..from);
            self.pop_back();
            if !kept.is_empty() {
                self.end = kept.range().start;
                self.push(kept);
            }
        }
        self.end = self.end.min(from);
    }

    fn pop_back(&mut self) {
        let chunk = self.chunks.pop_back().expect("only called when there is a chunk");
        self.bytes -= chunk.bytes;
    }

    /// Lets go of the entries up to `upto`.
    pub(super) fn evict_to(&mut self, upto: Index) {
        while let Some(chunk) = self.chunks.front_mut() {
            let range = chunk.entries.range();
            if upto < range.start {
                break;
            }
            self.bytes -= chunk.bytes;
            let kept = chunk.entries.slice(upto + 1..range.end);
            if kept.is_empty() {
                self.chunks.pop_front();
                continue;
            }
            *chunk = SizedChunk::new(kept);
            self.bytes += chunk.bytes;
            break;
        }
    }

    /// Lets go of whole chunks from the front while there are more than `bytes_max`, but of nothing behind `stable`.
    pub(super) fn shrink(&mut self, bytes_max: u64, stable: Index) {
        while bytes_max < self.bytes {
            let Some(chunk) = self.chunks.front() else { break };
            if stable + 1 < chunk.entries.range().end {
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
        let place = self.chunks.partition_point(|chunk| chunk.entries.range().end <= from);
        let mut parts = Vec::new();
        let mut left = bytes_max;
        for chunk in self.chunks.range(place..) {
            let whole = from <= chunk.entries.range().start;
            let part = if whole { chunk.entries.clone() } else { chunk.entries.slice(from..Index::MAX) };
            let bytes = if whole { chunk.bytes } else { part.size_bytes() };
            if bytes <= left {
                left -= bytes;
                parts.push(part);
                continue;
            }
            let start = part.limit_bytes(left);
            if parts.is_empty() || start.size_bytes() <= left {
                parts.push(start);
            }
            break;
        }
        Some(if parts.len() == 1 { parts.remove(0) } else { Entries::concat(parts) })
    }

    /// The entries of `range` that are in memory.
    pub(super) fn range(&self, range: Range<Index>) -> Entries<C> {
        let place = self.chunks.partition_point(|chunk| chunk.entries.range().end <= range.start);
        let parts = self
            .chunks
            .range(place..)
            .take_while(|chunk| chunk.entries.range().start < range.end)
            .map(|chunk| chunk.entries.slice(range.clone()));
        Entries::concat(parts)
    }
}
