//! Three `kv` processes beside three `etcd` processes: the same clients, the same requests, the same machine.
//!
//! ```sh
//! cd tests/versus && cargo run --release --bin etcd -- --out results
//! ```
//!
//! Both clusters are started by this program, with their default settings and their data in one folder, and stay up until
//! the end; the one whose turn it is not is idle. The clients are tasks on one thread of this process, and talk gRPC to the
//! leader over as many connections and with the same library on both sides. Each waits for its answer before it asks
//! again. `kv` nodes are this program, called again, or another build of `kv` that is named.
//!
//! Without `etcd` on the machine, `kv` is measured alone.

mod calls;
mod cluster;
mod load;

use std::cell::RefCell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::rc::Rc;

use clap::Parser;
use openconsensus_bench::{Contender, Failure, Options, Parameters, Report, parameters};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use calls::Side;
use cluster::{Cluster, Program};
use load::{Load, Operation};

/// Measure three kv processes beside three etcd processes
#[derive(Clone, Debug, Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Only cases in whose name this occurs: a name is such as `put, 64 clients, 128 B`
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Over how many connections clients talk, or over one for each client if that is less
    #[arg(long, value_name = "N", default_value_t = 4)]
    connections: usize,
    /// Where etcd is; without it kv is measured alone
    #[arg(long, value_name = "PATH", default_value = "etcd")]
    etcd: PathBuf,
    /// Measure this build of kv, under this name, instead of the one in this program; may be repeated
    #[arg(long, value_name = "NAME=PATH")]
    kv: Vec<String>,
    /// Where data is kept meanwhile; by default where temporary files are
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|first| first == "kv") {
        args.remove(0);
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
    let folder = match &args.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let mut report = Report::new("etcd", &args.options).on_disk_of(folder.path())?;
    let mut programs = kv_programs(&args.kv)?;
    match etcd_version(&args.etcd) {
        Some(version) => {
            report = report.version("etcd", &version);
            programs.push(Program::new("etcd", Side::Etcd, &args.etcd));
        }
        None => eprintln!("{} is not installed: kv is measured alone", args.etcd.display()),
    }
    // One thread for all clients: what one side saves in them goes to its own processes.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut clusters = Vec::new();
    for program in &programs {
        let data = folder.path().join(&program.name);
        let cluster = runtime.block_on(unless_interrupted(Cluster::start(program, &data)))?;
        eprintln!("{}: processes {:?}", program.name, cluster.ids());
        clusters.push(Rc::new(RefCell::new(cluster)));
    }
    if !args.options.smoke {
        for cluster in &clusters {
            runtime.block_on(unless_interrupted(cluster.borrow().come_to_rest()))?;
        }
    }
    for (operation, load) in loads(args) {
        let case = parameters! { operation: operation, clients: load.clients, value_bytes: load.value_bytes };
        measure(&mut report, args, &runtime, case, load, &programs, &clusters)?;
    }
    for cluster in clusters {
        runtime.block_on(cluster.borrow_mut().stop());
    }
    report.finish()
}

/// One case: every program in turn, and where several puts travel together, etcd's single ones once more.
fn measure(
    report: &mut Report,
    args: &Args,
    runtime: &Runtime,
    case: Parameters,
    load: Load,
    programs: &[Program],
    clusters: &[Rc<RefCell<Cluster>>],
) -> Result<(), Failure> {
    let mut contenders: Vec<(String, Load, &Rc<RefCell<Cluster>>)> = Vec::new();
    for (program, cluster) in programs.iter().zip(clusters) {
        match (program.side, load.operation) {
            (Side::Kv, _) | (Side::Etcd, Operation::Put | Operation::Get) => {
                contenders.push((program.name.clone(), load, cluster));
            }
            // Nothing like it there.
            (Side::Etcd, Operation::Stream) => {}
            (Side::Etcd, Operation::Batch(_)) => {
                contenders.push((format!("{}, transactions", program.name), load, cluster));
            }
        }
        if program.side == Side::Etcd && matches!(load.operation, Operation::Batch(_) | Operation::Stream) {
            let single = Load { operation: Operation::Put, ..load };
            contenders.push((format!("{}, single puts", program.name), single, cluster));
        }
    }
    let length = args.options.duration();
    let connections = load.clients.min(args.connections.max(1));
    let mut contenders: Vec<Contender<'_>> = contenders
        .iter()
        .map(|(name, load, cluster)| {
            let measure = move |_round: usize| {
                let cluster = &mut cluster.borrow_mut();
                runtime.block_on(unless_interrupted(load.measure(cluster, connections, length)))
            };
            (name.as_str(), Box::new(measure) as Box<dyn FnMut(usize) -> Result<_, Failure>>)
        })
        .collect();
    report.compare(case, &mut contenders)
}

/// The result of `work`, or an error when this process is asked to end: its children are then ended first.
async fn unless_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        biased;
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
        result = work => result,
    }
}

/// Everything that is measured, by name: one of each kind where this is a smoke.
fn loads(args: &Args) -> Vec<(&'static str, Load)> {
    let mut loads = Vec::new();
    let mut add = |name: &'static str, operation, all_clients: &[usize], sizes: &[usize]| {
        for value_bytes in args.options.cases(sizes) {
            for clients in args.options.cases(all_clients) {
                loads.push((name, Load { operation, clients, value_bytes }));
            }
        }
    };
    let all_clients = [1, 16, 64, 256];
    add("put", Operation::Put, &all_clients, &[128, 1024]);
    add("linearizable get", Operation::Get, &all_clients, &[128]);
    add("batches of 16 puts", Operation::Batch(16), &[64], &[128, 1024]);
    add("puts on a stream", Operation::Stream, &[64, 256], &[128, 1024]);
    loads.retain(|(name, load)| {
        format!("{name}, {} clients, {} B", load.clients, load.value_bytes).contains(&args.only)
    });
    loads
}

fn kv_programs(named: &[String]) -> Result<Vec<Program>, Failure> {
    if named.is_empty() {
        let mut program = Program::new("kv", Side::Kv, &std::env::current_exe()?);
        program.prefix.push("kv".into());
        return Ok(vec![program]);
    }
    let program = |named: &String| {
        let (name, path) = named.split_once('=').ok_or("--kv should be NAME=PATH")?;
        Ok(Program::new(name, Side::Kv, Path::new(path)))
    };
    named.iter().map(program).collect()
}

/// What it says of itself; `None` where it cannot be run.
fn etcd_version(program: &Path) -> Option<String> {
    let output = Command::new::<&OsStr>(program.as_ref()).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: "));
    Some(version.unwrap_or("of an unknown version").trim().to_owned())
}
