//! What an operator can see of an engine.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::metrics::{PeerMetrics, RaftMetrics, RoleName};
use crate::type_config::TypeConfig;

use super::leader::Leader;
use super::{Engine, Role, millis};

impl<C: TypeConfig> Engine<C> {
    /// Everything that an operator can see. `fatal` is `None`: the engine knows of no failure but that of the storage,
    /// and of that not the reason.
    pub fn metrics(&self, now: Instant) -> RaftMetrics<C> {
        let (role, peers) = match &self.role {
            Role::Follower(_) => (RoleName::Follower, BTreeMap::new()),
            Role::PreCandidate(_) => (RoleName::PreCandidate, BTreeMap::new()),
            Role::Candidate(_) => (RoleName::Candidate, BTreeMap::new()),
            Role::Leader(leader) => (RoleName::Leader, self.peer_metrics(leader, now)),
        };
        RaftMetrics {
            id: self.id,
            role,
            term: self.term,
            voted_for: self.voted_for,
            leader: self.leader(),
            last: self.log.last(),
            stable: self.log.stable(),
            committed: self.log.committed(),
            applied: self.log.applied(),
            snapshot: self.snapshots.last(),
            purged: self.log.purged(),
            membership: self.log.membership_at().clone(),
            peers,
            tail_bytes: self.log.tail_bytes(),
            counters: self.counters,
            fatal: None,
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
                inflight_appends: progress.inflight_appends(),
                active: progress.contact.is_some_and(|contact| now < contact + timeout),
            };
            (*id, metrics)
        });
        metrics.collect()
    }
}
