//! The entry points for a network: what has arrived from peers.

use std::sync::Arc;

use crate::driver::{Item, Limit, Request};
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
    /// [`receive_bytes_max`](crate::Config::receive_bytes_max) bytes of appends are: a network that reads no further
    /// meanwhile slows the sender down. What is [not bulk](Message::is_bulk) has a limit of its own,
    /// [`receive_urgent_bytes_max`](crate::Config::receive_urgent_bytes_max), and does not wait behind appends: a call
    /// that brings both lets it pass them where they have to wait.
    ///
    /// # Errors
    ///
    /// Only when the node has stopped.
    pub async fn receive(&self, from: C::NodeId, messages: Vec<Message<C>>) -> Result<(), Fatal> {
        if messages.is_empty() {
            return Ok(());
        }
        let is_urgent = |message: &Message<C>| !message.is_bulk();
        if messages.iter().all(is_urgent) {
            return self.receive_within(&self.shared().received_urgent, from, messages).await;
        }
        let received = &self.shared().received;
        if let Ok(permit) = received.try_acquire(size_bytes(&messages)) {
            return self.push(Item::Receive { from, messages, permit });
        }
        let (urgent, bulk): (Vec<_>, Vec<_>) = messages.into_iter().partition(is_urgent);
        if !urgent.is_empty() {
            self.receive_within(&self.shared().received_urgent, from, urgent).await?;
        }
        self.receive_within(received, from, bulk).await
    }

    async fn receive_within(
        &self,
        limit: &Arc<Limit>,
        from: C::NodeId,
        messages: Vec<Message<C>>,
    ) -> Result<(), Fatal> {
        let permit = limit.acquire(size_bytes(&messages)).await.ok_or_else(|| self.shared().reason())?;
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
        // Not counted among the requests of operators: one at a time is taken in, and all others are refused at once.
        self.ask_at_once(|reply| Request::InstallSnapshot { snapshot: request, data, reply }).await?
    }

    /// The network cannot reach this peer at present: the leader sends it less until it answers again. Does nothing on
    /// a node that has stopped.
    pub fn report_unreachable(&self, peer: C::NodeId) {
        let _ = self.push(Item::input(Input::Unreachable { peer }));
    }
}

fn size_bytes<C: TypeConfig>(messages: &[Message<C>]) -> u64 {
    messages.iter().map(Message::size_bytes).sum()
}
