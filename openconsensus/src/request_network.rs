//! A network for applications that think in requests rather than connections: an HTTP POST for a batch of messages,
//! say. The application brings one method that delivers a batch; queues, order, back-off and reports are done here.

mod lane;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::driver::lock;
use crate::message::{InstallSnapshot, InstallSnapshotResponse, Message};
use crate::network::{NetworkError, RaftNetwork};
use crate::raft::{Raft, WeakRaft};
use crate::runtime::{AsyncRuntime, MaybeSend, MaybeSync, SnapshotStream};
use crate::type_config::TypeConfig;

use lane::Lane;

/// Brings requests to peers. [`RequestNetwork`] makes a [`RaftNetwork`] of it.
pub trait RequestTransport<C: TypeConfig>: MaybeSend + MaybeSync + 'static {
    /// Delivers messages to a peer and resolves when its [`Raft::receive`] has taken them, in this order.
    ///
    /// For each peer one call at a time is made for small messages and one for bulk data; what is sent meanwhile goes
    /// with the next. The future may be dropped when it takes too long. After an error the messages are not sent again:
    /// the algorithm repeats what matters.
    ///
    /// Messages are serde with the feature `serde`, which encodes the entries of an append anew for each peer. Who wants
    /// that done once, for the disk and all peers, sends [`Entries::encoded`](crate::Entries::encoded) in their place and
    /// puts the message together again with [`Entries::decode`](crate::Entries::decode).
    fn deliver(
        &self,
        peer: C::NodeId,
        node: &C::Node,
        messages: Vec<Message<C>>,
    ) -> impl Future<Output = Result<(), NetworkError>> + MaybeSend;

    /// Streams a snapshot to a peer's [`Raft::receive_snapshot`] and returns its answer. When this future is dropped
    /// or the connection breaks, the peer must see its stream end in an error.
    fn deliver_snapshot(
        &self,
        peer: C::NodeId,
        node: &C::Node,
        request: InstallSnapshot<C>,
        data: SnapshotStream,
    ) -> impl Future<Output = Result<InstallSnapshotResponse, NetworkError>> + MaybeSend;
}

/// Limits of a [`RequestNetwork`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestNetworkLimits {
    /// The most bytes of messages that wait for one peer, for bulk data and for small messages each. Beyond it new ones
    /// are dropped. Default 32 MiB.
    pub queue_bytes_max: u64,
    /// The most bytes of messages in one request; one message that is larger travels alone. Default 4 MiB.
    pub request_bytes_max: u64,
    /// A request is given up after so long. Default 5000.
    pub request_timeout_ms: u64,
    /// After a failure the next request waits for up to so long. Default 20.
    pub backoff_ms_min: u64,
    /// Each further failure doubles the wait, up to this. Keep it below the election timeout, or a peer that comes back
    /// is heard late. Default 200.
    pub backoff_ms_max: u64,
}

impl Default for RequestNetworkLimits {
    fn default() -> Self {
        Self {
            queue_bytes_max: 32 << 20,
            request_bytes_max: 4 << 20,
            request_timeout_ms: 5000,
            backoff_ms_min: 20,
            backoff_ms_max: 200,
        }
    }
}

/// A [`RaftNetwork`] on top of a [`RequestTransport`]. Cheap to clone; all clones are one network.
///
/// ```
/// # use openconsensus::*;
/// async fn start<C: TypeConfig, R: AsyncRuntime>(
///     id: C::NodeId,
///     runtime: R,
///     transport: impl RequestTransport<C>,
///     log: impl RaftLogStorage<C>,
///     state_machine: impl RaftStateMachine<C>,
/// ) -> Result<Raft<C>, StartError> {
///     let network = RequestNetwork::new(runtime.clone(), transport, RequestNetworkLimits::default());
///     let raft = Raft::start(id, Config::default(), runtime, network.clone(), log, state_machine).await?;
///     // So that peers which are away are reported to the node.
///     network.attach(&raft);
///     Ok(raft)
/// }
/// ```
pub struct RequestNetwork<C: TypeConfig, R, T> {
    inner: Arc<Inner<C, R, T>>,
}

struct Inner<C: TypeConfig, R, T> {
    runtime: R,
    transport: Arc<T>,
    limits: RequestNetworkLimits,
    reporter: Arc<Reporter<C>>,
    state: Mutex<State<C>>,
}

struct State<C: TypeConfig> {
    /// For each peer and kind of messages; `true` is bulk data.
    lanes: BTreeMap<(C::NodeId, bool), Arc<Lane<C>>>,
    /// How to reach peers that the membership does not name.
    remembered: BTreeMap<C::NodeId, C::Node>,
    seed: u64,
}

impl<C, R, T> RequestNetwork<C, R, T>
where
    C: TypeConfig,
    R: AsyncRuntime,
    T: RequestTransport<C>,
{
    /// A network that delivers through `transport`. Its tasks run on `runtime`, two for each peer, and end when the
    /// last clone is dropped.
    pub fn new(runtime: R, transport: T, limits: RequestNetworkLimits) -> Self {
        let state = State { lanes: BTreeMap::new(), remembered: BTreeMap::new(), seed: runtime.seed() };
        Self {
            inner: Arc::new(Inner {
                runtime,
                transport: Arc::new(transport),
                limits,
                reporter: Arc::default(),
                state: Mutex::new(state),
            }),
        }
    }

    /// Reports peers that cannot be reached to `raft`, the node that this network was given to. It does not keep the
    /// node alive. Without it the node works, and wastes messages on peers that are away.
    pub fn attach(&self, raft: &Raft<C>) {
        self.inner.reporter.attach(Box::new(raft.downgrade()));
    }

    /// Reports peers that cannot be reached to `report`, in the place of a node: for a test or a proxy. It must not wait.
    pub fn report_to(&self, report: impl Fn(C::NodeId) + MaybeSend + MaybeSync + 'static) {
        self.inner.reporter.attach(Box::new(ReportTo(report)));
    }

    /// Remembers how to reach a peer, for the time in which the membership does not name it: a node that joins a
    /// cluster must answer its leader before it has heard of any membership. To be called with what the application is
    /// configured with, or with what a request says about its sender.
    pub fn remember(&self, peer: C::NodeId, node: C::Node) {
        lock(&self.inner.state).remembered.insert(peer, node);
    }

    /// Queues messages of one kind for a peer, and starts the task that delivers them if it is the first time.
    fn queue(&self, peer: C::NodeId, node: &C::Node, is_bulk: bool, messages: Vec<Message<C>>) {
        if messages.is_empty() {
            return;
        }
        let inner = &self.inner;
        let mut state = lock(&inner.state);
        let lane = state.lanes.get(&(peer, is_bulk)).cloned().unwrap_or_else(|| {
            state.seed = state.seed.wrapping_add(1);
            let lane = Arc::new(Lane::new());
            state.lanes.insert((peer, is_bulk), lane.clone());
            let delivery = lane::Delivery {
                peer,
                lane: lane.clone(),
                runtime: inner.runtime.clone(),
                transport: inner.transport.clone(),
                limits: inner.limits.clone(),
                reporter: inner.reporter.clone(),
                chance: state.seed,
            };
            inner.runtime.spawn(delivery.run());
            lane
        });
        drop(state);
        lane.push(node, messages, inner.limits.queue_bytes_max);
    }
}

impl<C, R, T> RaftNetwork<C> for RequestNetwork<C, R, T>
where
    C: TypeConfig,
    R: AsyncRuntime,
    T: RequestTransport<C>,
{
    fn send(&self, peer: C::NodeId, node: Option<&C::Node>, messages: Vec<Message<C>>) {
        let remembered = match node {
            Some(_) => None,
            None => lock(&self.inner.state).remembered.get(&peer).cloned(),
        };
        let Some(node) = node.or(remembered.as_ref()) else {
            tracing::debug!(name: "raft.network.unknown", %peer, "nobody knows how to reach the peer");
            return;
        };
        let (bulk, small) = messages.into_iter().partition(Message::is_bulk);
        self.queue(peer, node, false, small);
        self.queue(peer, node, true, bulk);
    }

    fn send_snapshot(
        &self,
        peer: C::NodeId,
        node: &C::Node,
        request: InstallSnapshot<C>,
        data: SnapshotStream,
    ) -> impl Future<Output = Result<InstallSnapshotResponse, NetworkError>> + MaybeSend + 'static {
        let (transport, node) = (self.inner.transport.clone(), node.clone());
        async move { transport.deliver_snapshot(peer, &node, request, data).await }
    }
}

impl<C: TypeConfig, R, T> Clone for RequestNetwork<C, R, T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<C: TypeConfig, R, T> fmt::Debug for RequestNetwork<C, R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestNetwork").field("limits", &self.inner.limits).finish_non_exhaustive()
    }
}

impl<C: TypeConfig, R, T> Drop for Inner<C, R, T> {
    fn drop(&mut self) {
        lock(&self.state).lanes.values().for_each(|lane| lane.close());
    }
}

/// Whom to tell that a peer cannot be reached.
struct Reporter<C: TypeConfig> {
    attached: Mutex<Option<Box<dyn Unreachable<C>>>>,
}

/// Wants to know that a peer cannot be reached.
trait Unreachable<C: TypeConfig>: MaybeSend + MaybeSync {
    fn report(&self, peer: C::NodeId);
}

impl<C: TypeConfig> Unreachable<C> for WeakRaft<C> {
    fn report(&self, peer: C::NodeId) {
        if let Some(raft) = self.upgrade() {
            raft.report_unreachable(peer);
        }
    }
}

/// A function that is told.
struct ReportTo<F>(F);

impl<C: TypeConfig, F: Fn(C::NodeId) + MaybeSend + MaybeSync> Unreachable<C> for ReportTo<F> {
    fn report(&self, peer: C::NodeId) {
        (self.0)(peer);
    }
}

impl<C: TypeConfig> Reporter<C> {
    fn attach(&self, attached: Box<dyn Unreachable<C>>) {
        *lock(&self.attached) = Some(attached);
    }

    fn report(&self, peer: C::NodeId) {
        if let Some(attached) = &*lock(&self.attached) {
            attached.report(peer);
        }
    }
}

impl<C: TypeConfig> Default for Reporter<C> {
    fn default() -> Self {
        Self { attached: Mutex::new(None) }
    }
}

/// How long to wait after `failures` failures in a row: doubled with each, between half of it and all of it by chance,
/// so that peers that have failed together do not come back together.
fn backoff(limits: &RequestNetworkLimits, failures: u32, chance: u64) -> Duration {
    let doubled = limits.backoff_ms_min.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let longest = Duration::from_millis(doubled.min(limits.backoff_ms_max));
    let half = longest / 2;
    half + half.mul_f64((chance >> 11) as f64 / (1_u64 << 53) as f64)
}
