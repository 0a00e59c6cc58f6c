//! Reads everything back through every node.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::check::{Checksum, Contents, Promises, one_checksum};
use super::cluster::{Cluster, healthy_leader};
use super::report::{NodeFigures, Report};
use crate::client::{Client, ClientOptions};
use crate::outcome::{Failure, Result};

/// How many keys are also read one by one through each node.
const SAMPLE_KEYS: usize = 300;

/// How many of those are read at once.
const SAMPLE_CONCURRENCY: usize = 16;

/// Compares what every node returns with what was promised, and the nodes with each other. Nobody may be writing.
pub(super) async fn verify(
    cluster: &mut Cluster,
    promises: Promises<'_>,
    seed: u64,
    timeout: Duration,
    report: &mut Report,
) -> Result<()> {
    let checksums = wait_for_checksums(cluster, timeout).await?;
    match one_checksum(&checksums) {
        Ok(checksum) => report.checksum = Some(checksum),
        Err(error) => report.checksum_error = Some(error),
    }
    let keys = sample(promises, seed);
    let client = cluster.client(ClientOptions { timeout, ..ClientOptions::default() });
    let statuses = cluster.statuses().await;
    for checksum in checksums {
        let node = checksum.node;
        let address = cluster.address(node)?;
        let contents = read_contents(&client, address).await?;
        let sample = read_sample(&client, address, &keys).await?;
        let status = statuses
            .get(&node)
            .ok_or_else(|| Failure::negative(format!("node {node} did not tell its status")))?;
        report.nodes.push(NodeFigures {
            node,
            contents: promises.check_contents(&contents),
            sample: promises.check_sample(&sample),
            log_bytes: status.log_bytes,
            state_bytes: status.state_bytes,
            snapshot_bytes: status.snapshot_bytes,
            checksum,
        });
    }
    Ok(())
}

/// Waits until all nodes have applied the same last entry, and takes their checksums then.
async fn wait_for_checksums(cluster: &mut Cluster, timeout: Duration) -> Result<Vec<Checksum>> {
    let deadline = Instant::now() + timeout;
    let client = cluster.client(ClientOptions { timeout, ..ClientOptions::default() });
    loop {
        wait_quiet(cluster, timeout).await?;
        let mut checksums = Vec::new();
        for node in cluster.running() {
            let taken = client.checksum(cluster.address(node)?).await?;
            checksums.push(Checksum { node, applied: taken.applied_index, checksum: taken.checksum });
        }
        // An election in between adds an entry: then they are not from the same moment, which says nothing.
        let is_same_entry = checksums.windows(2).all(|pair| pair[0].applied == pair[1].applied);
        if is_same_entry || Instant::now() >= deadline {
            return Ok(checksums);
        }
    }
}

/// Waits until every node has applied the last entry of the leader's log.
async fn wait_quiet(cluster: &mut Cluster, timeout: Duration) -> Result<()> {
    let running = cluster.running();
    cluster
        .wait_until("all nodes to apply the last entry", timeout, |statuses| {
            let last = healthy_leader(&running, statuses)?.last_index;
            match statuses.values().find(|status| status.applied_index != last) {
                Some(status) => {
                    Err(format!("node {} has applied {} of {last} entries", status.id, status.applied_index))
                }
                None => Ok(()),
            }
        })
        .await
}

/// Everything that the node at `address` contains, linearizably.
async fn read_contents(client: &Client, address: &str) -> Result<Contents> {
    let mut pages = client.scan_pages_from(address, "", None, 0).await?;
    let mut contents = Contents::new();
    while let Some(page) = pages.next().await? {
        contents.extend(page);
    }
    Ok(contents)
}

/// Some of the keys about which something was promised.
fn sample(promises: Promises<'_>, seed: u64) -> Vec<String> {
    let mut rng = Rng::with_seed(seed);
    let keys: Vec<&str> = promises.keys().collect();
    (0..SAMPLE_KEYS.min(keys.len())).map(|_| keys[rng.usize(..keys.len())].to_owned()).collect()
}

/// Reads keys one by one through the node at `address`, linearizably.
async fn read_sample(
    client: &Client,
    address: &str,
    keys: &[String],
) -> Result<Vec<(String, Option<Vec<u8>>)>> {
    let mut sample = Vec::with_capacity(keys.len());
    for group in keys.chunks(SAMPLE_CONCURRENCY) {
        let reads = group.iter().map(async |key| client.get_from(address, key).await);
        let values = futures::future::try_join_all(reads).await?;
        sample.extend(group.iter().cloned().zip(values));
    }
    Ok(sample)
}
