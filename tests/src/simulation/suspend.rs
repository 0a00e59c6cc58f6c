//! Machines that are suspended: the process stands still, and so does its clock. Whoever relies on a lease must be told.

use openconsensus::engine::Input;

use super::agenda::Due;
use super::coverage::Count;
use super::event::{Event, Happening};
use super::planner::Planner;
use super::sabotage::Sabotage;
use super::world::World;

/// What a node does not know of its clock.
#[derive(Debug, Default)]
pub(super) struct Suspended {
    /// It stands still until then.
    pub(super) until_us: u64,
    /// It has stood still, as its driver will see before it does anything else.
    is_noticed: bool,
    /// It has stood still for so long at these times, and its driver has not seen it.
    unnoticed: Vec<(u64, u64)>,
}

impl World {
    /// Whether the event is for a machine that is suspended, so that it does not happen.
    pub(super) fn is_asleep(&self, event: &Event) -> bool {
        let is_of_machine = matches!(
            event.what,
            Happening::Crash { .. }
                | Happening::Restart { .. }
                | Happening::SetClock { .. }
                | Happening::Suspend { .. }
        );
        !is_of_machine && event.what.node().is_some_and(|node| self.now_us < self.suspended_until(node))
    }

    pub(super) fn suspended_until(&self, id: u64) -> u64 {
        self.sides[id as usize].suspended.until_us
    }

    /// A driver compares the clock with the time of day. It notices what comes to more than a sixteenth of the shortest
    /// election timeout, within twice that timeout.
    pub(super) fn suspend(&mut self, id: u64, for_us: u64) {
        if !self.is_alive(id) {
            return;
        }
        self.coverage.add(Count::Suspensions);
        let timeout_us = 1000 * self.config.election_timeout_ms_min;
        let now_us = self.now_us;
        let side = &mut self.sides[id as usize];
        let lost_us = side.clock.stop(now_us, for_us);
        let suspended = &mut side.suspended;
        suspended.until_us = suspended.until_us.max(now_us + for_us);
        // The clock may go at half its speed.
        suspended.unnoticed.retain(|(at, _)| now_us < at + 4 * timeout_us);
        let unnoticed: u64 = suspended.unnoticed.iter().map(|(_, lost)| lost).sum();
        if timeout_us / 16 < unnoticed + lost_us {
            suspended.is_noticed = true;
            suspended.unnoticed.clear();
        } else {
            suspended.unnoticed.push((now_us, lost_us));
            self.coverage.add(Count::SuspensionsUnnoticed);
        }
        self.touched |= 1 << id;
    }

    /// A machine that dies is not suspended any more, and its driver forgets what it has seen.
    pub(super) fn wake_up(&mut self, id: u64) {
        let now_us = self.now_us;
        let side = &mut self.sides[id as usize];
        side.clock.go_on(now_us);
        side.suspended = Suspended::default();
    }

    /// The driver looks at the clocks first.
    pub(super) fn look_at_clock(&mut self, id: u64) {
        let now = self.clock_of(id);
        if !std::mem::take(&mut self.sides[id as usize].suspended.is_noticed)
            || self.sabotage == Some(Sabotage::MissSuspensions)
        {
            return;
        }
        if let Some(engine) = self.nodes.get_mut(&id).and_then(|node| node.engine.as_mut()) {
            engine.step(now, Input::ClockJumped);
        }
    }
}

impl Planner {
    /// The machine will be suspended: mostly long enough for an election, sometimes so shortly that nobody notices.
    pub(super) fn suspend(&mut self, node: u64, world: &World) -> Option<Happening> {
        if !world.is_alive(node) {
            return None;
        }
        let most_us = if self.percent(30) { self.plan.election_us / 32 } else { 3 * self.plan.election_us };
        let for_us = self.rng.u64(1..most_us.max(2));
        self.push(0, Due::Planned(Happening::Suspend { node, for_us }));
        None
    }
}
