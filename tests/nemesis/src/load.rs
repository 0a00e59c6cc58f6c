//! `Load`: clients that do one thing after the other, and record what they ask for and what becomes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kv::client::{Client, ClientError, ClientOptions, Command, Response};
use openconsensus_tests::linearizability::{
    Counts, History, KvAction, KvRequest, KvResponse, Outcome, Recorder,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the clients of a campaign saw.
pub type KvHistory = History<KvRequest, KvResponse>;

/// How long a client waits for one operation. Longer than an election takes, so that most end well.
const TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long a client rests between two operations, at most.
const PAUSE_MS_MAX: u64 = 20;

/// The clients that read at one node have numbers from here on.
const READERS: u64 = 101;

/// The readers of the end have numbers from here on.
const LAST_READERS: u64 = 201;

/// How many keys are in use at one time. Few, so that clients meet.
const KEYS: u64 = 8;

/// How often all keys are given up for new ones. Histories of a key stay short, and old keys show what is lost late.
const KEYS_LAST: Duration = Duration::from_secs(20);

/// How reads are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Linearizable, as they are recorded.
    Linearizable,
    /// From what a node has at the moment, and recorded as if they were linearizable: the checker must notice.
    Stale,
}

/// Clients at work. They end when it is dropped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    must_stop: watch::Sender<bool>,
    clients: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    begin: Instant,
    recorder: Recorder<KvRequest, KvResponse>,
    addresses: Vec<String>,
    reads: Reads,
    /// Numbers the values, so that each is written once.
    values: AtomicU64,
    /// The latest time at which a write began that was acknowledged, in nanoseconds since the beginning.
    served: watch::Sender<u64>,
}

impl Load {
    /// So many clients that write and read through the nodes at `addresses`, and for each of those one more that reads
    /// there and nowhere else: it meets a leader that does not know yet that it was deposed. What they choose follows
    /// from `seed`.
    pub fn start(clients: u64, addresses: Vec<String>, reads: Reads, seed: u64) -> Self {
        let begin = Instant::now();
        let shared = Arc::new(Shared {
            begin,
            recorder: Recorder::with_clock(move || begin.elapsed()),
            addresses,
            reads,
            values: AtomicU64::new(0),
            served: watch::Sender::new(0),
        });
        let must_stop = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for client in 1..=clients {
            let rng = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(client));
            tasks.spawn(work(client, shared.clone(), rng, must_stop.subscribe()));
        }
        for (reader, address) in (READERS..).zip(shared.addresses.clone()) {
            let rng = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(reader));
            tasks.spawn(watch_node(reader, address, shared.clone(), rng, must_stop.subscribe()));
        }
        Self { shared, must_stop, clients: tasks }
    }

    /// The time since the beginning, as it is in the history.
    pub fn now(&self) -> Duration {
        self.shared.begin.elapsed()
    }

    /// How many operations have ended how.
    pub fn counts(&self) -> Counts {
        self.shared.recorder.counts()
    }

    /// Waits until a write that began after `since` is acknowledged. `false` when that takes longer than `timeout`.
    pub async fn is_served(&self, since: Duration, timeout: Duration) -> bool {
        let since = nanos(since);
        let mut served = self.shared.served.subscribe();
        tokio::time::timeout(timeout, served.wait_for(|began| since <= *began)).await.is_ok()
    }

    /// Ends all clients after the operations that they wait for.
    pub async fn stop(&mut self) {
        self.must_stop.send_replace(true);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client does not panic");
        }
    }

    /// Reads every key that was ever used at every node, so that the end of the history says what has remained.
    ///
    /// # Errors
    ///
    /// A node does not answer within `timeout`.
    pub async fn read_all(&self, timeout: Duration) -> Result<(), String> {
        let history = self.shared.recorder.history();
        let keys: std::collections::BTreeSet<_> =
            history.operations().iter().map(|operation| operation.request.key.clone()).collect();
        for (address, reader) in self.shared.addresses.iter().zip(LAST_READERS..) {
            let client =
                Client::new(vec![address.clone()], ClientOptions { timeout, ..ClientOptions::default() });
            for key in &keys {
                let call = self.shared.recorder.call(reader, KvRequest::get(key));
                match client.get_from(address, key).await {
                    Ok(value) => call.returned(KvResponse::Value(value.map(text))),
                    Err(error) => return Err(format!("{key} cannot be read at {address}: {error}")),
                }
            }
        }
        Ok(())
    }

    /// What the clients have seen so far.
    pub fn history(&self) -> KvHistory {
        self.shared.recorder.history()
    }
}

impl Shared {
    /// One of the keys that are in use now.
    fn key(&self, rng: &mut fastrand::Rng) -> String {
        let era = self.begin.elapsed().as_secs() / KEYS_LAST.as_secs();
        format!("era{era}-key{}", rng.u64(0..KEYS))
    }
}

/// One client: it does one thing after the other until it must stop.
async fn work(client: u64, shared: Arc<Shared>, mut rng: fastrand::Rng, must_stop: watch::Receiver<bool>) {
    let mut addresses = shared.addresses.clone();
    rng.shuffle(&mut addresses);
    let connection = Client::new(addresses, options());
    // What this client saw last, which is what it expects in a comparison.
    let mut seen: BTreeMap<String, Option<String>> = BTreeMap::new();
    while !*must_stop.borrow() {
        let key = shared.key(&mut rng);
        let fresh = || format!("v{}", shared.values.fetch_add(1, Ordering::Relaxed));
        let action = match rng.u32(0..20) {
            0..9 => KvAction::Get,
            9..15 => KvAction::Put(fresh()),
            15..19 => {
                let expected = seen.get(&key).cloned().flatten();
                KvAction::CompareAndSet { expected, value: (rng.u32(0..8) != 0).then(fresh) }
            }
            _ => KvAction::Delete,
        };
        let request = KvRequest { key: key.clone(), action };
        let called = nanos(shared.begin.elapsed());
        let call = shared.recorder.call(client, request.clone());
        let outcome = match &request.action {
            KvAction::Get => read(&shared, &connection, &key, &mut rng).await,
            KvAction::Put(value) => {
                let value = value.clone().into_bytes();
                written(connection.apply(Command::Put { key: key.clone(), value }).await)
            }
            KvAction::Delete => written(connection.apply(Command::Delete { key: key.clone() }).await),
            KvAction::CompareAndSet { expected, value } => {
                let bytes = |value: &Option<String>| value.clone().map(String::into_bytes);
                let (expected, value) = (bytes(expected), bytes(value));
                written(connection.apply(Command::CompareAndSet { key: key.clone(), expected, value }).await)
            }
        };
        if let Outcome::Returned(response) = &outcome {
            if request.action != KvAction::Get {
                shared.served.send_if_modified(|began| std::mem::replace(began, called.max(*began)) < called);
            }
            match response {
                KvResponse::Value(value) => drop(seen.insert(key, value.clone())),
                KvResponse::Compared { set: false, actual } => drop(seen.insert(key, actual.clone())),
                KvResponse::Done
                | KvResponse::Previous(_)
                | KvResponse::NotSet
                | KvResponse::Compared { set: true, .. } => {}
            }
        }
        call.ended(outcome);
        tokio::time::sleep(Duration::from_millis(rng.u64(0..PAUSE_MS_MAX))).await; // paces the clients
    }
}

/// A client that reads at one node, again and again.
async fn watch_node(
    client: u64,
    address: String,
    shared: Arc<Shared>,
    mut rng: fastrand::Rng,
    must_stop: watch::Receiver<bool>,
) {
    let connection = Client::new(vec![address.clone()], options());
    while !*must_stop.borrow() {
        let key = shared.key(&mut rng);
        let call = shared.recorder.call(client, KvRequest::get(&key));
        let answer = match shared.reads {
            Reads::Stale => connection.get_local(&address, &key).await,
            Reads::Linearizable => connection.get_from(&address, &key).await,
        };
        call.ended(value(answer));
        tokio::time::sleep(Duration::from_millis(rng.u64(0..PAUSE_MS_MAX))).await; // paces the clients
    }
}

fn options() -> ClientOptions {
    ClientOptions {
        timeout: TIMEOUT,
        connect_timeout: Duration::from_millis(300),
        read_attempt_timeout: Duration::from_millis(700),
        ..ClientOptions::default()
    }
}

/// A read: confirmed by a quorum, by the leader's lease, or at a certain node.
async fn read(shared: &Shared, client: &Client, key: &str, rng: &mut fastrand::Rng) -> Outcome<KvResponse> {
    let address = rng.choice(&shared.addresses).expect("there are nodes");
    value(match (shared.reads, rng.u8(0..3)) {
        (Reads::Stale, _) => client.get_local(address, key).await,
        (Reads::Linearizable, 0) => client.get(key).await,
        (Reads::Linearizable, 1) => client.get_by_lease(key).await,
        (Reads::Linearizable, _) => client.get_from(address, key).await,
    })
}

/// What became of a read.
fn value(answer: Result<Option<Vec<u8>>, ClientError>) -> Outcome<KvResponse> {
    match answer {
        Ok(value) => Outcome::Returned(KvResponse::Value(value.map(text))),
        Err(_) => Outcome::Absent,
    }
}

/// What a client may conclude from the answer to a write.
fn written(answer: Result<Response, ClientError>) -> Outcome<KvResponse> {
    match answer {
        Ok(Response::Previous(previous)) => Outcome::Returned(KvResponse::Previous(previous.map(text))),
        Ok(Response::Compared { set, actual }) => {
            Outcome::Returned(KvResponse::Compared { set, actual: actual.map(text) })
        }
        Ok(Response::Batch(_)) => panic!("nobody has asked for a batch"),
        Err(ClientError::Unknown { .. } | ClientError::Failed(_)) => Outcome::Unknown,
        // The client says that nothing has happened, and so it is held to that.
        Err(ClientError::Unavailable { .. } | ClientError::Busy(_) | ClientError::Refused(_)) => {
            Outcome::Absent
        }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
