//! What a follower does with the leader's messages.

use std::time::Instant;

use crate::entries::Entries;
use crate::entry::{Index, LogId};
use crate::message::{AppendResult, Body};
use crate::type_config::TypeConfig;

use super::{Engine, Fingerprint, Role};

/// The state of a follower.
#[derive(Clone, Debug)]
pub(super) struct Follower<C: TypeConfig> {
    /// Who leads in the current term, if it has been heard.
    pub(super) leader: Option<C::NodeId>,
    /// When it was last heard.
    pub(super) contact: Option<Instant>,
    /// Up to here the log is known to equal the leader's. Entries behind it may be leftovers of another leader, so
    /// nothing behind it is acknowledged or committed.
    verified: Index,
}

impl<C: TypeConfig> Follower<C> {
    /// What is committed is in the log of every later leader (Leader Completeness, Raft paper 5.4).
    pub(super) fn new(committed: Index) -> Self {
        Self { leader: None, contact: None, verified: committed }
    }

    pub(super) fn verify(&mut self, matched: Index) {
        self.verified = self.verified.max(matched);
    }

    pub(super) fn fingerprint(&self, to: &mut Fingerprint<'_, C>) {
        let Self { leader, contact, verified } = self;
        to.node_or_none(*leader);
        to.past(*contact);
        to.value(verified);
    }
}

impl<C: TypeConfig> Engine<C> {
    /// The leader of this term has spoken.
    pub(super) fn hear_leader(&mut self, now: Instant, leader: C::NodeId) {
        match &self.role {
            Role::Leader(_) => {
                panic!(
                    "node {leader} and node {} both lead in term {}: election safety is broken",
                    self.id, self.term
                )
            }
            Role::Follower(follower) => {
                if let Some(known) = follower.leader {
                    assert!(known == leader, "nodes {known} and {leader} both lead in term {}", self.term);
                }
            }
            Role::PreCandidate(_) | Role::Candidate(_) => self.become_follower(now, self.term, Some(leader)),
        }
        // On receipt, not after our own disk: a slow disk must not look like a dead leader.
        self.restart_election_timer(now);
        let Role::Follower(follower) = &mut self.role else { return };
        follower.leader = Some(leader);
        follower.contact = Some(now);
        self.removal.revoke();
        self.look_at_transfer_outcome(leader);
        self.conclude_transfers(leader);
    }

    pub(super) fn on_append(
        &mut self,
        now: Instant,
        from: C::NodeId,
        prev: LogId,
        entries: Entries<C>,
        commit: Index,
    ) {
        self.hear_leader(now, from);
        let first_fits =
            entries.first().is_none_or(|first| first.index == prev.index + 1 && prev.term <= first.term);
        let last_fits = entries.last().is_none_or(|last| last.term <= self.term);
        if !first_fits || !last_fits {
            tracing::error!(
                name: "raft.message.impossible", node = %self.id, %from, %prev, ?entries,
                "an append that no leader can have sent is dropped"
            );
            return;
        }
        let last_sent = prev.index + entries.len() as u64;
        let committed = self.log.committed();
        if last_sent <= committed {
            // All of it is committed here, so it matches by definition, and so does everything up to the commit index.
            return self.acknowledge(from, committed, commit);
        }
        // What is committed matches by definition, also where it has been purged; `prev` within it needs no look.
        if committed < prev.index && !self.log.contains(prev) {
            let hint = self.log.last_not_above(prev.index, prev.term).unwrap_or_else(|| self.log.purged());
            let result = AppendResult::Conflict { rejected: prev.index, hint };
            return self.send(from, Body::AppendResponse { result });
        }
        let entries = entries.starting_at(committed + 1);
        // Where `prev` needs no look, the terms must not fall behind what is committed here.
        if entries.first().is_some_and(|first| self.log.term_at(first.index - 1) > Some(first.term)) {
            tracing::error!(
                name: "raft.message.impossible", node = %self.id, %from, %prev, ?entries,
                "an append that contradicts what is committed is dropped"
            );
            return;
        }
        self.take_entries(entries);
        self.acknowledge(from, last_sent, commit);
    }

    /// Appends what is not there yet, and cuts the log only where an entry has another term (Raft paper, 5.3).
    fn take_entries(&mut self, entries: Entries<C>) {
        let is_new = |entry: &&crate::Entry<C>| !self.log.contains(entry.log_id);
        let Some(first_new) = entries.iter().find(is_new).map(|entry| entry.log_id.index) else { return };
        if first_new <= self.log.last().index {
            if self.log.truncate(first_new) {
                self.writes.stage_truncate(first_new);
            }
            self.counters.truncations += 1;
        }
        self.log.append(entries.starting_at(first_new));
    }

    /// Acknowledges `matched`, when it is durable, and commits as far as the leader has proved.
    fn acknowledge(&mut self, leader: C::NodeId, matched: Index, commit: Index) {
        let until = self.writes.of_entry(matched, &self.log).max(self.writes.of_hard_state());
        let result = AppendResult::Matched { matched };
        self.send_after(until, leader, Body::AppendResponse { result });
        self.verify(matched);
        self.commit_verified(commit);
    }

    fn verify(&mut self, matched: Index) {
        if let Role::Follower(follower) = &mut self.role {
            follower.verify(matched);
        }
    }

    fn commit_verified(&mut self, commit: Index) {
        if let Role::Follower(follower) = &self.role {
            let index = commit.min(follower.verified);
            self.log.commit_to(index);
        }
    }

    pub(super) fn on_heartbeat(&mut self, now: Instant, from: C::NodeId, round: u64, commit: LogId) {
        self.hear_leader(now, from);
        self.take_commit(commit);
        let promise_ms = self.promise(now, from);
        self.send(from, Body::HeartbeatResponse { round, promise_ms });
    }

    pub(super) fn on_commit(&mut self, now: Instant, from: C::NodeId, commit: LogId) {
        self.hear_leader(now, from);
        self.take_commit(commit);
    }

    /// Having the very entry means having all before it (Log Matching), so the commit may be taken over.
    fn take_commit(&mut self, commit: LogId) {
        if self.log.contains(commit) {
            self.verify(commit.index);
            self.commit_verified(commit.index);
        }
    }
}
