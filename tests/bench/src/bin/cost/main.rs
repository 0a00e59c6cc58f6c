//! What it costs to be watched: writes for each second of processor time, with and without.
//!
//! ```sh
//! cargo build --release -p openconsensus-bench --bin cost
//! target/release/cost --compare OLDER/target/release/cost
//! ```
//!
//! Three nodes in memory on one thread, and clients that write one command after the other. Each round is a process of its
//! own, and rounds of all variants take turns, so that whatever else the machine does falls on all of them alike. What is
//! compared is the processor time of a write, which other processes disturb less than the time on the wall.
//!
//! What cannot be switched off, counting and measuring inside of a node, is compared with an older build of this program
//! (`--compare`).

mod cluster;
mod watching;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::Parser;

use cluster::Cluster;
use watching::Watching;

type Failure = Box<dyn std::error::Error>;

/// Measure what metrics, an exporter and tracing cost
#[derive(Debug, Parser)]
struct Args {
    /// Another build of this program, to compare with
    #[arg(long, value_name = "PATH")]
    compare: Option<String>,
    /// How many clients write at the same time; for each number all is measured
    #[arg(long, value_delimiter = ',', default_value = "64,1024")]
    clients: Vec<u64>,
    /// How many rounds of each variant
    #[arg(long, default_value = "7")]
    rounds: usize,
    /// How many writes are measured in a round
    #[arg(long, default_value = "1000000")]
    writes: u64,
    /// Measure one round of one variant in this process, and print processor and wall time of a write in nanoseconds
    #[arg(long, hide = true)]
    round: Option<Watching>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match args.round {
        Some(watching) => args.clients.iter().try_for_each(|clients| {
            let (cpu, wall) = round(watching, *clients, args.writes)?;
            println!("{cpu} {wall}");
            Ok(())
        }),
        None => compare(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cost: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One variant, and what its rounds have taken.
struct Variant {
    name: &'static str,
    program: String,
    watching: Watching,
    cpu_ns: Vec<u64>,
    wall_ns: Vec<u64>,
}

fn compare(args: &Args) -> Result<(), Failure> {
    let own = std::env::current_exe()?.display().to_string();
    for clients in &args.clients {
        let mut variants = Vec::new();
        let mut add = |name, program: &str, watching| {
            let program = program.to_owned();
            variants.push(Variant { name, program, watching, cpu_ns: Vec::new(), wall_ns: Vec::new() });
        };
        if let Some(other) = &args.compare {
            add("the other build", other, Watching::Nothing);
        }
        add("metrics", &own, Watching::Nothing);
        add("metrics, exporter", &own, Watching::Exporter);
        add("metrics, tracing at info", &own, Watching::Tracing);
        add("metrics, exporter, tracing at info", &own, Watching::All);
        for _ in 0..args.rounds {
            for variant in &mut variants {
                let (cpu, wall) = variant.measure(*clients, args.writes)?;
                variant.cpu_ns.push(cpu);
                variant.wall_ns.push(wall);
            }
        }
        report(*clients, &mut variants);
    }
    Ok(())
}

impl Variant {
    fn measure(&self, clients: u64, writes: u64) -> Result<(u64, u64), Failure> {
        let (clients, writes) = (clients.to_string(), writes.to_string());
        let arguments = ["--round", self.watching.name(), "--clients", &clients, "--writes", &writes];
        let output = Command::new(&self.program).args(arguments).output()?;
        let text = String::from_utf8(output.stdout)?;
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [cpu, wall] if output.status.success() => Ok((cpu, wall)),
            _ => Err(format!("{}: {text}{}", self.program, String::from_utf8_lossy(&output.stderr)).into()),
        }
    }
}

fn report(clients: u64, variants: &mut [Variant]) {
    println!("{clients} clients");
    let mut first = None;
    for variant in variants {
        let (cpu, wall) = (median(&mut variant.cpu_ns), median(&mut variant.wall_ns));
        let base = *first.get_or_insert(cpu);
        let (low, high) = (variant.cpu_ns[0], variant.cpu_ns[variant.cpu_ns.len() - 1]);
        println!(
            "  {:36} {cpu:6} ns of processor for a write ({low} to {high}), {:7} writes/s, ratio {:.3}",
            variant.name,
            1_000_000_000 / wall.max(1),
            cpu as f64 / base as f64
        );
    }
}

/// The median of a list that it sorts.
fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

/// Processor and wall time of one write, in nanoseconds.
fn round(watching: Watching, clients: u64, writes: u64) -> Result<(u64, u64), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    watching.subscribe();
    runtime.block_on(async {
        let cluster = Cluster::start().await?;
        let watched = watching.begin(&cluster)?;
        load(&cluster, clients, writes / 10).await?;
        let (cpu, wall) = (processor_time(), Instant::now());
        let done = load(&cluster, clients, writes).await?;
        let (cpu, wall) = (processor_time() - cpu, wall.elapsed());
        watched.end()?;
        cluster.stop().await;
        let each = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) / done;
        Ok((each(cpu), each(wall)))
    })
}

/// Lets `clients` write, one command after the other each, about `writes` in all; says how many.
async fn load(cluster: &Cluster, clients: u64, writes: u64) -> Result<u64, Failure> {
    let each = (writes / clients).max(1);
    let clients: Vec<_> = (0..clients)
        .map(|client| {
            let raft = cluster.leader.clone();
            tokio::spawn(async move {
                for n in 0..each {
                    raft.write(client ^ n).await?;
                }
                Ok::<u64, openconsensus::WriteError<cluster::Sum>>(each)
            })
        })
        .collect();
    let mut done = 0;
    for client in clients {
        done += client.await??;
    }
    Ok(done)
}

/// What all threads of this process have used.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
