//! What must hold after every step, over all nodes: the five properties of figure 3 of the paper, and durability.

use std::collections::BTreeMap;
use std::time::Instant;

use openconsensus::{AppendResult, Body, Index, LogId, Message, Payload, RoleName, Term, VoteKind};

use super::node::Node;
use super::{Disk, Test};

/// Remembers what was seen, and panics when something contradicts it.
#[derive(Debug, Default)]
pub struct Oracle {
    leaders: BTreeMap<Term, u64>,
    /// Every entry that ever stood in a log: the one before it, and what it carries.
    entries: BTreeMap<LogId, (LogId, Payload<Test>)>,
    committed: BTreeMap<Index, LogId>,
    applied: BTreeMap<Index, (LogId, u64)>,
    /// The state of each state machine when it was last looked at.
    looked_at: BTreeMap<u64, (LogId, usize)>,
    /// Term, commit index and applied index of each node since its last start.
    cursors: BTreeMap<u64, (Term, Index, Index)>,
}

impl Oracle {
    /// The greatest index known to be committed anywhere.
    pub fn committed(&self) -> Index {
        self.committed.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// How many memberships have been committed.
    pub fn memberships(&self) -> u64 {
        let is_membership = |id: &&LogId| matches!(self.entries.get(id), Some((_, Payload::Membership(_))));
        self.committed.values().filter(is_membership).count() as u64
    }

    pub fn committed_at(&self, index: Index) -> Option<LogId> {
        self.committed.get(&index).copied()
    }

    /// A node starts over: its cursors may be lower than before a crash.
    pub fn restarted(&mut self, id: u64) {
        self.cursors.remove(&id);
    }

    /// Log Matching (5.3): an entry with the same index and term is the same, and so is all that stands before it.
    /// Looks at the entries of `log` at and after `from`.
    pub fn saw_entries(&mut self, log: &Disk, from: Index) {
        for index in from.max(log.purged.index + 1)..=log.last().index {
            let before = log.id_at(index - 1).expect("the log is contiguous");
            let entry = log.at(index).expect("the log is contiguous");
            let known = self.entries.entry(entry.log_id).or_insert_with(|| (before, entry.payload.clone()));
            assert_eq!(known.0, before, "Log Matching: {} stands behind two entries", entry.log_id);
            assert_eq!(known.1, entry.payload, "Log Matching: {} is two entries", entry.log_id);
        }
    }

    /// A message leaves: what it promises must be on the disk of its sender.
    pub fn saw_message(&self, sender: &Node, to: u64, message: &Message<Test>) {
        let (disk, term) = (&sender.disk, message.term);
        let has_voted = |candidate| {
            let state = disk.hard_state;
            term < state.term || state.term == term && state.voted_for == Some(candidate)
        };
        match &message.body {
            Body::VoteRequest { kind: VoteKind::Normal | VoteKind::Transfer, .. } => {
                assert!(has_voted(sender.id), "node {} asks for votes before its own is durable", sender.id);
            }
            Body::VoteResponse { kind: VoteKind::Normal | VoteKind::Transfer, granted: true, .. } => {
                assert!(has_voted(to), "node {} votes for {to} before it is durable", sender.id);
            }
            Body::AppendResponse { result: AppendResult::Matched { matched } } => {
                assert!(
                    term <= disk.hard_state.term,
                    "node {} acknowledges in a term that is not durable",
                    sender.id
                );
                let last = disk.last().index.max(sender.snapshot_index());
                assert!(
                    *matched <= last,
                    "node {} acknowledges {matched}, its disk ends at {last}",
                    sender.id
                );
            }
            _ => {}
        }
    }

    /// Looks at all nodes.
    pub fn check(&mut self, nodes: &BTreeMap<u64, Node>, now: Instant) {
        for node in nodes.values().filter(|node| node.is_alive()) {
            self.check_node(node, nodes, now);
        }
        self.check_latest_leader(nodes, now);
        self.check_memberships(nodes);
    }

    fn check_node(&mut self, node: &Node, nodes: &BTreeMap<u64, Node>, now: Instant) {
        let metrics = node.metrics(now);
        let id = node.id;
        assert_eq!(metrics.last, node.view.last(), "node {id}: every entry is handed to the disk at once");
        if metrics.role == RoleName::Leader {
            let known = *self.leaders.entry(metrics.term).or_insert(id);
            assert_eq!(known, id, "Election Safety (5.2): two leaders of term {}", metrics.term);
        }
        let applied = metrics.applied.index;
        let (term, committed, applied_before) = self.cursors.get(&id).copied().unwrap_or_default();
        assert!(term <= metrics.term, "node {id}: the term falls from {term} to {}", metrics.term);
        assert!(
            committed <= metrics.committed,
            "node {id}: commit falls from {committed} to {}",
            metrics.committed
        );
        assert!(applied_before <= applied, "node {id}: applied falls from {applied_before} to {applied}");
        assert!(
            applied <= metrics.committed,
            "node {id}: {applied} is applied, {} committed",
            metrics.committed
        );
        self.cursors.insert(id, (metrics.term, metrics.committed, applied));
        self.check_committed(node, committed, metrics.committed, nodes);
        self.check_applied(node);
    }

    /// Leader Completeness (5.4): what one node holds to be committed, no other node ever contradicts.
    fn check_committed(&mut self, node: &Node, before: Index, committed: Index, nodes: &BTreeMap<u64, Node>) {
        for index in before.max(node.view.purged.index)..=committed {
            if index == 0 {
                continue;
            }
            let id =
                node.view.id_at(index).unwrap_or_else(|| panic!("node {} lacks committed {index}", node.id));
            if let Some(known) = self.committed.get(&index) {
                assert_eq!(
                    *known, id,
                    "State Machine Safety (5.4.3): node {} commits another entry",
                    node.id
                );
                continue;
            }
            let has = |voter: u64| nodes.get(&voter).is_some_and(|node| node.has_durably(id));
            let membership = node.engine().membership();
            assert!(
                membership.is_quorum(has),
                "node {} commits {id}, which no quorum of {membership} has",
                node.id
            );
            self.committed.insert(index, id);
        }
    }

    /// State Machine Safety (5.4.3): all nodes apply the same commands at the same places.
    fn check_applied(&mut self, node: &Node) {
        let state = (node.machine.applied.last_applied, node.machine.commands.len());
        if self.looked_at.insert(node.id, state) == Some(state) {
            return;
        }
        let commands = &node.machine.commands;
        for (log_id, command) in commands {
            let known = self.applied.entry(log_id.index).or_insert((*log_id, *command));
            assert_eq!(*known, (*log_id, *command), "node {} applies another command", node.id);
        }
        for pair in commands.windows(2) {
            assert!(
                pair[0].0.index < pair[1].0.index,
                "node {} applies {} after {}",
                node.id,
                pair[1].0,
                pair[0].0
            );
        }
    }

    /// Leader Completeness (5.4): the leader of the latest term has everything that was ever committed.
    fn check_latest_leader(&self, nodes: &BTreeMap<u64, Node>, now: Instant) {
        let Some((term, leader)) = self.leaders.last_key_value() else { return };
        let node = &nodes[leader];
        if !node.is_alive() {
            return;
        }
        let metrics = node.metrics(now);
        if metrics.role != RoleName::Leader || metrics.term != *term {
            return;
        }
        for id in self.committed.values() {
            assert!(
                node.view.covers(*id),
                "Leader Completeness (5.4): leader {leader} of {term} lacks committed {id}"
            );
        }
    }

    /// At most one change of membership is under way (thesis 4.1).
    fn check_memberships(&self, nodes: &BTreeMap<u64, Node>) {
        let committed = self.committed();
        for node in nodes.values().filter(|node| node.is_alive()) {
            let changes = node.view.entries().iter().filter(|entry| {
                committed < entry.log_id.index && matches!(entry.payload, Payload::Membership(_))
            });
            let changes: Vec<LogId> = changes.map(|entry| entry.log_id).collect();
            assert!(changes.len() <= 1, "node {} has changes {changes:?} under way at once", node.id);
        }
    }
}
