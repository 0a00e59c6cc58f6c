//! A node in a process of its own, and the load on it if it is the one that leads.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use futures::StreamExt;
use openconsensus::{
    Config, PostcardCodec, Raft, RaftLogStorage, RaftMetrics, RoleName, TokioRuntime, WriteError,
};
use openconsensus_bench::resident_bytes;
use openconsensus_network_grpc::{GrpcConfig, GrpcNetwork, GrpcServer};
use openconsensus_redb::{Identity, RedbLog};
use openconsensus_wal::{WalLog, WalOptions};
use serde::{Deserialize, Serialize};

use super::Failure;
use super::limits::{self, Limits};
use super::stores::{Command, Load, Pace, Paced, SparseLog, Sum};

/// Where the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogKind {
    /// Nowhere: of each entry only so much is remembered as it takes to make it again.
    Sparse,
    /// In a redb file.
    Redb,
    /// In the segments of a write-ahead log.
    Wal,
}

impl LogKind {
    pub(crate) fn is_durable(self) -> bool {
        match self {
            Self::Sparse => false,
            Self::Redb | Self::Wal => true,
        }
    }
}

/// So many streams of writes are kept going. Each of them alone would use up all that may be admitted.
const STREAMS: u64 = 8;

/// What one node is told.
#[derive(Args, Debug)]
pub(crate) struct NodeArgs {
    #[arg(long)]
    pub(crate) id: u64,
    #[arg(long, value_enum)]
    pub(crate) limits: Limits,
    #[arg(long, value_enum)]
    pub(crate) log: LogKind,
    /// Where files go.
    #[arg(long)]
    pub(crate) folder: PathBuf,
    /// Where peers reach it; a port is chosen for 0.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: String,
    /// The others, as `2=127.0.0.1:7002`. Who is told of others leads, and writes.
    #[arg(long, value_parser = peer)]
    pub(crate) peer: Vec<(u64, String)>,
    /// How long to write.
    #[arg(long, default_value_t = 0)]
    pub(crate) seconds: u64,
    /// The smallest command, in bytes.
    #[arg(long, default_value_t = 256)]
    pub(crate) bytes_min: u64,
    /// The largest command, in bytes.
    #[arg(long, default_value_t = 65_536)]
    pub(crate) bytes_max: u64,
    /// Each write to the log takes so long, and a second for each 16 MiB.
    #[arg(long)]
    pub(crate) disk_ms: Option<u64>,
    /// The state machine takes a second for so many bytes.
    #[arg(long)]
    pub(crate) apply_bytes_per_second: Option<u64>,
}

fn peer(text: &str) -> Result<(u64, String), String> {
    let (id, address) = text.split_once('=').ok_or("write ID=HOST:PORT")?;
    Ok((id.parse().map_err(|_| "an id is a number")?, address.to_owned()))
}

/// What is seen of the leader at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) ms: u64,
    pub(crate) resident_bytes: u64,
    /// The larger of the two followers.
    #[serde(default)]
    pub(crate) follower_bytes: u64,
    pub(crate) applied_commands: u64,
    pub(crate) is_leader: bool,
    pub(crate) admitted_bytes: u64,
    pub(crate) uncommitted_bytes: u64,
    pub(crate) tail_bytes: u64,
    pub(crate) apply_backlog_bytes: u64,
    pub(crate) inflight_bytes: u64,
    pub(crate) network_bytes: u64,
    pub(crate) truncations: u64,
    pub(crate) snapshots_sent: u64,
    pub(crate) catch_up_reads: u64,
}

/// Runs a node until its standard input ends, or, on the one that leads, for as long as it is to write. The first line
/// that it prints is its address, each further one a [`Sample`] as JSON.
pub(crate) async fn run(args: NodeArgs) -> Result<(), Failure> {
    let server = GrpcServer::bind(&args.listen).await?;
    let address = server.local_addr().to_string();
    let network = GrpcNetwork::<Load>::new(limits::network(args.limits), args.id, &address)?;
    let disk = args.disk_ms.map_or_else(Pace::default, |ms| Pace {
        call: Duration::from_millis(ms),
        bytes_per_second: Some(16 << 20),
    });
    let machine = Pace { bytes_per_second: args.apply_bytes_per_second, ..Pace::default() };
    std::fs::create_dir_all(&args.folder)?;
    let sum = Sum::new(machine, args.log.is_durable().then(|| args.folder.join("snapshot.json")))?;
    let raft = match args.log {
        LogKind::Sparse => {
            start(&args, &network, Paced { log: SparseLog::default(), pace: disk }, sum).await?
        }
        LogKind::Redb => {
            let log = RedbLog::open(args.folder.join("log.redb"), &Identity::new("memory", args.id))?;
            start(&args, &network, Paced { log, pace: disk }, sum).await?
        }
        LogKind::Wal => {
            let (folder, identity) = (args.folder.join("log"), Identity::new("memory", args.id));
            let log = WalLog::<Load, PostcardCodec>::open(folder, &identity, &WalOptions::default())?;
            start(&args, &network, Paced { log, pace: disk }, sum).await?
        }
    };
    let _serving = server.serve(network.service(raft.clone()), None);
    println!("{address}");
    std::io::stdout().flush()?;
    if args.peer.is_empty() {
        raft.pause_elections(true)?;
        // Until the process that has started this one ends, whatever becomes of it.
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().for_each(drop));
        ended.await?;
        return Ok(());
    }
    lead(&args, raft, network, address).await
}

async fn start<L: RaftLogStorage<Load>>(
    args: &NodeArgs,
    network: &GrpcNetwork<Load>,
    log: L,
    sum: Sum,
) -> Result<Raft<Load>, Failure> {
    Ok(Raft::start(args.id, limits::node(args.limits), TokioRuntime, network.clone(), log, sum).await?)
}

async fn lead(
    args: &NodeArgs,
    raft: Raft<Load>,
    network: GrpcNetwork<Load>,
    address: String,
) -> Result<(), Failure> {
    let members: BTreeMap<u64, String> = args.peer.iter().cloned().chain([(args.id, address)]).collect();
    raft.initialize(members).await?;
    raft.campaign()?;
    raft.wait(Duration::from_secs(20)).leader().await?;
    let applied = Arc::new(AtomicU64::new(0));
    for stream in 0..STREAMS {
        let (raft, applied) = (raft.clone(), applied.clone());
        let commands = Commands { state: stream, min: args.bytes_min, max: args.bytes_max };
        tokio::spawn(write(raft, commands, applied));
    }
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while began.elapsed() < Duration::from_secs(args.seconds) {
        ticks.tick().await;
        let metrics = raft.metrics().latest();
        let sample = sample(&metrics, &network, began, applied.load(Ordering::Relaxed))?;
        println!("{}", serde_json::to_string(&sample)?);
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn sample(
    metrics: &RaftMetrics<Load>,
    network: &GrpcNetwork<Load>,
    began: Instant,
    applied_commands: u64,
) -> Result<Sample, Failure> {
    Ok(Sample {
        ms: began.elapsed().as_millis() as u64,
        resident_bytes: resident_bytes()?,
        // Seen from outside.
        follower_bytes: 0,
        applied_commands,
        is_leader: metrics.role == RoleName::Leader,
        admitted_bytes: metrics.queues.admitted_bytes,
        uncommitted_bytes: metrics.queues.uncommitted_bytes,
        tail_bytes: metrics.tail_bytes,
        apply_backlog_bytes: metrics.queues.apply_backlog_bytes,
        inflight_bytes: metrics.peers.values().map(|peer| peer.inflight_bytes).max().unwrap_or(0),
        network_bytes: network.peers().values().map(|peer| peer.queued_bytes).sum(),
        truncations: metrics.counters.truncations,
        snapshots_sent: metrics.counters.snapshots_sent,
        catch_up_reads: metrics.counters.catch_up_reads,
    })
}

/// Keeps one stream of writes going for ever.
async fn write(raft: Raft<Load>, commands: Commands, applied: Arc<AtomicU64>) {
    let mut outcomes = std::pin::pin!(raft.write_stream(commands));
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Ok(_) => {
                applied.fetch_add(1, Ordering::Relaxed);
            }
            Err(WriteError::Fatal(_)) => return,
            // Not the leader for the moment: it asks for its leadership again, and there is nobody else to write to.
            Err(_) => {
                let _ = raft.campaign();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Commands without end, of all sizes between two limits, small ones as often as large ones.
struct Commands {
    state: u64,
    min: u64,
    max: u64,
}

impl Iterator for Commands {
    type Item = Command;

    fn next(&mut self) -> Option<Command> {
        // One step of SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let share = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        let bytes = self.min as f64 * (self.max as f64 / self.min as f64).powf(share);
        Some(Command::new(mixed as u8, bytes as usize))
    }
}

/// The limits of a node of this measurement.
pub(crate) fn bound(limits: Limits, peers: u64) -> u64 {
    let config: Config = limits::node(limits);
    let network: GrpcConfig = limits::network(limits);
    config.memory_bytes_max(peers).saturating_add(network.memory_bytes_max(peers))
}
