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

/// Why a membership change was refused, or what became of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeMembershipError<C: TypeConfig> {
    /// Not begun, because this node does not lead. Retry on `leader`.
    #[error(
        "only the leader changes the membership, and this node does not lead; {}; ask there",
        hint(leader)
    )]
    NotLeader {
        /// Where to retry.
        leader: Option<LeaderHint<C>>,
    },
    /// Not begun: another change is not finished yet (one change at a time, Raft thesis 4.1). Retry later.
    #[error(
        "the change of membership at {pending} is not finished yet; one change at a time, retry when it is"
    )]
    InProgress {
        /// The membership entry under way.
        pending: LogId,
    },
    /// Not begun: the leader has not committed an entry of its own term yet, and might not know the latest membership.
    /// Retry in a moment.
    #[error(
        "a leader must commit an entry of its own term before it changes the membership; retry in a moment"
    )]
    NotReady,
    /// Not begun: leadership is being transferred. Retry on the next leader.
    #[error("nothing is changed while leadership is being transferred; retry on the next leader")]
    Transferring,
    /// Not begun: the membership is not the one that the caller expected.
    #[error(
        "the membership in force is the one of entry {actual}, and the change was to be made only to that of {expected}; \
         read it again and decide anew"
    )]
    Mismatch {
        /// What the caller gave.
        expected: LogId,
        /// The entry of the membership in force.
        actual: LogId,
    },
    /// Not begun: a node that is named is not a member.
    #[error(
        "node {id} is not a member; members are {members:?}; name one of them, or add it as a learner first"
    )]
    UnknownNode {
        /// The node.
        id: C::NodeId,
        /// Who is a member.
        members: BTreeSet<C::NodeId>,
    },
    /// Not begun: a node that is to be added is a member already.
    #[error(
        "node {id} is a member already; only nodes that are none can be added, update its address instead"
    )]
    AlreadyMember {
        /// The node.
        id: C::NodeId,
    },
    /// Not begun: a node is named that the change does not fit.
    #[error("node {id} is {actual}; this change needs {needed}")]
    WrongRole {
        /// The node.
        id: C::NodeId,
        /// What it is.
        actual: &'static str,
        /// What it would have to be.
        needed: &'static str,
    },
    /// Not begun: a learner is too far behind to vote (thesis 4.2.1). Wait until it has caught up.
    #[error(
        "learner {id} is {behind} entries behind, at most {limit} are allowed; wait until it has caught up"
    )]
    NotCaughtUp {
        /// The learner.
        id: C::NodeId,
        /// How many entries it lacks.
        behind: u64,
        /// [`Config::promotion_lag_entries_max`](crate::Config::promotion_lag_entries_max).
        limit: u64,
    },
    /// Not begun: a learner that is to vote does not answer. Bring it up first; a voter that is not there would stop the
    /// cluster from committing.
    #[error("learner {id} does not answer; a node must be up before it can vote")]
    NotActive {
        /// The learner.
        id: C::NodeId,
    },
    /// Not begun: nobody would be left to vote.
    #[error("the change would leave no voter; keep at least one")]
    NoVoters,
    /// Not begun: a voter is named without the way to reach it.
    #[error("node {id} is to vote, but `nodes` does not say how it is reached; name every voter there")]
    NoNode {
        /// The voter.
        id: C::NodeId,
    },
    /// Not begun: so many of the new voters have not answered for twice the longest election timeout that the rest are no
    /// majority, and the cluster could commit nothing any more. Bring them up, or remove them first: that is never refused.
    #[error(
        "of the voters {voters:?} that there would be, {silent:?} do not answer, and the rest are no majority; bring them \
         up, or remove them first"
    )]
    QuorumSilent {
        /// Who of them does not answer.
        silent: BTreeSet<C::NodeId>,
        /// Who would vote.
        voters: BTreeSet<C::NodeId>,
    },
    /// Not begun: nothing would change.
    #[error("the change would change nothing; the membership is like that already")]
    Empty,
    /// Begun, but this node lost leadership before the end. The next leader finishes it or it is undone: look at the
    /// membership.
    #[error(
        "outcome unknown: the membership at {log_id} may or may not be committed; look at what the next leader has"
    )]
    Unknown {
        /// The membership entry.
        log_id: LogId,
    },
    /// Done, but the learner that was added has not caught up in the time given. It goes on catching up.
    #[error(
        "learner {id} was added and has {matched} of {last} entries; it is still catching up, wait longer"
    )]
    StillCatchingUp {
        /// The learner.
        id: C::NodeId,
        /// How far it is known to have the log.
        matched: Index,
        /// Where the log ended.
        last: Index,
    },
    /// The node has stopped. If the change was begun, its outcome is as open as with `Unknown`.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// What became of a transfer of leadership that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError<C: TypeConfig> {
    /// Not begun: this node does not lead, and has heard of no leader that it could have asked. Retry later, or on
    /// another node.
    #[error("not begun: this node does not lead and found no leader to ask; {}", hint(leader))]
    NotLeader {
        /// Where to retry.
        leader: Option<LeaderHint<C>>,
    },
    /// Not begun: another transfer is under way (one at a time). Wait for its end.
    #[error(
        "leadership is being transferred to node {target} already; one transfer at a time, retry when it has ended"
    )]
    InProgress {
        /// Its target.
        target: C::NodeId,
    },
    /// Not begun: the target is not a voter, or will not be one when the change of membership that is under way is done.
    /// Name one of the voters.
    #[error(
        "node {target} does not vote, or is about to lose its vote; only voters can lead, name one of {voters:?}"
    )]
    NotAVoter {
        /// The target.
        target: C::NodeId,
        /// Who is one.
        voters: BTreeSet<C::NodeId>,
    },
    /// Not begun: there is no other voter. Add one first.
    #[error("there is no other voter that could lead; add a learner and promote it first")]
    NoTarget,
    /// Not begun: the target has not answered the leader for the longest election timeout. Bring it up, or name another.
    #[error("node {target} has not answered for an election timeout; bring it up or name another voter")]
    NotActive {
        /// The target.
        target: C::NodeId,
    },
    /// Not begun: the target needs a snapshot, or lacks so many entries that bringing it up to date could take longer
    /// than writes should wait. Retry when it has caught up, or name another.
    #[error(
        "node {target} is too far behind: it needs a snapshot or lacks {behind} unsent entries, at most {limit} are \
         allowed; wait until it has caught up or name another voter"
    )]
    TooFarBehind {
        /// The target.
        target: C::NodeId,
        /// How many entries would have to be sent to it, those in a snapshot not counted.
        behind: u64,
        /// [`Config::promotion_lag_entries_max`](crate::Config::promotion_lag_entries_max).
        limit: u64,
    },
    /// The target did not take over in `transfer_timeout_ms`. The old leader leads on.
    #[error(
        "node {target} did not take over in time, so the old leader leads on; retry, or name another voter"
    )]
    TimedOut {
        /// The target.
        target: C::NodeId,
    },
    /// The target was told to take over and cannot: its disk hangs, or it is installing a snapshot. The old leader leads
    /// on.
    #[error(
        "node {target} cannot campaign now, because its disk hangs or it is installing a snapshot, so the old leader \
         leads on; name another voter"
    )]
    Declined {
        /// The target.
        target: C::NodeId,
    },
    /// Leadership ended, and another node than the target took over, or none in time.
    #[error(
        "leadership ended, but node {target} did not take over; {}; ask there if it is still wanted",
        hint(leader)
    )]
    Failed {
        /// The target.
        target: C::NodeId,
        /// Who leads now.
        leader: Option<LeaderHint<C>>,
    },
    /// Another node was asked as the leader, and has not said in time what became of it. Leadership may have been handed
    /// over, or still be: look who leads.
    #[error("outcome unknown: the leader that was asked has not answered in time; {}", hint(leader))]
    NotAnswered {
        /// Who leads, as far as this node knows.
        leader: Option<LeaderHint<C>>,
    },
    /// The node has stopped. Whether leadership was handed over is to be seen from the others.
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
