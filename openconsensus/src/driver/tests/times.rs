//! What the histograms say when every delay is known: the clock stands still unless a test moves it.

use super::*;
use crate::metrics::{Histogram, Histograms};

impl Node {
    fn histograms(&self) -> Arc<Histograms> {
        self.raft.metrics().latest().histograms.clone()
    }

    fn pass_ms(&self, ms: u64) {
        self.runtime.advance(Duration::from_millis(ms));
        self.runtime.run();
    }

    /// This peer has the whole log. Unlike `hear_matched`, it takes no time.
    fn hear_all_matched(&self, from: u64) {
        let metrics = self.raft.metrics().latest();
        let result = AppendResult::Matched { matched: metrics.last.index };
        self.hear(from, metrics.term, Body::AppendResponse { result });
    }
}

/// Metrics are published in every turn.
fn at_once(config: Config) -> Config {
    Config { metrics_interval_ms: 0, ..config }
}

/// How many values have come since, and their sum in milliseconds.
fn since(now: &Histogram, before: &Histogram) -> (u64, u64) {
    let new = now.since(before);
    // Values are told to a sixteenth, but the sum is exact.
    assert_eq!(new.sum() % 1_000_000, 0);
    (new.count(), new.sum() / 1_000_000)
}

#[test]
fn each_stage_of_a_write_takes_the_time_that_it_takes() {
    let node = Node::leader_of_three(at_once(Config::default()));
    let before = node.histograms();
    node.log.with(|state| state.hang_at_append = true);
    node.state_machine.with(|state| state.apply_fault = Some(Fault::Hangs));
    let mut writes: Vec<PendingWrite<'_>> =
        (0..3).map(|n| -> PendingWrite<'_> { Box::pin(node.raft.write(n)) }).collect();
    for write in &mut writes {
        assert!(write.as_mut().now_or_never().is_none());
    }
    // The loops do not get to run for so long.
    node.runtime.advance(Duration::from_millis(2));
    node.runtime.run();
    node.pass_ms(3);
    // A quorum without this node.
    node.hear_all_matched(2);
    node.hear_all_matched(3);
    node.pass_ms(2);
    node.log.release();
    node.runtime.run();
    node.pass_ms(4);
    node.state_machine.release();
    node.runtime.run();
    assert!(writes.into_iter().all(|write| node.runtime.run_until(write).unwrap().is_ok()));
    // The core loop is not woken for what is only counted.
    node.pass_ms(1);

    let now = node.histograms();
    assert_eq!(since(&now.writes.queued, &before.writes.queued), (3, 3 * 2));
    assert_eq!(since(&now.writes.committed, &before.writes.committed), (3, 3 * 3));
    assert_eq!(since(&now.writes.stable, &before.writes.stable), (3, 3 * 5));
    assert_eq!(since(&now.writes.applied, &before.writes.applied), (3, 3 * (2 + 4)));
    assert_eq!(since(&now.writes.whole, &before.writes.whole), (3, 3 * 11));
    assert_eq!(since(&now.disk.append, &before.disk.append), (1, 5));
    assert_eq!(since(&now.apply.call, &before.apply.call), (1, 4));
    assert_eq!(now.disk.append_entries.max(), 3);
    assert_eq!(now.apply.entries.max(), 3);
    assert_eq!(now.writes.admission.count(), 0, "nobody had to wait for admission");
    // Quantiles are right to a sixteenth.
    let p99 = now.writes.stable.since(&before.writes.stable).p99();
    assert!((5_000_000..=5_000_000 + 5_000_000 / 16).contains(&p99), "{p99}");
}

#[test]
fn the_wait_for_admission_is_counted_for_those_who_had_to_wait() {
    let config = Config { uncommitted_bytes_max: 1024, command_bytes_max: 1024, ..Config::default() };
    let node = Node::leader_of_three(at_once(config));
    let mut writes = node.pending_writes(100);
    node.pass_ms(7);
    for _ in 0..100 {
        node.hear_all_matched(2);
        writes.retain_mut(|write| node.runtime.run_until(write.as_mut()).is_none());
    }
    assert!(writes.is_empty(), "{} writes have no answer", writes.len());
    let histograms = node.histograms();
    let waited = &histograms.writes.admission;
    assert!(0 < waited.count() && waited.count() < 100, "{waited:?}");
    assert_eq!(waited.sum(), waited.count() * 7_000_000);
    assert_eq!(histograms.writes.whole.count(), 100);
}

#[test]
fn a_read_takes_until_it_is_confirmed_and_applied() {
    let node = Node::leader_of_three(at_once(Config::default()));
    let term = node.raft.metrics().latest().term;
    node.pass_ms(30);
    let mut reads: Vec<_> = (0..4).map(|_| Box::pin(node.raft.read())).collect();
    for read in &mut reads {
        assert!(node.runtime.run_until(read.as_mut()).is_none());
    }
    node.pass_ms(6);
    for round in 0..10 {
        node.hear(2, term, Body::HeartbeatResponse { round, promise_ms: 0 });
    }
    assert!(reads.into_iter().all(|read| node.runtime.run_until(read).unwrap().is_ok()));
    let histograms = node.histograms();
    assert_eq!(since(&histograms.reads.by_round, &Histogram::default()), (4, 4 * 6));
    assert_eq!(histograms.reads.by_lease.count(), 0);
}

#[test]
fn messages_are_counted_by_kind_with_their_bytes() {
    let node = Node::leader_of_three(at_once(Config::default()));
    node.hear_all_matched(2);
    let before = node.raft.metrics().latest().counters;
    let mut write = node.pending_writes(1);
    node.hear_all_matched(2);
    assert!(node.runtime.run_until(write.remove(0)).unwrap().is_ok());
    let now = node.raft.metrics().latest().counters;
    // To two peers, of which only one has answered, so that only one is told of the commit.
    let bytes = 8 + crate::Entry::<U64>::OVERHEAD_BYTES;
    assert_eq!(now.sent.appends - before.sent.appends, 1);
    assert_eq!(now.sent.entries - before.sent.entries, 1);
    assert_eq!(now.sent.commits - before.sent.commits, 1);
    assert_eq!(now.sent.bytes - before.sent.bytes, 64 + bytes + 64);
    assert_eq!(now.received.append_responses - before.received.append_responses, 1);
    assert_eq!(now.received.messages() - before.received.messages(), 1);
    assert_eq!(now.received.bytes - before.received.bytes, 64);
}
