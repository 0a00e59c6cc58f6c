//! Everything at once and at random: clients that write and read while nodes are killed, links are cut, disks fail and
//! members change. What they saw must be linearizable, and the cluster must become well again by itself.

use std::cell::RefCell;

use openconsensus_tests::sim_runtime::{Coverage, KvCampaign, for_seeds};

/// How many seeds are run by default: changes of membership come in one of a few. `SEEDS` asks for others.
const SEEDS: u64 = 30;

#[test]
fn what_clients_see_is_linearizable_whatever_goes_wrong() {
    let coverage = RefCell::new(Coverage::default());
    for_seeds("cargo test -p openconsensus-tests --test driver whatever_goes_wrong", SEEDS, |sim| {
        let report = KvCampaign::of_seed(sim.seed()).run(sim);
        coverage.borrow_mut().add(&report.coverage);
        println!("seed {}: {report:?}", sim.seed());
    });
    println!("{:?}", coverage.borrow());
    // One seed alone need not have everything.
    if std::env::var("SEED").is_err() {
        for (what, count) in coverage.borrow().counts() {
            assert!(0 < count, "no {what} in all of the seeds: the simulation does not do what it says");
        }
    }
}
