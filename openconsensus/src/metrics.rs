//! `RaftMetrics`: what an operator can see of a node.

use std::collections::BTreeMap;
use std::fmt;

use crate::entry::{Index, LogId, Term};
use crate::error::Fatal;
use crate::membership::MembershipAt;
use crate::type_config::TypeConfig;

/// What a node is doing at present. Whether it is a learner follows from the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RoleName {
    /// Takes entries from a leader and votes.
    Follower,
    /// Asks whether it could win an election.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Takes writes and replicates them.
    Leader,
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Follower => "follower",
            Self::PreCandidate => "pre-candidate",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
        })
    }
}

/// How a leader sends to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ProgressName {
    /// One append at a time, to find out where the logs match.
    Probe,
    /// Many appends in flight.
    Replicate,
    /// Nothing but a snapshot.
    Snapshot,
}

impl fmt::Display for ProgressName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Probe => "probe",
            Self::Replicate => "replicate",
            Self::Snapshot => "snapshot",
        })
    }
}

/// What a leader knows of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PeerMetrics {
    /// How it is sent to.
    pub progress: ProgressName,
    /// Its log is known to equal the leader's, durably, up to here.
    pub matched: Index,
    /// The next entry to be sent.
    pub next: Index,
    /// Entries that it is not known to have.
    pub lag_entries: u64,
    /// Appends sent and not answered.
    pub inflight_appends: u64,
    /// Whether it has answered within the longest election timeout.
    pub active: bool,
}

/// How often something has happened since the node was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Counters {
    /// Elections that this node started, pre-votes not counted.
    pub elections_started: u64,
    /// Elections that this node won.
    pub elections_won: u64,
    /// Times that conflicting entries were cut from the log.
    pub truncations: u64,
    /// Snapshots built here.
    pub snapshots_built: u64,
    /// Snapshots received and installed.
    pub snapshots_installed: u64,
    /// Snapshots sent whole.
    pub snapshots_sent: u64,
    /// Commands admitted as the leader.
    pub commands_appended: u64,
    /// Reads of old entries from the log storage for peers that lag.
    pub catch_up_reads: u64,
}

/// A node as seen from outside, at one moment. Published by [`Raft::metrics`](crate::Raft::metrics).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(serialize = "C::NodeId: serde::Serialize, C::Node: serde::Serialize"))
)]
pub struct RaftMetrics<C: TypeConfig> {
    /// This node.
    pub id: C::NodeId,
    /// What it does.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// Its vote in `term`.
    pub voted_for: Option<C::NodeId>,
    /// Who leads in `term`, as far as it knows.
    pub leader: Option<C::NodeId>,
    /// The last entry of its log.
    pub last: LogId,
    /// Entries up to here are durable.
    pub stable: Index,
    /// Entries up to here are known to be committed.
    pub committed: Index,
    /// Entries up to here have been applied.
    pub applied: LogId,
    /// The entry that the latest snapshot ends with; [`LogId::ZERO`] when there is none.
    pub snapshot: LogId,
    /// The entry up to which the log has been purged.
    pub purged: LogId,
    /// The membership in force, be it committed or not.
    pub membership: MembershipAt<C>,
    /// The leader's view of its peers; empty on other nodes.
    pub peers: BTreeMap<C::NodeId, PeerMetrics>,
    /// Bytes of entries kept in memory.
    pub tail_bytes: u64,
    /// What has happened since start.
    pub counters: Counters,
    /// Why the node has stopped, if it has.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub fatal: Option<Fatal>,
}

impl<C: TypeConfig> RaftMetrics<C> {
    /// Whether this node votes in the membership in force.
    pub fn is_voter(&self) -> bool {
        self.membership.membership.is_voter(self.id)
    }
}
