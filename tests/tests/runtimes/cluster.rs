//! One and the same cluster test on every runtime of which tasks must be `Send`. `check_runtimes` has it on one thread
//! with stores that are not, because the feature `single-threaded` cannot be had together with what these tests need.

use openconsensus::TokioRuntime;
use openconsensus_tests::everywhere::check_cluster;
use openconsensus_tests::sim_runtime::{NodeClock, Sim};

use crate::smol_runtime::SmolRuntime;

#[test]
fn a_cluster_lives_on_tokio_with_many_threads() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    // On a worker, as an application would be.
    runtime.block_on(async { tokio::spawn(check_cluster(|| TokioRuntime)).await.unwrap() });
}

#[test]
fn a_cluster_lives_on_tokio_with_one_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(check_cluster(|| TokioRuntime));
}

#[test]
fn a_cluster_lives_on_smol() {
    smol::block_on(check_cluster(|| SmolRuntime));
}

#[test]
fn a_cluster_lives_in_a_simulation_and_does_the_same_each_time() {
    let run = |seed: u64| {
        let sim = Sim::new(seed);
        let world = sim.world();
        sim.run(check_cluster(|| world.process("node", NodeClock::exact())));
        sim.trace_hash()
    };
    for seed in 1..=5 {
        assert_eq!(run(seed), run(seed), "the same seed and another run");
    }
}

#[test]
fn a_cluster_lives_in_a_simulation_with_clocks_that_differ() {
    for seed in 1..=5 {
        let sim = Sim::new(seed);
        let world = sim.world();
        let skewed = || NodeClock::skewed(&mut world.generator());
        sim.run(check_cluster(|| world.process("node", skewed())));
    }
}
