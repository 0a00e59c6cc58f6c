//! The engine alone: three nodes in one thread, without tasks, network and disk, beside raft-rs.
//!
//! ```sh
//! cd tests/versus
//! cargo run --release --bin engine
//! cargo run --release --bin engine -- --batch 1,256 --payload 16
//! ```
//!
//! Both do the same: a batch of commands is given to the leader, every node stores the entries in a log in memory and says
//! so, they are committed, and every node hands them to a state machine that counts commands and bytes. Then the next
//! batch begins. A command is bytes of its own, as it would be if a client had sent it. What is compared is the processor
//! time for one entry on all three nodes together: there is one thread, and it never waits.
//!
//! raft-rs is measured in two ways, of which the better one counts: each command by a call of its own, where
//! `batch_append` joins the appends that follow, and all commands of a batch in one message. It has a log storage that
//! takes entries over without cloning them, which the one that comes with it does. Its messages are structures in memory,
//! as ours are: nothing is encoded.
//!
//! In favour of openconsensus: its nodes share one allocation of the entries of a batch, which is so within one process
//! only; between machines each node would have one of its own.

#![forbid(unsafe_code)]

mod ours;
mod theirs;

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use openconsensus_bench::{
    Allocations, Contender, CountingAllocator, Failure, Options, Report, Sample, Spread, Stopwatch,
    parameters,
};
use openconsensus_versus::version_of;

use ours::Ours;
use theirs::{Mode, Theirs};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Measure the engine without tasks, network and disk, beside raft-rs
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
    /// Only with so many commands at once
    #[arg(long, value_delimiter = ',')]
    batch: Vec<u64>,
    /// Only with commands of so many bytes
    #[arg(long, value_delimiter = ',')]
    payload: Vec<u64>,
    /// Measure only this one
    #[arg(long, value_enum)]
    only: Option<Which>,
    /// Only commit so many batches and measure nothing: for a program that counts instructions
    #[arg(long)]
    batches: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    Openconsensus,
    /// Each command by a call of its own
    RaftRsEach,
    /// All commands in one message
    RaftRsTogether,
}

impl Which {
    const ALL: [Self; 3] = [Self::Openconsensus, Self::RaftRsEach, Self::RaftRsTogether];

    fn name(self) -> &'static str {
        match self {
            Self::Openconsensus => "openconsensus",
            Self::RaftRsEach => "raft-rs, calls",
            Self::RaftRsTogether => "raft-rs, one message",
        }
    }

    fn group(self, payload_bytes: u64) -> Box<dyn Group> {
        match self {
            Self::Openconsensus => Box::new(Ours::new(payload_bytes)),
            Self::RaftRsEach => Box::new(Theirs::new(Mode::Each)),
            Self::RaftRsTogether => Box::new(Theirs::new(Mode::Together)),
        }
    }
}

/// How many nodes there are.
const NODES: u64 = 3;

/// So many entries each node keeps in memory.
const KEPT_ENTRIES: usize = 65_536;

/// How many batches are committed while allocations are counted.
const COUNTED_BATCHES: u64 = 100;

/// What a state machine has been given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Applied {
    commands: u64,
    bytes: u64,
}

impl Applied {
    fn count(&mut self, command: &Bytes) {
        self.commands += 1;
        self.bytes += command.len() as u64;
    }
}

/// Three nodes, of which the first one leads.
trait Group {
    /// Commits a batch of commands: when it returns, every node has stored and applied all of them.
    fn commit(&mut self, now: Instant, template: &[u8], batch: u64);

    /// What each node has applied.
    fn applied(&self) -> Vec<Applied>;
}

/// A group that is measured. Its time stands still while others are.
struct Measured {
    group: Box<dyn Group>,
    now: Instant,
    template: Vec<u8>,
    batch: u64,
}

impl Measured {
    fn new(which: Which, payload: u64, batch: u64) -> Self {
        let template = vec![7; payload as usize];
        let mut measured = Self { group: which.group(payload), now: Instant::now(), template, batch };
        // The first entries meet empty queues that have to grow.
        measured.run(|batches, _| batches * batch < KEPT_ENTRIES as u64 / 4);
        measured
    }

    /// Commits batches while `goes_on` says so, which is told how many there were and how long they took.
    fn run(&mut self, goes_on: impl Fn(u64, Duration) -> bool) -> u64 {
        let before = self.group.applied();
        let (start, mut elapsed, mut batches) = (Instant::now(), Duration::ZERO, 0);
        while goes_on(batches, elapsed) {
            self.group.commit(self.now + elapsed, &self.template, self.batch);
            batches += 1;
            elapsed = start.elapsed();
        }
        self.now += elapsed;
        let commands = batches * self.batch;
        for (before, after) in before.iter().zip(self.group.applied()) {
            assert_eq!(after.commands - before.commands, commands, "each node applies every command once");
            assert_eq!(after.bytes - before.bytes, commands * self.template.len() as u64);
        }
        commands
    }

    fn measure(&mut self, time: Duration) -> Sample {
        let watch = Stopwatch::start();
        let commands = self.run(|_, elapsed| elapsed < time);
        let elapsed = watch.stop();
        let counting = Allocations::count();
        let counted = self.run(|batches, _| batches < COUNTED_BATCHES);
        let allocations = counting.stop();
        let entries_per_s = commands as f64 / elapsed.wall.as_secs_f64();
        Sample::new()
            .with("cpu_ns", elapsed.processor.as_secs_f64() * 1e9 / commands as f64)
            .with("entries_per_s", entries_per_s)
            .allocations(counted, allocations)
    }
}

/// A command of a client.
fn command(template: &[u8]) -> Bytes {
    Bytes::copy_from_slice(template)
}

fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let mut report = Report::new("engine", &args.options).version("raft", &version_of("raft"));
    let time = args.options.duration();
    for payload in args.options.cases(or(&args.payload, &[16, 256])) {
        for batch in args.options.cases(or(&args.batch, &[1, 16, 256, 1024])) {
            let which = Which::ALL.into_iter().filter(|which| args.only.is_none_or(|only| only == *which));
            let groups = which.map(|which| (which.name(), Measured::new(which, payload, batch)));
            if let Some(exactly) = args.batches {
                groups.for_each(|(_, mut group)| {
                    group.run(|batches, _| batches < exactly);
                });
                continue;
            }
            let contenders =
                groups.map(|(name, mut group)| (name, Box::new(move |_| Ok(group.measure(time))) as _));
            let mut contenders: Vec<Contender<'_>> = contenders.collect();
            report.compare(parameters! { payload_bytes: payload, batch: batch }, &mut contenders)?;
        }
    }
    if args.batches.is_none() {
        report.finish()?;
        print_ratios(&report);
    }
    Ok(())
}

/// The ratio to the better way of raft-rs, and which one that is.
fn print_ratios(report: &Report) {
    for case in &report.cases {
        let ratio = |theirs: Which| case.ratio(Which::Openconsensus.name(), theirs.name(), "cpu_ns");
        let ratios = [Which::RaftRsEach, Which::RaftRsTogether];
        let ratios = ratios.into_iter().filter_map(|theirs| Some((theirs, ratio(theirs)?)));
        // The better they are, the greater is the part of their time that we take.
        let closest = ratios.max_by(|(_, one), (_, other)| one.median.total_cmp(&other.median));
        if let Some((theirs, Spread { median, min, max })) = closest {
            let parameters: Vec<_> =
                case.parameters.iter().map(|(name, value)| format!("{name} {value}")).collect();
            println!(
                "{}: {median:.2} ({min:.2} to {max:.2}) of the time of {}",
                parameters.join(", "),
                theirs.name()
            );
        }
    }
}

/// What was asked for, or everything.
fn or<'a>(asked: &'a [u64], all: &'a [u64]) -> &'a [u64] {
    if asked.is_empty() { all } else { asked }
}
