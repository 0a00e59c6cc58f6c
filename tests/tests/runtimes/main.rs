//! Runtimes: every one that nodes live on here passes the conformance suite and the cluster test, and such that are
//! broken on purpose do not.

mod broken;
mod cluster;
mod smol_runtime;

use openconsensus::TokioRuntime;
use openconsensus_tests::CrashRuntime;
use openconsensus_tests::conformance::check_runtime;
use openconsensus_tests::sim_runtime::{NodeClock, Sim};

use crate::smol_runtime::SmolRuntime;

#[test]
fn tokio_with_many_threads_conforms() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    // On a worker, as a node would be, and not on the thread that waits for it.
    let report = runtime.block_on(async { tokio::spawn(check_runtime(|| TokioRuntime)).await.unwrap() });
    report.assert_passed_except(&[]);
}

#[test]
fn tokio_with_one_thread_conforms() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(check_runtime(|| TokioRuntime)).assert_passed_except(&[]);
}

#[test]
fn tokio_with_processes_that_can_be_killed_conforms() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let starts = std::sync::atomic::AtomicU64::new(1);
    let start = || CrashRuntime::new(starts.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
    runtime.block_on(check_runtime(start)).assert_passed_except(&[]);
}

#[test]
fn smol_conforms() {
    smol::block_on(check_runtime(|| SmolRuntime)).assert_passed_except(&[]);
}

#[test]
fn simulations_conform_in_every_order_and_with_every_clock() {
    for seed in 1..=5 {
        let sim = Sim::new(seed);
        let world = sim.world();
        let skewed = || NodeClock { early_share: 0.0, ..NodeClock::skewed(&mut world.generator()) };
        sim.run(check_runtime(|| world.process("node", NodeClock::exact()))).assert_passed_except(&[]);
        sim.run(check_runtime(|| world.process("node", skewed()))).assert_passed_except(&[]);
    }
}
