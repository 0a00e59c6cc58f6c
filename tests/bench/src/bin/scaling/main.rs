//! How openconsensus scales: with the size of commands, the number of nodes, the length of the log, a follower that was
//! away, and time.
//!
//! ```sh
//! cargo run --release -p openconsensus-bench --bin scaling -- --data /a/folder/on/a/disk
//! cargo run --release -p openconsensus-bench --bin scaling -- --only restart --entries 10000000 --rounds 3
//! ```
//!
//! Every measurement is a process of its own, in which all nodes and clients run on a runtime of two threads; so memory
//! and processor time are those of a whole cluster, and of its clients, where more than one node is measured. There is no
//! peer in it: contenders are kinds of log storage and network. Where messages travel by a function call, nodes share what
//! was encoded, so only the rows over gRPC show what a follower in a process of its own would have to do.

#![forbid(unsafe_code)]

mod blob;
mod catch_up;
mod cold;
mod load;
mod machine;
mod network;
mod nodes;
mod plan;
mod restart;
mod soak;
mod throughput;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use openconsensus_bench::{Failure, Sample};
use serde::{Deserialize, Serialize};

/// One measurement, carried out by a process of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    Throughput(throughput::Throughput),
    Restart(restart::Restart),
    CatchUp(catch_up::CatchUp),
    Soak(soak::Soak),
}

#[derive(Parser, Debug)]
#[command(name = "scaling")]
struct CommandLine {
    #[command(subcommand)]
    child: Option<Child>,
    #[command(flatten)]
    plan: plan::Arguments,
}

#[derive(Subcommand, Debug)]
enum Child {
    /// One measurement. Started by the benchmark itself.
    #[command(hide = true)]
    Task { json: String },
}

fn main() -> ExitCode {
    let result = match CommandLine::parse() {
        CommandLine { child: Some(Child::Task { json }), .. } => run(&json),
        CommandLine { plan, .. } => plan::run(&plan),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scaling: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Carries out one measurement and prints its values, one in a line.
fn run(json: &str) -> Result<(), Failure> {
    let task: Task = serde_json::from_str(json)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let sample = runtime.block_on(async {
        match task {
            Task::Throughput(task) => throughput::run(task).await,
            Task::Restart(task) => restart::run(task).await,
            Task::CatchUp(task) => catch_up::run(task).await,
            Task::Soak(task) => soak::run(task).await,
        }
    })?;
    for (name, value) in sample.values() {
        println!("{name} {value}");
    }
    Ok(())
}

/// Has a process of its own carry out `task`.
pub(crate) fn measure(task: &Task) -> Result<Sample, Failure> {
    let output = std::process::Command::new(std::env::current_exe()?)
        .args(["task", &serde_json::to_string(task)?])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("{task:?} ended with {}", output.status).into());
    }
    let mut sample = Sample::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let (name, value) = line.split_once(' ').ok_or_else(|| format!("not a value: {line:?}"))?;
        sample = sample.with(name, value.parse()?);
    }
    Ok(sample)
}
