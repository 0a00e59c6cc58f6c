//! Waiting for conditions of the metrics, with a deadline.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};

use crate::driver::Clock;
use crate::entry::Index;
use crate::error::WaitError;
use crate::metrics::{RaftMetrics, RoleName};
use crate::type_config::TypeConfig;

use super::MetricsWatch;

/// Waits for conditions of the metrics of a node. The time limit runs anew for each call. It does not keep the node
/// alive.
///
/// # Errors
///
/// All methods return [`WaitError::TimedOut`] with what was seen last, or [`WaitError::Fatal`] when the node stops
/// before the condition holds.
pub struct Wait<C: TypeConfig> {
    watch: MetricsWatch<C>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

impl<C: TypeConfig> Wait<C> {
    pub(super) fn new(watch: MetricsWatch<C>, clock: Arc<dyn Clock>, timeout: Duration) -> Self {
        Self { watch, clock, timeout }
    }

    /// Waits until `is_true` holds, and returns the metrics for which it does. `condition` names it in the error.
    ///
    /// A node that has stopped satisfies no condition. Only metrics that are published are looked at, and those that
    /// follow each other too fast are skipped: a condition that holds for a moment may be missed.
    pub async fn until(
        &self,
        condition: &str,
        is_true: impl Fn(&RaftMetrics<C>) -> bool,
    ) -> Result<Arc<RaftMetrics<C>>, WaitError> {
        let mut watch = self.watch.clone();
        let mut last = watch.latest();
        let mut too_late = self.clock.sleep_until(self.clock.now() + self.timeout);
        loop {
            // What a node has seen before it stopped is of no use to anybody who waits.
            if let Some(fatal) = &last.fatal {
                return Err(fatal.clone().into());
            }
            if is_true(&last) {
                return Ok(last);
            }
            let changed = Box::pin(watch.changed());
            last = match select(changed, &mut too_late).await {
                Either::Left((metrics, _)) => metrics,
                Either::Right(((), _)) => return Err(self.timed_out(condition, &last)),
            };
        }
    }

    fn timed_out(&self, condition: &str, last: &RaftMetrics<C>) -> WaitError {
        let leader = last.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
        WaitError::TimedOut {
            condition: condition.to_owned(),
            waited_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            last: format!(
                "node {} is {} in term {}, leader {leader}, last {}, committed {}, applied {}, snapshot {}, {}",
                last.id,
                last.role,
                last.term,
                last.last,
                last.committed,
                last.applied,
                last.snapshot,
                last.membership.membership
            ),
        }
    }

    /// Waits until some node is known to lead, and returns it.
    pub async fn leader(&self) -> Result<C::NodeId, WaitError> {
        let metrics = self.until("a leader", |metrics| metrics.leader.is_some()).await?;
        Ok(metrics.leader.expect("the condition holds"))
    }

    /// Waits until `id` is known to lead.
    pub async fn leader_is(&self, id: C::NodeId) -> Result<(), WaitError> {
        self.until(&format!("node {id} to lead"), |metrics| metrics.leader == Some(id)).await.map(drop)
    }

    /// Waits until this node has a role.
    pub async fn role(&self, role: RoleName) -> Result<(), WaitError> {
        self.until(&format!("role {role}"), |metrics| metrics.role == role).await.map(drop)
    }

    /// Waits until the state machine has applied `index`.
    pub async fn applied(&self, index: Index) -> Result<(), WaitError> {
        self.until(&format!("entry {index} to be applied"), |metrics| index <= metrics.applied.index)
            .await
            .map(drop)
    }

    /// Waits until the membership in force on this node satisfies a condition, which is named in the error.
    pub async fn membership(
        &self,
        condition: &str,
        is_true: impl Fn(&crate::Membership<C>) -> bool,
    ) -> Result<(), WaitError> {
        self.until(condition, |metrics| is_true(&metrics.membership.membership)).await.map(drop)
    }

    /// Waits until the latest snapshot of this node covers `index`.
    pub async fn snapshot(&self, index: Index) -> Result<(), WaitError> {
        self.until(&format!("a snapshot that covers entry {index}"), |metrics| {
            index <= metrics.snapshot.index
        })
        .await
        .map(drop)
    }
}

impl<C: TypeConfig> fmt::Debug for Wait<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
