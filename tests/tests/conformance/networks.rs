//! The networks of this workspace: over gRPC, in memory, and of requests.

use std::sync::Arc;

use async_trait::async_trait;
use openconsensus::{
    AsyncRuntime, Fatal, InstallSnapshot, InstallSnapshotResponse, Message, SnapshotStream, TokioRuntime,
};
use openconsensus_memstore::kv::{Command, Kv};
use openconsensus_network_grpc::{GrpcConfig, GrpcNetwork, GrpcServer, Serving};
use openconsensus_tests::conformance::{
    KvSamples, NetworkFactory, NetworkLimits, Receiver, Samples, Started, check_network,
};
use openconsensus_tests::sim_runtime::Sim;
use openconsensus_tests::{MemNetwork, MemNetworkNode};

use crate::memstore::kv_samples;

/// Hands what arrives over gRPC to the suite.
struct Handed(Arc<dyn Receiver<Kv>>);

#[async_trait]
impl openconsensus_network_grpc::Receiver<Kv> for Handed {
    async fn receive(&self, from: u64, messages: Vec<Message<Kv>>) -> Result<(), Fatal> {
        self.0.receive(from, messages).await
    }

    async fn receive_snapshot(
        &self,
        request: InstallSnapshot<Kv>,
        data: SnapshotStream,
    ) -> Result<InstallSnapshotResponse, Fatal> {
        self.0.receive_snapshot(request, data).await
    }

    fn report_unreachable(&self, peer: u64) {
        self.0.report_unreachable(peer);
    }
}

struct Grpc;

kv_samples!(Grpc);

impl NetworkFactory<Kv> for Grpc {
    type Runtime = TokioRuntime;
    type Network = GrpcNetwork<Kv>;
    type Endpoint = Serving;

    fn runtime(&self) -> TokioRuntime {
        TokioRuntime
    }

    async fn start(
        &self,
        id: u64,
        place: Option<&String>,
        receiver: Arc<dyn Receiver<Kv>>,
    ) -> Started<Kv, GrpcNetwork<Kv>, Serving> {
        let server = GrpcServer::bind(place.map_or("127.0.0.1:0", String::as_str)).await;
        let server = server.expect("a port on this machine");
        let node = server.local_addr().to_string();
        let config = GrpcConfig { backoff_ms_max: 200, ..GrpcConfig::new("conformance") };
        let network = GrpcNetwork::new(config, id, node.clone()).expect("the configuration is right");
        let endpoint = server.serve(network.service(Handed(receiver)), None);
        Started { network, node, endpoint }
    }

    async fn stop(&self, endpoint: Serving) {
        endpoint.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_over_grpc_conforms() {
    check_network(&Grpc).await.assert_passed_except(&[]);
}

/// One network in memory for all nodes, real or simulated; each is found by its name.
pub(crate) struct InMemory<R> {
    runtime: R,
    network: MemNetwork<Kv>,
}

impl InMemory<TokioRuntime> {
    pub(crate) fn new() -> Self {
        Self { runtime: TokioRuntime, network: MemNetwork::new(1) }
    }
}

impl<R> Samples<Kv> for InMemory<R> {
    fn command(&self, number: u64, bytes: usize) -> Command {
        KvSamples.command(number, bytes)
    }

    fn node_id(&self, number: u64) -> u64 {
        KvSamples.node_id(number)
    }

    fn node(&self, number: u64) -> String {
        KvSamples.node(number)
    }
}

impl<R: AsyncRuntime> NetworkFactory<Kv> for InMemory<R> {
    type Runtime = R;
    type Network = MemNetworkNode<Kv>;
    type Endpoint = u64;

    fn runtime(&self) -> R {
        self.runtime.clone()
    }

    async fn start(
        &self,
        id: u64,
        _place: Option<&String>,
        receiver: Arc<dyn Receiver<Kv>>,
    ) -> Started<Kv, MemNetworkNode<Kv>, u64> {
        self.network.connect_receiver(id, receiver);
        Started { network: self.network.node(id), node: self.node(id), endpoint: id }
    }

    async fn stop(&self, id: u64) {
        self.network.disconnect(id);
    }

    fn limits(&self) -> NetworkLimits {
        // It stands for a wire that is one line, and on which nodes are found by their names.
        NetworkLimits { passes_bulk: false, has_addresses: false, ..NetworkLimits::default() }
    }
}

/// What a wire that is one line does not offer.
const ONE_LINE: &[&str] = &[
    "small_messages_pass_bulk_data",
    "a_peer_that_moves_is_followed",
    "a_message_for_another_node_is_refused",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_network_in_memory_conforms() {
    check_network(&InMemory::new()).await.assert_passed_except(ONE_LINE);
}

#[test]
fn the_simulated_network_conforms_for_every_seed() {
    for seed in 0..5 {
        let sim = Sim::new(seed);
        let network = MemNetwork::on(sim.world().any(), seed);
        let report = sim.run(check_network(&InMemory { runtime: sim.world(), network }));
        assert!(report.failed().is_empty(), "seed {seed}: {report}");
        report.assert_passed_except(ONE_LINE);
    }
}
