//! A replicated counter that survives crashes: three nodes in one process, which talk over gRPC and store on disk.
//! Each run adds one to it: `cargo run -p counter`, and once more.

use std::collections::BTreeMap;

use openconsensus::{ApplyBatch, Config, InitializeError, Raft, TokioRuntime, TypeConfig};
use openconsensus_network_grpc::{GrpcConfig, GrpcNetwork, GrpcServer};
use openconsensus_redb::redb::{ReadableTable, TableDefinition};
use openconsensus_redb::{Application, BoxError, Identity, StateTable, Transaction, open};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Counter;

// What is replicated: numbers to add, which return the sum. Nodes have numbers too, and are reached at an address.
impl TypeConfig for Counter {
    type Command = i64;
    type Response = i64;
    type NodeId = u64;
    type Node = String;

    fn command_bytes(_: &i64) -> u64 {
        8
    }
}

const SUM: TableDefinition<(), i64> = TableDefinition::new("sum");

// What a command does. The library stores with it how far the node has come, and makes snapshots of the tables.
impl Application<Self> for Counter {
    fn tables(&self) -> Vec<StateTable> {
        vec![StateTable::new(SUM)]
    }

    fn apply(&self, transaction: &Transaction<'_>, batch: &ApplyBatch<Self>) -> Result<Vec<i64>, BoxError> {
        let mut table = transaction.open_table(SUM)?;
        let mut sum = table.get(())?.map_or(0, |stored| stored.value());
        let mut sums = Vec::new();
        for (_, number) in batch.commands() {
            sum = sum.wrapping_add(*number);
            sums.push(sum);
        }
        table.insert((), sum)?;
        Ok(sums)
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let dir = std::env::args().nth(1).unwrap_or("counter-data".into());
    let port: u16 = std::env::args().nth(2).map_or(Ok(7400), |port| port.parse())?;
    let nodes: BTreeMap<u64, _> = [1, 2, 3].map(|id| (id, format!("127.0.0.1:{}", port + id as u16))).into();
    let mut running = BTreeMap::new();
    for (&id, address) in &nodes {
        let server = GrpcServer::bind(address).await?;
        let network = GrpcNetwork::<Counter>::new(GrpcConfig::new("counter"), id, address)?;
        let (log, state) = open(format!("{dir}/{id}"), &Identity::new("counter", id), Counter)?;
        let reader = state.reader();
        let raft = Raft::start(id, Config::default(), TokioRuntime, network.clone(), log, state).await?;
        running.insert(id, (raft.clone(), reader, server.serve(network.service(raft), None)));
    }
    match running[&1].0.initialize(nodes).await {
        Ok(()) | Err(InitializeError::AlreadyInitialized { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let leader = running[&1].0.wait(std::time::Duration::from_secs(10)).leader().await?;
    println!("node {leader} leads and has counted to {}", running[&leader].0.write(1).await?);
    for (id, (raft, reader, _serving)) in &running {
        // After it this node has every write that was acknowledged anywhere.
        raft.read().await?;
        println!("node {id} reads {}", reader.view()?.open_table(SUM)?.get(())?.ok_or("no sum")?.value());
    }
    Ok(())
}
