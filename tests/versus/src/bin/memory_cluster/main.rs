//! Three nodes in memory, beside openraft: what a write costs where there is neither a disk nor a network.
//!
//! ```sh
//! cd tests/versus
//! cargo run --release --bin memory_cluster
//! cargo run --release --bin memory_cluster -- --topology threads --clients 64,4096 --batch 1 --payload 16
//! ```
//!
//! Both have a log in a queue behind a lock, a state machine that counts, and a network that calls the other node. Both take
//! a snapshot after 100,000 entries and keep 10,000, so that the log does not grow for as long as it is measured. Rounds of
//! the two take turns, each with nodes of its own.

mod load;
mod openraft_nodes;
mod openraft_store;
mod ours;

use clap::{Parser, ValueEnum};
use openconsensus_bench::{CountingAllocator, Failure, Options, Report, parameters};

use load::Work;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Measure writes to three nodes in memory, beside openraft
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Only with these threads
    #[arg(long, value_enum, value_delimiter = ',')]
    topology: Vec<Topology>,
    /// Only with so many clients
    #[arg(long, value_delimiter = ',')]
    clients: Vec<u64>,
    /// Only with so many commands in each call
    #[arg(long, value_delimiter = ',')]
    batch: Vec<u64>,
    /// Only with commands of so many bytes
    #[arg(long, value_delimiter = ',')]
    payload: Vec<u64>,
    /// Measure only this one
    #[arg(long, value_enum)]
    only: Option<Contender>,
}

/// Which threads do the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Topology {
    /// One for all clients, another for all nodes
    Threads,
    /// One for everything
    Worker,
    /// One for everything, of the runtime that could have more: it lets a task that was just woken pass all others
    Stealing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Contender {
    Openconsensus,
    Openraft,
}

impl Topology {
    fn name(self) -> &'static str {
        match self {
            Self::Threads => "two threads",
            Self::Worker => "one worker",
            Self::Stealing => "one worker of many",
        }
    }
}

const CLIENTS: &[u64] = &[1, 64, 256, 1024, 4096];
const BATCHES: &[u64] = &[1, 4, 16];
/// With how many clients commands are also written in batches.
const CLIENTS_OF_BATCHES: &[u64] = &[64, 1024];
const PAYLOADS: &[u64] = &[16, 256];

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let mut report = Report::new("memory_cluster", &args.options)
        .version("openraft", &openconsensus_versus::version_of("openraft"));
    for (topology, work) in cases(&args) {
        let options = &args.options;
        let ours = |_| load::round::<ours::Nodes>(topology, work, options);
        let theirs = |_| load::round::<openraft_nodes::Nodes>(topology, work, options);
        let case = parameters! {
            topology: topology.name(),
            payload_bytes: work.payload_bytes,
            batch: work.batch,
            clients: work.clients,
        };
        let mut contenders: Vec<openconsensus_bench::Contender<'_>> = Vec::new();
        if args.only != Some(Contender::Openraft) {
            contenders.push(("openconsensus", Box::new(ours)));
        }
        if args.only != Some(Contender::Openconsensus) {
            contenders.push(("openraft", Box::new(theirs)));
        }
        report.compare(case, &mut contenders)?;
    }
    report.finish()
}

/// All cases that were not excluded.
fn cases(args: &Args) -> Vec<(Topology, Work)> {
    let mut cases = Vec::new();
    for topology in [Topology::Threads, Topology::Worker, Topology::Stealing] {
        for &payload_bytes in PAYLOADS {
            for &batch in BATCHES {
                for &clients in CLIENTS {
                    cases.push((topology, Work { clients, batch, payload_bytes }));
                }
            }
        }
    }
    fn is_wanted<T: PartialEq>(wanted: &[T], value: T) -> bool {
        wanted.is_empty() || wanted.contains(&value)
    }
    cases.retain(|(topology, work)| {
        is_wanted(&args.topology, *topology)
            && is_wanted(&args.clients, work.clients)
            && is_wanted(&args.batch, work.batch)
            && is_wanted(&args.payload, work.payload_bytes)
            && (*topology != Topology::Stealing || (work.batch == 1 && work.payload_bytes == 16))
            && (work.batch == 1 || !args.clients.is_empty() || CLIENTS_OF_BATCHES.contains(&work.clients))
            && (!args.options.smoke || (work.clients == 64 && work.payload_bytes == 16))
    });
    cases
}
