//! Tests of the apply loop with stores in memory.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;

use super::super::fakes::{
    FakeLog, FakeNetwork, FakeRuntime, FakeStateMachine, Fault, SnapshotFault, entries,
};
use super::super::waiters::tests::{OneReply, answers, batch};
use super::*;
use crate::config::Config;
use crate::entry::LogId;
use crate::error::WriteError;
use crate::membership::MembershipAt;
use crate::message::SnapshotMeta;
use crate::metrics::{Counters, RaftMetrics, RoleName};
use crate::raft::Watch;
use crate::testing::U64;

struct World {
    runtime: FakeRuntime,
    log: FakeLog,
    state_machine: FakeStateMachine,
    network: FakeNetwork,
    shared: Arc<Shared<U64>>,
    queue: Arc<Inbox<Vec<Work<U64>>>>,
}

fn metrics() -> RaftMetrics<U64> {
    RaftMetrics {
        id: 1,
        role: RoleName::Follower,
        term: 0,
        voted_for: None,
        leader: None,
        last: LogId::ZERO,
        stable: 0,
        committed: 0,
        applied: LogId::ZERO,
        snapshot: LogId::ZERO,
        snapshot_bytes: None,
        snapshot_age_ms: None,
        is_building_snapshot: false,
        is_installing_snapshot: false,
        purged: LogId::ZERO,
        log_bytes: 0,
        log_bytes_since_snapshot: 0,
        membership: MembershipAt::default(),
        standing: crate::Standing::Outsider,
        transfer_to: None,
        peers: BTreeMap::new(),
        quorum_contact_ms: None,
        leader_contact_ms: None,
        lease_ms: None,
        elections_paused: false,
        heartbeats_paused: false,
        disk_stalled: false,
        tail_bytes: 0,
        queues: crate::metrics::QueueMetrics::default(),
        counters: Counters::default(),
        histograms: Arc::default(),
        fatal: None,
    }
}

impl World {
    fn new(config: Config) -> Self {
        let runtime = FakeRuntime::new();
        let shared =
            Shared::new(1, config.validate().unwrap(), Watch::new(metrics()), Arc::new(runtime.clone()));
        let world = Self {
            runtime,
            log: FakeLog::default(),
            state_machine: FakeStateMachine::default(),
            network: FakeNetwork::default(),
            shared,
            queue: Arc::new(Inbox::new()),
        };
        let apply = ApplyLoop {
            state_machine: world.state_machine.clone(),
            reader: world.log.clone(),
            applied: AppliedState::default(),
            queue: world.queue.clone(),
            runtime: world.runtime.clone(),
            network: Arc::new(world.network.clone()),
            shared: world.shared.clone(),
        };
        spawn(&world.runtime, &world.shared, apply.run());
        world
    }

    fn push(&self, work: Work<U64>) {
        assert!(self.queue.push(work).is_ok());
    }

    /// Hands over entries of term 1 that are in memory, with a waiter for each.
    fn apply(&self, range: Range<Index>) -> Vec<OneReply> {
        let (waiting, replies) = batch(LogId::new(1, range.start), (range.end - range.start) as usize);
        let apply = Apply { entries: entries(1, range.clone()), range };
        self.push(Work::Apply { apply, waiting: vec![waiting] });
        replies
    }

    fn told(&self) -> Vec<String> {
        let describe = |item| match item {
            Item::SnapshotInstalled { id, installed } => format!("installed {} {installed}", id.0),
            Item::Input(input) => match *input {
                Input::SnapshotBuilt { meta, .. } => format!("built {}", meta.last),
                Input::SnapshotBuildFailed { error, .. } => format!("not built: {error}"),
                Input::SnapshotUnreadable { last, .. } => {
                    format!("unreadable {:?}", last.map(|last| last.to_string()))
                }
                Input::SnapshotSent { response, .. } => {
                    format!("sent {:?}", response.and_then(|response| response.installed))
                }
                other => format!("{other:?}"),
            },
            _ => "something else".to_owned(),
        };
        let arrivals = self.shared.inbox.drain();
        let applied = arrivals.applied.iter().map(|(last, _)| format!("applied {last}"));
        // In the order in which the core loop looks.
        applied.collect::<Vec<_>>().into_iter().chain(arrivals.items.into_iter().map(describe)).collect()
    }

    fn install(&self, data: SnapshotStream, size_bytes: Option<u64>) -> oneshot::Sender<()> {
        let (sender, cancel) = oneshot::channel();
        let meta = SnapshotMeta { last: LogId::new(3, 9), membership: MembershipAt::default(), size_bytes };
        let snapshot = InstallSnapshot { term: 3, leader: 2, meta };
        self.push(Work::InstallSnapshot { id: SnapshotId(7), snapshot, data, cancel });
        self.runtime.run();
        sender
    }
}

fn eight_bytes() -> SnapshotStream {
    snapshot_stream(futures::stream::iter([Ok(Bytes::copy_from_slice(&500_u64.to_be_bytes()))]))
}

#[test]
fn entries_are_applied_in_order_and_clients_get_their_responses() {
    let world = World::new(Config::default());
    let mut first = world.apply(1..3);
    let mut second = world.apply(3..4);
    world.runtime.run();
    assert_eq!(answers(&mut first), [Some(Ok(1)), Some(Ok(3))]);
    assert_eq!(answers(&mut second), [Some(Ok(6))]);
    assert_eq!(world.told(), ["applied 3(t1)"]);
    // What was queued together was applied together.
    assert_eq!(world.state_machine.with(|state| state.batches.clone()), [vec![1, 2, 3]]);
}

#[test]
fn no_call_of_the_state_machine_has_more_entries_than_the_limit() {
    let world = World::new(Config { apply_entries_max: 2, ..Config::default() });
    let mut replies = world.apply(1..6);
    replies.extend(world.apply(6..7));
    world.runtime.run();
    assert!(answers(&mut replies).iter().all(|answer| matches!(answer, Some(Ok(_)))));
    assert_eq!(
        world.state_machine.with(|state| state.batches.clone()),
        [vec![1, 2], vec![3, 4], vec![5], vec![6]]
    );
}

#[test]
fn entries_that_are_not_in_memory_are_read_from_the_log() {
    let world = World::new(Config::default());
    world.log.add(&entries(1, 1..9));
    let apply = Apply { entries: entries(1, 5..7), range: 1..7 };
    world.push(Work::Apply { apply, waiting: Vec::new() });
    let apply = Apply { entries: Entries::empty(), range: 7..9 };
    world.push(Work::Apply { apply, waiting: Vec::new() });
    world.runtime.run();
    let batches = world.state_machine.with(|state| state.batches.concat());
    assert_eq!(batches, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_committed_entry_that_is_not_in_the_log_stops_the_node_and_is_named() {
    let world = World::new(Config::default());
    world.log.add(&entries(1, 1..9));
    world.log.with(|state| state.hole = Some(3));
    world.push(Work::Apply { apply: Apply { entries: Entries::empty(), range: 1..7 }, waiting: Vec::new() });
    world.runtime.run();
    let fatal = world.shared.fatal().unwrap().to_string();
    assert!(fatal.contains("entry 3 is committed"), "{fatal}");
}

#[test]
fn faults_of_the_state_machine_stop_the_node_and_answer_unknown() {
    let cases = [
        (Fault::Error, "while applying entries 1..3"),
        (Fault::Wrong, "apply returned 1 responses for the 2 commands"),
        (Fault::Panic, "the node panicked: a bug in apply"),
    ];
    for (fault, expected) in cases {
        let world = World::new(Config::default());
        world.state_machine.with(|state| state.apply_fault = Some(fault));
        let mut replies = world.apply(1..3);
        world.runtime.run();
        let fatal = world.shared.fatal().unwrap().to_string();
        assert!(fatal.contains(expected), "{fatal}");
        let unknown = |index| Some(Err(WriteError::Unknown { log_id: LogId::new(1, index) }));
        assert_eq!(answers(&mut replies), [unknown(1), unknown(2)]);
    }
}

#[test]
fn what_is_queued_when_the_node_stops_is_answered() {
    let world = World::new(Config::default());
    let mut replies = world.apply(1..2);
    world.queue.close();
    drop(world.queue.drain());
    world.runtime.run();
    assert_eq!(answers(&mut replies), [Some(Err(WriteError::Unknown { log_id: LogId::new(1, 1) }))]);
    world.runtime.run_until(world.shared.tasks.ended()).unwrap();
}

#[test]
fn a_snapshot_is_built_of_the_state_between_two_entries_and_entries_go_on() {
    let world = World::new(Config::default());
    drop(world.apply(1..3));
    let (_cancel, cancelled) = oneshot::channel();
    world.push(Work::BuildSnapshot { id: SnapshotId(1), cancel: cancelled });
    drop(world.apply(3..4));
    world.runtime.run();
    assert_eq!(world.told(), ["applied 2(t1)", "applied 3(t1)", "built 2(t1)"]);
    assert_eq!(world.state_machine.with(|state| state.snapshot.clone()).unwrap().1, 3);
}

#[test]
fn an_installed_snapshot_is_what_the_next_entries_continue() {
    let world = World::new(Config::default());
    let _cancel = world.install(eight_bytes(), Some(8));
    assert_eq!(world.told(), ["installed 7 true"]);
    let apply = Apply { entries: entries(3, 10..11), range: 10..11 };
    world.push(Work::Apply { apply, waiting: Vec::new() });
    world.runtime.run();
    assert_eq!(world.told(), ["applied 10(t3)"]);
    assert_eq!(world.state_machine.with(|state| state.sum), 510);
}

#[test]
fn a_stream_that_breaks_stalls_or_is_given_up_is_not_the_fault_of_the_state_machine() {
    let broken = futures::stream::iter([Ok(Bytes::from_static(b"1234")), Err(io::Error::other("cut"))]);
    let world = World::new(Config::default());
    let _cancel = world.install(snapshot_stream(broken), Some(8));
    assert_eq!(world.told(), ["installed 7 false"]);

    let world = World::new(Config { snapshot_progress_timeout_ms: 100, ..Config::default() });
    let _cancel = world.install(snapshot_stream(futures::stream::pending()), None);
    assert!(world.told().is_empty());
    world.runtime.advance(Duration::from_millis(100));
    world.runtime.run();
    assert_eq!(world.told(), ["installed 7 false"]);

    let world = World::new(Config::default());
    let cancel = world.install(snapshot_stream(futures::stream::pending()), None);
    drop(cancel);
    world.runtime.run();
    assert_eq!(world.told(), ["installed 7 false"]);
    assert_eq!(world.shared.fatal(), None);
    assert_eq!(world.state_machine.with(|state| state.applied.last_applied), LogId::ZERO);
}

#[test]
fn a_failure_to_install_a_whole_stream_stops_the_node() {
    let world = World::new(Config::default());
    world.state_machine.with(|state| state.install_fault = Some(Fault::Error));
    let _cancel = world.install(eight_bytes(), Some(8));
    let fatal = world.shared.fatal().unwrap().to_string();
    assert!(fatal.contains("while installing a snapshot"), "{fatal}");
}

#[test]
fn a_state_machine_that_overlooks_the_error_of_a_stream_stops_the_node() {
    let world = World::new(Config::default());
    world.state_machine.with(|state| state.install_fault = Some(Fault::Wrong));
    let broken = eight_bytes().chain(futures::stream::iter([Err(io::Error::other("cut"))]));
    let _cancel = world.install(snapshot_stream(broken), None);
    let fatal = world.shared.fatal().unwrap().to_string();
    assert!(fatal.contains("whose stream had ended in one"), "{fatal}");
}

/// Sends the snapshot of a state machine that has applied two entries.
fn send(world: &World) -> oneshot::Sender<()> {
    let (sender, cancel) = oneshot::channel();
    world.push(Work::SendSnapshot { id: SnapshotId(2), peer: 3, node: (), term: 1, cancel });
    world.runtime.run();
    sender
}

fn world_with_snapshot() -> World {
    let world = World::new(Config {
        snapshot_progress_timeout_ms: 100,
        snapshot_install_timeout_ms: 1000,
        ..Config::default()
    });
    drop(world.apply(1..3));
    let (_cancel, cancelled) = oneshot::channel();
    world.push(Work::BuildSnapshot { id: SnapshotId(1), cancel: cancelled });
    world.runtime.run();
    assert_eq!(world.told(), ["applied 2(t1)", "built 2(t1)"]);
    world
}

#[test]
fn a_snapshot_is_sent_and_the_answer_reported() {
    let world = world_with_snapshot();
    world.network.with(|state| (state.takes_snapshots, state.answers_snapshots) = (true, true));
    let _cancel = send(&world);
    assert_eq!(world.told(), ["sent Some(2)"]);
}

#[test]
fn without_a_snapshot_the_transfer_is_answered_at_once() {
    let world = World::new(Config::default());
    let _cancel = send(&world);
    assert_eq!(world.told(), ["unreadable None"]);
}

/// A leader whose snapshot could not be opened any more stopped, and so did the next one: each had the same bad disk image.
#[test]
fn a_snapshot_that_cannot_be_read_here_is_reported_and_stops_nothing() {
    for (fault, expected) in [
        (SnapshotFault::Open, "unreadable None"),
        (SnapshotFault::Read, r#"unreadable Some("2(t1)")"#),
        (SnapshotFault::Cut, r#"unreadable Some("2(t1)")"#),
    ] {
        let world = world_with_snapshot();
        // The peer takes everything and answers: what it says of a broken stream does not matter.
        world.network.with(|state| (state.takes_snapshots, state.answers_snapshots) = (true, true));
        world.state_machine.with(|state| state.snapshot_fault = Some(fault));
        let _cancel = send(&world);
        assert_eq!(world.told(), [expected]);
        assert_eq!(world.shared.fatal(), None);
    }
}

#[test]
fn a_snapshot_that_cannot_be_built_is_reported_and_stops_nothing() {
    let world = World::new(Config::default());
    drop(world.apply(1..3));
    world.state_machine.with(|state| state.build_fault = Some(Fault::Error));
    let (_cancel, cancelled) = oneshot::channel();
    world.push(Work::BuildSnapshot { id: SnapshotId(1), cancel: cancelled });
    drop(world.apply(3..4));
    world.runtime.run();
    let told = world.told();
    assert_eq!(told[..2], ["applied 2(t1)", "applied 3(t1)"]);
    assert!(told[2].starts_with("not built: "), "{told:?}");
    assert_eq!(world.shared.fatal(), None);
}

/// It says that the snapshot is to blame, so that it is sent again.
#[test]
fn a_snapshot_that_came_damaged_is_refused_and_stops_nothing() {
    let world = World::new(Config::default());
    world.state_machine.with(|state| state.install_fault = Some(Fault::Damage));
    let _cancel = world.install(eight_bytes(), Some(8));
    assert_eq!(world.told(), ["installed 7 false"]);
    assert_eq!(world.shared.fatal(), None);
    assert_eq!(world.state_machine.with(|state| state.applied.last_applied), LogId::ZERO);
}

#[test]
fn a_peer_that_takes_no_byte_is_given_up_after_the_progress_timeout() {
    let world = world_with_snapshot();
    let _cancel = send(&world);
    world.runtime.advance(Duration::from_millis(99));
    world.runtime.run();
    assert!(world.told().is_empty());
    world.runtime.advance(Duration::from_millis(1));
    world.runtime.run();
    assert_eq!(world.told(), ["sent None"]);
}

#[test]
fn a_peer_that_installs_has_the_install_timeout() {
    let world = world_with_snapshot();
    world.network.with(|state| state.takes_snapshots = true);
    let _cancel = send(&world);
    world.runtime.advance(Duration::from_millis(999));
    world.runtime.run();
    assert!(world.told().is_empty());
    world.runtime.advance(Duration::from_millis(1));
    world.runtime.run();
    assert_eq!(world.told(), ["sent None"]);
}

#[test]
fn a_transfer_that_is_given_up_ends_and_is_answered() {
    let world = world_with_snapshot();
    let cancel = send(&world);
    drop(cancel);
    world.runtime.run();
    assert_eq!(world.told(), ["sent None"]);
}
