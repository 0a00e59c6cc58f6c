//! Ways from node to node: a function call, or gRPC over the loopback.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};

use futures::FutureExt;
use futures::future::Either;
use openconsensus::{
    AnyError, InstallSnapshot, InstallSnapshotResponse, Message, NetworkError, Raft, RaftNetwork,
    SnapshotStream,
};
use openconsensus_network_grpc::GrpcNetwork;

use super::blob::Blob;

/// The nodes that can be reached by a function call.
#[derive(Clone, Default)]
pub(crate) struct Switch {
    nodes: Arc<RwLock<BTreeMap<u64, Raft<Blob>>>>,
}

impl Switch {
    pub(crate) fn connect(&self, raft: &Raft<Blob>) {
        self.nodes.write().unwrap_or_else(PoisonError::into_inner).insert(raft.id(), raft.clone());
    }

    pub(crate) fn disconnect(&self, id: u64) {
        self.nodes.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn node(&self, id: u64) -> Option<Raft<Blob>> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

/// The network of one node.
#[derive(Clone)]
pub(crate) enum Net {
    /// Messages are handed over in the call that sends them.
    Call {
        id: u64,
        switch: Switch,
    },
    Grpc(GrpcNetwork<Blob>),
}

impl RaftNetwork<Blob> for Net {
    fn send(&self, peer: u64, node: Option<&String>, messages: Vec<Message<Blob>>) {
        match self {
            Self::Grpc(network) => network.send(peer, node, messages),
            Self::Call { id, switch } => match switch.node(peer) {
                // What the receiver has no room for is lost, as in any network.
                Some(raft) => drop(raft.receive(*id, messages).now_or_never()),
                None => {
                    if let Some(own) = switch.node(*id) {
                        own.report_unreachable(peer);
                    }
                }
            },
        }
    }

    fn send_snapshot(
        &self,
        peer: u64,
        node: &String,
        request: InstallSnapshot<Blob>,
        data: SnapshotStream,
    ) -> impl Future<Output = Result<InstallSnapshotResponse, NetworkError>> + Send + 'static {
        match self {
            Self::Grpc(network) => Either::Left(network.send_snapshot(peer, node, request, data)),
            Self::Call { switch, .. } => {
                let raft = switch.node(peer);
                Either::Right(async move {
                    let Some(raft) = raft else {
                        return Err(NetworkError::Unreachable(AnyError::error("the node is away")));
                    };
                    raft.receive_snapshot(request, data)
                        .await
                        .map_err(|fatal| NetworkError::Aborted(AnyError::new(&fatal)))
                })
            }
        }
    }
}
