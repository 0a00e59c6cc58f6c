//! Log storages that break the contract, one sentence each: the suite finds every one, by the check that is meant for it.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use futures::executor::block_on;
use openconsensus::{
    Entries, Entry, HardState, Index, LogId, LogState, MembershipAt, Payload, RaftLogReader, RaftLogStorage,
};
use openconsensus_memstore::kv::{Command, Kv};
use openconsensus_memstore::{MemLog, MemLogReader};
use openconsensus_tests::conformance::{KvSamples, LogStorageFactory, Samples, check_log_storage};

use crate::memstore::{copy_of, kv_samples};
use crate::yield_now;

/// What a log storage does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// A vote that is given in a term that was known before is not stored.
    VoteLost,
    /// Term and vote are written one after the other.
    HardStateInTwoSteps,
    /// The hint counts one entry too many.
    HintAhead,
    /// A membership is stored as a blank entry.
    MembershipLost,
    /// What was truncated is hidden and not removed.
    TruncatedComesBack,
    /// A purge behind the end removes what is there, and the log goes on where it ended.
    PurgeStopsAtTheEnd,
    /// The term of the purged entry is not remembered.
    PurgedTermLost,
    /// What is purged can still be read.
    PurgedIsVisible,
    /// The end of a range is read too.
    RangeIsInclusive,
    /// A read does not look at its limit.
    LimitIgnored,
    /// An entry that is larger than the limit is never read.
    LargeEntryWithheld,
    /// An append is acknowledged before it is synced.
    AcknowledgedTooEarly,
    /// A write that the disk refused is acknowledged.
    ErrorSwallowed,
    /// A damaged store is taken for an empty one.
    DamageIsEmpty,
    /// A reader keeps what it has read once.
    ReaderCaches,
    /// A reader collects entries one by one, while the log changes.
    ReaderTears,
    /// Of the memberships that it knows, the one in the last entry is left out.
    MembershipUnknown,
    /// A write panics.
    PurgePanics,
}

/// A disk: what is on it, and what would be after a crash.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Default)]
struct DiskState {
    stored: MemLog<Kv>,
    /// What is there before the last write, when that is not synced yet.
    behind: Option<MemLog<Kv>>,
    crashes: Vec<MemLog<Kv>>,
    operations: Option<u64>,
    is_damaged: bool,
    /// Entries that were truncated.
    ghosts: Entries<Kv>,
}

impl Disk {
    fn of(stored: MemLog<Kv>) -> Self {
        Self(Arc::new(Mutex::new(DiskState { stored, ..DiskState::default() })))
    }
}

/// Makes logs with a fault.
struct Logs(Fault);

kv_samples!(Logs);

impl LogStorageFactory<Kv> for Logs {
    type Disk = Disk;
    type Log = BrokenLog;

    fn disk(&self) -> Disk {
        Disk::default()
    }

    async fn open(&self, disk: &Disk) -> io::Result<BrokenLog> {
        let (mut inner, ghosts, is_damaged) = {
            let state = disk.0.lock().unwrap();
            (state.stored.clone(), state.ghosts.clone(), state.is_damaged)
        };
        if is_damaged {
            return match self.0 {
                Fault::DamageIsEmpty => {
                    Ok(BrokenLog { fault: self.0, inner: MemLog::new(), disk: Disk::default() })
                }
                _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum is wrong")),
            };
        }
        if self.0 == Fault::TruncatedComesBack {
            let last = inner.state().last;
            let ghosts = ghosts.slice(last.index + 1..Index::MAX);
            // An append whose term falls would be refused.
            let term = |id: LogId| LogId::new(id.term.max(last.term), id.index);
            let ghosts = ghosts.iter().map(|ghost| Entry { log_id: term(ghost.log_id), ..ghost.clone() });
            inner.load().await?;
            // One that leaves a gap is refused: there is no ghost then.
            let _ = inner.append(ghosts.collect::<Vec<_>>().into(), 0).await;
        }
        Ok(BrokenLog { fault: self.0, inner, disk: disk.clone() })
    }

    fn crashed(&self, disk: &Disk) -> Option<Disk> {
        let state = disk.0.lock().unwrap();
        Some(Disk::of(copy_of(state.behind.as_ref().unwrap_or(&state.stored))))
    }

    fn crashes(&self, disk: &Disk) -> Vec<Disk> {
        disk.0.lock().unwrap().crashes.drain(..).map(Disk::of).collect()
    }

    fn fail_after(&self, disk: &Disk, operations: u64) -> bool {
        disk.0.lock().unwrap().operations = Some(operations);
        true
    }

    fn damaged(&self, disk: &Disk, _number: u64) -> Option<Disk> {
        let damaged = Disk::of(copy_of(&disk.0.lock().unwrap().stored));
        damaged.0.lock().unwrap().is_damaged = true;
        Some(damaged)
    }
}

/// A log in memory with a fault.
struct BrokenLog {
    fault: Fault,
    inner: MemLog<Kv>,
    disk: Disk,
}

impl BrokenLog {
    /// Counts an operation of the disk and remembers what a crash at this moment would leave. Returns whether the write is to
    /// be carried out.
    fn begin(&self) -> io::Result<bool> {
        let mut state = self.disk.0.lock().unwrap();
        let now = copy_of(&self.inner);
        state.behind = None;
        state.crashes.push(now);
        match &mut state.operations {
            Some(0) if self.fault == Fault::ErrorSwallowed => return Ok(false),
            Some(0) => return Err(io::Error::other("the disk does not answer")),
            Some(operations) => *operations -= 1,
            None => {}
        }
        Ok(true)
    }

    fn end(&self) {
        self.disk.0.lock().unwrap().crashes.push(copy_of(&self.inner));
    }
}

impl RaftLogStorage<Kv> for BrokenLog {
    type Reader = BrokenReader;

    fn reader(&self) -> BrokenReader {
        let kept = Entries::empty();
        BrokenReader { fault: self.fault, inner: self.inner.reader(), log: self.inner.clone(), kept }
    }

    async fn load(&mut self) -> io::Result<LogState<Kv>> {
        let mut state = self.inner.load().await?;
        if self.fault == Fault::PurgedTermLost && state.purged != state.last {
            state.purged.term = 0;
        }
        Ok(state)
    }

    async fn save_hard_state(&mut self, mut state: HardState<Kv>) -> io::Result<()> {
        let before = self.inner.state().hard_state;
        if self.fault == Fault::VoteLost && state.term == before.term {
            state.voted_for = before.voted_for;
        }
        if !self.begin()? {
            return Ok(());
        }
        if self.fault == Fault::HardStateInTwoSteps && before.term < state.term {
            let half = HardState { voted_for: None, ..state };
            self.inner.save_hard_state(half).await?;
            self.end();
        }
        self.inner.save_hard_state(state).await?;
        self.end();
        Ok(())
    }

    async fn append(&mut self, mut entries: Entries<Kv>, commit: Index) -> io::Result<()> {
        if self.fault == Fault::MembershipLost {
            entries = entries.iter().map(without_membership).collect::<Vec<_>>().into();
        }
        let ahead = u64::from(self.fault == Fault::HintAhead);
        if !self.begin()? {
            return Ok(());
        }
        if self.fault == Fault::AcknowledgedTooEarly {
            self.disk.0.lock().unwrap().behind = Some(copy_of(&self.inner));
        }
        self.inner.append(entries, commit + ahead).await?;
        self.end();
        Ok(())
    }

    async fn truncate(&mut self, from: Index) -> io::Result<()> {
        let cut = self.inner.entries(from..Index::MAX);
        if !self.begin()? {
            return Ok(());
        }
        self.inner.truncate(from).await?;
        self.disk.0.lock().unwrap().ghosts = cut;
        self.end();
        Ok(())
    }

    async fn purge(&mut self, mut upto: LogId) -> io::Result<()> {
        let last = self.inner.state().last;
        match self.fault {
            Fault::PurgeStopsAtTheEnd if last.index < upto.index => upto = last,
            Fault::PurgePanics => panic!("a bug of the storage"),
            _ => {}
        }
        if !self.begin()? {
            return Ok(());
        }
        self.inner.purge(upto).await?;
        self.end();
        Ok(())
    }
}

fn without_membership(entry: &Entry<Kv>) -> Entry<Kv> {
    match &entry.payload {
        Payload::Membership(_) => Entry { log_id: entry.log_id, payload: Payload::Blank },
        Payload::Blank | Payload::Command(_) => entry.clone(),
    }
}

/// The reader of a [`BrokenLog`].
#[derive(Clone)]
struct BrokenReader {
    fault: Fault,
    inner: MemLogReader<Kv>,
    log: MemLog<Kv>,
    /// What was read first.
    kept: Entries<Kv>,
}

impl RaftLogReader<Kv> for BrokenReader {
    async fn read(&mut self, range: Range<Index>, bytes_max: u64) -> io::Result<Entries<Kv>> {
        match self.fault {
            Fault::RangeIsInclusive => {
                self.inner.read(range.start..range.end.saturating_add(1), bytes_max).await
            }
            Fault::LimitIgnored => self.inner.read(range, u64::MAX).await,
            Fault::LargeEntryWithheld => {
                let found = self.inner.read(range, bytes_max).await?;
                Ok(if found.size_bytes() <= bytes_max { found } else { Entries::empty() })
            }
            Fault::PurgedIsVisible => {
                let first = self.log.state().purged.index + 1;
                self.inner.read(range.start.max(first)..range.end, bytes_max).await
            }
            Fault::ReaderCaches => {
                if self.kept.at(range.start).is_none() {
                    self.kept = self.inner.read(range.clone(), u64::MAX).await?;
                }
                Ok(self.kept.slice(range).limit_bytes(bytes_max))
            }
            Fault::ReaderTears => {
                let mut parts = Vec::new();
                for index in range.clone().take(60) {
                    parts.push(self.inner.read(index..index + 1, u64::MAX).await?);
                    if parts.last().is_some_and(Entries::is_empty) {
                        break;
                    }
                    yield_now().await;
                }
                // What cannot even stand side by side is left out.
                let is_ordered = |pair: &[Entries<Kv>]| match (pair[0].last(), pair[1].first()) {
                    (Some(one), Some(next)) => one.term <= next.term,
                    (None, _) | (_, None) => true,
                };
                let is_ordered = parts.windows(2).all(is_ordered);
                let parts = if is_ordered { parts } else { parts.into_iter().take(1).collect() };
                Ok(Entries::concat(parts).limit_bytes(bytes_max))
            }
            _ => self.inner.read(range, bytes_max).await,
        }
    }

    async fn memberships(&mut self, range: Range<Index>) -> io::Result<Option<Vec<MembershipAt<Kv>>>> {
        if self.fault != Fault::MembershipUnknown {
            return self.inner.memberships(range).await;
        }
        let range = range.start..range.end.min(self.log.state().last.index);
        let known = self.log.entries(range);
        let known = known.iter().filter_map(|entry| match &entry.payload {
            Payload::Membership(membership) => {
                Some(MembershipAt { log_id: entry.log_id, membership: membership.clone() })
            }
            Payload::Blank | Payload::Command(_) => None,
        });
        Ok(Some(known.collect()))
    }
}

/// The suite fails, by `check` among others, and passes where nothing is wrong.
fn is_caught(fault: Fault, check: &str) {
    let report = block_on(check_log_storage(&Logs(fault)));
    let failed = report.failed();
    assert!(failed.contains(&check), "{fault:?} is not caught by {check}, but by {failed:?}\n{report}");
    assert!(failed.len() < report.outcomes().len(), "{fault:?} fails everything\n{report}");
    let caught = report.outcomes().iter().find(|outcome| outcome.check == check).unwrap();
    let text = report.to_string();
    assert!(text.contains(&format!("FAILED  {check}")) && text.contains(caught.contract[0]), "{text}");
}

#[test]
fn a_log_without_a_fault_conforms_with_nothing_skipped() {
    block_on(check_log_storage(&Logs(Fault::None))).assert_passed_except(&[]);
}

#[test]
fn logs_that_forget_are_caught() {
    is_caught(Fault::VoteLost, "the_hard_state_is_replaced_as_a_whole");
    is_caught(Fault::HintAhead, "the_commit_hint_is_kept_or_dropped_and_never_ahead");
    is_caught(Fault::MembershipLost, "entries_of_every_kind_are_kept");
}

#[test]
fn logs_that_cut_wrongly_are_caught() {
    is_caught(Fault::TruncatedComesBack, "truncated_entries_do_not_come_back");
    is_caught(Fault::PurgeStopsAtTheEnd, "a_purge_behind_the_end_begins_the_log_anew");
    is_caught(Fault::PurgedTermLost, "a_purge_removes_the_start_and_is_remembered");
}

#[test]
fn readers_that_return_something_else_are_caught() {
    is_caught(Fault::PurgedIsVisible, "every_range_is_read_exactly");
    is_caught(Fault::RangeIsInclusive, "every_range_is_read_exactly");
    is_caught(Fault::LimitIgnored, "a_limit_in_bytes_is_kept_but_for_the_first_entry");
    is_caught(Fault::LargeEntryWithheld, "a_limit_in_bytes_is_kept_but_for_the_first_entry");
    is_caught(Fault::ReaderCaches, "a_reader_sees_what_was_written");
    is_caught(Fault::MembershipUnknown, "memberships_that_are_known_are_those_of_the_entries");
    is_caught(Fault::ReaderTears, "readers_see_the_log_of_one_moment");
}

#[test]
fn logs_that_lose_in_a_crash_are_caught() {
    is_caught(Fault::AcknowledgedTooEarly, "a_crash_loses_nothing_that_was_acknowledged");
    is_caught(Fault::HardStateInTwoSteps, "a_crash_in_the_middle_leaves_the_old_or_the_new");
    is_caught(Fault::ErrorSwallowed, "a_write_that_fails_is_reported");
    is_caught(Fault::DamageIsEmpty, "damage_is_an_error_and_never_an_empty_log");
}

#[test]
fn a_log_that_panics_fails_the_checks_that_meet_it() {
    is_caught(Fault::PurgePanics, "a_purge_removes_the_start_and_is_remembered");
    let report = block_on(check_log_storage(&Logs(Fault::PurgePanics)));
    assert!(report.to_string().contains("a panic: a bug of the storage"), "{report}");
}
