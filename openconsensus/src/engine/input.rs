//! Everything that can happen to an engine.

use std::collections::BTreeMap;

use anyerror::AnyError;

use crate::engine::effects::{LogReadId, SnapshotId, WriteId};
use crate::entries::Entries;
use crate::entry::{Index, LogId};
use crate::membership::MembershipChange;
use crate::message::{InstallSnapshot, InstallSnapshotResponse, Message, SnapshotMeta};
use crate::type_config::TypeConfig;

/// Names a request of a client; the driver chooses it, and the [`Reply`](super::Reply) repeats it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Everything that can happen. [`etcd`](super::etcd) says what the same is called in etcd/raft.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input<C: TypeConfig> {
    /// Time has passed: look at the deadlines. Coming too early does no harm.
    Timeout,
    /// A message of a peer, at any time and as often as the network likes. One that makes no sense, with numbers that
    /// cannot be or of a node that nobody knows, is refused or ignored. Only where peers contradict each other so that
    /// one of them must have broken the algorithm (two lead in one term, or a snapshot and the entries of one leader
    /// differ) the engine panics with a text that says so: whatever it did then, data could be lost.
    Receive {
        /// Its sender.
        from: C::NodeId,
        /// What it says.
        message: Message<C>,
    },

    /// Clients want commands to be appended, all in one piece. Answered by `Appended`, `NotLeader` or `Busy`.
    Write {
        /// Names the request.
        request: RequestId,
        /// The commands, at least one.
        commands: Vec<C::Command>,
    },
    /// A client wants to read. Answered by `ReadReady` or `ReadFailed`.
    Read {
        /// Names the request.
        request: RequestId,
    },
    /// Like `Read`, but a leader with a valid lease answers at once ([`Config::lease_clock_drift_ppm_max`]). The request
    /// must have come in before the time of the step.
    ///
    /// [`Config::lease_clock_drift_ppm_max`]: crate::Config::lease_clock_drift_ppm_max
    ReadByLease {
        /// Names the request.
        request: RequestId,
    },
    /// Begin a cluster with these voters. Answered by `Initialized` or `InitializeFailed`.
    Initialize {
        /// Names the request.
        request: RequestId,
        /// The voters.
        nodes: BTreeMap<C::NodeId, C::Node>,
    },
    /// Change the membership. Answered by `MembershipChanged` or `ChangeMembershipFailed`.
    ChangeMembership {
        /// Names the request.
        request: RequestId,
        /// What to change.
        change: MembershipChange<C>,
        /// Refuse unless the membership in force came with this entry.
        expected: Option<LogId>,
    },
    /// Transfer leadership, to the most up-to-date voter if no target is named. Answered by `Transferred` or
    /// `TransferFailed`.
    TransferLeadership {
        /// Names the request.
        request: RequestId,
        /// Who is to lead.
        target: Option<C::NodeId>,
    },
    /// Start an election now, whoever leads. Nothing on a leader and on a node that is not a voter, nor with leases
    /// while a promise to a leader binds this node: that is counted in
    /// [`campaigns_refused`](crate::Counters::campaigns_refused).
    Campaign,
    /// The clock has stopped for a while, or has jumped: more time has passed than the times of the steps tell. Ends the
    /// lease of a leader; nothing without leases. Comes before any other input of that time. A sixteenth of
    /// [`election_timeout_ms_min`](crate::Config::election_timeout_ms_min) in all, within twice that timeout, may go
    /// unnoticed.
    ClockJumped,
    /// Start no elections on its own from now on, or start them again. Votes, campaigns that are asked for and transfers
    /// are not concerned.
    PauseElections {
        /// Whether to pause.
        paused: bool,
    },
    /// Send no periodic heartbeats while leading from now on, or send them again. Reads still have rounds of their own.
    PauseHeartbeats {
        /// Whether to pause.
        paused: bool,
    },
    /// Forget who leads, so that another may be voted for at once. Answered by `LeaderForgotten` or
    /// `ForgetLeaderFailed`.
    ForgetLeader {
        /// Names the request.
        request: RequestId,
    },
    /// The network cannot reach this peer.
    Unreachable {
        /// The peer.
        peer: C::NodeId,
    },

    /// This write and all before it are durable.
    Persisted {
        /// The write.
        write: WriteId,
    },
    /// A write failed. The engine gives up leadership and never speaks again.
    StorageFailed,
    /// Entries that were asked for by [`LogRead`](super::LogRead) have been read.
    LogRead {
        /// Names the read.
        read: LogReadId,
        /// Entries from the start of the range that was asked for; may be fewer, or none.
        entries: Entries<C>,
    },
    /// The state machine has applied everything up to this entry.
    Applied {
        /// The entry.
        last: LogId,
    },

    /// Build a snapshot now, unless nothing has been applied since the last one. Answered by `SnapshotBuilt` or
    /// `SnapshotFailed`.
    BuildSnapshot {
        /// Names the request.
        request: RequestId,
    },
    /// The snapshot that [`SnapshotEffect::Build`](super::SnapshotEffect::Build) asked for has been built.
    SnapshotBuilt {
        /// Names the effect.
        id: SnapshotId,
        /// What it covers.
        meta: SnapshotMeta<C>,
    },
    /// It could not be built. The one before it is still there.
    SnapshotBuildFailed {
        /// Names the effect.
        id: SnapshotId,
        /// Why.
        error: AnyError,
    },
    /// The current snapshot, which [`SnapshotEffect::Send`](super::SnapshotEffect::Send) wanted to be sent, cannot be
    /// read here, wholly or in part. It ends the transfer, if that has begun.
    SnapshotUnreadable {
        /// Names the effect.
        id: SnapshotId,
        /// The last entry of the snapshot that was read; `None` when not even that is known.
        last: Option<LogId>,
    },
    /// A transfer that [`SnapshotEffect::Send`](super::SnapshotEffect::Send) asked for has ended.
    SnapshotSent {
        /// Names the effect.
        id: SnapshotId,
        /// What the peer said; `None` when it did not arrive or the deadline passed.
        response: Option<InstallSnapshotResponse>,
    },
    /// Purge the log up to this entry, whatever is kept for peers that are late. Answered by `LogPurged`, when that is
    /// durable, or `PurgeFailed`.
    PurgeLog {
        /// Names the request.
        request: RequestId,
        /// The last entry to be purged.
        upto: Index,
    },
    /// A leader begins to send a snapshot. Answered by `InstallFinished`, sooner or later.
    InstallSnapshot {
        /// Names the request.
        request: RequestId,
        /// What it covers, and who sends it.
        snapshot: InstallSnapshot<C>,
    },
    /// An installation that [`SnapshotEffect::Install`](super::SnapshotEffect::Install) asked for has ended.
    SnapshotInstalled {
        /// Names the effect.
        id: SnapshotId,
        /// Whether the state machine has the state of the snapshot now. If not, its state is as before.
        installed: bool,
    },
}
