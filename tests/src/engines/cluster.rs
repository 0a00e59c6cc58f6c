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
pub const ELECTION_TIMEOUT_MS: u64 = 300;

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not answered, or appended and nothing committed at its place.
    Open,
    /// Never appended.
    NotLeader,
    /// Never appended: too much is not committed.
    Busy,
    /// Committed.
    Applied,
    /// Another entry was committed in its place.
    Dropped,
}

/// A cluster in virtual time.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, alive or crashed.
    pub nodes: BTreeMap<u64, Node>,
    /// The time on every node's clock.
    pub now: Instant,
    /// What was seen, and must not be contradicted.
    pub oracle: Oracle,
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
    pub fn of(voters: u64) -> Self {
        Self::with_logs(voters, &(1..=voters).map(|id| (id, &[1][..])).collect::<Vec<_>>())
    }

    /// Like [`of`](Self::of), with this configuration.
    pub fn with_config(voters: u64, config: Config) -> Self {
        let mut cluster = Self::empty(config);
        cluster.place_logs(voters, &(1..=voters).map(|id| (id, &[1][..])).collect::<Vec<_>>());
        cluster
    }

    /// Nodes whose logs have entries of these terms, as in the figures of the paper. Nothing but the membership at index
    /// 1 is known to be committed. Every node is in the term of its last entry.
    pub fn with_logs(voters: u64, logs: &[(u64, &[Term])]) -> Self {
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
            self.place(*id, disk);
        }
        for (id, _) in logs {
            self.restart(*id);
        }
    }

    /// Nobody yet.
    pub fn empty(config: Config) -> Self {
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
    pub fn add_fresh(&mut self, id: u64) {
        self.place(id, Disk::default());
        self.restart(id);
    }

    /// A node that is down, with this disk and an empty state machine.
    pub fn place(&mut self, id: u64, disk: Disk) {
        self.oracle.loses_disk(id);
        self.nodes.insert(id, Node::new(id, disk));
    }

    // ---- what a test can see

    /// A node. Panics when there is none of this id, as everything here does.
    pub fn node(&self, id: u64) -> &Node {
        &self.nodes[&id]
    }

    /// A node, to be changed.
    pub fn node_mut(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).unwrap_or_else(|| panic!("there is no node {id}"))
    }

    /// What a living node says of itself.
    pub fn metrics(&self, id: u64) -> RaftMetrics<Test> {
        self.node(id).metrics(self.now)
    }

    /// The role of a living node.
    pub fn role(&self, id: u64) -> RoleName {
        self.metrics(id).role
    }

    /// The term of a living node.
    pub fn term(&self, id: u64) -> Term {
        self.metrics(id).term
    }

    /// Whether the node lives and leads.
    pub fn is_leader(&self, id: u64) -> bool {
        self.node(id).is_alive() && self.role(id) == RoleName::Leader
    }

    /// The membership in force on a living node.
    pub fn membership(&self, id: u64) -> Membership<Test> {
        self.node(id).engine().membership().clone()
    }

    /// The commit index of a living node.
    pub fn committed(&self, id: u64) -> Index {
        self.metrics(id).committed
    }

    /// The terms of the entries behind the purged one.
    pub fn terms(&self, id: u64) -> Vec<Term> {
        self.node(id).view.terms()
    }

    /// What the state machine has applied.
    pub fn commands(&self, id: u64) -> Vec<u64> {
        self.node(id).machine.commands.iter().map(|(_, command)| *command).collect()
    }

    /// How the node names the latest campaign that it has asked votes for.
    pub fn campaign_of(&self, id: u64) -> u64 {
        self.campaigns[&id]
    }

    /// The leader of the latest term, if it lives.
    pub fn leader(&self) -> Option<u64> {
        let leaders = self.alive().filter(|id| self.is_leader(*id));
        leaders.max_by_key(|id| self.term(*id))
    }

    /// The nodes that live.
    pub fn alive(&self) -> impl Iterator<Item = u64> {
        self.nodes.values().filter(|node| node.is_alive()).map(|node| node.id)
    }

    /// The answer to a request, if there is one.
    pub fn reply(&self, request: RequestId) -> Option<&Reply<Test>> {
        self.nodes.values().find_map(|node| node.replies.get(&request))
    }

    /// What became of a write, by the term that was committed at its index.
    pub fn outcome(&self, request: RequestId) -> Outcome {
        match self.reply(request) {
            Some(Reply::Appended { first }) => match self.oracle.committed_at(first.index) {
                Some(committed) if committed == *first => Outcome::Applied,
                Some(_) => Outcome::Dropped,
                None => Outcome::Open,
            },
            Some(Reply::NotLeader { .. }) => Outcome::NotLeader,
            Some(Reply::Busy { .. }) => Outcome::Busy,
            None => Outcome::Open,
            Some(other) => panic!("a write was answered by {other:?}"),
        }
    }

    /// A line for each node, for messages of failures.
    pub fn describe(&self) -> String {
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

    /// What is on its way, oldest first.
    pub fn letters(&self) -> impl Iterator<Item = &Letter> {
        self.letters.iter()
    }

    // ---- requests of clients

    /// A name for a request that the test steps in itself.
    pub fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// Asks a node to write one command.
    pub fn write(&mut self, id: u64, command: u64) -> RequestId {
        self.write_many(id, &[command])
    }

    /// Asks a node to write commands together.
    pub fn write_many(&mut self, id: u64, commands: &[u64]) -> RequestId {
        let request = self.request();
        self.step(id, Input::Write { request, commands: commands.to_vec() });
        request
    }

    /// Names a read that the test steps in itself.
    pub fn read_later(&mut self) -> RequestId {
        let request = self.request();
        self.reads.insert(request, self.oracle.committed());
        request
    }

    /// Asks a node for a linearizable read; the answer is checked against what was committed before.
    pub fn read(&mut self, id: u64) -> RequestId {
        let request = self.read_later();
        self.step(id, Input::Read { request });
        request
    }

    /// Asks a node for a linearizable read for which a lease will do; checked like any other.
    pub fn read_by_lease(&mut self, id: u64) -> RequestId {
        let request = self.read_later();
        self.step(id, Input::ReadByLease { request });
        request
    }

    /// Asks a node for a membership change.
    pub fn change(&mut self, id: u64, change: MembershipChange<Test>) -> RequestId {
        let request = self.request();
        self.step(id, Input::ChangeMembership { request, change, expected: None });
        request
    }

    /// Asks a node to hand over leadership.
    pub fn transfer(&mut self, id: u64, target: Option<u64>) -> RequestId {
        let request = self.request();
        self.step(id, Input::TransferLeadership { request, target });
        request
    }

    /// Asks a node to build a snapshot.
    pub fn build_snapshot(&mut self, id: u64) -> RequestId {
        let request = self.request();
        self.step(id, Input::BuildSnapshot { request });
        request
    }

    /// Somebody asks node `id` to purge its log.
    pub fn purge_log(&mut self, id: u64, upto: Index) -> RequestId {
        let request = self.request();
        self.step(id, Input::PurgeLog { request, upto });
        request
    }

    // ---- common beginnings

    /// Makes `id` the leader, with its first entry committed everywhere it can be. A leader that lives is not heard
    /// meanwhile, as if it had been paused.
    pub fn elect(&mut self, id: u64) {
        self.skip(ELECTION_TIMEOUT_MS);
        self.step(id, Input::Campaign);
        self.settle();
        assert!(self.is_leader(id), "node {id} was not elected: {:#?}", self.metrics(id));
    }

    /// Makes `id` the leader, asking as often as it takes: a voter may have to learn a higher term first.
    pub fn elect_until(&mut self, id: u64) {
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
    pub fn elect_any(&mut self) -> u64 {
        self.run_until(20 * ELECTION_TIMEOUT_MS, "a leader", |cluster| cluster.leader().is_some());
        self.settle();
        self.leader().expect("a leader was elected")
    }

    /// Heals everything, and checks that the cluster comes to rest with one leader and equal logs.
    pub fn recover(&mut self) {
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
