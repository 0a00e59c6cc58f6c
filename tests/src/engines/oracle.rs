//! What must hold after every step, over all nodes: the five properties of figure 3 of the paper, durability of what is
//! promised, and the rules of changes of membership.

mod quorums;

use std::collections::{BTreeMap, BTreeSet};

use openconsensus::engine::{Engine, LogWrite};
use openconsensus::{
    AppendResult, Body, Index, LeadershipEvent, LogId, Message, Payload, RoleName, Term, VoteKind,
};

use quorums::check_intersection;

use super::node::Node;
use super::{Disk, Test};

/// Remembers what was seen, and panics when something contradicts it. Everything is looked at once, when it is new: the
/// cost of a step does not grow with the logs.
#[derive(Debug, Default)]
pub struct Oracle {
    leaders: BTreeMap<Term, u64>,
    /// Who has granted a vote, by term and candidate.
    votes: BTreeMap<(Term, u64), BTreeSet<u64>>,
    /// Every entry that ever stood in a log: the one before it, and what it carries.
    entries: BTreeMap<LogId, (LogId, Payload<Test>)>,
    /// What is committed, and how many commands there are up to it.
    committed: BTreeMap<Index, (LogId, usize)>,
    seen: BTreeMap<u64, Seen>,
    promised: BTreeMap<u64, Promised>,
    /// What each node has said of its leadership since it was started.
    told: BTreeMap<u64, Told>,
}

/// What a node has said of its leadership.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    starts: u64,
    last_term: Term,
    /// The leadership that goes on, and whether it is ready.
    open: Option<(Term, Index, bool)>,
}

/// What a node has said, and must still know after a crash.
#[derive(Clone, Copy, Debug, Default)]
struct Promised {
    /// The last entry that it has acknowledged, and has not been told to remove since.
    acknowledged: LogId,
    /// The latest term in which it has voted or asked for votes, and for whom.
    vote: Option<(Term, u64)>,
}

/// A node when it was last looked at.
#[derive(Clone, Debug, Default)]
struct Seen {
    term: Term,
    committed: Index,
    applied: Index,
    /// How many of the commands that its state machine has applied were compared.
    commands: usize,
    /// The entry of the membership in force.
    membership: LogId,
    /// What it knows of its peers as the leader of `term`.
    matched: BTreeMap<u64, Index>,
}

impl Oracle {
    /// The greatest index known to be committed anywhere.
    pub fn committed(&self) -> Index {
        self.committed.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// How many memberships have been committed.
    pub fn memberships(&self) -> u64 {
        let is_membership = |id: &LogId| matches!(self.entries.get(id), Some((_, Payload::Membership(_))));
        self.committed.values().filter(|(id, _)| is_membership(id)).count() as u64
    }

    /// The entry that is committed at `index`, if any is.
    pub fn committed_at(&self, index: Index) -> Option<LogId> {
        self.committed.get(&index).map(|(id, _)| *id)
    }

    /// What an entry carries that has ever stood in a log.
    pub fn payload_of(&self, id: LogId) -> Option<&Payload<Test>> {
        self.entries.get(&id).map(|(_, payload)| payload)
    }

    /// Who has led in `term`, if anybody has.
    pub fn leader_of(&self, term: Term) -> Option<u64> {
        self.leaders.get(&term).copied()
    }

    /// The latest term in which anybody has led.
    pub fn latest_leader(&self) -> Option<(Term, u64)> {
        self.leaders.last_key_value().map(|(term, leader)| (*term, *leader))
    }

    /// A node starts over: its cursors may be lower than before a crash, but it has forgotten nothing that it has said.
    pub fn restarted(&mut self, node: &Node) {
        self.seen.remove(&node.id);
        self.told.remove(&node.id);
        let (id, state) = (node.id, node.disk.hard_state);
        let Some(Promised { acknowledged, vote }) = self.promised.get(&id) else { return };
        assert!(
            node.has_durably(*acknowledged),
            "node {id} has acknowledged {acknowledged} and has lost it: its log ends at {}",
            node.disk.last()
        );
        if let Some((term, candidate)) = vote {
            let remembers = *term < state.term || *term == state.term && state.voted_for == Some(*candidate);
            assert!(
                remembers,
                "node {id} has voted for {candidate} in {term} and has forgotten it: {state:?}"
            );
        }
    }

    /// The disk of a node was lost or replaced by an older one: what it had promised is forgotten, which no oracle excuses
    /// in anything that runs by itself.
    pub fn loses_disk(&mut self, id: u64) {
        self.promised.remove(&id);
        self.seen.remove(&id);
    }

    /// A node says what has become of its leadership: each leadership begins and ends once, in order, is told whole, and is
    /// ready when the first entry of its term is applied. Returns how many became ready.
    pub fn saw_leadership(&mut self, id: u64, engine: &Engine<Test>, events: &[LeadershipEvent]) -> u64 {
        let told = self.told.entry(id).or_default();
        let mut ready = 0;
        for event in events {
            match *event {
                LeadershipEvent::Started { term, ready_at } => {
                    assert_eq!(told.open, None, "node {id} begins to lead in {term} before it has ended");
                    assert!(told.last_term < term, "node {id} begins to lead in {term} again");
                    let leader = *self.leaders.entry(term).or_insert(id);
                    assert_eq!(leader, id, "nodes {leader} and {id} both lead in term {term}");
                    *told = Told {
                        starts: told.starts + 1,
                        last_term: term,
                        open: Some((term, ready_at, false)),
                    };
                }
                LeadershipEvent::Ready { term } => {
                    let Some((open, ready_at, false)) = told.open else {
                        panic!("node {id} is ready in {term}: {told:?}");
                    };
                    assert_eq!(open, term, "node {id} is ready in another term than it leads in");
                    let applied = engine.applied().index;
                    assert!(
                        ready_at <= applied,
                        "node {id} is ready at {ready_at}, but has applied {applied}"
                    );
                    told.open = Some((term, ready_at, true));
                    ready += 1;
                }
                LeadershipEvent::Stopped { term } => {
                    let open = told.open.take().map(|(open, ..)| open);
                    assert_eq!(open, Some(term), "node {id} ends what it has not begun");
                }
                event => panic!("node {id} says {event:?}, which nobody here knows"),
            }
        }
        let leads_in = (engine.role() == RoleName::Leader).then(|| engine.term());
        assert_eq!(told.open.map(|(term, ..)| term), leads_in, "what node {id} says of its leadership");
        assert_eq!(told.starts, engine.counters().elections_won, "node {id} has kept a leadership to itself");
        ready
    }

    fn promises_vote(&mut self, id: u64, term: Term, candidate: u64) {
        let vote = &mut self.promised.entry(id).or_default().vote;
        *vote = (*vote).max(Some((term, candidate)));
    }

    /// The state of a node's state machine was replaced by another.
    pub fn state_replaced(&mut self, id: u64) {
        if let Some(seen) = self.seen.get_mut(&id) {
            seen.commands = 0;
        }
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

    /// Leader Append-Only (5.3): a leader never removes an entry. `write` was handed over and is in the node's view.
    pub fn saw_write(&mut self, node: &Node, write: &LogWrite<Test>) {
        if let (RoleName::Leader, Some(from)) = (node.engine().role(), write.truncate) {
            panic!("Leader Append-Only (5.3): node {} leads and cuts its log from {from} on", node.id);
        }
        if let (Some(from), Some(promised)) = (write.truncate, self.promised.get_mut(&node.id))
            && from <= promised.acknowledged.index
        {
            promised.acknowledged = node.view.id_at(from - 1).unwrap_or_default();
        }
        if let Some(upto) = write.purge {
            assert!(
                upto.index <= node.snapshot_index(),
                "node {} purges its log up to {upto}, but its snapshot goes up to {} only",
                node.id,
                node.snapshot_index()
            );
        }
        if !write.append.is_empty() {
            self.saw_entries(&node.view, write.append.range().start);
        }
    }

    /// A message of node `from` leaves: what it promises must be on the disk of its sender.
    pub fn saw_message(&mut self, nodes: &BTreeMap<u64, Node>, from: u64, to: u64, message: &Message<Test>) {
        let (sender, term) = (&nodes[&from], message.term);
        let state = sender.disk.hard_state;
        let has_voted =
            |candidate| term < state.term || term == state.term && state.voted_for == Some(candidate);
        match &message.body {
            Body::VoteRequest { kind: VoteKind::Normal | VoteKind::Transfer, .. } => {
                assert!(has_voted(from), "node {from} asks for votes before its own is durable");
                self.promises_vote(from, term, from);
            }
            Body::VoteResponse { kind: VoteKind::Normal | VoteKind::Transfer, granted: true, .. } => {
                assert!(has_voted(to), "node {from} votes for {to} before it is durable");
                self.votes.entry((term, to)).or_default().insert(from);
                self.promises_vote(from, term, to);
            }
            Body::AppendResponse { result: AppendResult::Matched { matched } } => {
                let saved = state.term;
                assert!(term <= saved, "node {from} acknowledges in term {term}, but has saved {saved}");
                let last = sender.disk.last().index.max(sender.snapshot_index());
                assert!(*matched <= last, "node {from} acknowledges {matched}, its disk ends at {last}");
                let leader = nodes.get(&to).filter(|node| node.leads_in(term));
                if let Some(id) = leader.and_then(|leader| leader.view.id_at(*matched)) {
                    assert!(sender.has_durably(id), "node {from} acknowledges {id}, which its disk has not");
                }
                if let Some(id) = sender.view.id_at(*matched) {
                    let acknowledged = &mut self.promised.entry(from).or_default().acknowledged;
                    *acknowledged = if acknowledged.index <= id.index { id } else { *acknowledged };
                }
            }
            _ => {}
        }
    }

    /// Looks at all nodes.
    pub fn check(&mut self, nodes: &BTreeMap<u64, Node>) {
        for id in nodes.keys() {
            self.check_node(*id, nodes);
        }
    }

    /// Looks at one node, which may have changed.
    pub fn check_node(&mut self, id: u64, nodes: &BTreeMap<u64, Node>) {
        let node = &nodes[&id];
        let Some(engine) = &node.engine else { return };
        let (role, term, committed) = (engine.role(), engine.term(), engine.committed());
        let applied = engine.applied().index;
        assert_eq!(engine.last(), node.view.last(), "node {id}: every entry is handed to the disk at once");
        assert!(applied <= committed, "node {id}: {applied} is applied, {committed} committed");
        let mut seen = self.seen.remove(&id).unwrap_or_default();
        assert!(seen.term <= term, "node {id}: the term falls from {} to {term}", seen.term);
        let before = seen.committed;
        assert!(before <= committed, "node {id}: commit falls from {before} to {committed}");
        assert!(seen.applied <= applied, "node {id}: applied falls from {} to {applied}", seen.applied);
        if role == RoleName::Leader && self.leaders.get(&term) != Some(&id) {
            self.check_elected(node, term);
        }
        if before < committed {
            self.check_committed(node, before, committed, nodes);
        }
        seen.commands = self.check_applied(node, seen.commands);
        let membership = engine.membership_at().log_id;
        if seen.membership != membership {
            self.check_one_change(node);
            check_intersection(node, nodes);
            // Who was no member before is a new one, whatever a node of its name may have had.
            if let Some((_, Payload::Membership(before))) = self.entries.get(&seen.membership) {
                seen.matched.retain(|peer, _| before.is_member(*peer));
            }
        }
        if seen.term < term || role != RoleName::Leader {
            seen.matched.clear();
        }
        if role == RoleName::Leader {
            check_matched(node, nodes, &mut seen.matched);
        }
        let Seen { commands, matched, .. } = seen;
        self.seen.insert(id, Seen { term, committed, applied, commands, membership, matched });
    }

    /// Election Safety (5.2), a quorum for it that counts who votes in the membership in force on the winner, and Leader
    /// Completeness (5.4).
    fn check_elected(&mut self, leader: &Node, term: Term) {
        let id = leader.id;
        let known = *self.leaders.entry(term).or_insert(id);
        assert_eq!(known, id, "Election Safety (5.2): two leaders of term {term}");
        let votes = self.votes.get(&(term, id));
        let saved = leader.disk.hard_state;
        let own_is_durable = term < saved.term || term == saved.term && saved.voted_for == Some(id);
        let has_voted =
            |voter: u64| voter == id && own_is_durable || votes.is_some_and(|votes| votes.contains(&voter));
        let membership = leader.engine().membership();
        assert!(
            membership.is_quorum(has_voted),
            "node {id} leads in term {term} with votes of {votes:?}, no quorum of {membership}"
        );
        if self.latest_leader() == Some((term, id))
            && let Some((_, (last, _))) = self.committed.last_key_value()
        {
            assert_complete(leader, term, *last);
        }
    }

    /// What one node holds to be committed, a quorum has durably and no other node ever contradicts.
    fn check_committed(&mut self, node: &Node, before: Index, committed: Index, nodes: &BTreeMap<u64, Node>) {
        let mut next = node.view.id_at(committed);
        assert!(next.is_some(), "node {} lacks committed {committed}", node.id);
        // Backwards, from entry to entry: the first of them may have been applied and purged in the same step.
        let mut new = Vec::new();
        while let Some(id) = next.filter(|id| before < id.index) {
            match self.committed_at(id.index) {
                Some(known) => {
                    assert_eq!(
                        known, id,
                        "State Machine Safety (5.4.3): node {} commits another entry",
                        node.id
                    );
                }
                None => new.push(id),
            }
            next = self.entries.get(&id).map(|(before, _)| *before);
        }
        for id in new.into_iter().rev() {
            self.note_committed(id, node, nodes);
        }
    }

    /// An entry is known to be committed for the first time, by `node`.
    fn note_committed(&mut self, id: LogId, node: &Node, nodes: &BTreeMap<u64, Node>) {
        let has = |voter: u64| nodes.get(&voter).is_some_and(|node| node.has_durably(id));
        let membership = node.engine().membership();
        assert!(
            membership.is_quorum(has),
            "node {} commits {id}, which no quorum of {membership} has",
            node.id
        );
        let is_command = matches!(self.payload_of(id), Some(Payload::Command(_)));
        let commands = self.committed.get(&(id.index - 1)).map_or(0, |(_, commands)| *commands);
        self.committed.insert(id.index, (id, commands + usize::from(is_command)));
        // Leader Completeness (5.4): the leader of the latest term has everything that was ever committed.
        if let Some((term, leader)) = self.latest_leader()
            && let Some(leader) = nodes.get(&leader).filter(|node| node.leads_in(term))
        {
            assert_complete(leader, term, id);
        }
    }

    /// The state machine of a node has changed, and the engine does not know it yet.
    pub fn saw_state(&mut self, node: &Node) {
        let compared = self.seen.get(&node.id).map_or(0, |seen| seen.commands);
        let commands = self.check_applied(node, compared);
        self.seen.entry(node.id).or_default().commands = commands;
    }

    /// State Machine Safety (5.4.3): all nodes apply the committed commands, each of them, in order. Returns how many
    /// have been compared.
    fn check_applied(&self, node: &Node, compared: usize) -> usize {
        let commands = &node.machine.commands;
        let compared = if commands.len() < compared { 0 } else { compared };
        for (place, (log_id, command)) in commands.iter().enumerate().skip(compared) {
            let known = self.committed.get(&log_id.index);
            let number = place + 1;
            assert_eq!(
                known,
                Some(&(*log_id, number)),
                "State Machine Safety (5.4.3): node {} applies {log_id} as its command number {number}",
                node.id
            );
            assert_eq!(
                self.payload_of(*log_id),
                Some(&Payload::Command(*command)),
                "node {} applies another command",
                node.id
            );
        }
        commands.len()
    }

    /// At most one change of membership is under way (thesis 4.1).
    fn check_one_change(&self, node: &Node) {
        let committed = self.committed();
        let open = node.view.entries().iter().rev().take_while(|entry| committed < entry.log_id.index);
        let changes = open.filter(|entry| matches!(entry.payload, Payload::Membership(_)));
        let changes: Vec<LogId> = changes.map(|entry| entry.log_id).collect();
        assert!(changes.len() <= 1, "node {} has changes {changes:?} under way at once", node.id);
    }
}

fn assert_complete(leader: &Node, term: Term, id: LogId) {
    assert!(
        leader.view.covers(id),
        "Leader Completeness (5.4): leader {} of {term} lacks committed {id}",
        leader.id
    );
}

/// What a leader knows of its peers never falls, and is on their disks.
fn check_matched(leader: &Node, nodes: &BTreeMap<u64, Node>, seen: &mut BTreeMap<u64, Index>) {
    for peer in nodes.values() {
        let Some(matched) = leader.engine().matched(peer.id) else {
            seen.remove(&peer.id);
            continue;
        };
        let before = seen.insert(peer.id, matched).unwrap_or_default();
        if before == matched {
            continue;
        }
        assert!(
            before < matched,
            "leader {} takes back what node {} matches: {before} to {matched}",
            leader.id,
            peer.id
        );
        // In a later term the peer may have had to remove what it had when it said so.
        let is_of_this_term = peer.disk.hard_state.term <= leader.engine().term();
        if let Some(id) = leader.view.id_at(matched).filter(|_| is_of_this_term) {
            assert!(
                peer.has_durably(id),
                "leader {} counts {id} on node {}, which has it not",
                leader.id,
                peer.id
            );
        }
    }
}
