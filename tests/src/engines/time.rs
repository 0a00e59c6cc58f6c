//! Virtual time: which timers run out, and what arrives meanwhile.

use std::time::{Duration, Instant};

use openconsensus::engine::Input;

use super::{Cluster, Letter};

impl Cluster {
    /// The next timer of a node runs out, and no other node notices that time has passed.
    pub fn time_out(&mut self, id: u64) {
        let deadline = self.node(id).engine().next_deadline().expect("a node always has a deadline");
        self.now = self.now.max(deadline);
        self.step(id, Input::Timeout);
    }

    /// Time passes and all timers run; everything that is sent arrives at once.
    pub fn run(&mut self, ms: u64) {
        self.run_but(ms, |_| false);
    }

    /// As [`run`](Self::run), but loses what fits.
    pub fn run_but(&mut self, ms: u64, is_lost: impl Fn(&Letter) -> bool) {
        let end = self.now + Duration::from_millis(ms);
        self.settle_but(&is_lost);
        for _ in 0..1_000 + 100 * ms {
            let Some((deadline, id)) = self.next_deadline().filter(|(deadline, _)| *deadline <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(deadline);
            self.step(id, Input::Timeout);
            self.settle_but(&is_lost);
        }
        panic!("timers run out without end:\n{}", self.describe());
    }

    /// Whose timer runs out next, and when.
    fn next_deadline(&self) -> Option<(Instant, u64)> {
        let alive =
            self.nodes.values().filter_map(|node| Some((node.engine.as_ref()?.next_deadline()?, node.id)));
        alive.min()
    }

    /// Time passes and all timers run, but nothing arrives.
    pub fn run_timers(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        let alive: Vec<u64> = self.alive().collect();
        for id in alive {
            self.step(id, Input::Timeout);
        }
    }

    /// Time passes without any timer being looked at: what a pause of all processes would do.
    pub fn skip(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    /// Runs until `is_true`, for at most `ms`.
    pub fn run_until(&mut self, ms: u64, what: &str, is_true: impl Fn(&Self) -> bool) {
        for _ in 0..ms {
            if is_true(self) {
                return;
            }
            self.run(1);
        }
        assert!(is_true(self), "after {ms} ms there is still not {what}");
    }
}
