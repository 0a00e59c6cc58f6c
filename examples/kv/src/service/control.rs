//! What steers one node: purges, campaigns and pauses, answered when they have come to something.

use std::time::Duration;

use openconsensus::{LogId, Raft, RaftMetrics, RoleName, WaitError};
use openconsensus_memstore::kv::Kv;

use super::failures::{IntoFailure, failed, refused};
use crate::proto::Failure;

/// A node notices in a moment what it was told; a node that does not has other troubles.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);

/// Purges the log up to `upto`, or as far as the latest snapshot goes.
pub(super) async fn purge(raft: &Raft<Kv>, upto: Option<u64>) -> Result<LogId, Failure> {
    let snapshot = raft.metrics().latest().snapshot;
    if snapshot == LogId::ZERO {
        return Err(refused("there is no snapshot, and the log is purged behind one only: build one first"));
    }
    raft.purge_log(upto.unwrap_or(snapshot.index)).await.map_err(IntoFailure::into_failure)
}

/// Lets the node campaign, and waits until there is a leader in a later term, for `wait` at most. Returns the term in
/// which this node leads.
pub(super) async fn campaign(raft: &Raft<Kv>, wait: Duration) -> Result<u64, Failure> {
    let before = raft.metrics().latest();
    if before.role == RoleName::Leader {
        return Ok(before.term);
    }
    if !before.is_voter() {
        return Err(refused(format!("node {} does not vote: only voters are elected", before.id)));
    }
    raft.campaign().map_err(IntoFailure::into_failure)?;
    let refusals = |metrics: &RaftMetrics<Kv>| metrics.counters.campaigns_refused;
    let is_over = |metrics: &RaftMetrics<Kv>| {
        let is_led = before.term < metrics.term && metrics.leader.is_some();
        is_led || refusals(&before) < refusals(metrics)
    };
    let after = match raft.wait(wait).until("the end of the election", is_over).await {
        Ok(after) => after,
        Err(WaitError::Fatal(fatal)) => return Err(fatal.into_failure()),
        Err(error) => return Err(failed(format!("the election has not ended: {error}"))),
    };
    match after.leader {
        Some(leader) if leader == after.id => Ok(after.term),
        _ if refusals(&before) < refusals(&after) => Err(failed(format!(
            "node {} is bound by a promise to its leader, which reads by lease rely on: let that leader transfer \
             leadership, or wait until it is gone",
            after.id
        ))),
        _ => Err(failed(format!(
            "node {} was not elected: {} leads in term {}",
            after.id,
            after.leader.map_or("nobody".into(), |leader| format!("node {leader}")),
            after.term
        ))),
    }
}

/// Pauses elections or lets them go on, and waits until the node has noticed.
pub(super) async fn pause_elections(raft: &Raft<Kv>, pause: bool) -> Result<(), Failure> {
    raft.pause_elections(pause).map_err(IntoFailure::into_failure)?;
    noticed(raft, |metrics| metrics.elections_paused == pause).await
}

/// Pauses heartbeats or lets them go on, and waits until the node has noticed.
pub(super) async fn pause_heartbeats(raft: &Raft<Kv>, pause: bool) -> Result<(), Failure> {
    raft.pause_heartbeats(pause).map_err(IntoFailure::into_failure)?;
    noticed(raft, |metrics| metrics.heartbeats_paused == pause).await
}

async fn noticed(raft: &Raft<Kv>, is_true: impl Fn(&RaftMetrics<Kv>) -> bool) -> Result<(), Failure> {
    match raft.wait(NOTICED_WITHIN).until("the node to notice", is_true).await {
        Ok(_) => Ok(()),
        Err(WaitError::Fatal(fatal)) => Err(fatal.into_failure()),
        Err(error) => Err(failed(error)),
    }
}
