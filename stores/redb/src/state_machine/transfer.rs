//! Snapshots on their way: being built, received, sent.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use redb::ReadTransaction;

use crate::application::StateTable;
use crate::codec::StoredConfig;
use crate::snapshot::content;
use crate::snapshot::folder::Unfinished;
use crate::snapshot::format::{ChunkWriter, FrameReader, Header};

/// The state at one moment, to be written out beside further transactions.
pub(super) struct View<C: StoredConfig> {
    pub(super) transaction: ReadTransaction,
    pub(super) tables: Arc<[StateTable]>,
    pub(super) unfinished: Unfinished,
    pub(super) header: Header<C>,
}

impl<C: StoredConfig> View<C> {
    /// Writes the snapshot file and syncs it.
    pub(super) fn write(self, is_wanted: &dyn Fn() -> bool) -> io::Result<Built<C>> {
        let Self { transaction, tables, mut unfinished, header } = self;
        let mut writer = ChunkWriter::begin(BufWriter::new(unfinished.file()), &header)?;
        content::dump(&tables, &transaction, &mut writer, is_wanted)?;
        let (output, size_bytes) = writer.finish()?;
        output.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(Built { unfinished, header, size_bytes })
    }
}

/// A snapshot file that is complete and synced, and not yet the current one.
pub(super) struct Built<C: StoredConfig> {
    pub(super) unfinished: Unfinished,
    pub(super) header: Header<C>,
    pub(super) size_bytes: u64,
}

/// A snapshot that is being received.
pub(super) struct Received {
    pub(super) unfinished: Unfinished,
}

impl Received {
    pub(super) fn with(mut self, chunk: &[u8]) -> io::Result<Self> {
        self.unfinished.file().write_all(chunk)?;
        Ok(self)
    }

    /// Removes it.
    pub(super) fn forget(self) -> io::Result<()> {
        drop(self.unfinished);
        Ok(())
    }
}

/// A snapshot file that is being sent.
pub(super) struct SnapshotFrames {
    pub(super) path: PathBuf,
    /// To be sent first.
    pub(super) header: Option<Bytes>,
    pub(super) frames: FrameReader<BufReader<File>>,
}

impl SnapshotFrames {
    /// The next part, with what is left.
    pub(super) fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        if let Some(header) = self.header.take() {
            return Ok(Some((header, self)));
        }
        match self.frames.next() {
            Ok(frame) => Ok(frame.map(|frame| (frame.raw, self))),
            Err(error) => {
                let file = self.path.display();
                tracing::error!(%error, %file, "a snapshot is damaged and is not sent; build another one");
                Err(io::Error::new(error.kind(), format!("{file}: {error}; build another snapshot")))
            }
        }
    }
}
