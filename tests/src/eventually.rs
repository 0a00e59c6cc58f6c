//! Waiting for a condition, with a deadline.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long [`eventually`] waits: longer than anything that works takes, however busy the machine is.
const DEADLINE: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until `look` returns `Ok`, for 20 seconds at most, and returns what it holds.
///
/// # Panics
///
/// At the deadline, with `what` and the last `Err`.
pub async fn eventually<T, E: Debug>(what: &str, look: impl FnMut() -> Result<T, E>) -> T {
    eventually_within(DEADLINE, what, look).await
}

/// As [`eventually`], for `limit` at most.
///
/// # Panics
///
/// At the deadline, with `what` and the last `Err`.
pub async fn eventually_within<T, E: Debug>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if deadline <= Instant::now() => {
                panic!("still waiting for {what} after {limit:?}; last seen: {seen:#?}")
            }
            Err(_) => sleep(PAUSE).await, // paces the looks
        }
    }
}
