//! Three nodes of openconsensus.

use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use openconsensus::{
    AnyError, AppliedState, ApplyBatch, BoxFuture, Config, InstallSnapshot, InstallSnapshotResponse, Message,
    NetworkError, Raft, RaftNetwork, RaftStateMachine, RoleName, Snapshot, SnapshotMeta, SnapshotStream,
    TokioRuntime, TypeConfig,
};
use openconsensus_bench::Failure;
use openconsensus_memstore::MemLog;

use crate::load::{Client, Cluster, Payload};

/// Commands are bytes, and are answered with how many came before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl TypeConfig for Types {
    type Command = Payload;
    type Response = u64;
    type NodeId = u64;
    type Node = ();

    fn command_bytes(command: &Payload) -> u64 {
        command.0.len() as u64
    }
}

/// Hands messages over in the call that sends them.
#[derive(Clone)]
struct Direct {
    id: u64,
    nodes: Arc<OnceLock<BTreeMap<u64, Raft<Types>>>>,
}

impl RaftNetwork<Types> for Direct {
    fn send(&self, peer: u64, _node: Option<&()>, messages: Vec<Message<Types>>) {
        let Some(raft) = self.nodes.get().and_then(|nodes| nodes.get(&peer)) else { return };
        let received = raft.receive(self.id, messages).now_or_never();
        assert!(received.is_some(), "a node takes in more than all others may have in flight to it");
    }

    fn send_snapshot(
        &self,
        _peer: u64,
        _node: &(),
        _request: InstallSnapshot<Types>,
        _data: SnapshotStream,
    ) -> impl Future<Output = Result<InstallSnapshotResponse, NetworkError>> + Send + 'static {
        ready(Err(NetworkError::Unreachable(AnyError::error("nobody falls behind here"))))
    }
}

/// Counts commands.
#[derive(Default)]
struct Counter {
    applied: AppliedState<Types>,
    count: u64,
    snapshot: Option<SnapshotMeta<Types>>,
}

impl RaftStateMachine<Types> for Counter {
    async fn applied_state(&mut self) -> io::Result<AppliedState<Types>> {
        Ok(self.applied.clone())
    }

    async fn apply(&mut self, batch: ApplyBatch<Types>) -> io::Result<Vec<u64>> {
        self.applied = batch.applied_state().clone();
        let mut responses = Vec::with_capacity(batch.entries().len());
        for _ in batch.commands() {
            responses.push(self.count);
            self.count += 1;
        }
        Ok(responses)
    }

    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<Types>>> {
        let AppliedState { last_applied, membership } = self.applied.clone();
        let meta = SnapshotMeta { last: last_applied, membership, size_bytes: None };
        self.snapshot = Some(meta.clone());
        Box::pin(ready(Ok(meta)))
    }

    async fn current_snapshot(&mut self) -> io::Result<Option<Snapshot<Types>>> {
        let data = || openconsensus::snapshot_stream(futures::stream::empty());
        Ok(self.snapshot.clone().map(|meta| Snapshot { meta, data: data() }))
    }

    async fn install_snapshot(&mut self, _snapshot: Snapshot<Types>) -> io::Result<()> {
        Err(io::Error::other("nobody falls behind here"))
    }
}

/// Three voters with a leader.
pub(crate) struct Nodes {
    nodes: BTreeMap<u64, Raft<Types>>,
    leader: Raft<Types>,
}

impl Cluster for Nodes {
    type Client = Raft<Types>;

    async fn start() -> Result<Self, Failure> {
        let config = Config {
            // Longer than other programs may keep this one from the processor.
            election_timeout_ms_min: 2000,
            election_timeout_ms_max: 4000,
            heartbeat_interval_ms: 50,
            snapshot_after_entries: Some(100_000),
            log_keep_entries: 10_000,
            ..Config::default()
        };
        let known = Arc::new(OnceLock::new());
        let mut nodes = BTreeMap::new();
        for id in 1..=3 {
            let network = Direct { id, nodes: known.clone() };
            let raft =
                Raft::start(id, config.clone(), TokioRuntime, network, MemLog::new(), Counter::default())
                    .await?;
            nodes.insert(id, raft);
        }
        let _ = known.set(nodes.clone());
        nodes[&1].initialize((1..=3).map(|id| (id, ())).collect()).await?;
        let timeout = Duration::from_secs(10);
        let leader = nodes[&nodes[&1].wait(timeout).leader().await?].clone();
        leader.wait(timeout).role(RoleName::Leader).await?;
        Ok(Self { nodes, leader })
    }

    fn client(&self) -> Raft<Types> {
        self.leader.clone()
    }

    async fn stop(self) -> Result<(), Failure> {
        for raft in self.nodes.values() {
            raft.shutdown().await;
        }
        Ok(())
    }
}

impl Client for Raft<Types> {
    async fn write(&self, payload: Payload) -> Result<(), Failure> {
        Self::write(self, payload).await?;
        Ok(())
    }

    async fn write_many(&self, payloads: Vec<Payload>) -> Result<(), Failure> {
        Self::write_many(self, payloads).await?;
        Ok(())
    }
}
