//! Figure 3 of the Raft paper: the five properties hold at all times, whatever the network, the disks and the timers do.
//!
//! Every run is decided by its seed. A run that fails says which, and `SEED=n` repeats it; `SEEDS=n` runs the first `n`.

use std::collections::BTreeSet;

use openconsensus::engine::Input;
use openconsensus::{Config, MembershipChange};
use openconsensus_tests::engines::{Chance, Cluster, What, nodes};

const STEPS: u64 = 2_000;

fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().map(|value| value.parse().expect("a seed is a number"));
    match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, count) => (0..count.unwrap_or(60)).collect(),
    }
}

/// Figure 3: Election Safety, Leader Append-Only, Log Matching, Leader Completeness and State Machine Safety hold while
/// messages are lost, repeated and reordered, disks are slow, nodes crash, memberships change, leaders hand over and
/// snapshots are built and sent; and when that ends, the cluster comes to rest with equal logs (5.5, 5.6).
#[test]
fn figure_3_the_five_properties_hold_under_random_faults() {
    let seeds = seeds();
    let mut seen = Seen::default();
    for seed in &seeds {
        match std::panic::catch_unwind(|| storm(*seed)) {
            Ok(cluster) => seen.look_at(&cluster),
            Err(panic) => {
                eprintln!(
                    "repeat with: SEED={seed} cargo test -p openconsensus-tests --test engine five_properties"
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    if 60 <= seeds.len() {
        seen.check(seeds.len() as u64);
    }
}

/// What has happened in all runs together, so that a harness in which nothing happens any more is noticed.
#[derive(Debug, Default)]
struct Seen {
    committed: u64,
    elections_won: u64,
    truncations: u64,
    snapshots_installed: u64,
    catch_up_reads: u64,
    memberships: u64,
}

impl Seen {
    fn look_at(&mut self, cluster: &Cluster) {
        self.committed += cluster.oracle.committed();
        self.memberships += cluster.oracle.memberships();
        for id in cluster.alive() {
            let counters = cluster.metrics(id).counters;
            self.elections_won += counters.elections_won;
            self.truncations += counters.truncations;
            self.snapshots_installed += counters.snapshots_installed;
            self.catch_up_reads += counters.catch_up_reads;
        }
    }

    fn check(&self, runs: u64) {
        assert!(40 * runs < self.committed, "too little is committed: {self:?}");
        assert!(runs < self.elections_won, "too few elections: {self:?}");
        assert!(runs / 8 < self.truncations, "too few conflicts: {self:?}");
        assert!(runs / 8 < self.snapshots_installed, "too few snapshots: {self:?}");
        assert!(runs / 8 < self.catch_up_reads, "too few peers that lag: {self:?}");
        assert!(2 * runs < self.memberships, "too few changes of membership: {self:?}");
    }
}

fn storm(seed: u64) -> Cluster {
    let mut chance = Chance::new(seed);
    let voters = 1 + chance.below(5);
    let protection = chance.below(4);
    let config = Config {
        log_keep_entries: chance.below(8),
        log_hold_entries_max: 20,
        snapshot_after_entries: (chance.below(3) > 0).then_some(5),
        append_bytes_max: 1024,
        inflight_bytes_max: 4096,
        inflight_appends_max: 1 + chance.below(4),
        tail_bytes_max: 1000 * chance.below(3),
        // Without either of them a removed node can go on disturbing the others (4.2.3).
        pre_vote: protection > 0,
        check_quorum: protection != 1,
        promotion_lag_entries_max: 5,
        ..Config::default()
    };
    let mut cluster = Cluster::with_config(voters, config);
    for id in voters + 1..=voters + 2 {
        cluster.add_fresh(id);
    }
    // From a run in which nearly everything goes wrong to one in which most goes well.
    let calm = 3 + chance.below(7);
    for _ in 0..STEPS {
        if chance.below(10) < calm {
            go_on(&mut cluster, &mut chance);
        } else {
            disturb(&mut cluster, &mut chance);
        }
    }
    cluster.recover();
    cluster
}

/// What a cluster without faults would do.
fn go_on(cluster: &mut Cluster, chance: &mut Chance) {
    match chance.below(10) {
        0 => cluster.run_timers(1 + chance.below(20)),
        1 => {
            if let Some(leader) = cluster.leader() {
                cluster.write(leader, chance.number());
            }
        }
        2 if chance.below(4) == 0 => {
            let ids: Vec<u64> = cluster.nodes.keys().copied().collect();
            if let Some(leader) = cluster.leader() {
                change_membership(cluster, chance, leader, &ids);
            }
        }
        _ => cluster.deliver_oldest(),
    }
}

fn disturb(cluster: &mut Cluster, chance: &mut Chance) {
    let ids: Vec<u64> = cluster.nodes.keys().copied().collect();
    let id = *chance.pick(&ids);
    let is_alive = cluster.node(id).is_alive();
    match chance.below(100) {
        0..40 => deliver_some(cluster, chance),
        40..48 => pass_time(cluster, chance, id),
        48..50 => {
            if let Some(letter) = cluster.take_letter(chance) {
                cluster.lose(letter);
            }
        }
        50..54 => {
            if let Some(letter) = cluster.take_letter(chance) {
                if matches!(letter.what, What::Message(_)) {
                    cluster.put_back(letter.clone());
                }
                cluster.put_back(letter);
            }
        }
        54..64 if is_alive => {
            let _ = cluster.write_many(id, &vec![chance.number(); 1 + chance.below(3) as usize]);
        }
        64..67 if is_alive => drop(cluster.read(id)),
        67..70 => slow_down_or_speed_up(cluster, chance, id),
        70..78 if cluster.has_writes(id) => cluster.complete_write(id),
        78..80 if is_alive => crash(cluster, chance, id),
        80..85 if !is_alive => cluster.restart(id),
        85..87 if is_alive => change_membership(cluster, chance, id, &ids),
        87..88 if is_alive => drop(cluster.transfer(id, (chance.below(2) == 0).then(|| *chance.pick(&ids)))),
        88..90 if is_alive => drop(cluster.build_snapshot(id)),
        90..91 if chance.below(2) == 0 => cluster.cut_one_way(id, *chance.pick(&ids)),
        90..91 => isolate_leader(cluster, chance),
        91..93 => cluster.heal(),
        93..94 if is_alive => cluster.step(id, Input::Unreachable { peer: *chance.pick(&ids) }),
        94..95 if is_alive => cluster.step(id, Input::Campaign),
        95..96 if cluster.node(id).installing.is_some() => cluster.fail_installing(id),
        _ => deliver_some(cluster, chance),
    }
}

/// Delivers one letter, or several to one node before its effects are looked at; in the order sent, or not.
fn deliver_some(cluster: &mut Cluster, chance: &mut Chance) {
    match chance.below(4) {
        0 => {
            if let Some(letter) = cluster.take_letter(chance) {
                cluster.deliver(letter);
            }
        }
        1 => cluster.deliver_batch(chance),
        _ => cluster.deliver_oldest(),
    }
}

fn pass_time(cluster: &mut Cluster, chance: &mut Chance, id: u64) {
    match chance.below(4) {
        0 if cluster.node(id).is_alive() => cluster.time_out(id),
        1 => cluster.skip(chance.below(100)),
        _ => cluster.run_timers(chance.below(40)),
    }
}

fn slow_down_or_speed_up(cluster: &mut Cluster, chance: &mut Chance, id: u64) {
    let node = cluster.node_mut(id);
    match chance.below(5) {
        0 => node.is_disk_slow = true,
        1 => node.is_machine_slow = true,
        2 => node.is_building_slow = true,
        3 => node.is_installing_slow = true,
        _ => cluster.speed_up(id),
    }
}

fn crash(cluster: &mut Cluster, chance: &mut Chance, id: u64) {
    cluster.crash(id);
    if chance.below(3) == 0 {
        cluster.node_mut(id).lose_state();
    }
}

/// What a leader appends that nobody hears is overwritten by the next one.
fn isolate_leader(cluster: &mut Cluster, chance: &mut Chance) {
    if let Some(leader) = cluster.leader() {
        cluster.isolate(&[leader]);
        cluster.write_many(leader, &[chance.number(), chance.number()]);
    }
}

fn change_membership(cluster: &mut Cluster, chance: &mut Chance, id: u64, ids: &[u64]) {
    let other = *chance.pick(ids);
    let one = BTreeSet::from([other]);
    let some: BTreeSet<u64> = ids.iter().copied().filter(|_| chance.below(3) > 0).collect();
    let change = match chance.below(5) {
        0 => MembershipChange::AddLearners(nodes([other])),
        1 => MembershipChange::Promote(one),
        2 => MembershipChange::Demote(one),
        3 => MembershipChange::Remove(one),
        _ => MembershipChange::SetVoters(some),
    };
    cluster.change(id, change);
}
