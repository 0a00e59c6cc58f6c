//! What a command has changed: nodes as they were and as they are, and the difference in words.

use std::collections::BTreeMap;

use openconsensus::engine::WriteId;
use openconsensus::{Index, LogId, MembershipAt, ProgressName, RaftMetrics, RoleName};

use crate::engines::{Cluster, Test};

use super::show;

/// A node as it was last looked at.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// `None` after a crash.
    living: Option<RaftMetrics<Test>>,
    log: Vec<LogId>,
    /// Writes in flight, each with its number of the order of starts.
    writes: Vec<WriteId>,
    starts: u64,
}

impl View {
    pub(super) fn of(cluster: &Cluster, id: u64) -> Self {
        let node = cluster.node(id);
        Self {
            living: node.is_alive().then(|| node.metrics(cluster.now)),
            log: node.view.entries().iter().map(|entry| entry.log_id).collect(),
            writes: node.writes.iter().map(|write| write.id).collect(),
            starts: node.starts,
        }
    }
}

/// One line for all that has changed on a node, and one for each write that its disk has before it since.
pub(super) fn lines(cluster: &Cluster, id: u64, before: Option<&View>, after: &View) -> Vec<String> {
    let mut lines = Vec::new();
    let node = cluster.node(id);
    let Some(now) = &after.living else {
        if before.is_none_or(|before| before.living.is_some()) {
            lines.push(format!("{id}: is down"));
        }
        return lines;
    };
    let then = before.filter(|before| before.starts == after.starts);
    match then.and_then(|before| Some((before, before.living.as_ref()?))) {
        None => lines.push(state(cluster, id)),
        Some((before, then)) => {
            let parts = parts(then, now, &before.log, &after.log);
            if !parts.is_empty() {
                lines.push(format!("{id}: {}", parts.join(", ")));
            }
        }
    }
    let is_new = |write: &WriteId| then.is_none_or(|before| !before.writes.contains(write));
    for write in node.writes.iter().filter(|write| is_new(&write.id)) {
        lines.push(format!("{id}: writes {}", show::write(write)));
    }
    lines
}

/// What has changed, in a fixed order.
fn parts(
    then: &RaftMetrics<Test>,
    now: &RaftMetrics<Test>,
    log_then: &[LogId],
    log_now: &[LogId],
) -> Vec<String> {
    let mut parts = Vec::new();
    if then.role != now.role || now.role != RoleName::Follower && then.term != now.term {
        parts.push(format!("becomes {}", now.role));
    }
    if then.term != now.term {
        parts.push(format!("term {}", now.term));
    }
    let is_told = then.leader != now.leader || now.leader.is_some() && then.term != now.term;
    if now.role == RoleName::Follower && is_told {
        match now.leader {
            Some(leader) => parts.push(format!("follows {leader}")),
            None if then.role == RoleName::Follower => parts.push("follows nobody".to_string()),
            None => {}
        }
    }
    let votes = now.voted_for.filter(|_| (then.term, then.voted_for) != (now.term, now.voted_for));
    parts.extend(votes.map(|candidate| format!("votes for {candidate}")));
    parts.extend(log_changes(then, now, log_then, log_now));
    if then.membership != now.membership {
        parts.push(format!("members {}", show::membership(&now.membership.membership)));
    }
    if then.stable != now.stable && (then.stable < then.last.index || now.stable < now.last.index) {
        parts.push(format!("stable {}", now.stable));
    }
    if then.committed != now.committed {
        parts.push(format!("commit {}", now.committed));
    }
    let lags = |metrics: &RaftMetrics<Test>| metrics.applied.index < metrics.committed;
    if then.applied != now.applied && (lags(then) || lags(now)) {
        parts.push(format!("applied {}", now.applied.index));
    }
    if then.snapshot != now.snapshot {
        parts.push(format!("snapshot {}", show::id(now.snapshot)));
    }
    if then.purged != now.purged {
        parts.push(format!("purged to {}", show::id(now.purged)));
    }
    parts.extend(peer_changes(then, now));
    parts
}

fn log_changes(
    then: &RaftMetrics<Test>,
    now: &RaftMetrics<Test>,
    log_then: &[LogId],
    log_now: &[LogId],
) -> Option<String> {
    let is_purged = |id: &&LogId| now.purged.index < id.index;
    let removed: Vec<LogId> =
        log_then.iter().filter(is_purged).filter(|id| !log_now.contains(id)).copied().collect();
    let is_new = |id: &&LogId| then.purged.index < id.index && !log_then.contains(id);
    let added: Vec<LogId> = log_now.iter().filter(is_new).copied().collect();
    let mut words = Vec::new();
    if !removed.is_empty() {
        words.push(format!("-[{}]", show::ids(removed)));
    }
    if !added.is_empty() {
        words.push(format!("+[{}]", show::ids(added)));
    }
    (!words.is_empty()).then(|| format!("log {}", words.join(" ")))
}

/// Peers that a leader sends to in another way than before; those that a leader begins with are left out.
fn peer_changes(then: &RaftMetrics<Test>, now: &RaftMetrics<Test>) -> Vec<String> {
    let leads_on = then.role == RoleName::Leader && now.role == RoleName::Leader && then.term == now.term;
    if !leads_on {
        return Vec::new();
    }
    let mut changes: BTreeMap<u64, String> = BTreeMap::new();
    for (id, peer) in &now.peers {
        let before: Option<ProgressName> = then.peers.get(id).map(|peer| peer.progress);
        match before {
            Some(before) if before == peer.progress => {}
            Some(before) => {
                changes.insert(*id, format!("peer {id} {before}→{}", peer.progress));
            }
            None => {
                changes.insert(*id, format!("peer {id} {}", peer.progress));
            }
        }
    }
    for id in then.peers.keys().filter(|id| !now.peers.contains_key(id)) {
        changes.insert(*id, format!("peer {id} is let go"));
    }
    changes.into_values().collect()
}

/// One line about a node: everything that matters, and nothing that is as one expects.
pub(super) fn state(cluster: &Cluster, id: u64) -> String {
    let node = cluster.node(id);
    if !node.is_alive() {
        return format!("{id}: is down");
    }
    let metrics = node.metrics(cluster.now);
    let RaftMetrics { role, term, voted_for, leader, last, stable, committed, applied, .. } = &metrics;
    let mut parts = vec![format!("{role} in term {term}")];
    parts.extend(voted_for.map(|candidate| format!("voted {candidate}")));
    if *role == RoleName::Follower {
        parts.extend(leader.map(|leader| format!("follows {leader}")));
    }
    if metrics.snapshot != LogId::ZERO {
        parts.push(format!("snapshot {}", show::id(metrics.snapshot)));
    }
    if metrics.purged != LogId::ZERO {
        parts.push(format!("purged to {}", show::id(metrics.purged)));
    }
    parts.push(format!("log {}", show::log(&node.view)));
    if *stable < last.index {
        parts.push(format!("stable {stable}"));
    }
    parts.push(format!("commit {committed}"));
    if applied.index < *committed {
        parts.push(format!("applied {}", applied.index));
    }
    format!("{id}: {}", parts.join(", "))
}

/// The membership in force, with the entry that it came with.
pub(super) fn membership(at: &MembershipAt<Test>, committed: Index) -> String {
    let state = if at.log_id.index <= committed { "committed" } else { "not committed" };
    format!("{} by {}, {state}", show::membership(&at.membership), show::id(at.log_id))
}
