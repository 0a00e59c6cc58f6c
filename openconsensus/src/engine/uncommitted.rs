//! How many bytes of the log are not settled yet: not committed, or not durable here.

use std::collections::VecDeque;

use crate::entries::Entries;
use crate::entry::Index;
use crate::type_config::TypeConfig;

/// The sizes of the entries at the end of the log that are not settled.
///
/// It follows from the log and its cursors, whoever has appended the entries and in which term: nothing has to be given
/// back when leadership changes, so nothing can be forgotten. Entries that were there when the node was started count
/// nothing: they are not in memory.
#[derive(Clone, Debug)]
pub(super) struct Uncommitted {
    /// The index behind the last entry.
    end: Index,
    sizes: VecDeque<u64>,
    /// Their sum.
    bytes: u64,
}

impl Uncommitted {
    /// Nothing; the next entry has index `end`.
    pub(super) fn new(end: Index) -> Self {
        Self { end, sizes: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn push<C: TypeConfig>(&mut self, entries: &Entries<C>) {
        for entry in entries.iter() {
            let bytes = entry.size_bytes();
            self.sizes.push_back(bytes);
            self.bytes += bytes;
        }
        self.end += entries.len() as u64;
    }

    /// Entries at and after `from` are gone.
    pub(super) fn truncate(&mut self, from: Index) {
        while from < self.end {
            self.end -= 1;
            self.bytes -= self.sizes.pop_back().unwrap_or(0);
        }
    }

    /// Entries up to `upto` are settled.
    pub(super) fn settle(&mut self, upto: Index) {
        let unsettled = self.end.saturating_sub(upto + 1);
        while unsettled < self.sizes.len() as u64 {
            self.bytes -= self.sizes.pop_front().unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::entry::{Entry, LogId, Payload};
    use crate::testing::U64;

    const ENTRY: u64 = Entry::<U64>::OVERHEAD_BYTES + 8;

    fn batch(range: Range<Index>) -> Entries<U64> {
        let entries =
            range.map(|index| Entry { log_id: LogId::new(1, index), payload: Payload::Command(index) });
        entries.collect::<Vec<_>>().into()
    }

    #[test]
    fn bytes_are_those_of_the_entries_that_are_neither_settled_nor_gone() {
        for settled in 3..16 {
            for cut in settled + 1..17 {
                let mut uncommitted = Uncommitted::new(5);
                uncommitted.push(&batch(5..8));
                uncommitted.push(&batch(8..14));
                uncommitted.settle(settled);
                assert_eq!(uncommitted.bytes(), 14_u64.saturating_sub(settled.max(4) + 1) * ENTRY);
                uncommitted.truncate(cut);
                let left = cut.min(14).saturating_sub(settled.max(4) + 1);
                assert_eq!(uncommitted.bytes(), left * ENTRY, "settled {settled}, cut at {cut}");
                if cut <= 14 {
                    uncommitted.push(&batch(cut..20));
                    uncommitted.settle(19);
                    assert_eq!(uncommitted.bytes(), 0);
                }
            }
        }
    }

    #[test]
    fn what_was_there_before_the_start_counts_nothing() {
        let mut uncommitted = Uncommitted::new(10);
        uncommitted.truncate(6);
        uncommitted.push(&batch(6..8));
        assert_eq!(uncommitted.bytes(), 2 * ENTRY);
        uncommitted.settle(6);
        assert_eq!(uncommitted.bytes(), ENTRY);
    }
}
