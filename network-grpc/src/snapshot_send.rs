//! Sends one snapshot over a connection of its own.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use openconsensus::{
    AnyError, EntryCodec, InstallSnapshot, InstallSnapshotResponse, NetworkError, SnapshotStream, TypeConfig,
};
use tonic::{Code, Status};

use crate::endpoint::connect;
use crate::hello::Local;
use crate::lane::describe;
use crate::proto::raft_client::RaftClient;
use crate::proto::{self, InstallSnapshotRequest, install_snapshot_request::Kind};

/// A snapshot on its way to a peer. The connection is its own so that it takes no room in the flow of appends, and so
/// that nothing of it is left when it is given up.
pub(crate) struct SnapshotTransfer<C: TypeConfig> {
    pub(crate) local: Arc<Local<C>>,
    pub(crate) peer: C::NodeId,
    pub(crate) address: String,
    pub(crate) request: InstallSnapshot<C>,
    pub(crate) data: SnapshotStream,
}

impl<C: TypeConfig> SnapshotTransfer<C> {
    /// Resolves when the peer has answered. Dropping it resets the call, and the peer sees the transfer break off.
    pub(crate) async fn run<K: EntryCodec<C>>(self) -> Result<InstallSnapshotResponse, NetworkError> {
        let Self { local, peer, address, request, data } = self;
        let describe_to = |reason: String| AnyError::error(format!("node {peer} at {address}: {reason}"));
        let meta = proto::SnapshotMeta::new::<C, K>(&request).map_err(|error| {
            NetworkError::Aborted(describe_to(format!("the request cannot be encoded: {error}")))
        })?;
        let start = proto::SnapshotStart { hello: Some(local.hello(peer)), meta: Some(meta) };

        let channel = connect(&local.config, &address)
            .await
            .map_err(|error| NetworkError::Unreachable(describe_to(error.to_string())))?;
        let failure = Arc::new(OnceLock::new());
        let chunk_bytes_max = usize::try_from(local.config.snapshot_chunk_bytes).unwrap_or(usize::MAX);
        let requests = requests(start, data, chunk_bytes_max, failure.clone());
        let result = RaftClient::new(channel).install_snapshot(requests).await;
        // What broke here explains what the peer says about it.
        if let Some(reason) = failure.get() {
            let reason = format!("the snapshot could not be read: {reason}");
            return Err(NetworkError::Aborted(describe_to(reason)));
        }
        match result {
            Ok(response) => {
                let proto::InstallSnapshotResponse { term, installed } = response.into_inner();
                Ok(InstallSnapshotResponse { term, installed })
            }
            Err(status) => Err(error(&status, describe_to(describe(&status)))),
        }
    }
}

/// A peer that would not listen was not reached; with any other the transfer had begun.
fn error(status: &Status, reason: AnyError) -> NetworkError {
    match status.code() {
        Code::FailedPrecondition | Code::Unimplemented => NetworkError::Unreachable(reason),
        _ => NetworkError::Aborted(reason),
    }
}

/// Where the sender of the requests stands.
enum Step {
    Start(Box<proto::SnapshotStart>),
    Data,
    /// What is left of a chunk that was too large for one request.
    Rest(Bytes),
    Over,
}

struct Sending {
    step: Step,
    data: SnapshotStream,
    chunk_bytes_max: usize,
    bytes: u64,
    checksum: crc32fast::Hasher,
    failure: Arc<OnceLock<String>>,
}

/// The requests of a transfer. The connection takes the next one when the peer is ready for it.
fn requests(
    start: proto::SnapshotStart,
    data: SnapshotStream,
    chunk_bytes_max: usize,
    failure: Arc<OnceLock<String>>,
) -> impl Stream<Item = InstallSnapshotRequest> + Send + 'static {
    let checksum = crc32fast::Hasher::new();
    let sending =
        Sending { step: Step::Start(Box::new(start)), data, chunk_bytes_max, bytes: 0, checksum, failure };
    stream::unfold(sending, |mut sending| async move {
        let kind = sending.next().await?;
        Some((InstallSnapshotRequest { kind: Some(kind) }, sending))
    })
}

impl Sending {
    async fn next(&mut self) -> Option<Kind> {
        match std::mem::replace(&mut self.step, Step::Data) {
            Step::Start(start) => return Some(Kind::Start(*start)),
            Step::Rest(chunk) => return Some(self.chunk(chunk)),
            Step::Data => {}
            Step::Over => {
                self.step = Step::Over;
                return None;
            }
        }
        loop {
            match self.data.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => return Some(self.chunk(chunk)),
                Some(Err(error)) => {
                    self.step = Step::Over;
                    let reason = self.failure.get_or_init(|| error.to_string());
                    return Some(Kind::Abort(reason.clone()));
                }
                None => {
                    self.step = Step::Over;
                    let crc32 = self.checksum.clone().finalize();
                    return Some(Kind::End(proto::SnapshotEnd { bytes: self.bytes, crc32 }));
                }
            }
        }
    }

    fn chunk(&mut self, mut chunk: Bytes) -> Kind {
        if self.chunk_bytes_max < chunk.len() {
            self.step = Step::Rest(chunk.split_off(self.chunk_bytes_max));
        }
        self.bytes += chunk.len() as u64;
        self.checksum.update(&chunk);
        Kind::Chunk(chunk)
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use openconsensus::snapshot_stream;

    use super::*;

    fn sent(chunks: Vec<std::io::Result<Bytes>>) -> Vec<Kind> {
        let data = snapshot_stream(stream::iter(chunks));
        let requests = requests(proto::SnapshotStart::default(), data, 10, Arc::default());
        block_on(requests.map(|request| request.kind.unwrap()).collect())
    }

    #[test]
    fn large_chunks_are_cut_and_the_end_has_length_and_checksum() {
        let data = Bytes::from_static(b"abcdefghijklmnopqrstuvwxyz");
        let end = proto::SnapshotEnd { bytes: 29, crc32: crc32fast::hash(b"123abcdefghijklmnopqrstuvwxyz") };
        assert_eq!(
            sent(vec![Ok(Bytes::from_static(b"123")), Ok(Bytes::new()), Ok(data)]),
            [
                Kind::Start(proto::SnapshotStart::default()),
                Kind::Chunk(Bytes::from_static(b"123")),
                Kind::Chunk(Bytes::from_static(b"abcdefghij")),
                Kind::Chunk(Bytes::from_static(b"klmnopqrst")),
                Kind::Chunk(Bytes::from_static(b"uvwxyz")),
                Kind::End(end),
            ]
        );
    }

    #[test]
    fn data_that_cannot_be_read_aborts_the_transfer() {
        let sent = sent(vec![Ok(Bytes::from_static(b"123")), Err(std::io::Error::other("disk gone"))]);
        assert_eq!(sent.last(), Some(&Kind::Abort("disk gone".into())));
    }
}
