//! `Receiver`: what stands behind the service. `Raft` does.

use async_trait::async_trait;
use openconsensus::{
    Fatal, InstallSnapshot, InstallSnapshotResponse, Message, Raft, SnapshotStream, TypeConfig, WeakRaft,
};

/// What the service hands to the node, and the network reports to it. Implemented for [`Raft`], which
/// the service then keeps alive, and for [`WeakRaft`], which it does not. A test or a proxy may put something else behind
/// a [`GrpcService`](crate::GrpcService).
#[async_trait]
pub trait Receiver<C: TypeConfig>: Send + Sync + 'static {
    /// Messages of a peer arrived, in order within a lane. The next ones of that lane are read when it resolves: a
    /// receiver that waits holds its sender back. It is dropped, half done, when the connection breaks.
    async fn receive(&self, from: C::NodeId, messages: Vec<Message<C>>) -> Result<(), Fatal>;

    /// A leader sends a snapshot. `data` ends in an error when the transfer breaks, or when length or checksum differ:
    /// then nothing of it may be kept. Bytes travel only as fast as they are taken from it.
    async fn receive_snapshot(
        &self,
        request: InstallSnapshot<C>,
        data: SnapshotStream,
    ) -> Result<InstallSnapshotResponse, Fatal>;

    /// A peer cannot be reached, or the connection to it broke: what was sent last may be lost. Must not wait.
    fn report_unreachable(&self, peer: C::NodeId);
}

#[async_trait]
impl<C: TypeConfig> Receiver<C> for Raft<C> {
    async fn receive(&self, from: C::NodeId, messages: Vec<Message<C>>) -> Result<(), Fatal> {
        Self::receive(self, from, messages).await
    }

    async fn receive_snapshot(
        &self,
        request: InstallSnapshot<C>,
        data: SnapshotStream,
    ) -> Result<InstallSnapshotResponse, Fatal> {
        Self::receive_snapshot(self, request, data).await
    }

    fn report_unreachable(&self, peer: C::NodeId) {
        Self::report_unreachable(self, peer);
    }
}

#[async_trait]
impl<C: TypeConfig> Receiver<C> for WeakRaft<C> {
    async fn receive(&self, from: C::NodeId, messages: Vec<Message<C>>) -> Result<(), Fatal> {
        let raft = self.upgrade().ok_or(Fatal::Stopped)?;
        raft.receive(from, messages).await
    }

    async fn receive_snapshot(
        &self,
        request: InstallSnapshot<C>,
        data: SnapshotStream,
    ) -> Result<InstallSnapshotResponse, Fatal> {
        let raft = self.upgrade().ok_or(Fatal::Stopped)?;
        raft.receive_snapshot(request, data).await
    }

    fn report_unreachable(&self, peer: C::NodeId) {
        if let Some(raft) = self.upgrade() {
            raft.report_unreachable(peer);
        }
    }
}
