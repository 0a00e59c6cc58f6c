//! Several nodes: how they begin, what a test can see of them, and what clients ask.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use openconsensus::engine::{Input, Reply, RequestId};
use openconsensus::{
    Config, HardState, Index, Membership, MembershipChange, RaftMetrics, RoleName, Term, ValidConfig,
};

use super::network::Letter;
use super::node::Node;
use super::oracle::Oracle;
use super::{Disk, Test, log_of};

/// Longer than any election timeout of the default configuration.
pub(crate) const ELECTION_TIMEOUT_MS: u64 = 300;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not answered, or appended and nothing committed at its place.
    Open,
    /// Never appended.
    NotLeader,
    /// Committed.
    Applied,
    /// Another entry was committed in its place.
    Dropped,
}

/// A cluster in virtual time.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) now: Instant,
    pub(crate) oracle: Oracle,
    pub(super) config: ValidConfig,
    /// In the order in which it was sent.
    pub(super) letters: VecDeque<Letter>,
    /// Links, from and to, that lose everything.
    pub(super) cut: BTreeSet<(u64, u64)>,
    next_request: u64,
    /// The latest campaign that each node has asked votes for.
    pub(super) campaigns: BTreeMap<u64, u64>,
    /// What was committed anywhere when a read was asked for.
    pub(super) reads: BTreeMap<RequestId, Index>,
}

impl Cluster {
    /// Voters 1 to `voters`, all with the same membership as their only entry, followers of nobody in term 1.
    pub(crate) fn of(voters: u64) -> Self {
        Self::with_logs(voters, &(1..=voters).map(|id| (id, &[1][..])).collect::<Vec<_>>())
    }

    pub(crate) fn with_config(voters: u64, config: Config) -> Self {
        let mut cluster = Self::empty(config);
        cluster.place_logs(voters, &(1..=voters).map(|id| (id, &[1][..])).collect::<Vec<_>>());
        cluster
    }

    /// Nodes whose logs have entries of these terms, as in the figures of the paper. Nothing but the membership at index
    /// 1 is known to be committed. Every node is in the term of its last entry.
    pub(crate) fn with_logs(voters: u64, logs: &[(u64, &[Term])]) -> Self {
        let mut cluster = Self::empty(Config::default());
        cluster.place_logs(voters, logs);
        cluster
    }

    fn place_logs(&mut self, voters: u64, logs: &[(u64, &[Term])]) {
        for (id, terms) in logs {
            let entries = log_of(voters, terms);
            let term = terms.last().copied().unwrap_or_default();
            let commit = Index::from(!terms.is_empty());
            let disk = Disk::new(HardState { term, voted_for: None, commit }, entries);
            self.nodes.insert(*id, Node::new(*id, disk));
        }
        for (id, _) in logs {
            self.restart(*id);
        }
    }

    /// Nobody yet.
    pub(crate) fn empty(config: Config) -> Self {
        Self {
            nodes: BTreeMap::new(),
            now: Instant::now(),
            oracle: Oracle::default(),
            config: config.validate().expect("the configuration of a test is valid"),
            letters: VecDeque::new(),
            cut: BTreeSet::new(),
            next_request: 0,
            campaigns: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }

    /// A node that has never run.
    pub(crate) fn add_fresh(&mut self, id: u64) {
        self.nodes.insert(id, Node::new(id, Disk::default()));
        self.restart(id);
    }

    // ---- what a test can see

    pub(crate) fn node(&self, id: u64) -> &Node {
        &self.nodes[&id]
    }

    pub(crate) fn node_mut(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).unwrap_or_else(|| panic!("there is no node {id}"))
    }

    pub(crate) fn metrics(&self, id: u64) -> RaftMetrics<Test> {
        self.node(id).metrics(self.now)
    }

    pub(crate) fn role(&self, id: u64) -> RoleName {
        self.metrics(id).role
    }

    pub(crate) fn term(&self, id: u64) -> Term {
        self.metrics(id).term
    }

    pub(crate) fn is_leader(&self, id: u64) -> bool {
        self.node(id).is_alive() && self.role(id) == RoleName::Leader
    }

    pub(crate) fn membership(&self, id: u64) -> Membership<Test> {
        self.node(id).engine().membership().clone()
    }

    pub(crate) fn committed(&self, id: u64) -> Index {
        self.metrics(id).committed
    }

    /// The terms of the entries behind the purged one.
    pub(crate) fn terms(&self, id: u64) -> Vec<Term> {
        self.node(id).view.terms()
    }

    /// What the state machine has applied.
    pub(crate) fn commands(&self, id: u64) -> Vec<u64> {
        self.node(id).machine.commands.iter().map(|(_, command)| *command).collect()
    }

    /// How the node names the latest campaign that it has asked votes for.
    pub(crate) fn campaign_of(&self, id: u64) -> u64 {
        self.campaigns[&id]
    }

    /// The leader of the latest term, if it lives.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leaders = self.alive().filter(|id| self.is_leader(*id));
        leaders.max_by_key(|id| self.term(*id))
    }

    pub(crate) fn alive(&self) -> impl Iterator<Item = u64> {
        self.nodes.values().filter(|node| node.is_alive()).map(|node| node.id)
    }

    pub(crate) fn reply(&self, request: RequestId) -> Option<&Reply<Test>> {
        self.nodes.values().find_map(|node| node.replies.get(&request))
    }

    /// What became of a write, by the term that was committed at its index.
    pub(crate) fn outcome(&self, request: RequestId) -> Outcome {
        match self.reply(request) {
            Some(Reply::Appended { first }) => match self.oracle.committed_at(first.index) {
                Some(committed) if committed == *first => Outcome::Applied,
                Some(_) => Outcome::Dropped,
                None => Outcome::Open,
            },
            Some(Reply::NotLeader { .. }) => Outcome::NotLeader,
            None => Outcome::Open,
            Some(other) => panic!("a write was answered by {other:?}"),
        }
    }

    /// A line for each node, for messages of failures.
    pub(crate) fn describe(&self) -> String {
        let line = |node: &Node| match &node.engine {
            None => format!("node {}: crashed, disk {:?}\n", node.id, node.disk.hard_state),
            Some(engine) => {
                let m = engine.metrics(self.now);
                let peers: Vec<String> = m.peers.iter().map(|(id, peer)| format!("{id} {peer:?}")).collect();
                format!(
                    "node {}: {} in {} voted {:?} follows {:?}, log {}..{} stable {} committed {} applied {}, \
                     snapshot {}, {} at {}, peers {peers:?}\n",
                    node.id,
                    m.role,
                    m.term,
                    m.voted_for,
                    m.leader,
                    m.purged,
                    m.last,
                    m.stable,
                    m.committed,
                    m.applied,
                    m.snapshot,
                    m.membership.membership,
                    m.membership.log_id,
                )
            }
        };
        self.nodes.values().map(line).collect()
    }

    pub(crate) fn letters(&self) -> impl Iterator<Item = &Letter> {
        self.letters.iter()
    }

    // ---- requests of clients

    pub(crate) fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    pub(crate) fn write(&mut self, id: u64, command: u64) -> RequestId {
        self.write_many(id, &[command])
    }

    pub(crate) fn write_many(&mut self, id: u64, commands: &[u64]) -> RequestId {
        let request = self.request();
        self.step(id, Input::Write { request, commands: commands.to_vec() });
        request
    }

    /// Names a read that the test steps in itself.
    pub(crate) fn read_later(&mut self) -> RequestId {
        let request = self.request();
        self.reads.insert(request, self.oracle.committed());
        request
    }

    pub(crate) fn read(&mut self, id: u64) -> RequestId {
        let request = self.read_later();
        self.step(id, Input::Read { request });
        request
    }

    pub(crate) fn change(&mut self, id: u64, change: MembershipChange<Test>) -> RequestId {
        let request = self.request();
        self.step(id, Input::ChangeMembership { request, change, expected: None });
        request
    }

    pub(crate) fn transfer(&mut self, id: u64, target: Option<u64>) -> RequestId {
        let request = self.request();
        self.step(id, Input::TransferLeadership { request, target });
        request
    }

    pub(crate) fn build_snapshot(&mut self, id: u64) -> RequestId {
        let request = self.request();
        self.step(id, Input::BuildSnapshot { request });
        request
    }

    // ---- common beginnings

    /// Makes `id` the leader, with its first entry committed everywhere it can be. A leader that lives is not heard
    /// meanwhile, as if it had been paused.
    pub(crate) fn elect(&mut self, id: u64) {
        self.skip(ELECTION_TIMEOUT_MS);
        self.step(id, Input::Campaign);
        self.settle();
        assert!(self.is_leader(id), "node {id} was not elected: {:#?}", self.metrics(id));
    }

    /// Makes `id` the leader, asking as often as it takes: a voter may have to learn a higher term first.
    pub(crate) fn elect_until(&mut self, id: u64) {
        for _ in 0..5 {
            self.skip(ELECTION_TIMEOUT_MS);
            self.step(id, Input::Campaign);
            self.settle();
            if self.is_leader(id) {
                return;
            }
        }
        panic!("node {id} was not elected:\n{}", self.describe());
    }

    /// Time passes until a leader has been elected.
    pub(crate) fn elect_any(&mut self) -> u64 {
        self.run_until(20 * ELECTION_TIMEOUT_MS, "a leader", |cluster| cluster.leader().is_some());
        self.settle();
        self.leader().expect("a leader was elected")
    }

    /// Heals everything, and checks that the cluster comes to rest with one leader and equal logs.
    pub(crate) fn recover(&mut self) {
        self.heal();
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        for id in ids {
            if !self.node(id).is_alive() {
                self.restart(id);
            }
            self.speed_up(id);
        }
        self.run(40 * ELECTION_TIMEOUT_MS);
        let leader = self.leader().unwrap_or_else(|| panic!("no leader is elected:\n{}", self.describe()));
        let membership = self.membership(leader);
        let last = self.metrics(leader).last;
        for id in membership.nodes().keys() {
            let metrics = self.metrics(*id);
            let is_at_rest =
                metrics.last == last && metrics.applied == last && metrics.leader == Some(leader);
            assert!(is_at_rest, "node {id} is not at rest with leader {leader}:\n{}", self.describe());
        }
    }
}
