//! Nodes on smol: all that it takes to run them on another executor.

use std::time::Instant;

use futures::FutureExt;
use openconsensus::{AsyncRuntime, MaybeSend};

/// The global executor of smol, and its timers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SmolRuntime;

impl AsyncRuntime for SmolRuntime {
    fn spawn(&self, task: impl Future<Output = ()> + MaybeSend + 'static) {
        smol::spawn(task).detach();
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + MaybeSend + 'static {
        smol::Timer::at(deadline).map(drop)
    }
}
