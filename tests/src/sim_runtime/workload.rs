//! `KvWorkload`: clients of the key-value store that record what they asked for and what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openconsensus::AsyncRuntime;
use openconsensus_memstore::kv;

use super::cluster::SimCluster;
use super::kv::KvApplication;
use crate::client::Outcome;
use crate::linearizability::{History, KvAction, KvRequest, KvResponse, Recorder};

/// How long the clients may take to come to an end.
const END_MAX: Duration = Duration::from_secs(60);

/// Clients of a simulated key-value cluster, each with one request after the other: writes, compare-and-set and deletions
/// through the leader, reads on any node, half of them by lease. All of it is recorded, to be checked for linearizability.
#[derive(Debug)]
pub struct KvWorkload {
    cluster: SimCluster<KvApplication>,
    recorder: Recorder<KvRequest, KvResponse>,
    is_over: Arc<AtomicBool>,
    running: Arc<AtomicU64>,
}

/// What the clients of a [`KvWorkload`] do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkloadOptions {
    /// How many there are.
    pub clients: u64,
    /// How many keys they share.
    pub keys: u64,
    /// How long a client does nothing between two requests, at most.
    pub pause_max: Duration,
}

impl Default for WorkloadOptions {
    /// Five clients, five keys, pauses of up to 40 ms.
    fn default() -> Self {
        Self { clients: 5, keys: 5, pause_max: Duration::from_millis(40) }
    }
}

impl KvWorkload {
    /// Starts the clients.
    pub fn start(cluster: &SimCluster<KvApplication>, options: WorkloadOptions) -> Self {
        let workload = Self {
            cluster: cluster.clone(),
            recorder: Recorder::with_clock(cluster.world().clock()),
            is_over: Arc::default(),
            running: Arc::new(AtomicU64::new(options.clients)),
        };
        for number in 0..options.clients {
            let client = Client {
                cluster: cluster.clone(),
                recorder: workload.recorder.clone(),
                random: cluster.world().generator(),
                number,
                writes: 0,
                last_read: vec![None; options.keys as usize],
                options,
            };
            let (is_over, running) = (workload.is_over.clone(), workload.running.clone());
            cluster.world().spawn(async move {
                client.run(&is_over).await;
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        workload
    }

    /// How many operations have had a response so far.
    pub fn returned(&self) -> usize {
        self.recorder.counts().returned
    }

    /// Lets every client end the request that it is at, and returns what all of them were told.
    ///
    /// # Panics
    ///
    /// When a client does not come to an end within a minute of virtual time.
    pub async fn stop(self) -> History<KvRequest, KvResponse> {
        self.is_over.store(true, Ordering::SeqCst);
        let has_ended = || (self.running.load(Ordering::SeqCst) == 0).then_some(());
        self.cluster.until(END_MAX, "all clients to end", has_ended).await;
        self.recorder.history()
    }
}

struct Client {
    cluster: SimCluster<KvApplication>,
    recorder: Recorder<KvRequest, KvResponse>,
    random: fastrand::Rng,
    number: u64,
    writes: u64,
    /// What it has last read of each key: what a compare-and-set may expect.
    last_read: Vec<Option<String>>,
    options: WorkloadOptions,
}

impl Client {
    async fn run(mut self, is_over: &AtomicBool) {
        while !is_over.load(Ordering::SeqCst) {
            let key = self.random.usize(..self.last_read.len());
            match self.random.u8(0..10) {
                0..=3 => self.read(key).await,
                4 => self.write(key, KvAction::Delete).await,
                5..=7 => {
                    let value = self.next_value();
                    self.write(key, KvAction::Put(value)).await;
                }
                _ => {
                    let (expected, value) = (self.last_read[key].clone(), Some(self.next_value()));
                    self.write(key, KvAction::CompareAndSet { expected, value }).await;
                }
            }
            let pause = self.options.pause_max.mul_f64(self.random.f64());
            self.cluster.world().let_pass(pause).await;
        }
    }

    /// A value that nobody else writes, so that a read says which write it has seen.
    fn next_value(&mut self) -> String {
        self.writes += 1;
        format!("{}.{}", self.number, self.writes)
    }

    async fn read(&mut self, key: usize) {
        let name = format!("k{key}");
        let by_lease = self.random.bool();
        // A lease is worth most to a leader that may not be one any more.
        let leader = if by_lease && self.random.bool() { self.cluster.some_leader() } else { None };
        let Some(node) = leader.or_else(|| self.cluster.some_node()) else { return };
        let call = self.recorder.call(self.number, KvRequest::get(&*name));
        let reader =
            if by_lease { self.cluster.read_by_lease(node).await } else { self.cluster.read(node).await };
        let Some(reader) = reader else {
            call.absent();
            return;
        };
        self.last_read[key] = reader.get(&name).map(text);
        self.cluster
            .world()
            .note(format_args!("client {} reads {name} at n{node}: {:?}", self.number, self.last_read[key]));
        call.returned(KvResponse::Value(self.last_read[key].clone()));
    }

    async fn write(&mut self, key: usize, action: KvAction) {
        let name = format!("k{key}");
        let command = command(&name, &action);
        let shown = format!("client {}: {command:?}", self.number);
        self.cluster.world().note(format_args!("{shown}"));
        let call = self.recorder.call(self.number, KvRequest { key: name, action });
        let patience = Duration::from_millis(self.random.u64(20..3000));
        let outcome = self.cluster.write_within(command, patience).await;
        self.cluster.world().note(format_args!("{shown}: {outcome:?}"));
        match outcome {
            Outcome::Applied(response) => call.returned(told(response)),
            Outcome::Absent => call.absent(),
            Outcome::Unknown => call.unknown(),
        }
    }
}

fn command(key: &str, action: &KvAction) -> kv::Command {
    let key = key.to_owned();
    let bytes = |value: &String| value.clone().into_bytes();
    match action {
        KvAction::Put(value) => kv::Command::Put { key, value: bytes(value) },
        KvAction::Delete => kv::Command::Delete { key },
        KvAction::CompareAndSet { expected, value } => kv::Command::CompareAndSet {
            key,
            expected: expected.as_ref().map(bytes),
            value: value.as_ref().map(bytes),
        },
        KvAction::Get => unreachable!("a read is no command"),
    }
}

/// What a client learns from a response.
fn told(response: kv::Response) -> KvResponse {
    match response {
        kv::Response::Previous(previous) => KvResponse::Previous(previous.map(text)),
        kv::Response::Compared { set, actual } => KvResponse::Compared { set, actual: actual.map(text) },
        kv::Response::Batch(_) => unreachable!("nobody writes batches"),
    }
}

fn text(value: Vec<u8>) -> String {
    String::from_utf8(value).expect("clients write text")
}
