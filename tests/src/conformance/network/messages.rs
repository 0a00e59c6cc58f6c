//! Messages between healthy nodes: order, content, size, and senders that are never made to wait.

use std::collections::BTreeMap;

use openconsensus::{
    AppendResult, Body, Entries, LogId, Message, RaftNetwork, TransferAnswer, TransferRefusal, TypeConfig,
    VoteKind,
};

use super::NetworkFactory;
use super::crowd::{Member, append, eventually, heartbeat, spawn};
use super::recorder::is_same;
use crate::conformance::samples::{commands_of, mixed};
use crate::conformance::verdict::{Flaw, holds, same, skip};

pub(super) async fn messages_to_one_peer_keep_their_order<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: NetworkFactory<C>,
{
    const MESSAGES: u64 = 2000;
    let (a, b) = (Member::start(factory, 1).await, Member::start(factory, 2).await);
    let mut sent = 0;
    while sent < MESSAGES {
        // One, many, and none at a time; small and large ones mixed.
        let count = [1, 7, 40, 0][(sent % 4) as usize].max(u64::from(sent % 4 == 3)).min(MESSAGES - sent);
        let mut messages = Vec::new();
        for number in sent + 1..=sent + count {
            messages.push(heartbeat(number));
            messages.push(append(factory, number, (number * 97 % 3000) as usize));
        }
        a.send(&b, messages);
        a.send(&b, Vec::new());
        sent += count;
        if sent % 100 < count {
            b.send(&a, vec![heartbeat(sent / 100)]);
        }
        // A sender that stays below the limits loses nothing.
        let queued = factory.limits().queued_messages / 3;
        eventually(
            factory,
            &format!("{sent} messages sent, {} arrived", b.heartbeats(&a).len()),
            "all arrive",
            || {
                let arrived = b.heartbeats(&a).len().min(b.appends(&a).len()) as u64;
                sent <= arrived + queued
            },
        )
        .await?;
    }
    let right = "every message arrives once, in order";
    b.until(factory, "all messages sent", right, |heard| {
        let all =
            |lane: &BTreeMap<C::NodeId, Vec<u64>>| lane.values().any(|all| all.len() as u64 >= MESSAGES);
        all(&heard.heartbeats) && all(&heard.appends)
    })
    .await?;
    let expected: Vec<u64> = (1..=MESSAGES).collect();
    holds(b.heartbeats(&a) == expected, first_fault("heartbeats", &b.heartbeats(&a)), right)?;
    holds(b.appends(&a) == expected, first_fault("appends", &b.appends(&a)), right)?;
    let back = a.heartbeats(&b);
    holds(back.windows(2).all(|pair| pair[0] <= pair[1]), first_fault("answers", &back), right)?;
    a.stop(factory).await;
    b.stop(factory).await;
    Ok(())
}

/// Where a sequence that should be 1, 2, 3, … is not.
fn first_fault(what: &str, seen: &[u64]) -> String {
    let fault = (1..).zip(seen).find(|(right, seen)| right != *seen);
    match fault {
        Some((right, seen)) => format!("{what}: number {right} to arrive is {seen}"),
        None => format!("{what}: {} arrived", seen.len()),
    }
}

pub(super) async fn every_message_arrives_as_it_was_sent<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: NetworkFactory<C>,
{
    let (a, b) = (Member::start(factory, 1).await, Member::start(factory, 2).await);
    let (last, most) = (LogId::new(7, 90), LogId::new(u64::MAX, u64::MAX - 1));
    let mut bodies = Vec::new();
    for kind in [VoteKind::Pre, VoteKind::Normal, VoteKind::Transfer] {
        bodies.push(Body::VoteRequest { kind, campaign: 3, last });
        bodies.push(Body::VoteResponse { kind, campaign: u64::MAX, granted: kind == VoteKind::Pre });
    }
    for entries in [Entries::empty(), mixed(factory, 3, 11..40), commands_of(factory, 4, 11..12, 70_000)] {
        bodies.push(Body::Append { prev: LogId::new(2, 10), entries, commit: 9 });
    }
    for result in [
        AppendResult::Matched { matched: 12 },
        AppendResult::Conflict { rejected: 12, hint: last },
        AppendResult::StaleTerm,
    ] {
        bodies.push(Body::AppendResponse { result });
    }
    for commit in [LogId::ZERO, last, most] {
        bodies.push(Body::Heartbeat { round: 5, commit });
        bodies.push(Body::Commit { commit });
    }
    bodies.push(Body::HeartbeatResponse { round: 8, promise_ms: 150 });
    bodies.push(Body::ReadRequest { read: 6, by_lease: false });
    bodies.push(Body::ReadRequest { read: 6, by_lease: true });
    bodies.push(Body::ReadResponse { read: 6, index: 91 });
    bodies.push(Body::TimeoutNow);
    bodies.push(Body::TimeoutNowDeclined);
    for target in [None, Some(a.id)] {
        bodies.push(Body::TransferRequest { transfer: u64::MAX, target });
    }
    bodies.extend(transfer_answers(b.id).map(|answer| Body::TransferResponse { transfer: 4, answer }));
    bodies.push(Body::Removed { campaign: 7, membership: last });
    let messages: Vec<Message<C>> = (1..).zip(bodies).map(|(term, body)| Message { term, body }).collect();
    a.send(&b, messages.clone());
    let right = "all arrive";
    b.until(factory, "one message of each kind", right, |heard| messages.len() <= heard.messages.len())
        .await?;
    // Small ones may pass large ones; the term tells which is which.
    let mut arrived = b.recorder.heard().messages.clone();
    arrived.sort_by_key(|message| message.term);
    same("the messages that arrived", arrived.len(), messages.len())?;
    for (arrived, sent) in arrived.iter().zip(&messages) {
        holds(is_same(arrived, sent), format!("{arrived:?} arrived"), format!("{sent:?}, which was sent"))?;
    }
    a.stop(factory).await;
    b.stop(factory).await;
    Ok(())
}

/// Everything that a leader may say to a transfer.
fn transfer_answers<C: TypeConfig>(target: C::NodeId) -> impl Iterator<Item = TransferAnswer<C>> {
    let refusals = [
        TransferRefusal::InProgress { target },
        TransferRefusal::NotAVoter { target },
        TransferRefusal::NoTarget,
        TransferRefusal::NotActive { target },
        TransferRefusal::TooFarBehind { target, behind: u64::MAX, limit: 3 },
        TransferRefusal::TimedOut { target },
        TransferRefusal::Declined { target },
    ];
    [TransferAnswer::Begun { target }, TransferAnswer::Leads { leader: target }]
        .into_iter()
        .chain(refusals.into_iter().map(TransferAnswer::Refused))
}

pub(super) async fn large_messages_arrive<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: NetworkFactory<C>,
{
    let (a, b) = (Member::start(factory, 1).await, Member::start(factory, 2).await);
    let bytes = factory.limits().message_bytes as usize;
    // One large command, and many small ones that are as much together.
    let many = commands_of(factory, 1, 3..3 + 512, bytes / 600);
    let many = Message { term: 1, body: Body::Append { prev: LogId::new(1, 2), entries: many, commit: 0 } };
    let messages =
        vec![append(factory, 1, 10), append(factory, 2, bytes - 1000), many, append(factory, 515, 10)];
    for message in &messages {
        a.send(&b, vec![message.clone()]);
    }
    let (seen, right) = ("messages of up to `message_bytes`", "all arrive, also the large ones");
    b.until(factory, seen, right, |heard| messages.len() <= heard.messages.len()).await?;
    let arrived = b.recorder.heard().messages.clone();
    let is_right = arrived.len() == messages.len()
        && arrived.iter().zip(&messages).all(|(arrived, sent)| is_same(arrived, sent));
    holds(is_right, format!("appends at {:?} arrived", b.appends(&a)), "what was sent, in order")?;
    a.stop(factory).await;
    b.stop(factory).await;
    Ok(())
}

pub(super) async fn nodes_that_speak_at_once_are_told_apart<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: NetworkFactory<C>,
{
    let mut members = Vec::new();
    for number in 1..=4 {
        members.push(Member::start(factory, number).await);
    }
    // Everybody to everybody; the round says who.
    for turn in 1..=50 {
        for (from, sender) in (1..).zip(&members) {
            for (to, peer) in (1..).zip(&members) {
                if from != to {
                    sender.send(peer, vec![heartbeat(100_000 * from + 1000 * to + turn)]);
                }
            }
        }
    }
    for (to, peer) in (1..).zip(&members) {
        for (from, sender) in (1..).zip(&members) {
            if from == to {
                continue;
            }
            let what = format!("50 heartbeats from {} to {}", sender.id, peer.id);
            eventually(factory, &what, "all arrive", || 50 <= peer.heartbeats(sender).len()).await?;
            let expected: Vec<u64> = (1..=50).map(|turn| 100_000 * from + 1000 * to + turn).collect();
            same(what, peer.heartbeats(sender), expected)?;
        }
    }
    for member in members {
        member.stop(factory).await;
    }
    Ok(())
}

pub(super) async fn small_messages_pass_bulk_data<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: NetworkFactory<C>,
{
    if !factory.limits().passes_bulk {
        return skip("`passes_bulk`: a way for small messages past bulk data");
    }
    let (a, b) = (Member::start(factory, 1).await, Member::start(factory, 2).await);
    b.recorder.refuse_bulk();
    // More than any window or buffer on the way holds, though some of it may be dropped.
    for index in 1..=24 {
        a.send(&b, vec![append(factory, index, 1 << 20)]);
    }
    for round in 1..=50 {
        a.send(&b, vec![heartbeat(round)]);
        let right = "it arrives while the receiver takes no appends";
        eventually(factory, &format!("heartbeat {round}"), right, || b.heartbeats(&a).last() == Some(&round))
            .await?;
    }
    same("the appends that were taken meanwhile", b.appends(&a), Vec::new())?;
    b.recorder.release();
    eventually(factory, "appends that were held up", "they arrive then", || !b.appends(&a).is_empty())
        .await?;
    a.stop(factory).await;
    b.stop(factory).await;
    Ok(())
}

pub(super) async fn sending_does_not_wait<C, F>(factory: &F) -> Result<(), Flaw>
where
    C: TypeConfig<Command: PartialEq>,
    F: NetworkFactory<C>,
{
    let (a, b) = (Member::start(factory, 1).await, Member::start(factory, 2).await);
    let away = Member::start(factory, 3).await;
    let (away_id, away_node) = (away.id, away.node.clone());
    away.stop(factory).await;
    b.recorder.refuse_bulk();
    // Far more than may wait, to a peer that takes nothing and to one that is not there.
    let (network, id, node) = (a.network.clone(), b.id, b.node.clone());
    let messages: Vec<_> = (1..=64).map(|index| append(factory, index, 64 << 10)).collect();
    let mut sending = spawn(&factory.runtime(), async move {
        for _ in 0..40 {
            network.send(id, Some(&node), messages.clone());
            network.send(away_id, Some(&away_node), messages.clone());
        }
    });
    let is_done = std::cell::RefCell::new(&mut sending);
    let ended =
        eventually(factory, "2560 appends of 64 KiB to a peer that takes none", "`send` returns", || {
            matches!(is_done.borrow_mut().try_recv(), Ok(Some(())))
        })
        .await;
    b.recorder.release();
    ended?;
    // It goes on when the peer does.
    let (id, node) = (b.id, b.node.clone());
    a.heartbeat_until(factory, id, &node, 1, "a heartbeat arrives", || !b.heartbeats(&a).is_empty()).await?;
    a.stop(factory).await;
    b.stop(factory).await;
    Ok(())
}
