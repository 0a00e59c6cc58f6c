//! `Receiver`: what stands behind the receiving side of a network. `Raft` does.

use openconsensus::{
    BoxFuture, Fatal, InstallSnapshot, InstallSnapshotResponse, MaybeSend, MaybeSync, Message, Raft,
    SnapshotStream, TypeConfig,
};

/// What the receiving side of a network hands to the node. Implemented for [`Raft`], which does all of it by the methods of
/// the same names.
pub trait Receiver<C: TypeConfig>: MaybeSend + MaybeSync + 'static {
    /// Messages of a peer have arrived, in this order. See [`Raft::receive`].
    fn receive(&self, from: C::NodeId, messages: Vec<Message<C>>) -> BoxFuture<'_, Result<(), Fatal>>;

    /// A leader sends a snapshot. See [`Raft::receive_snapshot`].
    fn receive_snapshot(
        &self,
        request: InstallSnapshot<C>,
        data: SnapshotStream,
    ) -> BoxFuture<'_, Result<InstallSnapshotResponse, Fatal>>;

    /// The network cannot reach this peer at present. See [`Raft::report_unreachable`].
    fn report_unreachable(&self, peer: C::NodeId);
}

impl<C: TypeConfig> Receiver<C> for Raft<C> {
    fn receive(&self, from: C::NodeId, messages: Vec<Message<C>>) -> BoxFuture<'_, Result<(), Fatal>> {
        Box::pin(Self::receive(self, from, messages))
    }

    fn receive_snapshot(
        &self,
        request: InstallSnapshot<C>,
        data: SnapshotStream,
    ) -> BoxFuture<'_, Result<InstallSnapshotResponse, Fatal>> {
        Box::pin(Self::receive_snapshot(self, request, data))
    }

    fn report_unreachable(&self, peer: C::NodeId) {
        Self::report_unreachable(self, peer);
    }
}
