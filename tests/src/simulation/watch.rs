//! Looks at what has changed in a world: tells clients what is committed, and counts.

use openconsensus::{Counters, Index, LogId, Membership, Payload, RoleName, Term};

use super::coverage::{Count, Coverage};
use super::world::World;
use crate::engines::Test;

impl World {
    /// Looks at what the latest step of node `id` has changed.
    pub(super) fn look(&mut self, id: u64) {
        if let Some(engine) = &self.nodes[&id].engine
            && engine.role() == RoleName::Leader
        {
            let leads = (engine.term(), id);
            if self.seen_leader.is_none_or(|(term, _)| term < leads.0) {
                let is_change = self.seen_leader.is_some_and(|(_, leader)| leader != id);
                self.coverage.add_many(Count::LeaderChanges, u64::from(is_change));
                self.seen_leader = Some(leads);
            }
            let is_leaving = engine.holds_writes() && !engine.membership().is_voter(id);
            self.coverage.add_many(Count::LeaversLead, u64::from(is_leaving));
        }
        if let Some(engine) = &self.nodes[&id].engine {
            let believes =
                engine.standing() == openconsensus::Standing::Removed && engine.membership().is_member(id);
            self.coverage.add_many(Count::RemovedByWord, u64::from(believes));
        }
        let committed = self.oracle.committed();
        for index in self.seen_committed + 1..=committed {
            self.look_at_entry(index);
        }
        self.seen_committed = committed;
    }

    fn look_at_entry(&mut self, index: Index) {
        let id = self.oracle.committed_at(index).expect("what is committed is known");
        let payload = self.oracle.payload_of(id).expect("what is committed has stood in a log");
        self.coverage.add(Count::EntriesCommitted);
        self.answers.on_committed(id, payload);
        match payload {
            Payload::Blank => {}
            Payload::Command(_) => self.coverage.add(Count::CommandsCommitted),
            Payload::Membership(membership) => {
                self.coverage.count_change(&self.seen_membership, membership);
                self.seen_membership = membership.clone();
            }
        }
        self.mix(id.term << 32 | id.index);
    }

    /// Somebody asks for votes in `term`.
    pub(super) fn saw_candidate(&mut self, term: Term, id: u64) {
        let (latest, candidate) = self.seen_candidate;
        if latest == term && candidate != id && candidate != 0 {
            self.coverage.add(Count::SplitVotes);
            // Once for a term.
            self.seen_candidate.1 = 0;
        } else if latest < term {
            self.seen_candidate = (term, id);
        }
    }

    /// The counters of the engines that still run.
    pub(super) fn count_engines(&mut self) {
        for engine in self.nodes.values().filter_map(|node| node.engine.as_ref()) {
            self.coverage.add_counters(engine.counters());
        }
    }

    /// Where all logs end and what is committed, for messages of failures.
    pub(super) fn describe(&self) -> String {
        let lines = self.nodes.values().map(|node| match &node.engine {
            None => format!("node {}: down, disk {:?} to {}\n", node.id, node.disk.hard_state, node.disk.last()),
            Some(engine) => {
                let m = engine.metrics(self.clock_of(node.id));
                let peers: Vec<String> = m
                    .peers
                    .iter()
                    .map(|(id, peer)| format!("{id} {} matched {}", peer.progress, peer.matched))
                    .collect();
                format!(
                    "node {}: {} in {} follows {:?}, log {}..{} stable {} committed {} applied {}, snapshot {}, {} at \
                     {}, peers {peers:?}\n",
                    m.id,
                    m.role,
                    m.term,
                    m.leader,
                    m.purged,
                    m.last,
                    m.stable,
                    m.committed,
                    m.applied,
                    m.snapshot,
                    m.membership.membership,
                    m.membership.log_id
                )
            }
        });
        lines.collect()
    }
}

impl Coverage {
    pub(super) fn add_counters(&mut self, counters: &Counters) {
        self.add_many(Count::ElectionsStarted, counters.elections_started);
        self.add_many(Count::ElectionsWon, counters.elections_won);
        self.add_many(Count::Truncations, counters.truncations);
        self.add_many(Count::SnapshotsBuilt, counters.snapshots_built);
        self.add_many(Count::BuildsFailed, counters.snapshots_failed);
        self.add_many(Count::SnapshotsDamaged, counters.snapshots_damaged);
        self.add_many(Count::SnapshotsInstalled, counters.snapshots_installed);
        self.add_many(Count::SnapshotsSent, counters.snapshots_sent);
        self.add_many(Count::CatchUpReads, counters.catch_up_reads);
        self.add_many(Count::ReadsByLease, counters.reads_by_lease);
        self.add_many(Count::ReadsByRound, counters.reads_by_round);
        self.add_many(Count::CampaignsRefused, counters.campaigns_refused);
        self.add_many(Count::ClockJumps, counters.clock_jumps);
        self.add_many(Count::HeartbeatsSkipped, counters.heartbeats_skipped);
    }

    fn count_change(&mut self, before: &Membership<Test>, after: &Membership<Test>) {
        self.add(Count::MembershipsCommitted);
        self.add_many(Count::JointEntered, u64::from(after.is_joint()));
        self.add_many(Count::JointLeft, u64::from(before.is_joint() && !after.is_joint()));
        self.add_many(Count::SevenVoters, u64::from(after.voters().len() == 7));
        self.add_many(Count::SingleVoter, u64::from(after.voters().len() == 1));
        if before.is_empty() {
            return;
        }
        for id in after.nodes().keys() {
            let (was_member, was_voter) = (before.is_member(*id), before.is_voter(*id));
            self.add_many(Count::LearnersAdded, u64::from(!was_member && !after.is_voter(*id)));
            self.add_many(Count::Promotions, u64::from(was_member && !was_voter && after.is_voter(*id)));
            self.add_many(Count::Demotions, u64::from(was_voter && !after.is_voter(*id)));
        }
        let removed = before.nodes().keys().filter(|id| !after.is_member(**id)).count();
        self.add_many(Count::Removals, removed as u64);
    }
}

/// Where a node stands, for the oracle of liveness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) leader: Option<u64>,
    pub(super) term: Term,
    pub(super) last: LogId,
    pub(super) committed: Index,
    pub(super) applied: LogId,
}
