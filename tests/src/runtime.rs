//! `CrashRuntime`: tokio for one node, which can be killed.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use openconsensus::{AsyncRuntime, MaybeSend, TokioRuntime};
use tokio::task::JoinHandle;

/// Runs one node on tokio, and can kill it: every task of the node ends where it stands, as when its process is
/// killed. A clone is another handle to the same node's tasks.
#[derive(Clone, Debug)]
pub struct CrashRuntime {
    seed: u64,
    tasks: Arc<Mutex<Tasks>>,
}

#[derive(Debug, Default)]
struct Tasks {
    is_crashed: bool,
    running: Vec<JoinHandle<()>>,
}

impl CrashRuntime {
    /// A runtime for one start of one node. `seed` seeds its election timeouts.
    pub fn new(seed: u64) -> Self {
        Self { seed, tasks: Arc::default() }
    }

    /// Kills every task, and returns when they are gone: nothing of the node runs after it.
    pub async fn crash(&self) {
        let running = {
            let mut tasks = self.lock();
            tasks.is_crashed = true;
            std::mem::take(&mut tasks.running)
        };
        running.iter().for_each(JoinHandle::abort);
        for task in running {
            // It was aborted, or had ended before.
            let _ = task.await;
        }
    }

    /// Whether it was killed.
    pub fn is_crashed(&self) -> bool {
        self.lock().is_crashed
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRuntime for CrashRuntime {
    fn spawn(&self, task: impl Future<Output = ()> + MaybeSend + 'static) {
        let mut tasks = self.lock();
        if tasks.is_crashed {
            return;
        }
        tasks.running.retain(|task| !task.is_finished());
        #[cfg(not(feature = "single-threaded"))]
        tasks.running.push(tokio::spawn(task));
        #[cfg(feature = "single-threaded")]
        tasks.running.push(tokio::task::spawn_local(task));
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + MaybeSend + 'static {
        TokioRuntime.sleep_until(deadline)
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}
