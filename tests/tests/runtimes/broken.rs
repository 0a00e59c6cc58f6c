//! Runtimes that are broken on purpose, each in one way: the suite must say which sentence they do not keep.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::{Either, pending, ready};
use openconsensus::{AsyncRuntime, MaybeSend};
use openconsensus_tests::conformance::{RuntimeLimits, check_runtime_within};
use openconsensus_tests::sim_runtime::{NodeClock, Sim, SimRuntime};

/// What is wrong with a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// Tasks are dropped and never run.
    DropsTasks,
    /// Every hundredth task is dropped.
    DropsSomeTasks,
    /// Now and then the clock goes back by a millisecond.
    ClockGoesBack,
    /// The clock always shows the same time.
    ClockStands,
    /// Every clone has a clock of its own, which is ahead of that of the original.
    ClonesHaveOtherClocks,
    /// Timers never resolve.
    TimersNeverResolve,
    /// Timers resolve an hour too late.
    TimersAreLate,
    /// Timers resolve at once, whatever their deadline.
    TimersResolveAtOnce,
    /// Only the timers whose deadline has passed never resolve.
    PastTimersNeverResolve,
    /// Only the first of two timers that run at the same time resolves.
    OneTimerAtATime,
    /// A timer begins to run when it is made, and wakes only who polled it first.
    TimersForgetLaterWakers,
    /// All nodes have the same seed.
    SameSeed,
}

/// A simulated runtime with something wrong.
struct BrokenRuntime {
    fault: Fault,
    inner: SimRuntime,
    ahead: Duration,
    calls: Arc<AtomicU64>,
    timers: Arc<AtomicU64>,
}

impl Clone for BrokenRuntime {
    fn clone(&self) -> Self {
        let further = match self.fault {
            Fault::ClonesHaveOtherClocks => Duration::from_secs(1),
            _ => Duration::ZERO,
        };
        let Self { fault, inner, ahead, calls, timers } = self;
        let (inner, calls, timers) = (inner.clone(), calls.clone(), timers.clone());
        Self { fault: *fault, inner, ahead: *ahead + further, calls, timers }
    }
}

impl BrokenRuntime {
    fn count(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::SeqCst) + 1
    }
}

impl AsyncRuntime for BrokenRuntime {
    fn spawn(&self, task: impl Future<Output = ()> + MaybeSend + 'static) {
        match self.fault {
            Fault::DropsTasks => drop(task),
            Fault::DropsSomeTasks if self.count().is_multiple_of(100) => drop(task),
            _ => self.inner.spawn(task),
        }
    }

    fn now(&self) -> Instant {
        match self.fault {
            Fault::ClockGoesBack if self.count().is_multiple_of(1000) => {
                self.inner.now() - Duration::from_millis(1)
            }
            Fault::ClockStands => self.inner.now() - self.inner.elapsed(),
            _ => self.inner.now() + self.ahead,
        }
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + MaybeSend + 'static {
        let timer = |deadline| Either::Left(self.inner.sleep_until(deadline));
        let never = || Either::Right(Either::Left(pending()));
        let timers = self.timers.clone();
        let later = match self.fault {
            Fault::TimersNeverResolve => never(),
            Fault::TimersAreLate => timer(deadline + Duration::from_secs(3600)),
            Fault::TimersResolveAtOnce => Either::Right(Either::Right(ready(()))),
            Fault::PastTimersNeverResolve if deadline <= self.inner.now() => never(),
            Fault::OneTimerAtATime if timers.load(Ordering::SeqCst) != 0 => never(),
            _ => timer(deadline - self.ahead),
        };
        let forgets = self.fault == Fault::TimersForgetLaterWakers;
        timers.fetch_add(1, Ordering::SeqCst);
        let count = Count(timers);
        async move {
            let _count = count;
            if forgets { first_waker_only(later).await } else { later.await }
        }
    }

    fn seed(&self) -> u64 {
        if self.fault == Fault::SameSeed { 7 } else { self.inner.seed() }
    }
}

/// A timer that is not over.
struct Count(Arc<AtomicU64>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Polls `timer` with the waker of the first poll for ever.
async fn first_waker_only(timer: impl Future<Output = ()>) {
    let mut timer = std::pin::pin!(timer);
    let mut first = None;
    std::future::poll_fn(|context| {
        let waker = first.get_or_insert_with(|| context.waker().clone());
        timer.as_mut().poll(&mut std::task::Context::from_waker(waker))
    })
    .await;
}

/// The checks that a runtime with `fault` does not pass.
fn failed(fault: Fault) -> Vec<&'static str> {
    let sim = Sim::new(1);
    let world = sim.world();
    let factory = || {
        let inner = world.process("node", NodeClock::exact());
        BrokenRuntime { fault, inner, ahead: Duration::ZERO, calls: Arc::default(), timers: Arc::default() }
    };
    // Short, because it is waited for where nothing can happen any more. Nothing else takes real time here.
    let limits = RuntimeLimits { patience: Duration::from_millis(200), ..RuntimeLimits::default() };
    let patient = RuntimeLimits { patience: Duration::from_secs(30), ..limits };
    let limits = if fault == Fault::Nothing { patient } else { limits };
    sim.run(check_runtime_within(factory, limits)).failed()
}

/// Insists that a fault is caught by the check that is there for it.
fn is_caught(fault: Fault, check: &str) {
    let failed = failed(fault);
    assert!(failed.contains(&check), "{fault:?} is not caught by {check}, but by {failed:?}");
}

#[test]
fn a_runtime_without_a_fault_passes() {
    assert_eq!(failed(Fault::Nothing), Vec::<&str>::new());
}

#[test]
fn tasks_that_are_dropped_are_noticed() {
    is_caught(Fault::DropsTasks, "a_task_runs_beside_its_caller");
    is_caught(Fault::DropsSomeTasks, "every_task_runs_to_its_end");
}

#[test]
fn a_clock_that_goes_back_is_noticed() {
    is_caught(Fault::ClockGoesBack, "the_clock_never_goes_back");
}

#[test]
fn a_clock_that_stands_is_noticed() {
    is_caught(Fault::ClockStands, "the_clock_goes_on");
}

#[test]
fn clones_with_clocks_of_their_own_are_noticed() {
    is_caught(Fault::ClonesHaveOtherClocks, "clones_share_one_clock");
}

#[test]
fn timers_that_never_resolve_are_noticed() {
    is_caught(Fault::TimersNeverResolve, "a_timer_resolves_at_its_deadline");
    is_caught(Fault::PastTimersNeverResolve, "a_deadline_that_has_passed_is_no_delay");
    is_caught(Fault::OneTimerAtATime, "many_timers_resolve_each_at_its_own_deadline");
}

#[test]
fn timers_that_resolve_at_another_time_are_noticed() {
    is_caught(Fault::TimersAreLate, "a_timer_resolves_at_its_deadline");
    is_caught(Fault::TimersResolveAtOnce, "a_timer_resolves_at_its_deadline");
    is_caught(Fault::TimersResolveAtOnce, "a_timer_that_is_far_away_waits");
}

#[test]
fn timers_that_wake_the_wrong_task_are_noticed() {
    is_caught(Fault::TimersForgetLaterWakers, "a_timer_wakes_whoever_polled_it_last");
}

#[test]
fn seeds_that_are_all_the_same_are_noticed() {
    is_caught(Fault::SameSeed, "seeds_differ");
}
