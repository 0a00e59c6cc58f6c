//! Sends snapshots to peers, and watches over those that are being built.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyerror::AnyError;
use futures::channel::oneshot;
use futures::{FutureExt, select_biased};

use crate::config::ValidConfig;
use crate::engine::{Input, SnapshotId};
use crate::entry::LogId;
use crate::error::Fatal;
use crate::message::{InstallSnapshot, InstallSnapshotResponse, SnapshotMeta};
use crate::network::RaftNetwork;
use crate::runtime::{BoxFuture, SnapshotStream, snapshot_stream};
use crate::storage::AppliedState;
use crate::type_config::TypeConfig;

use super::item::Item;
use super::shared::{Clock, Shared};
use super::streams::{OutgoingStream, Progress};

/// A snapshot on its way to a peer.
pub(super) struct Transfer<C: TypeConfig> {
    pub(super) id: SnapshotId,
    pub(super) peer: C::NodeId,
    pub(super) node: C::Node,
    pub(super) request: InstallSnapshot<C>,
    pub(super) data: SnapshotStream,
    /// Resolves when the transfer is given up.
    pub(super) cancel: oneshot::Receiver<()>,
}

/// Sends a snapshot and tells the engine how it ended, whatever happens.
pub(super) async fn send<C, N>(
    transfer: Transfer<C>,
    network: Arc<N>,
    shared: Arc<Shared<C>>,
) -> Result<(), Fatal>
where
    C: TypeConfig,
    N: RaftNetwork<C>,
{
    let Transfer { id, peer, node, request, data, cancel } = transfer;
    // A receiver calls itself terminated when its sender is dropped, and would never be polled.
    let mut cancel = cancel.fuse();
    let last = request.meta.last;
    tracing::info!(name: "raft.snapshot.send", node = %shared.id, %peer, %last, "sending a snapshot");
    let clock = shared.clock.clone();
    let progress = Progress::begin(clock.now());
    let data = OutgoingStream::new(data, request.meta.size_bytes, progress.clone(), clock.clone());
    let data = snapshot_stream(data);
    let response: Option<InstallSnapshotResponse> = {
        let mut sending = pin!(network.send_snapshot(peer, &node, request, data).fuse());
        let mut too_late = pin!(too_late(&*clock, &progress, &shared.config).fuse());
        select_biased! {
            _ = cancel => None,
            result = sending => match result {
                Ok(response) => Some(response),
                Err(error) => {
                    tracing::warn!(name: "raft.snapshot.failed", node = %shared.id, %peer, %last, %error, "snapshot not sent");
                    None
                }
            },
            reason = too_late => {
                tracing::warn!(name: "raft.snapshot.failed", node = %shared.id, %peer, %last, reason, "snapshot not sent");
                None
            }
        }
    };
    if let Some(error) = progress.state().failure {
        report_unreadable(id, Some(last), &error, &shared);
        return Ok(());
    }
    if let Some(response) = &response {
        tracing::info!(name: "raft.snapshot.sent", node = %shared.id, %peer, %last, installed = ?response.installed, "snapshot answered");
    }
    // A closed inbox means that the node stops.
    let _ = shared.inbox.push(Item::input(Input::SnapshotSent { id, response }));
    Ok(())
}

/// Tells everybody that the current snapshot, which was to be sent, cannot be read.
pub(super) fn report_unreadable<C: TypeConfig>(
    id: SnapshotId,
    last: Option<LogId>,
    error: &str,
    shared: &Shared<C>,
) {
    let at = last.map(|last| last.to_string());
    tracing::error!(
        name: "raft.snapshot.damaged", node = %shared.id, last = at, error,
        "the current snapshot cannot be read; another one takes its place"
    );
    // A closed inbox means that the node stops.
    let _ = shared.inbox.push(Item::input(Input::SnapshotUnreadable { id, last }));
}

/// Resolves when the network has not taken a byte for too long, or the peer has not answered for too long after the
/// last one.
async fn too_late(clock: &dyn Clock, progress: &Progress, config: &ValidConfig) -> &'static str {
    loop {
        let state = progress.state();
        let (timeout_ms, reason) = if state.all_taken {
            (config.snapshot_install_timeout_ms, "not installed within snapshot_install_timeout_ms")
        } else {
            (config.snapshot_progress_timeout_ms, "no byte was taken for snapshot_progress_timeout_ms")
        };
        let deadline = state.last + Duration::from_millis(timeout_ms);
        if deadline <= clock.now() {
            return reason;
        }
        clock.sleep_until(deadline).await;
    }
}

/// Waits until a snapshot is built, or cannot be, and tells the engine. `applied` is the state that it was taken of.
pub(super) async fn build<C: TypeConfig>(
    id: SnapshotId,
    building: BoxFuture<'static, std::io::Result<SnapshotMeta<C>>>,
    applied: AppliedState<C>,
    cancel: oneshot::Receiver<()>,
    shared: Arc<Shared<C>>,
) -> Result<(), Fatal> {
    let mut cancel = cancel.fuse();
    let result = select_biased! {
        _ = cancel => return Ok(()),
        result = building.fuse() => result,
    };
    let meta = match result {
        Ok(meta) => meta,
        Err(error) => {
            tracing::error!(
                name: "raft.snapshot.not_built", node = %shared.id, last = %applied.last_applied, %error,
                "a snapshot could not be built; the one before it stays"
            );
            let error = AnyError::new(&error);
            let _ = shared.inbox.push(Item::input(Input::SnapshotBuildFailed { id, error }));
            return Ok(());
        }
    };
    if meta.last != applied.last_applied || meta.membership != applied.membership {
        return Err(Fatal::StateMachine(AnyError::error(format!(
            "build_snapshot returned a snapshot of entry {} with the membership of {}; it was asked for when {} was \
             the last applied one, with the membership of {}",
            meta.last, meta.membership.log_id, applied.last_applied, applied.membership.log_id
        ))));
    }
    tracing::info!(name: "raft.snapshot.built", node = %shared.id, last = %meta.last, "built a snapshot");
    let _ = shared.inbox.push(Item::input(Input::SnapshotBuilt { id, meta }));
    Ok(())
}
