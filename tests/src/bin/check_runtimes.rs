//! Runs the conformance suite on the runtimes of this workspace. With the feature `single-threaded`, which no test can have
//! together with the network over gRPC, on a `LocalSet` and in a simulation of one thread.

use openconsensus::TokioRuntime;
use openconsensus_tests::conformance::{Report, check_runtime};
use openconsensus_tests::sim_runtime::{NodeClock, Sim};

fn main() {
    let mut reports = vec![on_one_thread(), simulated()];
    reports.extend(on_many_threads());
    reports.iter().for_each(|report| println!("{report}"));
    reports.iter().for_each(|report| report.assert_passed_except(&[]));
}

#[cfg(feature = "single-threaded")]
fn on_one_thread() -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a tokio runtime starts");
    tokio::task::LocalSet::new().block_on(&runtime, check_runtime(|| TokioRuntime))
}

#[cfg(not(feature = "single-threaded"))]
fn on_one_thread() -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a tokio runtime starts").block_on(check_runtime(|| TokioRuntime))
}

#[cfg(feature = "single-threaded")]
fn on_many_threads() -> Option<Report> {
    None
}

#[cfg(not(feature = "single-threaded"))]
fn on_many_threads() -> Option<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
    Some(runtime.expect("a tokio runtime starts").block_on(check_runtime(|| TokioRuntime)))
}

fn simulated() -> Report {
    let sim = Sim::new(1);
    let world = sim.world();
    sim.run(check_runtime(|| world.process("node", NodeClock::exact())))
}
