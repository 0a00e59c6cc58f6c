//! How an application tests its own state machine and store: three nodes on one thread, in virtual time, while everything
//! goes wrong that can. `cargo test -p openconsensus-tests --example own_store`; a failure says how it is repeated.

mod bank;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use openconsensus_memstore::MemLog;
use openconsensus_tests::sim_runtime::{
    Disturbances, Sim, SimApplication, SimCluster, SimOptions, for_seeds,
};

use bank::{Bank, BankStore, Payment};

const COMMAND: &str = "cargo test -p openconsensus-tests --example own_store";

/// What the nodes have on their disks: here a log of the library and the store that is tested.
#[derive(Default)]
struct Disks(Mutex<BTreeMap<u64, (MemLog<Bank>, BankStore)>>);

impl SimApplication for Disks {
    type Types = Bank;
    type Log = MemLog<Bank>;
    type Machine = BankStore;
    type Reader = BankStore;
    type State = BTreeMap<u64, u64>;

    fn open(&self, id: u64) -> (MemLog<Bank>, BankStore, BankStore) {
        let (log, store) = self.0.lock().unwrap().entry(id).or_default().clone();
        (log, store.clone(), store)
    }

    fn state(&self, reader: &BankStore) -> BTreeMap<u64, u64> {
        reader.accounts()
    }

    fn address(&self, _id: u64) {}
}

/// Payments go on while nodes are killed, links are cut and disks fail. Afterwards all nodes must agree, and no money may
/// have been made or lost.
async fn no_money_is_made_or_lost(sim: &Sim) {
    let cluster = SimCluster::of_voters(sim, 3, SimOptions::default(), Disks::default()).await;
    let payments = async {
        for number in 0..100 {
            let payment = Payment { from: number % 7, to: number % 5, amount: number };
            cluster.write(payment).await;
        }
    };
    let faults = cluster.disturb(Disturbances::all(), Duration::from_secs(5));
    let repaired = async {
        faults.await;
        cluster.repair().await;
    };
    futures::join!(payments, repaired);
    cluster.converge().await;
    let accounts = cluster.state(cluster.leader().await);
    assert_eq!(accounts.values().sum::<u64>(), 100 * accounts.len() as u64);
}

#[test]
fn no_money_is_made_or_lost_whatever_goes_wrong() {
    for_seeds(COMMAND, 5, |sim| sim.run(no_money_is_made_or_lost(sim)));
}

fn main() {
    for_seeds(COMMAND, 100, |sim| sim.run(no_money_is_made_or_lost(sim)));
}
