//! The arguments of `kv serve`, and what they come to when they fit together.

use std::fs;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use clap::Args;
use openconsensus::Config;
use openconsensus_wal::WalOptions;
use tokio::runtime::{Builder, Runtime};

use super::stores::LogStore;
use crate::address::{NodeList, is_any_host, is_reachable, parse_address};
use crate::outcome::{Failure, Result};

/// `kv serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// The id of this node: a number that no other node of the cluster has or has had
    #[arg(long)]
    id: u64,
    /// Where to listen for peers and clients; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    listen: String,
    /// Where the files of this node are; made when it does not exist
    #[arg(long, value_name = "FOLDER")]
    data_dir: PathBuf,
    /// Where a new node stores its log, by default in a write-ahead log; a node that has one keeps it where it is
    #[arg(long, value_enum, value_name = "STORE")]
    log_store: Option<LogStore>,
    /// The size of the files of a write-ahead log: two of them or more are there, filled with zeros
    #[arg(long, default_value_t = 64 << 20, value_name = "BYTES")]
    log_segment_bytes: u64,
    /// The name of the cluster: nodes of another one are refused
    #[arg(long, default_value = "kv")]
    cluster: String,
    /// Where peers and clients reach this node, if that is not where it listens
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    advertise: Option<String>,
    /// All first members of a new cluster, this one among them; the same list on each of them. Not looked at when the
    /// folder has data
    #[arg(long, value_name = "1=HOST:PORT,...", conflicts_with = "join")]
    init: Option<NodeList>,
    /// Start with an empty folder and wait to be added with `kv member add`. Not looked at when the folder has data
    #[arg(long)]
    join: bool,
    /// Reach these peers here and not where the members know them: for tunnels, proxies and tests of the network
    #[arg(long, value_name = "2=HOST:PORT,...")]
    peer_via: Option<NodeList>,
    /// How many threads serve clients and peers; files have threads of their own. One thread costs least for each request,
    /// several serve more of them at a time. By default as many as there are processors, and one where there are two
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Expose metrics for Prometheus at http://HOST:PORT/metrics; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_address)]
    metrics: Option<String>,
    /// Print the line that says that the node serves as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten, next_help_heading = "Timeouts and limits")]
    config: ConfigArgs,
}

impl ServeArgs {
    /// The runtime of a node.
    ///
    /// # Errors
    ///
    /// The threads cannot be started.
    pub fn runtime(&self) -> io::Result<Runtime> {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        // On one thread, tasks run in the order in which they were woken: a connection writes the answers to all requests
        // that have become ready together, and nobody is woken to share the work. On two processors a second thread takes
        // from the disk's threads and from the clients more than it gives.
        let by_default = if processors <= 2 { 1 } else { processors };
        let mut builder = match self.threads.map_or(by_default, usize::from) {
            1 => Builder::new_current_thread(),
            threads => {
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(threads);
                builder
            }
        };
        builder.enable_all().build()
    }
}

/// The values of [`Config`] that are set most often.
#[derive(Clone, Debug, Args)]
struct ConfigArgs {
    /// A follower that hears of no leader for between this and twice this many milliseconds starts an election
    #[arg(long, default_value_t = 150, value_name = "MS")]
    election_timeout_ms: u64,
    /// How often a leader says that it lives; by default a fifth of the election timeout
    #[arg(long, value_name = "MS")]
    heartbeat_interval_ms: Option<u64>,
    /// Build a snapshot after so many entries; 0 for only when asked
    #[arg(long, default_value_t = 100_000, value_name = "ENTRIES")]
    snapshot_after: u64,
    /// How many entries stay in the log behind a snapshot
    #[arg(long, default_value_t = 10_000, value_name = "ENTRIES")]
    log_keep_entries: u64,
    /// How many more entries stay there for peers that are late but answer
    #[arg(long, default_value_t = 1_000_000, value_name = "ENTRIES")]
    log_hold_entries: u64,
    /// The most bytes of one command
    #[arg(long, default_value_t = 4 << 20, value_name = "BYTES")]
    command_bytes: u64,
    /// The most bytes of commands that wait to be committed; beyond it, writers wait
    #[arg(long, default_value_t = 64 << 20, value_name = "BYTES")]
    uncommitted_bytes: u64,
    /// How far behind a learner may be and still be promoted
    #[arg(long, default_value_t = 1000, value_name = "ENTRIES")]
    promotion_lag: u64,
    /// How long a read waits for a leader to confirm it
    #[arg(long, default_value_t = 5000, value_name = "MS")]
    read_timeout_ms: u64,
    /// Let leaders have leases, for `get --lease`: the most by which the clocks of two nodes may differ in speed, in
    /// parts per million, as in 1000. Such reads are wrong if clocks differ by more. Without it there are no leases
    #[arg(long, value_name = "PPM")]
    lease_drift_ppm: Option<u64>,
}

impl ConfigArgs {
    fn config(&self) -> Config {
        let election = self.election_timeout_ms;
        Config {
            election_timeout_ms_min: election,
            election_timeout_ms_max: election.saturating_mul(2),
            heartbeat_interval_ms: self.heartbeat_interval_ms.unwrap_or(election / 5),
            snapshot_after_entries: (0 < self.snapshot_after).then_some(self.snapshot_after),
            log_keep_entries: self.log_keep_entries,
            log_hold_entries_max: self.log_hold_entries.max(self.log_keep_entries),
            command_bytes_max: self.command_bytes,
            uncommitted_bytes_max: self.uncommitted_bytes,
            promotion_lag_entries_max: self.promotion_lag,
            read_timeout_ms: self.read_timeout_ms,
            lease_clock_drift_ppm_max: self.lease_drift_ppm,
            ..Config::default()
        }
    }
}

/// How an empty node comes to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It is one of the first members.
    First(NodeList),
    /// It waits to be added.
    Joins,
    /// Nothing was said: there must be data.
    Restarts,
}

impl Origin {
    /// What was said, held against what is in the data folder.
    fn of(
        id: u64,
        advertise: Option<&str>,
        data_dir: &Path,
        init: Option<NodeList>,
        join: bool,
    ) -> Result<Self> {
        let is_fresh = is_fresh(data_dir)
            .map_err(|error| Failure::refused(format!("cannot read {}: {error}", data_dir.display())))?;
        match init {
            Some(list) => {
                if is_fresh {
                    check_own_entry(id, advertise, &list)?;
                }
                Ok(Self::First(list))
            }
            None if join => Ok(Self::Joins),
            None if is_fresh => Err(Failure::usage(format!(
                "{} has no data: start a new cluster with --init 1=HOST:PORT,2=HOST:PORT,..., or add this node \
                 to one with --join; if it had data, this is the wrong folder",
                data_dir.display()
            ))),
            None => Ok(Self::Restarts),
        }
    }
}

/// Arguments that fit together.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) id: u64,
    pub(super) cluster: String,
    pub(super) listen: String,
    /// `None`: where it turns out to listen.
    pub(super) advertise: Option<String>,
    pub(super) data_dir: PathBuf,
    /// Said by the operator.
    pub(super) log_store: Option<LogStore>,
    pub(super) wal: WalOptions,
    pub(super) origin: Origin,
    pub(super) peer_via: NodeList,
    pub(super) config: Config,
    pub(super) metrics: Option<String>,
    pub(super) json: bool,
}

impl Plan {
    /// Checks what can be checked without touching anything.
    pub(super) fn new(args: ServeArgs) -> Result<Self> {
        let ServeArgs {
            id,
            listen,
            data_dir,
            log_store,
            log_segment_bytes,
            cluster,
            advertise,
            init,
            join,
            peer_via,
            metrics,
            json,
            threads: _,
            config,
        } = args;
        let config = config.config();
        config.clone().validate().map_err(|error| Failure::usage(format!("configuration: {error}")))?;
        if cluster.is_empty() {
            return Err(Failure::usage("--cluster is empty: give the cluster a name"));
        }
        let takes_any_port = listen.ends_with(":0");
        let advertise = advertise.or_else(|| (!takes_any_port).then(|| listen.clone()));
        let is_wrong = match &advertise {
            Some(address) => !is_reachable(address),
            None => is_any_host(&listen),
        };
        if is_wrong {
            let address = advertise.unwrap_or(listen);
            return Err(Failure::usage(format!(
                "peers cannot connect to {address}: name a host and a port that they can reach with --advertise"
            )));
        }
        let origin = Origin::of(id, advertise.as_deref(), &data_dir, init, join)?;
        let peer_via = peer_via.unwrap_or_default();
        let wal = WalOptions { segment_bytes: log_segment_bytes, ..WalOptions::default() };
        wal.check().map_err(|error| Failure::usage(format!("--log-segment-bytes: {error}")))?;
        Ok(Self {
            id,
            cluster,
            listen,
            advertise,
            data_dir,
            log_store,
            wal,
            origin,
            peer_via,
            config,
            metrics,
            json,
        })
    }
}

/// Whether nothing was ever stored there.
fn is_fresh(dir: &Path) -> io::Result<bool> {
    match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().transpose().map(|first| first.is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// A first member must be in the list, under the address at which the others will look for it.
///
/// # Errors
///
/// What does not fit, and what would.
pub(super) fn check_own_entry(id: u64, advertise: Option<&str>, list: &NodeList) -> Result<()> {
    let ids: Vec<String> = list.0.keys().map(u64::to_string).collect();
    let Some(listed) = list.0.get(&id) else {
        return Err(Failure::usage(format!(
            "--init names nodes {} and not this one, node {id}: name every first member, or start with --join",
            ids.join(", ")
        )));
    };
    match advertise {
        Some(own) if own == listed => Ok(()),
        Some(own) => Err(Failure::usage(format!(
            "--init says that node {id} is at {listed}, but this node is at {own}: correct the list, or --listen, or \
             say --advertise {listed}"
        ))),
        None => Err(Failure::usage(format!(
            "--init says that node {id} is at {listed}, but --listen takes any free port: listen on that of {listed}, \
             or say --advertise {listed}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tokio::runtime::RuntimeFlavor;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn plan(dir: &Path, line: &str) -> Result<Plan> {
        let mut args = vec!["serve", "--data-dir", dir.to_str().unwrap()];
        args.extend(line.split_whitespace());
        Plan::new(Line::try_parse_from(args).map_err(Failure::usage)?.serve)
    }

    #[test]
    fn a_first_member_is_in_the_list_at_its_own_address() {
        let dir = tempfile::tempdir().unwrap();
        let list = "--init 1=h:1,2=h:2";
        let first = plan(dir.path(), &format!("--id 1 --listen h:1 {list}")).unwrap();
        assert_eq!(first.origin, Origin::First("1=h:1,2=h:2".parse().unwrap()));
        assert_eq!(first.advertise.as_deref(), Some("h:1"));
        assert!(plan(dir.path(), &format!("--id 2 --listen 0.0.0.0:9 --advertise h:2 {list}")).is_ok());
        for (wrong, says) in [
            (format!("--id 3 --listen h:3 {list}"), "not this one, node 3"),
            (format!("--id 1 --listen h:7 {list}"), "node 1 is at h:1, but this node is at h:7"),
            (format!("--id 1 --listen h:0 {list}"), "any free port"),
            (format!("--id 1 --listen 0.0.0.0:1 {list}"), "--advertise"),
            ("--id 1 --listen h:1 --init 1=h:1,1=h:2".into(), "named twice"),
            ("--id 1 --listen h:1".into(), "has no data"),
            (format!("--id 1 --listen h:1 --join {list}"), "cannot be used with"),
            (format!("--id 1 --listen h:1 {list} --heartbeat-interval-ms 900"), "heartbeat_interval_ms"),
        ] {
            let error = plan(dir.path(), &wrong).unwrap_err();
            assert!(error.text.contains(says), "{wrong}: {error}");
            assert_eq!(error.exit, crate::outcome::Exit::Usage);
        }
    }

    #[test]
    fn a_node_runs_on_as_many_threads_as_are_wanted() {
        let runtime = |line: &str| {
            let args = format!("serve --id 1 --listen h:1 --data-dir x {line}");
            let line = Line::try_parse_from(args.split_whitespace()).map_err(|error| error.to_string())?;
            line.serve.runtime().map_err(|error| error.to_string())
        };
        let one = runtime("--threads 1").unwrap();
        assert_eq!(one.handle().runtime_flavor(), RuntimeFlavor::CurrentThread);
        let three = runtime("--threads 3").unwrap();
        assert_eq!(three.handle().runtime_flavor(), RuntimeFlavor::MultiThread);
        assert_eq!(three.metrics().num_workers(), 3);
        let processors = std::thread::available_parallelism().unwrap().get();
        let expected = if processors <= 2 { 1 } else { processors };
        assert_eq!(runtime("").unwrap().metrics().num_workers(), expected);
        assert!(runtime("--threads 0").unwrap_err().contains("0 is not in 1..=1024"));
    }

    #[test]
    fn with_data_nothing_need_be_said_and_the_list_is_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(plan(dir.path(), "--id 1 --listen h:1 --join").unwrap().origin, Origin::Joins);
        fs::write(dir.path().join("log.redb"), "").unwrap();
        assert_eq!(plan(dir.path(), "--id 1 --listen h:1").unwrap().origin, Origin::Restarts);
        assert!(plan(dir.path(), "--id 1 --listen h:1 --init 2=h:2").is_ok());
    }

    #[test]
    fn peers_must_be_able_to_reach_the_node() {
        let dir = tempfile::tempdir().unwrap();
        for wrong in ["0.0.0.0:1", "[::]:1", "0.0.0.0:0", "h:1 --advertise h:0"] {
            let error = plan(dir.path(), &format!("--id 1 --join --listen {wrong}")).unwrap_err();
            assert!(error.text.contains("cannot connect"), "{wrong}: {error}");
        }
        let any = plan(dir.path(), "--id 1 --join --listen 127.0.0.1:0").unwrap();
        assert_eq!(any.advertise, None);
    }
}
