//! What the handle and the loops of one node share.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use crate::config::ValidConfig;
use crate::error::Fatal;
use crate::metrics::{Histogram, QueueMetrics};
use crate::raft::{LeadershipLog, Watch};
use crate::runtime::{AsyncRuntime, BoxTimer, MaybeSend, MaybeSync};
use crate::type_config::TypeConfig;

use super::arrivals::Arrivals;
use super::inbox::Inbox;
use super::limit::{Admitted, Limit, Refused};
use super::stages::record;
use super::sync::{Tasks, lock};

/// Shared by the handle and the loops. It does not keep the node alive: the loops end when `fatal` is set.
pub(crate) struct Shared<C: TypeConfig> {
    pub(crate) id: C::NodeId,
    pub(crate) config: ValidConfig,
    /// To the core loop.
    pub(crate) inbox: Inbox<Arrivals<C>>,
    /// Commands that are admitted and not answered.
    pub(crate) writes: Arc<Limit>,
    /// Reads that are not answered.
    pub(crate) reads: Arc<Limit>,
    /// Requests of operators that are not answered.
    pub(crate) requests: Arc<Limit>,
    /// Appends that have arrived and that the engine has not seen, with what came in one call with them.
    pub(crate) received: Arc<Limit>,
    /// All other messages that have arrived.
    pub(crate) received_urgent: Arc<Limit>,
    pub(crate) watch: Arc<Watch<C>>,
    pub(crate) leadership: Arc<LeadershipLog>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Arc<Tasks>,
    /// Around all tasks of the node. It is entered with every poll, which costs two hundredths of the throughput: not at
    /// the level at which nodes are usually traced.
    pub(crate) span: tracing::Span,
    /// How long callers have waited for admission. Only those who had to wait come here.
    admission: Mutex<Arc<Histogram>>,
    fatal: OnceLock<Fatal>,
}

impl<C: TypeConfig> Shared<C> {
    pub(crate) fn new(
        id: C::NodeId,
        config: ValidConfig,
        watch: Arc<Watch<C>>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            inbox: Inbox::new(),
            writes: Limit::new(config.uncommitted_bytes_max),
            reads: Limit::new(config.reads_waiting_max),
            requests: Limit::new(config.requests_waiting_max),
            received: Limit::new(config.receive_bytes_max),
            received_urgent: Limit::new(config.receive_urgent_bytes_max),
            config,
            watch,
            leadership: LeadershipLog::new(),
            clock,
            tasks: Arc::default(),
            span: tracing::debug_span!("raft.node", node = %id),
            admission: Mutex::default(),
            fatal: OnceLock::new(),
        })
    }

    /// Waits until `bytes` of commands are admitted. `None` when the node stops.
    pub(crate) async fn admit(&self, bytes: u64) -> Option<Admitted<'_>> {
        match self.writes.try_admit(bytes) {
            Ok(admitted) => return Some(admitted),
            Err(Refused::Closed) => return None,
            Err(Refused::Busy { .. }) => {}
        }
        let began = self.clock.now();
        let permit = self.writes.acquire(bytes).await;
        record(&mut lock(&self.admission), began, self.clock.now(), 1);
        permit.map(|permit| permit.into_admitted(&self.writes))
    }

    pub(crate) fn admission_times(&self) -> Arc<Histogram> {
        lock(&self.admission).clone()
    }

    /// Stops the node for good. The first reason stays; later ones are ignored.
    pub(crate) fn stop(&self, reason: Fatal) {
        if self.fatal.set(reason.clone()).is_ok() {
            match reason {
                Fatal::Stopped => tracing::info!(name: "raft.stopped", node = %self.id, "node stops"),
                Fatal::LogStorage(_) | Fatal::StateMachine(_) | Fatal::Panicked(_) => {
                    tracing::error!(name: "raft.fatal", node = %self.id, %reason, "node stops for good");
                }
            }
        }
        self.inbox.close();
        for limit in [&self.writes, &self.reads, &self.requests, &self.received, &self.received_urgent] {
            limit.close();
        }
    }

    /// Adds what waits in front of the core to the metrics of an engine.
    pub(super) fn count_queues(&self, metrics: &mut QueueMetrics) {
        let (writes, reads) = (self.writes.usage(), self.reads.usage());
        metrics.admitted_bytes = writes.used;
        metrics.writers_waiting = writes.waiting;
        metrics.reads_under_way = reads.used;
        metrics.readers_waiting = reads.waiting;
        metrics.requests_under_way = self.requests.usage().used;
        metrics.received_bytes = self.received.usage().used;
        metrics.received_urgent_bytes = self.received_urgent.usage().used;
    }

    /// Why the node has stopped, if it has.
    pub(crate) fn fatal(&self) -> Option<&Fatal> {
        self.fatal.get()
    }

    /// Why the node has stopped, for a caller that was just sent away.
    pub(crate) fn reason(&self) -> Fatal {
        self.fatal.get().cloned().unwrap_or(Fatal::Stopped)
    }
}

/// The clock and timer of some runtime, as a trait object: the handle has no type parameter for the runtime.
pub(crate) trait Clock: MaybeSend + MaybeSync {
    fn now(&self) -> Instant;
    fn sleep_until(&self, deadline: Instant) -> BoxTimer;
}

impl<R: AsyncRuntime> Clock for R {
    fn now(&self) -> Instant {
        AsyncRuntime::now(self)
    }

    fn sleep_until(&self, deadline: Instant) -> BoxTimer {
        Box::pin(AsyncRuntime::sleep_until(self, deadline))
    }
}

/// What a panic said, for [`Fatal::Panicked`].
pub(crate) fn panic_text(panic: &dyn std::any::Any) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}
