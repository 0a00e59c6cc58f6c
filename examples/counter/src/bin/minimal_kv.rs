//! A durable, replicated key-value store of one's own. This is one node of it, which takes commands from its standard
//! input. Start three, each in a terminal of its own:
//!
//! ```text
//! cargo run -p counter --bin minimal_kv -- 1 kv-data/1 1=127.0.0.1:7501,2=127.0.0.1:7502,3=127.0.0.1:7503 init
//! cargo run -p counter --bin minimal_kv -- 2 kv-data/2 1=127.0.0.1:7501,2=127.0.0.1:7502,3=127.0.0.1:7503
//! cargo run -p counter --bin minimal_kv -- 3 kv-data/3 1=127.0.0.1:7501,2=127.0.0.1:7502,3=127.0.0.1:7503
//! ```
//!
//! Then `put KEY VALUE`, `delete KEY`, `get KEY`, `list` and `status`; the end of the input stops the node. Kill any of
//! them, and start it again.

use std::collections::BTreeMap;

use openconsensus::{ApplyBatch, Config, InitializeError, Raft, TokioRuntime, TypeConfig};
use openconsensus_network_grpc::{GrpcConfig, GrpcNetwork, GrpcServer};
use openconsensus_redb::redb::{ReadableTable, TableDefinition};
use openconsensus_redb::{Application, BoxError, Identity, StateReader, StateTable, Transaction, open};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

/// What is replicated.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Change {
    Put { key: String, value: String },
    Delete { key: String },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Store;

impl TypeConfig for Store {
    type Command = Change;
    /// What was there before.
    type Response = Option<String>;
    type NodeId = u64;
    type Node = String;

    fn command_bytes(command: &Change) -> u64 {
        64 + match command {
            Change::Put { key, value } => key.len() + value.len(),
            Change::Delete { key } => key.len(),
        } as u64
    }
}

const PAIRS: TableDefinition<&str, &str> = TableDefinition::new("pairs");

impl Application<Self> for Store {
    fn tables(&self) -> Vec<StateTable> {
        vec![StateTable::new(PAIRS)]
    }

    fn apply(
        &self,
        transaction: &Transaction<'_>,
        batch: &ApplyBatch<Self>,
    ) -> Result<Vec<Option<String>>, BoxError> {
        let mut pairs = transaction.open_table(PAIRS)?;
        let mut responses = Vec::new();
        for (_, change) in batch.commands() {
            let before = match change {
                Change::Put { key, value } => pairs.insert(&**key, &**value)?,
                Change::Delete { key } => pairs.remove(&**key)?,
            };
            responses.push(before.map(|value| value.value().to_owned()));
        }
        Ok(responses)
    }
}

const USAGE: &str = "usage: minimal_kv ID FOLDER ID=HOST:PORT,ID=HOST:PORT,... [init]";

/// The nodes of a list like `1=127.0.0.1:7501,2=127.0.0.1:7502`.
fn parse_nodes(list: &str) -> Result<BTreeMap<u64, String>, BoxError> {
    let mut nodes = BTreeMap::new();
    for node in list.split(',') {
        let (id, address) = node.split_once('=').ok_or(USAGE)?;
        nodes.insert(id.parse()?, address.to_owned());
    }
    Ok(nodes)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [id, folder, nodes, init @ ..] = &arguments[..] else { return Err(USAGE.into()) };
    let (id, nodes): (u64, _) = (id.parse()?, parse_nodes(nodes)?);
    let address = nodes.get(&id).ok_or("this node is not in the list")?;

    let server = GrpcServer::bind(address).await?;
    let network = GrpcNetwork::<Store>::new(GrpcConfig::new("minimal"), id, address)?;
    let (log, state) = open(folder, &Identity::new("minimal", id), Store)?;
    let reader = state.reader();
    let raft = Raft::start(id, Config::default(), TokioRuntime, network.clone(), log, state).await?;
    let serving = server.serve(network.service(raft.clone()), None);
    if !init.is_empty() {
        match raft.initialize(nodes).await {
            Ok(()) | Err(InitializeError::AlreadyInitialized { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    println!("node {id} is ready");

    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match answer(&raft, &reader, &line).await {
            Ok(answer) => println!("{answer}"),
            Err(error) => println!("error: {error}"),
        }
    }
    serving.shutdown().await;
    raft.shutdown().await;
    Ok(())
}

/// Carries out a line of the input. An error says whether it may have happened all the same.
async fn answer(raft: &Raft<Store>, reader: &StateReader<Store>, line: &str) -> Result<String, BoxError> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let change = match &words[..] {
        [put, key, value] if put == "put" => Change::Put { key: key.clone(), value: value.clone() },
        [delete, key] if delete == "delete" => Change::Delete { key: key.clone() },
        [get, key] if get == "get" => {
            raft.read().await?;
            let value = reader.view()?.open_table(PAIRS)?.get(&**key)?.map(|value| value.value().to_owned());
            return Ok(value.unwrap_or("(none)".into()));
        }
        [list] if list == "list" => {
            raft.read().await?;
            let pairs = reader.view()?.open_table(PAIRS)?;
            let pairs = pairs
                .iter()?
                .map(|pair| pair.map(|(key, value)| format!("{}={}", key.value(), value.value())));
            return Ok(pairs.collect::<Result<Vec<_>, _>>()?.join(" "));
        }
        [status] if status == "status" => {
            let metrics = raft.metrics().latest();
            return Ok(format!(
                "{} in term {}, applied {}",
                metrics.role, metrics.term, metrics.applied.index
            ));
        }
        _ => return Err("put KEY VALUE, delete KEY, get KEY, list or status".into()),
    };
    Ok(raft.write(change).await?.unwrap_or("(none)".into()))
}
