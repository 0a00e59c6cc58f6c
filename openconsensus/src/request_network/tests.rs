//! Tests of the network of requests on a runtime that a test moves.

use std::io;

use anyerror::AnyError;
use futures::channel::oneshot;

use super::*;
use crate::driver::fakes::{FakeRuntime, entries};
use crate::entry::LogId;
use crate::message::Body;
use crate::testing::U64;

/// A transport whose requests end when the test says so.
#[derive(Clone, Default)]
struct Requests(Arc<Mutex<Vec<Request>>>);

struct Request {
    peer: u64,
    /// `h5` for the heartbeat of round 5, `a5` for an append behind entry 5.
    messages: Vec<String>,
    end: oneshot::Sender<Result<(), NetworkError>>,
}

impl RequestTransport<U64> for Requests {
    async fn deliver(&self, peer: u64, _node: &(), messages: Vec<Message<U64>>) -> Result<(), NetworkError> {
        let name = |message: &Message<U64>| match &message.body {
            Body::Heartbeat { round, .. } => format!("h{round}"),
            Body::Append { prev, .. } => format!("a{}", prev.index),
            other => format!("{other:?}"),
        };
        let (end, ended) = oneshot::channel();
        let messages = messages.iter().map(name).collect();
        lock(&self.0).push(Request { peer, messages, end });
        ended.await.expect("a request is ended or given up")
    }

    async fn deliver_snapshot(
        &self,
        _peer: u64,
        _node: &(),
        request: InstallSnapshot<U64>,
        _data: SnapshotStream,
    ) -> Result<InstallSnapshotResponse, NetworkError> {
        Ok(InstallSnapshotResponse { term: request.term, installed: None })
    }
}

#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Vec<u64>>>);

impl Unreachable<U64> for Reports {
    fn report(&self, peer: u64) {
        lock(&self.0).push(peer);
    }
}

struct World {
    runtime: FakeRuntime,
    requests: Requests,
    reports: Reports,
    network: RequestNetwork<U64, FakeRuntime, Requests>,
}

impl World {
    fn new(limits: RequestNetworkLimits) -> Self {
        let (runtime, requests, reports) = (FakeRuntime::new(), Requests::default(), Reports::default());
        let network = RequestNetwork::new(runtime.clone(), requests.clone(), limits);
        network.inner.reporter.attach(Box::new(reports.clone()));
        Self { runtime, requests, reports, network }
    }

    fn send(&self, messages: impl IntoIterator<Item = Message<U64>>) {
        self.network.send(2, Some(&()), messages.into_iter().collect());
        self.runtime.run();
    }

    /// What is under way, oldest first.
    fn under_way(&self) -> Vec<Vec<String>> {
        lock(&self.requests.0).iter().map(|request| request.messages.clone()).collect()
    }

    fn end_first(&self, result: Result<(), NetworkError>) {
        let request = lock(&self.requests.0).remove(0);
        assert_eq!(request.peer, 2);
        drop(request.end.send(result));
        self.runtime.run();
    }

    fn advance(&self, ms: u64) {
        self.runtime.advance(Duration::from_millis(ms));
        self.runtime.run();
    }
}

fn heartbeat(round: u64) -> Message<U64> {
    Message { term: 1, body: Body::Heartbeat { round, commit: LogId::ZERO } }
}

fn append(prev: u64) -> Message<U64> {
    let entries = entries(1, prev + 1..prev + 2);
    Message { term: 1, body: Body::Append { prev: LogId::new(1, prev), entries, commit: 0 } }
}

fn unreachable() -> Result<(), NetworkError> {
    Err(NetworkError::Unreachable(AnyError::new(&io::Error::other("down"))))
}

#[test]
fn messages_keep_their_order_and_what_gathers_is_one_request() {
    let world = World::new(RequestNetworkLimits::default());
    world.send([append(1)]);
    world.send([append(2)]);
    world.send([append(3), append(4)]);
    assert_eq!(world.under_way(), [["a1"]]);
    world.end_first(Ok(()));
    assert_eq!(world.under_way(), [["a2", "a3", "a4"]]);
}

#[test]
fn small_messages_pass_bulk_data() {
    let world = World::new(RequestNetworkLimits::default());
    world.send([append(1), heartbeat(1), append(2)]);
    assert_eq!(world.under_way(), [vec!["h1"], vec!["a1", "a2"]]);
    world.end_first(Ok(()));
    world.send([heartbeat(2), append(3)]);
    assert_eq!(world.under_way(), [vec!["a1", "a2"], vec!["h2"]]);
}

#[test]
fn a_request_has_at_most_so_many_bytes_and_at_least_one_message() {
    let one = append(1).size_bytes();
    let limits = RequestNetworkLimits { request_bytes_max: 2 * one, ..RequestNetworkLimits::default() };
    let world = World::new(limits);
    world.send((1..6).map(append));
    assert_eq!(world.under_way(), [["a1", "a2"]]);
    world.end_first(Ok(()));
    assert_eq!(world.under_way(), [["a3", "a4"]]);
    let world = World::new(RequestNetworkLimits { request_bytes_max: 1, ..RequestNetworkLimits::default() });
    world.send((1..3).map(append));
    assert_eq!(world.under_way(), [["a1"]]);
}

#[test]
fn what_does_not_fit_into_the_queue_is_dropped_with_all_behind_it() {
    let one = append(1).size_bytes();
    let limits = RequestNetworkLimits { queue_bytes_max: 2 * one, ..RequestNetworkLimits::default() };
    let world = World::new(limits);
    world.send([append(1)]);
    world.send((2..9).map(append));
    world.end_first(Ok(()));
    assert_eq!(world.under_way(), [["a2", "a3"]]);
    world.end_first(Ok(()));
    assert!(world.under_way().is_empty());
}

#[test]
fn a_failure_is_reported_and_the_next_request_waits_longer_each_time() {
    let limits =
        RequestNetworkLimits { backoff_ms_min: 100, backoff_ms_max: 400, ..RequestNetworkLimits::default() };
    let world = World::new(limits.clone());
    world.send([heartbeat(0)]);
    for (failures, longest) in [(1, 100), (2, 200), (3, 400), (4, 400)] {
        world.end_first(unreachable());
        assert_eq!(lock(&world.reports.0).len(), failures);
        world.send([heartbeat(7)]);
        world.advance(longest / 2 - 1);
        assert!(world.under_way().is_empty(), "after {failures} failures it came back too early");
        world.advance(longest / 2 + 1);
        assert_eq!(world.under_way(), [["h7"]], "after {failures} failures it came back too late");
    }
    world.end_first(Ok(()));
    world.send([heartbeat(8)]);
    world.end_first(unreachable());
    world.send([heartbeat(9)]);
    world.advance(100);
    assert_eq!(world.under_way(), [["h9"]], "a success begins anew");
    let pauses: std::collections::BTreeSet<_> =
        (0..10).map(|chance: u64| backoff(&limits, 1, chance << 60)).collect();
    assert_eq!(pauses.len(), 10, "pauses differ by chance");
}

#[test]
fn a_request_that_hangs_is_given_up() {
    let world =
        World::new(RequestNetworkLimits { request_timeout_ms: 50, ..RequestNetworkLimits::default() });
    world.send([heartbeat(1)]);
    world.advance(49);
    assert!(lock(&world.reports.0).is_empty());
    world.advance(1);
    assert_eq!(*lock(&world.reports.0), [2]);
}

#[test]
fn a_peer_that_is_in_no_membership_is_reached_as_was_remembered() {
    let world = World::new(RequestNetworkLimits::default());
    world.network.send(2, None, vec![heartbeat(1)]);
    world.runtime.run();
    assert!(world.under_way().is_empty());
    world.network.remember(2, ());
    world.network.send(2, None, vec![heartbeat(2)]);
    world.runtime.run();
    assert_eq!(world.under_way(), [["h2"]]);
}

#[test]
fn its_tasks_end_with_the_network() {
    let world = World::new(RequestNetworkLimits::default());
    world.send([heartbeat(1), append(1)]);
    // One of them waits after a failure, the other for the end of its request.
    world.end_first(unreachable());
    assert_eq!(world.runtime.tasks(), 2);
    drop(world.network);
    world.runtime.run();
    assert_eq!(world.runtime.tasks(), 0);
}
