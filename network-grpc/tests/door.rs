//! Who is let in, and what bytes from outside can do: a client that speaks the schema itself, and says what no node
//! would.

mod common;

use bytes::Bytes;
use common::*;
use futures::{StreamExt, stream};
use openconsensus_network_grpc::proto::raft_client::RaftClient;
use openconsensus_network_grpc::proto::{
    Append, Batch, Hello, InstallSnapshotRequest, Lane, MessagesRequest, MessagesStart, RaftMessage,
    SnapshotEnd, SnapshotMeta, SnapshotStart, install_snapshot_request, messages_request, raft_message,
};
use openconsensus_network_grpc::{
    BindError, EntryCodec, GrpcConfig, GrpcNetwork, GrpcServer, NewNetworkError, PeerErrorKind, PostcardCodec,
};
use prost::Message as _;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// What node 1 says first to node 2.
fn hello() -> Hello {
    let mut sender = Vec::new();
    <PostcardCodec as EntryCodec<Blob>>::encode_node_id(&1, &mut sender).unwrap();
    Hello {
        wire_version: 2,
        cluster: "test".into(),
        codec: <PostcardCodec as EntryCodec<Blob>>::NAME.into(),
        sender_id: "1".into(),
        recipient_id: "2".into(),
        sender: sender.into(),
        sender_address: "127.0.0.1:9".into(),
    }
}

fn start(hello: Hello) -> MessagesRequest {
    let start = MessagesStart { hello: Some(hello), lane: Lane::Bulk.into() };
    MessagesRequest { kind: Some(messages_request::Kind::Start(start)) }
}

fn batch(messages: Vec<RaftMessage>) -> MessagesRequest {
    MessagesRequest { kind: Some(messages_request::Kind::Batch(Batch { messages })) }
}

async fn client(node: &Node) -> RaftClient<Channel> {
    RaftClient::connect(format!("http://{}", node.address)).await.unwrap()
}

/// Sends requests and returns how the call ends.
async fn end_of_call(node: &Node, requests: Vec<MessagesRequest>) -> Result<(), Status> {
    let responses = client(node).await.messages(stream::iter(requests)).await?;
    let mut responses = responses.into_inner();
    while responses.message().await?.is_some() {}
    Ok(())
}

async fn end_of_snapshot(node: &Node, kinds: Vec<install_snapshot_request::Kind>) -> Status {
    let request = |kind| InstallSnapshotRequest { kind: Some(kind) };
    client(node).await.install_snapshot(stream::iter(kinds).map(request)).await.unwrap_err()
}

fn snapshot_start(leader: u64) -> install_snapshot_request::Kind {
    let meta = SnapshotMeta::new::<_, PostcardCodec>(&install_snapshot(leader, None)).unwrap();
    let start = SnapshotStart { hello: Some(hello()), meta: Some(meta) };
    install_snapshot_request::Kind::Start(start)
}

fn encoded(message: &openconsensus::Message<Blob>) -> RaftMessage {
    RaftMessage::new::<_, PostcardCodec>(message).unwrap()
}

/// An append whose entries are these bytes.
fn records(bytes: &[u8]) -> RaftMessage {
    let entries = vec![Bytes::copy_from_slice(bytes)];
    let append = Append { entries, ..Append::default() };
    RaftMessage { term: 1, body: Some(raft_message::Body::Append(append)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_does_not_fit_is_refused_with_both_values() {
    let node = Node::start(2).await;
    type Spoil = fn(&mut Hello);
    let wrong: [(Spoil, [&str; 2]); 4] = [
        (|hello| hello.wire_version = 9, ["wire version 9", "wire version 2"]),
        (|hello| hello.cluster = "other".into(), ["\"other\"", "\"test\""]),
        (|hello| hello.recipient_id = "3".into(), ["reach node 3", "this is node 2"]),
        (|hello| hello.codec = "json".into(), ["\"json\"", "\"postcard/1\""]),
    ];
    for (spoil, names) in wrong {
        let mut hello = hello();
        spoil(&mut hello);
        let status = end_of_call(&node, vec![start(hello), batch(vec![encoded(&append(1, 10))])]).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        for name in names {
            assert!(status.message().contains(name), "{name} is missing in: {}", status.message());
        }
    }
    assert!(node.recorder.heard().bulk.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_learns_why_it_is_refused() {
    let (a, c) = (Node::start(1).await, Node::start(3).await);
    let other = GrpcConfig { cluster: "other".into(), ..config() };
    let d = Node::start_with(4, other, Recorder::default(), "127.0.0.1:0").await;
    for (id, node, names) in [
        (2, &c, ["wants to reach node 2", "this is node 3"]),
        (4, &d, ["cluster \"test\"", "cluster \"other\""]),
    ] {
        a.heartbeat_until(id, &node.address, "a refusal", || a.network.last_error(id).is_some()).await;
        let error = a.network.last_error(id).unwrap();
        assert_eq!(error.kind, PeerErrorKind::Refused);
        for name in names.into_iter().chain([&*node.address]) {
            assert!(error.text.contains(name), "{name} is missing in: {error}");
        }
        assert!(a.recorder.heard().unreachable.contains(&id));
        assert!(node.recorder.heard().urgent.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_node_would_say_ends_the_call() {
    let node = Node::start(2).await;
    let mut out_of_row = append(7, 10);
    if let openconsensus::Body::Append { prev, .. } = &mut out_of_row.body {
        prev.term = out_of_row.term + 1;
    }
    for (requests, text) in [
        (vec![batch(vec![])], "must introduce its sender"),
        (vec![MessagesRequest { kind: None }], "must introduce its sender"),
        (vec![start(hello()), start(hello())], "only batches may follow"),
        (vec![start(hello()), batch(vec![records(b"\xff\xff\xff")])], "cannot be decoded"),
        (vec![start(hello()), batch(vec![encoded(&out_of_row)])], "of a later term"),
    ] {
        let status = end_of_call(&node, requests).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(text), "{text} is missing in: {}", status.message());
    }
    assert!(node.recorder.heard().bulk.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversize_request_is_refused_with_the_limit() {
    let small = GrpcConfig { message_bytes_max: 4096, snapshot_chunk_bytes: 512, ..config() };
    let node = Node::start_with(2, small, Recorder::default(), "127.0.0.1:0").await;
    let status = end_of_call(&node, vec![start(hello()), batch(vec![encoded(&append(1, 5000))])]).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("message_bytes_max of node 2 is 4096"), "{}", status.message());
    assert!(node.recorder.heard().bulk.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_valid_frames_never_panics_and_the_node_goes_on() {
    let node = Node::start(2).await;
    let valid: Vec<RaftMessage> = (1..=3).map(|index| encoded(&append(index, 40))).collect();
    let mut rng = fastrand::Rng::with_seed(0xbad);
    let mut refused = 0;
    for _ in 0..300 {
        let mut messages = valid.clone();
        let Some(raft_message::Body::Append(append)) = &mut messages[rng.usize(0..3)].body else {
            panic!("only appends are sent")
        };
        let mut bytes = append.entries[0].to_vec();
        for _ in 0..rng.usize(1..5) {
            let place = rng.usize(0..bytes.len());
            bytes[place] = if rng.bool() { 0xff } else { rng.u8(..) };
        }
        if rng.u8(..) < 50 {
            bytes.truncate(rng.usize(1..bytes.len()));
        }
        append.entries[0] = bytes.into();
        match end_of_call(&node, vec![start(hello()), batch(messages)]).await {
            Ok(()) => {}
            Err(status) => {
                assert_eq!(status.code(), Code::InvalidArgument, "{status}");
                refused += 1;
            }
        }
    }
    assert!(100 < refused, "only {refused} of 300 were refused");
    let before = node.recorder.heard().bulk.get(&1).map_or(0, Vec::len);
    end_of_call(&node, vec![start(hello()), batch(valid)]).await.unwrap();
    assert_eq!(node.recorder.heard().bulk[&1].len(), before + 3);
}

#[test]
fn mutated_requests_never_panic() {
    let valid = [
        start(hello()).encode_to_vec(),
        batch((1..=3).map(|index| encoded(&append(index, 40))).collect()).encode_to_vec(),
        InstallSnapshotRequest { kind: Some(snapshot_start(1)) }.encode_to_vec(),
    ];
    let mut rng = fastrand::Rng::with_seed(0xbad);
    let mut refused = 0;
    for _ in 0..30_000 {
        let mut bytes = valid[rng.usize(0..3)].clone();
        for _ in 0..rng.usize(1..5) {
            let place = rng.usize(0..bytes.len());
            bytes[place] = if rng.bool() { 0xff } else { rng.u8(..) };
        }
        let messages = MessagesRequest::decode(&*bytes);
        let snapshot = InstallSnapshotRequest::decode(&*bytes);
        if messages.is_err() && snapshot.is_err() {
            refused += 1;
        }
    }
    assert!(5_000 < refused, "only {refused} of 30000 were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_was_corrupted_or_cut_is_refused() {
    use install_snapshot_request::Kind;
    let node = Node::start(2).await;
    let chunk = || Kind::Chunk(Bytes::from_static(b"0123456789"));
    let right = crc32fast::hash(b"0123456789");
    for (kinds, code, text) in [
        (
            vec![snapshot_start(1), chunk(), Kind::End(SnapshotEnd { bytes: 10, crc32: right ^ 1 })],
            Code::DataLoss,
            "checksum",
        ),
        (
            vec![snapshot_start(1), chunk(), Kind::End(SnapshotEnd { bytes: 11, crc32: right })],
            Code::DataLoss,
            "has 10 bytes, the sender sent 11",
        ),
        (vec![snapshot_start(1), chunk()], Code::Aborted, "broke off after 10 bytes"),
        (vec![snapshot_start(1), chunk(), snapshot_start(1)], Code::InvalidArgument, "may follow"),
        (vec![snapshot_start(1), Kind::Abort("no more".into())], Code::Aborted, "no more"),
    ] {
        let status = end_of_snapshot(&node, kinds).await;
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(text), "{text} is missing in: {}", status.message());
    }
    let heard = node.recorder.heard();
    assert_eq!(heard.snapshots.len(), 5);
    assert!(heard.snapshots.iter().all(Result::is_err));
    drop(heard);

    let status = end_of_snapshot(&node, vec![snapshot_start(3)]).await;
    assert!(status.message().contains("node 1 sends a snapshot in the name of node 3"), "{status}");
    let status = end_of_snapshot(&node, vec![chunk()]).await;
    assert!(status.message().contains("must introduce its sender"), "{status}");
    assert_eq!(node.recorder.heard().snapshots.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_says_nothing_is_not_waited_for() {
    let limits = GrpcConfig { connect_timeout_ms: 50, ..config() };
    let node = Node::start_with(2, limits, Recorder::default(), "127.0.0.1:0").await;
    let status = client(&node).await.messages(stream::pending()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("50 ms"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_occupied_port_is_named() {
    let first = GrpcServer::bind("127.0.0.1:0").await.unwrap();
    let address = first.local_addr().to_string();
    let error = GrpcServer::bind(&address).await.unwrap_err();
    assert!(matches!(error, BindError::Occupied { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {address}: the port is in use; stop what uses it, or choose another port")
    );
    let error = GrpcServer::bind("192.0.2.1:7000").await.unwrap_err();
    assert!(error.to_string().starts_with("cannot listen on 192.0.2.1:7000: "), "{error}");
}

#[tokio::test]
async fn a_network_with_wrong_values_is_refused() {
    let wrong = GrpcConfig { queue_messages_max: 0, ..config() };
    let error = GrpcNetwork::<Blob>::new(wrong, 1, "127.0.0.1:7000").unwrap_err();
    assert!(matches!(&error, NewNetworkError::Config(error) if error.name == "queue_messages_max"));
    let error = GrpcNetwork::<Blob>::new(config(), 1, "127.0.0.1").unwrap_err();
    assert!(matches!(error, NewNetworkError::Address(_)));
}

#[test]
fn a_network_outside_a_runtime_is_refused() {
    let error = GrpcNetwork::<Blob>::new(config(), 1, "127.0.0.1:7000").unwrap_err();
    assert_eq!(error, NewNetworkError::NoRuntime);
}
