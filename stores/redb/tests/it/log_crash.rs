//! A random workload on a disk that loses what was not synced: after a crash at any sync everything acknowledged is
//! there, and nothing else but the write that was under way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures::executor::block_on;
use openconsensus::{Entries, Entry, HardState, Index, LogId, LogState, RaftLogStorage};
use openconsensus_memstore::kv::Kv;
use openconsensus_redb::{Options, RedbLog};

use crate::disk::Disk;
use crate::helpers::{entries, identity, read_all};

/// What a log must be.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    hard_state: HardState<Kv>,
    hint: Index,
    purged: LogId,
    entries: BTreeMap<Index, Entry<Kv>>,
}

impl Model {
    fn last(&self) -> LogId {
        self.entries.last_key_value().map_or(self.purged, |(_, entry)| entry.log_id)
    }

    fn state(&self) -> LogState<Kv> {
        let commit = self.hard_state.commit.max(self.hint);
        LogState {
            hard_state: HardState { commit, ..self.hard_state },
            purged: self.purged,
            last: self.last(),
        }
    }

    fn entries(&self) -> Entries<Kv> {
        self.entries.values().cloned().collect::<Vec<_>>().into()
    }

    fn equals(&self, log: &RedbLog<Kv>) -> bool {
        self.state() == *log.opened_state() && self.entries() == read_all(log)
    }
}

/// Carries out one random write on both.
fn step(random: &mut Rng, log: &mut RedbLog<Kv>, model: &mut Model) {
    let last = model.last();
    match random.u8(0..10) {
        0..=5 => {
            let term = last.term.max(1) + u64::from(random.u8(0..4) == 0);
            let batch = entries(term, last.index + 1..last.index + random.u64(2..40));
            let hint = random.u64(0..=last.index);
            model.hint = model.hint.max(hint);
            model.entries.extend(batch.iter().map(|entry| (entry.log_id.index, entry.clone())));
            block_on(log.append(batch, hint)).unwrap();
        }
        6 => {
            let from = random.u64(model.purged.index + 1..=last.index + 2);
            model.entries.split_off(&from);
            block_on(log.truncate(from)).unwrap();
        }
        7 => {
            let index = random.u64(model.purged.index..=last.index + 3);
            let term = model.entries.get(&index).map_or(last.term, |entry| entry.log_id.term);
            let upto = LogId::new(term, index);
            if model.purged.index < index {
                model.purged = upto;
                model.entries = model.entries.split_off(&(index + 1));
            }
            block_on(log.purge(upto)).unwrap();
        }
        _ => {
            let term = model.hard_state.term + u64::from(random.bool());
            let commit = random.u64(0..=last.index);
            model.hard_state =
                HardState { term, voted_for: random.bool().then_some(random.u64(1..4)), commit };
            block_on(log.save_hard_state(model.hard_state)).unwrap();
        }
    }
}

fn open(disk: &Disk) -> RedbLog<Kv> {
    RedbLog::open_on("disk", disk.clone(), &identity(), &Options::default()).unwrap()
}

fn crash_everywhere(seed: u64, steps: usize) {
    let mut random = Rng::with_seed(seed);
    let disk = Disk::default();
    let mut log = open(&disk);
    disk.record();
    let mut models = vec![Model::default()];
    for count in 1..=steps {
        let mut model = models.last().unwrap().clone();
        step(&mut random, &mut log, &mut model);
        models.push(model.clone());
        disk.mark(count);
        // What is acknowledged is there if the machine crashes now.
        let crashed = open(&disk.crash_point().strict());
        assert!(model.equals(&crashed), "seed {seed}: after step {count}: {model:?}");
    }
    drop(log);
    for (number, point) in disk.take_crash_points().into_iter().enumerate() {
        let allowed = &models[point.mark..models.len().min(point.mark + 2)];
        for crashed in [point.strict(), point.torn(&mut random)] {
            let log = open(&crashed);
            assert!(
                allowed.iter().any(|model| model.equals(&log)),
                "seed {seed}: crash point {number} in step {}: found {:?}",
                point.mark,
                log.opened_state()
            );
        }
    }
}

#[test]
fn a_crash_at_any_sync_keeps_what_was_acknowledged() {
    for seed in 0..4 {
        crash_everywhere(seed, 40);
    }
}

#[test]
fn a_crash_between_the_pieces_of_a_purge_leaves_the_same_log() {
    let disk = Disk::default();
    let mut log = open(&disk);
    block_on(log.append(entries(1, 1..15_000), 0)).unwrap();
    disk.record();
    block_on(log.purge(LogId::new(1, 14_990))).unwrap();
    // One point for each piece at least.
    let deadline = Instant::now() + Duration::from_secs(60);
    while disk.crash_points() < 8 {
        assert!(Instant::now() < deadline, "the log is not swept when it is idle");
        std::thread::yield_now();
    }
    drop(log);
    let points = disk.take_crash_points();
    let mut purged = 0;
    for point in points {
        let mut log = open(&point.strict());
        let state = block_on(log.load()).unwrap();
        if state.purged == LogId::ZERO {
            assert_eq!((purged, read_all(&log).range()), (0, 1..15_000));
            continue;
        }
        purged += 1;
        assert_eq!((state.purged, state.last), (LogId::new(1, 14_990), LogId::new(1, 14_999)));
        assert_eq!(read_all(&log), entries(1, 14_991..15_000));
        // It goes on sweeping, and takes new entries.
        block_on(log.append(entries(1, 15_000..15_001), 0)).unwrap();
    }
    assert!(purged > 3, "{purged}");
}
