//! What nodes say to each other.
//!
//! Messages are one-way and may be lost, repeated or reordered. An answer is a message too. Every message carries the
//! term of its sender, and whatever can arrive late carries the id of what it belongs to: a mismatch is dropped, never
//! interpreted.

use crate::entries::Entries;
use crate::entry::{Index, LogId, Term};
use crate::membership::MembershipAt;
use crate::type_config::TypeConfig;

/// One message. Its sender and receiver are known to the network that carries it.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "C::Command: serde::Serialize, C::NodeId: serde::Serialize, C::Node: serde::Serialize",
        deserialize = "C::Command: serde::Deserialize<'de>, C::NodeId: serde::Deserialize<'de>, \
                       C::Node: serde::Deserialize<'de>"
    ))
)]
pub struct Message<C: TypeConfig> {
    /// The current term of the sender, also in a pre-vote: there the term that it would campaign in is one higher.
    pub term: Term,
    /// What it says.
    pub body: Body<C>,
}

/// What a message says.
///
/// In the Raft paper the first two are RequestVote and its result, the next three AppendEntries and its result;
/// etcd/raft calls them MsgPreVote/MsgVote, MsgApp and MsgHeartbeat.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "C::Command: serde::Serialize, C::NodeId: serde::Serialize, C::Node: serde::Serialize",
        deserialize = "C::Command: serde::Deserialize<'de>, C::NodeId: serde::Deserialize<'de>, \
                       C::Node: serde::Deserialize<'de>"
    ))
)]
#[non_exhaustive]
pub enum Body<C: TypeConfig> {
    /// A candidate asks for a vote, or whether it would get one (Raft paper 5.2, thesis 9.6).
    VoteRequest {
        /// Pre-vote, vote, or vote in a transfer of leadership.
        kind: VoteKind,
        /// Which campaign of the sender this is; answers repeat it.
        campaign: u64,
        /// The last entry of the candidate's log.
        last: LogId,
    },
    /// The answer to a `VoteRequest`.
    VoteResponse {
        /// As in the request.
        kind: VoteKind,
        /// As in the request.
        campaign: u64,
        /// Whether the vote is given.
        granted: bool,
    },
    /// The leader's entries that follow `prev`; with no entries it asks whether `prev` matches.
    Append {
        /// The entry before the first one sent.
        prev: LogId,
        /// Consecutive entries from `prev.index + 1`.
        entries: Entries<C>,
        /// The leader's commit index.
        commit: Index,
    },
    /// The answer to an `Append`.
    AppendResponse {
        /// What became of it.
        result: AppendResult,
    },
    /// The leader lives. It claims nothing about the receiver's log.
    Heartbeat {
        /// Which round of heartbeats this is; answers repeat it. Confirms reads and leadership.
        round: u64,
        /// The last entry that the leader knows to be committed. A receiver that has this very entry has all before
        /// it too (Log Matching), so it may take the commit over; another cannot tell and leaves it.
        commit: LogId,
    },
    /// The answer to a `Heartbeat`.
    HeartbeatResponse {
        /// As in the heartbeat.
        round: u64,
        /// For so long after the heartbeat has arrived, by its own clock, the sender helps to elect nobody but the
        /// leader that it answers, unless that leader asks it to by `TimeoutNow`. 0 promises nothing.
        promise_ms: u64,
    },
    /// Tells the commit index when there is nothing else to send. Has no answer.
    Commit {
        /// As in `Heartbeat`.
        commit: LogId,
    },
    /// A follower asks the leader from which index on a linearizable read may be served (thesis 6.4, ReadIndex).
    ReadRequest {
        /// Names the request; the answer repeats it.
        read: u64,
        /// Whether the leader may answer by its lease. If it has none, it asks a quorum as for any other read.
        by_lease: bool,
    },
    /// The answer to a `ReadRequest`.
    ReadResponse {
        /// As in the request.
        read: u64,
        /// The read may be served once the state machine has applied this index.
        index: Index,
    },
    /// The leader asks the receiver to campaign at once (thesis 3.10, TimeoutNow).
    TimeoutNow,
    /// The target of a transfer cannot campaign now: it does not vote, its disk hangs, or a snapshot is being installed.
    TimeoutNowDeclined,
    /// A node that was asked to transfer leadership and does not lead asks its leader to.
    TransferRequest {
        /// Names the request; the answers repeat it.
        transfer: u64,
        /// Who is to lead; `None` leaves that to the leader.
        target: Option<C::NodeId>,
    },
    /// An answer to a `TransferRequest`. That a transfer has come to its end is told by the new leader's messages.
    TransferResponse {
        /// As in the request.
        transfer: u64,
        /// What becomes of it.
        answer: TransferAnswer<C>,
    },
    /// Tells a node that asks for votes that it is no member: a committed membership does not name it. It learns so if it
    /// was away when it was removed.
    Removed {
        /// As in the request for a vote that this answers: whoever campaigns no longer does not listen.
        campaign: u64,
        /// The entry of the membership.
        membership: LogId,
    },
}

/// What becomes of a transfer of leadership that the leader was asked for by another node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "C::NodeId: serde::Serialize",
        deserialize = "C::NodeId: serde::Deserialize<'de>"
    ))
)]
pub enum TransferAnswer<C: TypeConfig> {
    /// It is under way.
    Begun {
        /// To whom.
        target: C::NodeId,
    },
    /// There is nothing to do: the node that was named leads.
    Leads {
        /// The node.
        leader: C::NodeId,
    },
    /// It was not begun, or it has failed and the leader leads on.
    Refused(TransferRefusal<C>),
}

/// Why a leader does not hand over its leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "C::NodeId: serde::Serialize",
        deserialize = "C::NodeId: serde::Deserialize<'de>"
    ))
)]
pub enum TransferRefusal<C: TypeConfig> {
    /// Another transfer is under way.
    InProgress {
        /// Its target.
        target: C::NodeId,
    },
    /// The target does not vote, or will not when the change that is under way is done.
    NotAVoter {
        /// The target.
        target: C::NodeId,
    },
    /// There is no other voter.
    NoTarget,
    /// The target has not answered for the longest election timeout.
    NotActive {
        /// The target.
        target: C::NodeId,
    },
    /// The target would have to be sent so much first that it would take too long.
    TooFarBehind {
        /// The target.
        target: C::NodeId,
        /// How many entries would have to be sent, a snapshot not counted.
        behind: u64,
        /// How many may be.
        limit: u64,
    },
    /// The target did not take over in time.
    TimedOut {
        /// The target.
        target: C::NodeId,
    },
    /// The target cannot campaign.
    Declined {
        /// The target.
        target: C::NodeId,
    },
}

/// How a vote is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum VoteKind {
    /// Would you vote for me? Changes nothing at the voter (thesis 9.6).
    Pre,
    /// Vote for me. Refused while a leader is alive (thesis 4.2.3).
    Normal,
    /// Vote for me, your leader has asked me to take over: not refused because a leader is alive.
    Transfer,
}

/// What became of an `Append`. A conflict is an answer, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum AppendResult {
    /// The receiver's log equals the leader's up to `matched`, and is durable up to there.
    Matched {
        /// `prev.index` plus the number of entries, of exactly the message that is answered.
        matched: Index,
    },
    /// The receiver has no entry `prev`.
    Conflict {
        /// `prev.index` of the message that is answered.
        rejected: Index,
        /// The last entry of the receiver at or before `rejected` whose term is not above that of `prev`: nothing
        /// between it and `rejected` can match.
        hint: LogId,
    },
    /// The sender of the append is not the leader any more: the term of this message says so.
    StaleTerm,
}

/// No term and no index of any cluster comes so far: a thousand million of them in a second take almost three hundred
/// years. Whoever says so is broken, and counting on from there could overflow.
const NUMBER_MAX: u64 = u64::MAX / 2;

/// Whether some cluster can have come as far as all of these terms and indexes.
fn are_possible(numbers: &[u64]) -> bool {
    numbers.iter().all(|number| *number <= NUMBER_MAX)
}

fn is_possible(id: LogId) -> bool {
    are_possible(&[id.term, id.index])
}

impl<C: TypeConfig> Message<C> {
    /// Whether some cluster can have come as far as the terms and indexes in it.
    pub(crate) fn is_possible(&self) -> bool {
        let is_body_possible = match &self.body {
            Body::VoteRequest { last, .. } => is_possible(*last),
            Body::Append { prev, entries, commit } => {
                is_possible(*prev) && entries.last().is_none_or(is_possible) && are_possible(&[*commit])
            }
            Body::AppendResponse { result: AppendResult::Matched { matched } } => are_possible(&[*matched]),
            Body::AppendResponse { result: AppendResult::Conflict { rejected, hint } } => {
                are_possible(&[*rejected]) && is_possible(*hint)
            }
            Body::Heartbeat { commit, .. } | Body::Commit { commit } => is_possible(*commit),
            Body::ReadResponse { index, .. } => are_possible(&[*index]),
            Body::Removed { membership, .. } => is_possible(*membership),
            Body::VoteResponse { .. }
            | Body::AppendResponse { result: AppendResult::StaleTerm }
            | Body::HeartbeatResponse { .. }
            | Body::ReadRequest { .. }
            | Body::TimeoutNow
            | Body::TimeoutNowDeclined
            | Body::TransferRequest { .. }
            | Body::TransferResponse { .. } => true,
        };
        are_possible(&[self.term]) && is_body_possible
    }

    /// Whether it may be large, so that a transport lets heartbeats and votes pass it. Messages of one kind keep
    /// their order.
    pub fn is_bulk(&self) -> bool {
        matches!(self.body, Body::Append { .. })
    }

    /// What limits in bytes count for a message besides its entries.
    pub(crate) const OVERHEAD_BYTES: u64 = 64;

    /// The size that limits in bytes count this message with.
    pub fn size_bytes(&self) -> u64 {
        let entries = match &self.body {
            Body::Append { entries, .. } => entries.size_bytes(),
            _ => 0,
        };
        Self::OVERHEAD_BYTES + entries
    }
}

/// What a snapshot covers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "C::NodeId: serde::Serialize, C::Node: serde::Serialize",
        deserialize = "C::NodeId: serde::Deserialize<'de>, C::Node: serde::Deserialize<'de>"
    ))
)]
pub struct SnapshotMeta<C: TypeConfig> {
    /// The last entry whose effect it contains.
    pub last: LogId,
    /// The membership in force at `last`: never a later one.
    pub membership: MembershipAt<C>,
    /// How many bytes its stream has, where that is known.
    pub size_bytes: Option<u64>,
}

/// What a leader sends ahead of the bytes of a snapshot (InstallSnapshot of the Raft paper, section 7).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "C::NodeId: serde::Serialize, C::Node: serde::Serialize",
        deserialize = "C::NodeId: serde::Deserialize<'de>, C::Node: serde::Deserialize<'de>"
    ))
)]
pub struct InstallSnapshot<C: TypeConfig> {
    /// The term of the leader.
    pub term: Term,
    /// The leader.
    pub leader: C::NodeId,
    /// What the snapshot covers.
    pub meta: SnapshotMeta<C>,
}

impl<C: TypeConfig> InstallSnapshot<C> {
    /// Whether some cluster can have such a snapshot.
    pub(crate) fn is_possible(&self) -> bool {
        let (last, membership) = (self.meta.last, self.meta.membership.log_id);
        let is_in_order = last.term <= self.term && membership <= last && membership.index <= last.index;
        is_in_order && are_possible(&[self.term]) && is_possible(last)
    }
}

/// What became of a snapshot that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct InstallSnapshotResponse {
    /// The term of the receiver.
    pub term: Term,
    /// The receiver now has everything up to this index, durably. `None` when it refused or could not install.
    pub installed: Option<Index>,
}

impl InstallSnapshotResponse {
    /// Whether some cluster can have come as far as the term in it.
    pub(crate) fn is_possible(&self) -> bool {
        are_possible(&[self.term])
    }
}
