//! Entries of one allocation, and how they are put together.

use std::ops::Deref;

use crate::entry::{Entry, Payload};
use crate::type_config::TypeConfig;

use super::{Chunk, Entries, Repr, check_order, encoded};

/// Entries of one allocation, and what is asked of them wherever a view passes by: looked at once, when they are put
/// together, and not again by each who has to know.
pub(super) struct Batch<C: TypeConfig> {
    pub(super) entries: List<C>,
    /// The sum of their sizes.
    pub(super) bytes: u64,
    /// Whether one of them holds a membership.
    pub(super) has_membership: bool,
    pub(super) encoded: encoded::Cache,
}

/// Entries in a row. One that is alone, as the entries of a client that waits for each of its writes are, needs no
/// allocation beside that of its batch.
pub(super) enum List<C: TypeConfig> {
    One([Entry<C>; 1]),
    Many(Vec<Entry<C>>),
}

impl<C: TypeConfig> List<C> {
    fn with_capacity(capacity: usize) -> Self {
        Self::Many(if capacity <= 1 { Vec::new() } else { Vec::with_capacity(capacity) })
    }

    fn push(&mut self, entry: Entry<C>) {
        match self {
            Self::Many(entries) if entries.capacity() == 0 => *self = Self::One([entry]),
            Self::Many(entries) => entries.push(entry),
            Self::One(_) => {
                let before = std::mem::replace(self, Self::with_capacity(4));
                if let (Self::One([first]), Self::Many(entries)) = (before, self) {
                    entries.extend([first, entry]);
                }
            }
        }
    }

    /// Gives back what was reserved and not used: it would stay in memory as long as the entries.
    fn shrink_to_fit(&mut self) {
        if let Self::Many(entries) = self
            && entries.len() < entries.capacity()
        {
            entries.shrink_to_fit();
        }
    }
}

impl<C: TypeConfig> From<Vec<Entry<C>>> for List<C> {
    fn from(mut entries: Vec<Entry<C>>) -> Self {
        match entries.pop() {
            Some(only) if entries.is_empty() => Self::One([only]),
            Some(last) => {
                entries.push(last);
                Self::Many(entries)
            }
            None => Self::Many(entries),
        }
    }
}

impl<C: TypeConfig> Deref for List<C> {
    type Target = [Entry<C>];

    fn deref(&self) -> &[Entry<C>] {
        match self {
            Self::One(entry) => entry,
            Self::Many(entries) => entries,
        }
    }
}

impl<C: TypeConfig> Batch<C> {
    pub(super) fn new(entries: Vec<Entry<C>>, encoded: encoded::Cache) -> Self {
        let mut batch = Self { entries: List::Many(Vec::new()), bytes: 0, has_membership: false, encoded };
        entries.iter().for_each(|entry| batch.look_at(entry));
        batch.entries = entries.into();
        batch
    }

    fn look_at(&mut self, entry: &Entry<C>) {
        self.bytes += entry.size_bytes();
        self.has_membership |= matches!(entry.payload, Payload::Membership(_));
    }
}

/// Entries that are being put together, each looked at once.
pub(crate) struct NewEntries<C: TypeConfig> {
    batch: Batch<C>,
}

impl<C: TypeConfig> NewEntries<C> {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let mut batch = Batch::new(Vec::new(), encoded::Cache::new());
        batch.entries = List::with_capacity(capacity);
        Self { batch }
    }

    /// The sum of [`Entry::size_bytes`].
    pub(crate) fn bytes(&self) -> u64 {
        self.batch.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.entries.is_empty()
    }

    /// Adds an entry, which must follow the last one.
    pub(crate) fn push(&mut self, entry: Entry<C>) {
        if let Some(last) = self.batch.entries.last() {
            check_order(last.log_id, entry.log_id);
        }
        self.batch.look_at(&entry);
        self.batch.entries.push(entry);
    }
}

impl<C: TypeConfig> From<NewEntries<C>> for Entries<C> {
    fn from(new: NewEntries<C>) -> Self {
        let mut batch = new.batch;
        if batch.entries.is_empty() {
            return Self::empty();
        }
        batch.entries.shrink_to_fit();
        Self { repr: Repr::One(Chunk::whole(batch)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Index, LogId};
    use crate::testing::U64;

    fn entry(index: Index) -> Entry<U64> {
        Entry { log_id: LogId::new(1, index), payload: Payload::Command(index) }
    }

    #[test]
    fn entries_are_the_same_however_they_were_put_together() {
        for count in 0..10 {
            let expected = Entries::from((1..=count).map(entry).collect::<Vec<_>>());
            assert_eq!(expected.len() as u64, count);
            for capacity in 0..10 {
                let mut new = NewEntries::with_capacity(capacity);
                (1..=count).for_each(|index| new.push(entry(index)));
                let bytes = new.bytes();
                assert_eq!(new.is_empty(), count == 0);
                let entries = Entries::from(new);
                assert_eq!(entries, expected, "{count} where {capacity} were expected");
                assert_eq!((bytes, expected.size_bytes()), (entries.size_bytes(), bytes));
            }
        }
    }

    #[test]
    fn what_does_not_follow_is_refused() {
        let gap = std::panic::catch_unwind(|| {
            let mut new = NewEntries::with_capacity(2);
            new.push(entry(1));
            new.push(entry(3));
        });
        assert!(gap.is_err());
    }
}
