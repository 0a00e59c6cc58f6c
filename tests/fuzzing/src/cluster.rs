//! A cluster to which anything happens that can happen to one.

use std::cell::Cell;
use std::collections::BTreeSet;

use openconsensus::{Config, MembershipChange};
use openconsensus_tests::engines::{Cluster, Letter, Test, nodes};

use crate::bytes_in::BytesIn;

/// Enough for anything that a few hundred bytes can begin.
const STEPS_MAX: usize = 2000;

pub(crate) fn run(input: &mut BytesIn<'_>) {
    let choice = input.byte();
    let voters = 3 + u64::from(choice & 1) * 2;
    let config = Config {
        pre_vote: choice & 2 == 0,
        check_quorum: choice & 4 == 0,
        snapshot_after_entries: (choice & 8 == 0).then_some(4),
        log_keep_entries: u64::from(choice & 16 == 0),
        tail_bytes_max: if choice & 32 == 0 { 0 } else { 1 << 20 },
        ..Config::default()
    };
    let mut cluster = Cluster::with_config(voters, config);
    cluster.add_fresh(voters + 1);
    for number in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        happen(&mut cluster, input, number as u64, voters + 1);
    }
}

/// Takes the letter of this number off its way.
fn take(cluster: &mut Cluster, number: u64) -> Option<Letter> {
    let count = cluster.letters().count() as u64;
    if count == 0 {
        return None;
    }
    let left = Cell::new(number % count);
    let is_it = |_: &Letter| {
        let now = left.get();
        left.set(now.wrapping_sub(1));
        now == 0
    };
    cluster.intercept(is_it).pop()
}

fn happen(cluster: &mut Cluster, input: &mut BytesIn<'_>, number: u64, size: u64) {
    let what = input.byte();
    let id = 1 + u64::from(what >> 5) % size;
    let is_alive = cluster.node(id).is_alive();
    match what & 31 {
        0..=5 => cluster.deliver_oldest(),
        6..=9 => {
            if let Some(letter) = take(cluster, input.below(256)) {
                cluster.deliver(letter);
            }
        }
        10 => {
            if let Some(letter) = take(cluster, input.below(256)) {
                // A snapshot has one receiver and one answer: only messages come twice.
                if !letter.is_snapshot() && letter.body().is_some() {
                    cluster.put_back(letter.clone());
                }
                cluster.deliver(letter);
            }
        }
        11 => {
            if let Some(letter) = take(cluster, input.below(256)) {
                cluster.lose(letter);
            }
        }
        12..=14 if is_alive => cluster.time_out(id),
        15 => cluster.skip(input.below(256) * 4),
        16 | 17 => drop(cluster.write(id, number)),
        18 if is_alive => drop(cluster.read(id)),
        19 if is_alive => cluster.crash(id),
        20 | 21 if !is_alive => cluster.restart(id),
        22 => cluster.slow_disk(id),
        23 | 24 if is_alive && cluster.has_writes(id) => cluster.complete_write(id),
        25 => cluster.speed_up(id),
        26 => change(cluster, input, id, size),
        27 => drop(cluster.transfer(id, Some(1 + input.below(size)))),
        28 => drop(cluster.build_snapshot(id)),
        29 => cluster.cut_one_way(id, 1 + input.below(size)),
        30 => cluster.heal(),
        31 => cluster.settle(),
        _ => {}
    }
}

fn change(cluster: &mut Cluster, input: &mut BytesIn<'_>, id: u64, size: u64) {
    let mask = input.byte();
    let set: BTreeSet<u64> = (1..=size).filter(|id| mask >> id & 1 == 1).collect();
    let change: MembershipChange<Test> = match input.below(6) {
        0 => MembershipChange::AddLearners(nodes(set)),
        1 => MembershipChange::Promote(set),
        2 => MembershipChange::Demote(set),
        3 => MembershipChange::Remove(set),
        4 => MembershipChange::Set { voters: set, nodes: nodes(1..=1 + input.below(size)) },
        _ => MembershipChange::SetVoters(set),
    };
    cluster.change(id, change);
}
