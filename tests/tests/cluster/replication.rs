//! Election and replication while nothing goes wrong, and what is refused at the door.

use std::collections::{BTreeMap, BTreeSet};

use openconsensus::{InitializeError, RoleName, StartError, WriteError};
use openconsensus_memstore::kv::{Command, Response};
use openconsensus_tests::{Cluster, ClusterOptions, eventually, put};

use crate::options;

async fn check_replication(voters: u64) {
    let cluster = Cluster::of_voters(voters, ClusterOptions::default()).await;
    let mut client = cluster.client();
    for n in 0..50 {
        client.must_write(put(format!("key {n}"), format!("value {n}"))).await;
    }
    let ids: Vec<u64> = (1..=voters).collect();
    cluster.wait_equal(&ids).await;
    let leader = cluster.leader().await;
    for id in ids {
        let reader = cluster.reader(id);
        assert_eq!(reader.len(), 50);
        assert_eq!(reader.get("key 7"), Some(b"value 7".to_vec()));
        let metrics = cluster.metrics(id);
        assert_eq!(metrics.leader, Some(leader));
        assert_eq!(metrics.role == RoleName::Leader, id == leader);
        assert_eq!(metrics.membership.membership.voters().len() as u64, voters);
    }
}

#[tokio::test]
async fn one_node_alone_is_a_cluster() {
    check_replication(1).await;
}

#[tokio::test]
async fn two_nodes_elect_a_leader_and_hold_the_same_state() {
    check_replication(2).await;
}

#[tokio::test]
async fn three_nodes_elect_a_leader_and_hold_the_same_state() {
    check_replication(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_on_many_threads_elect_a_leader_and_hold_the_same_state() {
    check_replication(5).await;
}

#[tokio::test]
async fn commands_are_answered_with_what_applying_them_returned() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let mut client = cluster.client();
    assert_eq!(client.must_write(put("k", "1")).await, Response::Previous(None));
    assert_eq!(client.must_write(put("k", "2")).await, Response::Previous(Some("1".into())));
    let cas = |expected: &str, value: &str| Command::CompareAndSet {
        key: "k".into(),
        expected: Some(expected.into()),
        value: Some(value.into()),
    };
    let compared = |set, actual: &str| Response::Compared { set, actual: Some(actual.into()) };
    assert_eq!(client.must_write(cas("1", "3")).await, compared(false, "2"));
    assert_eq!(client.must_write(cas("2", "3")).await, compared(true, "2"));
    assert_eq!(
        client.must_write(Command::Delete { key: "k".into() }).await,
        Response::Previous(Some("3".into()))
    );
}

#[tokio::test]
async fn many_commands_in_one_call_are_answered_in_order() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.raft(cluster.leader().await);
    let commands = (0..5000).map(|n| put(format!("key {}", n % 7), n.to_string())).collect();
    let responses = leader.write_many(commands).await.unwrap();
    let expected: Vec<Response> =
        (0..5000_u64).map(|n| Response::Previous(n.checked_sub(7).map(|n| n.to_string().into()))).collect();
    assert_eq!(responses, expected);
    assert_eq!(leader.write_many(vec![]).await.unwrap(), vec![]);
}

#[tokio::test]
async fn many_writers_at_once_are_all_answered() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.raft(cluster.leader().await);
    let writers = (0..1000).map(|n| leader.write(put(format!("key {n}"), n.to_string())));
    for response in futures::future::join_all(writers).await {
        assert_eq!(response.unwrap(), Response::Previous(None));
    }
    cluster.wait_equal(&[1, 2, 3]).await;
    assert_eq!(cluster.reader(1).len(), 1000);
}

#[tokio::test]
async fn a_command_over_the_limit_is_refused_and_not_appended() {
    let cluster = Cluster::of_voters(3, options(|config| config.command_bytes_max = 1000)).await;
    let leader = cluster.raft(cluster.leader().await);
    cluster.wait_equal(&[1, 2, 3]).await;
    let before = leader.metrics().latest().last;

    let error = leader.write(put("key", vec![0; 2000])).await.unwrap_err();
    let expected = "the command has 2067 bytes, the limit command_bytes_max is 1000";
    assert_eq!(error.to_string(), expected);
    let error = leader.write_many(vec![put("small", "1"), put("key", vec![0; 2000])]).await.unwrap_err();
    assert_eq!(error, WriteError::TooLarge { bytes: 2067, limit: 1000 });

    leader.write(put("other", vec![0; 900])).await.unwrap();
    let last = cluster.wait_equal(&[1, 2, 3]).await;
    assert_eq!(last, before.index + 1, "only the small command is in the log");
    assert_eq!(cluster.reader(1).get("small"), None);
}

#[tokio::test]
async fn a_follower_refuses_writes_and_names_the_leader() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    let follower = crate::other_than(&cluster, leader);
    let error = cluster.raft(follower).write(put("k", "v")).await.unwrap_err();
    let WriteError::NotLeader { leader: Some(hint) } = &error else { panic!("{error}") };
    assert_eq!((hint.id, hint.node.clone()), (leader, Some(Cluster::address(leader))));
    assert_eq!(error.to_string(), format!("not the leader; the leader is node {leader}"));
}

#[tokio::test]
async fn a_cluster_is_initialized_once_and_by_one_of_its_voters() {
    let cluster = Cluster::new(ClusterOptions::default());
    let raft = cluster.start(1).await;
    let nodes = |ids: &[u64]| ids.iter().map(|id| (*id, Cluster::address(*id))).collect::<BTreeMap<_, _>>();
    assert_eq!(raft.initialize(nodes(&[])).await, Err(InitializeError::Empty));
    assert_eq!(raft.initialize(nodes(&[2, 3])).await, Err(InitializeError::NotAMember { id: 1 }));
    assert_eq!(raft.metrics().latest().last.index, 0, "a refusal leaves nothing behind");
    raft.initialize(nodes(&[1])).await.unwrap();
    cluster.leader().await;
    let again = raft.initialize(nodes(&[1])).await;
    assert!(matches!(again, Err(InitializeError::AlreadyInitialized { .. })), "{again:?}");
}

#[tokio::test]
async fn every_node_may_be_asked_to_initialize_the_same_cluster() {
    let cluster = Cluster::new(ClusterOptions::default());
    let nodes: BTreeMap<_, _> = (1..=3).map(|id| (id, Cluster::address(id))).collect();
    for id in 1..=3 {
        cluster.start(id).await;
    }
    for id in 1..=3 {
        // Whoever is late has heard of the cluster already.
        let result = cluster.raft(id).initialize(nodes.clone()).await;
        assert!(matches!(result, Ok(()) | Err(InitializeError::AlreadyInitialized { .. })), "{result:?}");
    }
    cluster.leader().await;
    cluster.client().must_write(put("k", "v")).await;
    cluster.wait_equal(&[1, 2, 3]).await;
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_at_start() {
    let cluster = Cluster::new(options(|config| config.heartbeat_interval_ms = 10_000));
    let error = cluster.try_start(1).await.expect_err("a heartbeat must be shorter than an election timeout");
    assert!(matches!(error, StartError::Config(_)));
    assert!(error.to_string().starts_with("heartbeat_interval_ms is 10000"), "{error}");
    assert!(error.to_string().contains("allowed: 1 to 150"), "{error}");
}

#[tokio::test]
async fn nodes_that_are_no_members_wait_to_be_told() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let stranger = cluster.start(9).await;
    cluster.client().must_write(put("k", "v")).await;
    cluster.wait_equal(&[1, 2, 3]).await;
    let metrics = stranger.metrics().latest();
    assert_eq!((metrics.term, metrics.role, metrics.last.index), (0, RoleName::Follower, 0));
    assert!(matches!(stranger.write(put("k", "v")).await, Err(WriteError::NotLeader { leader: None })));
}

#[tokio::test]
async fn metrics_show_what_happens() {
    let cluster = Cluster::of_voters(3, ClusterOptions::default()).await;
    let leader = cluster.leader().await;
    for n in 0..10 {
        cluster.raft(leader).write(put("k", n.to_string())).await.unwrap();
    }
    let last = cluster.wait_equal(&[1, 2, 3]).await;
    let metrics = eventually("peers that have everything", || {
        let metrics = cluster.metrics(leader);
        if metrics.peers.values().all(|peer| peer.matched == last) { Ok(metrics) } else { Err(metrics) }
    })
    .await;
    let peers: BTreeSet<u64> = metrics.peers.keys().copied().collect();
    assert_eq!(peers, (1..=3).filter(|id| *id != leader).collect());
    assert!(metrics.peers.values().all(|peer| peer.active && peer.lag_entries == 0), "{metrics:?}");
    assert_eq!(metrics.counters.commands_appended, 10);
    assert!(1 <= metrics.counters.elections_won);
    assert_eq!((metrics.stable, metrics.committed, metrics.applied.index), (last, last, last));
}
