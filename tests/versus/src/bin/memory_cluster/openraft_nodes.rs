//! Three nodes of openraft.
//!
//! With its newest network trait, which hands the stream of appends of a leader to the follower, where it is pipelined.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use openconsensus_bench::Failure;
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, Config, EmptyNode, OptionalSend, RaftNetworkFactory, ServerState, SnapshotPolicy};

use crate::load::{Client, Cluster, Payload, payload};
use crate::openraft_store::{Counter, Log, Types};

type Raft = openraft::Raft<Types, Counter>;
type All = Arc<OnceLock<BTreeMap<u64, Raft>>>;

/// Makes connections to other nodes.
#[derive(Clone)]
struct Connections {
    nodes: All,
}

impl RaftNetworkFactory<Types> for Connections {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Connection {
        Connection { target, nodes: self.nodes.clone() }
    }
}

/// Calls the other node.
struct Connection {
    target: u64,
    nodes: All,
}

impl Connection {
    fn target(&self) -> Result<&Raft, Unreachable<Types>> {
        let node = self.nodes.get().and_then(|nodes| nodes.get(&self.target));
        node.ok_or_else(|| unreachable(&AnyError::error("the nodes are still being started")))
    }
}

fn unreachable(error: &(impl std::error::Error + 'static)) -> Unreachable<Types> {
    Unreachable::new(error)
}

impl NetBackoff<Types> for Connection {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetStreamAppend<Types> for Connection {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let answers = self.target()?.stream_append(input);
            let answers = answers.map_err(|fatal| RPCError::Unreachable(unreachable(&fatal)));
            Ok(answers.boxed())
        })
    }
}

impl NetVote<Types> for Connection {
    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.target()?.vote(request).await.map_err(|error| RPCError::Unreachable(unreachable(&error)))
    }
}

impl NetSnapshot<Types> for Connection {
    type SnapshotData = ();

    async fn full_snapshot(
        &mut self,
        _vote: VoteOf<Types>,
        _snapshot: SnapshotOf<Types, ()>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(StreamingError::Unreachable(unreachable(&AnyError::error("nobody falls behind here"))))
    }
}

impl NetTransferLeader<Types> for Connection {
    async fn transfer_leader(
        &mut self,
        _request: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(unreachable(&AnyError::error("nobody gives up leadership here"))))
    }
}

/// Three voters with a leader.
pub(crate) struct Nodes {
    nodes: BTreeMap<u64, Raft>,
    leader: Raft,
}

impl Cluster for Nodes {
    type Client = Raft;

    async fn start() -> Result<Self, Failure> {
        let config = Config {
            // Longer than other programs may keep this one from the processor.
            election_timeout_min: 2000,
            election_timeout_max: 4000,
            heartbeat_interval: 50,
            // The limits of a message and of a write are those of the batches that it makes.
            max_payload_entries: 4096,
            max_append_entries: Some(4096),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(100_000),
            max_in_snapshot_log_to_keep: 10_000,
            purge_batch_size: 10_000,
            // Nobody is to be sent a snapshot.
            replication_lag_threshold: u64::MAX / 2,
            ..Config::default()
        };
        let config = Arc::new(config.validate()?);
        let known = Arc::new(OnceLock::new());
        let mut nodes = BTreeMap::new();
        for id in 1..=3 {
            let connections = Connections { nodes: known.clone() };
            let raft = Raft::new(id, config.clone(), connections, Log::default(), Counter::default()).await?;
            nodes.insert(id, raft);
        }
        let _ = known.set(nodes.clone());
        let members: BTreeMap<u64, EmptyNode> = (1..=3).map(|id| (id, EmptyNode {})).collect();
        nodes[&1].initialize(members).await?;
        let timeout = Some(Duration::from_secs(10));
        let metrics =
            nodes[&1].wait(timeout).metrics(|metrics| metrics.current_leader.is_some(), "a leader").await?;
        let leader = nodes[&metrics.current_leader.unwrap_or(1)].clone();
        leader.wait(timeout).state(ServerState::Leader, "leads").await?;
        // A node says that it leads a moment before it takes writes.
        while let Err(error) = leader.client_write(payload(0, 16)).await {
            if error.forward_to_leader().is_none() {
                return Err(error.into());
            }
        }
        Ok(Self { nodes, leader })
    }

    fn client(&self) -> Raft {
        self.leader.clone()
    }

    async fn stop(self) -> Result<(), Failure> {
        for raft in self.nodes.values() {
            raft.shutdown().await?;
        }
        Ok(())
    }
}

impl Client for Raft {
    async fn write(&self, payload: Payload) -> Result<(), Failure> {
        self.client_write(payload).await?;
        Ok(())
    }

    async fn write_many(&self, payloads: Vec<Payload>) -> Result<(), Failure> {
        let mut answers = self.client_write_many(payloads).await?;
        while let Some(answer) = answers.try_next().await? {
            answer?;
        }
        Ok(())
    }
}
