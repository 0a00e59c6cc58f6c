//! Small pieces that the loops and the handle share: a lock, a pause, and a count of the tasks that still run.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures::channel::oneshot;

/// Locks, also after a panic of another holder: nothing that is guarded here is ever left half changed.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the other tasks of the thread have their turn.
pub(super) async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Counts the tasks of a node, so that a shutdown can wait until the last has dropped what it owns.
#[derive(Default)]
pub(crate) struct Tasks {
    state: Mutex<TasksState>,
}

#[derive(Default)]
struct TasksState {
    running: usize,
    waiting: Vec<oneshot::Sender<()>>,
}

/// One task that runs. A task drops it last.
pub(crate) struct TaskGuard {
    tasks: Arc<Tasks>,
}

impl Tasks {
    /// Counts a task from now on.
    pub(crate) fn begin(self: &Arc<Self>) -> TaskGuard {
        lock(&self.state).running += 1;
        TaskGuard { tasks: self.clone() }
    }

    /// Resolves when no task runs.
    pub(crate) async fn ended(&self) {
        let ended = {
            let mut state = lock(&self.state);
            if state.running == 0 {
                return;
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push(sender);
            receiver
        };
        // The sender is dropped only when it has sent: a cancellation tells the same.
        let _ = ended.await;
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        let waiting = {
            let mut state = lock(&self.tasks.state);
            state.running -= 1;
            if 0 < state.running {
                return;
            }
            std::mem::take(&mut state.waiting)
        };
        for waiter in waiting {
            let _ = waiter.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn the_end_is_told_when_the_last_task_ends() {
        let tasks = Arc::new(Tasks::default());
        block_on(tasks.ended());
        let (first, second) = (tasks.begin(), tasks.begin());
        let mut ended = Box::pin(tasks.ended());
        assert!(ended.as_mut().now_or_never().is_none());
        drop(first);
        assert!(ended.as_mut().now_or_never().is_none());
        drop(second);
        block_on(ended);
    }
}
