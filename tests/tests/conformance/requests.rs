//! The network of requests, over a transport that is a table of nodes.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{StreamExt, stream};
use openconsensus::{
    AnyError, InstallSnapshot, InstallSnapshotResponse, Message, NetworkError, RequestNetwork,
    RequestNetworkLimits, RequestTransport, SnapshotStream, TokioRuntime, snapshot_stream,
};
use openconsensus_memstore::kv::{Command, Kv};
use openconsensus_tests::conformance::{
    KvSamples, NetworkFactory, Receiver, Samples, Started, check_network,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::memstore::kv_samples;

/// Who listens at which address.
#[derive(Clone, Default)]
struct Table {
    listening: Arc<Mutex<BTreeMap<String, Listening>>>,
    addresses: Arc<AtomicU64>,
}

#[derive(Clone)]
struct Listening {
    id: u64,
    receiver: Arc<dyn Receiver<Kv>>,
    /// Closed when the node stops.
    alive: watch::Receiver<()>,
}

/// The transport of node `from`.
struct Calls {
    from: u64,
    table: Table,
}

impl Calls {
    fn find(&self, peer: u64, node: &str) -> Result<Listening, NetworkError> {
        let found = self.table.listening.lock().unwrap().get(node).filter(|found| found.id == peer).cloned();
        found.ok_or_else(|| NetworkError::Unreachable(AnyError::error(format!("no node {peer} at {node}"))))
    }
}

fn aborted(why: &str) -> NetworkError {
    NetworkError::Aborted(AnyError::error(why))
}

impl RequestTransport<Kv> for Calls {
    async fn deliver(
        &self,
        peer: u64,
        node: &String,
        messages: Vec<Message<Kv>>,
    ) -> Result<(), NetworkError> {
        let receiver = self.find(peer, node)?.receiver;
        receiver
            .receive(self.from, messages)
            .await
            .map_err(|fatal| NetworkError::Unreachable(AnyError::new(&fatal)))
    }

    async fn deliver_snapshot(
        &self,
        peer: u64,
        node: &String,
        request: InstallSnapshot<Kv>,
        mut data: SnapshotStream,
    ) -> Result<InstallSnapshotResponse, NetworkError> {
        let Listening { receiver, mut alive, .. } = self.find(peer, node)?;
        // `None` says that it is the end; a channel that closes without it is a broken connection.
        let (chunks, arriving) = mpsc::channel::<Option<Bytes>>(1);
        let (answer, mut answered) = oneshot::channel();
        let mut stopped = alive.clone();
        tokio::spawn(async move {
            tokio::select! {
                response = receiver.receive_snapshot(request, stream_of(arriving)) => drop(answer.send(response)),
                _ = stopped.changed() => {}
            }
        });
        let sending = async {
            while let Some(chunk) = data.next().await {
                let chunk = chunk.map_err(|error| aborted(&error.to_string()))?;
                if chunks.send(Some(chunk)).await.is_err() {
                    break;
                }
            }
            // A receiver that does not want the end has its reasons, and its answer says which.
            let _ = chunks.send(None).await;
            std::future::pending::<()>().await;
            Ok(())
        };
        tokio::select! {
            biased;
            answer = &mut answered => match answer {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(fatal)) => Err(aborted(&fatal.to_string())),
                Err(_) => Err(aborted("the receiver has gone")),
            },
            _ = alive.changed() => Err(aborted("the receiver has stopped")),
            Err(error) = sending => Err(error),
        }
    }
}

fn stream_of(arriving: mpsc::Receiver<Option<Bytes>>) -> SnapshotStream {
    let step = |arriving: Option<mpsc::Receiver<Option<Bytes>>>| async {
        let mut arriving = arriving?;
        match arriving.recv().await {
            Some(Some(chunk)) => Some((Ok(chunk), Some(arriving))),
            Some(None) => None,
            None => Some((Err(io::ErrorKind::ConnectionReset.into()), None)),
        }
    };
    snapshot_stream(stream::unfold(Some(arriving), step))
}

struct Requests {
    table: Table,
}

kv_samples!(Requests);

/// The address, and what is alive as long as somebody listens there.
type Endpoint = (String, watch::Sender<()>);

impl NetworkFactory<Kv> for Requests {
    type Runtime = TokioRuntime;
    type Network = RequestNetwork<Kv, TokioRuntime, Calls>;
    type Endpoint = Endpoint;

    fn runtime(&self) -> TokioRuntime {
        TokioRuntime
    }

    async fn start(
        &self,
        id: u64,
        place: Option<&String>,
        receiver: Arc<dyn Receiver<Kv>>,
    ) -> Started<Kv, Self::Network, Endpoint> {
        let number = self.table.addresses.fetch_add(1, Ordering::SeqCst);
        let node = place.cloned().unwrap_or_else(|| format!("place-{number}"));
        let (stop, alive) = watch::channel(());
        let listening = Listening { id, receiver: receiver.clone(), alive };
        self.table.listening.lock().unwrap().insert(node.clone(), listening);
        let calls = Calls { from: id, table: self.table.clone() };
        let network = RequestNetwork::new(TokioRuntime, calls, RequestNetworkLimits::default());
        network.report_to(move |peer| receiver.report_unreachable(peer));
        Started { network, node: node.clone(), endpoint: (node, stop) }
    }

    async fn stop(&self, (node, stop): Endpoint) {
        self.table.listening.lock().unwrap().remove(&node);
        drop(stop);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_of_requests_conforms() {
    check_network(&Requests { table: Table::default() }).await.assert_passed_except(&[]);
}
