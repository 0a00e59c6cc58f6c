//! When snapshots are built, what becomes of those that cannot be built or read, and what is purged: beyond the paper.

use openconsensus::engine::{Input, Reply};
use openconsensus::{Config, Index, LogId, MembershipChange, PurgeError, SnapshotError};
use openconsensus_tests::engines::{Cluster, ELECTION_TIMEOUT_MS, Letter, nodes};

/// Only on request, and nothing is kept.
fn by_hand() -> Config {
    Config { snapshot_after_entries: None, log_keep_entries: 0, log_hold_entries_max: 0, ..Config::default() }
}

/// Voters of which node 1 leads, with `count` commands applied everywhere but on the isolated nodes.
fn with_commands(voters: u64, config: Config, count: u64, isolated: &[u64]) -> Cluster {
    let mut cluster = Cluster::with_config(voters, config);
    cluster.elect(1);
    cluster.isolate(isolated);
    write(&mut cluster, count);
    cluster
}

/// One after the other.
fn write(cluster: &mut Cluster, count: u64) {
    for command in 0..count {
        cluster.write(1, command);
        cluster.settle();
    }
}

fn built(cluster: &Cluster, id: u64) -> u64 {
    cluster.metrics(id).counters.snapshots_built
}

/// All nodes of a cluster apply the same entries at about the same time. They wrote all snapshots at the same time too,
/// and the whole cluster was slow while they did.
#[test]
fn nodes_do_not_all_build_at_the_same_entry_and_none_is_late() {
    let config = Config { snapshot_after_entries: Some(100), snapshot_jitter_percent: 50, ..by_hand() };
    let mut cluster = with_commands(5, config, 30, &[]);
    let mut began: Vec<Vec<Index>> = vec![Vec::new(); 6];
    for _ in 0..300 {
        let before: Vec<_> = (1..=5).map(|id| cluster.metrics(id).snapshot.index).collect();
        write(&mut cluster, 1);
        for id in 1..=5 {
            let last = cluster.metrics(id).snapshot.index;
            if before[id as usize - 1] != last {
                began[id as usize].push(last);
            }
        }
    }
    let mut firsts: Vec<_> = began[1..].iter().map(|indexes| indexes[0]).collect();
    firsts.sort();
    firsts.dedup();
    assert!(3 <= firsts.len(), "the first snapshots of five nodes end at {firsts:?}");
    for indexes in &began[1..] {
        for pair in indexes.windows(2) {
            assert!((50..=100).contains(&(pair[1] - pair[0])), "{began:?}");
        }
        // Drawn afresh for each.
        let distances: std::collections::BTreeSet<_> =
            indexes.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(1 < distances.len(), "{began:?}");
    }
}

/// Every node has the policy, whatever it is in the cluster.
#[test]
fn snapshots_by_bytes_and_by_age_are_built_on_followers_and_learners_too() {
    let limits = [
        Config { snapshot_after_bytes: Some(56 * 10), snapshot_jitter_percent: 0, ..by_hand() },
        Config { snapshot_after_ms: Some(500), snapshot_jitter_percent: 0, ..by_hand() },
    ];
    for config in limits {
        let mut cluster = with_commands(2, config, 3, &[]);
        cluster.add_fresh(3);
        cluster.change(1, MembershipChange::AddLearners(nodes([3])));
        cluster.settle();
        let counts = |cluster: &Cluster| [1, 2, 3].map(|id| built(cluster, id));
        let before = counts(&cluster);
        write(&mut cluster, 12);
        cluster.run(1000);
        let after = counts(&cluster);
        assert!((0..3).all(|place| before[place] < after[place]), "{before:?}, {after:?}");
        // Nothing new, nothing built.
        cluster.run(10_000);
        assert_eq!(counts(&cluster), after);
    }
}

/// The bytes of entries that were truncated count nothing, and those that a restart has forgotten count nothing either.
#[test]
fn only_bytes_that_are_in_the_log_and_known_count() {
    let config = Config { snapshot_after_bytes: Some(56 * 20), ..by_hand() };
    let mut cluster = with_commands(3, config, 3, &[]);
    let before = cluster.metrics(3).log_bytes;
    assert_eq!(before, 48 + 3 * 56, "the first entry was there at the start");
    // What a leader alone has appended is cut off later.
    cluster.isolate(&[1]);
    cluster.write_many(1, &[7; 15]);
    assert_eq!(cluster.metrics(1).log_bytes, before + 15 * 56);
    cluster.elect_until(2);
    cluster.heal();
    cluster.run(4 * ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.metrics(1).counters.truncations, 1);
    assert_eq!(cluster.metrics(1).log_bytes, before + 48);
    assert_eq!(cluster.metrics(1).log_bytes_since_snapshot, before + 48);
    cluster.crash(1);
    cluster.restart(1);
    assert_eq!(cluster.metrics(1).log_bytes, 0);
    assert_eq!(built(&cluster, 1), 0);
}

/// A script asked for a snapshot every minute, and an idle node wrote the same gigabytes every minute.
#[test]
fn a_snapshot_of_the_same_state_is_not_built_again_unless_it_is_damaged() {
    let mut cluster = with_commands(3, by_hand(), 3, &[]);
    let ask = |cluster: &mut Cluster| {
        let request = cluster.build_snapshot(2);
        match cluster.reply(request) {
            Some(Reply::SnapshotBuilt(meta)) => meta.clone(),
            other => panic!("{other:?}"),
        }
    };
    let first = ask(&mut cluster);
    assert_eq!(ask(&mut cluster), first);
    assert_eq!(built(&cluster, 2), 1);
    write(&mut cluster, 1);
    assert_eq!(ask(&mut cluster).last.index, first.last.index + 1);
    assert_eq!(built(&cluster, 2), 2);
    // Installed rather than built: the same.
    cluster.isolate(&[3]);
    write(&mut cluster, 1);
    cluster.build_snapshot(1);
    cluster.heal();
    cluster.run(4 * ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.metrics(3).counters.snapshots_installed, 1);
    let request = cluster.build_snapshot(3);
    assert!(matches!(cluster.reply(request), Some(Reply::SnapshotBuilt(_))));
    assert_eq!(built(&cluster, 3), 0);
}

/// A disk that damages what is written to it is not written to without end.
#[test]
fn snapshots_that_are_damaged_again_and_again_are_replaced_more_and_more_slowly() {
    let mut cluster = with_commands(3, by_hand(), 3, &[3]);
    cluster.build_snapshot(1);
    cluster.heal();
    let before = built(&cluster, 1);
    cluster.node_mut(1).is_snapshot_damaged = true;
    cluster.node_mut(1).damages_snapshots = true;
    cluster.run(120_000);
    // At once, after 2 seconds, 4, 8, 16, 32, and then every 64.
    let metrics = cluster.metrics(1);
    let count = metrics.counters.snapshots_built - before;
    assert!((6..=8).contains(&count), "{count} snapshots were built in two minutes");
    let damaged = metrics.counters.snapshots_damaged;
    assert!((count..=count + 1).contains(&damaged), "{damaged} of {count} were damaged");
    assert_eq!(cluster.metrics(3).counters.snapshots_installed, 0);
    // It ends when the disk is sound.
    cluster.node_mut(1).damages_snapshots = false;
    cluster.run(80_000);
    assert_eq!(cluster.commands(3), [0, 1, 2]);
}

/// The same for builds that fail, and for snapshots that a peer cannot install.
#[test]
fn what_fails_is_tried_again_more_and_more_slowly() {
    let config = Config { snapshot_after_entries: Some(2), snapshot_jitter_percent: 0, ..by_hand() };
    let mut cluster = with_commands(1, config, 1, &[]);
    let before = built(&cluster, 1);
    cluster.node_mut(1).is_building_slow = true;
    write(&mut cluster, 5);
    for _ in 0..12_000 {
        if !cluster.node(1).to_build.is_empty() {
            cluster.fail_building(1);
        }
        cluster.run(10);
    }
    let failed = cluster.metrics(1).counters.snapshots_failed;
    assert!((6..=8).contains(&failed), "{failed} builds failed in two minutes");
    assert_eq!(built(&cluster, 1), before);
    assert_eq!(cluster.commands(1).len(), 6, "the node goes on");

    let mut cluster = with_commands(3, by_hand(), 3, &[3]);
    cluster.build_snapshot(1);
    cluster.heal();
    cluster.node_mut(3).is_installing_slow = true;
    for _ in 0..6000 {
        if cluster.node(3).installing.is_some() {
            cluster.fail_installing(3);
        }
        cluster.run(10);
    }
    let (refused, unsent) =
        (cluster.metrics(3).counters.snapshots_refused, cluster.metrics(1).counters.snapshots_unsent);
    assert!((24..=32).contains(&refused), "{refused} snapshots were refused in a minute");
    assert_eq!(refused, unsent);
    cluster.node_mut(3).is_installing_slow = false;
    cluster.run(12_000);
    assert_eq!(cluster.commands(3), [0, 1, 2]);
    assert_eq!(cluster.metrics(1).counters.snapshots_sent, 1);
}

/// The snapshot that was built while another one was found damaged is the current one, and is not damaged.
#[test]
fn a_snapshot_that_was_replaced_before_it_was_found_damaged_is_of_no_interest() {
    let mut cluster = with_commands(3, by_hand(), 3, &[3]);
    cluster.build_snapshot(1);
    let old = cluster.metrics(1).snapshot;
    cluster.heal();
    cluster.node_mut(3).is_installing_slow = true;
    cluster.run_until(1000, "a snapshot to arrive", |cluster| cluster.node(3).installing.is_some());
    let id = cluster.node(3).arrivals.values().next().unwrap().id;
    write(&mut cluster, 1);
    cluster.build_snapshot(1);
    let count = built(&cluster, 1);
    cluster.step(1, Input::SnapshotUnreadable { id, last: Some(old) });
    assert_eq!((built(&cluster, 1), cluster.metrics(1).counters.snapshots_damaged), (count, 0));
}

// ---- purging

fn purge(cluster: &mut Cluster, id: u64, upto: Index) -> Result<LogId, PurgeError> {
    let request = cluster.purge_log(id, upto);
    match cluster.reply(request) {
        Some(Reply::LogPurged { upto }) => Ok(*upto),
        Some(Reply::PurgeFailed(error)) => Err(error.clone()),
        other => panic!("{other:?}"),
    }
}

/// What is told to be gone is gone: the answer waits for the disk.
#[test]
fn a_purge_is_answered_when_it_is_durable() {
    let mut cluster =
        with_commands(3, Config { log_keep_entries: 100, log_hold_entries_max: 100, ..by_hand() }, 5, &[]);
    cluster.build_snapshot(2);
    cluster.slow_disk(2);
    let request = cluster.purge_log(2, 4);
    assert!(cluster.reply(request).is_none());
    assert_eq!(cluster.node(2).disk.purged, LogId::ZERO);
    cluster.complete_write(2);
    assert!(matches!(cluster.reply(request), Some(Reply::LogPurged { upto }) if upto.index == 4));
    assert_eq!(cluster.node(2).disk.purged.index, 4);
    // One that crashes before was never answered, and nothing is lost with it.
    let request = cluster.purge_log(2, 5);
    cluster.crash(2);
    assert!(cluster.reply(request).is_none());
    cluster.node_mut(2).is_disk_slow = false;
    cluster.restart(2);
    assert_eq!(cluster.metrics(2).purged.index, 4);
    assert_eq!(purge(&mut cluster, 2, 5).map(|upto| upto.index), Ok(5));
}

/// A purge beyond the snapshot would leave a hole that nothing fills.
#[test]
fn a_purge_never_goes_beyond_the_snapshot_nor_into_one_that_is_being_installed() {
    let mut cluster = with_commands(3, by_hand(), 5, &[3]);
    let none = Err(PurgeError::NotInSnapshot { upto: 1, snapshot: LogId::ZERO });
    assert_eq!(purge(&mut cluster, 1, 1), none);
    cluster.build_snapshot(1);
    let snapshot = cluster.metrics(1).snapshot;
    write(&mut cluster, 2);
    for upto in [snapshot.index + 1, Index::MAX] {
        assert_eq!(purge(&mut cluster, 1, upto), Err(PurgeError::NotInSnapshot { upto, snapshot }));
    }
    assert_eq!(purge(&mut cluster, 1, snapshot.index), Ok(snapshot));
    cluster.heal();
    cluster.node_mut(3).is_installing_slow = true;
    cluster.run_until(1000, "a snapshot to arrive", |cluster| cluster.node(3).installing.is_some());
    assert_eq!(purge(&mut cluster, 3, 1), Err(PurgeError::Installing));
    let request = cluster.build_snapshot(3);
    assert!(matches!(cluster.reply(request), Some(Reply::SnapshotFailed(SnapshotError::Installing))));
}

/// The smaller of the two limits counts, and neither takes from a peer what it needs and answers for.
#[test]
fn the_log_behind_a_snapshot_keeps_the_limits_in_entries_and_in_bytes() {
    for (entries, bytes, kept) in
        [(10, u64::MAX, 10), (1000, 56 * 10, 10), (10, 56 * 5 + 55, 5), (0, 0, 0), (5, 0, 0)]
    {
        let config = Config {
            log_keep_entries: entries,
            log_keep_bytes: bytes,
            log_hold_entries_max: 1000,
            ..by_hand()
        };
        let mut cluster = with_commands(3, config, 40, &[]);
        for id in 1..=3 {
            cluster.build_snapshot(id);
            let metrics = cluster.metrics(id);
            assert_eq!(
                metrics.snapshot.index - metrics.purged.index,
                kept,
                "{entries} entries, {bytes} bytes"
            );
        }
    }
    let config =
        Config { log_keep_entries: 1000, log_keep_bytes: 0, log_hold_entries_max: 1000, ..by_hand() };
    let mut cluster = with_commands(3, config, 5, &[]);
    // It answers heartbeats, and no append gets through.
    for command in 0..20 {
        cluster.write(1, command);
        cluster.settle_but(|letter| letter.to == 3 && Letter::is_append(letter));
    }
    cluster.build_snapshot(1);
    let matched = cluster.metrics(1).peers[&3].matched;
    assert!(cluster.metrics(1).purged.index <= matched, "{matched}");
}
