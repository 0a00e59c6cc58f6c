//! The signals that stop a node, and how a leader leaves.

use std::time::Duration;

use openconsensus::{Raft, RoleName};
use openconsensus_memstore::kv::Kv;

use crate::outcome::Result;

/// How long a leader tries to hand over before it leaves all the same.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);

/// SIGTERM and SIGINT, or Ctrl-C where there are no signals.
#[cfg(unix)]
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// From now on these signals do not end the process by themselves.
    pub(super) fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// SIGTERM and SIGINT, or Ctrl-C where there are no signals.
#[cfg(not(unix))]
pub(super) struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub(super) fn new() -> Result<Self> {
        Ok(Self)
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        // Without a handler Ctrl-C ends the process, which is what is asked for too.
        let _ = tokio::signal::ctrl_c().await;
        "Ctrl-C"
    }
}

/// Hands leadership to another voter, if this node leads and there is one, so that the cluster need not wait for an
/// election timeout.
pub(super) async fn hand_over(raft: &Raft<Kv>) {
    let metrics = raft.metrics().latest();
    let has_other = metrics.membership.membership.all_voters().any(|id| id != metrics.id);
    if metrics.role != RoleName::Leader || !has_other {
        return;
    }
    match tokio::time::timeout(HAND_OVER_TIMEOUT, raft.transfer_leadership(None)).await {
        Ok(Ok(leader)) => tracing::info!("node {leader} leads now"),
        Ok(Err(error)) => tracing::warn!("leaving without a new leader: {error}"),
        Err(_) => tracing::warn!("leaving without a new leader: nobody took over in time"),
    }
}
