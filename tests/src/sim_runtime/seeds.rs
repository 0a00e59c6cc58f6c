//! One simulation for many seeds: what fails is repeated with its trace, and says how to repeat it.

use std::fmt;
use std::time::Duration;

use crate::panics::{Caught, catch};

use super::runtime::Sim;
use super::trace::TraceText;

/// So many of the last lines of a trace are printed; all of it is in a file.
const LINES_MAX: usize = 200;

/// What one seed has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedRun {
    /// The seed.
    pub seed: u64,
    /// How much virtual time has passed.
    pub elapsed: Duration,
    /// How often the scheduler has chosen a task.
    pub decisions: u64,
    /// See [`Sim::trace_hash`].
    pub trace_hash: u64,
}

/// A seed with which a simulation has failed.
#[derive(Clone, Debug)]
pub struct SeedFailure {
    /// What was seen until then.
    pub run: SeedRun,
    /// What the panic said.
    pub panic: String,
    /// All that has happened.
    pub trace: String,
}

/// Runs `simulation` with each of the seeds 1 to `seeds`; the first of them twice, to see that it can be repeated.
///
/// The environment variable `SEEDS` asks for another number of seeds, `SEED` for one alone. With `SIM_TRACE=all` the trace
/// of a failure also has every decision of the scheduler. `repeat` is the command that runs this test, for the message.
///
/// # Panics
///
/// When a simulation panics, with the seed, the command that repeats it, and the end of its trace; and when the first
/// seed does not do the same twice.
pub fn for_seeds(repeat: &str, seeds: u64, simulation: impl Fn(&Sim)) {
    let seeds = match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed..=seed,
        (None, Some(seeds)) => 1..=seeds,
        (None, None) => 1..=seeds,
    };
    let first = *seeds.start();
    for seed in seeds {
        match run_seed(seed, &simulation) {
            Ok(run) if seed == first => check_repeats(run, &simulation),
            Ok(_) => {}
            Err(failure) => panic!("{}", failure.describe(repeat)),
        }
    }
}

/// Runs `simulation` with one seed. When it panics it is run once more with the trace as text.
///
/// # Errors
///
/// What a panic said, and the trace up to it.
pub fn run_seed(seed: u64, simulation: impl Fn(&Sim)) -> Result<SeedRun, SeedFailure> {
    let (run, panic, _) = attempt(seed, TraceText::None, &simulation);
    let Some(panic) = panic else { return Ok(run) };
    let text = match std::env::var("SIM_TRACE").as_deref() {
        Ok("all") => TraceText::All,
        Ok(_) | Err(_) => TraceText::Events,
    };
    let (again, _, trace) = attempt(seed, text, &simulation);
    let trace = if again == run {
        trace
    } else {
        format!("{trace}the repetition was another run: {again:?}, {run:?}\n")
    };
    Err(SeedFailure { run, panic, trace })
}

/// Insists that a seed does the same once more.
fn check_repeats(run: SeedRun, simulation: impl Fn(&Sim)) {
    let (again, ..) = attempt(run.seed, TraceText::None, simulation);
    assert_eq!(
        again, run,
        "the same seed has done something else: something but the seed decides what happens"
    );
}

fn attempt(seed: u64, text: TraceText, simulation: impl Fn(&Sim)) -> (SeedRun, Option<String>, String) {
    let sim = Sim::with_trace(seed, text);
    let result = catch(|| simulation(&sim));
    let (elapsed, decisions, trace_hash) = (sim.elapsed(), sim.decisions(), sim.trace_hash());
    let run = SeedRun { seed, elapsed, decisions, trace_hash };
    let said = |Caught { message, place }| format!("{message}, at {place}");
    (run, result.err().map(said), sim.trace())
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

impl SeedFailure {
    /// What has failed, the command that repeats it, and the end of the trace, all of which is written to a file.
    pub fn describe(&self, repeat: &str) -> String {
        let Self { run, panic, trace } = self;
        let lines: Vec<&str> = trace.lines().collect();
        let shown = lines[lines.len().saturating_sub(LINES_MAX)..].join("\n");
        let seed = run.seed;
        let path = std::env::temp_dir().join(format!("openconsensus-trace-{seed}-{:x}.txt", run.trace_hash));
        let whole = match std::fs::write(&path, trace) {
            Ok(()) => format!("all {} lines of it are in {}", lines.len(), path.display()),
            Err(error) => format!("all of it could not be written to {}: {error}", path.display()),
        };
        format!(
            "the end of the trace ({whole}):\n{shown}\n\nseed {seed} failed after {:?} of virtual time: {panic}\n\
             repeat with: SEED={seed} {repeat}\n",
            run.elapsed
        )
    }
}

impl fmt::Display for SeedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, elapsed, decisions, trace_hash } = self;
        write!(f, "seed {seed}: {elapsed:?} of virtual time, {decisions} decisions, trace {trace_hash:016x}")
    }
}
