//! Peers that stop, come back, move, or are somebody else.

use std::time::Duration;

use openconsensus::{AsyncRuntime, RaftNetwork, TypeConfig};

use super::NetworkFactory;
use super::crowd::{Member, eventually, heartbeat};
use super::recorder::Recorder;
use crate::conformance::verdict::{Flaw, holds, same, skip};

pub(super) async fn a_peer_that_is_down_is_reported<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig,
    F: NetworkFactory<C>,
{
    let (a, b, c) =
        (Member::start(factory, 1).await, Member::start(factory, 2).await, Member::start(factory, 3).await);
    let b_id = b.id;
    let b_node = b.stop(factory).await;
    let is_reported = || a.recorder.heard().unreachable.contains(&b_id);
    a.heartbeat_until(factory, b_id, &b_node, 1, "a report that the peer is unreachable", is_reported)
        .await?;
    // Nobody else is affected.
    a.send(&c, vec![heartbeat(7)]);
    eventually(factory, "a heartbeat to another peer", "it arrives", || c.heartbeats(&a) == [7]).await?;
    let mut reported = a.recorder.heard().unreachable.clone();
    reported.dedup();
    same("the peers that were reported", reported, vec![b_id])?;
    a.stop(factory).await;
    c.stop(factory).await;
    Ok(())
}

pub(super) async fn a_peer_that_comes_back_is_reached_again<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig,
    F: NetworkFactory<C>,
{
    let (a, b) = (Member::start(factory, 1).await, Member::start(factory, 2).await);
    let (id, mut node) = (b.id, b.node.clone());
    let right = "heartbeats arrive";
    let mut round = a.heartbeat_until(factory, id, &node, 1, right, || 3 <= b.heartbeats(&a).len()).await?;
    let mut b = b;
    // Twice, so that what the first time left behind is met.
    for _ in 0..2 {
        node = b.stop(factory).await;
        a.recorder.heard().unreachable.clear();
        let is_reported = || a.recorder.heard().unreachable.contains(&id);
        round = a.heartbeat_until(factory, id, &node, round, "a report of the peer", is_reported).await?;
        b = Member::start_at(factory, 2, Some(&node), Recorder::new()).await;
        let right = "heartbeats arrive again after the restart";
        let first = round;
        let arrived = || b.heartbeats(&a).iter().filter(|arrived| first <= **arrived).count();
        round = a.heartbeat_until(factory, id, &b.node, round, right, || 3 <= arrived()).await?;
        let heard = b.heartbeats(&a);
        let is_sorted = heard.windows(2).all(|pair| pair[0] < pair[1]);
        holds(
            is_sorted,
            format!("after a restart of the peer: {heard:?}"),
            "some are lost, none overtakes another",
        )?;
        // And back.
        b.send(&a, vec![heartbeat(round)]);
        eventually(factory, "an answer", "it arrives", || a.heartbeats(&b).last() == Some(&round)).await?;
    }
    a.stop(factory).await;
    b.stop(factory).await;
    Ok(())
}

pub(super) async fn a_peer_that_moves_is_followed<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig,
    F: NetworkFactory<C>,
{
    if !factory.limits().has_addresses {
        return skip("`has_addresses`: addresses that could change");
    }
    let (a, old) = (Member::start(factory, 1).await, Member::start(factory, 2).await);
    let (id, node) = (old.id, old.node.clone());
    a.heartbeat_until(factory, id, &node, 1, "heartbeats arrive", || !old.heartbeats(&a).is_empty()).await?;
    // The old one goes on listening: only the membership says that the node is elsewhere.
    let new = Member::start(factory, 2).await;
    let moved = format!("the address of the peer that has moved is {:?} again", new.node);
    holds(new.node != old.node, moved, "another one")?;
    let before = old.heartbeats(&a).len();
    a.heartbeat_until(factory, id, &new.node, 1000, "heartbeats arrive at the new address", || {
        3 <= new.heartbeats(&a).len()
    })
    .await?;
    let stray: Vec<u64> =
        old.heartbeats(&a)[before..].iter().copied().filter(|round| 1000 <= *round).collect();
    same("heartbeats that were sent to the new address and arrived at the old one", stray, Vec::new())?;
    for member in [a, old, new] {
        member.stop(factory).await;
    }
    Ok(())
}

pub(super) async fn a_message_for_another_node_is_refused<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig,
    F: NetworkFactory<C>,
{
    if !factory.limits().has_addresses {
        return skip("`has_addresses`: addresses that could be wrong");
    }
    let (a, c) = (Member::start(factory, 1).await, Member::start(factory, 3).await);
    // Node 2 is said to be where node 3 is.
    let (wrong, runtime) = (factory.node_id(2), factory.runtime());
    for round in 1..=40 {
        a.network.send(wrong, Some(&c.node), vec![heartbeat(9000 + round)]);
        a.send(&c, vec![heartbeat(round)]);
        eventually(factory, "a heartbeat that is meant", "it arrives", || c.heartbeats(&a).contains(&round))
            .await?;
        runtime.sleep_until(runtime.now() + Duration::from_millis(5)).await; // paces the heartbeats
    }
    let stray: Vec<u64> = c.heartbeats(&a).into_iter().filter(|round| 9000 < *round).collect();
    same("heartbeats for node 2 that node 3 was handed", stray, Vec::new())?;
    a.stop(factory).await;
    c.stop(factory).await;
    Ok(())
}

pub(super) async fn an_answer_to_a_stranger_goes_back_or_is_dropped<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig,
    F: NetworkFactory<C>,
{
    let (a, fresh, other) =
        (Member::start(factory, 1).await, Member::start(factory, 2).await, Member::start(factory, 3).await);
    // Before it has heard of anybody: nobody knows where that would be.
    fresh.network.send(a.id, None, vec![heartbeat(1)]);
    a.send(&fresh, vec![heartbeat(2)]);
    eventually(factory, "a heartbeat to a fresh node", "it arrives", || fresh.heartbeats(&a) == [2]).await?;
    fresh.network.send(a.id, None, vec![heartbeat(3)]);
    // Then it hears of the membership.
    a.recorder.heard().heartbeats.clear();
    fresh
        .heartbeat_until(factory, a.id, &a.node, 4, "an answer arrives then", || {
            a.heartbeats(&fresh).last().is_some_and(|round| 4 <= *round)
        })
        .await?;
    same("what a third node was handed", other.recorder.heard().messages.len(), 0)?;
    for member in [a, fresh, other] {
        member.stop(factory).await;
    }
    Ok(())
}
