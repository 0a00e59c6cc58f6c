//! Timers: not before their deadline, not long after it, each for itself.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::channel::mpsc;
use futures::future::{Either, select};
use openconsensus::AsyncRuntime;

use super::super::verdict::{Flaw, holds, same, wrong, yield_now};
use super::{Subject, within};

/// Timers tick in steps: what is earlier by less than this is not early.
const STEP: Duration = Duration::from_millis(10);

/// A deadline that nobody waits for.
const FAR: Duration = Duration::from_secs(3600);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Fails when a timer is later than it may be.
fn not_late(deadline: Instant, now: Instant, lateness_max: Duration) -> Result<(), Flaw> {
    let late = now.saturating_duration_since(deadline);
    holds(late <= lateness_max, format!("a timer that is {late:?} late"), format!("at most {lateness_max:?}"))
}

pub(super) async fn a_deadline_that_has_passed_is_no_delay<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let runtime = subject.runtime();
    let begin = runtime.now();
    for past in [ms(0), ms(1), ms(50)] {
        let deadline = begin.checked_sub(past).unwrap_or(begin);
        for _ in 0..50 {
            within(subject, "a timer whose deadline has passed", runtime.sleep_until(deadline)).await?;
        }
    }
    not_late(begin, runtime.now(), subject.limits().lateness_max)
}

pub(super) async fn a_timer_resolves_at_its_deadline<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let runtime = subject.runtime();
    let mut early = Vec::new();
    const TIMERS: u64 = 16;
    for number in 0..TIMERS {
        let deadline = runtime.now() + ms(15 + 2 * number);
        within(subject, "a timer of some milliseconds resolves", runtime.sleep_until(deadline)).await?;
        let now = runtime.now();
        not_late(deadline, now, subject.limits().lateness_max)?;
        early.extend(deadline.checked_duration_since(now).filter(|early| STEP < *early));
    }
    // A timer may resolve too early. Most of them must not: a driver would do nothing but arm them anew.
    holds(
        early.len() as u64 * 4 <= TIMERS,
        format!("{} of {TIMERS} timers resolve too early, by {early:?}", early.len()),
        "a timer resolves at its deadline or soon after it",
    )
}

pub(super) async fn many_timers_resolve_each_at_its_own_deadline<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    const TIMERS: u64 = 200;
    let runtime = subject.runtime();
    let begin = runtime.now();
    let (rang, mut rings) = mpsc::unbounded();
    for number in 0..TIMERS {
        // Armed in another order than that of their deadlines, some for the same one.
        let deadline = begin + ms(number * 37 % 100);
        let (runtime_there, rang) = (runtime.clone(), rang.clone());
        runtime.spawn(async move {
            runtime_there.sleep_until(deadline).await;
            let _ = rang.unbounded_send((deadline, runtime_there.now()));
        });
    }
    drop(rang);
    let mut count = 0;
    let mut early = 0;
    while let Some((deadline, now)) = within(subject, "each of many timers resolves", rings.next()).await? {
        count += 1;
        not_late(deadline, now, subject.limits().lateness_max)?;
        if now + STEP < deadline {
            early += 1;
        }
    }
    same("timers that have resolved", count, TIMERS)?;
    holds(
        early * 4 <= TIMERS,
        format!("{early} of {TIMERS} timers resolve before their own deadline"),
        "each timer resolves at its own deadline",
    )
}

pub(super) async fn a_timer_that_is_far_away_waits<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let runtime = subject.runtime();
    let far = std::pin::pin!(runtime.sleep_until(runtime.now() + FAR));
    let near = std::pin::pin!(runtime.sleep_until(runtime.now() + ms(30)));
    match within(subject, "a timer of 30 ms resolves", select(far, near)).await? {
        Either::Right(_) => Ok(()),
        Either::Left(_) => wrong("a timer of an hour resolves before one of 30 ms", "it waits"),
    }
}

pub(super) async fn a_timer_that_is_dropped_is_gone<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let runtime = subject.runtime();
    let deadline = runtime.now() + ms(20);
    for number in 0..500 {
        let mut timer = Box::pin(runtime.sleep_until(deadline + ms(number % 20)));
        // Some were waited for, some were not.
        if number % 2 == 0 {
            let _ = timer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    }
    let last = deadline + ms(30);
    within(subject, "a timer resolves after others were dropped", runtime.sleep_until(last)).await?;
    not_late(last, runtime.now(), subject.limits().lateness_max)
}

/// Remembers that it was woken.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(super) async fn a_timer_wakes_whoever_polled_it_last<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let runtime = subject.runtime();
    let deadline = runtime.now() + ms(40);
    let mut timer = Box::pin(runtime.sleep_until(deadline));
    // As when a future is polled by one task first and by another one then.
    let first = Arc::new(Flag(AtomicBool::new(false)));
    if timer.as_mut().poll(&mut Context::from_waker(&Waker::from(first))).is_ready() {
        // The machine was so busy that the deadline has passed: there is nothing to be seen.
        return Ok(());
    }
    let (rang, ring) = futures::channel::oneshot::channel();
    runtime.spawn(async move {
        timer.await;
        let _ = rang.send(());
    });
    let rang = within(subject, "a timer wakes the task that polled it last", ring).await?;
    holds(rang.is_ok(), "the task with the timer was dropped", "it runs to its end")?;
    not_late(deadline, runtime.now(), subject.limits().lateness_max)
}

pub(super) async fn a_timer_need_not_be_watched<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let runtime = subject.runtime();
    let deadline = runtime.now() + ms(20);
    let unwatched = runtime.sleep_until(deadline);
    let other = async {
        // Timers may resolve too early, but not again and again.
        for _ in 0..1000 {
            if deadline < runtime.now() {
                return;
            }
            runtime.sleep_until(deadline + ms(10)).await;
            yield_now().await;
        }
    };
    within(subject, "a timer of 30 ms resolves", other).await?;
    // Its deadline has passed before it is polled for the first time.
    let mut unwatched = Box::pin(unwatched);
    let before = runtime.now();
    let wait = async {
        if futures::poll!(&mut unwatched).is_pending() {
            yield_now().await;
            unwatched.await;
        }
    };
    within(subject, "a timer that nobody has watched resolves", wait).await?;
    not_late(before, runtime.now(), subject.limits().lateness_max)
}
