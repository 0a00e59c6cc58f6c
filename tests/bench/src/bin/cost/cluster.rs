//! Three nodes on one thread, with nothing between them and nothing below them: whatever is not the library is as cheap
//! as can be, so that what watching costs is not hidden behind it.

use std::collections::BTreeMap;
use std::future::ready;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use futures::FutureExt;
use openconsensus::{
    AnyError, AppliedState, ApplyBatch, BoxFuture, Config, InstallSnapshot, InstallSnapshotResponse, Message,
    NetworkError, Raft, RaftNetwork, RaftStateMachine, RoleName, Snapshot, SnapshotMeta, SnapshotStream,
    TokioRuntime, TypeConfig,
};
use openconsensus_memstore::MemLog;

/// Commands and responses are numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sum;

impl TypeConfig for Sum {
    type Command = u64;
    type Response = u64;
    type NodeId = u64;
    type Node = ();

    fn command_bytes(_command: &u64) -> u64 {
        8
    }
}

/// Hands messages over in the call that sends them.
#[derive(Clone, Default)]
struct Direct {
    id: u64,
    nodes: Arc<Mutex<BTreeMap<u64, Raft<Sum>>>>,
    /// Filled once all nodes run: no lock is taken after that.
    running: Arc<OnceLock<BTreeMap<u64, Raft<Sum>>>>,
}

impl RaftNetwork<Sum> for Direct {
    fn send(&self, peer: u64, _node: Option<&()>, messages: Vec<Message<Sum>>) {
        let Some(raft) = self.running.get().and_then(|nodes| nodes.get(&peer)) else { return };
        // What the receiver has no room for is lost, as in any network.
        let _ = raft.receive(self.id, messages).now_or_never();
    }

    fn send_snapshot(
        &self,
        _peer: u64,
        _node: &(),
        _request: InstallSnapshot<Sum>,
        _data: SnapshotStream,
    ) -> impl Future<Output = Result<InstallSnapshotResponse, NetworkError>> + Send + 'static {
        ready(Err(NetworkError::Unreachable(AnyError::error("there are no snapshots here"))))
    }
}

/// Adds up its commands.
#[derive(Default)]
struct Adder {
    applied: AppliedState<Sum>,
    sum: u64,
}

impl RaftStateMachine<Sum> for Adder {
    async fn applied_state(&mut self) -> io::Result<AppliedState<Sum>> {
        Ok(self.applied.clone())
    }

    async fn apply(&mut self, batch: ApplyBatch<Sum>) -> io::Result<Vec<u64>> {
        self.applied = batch.applied_state().clone();
        let sum = &mut self.sum;
        let responses = batch.commands().map(|(_, command)| {
            *sum = sum.wrapping_add(*command);
            *sum
        });
        Ok(responses.collect())
    }

    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<Sum>>> {
        Box::pin(async { Err(io::Error::other("there are no snapshots here")) })
    }

    async fn current_snapshot(&mut self) -> io::Result<Option<Snapshot<Sum>>> {
        Ok(None)
    }

    async fn install_snapshot(&mut self, _snapshot: Snapshot<Sum>) -> io::Result<()> {
        Err(io::Error::other("there are no snapshots here"))
    }
}

/// Three voters with a leader.
pub(crate) struct Cluster {
    nodes: BTreeMap<u64, Raft<Sum>>,
    pub(crate) leader: Raft<Sum>,
}

impl Cluster {
    /// Starts them on the current runtime.
    ///
    /// # Errors
    ///
    /// When a node does not start, or none is elected.
    pub(crate) async fn start() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let config = Config { snapshot_after_entries: None, ..Config::default() };
        let network = Direct::default();
        for id in 1..=3 {
            let own = Direct { id, ..network.clone() };
            let log = MemLog::new();
            let raft = Raft::start(id, config.clone(), TokioRuntime, own, log, Adder::default()).await?;
            network.nodes.lock().expect("nobody panics").insert(id, raft);
        }
        let nodes = network.nodes.lock().expect("nobody panics").clone();
        let _ = network.running.set(nodes.clone());
        nodes[&1].initialize((1..=3).map(|id| (id, ())).collect()).await?;
        let timeout = std::time::Duration::from_secs(10);
        let leader = nodes[&nodes[&1].wait(timeout).leader().await?].clone();
        leader.wait(timeout).role(RoleName::Leader).await?;
        Ok(Self { nodes, leader })
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Raft<Sum>> {
        self.nodes.values()
    }

    /// Stops all nodes.
    pub(crate) async fn stop(self) {
        for raft in self.nodes.values() {
            raft.shutdown().await;
        }
    }
}
