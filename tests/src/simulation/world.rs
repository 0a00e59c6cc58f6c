//! The simulated world: engines, disks, clocks and letters, and what each event does to them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use openconsensus::engine::{
    Effects, Input, LogRead, LogWrite, Reply, RequestId, SnapshotEffect, SnapshotId,
};
use openconsensus::{Body, Index, Membership, Message, Payload, RoleName, Term, ValidConfig, VoteKind};

use super::answers::Answers;
use super::clock::{Clock, RIGHT_PPM};
use super::coverage::{Count, Coverage};
use super::event::{Event, Happening};
use super::letters::{Kind, Letters};
use super::plan::Plan;
use super::sabotage::Sabotage;
use super::suspend::Suspended;
use super::trace::{Sight, Trace};
use crate::engines::node::{Installation, Node, Work};
use crate::engines::{Disk, Oracle, Test, What, log_of};

/// Everything, at one moment.
pub(super) struct World {
    pub(super) nodes: BTreeMap<u64, Node>,
    /// What belongs to a node beside its engine, disk and state machine, by id.
    pub(super) sides: Vec<Side>,
    pub(super) now_us: u64,
    start: Instant,
    pub(super) config: ValidConfig,
    pub(super) seed: u64,
    pub(super) oracle: Oracle,
    pub(super) answers: Answers,
    pub(super) letters: Letters,
    /// Links that lose everything: bit `to` of number `from`.
    cut: Vec<u32>,
    pub(super) coverage: Coverage,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) trace: Option<Trace>,
    /// Steps of engines.
    pub(super) steps: u64,
    /// Of everything that has happened.
    pub(super) hash: u64,
    /// Nodes that have changed since this was last looked at, as bits.
    pub(super) touched: u32,
    /// What is committed, as far as it was looked at here, and the latest membership there.
    pub(super) seen_committed: Index,
    pub(super) seen_membership: Membership<Test>,
    /// The latest term that somebody has led, as far as it was looked at here.
    pub(super) seen_leader: Option<(Term, u64)>,
    /// The latest term that anybody has asked votes for, and who.
    pub(super) seen_candidate: (Term, u64),
    command_bytes_max: u64,
    /// Disks keep the hint of the commit index that rides along with entries.
    pub(super) keeps_commit_hint: bool,
}

/// What belongs to a node beside the node itself.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) clock: Clock,
    pub(super) suspended: Suspended,
    /// Reads of old entries that are under way.
    pub(super) to_read: VecDeque<LogRead>,
    /// Snapshots that are to be sent.
    pub(super) to_send: VecDeque<(SnapshotId, u64, Term)>,
    /// Inputs were stepped whose effects were not taken.
    pub(super) has_effects: bool,
    /// Said to be durable, and not on the disk: only where the disk lies on purpose.
    pub(super) unflushed: VecDeque<LogWrite<Test>>,
    /// The disk before the last write, where a crash takes it back on purpose.
    pub(super) before_last: Option<Disk>,
}

impl World {
    pub(super) fn new(plan: &Plan, sabotage: Option<Sabotage>) -> Self {
        let config = plan.config.clone().validate().expect("the configuration of a plan is valid");
        let count = plan.nodes as usize;
        let timeout_us = |ms: u64| 1000 * ms;
        let (outcome, read) = (config.write_outcome_timeout_ms, config.read_timeout_ms);
        let mut answers = Answers::new(count, timeout_us(outcome), timeout_us(read));
        answers.by_index_only = sabotage == Some(Sabotage::AnswerByIndex);
        answers.reads_at_once = sabotage == Some(Sabotage::ReadAtOnce);
        let side = |id: u64| Side {
            clock: Clock::new(id * 7_919_000),
            suspended: Suspended::default(),
            to_read: VecDeque::new(),
            to_send: VecDeque::new(),
            has_effects: false,
            unflushed: VecDeque::new(),
            before_last: None,
        };
        let mut world = Self {
            nodes: BTreeMap::new(),
            sides: (0..=plan.nodes).map(side).collect(),
            now_us: 0,
            start: Instant::now(),
            config,
            seed: plan.seed,
            oracle: Oracle::default(),
            answers,
            letters: Letters::new(),
            cut: vec![0; count + 1],
            coverage: Coverage::default(),
            sabotage,
            trace: None,
            steps: 0,
            hash: plan.seed,
            touched: 0,
            seen_committed: 0,
            seen_membership: Membership::default(),
            seen_leader: None,
            seen_candidate: (0, 0),
            command_bytes_max: plan.command_bytes_max,
            keeps_commit_hint: plan.keeps_commit_hint,
        };
        for id in 1..=plan.nodes {
            let is_placed = plan.is_placed && id <= plan.voters;
            let disk = if is_placed { placed(plan.voters) } else { Disk::default() };
            world.nodes.insert(id, Node::new(id, disk));
        }
        for id in 1..=plan.nodes {
            world.restart(id);
        }
        world
    }

    /// Lets an event happen. One that finds nothing to do does nothing.
    pub(super) fn apply(&mut self, event: &Event) {
        self.now_us = self.now_us.max(event.at_us);
        self.mix(event.at_us);
        if self.is_asleep(event) {
            return;
        }
        self.show_event(event);
        let waits = event.waits;
        match event.what {
            Happening::Timeout { node } => self.step(node, Input::Timeout, waits),
            Happening::Deliver { letter, keep } => self.deliver(letter, keep, waits),
            Happening::Lose { letter } => self.lose(letter),
            Happening::FinishWrites { node, count } => self.finish_writes(node, count, waits),
            Happening::FailDisk { node, writes, parts } => self.fail_disk(node, writes, parts),
            Happening::Work { node, entries } => self.work(node, entries, waits),
            Happening::FinishBuilding { node, succeeds } => self.finish_building(node, succeeds, waits),
            Happening::DamageSnapshot { node, is_damaged } => self.damage_snapshot(node, is_damaged),
            Happening::FinishInstalling { node, succeeds } => self.finish_installing(node, succeeds, waits),
            Happening::FinishReading { node } => self.finish_reading(node, waits),
            Happening::SendSnapshot { node } => self.send_snapshot(node),
            Happening::TakeEffects { node } => self.take_effects(node),
            Happening::Crash { node, writes, parts, forgets } => self.crash(node, writes, parts, forgets),
            Happening::Restart { node } => self.restart(node),
            Happening::Cut { from, to } => self.cut[from as usize] |= 1 << to,
            Happening::Mend { from, to } => self.cut[from as usize] &= !(1 << to),
            Happening::MendAll => self.mend_all(),
            Happening::Suspend { node, for_us } => self.suspend(node, for_us),
            Happening::SetClock { node, rate_ppm, jump_us } => self.set_clock(node, rate_ppm, jump_us),
            Happening::Initialize { .. }
            | Happening::Write { .. }
            | Happening::Read { .. }
            | Happening::Change { .. }
            | Happening::Transfer { .. }
            | Happening::BuildSnapshot { .. }
            | Happening::PurgeLog { .. }
            | Happening::Campaign { .. }
            | Happening::PauseElections { .. }
            | Happening::PauseHeartbeats { .. }
            | Happening::ForgetLeader { .. }
            | Happening::Unreachable { .. } => self.ask(event),
        }
    }

    fn ask(&mut self, event: &Event) {
        let Some(id) = event.what.node().filter(|id| self.is_alive(*id)) else { return };
        let applied = self.nodes[&id].machine.applied.last_applied.index;
        let answers = &mut self.answers;
        let input = match event.what {
            Happening::Initialize { node, voters } => {
                let request = answers.initialize(node);
                Input::Initialize { request, nodes: crate::engines::nodes(voters.iter()) }
            }
            Happening::Write { node, count } => {
                let (request, commands) = answers.write(node, count, self.command_bytes_max);
                Input::Write { request, commands }
            }
            Happening::Read { node, by_lease } => {
                let floor = self.oracle.committed();
                let request = answers.read(node, floor, applied, &mut self.coverage);
                if by_lease { Input::ReadByLease { request } } else { Input::Read { request } }
            }
            Happening::Change { node, change, ids } => {
                let request = answers.change(node);
                Input::ChangeMembership { request, change: change.of(ids), expected: None }
            }
            Happening::Transfer { node, target } => {
                let request = answers.transfer(node, self.nodes[&node].engine().term(), target);
                Input::TransferLeadership { request, target }
            }
            Happening::BuildSnapshot { node } => {
                Input::BuildSnapshot { request: answers.build_snapshot(node) }
            }
            Happening::PurgeLog { node, upto } => Input::PurgeLog { request: answers.purge_log(node), upto },
            Happening::Campaign { .. } => {
                self.coverage.add(Count::CampaignsAsked);
                Input::Campaign
            }
            Happening::PauseElections { paused, .. } => {
                self.coverage.add_many(Count::ElectionPauses, u64::from(paused));
                Input::PauseElections { paused }
            }
            Happening::PauseHeartbeats { paused, .. } => {
                self.coverage.add_many(Count::HeartbeatPauses, u64::from(paused));
                Input::PauseHeartbeats { paused }
            }
            Happening::ForgetLeader { node } => Input::ForgetLeader { request: answers.forget_leader(node) },
            Happening::Unreachable { peer, .. } => {
                self.coverage.add(Count::Unreachables);
                Input::Unreachable { peer }
            }
            what => panic!("{what} is no request"),
        };
        self.step(id, input, event.waits);
    }

    /// One input, and what follows from it unless more inputs come first.
    pub(super) fn step(&mut self, id: u64, input: Input<Test>, waits: bool) {
        let now = self.clock_of(id);
        self.look_at_clock(id);
        let Some(engine) = self.nodes.get_mut(&id).and_then(|node| node.engine.as_mut()) else { return };
        engine.step(now, input);
        self.steps += 1;
        self.touched |= 1 << id;
        if waits {
            self.coverage.add(Count::InputsGathered);
            self.sides[id as usize].has_effects = true;
        } else {
            self.carry_out(id);
        }
    }

    fn take_effects(&mut self, id: u64) {
        if self.is_alive(id) && self.sides[id as usize].has_effects {
            self.carry_out(id);
        }
    }

    /// Begins everything that the engine asks for; none of it is done yet.
    fn carry_out(&mut self, id: u64) {
        let now = self.clock_of(id);
        self.touched |= 1 << id;
        let side = &mut self.sides[id as usize];
        side.has_effects = false;
        let Some(engine) = self.nodes.get_mut(&id).and_then(|node| node.engine.as_mut()) else { return };
        let effects: Effects<Test> = engine.take_effects(now);
        let Effects { write, messages, replies, reads, apply, snapshots, leadership, state_changed: _ } =
            effects;
        let ready = self.oracle.saw_leadership(id, engine, &leadership);
        self.coverage.add_many(Count::LeadersReady, ready);
        let node = self.nodes.get_mut(&id).expect("the node lives");
        if let Some(write) = write {
            node.view.carry_out(&write);
            self.oracle.saw_write(node, &write);
            self.coverage.add_many(Count::Purges, u64::from(write.purge.is_some()));
            node.writes.push_back(write);
        }
        node.to_do.extend(apply.map(Work::Apply));
        side.to_read.extend(reads);
        for (to, message) in messages {
            self.send(id, to, message);
        }
        for snapshot in snapshots {
            self.take_snapshot_effect(id, snapshot);
        }
        self.oracle.check_node(id, &self.nodes);
        self.look(id);
        for (request, reply) in replies {
            self.take_reply(id, request, &reply);
        }
        self.tend_clients(id);
    }

    pub(super) fn send(&mut self, id: u64, to: u64, message: Message<Test>) {
        self.oracle.saw_message(&self.nodes, id, to, &message);
        if let Body::VoteRequest { kind: VoteKind::Normal | VoteKind::Transfer, .. } = message.body {
            self.saw_candidate(message.term, id);
        }
        if !self.nodes.contains_key(&to) {
            return;
        }
        if self.sabotage == Some(Sabotage::StealVotes)
            && let Body::VoteResponse { granted: true, kind: VoteKind::Normal, .. } = message.body
        {
            let thief = 1 + id % self.nodes.len() as u64;
            self.letters.push(thief, to, What::Message(message.clone()), self.now_us);
        }
        let what = What::Message(message);
        self.mix(id << 32 | to << 16 | Kind::of(&what) as u64);
        self.letters.push(id, to, what, self.now_us);
    }

    pub(super) fn take_reply(&mut self, id: u64, request: RequestId, reply: &Reply<Test>) {
        self.mix(request.0);
        let node = self.nodes.get_mut(&id).expect("the node lives");
        if let Reply::InstallFinished(response) = reply {
            let arrival = node.arrivals.remove(&request).expect("the snapshot came with this request");
            if let Some(installed) = response.installed {
                let durable = node.disk.last().index.max(node.snapshot_index());
                assert!(
                    installed <= durable,
                    "node {id} says that it has {installed}, its disk has {durable}"
                );
            } else {
                self.coverage.add(Count::SnapshotsRefused);
            }
            let what = What::SnapshotAnswer { id: arrival.id, response: Some(*response) };
            self.letters.push(id, arrival.from, what, self.now_us);
            return;
        }
        self.check_storage_reply(id, reply);
        if self.trace.is_some() {
            self.show(Sight::On { node: id, text: format!("answers request {}: {reply:?}", request.0) });
        }
        if let Reply::ReadReady { .. } = reply
            && self.nodes[&id].engine().role() != RoleName::Leader
        {
            self.coverage.add(Count::ReadsOfFollowers);
        }
        let now_us = self.sides[id as usize].clock.shown_at(self.now_us);
        self.answers.on_reply(request, reply, now_us, &self.oracle, &mut self.coverage);
    }

    fn take_snapshot_effect(&mut self, id: u64, effect: SnapshotEffect<Test>) {
        let node = self.nodes.get_mut(&id).expect("the node lives");
        let side = &mut self.sides[id as usize];
        match effect {
            SnapshotEffect::Build { id: snapshot } => {
                node.to_do.push_back(Work::Build(snapshot));
                self.count_build(id);
            }
            SnapshotEffect::Send { id: snapshot, peer, term } => {
                side.to_send.push_back((snapshot, peer, term))
            }
            SnapshotEffect::Install { id: snapshot, request, snapshot: announced } => {
                node.to_do.push_back(Work::Install(Installation { id: snapshot, request, announced }));
            }
            SnapshotEffect::Discard { id: snapshot } => self.discard(id, snapshot),
        }
    }

    /// Those who wait at this node, be it for an entry or too long.
    fn tend_clients(&mut self, id: u64) {
        let Some(node) = self.nodes.get(&id).filter(|node| node.is_alive()) else { return };
        let applied = node.machine.applied.last_applied.index;
        let engine = node.engine();
        let leads_in = (engine.role() == RoleName::Leader).then(|| engine.term());
        let now_us = self.sides[id as usize].clock.shown_at(self.now_us);
        self.answers.serve_ready(id, applied, &mut self.coverage);
        self.answers.expire(id, now_us, leads_in, &mut self.coverage);
    }

    fn set_clock(&mut self, id: u64, rate_ppm: u64, jump_us: u64) {
        self.coverage.add(Count::ClockSkews);
        let rate_ppm = match self.sabotage {
            // Almost three times as fast as another, where half as fast again is the most that may be allowed for.
            Some(Sabotage::SkewClocks) if rate_ppm < RIGHT_PPM => 600_000,
            Some(Sabotage::SkewClocks) => 1_600_000,
            Some(_) | None => rate_ppm,
        };
        self.sides[id as usize].clock.set(self.now_us, rate_ppm, jump_us);
        self.touched |= 1 << id;
    }

    // ---- what others may ask

    pub(super) fn is_alive(&self, id: u64) -> bool {
        self.nodes.get(&id).is_some_and(Node::is_alive)
    }

    pub(super) fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut[from as usize] >> to & 1 == 1
    }

    fn mend_all(&mut self) {
        self.cut.fill(0);
        if self.sabotage == Some(Sabotage::StayCut) {
            self.cut[1] = !0;
            self.cut.iter_mut().for_each(|cut| *cut |= 1 << 1);
        }
    }

    pub(super) fn clock_of(&self, id: u64) -> Instant {
        self.start + Duration::from_micros(self.sides[id as usize].clock.shown_at(self.now_us))
    }

    /// When the next timer of a living node runs out.
    pub(super) fn deadline_of(&self, id: u64) -> Option<u64> {
        let deadline = self.nodes[&id].engine.as_ref()?.next_deadline()?;
        // Rounded up: a timer that runs out too early would have to be waited for again.
        let shown_us = (deadline - self.start).as_nanos().div_ceil(1000) as u64;
        Some(self.sides[id as usize].clock.true_at(shown_us).max(self.now_us))
    }

    /// The living leader of the latest term.
    pub(super) fn leader(&self) -> Option<u64> {
        let alive = self.nodes.values().filter_map(|node| Some((node.id, node.engine.as_ref()?)));
        let leaders = alive.filter(|(_, engine)| engine.role() == RoleName::Leader);
        leaders.max_by_key(|(_, engine)| engine.term()).map(|(id, _)| id)
    }

    /// A living node that takes itself for the leader, whether it still is or not.
    pub(super) fn oldest_leader(&self) -> Option<u64> {
        let alive = self.nodes.values().filter_map(|node| Some((node.id, node.engine.as_ref()?)));
        let leaders = alive.filter(|(_, engine)| engine.role() == RoleName::Leader);
        leaders.min_by_key(|(_, engine)| engine.term()).map(|(id, _)| id)
    }

    pub(super) fn mix(&mut self, value: u64) {
        self.hash = (self.hash.rotate_left(5) ^ value).wrapping_mul(0x517C_C1B7_2722_0A95);
    }

    pub(super) fn show(&mut self, sight: Sight) {
        if let Some(trace) = &mut self.trace {
            trace.sights.push((self.now_us, sight));
        }
    }

    fn show_event(&mut self, event: &Event) {
        if self.trace.is_none() || matches!(event.what, Happening::Deliver { .. } | Happening::Lose { .. }) {
            return;
        }
        let text = event.what.to_string();
        let sight = match event.what.node() {
            Some(node) if self.is_alive(node) || matches!(event.what, Happening::Restart { .. }) => {
                let text = text.split_once(": ").map_or(text.clone(), |(_, rest)| rest.to_owned());
                Sight::On { node, text }
            }
            Some(_) => return,
            None => Sight::All { text },
        };
        self.show(sight);
    }
}

/// The disk of a voter of a cluster that was begun long ago.
fn placed(voters: u64) -> Disk {
    let hard_state = openconsensus::HardState { term: 1, voted_for: None, commit: 1 };
    let disk = Disk::new(hard_state, log_of(voters, &[1]));
    debug_assert!(matches!(disk.at(1).map(|entry| &entry.payload), Some(Payload::Membership(_))));
    disk
}
