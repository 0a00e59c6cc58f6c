//! Nodes that are started, stopped and killed, on any runtime.

use std::collections::BTreeMap;
use std::time::Duration;

use openconsensus::{AsyncRuntime, Config, Membership, Raft, RaftMetrics, RoleName, Term};
use openconsensus_memstore::kv::Kv;

use super::outcomes::Outcomes;
use super::process::Process;
use super::stores::{Disk, Machine, Reader};
use crate::any_runtime::AnyRuntime;
use crate::network::MemNetwork;

/// Longer than anything takes that works, by the clock of the runtime.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at that no single node can tell.
const PAUSE: Duration = Duration::from_millis(2);

/// The nodes of one cluster. What a node has stored is kept when it is stopped or killed.
pub(super) struct Nodes<R, F> {
    factory: F,
    runtime: AnyRuntime,
    network: MemNetwork<Kv>,
    disks: BTreeMap<u64, Disk>,
    running: BTreeMap<u64, Running<R>>,
    /// Who was seen to lead in each term.
    leaders: BTreeMap<Term, u64>,
    pub(super) outcomes: Outcomes,
}

struct Running<R> {
    raft: Raft<Kv>,
    reader: Reader,
    process: Process<R>,
}

impl<R, F> Drop for Nodes<R, F> {
    /// The network holds the nodes, and the nodes hold the network: a test that fails must not leave them running.
    fn drop(&mut self) {
        self.running.keys().for_each(|id| self.network.disconnect(*id));
    }
}

impl<R: AsyncRuntime, F: Fn() -> R> Nodes<R, F> {
    pub(super) fn new(factory: F) -> Self {
        let runtime = AnyRuntime::new(factory());
        Self {
            network: MemNetwork::on(runtime.clone(), 1),
            factory,
            runtime,
            disks: BTreeMap::new(),
            running: BTreeMap::new(),
            leaders: BTreeMap::new(),
            outcomes: Outcomes::default(),
        }
    }

    /// Patient enough for a busy machine, and with snapshots that come soon and keep no entries behind them.
    fn config() -> Config {
        Config {
            election_timeout_ms_min: 200,
            election_timeout_ms_max: 400,
            metrics_interval_ms: 1,
            snapshot_after_entries: Some(100),
            log_keep_entries: 0,
            log_hold_entries_max: 100,
            ..Config::default()
        }
    }

    pub(super) fn address(id: u64) -> String {
        format!("node-{id}")
    }

    /// Starts a node with what it has stored, if it has.
    pub(super) async fn start(&mut self, id: u64) {
        let disk = self.disks.entry(id).or_default();
        assert_eq!(disk.handles(), 1, "node {id} runs, or something of it is left");
        let machine = Machine::new(disk);
        let (reader, process) = (machine.reader(), Process::new((self.factory)()));
        let network = self.network.node(id);
        let started = Raft::start(id, Self::config(), process.clone(), network, disk.log(), machine).await;
        let raft = started.unwrap_or_else(|error| panic!("node {id} does not start: {error}"));
        self.network.connect(raft.clone());
        self.running.insert(id, Running { raft, reader, process });
    }

    /// Shuts a node down in good order and returns what is left of it: a handle. Its stores are free then.
    pub(super) async fn stop(&mut self, id: u64) -> Raft<Kv> {
        let node = self.running.remove(&id).expect("it runs");
        self.network.disconnect(id);
        node.raft.shutdown().await;
        self.is_free(id);
        node.raft
    }

    /// Kills a node: whatever it was doing ends where it stands.
    pub(super) async fn kill(&mut self, id: u64) {
        let node = self.running.remove(&id).expect("it runs");
        self.network.disconnect(id);
        node.process.kill().await;
        self.is_free(id);
    }

    /// Insists that nothing of a node that has ended holds its disk.
    fn is_free(&self, id: u64) {
        assert_eq!(self.disks[&id].handles(), 1, "something of node {id} is left");
    }

    pub(super) fn running(&self) -> Vec<u64> {
        self.running.keys().copied().collect()
    }

    pub(super) fn raft(&self, id: u64) -> Raft<Kv> {
        self.running[&id].raft.clone()
    }

    pub(super) fn disk(&self, id: u64) -> &Disk {
        &self.disks[&id]
    }

    pub(super) fn pairs(&self, id: u64) -> BTreeMap<String, Vec<u8>> {
        self.running[&id].reader.pairs()
    }

    /// Waits until `look` finds something, looking at the latest metrics of the nodes that run.
    pub(super) async fn until<T>(
        &mut self,
        what: &str,
        look: impl Fn(&BTreeMap<u64, std::sync::Arc<RaftMetrics<Kv>>>) -> Option<T>,
    ) -> T {
        let deadline = AsyncRuntime::now(&self.runtime) + PATIENCE;
        loop {
            let seen: BTreeMap<_, _> =
                self.running.iter().map(|(id, node)| (*id, node.raft.metrics().latest())).collect();
            seen.values().for_each(|metrics| self.see(metrics));
            if let Some(found) = look(&seen) {
                return found;
            }
            let is_late = deadline < AsyncRuntime::now(&self.runtime);
            assert!(!is_late, "still waiting for {what} after {PATIENCE:?}; last seen: {seen:#?}");
            self.pause().await;
        }
    }

    /// Between two attempts at something.
    pub(super) async fn pause(&self) {
        self.runtime.let_pass(PAUSE).await; // paces the attempts
    }

    /// Election Safety: one leader in a term at most (Raft paper, figure 3).
    fn see(&mut self, metrics: &RaftMetrics<Kv>) {
        if metrics.role == RoleName::Leader {
            let first = *self.leaders.entry(metrics.term).or_insert(metrics.id);
            assert_eq!(first, metrics.id, "two nodes lead in term {}", metrics.term);
        }
    }

    /// Waits until a node leads that can do everything a leader can, and every node that runs follows it.
    pub(super) async fn leader(&mut self) -> Raft<Kv> {
        let leader = self.until("a leader that all follow", |seen| {
            let leader = seen
                .values()
                .find(|metrics| metrics.role == RoleName::Leader && metrics.applied.term == metrics.term)?;
            let follows =
                |metrics: &RaftMetrics<Kv>| metrics.term == leader.term && metrics.leader == Some(leader.id);
            seen.values().all(|metrics| follows(metrics)).then_some(leader.id)
        });
        let leader = leader.await;
        self.raft(leader)
    }

    /// Some node that runs and does not lead.
    pub(super) fn follower_of(&self, leader: u64) -> u64 {
        self.running().into_iter().find(|id| *id != leader).expect("more than one node runs")
    }

    /// The membership that the leader has in force.
    pub(super) async fn membership(&mut self) -> Membership<Kv> {
        self.leader().await.metrics().latest().membership.membership.clone()
    }

    /// The term of the leader.
    pub(super) async fn term(&mut self) -> Term {
        self.leader().await.metrics().latest().term
    }
}
