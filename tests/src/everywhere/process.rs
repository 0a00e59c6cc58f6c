//! `Process`: any runtime for one node, which can be killed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::StreamExt;
use futures::channel::mpsc;
use futures::future::{AbortHandle, Abortable};
use openconsensus::{AsyncRuntime, MaybeSend};

/// A runtime whose tasks can all be dropped where they stand, as when a process is killed.
#[derive(Clone)]
pub(super) struct Process<R> {
    inner: R,
    tasks: Arc<Mutex<Tasks>>,
}

struct Tasks {
    handles: Vec<AbortHandle>,
    /// Every task holds a clone while it is there. `None` when the process was killed.
    alive: Option<mpsc::Sender<()>>,
    /// Ends when no task is left.
    gone: Option<mpsc::Receiver<()>>,
}

impl<R: AsyncRuntime> Process<R> {
    pub(super) fn new(inner: R) -> Self {
        let (alive, gone) = mpsc::channel(0);
        let tasks = Tasks { handles: Vec::new(), alive: Some(alive), gone: Some(gone) };
        Self { inner, tasks: Arc::new(Mutex::new(tasks)) }
    }

    /// Drops every task, and returns when they are gone.
    pub(super) async fn kill(&self) {
        let gone = {
            let mut tasks = self.lock();
            tasks.alive = None;
            tasks.handles.drain(..).for_each(|handle| handle.abort());
            tasks.gone.take()
        };
        if let Some(mut gone) = gone {
            assert!(gone.next().await.is_none(), "nobody sends anything");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: AsyncRuntime> AsyncRuntime for Process<R> {
    fn spawn(&self, task: impl Future<Output = ()> + MaybeSend + 'static) {
        let (handle, registration) = AbortHandle::new_pair();
        let task = Abortable::new(task, registration);
        let alive = {
            let mut tasks = self.lock();
            // A process that was killed runs nothing any more.
            let Some(alive) = tasks.alive.clone() else { return };
            tasks.handles.retain(|handle| !handle.is_aborted());
            tasks.handles.push(handle);
            alive
        };
        self.inner.spawn(async move {
            // Whether it came to its end is seen by the node.
            let _ = task.await;
            drop(alive);
        });
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + MaybeSend + 'static {
        self.inner.sleep_until(deadline)
    }

    fn seed(&self) -> u64 {
        self.inner.seed()
    }
}
