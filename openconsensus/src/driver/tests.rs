//! Tests of one whole node on a runtime that a test moves: what is answered when something goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;

use super::fakes::{FakeLog, FakeNetwork, FakeRuntime, FakeStateMachine, Fault};
use crate::config::Config;
use crate::entry::LogId;
use crate::error::{
    ChangeMembershipError, Fatal, InitializeError, ReadError, SnapshotError, TransferError, WaitError,
    WriteError,
};
use crate::message::{AppendResult, Body, InstallSnapshot, Message, SnapshotMeta};
use crate::metrics::{RaftMetrics, RoleName};
use crate::raft::Raft;
use crate::runtime::snapshot_stream;
use crate::testing::U64;

type PendingWrite<'a> = Pin<Box<dyn Future<Output = Result<u64, WriteError<U64>>> + 'a>>;

struct Node {
    runtime: FakeRuntime,
    log: FakeLog,
    state_machine: FakeStateMachine,
    network: FakeNetwork,
    raft: Raft<U64>,
}

impl Node {
    fn start_with(config: Config, log: &FakeLog, state_machine: &FakeStateMachine) -> Self {
        let (runtime, network) = (FakeRuntime::new(), FakeNetwork::default());
        let starting =
            Raft::start(1, config, runtime.clone(), network.clone(), log.clone(), state_machine.clone());
        let raft = runtime.run_until(starting).unwrap().unwrap();
        Self { runtime, log: log.clone(), state_machine: state_machine.clone(), network, raft }
    }

    /// A node alone, as a leader.
    fn leader(config: Config) -> Self {
        let node = Self::start_with(config, &FakeLog::default(), &FakeStateMachine::default());
        node.runtime.run_until(node.raft.initialize(BTreeMap::from([(1, ())]))).unwrap().unwrap();
        node.elect();
        node
    }

    /// A node of a cluster of three, as a leader that will never hear from the others again.
    fn leader_without_peers() -> Self {
        let config = Config { check_quorum: false, pre_vote: false, ..Config::default() };
        let node = Self::leader(config);
        let learners = BTreeMap::from([(2, ())]);
        let adding = node.raft.change_membership(crate::MembershipChange::AddLearners(learners), None);
        node.runtime.run_until(adding).unwrap().unwrap();
        node
    }

    /// The leader of three voters, of which the test plays the other two.
    fn leader_of_three(config: Config) -> Self {
        let config = Config { check_quorum: false, pre_vote: false, ..config };
        let node = Self::start_with(config, &FakeLog::default(), &FakeStateMachine::default());
        let voters = BTreeMap::from([(1, ()), (2, ()), (3, ())]);
        node.runtime.run_until(node.raft.initialize(voters)).unwrap().unwrap();
        node.raft.campaign().unwrap();
        node.runtime.run();
        let (kind, campaign) = node
            .network
            .with(|state| {
                state.sent.iter().find_map(|(_, message)| match message.body {
                    Body::VoteRequest { kind, campaign, .. } => Some((kind, campaign)),
                    _ => None,
                })
            })
            .expect("a campaign asks for votes");
        node.hear(2, node.metrics().term, Body::VoteResponse { kind, campaign, granted: true });
        node.hear_matched(node.metrics().last.index);
        assert_eq!(node.metrics().role, RoleName::Leader);
        node
    }

    fn hear(&self, from: u64, term: u64, body: Body<U64>) {
        let received = self.raft.receive(from, vec![Message { term, body }]);
        self.runtime.run_until(received).unwrap().unwrap();
        self.runtime.run();
    }

    /// Node 2 has the log up to here.
    fn hear_matched(&self, matched: u64) {
        let result = AppendResult::Matched { matched };
        self.hear(2, self.metrics().term, Body::AppendResponse { result });
    }

    /// Writes that are appended and not committed.
    fn pending_writes(&self, count: u64) -> Vec<PendingWrite<'_>> {
        let write = |command| -> PendingWrite<'_> { Box::pin(self.raft.write(command)) };
        let mut writes: Vec<_> = (0..count).map(write).collect();
        for write in &mut writes {
            assert!(self.runtime.run_until(write.as_mut()).is_none());
        }
        writes
    }

    fn elect(&self) {
        for _ in 0..100 {
            self.runtime.run();
            if self.raft.metrics().latest().role == RoleName::Leader {
                return;
            }
            self.runtime.advance(Duration::from_millis(50));
        }
        panic!("no leader: {:?}", self.raft.metrics().latest());
    }

    /// The metrics as they are now: those that were held back are published first.
    fn metrics(&self) -> Arc<RaftMetrics<U64>> {
        self.runtime.advance(Duration::from_millis(5));
        self.runtime.run();
        self.raft.metrics().latest()
    }

    fn write(&self, command: u64) -> Result<u64, WriteError<U64>> {
        self.runtime.run_until(self.raft.write(command)).expect("an answer")
    }

    /// Every call returns the same reason.
    fn check_stopped(&self, reason: &Fatal) {
        let run = |what| self.runtime.run_until(what).expect("an answer");
        assert_eq!(self.write(1), Err(WriteError::Fatal(reason.clone())));
        let many = self.runtime.run_until(self.raft.write_many(vec![1, 2])).unwrap();
        assert_eq!(many, Err(WriteError::Fatal(reason.clone())));
        assert_eq!(run(self.raft.read().boxed_local()), Err(ReadError::Fatal(reason.clone())));
        let initialized = self.runtime.run_until(self.raft.initialize(BTreeMap::new())).unwrap();
        assert_eq!(initialized, Err(InitializeError::Fatal(reason.clone())));
        let added = self.runtime.run_until(self.raft.add_learner(2, (), None)).unwrap();
        assert_eq!(added, Err(ChangeMembershipError::Fatal(reason.clone())));
        let transferred = self.runtime.run_until(self.raft.transfer_leadership(None)).unwrap();
        assert_eq!(transferred, Err(TransferError::Fatal(reason.clone())));
        let built = self.runtime.run_until(self.raft.snapshot()).unwrap();
        assert_eq!(built, Err(SnapshotError::Fatal(reason.clone())));
        assert_eq!(self.raft.campaign(), Err(reason.clone()));
        let wait = self.raft.wait(Duration::from_secs(1));
        assert_eq!(self.runtime.run_until(wait.leader()).unwrap(), Err(WaitError::Fatal(reason.clone())));
        assert_eq!(self.raft.metrics().latest().fatal, Some(reason.clone()));
        self.runtime.run_until(self.raft.shutdown()).expect("all tasks have ended");
    }
}

#[test]
fn a_node_alone_writes_reads_and_builds_a_snapshot() {
    let node = Node::leader(Config::default());
    assert_eq!(node.write(5), Ok(5));
    let many = node.runtime.run_until(node.raft.write_many(vec![1, 2, 3])).unwrap();
    assert_eq!(many, Ok(vec![6, 8, 11]));
    let read = node.runtime.run_until(node.raft.read()).unwrap().unwrap();
    let metrics = node.metrics();
    assert_eq!((read, metrics.committed), (metrics.last.index, metrics.last.index));
    let meta = node.runtime.run_until(node.raft.snapshot()).unwrap().unwrap();
    assert_eq!(meta.last, metrics.last);
    assert_eq!(node.runtime.run_until(node.raft.write_many(Vec::new())).unwrap(), Ok(Vec::new()));
}

#[test]
fn writes_that_gather_while_the_node_is_busy_are_one_append() {
    let node = Node::leader(Config::default());
    let before = node.log.calls().len();
    let writes = (0..100).map(|command| node.raft.write(command));
    let responses = node.runtime.run_until(futures::future::join_all(writes)).unwrap();
    assert!(responses.iter().all(Result::is_ok));
    let appends: Vec<_> = node.log.calls().split_off(before);
    assert_eq!(appends.len(), 1, "{appends:?}");
}

#[test]
fn many_commands_that_are_more_than_the_limit_are_written_in_parts() {
    let limit = 1 << 10;
    let config = Config { uncommitted_bytes_max: limit, command_bytes_max: limit, ..Config::default() };
    let node = Node::leader(config);
    let commands: Vec<u64> = (0..100).collect();
    let responses = node.runtime.run_until(node.raft.write_many(commands)).unwrap().unwrap();
    assert_eq!(responses.len(), 100);
    assert_eq!(responses[99], 99 * 100 / 2);
    let appends = node.log.calls().iter().filter(|call| call.starts_with("append")).count();
    assert!(5 < appends, "{:?}", node.log.calls());
}

#[test]
fn a_command_over_the_limit_is_refused() {
    let node = Node::leader(Config { command_bytes_max: 7, ..Config::default() });
    let refused = Err(WriteError::TooLarge { bytes: 8, limit: 7 });
    assert_eq!(node.write(1), refused);
    let many = node.runtime.run_until(node.raft.write_many(vec![1])).unwrap();
    assert_eq!(many.map(|_| 0), refused);
}

#[test]
fn a_follower_refuses_and_names_no_leader_when_it_knows_none() {
    let node = Node::start_with(Config::default(), &FakeLog::default(), &FakeStateMachine::default());
    assert_eq!(node.write(1), Err(WriteError::NotLeader { leader: None }));
}

#[test]
fn a_failed_write_to_the_log_stops_the_node_and_its_writers_do_not_know() {
    let node = Node::leader(Config::default());
    let last = node.metrics().last;
    node.log.fail_at(&format!("append {}..{} commit {}", last.index + 1, last.index + 2, last.index));
    let log_id = LogId::new(last.term, last.index + 1);
    assert_eq!(node.write(1), Err(WriteError::Unknown { log_id }));
    let reason = node.raft.metrics().latest().fatal.clone().unwrap();
    assert!(matches!(&reason, Fatal::LogStorage(error) if error.to_string().contains("no space left")));
    node.check_stopped(&reason);
}

#[test]
fn a_panic_of_the_state_machine_stops_the_node_and_its_writers_do_not_know() {
    let node = Node::leader(Config::default());
    node.state_machine.with(|state| state.apply_fault = Some(Fault::Panic));
    assert!(matches!(node.write(1), Err(WriteError::Unknown { log_id }) if log_id != LogId::ZERO));
    node.check_stopped(&Fatal::Panicked("a bug in apply".to_owned()));
}

#[test]
fn a_panic_of_the_log_storage_stops_the_node_and_its_writers_do_not_know() {
    let node = Node::leader(Config::default());
    node.log.with(|state| state.panic_at_append = true);
    assert!(matches!(node.write(1), Err(WriteError::Unknown { .. })));
    node.check_stopped(&Fatal::Panicked("a bug in append".to_owned()));
}

#[test]
fn a_panic_in_the_middle_of_a_turn_stops_the_node_and_answers_everybody() {
    let node = Node::leader_without_peers();
    let mut read = Box::pin(node.raft.read());
    assert!(node.runtime.run_until(read.as_mut()).is_some(), "a learner need not confirm");
    node.network.with(|state| state.panics = true);
    let mut write = Box::pin(node.raft.write(1));
    let mut snapshot = Box::pin(node.raft.snapshot());
    drop((write.as_mut().now_or_never(), snapshot.as_mut().now_or_never()));
    // The heartbeat panics, if the write has not done so.
    node.runtime.advance(Duration::from_millis(100));
    assert!(matches!(node.runtime.run_until(write).unwrap(), Err(WriteError::Unknown { .. })));
    let reason = Fatal::Panicked("a bug in send".to_owned());
    assert_eq!(node.runtime.run_until(snapshot).unwrap(), Err(SnapshotError::Fatal(reason.clone())));
    node.check_stopped(&reason);
}

#[test]
fn a_shutdown_answers_everybody_who_waits() {
    let node = Node::leader(Config::default());
    node.state_machine.with(|state| state.apply_fault = Some(Fault::Hangs));
    let mut write = Box::pin(node.raft.write(1));
    assert!(node.runtime.run_until(write.as_mut()).is_none());
    let mut read = Box::pin(node.raft.read());
    assert!(node.runtime.run_until(read.as_mut()).is_none());
    // The call of the state machine that is under way is waited for.
    let mut shutdown = Box::pin(node.raft.shutdown());
    assert!(node.runtime.run_until(shutdown.as_mut()).is_none());
    assert_eq!(node.runtime.run_until(read).unwrap(), Err(ReadError::Fatal(Fatal::Stopped)));
    node.state_machine.release();
    node.runtime.run_until(shutdown).expect("all tasks have ended");
    let outcome = node.runtime.run_until(write).unwrap();
    assert!(matches!(outcome, Ok(1) | Err(WriteError::Unknown { .. })), "{outcome:?}");
    node.check_stopped(&Fatal::Stopped);
}

#[test]
fn writers_that_wait_to_be_admitted_are_answered_when_the_node_stops() {
    let limit = 1 << 10;
    let config = Config { uncommitted_bytes_max: limit, command_bytes_max: limit, ..Config::default() };
    let node = Node::leader(config);
    node.state_machine.with(|state| state.apply_fault = Some(Fault::Hangs));
    let mut writes: Vec<_> = (0..50).map(|command| Box::pin(node.raft.write(command))).collect();
    for write in &mut writes {
        assert!(node.runtime.run_until(write.as_mut()).is_none());
    }
    let last = node.metrics().last.index;
    assert!(last < 40, "{last} entries were admitted");
    let _ = node.raft.shutdown().now_or_never();
    node.state_machine.release();
    for write in writes {
        let outcome = node.runtime.run_until(write).expect("an answer");
        let fatal = Err(WriteError::Fatal(Fatal::Stopped));
        assert!(outcome.is_ok() || outcome == fatal || matches!(outcome, Err(WriteError::Unknown { .. })));
    }
}

#[test]
fn a_node_stops_when_its_last_handle_is_dropped() {
    let node = Node::leader(Config::default());
    let (second, mut watch) = (node.raft.clone(), node.raft.metrics());
    let weak = node.raft.downgrade();
    let Node { runtime, raft, log, .. } = node;
    drop(raft);
    runtime.run();
    assert_eq!(watch.latest().fatal, None);
    assert!(weak.upgrade().is_some());
    drop(second);
    runtime.run();
    assert_eq!(watch.latest().fatal, Some(Fatal::Stopped));
    assert!(weak.upgrade().is_none());
    assert_eq!(watch.changed().now_or_never().unwrap().fatal, Some(Fatal::Stopped));
    // The loops have given back the log.
    assert_eq!(log.owners(), 1);
}

#[test]
fn an_executor_that_drops_the_tasks_leaves_nobody_waiting() {
    let node = Node::leader(Config::default());
    node.state_machine.with(|state| state.apply_fault = Some(Fault::Hangs));
    let mut write = Box::pin(node.raft.write(1));
    assert!(node.runtime.run_until(write.as_mut()).is_none());
    node.runtime.drop_tasks();
    assert!(matches!(node.runtime.run_until(write).unwrap(), Err(WriteError::Unknown { .. })));
    node.check_stopped(&Fatal::Stopped);
}

#[test]
fn a_restarted_node_goes_on_with_what_it_has_acknowledged() {
    let node = Node::leader(Config::default());
    assert_eq!(node.write(5), Ok(5));
    node.runtime.run_until(node.raft.shutdown()).unwrap();
    // A volatile state machine begins anew.
    let node = Node::start_with(Config::default(), &node.log, &FakeStateMachine::default());
    node.elect();
    assert_eq!(node.write(6), Ok(11));
    let read = node.runtime.run_until(node.raft.read()).unwrap().unwrap();
    assert_eq!(read, node.metrics().last.index);
}

#[test]
fn metrics_are_published_at_most_once_in_an_interval_and_never_forgotten() {
    let node = Node::leader(Config { metrics_interval_ms: 100, ..Config::default() });
    node.runtime.advance(Duration::from_millis(100));
    node.runtime.run();
    let mut watch = node.raft.metrics();
    drop(watch.changed().now_or_never());
    for command in 0..10 {
        assert!(node.write(command).is_ok());
    }
    let published = std::iter::from_fn(|| watch.changed().now_or_never()).count();
    assert!(published <= 1, "published {published} times");
    node.runtime.advance(Duration::from_millis(100));
    node.runtime.run();
    let metrics = watch.latest();
    assert_eq!(metrics.applied, metrics.last);
}

#[test]
fn waiting_ends_at_its_deadline_and_says_what_it_saw() {
    let node = Node::leader(Config::default());
    let wait = node.raft.wait(Duration::from_millis(30));
    let mut waiting = Box::pin(wait.applied(1000));
    assert!(node.runtime.run_until(waiting.as_mut()).is_none());
    node.runtime.advance(Duration::from_millis(30));
    let error = node.runtime.run_until(waiting).unwrap().unwrap_err().to_string();
    assert!(error.contains("still waiting for entry 1000 to be applied after 30 ms"), "{error}");
    assert!(error.contains("node 1 is leader in term 2, leader 1"), "{error}");
}

#[test]
fn a_learner_that_never_answers_is_reported_as_still_catching_up() {
    let node = Node::leader_without_peers();
    let mut adding = Box::pin(node.raft.add_learner(2, (), Some(Duration::from_millis(200))));
    assert!(node.runtime.run_until(adding.as_mut()).is_none());
    node.runtime.advance(Duration::from_millis(200));
    let error = node.runtime.run_until(adding).unwrap().unwrap_err();
    let last = node.metrics().last.index;
    assert_eq!(error, ChangeMembershipError::StillCatchingUp { id: 2, matched: 0, last });
    // Without waiting there is nothing to do.
    let again = node.runtime.run_until(node.raft.add_learner(2, (), None)).unwrap();
    assert_eq!(again, Ok(node.metrics().membership.log_id));
}

#[test]
fn a_node_that_is_removed_is_still_reached_to_be_told() {
    let node = Node::leader_without_peers();
    let removing = node.raft.change_membership(crate::MembershipChange::Remove(BTreeSet::from([2])), None);
    node.runtime.run_until(removing).unwrap().unwrap();
    assert!(!node.metrics().membership.membership.is_member(2));
    node.runtime.advance(Duration::from_millis(100));
    node.runtime.run();
    assert_eq!(node.network.with(|state| state.without_address.clone()), []);
}

#[test]
fn writes_of_a_lost_leadership_are_unknown_after_the_timeout_and_not_before() {
    let node = Node::leader_of_three(Config { write_outcome_timeout_ms: 1000, ..Config::default() });
    let metrics = node.metrics();
    let mut writes = node.pending_writes(1);
    node.hear(2, metrics.term + 1, Body::Heartbeat { round: 1, commit: LogId::ZERO });
    assert_eq!(node.raft.metrics().latest().role, RoleName::Follower);
    node.runtime.advance(Duration::from_millis(999));
    assert_eq!(node.runtime.run_until(writes[0].as_mut()), None);
    node.runtime.advance(Duration::from_millis(1));
    let log_id = LogId::new(metrics.term, metrics.last.index + 1);
    assert_eq!(node.runtime.run_until(writes[0].as_mut()), Some(Err(WriteError::Unknown { log_id })));
}

#[test]
fn writes_are_dropped_when_another_entry_is_applied_in_place_of_the_first_of_them() {
    let node = Node::leader_of_three(Config::default());
    let (term, prev) = (node.metrics().term, node.metrics().last);
    let mut writes = node.pending_writes(3);
    let entries = super::fakes::entries(term + 1, prev.index + 1..prev.index + 2);
    node.hear(2, term + 1, Body::Append { prev, entries: entries.clone(), commit: prev.index });
    // They are cut from the log, but that decides nothing: another leader may still have them.
    for write in &mut writes {
        assert_eq!(node.runtime.run_until(write.as_mut()), None);
    }
    node.hear(2, term + 1, Body::Append { prev, entries, commit: prev.index + 1 });
    for write in writes {
        assert_eq!(node.runtime.run_until(write), Some(Err(WriteError::Dropped)));
    }
}

#[test]
fn writes_that_a_snapshot_covers_are_unknown_at_once() {
    let node = Node::leader_of_three(Config::default());
    let metrics = node.metrics();
    let writes = node.pending_writes(2);
    let last = LogId::new(metrics.term + 1, metrics.last.index + 5);
    let meta = SnapshotMeta { last, membership: metrics.membership.clone(), size_bytes: Some(8) };
    let request = InstallSnapshot { term: metrics.term + 1, leader: 2, meta };
    let bytes = Bytes::copy_from_slice(&50_u64.to_be_bytes());
    let data = snapshot_stream(futures::stream::iter([Ok(bytes)]));
    let installed = node.runtime.run_until(node.raft.receive_snapshot(request, data)).unwrap().unwrap();
    assert_eq!(installed.installed, Some(last.index));
    for (write, index) in writes.into_iter().zip(metrics.last.index + 1..) {
        let log_id = LogId::new(metrics.term, index);
        assert_eq!(node.runtime.run_until(write), Some(Err(WriteError::Unknown { log_id })));
    }
    assert_eq!(node.state_machine.with(|state| state.sum), 50);
    assert_eq!(node.metrics().applied, last);
}

#[test]
fn writes_wait_while_leadership_is_being_transferred_and_go_on_when_it_was_not() {
    let node = Node::leader_of_three(Config { transfer_timeout_ms: 100, ..Config::default() });
    let last = node.metrics().last.index;
    let mut transfer = Box::pin(node.raft.transfer_leadership(Some(2)));
    assert_eq!(node.runtime.run_until(transfer.as_mut()), None);
    let mut writes = node.pending_writes(1);
    assert_eq!(node.metrics().last.index, last, "the write is kept back");
    node.runtime.advance(Duration::from_millis(100));
    let timed_out = Err(TransferError::TimedOut { target: 2 });
    assert_eq!(node.runtime.run_until(transfer), Some(timed_out));
    assert_eq!(node.metrics().last.index, last + 1);
    node.hear_matched(last + 1);
    assert_eq!(node.runtime.run_until(writes.remove(0)), Some(Ok(0)));
}

#[test]
fn a_shutdown_waits_for_the_append_that_is_under_way() {
    let node = Node::leader(Config::default());
    let before = node.metrics().last.index;
    node.log.with(|state| state.hang_at_append = true);
    let mut writes = node.pending_writes(1);
    let mut shutdown = Box::pin(node.raft.shutdown());
    assert!(node.runtime.run_until(shutdown.as_mut()).is_none());
    node.log.release();
    node.runtime.run_until(shutdown).expect("all tasks have ended");
    assert!(node.log.with(|state| state.entries.contains_key(&(before + 1))), "the append was cut off");
    assert!(matches!(node.runtime.run_until(writes.remove(0)), Some(Err(WriteError::Unknown { .. }))));
    node.check_stopped(&Fatal::Stopped);
}

mod disk;
mod flow;
mod known_bugs;
mod times;
