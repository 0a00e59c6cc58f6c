//! Many runs on several threads.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::coverage::Coverage;
use super::run::{Run, run};
use super::sabotage::Sabotage;

/// So many seeds make a campaign, in which everything that is counted must have happened.
pub const CAMPAIGN_SEEDS_MIN: u64 = 200;

/// What came of many runs.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many runs there were.
    pub runs: u64,
    /// Steps of engines in all of them.
    pub steps: u64,
    /// What has happened in all of them.
    pub coverage: Coverage,
    /// Runs that contradicted an oracle, by their seeds. No more runs are begun behind the first.
    pub violations: Vec<Run>,
}

impl Report {
    /// What has never happened, if there were enough runs to expect everything: then the simulation is not what it
    /// should be.
    pub fn missing(&self) -> Vec<&'static str> {
        if self.runs < CAMPAIGN_SEEDS_MIN { Vec::new() } else { self.coverage.missing() }
    }

    fn add(&mut self, run: Run) {
        self.runs += 1;
        self.steps += run.steps;
        self.coverage.join(&run.coverage);
        if run.violation.is_some() {
            self.violations.push(run);
        }
    }
}

/// Runs all `seeds` on so many threads, until one contradicts an oracle. `progress` is told of each run that has ended:
/// how many steps it had.
pub fn campaign(
    seeds: Range<u64>,
    threads: usize,
    sabotage: Option<Sabotage>,
    progress: &(dyn Fn(u64) + Sync),
) -> Report {
    let next = AtomicU64::new(seeds.start);
    let report = Mutex::new(Report::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seeds.end <= seed {
                return;
            }
            let run = run(seed, sabotage);
            progress(run.steps);
            if run.violation.is_some() {
                next.store(seeds.end, Ordering::Relaxed);
            }
            report.lock().unwrap_or_else(PoisonError::into_inner).add(run);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.violations.sort_by_key(|run| run.seed);
    report
}
