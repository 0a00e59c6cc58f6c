//! A state machine with as much state as is asked for, and snapshots of it on a disk.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use openconsensus::{
    AppliedState, ApplyBatch, BoxFuture, RaftStateMachine, Snapshot, SnapshotMeta, SnapshotStream,
    snapshot_stream,
};

use super::blob::Blob;

/// A snapshot is sent in pieces of so many bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// Counts the bytes of commands, and keeps the latest commands in some slots.
///
/// A command in a slot is a copy: a view of what came over the wire would keep its whole batch in memory.
pub(crate) struct Table {
    applied: AppliedState<Blob>,
    bytes: u64,
    slots: Vec<Bytes>,
    /// Snapshots are written here, and synced. Without it they stay in memory.
    folder: Option<PathBuf>,
    snapshot: Option<Taken>,
}

/// A snapshot that is current.
#[derive(Clone)]
struct Taken {
    meta: SnapshotMeta<Blob>,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Memory(Arc<[Bytes]>),
    File(PathBuf),
}

impl Table {
    /// An empty one with so many slots.
    pub(crate) fn new(slots: usize, folder: Option<&Path>) -> Self {
        Self {
            applied: AppliedState::default(),
            bytes: 0,
            slots: vec![Bytes::new(); slots],
            folder: folder.map(Path::to_path_buf),
            snapshot: None,
        }
    }

    /// One that is persistent, in effect: it has come as far as `applied` before the node is started.
    pub(crate) fn up_to_date(applied: AppliedState<Blob>) -> Self {
        Self { applied, ..Self::new(0, None) }
    }

    fn meta(&self) -> SnapshotMeta<Blob> {
        let AppliedState { last_applied, membership } = self.applied.clone();
        SnapshotMeta { last: last_applied, membership, size_bytes: None }
    }
}

impl RaftStateMachine<Blob> for Table {
    async fn applied_state(&mut self) -> io::Result<AppliedState<Blob>> {
        Ok(self.applied.clone())
    }

    async fn apply(&mut self, batch: ApplyBatch<Blob>) -> io::Result<Vec<u64>> {
        let mut responses = Vec::with_capacity(batch.entries().len());
        for (log_id, command) in batch.commands() {
            self.bytes += command.0.len() as u64;
            responses.push(self.bytes);
            if !self.slots.is_empty() {
                let slot = (log_id.index as usize).wrapping_mul(0x9e37_79b1) % self.slots.len();
                self.slots[slot] = Bytes::copy_from_slice(&command.0);
            }
        }
        self.applied = batch.applied_state().clone();
        Ok(responses)
    }

    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<Blob>>> {
        let meta = self.meta();
        let view: Arc<[Bytes]> = self.slots.clone().into();
        let Some(folder) = self.folder.clone() else {
            self.snapshot = Some(Taken { meta: meta.clone(), content: Content::Memory(view) });
            return Box::pin(async move { Ok(meta) });
        };
        let path = folder.join("snapshot");
        self.snapshot = Some(Taken { meta: meta.clone(), content: Content::File(path.clone()) });
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || write(&path, &view)).await;
            written.map_err(io::Error::other)??;
            Ok(meta)
        })
    }

    async fn current_snapshot(&mut self) -> io::Result<Option<Snapshot<Blob>>> {
        let Some(Taken { meta, content }) = self.snapshot.clone() else { return Ok(None) };
        let data = match content {
            Content::Memory(view) => snapshot_stream(futures::stream::iter(
                (0..view.len()).map(move |slot| Ok(framed(&view[slot]))),
            )),
            Content::File(path) => read(&path)?,
        };
        Ok(Some(Snapshot { meta, data }))
    }

    async fn install_snapshot(&mut self, mut snapshot: Snapshot<Blob>) -> io::Result<()> {
        let mut slots = Vec::new();
        let mut rest = Vec::new();
        while let Some(chunk) = snapshot.data.next().await {
            rest.extend_from_slice(&chunk?);
            let mut at = 0;
            while let Some(length) = rest[at..].first_chunk::<4>() {
                let end = at + 4 + u32::from_le_bytes(*length) as usize;
                let Some(slot) = rest.get(at + 4..end) else { break };
                slots.push(Bytes::copy_from_slice(slot));
                at = end;
            }
            rest.drain(..at);
        }
        if !rest.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the snapshot is cut off"));
        }
        self.slots = slots;
        let SnapshotMeta { last, membership, .. } = snapshot.meta.clone();
        self.applied = AppliedState { last_applied: last, membership };
        let meta = self.build_snapshot().await?;
        assert_eq!(meta.last, last, "what was installed is the state");
        Ok(())
    }
}

/// One slot with its length before it.
fn framed(slot: &Bytes) -> Bytes {
    let mut frame = Vec::with_capacity(4 + slot.len());
    frame.extend_from_slice(&(slot.len() as u32).to_le_bytes());
    frame.extend_from_slice(slot);
    frame.into()
}

fn write(path: &Path, view: &[Bytes]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = io::BufWriter::with_capacity(1 << 20, std::fs::File::create(&unfinished)?);
    for slot in view {
        file.write_all(&(slot.len() as u32).to_le_bytes())?;
        file.write_all(slot)?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(unfinished, path)
}

fn read(path: &Path) -> io::Result<SnapshotStream> {
    let file = std::fs::File::open(path)?;
    Ok(snapshot_stream(futures::stream::try_unfold(file, |mut file| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; CHUNK_BYTES];
            let count = file.read(&mut chunk)?;
            chunk.truncate(count);
            Ok::<_, io::Error>((chunk, file))
        });
        let (chunk, file) = read.await.map_err(io::Error::other)??;
        Ok((!chunk.is_empty()).then(|| (Bytes::from(chunk), file)))
    })))
}
