//! Runs simulations of engines: many seeds with a table of what has happened, or one seed in detail.

use std::io::{IsTerminal, stderr};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use openconsensus_tests::simulation::{Effort, Report, Run, Sabotage, Story, campaign, replay, run};

const USAGE: &str = "\
Simulates clusters of engines under faults and checks everything that Raft promises.

usage: simulate [--seeds N] [--from SEED] [--threads N] [--sabotage NAME] [--out FOLDER] [--minimise-seconds N]
       simulate --seed SEED [--trace] [--sabotage NAME] [--out FOLDER] [--minimise-seconds N]

  --seeds N             run so many seeds (default 200)
  --from SEED           begin with this one (default 0)
  --threads N           on so many threads (default: one for each core)
  --seed SEED           run one seed and say what has happened in it
  --trace               print every event and message of that seed
  --sabotage NAME       break a part on purpose, to see that it is noticed: ack-before-flush, lose-completed-write,
                        forget-vote, steal-votes, skip-command, read-at-once, answer-by-index, stay-cut
  --out FOLDER          where the story of a violation is written (default target/simulation)
  --minimise-seconds N  how long to look for a shorter list of events (default 30)";

struct Options {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    threads: usize,
    trace: bool,
    sabotage: Option<Sabotage>,
    out: PathBuf,
    effort: Effort,
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
    match options.seed {
        Some(seed) => run_one(seed, &options),
        None => run_many(&options),
    }
}

/// `None` when help is asked for.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        seeds: 200,
        from: 0,
        seed: None,
        threads: std::thread::available_parallelism().map_or(1, NonZero::get),
        trace: false,
        sabotage: None,
        out: PathBuf::from("target/simulation"),
        effort: Effort::default(),
    };
    while let Some(name) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
        let number = |value: String| value.parse::<u64>().map_err(|_| format!("{value} is no number"));
        match name.as_str() {
            "--help" | "-h" => return Ok(None),
            "--seeds" => options.seeds = number(value()?)?,
            "--from" => options.from = number(value()?)?,
            "--seed" => options.seed = Some(number(value()?)?),
            "--threads" => options.threads = number(value()?)?.max(1) as usize,
            "--trace" => options.trace = true,
            "--sabotage" => options.sabotage = Some(value()?.parse()?),
            "--out" => options.out = PathBuf::from(value()?),
            "--minimise-seconds" => options.effort.time_max = Duration::from_secs(number(value()?)?),
            _ => return Err(format!("there is no option {name}")),
        }
    }
    Ok(Some(options))
}

fn run_one(seed: u64, options: &Options) -> ExitCode {
    let run = run(seed, options.sabotage);
    if options.trace {
        let until_calm = run.violation.as_ref().is_none_or(|violation| violation.in_calm);
        let traced = replay(seed, options.sabotage, &run.events, until_calm, true);
        print!("{}", traced.trace.unwrap_or_default().text());
    }
    println!("{}", run.coverage);
    println!("seed {seed}: {} events, {} steps, hash {:016x}", run.events.len(), run.steps, run.hash);
    if run.violation.is_some() { tell(&run, options) } else { ExitCode::SUCCESS }
}

fn run_many(options: &Options) -> ExitCode {
    let bar = if stderr().is_terminal() {
        ProgressBar::with_draw_target(Some(options.seeds), ProgressDrawTarget::stderr())
    } else {
        ProgressBar::hidden()
    };
    bar.set_style(
        ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {msg} steps/s, {eta} left")
            .expect("the template is right"),
    );
    let (begin, steps) = (Instant::now(), AtomicU64::new(0));
    let progress = |more: u64| {
        let steps = steps.fetch_add(more, Ordering::Relaxed) + more;
        bar.inc(1);
        bar.set_message(format!("{:.0}", steps as f64 / begin.elapsed().as_secs_f64()));
    };
    let seeds = options.from..options.from.saturating_add(options.seeds);
    let report = campaign(seeds, options.threads, options.sabotage, &progress);
    bar.finish_and_clear();
    print_report(&report, begin.elapsed());
    if let Some(run) = report.violations.first() {
        return tell(run, options);
    }
    let missing = report.missing();
    if !missing.is_empty() {
        eprintln!("the simulation is silent: in all these runs there were no {}", missing.join(", no "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn print_report(report: &Report, elapsed: Duration) {
    let per_second = |seconds: f64| report.steps as f64 / seconds.max(0.001);
    println!("{}", report.coverage);
    print!(
        "{} seeds, {} steps in {:.1} s: {:.0} steps/s",
        report.runs,
        report.steps,
        elapsed.as_secs_f64(),
        per_second(elapsed.as_secs_f64())
    );
    match cpu_seconds() {
        Some(seconds) => println!(", {:.0} for each second of a core", per_second(seconds)),
        None => println!(),
    }
}

/// What this process has used so far, where the system tells it: in hundredths of a second.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may contain spaces.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}

/// Tells a violation, and where the story of it is.
fn tell(run: &Run, options: &Options) -> ExitCode {
    eprintln!("seed {} contradicts an oracle; looking for a shorter list of events", run.seed);
    let story = Story::of(run, options.effort);
    eprintln!("{}", story.summary);
    match story.save(&options.out) {
        Ok((text, html)) => eprintln!("trace: {}\ndiagram: {}", text.display(), html.display()),
        Err(error) => eprintln!("the story could not be written to {}: {error}", options.out.display()),
    }
    ExitCode::FAILURE
}
