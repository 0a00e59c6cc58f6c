//! Clients in a closed loop, and what they measured.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kv::client::{Command, Writer};
use openconsensus_bench::{Failure, Latencies, Sample, Stopwatch};
use tokio::task::JoinSet;

use crate::calls::Connection;
use crate::cluster::Cluster;

/// So many keys are written and read, chosen at random.
const KEYS: u64 = 10_000;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Put,
    /// So many puts in one request.
    Batch(usize),
    /// Puts through one stream that all clients share. Only with `kv`.
    Stream,
    /// Linearizable.
    Get,
}

/// What all clients do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) operation: Operation,
    pub(crate) clients: usize,
    pub(crate) value_bytes: usize,
}

/// Through what a client asks.
#[derive(Clone)]
enum Way {
    Connection(Connection),
    Writer(Writer),
}

impl Load {
    /// What its clients see in `length`, after a fifth of that to get warm, and what the processes use meanwhile.
    pub(crate) async fn measure(
        self,
        cluster: &mut Cluster,
        connections: usize,
        length: Duration,
    ) -> Result<Sample, Failure> {
        cluster.find_leader().await?;
        let ways: Vec<Way> = match self.operation {
            Operation::Put | Operation::Batch(_) => {
                cluster.connect(connections).await?.into_iter().map(Way::Connection).collect()
            }
            Operation::Get => {
                let connections = cluster.connect(connections).await?;
                self.fill(connections[0].clone()).await?;
                connections.into_iter().map(Way::Connection).collect()
            }
            Operation::Stream => vec![Way::Writer(cluster.kv_client().writer())],
        };
        self.run(&ways, length / 5).await?;
        let before = cluster.used().await?;
        let watch = Stopwatch::start();
        let latencies = self.run(&ways, length).await?;
        let elapsed = watch.stop();
        let after = cluster.used().await?;
        let keys = latencies.count() as f64 * self.keys_per_request() as f64;
        let per_key = |amount: f64| amount / keys;
        Ok(Sample::new()
            .with("keys_per_s", keys / elapsed.wall.as_secs_f64())
            .latencies(&latencies)
            .with("servers_cpu_us", per_key((after.cpu - before.cpu).as_secs_f64() * 1e6))
            .with("client_cpu_us", per_key(elapsed.processor.as_secs_f64() * 1e6))
            .with("log_syncs", per_key((after.syncs - before.syncs) as f64)))
    }

    fn keys_per_request(self) -> usize {
        match self.operation {
            Operation::Put | Operation::Stream | Operation::Get => 1,
            Operation::Batch(keys) => keys,
        }
    }

    /// Puts every key, so that every get finds one.
    async fn fill(self, mut connection: Connection) -> Result<(), Failure> {
        let value = value(self.value_bytes);
        // As many as etcd takes in one transaction.
        for first in (0..KEYS).step_by(100) {
            let keys = (first..(first + 100).min(KEYS)).map(key).collect();
            connection.put_many(keys, &value).await?;
        }
        Ok(())
    }

    /// Lets all clients work for `length`.
    async fn run(self, ways: &[Way], length: Duration) -> Result<Latencies, Failure> {
        let until = Instant::now() + length;
        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            let way = ways[number % ways.len()].clone();
            clients.spawn(self.client(way, number as u64, until));
        }
        let mut latencies = Latencies::new();
        while let Some(ended) = clients.join_next().await {
            for latency in ended?? {
                latencies.record(latency);
            }
        }
        Ok(latencies)
    }

    async fn client(self, mut way: Way, number: u64, until: Instant) -> Result<Vec<Duration>, Failure> {
        let mut random = fastrand::Rng::with_seed(number);
        let value = value(self.value_bytes);
        let mut latencies = Vec::new();
        loop {
            let asked = Instant::now();
            self.ask(&mut way, random.u64(..KEYS), &value).await?;
            let answered = Instant::now();
            latencies.push(answered - asked);
            if until <= answered {
                return Ok(latencies);
            }
        }
    }

    async fn ask(self, way: &mut Way, place: u64, value: &Bytes) -> Result<(), Failure> {
        match (way, self.operation) {
            (Way::Connection(connection), Operation::Put | Operation::Stream) => {
                connection.put(key(place), value.clone()).await
            }
            (Way::Connection(connection), Operation::Batch(count)) => {
                // Different ones: etcd refuses a transaction that sets a key twice.
                let keys = (0..count as u64).map(|next| key((place + next) % KEYS)).collect();
                connection.put_many(keys, value).await
            }
            (Way::Connection(connection), Operation::Get) => {
                let found = connection.get(key(place)).await?;
                if found.len() == value.len() { Ok(()) } else { Err("a value of another length".into()) }
            }
            (Way::Writer(writer), _) => {
                writer.apply(Command::Put { key: key(place), value: value.to_vec() }).await?;
                Ok(())
            }
        }
    }
}

fn key(number: u64) -> String {
    format!("key-{number:08}")
}

/// Bytes that cannot be compressed.
fn value(bytes: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(1);
    std::iter::repeat_with(|| random.u8(..)).take(bytes).collect()
}
