//! `StoreFaults`: what goes wrong with a store, decided from outside while it is in use.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::any_runtime::AnyRuntime;

/// Decides what goes wrong with the store that it was given to. Cheap to clone; all clones decide together. Nothing
/// goes wrong at first.
#[derive(Clone, Debug)]
pub struct StoreFaults {
    runtime: AnyRuntime,
    plan: Arc<Mutex<Plan>>,
    is_stalled: watch::Sender<bool>,
}

#[derive(Debug)]
struct Plan {
    /// Says in the trace whose store it is.
    name: String,
    /// Writes seen so far.
    writes: u64,
    /// This write fails, counted from the first.
    failing: Option<u64>,
    /// Whether a write that fails has reached the disk all the same.
    fails_late: bool,
    is_full: bool,
    /// How long each of the two halves of a write takes.
    latency: Range<Duration>,
    /// Whether a crash in the middle of an append may leave a start of its entries.
    is_torn: bool,
    /// Faults that were asked for and have happened.
    failed: u64,
    random: fastrand::Rng,
}

impl StoreFaults {
    /// No faults, for a store that is used on tokio.
    pub fn new() -> Self {
        Self::on(AnyRuntime::tokio(), "store", 0)
    }

    /// No faults, for a store whose delays are those of `runtime`. `name` says in its notes which store it is, and
    /// `seed` decides how long writes take and where they are torn.
    pub fn on(runtime: AnyRuntime, name: impl Into<String>, seed: u64) -> Self {
        let plan = Plan {
            name: name.into(),
            writes: 0,
            failing: None,
            fails_late: false,
            is_full: false,
            latency: Duration::ZERO..Duration::ZERO,
            is_torn: false,
            failed: 0,
            random: fastrand::Rng::with_seed(seed),
        };
        Self { runtime, plan: Arc::new(Mutex::new(plan)), is_stalled: watch::Sender::new(false) }
    }

    /// The `nth` write from now on fails; the next one is the first. Nothing of it reaches the disk.
    pub fn fail_write(&self, nth: u64) {
        let mut plan = self.lock();
        plan.failing = Some(plan.writes + nth);
        plan.fails_late = false;
    }

    /// As [`fail_write`](Self::fail_write), but all of the write has reached the disk when it fails.
    pub fn fail_after_write(&self, nth: u64) {
        self.fail_write(nth);
        self.lock().fails_late = true;
    }

    /// The disk is full: every write fails until [`free`](Self::free).
    pub fn fill(&self) {
        self.lock().is_full = true;
    }

    /// The disk has room again, and no write is left that is to fail.
    pub fn free(&self) {
        let mut plan = self.lock();
        plan.is_full = false;
        plan.failing = None;
    }

    /// Every write takes this long from now on, before it reaches the disk.
    pub fn slow_down(&self, delay: Duration) {
        self.lock().latency = delay..delay;
    }

    /// From now on every write takes a random time of this range before it reaches the disk, and another one after it,
    /// before its caller learns of it.
    pub fn set_latency(&self, latency: Range<Duration>) {
        self.lock().latency = latency;
    }

    /// From now on an append reaches the disk in two parts with some time between them, so that a crash may leave only a
    /// start of its entries.
    pub fn tear_appends(&self) {
        self.lock().is_torn = true;
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

    /// How many writes have failed because they were to.
    pub fn failed(&self) -> u64 {
        self.lock().failed
    }

    /// What stands before every write of the store: waits, and fails if the write is to fail. `what` says in the notes
    /// what is written. Returns the number of the write, for [`after_write`](Self::after_write).
    pub(crate) async fn before_write(&self, what: &str) -> io::Result<u64> {
        let (number, failure) = {
            let mut plan = self.lock();
            plan.writes += 1;
            let is_failing = plan.failing == Some(plan.writes) && !plan.fails_late;
            (plan.writes, is_failing.then(|| plan.fail()))
        };
        if let Some(failure) = failure {
            self.note(what, "fails");
            return Err(failure);
        }
        // The sender is a field of `self`, so there is always a value to wait for.
        let _ = self.is_stalled.subscribe().wait_for(|stalled| !stalled).await;
        self.take_time().await;
        let mut plan = self.lock();
        if plan.is_full {
            plan.failed += 1;
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on the device"));
        }
        drop(plan);
        self.note(what, "is written");
        Ok(number)
    }

    /// What stands after every write of the store that has reached the disk.
    pub(crate) async fn after_write(&self, number: u64, what: &str) -> io::Result<()> {
        let is_split = {
            let plan = self.lock();
            plan.latency.start < plan.latency.end
        };
        if is_split {
            self.take_time().await;
            self.note(what, "is durable");
        }
        let mut plan = self.lock();
        if plan.fails_late && plan.failing == Some(number) { Err(plan.fail()) } else { Ok(()) }
    }

    /// Where an append of so many entries is torn, if it is: between 1 and `entries - 1`.
    pub(crate) fn tear(&self, entries: usize) -> Option<usize> {
        let mut plan = self.lock();
        (plan.is_torn && 1 < entries).then(|| plan.random.usize(1..entries))
    }

    pub(crate) async fn take_time(&self) {
        let delay = {
            let mut plan = self.lock();
            let Range { start, end } = plan.latency;
            start + end.saturating_sub(start).mul_f64(plan.random.f64())
        };
        if !delay.is_zero() {
            self.runtime.let_pass(delay).await;
        }
    }

    fn note(&self, what: &str, fate: &str) {
        self.runtime.note(format_args!("{}: {what} {fate}", self.lock().name));
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    fn fail(&mut self) -> io::Error {
        self.failed += 1;
        io::Error::other(format!("write {} was made to fail", self.writes))
    }
}

impl Default for StoreFaults {
    fn default() -> Self {
        Self::new()
    }
}
