//! `kv bench`: clients that write and read in a closed loop; throughput, latency percentiles and errors.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::cli::{ClientArgs, parse_seconds};
use crate::client::{Client, ClientError, Command, Writer};
use crate::outcome::{Exit, Failure, Result};

/// `kv bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// How many clients write and read beside each other, each one request at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients: u32,
    /// Bytes of each value
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1 << 26))]
    value_size: u32,
    /// The share of requests that read, from 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = parse_share)]
    read_share: f64,
    /// Write through one stream that all clients share, so that those who write together share requests
    #[arg(long)]
    stream: bool,
    /// How long to run, in seconds
    #[arg(long, default_value = "10", value_parser = parse_seconds, conflicts_with = "count")]
    duration: Duration,
    /// How many requests to make in all, instead of a duration
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// How many different keys are used, named bench-0, bench-1 and so on
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn parse_share(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(_) | Err(_) => Err(format!("{text:?} is not a share: a number from 0 to 1")),
    }
}

/// Requests of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Latencies {
    /// How many succeeded.
    pub count: u64,
    /// How many a second.
    pub per_second: f64,
    /// The mean, in microseconds.
    pub mean_us: f64,
    /// Half were not slower.
    pub p50_us: u64,
    /// 90 of 100 were not slower.
    pub p90_us: u64,
    /// 99 of 100 were not slower.
    pub p99_us: u64,
    /// 999 of 1000 were not slower.
    pub p999_us: u64,
    /// The slowest.
    pub max_us: u64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How long it ran.
    pub seconds: f64,
    /// How many clients there were.
    pub clients: u32,
    /// Bytes of each value.
    pub value_size: u32,
    /// Writes.
    pub writes: Option<Latencies>,
    /// Reads.
    pub reads: Option<Latencies>,
    /// How many requests failed, by kind.
    pub errors: BTreeMap<&'static str, u64>,
}

/// Runs the clients and prints what was measured.
///
/// # Errors
///
/// When the cluster cannot be reached at all.
pub async fn run(args: BenchArgs) -> Result<Exit> {
    let client = args.client.client();
    // One request ahead, so that a wrong endpoint is an error and not a table of failures.
    client.get("bench-0").await?;
    let remaining = Arc::new(AtomicU64::new(args.count.unwrap_or(u64::MAX)));
    let started = Instant::now();
    let until = if args.count.is_some() { None } else { Some(started + args.duration) };
    let bar = progress(&args);
    let writer = args.stream.then(|| client.writer());
    let mut tasks = JoinSet::new();
    for _ in 0..args.clients {
        let load = Load {
            client: client.clone(),
            writer: writer.clone(),
            args: args.clone(),
            until,
            remaining: remaining.clone(),
            bar: bar.clone(),
        };
        tasks.spawn(load.run());
    }
    let mut total = Measured::new()?;
    while let Some(measured) = tasks.join_next().await {
        let measured = measured.map_err(|error| Failure::negative(format!("a client ended: {error}")))??;
        total.add(&measured)?;
    }
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    let report = Report {
        seconds,
        clients: args.clients,
        value_size: args.value_size,
        writes: latencies(&total.writes, seconds),
        reads: latencies(&total.reads, seconds),
        errors: total.errors,
    };
    if args.json {
        println!("{}", serde_json::json!(report));
    } else {
        print(&report);
    }
    let is_clean = report.errors.is_empty();
    Ok(if is_clean { Exit::Done } else { Exit::Negative })
}

fn progress(args: &BenchArgs) -> ProgressBar {
    match args.count {
        Some(count) if io::stderr().is_terminal() => {
            ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::stderr())
        }
        Some(_) | None => ProgressBar::hidden(),
    }
}

/// What one client, or all of them, measured. Latencies in microseconds.
struct Measured {
    writes: Histogram<u64>,
    reads: Histogram<u64>,
    errors: BTreeMap<&'static str, u64>,
}

impl Measured {
    fn new() -> Result<Self> {
        let histogram =
            || Histogram::new(3).map_err(|error| Failure::negative(format!("histogram: {error}")));
        Ok(Self { writes: histogram()?, reads: histogram()?, errors: BTreeMap::new() })
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        self.writes.add(&other.writes).map_err(wrong)?;
        self.reads.add(&other.reads).map_err(wrong)?;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        Ok(())
    }
}

fn wrong(error: impl std::fmt::Display) -> Failure {
    Failure::negative(format!("a latency cannot be counted: {error}"))
}

/// One client.
struct Load {
    client: Client,
    /// Writes go through it, where it was asked for.
    writer: Option<Writer>,
    args: BenchArgs,
    until: Option<Instant>,
    remaining: Arc<AtomicU64>,
    bar: ProgressBar,
}

impl Load {
    async fn run(self) -> Result<Measured> {
        let mut measured = Measured::new()?;
        let mut random = fastrand::Rng::new();
        let value: Vec<u8> =
            std::iter::repeat_with(|| random.u8(..)).take(self.args.value_size as usize).collect();
        while self.may_go_on() {
            let key = format!("bench-{}", random.u64(..self.args.keys));
            let is_read = random.f64() < self.args.read_share;
            let started = Instant::now();
            let ended = if is_read {
                self.client.get(&key).await.map(drop)
            } else {
                let put = Command::Put { key, value: value.clone() };
                match &self.writer {
                    Some(writer) => writer.apply(put).await.map(drop),
                    None => self.client.apply(put).await.map(drop),
                }
            };
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            match ended {
                Ok(()) if is_read => measured.reads.record(micros).map_err(wrong)?,
                Ok(()) => measured.writes.record(micros).map_err(wrong)?,
                Err(error) => *measured.errors.entry(kind(&error)).or_default() += 1,
            }
            self.bar.inc(1);
        }
        Ok(measured)
    }

    /// Takes one request of those that remain.
    fn may_go_on(&self) -> bool {
        let is_early = self.until.is_none_or(|until| Instant::now() < until);
        let take = |left: u64| left.checked_sub(1);
        is_early && self.remaining.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

fn kind(error: &ClientError) -> &'static str {
    match error {
        ClientError::Unknown { .. } => "unknown",
        ClientError::Refused(_) => "refused",
        ClientError::Failed(_) => "failed",
        ClientError::Busy(_) => "busy",
        ClientError::Unavailable { .. } => "unavailable",
    }
}

fn latencies(histogram: &Histogram<u64>, seconds: f64) -> Option<Latencies> {
    let count = histogram.len();
    (0 < count).then(|| Latencies {
        count,
        per_second: count as f64 / seconds,
        mean_us: histogram.mean(),
        p50_us: histogram.value_at_quantile(0.5),
        p90_us: histogram.value_at_quantile(0.9),
        p99_us: histogram.value_at_quantile(0.99),
        p999_us: histogram.value_at_quantile(0.999),
        max_us: histogram.max(),
    })
}

fn print(report: &Report) {
    println!("{} clients, values of {} bytes, {:.1} s", report.clients, report.value_size, report.seconds);
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "",
        "count",
        "per second",
        "mean ms",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
    ]);
    for (name, latencies) in [("writes", &report.writes), ("reads", &report.reads)] {
        let Some(l) = latencies else { continue };
        let ms = |micros: u64| format!("{:.2}", micros as f64 / 1000.0);
        table.add_row([
            name.to_owned(),
            l.count.to_string(),
            format!("{:.0}", l.per_second),
            format!("{:.2}", l.mean_us / 1000.0),
            ms(l.p50_us),
            ms(l.p90_us),
            ms(l.p99_us),
            ms(l.p999_us),
            ms(l.max_us),
        ]);
    }
    println!("{}", table.trim_fmt());
    for (kind, count) in &report.errors {
        println!("{kind}: {count}");
    }
}
