//! `kv import`: reads pairs from a file or standard input and puts them, in batches.
//!
//! A batch is one entry of the log. Several are in flight at a time, but never two with the same key: of two lines with
//! one key the later one wins. A batch whose outcome is unknown is sent again: its puts say what the values are to be,
//! so carrying them out twice ends in the same state, as long as nobody else writes these keys meanwhile. How often
//! that happened is counted.

pub(crate) mod batches;
pub mod lines;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use batches::OnError;
use batches::{Batch, Event, Reading, read_batches};

use crate::cli::ClientArgs;
use crate::client::{Client, ClientError, Command};
use crate::format::{Backslashes, Format};
use crate::outcome::{Exit, Failure, Result};

/// `kv import`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The file; `-` for standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// How lines are written; by default the file's ending tells (.jsonl, .ndjson, .json: JSON lines; all else:
    /// tab-separated)
    #[arg(long)]
    format: Option<Format>,
    /// In tab-separated lines, take backslashes for themselves, and all behind the first tab for the value
    #[arg(long)]
    raw: bool,
    /// The most lines in one batch
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// How many batches may be on their way
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    in_flight: u32,
    /// What to do at a malformed line
    #[arg(long, default_value = "stop")]
    on_error: OnError,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// What an import did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Lines whose put was acknowledged.
    pub imported: u64,
    /// Lines that were malformed.
    pub malformed: u64,
    /// Lines that the cluster refused.
    pub refused: u64,
    /// Batches that were acknowledged.
    pub batches: u64,
    /// Times that the outcome of a batch was unknown, so that it was sent again if there was time.
    pub unknown_retried: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Imports what `args` name.
///
/// # Errors
///
/// When the file cannot be read or the cluster cannot be written to. What was imported until then is told on standard
/// output.
pub async fn run(args: ImportArgs) -> Result<Exit> {
    let client = args.client.client();
    let (reader, total) = open(&args)?;
    let reading = Reading {
        format: args.format.unwrap_or_else(|| Format::of_path(&args.file)),
        backslashes: if args.raw { Backslashes::Literal } else { Backslashes::Escape },
        batch_lines: args.batch as usize,
        on_error: args.on_error,
    };
    let (sender, events) = mpsc::channel(args.in_flight as usize);
    // A thread, not a task: one that is blocked in a read of standard input must not hold up the end of the program.
    std::thread::Builder::new()
        .name("import".into())
        .spawn(move || read_batches(reader, reading, &sender))
        .map_err(|error| Failure::negative(format!("cannot start a thread: {error}")))?;
    let mut import = Import {
        client,
        in_flight_max: args.in_flight as usize,
        on_error: args.on_error,
        bar: progress_bar(total),
        summary: Summary::default(),
        in_flight: JoinSet::new(),
        keys: BTreeSet::new(),
    };
    let started = Instant::now();
    let ended = import.run(events).await;
    import.bar.finish_and_clear();
    import.summary.seconds = started.elapsed().as_secs_f64();
    let summary = &import.summary;
    if args.json {
        println!("{}", serde_json::json!(summary));
    } else {
        println!(
            "imported {} lines in {} batches, {:.1} s; malformed {}, refused {}, sent again after an unknown outcome {}",
            summary.imported,
            summary.batches,
            summary.seconds,
            summary.malformed,
            summary.refused,
            summary.unknown_retried
        );
    }
    ended?;
    Ok(match (summary.malformed, summary.refused) {
        (0, 0) => Exit::Done,
        (_, 0) => Exit::Negative,
        _ => Exit::Refused,
    })
}

fn open(args: &ImportArgs) -> Result<(Box<dyn BufRead + Send>, Option<u64>)> {
    if args.file.as_os_str() == "-" {
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    }
    let wrong = |error: io::Error| Failure::negative(format!("cannot read {}: {error}", args.file.display()));
    let file = File::open(&args.file).map_err(wrong)?;
    let meta = file.metadata().map_err(wrong)?;
    let total = meta.is_file().then_some(meta.len());
    Ok((Box::new(BufReader::with_capacity(1 << 18, file)), total))
}

/// On standard error, and only when that is a terminal.
fn progress_bar(total: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A batch that has ended.
#[derive(Debug)]
struct Sent {
    keys: BTreeSet<String>,
    bytes: u64,
    acknowledged: u64,
    unknown_retried: u64,
    refused: Vec<(u64, String)>,
    error: Option<(u64, ClientError)>,
}

struct Import {
    client: Client,
    in_flight_max: usize,
    on_error: OnError,
    bar: ProgressBar,
    summary: Summary,
    in_flight: JoinSet<Sent>,
    /// Of all batches in flight.
    keys: BTreeSet<String>,
}

impl Import {
    async fn run(&mut self, mut events: mpsc::Receiver<Event>) -> Result<()> {
        let result = self.send_all(&mut events).await;
        // Also after an error: what is on its way is waited for and counted.
        let drained = self.drain().await;
        result.and(drained)
    }

    async fn send_all(&mut self, events: &mut mpsc::Receiver<Event>) -> Result<()> {
        while let Some(event) = events.recv().await {
            match event {
                Event::Batch(batch) => {
                    while self.in_flight.len() >= self.in_flight_max || !self.keys.is_disjoint(&batch.keys) {
                        self.settle_one().await?;
                    }
                    self.keys.extend(batch.keys.iter().cloned());
                    self.in_flight.spawn(send_batch(self.client.clone(), batch));
                }
                Event::Malformed { line, reason } => {
                    self.summary.malformed += 1;
                    self.report(line, &format!("malformed: {reason}"));
                }
                Event::Failed { line, reason } => {
                    return Err(Failure::negative(format!("cannot read on behind line {line}: {reason}")));
                }
            }
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<()> {
        let mut result = Ok(());
        while !self.in_flight.is_empty() {
            let settled = self.settle_one().await;
            result = result.and(settled);
        }
        result
    }

    /// Waits for one batch.
    async fn settle_one(&mut self) -> Result<()> {
        let Some(sent) = self.in_flight.join_next().await else { return Ok(()) };
        let sent = sent.map_err(|error| Failure::negative(format!("a batch was not sent: {error}")))?;
        self.keys.retain(|key| !sent.keys.contains(key));
        self.bar.inc(sent.bytes);
        self.summary.imported += sent.acknowledged;
        self.summary.batches += u64::from(0 < sent.acknowledged);
        self.summary.unknown_retried += sent.unknown_retried;
        self.summary.refused += sent.refused.len() as u64;
        for (line, reason) in &sent.refused {
            self.report(*line, reason);
        }
        if let Some((line, error)) = sent.error {
            let mut failure = Failure::from(error);
            failure.text = format!("stopped at line {line}: {}", failure.text);
            return Err(failure);
        }
        match (self.on_error, sent.refused.first()) {
            (OnError::Continue, _) | (OnError::Stop, None) => Ok(()),
            (OnError::Stop, Some((line, _))) => {
                Err(Failure::refused(format!("stopped, because line {line} was refused")))
            }
        }
    }

    fn report(&self, line: u64, text: &str) {
        self.bar.suspend(|| eprintln!("line {line}: {text}"));
    }
}

/// Sends one batch until all of its lines are acknowledged or refused, or the time is over.
async fn send_batch(client: Client, batch: Batch) -> Sent {
    let Batch { puts, keys, bytes } = batch;
    let mut sent =
        Sent { keys, bytes, acknowledged: 0, unknown_retried: 0, refused: Vec::new(), error: None };
    // Parts that are still to be sent, the first lines on top. Only a part that is refused is split, to find the line.
    let mut parts = vec![puts.as_slice()];
    while let Some(part) = parts.pop() {
        let Some((line, _)) = part.first() else { continue };
        match put_all(&client, part, &mut sent.unknown_retried).await {
            Ok(()) => sent.acknowledged += part.len() as u64,
            Err(ClientError::Refused(_)) if 1 < part.len() => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
            Err(ClientError::Refused(reason)) => sent.refused.push((*line, format!("refused: {reason}"))),
            Err(error) => {
                sent.error = Some((*line, error));
                break;
            }
        }
    }
    sent
}

/// Puts are idempotent, so an unknown outcome is a reason to send them again, until the time of the client is over.
async fn put_all(client: &Client, puts: &[(u64, Command)], unknown: &mut u64) -> Result<(), ClientError> {
    let patience = client.timeout();
    let started = Instant::now();
    // Once an outcome was unknown, only an acknowledgement can settle it.
    let mut unsettled = None;
    loop {
        let left = patience.saturating_sub(started.elapsed());
        // A node that does not answer must not use up all of the time.
        let attempt = client.with_timeout(left.min((patience / 3).max(Duration::from_secs(1))));
        let batch = Command::Batch(puts.iter().map(|(_, put)| put.clone()).collect());
        let error = match attempt.apply(batch).await {
            Ok(_) => return Ok(()),
            Err(error @ ClientError::Unknown { .. }) => {
                *unknown += 1;
                unsettled = Some(error.clone());
                error
            }
            Err(error @ (ClientError::Unavailable { .. } | ClientError::Busy(_))) => error,
            Err(error @ (ClientError::Refused(_) | ClientError::Failed(_))) => return Err(error),
        };
        // As for every retry, one without time to end is not begun.
        if patience.mul_f64(0.75) <= started.elapsed() {
            return Err(unsettled.unwrap_or(error));
        }
    }
}
