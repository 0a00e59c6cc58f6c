//! Tasks: they run, all of them, beside each other, and are woken from anywhere.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use futures::channel::{mpsc, oneshot};
use futures::{SinkExt, StreamExt};
use openconsensus::AsyncRuntime;

use super::super::verdict::{Flaw, same, yield_now};
use super::{Subject, within};

/// So many tasks are run at once: a node has a few.
const TASKS: u64 = 500;

pub(super) async fn a_task_runs_beside_its_caller<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let runtime = subject.runtime();
    let (question, asked) = oneshot::channel();
    let (answer, answered) = oneshot::channel();
    // It waits for something that the caller does only after `spawn` has returned.
    runtime.spawn(async move {
        let question: u64 = asked.await.unwrap_or_default();
        let _ = answer.send(question + 1);
    });
    // A task that is dropped does not listen.
    let _ = question.send(41);
    let seen = within(subject, "a task answers its caller", answered).await?;
    same("what a task answers", seen.ok(), Some(42))
}

pub(super) async fn every_task_runs_to_its_end<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let runtime = subject.runtime();
    let (ended, mut ends) = mpsc::unbounded();
    let spawner = runtime.clone();
    // The task that spawns the others is over before they are.
    runtime.spawn(async move {
        for number in 0..TASKS {
            let ended = ended.clone();
            spawner.spawn(async move {
                for _ in 0..number % 7 {
                    yield_now().await;
                }
                let _ = ended.unbounded_send(number);
            });
        }
    });
    let all = async {
        let mut numbers = Vec::new();
        while let Some(number) = ends.next().await {
            numbers.push(number);
        }
        numbers.sort_unstable();
        numbers
    };
    let numbers = within(subject, "every task comes to its end", all).await?;
    same("tasks that came to their end", numbers.len() as u64, TASKS)?;
    same("each of them once", numbers, (0..TASKS).collect())
}

pub(super) async fn a_task_that_is_never_idle_lets_others_run<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let runtime = subject.runtime();
    let is_over = Arc::new(AtomicBool::new(false));
    let turns = Arc::new(AtomicU64::new(0));
    let (is_over_there, turns_there) = (is_over.clone(), turns.clone());
    runtime.spawn(async move {
        while !is_over_there.load(Ordering::SeqCst) {
            turns_there.fetch_add(1, Ordering::SeqCst);
            yield_now().await;
        }
    });
    let (mut to_there, mut from_here) = mpsc::channel::<u64>(0);
    let (mut to_here, mut from_there) = mpsc::channel::<u64>(0);
    runtime.spawn(async move {
        while let Some(number) = from_here.next().await {
            if to_here.send(number + 1).await.is_err() {
                return;
            }
        }
    });
    let talk = async {
        let mut number = 0;
        while number < 100 {
            if to_there.send(number).await.is_err() {
                break;
            }
            number = from_there.next().await.unwrap_or(u64::MAX);
        }
        number
    };
    let number = within(subject, "two tasks talk while a third one never rests", talk).await;
    is_over.store(true, Ordering::SeqCst);
    same("what they have counted to", number?, 100)?;
    same("whether the third one has run", 0 < turns.load(Ordering::SeqCst), true)
}

pub(super) async fn a_task_is_woken_by_another_thread<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let runtime = subject.runtime();
    let (answer, answered) = oneshot::channel();
    runtime.spawn(async move {
        // Woken before the poll has returned: it must be polled once more.
        let mut polls = 0;
        poll_fn(|context| {
            polls += 1;
            if polls == 5 {
                return Poll::Ready(());
            }
            let waker = context.waker().clone();
            let thread = std::thread::spawn(move || waker.wake());
            thread.join().map_or(Poll::Ready(()), |()| Poll::Pending)
        })
        .await;
        // Woken when there may be nothing else to do.
        let (wake, woken) = oneshot::channel();
        let thread = std::thread::spawn(move || wake.send(()));
        let _ = woken.await;
        let _ = answer.send((polls, thread.join().is_ok_and(|sent| sent.is_ok())));
    });
    let seen = within(subject, "a task is polled when another thread has woken it", answered).await?;
    same("polls, and whether the other thread was heard", seen.ok(), Some((5, true)))
}
