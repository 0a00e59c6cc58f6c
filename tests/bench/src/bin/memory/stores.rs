//! Stores that take next to no memory: what is resident is the node, not its state.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openconsensus::{
    AppliedState, ApplyBatch, BoxFuture, Entries, Entry, HardState, Index, LogId, LogState, Membership,
    Payload, RaftLogReader, RaftLogStorage, RaftStateMachine, Snapshot, SnapshotMeta, TypeConfig,
    snapshot_stream,
};
use serde::{Deserialize, Serialize};

/// The application: commands that are nothing but bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Load;

/// So many bytes, all of them `fill`: a log needs to remember no more of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Command {
    fill: u8,
    body: Bytes,
}

impl Command {
    pub(crate) fn new(fill: u8, bytes: usize) -> Self {
        Self { fill, body: vec![fill; bytes].into() }
    }
}

impl TypeConfig for Load {
    type Command = Command;
    type Response = u64;
    type NodeId = u64;
    type Node = String;

    fn command_bytes(command: &Command) -> u64 {
        command.body.len() as u64
    }
}

/// A log that remembers of each entry only how to make it again.
#[derive(Clone, Default)]
pub(crate) struct SparseLog {
    data: Arc<Mutex<Data>>,
}

#[derive(Default)]
struct Data {
    hard_state: HardState<Load>,
    purged: LogId,
    /// Those behind `purged`, in order.
    entries: VecDeque<(LogId, Kept)>,
}

enum Kept {
    Blank,
    Command { fill: u8, bytes: u32 },
    Membership(Box<Membership<Load>>),
}

/// How long a call of a store takes at least.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Each call.
    pub(crate) call: Duration,
    /// Bytes in a second; `None` for no limit.
    pub(crate) bytes_per_second: Option<u64>,
}

impl Pace {
    async fn keep(self, bytes: u64) {
        let transfer = self
            .bytes_per_second
            .map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / rate as f64));
        let pause = self.call + transfer;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

/// A log whose writer is as slow as it is told to be.
pub(crate) struct Paced<L> {
    pub(crate) log: L,
    pub(crate) pace: Pace,
}

impl<L: RaftLogStorage<Load> + Send> RaftLogStorage<Load> for Paced<L> {
    type Reader = L::Reader;

    fn reader(&self) -> L::Reader {
        self.log.reader()
    }

    async fn load(&mut self) -> io::Result<LogState<Load>> {
        self.log.load().await
    }

    async fn save_hard_state(&mut self, state: HardState<Load>) -> io::Result<()> {
        self.log.save_hard_state(state).await
    }

    async fn append(&mut self, entries: Entries<Load>, commit: Index) -> io::Result<()> {
        self.pace.keep(entries.size_bytes()).await;
        self.log.append(entries, commit).await
    }

    async fn truncate(&mut self, from: Index) -> io::Result<()> {
        self.log.truncate(from).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.log.purge(upto).await
    }
}

impl SparseLog {
    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Data {
    fn last(&self) -> LogId {
        self.entries.back().map_or(self.purged, |(id, _)| *id)
    }
}

impl RaftLogStorage<Load> for SparseLog {
    type Reader = Self;

    fn reader(&self) -> Self {
        self.clone()
    }

    async fn load(&mut self) -> io::Result<LogState<Load>> {
        let data = self.data();
        Ok(LogState { hard_state: data.hard_state, purged: data.purged, last: data.last() })
    }

    async fn save_hard_state(&mut self, state: HardState<Load>) -> io::Result<()> {
        self.data().hard_state = state;
        Ok(())
    }

    async fn append(&mut self, entries: Entries<Load>, _commit: Index) -> io::Result<()> {
        let mut data = self.data();
        for entry in entries.iter() {
            let kept = match &entry.payload {
                Payload::Blank => Kept::Blank,
                Payload::Command(command) => {
                    Kept::Command { fill: command.fill, bytes: command.body.len() as u32 }
                }
                Payload::Membership(membership) => Kept::Membership(Box::new(membership.clone())),
            };
            data.entries.push_back((entry.log_id, kept));
        }
        Ok(())
    }

    async fn truncate(&mut self, from: Index) -> io::Result<()> {
        let mut data = self.data();
        while data.entries.back().is_some_and(|(id, _)| from <= id.index) {
            data.entries.pop_back();
        }
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut data = self.data();
        while data.entries.front().is_some_and(|(id, _)| id.index <= upto.index) {
            data.entries.pop_front();
        }
        data.purged = upto;
        Ok(())
    }
}

impl RaftLogReader<Load> for SparseLog {
    async fn read(&mut self, range: Range<Index>, bytes_max: u64) -> io::Result<Entries<Load>> {
        let data = self.data();
        let Some((first, _)) = data.entries.front() else { return Ok(Entries::empty()) };
        let Some(skip) = range.start.checked_sub(first.index) else { return Ok(Entries::empty()) };
        let mut entries: Vec<Entry<Load>> = Vec::new();
        let mut bytes = 0;
        for (log_id, kept) in data.entries.iter().skip(skip as usize) {
            if range.end <= log_id.index {
                break;
            }
            let payload = match kept {
                Kept::Blank => Payload::Blank,
                Kept::Command { fill, bytes } => Payload::Command(Command::new(*fill, *bytes as usize)),
                Kept::Membership(membership) => Payload::Membership((**membership).clone()),
            };
            let entry = Entry { log_id: *log_id, payload };
            bytes += entry.size_bytes();
            if bytes_max < bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries.into())
    }
}

/// Counts bytes, as fast as it is told to.
pub(crate) struct Sum {
    applied: AppliedState<Load>,
    bytes: u64,
    pace: Pace,
    snapshot: Option<SnapshotMeta<Load>>,
    /// The snapshot is kept here, where the log outlives the process.
    file: Option<PathBuf>,
}

/// What stands in the file.
#[derive(Serialize, Deserialize)]
struct Stored {
    meta: SnapshotMeta<Load>,
    bytes: u64,
}

impl Sum {
    pub(crate) fn new(pace: Pace, file: Option<PathBuf>) -> io::Result<Self> {
        let empty = Self { applied: AppliedState::default(), bytes: 0, pace, snapshot: None, file };
        let Some(path) = empty.file.as_ref().filter(|path| path.exists()) else { return Ok(empty) };
        let Stored { meta, bytes } = serde_json::from_slice(&std::fs::read(path)?)?;
        let applied = AppliedState { last_applied: meta.last, membership: meta.membership.clone() };
        Ok(Self { applied, bytes, snapshot: Some(meta), ..empty })
    }

    /// Makes the state as it is the current snapshot.
    fn take_snapshot(&mut self) -> io::Result<SnapshotMeta<Load>> {
        let AppliedState { last_applied: last, membership } = self.applied.clone();
        let meta = SnapshotMeta { last, membership, size_bytes: Some(8) };
        if let Some(path) = &self.file {
            let unfinished = path.with_extension("new");
            let stored = Stored { meta: meta.clone(), bytes: self.bytes };
            std::fs::write(&unfinished, serde_json::to_vec(&stored)?)?;
            std::fs::rename(unfinished, path)?;
        }
        self.snapshot = Some(meta.clone());
        Ok(meta)
    }
}

impl RaftStateMachine<Load> for Sum {
    async fn applied_state(&mut self) -> io::Result<AppliedState<Load>> {
        Ok(self.applied.clone())
    }

    async fn apply(&mut self, batch: ApplyBatch<Load>) -> io::Result<Vec<u64>> {
        self.pace.keep(batch.entries().size_bytes()).await;
        let mut responses = Vec::new();
        for (_, command) in batch.commands() {
            self.bytes += command.body.len() as u64;
            responses.push(self.bytes);
        }
        self.applied = batch.applied_state().clone();
        Ok(responses)
    }

    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<Load>>> {
        let taken = self.take_snapshot();
        Box::pin(async move { taken })
    }

    async fn current_snapshot(&mut self) -> io::Result<Option<Snapshot<Load>>> {
        let sum = Bytes::copy_from_slice(&self.bytes.to_le_bytes());
        Ok(self
            .snapshot
            .clone()
            .map(|meta| Snapshot { meta, data: snapshot_stream(futures::stream::iter([Ok(sum)])) }))
    }

    async fn install_snapshot(&mut self, mut snapshot: Snapshot<Load>) -> io::Result<()> {
        let mut bytes = Vec::new();
        while let Some(chunk) = futures::StreamExt::next(&mut snapshot.data).await {
            bytes.extend_from_slice(&chunk?);
        }
        let sum = bytes.try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        self.bytes = u64::from_le_bytes(sum);
        self.applied =
            AppliedState { last_applied: snapshot.meta.last, membership: snapshot.meta.membership.clone() };
        self.take_snapshot().map(drop)
    }
}
