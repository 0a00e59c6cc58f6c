//! `Entries`: a cheap view of consecutive entries, as `bytes::Bytes` is of bytes.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::entry::{Entry, Index, LogId};
use crate::type_config::TypeConfig;

mod batch;
mod encoded;

use batch::Batch;
pub(crate) use batch::NewEntries;
pub use encoded::{CodecError, EncodedEntries, EntryCodec};

/// A view of consecutive entries that is cheap to clone and to cut.
///
/// The batch is the unit of this library: the same allocation of entries stands in the log's tail, in messages to
/// peers, in what is given to the log storage and in what the state machine applies. Nobody clones an entry.
///
/// Invariant: the indexes of the entries are consecutive and their terms never fall.
pub struct Entries<C: TypeConfig> {
    repr: Repr<C>,
}

enum Repr<C: TypeConfig> {
    Empty,
    One(Chunk<C>),
    /// At least two chunks, none of them empty.
    Many(Arc<[Chunk<C>]>),
}

/// A range of one allocation. Never empty.
struct Chunk<C: TypeConfig> {
    batch: Arc<Batch<C>>,
    start: usize,
    end: usize,
}

impl<C: TypeConfig> Clone for Chunk<C> {
    fn clone(&self) -> Self {
        Self { batch: self.batch.clone(), start: self.start, end: self.end }
    }
}

impl<C: TypeConfig> Chunk<C> {
    /// All of a batch, which must have entries.
    fn whole(batch: Batch<C>) -> Self {
        let end = batch.entries.len();
        Self { batch: Arc::new(batch), start: 0, end }
    }

    fn as_slice(&self) -> &[Entry<C>] {
        &self.batch.entries[self.start..self.end]
    }

    fn first(&self) -> LogId {
        self.batch.entries[self.start].log_id
    }

    fn last(&self) -> LogId {
        self.batch.entries[self.end - 1].log_id
    }

    fn size_bytes(&self) -> u64 {
        if self.end - self.start == self.batch.entries.len() {
            return self.batch.bytes;
        }
        self.as_slice().iter().map(Entry::size_bytes).sum()
    }

    /// The part of this chunk whose indexes are in `range`, if there is any.
    fn slice(&self, range: &Range<Index>) -> Option<Self> {
        let first = self.first().index;
        let from = range.start.max(first);
        let to = range.end.min(self.last().index + 1);
        if to <= from {
            return None;
        }
        let start = self.start + (from - first) as usize;
        let end = self.start + (to - first) as usize;
        Some(Self { batch: self.batch.clone(), start, end })
    }

    /// The first entry, and all others unless they are commands of the same term.
    fn notable(&self) -> &[Entry<C>] {
        let is_plain = !self.batch.has_membership && self.first().term == self.last().term;
        let entries = self.as_slice();
        if is_plain { &entries[..1] } else { entries }
    }
}

impl<C: TypeConfig> Entries<C> {
    /// No entries.
    pub const fn empty() -> Self {
        Self { repr: Repr::Empty }
    }

    /// Joins views that follow each other, without touching an entry.
    ///
    /// # Panics
    ///
    /// When one does not begin where the one before it ends.
    pub fn concat(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut parts = parts.into_iter().filter(|part| !part.is_empty());
        let Some(first) = parts.next() else { return Self::empty() };
        // Most often there is one: nothing has to be joined.
        let Some(second) = parts.next() else { return first };
        let mut chunks: Vec<Chunk<C>> = Vec::with_capacity(2 + parts.size_hint().0);
        for part in [first, second].into_iter().chain(parts) {
            if let (Some(last), Some(first)) = (chunks.last(), part.first()) {
                check_order(last.last(), first);
            }
            match part.repr {
                Repr::Empty => {}
                Repr::One(chunk) => chunks.push(chunk),
                Repr::Many(many) => chunks.extend_from_slice(&many),
            }
        }
        Self { repr: Repr::Many(chunks.into()) }
    }

    /// Chunks that follow each other.
    fn of_chunks(chunks: impl Iterator<Item = Chunk<C>>) -> Self {
        Self::concat(chunks.map(|chunk| Self { repr: Repr::One(chunk) }))
    }

    fn chunks(&self) -> &[Chunk<C>] {
        match &self.repr {
            Repr::Empty => &[],
            Repr::One(chunk) => std::slice::from_ref(chunk),
            Repr::Many(chunks) => chunks,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.chunks().iter().map(|chunk| chunk.end - chunk.start).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        matches!(self.repr, Repr::Empty)
    }

    /// The name of the first entry.
    pub fn first(&self) -> Option<LogId> {
        self.chunks().first().map(Chunk::first)
    }

    /// The name of the last entry.
    pub fn last(&self) -> Option<LogId> {
        self.chunks().last().map(Chunk::last)
    }

    /// The indexes that are covered: empty when there are no entries.
    pub fn range(&self) -> Range<Index> {
        match (self.first(), self.last()) {
            (Some(first), Some(last)) => first.index..last.index + 1,
            _ => 0..0,
        }
    }

    /// The entries in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry<C>> + Clone {
        self.chunks().iter().flat_map(|chunk| chunk.as_slice())
    }

    /// The entry at `index`, if it is in the view.
    pub fn at(&self, index: Index) -> Option<&Entry<C>> {
        let chunks = self.chunks();
        let place = chunks.partition_point(|chunk| chunk.last().index < index);
        let chunk = chunks.get(place)?;
        let offset = index.checked_sub(chunk.first().index)?;
        chunk.as_slice().get(offset as usize)
    }

    /// The part of the view whose indexes are in `range`.
    pub fn slice(&self, range: Range<Index>) -> Self {
        match &self.repr {
            Repr::Empty => Self::empty(),
            Repr::One(chunk) => Self { repr: chunk.slice(&range).map_or(Repr::Empty, Repr::One) },
            Repr::Many(chunks) => Self::of_chunks(chunks.iter().filter_map(|chunk| chunk.slice(&range))),
        }
    }

    /// The part of the view from index `from` on.
    pub(crate) fn starting_at(self, from: Index) -> Self {
        // Most often nothing has to be cut off.
        if self.first().is_none_or(|first| from <= first.index) {
            return self;
        }
        self.slice(from..Index::MAX)
    }

    /// The longest start of the view that is not larger than `bytes_max`, but at least one entry: an entry that is
    /// larger than the limit must still be able to travel.
    pub fn limit_bytes(&self, bytes_max: u64) -> Self {
        let mut sum = 0_u64;
        for chunk in self.chunks() {
            let with_chunk = sum.saturating_add(chunk.size_bytes());
            if with_chunk <= bytes_max {
                sum = with_chunk;
                continue;
            }
            for entry in chunk.as_slice() {
                sum = sum.saturating_add(entry.size_bytes());
                if sum > bytes_max {
                    let first = self.range().start;
                    return self.slice(first..entry.log_id.index.max(first + 1));
                }
            }
        }
        self.clone()
    }

    /// Some of the entries, in order: among them the first of each term, the first of all, and every one that holds a
    /// membership.
    pub(crate) fn notable(&self) -> impl Iterator<Item = &Entry<C>> {
        self.chunks().iter().flat_map(Chunk::notable)
    }

    /// The sum of [`Entry::size_bytes`].
    pub fn size_bytes(&self) -> u64 {
        self.chunks().iter().map(Chunk::size_bytes).sum()
    }
}

/// Panics unless `next` may follow `previous` in a log.
fn check_order(previous: LogId, next: LogId) {
    assert!(
        next.index == previous.index + 1,
        "entry {next} cannot follow entry {previous}: indexes must be consecutive"
    );
    assert!(next.term >= previous.term, "entry {next} cannot follow entry {previous}: terms must not fall");
}

impl<C: TypeConfig> From<Vec<Entry<C>>> for Entries<C> {
    /// Takes over a batch of entries: one allocation, however many views are made of it.
    ///
    /// # Panics
    ///
    /// When the indexes are not consecutive or a term falls.
    fn from(entries: Vec<Entry<C>>) -> Self {
        if entries.is_empty() {
            return Self::empty();
        }
        for pair in entries.windows(2) {
            check_order(pair[0].log_id, pair[1].log_id);
        }
        Self { repr: Repr::One(Chunk::whole(Batch::new(entries, encoded::Cache::new()))) }
    }
}

impl<C: TypeConfig> Clone for Entries<C> {
    fn clone(&self) -> Self {
        let repr = match &self.repr {
            Repr::Empty => Repr::Empty,
            Repr::One(chunk) => Repr::One(chunk.clone()),
            Repr::Many(chunks) => Repr::Many(chunks.clone()),
        };
        Self { repr }
    }
}

impl<C: TypeConfig> Default for Entries<C> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<C: TypeConfig> fmt::Debug for Entries<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<C: TypeConfig> PartialEq for Entries<C>
where
    C::Command: PartialEq,
{
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other.iter()).all(|(a, b)| a == b)
    }
}

impl<C: TypeConfig> Eq for Entries<C> where C::Command: Eq {}

#[cfg(feature = "serde")]
mod with_serde {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::*;

    impl<C: TypeConfig> Serialize for Entries<C>
    where
        Entry<C>: Serialize,
    {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut list = serializer.serialize_seq(Some(self.len()))?;
            for entry in self.iter() {
                list.serialize_element(entry)?;
            }
            list.end()
        }
    }

    impl<'de, C: TypeConfig> Deserialize<'de> for Entries<C>
    where
        Entry<C>: Deserialize<'de>,
    {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let entries = Vec::<Entry<C>>::deserialize(deserializer)?;
            // Bytes from outside must not be able to panic: what `From` asserts is an error here.
            let ordered = entries.windows(2).all(|pair| {
                let (a, b) = (pair[0].log_id, pair[1].log_id);
                a.index.checked_add(1) == Some(b.index) && a.term <= b.term
            });
            let bounded =
                entries.iter().all(|entry| 0 < entry.log_id.index && entry.log_id.index < Index::MAX);
            if !ordered || !bounded {
                return Err(D::Error::custom(
                    "entries must have consecutive indexes from 1 and terms that do not fall",
                ));
            }
            Ok(Self::from(entries))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Payload;
    use crate::testing::U64;

    fn entries(range: Range<Index>) -> Entries<U64> {
        range
            .map(|index| Entry { log_id: LogId::new(1, index), payload: Payload::Command(index) })
            .collect::<Vec<_>>()
            .into()
    }

    #[test]
    fn slicing_a_joined_view_gives_the_entries_of_the_range() {
        let joined = Entries::concat([entries(3..5), Entries::empty(), entries(5..9), entries(9..10)]);
        assert_eq!(joined.range(), 3..10);
        assert_eq!(joined.len(), 7);
        for start in 0..12 {
            for end in start..12 {
                let expected: Vec<_> =
                    joined.iter().filter(|e| (start..end).contains(&e.log_id.index)).cloned().collect();
                assert_eq!(joined.slice(start..end), Entries::from(expected), "{start}..{end}");
            }
            assert_eq!(joined.at(start).map(|e| e.log_id.index), (3..10).contains(&start).then_some(start));
        }
    }

    #[test]
    fn a_limit_in_bytes_keeps_at_least_one_entry() {
        let view = entries(1..5);
        let one = view.at(1).unwrap().size_bytes();
        assert_eq!(view.limit_bytes(0).range(), 1..2);
        assert_eq!(view.limit_bytes(2 * one).range(), 1..3);
        assert_eq!(view.limit_bytes(3 * one - 1).range(), 1..3);
        assert_eq!(view.limit_bytes(u64::MAX).range(), 1..5);
    }

    #[test]
    fn the_size_of_any_view_is_that_of_its_entries() {
        // Chunks of which some are whole and others are cut at one end or both.
        let parts = [entries(2..5).slice(3..5), entries(5..6), entries(4..9).slice(6..8), entries(8..10)];
        let joined = Entries::concat(parts);
        for start in 0..12 {
            for end in start..12 {
                let view = joined.slice(start..end);
                let sum: u64 = view.iter().map(Entry::size_bytes).sum();
                assert_eq!(view.size_bytes(), sum, "{start}..{end}");
                for bytes_max in 0..=sum + 1 {
                    let limited = view.limit_bytes(bytes_max);
                    let fits = limited.size_bytes() <= bytes_max || limited.len() <= 1;
                    let is_longest = limited.len() == view.len()
                        || bytes_max < view.slice(start..limited.range().end + 1).size_bytes();
                    assert!(fits && is_longest, "{start}..{end} in {bytes_max} bytes");
                }
            }
        }
    }

    #[test]
    fn a_gap_is_refused() {
        let joined = std::panic::catch_unwind(|| Entries::concat([entries(1..3), entries(4..5)]));
        assert!(joined.is_err());
    }
}
