//! What goes wrong, and when: links, crashes, disks, clocks, pauses.

use super::agenda::Due;
use super::coverage::Count;
use super::event::Happening;
use super::planner::Planner;
use super::world::World;
use crate::engines::Disk;

impl Planner {
    /// Something goes wrong; it does not last for ever.
    pub(super) fn fault(&mut self, world: &mut World) -> Option<Happening> {
        let delay = 1 + self.rng.u64(0..2 * self.plan.fault_us);
        self.push(delay, Due::Fault);
        let node = self.leader_or_any(world, 40);
        match self.rng.u64(0..100) {
            0..10 => self.cut_some_links(world),
            10..18 => self.cut_off(node, world),
            18..26 => self.divide(world),
            26..36 => return Some(Happening::MendAll),
            36..56 => return self.crash(node, world),
            56..60 => self.crash_all(world),
            60..66 => return self.fail_disk(node, world),
            66..78 => self.stall_disk(node, world),
            78..84 => self.pause(node, world),
            84..88 => return self.suspend(node, world),
            _ => return self.set_clock(node),
        }
        self.at_once.pop_front()
    }

    /// Cuts for a while what goes from one node to another.
    fn cut(&mut self, from: u64, to: u64) {
        if from == to {
            return;
        }
        self.at_once.push_back(Happening::Cut { from, to });
        let lasts = self.rng.u64(1..4 * self.plan.election_us);
        self.push(lasts, Due::Mend(from, to));
    }

    fn cut_some_links(&mut self, world: &mut World) {
        for _ in 0..self.rng.u64(1..4) {
            let (from, to) = (self.any(), self.any());
            self.cut(from, to);
            if self.percent(30) {
                self.cut(to, from);
                world.coverage.add(Count::TwoWayCuts);
            } else {
                world.coverage.add(Count::OneWayCuts);
            }
        }
    }

    /// One node cannot speak, or hear, or neither.
    fn cut_off(&mut self, node: u64, world: &mut World) {
        let way = self.rng.u64(0..3);
        world.coverage.add(if way == 2 { Count::TwoWayCuts } else { Count::OneWayCuts });
        for other in 1..=self.plan.nodes {
            if way != 0 {
                self.cut(node, other);
            }
            if way != 1 {
                self.cut(other, node);
            }
        }
    }

    /// Two groups that do not hear each other; sometimes a node is in both.
    fn divide(&mut self, world: &mut World) {
        world.coverage.add(Count::Partitions);
        let groups: Vec<u64> = (0..=self.plan.nodes).map(|_| self.rng.u64(0..2)).collect();
        let bridge = if self.percent(40) { self.any() } else { 0 };
        for from in 1..=self.plan.nodes {
            for to in 1..=self.plan.nodes {
                let is_apart = groups[from as usize] != groups[to as usize];
                if is_apart && from != bridge && to != bridge {
                    self.cut(from, to);
                }
            }
        }
    }

    /// How many writes of a node that dies are on its disk, and how many parts of the next.
    fn remains(&mut self, node: u64, world: &World) -> (usize, usize) {
        let waiting = world.nodes[&node].writes.len();
        (self.rng.usize(0..=waiting), self.rng.usize(0..5))
    }

    fn crash(&mut self, node: u64, world: &World) -> Option<Happening> {
        if !world.is_alive(node) {
            return None;
        }
        let (writes, parts) = self.remains(node, world);
        let forgets = self.plan.is_volatile && self.percent(60);
        let down = self.rng.u64(1..3 * self.plan.election_us);
        self.push(down, Due::Restart(node));
        Some(Happening::Crash { node, writes, parts, forgets })
    }

    /// Whoever has just been elected dies or is cut off.
    pub(super) fn strike(&mut self, node: u64, world: &mut World) -> Option<Happening> {
        if world.leader() != Some(node) {
            return None;
        }
        world.coverage.add(Count::Strikes);
        if self.percent(60) {
            return self.crash(node, world);
        }
        self.cut_off(node, world);
        self.at_once.pop_front()
    }

    /// The node dies in the middle of its oldest write of several parts, if it has one.
    pub(super) fn tear(&mut self, node: u64, world: &World) -> Option<Happening> {
        if self.is_calm || !self.percent(self.plan.tear_percent) {
            return None;
        }
        let waiting = &world.nodes[&node].writes;
        let writes = waiting.iter().position(|write| 1 < Disk::parts_of(write))?;
        let parts = self.rng.usize(1..Disk::parts_of(&waiting[writes]));
        let down = self.rng.u64(1..self.plan.election_us);
        self.push(down, Due::Restart(node));
        let forgets = self.plan.is_volatile && self.percent(60);
        Some(Happening::Crash { node, writes, parts, forgets })
    }

    /// The power fails.
    fn crash_all(&mut self, world: &World) {
        for node in 1..=self.plan.nodes {
            let crash = if self.percent(80) { self.crash(node, world) } else { None };
            self.at_once.extend(crash);
        }
    }

    fn fail_disk(&mut self, node: u64, world: &World) -> Option<Happening> {
        if !world.is_alive(node) {
            return None;
        }
        let (writes, parts) = self.remains(node, world);
        let down = self.rng.u64(1..3 * self.plan.election_us);
        self.push(down, Due::Restart(node));
        Some(Happening::FailDisk { node, writes, parts })
    }

    fn stall_disk(&mut self, node: u64, world: &mut World) {
        world.coverage.add(Count::DiskStalls);
        self.stalled_until[node as usize] = world.now_us + self.rng.u64(1..4 * self.plan.election_us);
    }

    /// The whole process stands still, and its clock goes on.
    fn pause(&mut self, node: u64, world: &mut World) {
        world.coverage.add(Count::Pauses);
        self.paused_until[node as usize] = world.now_us + self.rng.u64(1..2 * self.plan.election_us);
    }

    fn set_clock(&mut self, node: u64) -> Option<Happening> {
        let skew = self.plan.skew_ppm;
        if skew == 0 {
            return None;
        }
        let (slowest, fastest) = (super::clock::RIGHT_PPM - skew, super::clock::RIGHT_PPM + skew);
        let rate_ppm = match self.rng.u64(0..4) {
            0 => slowest,
            1 => fastest,
            _ => self.rng.u64(slowest..=fastest),
        };
        // Leases rest on clocks that do not.
        let jumps = !self.plan.has_leases() && self.percent(20);
        let jump_us = if jumps { self.rng.u64(0..self.plan.election_us) } else { 0 };
        Some(Happening::SetClock { node, rate_ppm, jump_us })
    }
}
