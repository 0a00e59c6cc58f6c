//! What clients and administrators ask for, and when.

use openconsensus::Membership;

use super::agenda::Due;
use super::event::{Change, Happening, Ids};
use super::planner::{Planner, Spell};
use super::world::World;
use crate::engines::Test;

/// Entries that a node may have and no quorum before clients only read.
const BACKLOG_MAX: u64 = 200;
/// Voters at most.
const VOTERS_MAX: usize = 7;

impl Planner {
    /// A client asks, mostly the leader.
    pub(super) fn client(&mut self, world: &World) -> Option<Happening> {
        let mean = match self.spell {
            Spell::Quiet => 0,
            Spell::Usual => self.plan.client_us,
            Spell::Burst => 1 + self.plan.client_us / 10,
        };
        if mean == 0 {
            let later = 1 + self.plan.election_us / 4;
            self.push(later, Due::Client);
            return None;
        }
        // While nobody leads, most requests would only be refused.
        let mean = if world.leader().is_some() { mean } else { 4 * mean + 1_000 };
        let delay = 1 + self.rng.u64(0..2 * mean);
        self.push(delay, Due::Client);
        let stale = if self.percent(20) { world.oldest_leader() } else { None };
        let node = stale.unwrap_or_else(|| self.leader_or_any(world, 90));
        // What no quorum takes is enough at some point: a longer backlog shows nothing that a shorter one does not.
        let backlog = world.nodes[&node].view.last().index.saturating_sub(world.oracle.committed());
        match self.rng.u64(0..100) {
            0..75 if backlog < BACKLOG_MAX => Some(Happening::Write { node, count: self.some() }),
            _ => {
                let by_lease = self.percent(if self.plan.has_leases() { 75 } else { 5 });
                // A lease is worth most to a leader that may not be one any more.
                let asked = if self.percent(if by_lease { 80 } else { 50 }) { node } else { self.any() };
                Some(Happening::Read { node: asked, by_lease })
            }
        }
    }

    fn some(&mut self) -> u64 {
        if self.percent(80) { 1 } else { self.rng.u64(1..9) }
    }

    /// Somebody changes something, mostly at the leader.
    pub(super) fn admin(&mut self, world: &World) -> Option<Happening> {
        let delay = 1 + self.rng.u64(0..2 * self.plan.admin_us);
        self.push(delay, Due::Admin);
        let node = self.leader_or_any(world, 90);
        match self.rng.u64(0..100) {
            0..62 => self.change(node, world),
            62..76 => {
                let target = self.percent(70).then(|| self.any());
                let node = if self.percent(40) { self.any() } else { node };
                Some(Happening::Transfer { node, target })
            }
            76..80 => Some(Happening::BuildSnapshot { node: self.any() }),
            80..84 => Some(self.purge_log(world)),
            84..88 => {
                let node = self.leader_or_any(world, 70);
                Some(Happening::DamageSnapshot { node, is_damaged: true })
            }
            88..91 => Some(Happening::Campaign { node: self.any() }),
            91..94 => Some(self.pause_or_forget(node)),
            _ => Some(Happening::Unreachable { node, peer: self.any() }),
        }
    }

    /// Somewhere around the snapshot of a node, mostly of the leader: some of it is refused.
    fn purge_log(&mut self, world: &World) -> Happening {
        let node = self.leader_or_any(world, 60);
        let (purged, snapshot) = (world.nodes[&node].view.purged.index, world.nodes[&node].snapshot_index());
        Happening::PurgeLog { node, upto: self.rng.u64(purged..=snapshot.max(purged) + 2) }
    }

    /// What an operator may do to elections. More pauses end than begin, so that there are elections to look at.
    fn pause_or_forget(&mut self, node: u64) -> Happening {
        let paused = self.percent(40);
        match self.rng.u64(0..3) {
            0 => Happening::PauseElections { node: self.any(), paused },
            1 => Happening::PauseHeartbeats { node, paused },
            _ => Happening::ForgetLeader { node: self.any() },
        }
    }

    /// A change that makes sense for the membership that the node has, mostly.
    pub(super) fn change(&mut self, node: u64, world: &World) -> Option<Happening> {
        if !world.is_alive(node) {
            return None;
        }
        let membership = world.nodes[&node].engine().membership();
        let (change, ids) = if self.percent(10) {
            (self.any_change(), [self.any()].into_iter().collect())
        } else {
            self.sensible_change(membership)
        };
        Some(Happening::Change { node, change, ids })
    }

    fn any_change(&mut self) -> Change {
        let all = [
            Change::Add,
            Change::Promote,
            Change::Demote,
            Change::Remove,
            Change::SetVoters,
            Change::Update,
            Change::Set,
        ];
        all[self.rng.usize(0..all.len())]
    }

    fn sensible_change(&mut self, membership: &Membership<Test>) -> (Change, Ids) {
        let outside: Vec<u64> = (1..=self.plan.nodes).filter(|id| !membership.is_member(*id)).collect();
        let learners: Vec<u64> = membership.learners().collect();
        let voters: Vec<u64> = membership.voters().iter().copied().collect();
        let members: Vec<u64> = membership.nodes().keys().copied().collect();
        loop {
            let (change, from, count_max) = match self.rng.u64(0..13) {
                0..3 => (Change::Add, &outside, 2),
                3..6 => (Change::Promote, &learners, VOTERS_MAX - voters.len().min(VOTERS_MAX)),
                6 => (Change::Demote, &voters, voters.len().saturating_sub(1).min(2)),
                7..9 => (Change::Remove, &members, 2),
                9..11 => (Change::SetVoters, &members, VOTERS_MAX),
                11 => (Change::Set, &members, VOTERS_MAX),
                _ => (Change::Update, &members, 2),
            };
            let count_max = count_max.min(from.len());
            if 0 < count_max {
                let count = self.rng.usize(1..=count_max);
                return (change, self.choose(from, count));
            }
            if membership.is_empty() {
                return (Change::Add, Ids::from_iter([1]));
            }
        }
    }

    /// `count` of `from`, which has as many.
    pub(super) fn choose(&mut self, from: &[u64], count: usize) -> Ids {
        let mut from = from.to_vec();
        self.rng.shuffle(&mut from);
        from.into_iter().take(count).collect()
    }

    pub(super) fn any(&mut self) -> u64 {
        self.rng.u64(1..=self.plan.nodes)
    }

    pub(super) fn leader_or_any(&mut self, world: &World, percent: u64) -> u64 {
        let leader = if self.percent(percent) { world.leader() } else { None };
        leader.unwrap_or_else(|| self.any())
    }
}
