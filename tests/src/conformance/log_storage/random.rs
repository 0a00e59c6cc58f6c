//! Random writes, the same for the same seed.

use fastrand::Rng;
use openconsensus::{HardState, LogId, TypeConfig};

use super::LogStorageFactory;
use super::model::{Model, Write};
use super::subject::Subject;
use crate::conformance::samples::{Samples, commands_of, mixed};
use crate::conformance::verdict::{Flaw, seeded, seeds};

/// Writes that a driver might ask for, one after the other.
pub(super) struct Workload {
    pub(super) random: Rng,
}

impl Workload {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Rng::with_seed(seed) }
    }

    /// The next write for a log that holds what `model` says.
    pub(super) fn next<C: TypeConfig>(&mut self, samples: &impl Samples<C>, model: &Model<C>) -> Write<C> {
        let random = &mut self.random;
        let last = model.last();
        // Nothing is truncated that the storage was told to be committed.
        let committed = model.hint.max(model.hard_state.commit).max(model.purged.index);
        match random.u8(0..12) {
            0..=5 => {
                let term = last.term.max(1) + u64::from(random.u8(0..4) == 0);
                let first = last.index + 1;
                let entries = if random.u8(0..8) == 0 {
                    commands_of(samples, term, first..first + 3, random.usize(0..40_000))
                } else {
                    mixed(samples, term, first..first + random.u64(1..30))
                };
                let news = if random.u8(0..4) == 0 { random.u64(0..4) } else { 0 };
                Write::Append(entries, (committed + news).min(last.index))
            }
            6 | 7 if committed < last.index => Write::Truncate(random.u64(committed + 1..=last.index + 1)),
            8 if model.purged.index < last.index => {
                let index = random.u64(model.purged.index..=last.index);
                Write::Purge(model.log_id(index).unwrap_or(model.purged))
            }
            9 if random.u8(0..3) == 0 => {
                Write::Purge(LogId::new(last.term.max(1) + 1, last.index + random.u64(1..50)))
            }
            _ => {
                let before = model.hard_state;
                let term = before.term.max(last.term) + u64::from(random.bool());
                let vote = random.bool().then(|| samples.node_id(random.u64(1..4)));
                let voted_for = if term == before.term { before.voted_for.or(vote) } else { vote };
                let commit = random.u64(before.commit..=before.commit.max(last.index.min(committed + 3)));
                Write::HardState(HardState { term, voted_for, commit })
            }
        }
    }
}

pub(super) async fn a_random_workload_does_as_the_model<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    for seed in seeds(100..103) {
        let mut subject = Subject::new(factory).await?;
        let mut workload = Workload::new(seed);
        for step in 0..100 {
            let write = workload.next(factory, &subject.model);
            let what = seeded(&format!("write {step}, {write}"), seed);
            subject.write(write).await?;
            subject.check(&what).await?;
            if workload.random.u8(0..10) == 0 {
                subject.reopen(&what).await?;
            }
        }
    }
    Ok(())
}
