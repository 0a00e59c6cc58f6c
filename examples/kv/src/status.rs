//! `kv status`: asks every member, and shows what each says of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use comfy_table::{LineStyle, Table, TableStyle};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::cli::ClientArgs;
use crate::client::{Client, ClientError, Member, NodeStatus};
use crate::outcome::{Exit, Result};

/// `kv status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Print JSON: all that the nodes say of themselves
    #[arg(long)]
    json: bool,
}

/// One member, and what it says of itself.
#[derive(Clone, Debug, Serialize)]
pub struct MemberStatus {
    /// The member as the membership names it.
    pub member: Member,
    /// What the node at its address says.
    pub status: Option<NodeStatus>,
    /// Why that is not known or not to be trusted: it does not answer, or another node does.
    pub error: Option<String>,
}

/// All members.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterStatus {
    /// The leader, if a node that leads has answered.
    pub leader: Option<u64>,
    /// In the order of their ids.
    pub members: Vec<MemberStatus>,
}

/// Asks a node for the membership, and then every member at the same time. A node has `patience` to answer.
///
/// # Errors
///
/// When no endpoint of the client answers.
pub async fn cluster_status(client: &Client, patience: Duration) -> Result<ClusterStatus, ClientError> {
    let first = client.any_status().await?;
    let mut members = first.membership.clone().unwrap_or_default().members;
    if members.is_empty() {
        // It belongs to no cluster yet, and is all there is to show.
        members.push(Member { id: first.id, address: first.address.clone(), kind: "no member yet".into() });
    }
    let mut asked = JoinSet::new();
    for member in members {
        let client = client.with_timeout(patience);
        asked.spawn(async move { ask(&client, member).await });
    }
    let mut all: Vec<MemberStatus> = asked.join_all().await;
    all.sort_by_key(|one| one.member.id);
    // Of two that believe to lead, the one with the higher term is right.
    let leads = |one: &&MemberStatus| one.status.as_ref().is_some_and(|status| status.role == "leader");
    let leader = all
        .iter()
        .filter(leads)
        .max_by_key(|one| one.status.as_ref().map(|status| status.term))
        .map(|one| one.member.id);
    Ok(ClusterStatus { leader, members: all })
}

async fn ask(client: &Client, member: Member) -> MemberStatus {
    match client.status(&member.address).await {
        Ok(status) if status.id == member.id => MemberStatus { member, status: Some(status), error: None },
        Ok(other) => {
            let error =
                format!("wrong node: {} answers as node {} of {}", member.address, other.id, other.cluster);
            MemberStatus { member, status: None, error: Some(error) }
        }
        Err(ClientError::Unavailable { last, .. }) => {
            MemberStatus { member, status: None, error: Some(format!("unreachable: {last}")) }
        }
        Err(error) => MemberStatus { member, status: None, error: Some(error.to_string()) },
    }
}

/// Shows the members.
///
/// # Errors
///
/// When no endpoint answers.
pub async fn run(args: StatusArgs) -> Result<Exit> {
    let client = args.client.client();
    let patience = client.timeout().min(Duration::from_secs(2));
    let cluster = cluster_status(&client, patience).await?;
    if args.json {
        println!("{}", serde_json::json!(cluster));
    } else {
        println!("{}", table(&cluster).trim_fmt());
        let leader = cluster.members.iter().find(|one| Some(one.member.id) == cluster.leader);
        if let Some(status) = leader.and_then(|one| one.status.as_ref()) {
            if !status.latencies.is_empty() {
                println!("\n{}\n", latency_table(status).trim_fmt());
            }
            println!("{}", queue_line(status));
        }
        for line in remarks(&cluster) {
            println!("{line}");
        }
    }
    // Without a leader the cluster takes no writes: worth a code of its own to a script.
    Ok(if cluster.leader.is_some() { Exit::Done } else { Exit::Negative })
}

/// A line under the header, and no other.
const UNDER_HEADER: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// A row for each member.
pub fn table(cluster: &ClusterStatus) -> Table {
    let mut table = Table::new();
    table.load_style(UNDER_HEADER);
    table.set_header([
        "node",
        "address",
        "member",
        "role",
        "term",
        "last",
        "committed",
        "applied",
        "lag",
        "snapshot",
        "log",
        "state",
    ]);
    let last = cluster
        .members
        .iter()
        .filter(|one| Some(one.member.id) == cluster.leader)
        .find_map(|one| one.status.as_ref().map(|status| status.last_index));
    for MemberStatus { member, status, error: _ } in &cluster.members {
        let start = [member.id.to_string(), member.address.clone(), member.kind.clone()];
        let rest = match status {
            None => ["unreachable", "-", "-", "-", "-", "-", "-", "-", "-"].map(str::to_owned),
            Some(s) => [
                s.role.clone(),
                s.term.to_string(),
                s.last_index.to_string(),
                s.committed_index.to_string(),
                s.applied_index.to_string(),
                last.map_or("?".into(), |last| last.saturating_sub(s.applied_index).to_string()),
                s.snapshot_index.to_string(),
                size(s.log_bytes),
                size(s.state_bytes),
            ],
        };
        table.add_row(start.into_iter().chain(rest));
    }
    table
}

/// How long things take on the leader, from which it can be seen where writes are slow.
fn latency_table(status: &NodeStatus) -> Table {
    let mut table = Table::new();
    table.load_style(UNDER_HEADER);
    let of = format!("node {} since its start", status.id);
    table.set_header([of.as_str(), "count", "mean", "p50", "p99", "max"]);
    for latency in &status.latencies {
        let times = [latency.mean_ns, latency.p50_ns, latency.p99_ns, latency.max_ns].map(time);
        table.add_row([latency.what.clone(), latency.count.to_string()].into_iter().chain(times));
    }
    table
}

/// What waits on the leader.
fn queue_line(status: &NodeStatus) -> String {
    let queues = status.queues.unwrap_or_default();
    format!(
        "waiting on node {}: {} admitted, {} uncommitted, {} received, {} to apply; {} writers, {} readers",
        status.id,
        size(queues.admitted_bytes),
        size(queues.uncommitted_bytes),
        size(queues.received_bytes + queues.received_urgent_bytes),
        size(queues.apply_backlog_bytes),
        queues.writers_waiting,
        queues.readers_waiting + queues.reads_under_way,
    )
}

fn time(ns: u64) -> String {
    let (unit, name) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (1e3, "µs"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    format!("{:.1} {name}", ns as f64 / unit)
}

/// What does not fit into the table.
fn remarks(cluster: &ClusterStatus) -> Vec<String> {
    let mut remarks: Vec<String> = cluster
        .members
        .iter()
        .filter_map(|one| Some(format!("node {}: {}", one.member.id, one.error.as_ref()?)))
        .collect();
    let known: BTreeMap<u64, &NodeStatus> =
        cluster.members.iter().filter_map(|one| Some((one.member.id, one.status.as_ref()?))).collect();
    for (id, status) in &known {
        if let Some(fatal) = &status.fatal {
            remarks.push(format!("node {id} has stopped: {fatal}"));
        }
        remarks.extend(status.conditions.iter().map(|condition| format!("node {id}: {condition}")));
    }
    match cluster.leader.and_then(|leader| known.get(&leader)) {
        None => remarks.push("no leader has answered".into()),
        Some(leader) => {
            let silent = leader.peers.iter().filter(|peer| !peer.active);
            remarks.extend(silent.map(|peer| format!("node {} does not answer the leader", peer.id)));
            if leader.membership.as_ref().is_some_and(|membership| membership.joint) {
                remarks.push("a change of the membership is under way".into());
            }
        }
    }
    remarks
}

fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, role: &str, term: u64, last: u64, applied: u64) -> MemberStatus {
        let status = NodeStatus {
            id,
            role: role.into(),
            term,
            last_index: last,
            applied_index: applied,
            ..NodeStatus::default()
        };
        let member = Member { id, address: format!("h:{id}"), kind: "voter".into() };
        MemberStatus { member, status: Some(status), error: None }
    }

    #[test]
    fn lag_is_counted_from_the_leaders_last_entry() {
        let mut down = member(3, "follower", 0, 0, 0);
        down.status = None;
        down.error = Some("unreachable: connection refused".into());
        let cluster = ClusterStatus {
            leader: Some(1),
            members: vec![member(1, "leader", 2, 10, 10), member(2, "follower", 2, 9, 7), down],
        };
        let rows: Vec<Vec<String>> = table(&cluster)
            .row_iter()
            .map(|row| row.cell_iter().map(|cell| cell.content()).collect())
            .collect();
        assert_eq!(rows[0][8], "0");
        assert_eq!(rows[1][8], "3");
        assert_eq!(rows[2][3], "unreachable");
        assert_eq!(remarks(&cluster), ["node 3: unreachable: connection refused"]);
    }

    #[test]
    fn times_are_told_in_the_unit_that_suits_them() {
        assert_eq!(
            [0, 999, 1_000, 15_360, 5_300_000, 2_000_000_000].map(time),
            ["0 ns", "999 ns", "1.0 µs", "15.4 µs", "5.3 ms", "2.0 s"]
        );
    }

    #[test]
    fn a_cluster_without_a_leader_says_so() {
        let cluster = ClusterStatus { leader: None, members: vec![member(1, "follower", 2, 10, 10)] };
        assert_eq!(remarks(&cluster), ["no leader has answered"]);
        assert!(table(&cluster).to_string().contains('?'));
    }
}
