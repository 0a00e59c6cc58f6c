//! Measures the memory of nodes under full load, with everything slow or dead that can make it grow.
//!
//! Three nodes, each in a process of its own, over gRPC. The parent reads what the leader says of itself, and compares its
//! resident memory, and that of its followers, with the sum of all limits.
//!
//! ```sh
//! cargo run --release -p openconsensus-bench --bin memory -- --seconds 10
//! cargo run --release -p openconsensus-bench --bin memory -- --scenario slow-follower --limits default --json memory.json
//! ```

#![forbid(unsafe_code)]

mod limits;
mod node;
mod proxy;
mod report;
mod scenario;
mod stores;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use openconsensus_bench::Failure;

use limits::Limits;
use node::LogKind;
use scenario::Scenario;

/// Prints how much memory nodes take under full load, and fails if it is more than its limits allow.
#[derive(Parser, Debug)]
#[command(name = "memory")]
struct Arguments {
    #[command(subcommand)]
    child: Option<Child>,
    /// How long each scenario is measured.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// What is slow or dead; all of them if none is named.
    #[arg(long, value_enum)]
    scenario: Vec<Scenario>,
    /// The limits of the nodes.
    #[arg(long, value_enum, default_value_t = Limits::Small)]
    limits: Limits,
    /// Where the log of each node is.
    #[arg(long, value_enum, default_value_t = LogKind::Sparse)]
    log: LogKind,
    /// Files are made below this folder, and removed.
    #[arg(long, default_value = "target/memory")]
    data: PathBuf,
    /// The smallest command, in bytes.
    #[arg(long, default_value_t = 256)]
    bytes_min: u64,
    /// The largest command, in bytes.
    #[arg(long, default_value_t = 65_536)]
    bytes_max: u64,
    /// Writes everything that was measured to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum Child {
    /// One node. Started by the measurement itself.
    #[command(hide = true)]
    Node(node::NodeArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse() {
        Arguments { child: Some(Child::Node(args)), .. } => node::run(args).await.map(|()| true),
        arguments => measure(&arguments).await,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every scenario has kept within the bound.
async fn measure(arguments: &Arguments) -> Result<bool, Failure> {
    let scenarios = match arguments.scenario.as_slice() {
        [] => Scenario::ALL.to_vec(),
        some => some.to_vec(),
    };
    let bound = node::bound(arguments.limits, 2);
    report::print_head(arguments.limits, bound);
    let mut results = Vec::new();
    for scenario in scenarios {
        if !scenario.works_with(arguments.log) {
            continue;
        }
        let samples = scenario::run(scenario, arguments).await?;
        let result = report::Result::of(scenario, bound, samples);
        result.print();
        results.push(result);
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&results)?)?;
    }
    Ok(results.iter().all(report::Result::is_within))
}
