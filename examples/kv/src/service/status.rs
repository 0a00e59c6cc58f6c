//! What a node says of itself.

use std::fs;
use std::path::Path;

use openconsensus::{Histograms, RaftMetrics, Standing};
use openconsensus_memstore::kv::Kv;
use openconsensus_network_grpc::GrpcNetwork;

use super::NodeInfo;
use crate::proto::{Counters, Latency, Member, Membership, NodeStatus, PeerError, PeerStatus, Queues};

/// Puts together what is known.
pub(super) fn node_status(
    metrics: &RaftMetrics<Kv>,
    info: &NodeInfo,
    network: &GrpcNetwork<Kv>,
) -> NodeStatus {
    NodeStatus {
        id: metrics.id,
        cluster: info.cluster.clone(),
        address: info.address.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_ms: u64::try_from(info.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        role: metrics.role.to_string(),
        term: metrics.term,
        voted_for: metrics.voted_for,
        leader: metrics.leader,
        last_index: metrics.last.index,
        last_term: metrics.last.term,
        stable_index: metrics.stable,
        committed_index: metrics.committed,
        applied_index: metrics.applied.index,
        snapshot_index: metrics.snapshot.index,
        purged_index: metrics.purged.index,
        membership: Some(membership(metrics)),
        peers: peers(metrics),
        tail_bytes: metrics.tail_bytes,
        log_bytes: if info.log.is_dir() { folder_bytes(&info.log) } else { file_bytes(&info.log) },
        state_bytes: file_bytes(&info.data_dir.join("state.redb")),
        snapshot_bytes: folder_bytes(&info.data_dir.join("snapshots")),
        counters: Some(counters(metrics)),
        fatal: metrics.fatal.as_ref().map(ToString::to_string),
        peer_errors: peer_errors(metrics, network),
        latencies: latencies(metrics),
        queues: Some(queues(metrics)),
        quorum_contact_ms: metrics.quorum_contact_ms,
        leader_contact_ms: metrics.leader_contact_ms,
        standing: metrics.standing.to_string(),
        conditions: conditions(metrics),
        lease_ms: metrics.lease_ms,
    }
}

/// What an operator should know of a node beside its numbers.
fn conditions(metrics: &RaftMetrics<Kv>) -> Vec<String> {
    let conditions = [
        (metrics.elections_paused, "its elections are paused"),
        (metrics.heartbeats_paused, "its heartbeats are paused"),
        (metrics.disk_stalled, "its disk hangs"),
        (metrics.is_building_snapshot, "it builds a snapshot"),
        (metrics.is_installing_snapshot, "it installs a snapshot"),
        (metrics.standing == Standing::Removed, "it was removed from the cluster"),
    ];
    let holds = conditions.into_iter().filter(|(holds, _)| *holds).map(|(_, what)| what.to_owned());
    holds.chain(metrics.transfer_to.map(|to| format!("it hands over to node {to}"))).collect()
}

fn membership(metrics: &RaftMetrics<Kv>) -> Membership {
    let membership = &metrics.membership.membership;
    let kind = |id: u64| match (membership.voters().contains(&id), membership.outgoing_voters().contains(&id))
    {
        (true, _) => "voter",
        (false, true) => "voter (leaving)",
        (false, false) => "learner",
    };
    Membership {
        index: metrics.membership.log_id.index,
        joint: membership.is_joint(),
        members: membership
            .nodes()
            .iter()
            .map(|(id, address)| Member { id: *id, address: address.clone(), kind: kind(*id).into() })
            .collect(),
    }
}

fn peers(metrics: &RaftMetrics<Kv>) -> Vec<PeerStatus> {
    let peers = metrics.peers.iter();
    peers
        .map(|(id, peer)| PeerStatus {
            id: *id,
            progress: peer.progress.to_string(),
            matched_index: peer.matched,
            next_index: peer.next,
            lag_entries: peer.lag_entries,
            inflight_appends: peer.inflight_appends,
            active: peer.active,
            lag_bytes: peer.lag_bytes,
            inflight_bytes: peer.inflight_bytes,
            contact_ms: peer.contact_ms,
        })
        .collect()
}

fn latencies(metrics: &RaftMetrics<Kv>) -> Vec<Latency> {
    let Histograms { writes, reads, disk, apply } = &*metrics.histograms;
    let all = [
        ("write.admission", &writes.admission),
        ("write.queued", &writes.queued),
        ("write.stable", &writes.stable),
        ("write.committed", &writes.committed),
        ("write.applied", &writes.applied),
        ("write.whole", &writes.whole),
        ("read.by_round", &reads.by_round),
        ("read.by_lease", &reads.by_lease),
        ("disk.save_hard_state", &disk.save_hard_state),
        ("disk.append", &disk.append),
        ("disk.truncate", &disk.truncate),
        ("disk.purge", &disk.purge),
        ("apply", &apply.call),
    ];
    let happened = all.into_iter().filter(|(_, histogram)| 0 < histogram.count());
    happened
        .map(|(what, histogram)| Latency {
            what: what.into(),
            count: histogram.count(),
            mean_ns: histogram.mean(),
            p50_ns: histogram.p50(),
            p99_ns: histogram.p99(),
            max_ns: histogram.max(),
        })
        .collect()
}

fn queues(metrics: &RaftMetrics<Kv>) -> Queues {
    let queues = &metrics.queues;
    Queues {
        admitted_bytes: queues.admitted_bytes,
        writers_waiting: queues.writers_waiting,
        uncommitted_bytes: queues.uncommitted_bytes,
        received_bytes: queues.received_bytes,
        received_urgent_bytes: queues.received_urgent_bytes,
        apply_backlog_bytes: queues.apply_backlog_bytes,
        reads_under_way: queues.reads_under_way,
        readers_waiting: queues.readers_waiting,
        requests_under_way: queues.requests_under_way,
    }
}

/// Of members only: what went wrong with a node that is none any more is of no interest.
fn peer_errors(metrics: &RaftMetrics<Kv>, network: &GrpcNetwork<Kv>) -> Vec<PeerError> {
    let members = metrics.membership.membership.nodes().keys();
    members.filter_map(|id| Some(PeerError { id: *id, text: network.last_error(*id)?.to_string() })).collect()
}

fn counters(metrics: &RaftMetrics<Kv>) -> Counters {
    let counters = &metrics.counters;
    Counters {
        elections_started: counters.elections_started,
        elections_won: counters.elections_won,
        truncations: counters.truncations,
        snapshots_built: counters.snapshots_built,
        snapshots_installed: counters.snapshots_installed,
        snapshots_sent: counters.snapshots_sent,
        commands_appended: counters.commands_appended,
        catch_up_reads: counters.catch_up_reads,
    }
}

/// 0 when there is no such file: a size is told as far as it is known.
fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

fn folder_bytes(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|meta| meta.len())
        .sum()
}
