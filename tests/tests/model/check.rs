//! What must hold, looked at after every step of a node.

use std::sync::Arc;

use openconsensus::{AppendResult, Body, Index, LogId, Message, Payload, RoleName, Term, VoteKind};
use openconsensus_tests::engines::{Disk, Test};

use crate::node::Node;
use crate::state::{Event, Rule, State};
use crate::system::System;

/// What a step is compared with.
pub(crate) struct Before {
    role: RoleName,
    term: Term,
    last: LogId,
    purged: LogId,
    terms: Vec<Term>,
    is_joint: bool,
    membership: LogId,
}

impl Before {
    pub(crate) fn of(node: &Node) -> Self {
        Self { role: node.engine.role(), ..Self::started(node) }
    }

    /// A node that has just started.
    pub(crate) fn started(node: &Node) -> Self {
        let at = node.engine.membership_at();
        Self {
            role: RoleName::Follower,
            term: node.engine.term(),
            last: node.view.last(),
            purged: node.view.purged,
            terms: node.view.terms(),
            is_joint: at.membership.is_joint(),
            membership: at.log_id,
        }
    }
}

impl System {
    /// Looks at a node that has taken a step, and at what that means for the others.
    pub(crate) fn check(&self, state: &mut State, id: u64, before: &Before) {
        self.check_leader(state, id, before);
        self.check_log(state, id);
        self.check_committed(state, id);
        self.check_leaders_are_complete(state);
        self.check_machine(state, id);
        self.check_changes(state, id);
        let node = state.node(id);
        if !node.view.covers(before.last) && node.view.purged.index < before.last.index {
            state.note(Event::Truncated);
        }
        if self.is_blind(state) {
            state.violation = None;
        }
    }

    fn is_blind(&self, state: &State) -> bool {
        state.violation.as_ref().is_some_and(|violation| self.blind_to.contains(&violation.rule))
    }

    fn check_leader(&self, state: &mut State, id: u64, before: &Before) {
        let engine = &state.node(id).engine;
        if engine.role() != RoleName::Leader {
            return;
        }
        let term = engine.term();
        let at = engine.membership_at();
        let (is_joint, membership) = (at.membership.is_joint(), at.log_id);
        if before.role == RoleName::Leader && before.term == term {
            // Leader Append-Only (5.3).
            let view = &state.node(id).view;
            let kept = (before.purged.index + 1..).zip(&before.terms);
            let lost = kept
                .filter(|(index, _)| view.purged.index < *index)
                .find(|(index, term)| view.id_at(*index) != Some(LogId::new(**term, *index)));
            let lost = lost.map(|(index, _)| index);
            if let Some(index) = lost {
                state.violate(Rule::LeaderAppendOnly, || {
                    format!("leader {id} of {term} gives up its entry {index}")
                });
            }
            if before.membership != membership && is_joint {
                state.note(Event::JointEntered);
            }
            if before.is_joint && !is_joint {
                state.note(Event::JointLeft);
            }
            return;
        }
        state.note(Event::Elected);
        let seen = Arc::make_mut(&mut state.seen);
        let known = *seen.leaders.entry(term).or_insert(id);
        if known != id {
            state
                .violate(Rule::ElectionSafety, || format!("nodes {known} and {id} both lead in term {term}"));
        }
    }

    /// Log Matching (5.3): where two logs have the same entry, they are the same up to there.
    fn check_log(&self, state: &mut State, id: u64) {
        let differs = |one: &Disk, other: &Disk| {
            let start = one.purged.index.max(other.purged.index) + 1;
            let end = one.last().index.min(other.last().index);
            let same = (start..=end).rev().find(|index| one.id_at(*index) == other.id_at(*index))?;
            (start..=same).find(|index| one.at(*index) != other.at(*index))
        };
        let view = &state.node(id).view;
        let others = state.nodes.iter().filter(|other| other.id != id);
        let found = others.filter_map(|other| Some((other.id, differs(view, &other.view)?))).next();
        if let Some((other, index)) = found {
            state.violate(Rule::LogMatching, || {
                format!("nodes {id} and {other} differ at {index}, but not behind it")
            });
        }
    }

    /// What one node holds to be committed, a quorum has durably, and no other node ever contradicts.
    fn check_committed(&self, state: &mut State, id: u64) {
        let node = state.node(id);
        let committed = node.engine.committed();
        let purged = node.view.purged.index;
        let known = state.seen.committed.len() as Index;
        for index in purged.max(1)..=committed.min(known) {
            let (expected, ..) = state.seen.committed[index as usize - 1];
            if state.node(id).view.id_at(index) != Some(expected) {
                return state.violate(Rule::StateMachineSafety, || {
                    format!("node {id} holds index {index} to be committed, where {expected} is")
                });
            }
        }
        for index in known + 1..=committed {
            let node = state.node(id);
            let Some(entry) = node.view.at(index) else {
                return state.violate(Rule::StateMachineSafety, || {
                    format!(
                        "node {id} holds {index} to be committed, which nobody else does, and has purged it"
                    )
                });
            };
            let log_id = entry.log_id;
            let command = match &entry.payload {
                Payload::Command(command) => Some(*command),
                Payload::Blank | Payload::Membership(_) => None,
            };
            let is_membership = matches!(entry.payload, Payload::Membership(_));
            let membership = node.engine.membership().clone();
            let term = node.engine.term();
            if !membership.is_quorum(|voter| state.node(voter).has_durably(log_id)) {
                state.violate(Rule::CommittedIsDurable, || {
                    format!("node {id} commits {log_id}, which no quorum of {membership} has on its disk")
                });
            }
            Arc::make_mut(&mut state.seen).committed.push((log_id, command, term));
            if command.is_some() {
                state.note(Event::Committed);
            }
            if is_membership {
                state.note(Event::MembershipCommitted);
            }
        }
    }

    /// Leader Completeness (5.4): a leader of a later term has everything that was committed before.
    fn check_leaders_are_complete(&self, state: &mut State) {
        let leaders = state.nodes.iter().filter(|node| node.engine.role() == RoleName::Leader);
        let lacks = |node: &Arc<Node>| {
            let term = node.engine.term();
            let before = state.seen.committed.iter().filter(|(.., known_in)| *known_in <= term);
            let lost = before.map(|(log_id, ..)| *log_id).find(|log_id| !node.view.covers(*log_id))?;
            Some((node.id, term, lost))
        };
        let found = leaders.filter_map(lacks).next();
        if let Some((leader, term, lost)) = found {
            state.violate(Rule::LeaderCompleteness, || {
                format!("leader {leader} of {term} lacks committed {lost}")
            });
        }
    }

    /// State Machine Safety (5.4.3): every state is that of the committed commands up to some entry.
    fn check_machine(&self, state: &mut State, id: u64) {
        let image = &state.node(id).machine;
        let applied = image.applied.last_applied.index;
        let committed = state.seen.committed.iter().take(applied as usize);
        let expected = committed.filter_map(|(log_id, command, _)| Some((*log_id, (*command)?)));
        if applied <= state.seen.committed.len() as Index && expected.eq(image.commands.iter().copied()) {
            return;
        }
        let commands = image.commands.clone();
        state.violate(Rule::StateMachineSafety, || {
            format!("node {id} has applied {commands:?} up to {applied}, which is not what was committed")
        });
    }

    /// At most one change of the membership is under way (thesis 4.1).
    fn check_changes(&self, state: &mut State, id: u64) {
        let committed = state.seen.committed.len() as Index;
        let behind = state.node(id).view.entries().iter().filter(|entry| committed < entry.log_id.index);
        let changes = behind.filter(|entry| matches!(entry.payload, Payload::Membership(_))).count();
        if 1 < changes {
            state.violate(Rule::OneChangeAtATime, || format!("node {id} has {changes} changes under way"));
        }
    }

    /// What a message promises must be on the disk of its sender.
    pub(crate) fn check_message(&self, state: &mut State, id: u64, to: u64, message: &Message<Test>) {
        let node = state.node(id);
        let (saved, term) = (node.disk.hard_state, message.term);
        let has_voted =
            |candidate| term < saved.term || term == saved.term && saved.voted_for == Some(candidate);
        let broken = match &message.body {
            Body::VoteRequest { kind: VoteKind::Normal | VoteKind::Transfer, .. } if !has_voted(id) => {
                Some("asks for votes before its own is durable".to_owned())
            }
            Body::VoteResponse { kind: VoteKind::Normal | VoteKind::Transfer, granted: true, .. }
                if !has_voted(to) =>
            {
                Some(format!("votes for {to} before the vote is durable"))
            }
            Body::AppendResponse { result: AppendResult::Matched { matched } } => {
                self.acknowledges_too_much(node, term, *matched)
            }
            _ => None,
        };
        if let Some(what) = broken
            && !self.blind_to.contains(&Rule::DurableBeforeSent)
        {
            state.violate(Rule::DurableBeforeSent, || format!("node {id} {what}"));
        }
    }

    /// An acknowledgement is of entries that are on the disk, the very ones that the node has in its log, and of a term
    /// that is on the disk.
    fn acknowledges_too_much(&self, node: &Node, term: Term, matched: Index) -> Option<String> {
        if node.disk.hard_state.term < term {
            return Some(format!(
                "acknowledges in term {term}, and its disk is in {}",
                node.disk.hard_state.term
            ));
        }
        // A later term may have replaced the entries; then it is not this acknowledgement that counts.
        let is_current = term == node.engine.term();
        let last = node.view.id_at(matched).filter(|_| is_current)?;
        (!node.has_durably(last)).then(|| format!("acknowledges {last}, which is not on its disk"))
    }
}
