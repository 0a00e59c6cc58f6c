//! The suite for log storages: every sentence of `RaftLogStorage` and `RaftLogReader` that can be checked from outside.

mod basics;
mod beside;
mod crashing;
mod cutting;
mod model;
mod random;
mod reading;
mod subject;

use std::future::Future;
use std::io;

use openconsensus::{RaftLogStorage, TypeConfig};

use super::report::{Report, checks};
use super::samples::Samples;

/// Makes log storages for [`check_log_storage`].
///
/// [`disk`](Self::disk) and [`open`](Self::open) are enough for most checks. The others let the suite cut the power, make
/// writes fail and damage what is stored: worth having for every store whose writes reach a disk. A disk in memory that
/// stands below the store makes them easy; for a store in a folder, a copy of the folder is what a killed process leaves.
pub trait LogStorageFactory<C: TypeConfig>: Samples<C> {
    /// The place of one log: a folder, a simulated disk, a handle to shared memory.
    type Disk;

    /// The log storage.
    type Log: RaftLogStorage<C>;

    /// An empty place for a new log. The suite asks for some hundred of them.
    fn disk(&self) -> Self::Disk;

    /// Opens the log on `disk`: a new one the first time, what is stored there later. One that was opened before has been
    /// dropped by then, and so have its readers. [`load`](RaftLogStorage::load) is left to the suite.
    fn open(&self, disk: &Self::Disk) -> impl Future<Output = io::Result<Self::Log>>;

    /// A copy of `disk` as it would be found after the power was cut now, in good order otherwise: what was not synced is
    /// gone, no write fails. The log on `disk` itself goes on.
    ///
    /// `None`, the default, where that cannot be had; the checks that need it are skipped.
    fn crashed(&self, _disk: &Self::Disk) -> Option<Self::Disk> {
        None
    }

    /// Copies of `disk` as they would have been found after the power was cut in the time since the last call: before and
    /// after each sync, say, with some of what was not synced lost. The more, the better. The first call for a disk begins
    /// it, and what it returns is not looked at. Empty, the default, where that cannot be had.
    fn crashes(&self, _disk: &Self::Disk) -> Vec<Self::Disk> {
        Vec::new()
    }

    /// From now on `disk` carries out so many more operations (writes and syncs) and refuses every further one. Returns
    /// `false`, the default, where that cannot be had.
    fn fail_after(&self, _disk: &Self::Disk, _operations: u64) -> bool {
        false
    }

    /// A copy of `disk` on which something that was stored is damaged, in another way for each `number`; the log is not open
    /// meanwhile. `None`, the default, where that cannot be had.
    fn damaged(&self, _disk: &Self::Disk, _number: u64) -> Option<Self::Disk> {
        None
    }
}

/// Checks a log storage against its contract. The report says what came of it; see
/// [`Report::assert_passed`].
///
/// Runs on any executor. Random checks print the seed with which they failed; the environment variable
/// `CONFORMANCE_SEED` repeats it.
pub async fn check_log_storage<C, F>(factory: &F) -> Report
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    let mut report = Report::new("log storage");
    make_all(&mut report, factory).await;
    report
}

checks! {
    make_all where [C: TypeConfig<Command: PartialEq>, F: LogStorageFactory<C>];
    basics::a_new_log_is_empty: [
        "What is stored. Called once, before any other method.",
        "The default for a new storage.",
    ];
    basics::the_hard_state_is_replaced_as_a_whole: [
        "Replaces the hard state as a whole: after a crash either the old or the new one is found.",
    ];
    basics::the_commit_hint_is_kept_or_dropped_and_never_ahead: [
        "`commit` is a hint that rides along: stored with the entries it lets a restarted node know more. A storage to \
         which that costs anything extra may drop it.",
        "The last hard state saved, its `commit` raised to the latest hint given to \
         [`append`](RaftLogStorage::append).",
    ];
    basics::entries_of_every_kind_are_kept: [
        "Adds entries behind the last one: they start at `last.index + 1`.",
    ];
    basics::large_entries_and_large_batches_are_kept: [
        "Adds entries behind the last one: they start at `last.index + 1`.",
    ];
    basics::a_reader_sees_what_was_written: [
        "Reads entries beside the writer.",
        "A reader that sees what has been written whenever it is asked. Called at start.",
    ];
    reading::every_range_is_read_exactly: [
        "Consecutive entries from `range.start` on: as many of `range` as fit into `bytes_max` (counted with \
         [`Entry::size_bytes`](crate::Entry::size_bytes)), but at least one if `range.start` is stored.",
        "Fewer than that only where the log ends.",
        "Empty when `range` is, and when `range.start` is purged or not stored.",
    ];
    reading::a_limit_in_bytes_is_kept_but_for_the_first_entry: [
        "Consecutive entries from `range.start` on: as many of `range` as fit into `bytes_max` (counted with \
         [`Entry::size_bytes`](crate::Entry::size_bytes)), but at least one if `range.start` is stored.",
    ];
    reading::memberships_that_are_known_are_those_of_the_entries: [
        "The memberships in the entries of `range` that are stored, all of them and in order, where the storage knows them \
         without looking at every entry; `None`, the default, where it does not.",
    ];
    cutting::truncation_removes_the_end_wherever_it_begins: [
        "Removes the entries at and after `from`, which is above the purged index.",
    ];
    cutting::truncated_entries_do_not_come_back: [
        "After it they must not come back, whatever is appended before a crash.",
    ];
    cutting::truncation_to_the_purged_entry_empties_the_log: [
        "Removes the entries at and after `from`, which is above the purged index.",
        "The last entry, or `purged` when there is none behind it.",
    ];
    cutting::truncation_behind_the_end_changes_nothing: [
        "Removes the entries at and after `from`, which is above the purged index.",
    ];
    cutting::a_purge_removes_the_start_and_is_remembered: [
        "Removes the entries up to and including `upto`, and remembers it as the place before the first entry.",
        "The entry up to which the log was purged; [`LogId::ZERO`] when it never was.",
    ];
    cutting::a_purge_of_nothing_changes_nothing: [
        "Removes the entries up to and including `upto`, and remembers it as the place before the first entry.",
    ];
    cutting::a_purge_to_the_last_entry_empties_the_log: [
        "Removes the entries up to and including `upto`, and remembers it as the place before the first entry.",
        "The last entry, or `purged` when there is none behind it.",
    ];
    cutting::a_purge_behind_the_end_begins_the_log_anew: [
        "When `upto` is behind the last entry the log becomes empty, and the next entry is `upto.index + 1`.",
    ];
    cutting::a_large_purge_is_complete_at_once: [
        "Removes the entries up to and including `upto`, and remembers it as the place before the first entry.",
    ];
    crashing::everything_is_found_after_every_write: [
        "All writes come from one loop of the driver: one at a time, in order, never cancelled half-way, and each is \
         durable when its future resolves.",
    ];
    crashing::a_crash_loses_nothing_that_was_acknowledged: [
        "All writes come from one loop of the driver: one at a time, in order, never cancelled half-way, and each is \
         durable when its future resolves.",
    ];
    crashing::a_crash_in_the_middle_leaves_the_old_or_the_new: [
        "Replaces the hard state as a whole: after a crash either the old or the new one is found.",
        "After a crash in the middle a start of them may be found, never a hole.",
    ];
    crashing::a_write_that_fails_is_reported: [
        "An error of any method stops the node: it is not retried, and no later call is made.",
    ];
    crashing::damage_is_an_error_and_never_an_empty_log: [
        "A damaged store is an error that says what is damaged; it is never taken for an empty one.",
    ];
    beside::readers_see_the_log_of_one_moment: [
        "Readers run beside them.",
        "May be called at any time; entries that are being appended meanwhile may or may not be seen.",
    ];
    random::a_random_workload_does_as_the_model: [
        "All writes come from one loop of the driver: one at a time, in order, never cancelled half-way, and each is \
         durable when its future resolves.",
    ];
}
