//! Notices that the clock has stopped for a while, by comparing it with the time of day.

use std::time::{Duration, Instant, SystemTime};

use crate::config::ValidConfig;

/// Compares how far both clocks have come since some time ago: at least as long ago as the longest lease, so that many
/// short stops are noticed as one long stop is, and at most about twice as long, so that a time of day that is slowly
/// corrected is not taken for a stop.
pub(super) struct ClockWatch {
    lease: Duration,
    allowance: Duration,
    /// What is compared with, and what will be when it is older than a lease.
    sights: Option<[Sight; 2]>,
}

/// Both clocks at one time.
#[derive(Clone, Copy)]
struct Sight {
    now: Instant,
    wall: SystemTime,
}

impl ClockWatch {
    /// `None` without leases.
    pub(super) fn of(config: &ValidConfig) -> Option<Self> {
        config.lease_clock_drift_ppm_max?;
        let lease = Duration::from_millis(config.election_timeout_ms_min);
        Some(Self { lease, allowance: config.clock_stop_allowance(), sights: None })
    }

    /// Whether the clocks disagree. `wall` was read behind `now`: a stop between the two shows in it.
    pub(super) fn has_jumped(&mut self, now: Instant, wall: SystemTime) -> bool {
        let sight = Sight { now, wall };
        let Some([first, second]) = self.sights else {
            self.sights = Some([sight; 2]);
            return false;
        };
        if self.allowance < disagreement(first, sight) {
            self.sights = Some([sight; 2]);
            return true;
        }
        if self.lease <= now.saturating_duration_since(second.now) {
            self.sights = Some([second, sight]);
        }
        false
    }
}

/// By how much more or less time has passed on one clock than on the other.
fn disagreement(from: Sight, to: Sight) -> Duration {
    let passed = to.now.saturating_duration_since(from.now);
    match to.wall.duration_since(from.wall) {
        Ok(wall) => wall.abs_diff(passed),
        Err(back) => back.duration() + passed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::testing::start;

    /// With leases of 160 ms, so that a stop of 10 ms may go unnoticed.
    fn watch() -> ClockWatch {
        let config = Config {
            election_timeout_ms_min: 160,
            lease_clock_drift_ppm_max: Some(1000),
            ..Config::default()
        };
        ClockWatch::of(&config.validate().unwrap()).unwrap()
    }

    /// Looks at the clock and the time of day, each so many ms after the start.
    fn look(watch: &mut ClockWatch, start: Instant, now_ms: u64, wall_ms: u64) -> bool {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) + Duration::from_millis(wall_ms);
        watch.has_jumped(start + Duration::from_millis(now_ms), wall)
    }

    #[test]
    fn without_leases_nobody_looks() {
        assert!(ClockWatch::of(&ValidConfig::default()).is_none());
    }

    #[test]
    fn a_stop_a_step_ahead_and_a_step_back_are_noticed_once() {
        let (mut watch, start) = (watch(), start());
        assert!(!look(&mut watch, start, 0, 0));
        assert!(!look(&mut watch, start, 1000, 1010), "as long may go unnoticed");
        assert!(look(&mut watch, start, 1030, 1241), "the machine was suspended for 200 ms");
        assert!(!look(&mut watch, start, 1060, 1271));
        assert!(look(&mut watch, start, 1061, 272), "the time of day was set back");
        assert!(!look(&mut watch, start, 1062, 273));
        assert!(look(&mut watch, start, 1073, 273), "the clock was ahead of the time of day");
    }

    /// A watch that looked only at what has passed since the last look would not notice a machine that is stopped for
    /// a little between every two looks.
    #[test]
    fn many_short_stops_are_noticed_as_one_long_one_is() {
        let (mut watch, start) = (watch(), start());
        let mut stopped_ms = 0;
        for turn in 0_u64..10 {
            let has_jumped = look(&mut watch, start, 20 * turn, 23 * turn);
            stopped_ms = 3 * turn;
            if has_jumped {
                break;
            }
        }
        assert_eq!(stopped_ms, 12, "more than 10 ms were missing");
    }

    /// The kernel corrects the time of day by a few parts in ten thousand; over hours that comes to seconds.
    #[test]
    fn a_time_of_day_that_is_slowly_corrected_is_no_stop() {
        let (mut watch, start) = (watch(), start());
        for turn in 0_u64..100_000 {
            assert!(!look(&mut watch, start, 50 * turn, 50 * turn + turn / 40), "turn {turn}");
        }
    }
}
