//! Three processes of one side: started with default settings, found out about, and ended.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kv::client::{Client, ClientOptions};
use kv::process::{Process, free_addresses, tail};

use openconsensus_bench::{Failure, processor_time_of};

use crate::calls::{self, Connection, Side};

const NODES: usize = 3;

/// How long a new cluster may take until it has a leader.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a new cluster may take until it is at rest.
const REST_TIMEOUT: Duration = Duration::from_secs(60);

/// A cluster is at rest when it writes less than this
const REST_BYTES_MAX: u64 = 256 << 10;

/// in this time.
const REST_LOOK: Duration = Duration::from_millis(500);

/// Lines of each log that an error shows.
const TAIL_LINES: usize = 8;

/// A program that is measured.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) side: Side,
    path: PathBuf,
    /// What stands before the arguments of a node.
    pub(crate) prefix: Vec<OsString>,
}

impl Program {
    pub(crate) fn new(name: &str, side: Side, path: &Path) -> Self {
        Self { name: name.to_owned(), side, path: path.to_owned(), prefix: Vec::new() }
    }
}

/// Its processes. They end with this value.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) side: Side,
    processes: Vec<Process>,
    addresses: Vec<String>,
    pub(crate) leader: String,
}

/// What all processes have used since they were started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    /// Processor time, user and system.
    pub(crate) cpu: Duration,
    /// Syncs of their logs.
    pub(crate) syncs: u64,
}

impl Cluster {
    pub(crate) async fn start(program: &Program, folder: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(folder)?;
        let addresses: Vec<_> = free_addresses(2 * NODES)?.iter().map(ToString::to_string).collect();
        let (addresses, peers) = addresses.split_at(NODES);
        let mut processes = Vec::new();
        for number in 0..NODES {
            let name = format!("node-{}", number + 1);
            let data = folder.join(&name);
            let args = match program.side {
                Side::Kv => kv_args(number, addresses, &data),
                Side::Etcd => etcd_args(number, addresses, peers, &data),
            };
            let mut process = Process::new(&program.path, folder.join(format!("{name}.log")));
            process.start(&[program.prefix.clone(), args].concat())?;
            processes.push(process);
        }
        let addresses = addresses.to_vec();
        let mut cluster = Self { side: program.side, processes, addresses, leader: String::new() };
        match cluster.find_leader().await {
            Ok(()) => Ok(cluster),
            Err(error) => Err(cluster.explain(&error)),
        }
    }

    /// Looks for the leader, which may have changed.
    pub(crate) async fn find_leader(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            for address in &self.addresses {
                if calls::leads(self.side, address).await.unwrap_or(false) {
                    self.leader.clone_from(address);
                    return Ok(());
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("no leader within {} s", START_TIMEOUT.as_secs()).into())
    }

    /// Connections to the leader.
    pub(crate) async fn connect(&self, count: usize) -> Result<Vec<Connection>, Failure> {
        let mut connections = Vec::new();
        for _ in 0..count {
            connections.push(Connection::open(self.side, &self.leader).await?);
        }
        Ok(connections)
    }

    /// A client of `kv` that knows the leader, with the connections that it makes by itself.
    pub(crate) fn kv_client(&self) -> Client {
        Client::new(vec![self.leader.clone()], ClientOptions::default())
    }

    pub(crate) async fn used(&self) -> Result<Used, Failure> {
        let mut used = Used { cpu: Duration::ZERO, syncs: 0 };
        for (process, address) in self.processes.iter().zip(&self.addresses) {
            let id = process.id().ok_or("a process has ended")?;
            used.cpu += processor_time_of(id)?;
            used.syncs += calls::log_syncs(self.side, address).await?;
        }
        Ok(used)
    }

    /// Returns when its processes write next to nothing any more: a new log is filled with zeros ahead of need, which is
    /// over before a cluster has served for long, and is not what is measured.
    pub(crate) async fn come_to_rest(&self) -> Result<(), Failure> {
        let written = || {
            let ids = self.processes.iter().filter_map(Process::id);
            ids.map(disk_bytes).sum::<Result<u64, Failure>>()
        };
        let deadline = Instant::now() + REST_TIMEOUT;
        let mut before = written()?;
        while Instant::now() < deadline {
            tokio::time::sleep(REST_LOOK).await;
            let now = written()?;
            if now - before < REST_BYTES_MAX {
                return Ok(());
            }
            before = now;
        }
        Err(format!("it still writes {} s after its start", REST_TIMEOUT.as_secs()).into())
    }

    fn explain(&self, error: &Failure) -> Failure {
        let tails = self.processes.iter().map(|process| tail(process.log(), TAIL_LINES).unwrap_or_default());
        format!("{error}\n{}", tails.collect::<Vec<_>>().join("\n")).into()
    }

    /// The ids of its processes.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.processes.iter().filter_map(Process::id).collect()
    }

    pub(crate) async fn stop(&mut self) {
        for process in &mut self.processes {
            // What it does at the end is not measured, and its data is removed.
            let _ = process.kill().await;
        }
    }
}

fn kv_args(number: usize, addresses: &[String], data: &Path) -> Vec<OsString> {
    let members: Vec<_> = (1..).zip(addresses).map(|(id, address)| format!("{id}={address}")).collect();
    let mut args: Vec<OsString> = vec!["serve".into(), "--data-dir".into(), data.into()];
    let id = (number + 1).to_string();
    args.extend(
        ["--id", &id, "--listen", &addresses[number], "--init", &members.join(",")].map(OsString::from),
    );
    args
}

fn etcd_args(number: usize, addresses: &[String], peers: &[String], data: &Path) -> Vec<OsString> {
    let url = |address: &str| format!("http://{address}");
    let members: Vec<_> = (1..).zip(peers).map(|(id, peer)| format!("n{id}={}", url(peer))).collect();
    let mut args: Vec<OsString> = vec!["--data-dir".into(), data.into()];
    for (option, value) in [
        ("--name", format!("n{}", number + 1)),
        ("--listen-client-urls", url(&addresses[number])),
        ("--advertise-client-urls", url(&addresses[number])),
        ("--listen-peer-urls", url(&peers[number])),
        ("--initial-advertise-peer-urls", url(&peers[number])),
        ("--initial-cluster", members.join(",")),
        ("--initial-cluster-state", "new".into()),
    ] {
        args.extend([option.into(), value.into()]);
    }
    args
}

/// What a process has caused to be written. The kernel counts whole pieces of its cache for every write into them, so it
/// tells rest from work, and no more.
fn disk_bytes(id: u32) -> Result<u64, Failure> {
    let text = fs::read_to_string(format!("/proc/{id}/io"))?;
    let bytes = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    bytes.and_then(|bytes| bytes.parse().ok()).ok_or_else(|| format!("not an io: {text:?}").into())
}
