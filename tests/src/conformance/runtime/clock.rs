//! The clock and the seed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::channel::oneshot;
use openconsensus::AsyncRuntime;

use super::super::verdict::{Flaw, holds, same, wrong, yield_now};
use super::{Subject, within};

pub(super) async fn the_clock_never_goes_back<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let runtime = subject.runtime();
    let latest = Arc::new(Mutex::new(runtime.now()));
    let mut ends = Vec::new();
    for _ in 0..4 {
        let (runtime_there, latest, (end, ended)) = (runtime.clone(), latest.clone(), oneshot::channel());
        runtime.spawn(async move {
            let _ = end.send(look_often(&runtime_there, &latest).await);
        });
        ends.push(ended);
    }
    for ended in ends {
        match within(subject, "a task that looks at the clock comes to its end", ended).await? {
            Ok(None) => {}
            Ok(Some(back)) => {
                return wrong(format!("the clock has gone back by {back:?}"), "it never goes back");
            }
            Err(oneshot::Canceled) => return wrong("a task was dropped", "it runs to its end"),
        }
    }
    Ok(())
}

/// Looks at the clock beside others who do so. By how much it has gone back, if it has.
async fn look_often(runtime: &impl AsyncRuntime, latest: &Mutex<Instant>) -> Option<Duration> {
    for round in 0..500 {
        {
            // Under the lock, so that it is certain which of two looks was the later one.
            let mut latest = latest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let now = runtime.now();
            if now < *latest {
                return Some(*latest - now);
            }
            *latest = now;
        }
        if round % 100 == 99 {
            runtime.sleep_until(runtime.now() + Duration::from_millis(2)).await;
        } else {
            yield_now().await;
        }
    }
    None
}

pub(super) async fn the_clock_goes_on<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let runtime = subject.runtime();
    let begin = runtime.now();
    let goal = begin + Duration::from_millis(50);
    let wait = async {
        let mut timers = 0;
        // A timer may resolve too early, but not again and again.
        while runtime.now() < goal && timers < 1000 {
            runtime.sleep_until(goal).await;
            timers += 1;
        }
        timers
    };
    let timers = within(subject, "the clock comes to 50 ms from now", wait).await?;
    let passed = runtime.now() - begin;
    holds(
        Duration::from_millis(50) <= passed,
        format!("{timers} timers for 50 ms from the beginning have resolved, and {passed:?} have passed"),
        "time passes",
    )
}

pub(super) async fn clones_share_one_clock<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let runtime = subject.runtime();
    // Cheap enough to be cloned for every message.
    let mut clones: Vec<R> = (0..10_000).map(|_| runtime.clone()).collect();
    clones.truncate(4);
    for round in 0..50 {
        let mut before = runtime.now();
        for (place, clone) in clones.iter().enumerate() {
            let (now, after) = (clone.now(), runtime.now());
            if now < before || after < now {
                let (early, late) =
                    (before.saturating_duration_since(now), now.saturating_duration_since(after));
                return wrong(
                    format!("clone {place} is {:?} off in round {round}", early.max(late)),
                    "all clones show the same time",
                );
            }
            before = after;
        }
        let pause = runtime.sleep_until(runtime.now() + Duration::from_millis(1));
        within(subject, "a timer of 1 ms resolves", pause).await?;
    }
    Ok(())
}

pub(super) async fn seeds_differ<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    const STARTS: usize = 16;
    let seeds: BTreeSet<u64> = (0..STARTS).map(|_| subject.runtime().seed()).collect();
    same("different seeds of 16 starts", seeds.len(), STARTS)
}
