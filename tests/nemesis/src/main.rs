//! `openconsensus-nemesis`: a campaign of faults against five `kv` processes, and the check of what their clients saw.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use openconsensus_nemesis::{Campaign, Failed, Reads, recheck};

/// Faults against five kv processes under load; what their clients saw must be linearizable
#[derive(Debug, Parser)]
struct Args {
    /// How long faults are injected
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    seconds: u64,
    /// What all choices follow from; drawn when it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// How many clients there are
    #[arg(long, default_value_t = 10, value_name = "N")]
    clients: u64,
    /// Keep data, logs and history here, also when nothing is wrong; must be new or empty
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Check this history again and do nothing else
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Read what a node has at the moment, and say that it was linearizable: the check must fail
    #[arg(long, hide = true)]
    stale_reads: bool,
}

fn main() -> ExitCode {
    let mut args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|first| first == "kv") {
        args.remove(0);
        return kv::cli::main(kv::cli::Cli::parse_from(args));
    }
    let args = Args::parse();
    let result = match &args.check {
        Some(path) => recheck(path).and_then(|report| match report.is_linearizable() {
            true => Ok(report.to_string()),
            false => Err(report.to_string()),
        }),
        None => campaign(&args),
    };
    match result {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn campaign(args: &Args) -> Result<String, String> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let program =
        std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
    // Removed at the end, unless there is a reason to look into it.
    let temporary =
        tempfile::Builder::new().prefix("nemesis-").tempdir().map_err(|error| error.to_string())?;
    let folder = args.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    kv::process::claim_empty_folder(&folder).map_err(|error| error.to_string())?;
    let campaign = Campaign {
        program: program.clone(),
        duration: Duration::from_secs(args.seconds),
        seed,
        clients: args.clients,
        reads: if args.stale_reads { Reads::Stale } else { Reads::Linearizable },
        folder: folder.clone(),
    };
    eprintln!("seed {seed}, {} s, data and logs in {}", args.seconds, folder.display());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("threads cannot be started: {error}"))?;
    match runtime.block_on(campaign.run(|what| eprintln!("{what}"))) {
        Ok(summary) => Ok(summary.to_string()),
        Err(Failed { error, history, .. }) => {
            let _ = temporary.keep();
            let program = program.display();
            let again = format!(
                "data, logs and history are kept in {}\nto try again:   {program} --seconds {} --seed {seed} --clients {}",
                folder.display(),
                args.seconds,
                args.clients
            );
            let check = history.map(|path| format!("\nto check again: {program} --check {}", path.display()));
            Err(format!("{error}\n\n{again}{}", check.unwrap_or_default()))
        }
    }
}
