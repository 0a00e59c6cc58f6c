//! Full load for a long time, with snapshots and purges going on: whether anything grows, slows down or stops.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use openconsensus::Config;
use openconsensus_bench::{Failure, Latencies, Sample, Stopwatch, median, resident_bytes};
use serde::{Deserialize, Serialize};

use super::load::Load;
use super::nodes::{Cluster, LogKind, NetKind, Plan, patient};

const MIB: u64 = 1 << 20;
/// How finely time is cut.
const SLICE: Duration = Duration::from_millis(100);
/// A follower that is slow waits so long before each append.
const SLOW: Duration = Duration::from_millis(50);

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Soak {
    pub(crate) log: LogKind,
    pub(crate) net: NetKind,
    pub(crate) payload: usize,
    pub(crate) clients: u64,
    pub(crate) slots: usize,
    pub(crate) snapshot_after_bytes: u64,
    /// Whether one follower has a slow disk.
    pub(crate) slow_follower: bool,
    pub(crate) duration: Duration,
    pub(crate) folder: PathBuf,
}

#[derive(Default)]
struct Slices {
    rates: Vec<f64>,
    resident: Vec<f64>,
    all: Latencies,
    building: Latencies,
    quiet: Latencies,
}

pub(crate) async fn run(task: Soak) -> Result<Sample, Failure> {
    let plan = Plan {
        log: task.log,
        net: task.net,
        config: Config {
            snapshot_after_entries: None,
            snapshot_after_bytes: Some(task.snapshot_after_bytes),
            log_keep_entries: 10_000,
            ..patient()
        },
        folder: task.folder.clone(),
        slots: task.slots,
        snapshots_on_disk: task.log.is_durable(),
        last_pause: if task.slow_follower { SLOW } else { Duration::ZERO },
    };
    let cluster = Cluster::start(plan, 3).await?;
    let leader = cluster.leader();
    let mut load = Load::begin(&leader, task.clients, task.payload, None);
    let mut slices = Slices::default();
    let (watch, began) = (Stopwatch::start(), Instant::now());
    let mut ticks = tokio::time::interval(SLICE);
    ticks.tick().await;
    while began.elapsed() < task.duration || slices.all.count() == 0 {
        let was_building = leader.metrics().latest().is_building_snapshot;
        ticks.tick().await;
        let is_building = leader.metrics().latest().is_building_snapshot;
        let seen = load.take();
        slices.rates.push(seen.per_second());
        slices.resident.push(resident_bytes()? as f64 / MIB as f64);
        slices.all.add(&seen.latencies);
        let kind = if was_building || is_building { &mut slices.building } else { &mut slices.quiet };
        kind.add(&seen.latencies);
    }
    let elapsed = watch.stop();
    let metrics = leader.metrics().latest();
    load.end().await?;
    cluster.stop().await;
    Ok(slices
        .sample(Sample::new().throughput(slices.all.count(), &elapsed))
        .with("snapshots", metrics.counters.snapshots_built as f64)
        .with("log_entries", (metrics.last.index - metrics.purged.index) as f64))
}

impl Slices {
    fn sample(&self, sample: Sample) -> Sample {
        let quarter = (self.rates.len() / 4).max(1);
        let (first, last) = (&self.rates[..quarter], &self.rates[self.rates.len() - quarter..]);
        // What is idle in ten slices of a second is seen by its clients.
        let seconds: Vec<f64> =
            self.rates.chunks(10).map(|slices| slices.iter().sum::<f64>() / slices.len() as f64).collect();
        let worst = seconds.iter().copied().fold(f64::INFINITY, f64::min);
        sample
            .latencies(&self.all)
            .with("p99_building_us", p99(&self.building))
            .with("p99_quiet_us", p99(&self.quiet))
            .with("last_to_first_quarter", median(last) / median(first))
            .with("worst_second_to_median", worst / median(&seconds))
            .with("resident_quarter_mib", self.resident[quarter - 1])
            .with("resident_end_mib", self.resident[self.resident.len() - 1])
            .with("resident_max_mib", self.resident.iter().copied().fold(0.0, f64::max))
    }
}

/// 0 where there was nothing of the kind.
fn p99(latencies: &Latencies) -> f64 {
    if latencies.count() == 0 { 0.0 } else { latencies.quantile_us(0.99) }
}
