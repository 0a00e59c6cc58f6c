//! Networks that break the contract, one sentence each: the suite finds every one, by the check that is meant for it.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use openconsensus::{
    AnyError, Body, BoxFuture, Fatal, InstallSnapshot, InstallSnapshotResponse, LogId, Message, NetworkError,
    RaftNetwork, SnapshotStream, TokioRuntime, snapshot_stream,
};
use openconsensus_memstore::kv::{Command, Kv};
use openconsensus_tests::conformance::{
    KvSamples, NetworkFactory, NetworkLimits, Receiver, Samples, Started, check_network,
};
use openconsensus_tests::{MemNetwork, MemNetworkNode};

use crate::memstore::kv_samples;

/// What a network does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// What is sent together arrives in the wrong order.
    Reverses,
    /// Every tenth message is lost, though nothing is wrong.
    Loses,
    /// Every message arrives twice.
    Repeats,
    /// Large messages are lost.
    LosesLarge,
    /// The commit index of a heartbeat is not carried.
    CarriesHalf,
    /// The receiver is told that node 1 has sent everything.
    MixesUp,
    /// Sending waits until what was sent has arrived.
    Waits,
    /// Nobody is told that a peer cannot be reached.
    Silent,
    /// A peer that could not be reached once is given up.
    GivesUp,
    /// A snapshot that breaks off looks as if it was whole.
    CleanEnd,
    /// A snapshot is read to its end before it is sent.
    Buffers,
    /// A snapshot is said to be installed when all of it was sent.
    AnswersItself,
    /// A peer that is down is one whose transfer broke off.
    NotUnreachable,
}

/// Makes nodes on one network in memory, with a fault on both sides.
struct Nodes {
    fault: Fault,
    network: MemNetwork<Kv>,
}

kv_samples!(Nodes);

impl NetworkFactory<Kv> for Nodes {
    type Runtime = TokioRuntime;
    type Network = Sending;
    type Endpoint = u64;

    fn runtime(&self) -> TokioRuntime {
        TokioRuntime
    }

    async fn start(
        &self,
        id: u64,
        _place: Option<&String>,
        receiver: Arc<dyn Receiver<Kv>>,
    ) -> Started<Kv, Sending, u64> {
        let shared = Arc::new(Shared::default());
        let receiving = Receiving { fault: self.fault, receiver, shared: shared.clone() };
        self.network.connect_receiver(id, Arc::new(receiving));
        let network = Sending {
            fault: self.fault,
            inner: self.network.node(id),
            network: self.network.clone(),
            shared,
        };
        Started { network, node: self.node(id), endpoint: id }
    }

    async fn stop(&self, id: u64) {
        self.network.disconnect(id);
    }

    fn limits(&self) -> NetworkLimits {
        NetworkLimits {
            passes_bulk: false,
            has_addresses: false,
            patience: Duration::from_millis(1500),
            ..NetworkLimits::default()
        }
    }
}

/// What both sides of a node know.
#[derive(Default)]
struct Shared {
    given_up: Mutex<BTreeSet<u64>>,
    sent: AtomicU64,
}

/// The sending side of a node.
struct Sending {
    fault: Fault,
    inner: MemNetworkNode<Kv>,
    network: MemNetwork<Kv>,
    shared: Arc<Shared>,
}

impl RaftNetwork<Kv> for Sending {
    fn send(&self, peer: u64, node: Option<&String>, mut messages: Vec<Message<Kv>>) {
        match self.fault {
            Fault::Reverses => messages.reverse(),
            Fault::Loses => messages.retain(|_| self.shared.sent.fetch_add(1, Ordering::Relaxed) % 10 != 9),
            Fault::Repeats => {
                messages = messages.iter().flat_map(|message| [message.clone(), message.clone()]).collect()
            }
            Fault::LosesLarge => messages.retain(|message| message.size_bytes() < 1 << 20),
            Fault::CarriesHalf => messages.iter_mut().for_each(|message| {
                if let Body::Heartbeat { commit, .. } = &mut message.body {
                    *commit = LogId::ZERO;
                }
            }),
            Fault::GivesUp if self.shared.given_up.lock().unwrap().contains(&peer) => return,
            _ => {}
        }
        let before = self.network.traffic().delivered;
        let count = messages.len() as u64;
        self.inner.send(peer, node, messages);
        if self.fault == Fault::Waits {
            // For some time, so that the test comes to its end.
            let deadline = std::time::Instant::now() + Duration::from_millis(60);
            while self.network.traffic().delivered < before + count && std::time::Instant::now() < deadline {
                std::thread::yield_now();
            }
        }
    }

    fn send_snapshot(
        &self,
        peer: u64,
        node: &String,
        request: InstallSnapshot<Kv>,
        data: SnapshotStream,
    ) -> impl Future<Output = Result<InstallSnapshotResponse, NetworkError>> + 'static {
        let (fault, term, last) = (self.fault, request.term, request.meta.last.index);
        let data = match fault {
            Fault::Buffers => {
                let collected = async move {
                    let chunks: Result<Vec<Bytes>, io::Error> = data.try_collect().await;
                    stream::iter(match chunks {
                        Ok(chunks) => chunks.into_iter().map(Ok).collect(),
                        Err(error) => vec![Err(error)],
                    })
                };
                snapshot_stream(stream::once(collected).flatten())
            }
            _ => data,
        };
        let sending = self.inner.send_snapshot(peer, node, request, data);
        async move {
            match sending.await {
                Ok(_) if fault == Fault::AnswersItself => {
                    Ok(InstallSnapshotResponse { term, installed: Some(last) })
                }
                Err(NetworkError::Unreachable(_)) if fault == Fault::NotUnreachable => {
                    Err(NetworkError::Aborted(AnyError::error("nobody there")))
                }
                result => result,
            }
        }
    }
}

/// The receiving side of a node.
struct Receiving {
    fault: Fault,
    receiver: Arc<dyn Receiver<Kv>>,
    shared: Arc<Shared>,
}

impl Receiver<Kv> for Receiving {
    fn receive(&self, from: u64, messages: Vec<Message<Kv>>) -> BoxFuture<'_, Result<(), Fatal>> {
        let from = if self.fault == Fault::MixesUp { 1 } else { from };
        self.receiver.receive(from, messages)
    }

    fn receive_snapshot(
        &self,
        request: InstallSnapshot<Kv>,
        data: SnapshotStream,
    ) -> BoxFuture<'_, Result<InstallSnapshotResponse, Fatal>> {
        let data = match self.fault {
            Fault::CleanEnd => snapshot_stream(data.take_while(|chunk| std::future::ready(chunk.is_ok()))),
            _ => data,
        };
        self.receiver.receive_snapshot(request, data)
    }

    fn report_unreachable(&self, peer: u64) {
        self.shared.given_up.lock().unwrap().insert(peer);
        if self.fault != Fault::Silent {
            self.receiver.report_unreachable(peer);
        }
    }
}

/// The suite fails, by `check` among others.
async fn is_caught(fault: Fault, check: &str) {
    let report = check_network(&Nodes { fault, network: MemNetwork::new(1) }).await;
    let failed = report.failed();
    assert!(failed.contains(&check), "{fault:?} is not caught by {check}, but by {failed:?}\n{report}");
    assert!(failed.len() < report.outcomes().len(), "{fault:?} fails everything\n{report}");
    let caught = report.outcomes().iter().find(|outcome| outcome.check == check).unwrap();
    let text = report.to_string();
    assert!(text.contains(&format!("FAILED  {check}")) && text.contains(caught.contract[0]), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_that_lose_the_order_or_messages_are_caught() {
    is_caught(Fault::Reverses, "messages_to_one_peer_keep_their_order").await;
    is_caught(Fault::Repeats, "messages_to_one_peer_keep_their_order").await;
    is_caught(Fault::Loses, "messages_to_one_peer_keep_their_order").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_that_carry_something_else_are_caught() {
    is_caught(Fault::LosesLarge, "large_messages_arrive").await;
    is_caught(Fault::CarriesHalf, "every_message_arrives_as_it_was_sent").await;
    is_caught(Fault::MixesUp, "nodes_that_speak_at_once_are_told_apart").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_makes_its_sender_wait_is_caught() {
    is_caught(Fault::Waits, "sending_does_not_wait").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_that_do_not_notice_their_peers_are_caught() {
    is_caught(Fault::Silent, "a_peer_that_is_down_is_reported").await;
    is_caught(Fault::GivesUp, "a_peer_that_comes_back_is_reached_again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_that_mistreat_snapshots_are_caught() {
    is_caught(Fault::CleanEnd, "a_transfer_that_is_dropped_breaks_the_stream_of_the_receiver").await;
    is_caught(Fault::Buffers, "a_receiver_that_takes_nothing_holds_the_sender_back").await;
    is_caught(Fault::AnswersItself, "a_refusal_arrives").await;
    is_caught(Fault::NotUnreachable, "a_snapshot_to_a_peer_that_is_down_is_unreachable").await;
}
