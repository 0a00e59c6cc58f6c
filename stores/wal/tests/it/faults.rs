//! Writes and syncs that fail, syncs that lie, and disks that are full.

use std::io::ErrorKind;

use fastrand::Rng;

use crate::disk::{Fault, Operation, SimDisk, Survival};
use crate::explore::{for_seeds, make_calls, segment_bytes};
use crate::helpers::open;
use crate::model::{Call, History};
use crate::workload::Workload;

/// A log that has been used for a while.
struct Used {
    disk: SimDisk,
    workload: Workload,
    history: History,
}

fn used(seed: u64, calls: usize) -> Result<Used, String> {
    let segment_bytes = segment_bytes(seed);
    let disk = SimDisk::default();
    let mut workload = Workload::new(seed, segment_bytes);
    let opened = open(&disk, segment_bytes).map_err(|error| format!("a new log: {error}"))?;
    let history = make_calls(&disk, opened, &mut workload, calls)?;
    Ok(Used { disk, workload, history })
}

/// Makes calls until one fails, or so many were made. Returns whether one has failed, which is the last of the history,
/// and how many were acknowledged.
fn until_failure(used: &mut Used, calls: usize) -> Result<(Option<std::io::Error>, usize), String> {
    let Used { disk, workload, history } = used;
    let mut opened = match open(disk, workload.segment_bytes()) {
        Ok(opened) => opened,
        // It may also be the opening that fails.
        Err(error) => return Ok((Some(error.into()), history.len())),
    };
    for _ in 0..calls {
        let call = workload.next(history.last());
        if let Call::Reopen = call {
            continue;
        }
        history.push(call.clone());
        if let Err(error) = opened.call(&call) {
            // Nobody calls again; and if somebody did, nothing more would be written.
            let before = disk.operations();
            let later = workload.next(history.last());
            if !matches!(later, Call::Reopen) && opened.call(&later).is_ok() {
                return Err(format!("{call} failed ({error}), and then was acknowledged: {later}"));
            }
            let more = disk.log_from(before);
            if more.iter().any(|(operation, _)| *operation == Operation::Write) {
                return Err(format!(
                    "{call} failed ({error}), and after {later} the disk was written to: {more:?}"
                ));
            }
            return Ok((Some(error), history.len() - 1));
        }
    }
    Ok((None, history.len()))
}

/// After a failure: what a restart of the process finds counts, whatever the machine does then; and what the machine leaves
/// when it goes down at once is right, too.
fn check_after_failure(used: &Used, acknowledged: usize, random: &mut Rng) -> Result<(), String> {
    let Used { disk, workload, history } = used;
    let point = disk.point();
    let open = |disk: &SimDisk| {
        open(disk, workload.segment_bytes()).map_err(|error| format!("it does not open: {error}"))
    };
    for survival in Survival::some(&point, 8, random) {
        let opened = open(&point.survive(survival)).map_err(|error| format!("{survival:?}: {error}"))?;
        history
            .check(acknowledged, history.len(), &opened.found)
            .map_err(|error| format!("the machine went down, {survival:?}:\n{error}"))?;
    }
    let restarted = point.killed();
    let opened = open(&restarted)?;
    history
        .check(acknowledged, history.len(), &opened.found)
        .map_err(|error| format!("the process was started again:\n{error}"))?;
    let later = restarted.point();
    for survival in Survival::some(&later, 8, random) {
        let again = open(&later.survive(survival)).map_err(|error| format!("{survival:?}: {error}"))?;
        if let Some(difference) = opened.found.differs(&again.found) {
            return Err(format!(
                "the process was started again and found: {}\nthe machine went down ({survival:?}), and it found:       {}\n({difference})",
                opened.found, again.found
            ));
        }
    }
    Ok(())
}

/// Any one operation fails, or it and all after it.
#[test]
fn a_write_or_sync_that_fails_is_reported_and_ends_the_log_and_nothing_is_lost() {
    let mut failures = 0;
    for_seeds("faults::a_write_or_sync_that_fails", 0..4, |seed| {
        let mut random = Rng::with_seed(seed);
        for further in 0..24 {
            let mut used = used(seed, 12)?;
            let kind = random.u8(0..3);
            match kind {
                0 => used.disk.plan(further, Fault::Fails),
                1 => used.disk.plan(further, Fault::Partial),
                _ => used.disk.break_after(further),
            }
            let about = |error: String| format!("operation {further} failed, in the way {kind}:\n{error}");
            let (error, acknowledged) = until_failure(&mut used, 12).map_err(about)?;
            failures += usize::from(error.is_some());
            check_after_failure(&used, acknowledged, &mut random).map_err(about)?;
        }
        Ok(())
    });
    assert!(4 < failures, "{failures} calls failed");
}

/// Syncs report success and keep nothing, from some moment on: nobody can promise anything then but to notice.
#[test]
fn with_syncs_that_lie_a_log_is_a_state_that_once_was_or_does_not_open() {
    let (mut opens, mut refusals) = (0, 0);
    for_seeds("faults::with_syncs_that_lie", 0..3, |seed| {
        let mut random = Rng::with_seed(seed);
        let segment_bytes = segment_bytes(seed);
        let disk = SimDisk::default();
        let mut workload = Workload::new(seed, segment_bytes);
        disk.lie_after(random.u64(0..60));
        disk.record();
        let opened = open(&disk, segment_bytes).map_err(|error| format!("a new log: {error}"))?;
        let history = make_calls(&disk, opened, &mut workload, 25)?;
        let points = disk.take_points();
        for point in points.iter().step_by(3) {
            for survival in Survival::some(point, 6, &mut random) {
                match open(&point.survive(survival), segment_bytes) {
                    Err(_) => refusals += 1,
                    Ok(opened) => {
                        opens += 1;
                        history.check_any(&opened.found).map_err(|error| {
                            format!(
                                "a crash after {} ({}), {survival:?}:\n{error}",
                                point.operation, point.what
                            )
                        })?;
                    }
                }
            }
        }
        Ok(())
    });
    println!("with syncs that lied, it opened {opens} times and was refused {refusals} times");
    assert!(0 < opens, "{opens}, {refusals}");
}

#[test]
fn a_full_disk_is_an_error_that_says_so_and_with_room_the_log_goes_on() {
    let (mut failures, mut disks) = (0, 0);
    for_seeds("faults::a_full_disk", 0..2, |seed| {
        let mut random = Rng::with_seed(seed);
        for space in [0, 1, 511, 4096, 20_000, 60_000, 66_000] {
            disks += 1;
            let about = |error: String| format!("with room for {space} bytes:\n{error}");
            let mut used = used(seed, 6)?;
            used.disk.leave_space(space);
            let (error, acknowledged) = until_failure(&mut used, 60).map_err(about)?;
            if let Some(error) = error {
                failures += 1;
                if error.kind() != ErrorKind::StorageFull {
                    return Err(about(format!("the error is {error} ({:?})", error.kind())));
                }
            }
            used.disk.free_space();
            check_after_failure(&used, acknowledged, &mut random).map_err(about)?;
            // And it is used again.
            let again =
                open(&used.disk, used.workload.segment_bytes()).map_err(|error| about(error.to_string()))?;
            make_calls(&used.disk, again, &mut used.workload, 10).map_err(about)?;
        }
        Ok(())
    });
    assert!(disks < 2 * failures, "{failures} of {disks} disks became full");
}

#[test]
fn a_new_log_on_a_full_disk_is_refused_and_made_when_there_is_room() {
    for space in [0, 1, 100, 4096, 5000, 65_536, 70_000, 131_071] {
        let disk = SimDisk::default();
        disk.leave_space(space);
        let Err(error) = open(&disk, 65_536) else { continue };
        assert!(error.to_string().contains("no space left"), "{space}: {error}");
        disk.free_space();
        let opened = open(&disk, 65_536).unwrap();
        assert_eq!(opened.found.to_string(), crate::model::Model::default().to_string());
    }
}

/// The call waits for its sync: with the sync held up, no answer comes.
#[test]
fn nothing_is_acknowledged_before_its_sync() {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use futures::FutureExt;
    use openconsensus::RaftLogStorage;

    for seed in 0..4 {
        let disk = SimDisk::default();
        let mut workload = Workload::new(seed, segment_bytes(seed));
        let mut opened = open(&disk, segment_bytes(seed)).unwrap();
        let mut history = History::new(opened.found.clone());
        for _ in 0..40 {
            let call = workload.next(history.last());
            if let Call::Reopen = call {
                continue;
            }
            history.push(call.clone());
            disk.hold_syncs(true);
            let log = &mut opened.log;
            let future = match call.clone() {
                Call::HardState(state) => log.save_hard_state(state).boxed(),
                Call::Append(entries, commit) => log.append(entries, commit).boxed(),
                Call::Truncate(from) => log.truncate(from).boxed(),
                Call::Purge(upto) => log.purge(upto).boxed(),
                Call::Reopen => panic!("not a call"),
            };
            let mut future = pin!(future);
            let mut context = Context::from_waker(Waker::noop());
            let mut answer = None;
            let is_held = disk.wait_for_held_sync(|| {
                answer = match future.as_mut().poll(&mut context) {
                    Poll::Ready(result) => Some(result),
                    Poll::Pending => None,
                };
                answer.is_some()
            });
            if is_held {
                assert!(
                    future.as_mut().poll(&mut context).is_pending(),
                    "{call} was acknowledged before its sync"
                );
                disk.hold_syncs(false);
                futures::executor::block_on(future).unwrap();
            } else {
                // Only what changes nothing needs no sync.
                let changes = history.last() != &history_before(&history);
                assert!(!changes, "{call} was acknowledged without a sync");
                disk.hold_syncs(false);
            }
        }
    }
}

fn history_before(history: &History) -> crate::model::Model {
    history.state(history.len() - 1).clone()
}
