//! Known bugs of storing, of crashes and of restarts, as far as an engine can have them.

use openconsensus::engine::{Input, Reply, WriteId};
use openconsensus::{
    AppendResult, AppliedState, Body, Config, Entries, HardState, Index, LogId, MembershipAt, Message,
    RoleName, Term, VoteKind,
};
use openconsensus_tests::engines::{Cluster, Disk, ELECTION_TIMEOUT_MS, Letter, Outcome, Test, log_of};

use super::lone::Lone;
use super::post::{Post, each_way};

fn matched(letter: &Letter) -> Option<Index> {
    match letter.body() {
        Some(Body::AppendResponse { result: AppendResult::Matched { matched } }) => Some(*matched),
        _ => None,
    }
}

/// What a leader of `term` sends whose log has these terms from index 2 on.
fn append(term: Term, terms: &[Term]) -> Message<Test> {
    let entries: Entries<Test> = log_of(3, &[&[1], terms].concat()).into();
    let entries = entries.slice(2..Index::MAX);
    Message { term, body: Body::Append { prev: LogId::new(1, 1), entries, commit: 1 } }
}

// ---- completions ----

/// databendlabs/openraft#1960 (#1964), #1423 and #1252.
///
/// Two writes were in flight, an old one and the first of a new leader. Their completions came in another order, or only
/// the last one was kept of them; the one that arrived was of an old term and was thrown away. The leader's own mark never
/// moved, and an idle cluster hung at its very beginning. Here writes have numbers, completing one completes all before it,
/// and an older number is no news.
#[test]
fn completions_that_are_joined_or_come_in_another_order_lose_nothing() {
    for order in [vec![1, 2, 3], vec![3], vec![2, 1, 3, 2, 1], vec![3, 2, 1], vec![1, 3, 3]] {
        let mut lone = Lone::follower(3, Config::default());
        lone.is_disk_slow = true;
        lone.step(Input::Campaign);
        // The vote; then the first entry of the term; then a command.
        let vote = lone.writes.last().expect("the vote is written").id;
        lone.step(Input::Persisted { write: vote });
        lone.writes.clear();
        let Some(Body::VoteRequest { kind, campaign, .. }) =
            lone.messages.last().map(|(_, m)| m.body.clone())
        else {
            panic!("{:?}", lone.messages)
        };
        let term = lone.term();
        lone.receive(2, term, Body::VoteResponse { kind, campaign, granted: true });
        for request in 1..=2 {
            let request = openconsensus::engine::RequestId(request);
            lone.step(Input::Write { request, commands: vec![7] });
        }
        let first = lone.writes[0].id.0;
        assert_eq!(lone.writes.len(), 3);
        for place in &order {
            lone.step(Input::Persisted { write: WriteId(first - 1 + place) });
        }
        let metrics = lone.engine.metrics(lone.now);
        assert_eq!((metrics.stable, metrics.last.index), (6, 6), "completed {order:?}");
        lone.receive(3, term, Body::AppendResponse { result: AppendResult::Matched { matched: 6 } });
        assert_eq!(lone.engine.metrics(lone.now).committed, 6, "completed {order:?}");
    }
    // What has been durable once is never waited for again.
    let mut lone = Lone::follower(3, Config::default());
    lone.is_disk_slow = true;
    for index in 4..6 {
        let entries: Entries<Test> = log_of(3, &[1; 5]).into();
        let entries = entries.slice(index..index + 1);
        lone.receive(2, 1, Body::Append { prev: LogId::new(1, index - 1), entries, commit: 3 });
    }
    let vote = Body::VoteRequest { kind: VoteKind::Transfer, campaign: 1, last: LogId::new(1, 9) };
    lone.receive(3, 2, vote.clone());
    let writes: Vec<WriteId> = lone.writes.iter().map(|write| write.id).collect();
    assert_eq!(writes.len(), 3);
    lone.step(Input::Persisted { write: writes[2] });
    lone.step(Input::Persisted { write: writes[0] });
    lone.messages.clear();
    lone.receive(3, 2, vote);
    assert!(matches!(
        lone.messages[..],
        [(3, Message { body: Body::VoteResponse { granted: true, .. }, .. })]
    ));
}

/// tikv/tikv#9349, tikv/raft-rs#417 and #410.
///
/// A second snapshot was taken before the first was written; the completion of the first did not fit the log any more and
/// was thrown away, and later more was applied than was said to be stored. Here a completion is looked up by its number and
/// by nothing else.
#[test]
fn completions_that_come_behind_a_snapshot_still_count() {
    for (held, all_at_once) in [(1, false), (2, false), (5, true)] {
        let config = Config { log_keep_entries: 0, log_hold_entries_max: 0, ..Config::default() };
        let mut cluster = Cluster::with_config(3, config);
        cluster.elect(1);
        cluster.isolate(&[3]);
        cluster.write_many(1, &[1, 2, 3]);
        cluster.settle();
        cluster.build_snapshot(1);
        cluster.slow_disk(3);
        cluster.heal();
        cluster.run(2 * ELECTION_TIMEOUT_MS);
        for _ in 0..held {
            if cluster.has_writes(3) && !all_at_once {
                cluster.complete_write(3);
                cluster.run(40);
            }
        }
        cluster.write_many(1, &[4, 5, 6]);
        cluster.run(40);
        cluster.build_snapshot(1);
        cluster.build_snapshot(2);
        cluster.run(40);
        while cluster.has_writes(3) {
            cluster.complete_all_writes_at_once(3);
            cluster.run(40);
        }
        let metrics = cluster.metrics(3);
        assert_eq!((metrics.stable, metrics.applied), (metrics.last.index, cluster.metrics(1).last));
        cluster.recover();
        assert_eq!(cluster.commands(3), [1, 2, 3, 4, 5, 6]);
    }
}

/// baidu/braft#119, sofastack/sofa-jraft#1188, rabbitmq/ra#557 and #558, nats-io/nats-server#3870 and #3911.
///
/// A log was cut and other entries were appended, in two steps of which a crash let only the second happen: the old entries
/// stood behind the new ones again, or behind a hole. Here the cut stands before the append in one write, the completion of
/// an older write says nothing of what was cut, and a crash after any of them leaves a log without a hole.
#[test]
fn entries_that_were_cut_off_do_not_come_back_behind_those_that_replaced_them() {
    for completed in 0..5 {
        let mut cluster = Cluster::with_logs(3, &[(1, &[1]), (2, &[1]), (3, &[1])]);
        cluster.slow_disk(2);
        cluster.receive(2, 1, append(2, &[2, 2, 2, 2]));
        cluster.receive(2, 3, append(3, &[3]));
        cluster.receive(2, 1, append(4, &[3, 4, 4]));
        for _ in 0..completed {
            if cluster.has_writes(2) {
                cluster.complete_write(2);
            }
        }
        let said = cluster.letters().filter_map(matched).max().unwrap_or(0);
        let term_said = cluster.letters().filter(|letter| matched(letter).is_some());
        let term_said = term_said.filter_map(Letter::term).max();
        cluster.crash(2);
        cluster.restart(2);
        let terms = cluster.terms(2);
        assert!([&[1][..], &[1, 2, 2, 2, 2], &[1, 3], &[1, 3, 4, 4]].contains(&&terms[..]), "{terms:?}");
        assert!(said <= terms.len() as Index, "{said} was acknowledged, there is {terms:?}");
        assert!(term_said.is_none_or(|term| term <= cluster.term(2)));
        cluster.lose_all();
    }
}

/// tikv/raft-rs#417, databendlabs/openraft#1423: each completion comes when the log has been cut since.
///
/// The follower is told of its first write when a third leader has already replaced what the second had replaced. Nothing
/// of it may be acknowledged to anybody.
#[test]
fn a_completion_that_comes_behind_a_truncation_acknowledges_nothing_of_what_was_cut() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1]), (2, &[1]), (3, &[1])]);
    cluster.slow_disk(2);
    cluster.receive(2, 1, append(2, &[2, 2, 2, 2, 2]));
    cluster.receive(2, 3, append(3, &[3, 3, 3]));
    cluster.receive(2, 1, append(4, &[3, 4]));
    let mut stable = Vec::new();
    while cluster.has_writes(2) {
        cluster.complete_write(2);
        stable.push(cluster.metrics(2).stable);
        let said: Vec<_> =
            cluster.letters().filter_map(|letter| Some((letter.term()?, matched(letter)?))).collect();
        assert!(said.iter().all(|(term, _)| *term == 4), "{said:?}");
        assert!(said.is_empty() || !cluster.has_writes(2), "{said:?}");
    }
    assert_eq!(stable, [1, 2, 3]);
    assert_eq!(cluster.node(2).disk.terms(), [1, 3, 4]);
}

// ---- what is durable when something is said ----

/// databendlabs/openraft#1410, #1252 and #1180.
///
/// The vote was stored in one place and the log in another, and whatever had the number of a write that was done was taken
/// for done: an entry was acknowledged whose term was not on the disk yet, or the other way round, and lost in a crash.
/// Here a message waits for all the writes that it depends on, and they are done in order.
#[test]
fn a_crash_between_the_write_of_a_vote_and_that_of_an_entry_takes_back_nothing_that_was_said() {
    let orders = ["entries, then a vote", "a vote, then entries", "a term, and nothing else"];
    for (order, completed) in (0..4).flat_map(|count| orders.map(|order| (order, count))) {
        let mut cluster = Cluster::with_logs(3, &[(1, &[1]), (2, &[1]), (3, &[1])]);
        cluster.slow_disk(2);
        let vote = |term, candidate| {
            let last = LogId::new(9, 9);
            (
                candidate,
                Message { term, body: Body::VoteRequest { kind: VoteKind::Normal, campaign: 7, last } },
            )
        };
        let inputs = match order {
            // Appends of term 2, then the vote of term 3 when the leader has been silent for long.
            "entries, then a vote" => vec![(1, append(2, &[2, 2])), vote(3, 3)],
            // The vote of term 2, then appends of the one who has got it.
            "a vote, then entries" => vec![vote(2, 3), (3, append(2, &[2, 2]))],
            // The log is on the disk already, only the term is not.
            _ => vec![(1, append(2, &[]))],
        };
        for (from, message) in inputs {
            cluster.receive(2, from, message);
            cluster.skip(ELECTION_TIMEOUT_MS);
        }
        for _ in 0..completed {
            if cluster.has_writes(2) {
                cluster.complete_write(2);
            }
        }
        let said: Vec<Letter> = cluster.letters().cloned().collect();
        cluster.crash(2);
        cluster.restart(2);
        let state = cluster.node(2).disk.hard_state;
        for letter in said {
            let term = letter.term().expect("only messages are sent");
            if let Some(matched) = matched(&letter) {
                assert!(matched <= cluster.metrics(2).last.index, "{letter:?}");
                assert!(term <= state.term, "acknowledged in {term}, starts in {}", state.term);
            }
            if matches!(letter.body(), Some(Body::VoteResponse { granted: true, .. })) {
                assert_eq!((state.term, state.voted_for), (term, Some(letter.to)));
            }
        }
        // It does not vote for another in the same term.
        let term = state.term;
        if let Some(voted_for) = state.voted_for {
            let (other, message) = vote(term, 4 - voted_for);
            cluster.lose_all();
            cluster.receive(2, other, message);
            let is_granted =
                |letter: &Letter| matches!(letter.body(), Some(Body::VoteResponse { granted: true, .. }));
            cluster.speed_up(2);
            assert_eq!(cluster.letters().filter(|letter| is_granted(letter)).count(), 0);
        }
        cluster.lose_all();
    }
}

/// rabbitmq/ra#562.
///
/// A follower applied entry 9, which the others had committed, while its own write of it was under way, and stored that 9
/// was applied. After a crash its log ended at 8: it did not start, or "9" was applied again as something else. Here an
/// entry is applied only where it is durable.
#[test]
fn nothing_is_applied_that_a_crash_could_take_out_of_the_log() {
    each_way(|post| {
        for slow in [vec![3], vec![1], vec![1, 3]] {
            let mut cluster = Cluster::of(5);
            post.elect(&mut cluster, 1);
            for id in &slow {
                cluster.slow_disk(*id);
            }
            let write = cluster.write(1, 7);
            post.settle(&mut cluster);
            post.run(&mut cluster, 100);
            assert_eq!(cluster.outcome(write), Outcome::Applied, "three of five have it");
            for id in slow {
                assert_eq!(cluster.metrics(id).committed, 3);
                assert_eq!(cluster.commands(id), [0_u64; 0], "node {id} has not got it on its disk");
                cluster.crash(id);
                cluster.restart(id);
                assert_eq!(cluster.metrics(id).last.index, 2);
            }
            cluster.recover();
            assert_eq!(cluster.commands(3), [7]);
        }
    });
}

// ---- disks that fail or hang ----

/// tarantool/tarantool#9399 and #9606, canonical/dqlite#589, apache/celeborn#1402, bakwc/PySyncObj#164,
/// OpenNebula/one#4336.
///
/// Every write of a leader failed, or none ever ended. Its heartbeats need no disk, so the others stayed calm, and nothing
/// was committed for ever. Here a failed write ends leadership and silences the node, and one that hangs for too long ends
/// leadership and keeps the node from campaigning until it is done.
#[test]
fn a_leader_whose_disk_fails_or_hangs_is_replaced() {
    each_way(|post| {
        for fails in [true, false] {
            let mut cluster = Cluster::of(3);
            post.elect(&mut cluster, 1);
            let write = if fails {
                cluster.slow_disk(1);
                let write = cluster.write(1, 7);
                cluster.lose_all();
                cluster.step(1, Input::StorageFailed);
                write
            } else {
                (1..=3).for_each(|id| {
                    if id == 1 {
                        cluster.slow_disk(id)
                    }
                });
                cluster.cut(1, 2);
                cluster.cut(1, 3);
                let write = cluster.write(1, 7);
                post.settle(&mut cluster);
                cluster.heal();
                write
            };
            let patience = Config::default().write_stall_timeout_ms + 10 * ELECTION_TIMEOUT_MS;
            // The hanging leader is heard all the time, so nobody else would have a reason.
            let term = cluster.term(2);
            post.run_but(&mut cluster, patience, |letter| letter.from == 1 && letter.is_append());
            let leader = cluster.leader().expect("another one leads");
            assert!(leader != 1 && term < cluster.term(leader), "{}", cluster.describe());
            assert_eq!(cluster.role(1), RoleName::Follower);
            let next = cluster.write(leader, 8);
            post.run(&mut cluster, 100);
            assert_eq!(cluster.outcome(next), Outcome::Applied);
            // It does not come back for as long as its disk is as it is.
            cluster.crash(5 - leader);
            post.run(&mut cluster, 10 * ELECTION_TIMEOUT_MS);
            assert!(!cluster.is_leader(1));
            if fails {
                cluster.crash(1);
            }
            cluster.speed_up(1);
            cluster.recover();
            assert_ne!(cluster.outcome(write), Outcome::NotLeader);
        }
    });
}

/// lavinmq/lavinmq#2151, tarantool/tarantool#12292.
///
/// A write was tried again after it had failed, and the second attempt seemed to work, because the first had thrown away
/// what was to be written. Here nothing leaves a node any more after a write has failed, whatever is completed later.
#[test]
fn nothing_that_is_completed_after_a_failed_write_is_believed() {
    let mut cluster = Cluster::with_logs(3, &[(1, &[1]), (2, &[1]), (3, &[1])]);
    cluster.slow_disk(2);
    cluster.receive(2, 1, append(2, &[2]));
    cluster.receive(2, 1, append(2, &[2, 2]));
    let writes: Vec<WriteId> = cluster.node(2).writes.iter().map(|write| write.id).collect();
    assert_eq!(writes.len(), 2);
    cluster.lose_all();
    cluster.step(2, Input::StorageFailed);
    for write in writes {
        cluster.step(2, Input::Persisted { write });
    }
    cluster.receive(2, 1, append(2, &[2]));
    cluster.run_timers(4 * ELECTION_TIMEOUT_MS);
    assert_eq!(cluster.letters().filter(|letter| letter.from == 2).count(), 0);
    assert_eq!(cluster.metrics(2).stable, 1);
}

// ---- what is in memory and what is stored ----

/// databendlabs/openraft (fix 8cd24ba0), RedisLabs/redisraft#189 and #53, vesoft-inc/nebula#3415 and #2419.
///
/// The store was truncated and a cache of recent entries was not, so a leader sent entries of a lost term under the name of
/// the entry that had replaced the one before them. Here memory and log are cut together, for all ways in which an entry
/// is sent again: from memory, from the disk, and to a peer that is far behind.
#[test]
fn entries_that_were_cut_off_are_sent_to_nobody() {
    each_way(|post| {
        for tail_bytes_max in [0, 1 << 20] {
            let config = Config { tail_bytes_max, ..Config::default() };
            let mut cluster = Cluster::with_config(5, config);
            post.elect(&mut cluster, 1);
            // Node 1 appends entries that nobody gets, and node 2 others in their place.
            cluster.isolate(&[1]);
            cluster.write_many(1, &[60, 61, 62, 63, 64]);
            post.settle(&mut cluster);
            cluster.isolate(&[1, 5]);
            post.elect(&mut cluster, 2);
            cluster.write_many(2, &[7, 8]);
            post.settle(&mut cluster);
            // Node 1 takes over these, then leads and serves node 5, which has nothing of all that.
            cluster.heal();
            cluster.isolate(&[5]);
            post.run(&mut cluster, ELECTION_TIMEOUT_MS);
            assert_eq!(cluster.metrics(1).counters.truncations, 1);
            cluster.elect_until(1);
            cluster.heal();
            cluster.write(1, 9);
            post.run(&mut cluster, 2 * ELECTION_TIMEOUT_MS);
            assert_eq!(cluster.commands(5), [7, 8, 9], "tail of {tail_bytes_max} bytes");
            assert_eq!(cluster.terms(5), cluster.terms(1));
        }
    });
}

/// cockroachdb/cockroach#98721, vesoft-inc/nebula#3415.
///
/// Entries that had been read for a peer were sent although the log had been cut while they were read, or in a leadership
/// that had not asked for them. Here a read has a name that belongs to one leadership, and what it has found is compared
/// with the log before it is sent; each of the two would do.
#[test]
fn entries_that_were_read_in_an_earlier_leadership_are_not_sent() {
    let mut lone = Lone::leader(10, Config { tail_bytes_max: 0, ..Config::default() });
    let old = lone.term();
    let lags = |lone: &mut Lone, last| {
        lone.hear(2, AppendResult::Conflict { rejected: last, hint: LogId::new(1, 1) });
        lone.hear(2, AppendResult::Matched { matched: 1 });
        lone.reads.pop().expect("old entries are read from the disk")
    };
    let request = openconsensus::engine::RequestId(5);
    lone.step(Input::Write { request, commands: vec![66, 67] });
    let read = lags(&mut lone, 10);
    let found = lone.disk.read(2..13, u64::MAX);
    assert_eq!(found.last(), Some(LogId::new(old, 12)));
    // Another node leads and replaces what this one has appended; then this one leads again, and reads once more.
    let replaced: Entries<Test> = log_of(3, &[[1; 10].as_slice(), &[old + 1, old + 1]].concat()).into();
    let body = Body::Append { prev: LogId::new(1, 10), entries: replaced.slice(11..13), commit: 10 };
    lone.receive(3, old + 1, body);
    assert_eq!(lone.engine.metrics(lone.now).last, LogId::new(old + 1, 12));
    lone.campaign();
    let again = lags(&mut lone, 12);
    assert_ne!(read.id, again.id);
    lone.messages.clear();
    lone.step(Input::LogRead { read: read.id, entries: found });
    assert_eq!(lone.messages.len(), 0, "{:?}", lone.messages);
    lone.step(Input::LogRead { read: again.id, entries: lone.disk.read(again.range, u64::MAX) });
    let Some(Body::Append { entries, .. }) = lone.messages.last().map(|(_, message)| &message.body) else {
        panic!("{:?}", lone.messages)
    };
    assert_eq!(entries.last(), Some(LogId::new(lone.term(), 13)));
}

// ---- restarts ----

/// goraft/raft#69, RedisLabs/redisraft#14 and #18.
///
/// A node applied its whole log when it started, also the end of it that was not committed and was replaced later. Here it
/// starts as a follower, and applies no more than what it knows to be committed.
#[test]
fn a_restarted_node_applies_nothing_that_is_not_known_to_be_committed() {
    each_way(|post| {
        for hint in [1, 2, 3] {
            let terms = [1, 1, 1, 2, 2, 2];
            let mut cluster = Cluster::with_logs(3, &[(1, &terms[..3]), (2, &terms[..3]), (3, &terms)]);
            for id in 1..=3 {
                cluster.crash(id);
                let state = &mut cluster.node_mut(id).disk.hard_state;
                state.term = 2;
                if id == 3 {
                    state.commit = hint;
                }
                cluster.restart(id);
            }
            assert_eq!(cluster.role(3), RoleName::Follower);
            assert_eq!(cluster.metrics(3).applied.index, hint);
            assert_eq!(cluster.commands(3).len() as Index, hint - 1);
            // What it has behind that is lost to the others.
            cluster.isolate(&[3]);
            cluster.elect_until(1);
            for command in 0..6 {
                cluster.write(1, command);
            }
            post.settle(&mut cluster);
            cluster.heal();
            post.run(&mut cluster, 4 * ELECTION_TIMEOUT_MS);
            cluster.recover();
            assert_eq!(cluster.commands(3), cluster.commands(2));
        }
    });
}

/// databendlabs/openraft#1246 and #607, RedisLabs/raft#22.
///
/// The only voter of a cluster was restarted: it did not know its commit index, and applied nothing until the next write; or
/// it took itself for the leader at once, and stumbled over what a leader must have done before. Here it holds an election
/// like everybody else, and its first entry commits what is there.
#[test]
fn a_single_voter_applies_what_it_has_after_a_restart_without_a_write() {
    for (hint, loses_state) in [(0, false), (1, true), (4, false), (4, true), (99, true)] {
        let mut cluster = Cluster::of(1);
        cluster.elect(1);
        cluster.write_many(1, &[1, 2, 3]);
        cluster.crash(1);
        cluster.node_mut(1).disk.hard_state.commit = hint;
        if loses_state {
            cluster.node_mut(1).lose_state();
        }
        cluster.restart(1);
        assert_eq!(cluster.role(1), RoleName::Follower);
        let term = cluster.term(1);
        cluster.run(2 * ELECTION_TIMEOUT_MS);
        assert!(cluster.is_leader(1) && cluster.term(1) == term + 1);
        assert_eq!(cluster.commands(1), [1, 2, 3], "hint {hint}");
        assert_eq!(cluster.metrics(1).applied, cluster.metrics(1).last);
    }
}

/// etcd-io/etcd#10508, #13766 and its report #13967; rabbitmq/ra#562.
///
/// What was applied did not fit what the log had, and the node started all the same. Here a state that is ahead of the log,
/// of another entry than the log has, or with a membership that came after it, is refused: such a node has lost something
/// that it has promised to keep.
#[test]
fn a_state_that_does_not_fit_its_log_is_refused_at_the_start() {
    let disk = Disk::new(HardState { term: 2, voted_for: None, commit: 4 }, log_of(3, &[1, 1, 2, 2]));
    let start = |applied: LogId, membership: LogId| {
        let membership = MembershipAt { log_id: membership, ..MembershipAt::default() };
        let applied = AppliedState { last_applied: applied, membership };
        let config = Config::default().validate().expect("it is valid");
        openconsensus::engine::Engine::new(
            config,
            disk.recover(1, 1, applied, LogId::ZERO),
            std::time::Instant::now(),
        )
    };
    let first = LogId::new(1, 1);
    for applied in [LogId::new(1, 1), LogId::new(1, 2), LogId::new(2, 4)] {
        assert!(start(applied, first).is_ok(), "{applied}");
    }
    for applied in [LogId::new(2, 5), LogId::new(1, 3), LogId::new(2, 2), LogId::new(3, 4)] {
        assert!(start(applied, first).is_err(), "{applied}");
    }
    assert!(start(LogId::new(1, 2), LogId::new(2, 3)).is_err(), "its membership came later");
    // A term that was forgotten is not a small thing either.
    let mut forgetful = disk.clone();
    forgetful.hard_state = HardState::default();
    let recovered = forgetful.recover(1, 1, AppliedState::default(), LogId::ZERO);
    let config = Config::default().validate().expect("it is valid");
    assert!(openconsensus::engine::Engine::new(config, recovered, std::time::Instant::now()).is_err());
}

/// databendlabs/openraft (fix 89bb48f8).
///
/// A state in memory was lost in the restart, and the index of the last snapshot was taken for what is applied: all keys were
/// gone. Here a state in memory begins with its snapshot, and the log behind it is applied once more.
#[test]
fn a_state_in_memory_begins_with_its_snapshot_and_the_log_behind_it() {
    each_way(|post: &mut Post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 1);
        for command in 0..10 {
            cluster.write(1, command);
            if command == 5 {
                post.settle(&mut cluster);
                cluster.build_snapshot(1);
            }
        }
        post.settle(&mut cluster);
        cluster.crash(1);
        cluster.node_mut(1).lose_state();
        assert_eq!(cluster.commands(1).len(), 6);
        cluster.restart(1);
        post.run(&mut cluster, 2 * ELECTION_TIMEOUT_MS);
        assert_eq!(cluster.commands(1), (0..10).collect::<Vec<_>>());
        let reply = cluster.build_snapshot(1);
        assert!(matches!(cluster.reply(reply), Some(Reply::SnapshotBuilt(_))));
    });
}
