//! `MemStateMachine`: a key-value state machine in memory, volatile or persistent.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use futures::{StreamExt, future, stream};
use openconsensus::{
    AppliedState, ApplyBatch, BoxFuture, RaftStateMachine, Snapshot, SnapshotMeta, snapshot_stream,
};
use rpds::RedBlackTreeMapSync;

use crate::kv::{self, Kv, KvMap, Response};
use crate::reader::{KvReader, KvView};
use crate::snapshot::{self, Decoder};

/// A key-value state machine in memory.
///
/// It may be *volatile*: after a restart it is empty, and gets the snapshot on its [`KvDisk`] and then the log once
/// more. Or *persistent*: its state is on the disk too.
#[derive(Debug)]
pub struct MemStateMachine {
    reader: KvReader,
    disk: KvDisk,
    /// How many entries the state on the disk may be behind; `None` when it is volatile.
    disk_lag_entries_max: Option<u64>,
}

/// What survives a restart of a [`MemStateMachine`]: its latest snapshot, the only one that is kept, and, when it is
/// persistent, its state. A clone is another handle to the same disk.
#[derive(Clone, Debug, Default)]
pub struct KvDisk {
    data: Arc<Mutex<DiskData>>,
}

#[derive(Debug, Default)]
struct DiskData {
    snapshot: Option<StoredSnapshot>,
    /// The state of a persistent state machine.
    state: KvView,
}

#[derive(Clone, Debug)]
struct StoredSnapshot {
    meta: SnapshotMeta<Kv>,
    chunks: Arc<[StoredChunk]>,
}

/// Bytes with their checksum, as a disk would keep them.
#[derive(Clone, Debug)]
struct StoredChunk {
    bytes: Bytes,
    checksum: u32,
}

impl StoredChunk {
    fn new(bytes: Bytes) -> Self {
        let checksum = crc32fast::hash(&bytes);
        Self { bytes, checksum }
    }

    /// The bytes, unless they are damaged.
    fn read(&self, place: usize) -> io::Result<Bytes> {
        let actual = crc32fast::hash(&self.bytes);
        if actual != self.checksum {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "chunk {place} of the snapshot in memory is damaged: its checksum is {actual:08x}, not {:08x}",
                    self.checksum
                ),
            ));
        }
        Ok(self.bytes.clone())
    }
}

impl KvDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the current snapshot covers.
    pub fn snapshot(&self) -> Option<SnapshotMeta<Kv>> {
        self.lock().snapshot.as_ref().map(|snapshot| snapshot.meta.clone())
    }

    /// Flips a bit of the current snapshot, as a failing disk does, so that a test can see what a node makes of it. Does
    /// nothing without a snapshot.
    pub fn damage_snapshot(&self) {
        if let Some(snapshot) = &mut self.lock().snapshot {
            let mut chunks = snapshot.chunks.to_vec();
            if let Some(chunk) = chunks.last_mut() {
                let mut bytes = chunk.bytes.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                chunk.bytes = bytes.into();
            }
            snapshot.chunks = chunks.into();
        }
    }

    /// A panic elsewhere does not make the data worse: every change of it is one assignment.
    fn lock(&self) -> MutexGuard<'_, DiskData> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemStateMachine {
    /// A state machine that begins empty, whatever `disk` holds, and keeps only its snapshot there.
    pub fn volatile(disk: &KvDisk) -> Self {
        Self { reader: KvReader::default(), disk: disk.clone(), disk_lag_entries_max: None }
    }

    /// A state machine that begins with the state on `disk`, and writes every change to it.
    pub fn persistent(disk: &KvDisk) -> Self {
        Self::persistent_with_lag(disk, 0)
    }

    /// As [`persistent`](Self::persistent), but the state on the disk may be up to `entries` entries behind, as that of
    /// a database that does not sync on every commit: what it lacks after a restart is applied again.
    pub fn persistent_with_lag(disk: &KvDisk, entries: u64) -> Self {
        let state = disk.lock().state.clone();
        Self { reader: KvReader::new(state), disk: disk.clone(), disk_lag_entries_max: Some(entries) }
    }

    /// Reads the state beside the state machine. To be taken before the state machine is handed to the node.
    pub fn reader(&self) -> KvReader {
        self.reader.clone()
    }

    /// Brings the state on the disk up to date, unless it may be behind.
    fn save(&self, state: &KvView) {
        let Some(lag_max) = self.disk_lag_entries_max else { return };
        let mut disk = self.disk.lock();
        if disk.state.last_applied().index + lag_max < state.last_applied().index {
            disk.state = state.clone();
        }
    }
}

impl Default for MemStateMachine {
    /// A volatile one with a disk of its own.
    fn default() -> Self {
        Self::volatile(&KvDisk::new())
    }
}

impl RaftStateMachine<Kv> for MemStateMachine {
    async fn applied_state(&mut self) -> io::Result<AppliedState<Kv>> {
        Ok(self.reader.view().applied_state().clone())
    }

    async fn apply(&mut self, batch: ApplyBatch<Kv>) -> io::Result<Vec<Response>> {
        let next = self.reader.last_applied().index + 1;
        if let Some(first) = batch.entries().first()
            && first.index != next
        {
            return Err(invalid(format!("entry {first} cannot be applied: the next one is at {next}")));
        }
        let responses = self.reader.change(|state| {
            let mut map = PairsMut(&mut state.pairs);
            let responses: io::Result<_> =
                batch.commands().map(|(_, command)| kv::apply_command(&mut map, command)).collect();
            state.applied = Arc::new(batch.applied_state().clone());
            responses
        })?;
        self.save(&self.reader.view());
        Ok(responses)
    }

    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<Kv>>> {
        let state = self.reader.view();
        let disk = self.disk.clone();
        Box::pin(async move {
            let mut chunks = Vec::new();
            for chunk in snapshot::encode(&state) {
                chunks.push(chunk?);
                yield_now().await;
            }
            let snapshot = StoredSnapshot::new(snapshot::meta_of(&state), chunks);
            let meta = snapshot.meta.clone();
            let mut disk = disk.lock();
            // A later one may have been installed while this one was written.
            if disk.snapshot.as_ref().is_none_or(|current| current.meta.last <= meta.last) {
                disk.snapshot = Some(snapshot);
            }
            Ok(meta)
        })
    }

    async fn current_snapshot(&mut self) -> io::Result<Option<Snapshot<Kv>>> {
        let snapshot = self.disk.lock().snapshot.clone();
        Ok(snapshot.map(|StoredSnapshot { meta, chunks }| {
            let chunks = (0..chunks.len()).map(move |place| chunks[place].read(place));
            Snapshot { meta, data: snapshot_stream(stream::iter(chunks)) }
        }))
    }

    async fn install_snapshot(&mut self, snapshot: Snapshot<Kv>) -> io::Result<()> {
        let Snapshot { meta, mut data } = snapshot;
        let last_applied = self.reader.last_applied();
        if meta.last.index < last_applied.index {
            return Err(invalid(format!(
                "a snapshot that ends with {} cannot replace the state at {last_applied}, which is later",
                meta.last
            )));
        }
        let mut decoder = Decoder::new(meta.clone());
        let mut chunks = Vec::new();
        while let Some(chunk) = data.next().await {
            let chunk = chunk?;
            decoder.add(&chunk)?;
            chunks.push(chunk);
        }
        let state = decoder.finish()?;
        let mut disk = self.disk.lock();
        disk.snapshot = Some(StoredSnapshot::new(meta, chunks));
        if self.disk_lag_entries_max.is_some() {
            disk.state = state.clone();
        }
        let before = self.reader.change(|current| std::mem::replace(current, state));
        drop(before);
        Ok(())
    }
}

impl StoredSnapshot {
    fn new(meta: SnapshotMeta<Kv>, chunks: Vec<Bytes>) -> Self {
        let size = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let chunks = chunks.into_iter().map(StoredChunk::new).collect();
        Self { meta: SnapshotMeta { size_bytes: Some(size), ..meta }, chunks }
    }
}

/// The pairs of a state that is being changed.
struct PairsMut<'a>(&'a mut RedBlackTreeMapSync<String, Bytes>);

impl KvMap for PairsMut<'_> {
    fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(key).map(|value| value.to_vec()))
    }

    fn put(&mut self, key: &str, value: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let before = self.get(key)?;
        self.0.insert_mut(key.to_string(), Bytes::copy_from_slice(value));
        Ok(before)
    }

    fn delete(&mut self, key: &str) -> io::Result<Option<Vec<u8>>> {
        let before = self.get(key)?;
        self.0.remove_mut(key);
        Ok(before)
    }
}

/// Lets other futures of the same task run: writing a snapshot must not hold up the entries that are applied beside it.
async fn yield_now() {
    let mut has_yielded = false;
    let yielding = future::poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    });
    pin!(yielding).await;
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests;
