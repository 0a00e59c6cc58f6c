//! Nodes of one process, on one runtime: started, stopped and started again.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openconsensus::{
    Config, Entries, HardState, Index, LogId, LogState, PostcardCodec, Raft, RaftLogStorage, RoleName,
    TokioRuntime,
};
use openconsensus_bench::Failure;
use openconsensus_memstore::MemLog;
use openconsensus_network_grpc::{GrpcConfig, GrpcNetwork, GrpcServer, Serving};
use openconsensus_redb::{Identity, RedbLog};
use openconsensus_wal::{WalLog, WalOptions};
use serde::{Deserialize, Serialize};

use super::blob::Blob;
use super::machine::Table;
use super::network::{Net, Switch};

/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Where the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogKind {
    /// In memory.
    Memory,
    /// In a redb file.
    Redb,
    /// In the segments of a write-ahead log.
    Wal,
}

impl LogKind {
    pub(crate) const ALL: [Self; 3] = [Self::Wal, Self::Redb, Self::Memory];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redb => "redb",
            Self::Wal => "wal",
        }
    }

    pub(crate) fn is_durable(self) -> bool {
        match self {
            Self::Memory => false,
            Self::Redb | Self::Wal => true,
        }
    }
}

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NetKind {
    /// By a function call.
    Call,
    /// Over gRPC on the loopback.
    Grpc,
}

impl NetKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Grpc => "grpc",
        }
    }
}

/// A log storage that waits before each append: a slow disk.
pub(crate) struct Paced<L> {
    inner: L,
    pause: Duration,
}

impl<L: RaftLogStorage<Blob> + Send> RaftLogStorage<Blob> for Paced<L> {
    type Reader = L::Reader;

    fn reader(&self) -> L::Reader {
        self.inner.reader()
    }

    async fn load(&mut self) -> io::Result<LogState<Blob>> {
        self.inner.load().await
    }

    async fn save_hard_state(&mut self, state: HardState<Blob>) -> io::Result<()> {
        self.inner.save_hard_state(state).await
    }

    async fn append(&mut self, entries: Entries<Blob>, commit: Index) -> io::Result<()> {
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
        self.inner.append(entries, commit).await
    }

    async fn truncate(&mut self, from: Index) -> io::Result<()> {
        self.inner.truncate(from).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.inner.purge(upto).await
    }
}

/// Elections are slow: a machine that is busy with the load must not take its leader for dead.
pub(crate) fn patient() -> Config {
    Config {
        election_timeout_ms_min: 2000,
        election_timeout_ms_max: 4000,
        heartbeat_interval_ms: 100,
        write_stall_timeout_ms: 60_000,
        ..Config::default()
    }
}

/// What the nodes of a cluster have in common.
pub(crate) struct Plan {
    pub(crate) log: LogKind,
    pub(crate) net: NetKind,
    pub(crate) config: Config,
    /// Files go here, a folder for each node.
    pub(crate) folder: PathBuf,
    /// Of each state machine.
    pub(crate) slots: usize,
    /// Whether snapshots are files.
    pub(crate) snapshots_on_disk: bool,
    /// How long the last node waits before each append to its log.
    pub(crate) last_pause: Duration,
}

/// The nodes. Node 1 leads.
pub(crate) struct Cluster {
    plan: Plan,
    nodes: BTreeMap<u64, Node>,
    addresses: BTreeMap<u64, String>,
    memory: BTreeMap<u64, MemLog<Blob>>,
    switch: Switch,
}

struct Node {
    raft: Raft<Blob>,
    serving: Option<Serving>,
}

impl Cluster {
    /// Starts `nodes` nodes, of which the first is elected.
    pub(crate) async fn start(plan: Plan, nodes: u64) -> Result<Self, Failure> {
        let mut cluster = Self {
            plan,
            nodes: BTreeMap::new(),
            addresses: BTreeMap::new(),
            memory: BTreeMap::new(),
            switch: Switch::default(),
        };
        for id in 1..=nodes {
            cluster.memory.insert(id, MemLog::new());
            cluster.start_node(id, nodes).await?;
            cluster.nodes[&id].raft.pause_elections(id != 1)?;
        }
        let leader = cluster.leader();
        leader.initialize(cluster.addresses.clone()).await?;
        leader.campaign()?;
        leader.wait(PATIENCE).role(RoleName::Leader).await?;
        let last = leader.metrics().latest().last.index;
        for node in cluster.nodes.values() {
            node.raft.wait(PATIENCE).applied(last).await?;
        }
        Ok(cluster)
    }

    /// Starts a node, or starts it again on what it has stored. Its state begins empty.
    pub(crate) async fn start_node(&mut self, id: u64, of: u64) -> Result<(), Failure> {
        let (server, network) = match self.plan.net {
            NetKind::Call => {
                self.addresses.insert(id, format!("node-{id}:1"));
                (None, Net::Call { id, switch: self.switch.clone() })
            }
            NetKind::Grpc => {
                let address = self.addresses.get(&id).map_or("127.0.0.1:0", String::as_str);
                let server = GrpcServer::bind(address).await?;
                let address = server.local_addr().to_string();
                self.addresses.insert(id, address.clone());
                let network = GrpcNetwork::new(GrpcConfig::new("scaling"), id, &address)?;
                (Some(server), Net::Grpc(network))
            }
        };
        let folder = self.plan.folder.join(id.to_string());
        std::fs::create_dir_all(&folder)?;
        let snapshots = self.plan.snapshots_on_disk.then_some(folder.as_path());
        let machine = Table::new(self.plan.slots, snapshots);
        let pause = if id == of { self.plan.last_pause } else { Duration::ZERO };
        let raft = match self.plan.log {
            LogKind::Memory => {
                let log = Paced { inner: self.memory[&id].clone(), pause };
                start(id, &self.plan.config, network.clone(), log, machine).await?
            }
            LogKind::Redb => {
                let log = RedbLog::open(folder.join("log.redb"), &Identity::new("scaling", id))?;
                start(id, &self.plan.config, network.clone(), Paced { inner: log, pause }, machine).await?
            }
            LogKind::Wal => {
                let log = open_wal(&folder.join("log"), id)?;
                start(id, &self.plan.config, network.clone(), Paced { inner: log, pause }, machine).await?
            }
        };
        let serving = match (server, network) {
            (Some(server), Net::Grpc(network)) => Some(server.serve(network.service(raft.clone()), None)),
            _ => {
                self.switch.connect(&raft);
                None
            }
        };
        self.nodes.insert(id, Node { raft, serving });
        Ok(())
    }

    /// Stops a node; what it has stored stays.
    pub(crate) async fn stop_node(&mut self, id: u64) {
        self.switch.disconnect(id);
        if let Some(Node { raft, serving }) = self.nodes.remove(&id) {
            if let Some(serving) = serving {
                serving.shutdown().await;
            }
            raft.shutdown().await;
        }
    }

    pub(crate) async fn stop(mut self) {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.stop_node(id).await;
        }
    }

    pub(crate) fn leader(&self) -> Raft<Blob> {
        self.node(1)
    }

    pub(crate) fn node(&self, id: u64) -> Raft<Blob> {
        self.nodes[&id].raft.clone()
    }
}

/// The write-ahead log of node `id`, with the limits that it has by itself.
pub(crate) fn open_wal(folder: &Path, id: u64) -> Result<WalLog<Blob, PostcardCodec>, Failure> {
    Ok(WalLog::open(folder, &Identity::new("scaling", id), &WalOptions::default())?)
}

async fn start<L: RaftLogStorage<Blob>>(
    id: u64,
    config: &Config,
    network: Net,
    log: L,
    machine: Table,
) -> Result<Raft<Blob>, Failure> {
    Ok(Raft::start(id, config.clone(), TokioRuntime, network, log, machine).await?)
}

/// The part of `range` that is not behind `end`, in pieces of `step`.
pub(crate) fn pieces(range: Range<Index>, step: u64) -> impl Iterator<Item = Range<Index>> {
    let end = range.end;
    range.step_by(step as usize).map(move |start| start..(start + step).min(end))
}
