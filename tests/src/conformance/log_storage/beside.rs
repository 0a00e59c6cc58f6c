//! Readers beside the writer.

use std::cell::{Cell, RefCell};

use fastrand::Rng;
use futures::future::{join, join_all};
use openconsensus::{Entries, RaftLogReader, TypeConfig};

use super::LogStorageFactory;
use super::model::Model;
use super::random::Workload;
use super::subject::Subject;
use crate::conformance::verdict::{Flaw, describe, seeded, seeds, works, wrong, yield_now};

/// Writes that are carried out beside the readers.
const WRITES: usize = 120;

pub(super) async fn readers_see_the_log_of_one_moment<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: LogStorageFactory<C>,
{
    for seed in seeds(0..2) {
        let mut subject = Subject::with_entries(factory, 20).await?;
        // Every state of the log so far and the one that is being written, and how far the writer is.
        let history = RefCell::new(vec![subject.model.clone()]);
        let progress = Progress { written: Cell::new(0), is_done: Cell::new(false) };
        let readers = (0..4_u64).map(|number| {
            let random = Rng::with_seed(seed * 31 + number);
            read_beside(subject.reader().clone(), &history, &progress, random, seed)
        });
        let readers = join_all(readers.collect::<Vec<_>>());
        let mut workload = Workload::new(seed);
        let writer = async {
            for _ in 0..WRITES {
                let write = workload.next(factory, &subject.model);
                let mut next = subject.model.clone();
                next.carry_out(&write);
                history.borrow_mut().push(next);
                let result = subject.write(write).await;
                progress.written.set(progress.written.get() + 1);
                if result.is_err() {
                    progress.is_done.set(true);
                    return result;
                }
                yield_now().await;
            }
            progress.is_done.set(true);
            Ok(())
        };
        let (written, read) = join(writer, readers).await;
        written?;
        read.into_iter().collect::<Result<(), _>>()?;
    }
    Ok(())
}

/// How far the writer is.
struct Progress {
    /// The place in the history of the last state that has been written.
    written: Cell<usize>,
    is_done: Cell<bool>,
}

async fn read_beside<C: TypeConfig<Command: PartialEq>>(
    mut reader: impl RaftLogReader<C>,
    history: &RefCell<Vec<Model<C>>>,
    progress: &Progress,
    mut random: Rng,
    seed: u64,
) -> Result<(), Flaw> {
    while !progress.is_done.get() {
        let first = progress.written.get();
        let start = {
            let now = &history.borrow()[first];
            random.u64(now.purged.index.saturating_sub(2)..=now.last().index + 1)
        };
        let range = start..start + random.u64(1..60);
        let bytes_max = if random.bool() { u64::MAX } else { random.u64(0..5000) };
        let what = seeded(&format!("reading {range:?} with at most {bytes_max} bytes beside writes"), seed);
        let seen = works(&what, reader.read(range.clone(), bytes_max).await)?;
        let is_of_a_moment = {
            let history = history.borrow();
            let expected: Vec<_> =
                history[first..].iter().map(|model| model.read(range.clone(), bytes_max)).collect();
            expected.contains(&seen)
                || expected.windows(2).any(|states| is_between(&states[0], &seen, &states[1]))
        };
        if !is_of_a_moment {
            let states = history.borrow();
            let right: Vec<_> =
                states[first..].iter().map(|model| describe(&model.read(range.clone(), bytes_max))).collect();
            return wrong(
                format!("{what}: {}", describe(&seen)),
                format!("what was there at one moment of the read: {}", right.join("; or ")),
            );
        }
        yield_now().await;
    }
    Ok(())
}

/// Whether `seen` is what is found while entries are being appended: all that was there, and a start of what is added.
fn is_between<C>(before: &Entries<C>, seen: &Entries<C>, after: &Entries<C>) -> bool
where
    C: TypeConfig<Command: PartialEq>,
{
    let is_start = |short: &Entries<C>, long: &Entries<C>| {
        short.len() <= long.len() && short.iter().zip(long.iter()).all(|(short, long)| short == long)
    };
    is_start(before, seen) && is_start(seen, after)
}

#[cfg(test)]
mod tests {
    use openconsensus_memstore::kv::Kv;

    use super::super::model::Write;
    use super::*;
    use crate::conformance::samples::{KvSamples, commands};

    #[test]
    fn a_start_of_what_is_appended_may_be_seen_and_nothing_else() {
        let all = |end| commands::<Kv>(&KvSamples, 1, 1..end);
        assert!(is_between(&all(3), &all(5), &all(7)));
        assert!(is_between(&all(3), &all(3), &all(7)));
        assert!(!is_between(&all(3), &all(2), &all(7)));
        assert!(!is_between(&all(3), &all(8), &all(7)));
        assert!(!is_between(&all(3), &commands(&KvSamples, 2, 1..5), &all(7)));
        let mut model = Model::default();
        model.carry_out(&Write::Append(all(4), 0));
        assert_eq!(model.read(2..9, u64::MAX), all(4).slice(2..4));
    }
}
