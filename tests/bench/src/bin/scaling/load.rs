//! Clients that write, and what became of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use openconsensus::{Raft, WriteError};
use openconsensus_bench::{Elapsed, Failure, Latencies, Stopwatch};
use tokio::task::JoinHandle;

use super::blob::{Blob, Payload};

/// Clients that write one command after the other each.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    seen: Vec<Arc<Mutex<Latencies>>>,
    clients: Vec<JoinHandle<Result<(), WriteError<Blob>>>>,
    since: Stopwatch,
}

/// What was written within a time.
pub(crate) struct Seen {
    pub(crate) latencies: Latencies,
    pub(crate) elapsed: Elapsed,
}

impl Seen {
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.count() as f64 / self.elapsed.wall.as_secs_f64()
    }
}

impl Load {
    /// Begins. With a `pause`, each client begins a write so long after it began the one before, or as soon as that is
    /// answered: latencies count from the moment at which it should have begun.
    pub(crate) fn begin(raft: &Raft<Blob>, clients: u64, payload: usize, pause: Option<Duration>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Self { stop, seen: Vec::new(), clients: Vec::new(), since: Stopwatch::start() };
        for client in 0..clients {
            let seen = Arc::new(Mutex::new(Latencies::new()));
            load.seen.push(seen.clone());
            let command = Payload::new(client, payload);
            load.clients.push(tokio::spawn(write(raft.clone(), command, pause, load.stop.clone(), seen)));
        }
        load
    }

    /// What is written from now on in so long a time, or longer where nothing was.
    pub(crate) async fn watch(&mut self, duration: Duration) -> Seen {
        self.take();
        let mut elapsed = Duration::ZERO;
        while elapsed < duration || !self.seen.iter().any(|seen| 0 < lock(seen).count()) {
            let piece = duration.min(Duration::from_millis(100)).max(Duration::from_millis(1));
            tokio::time::sleep(piece).await;
            elapsed = self.since.stop().wall;
        }
        self.take()
    }

    /// What was written since the last call, or since it began.
    pub(crate) fn take(&mut self) -> Seen {
        let mut latencies = Latencies::new();
        for seen in &self.seen {
            latencies.add(&std::mem::take(&mut *lock(seen)));
        }
        let elapsed = std::mem::replace(&mut self.since, Stopwatch::start()).stop();
        Seen { latencies, elapsed }
    }

    /// Ends when each client has its last answer.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await??;
        }
        Ok(())
    }
}

async fn write(
    raft: Raft<Blob>,
    command: Payload,
    pause: Option<Duration>,
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Latencies>>,
) -> Result<(), WriteError<Blob>> {
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        match pause {
            None => due = Instant::now(),
            Some(pause) => {
                due += pause;
                // Paces.
                tokio::time::sleep_until(due.into()).await;
            }
        }
        raft.write(command.clone()).await?;
        lock(&seen).record(due.elapsed());
    }
    Ok(())
}

fn lock(seen: &Mutex<Latencies>) -> MutexGuard<'_, Latencies> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
