//! Histograms in virtual time: they tell the delays that there are, and the same seed gives the same.

use std::sync::Arc;
use std::time::Duration;

use openconsensus::{Config, Histograms};
use openconsensus_tests::sim_runtime::{KvApplication, Sim, SimCluster, SimOptions};
use openconsensus_tests::{LinkFaults, StateKind, put};

const DISK: Duration = Duration::from_millis(5);
const APPLY: Duration = Duration::from_millis(3);
const WRITES: u64 = 20;

/// What the leader of three nodes shows after some writes, each made when the one before it was answered, and what the
/// others show.
fn run(seed: u64) -> Vec<Arc<Histograms>> {
    let sim = Sim::new(seed);
    sim.run(async {
        let options = SimOptions {
            config: Config { snapshot_after_entries: None, ..SimOptions::default().config },
            has_skewed_clocks: false,
            log_latency: Duration::ZERO..Duration::ZERO,
            machine_latency: Duration::ZERO..Duration::ZERO,
            link_faults: LinkFaults { delay: Duration::ZERO..Duration::ZERO, ..LinkFaults::default() },
        };
        let app = KvApplication::new(StateKind::Volatile);
        let cluster = SimCluster::of_voters(&sim, 3, options, app).await;
        let leader = cluster.leader().await;
        let before = cluster.metrics(leader).histograms.clone();
        for id in cluster.running() {
            cluster.log_faults(id).slow_down(DISK);
            cluster.machine_faults(id).slow_down(APPLY);
        }
        for n in 0..WRITES {
            cluster.raft(leader).write(put(format!("k{n}"), "v")).await.unwrap();
        }
        // Histograms are published less often than other metrics.
        let published = cluster.until(Duration::from_secs(1), "all writes in the histograms", || {
            let now = cluster.metrics(leader).histograms.clone();
            (now.writes.whole.count() - before.writes.whole.count() == WRITES).then_some(now)
        });
        let now = published.await;
        let others = cluster.running().into_iter().filter(|id| *id != leader);
        let others: Vec<_> = others.map(|id| cluster.metrics(id).histograms.clone()).collect();
        [before, now].into_iter().chain(others).collect()
    })
}

#[test]
fn histograms_tell_the_delays_of_disks_and_state_machines() {
    let shown = run(1);
    let (before, now) = (&shown[0], &shown[1]);
    let check = |what: &str, median: u64, delay: Duration| {
        let exact = delay.as_nanos() as u64;
        // A sixteenth for the buckets; whatever else happens takes no time.
        assert!((exact..=exact + exact / 16).contains(&median), "{what}: {median} ns, and not {delay:?}");
    };
    check("stable", now.writes.stable.since(&before.writes.stable).p50(), DISK);
    check("committed", now.writes.committed.since(&before.writes.committed).p50(), DISK);
    check("applied", now.writes.applied.since(&before.writes.applied).p50(), APPLY);
    check("whole", now.writes.whole.since(&before.writes.whole).p50(), DISK + APPLY);
    check("disk", now.disk.append.since(&before.disk.append).p50(), DISK);
    check("apply", now.apply.call.since(&before.apply.call).p50(), APPLY);
    for follower in &shown[2..] {
        check("disk of a follower", follower.disk.append.p50(), DISK);
        assert_eq!(follower.writes.whole.count(), 0, "nobody has written there");
    }
}

#[test]
fn the_same_seed_shows_the_same_histograms() {
    for seed in 1..=3 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
