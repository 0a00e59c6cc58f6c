//! Carries out what the engine decides: tasks and queues, no Raft rules.
//!
//! A node is three tasks. The *core* task owns the engine and, joined into it, the single writer of the log. The *apply*
//! task owns the state machine. The *catch-up* task reads old entries for peers that lag behind. Each snapshot that is
//! built or sent is one more. They talk through queues that are taken whole:
//!
//! ```text
//! handle, network ──Item──▶ core loop ──LogWrite──▶ log loop        (one task)
//!                            ▲  │  │◀───────────────done┘
//!                            │  │  └────LogRead──▶ catch-up loop    (one task)
//!                            │  └───────Work──────▶ apply loop      (one task) ──responses──▶ clients
//!                            └──────Item◀──────────────┘
//! ```
//!
//! An error of a storage or a panic in any of them stops all of them, with a reason that every later call returns.

mod alarm;
mod answers;
mod apply_loop;
mod arrivals;
mod catch_up;
mod clock_watch;
mod core_loop;
#[cfg(test)]
pub(crate) mod fakes;
mod gathered;
mod idle;
mod inbox;
mod item;
mod limit;
mod log_loop;
mod outbox;
mod pending;
mod publish;
mod recover;
mod requests;
mod shared;
mod snapshot;
mod stages;
mod streams;
mod sync;
mod waiters;
mod writes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::poll_fn;
use tracing::Instrument;

pub(crate) use answers::{Answer, ManyAnswers, ManyResponses};
pub(crate) use item::{Item, Patience, Reader, Request};
pub(crate) use limit::{Acquire, Admitted, Limit, Permit, Refused};
pub(crate) use shared::{Clock, Shared};
pub(crate) use sync::lock;

use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Fatal, StartError};
use crate::network::RaftNetwork;
use crate::raft::Watch;
use crate::runtime::{AsyncRuntime, MaybeSend};
use crate::storage::{RaftLogStorage, RaftStateMachine};
use crate::type_config::TypeConfig;

use apply_loop::ApplyLoop;
use core_loop::{Core, Queues};
use inbox::Inbox;
use log_loop::{LogQueue, log_loop};
use recover::{damaged, recover};
use shared::panic_text;
use sync::TaskGuard;

/// How often core loop and log loop are polled in turn before other tasks of the thread get their turn.
const ROUNDS_PER_POLL_MAX: usize = 16;

/// Recovers a node from its stores, wires the loops and spawns them.
pub(crate) async fn start<C, R, N, L, S>(
    id: C::NodeId,
    config: Config,
    runtime: R,
    network: N,
    mut log: L,
    mut state_machine: S,
) -> Result<Arc<Shared<C>>, StartError>
where
    C: TypeConfig,
    R: AsyncRuntime,
    N: RaftNetwork<C>,
    L: RaftLogStorage<C>,
    S: RaftStateMachine<C>,
{
    let config = config.validate()?;
    let (recovered, reader) =
        recover(id, runtime.seed(), config.append_bytes_max, &mut log, &mut state_machine).await?;
    let applied = recovered.applied.clone();
    tracing::info!(
        name: "raft.started", node = %id, term = recovered.hard_state.term, purged = %recovered.purged,
        last = %recovered.last, applied = %applied.last_applied, snapshot = %recovered.snapshot, "node starts"
    );
    let now = runtime.now();
    let engine = Engine::new(config.clone(), recovered, now).map_err(damaged)?;

    let network = Arc::new(network);
    let clock: Arc<dyn Clock> = Arc::new(runtime.clone());
    let watch = Watch::new(engine.metrics(now));
    let shared = Shared::new(id, config, watch, clock);
    let queues =
        Queues { log: LogQueue::new(), apply: Arc::new(Inbox::new()), catch_up: Arc::new(Inbox::new()) };
    let catch_up = catch_up::catch_up_loop(reader.clone(), queues.catch_up.clone(), shared.clone());
    let apply = ApplyLoop {
        state_machine,
        reader,
        applied,
        queue: queues.apply.clone(),
        runtime: runtime.clone(),
        network: network.clone(),
        shared: shared.clone(),
    };
    spawn(&runtime, &shared, catch_up);
    spawn(&runtime, &shared, apply.run());
    let log_queue = queues.log.clone();
    let core = Core::new(engine, runtime.clone(), network, shared.clone(), queues);
    let guard = shared.tasks.begin();
    let task = core_task(core, log, log_queue, RefuseOnDrop(shared.clone()), guard);
    runtime.spawn(task.instrument(shared.span.clone()));
    Ok(shared)
}

/// Spawns a loop or a snapshot. An error or a panic in it stops the node, and so does an executor that drops it.
fn spawn<C, R>(
    runtime: &R,
    shared: &Arc<Shared<C>>,
    task: impl Future<Output = Result<(), Fatal>> + MaybeSend + 'static,
) where
    C: TypeConfig,
    R: AsyncRuntime,
{
    let guard = shared.tasks.begin();
    let shared = shared.clone();
    let mut on_drop = StopOnDrop(Some(shared.clone()));
    let span = shared.span.clone();
    let task = async move {
        match AssertUnwindSafe(task).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(fatal)) => shared.stop(fatal),
            Err(panic) => shared.stop(Fatal::Panicked(panic_text(&*panic))),
        }
        on_drop.disarm();
        // All that the task owned is dropped by now.
        drop(guard);
    };
    runtime.spawn(task.instrument(span));
}

/// Stops the node unless the task that holds it has come to its proper end.
struct StopOnDrop<C: TypeConfig>(Option<Arc<Shared<C>>>);

impl<C: TypeConfig> StopOnDrop<C> {
    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl<C: TypeConfig> Drop for StopOnDrop<C> {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.stop(Fatal::Stopped);
        }
    }
}

/// The core task: the core loop, and the log loop joined into it.
async fn core_task<C, R, N, L>(
    mut core: Core<C, R, N>,
    log: L,
    log_queue: Arc<LogQueue<C>>,
    on_drop: RefuseOnDrop<C>,
    guard: TaskGuard,
) where
    C: TypeConfig,
    R: AsyncRuntime,
    N: RaftNetwork<C>,
    L: RaftLogStorage<C>,
{
    {
        let clock = core.shared().clock.clone();
        let mut log = pin!(log_to_its_end(log, log_queue.clone(), clock));
        let end = poll_fn(|cx| poll_joined(&mut core, log.as_mut(), &log_queue, cx)).await;
        match end {
            End::Stopped | End::CorePanicked => {}
            End::LogFailed => core.storage_failed(),
        }
        core.finish(matches!(end, End::CorePanicked));
        log_queue.close();
        if !matches!(end, End::LogFailed) {
            // A write is never cancelled half-way. What it returns is of no use to anybody any more.
            let _ = log.await;
        }
    }
    drop(core);
    drop(on_drop);
    drop(guard);
}

/// Why the core task ends; the reason for others is in [`Shared`].
enum End {
    Stopped,
    CorePanicked,
    LogFailed,
}

/// Runs the log loop, and says why it has ended.
async fn log_to_its_end<C: TypeConfig, L: RaftLogStorage<C>>(
    log: L,
    queue: Arc<LogQueue<C>>,
    clock: Arc<dyn Clock>,
) -> Fatal {
    match AssertUnwindSafe(log_loop(log, queue, clock)).catch_unwind().await {
        Ok(Ok(())) => Fatal::Stopped,
        Ok(Err(fatal)) => fatal,
        Err(panic) => Fatal::Panicked(panic_text(&*panic)),
    }
}

/// Polls both loops until neither has anything for the other: a write that was handed over begins in the same poll, and
/// its completion is seen in the same poll.
fn poll_joined<C, R, N>(
    core: &mut Core<C, R, N>,
    mut log: Pin<&mut impl Future<Output = Fatal>>,
    log_queue: &LogQueue<C>,
    cx: &mut Context<'_>,
) -> Poll<End>
where
    C: TypeConfig,
    R: AsyncRuntime,
    N: RaftNetwork<C>,
{
    for _ in 0..ROUNDS_PER_POLL_MAX {
        match catch_unwind(AssertUnwindSafe(|| core.poll(cx))) {
            Ok(Poll::Ready(())) => return Poll::Ready(End::Stopped),
            Ok(Poll::Pending) => {}
            Err(panic) => {
                core.shared().stop(Fatal::Panicked(panic_text(&*panic)));
                return Poll::Ready(End::CorePanicked);
            }
        }
        if log_queue.is_busy()
            && let Poll::Ready(reason) = log.as_mut().poll(cx)
        {
            core.shared().stop(reason);
            return Poll::Ready(End::LogFailed);
        }
        if !log_queue.has_done() {
            return Poll::Pending;
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// An executor may drop the core task before its end. Whoever still waits is answered all the same.
struct RefuseOnDrop<C: TypeConfig>(Arc<Shared<C>>);

impl<C: TypeConfig> Drop for RefuseOnDrop<C> {
    fn drop(&mut self) {
        let shared = &self.0;
        shared.stop(Fatal::Stopped);
        let reason = shared.reason();
        shared.inbox.drain().refuse(&reason);
        shared.leadership.close();
        if shared.watch.latest().fatal.is_none() {
            shared.watch.stop(reason);
        }
    }
}

#[cfg(test)]
mod tests;
