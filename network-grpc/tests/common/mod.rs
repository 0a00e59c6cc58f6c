//! Nodes that have a real network and server, and a recorder in the place of Raft.

#![allow(dead_code, reason = "every test file uses its own part")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use openconsensus::{
    Body, Entry, Fatal, InstallSnapshot, InstallSnapshotResponse, LogId, MembershipAt, Message, Payload,
    RaftNetwork, SnapshotMeta, SnapshotStream, TypeConfig,
};
use openconsensus_network_grpc::{GrpcConfig, GrpcNetwork, GrpcServer, Receiver, Serving};
use tokio::sync::{Semaphore, watch};

/// Commands are bytes, nodes are addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Blob;

impl TypeConfig for Blob {
    type Command = Bytes;
    type Response = ();
    type NodeId = u64;
    type Node = String;

    fn command_bytes(command: &Bytes) -> u64 {
        command.len() as u64
    }
}

/// How long a condition may take to become true on a machine that is busy with other things.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Short times, so that a test sees many attempts.
pub(crate) fn config() -> GrpcConfig {
    GrpcConfig { backoff_ms_max: 200, ..GrpcConfig::new("test") }
}

/// What a node has heard.
#[derive(Debug)]
pub(crate) struct Heard {
    /// What arrived of each peer and lane: rounds of heartbeats, or indexes of appended entries.
    pub(crate) urgent: BTreeMap<u64, Vec<u64>>,
    pub(crate) bulk: BTreeMap<u64, Vec<u64>>,
    /// The bytes of entries that arrived.
    pub(crate) bulk_bytes: u64,
    pub(crate) unreachable: Vec<u64>,
    /// The bytes of snapshots that arrived, also of broken ones.
    pub(crate) snapshot_bytes: u64,
    /// How each snapshot ended: its bytes, or the error.
    pub(crate) snapshots: Vec<Result<Vec<u8>, String>>,
}

/// Stands in the place of Raft, and records.
#[derive(Clone)]
pub(crate) struct Recorder {
    heard: Arc<watch::Sender<Heard>>,
    /// Appends are taken while there are permits.
    pub(crate) bulk_gate: Arc<Semaphore>,
    /// Chunks of snapshots are taken while there are permits.
    pub(crate) chunk_gate: Arc<Semaphore>,
    /// What to answer to a snapshot without reading it.
    pub(crate) refuse_snapshots: Arc<Mutex<bool>>,
}

impl Default for Recorder {
    fn default() -> Self {
        let heard = Heard {
            urgent: BTreeMap::new(),
            bulk: BTreeMap::new(),
            bulk_bytes: 0,
            unreachable: Vec::new(),
            snapshot_bytes: 0,
            snapshots: Vec::new(),
        };
        Self {
            heard: Arc::new(watch::Sender::new(heard)),
            bulk_gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS / 2)),
            chunk_gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS / 2)),
            refuse_snapshots: Arc::default(),
        }
    }
}

impl Recorder {
    /// One that takes no append and no chunk until it is given permits.
    pub(crate) fn stalled() -> Self {
        Self {
            bulk_gate: Arc::new(Semaphore::new(0)),
            chunk_gate: Arc::new(Semaphore::new(0)),
            ..Self::default()
        }
    }

    pub(crate) fn heard(&self) -> watch::Ref<'_, Heard> {
        self.heard.borrow()
    }

    /// Waits until what was heard fulfils a condition.
    pub(crate) async fn until(&self, what: &str, is_true: impl FnMut(&Heard) -> bool) {
        let mut heard = self.heard.subscribe();
        let result = tokio::time::timeout(DEADLINE, heard.wait_for(is_true)).await.map(|_| ());
        result.unwrap_or_else(|_| panic!("not in time: {what}"));
    }
}

#[async_trait]
impl Receiver<Blob> for Recorder {
    async fn receive(&self, from: u64, messages: Vec<Message<Blob>>) -> Result<(), Fatal> {
        for message in messages {
            if message.is_bulk() {
                self.bulk_gate.acquire().await.unwrap().forget();
            }
            self.heard.send_modify(|heard| match &message.body {
                Body::Append { entries, .. } => {
                    heard.bulk.entry(from).or_default().push(entries.first().unwrap().index);
                    heard.bulk_bytes += entries.size_bytes();
                }
                Body::Heartbeat { round, .. } => heard.urgent.entry(from).or_default().push(*round),
                other => panic!("not sent by these tests: {other:?}"),
            });
        }
        Ok(())
    }

    async fn receive_snapshot(
        &self,
        request: InstallSnapshot<Blob>,
        mut data: SnapshotStream,
    ) -> Result<InstallSnapshotResponse, Fatal> {
        if *self.refuse_snapshots.lock().unwrap() {
            return Ok(InstallSnapshotResponse { term: 9, installed: None });
        }
        let heard = self.heard.clone();
        let gate = self.chunk_gate.clone();
        // A task of its own, as a driver would have it: it must learn of a broken transfer from the stream alone.
        let task = tokio::spawn(async move {
            let mut bytes = Vec::new();
            let result = loop {
                gate.acquire().await.unwrap().forget();
                match data.next().await {
                    Some(Ok(chunk)) => {
                        bytes.extend_from_slice(&chunk);
                        heard.send_modify(|heard| heard.snapshot_bytes += chunk.len() as u64);
                    }
                    Some(Err(error)) => break Err(error.to_string()),
                    None => break Ok(bytes),
                }
            };
            let installed = result.is_ok();
            heard.send_modify(|heard| heard.snapshots.push(result));
            installed
        });
        let installed = task.await.unwrap().then_some(request.meta.last.index);
        Ok(InstallSnapshotResponse { term: request.term, installed })
    }

    fn report_unreachable(&self, peer: u64) {
        self.heard.send_modify(|heard| heard.unreachable.push(peer));
    }
}

/// A node that is served.
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) address: String,
    pub(crate) network: GrpcNetwork<Blob>,
    pub(crate) recorder: Recorder,
    pub(crate) serving: Serving,
}

impl Node {
    pub(crate) async fn start(id: u64) -> Self {
        Self::start_with(id, config(), Recorder::default(), "127.0.0.1:0").await
    }

    pub(crate) async fn start_with(id: u64, config: GrpcConfig, recorder: Recorder, listen: &str) -> Self {
        let server = GrpcServer::bind(listen).await.unwrap();
        let address = server.local_addr().to_string();
        let network = GrpcNetwork::<Blob>::new(config, id, address.clone()).unwrap();
        let serving = server.serve(network.service(recorder.clone()), None);
        Self { id, address, network, recorder, serving }
    }

    pub(crate) fn send(&self, to: &Self, messages: Vec<Message<Blob>>) {
        self.network.send(to.id, Some(&to.address), messages);
    }

    /// Sends a heartbeat every few milliseconds, as a leader does, until the condition holds.
    pub(crate) async fn heartbeat_until(
        &self,
        to: u64,
        address: &String,
        what: &str,
        is_true: impl Fn() -> bool,
    ) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let mut round = 0;
        while !is_true() {
            assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
            round += 1;
            self.network.send(to, Some(address), vec![heartbeat(round)]);
            tokio::time::sleep(Duration::from_millis(5)).await; // paces the heartbeats
        }
    }
}

/// Waits until a condition holds that nobody announces.
pub(crate) async fn eventually(what: &str, is_true: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !is_true() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await; // paces the looks
    }
}

pub(crate) fn heartbeat(round: u64) -> Message<Blob> {
    Message { term: 1, body: Body::Heartbeat { round, commit: LogId::ZERO } }
}

/// An append of one entry with a command of `bytes`.
pub(crate) fn append(index: u64, bytes: usize) -> Message<Blob> {
    let command = Bytes::from(vec![index as u8; bytes]);
    let entries = vec![Entry { log_id: LogId::new(1, index), payload: Payload::Command(command) }].into();
    let prev = if index == 1 { LogId::ZERO } else { LogId::new(1, index - 1) };
    Message { term: 1, body: Body::Append { prev, entries, commit: 0 } }
}

pub(crate) fn install_snapshot(leader: u64, size_bytes: Option<u64>) -> InstallSnapshot<Blob> {
    let meta = SnapshotMeta { last: LogId::new(1, 50), membership: MembershipAt::default(), size_bytes };
    InstallSnapshot { term: 2, leader, meta }
}

/// An address where nobody listens.
pub(crate) fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A way to a node that can fall silent without breaking.
pub(crate) struct Link {
    pub(crate) address: String,
    is_frozen: Arc<watch::Sender<bool>>,
    task: tokio::task::JoinHandle<()>,
}

impl Link {
    pub(crate) async fn to(target: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let is_frozen = Arc::new(watch::Sender::new(false));
        let (frozen, target) = (is_frozen.clone(), target.to_owned());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let far = tokio::net::TcpStream::connect(&target).await.unwrap();
                let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
                connections.spawn(carry(near_read, far_write, frozen.subscribe()));
                connections.spawn(carry(far_read, near_write, frozen.subscribe()));
            }
        });
        Self { address, is_frozen, task }
    }

    /// From now on nothing passes, on connections that are open and on new ones.
    pub(crate) fn freeze(&self) {
        self.is_frozen.send_replace(true);
    }

    /// New connections work again; those that were frozen never will.
    pub(crate) fn thaw(&self) {
        self.is_frozen.send_replace(false);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut frozen: watch::Receiver<bool>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = tokio::select! {
            biased;
            is_frozen = async { frozen.wait_for(|frozen| *frozen).await.is_ok() } => {
                if is_frozen {
                    std::future::pending::<()>().await;
                }
                return;
            }
            count = from.read(&mut buffer) => count,
        };
        let Ok(count @ 1..) = count else { return };
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
