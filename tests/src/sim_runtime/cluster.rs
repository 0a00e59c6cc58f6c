//! `SimCluster`: nodes of a simulation that can be started, stopped, killed, paused and cut off.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use openconsensus::{AsyncRuntime, Config, Raft, RaftMetrics, RoleName, StartError};

use super::application::SimApplication;
use super::clock::NodeClock;
use super::oracle::{Coverage, Oracle, WatchedStateMachine};
use super::runtime::{Sim, SimRuntime};
use crate::faulty_log::FaultyLog;
use crate::faulty_state_machine::FaultyStateMachine;
use crate::network::{LinkFaults, MemNetwork};
use crate::store_faults::StoreFaults;

/// How often a condition is looked at, in virtual time.
const PAUSE: Duration = Duration::from_millis(5);

/// A cluster in a [`Sim`]: the real [`Raft`] over an application's own stores, a simulated network, and disks that take
/// their time. Cheap to clone; all clones are one cluster.
///
/// Nodes are numbers. What a node has stored is kept by the application ([`SimApplication`]). Everything is watched: that a
/// term has one leader, that no term, commit index or state goes back, that all nodes apply the same entries with the
/// same responses. What is found shows in [`check`](Self::check).
pub struct SimCluster<A: SimApplication> {
    pub(super) shared: Arc<Shared<A>>,
}

/// How the nodes of a [`SimCluster`] are made.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Timeouts and limits of every node.
    pub config: Config,
    /// Whether every node has a clock of its own ([`NodeClock::skewed`]), or all have the exact one.
    pub has_skewed_clocks: bool,
    /// How long each half of a write of the log storage takes: before it reaches the disk, and before the node learns of it.
    pub log_latency: Range<Duration>,
    /// How long each half of a change of the state machine takes.
    pub machine_latency: Range<Duration>,
    /// What goes wrong with messages all the time.
    pub link_faults: LinkFaults,
}

impl Default for SimOptions {
    /// A network without faults whose messages take up to 2 ms, disks that take up to 2 ms, skewed clocks, and small
    /// limits, so that snapshots, purges and catching up are no rarity.
    fn default() -> Self {
        let config = Config {
            write_stall_timeout_ms: 1000,
            snapshot_after_entries: Some(60),
            log_keep_entries: 10,
            log_hold_entries_max: 150,
            tail_bytes_max: 4_000,
            append_bytes_max: 2_000,
            snapshot_progress_timeout_ms: 300,
            snapshot_install_timeout_ms: 1000,
            write_outcome_timeout_ms: 500,
            read_timeout_ms: 500,
            ..Config::default()
        };
        let up_to = |ms| Duration::ZERO..Duration::from_millis(ms);
        Self {
            config,
            has_skewed_clocks: true,
            log_latency: up_to(2),
            machine_latency: up_to(1),
            link_faults: LinkFaults { delay: up_to(2), ..LinkFaults::default() },
        }
    }
}

pub(super) struct Shared<A: SimApplication> {
    pub(super) app: A,
    pub(super) world: SimRuntime,
    pub(super) options: SimOptions,
    pub(super) network: MemNetwork<A::Types>,
    pub(super) oracle: Oracle,
    /// Requests that no node has answered yet.
    pub(super) open_requests: Arc<AtomicU64>,
    nodes: Mutex<BTreeMap<u64, Slot<A>>>,
}

/// What there is of a node, whether it runs or not.
struct Slot<A: SimApplication> {
    clock: NodeClock,
    log_faults: StoreFaults,
    machine_faults: StoreFaults,
    /// The process of a node that reads its stores and does not run yet.
    starting: Option<SimRuntime>,
    is_stopping: bool,
    running: Option<Running<A>>,
}

/// A node that runs, or ran when this was taken.
pub(super) struct Running<A: SimApplication> {
    pub(super) raft: Raft<A::Types>,
    pub(super) reader: A::Reader,
    pub(super) runtime: SimRuntime,
    /// How many writes of its stores had been made to fail before it was started.
    failed_before: u64,
}

impl<A: SimApplication> SimCluster<A> {
    /// A cluster without nodes.
    pub fn new(sim: &Sim, options: SimOptions, app: A) -> Self {
        let world = sim.world();
        let network = MemNetwork::on(world.any(), world.random());
        network.set_faults(options.link_faults.clone());
        let oracle = Oracle::default();
        let (open_requests, nodes) = (Arc::default(), Mutex::default());
        Self { shared: Arc::new(Shared { app, world, options, network, oracle, open_requests, nodes }) }
    }

    /// A cluster whose voters are the nodes `1..=voters`, running, with a leader.
    ///
    /// # Panics
    ///
    /// When it finds none within a minute of virtual time.
    pub async fn of_voters(sim: &Sim, voters: u64, options: SimOptions, app: A) -> Self {
        let cluster = Self::new(sim, options, app);
        for id in 1..=voters {
            cluster.start(id).await;
        }
        let nodes = (1..=voters).map(|id| (id, cluster.shared.app.address(id))).collect();
        cluster.raft(1).initialize(nodes).await.expect("a fresh node can be initialized");
        cluster.leader().await;
        cluster
    }

    /// The application that was given.
    pub fn app(&self) -> &A {
        &self.shared.app
    }

    /// What is outside of all nodes.
    pub fn world(&self) -> &SimRuntime {
        &self.shared.world
    }

    /// The network between the nodes.
    pub fn network(&self) -> &MemNetwork<A::Types> {
        &self.shared.network
    }

    /// Starts node `id`: with empty stores the first time, with what is on its disk later.
    ///
    /// # Panics
    ///
    /// When it runs already, or does not start.
    pub async fn start(&self, id: u64) {
        let runs =
            self.try_start(id).await.unwrap_or_else(|error| panic!("node {id} does not start: {error}"));
        assert!(runs, "node {id} was killed while it started");
    }

    /// As [`start`](Self::start), but an error of the start is returned. Returns whether it runs: it may have been killed
    /// while it read its stores.
    ///
    /// # Errors
    ///
    /// Those of [`Raft::start`].
    ///
    /// # Panics
    ///
    /// When it runs already.
    pub async fn try_start(&self, id: u64) -> Result<bool, StartError> {
        let shared = &self.shared;
        let (runtime, failed_before) = self.begin_start(id);
        let (log_faults, machine_faults) = (self.log_faults(id), self.machine_faults(id));
        let (log, machine, reader) = shared.app.open(id);
        let log = FaultyLog::new(log, log_faults);
        let machine = FaultyStateMachine::new(machine, machine_faults);
        let machine = WatchedStateMachine::new(machine, id, shared.oracle.clone());
        let (config, network) = (shared.options.config.clone(), shared.network.node(id));
        let start = Raft::start(id, config, runtime.clone(), network, log, machine);
        let (reply, started) = oneshot::channel();
        // In its own process, so that it can be killed meanwhile.
        runtime.spawn(async move { drop(reply.send(start.await)) });
        let started = started.await;
        self.slot(id, |slot| slot.starting = None);
        let raft = match started {
            Ok(Ok(raft)) if !runtime.is_killed() => raft,
            Ok(Ok(_)) | Err(oneshot::Canceled) => return Ok(false),
            Ok(Err(error)) => {
                shared.world.note(format_args!("n{id} does not start: {error}"));
                if self.slot(id, |slot| slot.failed()) == failed_before {
                    shared.oracle.report(format!("node {id} does not start: {error}"));
                }
                return Err(error);
            }
        };
        shared.world.note(format_args!("n{id} starts"));
        shared.network.connect(raft.clone());
        shared.world.spawn(shared.oracle.clone().watch(raft.metrics(), shared.options.config.clone()));
        shared.world.spawn(shared.oracle.clone().watch_leadership(id, raft.leadership()));
        let running = Running { raft, reader, runtime, failed_before };
        self.slot(id, |slot| slot.running = Some(running));
        Ok(true)
    }

    /// The process for a start of node `id`, and how many writes of its stores have failed before.
    fn begin_start(&self, id: u64) -> (SimRuntime, u64) {
        let shared = &self.shared;
        let mut nodes = self.nodes();
        let slot = nodes.entry(id).or_insert_with(|| Slot::new(shared, id));
        assert!(slot.running.is_none(), "node {id} runs already");
        assert!(slot.starting.is_none() && !slot.is_stopping, "node {id} is being started or stopped");
        let runtime = shared.world.process(format!("n{id}"), slot.clock);
        slot.starting = Some(runtime.clone());
        (runtime, slot.failed())
    }

    /// Shuts node `id` down in good order.
    pub async fn stop(&self, id: u64) {
        self.shared.world.note(format_args!("n{id} stops"));
        let node = self.take_running(id);
        self.slot(id, |slot| slot.is_stopping = true);
        node.raft.shutdown().await;
        self.shared.network.disconnect(id);
        self.slot(id, |slot| slot.is_stopping = false);
    }

    /// Kills node `id`: whatever it was doing ends where it stands. A write that was under way is on its disk, or not, or a
    /// start of its entries is. A node that is not running yet is killed while it starts.
    pub fn kill(&self, id: u64) {
        self.shared.world.note(format_args!("n{id} is killed"));
        if let Some(starting) = self.slot(id, |slot| slot.starting.clone()) {
            starting.kill();
            return;
        }
        let node = self.take_running(id);
        self.shared.network.disconnect(id);
        node.runtime.kill();
    }

    /// Nothing of node `id` runs until [`resume`](Self::resume), and nobody is told.
    pub fn pause(&self, id: u64) {
        self.shared.world.note(format_args!("n{id} is paused"));
        self.node(id).runtime.pause();
    }

    /// Ends a [`pause`](Self::pause) or a [`suspend`](Self::suspend).
    pub fn resume(&self, id: u64) {
        self.shared.world.note(format_args!("n{id} goes on"));
        self.node(id).runtime.resume();
    }

    /// The handle of node `id`.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn raft(&self, id: u64) -> Raft<A::Types> {
        self.node(id).raft
    }

    /// The state of node `id` as it is now, whatever the others have.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn state(&self, id: u64) -> A::State {
        self.shared.app.state(&self.node(id).reader)
    }

    /// The latest metrics of node `id`.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn metrics(&self, id: u64) -> Arc<RaftMetrics<A::Types>> {
        self.raft(id).metrics().latest()
    }

    /// Decides what goes wrong with the log storage of node `id`, also after a restart.
    pub fn log_faults(&self, id: u64) -> StoreFaults {
        self.slot(id, |slot| slot.log_faults.clone())
    }

    /// Decides what goes wrong with the state machine of node `id`, also after a restart.
    pub fn machine_faults(&self, id: u64) -> StoreFaults {
        self.slot(id, |slot| slot.machine_faults.clone())
    }

    /// The nodes that run, in order.
    pub fn running(&self) -> Vec<u64> {
        self.nodes().iter().filter(|(_, slot)| slot.running.is_some()).map(|(id, _)| *id).collect()
    }

    /// The nodes that there are, running or not, in order.
    pub fn nodes_known(&self) -> Vec<u64> {
        self.nodes().keys().copied().collect()
    }

    /// Waits until one of the running nodes leads, a quorum of its voters follows it, and an entry of its term is
    /// applied: then it is ready for anything.
    ///
    /// # Panics
    ///
    /// When there is none within a minute of virtual time.
    pub async fn leader(&self) -> u64 {
        self.until(Duration::from_secs(60), "a leader", || self.find_leader()).await
    }

    fn find_leader(&self) -> Option<u64> {
        let nodes = self.running().into_iter().filter_map(|id| Some((id, self.running_node(id)?)));
        let metrics: BTreeMap<u64, _> = nodes.map(|(id, node)| (id, node.raft.metrics().latest())).collect();
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

    /// Waits until `look` finds something, and returns it.
    ///
    /// # Panics
    ///
    /// When it has not within `limit` of virtual time, with what it was and how the nodes are.
    pub async fn until<T>(&self, limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = self.shared.world.elapsed() + limit;
        loop {
            if let Some(found) = look() {
                return found;
            }
            let now = self.shared.world.elapsed();
            assert!(now < deadline, "still waiting for {what} after {limit:?}: {self:?}");
            self.shared.world.let_pass(PAUSE).await;
        }
    }

    /// Insists that nothing has happened that must not.
    ///
    /// # Panics
    ///
    /// With everything that was seen: two leaders of one term, a commit index that has fallen, nodes that have applied
    /// different entries or got different responses, a node that has panicked or stopped for a reason that nobody has
    /// given it.
    pub fn check(&self) {
        let mut violations = self.shared.oracle.violations();
        for (id, slot) in &*self.nodes() {
            let Some(node) = &slot.running else { continue };
            let metrics = node.raft.metrics().latest();
            // A part of the trace: the same seed must show the same, down to the last histogram.
            self.shared.world.note(format_args!("n{id} shows {metrics:?}"));
            let fatal = metrics.fatal.clone();
            if let Some(fatal) = fatal.filter(|_| slot.failed() == node.failed_before) {
                violations.push(format!("node {id} has stopped: {fatal}"));
            }
        }
        assert!(violations.is_empty(), "{}", violations.join("\n"));
    }

    /// What has happened so far.
    pub fn coverage(&self) -> Coverage {
        self.shared.oracle.coverage()
    }

    pub(super) fn running_node(&self, id: u64) -> Option<Running<A>> {
        self.nodes().get(&id)?.running.clone()
    }

    /// Whether node `id` is being started or shut down.
    pub(super) fn is_changing(&self, id: u64) -> bool {
        self.nodes().get(&id).is_some_and(|slot| slot.starting.is_some() || slot.is_stopping)
    }

    pub(super) fn node(&self, id: u64) -> Running<A> {
        self.running_node(id).unwrap_or_else(|| panic!("node {id} does not run"))
    }

    fn take_running(&self, id: u64) -> Running<A> {
        self.slot(id, |slot| slot.running.take()).unwrap_or_else(|| panic!("node {id} does not run"))
    }

    fn slot<R>(&self, id: u64, look: impl FnOnce(&mut Slot<A>) -> R) -> R {
        look(self.nodes().get_mut(&id).unwrap_or_else(|| panic!("there is no node {id}")))
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<u64, Slot<A>>> {
        self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: SimApplication> Slot<A> {
    fn new(shared: &Shared<A>, id: u64) -> Self {
        let (world, options) = (&shared.world, &shared.options);
        let log_faults = StoreFaults::on(world.any(), format!("n{id} log"), world.random());
        log_faults.set_latency(options.log_latency.clone());
        log_faults.tear_appends();
        let machine_faults = StoreFaults::on(world.any(), format!("n{id} state"), world.random());
        machine_faults.set_latency(options.machine_latency.clone());
        let is_skewed = options.has_skewed_clocks;
        let clock = if is_skewed { NodeClock::skewed(&mut world.generator()) } else { NodeClock::exact() };
        Self { clock, log_faults, machine_faults, starting: None, is_stopping: false, running: None }
    }

    /// How many writes of its stores were made to fail.
    fn failed(&self) -> u64 {
        self.log_faults.failed() + self.machine_faults.failed()
    }
}

impl<A: SimApplication> Clone for SimCluster<A> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<A: SimApplication> Clone for Running<A> {
    fn clone(&self) -> Self {
        let Self { raft, reader, runtime, failed_before } = self;
        let (raft, reader, runtime) = (raft.clone(), reader.clone(), runtime.clone());
        Self { raft, reader, runtime, failed_before: *failed_before }
    }
}

impl<A: SimApplication> fmt::Debug for SimCluster<A> {
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
