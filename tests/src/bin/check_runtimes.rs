//! Runs the conformance suite and the cluster test on the runtimes of this workspace. With the feature
//! `single-threaded`, which no test can have together with the network over gRPC, on a `LocalSet` and in a simulation of
//! one thread: then nothing is `Send`, and the stores of the cluster could not be.

use openconsensus::{AsyncRuntime, TokioRuntime};
use openconsensus_tests::conformance::{Report, check_runtime};
use openconsensus_tests::everywhere::check_cluster;
use openconsensus_tests::sim_runtime::{NodeClock, Sim};

fn main() {
    let mut reports = vec![on_one_thread(), simulated()];
    reports.extend(on_many_threads());
    reports.iter().for_each(|report| println!("{report}"));
    reports.iter().for_each(|report| report.assert_passed_except(&[]));
}

/// Both, on one runtime.
async fn check<R: AsyncRuntime>(name: &str, factory: impl Fn() -> R) -> Report {
    check_cluster(&factory).await;
    println!("a cluster lives {name}");
    check_runtime(factory).await
}

#[cfg(feature = "single-threaded")]
fn on_one_thread() -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a tokio runtime starts");
    let check = check("on one thread, which its stores cannot leave", || TokioRuntime);
    tokio::task::LocalSet::new().block_on(&runtime, check)
}

#[cfg(not(feature = "single-threaded"))]
fn on_one_thread() -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a tokio runtime starts").block_on(check("on one thread", || TokioRuntime))
}

#[cfg(feature = "single-threaded")]
fn on_many_threads() -> Option<Report> {
    None
}

#[cfg(not(feature = "single-threaded"))]
fn on_many_threads() -> Option<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    let runtime = runtime.expect("a tokio runtime starts");
    Some(runtime.block_on(check("on many threads", || TokioRuntime)))
}

fn simulated() -> Report {
    let sim = Sim::new(1);
    let world = sim.world();
    sim.run(check("in a simulation", || world.process("node", NodeClock::exact())))
}
