//! Several nodes, the network between them, and the time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use openconsensus::engine::{Apply, Effects, Input, Reply, RequestId, SnapshotEffect, SnapshotId};
use openconsensus::{
    Body, Config, HardState, Index, InstallSnapshotResponse, LogId, Membership, MembershipChange, Message,
    RaftMetrics, RoleName, Term, ValidConfig,
};

use super::network::{Letter, What};
use super::node::{Arrival, Installation, Node, Work};
use super::oracle::Oracle;
use super::{Chance, Disk, Test, log_of, nodes};

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
    config: ValidConfig,
    /// In the order in which it was sent.
    letters: VecDeque<Letter>,
    /// Links, from and to, that lose everything.
    cut: BTreeSet<(u64, u64)>,
    next_request: u64,
    /// The latest campaign that each node has asked votes for.
    campaigns: BTreeMap<u64, u64>,
    /// What was committed anywhere when a read was asked for.
    reads: BTreeMap<RequestId, Index>,
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

    // ---- what can happen to a node

    /// One input, and everything that its effects ask for. Messages are on their way afterwards.
    pub(crate) fn step(&mut self, id: u64, input: Input<Test>) {
        self.step_all(id, [input]);
    }

    /// Several inputs, and then the effects of all of them: what a busy driver does.
    pub(crate) fn step_all(&mut self, id: u64, inputs: impl IntoIterator<Item = Input<Test>>) {
        let now = self.now;
        let Some(engine) = &mut self.node_mut(id).engine else { return };
        for input in inputs {
            engine.step(now, input);
        }
        self.carry_out(id);
        self.oracle.check(&self.nodes, now);
    }

    fn carry_out(&mut self, id: u64) {
        let now = self.now;
        loop {
            let node = self.nodes.get_mut(&id).expect("the node was stepped");
            let Some(engine) = &mut node.engine else { return };
            let effects: Effects<Test> = engine.take_effects(now);
            let Effects { write, messages, replies, reads, apply, snapshots, state_changed: _ } = effects;
            if let Some(write) = write {
                node.view.carry_out(&write);
                let first_new = write.append.range().start;
                if !write.append.is_empty() {
                    self.oracle.saw_entries(&node.view, first_new);
                }
                node.writes.push_back(write);
            }
            for (to, message) in messages {
                self.oracle.saw_message(node, to, &message);
                if let Body::VoteRequest { campaign, .. } = message.body {
                    self.campaigns.insert(id, campaign);
                }
                self.letters.push_back(Letter { from: id, to, what: What::Message(message) });
            }
            for (request, reply) in replies {
                self.take_reply(id, request, reply);
            }
            let mut has_news = !reads.is_empty();
            for read in reads {
                let node = self.node_mut(id);
                let entries = node.disk.read(read.range, read.bytes_max);
                let engine = node.engine.as_mut().expect("the node lives");
                engine.step(now, Input::LogRead { read: read.id, entries });
            }
            let node = self.node_mut(id);
            node.to_do.extend(apply.map(Work::Apply));
            has_news |= !snapshots.is_empty();
            for snapshot in snapshots {
                self.take_snapshot_effect(id, snapshot);
            }
            if !has_news && !self.work(id) {
                return;
            }
        }
    }

    fn take_reply(&mut self, id: u64, request: RequestId, reply: Reply<Test>) {
        if let Reply::ReadReady { index } = &reply {
            let floor = self.reads[&request];
            assert!(
                floor <= *index,
                "a read at {index} on node {id}, but {floor} was committed when it was asked for"
            );
        }
        let node = self.node_mut(id);
        if let (Reply::InstallFinished(response), Some(arrival)) = (&reply, node.arrivals.remove(&request)) {
            let what = What::SnapshotAnswer { id: arrival.id, response: Some(*response) };
            self.letters.push_back(Letter { from: id, to: arrival.from, what });
            return;
        }
        let twice = node.replies.insert(request, reply);
        assert!(twice.is_none(), "request {request:?} is answered twice, first by {twice:?}");
    }

    fn take_snapshot_effect(&mut self, id: u64, effect: SnapshotEffect<Test>) {
        let node = self.node_mut(id);
        match effect {
            SnapshotEffect::Build { id: snapshot } => node.to_do.push_back(Work::Build(snapshot)),
            SnapshotEffect::Send { id: snapshot, peer, term } => {
                let image =
                    Box::new(node.snapshot.clone().expect("a snapshot is sent only where there is one"));
                let request = openconsensus::InstallSnapshot { term, leader: id, meta: image.meta() };
                let what = What::Snapshot { id: snapshot, request, image };
                self.letters.push_back(Letter { from: id, to: peer, what });
            }
            SnapshotEffect::Install { id, request, snapshot: announced } => {
                node.to_do.push_back(Work::Install(Installation { id, request, announced }));
            }
            SnapshotEffect::Discard { id: snapshot } => self.discard(id, snapshot),
        }
    }

    /// Nobody wants this snapshot any more: it is not sent, and an installation that has not begun does not begin.
    fn discard(&mut self, id: u64, snapshot: SnapshotId) {
        let now = self.now;
        let is_sent = |letter: &Letter| match &letter.what {
            What::Snapshot { id: sent, .. } => letter.from == id && *sent == snapshot,
            What::Message(_) | What::SnapshotAnswer { .. } => false,
        };
        self.letters.retain(|letter| !is_sent(letter));
        let node = self.node_mut(id);
        let waiting = node.to_do.len();
        node.to_do.retain(|work| !matches!(work, Work::Install(installation) if installation.id == snapshot));
        if node.to_do.len() < waiting {
            let engine = node.engine.as_mut().expect("the node lives");
            engine.step(now, Input::SnapshotInstalled { id: snapshot, installed: false });
        }
    }

    /// Does one piece of the work of the disk or of the state machine, and tells the engine. False when there is none.
    fn work(&mut self, id: u64) -> bool {
        let node = self.node_mut(id);
        if !node.is_disk_slow && !node.writes.is_empty() {
            self.finish_write(id);
            return true;
        }
        if !node.is_building_slow && !node.to_build.is_empty() {
            self.finish_building(id);
            return true;
        }
        if node.installing.is_some() {
            let may_finish = !node.is_installing_slow;
            if may_finish {
                self.finish_installing(id);
            }
            return may_finish;
        }
        if node.is_machine_slow {
            return false;
        }
        match node.to_do.pop_front() {
            None => return false,
            Some(Work::Apply(apply)) => self.finish_apply(id, apply),
            Some(Work::Build(snapshot)) => node.to_build.push_back((snapshot, node.machine.clone())),
            Some(Work::Install(installation)) => node.installing = Some(installation),
        }
        true
    }

    fn finish_write(&mut self, id: u64) {
        let now = self.now;
        let node = self.node_mut(id);
        let write = node.writes.pop_front().expect("a write is in flight");
        node.disk.carry_out(&write);
        let engine = node.engine.as_mut().expect("the node lives");
        engine.step(now, Input::Persisted { write: write.id });
    }

    fn finish_apply(&mut self, id: u64, apply: Apply<Test>) {
        let now = self.now;
        let node = self.node_mut(id);
        let last = node.apply(apply);
        let engine = node.engine.as_mut().expect("the node lives");
        engine.step(now, Input::Applied { last });
    }

    fn finish_building(&mut self, id: u64) {
        let now = self.now;
        let node = self.node_mut(id);
        let (snapshot, image) = node.to_build.pop_front().expect("a snapshot is to be built");
        let meta = image.meta();
        node.snapshot = Some(image);
        let engine = node.engine.as_mut().expect("the node lives");
        engine.step(now, Input::SnapshotBuilt { id: snapshot, meta });
    }

    fn finish_installing(&mut self, id: u64) {
        let now = self.now;
        let node = self.node_mut(id);
        let Installation { id: snapshot, request, announced } =
            node.installing.take().expect("a snapshot is being installed");
        let image = node.arrivals[&request].image.clone();
        assert_eq!(image.meta(), announced.meta);
        let applied = node.machine.applied.last_applied;
        assert!(applied.index <= announced.meta.last.index, "node {id} would go back from {applied}");
        node.machine = image.clone();
        node.snapshot = Some(image);
        let engine = node.engine.as_mut().expect("the node lives");
        engine.step(now, Input::SnapshotInstalled { id: snapshot, installed: true });
    }

    /// The oldest write of a slow disk is done.
    pub(crate) fn complete_write(&mut self, id: u64) {
        self.finish_write(id);
        self.carry_out(id);
        self.oracle.check(&self.nodes, self.now);
    }

    /// All writes of a slow disk are done, and the engine is told of the last one only. Returns how many there were.
    pub(crate) fn complete_all_writes_at_once(&mut self, id: u64) -> usize {
        let node = self.node_mut(id);
        let writes: Vec<_> = node.writes.drain(..).collect();
        for write in &writes {
            node.disk.carry_out(write);
        }
        let last = writes.last().expect("a write is in flight").id;
        self.step(id, Input::Persisted { write: last });
        writes.len()
    }

    pub(crate) fn has_writes(&self, id: u64) -> bool {
        !self.node(id).writes.is_empty()
    }

    /// The disk is slow from now on: writes are done only by [`complete_write`](Self::complete_write).
    pub(crate) fn slow_disk(&mut self, id: u64) {
        self.node_mut(id).is_disk_slow = true;
    }

    /// Everything that waits is done, and nothing waits from now on.
    pub(crate) fn speed_up(&mut self, id: u64) {
        let node = self.node_mut(id);
        node.is_disk_slow = false;
        node.is_machine_slow = false;
        node.is_building_slow = false;
        node.is_installing_slow = false;
        if node.is_alive() {
            self.work(id);
            self.carry_out(id);
            self.oracle.check(&self.nodes, self.now);
        }
    }

    /// Installing the snapshot that has arrived fails: its stream broke off.
    pub(crate) fn fail_installing(&mut self, id: u64) {
        let installation = self.node_mut(id).installing.take().expect("a snapshot is being installed");
        self.step(id, Input::SnapshotInstalled { id: installation.id, installed: false });
    }

    /// A node loses everything that is not on its disk.
    pub(crate) fn crash(&mut self, id: u64) {
        // Whoever was sending a snapshot here sees the connection end.
        for arrival in std::mem::take(&mut self.node_mut(id).arrivals).into_values() {
            let what = What::SnapshotAnswer { id: arrival.id, response: None };
            self.letters.push_back(Letter { from: id, to: arrival.from, what });
        }
        self.node_mut(id).crash();
    }

    pub(crate) fn restart(&mut self, id: u64) {
        let (config, now) = (self.config.clone(), self.now);
        self.node_mut(id)
            .start(&config, now)
            .unwrap_or_else(|error| panic!("node {id} refuses to start: {error}"));
        self.oracle.restarted(id);
        self.oracle.saw_entries(&self.nodes[&id].view, 0);
        self.carry_out(id);
        self.oracle.check(&self.nodes, now);
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

    // ---- the network

    /// Loses everything between these nodes, in both directions, until [`heal`](Self::heal).
    pub(crate) fn cut(&mut self, one: u64, other: u64) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    pub(crate) fn cut_one_way(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    /// Cuts `ids` off from all other nodes, and what is under way between them with it.
    pub(crate) fn isolate(&mut self, ids: &[u64]) {
        let others: Vec<u64> = self.nodes.keys().copied().filter(|id| !ids.contains(id)).collect();
        for (one, other) in ids.iter().flat_map(|id| others.iter().map(move |other| (*id, *other))) {
            self.cut(one, other);
        }
        self.letters.retain(|letter| !self.cut.contains(&(letter.from, letter.to)));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Takes what is under way and fits, out of the network: it is lost unless the test delivers it.
    pub(crate) fn intercept(&mut self, fits: impl Fn(&Letter) -> bool) -> Vec<Letter> {
        let letters = std::mem::take(&mut self.letters).into_iter();
        let (taken, kept): (Vec<Letter>, Vec<Letter>) = letters.partition(|letter| fits(letter));
        self.letters = kept.into();
        taken
    }

    /// Loses everything that is under way.
    pub(crate) fn lose_all(&mut self) {
        self.letters.clear();
    }

    /// Hands a letter over, be it the first time or not.
    pub(crate) fn deliver(&mut self, letter: Letter) {
        let is_there = self.nodes.get(&letter.to).is_some_and(Node::is_alive);
        let is_lost = !is_there || self.cut.contains(&(letter.from, letter.to));
        self.arrive(letter, is_lost);
    }

    /// The letter does not arrive.
    pub(crate) fn lose(&mut self, letter: Letter) {
        self.arrive(letter, true);
    }

    fn arrive(&mut self, letter: Letter, is_lost: bool) {
        let Letter { from, to, what } = letter;
        match what {
            What::Message(message) if !is_lost => self.receive(to, from, message),
            What::Message(_) => {}
            // Whoever streams a snapshot learns that it did not arrive.
            What::Snapshot { id, .. } if is_lost => {
                self.step(from, Input::SnapshotSent { id, response: None });
            }
            What::Snapshot { id, request: snapshot, image } => {
                let request = self.request();
                self.node_mut(to).arrivals.insert(request, Arrival { from, id, image: *image });
                self.step(to, Input::InstallSnapshot { request, snapshot });
            }
            What::SnapshotAnswer { id, response } => {
                let response = if is_lost { None } else { response };
                self.step(to, Input::SnapshotSent { id, response });
            }
        }
    }

    /// Takes any letter that is under way.
    pub(crate) fn take_letter(&mut self, chance: &mut Chance) -> Option<Letter> {
        let count = self.letters.len() as u64;
        if count == 0 { None } else { self.letters.remove(chance.below(count) as usize) }
    }

    pub(crate) fn put_back(&mut self, letter: Letter) {
        self.letters.push_back(letter);
    }

    pub(crate) fn deliver_oldest(&mut self) {
        if let Some(letter) = self.letters.pop_front() {
            self.deliver(letter);
        }
    }

    /// Delivers several messages to one node before its effects are taken.
    pub(crate) fn deliver_batch(&mut self, chance: &mut Chance) {
        let Some(first) = self.take_letter(chance) else { return };
        let (to, is_message) = (first.to, matches!(first.what, What::Message(_)));
        if !is_message || !self.node(to).is_alive() {
            return self.deliver(first);
        }
        let is_cut = |letter: &Letter| self.cut.contains(&(letter.from, letter.to));
        let fits =
            |letter: &Letter| letter.to == to && !is_cut(letter) && matches!(letter.what, What::Message(_));
        let (batch, kept): (Vec<Letter>, Vec<Letter>) = self.letters.iter().cloned().partition(fits);
        self.letters = kept.into();
        let inputs = batch.into_iter().filter_map(|letter| match letter.what {
            What::Message(message) => Some(Input::Receive { from: letter.from, message }),
            What::Snapshot { .. } | What::SnapshotAnswer { .. } => None,
        });
        let inputs: Vec<Input<Test>> = inputs.collect();
        self.step_all(to, inputs);
        self.deliver(first);
    }

    /// A message of `from` arrives at `to`, whether anybody has sent it or not.
    pub(crate) fn receive(&mut self, to: u64, from: u64, message: Message<Test>) {
        self.step(to, Input::Receive { from, message });
    }

    /// Delivers everything that is under way, and what follows from it, until nothing is. No time passes.
    pub(crate) fn settle(&mut self) {
        self.settle_but(|_| false);
    }

    /// As [`settle`](Self::settle), but loses what fits.
    pub(crate) fn settle_but(&mut self, is_lost: impl Fn(&Letter) -> bool) {
        for _ in 0..100_000 {
            let Some(letter) = self.letters.pop_front() else { return };
            if !is_lost(&letter) {
                self.deliver(letter);
            }
        }
        panic!("the nodes talk without end: {:#?}", self.letters);
    }

    // ---- the time

    /// The next timer of a node runs out, and no other node notices that time has passed.
    pub(crate) fn time_out(&mut self, id: u64) {
        let deadline = self.node(id).engine().next_deadline().expect("a node always has a deadline");
        self.now = self.now.max(deadline);
        self.step(id, Input::Timeout);
    }

    /// Time passes and all timers run; everything that is sent arrives at once.
    pub(crate) fn run(&mut self, ms: u64) {
        self.run_but(ms, |_| false);
    }

    /// As [`run`](Self::run), but loses what fits.
    pub(crate) fn run_but(&mut self, ms: u64, is_lost: impl Fn(&Letter) -> bool) {
        let end = self.now + Duration::from_millis(ms);
        self.settle_but(&is_lost);
        loop {
            let alive =
                self.nodes.values().filter_map(|node| node.engine.as_ref().map(|engine| (node.id, engine)));
            let deadlines = alive.filter_map(|(id, engine)| Some((engine.next_deadline()?, id)));
            let Some((deadline, id)) = deadlines.min().filter(|(deadline, _)| *deadline <= end) else {
                break;
            };
            self.now = self.now.max(deadline);
            self.step(id, Input::Timeout);
            self.settle_but(&is_lost);
        }
        self.now = end;
    }

    /// Time passes and all timers run, but nothing arrives.
    pub(crate) fn run_timers(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        let alive: Vec<u64> = self.alive().collect();
        for id in alive {
            self.step(id, Input::Timeout);
        }
    }

    /// Time passes without any timer being looked at: what a pause of all processes would do.
    pub(crate) fn skip(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    /// Runs until `is_true`, for at most `ms`.
    pub(crate) fn run_until(&mut self, ms: u64, what: &str, is_true: impl Fn(&Self) -> bool) {
        for _ in 0..ms {
            if is_true(self) {
                return;
            }
            self.run(1);
        }
        assert!(is_true(self), "after {ms} ms there is still not {what}");
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
