//! `NodeClock`: how the clock of one process differs from the true time of a simulation.

use std::time::Duration;

/// The clock of one process: where it began and how fast it runs, seen from the true time of the simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NodeClock {
    /// How far it is ahead when the simulation begins.
    pub offset: Duration,
    /// How many microseconds it gains in a second; those that it loses, below zero. From -900,000 to 1,000,000.
    pub drift_ppm: i64,
    /// Timers go off up to this much too late, at random.
    pub lateness_max: Duration,
    /// The share of timers that go off too early, 0 to 1: at a random moment before their deadline.
    pub early_share: f64,
}

impl NodeClock {
    /// A clock that shows the true time, whose timers are exact.
    pub fn exact() -> Self {
        Self::default()
    }

    /// Some clock that a machine in a bad state might have: minutes off, up to 5 percent too fast or too slow, timers
    /// up to 5 ms late, and one in fifty of them too early.
    pub fn skewed(random: &mut fastrand::Rng) -> Self {
        Self {
            offset: Duration::from_millis(random.u64(0..600_000)),
            drift_ppm: random.i64(-50_000..=50_000),
            lateness_max: Duration::from_micros(random.u64(0..5000)),
            early_share: 0.02,
        }
    }

    /// What it shows at the true time `elapsed` since the beginning.
    pub(super) fn shown_at(&self, elapsed: Duration) -> Duration {
        self.offset + scale(elapsed, self.rate(), MILLION)
    }

    /// The first true time at which it shows `shown` or more.
    pub(super) fn when_shown(&self, shown: Duration) -> Duration {
        scale_up(shown.saturating_sub(self.offset), MILLION, self.rate())
    }

    fn rate(&self) -> u128 {
        let rate = MILLION as i128 + i128::from(self.drift_ppm);
        assert!((100_000..=2_000_000).contains(&rate), "a drift of {} ppm is out of range", self.drift_ppm);
        rate.unsigned_abs()
    }
}

const MILLION: u128 = 1_000_000;

fn scale(duration: Duration, by: u128, of: u128) -> Duration {
    nanos(duration.as_nanos() * by / of)
}

fn scale_up(duration: Duration, by: u128, of: u128) -> Duration {
    nanos((duration.as_nanos() * by).div_ceil(of))
}

/// Centuries are cut: nobody waits for them.
fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_true_time_of_a_deadline_is_the_first_at_which_it_has_come() {
        for drift_ppm in [-500_000, -50_000, -1, 0, 1, 333, 50_000, 1_000_000] {
            let clock = NodeClock { offset: Duration::from_millis(7), drift_ppm, ..NodeClock::exact() };
            for micros in [0, 1, 2, 999, 1_000_003, 86_400_000_000] {
                let deadline = clock.offset + Duration::from_micros(micros);
                let at = clock.when_shown(deadline);
                assert!(deadline <= clock.shown_at(at), "{drift_ppm} ppm, {micros} us");
                if let Some(before) = at.checked_sub(Duration::from_nanos(1)) {
                    assert!(clock.shown_at(before) < deadline, "{drift_ppm} ppm, {micros} us");
                }
            }
        }
    }

    #[test]
    fn a_deadline_that_has_passed_before_the_beginning_is_at_the_beginning() {
        let clock = NodeClock { offset: Duration::from_secs(5), ..NodeClock::exact() };
        assert_eq!(clock.when_shown(Duration::from_secs(3)), Duration::ZERO);
    }
}
