//! Bugs of other implementations that only a driver can have: what went wrong there, and what keeps it out of here.

use super::super::fakes::entries;
use super::*;
use crate::entry::HardState;
use crate::error::StartError;
use crate::membership::MembershipAt;
use crate::metrics::ProgressName;

impl Node {
    /// What this node has sent of one kind.
    fn sent(&self, is_wanted: impl Fn(&Body<U64>) -> bool) -> usize {
        self.network.with(|state| state.sent.iter().filter(|(_, message)| is_wanted(&message.body)).count())
    }

    /// Node 2 leads in `term`, and has nothing to say.
    fn hear_leader(&self, term: u64) {
        self.hear(2, term, Body::Heartbeat { round: 1, commit: LogId::ZERO });
    }

    /// Node 2 leads in `term`, and its log has `entries` behind `prev`.
    fn hear_append(&self, term: u64, prev: LogId, entries: &crate::Entries<U64>, commit: u64) {
        self.hear(2, term, Body::Append { prev, entries: entries.clone(), commit });
    }

    /// Node 2 has this in its state, up to an entry that lies ahead, and sends it.
    fn receive_state(&self, term: u64, index: u64, sum: u64) -> crate::message::InstallSnapshotResponse {
        let received = self.receiving_state(term, index, sum);
        self.runtime.run_until(received).expect("an answer")
    }

    fn receiving_state(
        &self,
        term: u64,
        index: u64,
        sum: u64,
    ) -> impl Future<Output = crate::message::InstallSnapshotResponse> {
        let membership = self.metrics().membership.clone();
        let meta = SnapshotMeta { last: LogId::new(term, index), membership, size_bytes: Some(8) };
        let bytes = Bytes::copy_from_slice(&sum.to_be_bytes());
        let data = snapshot_stream(futures::stream::iter([Ok(bytes)]));
        let raft = self.raft.clone();
        async move {
            let request = InstallSnapshot { term, leader: 2, meta };
            raft.receive_snapshot(request, data).await.expect("the node runs")
        }
    }
}

// ---- what clients are told ----

/// RedisLabs/redisraft#23, fluree/db#1839.
///
/// A leader stepped down and told the client of a write that it had already appended that there was no leader: nothing was
/// done. The next leader had the entry, and committed it. Here such a write waits for what becomes of its entry, and gets its
/// response when the next leader commits it, or "unknown" when nothing is heard of it in time.
#[test]
fn a_write_of_a_lost_leadership_is_answered_by_what_became_of_its_entry() {
    for is_committed in [true, false] {
        let node = Node::leader_of_three(Config::default());
        let metrics = node.metrics();
        let log_id = LogId::new(metrics.term, metrics.last.index + 1);
        let mut write = node.pending_writes(1).remove(0);
        node.hear_leader(metrics.term + 1);
        assert_eq!(node.runtime.run_until(write.as_mut()), None, "it is neither done nor certainly not");
        if is_committed {
            let nothing = crate::Entries::empty();
            node.hear_append(metrics.term + 1, log_id, &nothing, log_id.index);
            assert_eq!(node.runtime.run_until(write), Some(Ok(0)));
        } else {
            node.runtime.advance(Duration::from_millis(Config::default().write_outcome_timeout_ms));
            assert_eq!(node.runtime.run_until(write), Some(Err(WriteError::Unknown { log_id })));
        }
    }
}

/// Hoverbear/old-raft-rs#115, sofastack/sofa-jraft#341.
///
/// The entry of another leader was applied at the index that a client waited for, and the client got its response: "written",
/// for a write that was lost. Here who waits is known by index and term, and is told that the write was dropped.
#[test]
fn a_writer_does_not_get_the_response_of_another_entry_at_its_index() {
    for count in [1, 3] {
        let node = Node::leader_of_three(Config::default());
        let (term, prev) = (node.metrics().term, node.metrics().last);
        let writes = node.pending_writes(3);
        let others = entries(term + 1, prev.index + 1..prev.index + 1 + count);
        node.hear_append(term + 1, prev, &others, prev.index + count);
        let applied = node.state_machine.with(|state| state.batches.concat());
        assert_eq!(applied, (prev.index + 1..prev.index + 1 + count).collect::<Vec<_>>());
        for write in writes {
            assert_eq!(node.runtime.run_until(write), Some(Err(WriteError::Dropped)));
        }
    }
}

/// databendlabs/openraft#1761 (#1762) and #500.
///
/// A deposed leader lagged and got a snapshot over the index that a client waited for. That index is never applied there, and
/// no truncation tells either: the client waited for ever, or the next entry looked for a client that was purged. Here a
/// snapshot answers everybody whom it covers with "unknown", and nobody else.
#[test]
fn a_writer_whose_entry_is_covered_by_a_snapshot_does_not_wait_for_ever() {
    let node = Node::leader_of_three(Config::default());
    let metrics = node.metrics();
    let mut writes = node.pending_writes(5);
    let covered = metrics.last.index + 3;
    let response = node.receive_state(metrics.term + 1, covered, 50);
    assert_eq!(response.installed, Some(covered));
    for (write, index) in writes.iter_mut().zip(metrics.last.index + 1..=covered) {
        let log_id = LogId::new(metrics.term, index);
        assert_eq!(node.runtime.run_until(write.as_mut()), Some(Err(WriteError::Unknown { log_id })));
    }
    // The others are answered when their indexes are applied.
    let prev = LogId::new(metrics.term + 1, covered);
    node.hear_append(
        metrics.term + 1,
        prev,
        &entries(metrics.term + 1, covered + 1..covered + 3),
        covered + 2,
    );
    for write in writes.split_off(3) {
        assert_eq!(node.runtime.run_until(write), Some(Err(WriteError::Dropped)));
    }
    assert_eq!(node.state_machine.with(|state| state.sum), 50 + 2 * covered + 3);
}

/// etcd-io/etcd#5214 and #8975, cockroachdb/cockroach#1677, eBay/HomeStore#745.
///
/// Proposals were thrown away without a word by a node without a leader, and promises were still open when a node had shut
/// down. Here every kind of request is answered, at the latest by the shutdown.
#[test]
fn nobody_waits_any_more_when_a_node_has_shut_down() {
    let node = Node::leader_of_three(Config::default());
    let metrics = node.metrics();
    let mut writes = node.pending_writes(2);
    let learners = BTreeMap::from([(9, ())]);
    let mut changing =
        Box::pin(node.raft.change_membership(crate::MembershipChange::AddLearners(learners), None));
    let mut transferring = Box::pin(node.raft.transfer_leadership(Some(3)));
    let mut reading = Box::pin(node.raft.read());
    assert!(node.runtime.run_until(changing.as_mut()).is_none());
    assert!(node.runtime.run_until(transferring.as_mut()).is_none());
    assert!(node.runtime.run_until(reading.as_mut()).is_none());
    // Kept back, because leadership is being transferred.
    let mut kept_back = node.pending_writes(1).remove(0);
    node.runtime.run_until(node.raft.shutdown()).expect("all tasks have ended");
    for (write, index) in writes.iter_mut().zip(metrics.last.index + 1..) {
        let log_id = LogId::new(metrics.term, index);
        assert_eq!(node.runtime.run_until(write.as_mut()), Some(Err(WriteError::Unknown { log_id })));
    }
    let stopped = Err(WriteError::Fatal(Fatal::Stopped));
    assert_eq!(node.runtime.run_until(kept_back.as_mut()), Some(stopped), "certainly not appended");
    assert!(node.runtime.run_until(changing).is_some_and(|answer| answer.is_err()));
    assert!(node.runtime.run_until(transferring).is_some_and(|answer| answer.is_err()));
    assert_eq!(node.runtime.run_until(reading), Some(Err(ReadError::Fatal(Fatal::Stopped))));
    node.check_stopped(&Fatal::Stopped);
}

/// scylladb/scylladb#10379, etcd-io/etcd#13464.
///
/// A follower was told to wait for an index, and answered a read with what it had already. Here a reader is answered when the
/// state machine has come to its index, and sent away with an error when that takes too long.
#[test]
fn a_reader_is_not_answered_before_the_state_machine_has_come_to_its_index() {
    for comes_in_time in [true, false] {
        let node = Node::leader(Config::default());
        node.state_machine.with(|state| state.apply_fault = Some(Fault::Hangs));
        let mut write = node.pending_writes(1).remove(0);
        let mut read = Box::pin(node.raft.read());
        assert!(node.runtime.run_until(read.as_mut()).is_none(), "its write is committed and not applied");
        if comes_in_time {
            node.state_machine.release();
            let last = node.metrics().last.index;
            assert_eq!(node.runtime.run_until(read), Some(Ok(last)));
            assert_eq!(node.runtime.run_until(write), Some(Ok(0)));
        } else {
            node.runtime.advance(Duration::from_millis(Config::default().read_timeout_ms));
            let answer = node.runtime.run_until(read).expect("an answer");
            assert!(matches!(answer, Err(ReadError::Behind { needed, applied }) if applied < needed));
            node.state_machine.release();
            assert_eq!(node.runtime.run_until(write.as_mut()), Some(Ok(0)));
        }
    }
}

// ---- limits ----

/// etcd-io/etcd#14633, cockroachdb/cockroach#31689, etcd-io/raft#11.
///
/// The bytes of proposals of an earlier term, or of those that a snapshot had covered, were never given back: after a while
/// everything was refused. Or the count began anew with each election, and memory grew without bound. Here what is admitted
/// is given back with the answer, whatever the answer is.
#[test]
fn what_was_admitted_is_given_back_however_a_write_ends() {
    let limit = 1 << 10;
    let config = Config { uncommitted_bytes_max: limit, command_bytes_max: limit, ..Config::default() };
    let node = Node::leader_of_three(config);
    for round in 0..3 {
        let metrics = node.metrics();
        let writes = node.pending_writes(100);
        let last = node.metrics().last.index;
        assert!(last < metrics.last.index + 100, "round {round}: the limit is kept in every leadership");
        match round {
            // Nothing is heard of them; a snapshot covers them; other entries are in their places.
            0 => {
                node.hear_leader(metrics.term + 1);
                node.runtime.advance(Duration::from_millis(Config::default().write_outcome_timeout_ms));
            }
            1 => drop(node.receive_state(metrics.term + 1, last + 10, 7)),
            _ => {
                let prev = metrics.last;
                let others = entries(metrics.term + 1, prev.index + 1..last + 1);
                node.hear_append(metrics.term + 1, prev, &others, last);
            }
        }
        for write in writes {
            let answer = node.runtime.run_until(write).expect("an answer");
            assert!(answer.is_err(), "round {round}: {answer:?}");
        }
        // This node leads again.
        node.network.with(|state| state.sent.clear());
        node.raft.campaign().unwrap();
        node.runtime.run();
        let (kind, campaign) = node.network.with(|state| {
            let asked = state.sent.iter().rev().find_map(|(_, message)| match message.body {
                Body::VoteRequest { kind, campaign, .. } => Some((kind, campaign)),
                _ => None,
            });
            asked.expect("a campaign asks for votes")
        });
        node.hear(2, node.metrics().term, Body::VoteResponse { kind, campaign, granted: true });
        node.hear_matched(node.metrics().last.index);
        let mut write = node.pending_writes(1).remove(0);
        node.hear_matched(node.metrics().last.index);
        assert!(matches!(node.runtime.run_until(write.as_mut()), Some(Ok(_))), "round {round}");
    }
}

// ---- loops beside each other ----

/// camunda/zeebe#8283, async-raft/async-raft#76.
///
/// A new leader committed its first entries, and applying them, or building a snapshot, or writing, took seconds on the very
/// loop that sends heartbeats: it was deposed, and the next leader fared no better. Here none of them holds up the core loop.
#[test]
fn a_leader_sends_heartbeats_and_answers_while_its_stores_are_busy() {
    for busy in ["state machine", "log"] {
        let node = Node::leader_of_three(Config::default());
        match busy {
            "log" => node.log.with(|state| state.hang_at_append = true),
            _ => node.state_machine.with(|state| state.apply_fault = Some(Fault::Hangs)),
        }
        let mut writes = node.pending_writes(2);
        node.hear_matched(node.metrics().last.index);
        let is_heartbeat = |body: &Body<U64>| matches!(body, Body::Heartbeat { .. });
        for round in 0..20 {
            let before = node.sent(is_heartbeat);
            node.runtime.advance(Duration::from_millis(Config::default().heartbeat_interval_ms));
            node.runtime.run();
            // An append that was answered stands for the first one.
            let expected = if round == 0 { 1 } else { 2 };
            assert_eq!(node.sent(is_heartbeat), before + expected, "the {busy} is busy, round {round}");
            // Whoever asks is heard.
            node.hear(3, node.metrics().term, Body::ReadRequest { read: round, by_lease: false });
        }
        assert_eq!(node.metrics().role, RoleName::Leader);
        node.log.release();
        node.state_machine.release();
        assert!(
            writes.iter_mut().all(|write| node.runtime.run_until(write.as_mut()).is_some_and(|w| w.is_ok()))
        );
    }
}

/// databendlabs/openraft (fix eed681d5), eBay/NuRaft#407, RedisLabs/redisraft#449.
///
/// A snapshot was installed while a batch of entries was being applied; then the batch was finished, on top of the restored
/// state, and the applied index went back. Here the state machine has one owner, who does one thing after the other.
#[test]
fn a_snapshot_that_arrives_while_entries_are_applied_is_installed_behind_them() {
    let node = Node::leader_of_three(Config::default());
    let metrics = node.metrics();
    node.state_machine.with(|state| state.apply_fault = Some(Fault::Hangs));
    let (term, first) = (metrics.term + 1, metrics.last.index + 1);
    node.hear_append(term, metrics.last, &entries(term, first..first + 10), first + 9);
    let mut receiving = Box::pin(node.receiving_state(term, first + 20, 5_000));
    assert!(node.runtime.run_until(receiving.as_mut()).is_none(), "the state machine is busy");
    assert_eq!(node.state_machine.with(|state| state.sum), 0);
    node.state_machine.release();
    assert_eq!(node.runtime.run_until(receiving).expect("an answer").installed, Some(first + 20));
    assert_eq!(
        node.state_machine.with(|state| state.batches.concat()),
        (first..first + 10).collect::<Vec<_>>()
    );
    let state = node.state_machine.with(|state| (state.sum, state.applied.last_applied));
    assert_eq!(state, (5_000, LogId::new(term, first + 20)));
    assert_eq!(node.metrics().applied, LogId::new(term, first + 20));
}

/// databendlabs/openraft#1960 (#1964).
///
/// Completions of writes went through a channel that keeps the last one only, and that one was of a term that was over: the
/// durable mark of the leader never moved. Here the last number stands for all before it.
#[test]
fn completions_of_which_only_the_last_is_seen_count_for_all() {
    let node = Node::leader_of_three(Config::default());
    node.log.with(|state| state.hang_at_append = true);
    // The first append hangs; the others gather behind it, with a hard state among them.
    let mut writes = node.pending_writes(3);
    node.log.release();
    node.runtime.run();
    let metrics = node.metrics();
    assert_eq!(metrics.stable, metrics.last.index);
    node.hear_matched(metrics.last.index);
    assert!(writes.iter_mut().all(|write| node.runtime.run_until(write.as_mut()).is_some_and(|w| w.is_ok())));
}

/// hashicorp/raft#717.
///
/// The thread of the heartbeats saved a later term when the store had been closed already. Here nothing is taken when a node
/// has been shut down, and nothing reaches the log any more.
#[test]
fn nothing_is_written_when_a_node_has_shut_down() {
    let node = Node::leader_of_three(Config::default());
    let term = node.metrics().term;
    node.runtime.run_until(node.raft.shutdown()).expect("all tasks have ended");
    let calls = node.log.calls();
    let message = Message { term: term + 5, body: Body::Heartbeat { round: 1, commit: LogId::ZERO } };
    let received = node.runtime.run_until(node.raft.receive(2, vec![message])).expect("an answer");
    assert_eq!(received, Err(Fatal::Stopped));
    node.runtime.advance(Duration::from_secs(60));
    node.runtime.run();
    assert_eq!(node.log.calls(), calls);
    assert_eq!((node.runtime.tasks(), node.log.owners()), (0, 1), "the store is given back");
}

/// hashicorp/raft#695 (#701).
///
/// A task read the term for a new entry, and another raised it before the entry was stored. Here the calls of the log show
/// what a single owner means: an entry stands in the term in which this node led, before the later term is saved.
#[test]
fn an_entry_and_a_later_term_that_arrive_together_are_stored_one_after_the_other() {
    let node = Node::leader_of_three(Config::default());
    let (term, last) = (node.metrics().term, node.metrics().last.index);
    let before = node.log.calls().len();
    // Both are in the inbox before the core loop looks.
    let mut write: PendingWrite<'_> = Box::pin(node.raft.write(7));
    assert!(write.as_mut().now_or_never().is_none());
    let message = Message { term: term + 1, body: Body::Heartbeat { round: 1, commit: LogId::ZERO } };
    let received = node.raft.receive(2, vec![message]).now_or_never().expect("there is room");
    assert_eq!(received, Ok(()));
    node.runtime.run();
    let calls = node.log.calls().split_off(before);
    let entry = node.log.with(|state| state.entries.get(&(last + 1)).map(|entry| entry.log_id.term));
    // Whoever comes first, there is no entry of the later term.
    assert!(entry.is_none_or(|entry| entry == term), "{calls:?}");
    assert_eq!(node.log.with(|state| state.hard_state.term), term + 1);
    let sent = |body: &Body<U64>| matches!(body, Body::Append { entries, .. } if !entries.is_empty());
    let of_later_term = node.network.with(|state| {
        state.sent.iter().filter(|(_, message)| message.term == term + 1 && sent(&message.body)).count()
    });
    assert_eq!(of_later_term, 0);
}

// ---- stores that fail, and what is found at a start ----

/// rabbitmq/ra#557 and #558, lavinmq/lavinmq#2151, tarantool/tarantool#12292.
///
/// The call that cuts the log failed, and the error was ignored: the next entries were appended behind the old ones. Or a
/// failed sync was tried again, and said to have worked. Here the first error of the log is the last call of it, whatever
/// the call was, and nobody is told of anything that was behind it.
#[test]
fn the_first_error_of_the_log_is_its_last_call() {
    for failing in ["truncate", "append", "save_hard_state"] {
        let node = Node::leader_of_three(Config::default());
        let (term, last) = (node.metrics().term, node.metrics().last);
        let _appended = node.pending_writes(2);
        let others = entries(term + 1, last.index + 1..last.index + 2);
        let call = match failing {
            "truncate" => format!("truncate {}", last.index + 1),
            "append" => format!("append {}..{} commit {}", last.index + 1, last.index + 2, last.index),
            _ => format!("save_hard_state term {}", term + 1),
        };
        node.log.fail_at(&call);
        node.network.with(|state| state.sent.clear());
        node.hear_append(term + 1, last, &others, last.index);
        assert_eq!(node.log.calls().last(), Some(&call));
        let said =
            |body: &Body<U64>| matches!(body, Body::AppendResponse { result: AppendResult::Matched { .. } });
        assert_eq!(node.sent(said), 0, "after a failure of {failing}");
        let reason = node.raft.metrics().latest().fatal.clone().expect("the node has stopped");
        assert!(matches!(reason, Fatal::LogStorage(_)), "{reason}");
        node.check_stopped(&reason);
        assert_eq!(node.log.calls().last(), Some(&call), "nothing was tried again");
    }
}

/// camunda/zeebe#10202 and #4451, RATIS-2056, rabbitmq/ra#562.
///
/// A crash came between the installation of a snapshot and the clearing of the log, and the node kept a log that ended
/// before the snapshot: its next entry left a hole. Here the log begins anew behind the snapshot. A state that is ahead of
/// the log for no such reason, or a log that begins behind the state, means that something is lost: such a node does not
/// start.
#[test]
fn a_log_that_ends_before_the_state_begins_anew_behind_its_snapshot_or_is_refused() {
    let start = |log: &FakeLog, applied: LogId, snapshot: Option<LogId>| {
        let state_machine = FakeStateMachine::default();
        state_machine.with(|state| {
            state.applied.last_applied = applied;
            let meta = |last| SnapshotMeta { last, membership: MembershipAt::default(), size_bytes: Some(8) };
            state.snapshot = snapshot.map(|last| (meta(last), 7));
        });
        let (runtime, network) = (FakeRuntime::new(), FakeNetwork::default());
        let starting =
            Raft::start(1, Config::default(), runtime.clone(), network, log.clone(), state_machine);
        runtime.run_until(starting).expect("it ends").map(|raft| {
            let message =
                |entries, prev, commit| Message { term: 5, body: Body::Append { prev, entries, commit } };
            let next = entries(5, applied.index + 1..applied.index + 3);
            let receive = raft.receive(2, vec![message(next, applied, applied.index)]);
            runtime.run_until(receive).unwrap().unwrap();
            runtime.run();
            raft.metrics().latest().last
        })
    };
    let log_to = |last: u64, purged: LogId| {
        let log = FakeLog::default();
        log.add(&entries(3, purged.index + 1..last + 1));
        log.with(|state| {
            state.purged = purged;
            state.hard_state = HardState { term: 3, voted_for: None, commit: 0 };
        });
        log
    };
    let end = LogId::new(3, 65);
    let log = log_to(50, LogId::ZERO);
    assert_eq!(start(&log, end, Some(end)).map_err(|error| error.to_string()), Ok(LogId::new(5, 67)));
    assert_eq!(log.with(|state| state.purged), end);
    assert_eq!(log.with(|state| state.entries.keys().copied().collect::<Vec<_>>()), [66, 67]);
    let is_damaged = |result: Result<LogId, StartError>| matches!(result, Err(StartError::Damaged(_)));
    assert!(
        is_damaged(start(&log_to(50, LogId::ZERO), end, None)),
        "65 entries were applied, 15 of them are lost"
    );
    assert!(is_damaged(start(&log_to(50, LogId::ZERO), end, Some(LogId::new(3, 40)))));
    assert!(is_damaged(start(&log_to(90, LogId::new(3, 70)), end, Some(end))), "66 to 70 are lost");
}

/// dgraph-io/dgraph#2707, tikv/tikv#2341, RedisLabs/raft#162.
///
/// A peer took a snapshot whole and was never heard of again; nobody reported the end of the transfer, and the leader waited
/// for it in that state for ever. Here a transfer ends after a time, whatever the peer and the network do, and is begun again.
#[test]
fn a_transfer_that_nobody_answers_ends_and_is_begun_again() {
    for takes_snapshots in [false, true] {
        let config = Config {
            log_keep_entries: 0,
            log_hold_entries_max: 0,
            snapshot_progress_timeout_ms: 1_000,
            snapshot_install_timeout_ms: 2_000,
            ..Config::default()
        };
        let node = Node::leader_of_three(config);
        node.network.with(|state| state.takes_snapshots = takes_snapshots);
        node.runtime.run_until(node.raft.snapshot()).unwrap().unwrap();
        let term = node.metrics().term;
        let conflict =
            Body::AppendResponse { result: AppendResult::Conflict { rejected: 1, hint: LogId::ZERO } };
        let latest_round = || {
            let heartbeats = node.network.with(|state| {
                let of = |body: &Body<U64>| match body {
                    Body::Heartbeat { round, .. } => Some(*round),
                    _ => None,
                };
                state.sent.iter().filter_map(|(_, message)| of(&message.body)).max()
            });
            heartbeats.expect("a leader sends heartbeats")
        };
        let mut transfers = 0;
        let mut was = ProgressName::Probe;
        for _ in 0..200 {
            // It lives, and knows nothing.
            node.hear(3, term, Body::HeartbeatResponse { round: latest_round(), promise_ms: 0 });
            node.hear(3, term, conflict.clone());
            let is = node.metrics().peers[&3].progress;
            transfers += usize::from(was != is && is == ProgressName::Snapshot);
            was = is;
            node.runtime.advance(Duration::from_millis(90));
            node.runtime.run();
        }
        assert!(3 <= transfers, "{transfers} transfers were begun");
    }
}
