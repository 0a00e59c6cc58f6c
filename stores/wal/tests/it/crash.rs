//! A crash at every operation of random workloads.

use crate::explore::{Effort, Seen, explore, for_seeds};

/// In a campaign, seeds beyond the first ones get more.
fn effort(seed: u64) -> Effort {
    if seed < 3 {
        Effort { calls: 24, survivals: 4, again_one_in: 25, calls_again: 2 }
    } else {
        Effort { calls: 40, survivals: 8, again_one_in: 15, calls_again: 4 }
    }
}

#[test]
fn a_crash_at_any_operation_leaves_what_was_acknowledged_and_no_more_than_was_asked_for() {
    let (mut seen, mut runs) = (Seen::default(), 0);
    for_seeds("a_crash_at_any_operation", 0..3, |seed| {
        seen += explore(seed, effort(seed))?;
        runs += 1;
        Ok(())
    });
    println!("{runs} runs: {seen:?}");
    // A single run may be one of few entries.
    assert!(runs < 3 || runs < seen.segments, "the log hardly went on to other segments: {seen:?}");
}
