//! Requests that come as a stream: carried out beside each other, answered in their order.

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openconsensus::Raft;
use openconsensus_memstore::kv::Kv;
use tonic::Status;

use super::apply;
use crate::proto::{ApplyRequest, ApplyResponse};

/// The answers to the requests of a stream.
pub(super) type Answers = BoxStream<'static, Result<ApplyResponse, Status>>;

/// So many requests of one stream may be under way. The next ones wait in the connection, whose windows then close: so
/// a client that does not take its answers holds up nobody but itself.
const REQUESTS_MAX: usize = 64;

/// Ends when the client ends its requests or this node has stopped, behind the answers to those under way.
pub(super) fn answer_all(
    raft: Raft<Kv>,
    requests: impl Stream<Item = Result<ApplyRequest, Status>> + Send + 'static,
) -> Answers {
    let stopped = stopped(raft.clone());
    let answer = move |request: Result<ApplyRequest, Status>| {
        let raft = raft.clone();
        async move { Ok(apply(&raft, request?).await) }
    };
    // They are begun in their order, whatever becomes of them.
    requests.take_until(Box::pin(stopped)).map(answer).buffered(REQUESTS_MAX).boxed()
}

/// Resolves when the node has stopped: a stream that nobody ends must not hold up the end of the process.
async fn stopped(raft: Raft<Kv>) {
    let mut watch = raft.metrics();
    drop(raft);
    let mut metrics = watch.latest();
    while metrics.fatal.is_none() {
        metrics = watch.changed().await;
    }
}
