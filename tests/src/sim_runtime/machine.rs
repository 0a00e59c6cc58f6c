//! What becomes of the clocks of a machine that is suspended, and of the time of day that somebody sets.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::application::SimApplication;
use super::cluster::SimCluster;
use super::runtime::SimRuntime;

/// Some day on which simulations begin.
const FIRST_DAY: Duration = Duration::from_secs(1_700_000_000);

/// The machine that a process runs on. All clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    state: Arc<Mutex<State>>,
}

/// In true time since the beginning.
#[derive(Debug, Default)]
struct State {
    /// For how long it has been suspended before.
    lost: Duration,
    suspended_since: Option<Duration>,
    /// How far the time of day was set ahead.
    ahead_ms: i64,
}

impl Machine {
    pub(super) fn suspend(&self, elapsed: Duration) {
        self.lock().suspended_since.get_or_insert(elapsed);
    }

    pub(super) fn resume(&self, elapsed: Duration) {
        let mut state = self.lock();
        if let Some(since) = state.suspended_since.take() {
            state.lost += elapsed - since;
        }
    }

    /// For how long it has been suspended until now.
    pub(super) fn lost(&self, elapsed: Duration) -> Duration {
        let state = self.lock();
        state.lost + state.suspended_since.map_or(Duration::ZERO, |since| elapsed - since)
    }

    pub(super) fn set_wall_clock(&self, ahead_ms: i64) {
        self.lock().ahead_ms = ahead_ms;
    }

    /// The time of day, when `shown` has passed since the beginning on a clock that is never suspended.
    pub(super) fn wall_clock(&self, shown: Duration) -> SystemTime {
        let (time, ahead_ms) = (SystemTime::UNIX_EPOCH + FIRST_DAY + shown, self.lock().ahead_ms);
        let by = Duration::from_millis(ahead_ms.unsigned_abs());
        if ahead_ms < 0 { time - by } else { time + by }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: SimApplication> SimCluster<A> {
    /// The machine of node `id` stands still until [`resume`](Self::resume), and its clock with it; see
    /// [`SimRuntime::suspend`].
    pub fn suspend(&self, id: u64) {
        self.world().note(format_args!("n{id} is suspended"));
        self.node(id).runtime.suspend();
    }

    /// The runtime of node `id`, which another start of it does not share.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn runtime(&self, id: u64) -> SimRuntime {
        self.node(id).runtime
    }
}
