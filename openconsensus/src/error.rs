//! Errors: one flat enum per call, a variant per different reaction of the caller.

mod change;

use anyerror::AnyError;

use crate::entry::{Index, LogId};
use crate::type_config::TypeConfig;

pub use change::{ChangeMembershipError, TransferError};

/// The node has stopped for good. Every later call returns the same value; only a restart of the node helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fatal {
    /// The node was shut down, or its last handle was dropped.
    #[error("the node has been shut down")]
    Stopped,
    /// The log storage failed. What it was doing may or may not have reached the disk.
    #[error("log storage failed: {0}")]
    LogStorage(AnyError),
    /// The state machine failed.
    #[error("state machine failed: {0}")]
    StateMachine(AnyError),
    /// A loop of the node panicked: a bug, here or in a trait's implementation.
    #[error("the node panicked: {0}")]
    Panicked(String),
}

/// A leader and how to reach it, as far as this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderHint<C: TypeConfig> {
    /// The leader.
    pub id: C::NodeId,
    /// How to reach it; `None` when the membership known here does not name it.
    pub node: Option<C::Node>,
}

/// `Display` of a hint in error messages.
fn hint<C: TypeConfig>(leader: &Option<LeaderHint<C>>) -> String {
    match leader {
        Some(leader) => format!("the leader is node {}", leader.id),
        None => "no leader is known".into(),
    }
}

/// Why [`Raft::start`](crate::Raft::start) refused.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A value of the configuration is wrong. Correct it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log storage could not be read.
    #[error("log storage failed: {0}")]
    LogStorage(AnyError),
    /// The state machine could not be read.
    #[error("state machine failed: {0}")]
    StateMachine(AnyError),
    /// What was read contradicts itself: entries or state are missing. The node must not vote with such a store;
    /// remove it from the cluster and add it again with an empty one.
    #[error("the stored state is damaged: {0}")]
    Damaged(String),
}

/// A value of the configuration is outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}: {reason}; allowed: {allowed}")]
pub struct ConfigError {
    /// The field of [`Config`](crate::Config).
    pub name: &'static str,
    /// What it was set to.
    pub value: u64,
    /// Why that cannot work.
    pub reason: &'static str,
    /// What would be right.
    pub allowed: String,
}

/// What became of a write that did not return a response. Only `Unknown` leaves open whether it happened or will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError<C: TypeConfig> {
    /// Never appended here, because this node does not lead. Safe to retry on `leader`.
    #[error("not the leader; {}", hint(leader))]
    NotLeader {
        /// Where to retry.
        leader: Option<LeaderHint<C>>,
    },
    /// Never appended: the command is larger than the limit. Send it in parts, or raise the limit.
    #[error("the command has {bytes} bytes, the limit command_bytes_max is {limit}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// [`Config::command_bytes_max`](crate::Config::command_bytes_max).
        limit: u64,
    },
    /// Never appended: as much is admitted as may be, and the caller did not want to wait. Try again when writes have been
    /// answered, or slow down. Only what was asked not to wait is told so.
    #[error(
        "busy: with this write {bytes} bytes would be admitted, the limit uncommitted_bytes_max is {limit}"
    )]
    Busy {
        /// The bytes that are admitted and not answered, and those of this call on top. If others wait for their turn
        /// this may be less than the limit.
        bytes: u64,
        /// [`Config::uncommitted_bytes_max`](crate::Config::uncommitted_bytes_max).
        limit: u64,
    },
    /// Never appended: leadership is being transferred, and the caller did not want to wait for the end of that. Try
    /// again in a moment: here, or where `NotLeader` then points to. Only what was asked not to wait is told so.
    #[error("leadership is being transferred")]
    Transferring,
    /// Appended, then superseded by another committed entry: certainly not committed and never will be. Safe to retry.
    #[error("superseded by an entry of another leader; certainly not committed")]
    Dropped,
    /// Appended, and it may be committed now or later. Only a read of the state can tell; a blind retry may apply it
    /// twice.
    #[error("outcome unknown: entry {log_id} may or may not be committed")]
    Unknown {
        /// The entry that would carry it (for many commands, the first whose outcome is open).
        log_id: LogId,
    },
    /// The node has stopped. The write was not appended.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// Why a linearizable read is not allowed now. Nothing has happened; reads are always safe to retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError<C: TypeConfig> {
    /// No leader has confirmed the read within `read_timeout_ms`: there is none, or it cannot reach a quorum, or this
    /// node cannot reach it.
    #[error("no leader confirmed the read in time; {}", hint(leader))]
    NotConfirmed {
        /// The leader this node knows of.
        leader: Option<LeaderHint<C>>,
    },
    /// A leader has confirmed the read, but this node has not applied as much within another `read_timeout_ms`: its state
    /// machine is slow, or it has been removed from the cluster. Read at another node.
    #[error("this node has applied entries up to {applied}, the read needs {needed}; read at another node")]
    Behind {
        /// The index that must be applied first.
        needed: Index,
        /// What is applied.
        applied: Index,
    },
    /// The node has stopped.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// Why a cluster was not initialized. But for `Fatal`, nothing has been written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InitializeError<C: TypeConfig> {
    /// The node already has a log: it belongs to a cluster.
    #[error("already initialized: the log reaches {last}, term {}; it belongs to a cluster, add nodes to that", last.term)]
    AlreadyInitialized {
        /// Its last entry.
        last: LogId,
    },
    /// The membership names no voter.
    #[error("the membership is empty: name at least one voter, this node among them")]
    Empty,
    /// The membership does not name the node that is asked.
    #[error("node {id} is not in the membership: initialize on one of its voters")]
    NotAMember {
        /// The node that was asked.
        id: C::NodeId,
    },
    /// The node has stopped. Whether the membership was written is open: start it again and ask again.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// Why a node has not forgotten its leader.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetLeaderError {
    /// This node leads itself. [`transfer_leadership`](crate::Raft::transfer_leadership) ends that gently.
    #[error("this node leads; transfer leadership instead")]
    Leading,
    /// Leases are configured: the leader relies on not being forgotten before they have run out.
    #[error("leases are configured, and a leader relies on not being forgotten before they run out")]
    Leases,
    /// The node has stopped.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// Why there is no new snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Nothing has been applied yet.
    #[error("nothing has been applied yet")]
    Empty,
    /// A snapshot from a leader is being installed. Retry later.
    #[error("a snapshot is being installed")]
    Installing,
    /// The state machine could not build it, because the disk is full, say. The one before it is still there and the node
    /// goes on. Remedy the cause and retry; the node retries by itself too, if it builds snapshots by itself.
    #[error("the snapshot could not be built: {0}")]
    Failed(AnyError),
    /// The node has stopped.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// Why the log was not purged. Nothing has happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PurgeError {
    /// What is purged must be in the snapshot, and that goes up to `snapshot` only. Purge less, or build another
    /// [`snapshot`](crate::Raft::snapshot) first.
    #[error("entry {upto} is not in the latest snapshot, which ends with {snapshot}")]
    NotInSnapshot {
        /// What was asked for.
        upto: Index,
        /// The last entry of the latest snapshot, [`LogId::ZERO`] when there is none: the log can be purged so far.
        snapshot: LogId,
    },
    /// A snapshot that ends at `snapshot` is being sent to a peer, which will need the entries that follow. Purge no more
    /// than that, or retry when the peer has caught up.
    #[error("a snapshot up to entry {snapshot} is being sent, so that entries up to {upto} are still needed")]
    Sending {
        /// What was asked for.
        upto: Index,
        /// The log can be purged so far.
        snapshot: Index,
    },
    /// A snapshot from a leader is being installed. It purges the log itself.
    #[error("a snapshot is being installed")]
    Installing,
    /// The node has stopped.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// A condition did not come true before the deadline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// Too slow. `last` describes the metrics at the deadline.
    #[error("still waiting for {condition} after {waited_ms} ms; last seen: {last}")]
    TimedOut {
        /// What was waited for.
        condition: String,
        /// How long.
        waited_ms: u64,
        /// The metrics then.
        last: String,
    },
    /// The node has stopped.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}
