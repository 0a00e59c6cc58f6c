//! Snapshots between nodes: whole, refused, broken off at either end, held back, and tried again.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::channel::mpsc;
use futures::future::select;
use openconsensus::{
    AsyncRuntime, Fatal, InstallSnapshotResponse, NetworkError, RaftNetwork, TypeConfig, snapshot_stream,
};

use super::NetworkFactory;
use super::crowd::{Member, eventually, heartbeat};
use super::transfer::{Ended, begin, bytes_of, counted, request};
use crate::conformance::verdict::{Flaw, holds, same, wrong};

const MIB: u64 = 1 << 20;

/// What came of a transfer.
async fn end<C: TypeConfig, F: NetworkFactory<C>>(
    factory: &F,
    what: &str,
    ended: Ended,
) -> Result<Result<InstallSnapshotResponse, NetworkError>, Flaw> {
    let runtime = factory.runtime();
    let mut ended = ended.fuse();
    let patience = factory.limits().patience;
    let deadline = runtime.now() + patience;
    let mut timer = Box::pin(runtime.sleep_until(deadline)).fuse();
    match select(&mut ended, &mut timer).await {
        futures::future::Either::Left((Ok(result), _)) => Ok(result),
        futures::future::Either::Left((Err(_), _)) => {
            wrong(format!("{what}: its task has ended"), "a result")
        }
        futures::future::Either::Right(_) => wrong(format!("{what}: no end within {patience:?}"), "a result"),
    }
}

/// Sends a snapshot of `size` bytes, which must arrive.
async fn succeed<C: TypeConfig, F: NetworkFactory<C>>(
    factory: &F,
    from: &Member<C, F>,
    to: &Member<C, F>,
    size: usize,
    number: u64,
) -> Result<(), Flaw> {
    let (bytes, data) = bytes_of(size);
    let request = request(factory, from, number, number.is_multiple_of(2).then_some(size as u64));
    let what = format!("a snapshot of {size} bytes");
    let right = Ok(InstallSnapshotResponse { term: request.term, installed: Some(request.meta.last.index) });
    let announced = request.clone();
    let before = to.recorder.heard().snapshots.len();
    let result = end(factory, &what, begin(factory, from, to, request, data)).await?;
    same(format!("{what}, the answer"), result, right)?;
    // One that broke before may be noted only now; it was announced as another one.
    let heard = to.recorder.heard();
    let seen: Vec<_> = heard.snapshots[before..].iter().filter(|(seen, _)| *seen == announced).collect();
    let [(_, result)] = seen.as_slice() else {
        let seen: Vec<_> = heard.snapshots[before..].iter().map(|(seen, _)| seen).collect();
        return wrong(
            format!("{what}, what was announced to the receiver: {seen:?}"),
            format!("once {announced:?}"),
        );
    };
    let arrived = match result {
        Ok(arrived) if *arrived == bytes => return Ok(()),
        Ok(arrived) => format!("{} bytes", arrived.len()),
        Err(error) => format!("the error {error}"),
    };
    wrong(format!("{what}, what the receiver read: {arrived}"), format!("the {size} bytes that were sent"))
}

pub(super) async fn a_snapshot_arrives_whole<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig,
    F: NetworkFactory<C>,
{
    let (a, b) = (Member::start(factory, 1).await, Member::start(factory, 2).await);
    for (number, size) in (0..).zip([0, 1, 1000, 65_537, 5 << 20, 3]) {
        succeed(factory, &a, &b, size, number).await?;
    }
    // Back, too, and to somebody else.
    let c = Member::start(factory, 3).await;
    succeed(factory, &b, &a, 300_000, 9).await?;
    succeed(factory, &a, &c, 300_000, 10).await?;
    for member in [a, b, c] {
        member.stop(factory).await;
    }
    Ok(())
}

pub(super) async fn a_refusal_arrives<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig,
    F: NetworkFactory<C>,
{
    let (a, b) = (Member::start(factory, 1).await, Member::start(factory, 2).await);
    let refusal = InstallSnapshotResponse { term: 77, installed: None };
    b.recorder.answer(Ok(refusal));
    for size in [0, 100, 8 << 20] {
        let (_, data) = bytes_of(size);
        let what = format!("a snapshot of {size} bytes that is refused unread");
        let result = end(factory, &what, begin(factory, &a, &b, request(factory, &a, 1, None), data)).await?;
        same(what, result, Ok(refusal))?;
    }
    // A node that has stopped answers nothing that could be taken for an answer.
    b.recorder.answer(Err(Fatal::Stopped));
    let what = "a snapshot to a node that has stopped";
    let (_, data) = bytes_of(1000);
    let result = end(factory, what, begin(factory, &a, &b, request(factory, &a, 1, None), data)).await?;
    holds(result.is_err(), format!("{what}: {result:?}"), "an error")?;
    a.stop(factory).await;
    b.stop(factory).await;
    Ok(())
}

/// Waits until the receiver has seen a snapshot end, which must be in an error.
async fn must_break<C: TypeConfig, F: NetworkFactory<C>>(
    factory: &F,
    receiver: &Member<C, F>,
    before: usize,
    what: &str,
) -> Result<(), Flaw> {
    let right = "the stream of the receiver ends in an error";
    receiver.until(factory, what, right, |heard| before < heard.snapshots.len()).await?;
    match &receiver.recorder.heard().snapshots[before].1 {
        Err(_) => Ok(()),
        Ok(bytes) => wrong(format!("{what}: it ended as if whole, after {} bytes", bytes.len()), right),
    }
}

pub(super) async fn a_transfer_that_is_dropped_breaks_the_stream_of_the_receiver<C, F>(
    factory: &F,
) -> Result<(), Flaw>
where
    C: TypeConfig,
    F: NetworkFactory<C>,
{
    let (a, b) = (Member::start(factory, 1).await, Member::start(factory, 2).await);
    for bytes in [1_usize, 100_000] {
        let before = b.recorder.heard().snapshots.len();
        let taken = b.recorder.heard().snapshot_bytes;
        let (source, data) = mpsc::unbounded();
        let what = format!("a transfer that is dropped after {bytes} bytes");
        let data = snapshot_stream(data);
        let transfer = a.network.send_snapshot(b.id, &b.node, request(factory, &a, 1, None), data);
        let (give_up, given_up) = futures::channel::oneshot::channel::<()>();
        let task = super::crowd::spawn(&factory.runtime(), async move {
            drop(select(Box::pin(transfer), given_up).await);
        });
        // The receiver of a channel that nobody reads any more is the network's business.
        let _ = source.unbounded_send(Ok(Bytes::from(vec![3; bytes])));
        b.until(factory, &what, "the first bytes arrive", |heard| {
            taken + bytes as u64 <= heard.snapshot_bytes
        })
        .await?;
        drop(give_up);
        holds(task.await.is_ok(), &what, "its task ends")?;
        must_break(factory, &b, before, &what).await?;
        drop(source);
        // And then it is tried again.
        succeed(factory, &a, &b, 200_000, 4).await?;
    }
    a.stop(factory).await;
    b.stop(factory).await;
    Ok(())
}

pub(super) async fn a_source_that_fails_breaks_both_ends<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig,
    F: NetworkFactory<C>,
{
    let (a, b) = (Member::start(factory, 1).await, Member::start(factory, 2).await);
    for chunks in [0, 1, 40] {
        let before = b.recorder.heard().snapshots.len();
        let what = format!("a snapshot that the sender cannot read behind {chunks} chunks");
        let (_, data) = counted(chunks, 10_000, [Err(io::Error::other("the disk is gone"))]);
        let result = end(factory, &what, begin(factory, &a, &b, request(factory, &a, 1, None), data)).await?;
        holds(result.is_err(), format!("{what}: {result:?}"), "an error")?;
        if 0 < chunks {
            must_break(factory, &b, before, &what).await?;
        }
        // With nothing to send, the receiver need not have heard of it; it must not have taken it for whole.
        let heard = b.recorder.heard().snapshots[before..].iter().all(|(_, ended)| ended.is_err());
        holds(heard, format!("{what}: it ended as if whole"), "an error, or nothing")?;
        succeed(factory, &a, &b, 100_000, 6).await?;
    }
    a.stop(factory).await;
    b.stop(factory).await;
    Ok(())
}

pub(super) async fn a_receiver_that_stops_breaks_the_transfer<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig,
    F: NetworkFactory<C>,
{
    let (a, b) = (Member::start(factory, 1).await, Member::start(factory, 2).await);
    let (source, data) = mpsc::unbounded();
    let what = "a snapshot whose receiver stops in the middle";
    let ended = begin(factory, &a, &b, request(factory, &a, 1, None), snapshot_stream(data));
    let _ = source.unbounded_send(Ok(Bytes::from(vec![3; 5000])));
    b.until(factory, what, "the first bytes arrive", |heard| 5000 <= heard.snapshot_bytes).await?;
    let recorder = b.recorder.clone();
    let node = b.stop(factory).await;
    let result = end(factory, what, ended).await?;
    holds(result.is_err(), format!("{what}: {result:?}"), "an error")?;
    eventually(factory, what, "the stream of the receiver ends in an error", || {
        recorder.heard().snapshots.first().is_some_and(|(_, ended)| ended.is_err())
    })
    .await?;
    drop(source);
    // It comes back, and gets all of it.
    let b = Member::start_at(factory, 2, Some(&node), super::recorder::Recorder::new()).await;
    succeed(factory, &a, &b, 100_000, 2).await?;
    a.stop(factory).await;
    b.stop(factory).await;
    Ok(())
}

pub(super) async fn a_receiver_that_takes_nothing_holds_the_sender_back<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig,
    F: NetworkFactory<C>,
{
    let (a, b) = (Member::start(factory, 1).await, Member::start(factory, 2).await);
    b.recorder.refuse_snapshots();
    let most = factory.limits().snapshot_buffer_bytes;
    let (taken, data) = counted(2 * most / (64 << 10) + 16, 64 << 10, []);
    let total = (2 * most / (64 << 10) + 16) * (64 << 10);
    let ended = begin(factory, &a, &b, request(factory, &a, 1, Some(total)), data);
    // Until no more is taken for a while.
    let (runtime, mut quiet, mut before) = (factory.runtime(), 0, 0);
    while quiet < 40 {
        runtime.sleep_until(runtime.now() + Duration::from_millis(5)).await; // paces the looks
        let now = taken.load(Ordering::SeqCst);
        quiet = if now == before && 0 < now { quiet + 1 } else { 0 };
        before = now;
        if most < now {
            break;
        }
    }
    let what = format!("of a snapshot of {} MiB whose receiver takes nothing", total / MIB);
    let seen = format!("{what}, {} KiB were read", before >> 10);
    b.recorder.release();
    holds(before <= most, seen, format!("{} MiB at most (`snapshot_buffer_bytes`)", most / MIB))?;
    let result = end(factory, "a snapshot that was held back", ended).await?;
    holds(
        result.as_ref().is_ok_and(|response| response.installed.is_some()),
        format!("a snapshot that was held back: {result:?}"),
        "it arrives when its receiver goes on",
    )?;
    same("the bytes that arrived", b.recorder.heard().snapshot_bytes, total)?;
    a.stop(factory).await;
    b.stop(factory).await;
    Ok(())
}

pub(super) async fn a_snapshot_to_a_peer_that_is_down_is_unreachable<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig,
    F: NetworkFactory<C>,
{
    let (a, b) = (Member::start(factory, 1).await, Member::start(factory, 2).await);
    let (id, node) = (b.id, b.stop(factory).await);
    let (_, data) = bytes_of(100_000);
    let transfer = a.network.send_snapshot(id, &node, request(factory, &a, 1, None), data);
    let ended = super::crowd::spawn(&factory.runtime(), transfer);
    let what = "a snapshot to a peer that is down";
    let result = end(factory, what, ended).await?;
    let is_unreachable = matches!(result, Err(NetworkError::Unreachable(_)));
    holds(is_unreachable, format!("{what}: {result:?}"), "`NetworkError::Unreachable`")?;
    let b = Member::start_at(factory, 2, Some(&node), super::recorder::Recorder::new()).await;
    succeed(factory, &a, &b, 1000, 2).await?;
    a.stop(factory).await;
    b.stop(factory).await;
    Ok(())
}

pub(super) async fn messages_arrive_beside_a_snapshot_that_stalls<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig,
    F: NetworkFactory<C>,
{
    let (a, b) = (Member::start(factory, 1).await, Member::start(factory, 2).await);
    b.recorder.refuse_snapshots();
    let (taken, data) = counted(160, 64 << 10, []);
    let ended = begin(factory, &a, &b, request(factory, &a, 1, None), data);
    eventually(factory, "a snapshot", "it begins", || 0 < taken.load(Ordering::SeqCst)).await?;
    for round in 1..=30 {
        a.send(&b, vec![heartbeat(round)]);
        b.send(&a, vec![heartbeat(round)]);
        let what = format!("heartbeat {round} beside a snapshot that its receiver does not take");
        eventually(factory, &what, "it arrives", || {
            b.heartbeats(&a).last() == Some(&round) && a.heartbeats(&b).last() == Some(&round)
        })
        .await?;
    }
    b.recorder.release();
    let result = end(factory, "a snapshot that has stalled", ended).await?;
    holds(
        result.is_ok(),
        format!("a snapshot that has stalled: {result:?}"),
        "it arrives when its receiver goes on",
    )?;
    let arrived = b.recorder.heard().snapshots.last().is_some_and(|(_, ended)| ended.is_ok());
    holds(arrived, "a snapshot that has stalled broke", "it arrives when its receiver goes on")?;
    a.stop(factory).await;
    b.stop(factory).await;
    Ok(())
}
