//! The cluster as a model: where it begins, what may happen next, and what must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use openconsensus::engine::Input;
use openconsensus::{
    Config, Entry, HardState, LogId, Membership, MembershipChange, Payload, RoleName, Term, ValidConfig,
};
use openconsensus_tests::engines::{Disk, Test, log_of, nodes};
use stateright::{Model, Property};

use crate::letter::{Letter, What};
use crate::node::{Names, Node};
use crate::state::{Budget, Event, Rule, Seen, State};
use openconsensus_tests::panics;

/// How the world around the engines is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    Nothing,
    /// A crash takes back the last write that was done.
    DiskLosesCompletedWrite,
    /// The driver says that a write is done when it has only been handed over.
    DriverAcknowledgesEarly,
    /// A node comes back with the vote and the term that it had before the last change of them.
    DiskRestoresOldVote,
    /// The driver answers reads on a leader without asking the others.
    DriverReadsWithoutAsking,
    /// A node that restarts is not bound by what it may have promised.
    RestartForgetsPromise,
    /// The state machine forgets the last command when it builds a snapshot.
    SnapshotLacksLastCommand,
    /// The network changes the commands that it carries.
    NetworkGarblesCommands,
}

/// A cluster, and how far it is explored.
#[derive(Debug)]
pub(crate) struct System {
    pub name: &'static str,
    pub config: ValidConfig,
    /// The members of entry 1; the others among nodes 1 to `size` are not members yet.
    pub voters: BTreeSet<u64>,
    pub learners: BTreeSet<u64>,
    pub size: u64,
    /// Instead of the same entry 1 on all of them: the terms of the entries of each, its term, and its vote there.
    pub logs: Vec<(&'static [Term], Term, Option<u64>)>,
    /// Who has led before, by term.
    pub leaders: &'static [(Term, u64)],
    /// Begin with this leader, which has committed its first entry everywhere.
    pub led_by: Option<u64>,
    /// Writes are done at any later time; otherwise as soon as they are handed over.
    pub slow_disks: bool,
    /// Followers may be asked to vote while they hear from a leader; otherwise always long after.
    pub leases: bool,
    /// A long time passes on all clocks or on none, as leases need it. It begins when node 2 has promised and node 3 has
    /// not, and whoever may time out may be asked to campaign at once instead.
    pub one_clock: bool,
    /// The heartbeats that a leader sends when it is elected are not lost.
    pub first_heartbeats: bool,
    /// A crash may come in the middle of a write.
    pub torn_writes: bool,
    /// A crash takes the state machine back to its snapshot.
    pub volatile_machine: bool,
    /// Whether the budget is enough for a snapshot to be installed.
    pub installs: bool,
    pub change: Option<MembershipChange<Test>>,
    pub budget: Budget,
    pub breaks: Break,
    /// Not looked at, so that what follows from breaking it is seen.
    pub blind_to: &'static [Rule],
    /// The ways to exchange nodes that make no difference. The first one exchanges nothing.
    pub ways: Vec<Names>,
    /// When to give up.
    pub until: Option<Instant>,
    /// How many steps may be taken before it is given up: they take memory.
    pub steps_max: u64,
    pub steps: AtomicU64,
    /// Whether it was given up.
    pub is_cut: AtomicBool,
    /// How often each event was seen.
    pub counts: [AtomicU64; 9],
}

/// Every way to exchange three nodes.
pub(crate) fn exchange_all() -> Vec<Names> {
    vec![[0, 1, 2, 3], [0, 1, 3, 2], [0, 2, 1, 3], [0, 2, 3, 1], [0, 3, 1, 2], [0, 3, 2, 1]]
}

/// Nodes 2 and 3 can be exchanged, while node 1 has a part of its own.
pub(crate) fn exchange_followers() -> Vec<Names> {
    vec![[0, 1, 2, 3], [0, 1, 3, 2]]
}

/// Nodes that cannot be exchanged.
pub(crate) fn exchange_none() -> Vec<Names> {
    vec![[0, 1, 2, 3]]
}

/// Timeouts far apart: a heartbeat is a millisecond, everything else takes minutes.
pub(crate) fn config() -> Config {
    Config {
        election_timeout_ms_min: 100_000,
        election_timeout_ms_max: 200_000,
        heartbeat_interval_ms: 1,
        pre_vote: false,
        check_quorum: false,
        write_stall_timeout_ms: 3_600_000,
        transfer_timeout_ms: 600_000,
        read_timeout_ms: 600_000,
        snapshot_after_entries: None,
        log_keep_entries: 0,
        log_keep_bytes: u64::MAX,
        log_hold_entries_max: 0,
        ..Config::default()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// A letter arrives; `late`: the receiver has heard nothing for long. `again`: it may arrive once more.
    Deliver {
        letter: Arc<Letter>,
        late: bool,
        again: bool,
    },
    /// A snapshot does not arrive, and its sender learns of it. A message that is lost is one that never arrives.
    Lose(Arc<Letter>),
    /// The oldest write of a node is done.
    Persist(u64),
    /// Nothing has happened to a node for so long that all its timers run out.
    Timeout(u64),
    /// An operator asks a node to campaign.
    Campaign(u64),
    /// It is time for the next heartbeat of a leader.
    Heartbeat(u64),
    Write(u64),
    Read(u64),
    Change(u64),
    BuildSnapshot(u64),
    /// A node crashes and comes back. So many parts of its oldest write had been done.
    Restart {
        node: u64,
        parts: usize,
    },
    /// The state machine has installed a snapshot.
    FinishInstall(u64),
}

impl System {
    /// Three voters, of whom one leads, and nothing that may happen.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            config: config().validate().expect("the configuration of a model is valid"),
            voters: BTreeSet::from([1, 2, 3]),
            learners: BTreeSet::new(),
            size: 3,
            logs: Vec::new(),
            leaders: &[],
            led_by: Some(1),
            slow_disks: true,
            leases: false,
            one_clock: false,
            first_heartbeats: false,
            torn_writes: false,
            volatile_machine: false,
            installs: true,
            change: None,
            budget: Budget::default(),
            breaks: Break::Nothing,
            blind_to: &[],
            ways: exchange_followers(),
            until: None,
            steps_max: u64::MAX,
            steps: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            counts: Default::default(),
        }
    }

    fn first_log(&self) -> Disk {
        let members = self.voters.union(&self.learners).copied();
        let membership = Membership::new(self.voters.clone(), nodes(members)).expect("voters are members");
        let entry = Entry { log_id: LogId::new(1, 1), payload: Payload::Membership(membership) };
        Disk::new(HardState { term: 1, voted_for: None, commit: 1 }, vec![entry])
    }

    /// The state before anything has happened.
    fn first_state(&self) -> State {
        let node = |id: u64| {
            let is_member = self.voters.contains(&id) || self.learners.contains(&id);
            let disk = match self.logs.get(id as usize - 1) {
                Some((terms, term, voted_for)) => {
                    let hard_state = HardState { term: *term, voted_for: *voted_for, commit: 1 };
                    Disk::new(hard_state, log_of(self.size, terms))
                }
                None if is_member => self.first_log(),
                None => Disk::default(),
            };
            Arc::new(Node::new(id, &self.config, disk))
        };
        let mut state = State {
            nodes: (1..=self.size).map(node).collect(),
            letters: BTreeMap::new(),
            seen: Arc::new(Seen {
                leaders: self.leaders.iter().copied().collect(),
                committed: vec![(LogId::new(1, 1), None, 1)],
                ..Seen::default()
            }),
            left: Budget::default(),
            violation: None,
            is_over: false,
            events: 0,
            canonical: 0,
        };
        for id in 1..=self.size {
            self.carry_out(&mut state, id);
            self.settle(&mut state);
        }
        if let Some(leader) = self.led_by {
            self.step_late(&mut state, leader, Input::Timeout);
            self.settle(&mut state);
            // The first heartbeats may have been left out.
            self.heartbeat(&mut state, leader);
            self.settle(&mut state);
            assert_eq!(state.node(leader).engine.role(), RoleName::Leader, "{state}");
        }
        if let (true, Some(leader)) = (self.one_clock, self.led_by) {
            self.pass_time(&mut state);
            self.heartbeat(&mut state, leader);
            state.letters.retain(|_, letter| letter.from != 3 && letter.to != 3);
            self.settle(&mut state);
        }
        // What is broken on purpose may be seen already.
        let violation = state.violation.take();
        assert!(violation.is_none() || self.breaks != Break::Nothing, "{violation:?}");
        state.left = self.budget;
        state.events = 0;
        self.print_all(&mut state);
        state
    }

    /// Everything that is under way arrives, and all writes are done.
    fn settle(&self, state: &mut State) {
        loop {
            if let Some((_, letter)) = state.letters.pop_first() {
                self.deliver(state, &letter, false);
            } else if let Some(id) = (1..=self.size).find(|id| !state.node(*id).writes.is_empty()) {
                self.persist(state, id);
            } else {
                return;
            }
        }
    }

    fn print_all(&self, state: &mut State) {
        for node in &mut state.nodes {
            Arc::make_mut(node).print(&self.ways);
        }
        state.canonical = state.canonical(&self.ways);
    }

    /// Whom an action changes.
    fn actor(action: &Action) -> u64 {
        match action {
            Action::Deliver { letter, .. } => letter.to,
            Action::Lose(letter) => letter.from,
            Action::Persist(id)
            | Action::Timeout(id)
            | Action::Campaign(id)
            | Action::Heartbeat(id)
            | Action::Write(id)
            | Action::Read(id)
            | Action::Change(id)
            | Action::BuildSnapshot(id)
            | Action::FinishInstall(id)
            | Action::Restart { node: id, .. } => *id,
        }
    }

    fn act(&self, state: &mut State, action: &Action) {
        match action {
            Action::Deliver { letter, late, again } => {
                if *again {
                    state.left.duplicates -= 1;
                } else {
                    state.letters.remove(&letter.prints[0]);
                }
                self.deliver(state, letter, *late);
            }
            Action::Lose(letter) => {
                state.letters.remove(&letter.prints[0]);
                if let What::Snapshot { id, .. } = letter.what {
                    self.step(state, letter.from, Input::SnapshotSent { id, response: None });
                }
            }
            Action::Persist(id) => self.persist(state, *id),
            Action::Timeout(id) => {
                state.left.timeouts -= 1;
                self.step_late(state, *id, Input::Timeout);
            }
            Action::Campaign(id) => {
                state.left.timeouts -= 1;
                self.step(state, *id, Input::Campaign);
            }
            Action::Heartbeat(id) => {
                state.left.heartbeats -= 1;
                self.heartbeat(state, *id);
            }
            Action::Write(id) => {
                state.left.writes -= 1;
                let number = u64::from(self.budget.writes - state.left.writes);
                let request = openconsensus::engine::RequestId(1000 + number);
                self.step(state, *id, Input::Write { request, commands: vec![number] });
            }
            Action::Read(id) => {
                state.left.reads -= 1;
                self.read(state, *id);
            }
            Action::Change(id) => {
                state.left.changes -= 1;
                let request = openconsensus::engine::RequestId(3000 + u64::from(state.left.changes));
                let change = self.change.clone().expect("there is a change in the budget");
                self.step(state, *id, Input::ChangeMembership { request, change, expected: None });
            }
            Action::BuildSnapshot(id) => {
                state.left.snapshots -= 1;
                let request = openconsensus::engine::RequestId(4000 + u64::from(state.left.snapshots));
                self.step(state, *id, Input::BuildSnapshot { request });
            }
            Action::Restart { node, parts } => {
                state.left.crashes -= 1;
                self.restart(state, *node, *parts);
            }
            Action::FinishInstall(id) => self.finish_install(state, *id),
        }
    }

    fn actions_of_letters(&self, state: &State, actions: &mut Vec<Action>) {
        for letter in state.letters.values() {
            let is_message = matches!(letter.what, What::Message(_));
            let lates: &[bool] = match (letter.is_vote_request() && !self.one_clock, self.leases) {
                (false, _) => &[false],
                (true, false) => &[true],
                (true, true) => &[false, true],
            };
            for late in lates {
                actions.push(Action::Deliver { letter: letter.clone(), late: *late, again: false });
                if 0 < state.left.duplicates && is_message {
                    actions.push(Action::Deliver { letter: letter.clone(), late: *late, again: true });
                }
            }
            if matches!(letter.what, What::Snapshot { .. }) {
                actions.push(Action::Lose(letter.clone()));
            }
        }
    }

    fn actions_of_node(&self, state: &State, node: &Node, actions: &mut Vec<Action>) {
        let id = node.id;
        let left = &state.left;
        let is_leader = node.engine.role() == RoleName::Leader;
        if let Some(write) = node.writes.front() {
            actions.push(Action::Persist(id));
            if 0 < left.crashes && self.torn_writes {
                actions.extend((1..parts_of(write)).map(|parts| Action::Restart { node: id, parts }));
            }
        }
        let membership = node.engine.membership();
        if 0 < left.timeouts
            && (!is_leader && membership.is_voter(id) || is_leader && self.config.check_quorum)
        {
            actions.push(Action::Timeout(id));
            if self.one_clock {
                actions.push(Action::Campaign(id));
            }
        }
        // With one clock the node that has promised.
        if 0 < left.crashes && (!self.one_clock || id == 2) {
            actions.push(Action::Restart { node: id, parts: 0 });
        }
        if node.installing.is_some() {
            actions.push(Action::FinishInstall(id));
        }
        // Followers ask their leader.
        let may_read = if self.one_clock { is_leader } else { node.engine.leader().is_some() };
        if 0 < left.reads && may_read {
            actions.push(Action::Read(id));
        }
        if is_leader {
            let may = |count: u8, action| (0 < count).then_some(action);
            actions.extend(may(left.writes, Action::Write(id)));
            actions.extend(may(left.heartbeats, Action::Heartbeat(id)));
            actions.extend(may(left.changes, Action::Change(id)));
        }
        if 0 < left.snapshots
            && node.snapshot.as_ref().map_or(0, |image| image.applied.last_applied.index)
                < node.machine.applied.last_applied.index
        {
            actions.push(Action::BuildSnapshot(id));
        }
    }
}

/// Of how many parts a write consists: the hard state, the truncation, the purge, and each entry.
pub(crate) fn parts_of(write: &openconsensus::engine::LogWrite<Test>) -> usize {
    usize::from(write.hard_state.is_some())
        + usize::from(write.truncate.is_some())
        + usize::from(write.purge.is_some())
        + write.append.len()
}

impl Model for System {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.first_state()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.violation.is_some() {
            return;
        }
        let is_late = self.until.is_some_and(|until| until <= Instant::now());
        if is_late || self.steps_max <= self.steps.load(Ordering::Relaxed) {
            self.is_cut.store(true, Ordering::Relaxed);
            return;
        }
        self.actions_of_letters(state, actions);
        for node in &state.nodes {
            self.actions_of_node(state, node, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let actor = Self::actor(&action);
        self.steps.fetch_add(1, Ordering::Relaxed);
        let mut state = last.clone();
        state.events = 0;
        let acted = panics::catch(|| self.act(&mut state, &action));
        if let Err(panic) = acted {
            // What a half-way step has left behind is not looked at any more.
            state = last.clone();
            state.events = 0;
            state.violate(Rule::NoAssertionFails, || panic.message);
            state.canonical = last.canonical.wrapping_add(1);
            return Some(state);
        }
        if state.is_over {
            return None;
        }
        if self.one_clock {
            for node in &mut state.nodes {
                Arc::make_mut(node).print(&self.ways);
            }
        } else {
            state.node_mut(actor).print(&self.ways);
        }
        state.canonical = state.canonical(&self.ways);
        for (event, count) in self.counts.iter().enumerate() {
            if state.events & 1 << event != 0 {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        (state.canonical != last.canonical).then_some(state)
    }

    fn format_action(&self, action: &Action) -> String {
        match action {
            Action::Deliver { letter, late, again } => {
                let late = if *late { " after a long silence" } else { "" };
                let again = if *again { ", and may once more" } else { "" };
                format!("arrives{late}{again}: {letter}")
            }
            Action::Lose(letter) => format!("is lost: {letter}"),
            Action::Persist(id) => format!("node {id}: the oldest write is done"),
            Action::Timeout(id) => format!("node {id}: the timers run out"),
            Action::Campaign(id) => format!("node {id}: is asked to campaign"),
            Action::Heartbeat(id) => format!("node {id}: sends heartbeats"),
            Action::Write(id) => format!("node {id}: a client writes"),
            Action::Read(id) => format!("node {id}: a client reads"),
            Action::Change(id) => format!("node {id}: {:?}", self.change),
            Action::BuildSnapshot(id) => format!("node {id}: builds a snapshot"),
            Action::Restart { node, parts: 0 } => format!("node {node}: crashes and restarts"),
            Action::Restart { node, parts } => {
                format!("node {node}: crashes after {parts} parts of a write, and restarts")
            }
            Action::FinishInstall(id) => format!("node {id}: has installed a snapshot"),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("Election Safety", |_, state: &State| state.keeps(Rule::ElectionSafety)),
            Property::always("Log Matching", |_, state: &State| state.keeps(Rule::LogMatching)),
            Property::always("Leader Append-Only", |_, state: &State| state.keeps(Rule::LeaderAppendOnly)),
            Property::always("Leader Completeness", |_, state: &State| state.keeps(Rule::LeaderCompleteness)),
            Property::always("State Machine Safety", |_, state: &State| {
                state.keeps(Rule::StateMachineSafety)
            }),
            Property::always("durable before sent", |_, state: &State| state.keeps(Rule::DurableBeforeSent)),
            Property::always("committed is durable", |_, state: &State| {
                state.keeps(Rule::CommittedIsDurable)
            }),
            Property::always("reads are fresh", |_, state: &State| state.keeps(Rule::FreshReads)),
            Property::always("one change at a time", |_, state: &State| state.keeps(Rule::OneChangeAtATime)),
            Property::always("no assertion fails", |_, state: &State| state.keeps(Rule::NoAssertionFails)),
        ];
        let mut may = |is_possible: bool, property| properties.extend(is_possible.then_some(property));
        let budget = &self.budget;
        may(
            0 < budget.timeouts,
            Property::sometimes("a leader is elected", |_, s: &State| s.saw(Event::Elected)),
        );
        may(
            0 < budget.writes,
            Property::sometimes("an entry commits", |_, s: &State| s.saw(Event::Committed)),
        );
        may(
            1 < budget.timeouts && 0 < budget.writes,
            Property::sometimes("a log is truncated", |_, s: &State| s.saw(Event::Truncated)),
        );
        may(
            0 < budget.reads,
            Property::sometimes("a read is confirmed", |_, s: &State| s.saw(Event::ReadConfirmed)),
        );
        may(
            0 < budget.snapshots && self.installs,
            Property::sometimes("a snapshot is installed", |_, s: &State| s.saw(Event::SnapshotInstalled)),
        );
        may(
            0 < budget.changes,
            Property::sometimes("a membership commits", |_, s: &State| s.saw(Event::MembershipCommitted)),
        );
        let is_joint = matches!(self.change, Some(MembershipChange::SetVoters(_)));
        may(
            is_joint,
            Property::sometimes("a membership is joint", |_, s: &State| s.saw(Event::JointEntered)),
        );
        may(
            is_joint,
            Property::sometimes("a joint membership is left", |_, s: &State| s.saw(Event::JointLeft)),
        );
        may(
            0 < budget.crashes,
            Property::sometimes("a node restarts", |_, s: &State| s.saw(Event::Restarted)),
        );
        properties
    }
}
