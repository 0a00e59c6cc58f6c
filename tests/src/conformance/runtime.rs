//! The suite for runtimes: every sentence of `AsyncRuntime`, and three nodes that live on it.

mod clock;
mod nodes;
mod tasks;
mod timers;

use std::future::Future;
use std::time::Duration;

use futures::future::{Either, select};
use openconsensus::AsyncRuntime;

use super::report::{Report, alarm, checks};
use super::verdict::{Flaw, wrong};

/// What [`check_runtime`] allows a runtime, in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeLimits {
    /// A timer may be so late on a busy machine. By the clock of the runtime; 3 seconds.
    pub lateness_max: Duration,
    /// What has not happened after so long does not happen at all. In real time, whatever the runtime's clock shows, so that
    /// a runtime whose timers never go off is found out; 30 seconds.
    pub patience: Duration,
}

impl Default for RuntimeLimits {
    fn default() -> Self {
        Self { lateness_max: Duration::from_secs(3), patience: Duration::from_secs(30) }
    }
}

/// What the checks have to work with.
trait Subject<R> {
    /// A runtime as a node gets it when it starts.
    fn runtime(&self) -> R;

    fn limits(&self) -> RuntimeLimits;
}

struct Limited<F> {
    factory: F,
    limits: RuntimeLimits,
}

impl<R: AsyncRuntime, F: Fn() -> R> Subject<R> for Limited<F> {
    fn runtime(&self) -> R {
        (self.factory)()
    }

    fn limits(&self) -> RuntimeLimits {
        self.limits
    }
}

/// What `future` returns. A flaw when it takes for ever.
async fn within<R, S, T>(subject: &S, what: &str, future: impl Future<Output = T>) -> Result<T, Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let patience = subject.limits().patience;
    let (too_late, _running) = alarm(patience);
    match select(std::pin::pin!(future), too_late).await {
        Either::Left((result, _)) => Ok(result),
        Either::Right(_) => wrong(format!("not after {patience:?} of real time"), what),
    }
}

/// Checks a runtime against its contract. The report says what came of it; see [`Report::assert_passed`].
///
/// `factory` returns a runtime as a node gets it when it starts. To be called on the executor that the runtimes stand for:
/// `tokio_runtime.block_on(check_runtime(|| TokioRuntime))`. It takes about two seconds on a clock that is real.
pub async fn check_runtime<R: AsyncRuntime>(factory: impl Fn() -> R) -> Report {
    check_runtime_within(factory, RuntimeLimits::default()).await
}

/// As [`check_runtime`], with other limits.
pub async fn check_runtime_within<R: AsyncRuntime>(factory: impl Fn() -> R, limits: RuntimeLimits) -> Report {
    let mut report = Report::new("runtime");
    make_all(&mut report, &Limited { factory, limits }).await;
    report
}

checks! {
    make_all where [C: AsyncRuntime, F: Subject<C>];
    tasks::a_task_runs_beside_its_caller: [
        "Runs `task` to its end beside the caller.",
    ];
    tasks::every_task_runs_to_its_end: [
        "Runs `task` to its end beside the caller.",
        "Called a few times at the start of a node and for every snapshot that it builds or sends.",
    ];
    tasks::a_task_that_is_never_idle_lets_others_run: [
        "Runs `task` to its end beside the caller.",
    ];
    tasks::a_task_is_woken_by_another_thread: [
        "Runs `task` to its end beside the caller.",
    ];
    clock::the_clock_never_goes_back: [
        "The time on a clock that never goes back.",
    ];
    clock::the_clock_goes_on: [
        "The time on a clock that never goes back.",
    ];
    clock::clones_share_one_clock: [
        "Cloning it must be cheap; all clones share one clock.",
    ];
    clock::seeds_differ: [
        "A number that differs from node to node and from start to start.",
    ];
    timers::a_deadline_that_has_passed_is_no_delay: [
        "Resolves at `deadline` or soon after it, at once when it has passed.",
    ];
    timers::a_timer_resolves_at_its_deadline: [
        "Resolves at `deadline` or soon after it, at once when it has passed.",
    ];
    timers::many_timers_resolve_each_at_its_own_deadline: [
        "Resolves at `deadline` or soon after it, at once when it has passed.",
    ];
    timers::a_timer_that_is_far_away_waits: [
        "Resolves at `deadline` or soon after it, at once when it has passed.",
    ];
    timers::a_timer_that_is_dropped_is_gone: [
        "Resolves at `deadline` or soon after it, at once when it has passed.",
    ];
    timers::a_timer_wakes_whoever_polled_it_last: [
        "Resolves at `deadline` or soon after it, at once when it has passed.",
    ];
    timers::a_timer_need_not_be_watched: [
        "Resolves at `deadline` or soon after it, at once when it has passed.",
    ];
    nodes::three_nodes_elect_write_and_survive_a_stop: [
        "Tasks, a clock, a timer and a seed: all that the driver needs from an executor.",
    ];
    nodes::nodes_live_with_timers_that_are_early: [
        "Resolving too early does no harm.",
    ];
    nodes::a_node_whose_tasks_are_dropped_stops: [
        "A node whose tasks are dropped before their end stops, as when it is shut down.",
    ];
}
