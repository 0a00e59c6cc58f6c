//! A log and a key-value state machine on a disk in memory, which outlives the node that uses it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::task::Poll;

use bytes::Bytes;
use futures::{StreamExt, stream};
use openconsensus::{
    AppliedState, ApplyBatch, BoxFuture, Entries, Entry, HardState, Index, LogId, LogState, RaftLogReader,
    RaftLogStorage, RaftStateMachine, Snapshot, SnapshotMeta, snapshot_stream,
};
use openconsensus_memstore::kv::{Kv, KvMap, Response, apply_command};

use super::shared::Shared;

/// A snapshot is streamed in pieces of this size.
const CHUNK_BYTES: usize = 512;

/// What one node has stored. All clones are one disk.
#[derive(Clone, Default)]
pub(super) struct Disk(Shared<Stored>);

#[derive(Default)]
struct Stored {
    hard_state: HardState<Kv>,
    purged: LogId,
    entries: BTreeMap<Index, Entry<Kv>>,
    snapshot: Option<(SnapshotMeta<Kv>, Bytes)>,
}

impl Disk {
    pub(super) fn log(&self) -> Log {
        Log(self.0.clone())
    }

    /// How many handles of the disk there are.
    pub(super) fn handles(&self) -> usize {
        self.0.handles()
    }

    /// The names of the entries in the log.
    pub(super) fn entries(&self) -> Vec<LogId> {
        self.0.with(|stored| stored.entries.values().map(|entry| entry.log_id).collect())
    }
}

/// The log on a disk, and a reader of it.
#[derive(Clone)]
pub(super) struct Log(Shared<Stored>);

impl RaftLogStorage<Kv> for Log {
    type Reader = Self;

    fn reader(&self) -> Self {
        self.clone()
    }

    async fn load(&mut self) -> io::Result<LogState<Kv>> {
        Ok(self.0.with(|stored| LogState {
            hard_state: stored.hard_state,
            purged: stored.purged,
            last: stored.entries.values().last().map_or(stored.purged, |entry| entry.log_id),
        }))
    }

    async fn save_hard_state(&mut self, state: HardState<Kv>) -> io::Result<()> {
        let_others_run().await;
        self.0.with(|stored| stored.hard_state = state);
        Ok(())
    }

    async fn append(&mut self, entries: Entries<Kv>, commit: Index) -> io::Result<()> {
        let_others_run().await;
        self.0.with(|stored| {
            stored.hard_state.commit = stored.hard_state.commit.max(commit);
            stored.entries.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone())));
        });
        Ok(())
    }

    async fn truncate(&mut self, from: Index) -> io::Result<()> {
        self.0.with(|stored| drop(stored.entries.split_off(&from)));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.0.with(|stored| {
            stored.entries = stored.entries.split_off(&(upto.index + 1));
            stored.purged = upto;
        });
        Ok(())
    }
}

impl RaftLogReader<Kv> for Log {
    async fn read(&mut self, range: Range<Index>, bytes_max: u64) -> io::Result<Entries<Kv>> {
        if range.is_empty() {
            return Ok(Entries::empty());
        }
        Ok(self.0.with(|stored| {
            let found = stored.entries.range(range).map(|(_, entry)| entry.clone());
            Entries::from(found.collect::<Vec<_>>()).limit_bytes(bytes_max)
        }))
    }
}

/// As when a disk is waited for.
async fn let_others_run() {
    let mut is_first = true;
    std::future::poll_fn(|context| {
        if !std::mem::take(&mut is_first) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Keys and values. Only its snapshot outlives its node.
pub(super) struct Machine {
    state: Shared<State>,
    disk: Disk,
}

#[derive(Clone, Default)]
struct State {
    applied: AppliedState<Kv>,
    pairs: Pairs,
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Pairs(BTreeMap<String, Vec<u8>>);

/// Reads the state beside the state machine.
#[derive(Clone)]
pub(super) struct Reader(Shared<State>);

impl Reader {
    /// What is there now.
    pub(super) fn pairs(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.with(|state| state.pairs.0.clone())
    }
}

impl Machine {
    /// Empty, as after a start: the snapshot and the log bring it back to what it was.
    pub(super) fn new(disk: &Disk) -> Self {
        Self { state: Shared::default(), disk: disk.clone() }
    }

    pub(super) fn reader(&self) -> Reader {
        Reader(self.state.clone())
    }
}

impl RaftStateMachine<Kv> for Machine {
    async fn applied_state(&mut self) -> io::Result<AppliedState<Kv>> {
        Ok(self.state.with(|state| state.applied.clone()))
    }

    async fn apply(&mut self, batch: ApplyBatch<Kv>) -> io::Result<Vec<Response>> {
        self.state.with(|state| {
            state.applied = batch.applied_state().clone();
            batch.commands().map(|(_, command)| apply_command(&mut state.pairs, command)).collect()
        })
    }

    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<Kv>>> {
        let (state, disk) = (self.state.with(|state| state.clone()), self.disk.clone());
        Box::pin(async move {
            let_others_run().await;
            let image = Bytes::from(serde_json::to_vec(&state.pairs.0)?);
            let AppliedState { last_applied: last, membership } = state.applied;
            let meta = SnapshotMeta { last, membership, size_bytes: Some(image.len() as u64) };
            disk.0.with(|stored| stored.snapshot = Some((meta.clone(), image)));
            Ok(meta)
        })
    }

    async fn current_snapshot(&mut self) -> io::Result<Option<Snapshot<Kv>>> {
        let snapshot = self.disk.0.with(|stored| stored.snapshot.clone());
        Ok(snapshot.map(|(meta, image)| {
            let chunks: Vec<_> = image.chunks(CHUNK_BYTES).map(|chunk| Ok(image.slice_ref(chunk))).collect();
            Snapshot { meta, data: snapshot_stream(stream::iter(chunks)) }
        }))
    }

    async fn install_snapshot(&mut self, snapshot: Snapshot<Kv>) -> io::Result<()> {
        let Snapshot { meta, mut data } = snapshot;
        let mut image = Vec::new();
        while let Some(chunk) = data.next().await {
            image.extend_from_slice(&chunk?);
        }
        let pairs = Pairs(serde_json::from_slice(&image)?);
        let applied = AppliedState { last_applied: meta.last, membership: meta.membership.clone() };
        self.disk.0.with(|stored| stored.snapshot = Some((meta, image.into())));
        self.state.with(|state| *state = State { applied, pairs });
        Ok(())
    }
}

impl KvMap for Pairs {
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }

    fn put(&mut self, key: &str, value: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.insert(key.to_owned(), value.to_vec()))
    }

    fn delete(&mut self, key: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.remove(key))
    }
}
