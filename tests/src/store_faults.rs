//! `StoreFaults`: what goes wrong with a store, decided from outside while it is in use.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Decides what goes wrong with the store that it was given to. Cheap to clone; all clones decide together. Nothing
/// goes wrong at first.
#[derive(Clone, Debug)]
pub struct StoreFaults {
    plan: Arc<Mutex<Plan>>,
    is_stalled: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Plan {
    /// Writes seen so far.
    writes: u64,
    /// This write fails, counted from the first.
    failing: Option<u64>,
    is_full: bool,
    delay: Duration,
}

impl StoreFaults {
    /// No faults.
    pub fn new() -> Self {
        Self { plan: Arc::default(), is_stalled: watch::Sender::new(false) }
    }

    /// The `nth` write from now on fails; the next one is the first.
    pub fn fail_write(&self, nth: u64) {
        let mut plan = self.lock();
        plan.failing = Some(plan.writes + nth);
    }

    /// The disk is full: every write fails until [`free`](Self::free).
    pub fn fill(&self) {
        self.lock().is_full = true;
    }

    /// The disk has room again.
    pub fn free(&self) {
        self.lock().is_full = false;
    }

    /// Every write takes this long from now on.
    pub fn slow_down(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// No write is begun until [`release`](Self::release).
    pub fn stall(&self) {
        self.is_stalled.send_replace(true);
    }

    /// Ends a [`stall`](Self::stall).
    pub fn release(&self) {
        self.is_stalled.send_replace(false);
    }

    /// How many writes were begun so far.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// What stands before every write of the store: waits, and fails if the write is to fail.
    pub(crate) async fn before_write(&self) -> io::Result<()> {
        let delay = {
            let mut plan = self.lock();
            plan.writes += 1;
            if plan.failing == Some(plan.writes) {
                return Err(io::Error::other(format!("write {} was made to fail", plan.writes)));
            }
            plan.delay
        };
        // The sender is a field of `self`, so there is always a value to wait for.
        let _ = self.is_stalled.subscribe().wait_for(|stalled| !stalled).await;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await; // paces the writes
        }
        if self.lock().is_full {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on the device"));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for StoreFaults {
    fn default() -> Self {
        Self::new()
    }
}
