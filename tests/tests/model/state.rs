//! The state of a whole cluster, and what is told apart.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use openconsensus::engine::RequestId;
use openconsensus::{Index, LogId, RoleName, Term};

use crate::letter::Letter;
use crate::node::{Folded, Node};

/// What must hold in every state. Each is a property of the checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    ElectionSafety,
    LogMatching,
    LeaderAppendOnly,
    LeaderCompleteness,
    StateMachineSafety,
    DurableBeforeSent,
    CommittedIsDurable,
    FreshReads,
    OneChangeAtATime,
    NoAssertionFails,
}

/// What has happened at least once, so that an exploration that does nothing is noticed. Each is a bit of
/// [`State::events`] and a property of the checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Event {
    Elected,
    Committed,
    Truncated,
    ReadConfirmed,
    SnapshotInstalled,
    JointEntered,
    JointLeft,
    MembershipCommitted,
    Restarted,
}

/// What may still happen. A bound of the exploration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Timers that run out.
    pub timeouts: u8,
    /// Commands of clients.
    pub writes: u8,
    /// Crashes.
    pub crashes: u8,
    /// Messages that arrive and are still on their way.
    pub duplicates: u8,
    /// Heartbeats of a leader beside those that it sends when it is elected and for reads.
    pub heartbeats: u8,
    pub reads: u8,
    /// Changes of the membership.
    pub changes: u8,
    /// Snapshots that are built.
    pub snapshots: u8,
}

/// What has been seen, and must not be contradicted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub leaders: BTreeMap<Term, u64>,
    /// From index 1: the entry that was committed, its command if it has one, and the term in which this became known.
    pub committed: Vec<(LogId, Option<u64>, Term)>,
    /// Reads that are not answered: who was asked, and what was committed then.
    pub reads: BTreeMap<RequestId, (u64, Index)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub rule: Rule,
    pub what: String,
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Node 1, 2 and so on.
    pub nodes: Vec<Arc<Node>>,
    /// By their first fingerprints: two letters that say the same are one.
    pub letters: BTreeMap<u64, Arc<Letter>>,
    pub seen: Arc<Seen>,
    pub left: Budget,
    pub violation: Option<Arc<Violation>>,
    /// Nothing happens any more.
    pub is_over: bool,
    /// What has happened in the step that led here; not part of what is told apart.
    pub events: u32,
    /// The fingerprint of the state and of all that follow from it by exchanging the places of nodes.
    pub canonical: u64,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.canonical.hash(hasher);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.canonical == other.canonical
    }
}

impl State {
    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.violation.as_ref().is_none_or(|violation| violation.rule != rule)
    }

    pub(crate) fn saw(&self, event: Event) -> bool {
        self.events & 1 << event as u32 != 0
    }

    pub(crate) fn node(&self, id: u64) -> &Node {
        &self.nodes[id as usize - 1]
    }

    /// A node that is about to change.
    pub(crate) fn node_mut(&mut self, id: u64) -> &mut Node {
        Arc::make_mut(&mut self.nodes[id as usize - 1])
    }

    pub(crate) fn note(&mut self, event: Event) {
        self.events |= 1 << event as u32;
    }

    pub(crate) fn violate(&mut self, rule: Rule, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Arc::new(Violation { rule, what: what() }));
        }
    }

    /// What is told apart, with the nodes named in the way of this number.
    fn print(&self, way: usize, names: &[u64; 4]) -> u64 {
        let mut hasher = Folded::default();
        let mut nodes: Vec<_> =
            self.nodes.iter().map(|node| (names[node.id as usize], node.prints[way])).collect();
        nodes.sort_unstable();
        let mut letters: Vec<_> = self.letters.values().map(|letter| letter.prints[way]).collect();
        letters.sort_unstable();
        (nodes, letters, self.left).hash(&mut hasher);
        let Seen { leaders, committed, reads } = &*self.seen;
        for (term, leader) in leaders {
            (term, names[*leader as usize]).hash(&mut hasher);
        }
        committed.hash(&mut hasher);
        for (read, (node, floor)) in reads {
            (read, names[*node as usize], floor).hash(&mut hasher);
        }
        self.violation.as_ref().map(|violation| violation.rule as u8).hash(&mut hasher);
        hasher.finish()
    }

    /// The fingerprint of the state and of all that follow from it by exchanging the places of nodes.
    pub(crate) fn canonical(&self, ways: &[[u64; 4]]) -> u64 {
        ways.iter().enumerate().map(|(way, names)| self.print(way, names)).min().expect("there is a way")
    }
}

/// A line for each node.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            let metrics = node.engine.metrics(node.now);
            let role = match metrics.role {
                RoleName::Leader => "LEADER",
                RoleName::Follower => "follower",
                RoleName::Candidate => "candidate",
                RoleName::PreCandidate => "pre-candidate",
            };
            writeln!(
                f,
                "      node {}: {role} in term {}, voted {:?}; log behind {} has terms {:?}, on disk {:?} with vote \
                 {:?} in term {}; committed {}, applied {:?}",
                node.id,
                metrics.term,
                metrics.voted_for,
                node.view.purged,
                node.view.terms(),
                node.disk.terms(),
                node.disk.hard_state.voted_for,
                node.disk.hard_state.term,
                metrics.committed,
                node.machine.commands.iter().map(|(_, command)| command).collect::<Vec<_>>(),
            )?;
        }
        Ok(())
    }
}
