//! The clock of one node: it may go too fast or too slow, and it may jump ahead. It never goes back.

/// A rate that is right.
pub(super) const RIGHT_PPM: u64 = 1_000_000;

/// Maps the time of the simulation to that of a node, both in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// At this time of the simulation...
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
        self.shown_us + (true_us - self.true_us) * self.rate_ppm / 1_000_000
    }

    /// When it will show `shown_us` or more.
    pub(super) fn true_at(&self, shown_us: u64) -> u64 {
        let ahead = shown_us.saturating_sub(self.shown_us);
        self.true_us + (ahead * 1_000_000).div_ceil(self.rate_ppm)
    }

    pub(super) fn set(&mut self, true_us: u64, rate_ppm: u64, jump_us: u64) {
        self.shown_us = self.shown_at(true_us) + jump_us;
        self.true_us = true_us;
        self.rate_ppm = rate_ppm;
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
}
