//! What a seed decides before anything happens: how many nodes, their configuration, and how bad the world is.

use fastrand::Rng;
use openconsensus::Config;

/// The decisions.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) config: Config,
    /// Nodes 1 to so many.
    pub(super) nodes: u64,
    /// Nodes 1 to so many vote at first.
    pub(super) voters: u64,
    /// The voters have the first membership from the beginning; otherwise node 1 is told to begin a cluster.
    pub(super) is_placed: bool,
    pub(super) keeps_commit_hint: bool,
    /// Events until everything heals.
    pub(super) events: usize,
    /// The longest election timeout.
    pub(super) election_us: u64,
    pub(super) net: Net,
    pub(super) disk: Latency,
    pub(super) machine: Latency,
    /// Of a hundred completions of writes so many speak for several.
    pub(super) coalesce_percent: u64,
    /// Of a hundred inputs so many wait for others before effects are taken.
    pub(super) gather_percent: u64,
    /// Of a hundred snapshots so many break off.
    pub(super) break_percent: u64,
    pub(super) is_volatile: bool,
    /// Commands have up to so many bytes.
    pub(super) command_bytes_max: u64,
    /// Of a hundred nodes that have just been elected so many die at once.
    pub(super) strike_percent: u64,
    /// Of a hundred writes of several parts so many are torn by a crash.
    pub(super) tear_percent: u64,
    /// The mean time between faults, between requests of clients, and between administrative requests.
    pub(super) fault_us: u64,
    pub(super) client_us: u64,
    pub(super) admin_us: u64,
    /// Clocks go wrong by up to so much.
    pub(super) skew_ppm: u64,
}

/// How letters travel.
#[derive(Clone, Debug)]
pub(super) struct Net {
    pub(super) delay_us: u64,
    pub(super) loss_percent: u64,
    pub(super) repeat_percent: u64,
    pub(super) slow_percent: u64,
    pub(super) slow_us: u64,
}

/// How long something takes: mostly the first, sometimes the second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    pub(super) usual_us: u64,
    pub(super) slow_us: u64,
    pub(super) slow_percent: u64,
}

impl Latency {
    pub(super) fn draw(&self, rng: &mut Rng) -> u64 {
        let is_slow = rng.u64(0..100) < self.slow_percent;
        let most = if is_slow { self.slow_us } else { self.usual_us };
        1 + rng.u64(0..most.max(1))
    }
}

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let mut config = config(rng);
        // Of a generator of their own, so that leases leave everything else as it is.
        let own = &mut Rng::with_seed(seed ^ 0x1EA5_E000);
        config.lease_clock_drift_ppm_max =
            one_of(own, &[None, None, None, Some(1_000), Some(50_000), Some(500_000)]);
        config.snapshot_after_bytes = one_of(own, &[None, None, Some(1_000), Some(6_000)]);
        config.snapshot_after_ms = one_of(own, &[None, None, Some(50), Some(1_000)]);
        config.snapshot_jitter_percent = one_of(own, &[0, 10, 50]);
        config.log_keep_bytes = one_of(own, &[u64::MAX, 0, 500]);
        let is_steady = own.u64(0..4) == 0;
        let is_about_leases = config.lease_clock_drift_ppm_max.is_some() && own.bool();
        // Not drawn, so that the plans of all other seeds stay what they were.
        if seed % 4 == 3 {
            (config.uncommitted_bytes_max, config.command_bytes_max) = (2048, 2048);
        }
        let election_us = 1000 * config.election_timeout_ms_max;
        let voters = rng.u64(1..=7);
        let net = Net {
            delay_us: one_of(rng, &[100, 500, 2_000, election_us / 20]),
            loss_percent: one_of(rng, &[0, 1, 5, 20]),
            repeat_percent: one_of(rng, &[0, 2, 10]),
            slow_percent: one_of(rng, &[0, 2, 15]),
            slow_us: one_of(rng, &[election_us / 4, election_us, 4 * election_us]),
        };
        let latency = |rng: &mut Rng| Latency {
            usual_us: one_of(rng, &[20, 200, 2_000]),
            slow_us: one_of(rng, &[2_000, election_us / 3, 2 * election_us]),
            slow_percent: one_of(rng, &[0, 3, 20]),
        };
        let skew_ppm = one_of(own, &[0, 1_000, 30_000, 150_000]);
        let skew_ppm = match config.lease_clock_drift_ppm_max {
            None => skew_ppm,
            Some(_) if is_steady => 0,
            // The fastest clock is then exactly so much faster than the slowest one.
            Some(drift) => drift * 1_000_000 / (2_000_000 + drift),
        };
        let plan = Self {
            seed,
            nodes: (voters + rng.u64(0..=3)).clamp(2, 8),
            voters,
            is_placed: rng.u64(0..3) > 0,
            keeps_commit_hint: rng.bool(),
            events: rng.usize(1_500..6_000),
            election_us,
            net,
            disk: latency(rng),
            machine: latency(rng),
            coalesce_percent: one_of(rng, &[0, 30, 80]),
            gather_percent: one_of(rng, &[0, 10, 50]),
            break_percent: one_of(rng, &[0, 10, 40]),
            is_volatile: rng.bool(),
            command_bytes_max: one_of(rng, &[8, 300, 1_500]),
            strike_percent: one_of(rng, &[0, 0, 15, 50, 95]),
            tear_percent: one_of(rng, &[0, 2, 20]),
            fault_us: one_of(rng, &[election_us / 4, election_us, 5 * election_us]),
            client_us: one_of(rng, &[300, 2_000, 10_000]),
            admin_us: one_of(rng, &[election_us / 4, election_us, 4 * election_us]),
            skew_ppm,
            config,
        };
        if is_about_leases { plan.about_leases() } else { plan }
    }

    /// A world in which little goes wrong by chance, so that leaders have leases when they are ambushed.
    fn about_leases(self) -> Self {
        let latency = Latency { usual_us: 200, slow_us: 2_000, slow_percent: 1 };
        Self {
            net: Net { delay_us: 500, loss_percent: 0, slow_percent: 2, ..self.net },
            disk: latency,
            machine: latency,
            strike_percent: 0,
            tear_percent: 0,
            fault_us: 20 * self.election_us,
            client_us: self.election_us / 4,
            admin_us: 20 * self.election_us,
            ..self
        }
    }
}

impl Plan {
    pub(super) fn has_leases(&self) -> bool {
        self.config.lease_clock_drift_ppm_max.is_some()
    }
}

fn config(rng: &mut Rng) -> Config {
    let election_timeout_ms_min = rng.u64(20..60);
    let pre_vote = rng.u64(0..4) > 0;
    Config {
        election_timeout_ms_min,
        election_timeout_ms_max: 2 * election_timeout_ms_min,
        heartbeat_interval_ms: election_timeout_ms_min / rng.u64(3..7),
        pre_vote,
        // Without either of them a removed node can go on disturbing the others (thesis 4.2.3).
        check_quorum: !pre_vote || rng.u64(0..4) > 0,
        write_stall_timeout_ms: one_of(rng, &[10, 40, 5_000]),
        append_bytes_max: one_of(rng, &[1_024, 4_096, 1 << 20]),
        inflight_appends_max: rng.u64(1..6),
        inflight_bytes_max: 1 << 20,
        tail_bytes_max: one_of(rng, &[0, 300, 2_000, 1 << 20]),
        apply_entries_max: one_of(rng, &[1, 7, 4_096]),
        apply_bytes_max: one_of(rng, &[1_024, 1 << 20]),
        snapshot_after_entries: one_of(rng, &[None, Some(5), Some(30)]),
        log_keep_entries: rng.u64(0..8),
        log_hold_entries_max: 8 + rng.u64(0..30),
        promotion_lag_entries_max: one_of(rng, &[0, 5, 100]),
        transfer_timeout_ms: one_of(rng, &[10, 100]),
        write_outcome_timeout_ms: one_of(rng, &[0, 50, 200]),
        read_timeout_ms: one_of(rng, &[20, 300]),
        ..Config::default()
    }
}

fn one_of<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(0..from.len())]
}
