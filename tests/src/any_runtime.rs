//! `AnyRuntime`: some runtime whose type does not matter.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use openconsensus::{AsyncRuntime, BoxFuture, MaybeSend, MaybeSync, TokioRuntime};

/// Some [`AsyncRuntime`] whose type does not matter, so that one network and one set of faults serves tokio, a
/// simulation and any other executor. All clones are the same runtime.
///
/// It may have somebody who listens to what happens ([`with_notes`](Self::with_notes)): a simulation, which makes it a
/// part of its trace.
#[derive(Clone)]
pub struct AnyRuntime {
    runtime: Arc<dyn Erased>,
    notes: Option<Arc<dyn Notes>>,
}

/// Who is told what happens, in the words of a reader.
pub trait Notes: MaybeSend + MaybeSync + 'static {
    /// `what` has happened now. It is formatted only if somebody looks at it.
    fn note(&self, what: fmt::Arguments<'_>);
}

/// [`AsyncRuntime`] as a trait object.
trait Erased: MaybeSend + MaybeSync {
    fn spawn(&self, task: BoxFuture<'static, ()>);
    fn now(&self) -> Instant;
    fn wall_clock(&self) -> SystemTime;
    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()>;
    fn seed(&self) -> u64;
}

impl<R: AsyncRuntime> Erased for R {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        AsyncRuntime::spawn(self, task);
    }

    fn now(&self) -> Instant {
        AsyncRuntime::now(self)
    }

    fn wall_clock(&self) -> SystemTime {
        AsyncRuntime::wall_clock(self)
    }

    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        Box::pin(AsyncRuntime::sleep_until(self, deadline))
    }

    fn seed(&self) -> u64 {
        AsyncRuntime::seed(self)
    }
}

impl AnyRuntime {
    /// `runtime`, to which nobody listens.
    pub fn new(runtime: impl AsyncRuntime) -> Self {
        Self { runtime: Arc::new(runtime), notes: None }
    }

    /// `runtime`, with somebody who listens.
    pub fn with_notes(runtime: impl AsyncRuntime, notes: impl Notes) -> Self {
        Self { runtime: Arc::new(runtime), notes: Some(Arc::new(notes)) }
    }

    /// The tokio runtime or `LocalSet` that the caller is in.
    pub fn tokio() -> Self {
        Self::new(TokioRuntime)
    }

    /// Tells whoever listens what has happened.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        if let Some(notes) = &self.notes {
            notes.note(what);
        }
    }

    /// Resolves when `duration` has passed.
    pub async fn let_pass(&self, duration: Duration) {
        let deadline = AsyncRuntime::now(self) + duration;
        // A timer may resolve too early.
        while AsyncRuntime::now(self) < deadline {
            AsyncRuntime::sleep_until(self, deadline).await;
        }
    }
}

impl AsyncRuntime for AnyRuntime {
    fn spawn(&self, task: impl Future<Output = ()> + MaybeSend + 'static) {
        self.runtime.spawn(Box::pin(task));
    }

    fn now(&self) -> Instant {
        self.runtime.now()
    }

    fn wall_clock(&self) -> SystemTime {
        self.runtime.wall_clock()
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + MaybeSend + 'static {
        self.runtime.sleep_until(deadline)
    }

    fn seed(&self) -> u64 {
        self.runtime.seed()
    }
}

impl fmt::Debug for AnyRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyRuntime").finish_non_exhaustive()
    }
}
