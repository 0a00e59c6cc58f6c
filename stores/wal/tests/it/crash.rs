//! A crash at every operation of random workloads.

use crate::explore::{Effort, Seen, explore, for_seeds};

const EFFORT: Effort = Effort { calls: 30, survivals: 6, again_one_in: 12, calls_again: 3 };

#[test]
fn a_crash_at_any_operation_leaves_what_was_acknowledged_and_no_more_than_was_asked_for() {
    let mut seen = Seen::default();
    for_seeds("a_crash_at_any_operation", 0..4, |seed| {
        seen += explore(seed, EFFORT)?;
        Ok(())
    });
    println!("{seen:?}");
}
