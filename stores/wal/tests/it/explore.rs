//! Runs random calls on a simulated disk, and looks at what a crash at each of its operations leaves.

use std::ops::Range;

use fastrand::Rng;

use crate::disk::{CrashPoint, Operation, SimDisk, Survival};
use crate::helpers::{Opened, open};
use crate::model::{Call, History, Model};
use crate::workload::Workload;

/// How much is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// How many calls a run makes.
    pub(crate) calls: usize,
    /// In how many ways each crash is survived, at most.
    pub(crate) survivals: usize,
    /// One of so many disks that a crash has left is used further and crashes again.
    pub(crate) again_one_in: usize,
    /// How many calls are made on it.
    pub(crate) calls_again: usize,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) crashes: usize,
    pub(crate) recoveries: usize,
    pub(crate) later_crashes: usize,
    /// Segments that got their name.
    pub(crate) segments: usize,
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.recoveries += other.recoveries;
        self.later_crashes += other.later_crashes;
        self.segments += other.segments;
    }
}

/// The seeds of a test: those of the environment variable `WAL_SEEDS`, as in `7` or `0..1000`, or else `default`.
pub(crate) fn seeds(default: Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var("WAL_SEEDS") else { return default };
    let number = |text: &str| text.parse().expect("WAL_SEEDS is a number, or a range as in 0..1000");
    match text.split_once("..") {
        Some((start, end)) => number(start)..number(end),
        None => number(&text)..number(&text) + 1,
    }
}

/// Calls `check` with every seed, and says how to repeat it when one fails.
pub(crate) fn for_seeds(test: &str, default: Range<u64>, mut check: impl FnMut(u64) -> Result<(), String>) {
    for seed in seeds(default) {
        if let Err(error) = check(seed) {
            panic!(
                "seed {seed}:\n{error}\n\nRepeat it with:\n  WAL_SEEDS={seed} cargo test -p openconsensus-wal --test it -- \
                 {test}\n"
            );
        }
    }
}

/// How large segments are under this seed: tiny, so that there are many.
pub(crate) fn segment_bytes(seed: u64) -> usize {
    [65_536, 65_536, 98_304, 131_072][(seed % 4) as usize]
}

/// One run under `seed`, with a crash at every operation.
pub(crate) fn explore(seed: u64, effort: Effort) -> Result<Seen, String> {
    let segment_bytes = segment_bytes(seed);
    let mut random = Rng::with_seed(seed ^ 0x5eed);
    let disk = SimDisk::default();
    if seed.is_multiple_of(3) {
        disk.read_short(seed);
    }
    let mut workload = Workload::new(seed, segment_bytes);
    disk.record();
    let opened = open(&disk, segment_bytes).map_err(|error| format!("a new log: {error}"))?;
    let mut seen = Seen::default();
    let history = make_calls(&disk, opened, &mut workload, effort.calls)?;
    let points = disk.take_points();
    seen.segments = disk.log_from(0).iter().filter(|done| **done == (Operation::Rename, true)).count();
    for (number, point) in points.iter().enumerate() {
        let about = |error: String| format!("a crash after operation {number} ({}):\n{error}", point.what);
        seen += crash_at(point, &history, &workload, effort, &mut random).map_err(about)?;
    }
    Ok(seen)
}

/// Makes so many calls, and compares what is found whenever the log is opened again.
pub(crate) fn make_calls(
    disk: &SimDisk,
    opened: Opened,
    workload: &mut Workload,
    calls: usize,
) -> Result<History, String> {
    make_calls_and_keep(disk, opened, workload, calls).map(|(history, _)| history)
}

/// The same, and the log stays open.
pub(crate) fn make_calls_and_keep(
    disk: &SimDisk,
    opened: Opened,
    workload: &mut Workload,
    calls: usize,
) -> Result<(History, Opened), String> {
    let mut history = History::new(opened.found.clone());
    let segment_bytes = opened.segment_bytes;
    let mut log = Some(opened);
    for number in 0..calls {
        let call = workload.next(history.last());
        history.push(call.clone());
        disk.mark(number, number + 1);
        if let Call::Reopen = call {
            drop(log.take());
            let opened = open(disk, segment_bytes).map_err(|error| format!("opening it again: {error}"))?;
            history
                .check(number + 1, number + 1, &opened.found)
                .map_err(|error| format!("opened again:\n{error}"))?;
            log = Some(opened);
        } else {
            let opened = log.as_mut().expect("the log is open");
            opened.call(&call).map_err(|error| format!("call {number}, {call}: {error}"))?;
        }
        disk.mark(number + 1, number + 1);
    }
    Ok((history, log.expect("the log is open")))
}

fn crash_at(
    point: &CrashPoint,
    history: &History,
    workload: &Workload,
    effort: Effort,
    random: &mut Rng,
) -> Result<Seen, String> {
    let mut seen = Seen::default();
    for survival in Survival::some(point, effort.survivals, random) {
        let about = |error: String| format!("of what was not synced there is left: {survival:?}\n{error}");
        seen.crashes += 1;
        if random.usize(0..effort.again_one_in) == 0 {
            seen += crash_again(point, survival, history, workload, effort, random).map_err(about)?;
        } else {
            let disk = point.survive(survival);
            look(&disk, point, history, workload).map_err(about)?;
        }
    }
    Ok(seen)
}

/// Opens what a crash has left, and compares it.
fn look(disk: &SimDisk, point: &CrashPoint, history: &History, workload: &Workload) -> Result<Model, String> {
    let opened =
        open(disk, workload.segment_bytes()).map_err(|error| format!("it does not open: {error}"))?;
    history.check(point.acknowledged, point.made, &opened.found)?;
    Ok(opened.found.clone())
}

/// The same, with crashes while it is opened; and it is used, and crashes at any of its operations.
fn crash_again(
    point: &CrashPoint,
    survival: Survival,
    history: &History,
    workload: &Workload,
    effort: Effort,
    random: &mut Rng,
) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let disk = point.survive(survival);
    disk.record();
    let found = look(&disk, point, history, workload)?;
    for (number, during) in disk.take_points().iter().enumerate() {
        for survival in Survival::some(during, 3, random) {
            seen.recoveries += 1;
            let what = &during.what;
            look(&during.survive(survival), point, history, workload).map_err(|error| {
                format!("crashed again while it was opened, after {number} ({what}), {survival:?}:\n{error}")
            })?;
        }
    }
    // What was reported counts: the node may have told others of it.
    let base = disk.point();
    for survival in Survival::some(&base, 4, random) {
        let again = look(&base.survive(survival), point, history, workload)?;
        if let Some(difference) = found.differs(&again) {
            return Err(format!(
                "it was opened and found:   {found}\nafter another crash found: {again}\n({difference})"
            ));
        }
    }
    let seed = random.u64(..);
    let mut workload = Workload::behind(seed, workload.segment_bytes(), workload.term());
    let opened =
        open(&disk, workload.segment_bytes()).map_err(|error| format!("opening it again: {error}"))?;
    let later = make_calls(&disk, opened, &mut workload, effort.calls_again)
        .map_err(|error| format!("used again:\n{error}"))?;
    for (number, point) in disk.take_points().iter().enumerate() {
        for survival in Survival::some(point, 2, random) {
            seen.later_crashes += 1;
            let what = &point.what;
            look(&point.survive(survival), point, &later, &workload).map_err(|error| {
                format!("used again, and crashed after operation {number} ({what}), {survival:?}:\n{error}")
            })?;
        }
    }
    Ok(seen)
}
