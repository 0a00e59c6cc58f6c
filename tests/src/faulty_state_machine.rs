//! `FaultyStateMachine`: a state machine that fails on demand.

use std::io;

use openconsensus::{
    AppliedState, ApplyBatch, BoxFuture, RaftStateMachine, Snapshot, SnapshotMeta, TypeConfig,
};

use crate::store_faults::StoreFaults;

/// Another state machine whose changes (batches applied, snapshots built and installed) fail, stall or crawl as its
/// [`StoreFaults`] say.
#[derive(Clone, Debug)]
pub struct FaultyStateMachine<S> {
    inner: S,
    faults: StoreFaults,
}

impl<S> FaultyStateMachine<S> {
    /// `inner`, with `faults` before every change.
    pub fn new(inner: S, faults: StoreFaults) -> Self {
        Self { inner, faults }
    }
}

impl<C: TypeConfig, S: RaftStateMachine<C> + Sync> RaftStateMachine<C> for FaultyStateMachine<S> {
    async fn applied_state(&mut self) -> io::Result<AppliedState<C>> {
        self.inner.applied_state().await
    }

    async fn apply(&mut self, batch: ApplyBatch<C>) -> io::Result<Vec<C::Response>> {
        self.faults.before_write().await?;
        self.inner.apply(batch).await
    }

    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<C>>> {
        // The view is taken now, whenever the writing begins.
        let building = self.inner.build_snapshot();
        let faults = self.faults.clone();
        Box::pin(async move {
            faults.before_write().await?;
            building.await
        })
    }

    async fn current_snapshot(&mut self) -> io::Result<Option<Snapshot<C>>> {
        self.inner.current_snapshot().await
    }

    async fn install_snapshot(&mut self, snapshot: Snapshot<C>) -> io::Result<()> {
        self.faults.before_write().await?;
        self.inner.install_snapshot(snapshot).await
    }
}
