//! `kv demo`: a cluster of real processes that loses its leader again and again, and nothing else.
//!
//! Three nodes are started; a file is imported while clients write and read; the leader is killed under this load, a
//! node is added, another removed, leadership is transferred, all nodes are stopped and started again. Then everything
//! that was acknowledged is read back through every node.

mod changes;
mod check;
mod cluster;
mod import;
mod imported;
mod input;
mod kill;
mod load;
mod model;
mod phases;
mod report;
mod ui;
mod verify;

use std::io::{self, Write};
use std::path::PathBuf;

use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::outcome::{Exit, Failure, Result};
use crate::process::claim_empty_folder;
use cluster::Cluster;
use input::Input;
use phases::Demo;
use report::Report;
use ui::Ui;

/// The arguments of `kv demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Keep data and logs in this folder, which must be new or empty, and not in a temporary one
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
    /// Import this file: lines of key, tab, value; or of JSON when its name ends in .jsonl
    #[arg(long, value_name = "FILE", conflicts_with = "lines")]
    pub input: Option<PathBuf>,
    /// How many lines to generate and import, when no file is given
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub lines: u32,
    /// How many clients write and read meanwhile
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub clients: u32,
    /// How often the leader is killed
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub kills: u32,
    /// What the generated lines and the choices of the clients follow from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Keep the temporary folder with data and logs
    #[arg(long)]
    pub keep: bool,
}

/// Runs the demonstration and prints its report. Ends with [`Exit::Done`] if every promise was kept, and with
/// [`Exit::Negative`] if anything is lost or differs; the folder with data and logs is then kept and named.
///
/// # Errors
///
/// A phase did not come to its end. The text says which one, and shows the ends of the nodes' logs.
pub async fn run(args: DemoArgs) -> Result<Exit> {
    let folder = Folder::claim(args.dir.as_deref()).map_err(Failure::negative)?;
    let ui = Ui::new();
    let reading = ui.phase("reading the input", phases::read_input(&args, folder.path(), &ui));
    let input = unless_interrupted(reading).await?;
    let outcome = unless_interrupted(run_in(&args, input, &folder, &ui)).await;
    drop(ui);
    match outcome {
        Ok(mut report) => {
            let is_kept = args.keep || !report.ok || args.dir.is_some();
            report.folder = is_kept.then(|| folder.keep());
            let text = if args.json {
                serde_json::to_string_pretty(&report).map_err(Failure::negative)? + "\n"
            } else {
                report.text()
            };
            io::stdout().write_all(text.as_bytes())?;
            Ok(if report.ok { Exit::Done } else { Exit::Negative })
        }
        Err(failure) => {
            let kept = folder.keep();
            Err(Failure::negative(format!("{failure}\n\nData and logs are kept in {}", kept.display())))
        }
    }
}

async fn run_in(args: &DemoArgs, input: Input, folder: &Folder, ui: &Ui) -> Result<Report> {
    let program = std::env::current_exe()?;
    let start = Cluster::start(&program, folder.path(), phases::NODES, phases::TIMEOUT);
    let mut cluster = ui.phase("starting three nodes", start).await?;
    let demo = Demo::new(args, ui);
    demo.run(&mut cluster, input).await.map_err(|failure| cluster.explain(failure))
}

async fn unless_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        interrupted = interrupted() => Err(interrupted),
        outcome = work => outcome,
    }
}

/// Resolves when this process is asked to end; its children are then ended first.
async fn interrupted() -> Failure {
    let wait = async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        tokio::select! {
            biased;
            _ = interrupt.recv() => Ok::<_, io::Error>("SIGINT"),
            _ = terminate.recv() => Ok("SIGTERM"),
            _ = hang_up.recv() => Ok("SIGHUP"),
        }
    };
    match wait.await {
        Ok(name) => Failure::negative(format!("interrupted by {name}")),
        Err(error) => Failure::from(error),
    }
}

/// Where data and logs are: a temporary folder, or one that the user has named.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Folder {
    fn claim(named: Option<&std::path::Path>) -> io::Result<Self> {
        match named {
            Some(path) => {
                claim_empty_folder(path)?;
                Ok(Self { path: path.to_owned(), temporary: None })
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("kv-demo-").tempdir()?;
                Ok(Self { path: temporary.path().to_owned(), temporary: Some(temporary) })
            }
        }
    }

    fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Does not remove it at the end.
    fn keep(self) -> PathBuf {
        match self.temporary {
            Some(temporary) => temporary.keep(),
            None => self.path,
        }
    }
}
