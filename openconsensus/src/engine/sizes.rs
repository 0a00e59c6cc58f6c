//! How many bytes the entries of the log have, without remembering the size of each.

use std::collections::VecDeque;

use crate::entry::Index;
use crate::type_config::TypeConfig;

use super::Fingerprint;

/// Marks at most; where there are more, half of them go.
const MARKS_MAX: usize = 512;

/// A sum of bytes by index, known exactly at some marks and taken to grow evenly between them.
///
/// The engine sees an entry's size only when the entry passes through it: entries that a node finds in its log when it
/// is started count nothing.
///
/// Invariant: `marks` is never empty and ascends, strictly in `index`; `end` is at or behind its last one.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    marks: VecDeque<Mark>,
    /// The last entry.
    end: Mark,
    /// How far marks are apart at least.
    spacing_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    index: Index,
    /// The bytes of all known entries up to `index`.
    total: u64,
}

impl Sizes {
    /// Nothing is known of the entries up to `last`.
    pub(super) fn new(last: Index) -> Self {
        let end = Mark { index: last, total: 0 };
        Self { marks: VecDeque::from([end]), end, spacing_bytes: 1 }
    }

    /// Only differences matter.
    pub(super) fn fingerprint<C: TypeConfig>(&self, to: &mut Fingerprint<'_, C>) {
        let Self { marks, end, spacing_bytes } = self;
        let base = marks[0].total;
        to.value((marks.len(), spacing_bytes));
        for Mark { index, total } in marks.iter().chain([end]) {
            to.value((index, total - base));
        }
    }

    /// Entries of so many bytes have been appended, up to `last`.
    pub(super) fn append(&mut self, last: Index, bytes: u64) {
        self.end = Mark { index: last, total: self.end.total.saturating_add(bytes) };
        if self.back().total + self.spacing_bytes <= self.end.total {
            self.marks.push_back(self.end);
        }
        if MARKS_MAX < self.marks.len() {
            self.thin_out();
        }
    }

    /// Lets go of marks until half as many are left as there may be, as evenly spread as possible.
    fn thin_out(&mut self) {
        while MARKS_MAX / 2 < self.marks.len() {
            self.spacing_bytes = self.spacing_bytes.saturating_mul(2);
            let mut kept = self.marks[0].total;
            let spacing_bytes = self.spacing_bytes;
            let mut is_first = true;
            self.marks.retain(|mark| {
                let is_kept =
                    std::mem::take(&mut is_first) || kept.saturating_add(spacing_bytes) <= mark.total;
                if is_kept {
                    kept = mark.total;
                }
                is_kept
            });
        }
    }

    /// The entries behind `last` are gone.
    pub(super) fn truncate_behind(&mut self, last: Index) {
        if self.end.index <= last {
            return;
        }
        self.end = Mark { index: last, total: self.total_at(last) };
        while last < self.back().index {
            if self.marks.len() == 1 {
                self.marks[0] = self.end;
            } else {
                self.marks.pop_back();
            }
        }
    }

    /// The entries up to `upto` are gone. The log may begin anew behind it.
    pub(super) fn purge(&mut self, upto: Index) {
        let first = Mark { index: upto, total: self.total_at(upto) };
        while self.marks.front().is_some_and(|mark| mark.index <= upto) {
            self.marks.pop_front();
        }
        self.marks.push_front(first);
        if self.end.index < upto {
            self.end = first;
        }
    }

    /// How many bytes all known entries have that are not gone.
    pub(super) fn all(&self) -> u64 {
        self.end.total - self.marks[0].total
    }

    /// About how many bytes the known entries behind `after` and up to `upto` have.
    pub(super) fn between(&self, after: Index, upto: Index) -> u64 {
        self.total_at(upto).saturating_sub(self.total_at(after))
    }

    /// The first index from which on, exclusively, the entries up to `upto` have no more than `bytes`.
    pub(super) fn start_of(&self, bytes: u64, upto: Index) -> Index {
        let Some(gone) = self.total_at(upto).checked_sub(bytes) else { return 0 };
        let place = self.marks.partition_point(|mark| mark.total < gone);
        if place == 0 {
            return 0;
        }
        let (before, after) = (self.marks[place - 1], self.marks.get(place).copied().unwrap_or(self.end));
        let (entries, width) = (after.index - before.index, after.total - before.total);
        // Rounded up: what is kept keeps the limit.
        let share = u128::from(entries) * u128::from(gone - before.total);
        (before.index + share.div_ceil(u128::from(width.max(1))) as Index).min(upto)
    }

    fn back(&self) -> Mark {
        *self.marks.back().expect("there is always a mark")
    }

    fn total_at(&self, index: Index) -> u64 {
        if self.end.index <= index {
            return self.end.total;
        }
        let place = self.marks.partition_point(|mark| mark.index <= index);
        if place == 0 {
            return self.marks[0].total;
        }
        let (before, after) = (self.marks[place - 1], self.marks.get(place).copied().unwrap_or(self.end));
        let (entries, width) = (after.index - before.index, after.total - before.total);
        let share = u128::from(width) * u128::from(index - before.index) / u128::from(entries.max(1));
        before.total + share as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of 1000 bytes, in batches of three.
    fn thousands(count: u64) -> Sizes {
        let mut sizes = Sizes::new(0);
        for batch in 0..count / 3 {
            sizes.append(3 * batch + 3, 3000);
        }
        sizes
    }

    #[test]
    fn bytes_between_two_entries_are_right_where_entries_are_of_one_size() {
        let sizes = thousands(300);
        for (after, upto) in [(0, 300), (0, 1), (7, 9), (100, 250), (299, 300), (5, 5), (290, 400)] {
            assert_eq!(sizes.between(after, upto), (upto.min(300) - after) * 1000, "{after} to {upto}");
        }
    }

    #[test]
    fn what_is_kept_for_a_number_of_bytes_never_has_more() {
        let sizes = thousands(300);
        for bytes in [0, 1, 999, 1000, 1001, 50_000, 299_999, 300_000, 1 << 40] {
            for upto in [1, 17, 300] {
                let start = sizes.start_of(bytes, upto);
                assert!(sizes.between(start, upto) <= bytes, "{bytes} bytes up to {upto}: from {start}");
                let one_more = start.saturating_sub(1);
                assert!(start == 0 || bytes < sizes.between(one_more, upto), "{start} could be {one_more}");
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_the_error_stays_small() {
        let mut sizes = Sizes::new(0);
        let mut totals = vec![0];
        for index in 1..=100_000 {
            let bytes = if index % 7 == 0 { 9000 } else { 40 };
            sizes.append(index, bytes);
            totals.push(totals[totals.len() - 1] + bytes);
        }
        assert!(sizes.marks.len() <= MARKS_MAX, "{} marks", sizes.marks.len());
        let all = totals[100_000];
        for (after, upto) in [(0, 100_000), (1234, 99_999), (50_000, 50_100)] {
            let exact = totals[upto] - totals[after];
            let error = sizes.between(after as u64, upto as u64).abs_diff(exact);
            assert!(error <= all / 100, "{after} to {upto}: {error} bytes off of {exact}");
        }
    }

    #[test]
    fn what_is_cut_off_and_what_is_purged_counts_nothing() {
        for cut in [0, 1, 2, 100, 150, 299, 300, 301] {
            let mut sizes = thousands(300);
            sizes.truncate_behind(cut);
            assert_eq!(sizes.between(0, 1000), cut.min(300) * 1000, "cut behind {cut}");
            sizes.append(cut.min(300) + 1, 500);
            assert_eq!(sizes.between(0, 1000), cut.min(300) * 1000 + 500);

            let mut sizes = thousands(300);
            sizes.purge(cut);
            assert_eq!(sizes.between(0, 1000), (300 - cut.min(300)) * 1000, "purged to {cut}");
            sizes.append(cut.max(300) + 1, 500);
            assert_eq!(sizes.between(0, 1000), (300 - cut.min(300)) * 1000 + 500);
        }
    }

    #[test]
    fn entries_from_before_the_start_count_nothing() {
        let mut sizes = Sizes::new(50);
        assert_eq!(sizes.between(0, 50), 0);
        sizes.append(60, 10_000);
        assert_eq!(sizes.between(10, 60), 10_000);
        assert_eq!(sizes.start_of(10_000, 60), 0);
        assert_eq!(sizes.start_of(5000, 60), 55);
        sizes.truncate_behind(20);
        assert_eq!(sizes.between(0, 60), 0);
    }
}
