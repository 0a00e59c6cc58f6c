//! Snapshots for the suite to send: bytes that are no pattern, and sources that are watched.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fastrand::Rng;
use futures::channel::oneshot;
use futures::{StreamExt, stream};
use openconsensus::{
    InstallSnapshot, InstallSnapshotResponse, LogId, MembershipAt, NetworkError, RaftNetwork, SnapshotMeta,
    SnapshotStream, TypeConfig, snapshot_stream,
};

use super::NetworkFactory;
use super::crowd::{Member, spawn};
use crate::conformance::samples::membership;

/// The end of a transfer, when it has come.
pub(super) type Ended = oneshot::Receiver<Result<InstallSnapshotResponse, NetworkError>>;

/// `size` bytes that are no pattern, in chunks of many sizes, some of them empty.
pub(super) fn bytes_of(size: usize) -> (Vec<u8>, SnapshotStream) {
    let mut random = Rng::with_seed(size as u64);
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(size).collect();
    let mut rest = Bytes::from(bytes.clone());
    let mut chunks = vec![Ok(Bytes::new())];
    while !rest.is_empty() {
        chunks.push(Ok(rest.split_to(random.usize(1..=300_000).min(rest.len()))));
        if random.u8(0..8) == 0 {
            chunks.push(Ok(Bytes::new()));
        }
    }
    (bytes, snapshot_stream(stream::iter(chunks)))
}

/// What `leader` says ahead of a snapshot; another one for each `number`.
pub(super) fn request<C: TypeConfig, F: NetworkFactory<C>>(
    factory: &F,
    leader: &Member<C, F>,
    number: u64,
    size_bytes: Option<u64>,
) -> InstallSnapshot<C> {
    let membership = MembershipAt { log_id: LogId::new(1, 3), membership: membership(factory, number) };
    let meta = SnapshotMeta { last: LogId::new(2, 50 + number), membership, size_bytes };
    InstallSnapshot { term: 9 + number, leader: leader.id, meta }
}

/// Begins to send a snapshot, in a task of its own.
pub(super) fn begin<C: TypeConfig, F: NetworkFactory<C>>(
    factory: &F,
    from: &Member<C, F>,
    to: &Member<C, F>,
    request: InstallSnapshot<C>,
    data: SnapshotStream,
) -> Ended {
    spawn(&factory.runtime(), from.network.send_snapshot(to.id, &to.node, request, data))
}

/// A source of `chunks` chunks of `size` bytes that counts the bytes that were taken from it, and then ends as `end` says.
pub(super) fn counted(
    chunks: u64,
    size: usize,
    end: impl IntoIterator<Item = io::Result<Bytes>, IntoIter: Send + 'static>,
) -> (Arc<AtomicU64>, SnapshotStream) {
    let taken = Arc::new(AtomicU64::new(0));
    let counter = taken.clone();
    let chunk = Bytes::from(vec![7; size]);
    let chunks = stream::iter(0..chunks).map(move |_| {
        counter.fetch_add(size as u64, Ordering::SeqCst);
        Ok(chunk.clone())
    });
    (taken, snapshot_stream(chunks.chain(stream::iter(end))))
}
