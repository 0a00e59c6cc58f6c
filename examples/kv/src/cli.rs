//! The command line.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::address::parse_address;
use crate::client::{Client, ClientOptions};
use crate::commands::{
    CampaignArgs, CasArgs, DeleteArgs, ForgetLeaderArgs, GetArgs, MemberArgs, PauseArgs, PurgeArgs, PutArgs,
    ScanArgs, SnapshotArgs, TransferArgs,
};
use crate::outcome::{Exit, Failure, Result};
use crate::{bench, commands, demo, export, import, log, serve, status};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  done with a negative result (key absent, comparison failed, malformed line), or a local error
  2  the command line is wrong
  3  no node could serve the request in time; nothing has happened
  4  outcome unknown: it may have happened, or may happen still
  5  refused: nothing has happened, and the same request will be refused again
  6  the node has stopped because its disk, its state machine or one of its loops failed";

/// A replicated key-value store: node, client and tool
#[derive(Debug, Parser)]
#[command(name = "kv", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    /// What to log on standard error: error, warn, info, debug, trace, or a filter such as kv=debug,warn
    #[arg(long, global = true, env = "KV_LOG", value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Serve(serve::ServeArgs),
    /// Set a key to a value
    Put(PutArgs),
    /// Print the value of a key
    Get(GetArgs),
    /// Remove a key
    Delete(DeleteArgs),
    /// Set or remove a key if it has an expected value
    Cas(CasArgs),
    /// Print the keys of a range with their values
    Scan(ScanArgs),
    /// Put pairs from a file or standard input
    Import(import::ImportArgs),
    /// Write all pairs, or those of a range, to a file or standard output
    Export(export::ExportArgs),
    /// Show the nodes, their roles, terms and log positions
    Status(status::StatusArgs),
    /// Add, promote, demote, move, remove or list members
    Member(MemberArgs),
    /// Hand leadership to another voter
    Transfer(TransferArgs),
    /// Build a snapshot on a node
    Snapshot(SnapshotArgs),
    /// Purge the log of a node, no further than its snapshot goes: for a disk that is full
    Purge(PurgeArgs),
    /// Let a node start an election now: for emergencies; `transfer` is the gentle way
    Campaign(CampaignArgs),
    /// Let a node start no elections on its own, or start them again: for maintenance
    Elections(PauseArgs),
    /// Let a node send no heartbeats while it leads, or send them again: for tests
    Heartbeats(PauseArgs),
    /// Let a node forget who leads, so that it may vote for another at once: when the leader is known to be gone
    ForgetLeader(ForgetLeaderArgs),
    /// Look at the log of a node that does not run: for operators, after a crash or before a repair
    Log(log::LogArgs),
    /// Measure throughput and latency
    Bench(bench::BenchArgs),
    /// Show that a cluster loses nothing: kill its leader again and again under load, and check
    Demo(demo::DemoArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How a client command reaches the cluster.
#[derive(Clone, Debug, Args)]
pub struct ClientArgs {
    /// Nodes to reach the cluster through; one that works is enough
    #[arg(
        long,
        env = "KV_ENDPOINTS",
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        required = true,
        value_parser = parse_address
    )]
    endpoints: Vec<String>,
    /// How long a request may take, in seconds, with all its retries
    #[arg(long, default_value = "10", value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Duration,
}

impl ClientArgs {
    /// A client of that cluster.
    pub fn client(&self) -> Client {
        let options = ClientOptions { timeout: self.timeout, ..ClientOptions::default() };
        Client::new(self.endpoints.clone(), options)
    }

    /// The first node that was named.
    pub fn first_endpoint(&self) -> &str {
        self.endpoints.first().map_or("", String::as_str)
    }
}

/// Seconds as a decimal number.
///
/// # Errors
///
/// When it is not one, or out of range.
pub fn parse_seconds(text: &str) -> std::result::Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    if !(0.001..=86_400.0).contains(&seconds) {
        return Err(format!("{text} s is out of range: from 0.001 to 86400"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Runs the program to its end.
pub fn main(cli: Cli) -> ExitCode {
    let result = start_logging(&cli).and_then(|()| {
        let runtime = match &cli.command {
            Command::Serve(args) => args.runtime(),
            _ => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
        };
        let runtime = runtime.map_err(|error| Failure::negative(format!("cannot start threads: {error}")))?;
        let result = runtime.block_on(run(cli.command));
        // A thread that is blocked in a read of standard input must not hold up the end.
        runtime.shutdown_timeout(Duration::from_secs(1));
        result
    });
    result.unwrap_or_else(|failure| {
        if !failure.text.is_empty() {
            eprintln!("kv: {failure}");
        }
        failure.exit.into()
    })
}

fn start_logging(cli: &Cli) -> Result<()> {
    let filter = EnvFilter::try_new(cli.log.as_deref().unwrap_or("warn"))
        .map_err(|error| Failure::usage(format!("--log is not a filter: {error}")))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    Ok(())
}

async fn run(command: Command) -> Result<ExitCode> {
    let exit = match command {
        Command::Serve(args) => serve::run(args).await,
        Command::Put(args) => commands::put(args).await,
        Command::Get(args) => commands::get(args).await,
        Command::Delete(args) => commands::delete(args).await,
        Command::Cas(args) => commands::cas(args).await,
        Command::Scan(args) => commands::scan(args).await,
        Command::Import(args) => import::run(args).await,
        Command::Export(args) => export::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Member(args) => commands::member(args).await,
        Command::Transfer(args) => commands::transfer(args).await,
        Command::Snapshot(args) => commands::snapshot(args).await,
        Command::Purge(args) => commands::purge(args).await,
        Command::Campaign(args) => commands::campaign(args).await,
        Command::Elections(args) => commands::elections(args).await,
        Command::Heartbeats(args) => commands::heartbeats(args).await,
        Command::ForgetLeader(args) => commands::forget_leader(args).await,
        Command::Log(args) => log::log(args),
        Command::Bench(args) => bench::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "kv", &mut std::io::stdout());
            Ok(Exit::Done)
        }
    };
    exit.map(ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn seconds_are_decimal_and_in_range() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["", "x", "0", "-1", "1e9", "NaN"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
    }
}
