//! Clients that write as fast as they are answered, and what they see.

use std::future::Future;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openconsensus_bench::{Allocations, Failure, Latencies, Options, Sample, Stopwatch};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::Topology;

/// How much is written at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    /// How many clients write at the same time, each one call after the other.
    pub(crate) clients: u64,
    /// How many commands one call has.
    pub(crate) batch: u64,
    /// How many bytes a command has.
    pub(crate) payload_bytes: u64,
}

/// A command: bytes that are cheap to share, because one of the libraries clones each of them several times.
#[derive(Clone, Debug)]
pub(crate) struct Payload(pub(crate) Arc<[u8]>);

/// Three nodes.
pub(crate) trait Cluster: Sized {
    type Client: Client;

    /// Starts them on the current runtime.
    fn start() -> impl Future<Output = Result<Self, Failure>>;

    /// Somebody who can write to the leader.
    fn client(&self) -> Self::Client;

    /// Stops them.
    fn stop(self) -> impl Future<Output = Result<(), Failure>>;
}

/// Who can write.
pub(crate) trait Client: Clone + Send + Sync + 'static {
    /// Writes one command and waits until it is applied.
    fn write(&self, payload: Payload) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Writes several in one call and waits until all are applied.
    fn write_many(&self, payloads: Vec<Payload>) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What the clients are in.
const WARM_UP: u8 = 0;
const MEASURED: u8 = 1;
const ALLOCATIONS: u8 = 2;
const END: u8 = 3;

/// One of so many calls is timed: looking at the clock twice for each would be a sizeable part of what is measured.
const TIMED_EVERY: u64 = 16;

/// Starts nodes, lets clients write, and says what it took.
pub(crate) fn round<N: Cluster>(
    topology: Topology,
    work: Work,
    options: &Options,
) -> Result<Sample, Failure> {
    let servers = Worker::start(topology)?;
    let own = match topology {
        Topology::Threads => Some(Worker::start(topology)?),
        Topology::Worker | Topology::Stealing => None,
    };
    let nodes = servers.block_on(N::start())?;
    let sample = load(own.as_ref().unwrap_or(&servers), nodes.client(), work, options.duration())?;
    servers.block_on(nodes.stop())?;
    Ok(sample)
}

/// A thread of its own that runs tasks.
struct Worker {
    handle: Handle,
    /// Dropped to stop it.
    _running: oneshot::Sender<()>,
}

impl Worker {
    fn start(topology: Topology) -> Result<Self, Failure> {
        let mut builder = match topology {
            Topology::Threads | Topology::Stealing => Builder::new_multi_thread(),
            Topology::Worker => Builder::new_current_thread(),
        };
        let runtime = builder.worker_threads(1).enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, stopped) = oneshot::channel();
        std::thread::spawn(move || runtime.block_on(stopped).ok());
        Ok(Self { handle, _running: running })
    }

    /// Waits for something; the tasks that it spawns run on the worker.
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }
}

fn load<C: Client>(worker: &Worker, client: C, work: Work, duration: Duration) -> Result<Sample, Failure> {
    let phase = Arc::new(AtomicU8::new(WARM_UP));
    let latencies = Arc::new(Mutex::new(Latencies::new()));
    let clients: Vec<_> = (0..work.clients)
        .map(|number| {
            worker.handle.spawn(write(client.clone(), number, work, phase.clone(), latencies.clone()))
        })
        .collect();
    std::thread::sleep(duration / 5);
    phase.store(MEASURED, Ordering::SeqCst);
    let watch = Stopwatch::start();
    std::thread::sleep(duration);
    phase.store(ALLOCATIONS, Ordering::SeqCst);
    let elapsed = watch.stop();
    let counting = Allocations::count();
    std::thread::sleep((duration / 5).max(Duration::from_millis(50)));
    phase.store(END, Ordering::SeqCst);
    let allocations = counting.stop();

    let mut calls = Vec::new();
    let mut counted = 0;
    for client in clients {
        let of_phases = worker.block_on(client)??;
        calls.push(of_phases[usize::from(MEASURED)]);
        counted += of_phases[usize::from(ALLOCATIONS)] * work.batch;
    }
    let all: u64 = calls.iter().sum();
    let mean = all as f64 / work.clients as f64;
    let (least, most) = (calls.iter().min().copied().unwrap_or(0), calls.iter().max().copied().unwrap_or(0));
    let latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Sample::new()
        .throughput(all * work.batch, &elapsed)
        .latencies(&latencies)
        .with("p99_by_p50", latencies.quantile_us(0.99) / latencies.quantile_us(0.5))
        .with("slowest_client", least as f64 / mean)
        .with("fastest_client", most as f64 / mean)
        .allocations(counted, allocations))
}

/// Writes until the end, and says how many calls were begun in each phase.
async fn write<C: Client>(
    client: C,
    number: u64,
    work: Work,
    phase: Arc<AtomicU8>,
    latencies: Arc<Mutex<Latencies>>,
) -> Result<[u64; 3], Failure> {
    let mut calls = [0; 3];
    // Not all clients are timed in the same turn.
    let mut turn = number;
    loop {
        let now = phase.load(Ordering::Relaxed);
        if now == END {
            return Ok(calls);
        }
        let begun = (now == MEASURED && turn.is_multiple_of(TIMED_EVERY)).then(Instant::now);
        if work.batch == 1 {
            client.write(payload(turn, work.payload_bytes)).await?;
        } else {
            client
                .write_many((0..work.batch).map(|n| payload(turn ^ n, work.payload_bytes)).collect())
                .await?;
        }
        if let Some(begun) = begun {
            latencies.lock().unwrap_or_else(PoisonError::into_inner).record(begun.elapsed());
        }
        calls[usize::from(now)] += 1;
        turn += 1;
    }
}

/// A command of so many bytes, at least 8, that differs from others.
pub(crate) fn payload(number: u64, bytes: u64) -> Payload {
    const ZEROES: [u8; 4096] = [0; 4096];
    let mut bytes: Arc<[u8]> = Arc::from(&ZEROES[..bytes as usize]);
    let own = Arc::get_mut(&mut bytes).expect("nobody else has it yet");
    own[..8].copy_from_slice(&number.to_le_bytes());
    Payload(bytes)
}
