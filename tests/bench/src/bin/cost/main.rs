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

use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use openconsensus_bench::{Contender, Failure, Options, Report, Sample, Stopwatch, parameters};

use cluster::Cluster;
use watching::Watching;

/// Measure what metrics, an exporter and tracing cost
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Another build of this program, to compare with
    #[arg(long, value_name = "PATH")]
    compare: Option<String>,
    /// How many clients write at the same time; for each number all is measured
    #[arg(long, value_delimiter = ',', default_value = "64,1024")]
    clients: Vec<u64>,
    /// Measure one round of one variant in this process, and print processor time and wall time of a write in nanoseconds
    #[arg(long, hide = true)]
    round: Option<Watching>,
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    if let Some(watching) = args.round {
        let (cpu, wall) = round(watching, args.clients[0], args.options.duration())?;
        println!("{cpu} {wall}");
        return Ok(());
    }
    let own = std::env::current_exe()?.display().to_string();
    let mut report = Report::new("cost", &args.options);
    for clients in args.options.cases(&args.clients) {
        let variant = |name, program: &str, watching| -> Contender<'_> {
            let (program, seconds) = (program.to_owned(), args.options.duration().as_secs_f64());
            (name, Box::new(move |_| measure(&program, watching, clients, seconds)))
        };
        let other = args.compare.iter().map(|other| variant("the other build", other, Watching::Nothing));
        let own = [
            variant("metrics", &own, Watching::Nothing),
            variant("metrics, exporter", &own, Watching::Exporter),
            variant("metrics, tracing at info", &own, Watching::Tracing),
            variant("metrics, exporter, tracing at info", &own, Watching::All),
        ];
        let mut variants: Vec<Contender<'_>> = other.chain(own).collect();
        report.compare(parameters! { clients: clients }, &mut variants)?;
    }
    report.finish()
}

/// One round of one variant, in a process of its own.
fn measure(program: &str, watching: Watching, clients: u64, seconds: f64) -> Result<Sample, Failure> {
    let (clients, seconds) = (clients.to_string(), seconds.to_string());
    let arguments = ["--round", watching.name(), "--clients", &clients, "--seconds", &seconds];
    let output = Command::new(program).args(arguments).output()?;
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [cpu, wall] if output.status.success() => {
            Ok(Sample::new().with("cpu_ns", cpu).with("writes_per_s", 1e9 / wall))
        }
        _ => Err(format!("{program}: {text}{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// Processor and wall time of one write, in nanoseconds.
fn round(watching: Watching, clients: u64, duration: Duration) -> Result<(f64, f64), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    watching.subscribe();
    runtime.block_on(async {
        let cluster = Cluster::start().await?;
        let watched = watching.begin(&cluster)?;
        load(&cluster, clients, duration / 10).await?;
        let watch = Stopwatch::start();
        let done = load(&cluster, clients, duration).await?;
        let elapsed = watch.stop();
        watched.end()?;
        cluster.stop().await;
        let each = |time: Duration| time.as_nanos() as f64 / done as f64;
        Ok((each(elapsed.processor), each(elapsed.wall)))
    })
}

/// Lets `clients` write for so long, one command after the other each; says how many.
async fn load(cluster: &Cluster, clients: u64, duration: Duration) -> Result<u64, Failure> {
    let end = Instant::now() + duration;
    let clients: Vec<_> = (0..clients)
        .map(|client| {
            let raft = cluster.leader.clone();
            tokio::spawn(async move {
                let mut done = 0;
                while Instant::now() < end {
                    raft.write(client ^ done).await?;
                    done += 1;
                }
                Ok::<u64, openconsensus::WriteError<cluster::Sum>>(done)
            })
        })
        .collect();
    let mut done = 0;
    for client in clients {
        done += client.await??;
    }
    Ok(done)
}
