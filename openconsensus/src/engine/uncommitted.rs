//! How many bytes of the log are not settled yet: not committed, or not durable here.

use std::collections::VecDeque;

use crate::entry::Index;
use crate::type_config::TypeConfig;

use super::Fingerprint;

/// The sizes of the batches at the end of the log that are not settled.
///
/// It follows from the log and its cursors, whoever has appended the entries and in which term: nothing has to be given
/// back when leadership changes, so nothing can be forgotten. Entries that were there when the node was started count
/// nothing: they are not in memory.
///
/// A batch counts as a whole until all of it is settled, so the sum may be too large by less than one batch, which is one
/// append at most, and is never too small. In return nothing is to be done for each entry.
///
/// Invariant: the batches ascend, none is empty, and `bytes` is the sum of theirs.
#[derive(Clone, Debug, Default)]
pub(super) struct Uncommitted {
    batches: VecDeque<Batch>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Batch {
    first: Index,
    last: Index,
    bytes: u64,
}

impl Uncommitted {
    /// Feeds what decides when the sum will change.
    pub(super) fn fingerprint<C: TypeConfig>(&self, to: &mut Fingerprint<'_, C>) {
        // The sum follows.
        let Self { batches, bytes: _ } = self;
        to.value(batches);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Entries from `first` to `last` have been appended, which have so many bytes.
    pub(super) fn push(&mut self, first: Index, last: Index, bytes: u64) {
        self.batches.push_back(Batch { first, last, bytes });
        self.bytes += bytes;
    }

    /// Entries behind `kept` are gone. `bytes_from` tells how many bytes those from an index to `kept` have; where that is
    /// not known any more, the batch that was cut counts as before.
    pub(super) fn truncate_behind(&mut self, kept: Index, bytes_from: impl Fn(Index) -> Option<u64>) {
        while let Some(mut batch) = self.batches.pop_back() {
            if batch.last <= kept {
                self.batches.push_back(batch);
                break;
            }
            self.bytes -= batch.bytes;
            if batch.first <= kept {
                batch.last = kept;
                batch.bytes = bytes_from(batch.first).unwrap_or(batch.bytes);
                self.bytes += batch.bytes;
                self.batches.push_back(batch);
                break;
            }
        }
    }

    /// Entries up to `upto` are settled.
    pub(super) fn settle(&mut self, upto: Index) {
        while let Some(batch) = self.batches.front()
            && batch.last <= upto
        {
            self.bytes -= batch.bytes;
            self.batches.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of ten bytes.
    fn push(uncommitted: &mut Uncommitted, first: Index, last: Index) {
        uncommitted.push(first, last, 10 * (last + 1 - first));
    }

    /// What `truncate_behind` asks, of entries of ten bytes.
    fn upto(kept: Index) -> impl Fn(Index) -> Option<u64> {
        move |first| Some(10 * (kept + 1 - first))
    }

    #[test]
    fn a_batch_counts_until_all_of_it_is_settled_or_gone() {
        for settled in 3..16_u64 {
            for kept in settled..16 {
                let mut uncommitted = Uncommitted::default();
                push(&mut uncommitted, 5, 7);
                push(&mut uncommitted, 8, 13);
                uncommitted.settle(settled);
                // From the first entry of the batch on that is not settled as a whole.
                let first = match settled {
                    ..7 => 5,
                    7..13 => 8,
                    _ => 14,
                };
                assert_eq!(uncommitted.bytes(), 10 * (14 - first), "settled {settled}");
                uncommitted.truncate_behind(kept, upto(kept));
                uncommitted.settle(settled);
                let is_settled = kept.min(13) <= settled;
                let left = if is_settled { 0 } else { (kept.min(13) + 1).saturating_sub(first) };
                assert_eq!(uncommitted.bytes(), left * 10, "settled {settled}, cut behind {kept}");
                // Never less than what is not settled.
                assert!(10 * kept.min(13).saturating_sub(settled.max(4)) <= uncommitted.bytes());
                push(&mut uncommitted, kept + 1, 20);
                uncommitted.settle(19);
                assert!(0 < uncommitted.bytes());
                uncommitted.settle(20);
                assert_eq!(uncommitted.bytes(), 0);
            }
        }
    }

    #[test]
    fn what_was_cut_and_is_not_in_memory_any_more_counts_as_before() {
        let mut uncommitted = Uncommitted::default();
        push(&mut uncommitted, 5, 9);
        uncommitted.truncate_behind(6, |_| None);
        assert_eq!(uncommitted.bytes(), 50);
        uncommitted.settle(6);
        assert_eq!(uncommitted.bytes(), 0);
    }

    #[test]
    fn what_was_there_before_the_start_counts_nothing() {
        let mut uncommitted = Uncommitted::default();
        uncommitted.truncate_behind(5, upto(5));
        push(&mut uncommitted, 6, 7);
        assert_eq!(uncommitted.bytes(), 20);
    }
}
