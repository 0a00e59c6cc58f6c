//! Messages between nodes: limits, reconnection, addresses. The suite of conformance checks order and lanes.

mod common;

use std::time::Duration;

use common::*;
use openconsensus::RaftNetwork;
use openconsensus_network_grpc::{GrpcConfig, PeerErrorKind};

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_takes_nothing_bounds_the_memory_of_both_sides() {
    let window = 64 << 10;
    let limits = GrpcConfig {
        queue_bytes_max: 1 << 20,
        stream_window_bytes: window,
        message_bytes_max: 256 << 10,
        snapshot_chunk_bytes: 16 << 10,
        ..config()
    };
    let a = Node::start_with(1, limits.clone(), Recorder::default(), "127.0.0.1:0").await;
    let b = Node::start_with(2, limits.clone(), Recorder::stalled(), "127.0.0.1:0").await;
    a.send(&b, vec![append(1, 10)]);
    eventually("a connection", || a.network.peers()[&2].bulk_connected).await;
    let (messages, bytes) = (2000, 16 << 10);
    // What neither waits nor was dropped: a portion that is packed and one that is being sent, the window, and what
    // the receiver is reading and has in hand.
    let bound = 4 * limits.message_bytes_max + 2 * window;
    let in_flight = |sent: u64| {
        let peer = a.network.peers().remove(&2).unwrap();
        assert!(peer.queued_bytes <= limits.queue_bytes_max, "{peer:?}");
        (sent - peer.dropped_messages - peer.queued_messages) * bytes
    };
    for index in 2..=messages {
        a.send(&b, vec![append(index, bytes as usize)]);
        assert!(in_flight(index) <= bound, "{} bytes are in flight after {index} messages", in_flight(index));
        tokio::task::yield_now().await;
    }
    eventually("the window to fill", || window <= in_flight(messages)).await;
    assert!(in_flight(messages) <= bound, "{} bytes are in flight", in_flight(messages));

    b.recorder.bulk_gate.add_permits(messages as usize);
    let kept = messages - a.network.peers()[&2].dropped_messages;
    assert!(kept < messages, "nothing was dropped: the test sends too little");
    b.recorder
        .until("what was kept", |heard| heard.bulk.get(&1).is_some_and(|all| all.len() as u64 == kept))
        .await;
    assert!(b.recorder.heard().bulk[&1].is_sorted(), "what was kept has lost its order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_restarts_on_its_port_is_found_again() {
    let (a, b) = (Node::start(1).await, Node::start(2).await);
    let address = b.address.clone();
    a.heartbeat_until(2, &address, "the first heartbeat", || b.recorder.heard().urgent.contains_key(&1))
        .await;

    let Node { network, serving, .. } = b;
    serving.shutdown().await;
    drop(network);
    let unreachable = |count: usize| move |heard: &Heard| count <= heard.unreachable.len();
    // Several attempts fail, each is reported.
    a.heartbeat_until(2, &address, "attempts", || unreachable(4)(&a.recorder.heard())).await;
    assert!(a.recorder.heard().unreachable.iter().all(|peer| *peer == 2));
    let status = a.network.peers().remove(&2).unwrap();
    assert!(!status.urgent_connected);
    let error = status.last_error.unwrap();
    assert_eq!(error.kind, PeerErrorKind::Unreachable);
    assert!(error.text.contains(&address) && error.text.contains("refused"), "{error}");

    let b = Node::start_with(2, config(), Recorder::default(), &address).await;
    a.heartbeat_until(2, &address, "a heartbeat after the restart", || {
        b.recorder.heard().urgent.contains_key(&1)
    })
    .await;
    assert_eq!(a.network.last_error(2), None);
    assert!(a.network.peers()[&2].urgent_connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_back_off() {
    let nobody = free_address();
    let limits = GrpcConfig { backoff_ms_min: 100, backoff_ms_max: 60_000, ..config() };
    let a = Node::start_with(1, limits, Recorder::default(), "127.0.0.1:0").await;
    let start = tokio::time::Instant::now();
    // Half of 100, 200 and 400 ms at least lie between four attempts.
    a.heartbeat_until(2, &nobody, "four attempts", || 4 <= a.recorder.heard().unreachable.len()).await;
    assert!(Duration::from_millis(350) <= start.elapsed(), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_from_the_peer_ends_the_wait() {
    let address = free_address();
    let limits = GrpcConfig { backoff_ms_min: 1, backoff_ms_max: 600_000, ..config() };
    let a = Node::start_with(1, limits, Recorder::default(), "127.0.0.1:0").await;
    // 1, 2, 4 ... ms: after thirteen failures the wait is two seconds at least, after fifteen eight.
    a.heartbeat_until(2, &address, "many attempts", || 13 <= a.recorder.heard().unreachable.len()).await;
    let b = Node::start_with(2, config(), Recorder::default(), &address).await;
    b.send(&a, vec![heartbeat(1)]);
    let start = tokio::time::Instant::now();
    a.heartbeat_until(2, &address, "a heartbeat", || b.recorder.heard().urgent.contains_key(&1)).await;
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_node_answers_at_the_address_that_the_sender_advertises() {
    let (leader, fresh) = (Node::start(1).await, Node::start(2).await);
    // Nothing is known of node 1 yet.
    fresh.network.send(1, None, vec![heartbeat(1)]);
    eventually("the message to be dropped", || fresh.network.peers()[&1].dropped_messages == 1).await;
    let error = fresh.network.last_error(1).unwrap();
    assert!(error.text.contains("no address of node 1 is known"), "{error}");

    leader.send(&fresh, vec![heartbeat(1)]);
    fresh.recorder.until("a heartbeat", |heard| heard.urgent.contains_key(&1)).await;
    fresh.network.send(1, None, vec![heartbeat(2)]);
    leader.recorder.until("the answer", |heard| heard.urgent.get(&2).is_some_and(|all| *all == [2])).await;
    assert_eq!(fresh.network.peers()[&1].address.as_ref(), Some(&leader.address));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_keeps_to_the_limit_of_the_receiver() {
    let small = GrpcConfig { message_bytes_max: 4096, snapshot_chunk_bytes: 512, ..config() };
    let a = Node::start(1).await;
    let b = Node::start_with(2, small, Recorder::default(), "127.0.0.1:0").await;
    // Together far above the limit of node 2, each below it but one.
    let messages = (1..=50).map(|index| append(index, if index == 25 { 5000 } else { 1000 })).collect();
    a.send(&b, messages);
    b.recorder.until("what fits", |heard| heard.bulk.get(&1).is_some_and(|all| all.len() == 49)).await;
    assert!(b.recorder.heard().bulk[&1].iter().copied().eq((1..=50).filter(|index| *index != 25)));
    let status = a.network.peers().remove(&2).unwrap();
    assert_eq!(status.dropped_messages, 1);
    let error = status.last_error.unwrap();
    assert_eq!(error.kind, PeerErrorKind::Unsendable);
    assert!(error.text.contains("message_bytes_max is 4096"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_stops_with_the_last_handle() {
    let (a, b) = (Node::start(1).await, Node::start(2).await);
    a.send(&b, vec![heartbeat(1), append(1, 10)]);
    b.recorder.until("both", |heard| heard.urgent.contains_key(&1) && heard.bulk.contains_key(&1)).await;
    let Node { network, serving, recorder, .. } = a;
    let gate = recorder.bulk_gate.clone();
    drop(recorder);
    // The recorder stands for the node: the server holds it, the network must not.
    serving.shutdown().await;
    eventually("the node to be dropped", || std::sync::Arc::strong_count(&gate) == 1).await;
    network.send(2, Some(&b.address), vec![heartbeat(2)]);
    b.recorder.until("the network still sends", |heard| heard.urgent[&1] == [1, 2]).await;
    drop(network);
    // Its calls end: the peer can tell, for it refuses to end before them.
    let start = tokio::time::Instant::now();
    b.serving.shutdown().await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_accepts_and_says_nothing_is_given_up() {
    // The system accepts connections for a listener that does not.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let limits = GrpcConfig { connect_timeout_ms: 50, ..config() };
    let a = Node::start_with(1, limits, Recorder::default(), "127.0.0.1:0").await;
    a.heartbeat_until(2, &address, "attempts", || 2 <= a.recorder.heard().unreachable.len()).await;
    let error = a.network.last_error(2).unwrap();
    assert_eq!(error.kind, PeerErrorKind::Unreachable);
    assert!(error.text.contains("connect_timeout_ms, 50 ms"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_falls_silent_is_replaced() {
    let limits = GrpcConfig { keepalive_interval_ms: 50, keepalive_timeout_ms: 200, ..config() };
    let a = Node::start_with(1, limits.clone(), Recorder::default(), "127.0.0.1:0").await;
    let b = Node::start_with(2, limits, Recorder::default(), "127.0.0.1:0").await;
    let link = Link::to(&b.address).await;
    let rounds = || b.recorder.heard().urgent.get(&1).map_or(0, Vec::len);
    a.heartbeat_until(2, &link.address, "the first heartbeats", || 3 <= rounds()).await;
    // What is on the way is swallowed, and nobody is told.
    link.freeze();
    let is_broken = || {
        a.network
            .last_error(2)
            .is_some_and(|error| matches!(error.kind, PeerErrorKind::Broken | PeerErrorKind::Unreachable))
    };
    a.heartbeat_until(2, &link.address, "the loss to be found", is_broken).await;
    assert!(a.recorder.heard().unreachable.contains(&2));
    let before = rounds();
    link.thaw();
    a.heartbeat_until(2, &link.address, "heartbeats again", || before + 3 <= rounds()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_forgotten_when_the_peer_is_back_though_nothing_is_sent() {
    let limits = GrpcConfig { keepalive_interval_ms: 50, ..config() };
    let a = Node::start_with(1, limits, Recorder::default(), "127.0.0.1:0").await;
    let address = free_address();
    a.network.send(2, Some(&address), vec![heartbeat(1)]);
    eventually("the failure", || a.network.last_error(2).is_some()).await;
    let b = Node::start_with(2, config(), Recorder::default(), &address).await;
    eventually("a connection", || a.network.last_error(2).is_none()).await;
    assert!(a.network.peers()[&2].urgent_connected);
    assert!(b.recorder.heard().urgent.is_empty());
}
