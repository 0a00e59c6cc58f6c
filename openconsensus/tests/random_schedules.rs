//! Several engines under one seed: a faulty network, slow disks, crashes, membership changes, snapshots, transfers and
//! reads, with the safety oracles after every event and a liveness oracle at the end.
//!
//! A failure prints its seed. `SEED=n cargo test -p openconsensus --test random_schedules` repeats it, and
//! `SEEDS=n` runs more of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use openconsensus::engine::{
    Apply, Effects, Engine, Input, LogWrite, Recovered, Reply, RequestId, SnapshotEffect, SnapshotId,
};
use openconsensus::{
    AppliedState, ApplyBatch, Config, Entries, Entry, HardState, Index, InstallSnapshot,
    InstallSnapshotResponse, LogId, MembershipAt, MembershipChange, Message, Payload, RoleName, SnapshotMeta,
    Term, TypeConfig,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Numbers;

impl TypeConfig for Numbers {
    type Command = u64;
    type Response = ();
    type NodeId = u64;
    type Node = ();

    fn command_bytes(_command: &u64) -> u64 {
        8
    }
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len() as u64) as usize])
    }
}

/// The commands that a state machine has applied, with their entries.
type State = Vec<(LogId, u64)>;

/// What survives a crash.
#[derive(Clone, Default)]
struct Disk {
    hard_state: HardState<Numbers>,
    purged: LogId,
    entries: VecDeque<Entry<Numbers>>,
    /// The state machine is persistent: commands with their entries.
    state: State,
    applied: AppliedState<Numbers>,
    snapshot: Option<(SnapshotMeta<Numbers>, State)>,
}

impl Disk {
    fn last(&self) -> LogId {
        self.entries.back().map_or(self.purged, |entry| entry.log_id)
    }

    fn write(&mut self, write: LogWrite<Numbers>) {
        self.write_parts(write, usize::MAX);
    }

    /// Does the first `parts` of what a write consists of: a crash may come between any two, and between two entries.
    fn write_parts(&mut self, write: LogWrite<Numbers>, mut parts: usize) {
        let mut is_reached = |is_part: bool| {
            let is_done = is_part && 0 < parts;
            parts -= usize::from(is_done);
            is_done
        };
        if let Some(hard_state) = write.hard_state
            && is_reached(true)
        {
            assert!(self.hard_state.term <= hard_state.term);
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate
            && is_reached(true)
        {
            self.entries.retain(|entry| entry.log_id.index < from);
        }
        if let Some(upto) = write.purge
            && is_reached(true)
        {
            self.entries.retain(|entry| upto.index < entry.log_id.index);
            self.purged = upto;
        }
        let is_whole = is_reached(true);
        for entry in write.append.iter() {
            if !is_reached(is_whole) {
                return;
            }
            assert_eq!(entry.log_id.index, self.last().index + 1, "an append must follow the log");
            self.entries.push_back(entry.clone());
        }
        if is_whole {
            self.hard_state.commit = self.hard_state.commit.max(write.commit);
        }
    }

    fn read(&self, range: std::ops::Range<Index>) -> Entries<Numbers> {
        let entries = self.entries.iter().filter(|entry| range.contains(&entry.log_id.index));
        entries.cloned().collect::<Vec<_>>().into()
    }

    fn recovered(&mut self, id: u64, seed: u64) -> Recovered<Numbers> {
        if self.last().index < self.applied.last_applied.index {
            // Crashed between installing a snapshot and purging the log.
            assert_eq!(self.snapshot.as_ref().map(|(meta, _)| meta.last), Some(self.applied.last_applied));
            self.purged = self.applied.last_applied;
            self.entries.clear();
        }
        let mut term_starts: Vec<LogId> = Vec::new();
        let mut memberships = Vec::new();
        for entry in &self.entries {
            if term_starts.last().is_none_or(|start| start.term != entry.log_id.term) {
                term_starts.push(entry.log_id);
            }
            if let Payload::Membership(membership) = &entry.payload
                && self.applied.last_applied.index < entry.log_id.index
            {
                memberships.push(MembershipAt { log_id: entry.log_id, membership: membership.clone() });
            }
        }
        Recovered {
            id,
            seed,
            hard_state: self.hard_state,
            purged: self.purged,
            last: self.last(),
            term_starts,
            memberships,
            applied: self.applied.clone(),
            snapshot: self.snapshot.as_ref().map_or(LogId::ZERO, |(meta, _)| meta.last),
        }
    }
}

/// Work for the state machine, done in order.
enum Work {
    Apply(Apply<Numbers>),
    Snapshot(SnapshotEffect<Numbers>),
}

struct Node {
    engine: Option<Engine<Numbers>>,
    disk: Disk,
    writes: VecDeque<LogWrite<Numbers>>,
    work: VecDeque<Work>,
    discarded: BTreeSet<SnapshotId>,
    /// Streams of snapshots that came with requests.
    streams: BTreeMap<RequestId, Stream>,
    restarts: u64,
}

struct Stream {
    from: u64,
    incarnation: u64,
    id: SnapshotId,
    data: State,
}

enum Event {
    Message(Message<Numbers>),
    Install { id: SnapshotId, incarnation: u64, request: InstallSnapshot<Numbers>, data: State },
    Installed { id: SnapshotId, incarnation: u64, response: Option<InstallSnapshotResponse> },
}

struct Flying {
    at: Instant,
    from: u64,
    to: u64,
    event: Event,
}

#[derive(Clone, Copy, Debug)]
enum Waiting {
    Write,
    /// Everything up to here was applied somewhere when the read began.
    Read(Index),
    Other,
}

#[derive(Debug, Default)]
struct Coverage {
    leaders: u64,
    crashes: u64,
    truncations: u64,
    snapshots_installed: u64,
    joint: u64,
    reads: u64,
    writes: u64,
    transfers: u64,
    catch_up_reads: u64,
}

struct World {
    seed: u64,
    chance: Chance,
    now: Instant,
    config: Config,
    nodes: BTreeMap<u64, Node>,
    flying: Vec<Flying>,
    cut: BTreeSet<(u64, u64)>,
    /// The entry at each index that any state machine has applied, from index 1.
    history: Vec<(LogId, Option<u64>)>,
    leaders: BTreeMap<Term, u64>,
    requests: BTreeMap<(u64, RequestId), Waiting>,
    next_request: u64,
    next_command: u64,
    loss_percent: u64,
    faults: bool,
    coverage: Coverage,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let config = Config {
            snapshot_after_entries: [None, Some(5), Some(30)][chance.below(3) as usize],
            log_keep_entries: chance.below(6),
            log_hold_entries_max: 6 + chance.below(30),
            tail_bytes_max: [0, 300, 1 << 20][chance.below(3) as usize],
            inflight_appends_max: 1 + chance.below(5),
            append_bytes_max: 1024,
            inflight_bytes_max: 2048,
            apply_entries_max: 1 + chance.below(20),
            // Short, so that much happens in a short run.
            election_timeout_ms_min: 30,
            election_timeout_ms_max: 60,
            heartbeat_interval_ms: 6,
            transfer_timeout_ms: 100,
            pre_vote: chance.percent(80),
            check_quorum: chance.percent(80),
            read_timeout_ms: 600,
            promotion_lag_entries_max: 100,
            ..Config::default()
        };
        // Without both of them a removed node that has not learned it disturbs for ever (thesis 4.2.3).
        let config = Config { check_quorum: config.check_quorum || !config.pre_vote, ..config };
        let mut world = Self {
            seed,
            loss_percent: chance.below(20),
            chance,
            now: Instant::now(),
            config,
            nodes: BTreeMap::new(),
            flying: Vec::new(),
            cut: BTreeSet::new(),
            history: Vec::new(),
            leaders: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_request: 1,
            next_command: 1,
            faults: true,
            coverage: Coverage::default(),
        };
        for id in 1..=5 {
            world.nodes.insert(
                id,
                Node {
                    engine: None,
                    disk: Disk::default(),
                    writes: VecDeque::new(),
                    work: VecDeque::new(),
                    discarded: BTreeSet::new(),
                    streams: BTreeMap::new(),
                    restarts: 0,
                },
            );
            world.start(id);
        }
        let voters = (1..=1 + world.chance.below(4)).map(|id| (id, ())).collect();
        let request = world.request(1, Waiting::Other);
        world.step(1, Input::Initialize { request, nodes: voters });
        while world.requests.contains_key(&(1, request)) {
            let effects = world.nodes.get_mut(&1).unwrap().engine.as_mut().unwrap().take_effects(world.now);
            world.carry_out(1, effects);
            world.complete_write(1);
        }
        world
    }

    fn start(&mut self, id: u64) {
        let seed = self.chance.next();
        let config = self.config.clone().validate().expect("the configuration is valid");
        let node = self.nodes.get_mut(&id).unwrap();
        node.restarts += 1;
        let recovered = node.disk.recovered(id, seed);
        node.engine = Some(Engine::new(config, recovered, self.now).expect("the disk is consistent"));
    }

    fn crash(&mut self, id: u64) {
        self.coverage.crashes += 1;
        let kept = self.chance.below(3);
        let node = self.nodes.get_mut(&id).unwrap();
        node.engine = None;
        // What was being written may have reached the disk, in order.
        for _ in 0..kept {
            if let Some(write) = node.writes.pop_front() {
                node.disk.write(write);
            }
        }
        if let Some(write) = node.writes.pop_front() {
            node.disk.write_parts(write, self.chance.below(6) as usize);
        }
        node.writes.clear();
        node.work.clear();
        node.streams.clear();
        self.requests.retain(|(of, _), _| *of != id);
    }

    fn request(&mut self, node: u64, waiting: Waiting) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.requests.insert((node, request), waiting);
        request
    }

    fn step(&mut self, id: u64, input: Input<Numbers>) {
        let now = self.now;
        let node = self.nodes.get_mut(&id).unwrap();
        if let Some(engine) = &mut node.engine {
            engine.step(now, input);
            // Several steps may pass before the effects are taken.
            if self.faults && self.chance.percent(30) {
                return;
            }
            let effects = engine.take_effects(now);
            self.carry_out(id, effects);
        }
    }

    fn carry_out(&mut self, id: u64, effects: Effects<Numbers>) {
        for (to, message) in effects.messages {
            self.fly(id, to, Event::Message(message));
        }
        for (request, reply) in effects.replies {
            self.on_reply(id, request, reply);
        }
        let node = self.nodes.get_mut(&id).unwrap();
        node.writes.extend(effects.write);
        node.work.extend(effects.apply.map(Work::Apply));
        for effect in effects.snapshots {
            if let SnapshotEffect::Discard { id } = effect {
                node.discarded.insert(id);
            } else {
                node.work.push_back(Work::Snapshot(effect));
            }
        }
        for read in effects.reads {
            let entries = self.nodes[&id].disk.read(read.range).limit_bytes(read.bytes_max);
            self.coverage.catch_up_reads += 1;
            self.step(id, Input::LogRead { read: read.id, entries });
        }

        self.check_leader(id);
    }

    fn fly(&mut self, from: u64, to: u64, event: Event) {
        let copies = if self.faults && self.chance.percent(5) { 2 } else { 1 };
        if copies == 2
            && let Event::Message(message) = &event
        {
            let at = self.now + Duration::from_millis(self.chance.below(400));
            self.flying.push(Flying { at, from, to, event: Event::Message(message.clone()) });
        }
        if self.faults
            && self.chance.below(100) < self.loss_percent
            && !matches!(event, Event::Installed { .. })
        {
            return self.lost(from, event);
        }
        let slow = self.faults && self.chance.percent(10);
        let micros = if slow { self.chance.below(300_000) } else { 100 + self.chance.below(3000) };
        self.flying.push(Flying { at: self.now + Duration::from_micros(micros), from, to, event });
    }

    /// A driver always learns the end of a transfer.
    fn lost(&mut self, from: u64, event: Event) {
        if let Event::Install { id, incarnation, .. } = event {
            let event = Event::Installed { id, incarnation, response: None };
            let at = self.now + Duration::from_millis(50);
            self.flying.push(Flying { at, from, to: from, event });
        }
    }

    fn on_reply(&mut self, id: u64, request: RequestId, reply: Reply<Numbers>) {
        if let Reply::InstallFinished(response) = &reply {
            let Some(stream) = self.nodes.get_mut(&id).unwrap().streams.remove(&request) else { return };
            let event = Event::Installed {
                id: stream.id,
                incarnation: stream.incarnation,
                response: Some(*response),
            };
            return self.fly(id, stream.from, event);
        }
        let waiting = self.requests.remove(&(id, request)).expect("each request is answered once");
        match (waiting, reply) {
            (Waiting::Read(seen), Reply::ReadReady { index }) => {
                assert!(
                    seen <= index,
                    "seed {}: a read at {index} misses what was applied at {seen}",
                    self.seed
                );
                self.coverage.reads += 1;
            }
            (Waiting::Write, Reply::Appended { .. }) => self.coverage.writes += 1,
            (Waiting::Other, Reply::Transferred { .. }) => self.coverage.transfers += 1,
            (Waiting::Read(_), Reply::ReadFailed { .. }) | (Waiting::Write, Reply::NotLeader { .. }) => {}
            (Waiting::Other, _) => {}
            (waiting, reply) => panic!("seed {}: {reply:?} does not answer {waiting:?}", self.seed),
        }
    }

    fn check_leader(&mut self, id: u64) {
        let Some(engine) = &self.nodes[&id].engine else { return };
        let metrics = engine.metrics(self.now);
        if metrics.role == RoleName::Leader {
            let before = self.leaders.insert(metrics.term, id);
            if before.is_none() {
                self.coverage.leaders += 1;
            }
            assert!(
                before.is_none_or(|leader| leader == id),
                "seed {}: two leaders in term {}",
                self.seed,
                metrics.term
            );
        }
        if metrics.membership.membership.is_joint() {
            self.coverage.joint += 1;
        }
        self.coverage.truncations = self.coverage.truncations.max(metrics.counters.truncations);
        assert!(metrics.term >= self.nodes[&id].disk.hard_state.term);
    }

    fn complete_write(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        let count = 1 + self.chance.below(node.writes.len().max(1) as u64);
        let mut last = None;
        for _ in 0..count {
            if let Some(write) = node.writes.pop_front() {
                last = Some(write.id);
                node.disk.write(write);
            }
        }
        if let Some(write) = last {
            self.step(id, Input::Persisted { write });
        }
    }

    fn do_work(&mut self, id: u64) {
        let Some(work) = self.nodes.get_mut(&id).unwrap().work.pop_front() else { return };
        match work {
            Work::Apply(apply) => self.apply(id, apply),
            Work::Snapshot(SnapshotEffect::Build { id: snapshot }) => {
                let disk = &mut self.nodes.get_mut(&id).unwrap().disk;
                let meta = SnapshotMeta {
                    last: disk.applied.last_applied,
                    membership: disk.applied.membership.clone(),
                    size_bytes: None,
                };
                disk.snapshot = Some((meta.clone(), disk.state.clone()));
                self.step(id, Input::SnapshotBuilt { id: snapshot, meta });
            }
            Work::Snapshot(SnapshotEffect::Send { id: snapshot, peer, term }) => {
                let node = &self.nodes[&id];
                let incarnation = node.restarts;
                let (meta, data) = node.disk.snapshot.clone().expect("only sent when there is one");
                let request = InstallSnapshot { term, leader: id, meta };
                self.fly(id, peer, Event::Install { id: snapshot, incarnation, request, data });
            }
            Work::Snapshot(SnapshotEffect::Install { id: snapshot, request, snapshot: install }) => {
                self.install(id, snapshot, request, &install);
            }
            Work::Snapshot(SnapshotEffect::Discard { .. }) => {}
        }
    }

    fn apply(&mut self, id: u64, apply: Apply<Numbers>) {
        let node = self.nodes.get_mut(&id).unwrap();
        let cached_from =
            if apply.entries.is_empty() { apply.range.end } else { apply.entries.range().start };
        let stored = node.disk.read(apply.range.start..cached_from);
        let entries = Entries::concat([stored, apply.entries]);
        assert_eq!(entries.range(), apply.range, "seed {}", self.seed);
        let batch = ApplyBatch::new(&node.disk.applied, entries);
        for entry in batch.entries().iter() {
            let command = match entry.payload {
                Payload::Command(command) => Some(command),
                Payload::Blank | Payload::Membership(_) => None,
            };
            node.disk.state.extend(command.map(|command| (entry.log_id, command)));
            let place = entry.log_id.index as usize - 1;
            if place < self.history.len() {
                assert_eq!(
                    self.history[place],
                    (entry.log_id, command),
                    "seed {}: two nodes apply differently",
                    self.seed
                );
            } else {
                assert_eq!(place, self.history.len());
                self.history.push((entry.log_id, command));
            }
        }
        node.disk.applied = batch.applied_state().clone();
        let last = node.disk.applied.last_applied;
        self.step(id, Input::Applied { last });
    }

    fn install(
        &mut self,
        id: u64,
        snapshot: SnapshotId,
        request: RequestId,
        install: &InstallSnapshot<Numbers>,
    ) {
        let breaks = self.faults && self.chance.percent(30);
        let node = self.nodes.get_mut(&id).unwrap();
        let fails = breaks || node.discarded.contains(&snapshot);
        let stream = &node.streams[&request];
        if !fails {
            self.coverage.snapshots_installed += 1;
            assert!(node.disk.applied.last_applied.index < install.meta.last.index);
            node.disk.state = stream.data.clone();
            node.disk.applied =
                AppliedState { last_applied: install.meta.last, membership: install.meta.membership.clone() };
            node.disk.snapshot = Some((install.meta.clone(), stream.data.clone()));
            let expected = self.history[..install.meta.last.index as usize].iter();
            let expected: Vec<_> =
                expected.filter_map(|(id, command)| command.map(|command| (*id, command))).collect();
            assert_eq!(node.disk.state, expected, "seed {}: a snapshot differs from the history", self.seed);
        }
        self.step(id, Input::SnapshotInstalled { id: snapshot, installed: !fails });
    }

    fn deliver(&mut self, flying: Flying) {
        let Flying { from, to, event, .. } = flying;
        if from != to && self.cut.contains(&(from, to)) || self.nodes[&to].engine.is_none() {
            return self.lost(from, event);
        }
        match event {
            Event::Message(message) => self.step(to, Input::Receive { from, message }),
            Event::Install { id, incarnation, request: snapshot, data } => {
                let request = RequestId(self.next_request);
                self.next_request += 1;
                let node = self.nodes.get_mut(&to).unwrap();
                node.streams.insert(request, Stream { from, incarnation, id, data });
                // If the receiver dies, the sender's driver notices.
                let at = self.now + Duration::from_millis(500);
                let event = Event::Installed { id, incarnation, response: None };
                self.flying.push(Flying { at, from, to: from, event });
                self.step(to, Input::InstallSnapshot { request, snapshot });
            }
            Event::Installed { id, incarnation, response } => {
                if self.nodes[&to].restarts == incarnation {
                    self.step(to, Input::SnapshotSent { id, response });
                }
            }
        }
    }

    /// Lets time pass until the next thing happens, and everything that is due happen.
    fn advance(&mut self) {
        let deadlines = self.nodes.values().filter_map(|node| node.engine.as_ref()?.next_deadline());
        let next = deadlines.chain(self.flying.iter().map(|flying| flying.at)).min();
        self.now = self.now.max(next.unwrap_or(self.now));
        let mut place = 0;
        while place < self.flying.len() {
            if self.flying[place].at <= self.now {
                let flying = self.flying.swap_remove(place);
                self.deliver(flying);
            } else {
                place += 1;
            }
        }
        for id in self.ids() {
            let is_due = |engine: &Engine<Numbers>| engine.next_deadline().is_some_and(|at| at <= self.now);
            if self.nodes[&id].engine.as_ref().is_some_and(is_due) {
                self.step(id, Input::Timeout);
            }
        }
    }

    fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    fn running(&self) -> Vec<u64> {
        self.nodes.iter().filter(|(_, node)| node.engine.is_some()).map(|(id, _)| *id).collect()
    }

    fn client(&mut self) {
        let running = self.running();
        let Some(id) = self.chance.pick(&running) else { return };
        match self.chance.below(100) {
            0..60 => {
                let request = self.request(id, Waiting::Write);
                let first = self.next_command;
                self.next_command += 1 + self.chance.below(4);
                let commands = (first..self.next_command).collect();
                self.step(id, Input::Write { request, commands });
            }
            60..80 => {
                let request = self.request(id, Waiting::Read(self.history.len() as Index));
                self.step(id, Input::Read { request });
            }
            80..84 => {
                let request = self.request(id, Waiting::Other);
                let target = self.chance.percent(70).then(|| 1 + self.chance.below(5));
                self.step(id, Input::TransferLeadership { request, target });
            }
            84..87 => self.step(id, Input::Campaign),
            87..89 => {
                let request = self.request(id, Waiting::Other);
                self.step(id, Input::BuildSnapshot { request });
            }
            _ => self.change_membership(id),
        }
    }

    fn change_membership(&mut self, id: u64) {
        let nodes: Vec<u64> = (1..=5).filter(|_| self.chance.percent(40)).collect();
        let set: BTreeSet<u64> = nodes.iter().copied().collect();
        let change = match self.chance.below(5) {
            0 => MembershipChange::AddLearners(nodes.iter().take(1).map(|id| (*id, ())).collect()),
            1 => MembershipChange::Promote(set),
            2 => MembershipChange::Demote(nodes.into_iter().take(1).collect()),
            3 => MembershipChange::Remove(nodes.into_iter().take(1).collect()),
            _ => MembershipChange::SetVoters(set),
        };
        let request = self.request(id, Waiting::Other);
        self.step(id, Input::ChangeMembership { request, change, expected: None });
    }

    fn fault(&mut self) {
        let (a, b) = (1 + self.chance.below(5), 1 + self.chance.below(5));
        match self.chance.below(12) {
            0..2 => {
                self.cut.insert((a, b));
                if self.chance.percent(60) {
                    self.cut.insert((b, a));
                }
            }
            // A leader that is cut off goes on appending what others will overwrite.
            2 | 3 => {
                let alone = self.leader().unwrap_or(a);
                for other in self.ids() {
                    self.cut.extend([(alone, other), (other, alone)]);
                }
            }
            4..7 => self.cut.clear(),
            7 | 8 => {
                let victim = self.leader().filter(|_| self.chance.percent(40)).unwrap_or(a);
                if self.nodes[&victim].engine.is_some() {
                    self.crash(victim);
                }
            }
            _ => {
                for id in self.ids() {
                    if self.nodes[&id].engine.is_none() {
                        self.start(id);
                    }
                }
            }
        }
    }

    /// Who leads in the latest term.
    fn leader(&self) -> Option<u64> {
        let metrics = self.nodes.values().filter_map(|node| Some(node.engine.as_ref()?.metrics(self.now)));
        let leaders = metrics.filter(|metrics| metrics.role == RoleName::Leader);
        leaders.max_by_key(|metrics| metrics.term).map(|metrics| metrics.id)
    }

    fn turn(&mut self) {
        match self.chance.below(100) {
            0..45 => self.advance(),
            45..67 => self.some(Self::complete_write),
            67..87 => self.some(Self::do_work),
            87..97 => self.client(),
            _ if self.chance.percent(25) => self.fault(),
            _ => self.advance(),
        }
    }

    /// Lets about half of the nodes get on with something.
    fn some(&mut self, what: impl Fn(&mut Self, u64)) {
        for id in self.ids() {
            if self.chance.percent(50) {
                what(self, id);
            }
        }
    }

    /// Everything works again: there must soon be one leader, and all members must agree.
    fn heal(&mut self) {
        self.faults = false;
        self.cut.clear();
        for id in self.ids() {
            if self.nodes[&id].engine.is_none() {
                self.start(id);
            }
        }
        let end = self.now + Duration::from_secs(3);
        while self.now < end {
            for id in self.ids() {
                let now = self.now;
                if let Some(engine) = &mut self.nodes.get_mut(&id).unwrap().engine {
                    let effects = engine.take_effects(now);
                    self.carry_out(id, effects);
                }
                for _ in 0..3 {
                    self.complete_write(id);
                    self.do_work(id);
                }
            }
            self.advance();
        }
        self.check_agreement();
    }

    fn check_agreement(&self) {
        let metrics: Vec<_> =
            self.nodes.values().filter_map(|node| Some(node.engine.as_ref()?.metrics(self.now))).collect();
        let leaders: Vec<_> = metrics.iter().filter(|metrics| metrics.role == RoleName::Leader).collect();
        let seed = self.seed;
        let max_term = leaders.iter().max_by_key(|metrics| metrics.term);
        let leader = max_term.unwrap_or_else(|| panic!("seed {seed}: no leader: {metrics:#?}"));
        let membership = &leader.membership.membership;
        assert!(!membership.is_joint(), "seed {seed}: still joint: {leader:#?}");
        for node in &metrics {
            if membership.is_member(node.id) {
                let view = (node.leader, node.last, node.committed, node.applied);
                let expected = (Some(leader.id), leader.last, leader.last.index, leader.last);
                assert_eq!(view, expected, "seed {seed}: node {} is not in step: {metrics:#?}", node.id);
            }
        }
        let open: Vec<_> = self.requests.iter().collect();
        assert!(open.is_empty(), "seed {seed}: never answered: {open:?}");
    }
}

fn run(seed: u64) -> Coverage {
    let mut world = World::new(seed);
    for _ in 0..6000 {
        world.turn();
    }
    world.heal();
    world.coverage
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn safety_and_liveness_hold_under_random_schedules() {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("SEEDS").unwrap_or(120),
    };
    let mut sum = Coverage::default();
    for seed in seeds.clone() {
        let result = std::panic::catch_unwind(|| run(seed));
        let Ok(coverage) = result else {
            panic!("repeat with: SEED={seed} cargo test -p openconsensus --test random_schedules");
        };
        sum.leaders += coverage.leaders;
        sum.crashes += coverage.crashes;
        sum.truncations += coverage.truncations;
        sum.snapshots_installed += coverage.snapshots_installed;
        sum.joint += coverage.joint;
        sum.reads += coverage.reads;
        sum.writes += coverage.writes;
        sum.transfers += coverage.transfers;
        sum.catch_up_reads += coverage.catch_up_reads;
    }
    println!("{sum:?}");
    if 100 <= seeds.end - seeds.start {
        // A simulation in which nothing happens proves nothing.
        let Coverage {
            leaders,
            crashes,
            truncations,
            snapshots_installed,
            joint,
            reads,
            writes,
            transfers,
            catch_up_reads,
        } = sum;
        for (what, count) in [
            ("leaders", leaders),
            ("crashes", crashes),
            ("truncations", truncations),
            ("snapshots installed", snapshots_installed),
            ("joint memberships", joint),
            ("reads", reads),
            ("writes", writes),
            ("transfers", transfers),
            ("reads of the log", catch_up_reads),
        ] {
            assert!(0 < count, "no {what} in the whole run");
        }
    }
}
