//! The clock of one node: it may go too fast or too slow, stop for a while, and jump ahead. It never goes back.

/// A rate that is right.
pub(super) const RIGHT_PPM: u64 = 1_000_000;

/// Maps the time of the simulation to that of a node, both in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// At this time of the simulation, before which it may stand still...
    true_us: u64,
    /// ... the clock showed this.
    shown_us: u64,
    rate_ppm: u64,
}

impl Clock {
    pub(super) fn new(shown_us: u64) -> Self {
        Self { true_us: 0, shown_us, rate_ppm: RIGHT_PPM }
    }

    /// What it shows at `true_us`.
    pub(super) fn shown_at(&self, true_us: u64) -> u64 {
        self.shown_us + true_us.saturating_sub(self.true_us) * self.rate_ppm / 1_000_000
    }

    /// When it will show `shown_us` or more.
    pub(super) fn true_at(&self, shown_us: u64) -> u64 {
        let ahead = shown_us.saturating_sub(self.shown_us);
        self.true_us + (ahead * 1_000_000).div_ceil(self.rate_ppm)
    }

    pub(super) fn set(&mut self, true_us: u64, rate_ppm: u64, jump_us: u64) {
        self.shown_us = self.shown_at(true_us) + jump_us;
        self.true_us = self.true_us.max(true_us);
        self.rate_ppm = rate_ppm;
    }

    /// It stands still from `true_us` on, for so long. Returns how much of its own time it loses by that.
    pub(super) fn stop(&mut self, true_us: u64, for_us: u64) -> u64 {
        let (shown_us, until_us) = (self.shown_at(true_us), self.true_us.max(true_us + for_us));
        let lost_us = self.shown_at(until_us) - shown_us;
        self.shown_us = shown_us;
        self.true_us = until_us;
        lost_us
    }

    /// It does not stand still any longer.
    pub(super) fn go_on(&mut self, true_us: u64) {
        self.set(true_us, self.rate_ppm, 0);
        self.true_us = true_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_never_goes_back_and_a_deadline_is_never_missed() {
        let mut clock = Clock::new(500);
        let mut last = 0;
        for step in 0..200_u64 {
            let now = step * 977;
            clock.set(now, 850_000 + step * 1_731, step % 3);
            assert!(last <= clock.shown_at(now));
            last = clock.shown_at(now);
            let deadline = last + 1 + step * 31;
            let at = clock.true_at(deadline);
            assert!(deadline <= clock.shown_at(at), "{clock:?} at {at}");
            assert!(at == now || clock.shown_at(at - 1) < deadline, "{clock:?} at {at}");
        }
    }

    #[test]
    fn a_clock_that_stops_loses_what_it_would_have_shown() {
        let mut clock = Clock::new(0);
        clock.set(0, 2 * RIGHT_PPM, 0);
        assert_eq!(clock.stop(100, 50), 100);
        assert_eq!([100, 149, 150, 160].map(|at| clock.shown_at(at)), [200, 200, 200, 220]);
        assert_eq!(clock.true_at(210), 155);
        assert_eq!(clock.stop(160, 40), 80);
        assert_eq!(clock.stop(170, 10), 0, "it stands still already");
        // Setting it does not wake it up, going on does.
        clock.set(180, RIGHT_PPM, 0);
        assert_eq!((clock.shown_at(190), clock.shown_at(210)), (220, 230));
        assert_eq!(clock.stop(210, 100), 100);
        clock.go_on(220);
        assert_eq!(clock.shown_at(225), 235);
    }
}
