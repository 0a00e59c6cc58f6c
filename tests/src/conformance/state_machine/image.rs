//! `Image`: a snapshot as it travels, with all of its bytes in hand.

use std::io;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use openconsensus::{Snapshot, SnapshotMeta, TypeConfig, snapshot_stream};

use crate::conformance::verdict::{Flaw, same, works};

/// What a snapshot covers, and all of its bytes.
#[derive(Clone)]
pub(super) struct Image<C: TypeConfig> {
    pub(super) meta: SnapshotMeta<C>,
    pub(super) bytes: Bytes,
}

impl<C: TypeConfig> Image<C> {
    /// Reads a snapshot to its end.
    pub(super) async fn of(what: &str, snapshot: Snapshot<C>) -> Result<Self, Flaw> {
        let Snapshot { meta, data } = snapshot;
        let chunks: Vec<Bytes> = works(format!("{what}, reading it"), data.try_collect().await)?;
        let bytes = Bytes::from(chunks.concat());
        if let Some(announced) = meta.size_bytes {
            same(format!("{what}, the bytes of its stream"), bytes.len() as u64, announced)?;
        }
        Ok(Self { meta, bytes })
    }

    /// The snapshot in chunks of `chunk` bytes, with an empty one between them now and then.
    pub(super) fn snapshot(&self, chunk: usize) -> Snapshot<C> {
        let pieces = (0..self.bytes.len().div_ceil(chunk)).flat_map({
            let bytes = self.bytes.clone();
            move |number| {
                let piece = bytes.slice(number * chunk..bytes.len().min((number + 1) * chunk));
                let empty = (number % 5 == 2).then(Bytes::new);
                empty.into_iter().chain([piece])
            }
        });
        Snapshot { meta: self.meta.clone(), data: snapshot_stream(stream::iter(pieces).map(Ok)) }
    }

    /// The first `bytes` of the snapshot, and then an error.
    pub(super) fn broken(&self, bytes: usize) -> Snapshot<C> {
        let start = Self { bytes: self.bytes.slice(..bytes), meta: self.meta.clone() };
        let error = io::Error::new(io::ErrorKind::ConnectionReset, "the sender has died");
        let data = start.snapshot(1000).data.chain(stream::iter([Err(error)]));
        Snapshot { meta: self.meta.clone(), data: snapshot_stream(data) }
    }

    /// Other bytes under the same name.
    pub(super) fn with_bytes(&self, bytes: Vec<u8>) -> Self {
        Self { meta: self.meta.clone(), bytes: bytes.into() }
    }
}
