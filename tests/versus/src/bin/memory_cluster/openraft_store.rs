//! A log and a state machine for openraft, as lean as ours: a queue behind a lock, and a counter.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, TryStreamExt};
use openraft::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, IOFlushed, LogState, RaftLogStorage, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftLogReader, RaftSnapshotBuilder, Snapshot, SnapshotMeta};

use crate::load::Payload;

openraft::declare_raft_types!(
    /// Commands are bytes, and are answered with how many came before.
    pub(crate) Types:
        D = Payload,
        R = u64,
        Node = openraft::EmptyNode,
);

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

type Entry = <Types as openraft::RaftTypeConfig>::Entry;

/// Invariant: the entries are consecutive; the first one comes behind `purged`.
#[derive(Default)]
struct Data {
    entries: VecDeque<Entry>,
    purged: Option<LogIdOf<Types>>,
    vote: Option<VoteOf<Types>>,
}

impl Data {
    /// The index of the first entry.
    fn first(&self) -> u64 {
        self.purged.as_ref().map_or(0, |purged| purged.index + 1)
    }

    fn last(&self) -> Option<LogIdOf<Types>> {
        self.entries.back().map(RaftEntry::log_id).or(self.purged)
    }
}

/// The log, and the reader of it.
#[derive(Clone, Default)]
pub(crate) struct Log {
    data: Arc<Mutex<Data>>,
}

impl Log {
    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let data = self.data();
        let place = |index: u64| (index.saturating_sub(data.first()) as usize).min(data.entries.len());
        let start = match range.start_bound() {
            Bound::Included(index) => place(*index),
            Bound::Excluded(index) => place(index + 1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => place(index + 1),
            Bound::Excluded(index) => place(*index),
            Bound::Unbounded => data.entries.len(),
        };
        Ok(data.entries.range(start..end.max(start)).cloned().collect())
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<Types>>, io::Error> {
        Ok(self.data().vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let data = self.data();
        Ok(LogState { last_purged_log_id: data.purged, last_log_id: data.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> Result<(), io::Error> {
        self.data().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.data().entries.extend(entries);
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Types>>) -> Result<(), io::Error> {
        let mut data = self.data();
        let kept = last.map_or(0, |last| last.index + 1).saturating_sub(data.first());
        data.entries.truncate(kept as usize);
        Ok(())
    }

    async fn purge(&mut self, upto: LogIdOf<Types>) -> Result<(), io::Error> {
        let mut data = self.data();
        let purged = ((upto.index + 1).saturating_sub(data.first()) as usize).min(data.entries.len());
        data.entries.drain(..purged);
        data.purged = Some(upto);
        Ok(())
    }
}

/// Counts commands.
#[derive(Clone, Default)]
pub(crate) struct Counter {
    applied: Option<LogIdOf<Types>>,
    membership: StoredMembershipOf<Types>,
    count: u64,
}

impl Counter {
    fn meta(&self) -> SnapshotMetaOf<Types> {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() }
    }
}

impl RaftSnapshotBuilder<Types> for Counter {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, ()>, io::Error> {
        Ok(Snapshot { meta: self.meta(), snapshot: () })
    }
}

impl RaftStateMachine<Types> for Counter {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(_) => self.count += 1,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembershipOf::<Types>::new(Some(entry.log_id), membership);
                }
            }
            if let Some(responder) = responder {
                responder.send(self.count);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<Types>,
        _snapshot: (),
    ) -> Result<(), io::Error> {
        Err(io::Error::other("nobody falls behind here"))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types, ()>>, io::Error> {
        Ok(self.applied.map(|_| Snapshot { meta: self.meta(), snapshot: () }))
    }
}
