//! How long the core loop goes on looking for something to do before it sleeps.

/// Decides between one more look and sleep.
///
/// To be woken takes a thread many times as long as a turn takes the core loop, and costs whoever wakes it a call of the
/// operating system. Where the next thing to do is mostly there soon, it is cheaper to look for it, and other tasks of the
/// thread get their turn between two looks. Where it mostly is not, looking is given up: each time it was in vain, it is
/// spared twice as often.
pub(super) struct Idle {
    looks_max: u64,
    /// So often was there nothing since there was something last. 0 while it is not looked for.
    looks: u64,
    /// So often it sleeps at once.
    spared: u32,
    /// So often in a row it looked in vain.
    failures: u32,
}

/// After so many failures in a row it is not spared any more often.
const FAILURES_MAX: u32 = 10;

impl Idle {
    pub(super) fn new(looks_max: u64) -> Self {
        Self { looks_max, looks: 0, spared: 0, failures: 0 }
    }

    /// Whether something is looked for at present.
    pub(super) fn is_looking(&self) -> bool {
        0 < self.looks
    }

    /// There is nothing to do. Whether to look again instead of sleeping.
    pub(super) fn looks_again(&mut self) -> bool {
        if self.looks == 0 && 0 < self.spared {
            self.spared -= 1;
            return false;
        }
        if self.looks < self.looks_max {
            self.looks += 1;
            return true;
        }
        if 0 < self.looks_max {
            self.failures = (self.failures + 1).min(FAILURES_MAX);
            self.spared = 1 << self.failures;
        }
        self.looks = 0;
        false
    }

    /// There is something to do.
    pub(super) fn is_over(&mut self) {
        if self.is_looking() {
            self.looks = 0;
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often it looks until it sleeps.
    fn looks(idle: &mut Idle) -> u64 {
        let mut looks = 0;
        while idle.looks_again() {
            looks += 1;
        }
        assert!(!idle.is_looking());
        looks
    }

    #[test]
    fn it_looks_as_long_as_it_may_and_ever_less_often_when_that_is_in_vain() {
        let mut idle = Idle::new(5);
        let begin: Vec<_> = (0..10).map(|_| looks(&mut idle)).collect();
        assert_eq!(begin, [5, 0, 0, 5, 0, 0, 0, 0, 5, 0]);
        let mut idle = Idle::new(5);
        let slept = (0..100_000).filter(|_| looks(&mut idle) == 0).count();
        assert!(99_850 < slept && slept < 99_950, "{slept}");
    }

    #[test]
    fn what_is_found_in_time_has_it_look_again_next_time() {
        let mut idle = Idle::new(5);
        assert_eq!(looks(&mut idle), 5);
        assert_eq!((looks(&mut idle), looks(&mut idle)), (0, 0));
        assert!(idle.looks_again() && idle.looks_again());
        idle.is_over();
        assert_eq!(looks(&mut idle), 5, "anew");
        // To be woken from sleep says nothing.
        idle.is_over();
        assert_eq!(looks(&mut idle), 0);
    }

    #[test]
    fn it_sleeps_at_once_where_it_may_not_look() {
        let mut idle = Idle::new(0);
        assert_eq!((0..100).map(|_| looks(&mut idle)).sum::<u64>(), 0);
        assert!(!idle.is_looking());
    }
}
