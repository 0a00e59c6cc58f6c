//! `Via`: reaches some peers through other addresses than those that the members know.

use std::future::Future;

use futures::future::BoxFuture;
use openconsensus::{
    InstallSnapshot, InstallSnapshotResponse, Message, NetworkError, RaftNetwork, SnapshotStream,
};
use openconsensus_memstore::kv::Kv;
use openconsensus_network_grpc::GrpcNetwork;

use crate::address::NodeList;

/// A network that reaches the peers of a list there, and all others where the membership says.
pub(super) struct Via {
    pub(super) network: GrpcNetwork<Kv>,
    pub(super) peers: NodeList,
}

impl RaftNetwork<Kv> for Via {
    fn send(&self, peer: u64, node: Option<&String>, messages: Vec<Message<Kv>>) {
        // Also where no address is known: an answer must not take another way than a request.
        self.network.send(peer, self.peers.0.get(&peer).or(node), messages);
    }

    fn send_snapshot(
        &self,
        peer: u64,
        node: &String,
        request: InstallSnapshot<Kv>,
        data: SnapshotStream,
    ) -> impl Future<Output = Result<InstallSnapshotResponse, NetworkError>> + Send + 'static {
        let node = self.peers.0.get(&peer).unwrap_or(node);
        // Boxed, so that its type does not name the lifetime of `self`, which it does not hold.
        let transfer: BoxFuture<'static, _> = Box::pin(self.network.send_snapshot(peer, node, request, data));
        transfer
    }
}
