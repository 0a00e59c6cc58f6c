//! Known bugs of writes that are sent twice.

use openconsensus::{Config, WriteError};
use openconsensus_memstore::kv::{Command, Response};
use openconsensus_tests::{Cluster, ClusterOptions, StateKind, eventually, put};

/// A write that knows by the state itself whether it was carried out: the account goes from one balance to the next.
fn transfer(from: u64, to: u64) -> Command {
    Command::CompareAndSet {
        key: "account".to_owned(),
        expected: (from > 0).then(|| from.to_string().into_bytes()),
        value: Some(to.to_string().into_bytes()),
    }
}

fn is_repeated(response: &Response, balance: u64) -> bool {
    *response == Response::Compared { set: false, actual: Some(balance.to_string().into_bytes()) }
}

fn options(state: StateKind) -> ClusterOptions {
    let config = Config {
        snapshot_after_entries: None,
        log_keep_entries: 0,
        log_hold_entries_max: 0,
        ..ClusterOptions::config()
    };
    ClusterOptions { config, state, ..ClusterOptions::default() }
}

/// curvine#676, etcd-io/etcd#18424, rabbitmq/ra#145, RedisLabs/redisraft#568 and #659, rabbitmq/rabbitmq-server#14136.
///
/// What was known of requests that had been carried out was kept by the leader, and not in the replicated state or not in its
/// snapshots. The reply to a write was lost with the leader, the client sent it again, and it was carried out twice; or a node
/// that had been restored from a snapshot carried it out and the others did not. Sessions are the application's here: what
/// it keeps of them in its state goes through the log in one order, and a snapshot is the whole state.
#[tokio::test]
async fn a_write_that_is_sent_again_to_the_next_leader_is_carried_out_once() {
    for state in [StateKind::Volatile, StateKind::Persistent] {
        let cluster = Cluster::of_voters(3, options(state)).await;
        let first = cluster.leader().await;
        // One node will know of it by a snapshot alone.
        let restored = (1..=3).find(|id| *id != first).expect("there are three");
        cluster.crash(restored).await;
        cluster.raft(first).write(transfer(0, 10)).await.expect("two of three write");
        let lost = cluster.raft(first).write(transfer(10, 15)).await;
        assert!(lost.is_ok(), "but the reply is lost with the leader: {lost:?}");
        for id in cluster.running() {
            let meta = cluster.raft(id).snapshot().await.expect("there is something to snapshot");
            eventually("the log to be purged", || {
                let metrics = cluster.metrics(id);
                if meta.last <= metrics.purged { Ok(()) } else { Err(metrics) }
            })
            .await;
        }
        cluster.start(restored).await;
        cluster.wait_equal(&[1, 2, 3]).await;
        assert_eq!(cluster.metrics(restored).counters.snapshots_installed, 1);
        cluster.crash(first).await;
        let mut client = cluster.client();
        assert!(is_repeated(&client.must_write(transfer(10, 15)).await, 15), "at whoever leads now");
        let others: Vec<u64> = cluster.running();
        for id in &others {
            // Each of them decides it in the same way, the one that was restored too.
            loop {
                let leader = cluster.leader_among(&others).await;
                if leader == *id || cluster.raft(leader).transfer_leadership(Some(*id)).await.is_ok() {
                    break;
                }
            }
            let leader = cluster.leader_among(&others).await;
            match cluster.raft(leader).write(transfer(10, 15)).await {
                Ok(response) => assert!(is_repeated(&response, 15), "{response:?}"),
                Err(error) => assert!(matches!(error, WriteError::NotLeader { .. }), "{error}"),
            }
        }
        cluster.start(first).await;
        cluster.wait_equal(&[1, 2, 3]).await;
        assert_eq!(cluster.reader(first).get("account"), Some(b"15".to_vec()));
    }
}

/// RedisLabs/redisraft#23, tikv/tikv (its rules for stale commands), fluree/db#1839.
///
/// A node passed a write on, lost the reply and sent it again by itself: it was applied twice. Here nobody sends a write again
/// but the client: one whose outcome is not known is answered with that, and stands in the log once.
#[tokio::test]
async fn a_write_of_unknown_outcome_is_not_repeated_by_anybody() {
    let mut options = ClusterOptions::default();
    options.config.write_outcome_timeout_ms = 0;
    let cluster = Cluster::of_voters(3, options).await;
    cluster.client().must_write(put("before", "1")).await;
    for round in 0..3 {
        let leader = cluster.leader().await;
        let raft = cluster.raft(leader);
        let key = format!("round {round}");
        let written = tokio::spawn(async move { raft.write(put(key, "1")).await });
        cluster.network().isolate(leader);
        let outcome = written.await.expect("the task ends");
        cluster.network().heal();
        let last = cluster.wait_equal(&[1, 2, 3]).await;
        let count = cluster
            .log(leader)
            .entries(1..last + 1)
            .iter()
            .filter(|entry| format!("{:?}", entry.payload).contains(&format!("round {round}")))
            .count();
        match outcome {
            Ok(_) => assert_eq!(count, 1),
            Err(WriteError::Unknown { .. }) => assert!(count <= 1, "{count} times"),
            Err(WriteError::Dropped | WriteError::NotLeader { .. }) => assert_eq!(count, 0),
            Err(error) => panic!("{error}"),
        }
    }
}
