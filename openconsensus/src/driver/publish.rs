//! Puts metrics together, and publishes them: changes of leadership at once, all others at most every few milliseconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Span;
use tracing::field::Empty;

use crate::engine::Engine;
use crate::entry::{LogId, Term};
use crate::metrics::{Histograms, RaftMetrics, RoleName, Standing};
use crate::type_config::TypeConfig;

use super::log_loop::LogQueue;
use super::requests::Requests;
use super::shared::Shared;
use super::stages::Stages;

/// Publishes the metrics of an engine.
pub(super) struct Publisher<C: TypeConfig> {
    interval: Duration,
    vital: Vital<C>,
    /// When metrics may be published again.
    not_before: Option<Instant>,
    /// Something has changed since the last publication.
    is_behind: bool,
    /// What was published last, and when others may be.
    histograms: Arc<Histograms>,
    histograms_not_before: Option<Instant>,
    /// Open while this node campaigns.
    election: Option<Span>,
}

/// Histograms that were published must be copied before more is counted, and nobody looks at them so often as at other
/// metrics: they are published with every so many.
const INTERVALS_OF_HISTOGRAMS: u32 = 20;

/// Everything that metrics are put together from.
pub(super) struct Sources<'a, C: TypeConfig> {
    pub(super) engine: &'a Engine<C>,
    pub(super) stages: &'a Stages,
    pub(super) requests: &'a Requests<C>,
    pub(super) log: &'a LogQueue<C>,
    pub(super) shared: &'a Shared<C>,
    /// Commit messages of the engine that did not have to leave.
    pub(super) spared: u64,
}

impl<C: TypeConfig> Sources<'_, C> {
    fn histograms(&self) -> Histograms {
        let mut writes = self.stages.write_times();
        writes.admission = self.shared.admission_times();
        Histograms {
            writes,
            reads: self.requests.read_times(),
            disk: self.log.times(),
            apply: self.stages.apply_times(),
        }
    }
}

/// What is published at once when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Vital<C: TypeConfig> {
    role: RoleName,
    term: Term,
    leader: Option<C::NodeId>,
    membership: LogId,
    standing: Standing,
}

impl<C: TypeConfig> Publisher<C> {
    /// Everybody has seen the metrics of `engine` as it is now.
    pub(super) fn new(engine: &Engine<C>, interval_ms: u64) -> Self {
        Self {
            interval: Duration::from_millis(interval_ms),
            vital: Vital::of(engine),
            not_before: None,
            is_behind: false,
            histograms: Arc::default(),
            histograms_not_before: None,
            election: None,
        }
    }

    /// The term in which this node leads, if it does.
    pub(super) fn leading_term(&self) -> Option<Term> {
        (self.vital.role == RoleName::Leader).then_some(self.vital.term)
    }

    /// When [`publish_if_due`](Self::publish_if_due) has something to publish.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.is_behind)
    }

    /// Something has changed: publishes it at once if it is vital.
    pub(super) fn look(&mut self, now: Instant, sources: &Sources<'_, C>) {
        self.is_behind = true;
        let vital = Vital::of(sources.engine);
        if vital != self.vital {
            let metrics = self.metrics(now, sources);
            if vital.role != self.vital.role {
                self.follow_election(vital.role, &metrics);
            }
            trace_changes(&self.vital, &vital, &metrics);
            self.vital = vital;
            self.publish_metrics(now, metrics, sources.shared);
        }
    }

    /// Publishes what has changed, if the last publication is long enough ago.
    pub(super) fn publish_if_due(&mut self, now: Instant, sources: &Sources<'_, C>) {
        if self.is_behind && self.not_before.is_none_or(|not_before| not_before <= now) {
            self.publish(now, sources);
        }
    }

    fn publish(&mut self, now: Instant, sources: &Sources<'_, C>) {
        let metrics = self.metrics(now, sources);
        self.publish_metrics(now, metrics, sources.shared);
    }

    /// Publishes all that there is, for the last time.
    pub(super) fn publish_last(&mut self, now: Instant, sources: &Sources<'_, C>) {
        self.histograms_not_before = None;
        self.publish(now, sources);
    }

    fn metrics(&mut self, now: Instant, sources: &Sources<'_, C>) -> RaftMetrics<C> {
        if self.histograms_not_before.is_none_or(|not_before| not_before <= now) {
            self.histograms = Arc::new(sources.histograms());
            self.histograms_not_before = Some(now + INTERVALS_OF_HISTOGRAMS * self.interval);
        }
        let mut metrics = RaftMetrics { histograms: self.histograms.clone(), ..sources.engine.metrics(now) };
        sources.shared.count_queues(&mut metrics.queues);
        metrics.counters.sent.take_back_commits::<C>(sources.spared);
        metrics
    }

    /// An election lasts from the first pre-vote until this node leads or follows.
    fn follow_election(&mut self, role: RoleName, metrics: &RaftMetrics<C>) {
        let begin =
            || tracing::info_span!("raft.election", node = %metrics.id, term = Empty, outcome = Empty);
        let end = |span: Span, outcome| {
            span.record("term", metrics.term);
            span.record("outcome", outcome);
        };
        match role {
            RoleName::PreCandidate | RoleName::Candidate => {
                self.election.get_or_insert_with(begin);
            }
            // A node alone may be elected within one turn.
            RoleName::Leader => end(self.election.take().unwrap_or_else(begin), "won"),
            RoleName::Follower => {
                if let Some(span) = self.election.take() {
                    end(span, "lost");
                }
            }
        }
    }

    fn publish_metrics(&mut self, now: Instant, metrics: RaftMetrics<C>, shared: &Shared<C>) {
        shared.watch.publish(metrics);
        self.is_behind = false;
        self.not_before = Some(now + self.interval);
    }
}

impl<C: TypeConfig> Vital<C> {
    /// Looked at in every turn, so without building all metrics.
    fn of(engine: &Engine<C>) -> Self {
        Self {
            role: engine.role(),
            term: engine.term(),
            leader: engine.leader(),
            membership: engine.membership_at().log_id,
            standing: engine.standing(),
        }
    }
}

fn trace_changes<C: TypeConfig>(before: &Vital<C>, after: &Vital<C>, metrics: &RaftMetrics<C>) {
    let (node, term) = (metrics.id, metrics.term);
    if before.role != after.role {
        tracing::info!(name: "raft.role", %node, term, from = %before.role, to = %after.role, last = %metrics.last, "role changed");
    }
    if before.leader != after.leader {
        match after.leader {
            Some(leader) => tracing::info!(name: "raft.leader", %node, term, %leader, "leader known"),
            None => tracing::info!(name: "raft.leader", %node, term, "no leader known"),
        }
    }
    if before.membership != after.membership {
        let membership = &metrics.membership;
        tracing::info!(name: "raft.membership", %node, at = %membership.log_id, membership = %membership.membership, "membership in force");
    }
    if before.standing != after.standing {
        match after.standing {
            Standing::Removed => tracing::warn!(
                name: "raft.standing", %node, term, from = %before.standing, to = %after.standing,
                "this node is no member of the cluster any more"
            ),
            Standing::Voter | Standing::Learner | Standing::Outsider => tracing::info!(
                name: "raft.standing", %node, term, from = %before.standing, to = %after.standing, "standing changed"
            ),
        }
    }
}
