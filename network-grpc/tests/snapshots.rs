//! Snapshots between nodes: broken off, corrupted, held back. The suite of conformance checks whole and refused ones.

mod common;

use std::io;

use bytes::Bytes;
use common::*;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt, stream};
use openconsensus::{NetworkError, RaftNetwork, SnapshotStream, snapshot_stream};
use openconsensus_network_grpc::GrpcConfig;

/// `size` bytes that are no pattern, in chunks of sizes up to a mebibyte.
fn image(size: usize) -> (Vec<u8>, SnapshotStream) {
    let mut rng = fastrand::Rng::with_seed(7);
    let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(size).collect();
    let mut rest = Bytes::from(bytes.clone());
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        chunks.push(Ok(rest.split_to(rng.usize(1..=1 << 20).min(rest.len()))));
    }
    (bytes, snapshot_stream(stream::iter(chunks)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_the_leader_cannot_read_is_aborted_on_both_sides() {
    let (a, b) = (Node::start(1).await, Node::start(2).await);
    let (_, data) = image(3 << 20);
    let data = data.take(2).chain(stream::iter([Err(io::Error::other("the disk is gone"))]));
    let result =
        a.network.send_snapshot(2, &b.address, install_snapshot(1, None), snapshot_stream(data)).await;
    let Err(NetworkError::Aborted(error)) = result else { panic!("{result:?}") };
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    b.recorder.until("the broken snapshot", |heard| heard.snapshots.len() == 1).await;
    let heard = b.recorder.heard();
    let error = heard.snapshots[0].as_ref().unwrap_err();
    assert!(error.contains("the disk is gone"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_another_length_than_announced_is_refused() {
    let (a, b) = (Node::start(1).await, Node::start(2).await);
    for (announced, text) in [(2000, "announced with 2000 bytes"), (4000, "4000 were announced")] {
        let (_, data) = image(3000);
        let request = install_snapshot(1, Some(announced));
        let result = a.network.send_snapshot(2, &b.address, request, data).await;
        let Err(NetworkError::Aborted(error)) = result else { panic!("{result:?}") };
        assert!(error.to_string().contains(text), "{error}");
    }
    assert!(b.recorder.heard().snapshots.iter().all(Result::is_err));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_transfer_ends_the_stream_of_the_receiver_in_an_error() {
    // The receiver reads everything that comes, the sender has no more; and: the receiver has stopped reading.
    for recorder in [Recorder::default(), Recorder::stalled()] {
        let a = Node::start(1).await;
        let b = Node::start_with(2, config(), recorder, "127.0.0.1:0").await;
        let (mut source, data) = mpsc::channel(0);
        let transfer =
            a.network.send_snapshot(2, &b.address, install_snapshot(1, None), snapshot_stream(data));
        let transfer = tokio::spawn(transfer);
        // All of it is more than a stalled receiver lets in; so the last one may wait.
        for _ in 0..32 {
            let chunk = Ok(Bytes::from(vec![7; 1 << 20]));
            let sent = tokio::time::timeout(std::time::Duration::from_millis(200), source.send(chunk));
            if sent.await.is_err() {
                break;
            }
        }
        transfer.abort();
        b.recorder.chunk_gate.add_permits(1000);
        b.recorder.until("the broken snapshot", |heard| heard.snapshots.len() == 1).await;
        let heard = b.recorder.heard();
        let error = heard.snapshots[0].as_ref().unwrap_err();
        assert!(error.contains("broke off"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_takes_nothing_holds_the_sender_back() {
    let window = 64 << 10;
    let limits = GrpcConfig { stream_window_bytes: window, snapshot_chunk_bytes: 16 << 10, ..config() };
    let a = Node::start_with(1, limits.clone(), Recorder::default(), "127.0.0.1:0").await;
    let b = Node::start_with(2, limits, Recorder::stalled(), "127.0.0.1:0").await;
    let (count, taken) = (1000, std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0)));
    let counter = taken.clone();
    let chunk = move |_| {
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(Bytes::from(vec![7; 16 << 10]))
    };
    let data = snapshot_stream(stream::iter(0..count).map(chunk));
    let transfer = tokio::spawn(a.network.send_snapshot(2, &b.address, install_snapshot(1, None), data));
    let taken = || taken.load(std::sync::atomic::Ordering::SeqCst) * (16 << 10);
    eventually("the window to fill", || window <= taken()).await;
    for chunks in 1..20 {
        b.recorder.chunk_gate.add_permits(1);
        eventually("the next chunk", || window + chunks * (16 << 10) <= taken()).await;
        // Beside the window, a few chunks are being packed and unpacked.
        let bound = 2 * window + (chunks + 8) * (16 << 10);
        assert!(taken() <= bound, "{} bytes were taken, at most {bound} are allowed", taken());
    }
    b.recorder.chunk_gate.add_permits(2000);
    assert_eq!(transfer.await.unwrap().unwrap().installed, Some(50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_away_or_another_one_is_unreachable() {
    let (a, c) = (Node::start(1).await, Node::start(3).await);
    let nobody = free_address();
    for (address, text) in [(&nobody, "refused"), (&c.address, "wants to reach node 2, this is node 3")] {
        let (_, data) = image(1 << 20);
        let result = a.network.send_snapshot(2, address, install_snapshot(1, None), data).await;
        let Err(NetworkError::Unreachable(error)) = result else { panic!("{result:?}") };
        assert!(error.to_string().contains(text), "{error}");
        assert!(error.to_string().contains(address), "{error}");
    }
    assert!(c.recorder.heard().snapshots.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_shuts_down_aborts_the_transfer() {
    let a = Node::start(1).await;
    let b = Node::start(2).await;
    let (mut source, data) = mpsc::channel(0);
    let transfer = a.network.send_snapshot(2, &b.address, install_snapshot(1, None), snapshot_stream(data));
    let transfer = tokio::spawn(transfer);
    source.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
    b.recorder.until("the first chunk", |heard| heard.snapshot_bytes == 5).await;
    let Node { serving, recorder, .. } = b;
    serving.shutdown().await;
    let result = tokio::time::timeout(DEADLINE, transfer).await.unwrap().unwrap();
    assert!(matches!(result, Err(NetworkError::Aborted(_))), "{result:?}");
    recorder.until("the broken snapshot", |heard| heard.snapshots.len() == 1).await;
    assert!(recorder.heard().snapshots[0].is_err());
}
