//! Everything at once and at random: nodes killed and restarted, links cut, members changed, stores that fail.
//!
//! A seed decides what is done and in which order, and which messages faults strike. Threads and timers do not obey
//! it, so a failure may need some repetitions to show again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openconsensus::{Config, MembershipChange};
use openconsensus_memstore::kv::Kv;
use openconsensus_tests::{Cluster, ClusterOptions, LinkFaults, Load, Register, StateKind};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Nodes that there are; the first three are voters at first.
const NODES: u64 = 5;

/// How long things go wrong, before everything is healed and checked.
const DURATION: Duration = Duration::from_secs(5);

/// How long a whole run may take.
const DURATION_MAX: Duration = Duration::from_secs(60);

/// Says what a run that fails has done, and how to repeat it.
#[derive(Clone)]
struct Report {
    seed: u64,
    steps: Arc<Mutex<Vec<String>>>,
}

impl Report {
    fn step(&self, what: impl Into<String>) {
        self.steps.lock().expect("nobody panics with the lock").push(what.into());
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let steps = std::mem::take(&mut *self.steps.lock().expect("nobody panics with the lock"));
            if steps.is_empty() {
                return;
            }
            eprintln!("the run came to: {}", steps.join("; "));
            let seed = self.seed;
            eprintln!("repeat with: SEED={seed} cargo test -p openconsensus-tests --test cluster churn");
        }
    }
}

#[tokio::test]
async fn random_faults_lose_nothing_with_volatile_state() {
    churn(StateKind::Volatile).await;
}

#[tokio::test]
async fn random_faults_lose_nothing_with_persistent_state() {
    churn(StateKind::Persistent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_lose_nothing_with_lagging_state_on_many_threads() {
    churn(StateKind::Lagging(50)).await;
}

async fn churn(state: StateKind) {
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    let report = Report { seed, steps: Arc::default() };
    timeout(DURATION_MAX, churn_with(state, report.clone())).await.expect("the run comes to an end");
}

async fn churn_with(state: StateKind, report: Report) {
    let seed = report.seed;
    let config = Config {
        election_timeout_ms_min: 200,
        election_timeout_ms_max: 400,
        heartbeat_interval_ms: 30,
        snapshot_after_entries: Some(200),
        log_keep_entries: 20,
        log_hold_entries_max: 400,
        tail_bytes_max: 10_000,
        snapshot_progress_timeout_ms: 300,
        snapshot_install_timeout_ms: 1000,
        write_outcome_timeout_ms: 300,
        read_timeout_ms: 300,
        ..ClusterOptions::config()
    };
    let cluster = Cluster::of_voters(3, ClusterOptions { config, state, seed }).await;
    for id in 4..=NODES {
        cluster.start(id).await;
    }
    let load = Load::start(&cluster, "load", 4);
    let readers = Readers::start(&cluster);
    let mut churn = Churn {
        cluster: cluster.clone(),
        random: fastrand::Rng::with_seed(seed),
        asked: JoinSet::new(),
        report: report.clone(),
    };
    let end = Instant::now() + DURATION;
    while Instant::now() < end {
        churn.disturb().await;
        sleep(Duration::from_millis(churn.random.u64(10..150))).await; // paces the faults
    }
    churn.repair().await;
    report.step("repaired");
    load.acknowledged(20).await;
    let history = load.stop().await;
    report.step("writers stopped");
    readers.stop(&cluster).await;
    report.step("readers stopped");

    let leader = cluster.leader().await;
    let members: Vec<u64> = cluster.metrics(leader).membership.membership.nodes().keys().copied().collect();
    cluster.wait_equal(&members).await;
    for id in members {
        history.check(&cluster.reader(id).view());
    }
}

/// A register with a writer, and readers on every node.
struct Readers {
    register: Arc<Register>,
    is_over: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Readers {
    fn start(cluster: &Cluster) -> Self {
        let mut readers = Self {
            register: Arc::new(Register::new("register")),
            is_over: Arc::default(),
            tasks: JoinSet::new(),
        };
        let (mut client, register, is_over) =
            (cluster.client(), readers.register.clone(), readers.is_over.clone());
        readers.tasks.spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                register.write(&mut client).await;
            }
        });
        for id in 1..=NODES {
            let (client, register, is_over) =
                (cluster.client(), readers.register.clone(), readers.is_over.clone());
            readers.tasks.spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    if !register.read_at(&client, id).await {
                        sleep(Duration::from_millis(5)).await; // paces the attempts
                    }
                }
            });
        }
        readers
    }

    async fn stop(mut self, cluster: &Cluster) {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("nobody may panic");
        }
        self.register.read(&mut cluster.client()).await;
        self.register.check();
    }
}

struct Churn {
    cluster: Cluster,
    random: fastrand::Rng,
    /// Requests that nobody waits for: their outcome does not matter.
    asked: JoinSet<()>,
    report: Report,
}

impl Churn {
    async fn disturb(&mut self) {
        self.revive_failed().await;
        let node = self.random.u64(1..=NODES);
        let other = self.random.u64(1..=NODES);
        let network = self.cluster.network().clone();
        let is_running = self.cluster.running().contains(&node);
        let action = self.random.u32(0..14);
        self.report.step(format!("action {action} with {node} and {other}"));
        match action {
            0 | 1 if is_running && 2 < self.cluster.running().len() => self.cluster.crash(node).await,
            2 if is_running && 2 < self.cluster.running().len() => self.stop(node).await,
            0..=4 => self.start_all().await,
            5 => network.isolate(node),
            6 if node != other => network.cut_one_way(node, other),
            6 | 7 => network.heal(),
            8 => {
                let is_rough = self.random.bool();
                network.set_faults(if is_rough { LinkFaults::rough() } else { LinkFaults::default() });
            }
            9 => self.ask_for_transfer(),
            10 => self.ask_for_change(node, other),
            11 if is_running => self.ask_for_snapshot(node),
            12 => self.disturb_store(node),
            _ => self.release_stores(),
        }
    }

    /// Restarts nodes that a failing store has stopped.
    async fn revive_failed(&self) {
        for id in self.cluster.running() {
            if self.cluster.metrics(id).fatal.is_some() {
                self.stop(id).await;
                self.start(id).await;
            }
        }
    }

    async fn start_all(&self) {
        let running: BTreeSet<u64> = self.cluster.running().into_iter().collect();
        for id in (1..=NODES).filter(|id| !running.contains(id)) {
            self.start(id).await;
        }
    }

    fn disturb_store(&mut self, id: u64) {
        let faults =
            if self.random.bool() { self.cluster.log_faults(id) } else { self.cluster.machine_faults(id) };
        match self.random.u32(0..3) {
            0 => faults.fail_write(self.random.u64(1..20)),
            1 => faults.slow_down(Duration::from_millis(self.random.u64(0..20))),
            _ => faults.stall(),
        }
    }

    fn release_stores(&self) {
        (1..=NODES).for_each(|id| self.release_stores_of(id));
    }

    fn release_stores_of(&self, id: u64) {
        for faults in [self.cluster.log_faults(id), self.cluster.machine_faults(id)] {
            faults.release();
            faults.slow_down(Duration::ZERO);
        }
    }

    /// Starts a node. A write that is to fail may fail right then; the next attempt must not.
    async fn start(&self, id: u64) {
        self.release_stores_of(id);
        if self.cluster.try_start(id).await.is_err() {
            self.cluster.start(id).await;
        }
    }

    /// Stops a node. It waits for what its stores are doing, so they must not be stalled.
    async fn stop(&self, id: u64) {
        self.release_stores_of(id);
        self.cluster.stop(id).await;
    }

    fn ask_for_snapshot(&mut self, id: u64) {
        let raft = self.cluster.raft(id);
        self.asked.spawn(async move { drop(raft.snapshot().await) });
    }

    fn ask_for_transfer(&mut self) {
        for id in self.cluster.running() {
            let raft = self.cluster.raft(id);
            self.asked.spawn(async move { drop(raft.transfer_leadership(None).await) });
        }
    }

    /// Asks every node for one change; only a leader can begin it.
    fn ask_for_change(&mut self, node: u64, other: u64) {
        let set = BTreeSet::from([node, other, self.random.u64(1..=NODES)]);
        let change: MembershipChange<Kv> = match self.random.u32(0..6) {
            0 | 1 => MembershipChange::AddLearners([(node, Cluster::address(node))].into()),
            2 => MembershipChange::Promote([node].into()),
            3 => MembershipChange::Demote([node].into()),
            4 => MembershipChange::Remove([node].into()),
            _ => MembershipChange::SetVoters(set),
        };
        for id in self.cluster.running() {
            let (raft, change) = (self.cluster.raft(id), change.clone());
            self.asked.spawn(async move { drop(raft.change_membership(change, None).await) });
        }
    }

    async fn repair(&mut self) {
        self.asked.abort_all();
        self.cluster.network().heal();
        self.cluster.network().calm();
        for id in 1..=NODES {
            // A write that was made to fail and has not come up yet must not come up in the checks.
            self.cluster.log_faults(id).fail_write(u64::MAX / 2);
            self.cluster.machine_faults(id).fail_write(u64::MAX / 2);
        }
        self.release_stores();
        self.revive_failed().await;
        self.start_all().await;
    }
}
