//! Who waits, who is told at once, and who is told of leadership.

use futures::{Stream, StreamExt};

use super::*;
use crate::entries::Entries;
use crate::leadership::LeadershipEvent;
use crate::raft::WRITE_OVERHEAD_BYTES;

/// What a command of these tests is admitted with.
const WRITE_BYTES: u64 = WRITE_OVERHEAD_BYTES + 8;

/// A leader of three that admits so many commands at a time.
fn leader_admitting(writes: u64) -> Node {
    let limit = writes * WRITE_BYTES;
    Node::leader_of_three(Config {
        uncommitted_bytes_max: limit,
        command_bytes_max: 100,
        ..Config::default()
    })
}

/// All outcomes that are there to be taken.
fn taken<T>(node: &Node, stream: &mut (impl Stream<Item = T> + Unpin)) -> Vec<T> {
    let mut taken = Vec::new();
    while let Some(Some(outcome)) = node.runtime.run_until(stream.next()) {
        taken.push(outcome);
    }
    taken
}

#[test]
fn who_does_not_want_to_wait_is_told_at_once_and_its_command_is_never_appended() {
    let node = leader_admitting(4);
    let before = node.metrics().last.index;
    let limit = 4 * WRITE_BYTES;
    let writes = node.pending_writes(3);
    assert_eq!(node.metrics().last.index, before + 3);
    // Two do not fit, one does.
    let busy = Err(WriteError::Busy { bytes: 5 * WRITE_BYTES, limit });
    assert_eq!(node.runtime.run_until(node.raft.try_write_many(vec![7, 7])).unwrap(), busy);
    let mut last = Box::pin(node.raft.try_write(1));
    assert!(node.runtime.run_until(last.as_mut()).is_none(), "it waits for its outcome");
    let busy = Err(WriteError::Busy { bytes: 5 * WRITE_BYTES, limit });
    assert_eq!(node.runtime.run_until(node.raft.try_write(7)).unwrap(), busy);
    let queues = node.metrics().queues;
    assert_eq!((queues.admitted_bytes, queues.writers_waiting), (limit, 0));
    assert_eq!(node.metrics().last.index, before + 4);

    node.hear_matched(before + 4);
    assert_eq!(node.runtime.run_until(last.as_mut()), Some(Ok(4)));
    for write in writes {
        assert!(node.runtime.run_until(write).unwrap().is_ok());
    }
    assert_eq!(node.metrics().queues.admitted_bytes, 0);
    assert_eq!(node.metrics().last.index, before + 4, "what was refused is not in the log");
    let too_many = node.runtime.run_until(node.raft.try_write_many(vec![7; 5])).unwrap();
    assert_eq!(too_many, Err(WriteError::Busy { bytes: 5 * WRITE_BYTES, limit }));
    assert_eq!(node.runtime.run_until(node.raft.try_write_many(vec![])).unwrap(), Ok(vec![]));
}

#[test]
fn who_does_not_want_to_wait_does_not_overtake_who_waits() {
    let node = leader_admitting(4);
    let before = node.metrics().last.index;
    let first = node.pending_writes(3);
    let mut waiting = Box::pin(node.raft.write_many(vec![1, 1]));
    assert!(node.runtime.run_until(waiting.as_mut()).is_none());
    assert_eq!(node.metrics().queues.writers_waiting, 1);
    // It would fit.
    let refused = node.runtime.run_until(node.raft.try_write(1)).unwrap();
    assert_eq!(refused, Err(WriteError::Busy { bytes: 4 * WRITE_BYTES, limit: 4 * WRITE_BYTES }));
    node.hear_matched(before + 3);
    drop(first);
    assert!(node.runtime.run_until(waiting.as_mut()).is_none());
    node.hear_matched(before + 5);
    assert!(node.runtime.run_until(waiting.as_mut()).unwrap().is_ok());
}

#[test]
fn during_a_transfer_writes_wait_and_who_does_not_want_to_is_told() {
    let config = Config { transfer_timeout_ms: 100, ..Config::default() };
    let node = Node::leader_of_three(config);
    let before = node.metrics().last.index;
    let mut transfer = Box::pin(node.raft.transfer_leadership(Some(3)));
    assert!(node.runtime.run_until(transfer.as_mut()).is_none());
    let mut waiting = Box::pin(node.raft.write(1));
    assert!(node.runtime.run_until(waiting.as_mut()).is_none());
    let told = node.runtime.run_until(node.raft.try_write(7)).unwrap();
    assert_eq!(told, Err(WriteError::Transferring));
    let told = node.runtime.run_until(node.raft.try_write_many(vec![7, 7])).unwrap();
    assert_eq!(told, Err(WriteError::Transferring));
    assert_eq!(node.metrics().last.index, before);
    // Nobody takes over: the leader goes on with what has waited, and with nothing else.
    node.runtime.advance(Duration::from_millis(200));
    assert!(matches!(node.runtime.run_until(transfer.as_mut()), Some(Err(_))));
    node.hear_matched(before + 1);
    assert_eq!(node.runtime.run_until(waiting.as_mut()), Some(Ok(1)));
    assert_eq!(node.metrics().last.index, before + 1);
}

#[test]
fn a_stream_of_writes_tells_each_outcome_in_order_as_soon_as_it_is_known() {
    let node = leader_admitting(4);
    let before = node.metrics().last.index;
    let asked = std::cell::Cell::new(0);
    let commands = (1..=8_u64).inspect(|command| asked.set(*command));
    let mut stream = Box::pin(node.raft.write_stream(commands));
    assert_eq!(asked.get(), 0, "nothing happens before it is polled");
    assert_eq!(taken(&node, &mut stream), []);
    // Four are admitted, and no more are asked for.
    assert_eq!((node.metrics().last.index, asked.get()), (before + 4, 4));
    node.hear_matched(before + 2);
    assert_eq!(taken(&node, &mut stream), [Ok(1), Ok(3)]);
    assert_eq!(node.metrics().last.index, before + 6);
    node.hear_matched(before + 6);
    assert_eq!(taken(&node, &mut stream), [Ok(6), Ok(10), Ok(15), Ok(21)]);
    node.hear_matched(before + 8);
    assert_eq!(taken(&node, &mut stream), [Ok(28), Ok(36)]);
    assert_eq!(node.runtime.run_until(stream.next()), Some(None));
    assert_eq!(node.metrics().queues.admitted_bytes, 0);
}

#[test]
fn a_dropped_stream_of_writes_gives_up_answers_and_not_writes() {
    let node = leader_admitting(4);
    let before = node.metrics().last.index;
    let mut stream = Box::pin(node.raft.write_stream([1, 2, 3, 4, 5]));
    assert_eq!(taken(&node, &mut stream), []);
    drop(stream);
    node.hear_matched(before + 4);
    assert_eq!(node.metrics().last.index, before + 4, "what was not handed over never is");
    assert_eq!(node.metrics().queues.admitted_bytes, 0);
    let mut write = Box::pin(node.raft.write(10));
    assert!(node.runtime.run_until(write.as_mut()).is_none());
    node.hear_matched(before + 5);
    assert_eq!(node.runtime.run_until(write), Some(Ok(20)), "what was handed over is carried out");
}

#[test]
fn a_stream_of_writes_whose_outcomes_nobody_takes_hands_over_no_more() {
    let node = leader_admitting(4);
    let before = node.metrics().last.index;
    let mut stream = Box::pin(node.raft.write_stream(0..100));
    assert!(node.runtime.run_until(stream.next()).is_none());
    for _ in 0..10 {
        node.hear_matched(node.metrics().last.index);
    }
    assert_eq!(node.metrics().last.index, before + 4);
    // Each outcome that is taken makes room for one more.
    assert_eq!(node.runtime.run_until(stream.next()), Some(Some(Ok(0))));
    assert_eq!(node.runtime.run_until(stream.next()), Some(Some(Ok(1))));
    node.runtime.run();
    assert_eq!(node.metrics().last.index, before + 5, "the second makes room when the stream is polled next");
}

#[test]
fn a_stream_of_writes_tells_what_is_too_large_and_that_the_node_has_stopped() {
    let config = Config { command_bytes_max: 7, ..Config::default() };
    let node = Node::leader(config);
    let too_large = Err(WriteError::TooLarge { bytes: 8, limit: 7 });
    let mut stream = Box::pin(node.raft.write_stream([1, 2]));
    assert_eq!(taken(&node, &mut stream), [too_large.clone(), too_large]);
    let node = Node::leader(Config::default());
    let mut stream = Box::pin(node.raft.write_stream([1, 2]));
    node.runtime.run_until(node.raft.shutdown()).unwrap();
    let stopped = || Err(WriteError::Fatal(Fatal::Stopped));
    assert_eq!(taken(&node, &mut stream), [stopped(), stopped()]);
}

/// Entries of an earlier leadership that are not committed count too, although their writers have been answered: a
/// leader with a quorum that is gone took more and more with each new term.
#[test]
fn what_is_not_committed_of_an_earlier_leadership_keeps_new_writes_out() {
    let node = leader_admitting(4);
    let mut writes = node.pending_writes(3);
    let term = node.metrics().term;
    // Another term: the writers are told that nobody knows, and what they wrote stays in the log.
    node.hear(3, term + 1, Body::Heartbeat { round: 1, commit: LogId::ZERO });
    node.runtime.advance(Duration::from_secs(3));
    node.runtime.run();
    for write in &mut writes {
        let outcome = node.runtime.run_until(write.as_mut());
        assert!(matches!(outcome, Some(Err(WriteError::Unknown { .. }))), "{outcome:?}");
    }
    let queues = node.metrics().queues;
    assert_eq!(queues.admitted_bytes, 0);
    assert!(0 < queues.uncommitted_bytes);
}

#[test]
fn a_full_inbox_of_appends_holds_up_neither_heartbeats_nor_votes() {
    let config =
        Config { receive_bytes_max: 1 << 10, receive_urgent_bytes_max: 1 << 10, ..Config::default() };
    let node = Node::start_with(config, &FakeLog::default(), &FakeStateMachine::default());
    let message = |body| vec![Message { term: 1, body }];
    let append = || Body::Append { prev: LogId::ZERO, entries: Entries::empty(), commit: 0 };
    let heartbeat = || Body::Heartbeat { round: 1, commit: LogId::ZERO };
    // The node does not run: what it is given stays in its inbox.
    let mut waiting = loop {
        let mut receiving = Box::pin(node.raft.receive(2, message(append())));
        if (&mut receiving).now_or_never().is_none() {
            break receiving;
        }
    };
    assert!(node.raft.receive(2, message(heartbeat())).now_or_never().is_some());
    // One call that brings both: the heartbeat passes, the append waits.
    let both = [append(), heartbeat()].map(|body| Message { term: 1, body });
    let mut both = Box::pin(node.raft.receive(2, both.to_vec()));
    assert!((&mut both).now_or_never().is_none());
    // Urgent messages have a limit too.
    let mut count = 0;
    while node.raft.receive(2, message(heartbeat())).now_or_never().is_some() {
        count += 1;
        assert!(count < 100, "what is urgent is limited too");
    }
    node.runtime.run();
    assert!(node.runtime.run_until(waiting.as_mut()).is_some());
    assert!(node.runtime.run_until(both.as_mut()).is_some());
    assert_eq!(node.metrics().leader, Some(2));
}

#[test]
fn more_readers_than_may_be_wait_their_turn() {
    let config = Config { reads_waiting_max: 2, ..Config::default() };
    let node = Node::leader_of_three(config);
    let mut reads: Vec<_> = (0..5).map(|_| Box::pin(node.raft.read())).collect();
    for read in &mut reads {
        assert!(node.runtime.run_until(read.as_mut()).is_none());
    }
    let queues = node.metrics().queues;
    assert_eq!((queues.reads_under_way, queues.readers_waiting), (2, 3));
    // Whoever gives up makes room, and everybody is answered in the end.
    drop(reads.remove(4));
    node.runtime.advance(Duration::from_millis(30));
    node.runtime.run();
    assert_eq!(node.metrics().queues.readers_waiting, 2);
    for _ in 0..3 {
        node.runtime.advance(Duration::from_secs(6));
        node.runtime.run();
        for read in &mut reads {
            if let Some(answer) = (&mut *read).now_or_never() {
                assert!(matches!(answer, Err(ReadError::NotConfirmed { .. })), "{answer:?}");
                *read = Box::pin(node.raft.read());
            }
        }
    }
    node.runtime.run();
    drop(reads);
    node.runtime.advance(Duration::from_secs(6));
    assert_eq!(node.metrics().queues.reads_under_way, 0, "who does not listen is given up too");
}

#[test]
fn requests_of_operators_that_are_given_up_still_count_until_they_are_answered() {
    let config = Config { requests_waiting_max: 2, transfer_timeout_ms: 100, ..Config::default() };
    let node = Node::leader_of_three(config);
    let learner = crate::MembershipChange::AddLearners(BTreeMap::from([(4, ())]));
    let mut change = Box::pin(node.raft.change_membership(learner, None));
    assert!(node.runtime.run_until(change.as_mut()).is_none());
    let mut transfer = Box::pin(node.raft.transfer_leadership(Some(3)));
    assert!(node.runtime.run_until(transfer.as_mut()).is_none());
    drop((change, transfer));
    assert_eq!(node.metrics().queues.requests_under_way, 2);
    let mut snapshot = Box::pin(node.raft.snapshot());
    assert!(node.runtime.run_until(snapshot.as_mut()).is_none(), "it waits for its turn");
    node.runtime.advance(Duration::from_millis(200));
    node.runtime.run();
    assert!(node.runtime.run_until(snapshot.as_mut()).unwrap().is_ok());
    assert_eq!(node.metrics().queues.requests_under_way, 1);
}

#[test]
fn every_start_and_stop_of_leadership_is_told_also_if_nobody_looks() {
    let node = Node::leader_of_three(Config::default());
    let mut watch = node.raft.leadership();
    let term = node.metrics().term;
    let mut events = Vec::new();
    let mut look = |events: &mut Vec<_>| {
        while let Some(event) = watch.next().now_or_never() {
            events.push(event);
            if event.is_none() {
                break;
            }
        }
    };
    look(&mut events);
    let ready_at = node.metrics().last.index;
    assert_eq!(
        events,
        [Some(LeadershipEvent::Started { term, ready_at }), Some(LeadershipEvent::Ready { term })]
    );
    events.clear();
    node.hear(3, term + 1, Body::Heartbeat { round: 1, commit: LogId::ZERO });
    look(&mut events);
    assert_eq!(events, [Some(LeadershipEvent::Stopped { term })]);
    events.clear();
    node.runtime.run_until(node.raft.shutdown()).unwrap();
    look(&mut events);
    assert_eq!(events, [None]);
}

#[test]
fn a_node_whose_disk_fails_says_that_it_leads_no_more() {
    let node = Node::leader(Config::default());
    let mut watch = node.raft.leadership();
    let term = node.metrics().term;
    node.log.fail_at("append 3..4 commit 2");
    assert!(node.write(1).is_err());
    let mut events = Vec::new();
    while let Some(Some(event)) = watch.next().now_or_never() {
        events.push(event);
    }
    assert_eq!(events.last(), Some(&LeadershipEvent::Stopped { term }), "{events:?}");
    assert_eq!(watch.next().now_or_never(), Some(None));
    assert_eq!(watch.missed(), 0);
}
