//! The handle of a node.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Config;
use crate::entry::{Index, LogId};
use crate::error::*;
use crate::membership::MembershipChange;
use crate::message::{InstallSnapshot, InstallSnapshotResponse, Message, SnapshotMeta};
use crate::metrics::RaftMetrics;
use crate::network::RaftNetwork;
use crate::runtime::{AsyncRuntime, SnapshotStream};
use crate::storage::{RaftLogStorage, RaftStateMachine};
use crate::type_config::TypeConfig;

/// A node of a cluster.
#[derive(Debug)]
pub struct Raft<C: TypeConfig> {
    x: std::marker::PhantomData<C>,
}

impl<C: TypeConfig> Clone for Raft<C> {
    fn clone(&self) -> Self {
        unimplemented!()
    }
}

#[expect(clippy::unused_async, unused_variables, missing_docs)]
impl<C: TypeConfig> Raft<C> {
    pub async fn start<R, N, L, S>(
        id: C::NodeId,
        config: Config,
        runtime: R,
        network: N,
        log: L,
        state_machine: S,
    ) -> Result<Self, StartError>
    where
        R: AsyncRuntime,
        N: RaftNetwork<C>,
        L: RaftLogStorage<C>,
        S: RaftStateMachine<C>,
    {
        unimplemented!()
    }
    pub fn id(&self) -> C::NodeId {
        unimplemented!()
    }
    pub async fn write(&self, command: C::Command) -> Result<C::Response, WriteError<C>> {
        unimplemented!()
    }
    pub async fn write_many(&self, commands: Vec<C::Command>) -> Result<Vec<C::Response>, WriteError<C>> {
        unimplemented!()
    }
    /// After it the state machine of this node contains every write that was acknowledged anywhere before the call.
    /// Returns the index up to which it has applied at least.
    pub async fn read(&self) -> Result<Index, ReadError<C>> {
        unimplemented!()
    }
    pub async fn initialize(&self, nodes: BTreeMap<C::NodeId, C::Node>) -> Result<(), InitializeError<C>> {
        unimplemented!()
    }
    /// Adds a learner; with `wait`, returns when it lacks at most `promotion_lag_entries_max` entries or the time is over.
    pub async fn add_learner(
        &self,
        id: C::NodeId,
        node: C::Node,
        wait: Option<Duration>,
    ) -> Result<LogId, ChangeMembershipError<C>> {
        unimplemented!()
    }
    pub async fn change_membership(
        &self,
        change: MembershipChange<C>,
        expected: Option<LogId>,
    ) -> Result<LogId, ChangeMembershipError<C>> {
        unimplemented!()
    }
    /// Returns the new leader.
    pub async fn transfer_leadership(
        &self,
        target: Option<C::NodeId>,
    ) -> Result<C::NodeId, TransferError<C>> {
        unimplemented!()
    }
    pub async fn snapshot(&self) -> Result<SnapshotMeta<C>, SnapshotError> {
        unimplemented!()
    }
    pub fn metrics(&self) -> MetricsWatch<C> {
        unimplemented!()
    }
    /// Conditions with a deadline.
    pub fn wait(&self, timeout: Duration) -> Wait<C> {
        unimplemented!()
    }
    /// Stops the node and answers every waiter; returns when all loops have ended and the stores are dropped.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
    /// Messages of a peer arrived. Waits while more than `receive_bytes_max` are queued.
    pub async fn receive(&self, from: C::NodeId, messages: Vec<Message<C>>) -> Result<(), Fatal> {
        unimplemented!()
    }
    /// A leader sends a snapshot. Resolves when it is installed or refused.
    pub async fn receive_snapshot(
        &self,
        request: InstallSnapshot<C>,
        data: SnapshotStream,
    ) -> Result<InstallSnapshotResponse, Fatal> {
        unimplemented!()
    }
    pub fn report_unreachable(&self, peer: C::NodeId) {
        unimplemented!()
    }
}

/// The latest metrics of a node, and a way to wait for later ones.
#[derive(Debug)]
pub struct MetricsWatch<C: TypeConfig> {
    x: std::marker::PhantomData<C>,
}

#[expect(clippy::unused_async, missing_docs)]
impl<C: TypeConfig> MetricsWatch<C> {
    /// The latest.
    pub fn latest(&self) -> std::sync::Arc<RaftMetrics<C>> {
        unimplemented!()
    }
    /// Waits until there are later ones than the last that this watch returned.
    pub async fn changed(&mut self) -> std::sync::Arc<RaftMetrics<C>> {
        unimplemented!()
    }
}

/// Waits for conditions of the metrics, with a deadline.
#[derive(Debug)]
pub struct Wait<C: TypeConfig> {
    x: std::marker::PhantomData<C>,
}

#[expect(clippy::unused_async, unused_variables, missing_docs)]
impl<C: TypeConfig> Wait<C> {
    pub async fn until(
        &self,
        condition: &str,
        is_true: impl Fn(&RaftMetrics<C>) -> bool,
    ) -> Result<std::sync::Arc<RaftMetrics<C>>, WaitError> {
        unimplemented!()
    }
    /// Some node is known to lead. Returns it.
    pub async fn leader(&self) -> Result<C::NodeId, WaitError> {
        unimplemented!()
    }
    /// The state machine has applied `index`.
    pub async fn applied(&self, index: Index) -> Result<(), WaitError> {
        unimplemented!()
    }
}
