//! `kv serve`: one node, from its files to its port and back.

mod exposition;
mod first;
mod plan;
mod stop;
mod stores;
mod via;

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openconsensus::{Fatal, Raft, RaftMetrics, StartError, TokioRuntime};
use openconsensus_memstore::kv::Kv;
use openconsensus_network_grpc::{GrpcConfig, GrpcNetwork, GrpcServer, Serving};
use openconsensus_redb::Identity;
use openconsensus_redb::kv::KvReader;
use tonic::service::Routes;

use crate::outcome::{Exit, Failure, Result};
use crate::proto::kv_server::KvServer;
use crate::service::{KvService, NodeInfo};
use exposition::{Exposing, Exposition};
use plan::{Origin, Plan};
use stores::{Log, Stores};
use via::Via;

pub use plan::ServeArgs;
pub use stores::LogStore;

/// How long a node takes to leave at most, from the signal on.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Runs a node until it is told to stop with SIGTERM or SIGINT.
///
/// # Errors
///
/// Why it could not start, or has stopped by itself.
pub async fn run(args: ServeArgs) -> Result<Exit> {
    let plan = Plan::new(args)?;
    let signals = stop::Signals::new()?;
    let node = Node::start(&plan).await?;
    announce(&plan, &node)?;
    node.run_until(signals).await
}

/// A node that serves.
struct Node {
    raft: Raft<Kv>,
    serving: Serving,
    address: String,
    /// Only where it was asked for.
    exposing: Option<Exposing>,
}

impl Node {
    async fn start(plan: &Plan) -> Result<Self> {
        // First of all the port: a second start of the same node must not get as far as its files.
        let server = GrpcServer::bind(&plan.listen).await.map_err(Failure::refused)?;
        let exposition = match &plan.metrics {
            Some(address) => Some(Exposition::bind(address).await?),
            None => None,
        };
        let address = plan.advertise.clone().unwrap_or_else(|| server.local_addr().to_string());
        let identity = Identity::new(&plan.cluster, plan.id);
        let (data_dir, asked, options) = (plan.data_dir.clone(), plan.log_store, plan.wal.clone());
        let opened = tokio::task::spawn_blocking(move || stores::open(&data_dir, &identity, asked, &options));
        let Stores { log, store, state_machine } = opened
            .await
            .map_err(|error| Failure::fatal(format!("the files could not be opened: {error}")))??;
        let reader = KvReader::new(&state_machine);
        let grpc = GrpcConfig::new(&plan.cluster);
        let network = GrpcNetwork::<Kv>::new(grpc, plan.id, &address).map_err(Failure::refused)?;
        let config = plan.config.clone();
        let via = Via { network: network.clone(), peers: plan.peer_via.clone() };
        let started = match log {
            Log::Wal(log) => Raft::start(plan.id, config, TokioRuntime, via, log, state_machine).await,
            Log::Redb(log) => Raft::start(plan.id, config, TokioRuntime, via, log, state_machine).await,
        };
        let raft = started.map_err(start_failure)?;
        let info = NodeInfo {
            cluster: plan.cluster.clone(),
            address: address.clone(),
            data_dir: plan.data_dir.clone(),
            log: store.path(&plan.data_dir),
            started: Instant::now(),
        };
        // Twice the limit of a command: one that is over it is refused with the numbers, not cut off by the transport.
        let request_bytes_max = plan.config.command_bytes_max.saturating_mul(2).saturating_add(1 << 20);
        let service = KvServer::new(KvService::new(raft.clone(), reader, network.clone(), info))
            .max_decoding_message_size(usize::try_from(request_bytes_max).unwrap_or(usize::MAX));
        let serving = server.serve(network.service(raft.clone()), Some(Routes::new(service)));
        let mut node = Self { raft, serving, address, exposing: None };
        match node.enter(plan).await.and_then(|()| node.expose(exposition)) {
            Ok(()) => Ok(node),
            Err(failure) => {
                node.stop().await;
                Err(failure)
            }
        }
    }

    fn expose(&mut self, exposition: Option<Exposition>) -> Result<()> {
        self.exposing = exposition.map(|exposition| exposition.serve(&self.raft)).transpose()?;
        Ok(())
    }

    /// Becomes a member of a cluster, if that is up to this node.
    async fn enter(&self, plan: &Plan) -> Result<()> {
        let metrics = self.raft.metrics().latest();
        let is_empty = metrics.last.index == 0;
        match &plan.origin {
            Origin::First(list) if is_empty => {
                plan::check_own_entry(plan.id, Some(&self.address), list)?;
                first::initialize(&self.raft, &plan.cluster, list).await
            }
            Origin::Joins if is_empty => {
                tracing::info!("waiting to be added: kv member add {}={}", plan.id, self.address);
                Ok(())
            }
            Origin::Restarts if is_empty => {
                tracing::warn!(
                    "the log is empty: waiting for a leader that has node {} as a member",
                    plan.id
                );
                Ok(())
            }
            Origin::First(_) | Origin::Joins | Origin::Restarts => {
                self.check_address(plan.id, &metrics);
                Ok(())
            }
        }
    }

    fn check_address(&self, id: u64, metrics: &RaftMetrics<Kv>) {
        match metrics.membership.membership.node(id) {
            Some(known) if *known != self.address => {
                tracing::warn!("the members know node {id} at {known}, but it is at {}", self.address);
            }
            Some(_) => {}
            None => tracing::warn!("node {id} is not a member, as far as its log tells"),
        }
    }

    async fn run_until(self, mut signals: stop::Signals) -> Result<Exit> {
        let raft = self.raft.clone();
        let signal = tokio::select! {
            biased;
            fatal = stopped(&raft) => {
                self.stop().await;
                return Err(Failure::fatal(format!("the node has stopped: {fatal}")));
            }
            signal = signals.next() => signal,
        };
        tracing::info!("{signal}: stopping");
        let leave = async {
            stop::hand_over(&raft).await;
            self.stop().await;
        };
        tokio::select! {
            biased;
            done = tokio::time::timeout(STOP_TIMEOUT, leave) => match done {
                Ok(()) => Ok(Exit::Done),
                Err(_) => Err(Failure::fatal(format!("not stopped within {} s", STOP_TIMEOUT.as_secs()))),
            },
            signal = signals.next() => Err(Failure::negative(format!("{signal} again: stopped at once"))),
        }
    }

    /// Answers every call that waits, closes the files, and frees the port.
    async fn stop(self) {
        self.raft.shutdown().await;
        self.serving.shutdown().await;
    }
}

/// Resolves when the node has stopped by itself.
async fn stopped(raft: &Raft<Kv>) -> Fatal {
    let mut watch = raft.metrics();
    let mut metrics: Arc<RaftMetrics<Kv>> = watch.latest();
    loop {
        if let Some(fatal) = &metrics.fatal {
            return fatal.clone();
        }
        metrics = watch.changed().await;
    }
}

fn start_failure(error: StartError) -> Failure {
    match error {
        StartError::Config(error) => Failure::usage(format!("configuration: {error}")),
        error => Failure::refused(error),
    }
}

/// The one line on standard output, for people and scripts that wait for it.
fn announce(plan: &Plan, node: &Node) -> Result<()> {
    let listen = node.serving.local_addr();
    let metrics = node.exposing.as_ref().map(|exposing| format!("http://{}/metrics", exposing.address()));
    let line = if plan.json {
        serde_json::json!({
            "event": "ready",
            "id": plan.id,
            "cluster": plan.cluster,
            "listen": listen.to_string(),
            "address": node.address,
            "metrics": metrics,
        })
        .to_string()
    } else {
        format!(
            "ready: node {} of cluster {} at {}, listening on {listen}{}",
            plan.id,
            plan.cluster,
            node.address,
            metrics.map_or_else(String::new, |url| format!(", metrics at {url}"))
        )
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush())?;
    Ok(())
}
