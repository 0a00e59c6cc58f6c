//! The entry points for a network: what has arrived from peers.

use crate::driver::{Item, Request};
use crate::engine::Input;
use crate::error::Fatal;
use crate::message::{InstallSnapshot, InstallSnapshotResponse, Message};
use crate::runtime::SnapshotStream;
use crate::type_config::TypeConfig;

use super::Raft;

impl<C: TypeConfig> Raft<C> {
    /// Messages of a peer have arrived, in this order. To be called by a network that has checked that `from` belongs
    /// to the same cluster and meant this node.
    ///
    /// Returns when they are queued. Waits while more than
    /// [`receive_bytes_max`](crate::Config::receive_bytes_max) bytes of messages are: a network that reads no further
    /// meanwhile slows the sender down.
    ///
    /// # Errors
    ///
    /// Only when the node has stopped.
    pub async fn receive(&self, from: C::NodeId, messages: Vec<Message<C>>) -> Result<(), Fatal> {
        if messages.is_empty() {
            return Ok(());
        }
        let bytes = messages.iter().map(Message::size_bytes).sum();
        let permit = self.shared().received.acquire(bytes).await.ok_or_else(|| self.shared().reason())?;
        self.push(Item::Receive { from, messages, permit })
    }

    /// A leader sends a snapshot. Resolves when it is installed or refused, with what to answer.
    ///
    /// `data` must end in an error when the transfer breaks off. A stream that stalls for
    /// [`snapshot_progress_timeout_ms`](crate::Config::snapshot_progress_timeout_ms) is given up, and so is one of a
    /// leader that has been replaced.
    ///
    /// # Errors
    ///
    /// Only when the node has stopped.
    pub async fn receive_snapshot(
        &self,
        request: InstallSnapshot<C>,
        data: SnapshotStream,
    ) -> Result<InstallSnapshotResponse, Fatal> {
        self.ask(|reply| Request::InstallSnapshot { snapshot: request, data, reply }).await?
    }

    /// The network cannot reach this peer at present: the leader sends it less until it answers again. Does nothing on
    /// a node that has stopped.
    pub fn report_unreachable(&self, peer: C::NodeId) {
        let _ = self.push(Item::input(Input::Unreachable { peer }));
    }
}
