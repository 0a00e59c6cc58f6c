//! Imports lines, batch after batch, as far as it is let. Each line becomes an entry of its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::imported::{Imported, Line};
use super::report::ImportFigures;
use crate::client::{Client, ClientError, Command};
use crate::outcome::{Failure, Result};

/// How long one attempt to send a batch may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a batch may take, all attempts included.
const BATCH_TIMEOUT: Duration = Duration::from_secs(30);

/// What is known of the lines, shared with who checks it.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedImported(Arc<Mutex<Imported>>);

impl SharedImported {
    /// Locks it.
    pub(super) fn lock(&self) -> MutexGuard<'_, Imported> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An import at work. It ends with this value.
#[derive(Debug)]
pub(super) struct Import {
    lines: usize,
    gate: watch::Sender<usize>,
    done: watch::Receiver<usize>,
    task: JoinHandle<Result<Duration>>,
    imported: SharedImported,
}

impl Import {
    /// Begins; nothing is sent until [`open`](Self::open) lets it.
    pub(super) fn start(batches: Vec<Vec<Line>>, client: &Client, imported: &SharedImported) -> Self {
        let (gate, limit) = watch::channel(0);
        let (progress, done) = watch::channel(0);
        let worker = Worker {
            client: client.with_timeout(ATTEMPT_TIMEOUT),
            imported: imported.clone(),
            limit,
            progress,
            active: Duration::ZERO,
        };
        let lines = batches.iter().map(Vec::len).sum();
        let task = tokio::spawn(worker.run(batches));
        Self { lines, gate, done, task, imported: imported.clone() }
    }

    /// How many lines there are.
    pub(super) fn lines(&self) -> usize {
        self.lines
    }

    /// Lets it go on up to this line, and to the end of its batch.
    pub(super) fn open(&self, upto: usize) {
        self.gate.send_replace(upto.min(self.lines));
    }

    /// A view of how many lines were acknowledged.
    pub(super) fn progress(&self) -> watch::Receiver<usize> {
        self.done.clone()
    }

    /// Returns when so many lines were acknowledged.
    ///
    /// # Errors
    ///
    /// The import failed, or has not come there within `timeout`.
    pub(super) async fn reached(&mut self, line: usize, timeout: Duration) -> Result<()> {
        let line = line.min(self.lines);
        let mut done = self.done.clone();
        match tokio::time::timeout(timeout, done.wait_for(|done| line <= *done)).await {
            Ok(Ok(_)) => Ok(()),
            // The worker has ended before that.
            Ok(Err(_)) => Err(match (&mut self.task).await {
                Ok(Err(failure)) => failure,
                Ok(Ok(_)) => Failure::negative(format!("the import ended before line {line}")),
                Err(error) => Failure::negative(format!("the import failed: {error}")),
            }),
            Err(_) => Err(Failure::negative(format!(
                "{} of {line} lines were imported after {} s",
                *self.done.borrow(),
                timeout.as_secs_f32()
            ))),
        }
    }

    /// Waits for the end and sums up. `first` is how many lines were sent undisturbed, and how long that took.
    pub(super) async fn finish(mut self, first: (usize, Duration)) -> Result<ImportFigures> {
        self.open(self.lines);
        self.reached(self.lines, BATCH_TIMEOUT * 2).await?;
        let active =
            self.task.await.map_err(|error| Failure::negative(format!("the import failed: {error}")))??;
        let imported = self.imported.lock();
        let lines = imported.lines_acknowledged();
        Ok(ImportFigures {
            lines,
            malformed: 0,
            batches_resent: imported.batches_resent(),
            seconds: active.as_secs_f64(),
            lines_per_second: rate(first.0 as u64, first.1),
            lines_per_second_overall: rate(lines, active),
        })
    }
}

fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

struct Worker {
    client: Client,
    imported: SharedImported,
    limit: watch::Receiver<usize>,
    progress: watch::Sender<usize>,
    active: Duration,
}

impl Worker {
    /// Returns how long it had something to do.
    async fn run(mut self, batches: Vec<Vec<Line>>) -> Result<Duration> {
        let mut done = 0;
        for batch in batches {
            // An error means that nobody holds the gate any more.
            if self.limit.wait_for(|limit| done < *limit).await.is_err() {
                break;
            }
            let began = Instant::now();
            self.send(&batch).await?;
            self.active += began.elapsed();
            done += batch.len();
            self.progress.send_replace(done);
        }
        Ok(self.active)
    }

    /// Sends a batch until it is acknowledged. That it may happen twice does no harm: it only sets keys.
    async fn send(&mut self, batch: &[Line]) -> Result<()> {
        let deadline = Instant::now() + BATCH_TIMEOUT;
        self.imported.lock().sent(batch);
        let mut is_resent = false;
        loop {
            let commands = batch.iter().cloned().map(|(key, value)| Command::Put { key, value }).collect();
            let answer = self.client.apply_many(commands).await;
            let Err(error) = answer else {
                let mut imported = self.imported.lock();
                if is_resent {
                    imported.acknowledged_again(batch);
                } else {
                    imported.acknowledged(batch);
                }
                return Ok(());
            };
            match &error {
                ClientError::Unknown { .. } | ClientError::Failed(_) => is_resent = true,
                ClientError::Unavailable { .. } | ClientError::Busy(_) => {}
                ClientError::Refused(_) => return Err(Failure::negative(format!("the import: {error}"))),
            }
            if Instant::now() >= deadline {
                let seconds = BATCH_TIMEOUT.as_secs();
                let message = format!("the import could not send a batch for {seconds} s; last: {error}");
                return Err(Failure::negative(message));
            }
        }
    }
}
