//! Clients that write and read without a pause, and tell the model what they saw.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::task::JoinSet;

use super::model::{Attempt, Change, Model};
use super::report::LoadFigures;
use crate::client::{Client, ClientError, Command, Response};
use crate::outcome::{Failure, Result};

/// All keys of clients begin so, which an input must not.
pub(super) const KEY_PREFIX: &str = "~demo/";

/// How many keys a client changes in turn.
const SLOTS: usize = 64;

/// How often the count of operations is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long one operation may take, retries included.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a read through one certain node may take: it may be down.
const READ_FROM_TIMEOUT: Duration = Duration::from_secs(1);

/// The model, shared by all who write and read. Never locked across an await.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedModel(Arc<Mutex<Model>>);

impl SharedModel {
    /// Locks it.
    pub(super) fn lock(&self) -> MutexGuard<'_, Model> {
        // A panic under the lock fails the demonstration anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses of the nodes that are up: through these is read.
#[derive(Clone, Debug, Default)]
pub(super) struct Serving(Arc<Mutex<Vec<String>>>);

impl Serving {
    /// The node at `address` has come up.
    pub(super) fn add(&self, address: &str) {
        let mut addresses = self.lock();
        if !addresses.iter().any(|known| known == address) {
            addresses.push(address.to_owned());
        }
    }

    /// The node at `address` has gone.
    pub(super) fn remove(&self, address: &str) {
        self.lock().retain(|known| known != address);
    }

    fn pick(&self, rng: &mut Rng) -> Option<String> {
        rng.choice(self.lock().iter()).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Clients at work. They end with this value.
#[derive(Debug)]
pub(super) struct Load {
    clients: usize,
    model: SharedModel,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
    started: Instant,
}

impl Load {
    /// Starts `clients` of them; what they do follows from `seed` and what they are answered.
    pub(super) fn start(
        clients: usize,
        client: &Client,
        serving: &Serving,
        model: &SharedModel,
        seed: u64,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            let mut owner = Owner {
                number,
                generations: vec![0; SLOTS],
                rng: Rng::with_seed(seed.wrapping_add(number as u64)),
                client: client.with_timeout(OPERATION_TIMEOUT),
                impatient: client.with_timeout(READ_FROM_TIMEOUT),
                serving: serving.clone(),
                model: model.clone(),
            };
            let stop = stop.clone();
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    owner.operate().await;
                }
            });
        }
        Self { clients, model: model.clone(), stop, tasks, started: Instant::now() }
    }

    /// Returns when so many more operations have succeeded.
    ///
    /// # Errors
    ///
    /// They have not within `timeout`.
    pub(super) async fn go_on(&self, operations: u64, timeout: Duration) -> Result<()> {
        let done = || {
            let tally = self.model.lock().tally();
            tally.acknowledged + tally.reads
        };
        let start = done();
        let enough = async {
            while done() < start + operations {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(timeout, enough).await.map_err(|_| {
            let (count, seconds) = (done() - start, timeout.as_secs_f32());
            let message =
                format!("{count} of {operations} operations of the clients succeeded in {seconds} s");
            Failure::negative(message)
        })
    }

    /// Lets every client end the operation that it is at, and sums up.
    ///
    /// # Errors
    ///
    /// A client panicked, or did not end in time although each operation has a deadline.
    pub(super) async fn stop(mut self) -> Result<LoadFigures> {
        self.stop.store(true, Ordering::Relaxed);
        let elapsed = self.started.elapsed();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.map_err(|error| Failure::negative(format!("a client failed: {error}")))?;
            }
            Ok::<_, Failure>(())
        };
        tokio::time::timeout(OPERATION_TIMEOUT * 2, all)
            .await
            .map_err(|_| Failure::negative("the clients did not end their operations in time"))??;
        let model = self.model.lock();
        let tally = model.tally();
        let seconds = elapsed.as_secs_f64();
        Ok(LoadFigures {
            clients: self.clients,
            tally,
            keys: model.names().len(),
            seconds,
            operations_per_second: (tally.acknowledged + tally.reads) as f64 / seconds,
        })
    }
}

/// One client: the only one that changes its keys. Everybody reads them.
#[derive(Debug)]
struct Owner {
    number: usize,
    /// A key whose last write may still arrive is left alone, and its slot gets a key of the next generation.
    generations: Vec<u32>,
    rng: Rng,
    client: Client,
    impatient: Client,
    serving: Serving,
    model: SharedModel,
}

impl Owner {
    async fn operate(&mut self) {
        if self.rng.bool() {
            self.write().await;
        } else {
            self.read().await;
        }
    }

    async fn write(&mut self) {
        let slot = self.rng.usize(..SLOTS);
        let change = match (slot % 2, self.rng.u8(..10)) {
            (0, 0) => Change::Delete,
            (0, _) => Change::Put,
            (_, _) => Change::Replace,
        };
        let attempt = {
            let mut model = self.model.lock();
            let mut key = self.key(slot);
            while !model.is_writable(&key) {
                self.generations[slot] += 1;
                key = self.key(slot);
            }
            model.begin_write(&key, change)
        };
        carry_out(&self.client, &self.model, &attempt).await;
    }

    async fn read(&mut self) {
        let (reading, node) = {
            let model = self.model.lock();
            let recent = if self.rng.bool() { self.rng.choice(model.recent()) } else { None };
            let Some(key) = recent.or_else(|| self.rng.choice(model.names())) else { return };
            let reading = model.begin_read(key);
            (reading, if self.rng.bool() { self.serving.pick(&mut self.rng) } else { None })
        };
        let answer = match node {
            Some(node) => self.impatient.get_from(&node, &reading.key).await,
            None => self.client.get(&reading.key).await,
        };
        let mut model = self.model.lock();
        match answer {
            Ok(value) => model.finish_read(&reading, value.as_deref()),
            Err(_) => model.read_failed(),
        }
    }

    fn key(&self, slot: usize) -> String {
        let (number, generation) = (self.number, self.generations[slot]);
        format!("{KEY_PREFIX}{number:02}/{slot:03}.{generation}")
    }
}

/// Sends a write and tells the model what became of it. Returns whether it was acknowledged.
pub(super) async fn carry_out(client: &Client, model: &SharedModel, attempt: &Attempt) -> bool {
    let key = attempt.key.clone();
    let command = match (attempt.change, attempt.value.clone()) {
        (Change::Put, Some(value)) => Command::Put { key, value },
        (Change::Put | Change::Delete, None) | (Change::Delete, Some(_)) => Command::Delete { key },
        (Change::Replace, value) => Command::CompareAndSet { key, expected: attempt.expected.clone(), value },
    };
    let answer = client.apply(command).await;
    let mut model = model.lock();
    match answer {
        Ok(Response::Previous(previous)) => model.acknowledged(attempt, previous.as_deref()),
        Ok(Response::Compared { set: true, actual }) => model.acknowledged(attempt, actual.as_deref()),
        Ok(Response::Compared { set: false, actual }) => {
            model.not_replaced(attempt, actual.as_deref());
            return false;
        }
        // Not an answer to what was sent; so nobody knows.
        Ok(Response::Batch(_)) | Err(ClientError::Unknown { .. } | ClientError::Failed(_)) => {
            model.unknown(attempt);
            return false;
        }
        Err(ClientError::Refused(_) | ClientError::Unavailable { .. } | ClientError::Busy(_)) => {
            model.refused(attempt);
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests;
