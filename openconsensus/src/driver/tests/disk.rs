//! A disk that hangs or fails, under a leader whose voters are well.

use super::*;

fn told_to_campaign(node: &Node) -> Vec<u64> {
    node.network.with(|state| {
        let told = state.sent.iter().filter(|(_, message)| matches!(message.body, Body::TimeoutNow));
        told.map(|(peer, _)| *peer).collect()
    })
}

/// The engine named a successor when its storage had failed, and the driver dropped the message with all others: nobody
/// was told, and the others waited for an election timeout.
#[test]
fn a_leader_whose_disk_fails_tells_its_successor_before_it_stops() {
    let node = Node::leader_of_three(Config::default());
    let metrics = node.metrics();
    let next = metrics.last.index + 1;
    node.log.fail_at(&format!("append {next}..{} commit {}", next + 1, metrics.committed));
    assert!(node.write(1).is_err());
    assert_eq!(told_to_campaign(&node), [2]);
    assert!(matches!(node.raft.campaign(), Err(Fatal::LogStorage(_))));
}

#[test]
fn a_leader_whose_disk_hangs_tells_its_successor_and_recovers_when_the_disk_does() {
    let config = Config { write_stall_timeout_ms: 100, ..Config::default() };
    let node = Node::leader_of_three(config);
    node.raft.pause_heartbeats(true).unwrap();
    node.log.with(|state| state.hang_at_append = true);
    let writes = node.pending_writes(1);
    node.runtime.advance(Duration::from_millis(99));
    node.runtime.run();
    assert_eq!((node.raft.metrics().latest().role, told_to_campaign(&node)), (RoleName::Leader, vec![]));
    node.runtime.advance(Duration::from_millis(1));
    node.runtime.run();
    assert_eq!(told_to_campaign(&node), [2]);
    let metrics = node.metrics();
    assert!(metrics.role == RoleName::Follower && metrics.disk_stalled, "{metrics:?}");
    // It neither campaigns nor takes over.
    node.raft.campaign().unwrap();
    node.hear(2, metrics.term, Body::TimeoutNow);
    assert_eq!(node.metrics().term, metrics.term);
    node.log.release();
    node.runtime.run();
    assert!(!node.metrics().disk_stalled);
    drop(writes);
    node.raft.campaign().unwrap();
    assert_eq!(node.metrics().term, metrics.term + 1);
}
