//! The handle of a node.

mod admin;
mod leadership;
mod receive;
mod wait;
mod watch;
mod write;
mod write_stream;

use std::fmt;
use std::sync::{Arc, Weak};

use futures::channel::oneshot;

use crate::config::Config;
use crate::driver::{self, Item, Reader, Shared};
use crate::entry::Index;
use crate::error::{Fatal, ReadError, StartError};
use crate::network::RaftNetwork;
use crate::runtime::AsyncRuntime;
use crate::storage::{RaftLogStorage, RaftStateMachine};
use crate::type_config::TypeConfig;

pub(crate) use leadership::LeadershipLog;
pub use leadership::LeadershipWatch;
pub use wait::Wait;
pub use watch::MetricsWatch;
pub(crate) use watch::Watch;
pub(crate) use write::WRITE_OVERHEAD_BYTES;

/// A node of a cluster: the handle through which an application writes, reads, changes the membership and watches, and
/// through which a network hands in what has arrived.
///
/// It is cheap to clone. Dropping the last clone stops the node, as [`shutdown`](Self::shutdown) does, but without
/// waiting for its end.
///
/// Every method may be called from any task at any time. A future that is dropped before it resolves gives up the
/// answer, not what was asked for: a write may still be carried out.
///
/// The [guide](crate::guide) says more of [writes](crate::guide::writes), [reads](crate::guide::reads),
/// [memberships](crate::guide::membership) and [errors](crate::guide::errors).
pub struct Raft<C: TypeConfig> {
    node: Arc<NodeHandle<C>>,
}

/// What all clones of a [`Raft`] have in common. Dropping it stops the node.
struct NodeHandle<C: TypeConfig> {
    shared: Arc<Shared<C>>,
}

impl<C: TypeConfig> Drop for NodeHandle<C> {
    fn drop(&mut self) {
        self.shared.stop(Fatal::Stopped);
    }
}

impl<C: TypeConfig> Raft<C> {
    /// Starts a node: recovers what its stores hold and begins as a follower, or, with empty stores, waits to be
    /// initialized or to be added to a cluster.
    ///
    /// `id` is the name of the node in its cluster; it must be the one that the stores were used with before. Returns
    /// when the node takes part, which may be long before it has caught up.
    ///
    /// # Errors
    ///
    /// Each names what is wrong and what to do about it. The stores are closed then. Nothing was changed, but for what
    /// a crash had interrupted: restoring a state machine from its own snapshot, and clearing a log that ends before
    /// it.
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
        let shared = driver::start(id, config, runtime, network, log, state_machine).await?;
        Ok(Self { node: Arc::new(NodeHandle { shared }) })
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn clock(&self) -> Arc<dyn driver::Clock> {
        self.shared().clock.clone()
    }

    fn shared(&self) -> &Arc<Shared<C>> {
        &self.node.shared
    }

    /// The name of this node.
    pub fn id(&self) -> C::NodeId {
        self.shared().id
    }

    fn push(&self, item: Item<C>) -> Result<(), Fatal> {
        self.shared().inbox.push(item).map_err(|_refused| self.shared().reason())
    }

    /// For what is measured from the call on.
    fn push_timed(&self, item: Item<C>) -> Result<(), Fatal> {
        let shared = self.shared();
        shared.inbox.push_timed(item, || shared.clock.now()).map_err(|_refused| shared.reason())
    }

    /// Waits until this node may be read from linearizably: after it the state machine of this node contains every
    /// write that was acknowledged anywhere before the call. Works on any node; a follower asks its leader.
    ///
    /// Returns an index up to which the state machine has applied at least. The state itself is read through a handle
    /// of the application's own.
    ///
    /// Waits for its turn while [`reads_waiting_max`](Config::reads_waiting_max) reads are under way; who comes first is
    /// first.
    ///
    /// # Errors
    ///
    /// [`ReadError::NotConfirmed`] when no leader has confirmed it within
    /// [`read_timeout_ms`](Config::read_timeout_ms), [`ReadError::Behind`] when this node cannot follow. Reads are always
    /// safe to retry.
    pub async fn read(&self) -> Result<Index, ReadError<C>> {
        let permit = self.shared().reads.acquire(1).await.ok_or_else(|| self.shared().reason())?;
        let (reply, index) = oneshot::channel();
        self.push_timed(Item::Read { reader: Reader { reply, permit } })?;
        index.await.unwrap_or_else(|_| Err(self.shared().reason().into()))
    }

    /// Like [`read`](Self::read), with the same guarantee, but a leader that holds a lease confirms it at once, without a
    /// round of messages. Works on any node; a follower asks its leader. Where the leader has no lease at the moment, or
    /// leases are not configured, it is confirmed as `read` is.
    ///
    /// What it saves is a round trip to a quorum, and what it costs is that the guarantee rests on clocks: while two of them
    /// differ in speed by more than [`lease_clock_drift_ppm_max`](Config::lease_clock_drift_ppm_max), or a clock that
    /// stands still with its machine goes unnoticed, it may miss writes. It rests on nothing else: pauses of processes,
    /// elections, transfers, restarts and changes of the membership do not harm it. See thesis 6.4.1.
    /// [`lease_ms`](crate::RaftMetrics::lease_ms) shows whether the leader has a lease, the counters
    /// [`reads_by_lease` and `reads_by_round`](crate::Counters) how often it was of use.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    pub async fn read_by_lease(&self) -> Result<Index, ReadError<C>> {
        let permit = self.shared().reads.acquire(1).await.ok_or_else(|| self.shared().reason())?;
        let (reply, index) = oneshot::channel();
        self.push_timed(Item::ReadByLease { reader: Reader { reply, permit } })?;
        index.await.unwrap_or_else(|_| Err(self.shared().reason().into()))
    }

    /// The latest metrics, and a way to wait for later ones. They are published at most every
    /// [`metrics_interval_ms`](crate::Config::metrics_interval_ms), changes of role, term and leader at once. Works on a
    /// node that has stopped too: [`fatal`](crate::RaftMetrics::fatal) then says why. What to look at stands in
    /// [the guide](crate::guide::observing).
    pub fn metrics(&self) -> MetricsWatch<C> {
        MetricsWatch::new(self.shared().watch.clone())
    }

    /// Every start and stop of this node's leadership with its term, in order and without loss, also where the metrics skip
    /// it; and when it is [ready](crate::LeadershipEvent::Ready).
    pub fn leadership(&self) -> LeadershipWatch {
        LeadershipWatch::new(self.shared().leadership.clone())
    }

    /// Waits for conditions of the metrics, each for at most `timeout`.
    pub fn wait(&self, timeout: std::time::Duration) -> Wait<C> {
        Wait::new(self.metrics(), self.shared().clock.clone(), timeout)
    }

    /// Stops the node and answers every waiter. Returns when all its tasks have ended and its stores and network are
    /// dropped, so that the stores can be opened again at once. Calls in progress and later ones return
    /// [`Fatal::Stopped`], writes that were appended and not answered
    /// [`WriteError::Unknown`](crate::WriteError::Unknown).
    ///
    /// A call of the storage or the state machine that is under way is waited for, not interrupted. If this node leads,
    /// transfer leadership first: the others need not wait for an election then.
    pub async fn shutdown(&self) {
        self.shared().stop(Fatal::Stopped);
        self.shared().tasks.ended().await;
    }

    /// A handle that does not keep the node alive. For a network that reports unreachable peers, say, and that the node
    /// itself owns.
    pub fn downgrade(&self) -> WeakRaft<C> {
        WeakRaft { node: Arc::downgrade(&self.node) }
    }
}

/// A [`Raft`] that does not keep the node alive.
pub struct WeakRaft<C: TypeConfig> {
    node: Weak<NodeHandle<C>>,
}

impl<C: TypeConfig> WeakRaft<C> {
    /// A handle, while there still is one.
    pub fn upgrade(&self) -> Option<Raft<C>> {
        self.node.upgrade().map(|node| Raft { node })
    }
}

impl<C: TypeConfig> Clone for Raft<C> {
    fn clone(&self) -> Self {
        Self { node: self.node.clone() }
    }
}

impl<C: TypeConfig> Clone for WeakRaft<C> {
    fn clone(&self) -> Self {
        Self { node: self.node.clone() }
    }
}

impl<C: TypeConfig> fmt::Debug for Raft<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raft").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl<C: TypeConfig> fmt::Debug for WeakRaft<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakRaft").finish_non_exhaustive()
    }
}
