//! `RaftMetrics`: what an operator can see of a node.

mod counters;
mod histogram;
mod histograms;
mod queues;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::entry::{Index, LogId, Term};
use crate::error::Fatal;
use crate::membership::MembershipAt;
use crate::type_config::TypeConfig;

pub use counters::{Counters, MessageCounters};
pub use histogram::Histogram;
pub use histograms::{ApplyTimes, DiskTimes, Histograms, ReadTimes, WriteTimes};
pub use queues::QueueMetrics;

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

/// What a node is in its cluster, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Standing {
    /// The membership in force names it as a voter.
    Voter,
    /// The membership in force names it as a learner.
    Learner,
    /// It was a member and is none any more: a membership in its log does not name it, or a member has told it so. It does
    /// not campaign until it hears from a leader. Stop it, or add it again.
    Removed,
    /// No membership that it has seen since its start has named it: it is new, or it was removed before that start.
    Outsider,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Voter => "voter",
            Self::Learner => "learner",
            Self::Removed => "removed",
            Self::Outsider => "outsider",
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
    /// Bytes of the entries that it is not known to have. `None` when some of them are not in memory any more, so that
    /// their size is not known.
    pub lag_bytes: Option<u64>,
    /// Appends sent and not answered; limit `inflight_appends_max`.
    pub inflight_appends: u64,
    /// Bytes of the entries in them; limit `inflight_bytes_max`.
    pub inflight_bytes: u64,
    /// How long ago it is known to have heard this leader, in milliseconds: what it has answered was sent then. `None` when
    /// it has not answered this leader yet.
    pub contact_ms: Option<u64>,
    /// Whether it is known to have heard this leader within the longest election timeout.
    pub active: bool,
    /// Whether the network has reported it as unreachable, and it has not answered since.
    pub unreachable: bool,
    /// How far apart what is sent to it in vain is at present, see
    /// [`unreachable_backoff_ms_max`](crate::Config::unreachable_backoff_ms_max). 0 for a peer in normal service.
    pub backoff_ms: u64,
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
    /// Its size, where that is known: after a start it is not, until the next one.
    pub snapshot_bytes: Option<u64>,
    /// How long ago it was built or installed, when these metrics were published; after a start, how long ago that was.
    /// `None` without a snapshot.
    pub snapshot_age_ms: Option<u64>,
    /// Whether a snapshot is being built.
    pub is_building_snapshot: bool,
    /// Whether the snapshot of a leader is being installed.
    pub is_installing_snapshot: bool,
    /// The entry up to which the log has been purged.
    pub purged: LogId,
    /// About how many bytes the entries of the log have, those from before the start of the node not counted.
    pub log_bytes: u64,
    /// The part of `log_bytes` that is behind the latest snapshot.
    pub log_bytes_since_snapshot: u64,
    /// The membership in force, be it committed or not.
    pub membership: MembershipAt<C>,
    /// What this node is in that membership.
    pub standing: Standing,
    /// To whom this node, which leads, is handing over its leadership. Writes wait meanwhile.
    pub transfer_to: Option<C::NodeId>,
    /// The leader's view of its peers; empty on other nodes.
    pub peers: BTreeMap<C::NodeId, PeerMetrics>,
    /// On a leader, how long ago the latest moment is by which a quorum, this node among it, was heard of, in
    /// milliseconds: 0 for a leader that is its own quorum. Before a quorum has answered it counts from the election.
    /// `None` on other nodes. More than an election timeout means that writes do not get through.
    pub quorum_contact_ms: Option<u64>,
    /// On a follower, how long ago its leader was heard of, in milliseconds; `None` on other nodes, and before it was
    /// heard.
    pub leader_contact_ms: Option<u64>,
    /// For how many milliseconds more this leader may answer reads by its lease, at most
    /// [`election_timeout_ms_min`](crate::Config::election_timeout_ms_min); `None` when it may not, and on other nodes.
    pub lease_ms: Option<u64>,
    /// Whether this node starts no elections on its own, see [`Raft::pause_elections`](crate::Raft::pause_elections).
    pub elections_paused: bool,
    /// Whether this node sends no periodic heartbeats, see
    /// [`Raft::pause_heartbeats`](crate::Raft::pause_heartbeats).
    pub heartbeats_paused: bool,
    /// Whether a write to the log storage has taken longer than
    /// [`write_stall_timeout_ms`](crate::Config::write_stall_timeout_ms) and has not ended: this node neither leads nor
    /// campaigns until it has.
    pub disk_stalled: bool,
    /// Bytes of entries kept in memory: up to `tail_bytes_max` of stable ones, and all that are not stable yet.
    pub tail_bytes: u64,
    /// What waits in it.
    pub queues: QueueMetrics,
    /// What has happened since start.
    pub counters: Counters,
    /// How long the stages of writes and reads, and the calls of the stores, have taken since start. Measured by
    /// [`Raft`](crate::Raft); empty in the metrics of an engine alone.
    pub histograms: Arc<Histograms>,
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
