//! `FaultyStateMachine`: a state machine that fails on demand.

use std::io;

use openconsensus::{
    AppliedState, ApplyBatch, BoxFuture, MaybeSync, RaftStateMachine, Snapshot, SnapshotMeta, TypeConfig,
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

impl<C: TypeConfig, S: RaftStateMachine<C> + MaybeSync> RaftStateMachine<C> for FaultyStateMachine<S> {
    async fn applied_state(&mut self) -> io::Result<AppliedState<C>> {
        self.inner.applied_state().await
    }

    async fn apply(&mut self, batch: ApplyBatch<C>) -> io::Result<Vec<C::Response>> {
        let range = batch.entries().range();
        let what = format!("apply {}..{}", range.start, range.end);
        let number = self.faults.before_write(&what).await?;
        let responses = self.inner.apply(batch).await?;
        self.faults.after_write(number, &what).await?;
        Ok(responses)
    }

    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<C>>> {
        // The view is taken now, whenever the writing begins.
        let building = self.inner.build_snapshot();
        let faults = self.faults.clone();
        Box::pin(async move {
            let number = faults.before_write("snapshot").await?;
            let meta = building.await?;
            faults.after_write(number, "snapshot").await?;
            Ok(meta)
        })
    }

    async fn current_snapshot(&mut self) -> io::Result<Option<Snapshot<C>>> {
        self.inner.current_snapshot().await
    }

    async fn install_snapshot(&mut self, snapshot: Snapshot<C>) -> io::Result<()> {
        let what = format!("install snapshot {}", snapshot.meta.last);
        let number = self.faults.before_write(&what).await?;
        self.inner.install_snapshot(snapshot).await?;
        self.faults.after_write(number, &what).await
    }
}
