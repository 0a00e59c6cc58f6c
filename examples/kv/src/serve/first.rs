//! The first start of a new cluster.

use std::time::Duration;

use openconsensus::{InitializeError, Raft};
use openconsensus_memstore::kv::Kv;
use tokio::task::JoinSet;

use crate::address::NodeList;
use crate::client::{Client, ClientOptions};
use crate::outcome::{Failure, Result};

/// How long another first member may take to say whether it has data.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// Initializes the cluster if this node has the lowest id of the first members; the others wait for it. So the same
/// command line starts each of them, and only one makes the first entry.
///
/// An empty folder of the lowest id may also mean that its disk was lost. So the others are asked first: when one of
/// them has a log already, nothing is initialized.
pub(super) async fn initialize(raft: &Raft<Kv>, cluster: &str, list: &NodeList) -> Result<()> {
    let id = raft.id();
    match list.0.keys().next() {
        Some(lowest) if *lowest == id => {}
        Some(lowest) => {
            tracing::info!("node {lowest} initializes the cluster");
            return Ok(());
        }
        None => return Err(Failure::usage("--init names no node")),
    }
    refuse_if_running(id, cluster, list).await?;
    match raft.initialize(list.0.clone()).await {
        // A leader has found this node meanwhile.
        Ok(()) | Err(InitializeError::AlreadyInitialized { .. }) => Ok(()),
        Err(InitializeError::Fatal(fatal)) => Err(Failure::fatal(fatal)),
        Err(error) => Err(Failure::refused(error)),
    }
}

async fn refuse_if_running(id: u64, cluster: &str, list: &NodeList) -> Result<()> {
    let options = ClientOptions { timeout: ASK_TIMEOUT, ..ClientOptions::default() };
    let client = Client::new(Vec::new(), options);
    let mut asked = JoinSet::new();
    for (_, address) in list.0.iter().filter(|(other, _)| **other != id) {
        let (client, address) = (client.clone(), address.clone());
        asked.spawn(async move { client.status(&address).await.map(|status| (address, status)) });
    }
    // A member that does not answer has not been started yet, as far as anybody can tell.
    for (address, status) in asked.join_all().await.into_iter().flatten() {
        if status.cluster == cluster && 0 < status.last_index {
            return Err(Failure::refused(format!(
                "node {} at {address} has a log of {} entries of cluster {cluster} already, but the folder of node {id} \
                 is empty: give the right folder; if its data is lost, remove node {id} with `kv member remove {id}`, \
                 start it under a new id with --join, and add that",
                status.id, status.last_index
            )));
        }
    }
    Ok(())
}
