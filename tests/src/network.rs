//! `MemNetwork`: messages and snapshots between nodes of one process, with faults on demand.

mod link;
mod summary;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openconsensus::{
    InstallSnapshot, InstallSnapshotResponse, MaybeSend, Message, NetworkError, Raft, RaftNetwork,
    SnapshotStream, TypeConfig,
};
use tokio::sync::{mpsc, watch};

use summary::Summaries;

use crate::any_runtime::AnyRuntime;
use crate::conformance::Receiver;

/// A network in memory. Cheap to clone; all clones are one network.
///
/// Without faults it keeps the order of messages from one node to another and loses none. A cut loses everything that
/// is under way. A node that is not connected cannot be reached, which its peers are told, as by a refused connection.
pub struct MemNetwork<C: TypeConfig> {
    hub: Arc<Hub<C>>,
}

/// What can go wrong with messages on a link. Everything at random, but the same for the same seed and messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkFaults {
    /// How long a message is under way. Messages do not overtake each other because of it.
    pub delay: Range<Duration>,
    /// The share of messages that are lost, 0 to 1.
    pub drop: f64,
    /// The share of messages that arrive once more, some time later, 0 to 1.
    pub duplicate: f64,
    /// The share of messages that are held back, so that later ones overtake them, 0 to 1.
    pub reorder: f64,
    /// The longest that repeated and reordered messages are held back.
    pub hold: Duration,
}

impl LinkFaults {
    /// Delays of up to 5 ms, and every other fault in one of ten messages.
    pub fn rough() -> Self {
        Self {
            delay: Duration::ZERO..Duration::from_millis(5),
            drop: 0.1,
            duplicate: 0.1,
            reorder: 0.1,
            hold: Duration::from_millis(20),
        }
    }
}

/// What can go wrong with a snapshot on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFaults {
    /// The connection breaks when so many bytes have passed.
    pub break_after_bytes: Option<u64>,
    /// Nothing passes any more when so many bytes have, and nobody is told.
    pub stall_after_bytes: Option<u64>,
    /// A bit of the byte at this place is flipped on its way, and nobody is told.
    pub flip_bit_at: Option<u64>,
    /// The bytes are cut into chunks of this size at most.
    pub chunk_bytes: Option<usize>,
    /// How long each chunk takes.
    pub chunk_delay: Duration,
}

/// What has passed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages handed over by nodes.
    pub sent: u64,
    /// Messages given to nodes, repeated ones included.
    pub delivered: u64,
    /// Messages lost to cuts, faults and nodes that are not connected.
    pub dropped: u64,
    /// Snapshots whose transfer has begun.
    pub snapshots_started: u64,
    /// Snapshots whose transfer broke off.
    pub snapshots_broken: u64,
    /// Snapshots that were answered by their receiver.
    pub snapshots_answered: u64,
    /// Bytes of snapshots that have passed.
    pub snapshot_bytes: u64,
}

struct Hub<C: TypeConfig> {
    runtime: AnyRuntime,
    seed: u64,
    state: Mutex<HubState<C>>,
    /// Changes with every cut, connection and disconnection: transfers look whether they are concerned.
    changes: watch::Sender<u64>,
}

/// A directed link: sender and receiver.
type LinkId<C> = (<C as TypeConfig>::NodeId, <C as TypeConfig>::NodeId);

struct HubState<C: TypeConfig> {
    nodes: BTreeMap<C::NodeId, Connected<C>>,
    connections: u64,
    cuts: BTreeSet<LinkId<C>>,
    isolated: BTreeSet<C::NodeId>,
    faults: LinkFaults,
    link_faults: BTreeMap<LinkId<C>, LinkFaults>,
    snapshot_faults: SnapshotFaults,
    links: BTreeMap<LinkId<C>, mpsc::UnboundedSender<Vec<Message<C>>>>,
    traffic: Traffic,
}

struct Connected<C: TypeConfig> {
    receiver: Arc<dyn Receiver<C>>,
    /// Differs each time that a node connects.
    connection: u64,
}

impl<C: TypeConfig> MemNetwork<C> {
    /// A network without nodes and without faults. `seed` decides which messages later faults strike.
    pub fn new(seed: u64) -> Self {
        Self::on(AnyRuntime::tokio(), seed)
    }

    /// As [`new`](Self::new), on another runtime than tokio: its tasks deliver, and its clock delays.
    pub fn on(runtime: AnyRuntime, seed: u64) -> Self {
        let state = HubState {
            nodes: BTreeMap::new(),
            connections: 0,
            cuts: BTreeSet::new(),
            isolated: BTreeSet::new(),
            faults: LinkFaults::default(),
            link_faults: BTreeMap::new(),
            snapshot_faults: SnapshotFaults::default(),
            links: BTreeMap::new(),
            traffic: Traffic::default(),
        };
        let changes = watch::Sender::new(0);
        Self { hub: Arc::new(Hub { runtime, seed, state: Mutex::new(state), changes }) }
    }

    /// The network as node `id` sees it, to be handed to [`Raft::start`].
    pub fn node(&self, id: C::NodeId) -> MemNetworkNode<C> {
        MemNetworkNode { id, hub: self.hub.clone() }
    }

    /// From now on messages to `raft.id()` are given to `raft`.
    pub fn connect(&self, raft: Raft<C>) {
        self.connect_receiver(raft.id(), Arc::new(raft));
    }

    /// From now on messages to node `id` are given to `receiver`, which stands in the place of a [`Raft`].
    pub fn connect_receiver(&self, id: C::NodeId, receiver: Arc<dyn Receiver<C>>) {
        let _before = self.change(|state| {
            state.connections += 1;
            let connection = state.connections;
            state.nodes.insert(id, Connected { receiver, connection })
        });
    }

    /// From now on node `id` cannot be reached. The network gives up its handle of the node.
    pub fn disconnect(&self, id: C::NodeId) {
        let _gone = self.change(|state| state.nodes.remove(&id));
    }

    /// Loses everything between `a` and `b`.
    pub fn cut(&self, a: C::NodeId, b: C::NodeId) {
        self.change(|state| state.cuts.extend([(a, b), (b, a)]));
    }

    /// Loses everything from `from` to `to`, and nothing the other way. Snapshots need both ways.
    pub fn cut_one_way(&self, from: C::NodeId, to: C::NodeId) {
        self.change(|state| state.cuts.insert((from, to)));
    }

    /// Loses everything from and to `id`.
    pub fn isolate(&self, id: C::NodeId) {
        self.change(|state| state.isolated.insert(id));
    }

    /// Loses everything between nodes of different groups. What was cut before stays cut.
    pub fn partition(&self, groups: &[&[C::NodeId]]) {
        for (place, group) in groups.iter().enumerate() {
            for other in &groups[place + 1..] {
                group.iter().for_each(|a| other.iter().for_each(|b| self.cut(*a, *b)));
            }
        }
    }

    /// Takes back every cut, isolation and partition.
    pub fn heal(&self) {
        self.change(|state| {
            state.cuts.clear();
            state.isolated.clear();
        });
    }

    /// What goes wrong on links that have no faults of their own.
    pub fn set_faults(&self, faults: LinkFaults) {
        self.change(|state| state.faults = faults);
    }

    /// What goes wrong on the link from `from` to `to`.
    pub fn set_link_faults(&self, from: C::NodeId, to: C::NodeId, faults: LinkFaults) {
        self.change(|state| state.link_faults.insert((from, to), faults));
    }

    /// What goes wrong with snapshots, also with those that are under way.
    pub fn set_snapshot_faults(&self, faults: SnapshotFaults) {
        self.change(|state| state.snapshot_faults = faults);
    }

    /// Takes back every fault. Cuts stay.
    pub fn calm(&self) {
        self.change(|state| {
            state.faults = LinkFaults::default();
            state.link_faults.clear();
            state.snapshot_faults = SnapshotFaults::default();
        });
    }

    /// What has passed so far.
    pub fn traffic(&self) -> Traffic {
        self.hub.lock().traffic
    }

    fn change<R>(&self, change: impl FnOnce(&mut HubState<C>) -> R) -> R {
        let result = change(&mut self.hub.lock());
        self.hub.changes.send_modify(|version| *version += 1);
        result
    }
}

impl<C: TypeConfig> Clone for MemNetwork<C> {
    fn clone(&self) -> Self {
        Self { hub: self.hub.clone() }
    }
}

impl<C: TypeConfig> fmt::Debug for MemNetwork<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.hub.lock();
        f.debug_struct("MemNetwork")
            .field("seed", &self.hub.seed)
            .field("nodes", &state.nodes.keys())
            .field("cuts", &state.cuts)
            .field("isolated", &state.isolated)
            .field("traffic", &state.traffic)
            .finish_non_exhaustive()
    }
}

/// A [`MemNetwork`] as one node sees it.
pub struct MemNetworkNode<C: TypeConfig> {
    id: C::NodeId,
    hub: Arc<Hub<C>>,
}

impl<C: TypeConfig> fmt::Debug for MemNetworkNode<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemNetworkNode").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<C: TypeConfig> RaftNetwork<C> for MemNetworkNode<C> {
    fn send(&self, peer: C::NodeId, _node: Option<&C::Node>, messages: Vec<Message<C>>) {
        let link = (self.id, peer);
        self.hub.runtime.note(format_args!("{} -> {peer}: {}", self.id, Summaries(&messages)));
        let mut state = self.hub.lock();
        state.traffic.sent += messages.len() as u64;
        if state.is_cut(link) {
            state.traffic.dropped += messages.len() as u64;
            return;
        }
        let queue = state.links.entry(link).or_insert_with(|| link::spawn(self.hub.clone(), link));
        // A link ends only with the runtime: then nobody is left to care.
        let _ = queue.send(messages);
    }

    fn send_snapshot(
        &self,
        peer: C::NodeId,
        _node: &C::Node,
        request: InstallSnapshot<C>,
        data: SnapshotStream,
    ) -> impl Future<Output = Result<InstallSnapshotResponse, NetworkError>> + MaybeSend + 'static {
        transfer::run(self.hub.clone(), (self.id, peer), request, data)
    }
}

impl<C: TypeConfig> Hub<C> {
    /// A panic elsewhere does not make the state worse: every change of it is complete before the lock is given back.
    fn lock(&self) -> MutexGuard<'_, HubState<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seed for what happens on `link` and nowhere else.
    fn link_seed(&self, link: LinkId<C>) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, link).hash(&mut hasher);
        hasher.finish()
    }
}

impl<C: TypeConfig> HubState<C> {
    fn is_cut(&self, link: LinkId<C>) -> bool {
        self.cuts.contains(&link) || self.isolated.contains(&link.0) || self.isolated.contains(&link.1)
    }

    fn faults_of(&self, link: LinkId<C>) -> LinkFaults {
        self.link_faults.get(&link).unwrap_or(&self.faults).clone()
    }
}
