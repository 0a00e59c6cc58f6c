//! The handle of a node.

mod admin;
mod receive;
mod wait;
mod watch;

use std::fmt;
use std::sync::{Arc, Weak};

use futures::channel::oneshot;

use crate::config::Config;
use crate::driver::{self, Item, ManyResponses, Permit, Reader, Shared, Waiter};
use crate::entry::{Entry, Index, LogId};
use crate::error::{Fatal, ReadError, StartError, WriteError};
use crate::network::RaftNetwork;
use crate::runtime::AsyncRuntime;
use crate::storage::{RaftLogStorage, RaftStateMachine};
use crate::type_config::TypeConfig;

pub use wait::Wait;
pub use watch::MetricsWatch;
pub(crate) use watch::Watch;

/// A node of a cluster: the handle through which an application writes, reads, changes the membership and watches, and
/// through which a network hands in what has arrived.
///
/// It is cheap to clone. Dropping the last clone stops the node, as [`shutdown`](Self::shutdown) does, but without
/// waiting for its end.
///
/// Every method may be called from any task at any time. A future that is dropped before it resolves gives up the
/// answer, not what was asked for: a write may still be carried out.
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

    fn shared(&self) -> &Arc<Shared<C>> {
        &self.node.shared
    }

    /// The name of this node.
    pub fn id(&self) -> C::NodeId {
        self.shared().id
    }

    /// Replicates a command and returns what applying it on this node has returned.
    ///
    /// Waits while [`uncommitted_bytes_max`](Config::uncommitted_bytes_max) bytes of commands are admitted and not
    /// answered; who comes first is admitted first.
    ///
    /// # Errors
    ///
    /// Every variant says what became of the command and what to do. Only [`WriteError::Unknown`] leaves open whether
    /// it was carried out.
    pub async fn write(&self, command: C::Command) -> Result<C::Response, WriteError<C>> {
        self.check_size(&command)?;
        let permit = self.admit(admitted_bytes::<C>(&command)).await?;
        let (reply, response) = oneshot::channel();
        let waiter = Waiter::One { reply, permit };
        self.push_timed(Item::Write { command, waiter })?;
        response.await.unwrap_or(Err(WriteError::Unknown { log_id: UNKNOWN_ENTRY }))
    }

    /// Replicates commands in their order and returns their responses.
    ///
    /// They are not a transaction: other writes may come between them, and after a failure some may have been carried
    /// out. If that is possible, the error is [`WriteError::Unknown`] with the first entry whose outcome is open, also
    /// where a later command was certainly dropped. Any other error means that none was carried out.
    ///
    /// More than fit into [`uncommitted_bytes_max`](Config::uncommitted_bytes_max) are written in consecutive parts,
    /// each when the one before it is answered.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write). A command that is too large refuses all of them before any is written.
    pub async fn write_many(&self, commands: Vec<C::Command>) -> Result<Vec<C::Response>, WriteError<C>> {
        for command in &commands {
            self.check_size(command)?;
        }
        let mut responses = Vec::with_capacity(commands.len());
        let mut first = None;
        let mut commands = commands.into_iter().peekable();
        while commands.peek().is_some() {
            let (part, bytes) = self.next_part(&mut commands);
            match self.write_part(part, bytes).await {
                Ok(answered) => {
                    first.get_or_insert(answered.first);
                    responses.extend(answered.responses);
                }
                Err(unknown @ WriteError::Unknown { .. }) => return Err(unknown),
                // The parts before this one were carried out: a retry of the whole would carry them out twice.
                Err(
                    error @ (WriteError::NotLeader { .. }
                    | WriteError::TooLarge { .. }
                    | WriteError::Dropped
                    | WriteError::Fatal(_)),
                ) => return Err(first.map_or(error, |log_id| WriteError::Unknown { log_id })),
            }
        }
        Ok(responses)
    }

    /// As many commands as may be admitted at once, at least one, and their bytes.
    fn next_part(
        &self,
        commands: &mut std::iter::Peekable<std::vec::IntoIter<C::Command>>,
    ) -> (Vec<C::Command>, u64) {
        let bytes_max = self.shared().writes.bytes_max();
        let mut part = Vec::with_capacity(commands.len());
        let mut bytes = 0_u64;
        while let Some(command) = commands.next_if(|command| {
            part.is_empty() || bytes.saturating_add(admitted_bytes::<C>(command)) <= bytes_max
        }) {
            bytes = bytes.saturating_add(admitted_bytes::<C>(&command));
            part.push(command);
        }
        (part, bytes)
    }

    async fn write_part(
        &self,
        commands: Vec<C::Command>,
        bytes: u64,
    ) -> Result<ManyResponses<C>, WriteError<C>> {
        let permit = self.admit(bytes).await?;
        let (reply, responses) = oneshot::channel();
        let waiter = Waiter::many(commands.len(), reply, permit);
        self.push_timed(Item::WriteMany { commands, waiter })?;
        responses.await.unwrap_or(Err(WriteError::Unknown { log_id: UNKNOWN_ENTRY }))
    }

    fn check_size(&self, command: &C::Command) -> Result<(), WriteError<C>> {
        let (bytes, limit) = (C::command_bytes(command), self.shared().config.command_bytes_max);
        if bytes <= limit { Ok(()) } else { Err(WriteError::TooLarge { bytes, limit }) }
    }

    async fn admit(&self, bytes: u64) -> Result<Permit, Fatal> {
        self.shared().admit(bytes).await.ok_or_else(|| self.shared().reason())
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
    /// # Errors
    ///
    /// [`ReadError::NotConfirmed`] when no leader has confirmed it within
    /// [`read_timeout_ms`](Config::read_timeout_ms), [`ReadError::Behind`] when this node cannot follow. Reads are always
    /// safe to retry.
    pub async fn read(&self) -> Result<Index, ReadError<C>> {
        let (reply, index) = oneshot::channel();
        self.push_timed(Item::Read { reader: Reader(reply) })?;
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
        let (reply, index) = oneshot::channel();
        self.push(Item::ReadByLease { reader: Reader(reply) })?;
        index.await.unwrap_or_else(|_| Err(self.shared().reason().into()))
    }

    /// The latest metrics, and a way to wait for later ones.
    pub fn metrics(&self) -> MetricsWatch<C> {
        MetricsWatch::new(self.shared().watch.clone())
    }

    /// Waits for conditions of the metrics, each for at most `timeout`.
    pub fn wait(&self, timeout: std::time::Duration) -> Wait<C> {
        Wait::new(self.metrics(), self.shared().clock.clone(), timeout)
    }

    /// Stops the node and answers every waiter. Returns when all its tasks have ended and its stores and network are
    /// dropped, so that the stores can be opened again at once. Calls in progress and later ones return
    /// [`Fatal::Stopped`], writes that were appended and not answered [`WriteError::Unknown`].
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

/// What a command counts towards the limit of admitted bytes: an entry costs memory even if its command is empty.
fn admitted_bytes<C: TypeConfig>(command: &C::Command) -> u64 {
    C::command_bytes(command).saturating_add(Entry::<C>::OVERHEAD_BYTES)
}

/// The outcome of a write whose waiter was lost with the task that knew it: after a panic, or when the executor was
/// shut down. Which entry it has, if it has one, nobody can tell.
const UNKNOWN_ENTRY: LogId = LogId::ZERO;

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
