//! How long a cluster cannot be written to when its leader is killed.
//!
//! ```sh
//! cargo run --release -p openconsensus-bench --bin failover -- --out results
//! ```
//!
//! The demonstration of `kv` does the work: three processes under load, the leader killed with SIGKILL again and again,
//! each time a prober that writes until it is acknowledged, and the killed node brought back and caught up before the next
//! one. At the end it checks that nothing that was acknowledged is lost; if something is, nothing is reported.

use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use openconsensus_bench::{Failure, Options, Report, Sample, parameters};
use serde::Deserialize;

/// How long the clusters of the demonstration wait for a leader before they elect another one: from this to twice this.
const ELECTION_TIMEOUT_MS_MIN: u64 = 150;

/// Measure for how long nothing can be written when the leader is killed
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// How often the leader is killed; each time is one round
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// How many clients write and read meanwhile
    #[arg(long, default_value_t = 16)]
    clients: usize,
}

/// The part of what the demonstration prints that this program reads.
#[derive(Debug, Deserialize)]
struct Demonstration {
    ok: bool,
    kills: Vec<Kill>,
}

#[derive(Debug, Deserialize)]
struct Kill {
    write_ms: f64,
    leader_ms: f64,
    caught_up_ms: f64,
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|first| ["demo", "serve", "--log"].iter().any(|own| first == own)) {
        return kv::cli::main(kv::cli::Cli::parse_from(args));
    }
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let Args { options, kills, clients } = args;
    let kills = if options.smoke { 1 } else { (*kills).max(1) };
    let mut report = Report::new("failover", options).on_disk_of(&std::env::temp_dir())?;
    report.run.rounds = kills;
    let shown = demonstrate(kills, *clients)?;
    let sample = |kill: &Kill| {
        Sample::new()
            .with("without_writes_ms", kill.write_ms)
            .with("without_leader_ms", kill.leader_ms)
            .with("restart_to_caught_up_ms", kill.caught_up_ms)
    };
    let samples = shown.iter().map(sample).collect();
    let case = parameters! {
        nodes: 3,
        clients: *clients,
        kills: kills,
        election_timeout_ms_min: ELECTION_TIMEOUT_MS_MIN,
    };
    report.add(case, vec![("kv".into(), samples)]);
    report.finish()
}

/// Runs the demonstration in a process of its own, which starts its nodes by the same program.
fn demonstrate(kills: usize, clients: usize) -> Result<Vec<Kill>, Failure> {
    let output = Command::new(std::env::current_exe()?)
        .args(["demo", "--json", "--lines", "1000"])
        .args(["--kills", &kills.to_string(), "--clients", &clients.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        return Err(format!("the demonstration ended with {}:\n{text}", output.status).into());
    }
    let Demonstration { ok, kills: shown } = serde_json::from_slice(&output.stdout)?;
    if !ok || shown.len() != kills {
        return Err(format!("{} of {kills} kills were shown, and all is well: {ok}", shown.len()).into());
    }
    Ok(shown)
}
