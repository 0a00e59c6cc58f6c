//! What is measured, and in which order.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use openconsensus_bench::{Failure, Options, Report, Sample, parameters};

use super::catch_up::{CatchUp, From};
use super::nodes::{LogKind, NetKind};
use super::restart::{Restart, What};
use super::soak::Soak;
use super::throughput::Throughput;
use super::{Task, measure};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Throughput against the size of commands.
    Payload,
    /// Throughput against the number of nodes.
    Nodes,
    /// The restart of a node with a long log.
    Restart,
    /// A follower that was away.
    CatchUp,
    /// Full load for a long time.
    Soak,
}

impl Part {
    const ALL: [Self; 5] = [Self::Payload, Self::Nodes, Self::Restart, Self::CatchUp, Self::Soak];
}

/// What the benchmark can be told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Only these kinds of log storage
    #[arg(long, value_enum, value_delimiter = ',')]
    logs: Vec<LogKind>,
    /// Files are made below this folder, and removed: the disk under it is measured
    #[arg(long, default_value = "target/scaling")]
    data: PathBuf,
    /// The length of the log whose restart is measured
    #[arg(long, default_value_t = 10_000_000)]
    entries: u64,
    /// How long full load is kept up, in seconds
    #[arg(long, default_value_t = 60)]
    soak_seconds: u64,
    /// How much a follower lacks that was away, in MiB
    #[arg(long, default_value_t = 256)]
    lacking_mib: u64,
}

impl Arguments {
    fn logs(&self) -> Vec<LogKind> {
        if self.logs.is_empty() { LogKind::ALL.to_vec() } else { self.logs.clone() }
    }

    /// A folder of this name without anything in it.
    fn folder(&self, name: &str) -> Result<PathBuf, Failure> {
        let folder = self.data.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    std::fs::create_dir_all(&arguments.data)?;
    let mut report = Report::new("scaling", &arguments.options).on_disk_of(&arguments.data)?;
    let parts = if arguments.only.is_empty() { &Part::ALL[..] } else { &arguments.only };
    for part in parts {
        match part {
            Part::Payload => payload(arguments, &mut report)?,
            Part::Nodes => nodes(arguments, &mut report)?,
            Part::Restart => restart(arguments, &mut report)?,
            Part::CatchUp => catch_up(arguments, &mut report)?,
            Part::Soak => soak(arguments, &mut report)?,
        }
    }
    report.finish()
}

/// In memory by function calls, and everything over gRPC.
fn ways(logs: &[LogKind]) -> Vec<(String, LogKind, NetKind)> {
    let mut ways = Vec::new();
    for log in logs {
        for net in [NetKind::Call, NetKind::Grpc] {
            ways.push((format!("{}, {}", log.name(), net.name()), *log, net));
        }
    }
    ways
}

/// Measures what `task` says of each way, in turn.
fn compare(
    report: &mut Report,
    case: openconsensus_bench::Parameters,
    ways: &[(String, LogKind, NetKind)],
    task: impl Fn(LogKind, NetKind) -> Result<(PathBuf, Task), Failure>,
) -> Result<(), Failure> {
    let task = &task;
    let mut contenders: Vec<openconsensus_bench::Contender<'_>> = Vec::new();
    for (name, log, net) in ways {
        let once = move |_| {
            let (folder, task) = task(*log, *net)?;
            let sample = measure(&task);
            std::fs::remove_dir_all(&folder)?;
            sample
        };
        contenders.push((name, Box::new(once)));
    }
    report.compare(case, &mut contenders)
}

fn throughput(
    arguments: &Arguments,
    report: &mut Report,
    nodes: u64,
    payload: usize,
    clients: u64,
) -> Result<(), Failure> {
    let case = parameters! { nodes: nodes, payload_bytes: payload, clients: clients };
    compare(report, case, &ways(&arguments.logs()), |log, net| {
        let folder = arguments.folder("throughput")?;
        let duration = arguments.options.duration();
        let task = Throughput { log, net, nodes, payload, clients, duration, folder: folder.clone() };
        Ok((folder, Task::Throughput(task)))
    })
}

fn payload(arguments: &Arguments, report: &mut Report) -> Result<(), Failure> {
    // As many clients as it takes to keep nodes busy, and no more than have room at once.
    let cases = [(16, 256), (256, 256), (4 * KIB, 256), (64 * KIB, 64), (MIB, 16)];
    for (payload, clients) in arguments.options.cases(&cases) {
        throughput(arguments, report, 3, payload, clients)?;
    }
    Ok(())
}

fn nodes(arguments: &Arguments, report: &mut Report) -> Result<(), Failure> {
    for nodes in arguments.options.cases(&[1, 3, 5, 7]) {
        throughput(arguments, report, nodes, 256, 256)?;
    }
    Ok(())
}

fn restart(arguments: &Arguments, report: &mut Report) -> Result<(), Failure> {
    let is_smoke = arguments.options.smoke;
    for log in arguments.logs().into_iter().filter(|log| log.is_durable()) {
        let lengths = [arguments.entries / 100, arguments.entries / 10, arguments.entries];
        for entries in if is_smoke { vec![1000] } else { lengths.to_vec() } {
            let folder = arguments.folder("restart")?;
            let (payload, terms) = (256, 16);
            let task =
                |what| Task::Restart(Restart { log, folder: folder.clone(), entries, payload, terms, what });
            measure(&task(What::Fill))?;
            let case =
                parameters! { log: log.name(), entries: entries, payload_bytes: payload, terms: terms };
            let mut contenders: Vec<openconsensus_bench::Contender<'_>> = Vec::new();
            for (name, what) in [("store", What::Store), ("files", What::Files), ("node", What::Node)] {
                let task = task(what);
                contenders.push((name, Box::new(move |_| measure(&task))));
            }
            report.compare(case, &mut contenders)?;
            drop(contenders);
            std::fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}

fn catch_up(arguments: &Arguments, report: &mut Report) -> Result<(), Failure> {
    let ways = ways(&arguments.logs());
    for from in [From::Log, From::Snapshot] {
        for writes in arguments.options.cases(&[true, false]) {
            let payload = 256;
            let lacking = if arguments.options.smoke { 1 } else { arguments.lacking_mib };
            let entries = (lacking << 20) / payload as u64;
            let case = parameters! { catch_up_from: from.name(), entries: entries, writes: if writes { "2000/s" } else { "none" } };
            compare(report, case, &ways, |log, net| {
                let folder = arguments.folder("catch-up")?;
                let duration = arguments.options.duration();
                let task =
                    CatchUp { log, net, from, entries, payload, writes, duration, folder: folder.clone() };
                Ok((folder, Task::CatchUp(task)))
            })?;
        }
    }
    Ok(())
}

/// Once each: it takes long, and what it shows are its own beginning and end.
fn soak(arguments: &Arguments, report: &mut Report) -> Result<(), Failure> {
    let duration = if arguments.options.smoke {
        arguments.options.duration()
    } else {
        Duration::from_secs(arguments.soak_seconds)
    };
    for slow_follower in [false, true] {
        for log in arguments.logs().into_iter().filter(|log| log.is_durable()) {
            let folder = arguments.folder("soak")?;
            let task = Soak {
                log,
                net: NetKind::Grpc,
                payload: 256,
                clients: 256,
                slots: 65_536,
                snapshot_after_bytes: 64 * MIB as u64,
                slow_follower,
                duration,
                folder: folder.clone(),
            };
            let sample: Sample = measure(&Task::Soak(task))?;
            let case = parameters! { seconds: duration.as_secs(), slow_follower: if slow_follower { "yes" } else { "no" } };
            report.add(case, vec![(format!("{}, grpc", log.name()), vec![sample])]);
            std::fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}
