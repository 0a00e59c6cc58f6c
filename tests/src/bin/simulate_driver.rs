//! Runs simulations of whole nodes: many seeds with a table of what has happened, or one seed with its trace.

use std::io::{IsTerminal, stderr};
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use openconsensus_tests::linearizability::Counts;
use openconsensus_tests::panics::catch;
use openconsensus_tests::sim_runtime::{
    CampaignReport, Coverage, KvCampaign, SeedFailure, Sim, TraceText, run_seed,
};

const USAGE: &str = "\
Simulates whole clusters, the real driver on simulated disks and links, and checks what their clients see.

usage: simulate_driver [--seeds N] [--from SEED] [--threads N]
       SEED=N simulate_driver [--trace events|all]

  --seeds N      run so many seeds (default 200)
  --from SEED    begin with this one (default 1)
  --threads N    on so many threads (default: one for each core)
  --trace WHAT   print what happens in the seed: events, or all, which has every decision of the scheduler too

The environment variable SEED names one seed to run, SIM_TRACE=all makes the trace of a failure complete.";

const REPEAT: &str = "cargo run --release -p openconsensus-tests --bin simulate_driver";

struct Options {
    seeds: u64,
    from: u64,
    threads: usize,
    trace: Option<TraceText>,
}

/// What many seeds have come to.
#[derive(Default)]
struct Total {
    coverage: Coverage,
    operations: Counts,
    elapsed: Duration,
    decisions: u64,
    failure: Option<SeedFailure>,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match std::env::var("SEED") {
        Ok(seed) => match seed.parse() {
            Ok(seed) => run_one(seed, options.trace),
            Err(_) => {
                eprintln!("SEED is a number, not {seed:?}");
                ExitCode::from(2)
            }
        },
        Err(_) => run_many(&options),
    }
}

/// `None` when help is asked for.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut options = Options { seeds: 200, from: 1, threads, trace: None };
    while let Some(name) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
        let number = |value: String| value.parse::<u64>().map_err(|_| format!("{value} is no number"));
        match name.as_str() {
            "--help" | "-h" => return Ok(None),
            "--seeds" => options.seeds = number(value()?)?,
            "--from" => options.from = number(value()?)?,
            "--threads" => options.threads = number(value()?)?.max(1) as usize,
            "--trace" => {
                options.trace = match value()?.as_str() {
                    "events" => Some(TraceText::Events),
                    "all" => Some(TraceText::All),
                    other => return Err(format!("there is no trace of {other}")),
                }
            }
            _ => return Err(format!("there is no option {name}")),
        }
    }
    Ok(Some(options))
}

fn run_one(seed: u64, trace: Option<TraceText>) -> ExitCode {
    let campaign = KvCampaign::of_seed(seed);
    println!("{campaign:?}");
    if let Some(text) = trace {
        let sim = Sim::with_trace(seed, text);
        // A panic is told by the run below, which is the same.
        let _ = catch(|| campaign.run(&sim));
        print!("{}", sim.trace());
    }
    let report = Mutex::new(None);
    match run_seed(seed, |sim| *lock(&report) = Some(campaign.run(sim))) {
        Ok(run) => {
            println!("{:?}\n{run}", lock(&report));
            ExitCode::SUCCESS
        }
        Err(failure) => tell(&failure),
    }
}

fn run_many(options: &Options) -> ExitCode {
    let bar = if stderr().is_terminal() {
        ProgressBar::with_draw_target(Some(options.seeds), ProgressDrawTarget::stderr())
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left");
    bar.set_style(style.expect("the template is right"));
    let begin = Instant::now();
    let total = run_on_threads(options, &bar);
    bar.finish_and_clear();
    let seconds = begin.elapsed().as_secs_f64();
    println!("{:>12} seeds, {:.1} a second", bar.position(), bar.position() as f64 / seconds);
    println!("{:>12.0} seconds of virtual time in {seconds:.1} seconds", total.elapsed.as_secs_f64());
    println!("{:>12} decisions, {:.0} a second", total.decisions, total.decisions as f64 / seconds);
    for (what, count) in total.coverage.counts() {
        println!("{count:>12} {what}");
    }
    let Counts { returned, absent, unknown } = total.operations;
    println!("{returned:>12} operations answered, {absent} certainly not done, {unknown} of unknown outcome");
    if let Some(failure) = &total.failure {
        return tell(failure);
    }
    let missing: Vec<&str> =
        total.coverage.counts().into_iter().filter(|(_, count)| *count == 0).map(|(what, _)| what).collect();
    if !missing.is_empty() && 50 <= options.seeds {
        eprintln!("the simulation is silent: in all these runs there were no {}", missing.join(", no "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs the seeds until one fails.
fn run_on_threads(options: &Options, bar: &ProgressBar) -> Total {
    let total = Mutex::new(Total::default());
    let (next, is_over) = (AtomicU64::new(options.from), AtomicBool::new(false));
    let end = options.from.saturating_add(options.seeds);
    let work = || {
        while !is_over.load(Ordering::SeqCst) {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if end <= seed {
                return;
            }
            let report = Mutex::new(None);
            let result = run_seed(seed, |sim| *lock(&report) = Some(KvCampaign::of_seed(seed).run(sim)));
            let mut total = lock(&total);
            match result {
                Ok(run) => {
                    total.elapsed += run.elapsed;
                    total.decisions += run.decisions;
                    if let Some(report) = *lock(&report) {
                        total.add(&report);
                    }
                }
                Err(failure) => {
                    total.failure.get_or_insert(failure);
                    is_over.store(true, Ordering::SeqCst);
                }
            }
            bar.inc(1);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(work);
        }
    });
    total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Total {
    fn add(&mut self, report: &CampaignReport) {
        self.coverage.add(&report.coverage);
        self.operations.returned += report.operations.returned;
        self.operations.absent += report.operations.absent;
        self.operations.unknown += report.operations.unknown;
    }
}

fn tell(failure: &SeedFailure) -> ExitCode {
    eprintln!("{}", failure.describe(REPEAT));
    ExitCode::FAILURE
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
