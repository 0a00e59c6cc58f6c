//! `GrpcNetwork`: the sending side.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openconsensus::{
    CodecError, ConfigError, EntryCodec, InstallSnapshot, InstallSnapshotResponse, Message, NetworkError,
    PostcardCodec, RaftNetwork, SnapshotStream, TypeConfig,
};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::config::GrpcConfig;
use crate::endpoint::{self, AddressError, Endpoint};
use crate::hello::{Introduced, Local};
use crate::lane::LaneTask;
use crate::peer::{Lane, Peer, PeerError, PeerStatus};
use crate::receiver::Receiver;
use crate::report::Reporter;
use crate::service::GrpcService;
use crate::snapshot_send::SnapshotTransfer;

/// The sending side of the transport, and the maker of the receiving side. Cheap to clone; all clones share the
/// connections, which are closed when the last clone and the last [`GrpcService`] are gone.
///
/// Each peer is sent to over two connections, opened when there is something to send: one for appends, one for all
/// other messages. A snapshot has a third one while it travels.
pub struct GrpcNetwork<C: TypeConfig, K = PostcardCodec> {
    shared: Arc<Shared<C>>,
    codec: PhantomData<fn() -> K>,
}

/// What the network and its service have in common.
pub(crate) struct Shared<C: TypeConfig> {
    pub(crate) local: Arc<Local<C>>,
    peers: Mutex<BTreeMap<C::NodeId, Arc<Peer<C>>>>,
    reporter: Arc<Reporter<C>>,
    runtime: Handle,
    /// Dropped with this, which ends the tasks.
    alive: watch::Sender<()>,
}

/// Peers that are in no membership are remembered up to this number, so that nobody can fill the memory by
/// introducing himself under many names.
const PEERS_MAX: usize = 4096;

/// Why there is no network. Nothing has been started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NewNetworkError {
    /// A value of the configuration is wrong. Correct it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address that peers are told is wrong. Correct it.
    #[error("the address that peers are told is wrong: {0}")]
    Address(#[from] AddressError),
    /// The codec cannot encode the name of this node. Correct the codec.
    #[error("the name of this node cannot be encoded: {0}")]
    Codec(#[from] CodecError),
    /// There is no tokio runtime. Call it inside one.
    #[error("GrpcNetwork::new must be called inside a tokio runtime")]
    NoRuntime,
}

impl<C: TypeConfig, K: EntryCodec<C>> GrpcNetwork<C, K> {
    /// The network of node `id`. `address` is where its peers reach it, as `host:port`: a node that does not find this
    /// one in its membership answers there.
    ///
    /// Its tasks run on the tokio runtime that it is called in.
    ///
    /// # Errors
    ///
    /// See [`NewNetworkError`].
    pub fn new(
        config: GrpcConfig,
        id: C::NodeId,
        address: impl Into<String>,
    ) -> Result<Self, NewNetworkError> {
        config.validate()?;
        let address = address.into();
        endpoint::parse(&address)?;
        let runtime = Handle::try_current().map_err(|_| NewNetworkError::NoRuntime)?;
        let shared = Shared {
            local: Arc::new(Local::new::<K>(config, id, address)?),
            peers: Mutex::default(),
            reporter: Arc::new(Reporter::new()),
            runtime,
            alive: watch::Sender::new(()),
        };
        Ok(Self { shared: Arc::new(shared), codec: PhantomData })
    }

    /// The receiving side, which hands to `receiver` what peers send: a [`Raft`](openconsensus::Raft), usually. From
    /// now on `receiver` is told which peers cannot be reached, too.
    ///
    /// The service holds `receiver` until it is [closed](GrpcService::close) or dropped, and the network does not. So
    /// a node that was given as [`Raft`](openconsensus::Raft) stops when the service is closed and the application has
    /// dropped its own handles; one given by [`downgrade`](openconsensus::Raft::downgrade) stops with the latter alone.
    pub fn service(&self, receiver: impl Receiver<C>) -> GrpcService<C, K> {
        let receiver: Arc<dyn Receiver<C>> = Arc::new(receiver);
        self.shared.reporter.attach(Arc::downgrade(&receiver));
        GrpcService::new(self.shared.clone(), receiver)
    }

    /// How things stand with every peer that was sent to or heard of.
    pub fn peers(&self) -> BTreeMap<C::NodeId, PeerStatus> {
        self.shared.peers().iter().map(|(id, peer)| (*id, peer.status())).collect()
    }

    /// What went wrong with `peer` last, unless a later success has made it obsolete.
    pub fn last_error(&self, peer: C::NodeId) -> Option<PeerError> {
        self.shared.peers().get(&peer)?.status().last_error
    }

    fn push(&self, peer: &Arc<Peer<C>>, lane: Lane, messages: Vec<Message<C>>) {
        if messages.is_empty() {
            return;
        }
        let must_start = peer.link(lane).push(messages);
        if must_start {
            let task = LaneTask::<C, K> {
                local: self.shared.local.clone(),
                peer: peer.clone(),
                lane,
                reporter: self.shared.reporter.clone(),
                network: self.shared.alive.subscribe(),
                codec: PhantomData,
            };
            drop(self.shared.runtime.spawn(task.run()));
        }
    }
}

impl<C: TypeConfig> Shared<C> {
    /// The peer that has introduced itself. `None` when there are too many already.
    pub(crate) fn introduced(&self, introduced: Introduced<C>) -> Option<Arc<Peer<C>>> {
        let mut peers = self.peers();
        if PEERS_MAX <= peers.len() && !peers.contains_key(&introduced.id) {
            return None;
        }
        let peer = self.peer(&mut peers, introduced.id);
        peer.advertise(introduced.address);
        Some(peer)
    }

    fn peer(&self, peers: &mut BTreeMap<C::NodeId, Arc<Peer<C>>>, id: C::NodeId) -> Arc<Peer<C>> {
        peers.entry(id).or_insert_with(|| Arc::new(Peer::new(id, &self.local.config))).clone()
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<C::NodeId, Arc<Peer<C>>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C, K> RaftNetwork<C> for GrpcNetwork<C, K>
where
    C: TypeConfig,
    C::Node: Endpoint,
    K: EntryCodec<C>,
{
    fn send(&self, peer: C::NodeId, node: Option<&C::Node>, messages: Vec<Message<C>>) {
        let peer = self.shared.peer(&mut self.shared.peers(), peer);
        match node {
            Some(node) => peer.set_address(node.endpoint()),
            None => peer.use_advertised_address(),
        }
        let (bulk, urgent) = messages.into_iter().partition(Message::is_bulk);
        self.push(&peer, Lane::Urgent, urgent);
        self.push(&peer, Lane::Bulk, bulk);
    }

    fn send_snapshot(
        &self,
        peer: C::NodeId,
        node: &C::Node,
        request: InstallSnapshot<C>,
        data: SnapshotStream,
    ) -> impl Future<Output = Result<InstallSnapshotResponse, NetworkError>> + Send + 'static {
        let transfer = SnapshotTransfer {
            local: self.shared.local.clone(),
            peer,
            address: node.endpoint().to_owned(),
            request,
            data,
        };
        transfer.run::<K>()
    }
}

impl<C: TypeConfig, K> Clone for GrpcNetwork<C, K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), codec: PhantomData }
    }
}

impl<C: TypeConfig, K> fmt::Debug for GrpcNetwork<C, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcNetwork").field("local", &self.shared.local).finish_non_exhaustive()
    }
}
