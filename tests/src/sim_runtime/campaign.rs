//! `KvCampaign`: a key-value cluster under load while everything goes wrong, and all that must hold then and afterwards.

use std::time::Duration;

use openconsensus::Config;

use super::cluster::{SimCluster, SimOptions};
use super::disturb::Disturbances;
use super::kv::KvApplication;
use super::oracle::Coverage;
use super::runtime::Sim;
use super::workload::{KvWorkload, WorkloadOptions};
use crate::cluster::StateKind;
use crate::linearizability::{Counts, KvModel, Limits, check};
use crate::network::Traffic;

/// A run of a key-value cluster: so many voters and spare nodes, clients that write and read, and everything that may go
/// wrong. Then all is repaired, and it must become well again by itself.
#[derive(Clone, Debug)]
pub struct KvCampaign {
    /// The nodes that vote at first.
    pub voters: u64,
    /// Nodes that belong to no cluster at first and may be added.
    pub spare_nodes: u64,
    /// For how long things go wrong, in virtual time.
    pub duration: Duration,
    /// What may go wrong.
    pub disturbances: Disturbances,
    /// What state machines keep when their node ends.
    pub state: StateKind,
    /// How nodes are made.
    pub options: SimOptions,
    /// What clients do.
    pub workload: WorkloadOptions,
}

/// What has happened in a [`KvCampaign`] that has found nothing wrong.
#[derive(Clone, Copy, Debug)]
pub struct CampaignReport {
    /// In the nodes.
    pub coverage: Coverage,
    /// On the network.
    pub traffic: Traffic,
    /// What clients were told.
    pub operations: Counts,
}

impl KvCampaign {
    /// The campaign that `seed` chooses: mostly three voters and two spare nodes, every kind of state machine, all
    /// disturbances or some of them, and a configuration with some of its limits and rules changed.
    pub fn of_seed(seed: u64) -> Self {
        // Not the numbers that the simulation of the same seed draws.
        let mut random = fastrand::Rng::with_seed(!seed);
        let states = [StateKind::Volatile, StateKind::Persistent, StateKind::Lagging(20)];
        let voters = [3, 3, 3, 3, 5, 5, 1, 2, 4][random.usize(..9)];
        Self {
            voters,
            spare_nodes: random.u64(0..3),
            duration: Duration::from_millis(random.u64(3_000..10_000)),
            disturbances: some_disturbances(&mut random),
            state: states[random.usize(..3)],
            options: some_options(&mut random),
            workload: WorkloadOptions {
                clients: random.u64(2..8),
                pause_max: Duration::from_millis(random.u64(0..60)),
                ..WorkloadOptions::default()
            },
        }
    }

    /// Runs it.
    ///
    /// # Panics
    ///
    /// When anything has happened that must not, when what clients saw is not linearizable, or when the cluster does not
    /// become well again: see [`SimCluster::converge`].
    pub fn run(&self, sim: &Sim) -> CampaignReport {
        sim.run(self.run_in(sim))
    }

    async fn run_in(&self, sim: &Sim) -> CampaignReport {
        let app = KvApplication::new(self.state);
        let cluster = SimCluster::of_voters(sim, self.voters, self.options.clone(), app).await;
        for id in self.voters + 1..=self.voters + self.spare_nodes {
            cluster.start(id).await;
        }
        let workload = KvWorkload::start(&cluster, self.workload);
        cluster.disturb(self.disturbances, self.duration).await;
        cluster.repair().await;
        let goal = workload.returned() + 20;
        let limit = Duration::from_secs(60);
        cluster.until(limit, "twenty more answers", || (goal <= workload.returned()).then_some(())).await;
        let history = workload.stop().await;
        cluster.converge().await;
        check(&KvModel::new(), &history, &Limits::default()).assert_linearizable();
        CampaignReport {
            coverage: cluster.coverage(),
            traffic: cluster.network().traffic(),
            operations: history.counts(),
        }
    }
}

/// All of them in half of the cases; otherwise each by the throw of a coin, so that rare combinations have time to show.
fn some_disturbances(random: &mut fastrand::Rng) -> Disturbances {
    if random.bool() {
        return Disturbances::all();
    }
    Disturbances {
        stops: random.bool(),
        pauses: random.bool(),
        cuts: random.bool(),
        messages: random.bool(),
        disks: random.bool(),
        membership: random.bool(),
        administration: random.bool(),
    }
}

fn some_options(random: &mut fastrand::Rng) -> SimOptions {
    let usual = SimOptions::default();
    // Not without both: a node that was removed and does not know it would then depose one leader after the other, as the
    // paper says (section 6), and the cluster would never come to rest.
    let (pre_vote, check_quorum) = [(false, true), (true, false), (true, true)][random.usize(..8).min(2)];
    let leases = random.u8(0..3) != 0;
    let config = Config {
        pre_vote,
        check_quorum,
        // Skewed clocks are up to 5 % too fast or too slow: 1.05 / 0.95 is a little less.
        lease_clock_drift_ppm_max: leases.then_some(106_000),
        inflight_appends_max: [1, 2, 256][random.usize(..3)],
        tail_bytes_max: [0, 4_000, 1 << 20][random.usize(..3)],
        apply_entries_max: [1, 7, 4096][random.usize(..3)],
        commit_delay_ms_max: [0, 1, 1, 5][random.usize(..4)],
        inputs_per_turn_max: [1, 4096, 4096][random.usize(..3)],
        snapshot_after_entries: [Some(10), Some(60), Some(300), None][random.usize(..4)],
        log_keep_entries: random.u64(0..30),
        metrics_interval_ms: random.u64(0..6),
        ..usual.config.clone()
    };
    // With so little admitted, some of the clients wait or are refused, and what exceeds a limit is seen.
    let config = match random.u8(..3) {
        0 => Config { command_bytes_max: 1 << 10, ..config },
        _ => Config {
            command_bytes_max: 1 << 10,
            uncommitted_bytes_max: 1 << 10,
            append_bytes_max: 1 << 10,
            inflight_bytes_max: 2 << 10,
            apply_bytes_max: 1 << 10,
            ..config
        },
    };
    let latency_max = Duration::from_millis([0, 1, 5, 30][random.usize(..4)]);
    SimOptions {
        config,
        has_skewed_clocks: random.u8(0..4) != 0,
        log_latency: Duration::ZERO..latency_max,
        ..usual
    }
}
