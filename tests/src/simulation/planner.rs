//! Decides what happens next, by a seed: when letters arrive and disks are done, and what goes wrong.

use std::collections::VecDeque;

use fastrand::Rng;
use openconsensus::Term;

use super::agenda::{Agenda, Due};
use super::ambush::Sluggish;
use super::coverage::Count;
use super::event::{Event, Happening};
use super::letters::Sent;
use super::plan::Plan;
use super::world::World;

/// Work of a node that has been put on the list, so that it stands there once. A crash makes it void.
#[derive(Clone, Copy, Debug, Default)]
struct Listed {
    timer_at: Option<u64>,
    disk: bool,
    machine: bool,
    building: bool,
    installing: bool,
    reading: bool,
    sending: bool,
    effects: bool,
}

/// How much clients ask for at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spell {
    Quiet,
    Usual,
    Burst,
}

/// What is due, and the chance that decides it.
pub(super) struct Planner {
    pub(super) rng: Rng,
    pub(super) plan: Plan,
    agenda: Agenda,
    listed: Vec<Listed>,
    /// The node does nothing until then.
    pub(super) paused_until: Vec<u64>,
    /// Its disk does nothing until then.
    pub(super) stalled_until: Vec<u64>,
    /// What takes a long time to arrive.
    pub(super) sluggish: Option<Sluggish>,
    pub(super) spell: Spell,
    /// Happen at once, one after the other.
    pub(super) at_once: VecDeque<Happening>,
    /// Nothing goes wrong any more.
    pub(super) is_calm: bool,
    pub(super) now_us: u64,
    /// The latest leader, with its term, as far as it was looked at here.
    seen_leader: Option<(Term, u64)>,
}

impl Planner {
    /// Everything that may go wrong does.
    pub(super) fn stormy(plan: &Plan, world: &mut World) -> Self {
        let mut planner = Self::new(plan, false);
        planner.follow(world);
        if !plan.is_placed {
            let voters = (1..=plan.voters).collect();
            planner.at_once.push_back(Happening::Initialize { node: 1, voters });
            // Before that is durable there is no cluster that could come to rest.
            planner.at_once.push_back(Happening::FinishWrites { node: 1, count: 1 });
        }
        for due in [Due::Client, Due::Admin, Due::Fault, Due::Spell] {
            planner.push(1, due);
        }
        if plan.has_leases() {
            planner.push(2 * plan.election_us, Due::Ambush);
        }
        planner
    }

    /// Nothing goes wrong, and nobody asks for anything; everything that is under way arrives.
    pub(super) fn calm(plan: &Plan, world: &mut World) -> Self {
        let mut planner = Self::new(plan, true);
        planner.now_us = world.now_us;
        for id in 1..=plan.nodes {
            planner.paused_until[id as usize] = world.suspended_until(id);
        }
        world.touched = u32::MAX;
        world.letters.resend();
        planner.follow(world);
        planner.at_once.push_back(Happening::MendAll);
        for id in 1..=plan.nodes {
            planner.at_once.push_back(Happening::SetClock {
                node: id,
                rate_ppm: super::clock::RIGHT_PPM,
                jump_us: 0,
            });
            planner.at_once.push_back(Happening::DamageSnapshot { node: id, is_damaged: false });
            planner.at_once.push_back(Happening::Restart { node: id });
            // What has failed again and again would wait for longer than calm lasts.
            planner.at_once.push_back(Happening::BuildSnapshot { node: id });
            planner.at_once.push_back(Happening::PauseElections { node: id, paused: false });
            planner.at_once.push_back(Happening::PauseHeartbeats { node: id, paused: false });
        }
        planner
    }

    fn new(plan: &Plan, is_calm: bool) -> Self {
        let ids = plan.nodes as usize + 1;
        Self {
            rng: Rng::with_seed(plan.seed ^ if is_calm { 0x5EED_0002 } else { 0x5EED_0001 }),
            plan: plan.clone(),
            agenda: Agenda::new(ids),
            listed: vec![Listed::default(); ids],
            paused_until: vec![0; ids],
            stalled_until: vec![0; ids],
            sluggish: None,
            spell: Spell::Usual,
            at_once: VecDeque::new(),
            is_calm,
            now_us: 0,
            seen_leader: None,
        }
    }

    /// The next event. There is always one: timers run for ever.
    pub(super) fn next(&mut self, world: &mut World) -> Event {
        loop {
            if let Some(what) = self.at_once.pop_front() {
                return Event { at_us: world.now_us, what, waits: false };
            }
            let (at_us, due) = self.agenda.pop();
            let at_us = at_us.max(world.now_us);
            if let Some(node) = due.acts_on().filter(|node| at_us < self.paused_until[*node as usize]) {
                self.agenda.push(self.paused_until[node as usize], due);
                continue;
            }
            world.now_us = at_us;
            self.now_us = at_us;
            if let Some(what) = self.happen(due, world) {
                return self.event(at_us, what);
            }
        }
    }

    fn event(&mut self, at_us: u64, what: Happening) -> Event {
        let may_wait = match what {
            Happening::Timeout { .. }
            | Happening::Deliver { .. }
            | Happening::FinishWrites { .. }
            | Happening::Work { .. }
            | Happening::FinishBuilding { .. }
            | Happening::FinishInstalling { .. }
            | Happening::FinishReading { .. }
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
            | Happening::Unreachable { .. } => !self.is_calm,
            Happening::Lose { .. }
            | Happening::FailDisk { .. }
            | Happening::SendSnapshot { .. }
            | Happening::DamageSnapshot { .. }
            | Happening::TakeEffects { .. }
            | Happening::Crash { .. }
            | Happening::Restart { .. }
            | Happening::Cut { .. }
            | Happening::Mend { .. }
            | Happening::MendAll
            | Happening::SetClock { .. }
            | Happening::Suspend { .. }
            | Happening::Initialize { .. } => false,
        };
        let waits = may_wait && self.percent(self.plan.gather_percent);
        Event { at_us, what, waits }
    }

    /// What a due thing comes to now; nothing if there is nothing to do any more.
    fn happen(&mut self, due: Due, world: &mut World) -> Option<Happening> {
        match due {
            Due::Letter(sent) => {
                world.letters.name_of(sent).map(|letter| Happening::Deliver { letter, keep: false })
            }
            Due::FirstCopy(sent) => {
                world.letters.name_of(sent).map(|letter| Happening::Deliver { letter, keep: true })
            }
            Due::Loss(sent) => world.letters.name_of(sent).map(|letter| Happening::Lose { letter }),
            Due::Timer(node) => self.timer(node, world),
            Due::Disk(node) => self.disk(node, world),
            Due::Machine(node) => {
                self.listed[node as usize].machine = false;
                let entries = if self.percent(70) { u64::MAX } else { self.rng.u64(1..5) };
                Some(Happening::Work { node, entries: entries.min(1 << 20) })
            }
            Due::Building(node) => {
                self.listed[node as usize].building = false;
                let succeeds = self.is_calm || !self.percent(self.plan.break_percent);
                Some(Happening::FinishBuilding { node, succeeds })
            }
            Due::Installing(node) => {
                self.listed[node as usize].installing = false;
                let succeeds = self.is_calm || !self.percent(self.plan.break_percent);
                Some(Happening::FinishInstalling { node, succeeds })
            }
            Due::Reading(node) => {
                self.listed[node as usize].reading = false;
                Some(Happening::FinishReading { node })
            }
            Due::Sending(node) => {
                self.listed[node as usize].sending = false;
                Some(Happening::SendSnapshot { node })
            }
            Due::Effects(node) => {
                self.listed[node as usize].effects = false;
                world.sides[node as usize].has_effects.then_some(Happening::TakeEffects { node })
            }
            Due::Restart(node) => (!world.is_alive(node)).then_some(Happening::Restart { node }),
            Due::Strike(node) => self.strike(node, world),
            Due::Mend(from, to) => world.is_cut(from, to).then_some(Happening::Mend { from, to }),
            Due::Planned(what) => Some(self.planned(what, world)),
            Due::Ambush => self.ambush(world),
            Due::Client => self.client(world),
            Due::Admin => self.admin(world),
            Due::Fault => self.fault(world),
            Due::Spell => {
                self.change_spell(world);
                None
            }
        }
    }

    fn disk(&mut self, node: u64, world: &mut World) -> Option<Happening> {
        if let Some(tear) = self.tear(node, world) {
            return Some(tear);
        }
        let stalled_until = self.stalled_until[node as usize];
        if world.now_us < stalled_until {
            self.push(stalled_until - world.now_us, Due::Disk(node));
            return None;
        }
        self.listed[node as usize].disk = false;
        let waiting = world.nodes[&node].writes.len().max(1);
        let several = self.percent(self.plan.coalesce_percent);
        Some(Happening::FinishWrites { node, count: if several { self.rng.usize(1..=waiting) } else { 1 } })
    }

    fn planned(&mut self, what: Happening, world: &World) -> Happening {
        if let Happening::Suspend { node, for_us } = what {
            let until_us = &mut self.paused_until[node as usize];
            *until_us = (*until_us).max(world.now_us + for_us);
        }
        what
    }

    fn timer(&mut self, node: u64, world: &mut World) -> Option<Happening> {
        let listed = &mut self.listed[node as usize];
        let is_latest = listed.timer_at.is_some_and(|at| at <= world.now_us);
        if !is_latest {
            return None;
        }
        listed.timer_at = None;
        let is_due = world.deadline_of(node).is_some_and(|at| at <= world.now_us);
        // The deadline may have moved: then this one is listed anew.
        self.follow_timer(node, world);
        is_due.then_some(Happening::Timeout { node })
    }

    fn change_spell(&mut self, world: &mut World) {
        self.spell = match self.rng.u64(0..4) {
            0 => {
                world.coverage.add(Count::QuietSpells);
                Spell::Quiet
            }
            1 => {
                world.coverage.add(Count::Bursts);
                Spell::Burst
            }
            _ => Spell::Usual,
        };
        let lasts = self.rng.u64(1..4 * self.plan.election_us);
        self.push(lasts, Due::Spell);
    }

    // ---- what follows from an event

    /// Puts on the list what the latest event has begun.
    pub(super) fn follow(&mut self, world: &mut World) {
        let mut sent = std::mem::take(&mut world.letters.sent);
        for letter in sent.drain(..) {
            self.follow_letter(letter);
        }
        world.letters.sent = sent;
        if self.seen_leader != world.seen_leader {
            self.seen_leader = world.seen_leader;
            self.follow_leader(world);
        }
        let touched = std::mem::take(&mut world.touched);
        for node in (1..=self.plan.nodes).filter(|node| touched >> node & 1 == 1) {
            self.follow_node(node, world);
        }
    }

    /// Somebody was elected. The time until its first entry is committed is the one in which most can go wrong.
    fn follow_leader(&mut self, world: &World) {
        let strikes = !self.is_calm && self.percent(self.plan.strike_percent);
        if let Some((_, leader)) = self.seen_leader.filter(|_| strikes) {
            let delay = 1 + self.rng.u64(0..4 * self.plan.net.delay_us + 1_000);
            self.push(delay, Due::Strike(leader));
            // Too early to be allowed.
            let change = if self.percent(40) { self.change(leader, world) } else { None };
            self.at_once.extend(change);
        }
    }

    fn follow_letter(&mut self, sent: Sent) {
        if self.is_calm {
            let delay = self.rng.u64(20..300);
            return self.push(delay, Due::Letter(sent));
        }
        let net = self.plan.net.clone();
        let is_late = self.sluggish.as_ref().is_some_and(|links| links.are_taken_by(sent, self.now_us));
        let delay = if is_late { self.late() } else { self.delay() };
        if !sent.is_certain && self.percent(net.loss_percent) {
            return self.push(delay, Due::Loss(sent));
        }
        let is_message =
            !matches!(sent.kind, super::letters::Kind::Snapshot | super::letters::Kind::SnapshotAnswer);
        if is_message && self.percent(net.repeat_percent) {
            self.push(delay, Due::FirstCopy(sent));
            let delay = delay + self.delay();
            return self.push(delay, Due::Letter(sent));
        }
        self.push(delay, Due::Letter(sent));
    }

    fn delay(&mut self) -> u64 {
        let Plan { net, .. } = &self.plan;
        let most = if self.rng.u64(0..100) < net.slow_percent { net.slow_us } else { net.delay_us };
        1 + self.rng.u64(0..most)
    }

    fn follow_node(&mut self, id: u64, world: &World) {
        let place = id as usize;
        let node = &world.nodes[&id];
        if !node.is_alive() {
            self.agenda.forget(id);
            self.listed[place] = Listed::default();
            self.stalled_until[place] = 0;
            return;
        }
        self.follow_timer(id, world);
        let side = &world.sides[place];
        let busy = [
            (!node.writes.is_empty(), Due::Disk(id)),
            (!node.to_do.is_empty() && node.installing.is_none(), Due::Machine(id)),
            (!node.to_build.is_empty(), Due::Building(id)),
            (node.installing.is_some(), Due::Installing(id)),
            (!side.to_read.is_empty(), Due::Reading(id)),
            (!side.to_send.is_empty(), Due::Sending(id)),
            (side.has_effects, Due::Effects(id)),
        ];
        for (_, due) in busy.into_iter().filter(|(is_busy, _)| *is_busy) {
            let listed = self.listed_mut(due);
            if !std::mem::replace(listed, true) {
                let delay = self.latency(due);
                self.push(delay, due);
            }
        }
    }

    fn listed_mut(&mut self, due: Due) -> &mut bool {
        let node = due.node().expect("only work of nodes is listed");
        let listed = &mut self.listed[node as usize];
        match due {
            Due::Disk(_) => &mut listed.disk,
            Due::Machine(_) => &mut listed.machine,
            Due::Building(_) => &mut listed.building,
            Due::Installing(_) => &mut listed.installing,
            Due::Reading(_) => &mut listed.reading,
            Due::Sending(_) => &mut listed.sending,
            Due::Effects(_) => &mut listed.effects,
            due => panic!("{due:?} is not listed"),
        }
    }

    fn latency(&mut self, due: Due) -> u64 {
        if self.is_calm {
            return self.rng.u64(10..200);
        }
        match due {
            Due::Disk(_) => self.plan.disk.draw(&mut self.rng),
            Due::Effects(_) => self.rng.u64(1..500),
            _ => self.plan.machine.draw(&mut self.rng),
        }
    }

    fn follow_timer(&mut self, node: u64, world: &World) {
        let Some(deadline) = world.deadline_of(node) else { return };
        let listed = &mut self.listed[node as usize];
        if listed.timer_at.is_none_or(|at| deadline < at) {
            // A driver is never early, but it may be a little late.
            let late = if self.is_calm { 0 } else { self.rng.u64(0..200) };
            let at = deadline + late;
            self.listed[node as usize].timer_at = Some(at);
            self.push(at.saturating_sub(world.now_us), Due::Timer(node));
        }
    }

    // ---- the list

    /// Puts something on the list, to happen after `delay_us`.
    pub(super) fn push(&mut self, delay_us: u64, due: Due) {
        self.agenda.push(self.now_us + delay_us, due);
    }

    pub(super) fn percent(&mut self, percent: u64) -> bool {
        0 < percent && self.rng.u64(0..100) < percent
    }
}
