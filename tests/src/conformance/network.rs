//! The suite for networks: `RaftNetwork` on one side, and what it hands to the node on the other.

mod crowd;
mod messages;
mod peers;
mod receiver;
mod recorder;
mod snapshots;
mod transfer;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use openconsensus::{AsyncRuntime, RaftNetwork, TypeConfig};

use super::report::{Report, checks};
use super::samples::Samples;

pub use receiver::Receiver;

/// A node that was started for [`check_network`].
pub struct Started<C: TypeConfig, N, E> {
    /// Its sending side.
    pub network: N,
    /// How peers reach it.
    pub node: C::Node,
    /// Its receiving side, to be stopped.
    pub endpoint: E,
}

/// Makes nodes with a network for [`check_network`].
///
/// What a node receives goes to a [`Receiver`] that the suite brings, in the place of
/// [`Raft`](openconsensus::Raft), for which it is implemented as well: a receiving side that takes
/// `impl Receiver<C>`, or three functions, serves both.
pub trait NetworkFactory<C: TypeConfig>: Samples<C> {
    /// What the network runs on. The suite is called inside it.
    type Runtime: AsyncRuntime;

    /// The sending side of a node.
    type Network: RaftNetwork<C>;

    /// The receiving side of a node.
    type Endpoint;

    /// What the network runs on.
    fn runtime(&self) -> Self::Runtime;

    /// Starts node `id`. Messages and snapshots that arrive for it go to `receiver`, and so do reports of peers that cannot be
    /// reached. With `place` it listens where it did before, or takes over from where it was stopped; without it at a place
    /// of its own, where no other node is or was.
    fn start(
        &self,
        id: C::NodeId,
        place: Option<&C::Node>,
        receiver: Arc<dyn Receiver<C>>,
    ) -> impl Future<Output = Started<C, Self::Network, Self::Endpoint>>;

    /// Stops a receiving side, as a process that ends: connections break, nobody listens any more.
    fn stop(&self, endpoint: Self::Endpoint) -> impl Future<Output = ()>;

    /// What the network promises.
    fn limits(&self) -> NetworkLimits {
        NetworkLimits::default()
    }
}

/// What a network promises beside the contract. The defaults suit most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkLimits {
    /// So many messages that wait for one peer are not dropped. Default 512.
    pub queued_messages: u64,
    /// A message with entries of so many bytes arrives. At least the core's
    /// [`command_bytes_max`](openconsensus::Config::command_bytes_max). Default 4 MiB.
    pub message_bytes: u64,
    /// A snapshot whose receiver takes nothing is not read further than so many bytes. Default 24 MiB.
    pub snapshot_buffer_bytes: u64,
    /// Whether small messages pass bulk data that the receiver does not take. Default true.
    pub passes_bulk: bool,
    /// Whether a peer is found by its address, and not by its name alone. Default true.
    pub has_addresses: bool,
    /// What must happen is waited for so long: longer than anything that works takes, however busy the machine is. Default
    /// 20 seconds.
    pub patience: Duration,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            queued_messages: 512,
            message_bytes: 4 << 20,
            snapshot_buffer_bytes: 24 << 20,
            passes_bulk: true,
            has_addresses: true,
            patience: Duration::from_secs(20),
        }
    }
}

/// Checks a network against its contract: both sides, on a healthy network and with nodes that stop, move and come back.
/// The report says what came of it; see [`Report::assert_passed`].
///
/// To be called inside the runtime of the factory. Nothing is waited for longer than [`NetworkLimits::patience`].
///
/// ```
/// # use std::sync::Arc;
/// # use openconsensus::TokioRuntime;
/// # use openconsensus_memstore::kv::{Command, Kv};
/// # use openconsensus_tests::conformance::{KvSamples, NetworkLimits, Receiver, Samples};
/// use openconsensus_tests::conformance::{NetworkFactory, Started, check_network};
/// use openconsensus_tests::{MemNetwork, MemNetworkNode};
///
/// /// One network in memory for all nodes. Another one would listen on a port for each.
/// struct Nodes(MemNetwork<Kv>);
/// # impl Samples<Kv> for Nodes {
/// #     fn command(&self, number: u64, bytes: usize) -> Command { KvSamples.command(number, bytes) }
/// #     fn node_id(&self, number: u64) -> u64 { number }
/// #     fn node(&self, number: u64) -> String { format!("node-{number}:7000") }
/// # }
///
/// impl NetworkFactory<Kv> for Nodes {
///     type Runtime = TokioRuntime;
///     type Network = MemNetworkNode<Kv>;
///     type Endpoint = u64;
///
///     fn runtime(&self) -> TokioRuntime {
///         TokioRuntime
///     }
///
///     async fn start(
///         &self,
///         id: u64,
///         _place: Option<&String>,
///         receiver: Arc<dyn Receiver<Kv>>,
///     ) -> Started<Kv, MemNetworkNode<Kv>, u64> {
///         self.0.connect_receiver(id, receiver);
///         Started { network: self.0.node(id), node: self.node(id), endpoint: id }
///     }
///
///     async fn stop(&self, id: u64) {
///         self.0.disconnect(id);
///     }
///
///     fn limits(&self) -> NetworkLimits {
///         // Small messages do not pass large ones here, and nodes are found by their names.
///         NetworkLimits { passes_bulk: false, has_addresses: false, ..NetworkLimits::default() }
///     }
/// }
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// check_network(&Nodes(MemNetwork::new(1))).await.assert_passed();
/// # });
/// ```
pub async fn check_network<C, F>(factory: &F) -> Report
where
    C: TypeConfig<Command: PartialEq>,
    F: NetworkFactory<C>,
{
    let mut report = Report::new("network");
    make_all(&mut report, factory).await;
    report
}

checks! {
    make_all where [C: TypeConfig<Command: PartialEq>, F: NetworkFactory<C>];
    messages::messages_to_one_peer_keep_their_order: [
        "Hands over messages for one peer, in order.",
        "Speed does: a good network keeps the order of messages to one peer and lets small ones pass bulk data \
         ([`Message::is_bulk`](crate::Message::is_bulk)).",
    ];
    messages::every_message_arrives_as_it_was_sent: [
        "Carries messages and snapshots to peers.",
    ];
    messages::large_messages_arrive: [
        "Carries messages and snapshots to peers.",
    ];
    messages::nodes_that_speak_at_once_are_told_apart: [
        "The receiving side checks that the sender belongs to the same cluster and meant this node, then calls \
         [`Raft::receive`](crate::Raft::receive) and [`Raft::receive_snapshot`](crate::Raft::receive_snapshot).",
    ];
    messages::small_messages_pass_bulk_data: [
        "Speed does: a good network keeps the order of messages to one peer and lets small ones pass bulk data \
         ([`Message::is_bulk`](crate::Message::is_bulk)).",
    ];
    messages::sending_does_not_wait: [
        "Must not wait: what cannot be queued is dropped.",
    ];
    peers::a_peer_that_is_down_is_reported: [
        "A network that learns that a peer cannot be reached calls \
         [`Raft::report_unreachable`](crate::Raft::report_unreachable).",
    ];
    peers::a_peer_that_comes_back_is_reached_again: [
        "Messages may be lost, repeated or reordered: safety does not depend on the network.",
    ];
    peers::a_peer_that_moves_is_followed: [
        "`node` says how to reach the peer according to the membership in force.",
    ];
    peers::a_message_for_another_node_is_refused: [
        "The receiving side checks that the sender belongs to the same cluster and meant this node, then calls \
         [`Raft::receive`](crate::Raft::receive) and [`Raft::receive_snapshot`](crate::Raft::receive_snapshot).",
    ];
    peers::an_answer_to_a_stranger_goes_back_or_is_dropped: [
        "It is `None` when the peer is not in it, as when a fresh node answers the first leader it hears of: the answer \
         then goes back the way the message came, or is dropped.",
    ];
    snapshots::a_snapshot_arrives_whole: [
        "Streams a snapshot to a peer and resolves when the peer has installed or refused it.",
    ];
    snapshots::a_refusal_arrives: [
        "Streams a snapshot to a peer and resolves when the peer has installed or refused it.",
    ];
    snapshots::a_transfer_that_is_dropped_breaks_the_stream_of_the_receiver: [
        "Dropping the future ends the transfer; the peer's [`Raft::receive_snapshot`](crate::Raft::receive_snapshot) must \
         then see its stream end in an error.",
    ];
    snapshots::a_source_that_fails_breaks_both_ends: [
        "The transfer began and broke off.",
    ];
    snapshots::a_receiver_that_stops_breaks_the_transfer: [
        "The transfer began and broke off.",
    ];
    snapshots::a_receiver_that_takes_nothing_holds_the_sender_back: [
        "Streams a snapshot to a peer and resolves when the peer has installed or refused it.",
    ];
    snapshots::a_snapshot_to_a_peer_that_is_down_is_unreachable: [
        "The peer could not be reached at all.",
    ];
    snapshots::messages_arrive_beside_a_snapshot_that_stalls: [
        "Carries messages and snapshots to peers.",
    ];
}
