//! A snapshot on its way from node to node.

use std::io;
use std::sync::Arc;

use futures::{StreamExt, stream};
use openconsensus::{
    AnyError, AsyncRuntime, InstallSnapshot, InstallSnapshotResponse, NetworkError, SnapshotStream,
    TypeConfig, snapshot_stream,
};
use tokio::sync::{mpsc, oneshot};

use super::{Hub, LinkId};

/// The item of a snapshot stream, without the error.
type Chunk = bytes::Bytes;

/// What travels: a chunk, or the proof that the last one has been sent. A connection that ends without it is broken.
enum Piece {
    Chunk(Chunk),
    End,
}

/// Sends a snapshot and waits for the answer. Breaks off when either way is cut or one of the nodes disconnects.
pub(super) async fn run<C: TypeConfig>(
    hub: Arc<Hub<C>>,
    link: LinkId<C>,
    request: InstallSnapshot<C>,
    data: SnapshotStream,
) -> Result<InstallSnapshotResponse, NetworkError> {
    let ended = Connection::open(hub.clone(), link)?;
    hub.lock().traffic.snapshots_started += 1;
    hub.runtime.note(format_args!("{} -> {}: snapshot {} begins", link.0, link.1, request.meta.last));
    let result = tokio::select! {
        biased;
        () = ended.broken() => Err(aborted("the connection broke")),
        result = transfer(&hub, link, request, data) => result,
    };
    hub.runtime.note(format_args!("{} -> {}: snapshot ends: {result:?}", link.0, link.1));
    let mut state = hub.lock();
    match result {
        Ok(_) => state.traffic.snapshots_answered += 1,
        Err(_) => state.traffic.snapshots_broken += 1,
    }
    result
}

async fn transfer<C: TypeConfig>(
    hub: &Hub<C>,
    link: LinkId<C>,
    request: InstallSnapshot<C>,
    data: SnapshotStream,
) -> Result<InstallSnapshotResponse, NetworkError> {
    let (pieces, arriving) = mpsc::channel(1);
    let (answer, answered) = oneshot::channel();
    let Some(receiver) = hub.lock().nodes.get(&link.1).map(|node| node.receiver.clone()) else {
        return Err(aborted("the receiver has gone"));
    };
    // The receiving side is a task of its own, as on another machine: it outlives the sender, and sees its stream
    // break when the sender is gone.
    hub.runtime.spawn(async move {
        let response = receiver.receive_snapshot(request, stream_of(arriving)).await;
        // Nobody waits any more if the sender has given up.
        let _ = answer.send(response);
    });
    send_pieces(hub, data, pieces).await?;
    match answered.await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(fatal)) => Err(aborted(&format!("the receiver has stopped: {fatal}"))),
        Err(_) => Err(aborted("the receiver did not answer")),
    }
}

async fn send_pieces<C: TypeConfig>(
    hub: &Hub<C>,
    mut data: SnapshotStream,
    pieces: mpsc::Sender<Piece>,
) -> Result<(), NetworkError> {
    let mut passed = 0;
    while let Some(chunk) = data.next().await {
        let mut chunk = chunk.map_err(|error| NetworkError::Aborted(AnyError::new(&error)))?;
        while !chunk.is_empty() {
            let faults = hub.lock().snapshot_faults.clone();
            let part = chunk.split_to(chunk.len().min(faults.chunk_bytes.unwrap_or(usize::MAX).max(1)));
            if !faults.chunk_delay.is_zero() {
                hub.runtime.let_pass(faults.chunk_delay).await;
            }
            if faults.break_after_bytes.is_some_and(|limit| limit <= passed) {
                return Err(aborted("the connection broke"));
            }
            if faults.stall_after_bytes.is_some_and(|limit| limit <= passed) {
                std::future::pending::<()>().await;
            }
            let part = match faults.flip_bit_at.and_then(|place| place.checked_sub(passed)) {
                Some(place) if place < part.len() as u64 => flip_bit(&part, place as usize),
                _ => part,
            };
            passed += part.len() as u64;
            hub.lock().traffic.snapshot_bytes += part.len() as u64;
            if pieces.send(Piece::Chunk(part)).await.is_err() {
                // The receiver wants no more: its answer says why.
                return Ok(());
            }
        }
    }
    // As above: a receiver that does not want the end has its reasons.
    let _ = pieces.send(Piece::End).await;
    Ok(())
}

fn flip_bit(bytes: &Chunk, place: usize) -> Chunk {
    let mut bytes = bytes.to_vec();
    bytes[place] ^= 1;
    bytes.into()
}

/// What the receiver reads: an error at its end unless the sender has said that it is the end.
fn stream_of(arriving: mpsc::Receiver<Piece>) -> SnapshotStream {
    let step = |arriving: Option<mpsc::Receiver<Piece>>| async {
        let mut arriving = arriving?;
        match arriving.recv().await {
            Some(Piece::Chunk(chunk)) => Some((Ok(chunk), Some(arriving))),
            Some(Piece::End) => None,
            None => Some((Err(io::ErrorKind::ConnectionReset.into()), None)),
        }
    };
    snapshot_stream(stream::unfold(Some(arriving), step))
}

fn aborted(why: &str) -> NetworkError {
    NetworkError::Aborted(AnyError::error(why))
}

/// Two nodes that can reach each other, as long as they can.
struct Connection<C: TypeConfig> {
    hub: Arc<Hub<C>>,
    link: LinkId<C>,
    /// Which connections of the two nodes it stands on.
    ends: (u64, u64),
}

impl<C: TypeConfig> Connection<C> {
    fn open(hub: Arc<Hub<C>>, link: LinkId<C>) -> Result<Self, NetworkError> {
        let Some(ends) = ends(&hub, link) else {
            let error = format!("node {} cannot be reached from node {}", link.1, link.0);
            return Err(NetworkError::Unreachable(AnyError::error(error)));
        };
        Ok(Self { hub, link, ends })
    }

    /// Resolves when it has broken.
    async fn broken(&self) {
        let mut changes = self.hub.changes.subscribe();
        while ends(&self.hub, self.link) == Some(self.ends) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The connections of both nodes, if they can reach each other both ways.
fn ends<C: TypeConfig>(hub: &Hub<C>, (from, to): LinkId<C>) -> Option<(u64, u64)> {
    let state = hub.lock();
    if state.is_cut((from, to)) || state.is_cut((to, from)) {
        return None;
    }
    Some((state.nodes.get(&from)?.connection, state.nodes.get(&to)?.connection))
}
