//! Reads by lease on whole nodes: machines that are suspended, times of day that are set, and nodes that have been restarted.

use std::time::Duration;

use openconsensus::{AsyncRuntime, Config};
use openconsensus_tests::sim_runtime::{KvApplication, NodeClock, Sim, SimCluster, SimOptions};
use openconsensus_tests::{Outcome, StateKind, put};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn options() -> SimOptions {
    let usual = SimOptions::default();
    // Skewed clocks are up to 5 % too fast or too slow.
    let config = Config { lease_clock_drift_ppm_max: Some(106_000), ..usual.config.clone() };
    SimOptions { config, ..usual }
}

type Cluster = SimCluster<KvApplication>;

async fn of_three(sim: &Sim) -> Cluster {
    let app = KvApplication::new(StateKind::Volatile);
    let cluster = SimCluster::of_voters(sim, 3, options(), app).await;
    assert!(matches!(cluster.write(put("key", "old")).await, Outcome::Applied(_)));
    cluster
}

/// Another node than `id` leads.
async fn leader_but(cluster: &Cluster, id: u64) -> u64 {
    let find = || {
        let others = cluster.running().into_iter().filter(|other| *other != id);
        others.max_by_key(|other| cluster.metrics(*other).term).and_then(|other| {
            let metrics = cluster.metrics(other);
            metrics.leader.filter(|leader| *leader != id && metrics.applied.term == metrics.term)
        })
    };
    cluster.until(ms(10_000), "another leader", find).await
}

async fn write(cluster: &Cluster, value: &str) {
    assert!(matches!(cluster.write(put("key", value)).await, Outcome::Applied(_)));
}

fn lease_reads(cluster: &Cluster, id: u64) -> u64 {
    cluster.metrics(id).counters.reads_by_lease
}

/// The machine of a leader is suspended, its clock with it. When it goes on, its lease has not run out by that clock, and its
/// clients ask before anything else has arrived.
#[test]
fn a_leader_whose_machine_was_suspended_does_not_read_by_its_old_lease() {
    for seed in 1..=10 {
        let sim = Sim::new(seed);
        sim.run(async {
            let cluster = of_three(&sim).await;
            let leader = cluster.leader().await;
            assert!(cluster.read_by_lease(leader).await.is_some());
            cluster.until(ms(100), "the count", || (0 < lease_reads(&cluster, leader)).then_some(())).await;
            cluster.suspend(leader);
            let next = leader_but(&cluster, leader).await;
            cluster.write_at(next, put("key", "new"), ms(5_000)).await.expect("it leads");
            // What the others have sent to it would tell it that it is deposed.
            cluster.network().isolate(leader);
            assert_eq!(cluster.metrics(leader).leader, Some(leader), "it does not know");
            let before = lease_reads(&cluster, leader);
            cluster.resume(leader);
            let read = cluster.read_by_lease(leader).await;
            let seen = read.map(|reader| reader.get("key"));
            assert!(seen.is_none_or(|value| value == Some(b"new".to_vec())), "seed {seed}");
            assert_eq!(lease_reads(&cluster, leader), before);
            cluster.network().heal();
            cluster.converge().await;
        });
    }
}

/// A process that is stopped while its clock goes on needs no look at the time of day: the lease has run out.
#[test]
fn a_leader_that_was_paused_does_not_read_by_its_old_lease() {
    for seed in 1..=5 {
        let sim = Sim::new(seed);
        sim.run(async {
            let cluster = of_three(&sim).await;
            let leader = cluster.leader().await;
            cluster.pause(leader);
            let next = leader_but(&cluster, leader).await;
            cluster.write_at(next, put("key", "new"), ms(5_000)).await.expect("it leads");
            cluster.network().isolate(leader);
            cluster.resume(leader);
            let seen = cluster.read_by_lease(leader).await.map(|reader| reader.get("key"));
            assert!(seen.is_none_or(|value| value == Some(b"new".to_vec())), "seed {seed}");
            cluster.network().heal();
            cluster.converge().await;
        });
    }
}

/// A time of day that is set says nothing of how much time has passed. The lease ends, and the next round renews it; no
/// election comes of it.
#[test]
fn a_time_of_day_that_is_set_costs_a_round_and_nothing_else() {
    let sim = Sim::new(7);
    sim.run(async {
        let cluster = of_three(&sim).await;
        let leader = cluster.leader().await;
        let term = cluster.metrics(leader).term;
        for ahead_ms in [5_000, -86_400_000, 0] {
            let runtime = cluster.runtime(leader);
            runtime.set_wall_clock(ahead_ms);
            let jumps = cluster.metrics(leader).counters.clock_jumps;
            let noticed = || (jumps < cluster.metrics(leader).counters.clock_jumps).then_some(());
            cluster.until(ms(1_000), "the jump to be seen", noticed).await;
            let renewed = || cluster.metrics(leader).lease_ms;
            cluster.until(ms(1_000), "a new lease", renewed).await;
            let before = lease_reads(&cluster, leader);
            assert!(cluster.read_by_lease(leader).await.is_some());
            let counted = || (before < lease_reads(&cluster, leader)).then_some(());
            cluster.until(ms(1_000), "a read by lease", counted).await;
        }
        assert_eq!(cluster.metrics(leader).term, term);
        cluster.converge().await;
    });
}

/// A node that has been restarted applies up to its commit hint before it answers any read: its clients may have seen
/// that.
#[test]
fn a_restarted_node_answers_no_read_below_its_commit_hint() {
    for seed in 1..=5 {
        let sim = Sim::new(seed);
        sim.run(async {
            let cluster = of_three(&sim).await;
            let leader = cluster.leader().await;
            let node = (1..=3).find(|id| *id != leader).unwrap();
            for number in 0..10 {
                write(&cluster, &number.to_string()).await;
            }
            let seen = cluster.read(node).await.expect("it follows a leader").get("key");
            assert_eq!(seen, Some(b"9".to_vec()));
            cluster.kill(node);
            cluster.machine_faults(node).set_latency(ms(20)..ms(30));
            cluster.start(node).await;
            let hint = cluster.metrics(node).committed;
            for by_lease in [false, true] {
                let raft = cluster.raft(node);
                let index = if by_lease { raft.read_by_lease().await } else { raft.read().await };
                let index = index.expect("there is a leader");
                assert!(hint <= index && index <= cluster.metrics(node).last.index, "seed {seed}: {index}");
                let reader = cluster.read(node).await.expect("there is a leader");
                assert_eq!(reader.get("key"), Some(b"9".to_vec()), "seed {seed}");
            }
        });
    }
}

#[test]
fn the_clock_of_a_machine_that_is_suspended_stands_still_and_the_time_of_day_goes_on() {
    let sim = Sim::new(1);
    let world = sim.world();
    let clock = NodeClock { drift_ppm: 1_000_000, ..NodeClock::exact() };
    let machine = world.process("machine", clock);
    sim.run(async {
        let (now, day) = (machine.now(), machine.wall_clock());
        let shown = || (machine.now() - now, machine.wall_clock().duration_since(day).unwrap());
        world.let_pass(ms(10)).await;
        assert_eq!(shown(), (ms(20), ms(20)));
        machine.suspend();
        world.let_pass(ms(10)).await;
        assert_eq!(shown(), (ms(20), ms(40)));
        machine.resume();
        assert_eq!(shown(), (ms(20), ms(40)));
        world.let_pass(ms(10)).await;
        assert_eq!(shown(), (ms(40), ms(60)));
        // A timer that is armed now knows what was lost before.
        machine.let_pass(ms(10)).await;
        assert_eq!(shown(), (ms(50), ms(70)));
        machine.set_wall_clock(-70);
        assert_eq!(shown(), (ms(50), ms(0)));
        // A pause stops no clock.
        machine.pause();
        world.let_pass(ms(10)).await;
        machine.resume();
        assert_eq!(shown(), (ms(70), ms(20)));
    });
}
