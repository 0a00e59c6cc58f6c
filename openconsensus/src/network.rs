//! How messages and snapshots get from node to node.

use std::future::Future;

use anyerror::AnyError;

use crate::message::{InstallSnapshot, InstallSnapshotResponse, Message};
use crate::runtime::{MaybeSend, MaybeSync, SnapshotStream};
use crate::type_config::TypeConfig;

/// Carries messages and snapshots to peers.
///
/// Messages may be lost, repeated or reordered: safety does not depend on the network. Speed does: a good network
/// keeps the order of messages to one peer and lets small ones pass bulk data
/// ([`Message::is_bulk`](crate::Message::is_bulk)).
///
/// The receiving side checks that the sender belongs to the same cluster and meant this node, then calls
/// [`Raft::receive`](crate::Raft::receive) and [`Raft::receive_snapshot`](crate::Raft::receive_snapshot). A network
/// that learns that a peer cannot be reached calls [`Raft::report_unreachable`](crate::Raft::report_unreachable).
///
/// See [the chapter of the guide](crate::guide::network).
pub trait RaftNetwork<C: TypeConfig>: MaybeSend + MaybeSync + 'static {
    /// Hands over messages for one peer, in order. Must not wait: what cannot be queued is dropped.
    ///
    /// `node` says how to reach the peer according to the membership in force. It is `None` when the peer is not in it,
    /// as when a fresh node answers the first leader it hears of: the answer then goes back the way the message came,
    /// or is dropped.
    fn send(&self, peer: C::NodeId, node: Option<&C::Node>, messages: Vec<Message<C>>);

    /// Streams a snapshot to a peer and resolves when the peer has installed or refused it. Dropping the future ends
    /// the transfer; the peer's [`Raft::receive_snapshot`](crate::Raft::receive_snapshot) must then see its stream end
    /// in an error.
    fn send_snapshot(
        &self,
        peer: C::NodeId,
        node: &C::Node,
        request: InstallSnapshot<C>,
        data: SnapshotStream,
    ) -> impl Future<Output = Result<InstallSnapshotResponse, NetworkError>> + MaybeSend + 'static;
}

/// Why a snapshot did not arrive. The leader tries again later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The peer could not be reached at all.
    #[error("peer cannot be reached: {0}")]
    Unreachable(AnyError),
    /// The transfer began and broke off.
    #[error("transfer broke off: {0}")]
    Aborted(AnyError),
}
