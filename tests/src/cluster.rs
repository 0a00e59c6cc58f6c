//! `Cluster`: nodes of one process that can be started, stopped, killed and cut off.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openconsensus::{Config, Raft, RaftMetrics, RoleName, StartError};
use openconsensus_memstore::kv::Kv;
use openconsensus_memstore::{KvDisk, KvReader, MemLog, MemStateMachine};

use crate::client::Client;
use crate::eventually::eventually;
use crate::faulty_log::FaultyLog;
use crate::faulty_state_machine::FaultyStateMachine;
use crate::network::MemNetwork;
use crate::runtime::CrashRuntime;
use crate::store_faults::StoreFaults;

/// A key-value cluster over a [`MemNetwork`], with stores in memory. Cheap to clone; all clones are one cluster.
///
/// Nodes are numbers. What a node has stored is kept when it is stopped or killed, and found again when it is started.
/// Most methods panic when they are asked for something that cannot be, with the reason: a test is wrong then.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

/// How the nodes of a [`Cluster`] are made.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Timeouts and limits of every node.
    pub config: Config,
    /// What its state machine keeps.
    pub state: StateKind,
    /// Seeds the network and the election timeouts.
    pub seed: u64,
}

/// What a state machine keeps when its node is stopped or killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// Nothing but its snapshot.
    Volatile,
    /// Everything.
    Persistent,
    /// Its snapshot, and a state that may be behind by so many entries.
    Lagging(u64),
}

impl ClusterOptions {
    /// A configuration for a busy machine with debug builds: elections do not start because a thread had to wait.
    pub fn config() -> Config {
        Config {
            election_timeout_ms_min: 300,
            election_timeout_ms_max: 600,
            heartbeat_interval_ms: 40,
            write_stall_timeout_ms: 1000,
            metrics_interval_ms: 1,
            ..Config::default()
        }
    }
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { config: Self::config(), state: StateKind::Volatile, seed: 1 }
    }
}

struct Shared {
    options: ClusterOptions,
    network: MemNetwork<Kv>,
    nodes: Mutex<BTreeMap<u64, NodeSlot>>,
}

/// What there is of a node, whether it runs or not.
struct NodeSlot {
    log: MemLog<Kv>,
    disk: KvDisk,
    log_faults: StoreFaults,
    machine_faults: StoreFaults,
    starts: u64,
    running: Option<RunningNode>,
}

/// A node that runs, or ran when this was taken.
#[derive(Clone)]
pub(crate) struct RunningNode {
    pub(crate) raft: Raft<Kv>,
    pub(crate) reader: KvReader,
    pub(crate) runtime: CrashRuntime,
}

impl Cluster {
    /// A cluster without nodes.
    pub fn new(options: ClusterOptions) -> Self {
        let network = MemNetwork::new(options.seed);
        Self { shared: Arc::new(Shared { options, network, nodes: Mutex::default() }) }
    }

    /// A cluster whose voters are the nodes `1..=voters`, running, with a leader.
    pub async fn of_voters(voters: u64, options: ClusterOptions) -> Self {
        let cluster = Self::new(options);
        for id in 1..=voters {
            cluster.start(id).await;
        }
        let nodes = (1..=voters).map(|id| (id, Self::address(id))).collect();
        cluster.raft(1).initialize(nodes).await.expect("a fresh node can be initialized");
        cluster.leader().await;
        cluster
    }

    /// Where node `id` says that it can be reached. The network in memory does not look at it.
    pub fn address(id: u64) -> String {
        format!("node-{id}")
    }

    /// The network between the nodes.
    pub fn network(&self) -> &MemNetwork<Kv> {
        &self.shared.network
    }

    /// Starts node `id`: with empty stores the first time, with what it has kept later.
    ///
    /// # Panics
    ///
    /// When it runs already, or does not start.
    pub async fn start(&self, id: u64) -> Raft<Kv> {
        self.try_start(id).await.unwrap_or_else(|error| panic!("node {id} does not start: {error}"))
    }

    /// As [`start`](Self::start), but an error of the start is returned.
    pub async fn try_start(&self, id: u64) -> Result<Raft<Kv>, StartError> {
        let options = &self.shared.options;
        let (log, machine, runtime) = {
            let mut nodes = self.nodes();
            let slot = nodes.entry(id).or_insert_with(NodeSlot::new);
            assert!(slot.running.is_none(), "node {id} runs already");
            slot.starts += 1;
            let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(id * 1009 + slot.starts);
            let machine = match options.state {
                StateKind::Volatile => MemStateMachine::volatile(&slot.disk),
                StateKind::Persistent => MemStateMachine::persistent(&slot.disk),
                StateKind::Lagging(entries) => MemStateMachine::persistent_with_lag(&slot.disk, entries),
            };
            (
                FaultyLog::new(slot.log.clone(), slot.log_faults.clone()),
                (machine.reader(), FaultyStateMachine::new(machine, slot.machine_faults.clone())),
                CrashRuntime::new(seed),
            )
        };
        let (reader, machine) = machine;
        let network = self.network().node(id);
        let raft = Raft::start(id, options.config.clone(), runtime.clone(), network, log, machine).await?;
        self.network().connect(raft.clone());
        self.slot(id, |slot| slot.running = Some(RunningNode { raft: raft.clone(), reader, runtime }));
        Ok(raft)
    }

    /// Shuts node `id` down in good order.
    pub async fn stop(&self, id: u64) {
        let node = self.take_running(id);
        node.raft.shutdown().await;
        self.network().disconnect(id);
    }

    /// Kills node `id`: whatever it was doing ends where it stands.
    pub async fn crash(&self, id: u64) {
        let node = self.take_running(id);
        self.network().disconnect(id);
        node.runtime.crash().await;
    }

    /// Gives up every handle of node `id` that this cluster and its network have.
    pub fn forget(&self, id: u64) {
        drop(self.take_running(id));
        self.network().disconnect(id);
    }

    /// Replaces everything that node `id` has stored by empty stores, as after the loss of its disk.
    ///
    /// # Panics
    ///
    /// When it runs.
    pub fn wipe(&self, id: u64) {
        self.slot(id, |slot| {
            assert!(slot.running.is_none(), "node {id} runs: stop it before its disk is wiped");
            slot.log = MemLog::new();
            slot.disk = KvDisk::new();
        });
    }

    /// The handle of node `id`.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn raft(&self, id: u64) -> Raft<Kv> {
        self.running_node(id).unwrap_or_else(|| panic!("node {id} does not run")).raft
    }

    /// Reads the state of node `id`.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn reader(&self, id: u64) -> KvReader {
        self.running_node(id).unwrap_or_else(|| panic!("node {id} does not run")).reader
    }

    /// The latest metrics of node `id`.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn metrics(&self, id: u64) -> Arc<RaftMetrics<Kv>> {
        self.raft(id).metrics().latest()
    }

    /// The stored log of node `id`, whether it runs or not.
    pub fn log(&self, id: u64) -> MemLog<Kv> {
        self.slot(id, |slot| slot.log.clone())
    }

    /// Decides what goes wrong with the log storage of node `id`, also after a restart.
    pub fn log_faults(&self, id: u64) -> StoreFaults {
        self.slot(id, |slot| slot.log_faults.clone())
    }

    /// Decides what goes wrong with the state machine of node `id`, also after a restart.
    pub fn machine_faults(&self, id: u64) -> StoreFaults {
        self.slot(id, |slot| slot.machine_faults.clone())
    }

    /// The disk of the state machine of node `id`, with its snapshot.
    pub fn machine_disk(&self, id: u64) -> KvDisk {
        self.slot(id, |slot| slot.disk.clone())
    }

    /// The nodes that run, in order.
    pub fn running(&self) -> Vec<u64> {
        self.nodes().iter().filter(|(_, slot)| slot.running.is_some()).map(|(id, _)| *id).collect()
    }

    /// A client of this cluster.
    pub fn client(&self) -> Client {
        Client::new(self.clone())
    }

    /// Waits until one of the running nodes leads, a quorum of its voters follows it, and an entry of its term is
    /// applied: then it is ready for anything.
    pub async fn leader(&self) -> u64 {
        self.leader_among(&self.running()).await
    }

    /// As [`leader`](Self::leader), looking only at `ids`.
    pub async fn leader_among(&self, ids: &[u64]) -> u64 {
        eventually("a leader", || self.find_leader(ids).ok_or_else(|| self.clone())).await
    }

    /// Waits until one of `ids` leads that is not `old`.
    pub async fn leader_other_than(&self, old: u64) -> u64 {
        let ids: Vec<u64> = self.running().into_iter().filter(|id| *id != old).collect();
        self.leader_among(&ids).await
    }

    fn find_leader(&self, ids: &[u64]) -> Option<u64> {
        let metrics: BTreeMap<u64, _> = ids
            .iter()
            .filter_map(|id| Some((*id, self.running_node(*id)?.raft.metrics().latest())))
            .collect();
        let leads = |id: &u64| {
            let leader = &metrics[id];
            let follows = |peer: u64| {
                metrics.get(&peer).is_some_and(|peer| peer.term == leader.term && peer.leader == Some(*id))
            };
            leader.fatal.is_none()
                && leader.role == RoleName::Leader
                && leader.applied.term == leader.term
                && leader.membership.membership.is_quorum(follows)
        };
        metrics.keys().copied().find(|id| leads(id))
    }

    /// Waits until all of `ids` have the same log, all of it committed and applied, and the same state. Returns the
    /// index that they have reached.
    pub async fn wait_equal(&self, ids: &[u64]) -> u64 {
        let what = format!("nodes {ids:?} to be equal");
        eventually(&what, || {
            let position = |id: &u64| {
                // Metrics may be a little late; the state itself has what was acknowledged.
                let (metrics, state) = (self.metrics(*id), self.reader(*id).last_applied());
                (metrics.last, metrics.committed, metrics.applied, state)
            };
            let first = position(&ids[0]);
            let (last, committed, applied, state) = first;
            let is_done = committed == last.index && applied == last && state == last;
            if !is_done || !ids.iter().all(|id| position(id) == first) {
                return Err(self.clone());
            }
            let checksum = |id: &u64| self.reader(*id).checksum();
            let sum = checksum(&ids[0]);
            for id in ids {
                assert_eq!(checksum(id), sum, "the states of nodes {} and {id} differ at {last}", ids[0]);
            }
            Ok(last.index)
        })
        .await
    }

    pub(crate) fn running_node(&self, id: u64) -> Option<RunningNode> {
        self.nodes().get(&id)?.running.clone()
    }

    fn take_running(&self, id: u64) -> RunningNode {
        self.slot(id, |slot| slot.running.take()).unwrap_or_else(|| panic!("node {id} does not run"))
    }

    fn slot<R>(&self, id: u64, look: impl FnOnce(&mut NodeSlot) -> R) -> R {
        look(self.nodes().get_mut(&id).unwrap_or_else(|| panic!("there is no node {id}")))
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<u64, NodeSlot>> {
        self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NodeSlot {
    fn new() -> Self {
        Self {
            log: MemLog::new(),
            disk: KvDisk::new(),
            log_faults: StoreFaults::new(),
            machine_faults: StoreFaults::new(),
            starts: 0,
            running: None,
        }
    }
}

impl fmt::Debug for Cluster {
    /// What each node is at.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.network())?;
        for id in self.running() {
            let Some(node) = self.running_node(id) else { continue };
            writeln!(f, "{:?}", node.raft.metrics().latest())?;
        }
        Ok(())
    }
}
