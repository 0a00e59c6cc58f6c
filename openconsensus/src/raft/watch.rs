//! A watch: the latest metrics, and a way to wait for later ones.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures::future::poll_fn;

use crate::driver::lock;
use crate::error::Fatal;
use crate::metrics::RaftMetrics;
use crate::type_config::TypeConfig;

/// The place where the core loop puts the latest metrics and where any number of [`MetricsWatch`] look.
pub(crate) struct Watch<C: TypeConfig> {
    state: Mutex<State<C>>,
}

struct State<C: TypeConfig> {
    latest: Arc<RaftMetrics<C>>,
    /// Grows with each publication.
    version: u64,
    next_key: u64,
    /// Those who wait for a later version, by a key of their own.
    waiting: BTreeMap<u64, Waker>,
}

impl<C: TypeConfig> Watch<C> {
    pub(crate) fn new(first: RaftMetrics<C>) -> Arc<Self> {
        let state = State { latest: Arc::new(first), version: 1, next_key: 0, waiting: BTreeMap::new() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    pub(crate) fn latest(&self) -> Arc<RaftMetrics<C>> {
        lock(&self.state).latest.clone()
    }

    /// Makes `metrics` the latest and wakes all who wait.
    pub(crate) fn publish(&self, metrics: RaftMetrics<C>) {
        let metrics = Arc::new(metrics);
        let (_previous, waiting) = {
            let mut state = lock(&self.state);
            state.version += 1;
            (std::mem::replace(&mut state.latest, metrics), std::mem::take(&mut state.waiting))
        };
        waiting.into_values().for_each(Waker::wake);
    }

    /// The node has stopped: the last metrics, with the reason.
    pub(crate) fn stop(&self, reason: Fatal) {
        let mut metrics = (*self.latest()).clone();
        metrics.fatal = Some(reason);
        self.publish(metrics);
    }
}

/// The latest metrics of a node, and a way to wait for later ones. Cheap to clone; each clone has seen what its
/// original had seen. It does not keep the node alive.
pub struct MetricsWatch<C: TypeConfig> {
    watch: Arc<Watch<C>>,
    seen: u64,
    /// Where the waker of [`changed`](Self::changed) is kept.
    key: u64,
}

impl<C: TypeConfig> MetricsWatch<C> {
    /// A watch that has seen nothing yet.
    pub(crate) fn new(watch: Arc<Watch<C>>) -> Self {
        let key = new_key(&watch);
        Self { watch, seen: 0, key }
    }

    /// The latest metrics. [`changed`](Self::changed) does not return them because of this call: it waits for later
    /// ones than *it* has returned.
    pub fn latest(&self) -> Arc<RaftMetrics<C>> {
        self.watch.latest()
    }

    /// Waits until there are metrics that this method has not returned yet, and returns the latest: at once on its
    /// first call. What was published in between is skipped.
    ///
    /// Metrics are published at most every [`metrics_interval_ms`](crate::Config::metrics_interval_ms), changes of
    /// role, term and leader at once. When the node stops, it publishes its last metrics with
    /// [`fatal`](RaftMetrics::fatal) set; after those this method waits for ever.
    pub async fn changed(&mut self) -> Arc<RaftMetrics<C>> {
        poll_fn(|cx| self.poll_changed(cx)).await
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Arc<RaftMetrics<C>>> {
        let mut state = lock(&self.watch.state);
        if self.seen < state.version {
            self.seen = state.version;
            return Poll::Ready(state.latest.clone());
        }
        let previous = state.waiting.insert(self.key, cx.waker().clone());
        // Dropping a waker may drop a task and with it another watch, which takes the lock.
        drop(state);
        drop(previous);
        Poll::Pending
    }
}

fn new_key<C: TypeConfig>(watch: &Watch<C>) -> u64 {
    let mut state = lock(&watch.state);
    state.next_key += 1;
    state.next_key
}

impl<C: TypeConfig> Clone for MetricsWatch<C> {
    fn clone(&self) -> Self {
        Self { watch: self.watch.clone(), seen: self.seen, key: new_key(&self.watch) }
    }
}

impl<C: TypeConfig> Drop for MetricsWatch<C> {
    fn drop(&mut self) {
        let waker = lock(&self.watch.state).waiting.remove(&self.key);
        drop(waker);
    }
}

impl<C: TypeConfig> fmt::Debug for MetricsWatch<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsWatch").field("seen", &self.seen).field("latest", &self.latest()).finish()
    }
}
