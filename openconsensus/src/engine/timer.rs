//! The table of deadlines.

use std::time::Instant;

use crate::type_config::TypeConfig;

use super::Fingerprint;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Start an election, or start it again.
    Election,
    /// Look whether a quorum still answers.
    Quorum,
    /// Look whether the log storage hangs.
    Disk,
    /// Send heartbeats.
    Heartbeat,
    /// Give up the transfer of leadership.
    Transfer,
    /// Ask the leader again about reads, or give them up.
    Read,
    /// Build a snapshot because of its age, or try again to build one.
    Snapshot,
    /// Ask the leader again to transfer its leadership, or give that up.
    AskTransfer,
}

/// In the order in which they are looked at when several are due: a leader that gives up sends no heartbeats.
const TIMERS: [Timer; 8] = [
    Timer::Election,
    Timer::Quorum,
    Timer::Disk,
    Timer::Heartbeat,
    Timer::Transfer,
    Timer::Read,
    Timer::Snapshot,
    Timer::AskTransfer,
];

/// One deadline for each timer, or none.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    deadlines: [Option<Instant>; TIMERS.len()],
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, deadline: Instant) {
        self.deadlines[timer as usize] = Some(deadline);
    }

    /// Sets a deadline unless an earlier one is set.
    pub(super) fn set_earlier(&mut self, timer: Timer, deadline: Instant) {
        let slot = &mut self.deadlines[timer as usize];
        *slot = Some(slot.map_or(deadline, |set| set.min(deadline)));
    }

    pub(super) fn set_or_stop(&mut self, timer: Timer, deadline: Option<Instant>) {
        self.deadlines[timer as usize] = deadline;
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = None;
    }

    pub(super) fn stop_all(&mut self) {
        *self = Self::default();
    }

    pub(super) fn fingerprint<C: TypeConfig>(&self, to: &mut Fingerprint<'_, C>) {
        self.deadlines.iter().for_each(|at| to.deadline(*at));
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// Takes one timer whose deadline has come.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let due =
            TIMERS.into_iter().find(|timer| self.deadlines[*timer as usize].is_some_and(|at| at <= now))?;
        self.stop(due);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_timer_is_due_once_and_not_before_its_deadline() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Election, at(20));
        timers.set(Timer::Heartbeat, at(10));
        timers.set_earlier(Timer::Heartbeat, at(15));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.take_due(at(9)), None);
        assert_eq!(timers.take_due(at(10)), Some(Timer::Heartbeat));
        assert_eq!(timers.take_due(at(10)), None);
        assert_eq!(timers.next(), Some(at(20)));
    }
}
