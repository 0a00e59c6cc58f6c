//! What an operator can see of an engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::entry::{Index, LogId, Term};
use crate::membership::MembershipAt;
use crate::metrics::{Counters, PeerMetrics, QueueMetrics, RaftMetrics, RoleName};
use crate::type_config::TypeConfig;

use super::leader::Leader;
use super::{Engine, Role, millis};

impl<C: TypeConfig> Engine<C> {
    /// What this node does at present.
    pub fn role(&self) -> RoleName {
        match &self.role {
            Role::Follower(_) => RoleName::Follower,
            Role::PreCandidate(_) => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    /// The current term.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Who leads in the current term, as far as this node knows.
    pub fn leader(&self) -> Option<C::NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.id),
        }
    }

    /// The membership in force and the entry that it came with.
    pub fn membership_at(&self) -> &MembershipAt<C> {
        self.log.membership_at()
    }

    /// The last entry of the log.
    pub fn last(&self) -> LogId {
        self.log.last()
    }

    /// Entries up to here are durable on this node.
    pub fn stable(&self) -> Index {
        self.log.stable()
    }

    /// The term in which this node leads, if it does.
    pub fn leading_term(&self) -> Option<Term> {
        matches!(self.role, Role::Leader(_)).then_some(self.term)
    }

    /// Entries up to here are known to be committed.
    pub fn committed(&self) -> Index {
        self.log.committed()
    }

    /// The last entry that the state machine is known to have applied.
    pub fn applied(&self) -> LogId {
        self.log.applied()
    }

    /// On a leader, up to where the log of `peer` is known to equal its own, durably. `None` on other nodes, and for
    /// who is no peer.
    pub fn matched(&self, peer: C::NodeId) -> Option<Index> {
        match &self.role {
            Role::Leader(leader) => leader.peers.get(&peer).map(|progress| progress.matched()),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// What has happened since start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Everything that an operator can see. Of the queues only those of the engine: a driver adds its own. `fatal` is `None`: the engine knows of no failure but that of the storage,
    /// and of that not the reason.
    pub fn metrics(&self, now: Instant) -> RaftMetrics<C> {
        let peers = match &self.role {
            Role::Leader(leader) => self.peer_metrics(leader, now),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => BTreeMap::new(),
        };
        RaftMetrics {
            id: self.id,
            role: self.role(),
            term: self.term,
            voted_for: self.voted_for,
            leader: self.leader(),
            last: self.log.last(),
            stable: self.log.stable(),
            committed: self.log.committed(),
            applied: self.log.applied(),
            snapshot: self.snapshots.last(),
            snapshot_bytes: self.snapshots.meta().and_then(|meta| meta.size_bytes),
            snapshot_age_ms: (self.snapshots.last() != LogId::ZERO)
                .then(|| now.saturating_duration_since(self.snapshots.since()).as_millis() as u64),
            is_building_snapshot: self.snapshots.is_building(),
            is_installing_snapshot: self.snapshots.is_installing(),
            purged: self.log.purged(),
            log_bytes: self.log.sizes().between(self.log.purged().index, self.log.last().index),
            log_bytes_since_snapshot: self
                .log
                .sizes()
                .between(self.snapshots.last().index, self.log.last().index),
            membership: self.log.membership_at().clone(),
            standing: self.standing(),
            transfer_to: self.transfer_target(),
            peers,
            quorum_contact_ms: self.quorum_contact(now).map(|contact| ms_since(contact, now)),
            leader_contact_ms: self.leader_contact().map(|contact| ms_since(contact, now)),
            lease_ms: self.lease_left(now).map(|left| left.as_millis() as u64),
            elections_paused: self.elections_paused,
            heartbeats_paused: self.heartbeats_paused,
            disk_stalled: self.hangs_on_its_disk(now),
            tail_bytes: self.log.tail_bytes(),
            queues: QueueMetrics {
                uncommitted_bytes: self.log.uncommitted_bytes(),
                apply_backlog_bytes: self.backlog.bytes(),
                ..QueueMetrics::default()
            },
            counters: self.counters,
            histograms: Arc::default(),
            fatal: None,
        }
    }

    fn leader_contact(&self) -> Option<Instant> {
        match &self.role {
            Role::Follower(follower) => follower.leader.and(follower.contact),
            Role::PreCandidate(_) | Role::Candidate(_) | Role::Leader(_) => None,
        }
    }

    fn peer_metrics(&self, leader: &Leader<C>, now: Instant) -> BTreeMap<C::NodeId, PeerMetrics> {
        let timeout = millis(self.config.election_timeout_ms_max);
        let metrics = leader.peers.iter().map(|(id, progress)| {
            let metrics = PeerMetrics {
                progress: progress.name(),
                matched: progress.matched(),
                next: progress.next(),
                lag_entries: self.log.last().index - progress.matched(),
                lag_bytes: self.log.bytes_from(progress.matched() + 1),
                inflight_appends: progress.inflight_appends(),
                inflight_bytes: progress.inflight_bytes(),
                contact_ms: progress.contact.map(|contact| ms_since(contact, now)),
                unreachable: progress.backoff.is_unreachable(),
                backoff_ms: u64::try_from(progress.backoff.length().as_millis()).unwrap_or(u64::MAX),
                active: progress.contact.is_some_and(|contact| now < contact + timeout),
            };
            (*id, metrics)
        });
        metrics.collect()
    }
}

fn ms_since(at: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX)
}
