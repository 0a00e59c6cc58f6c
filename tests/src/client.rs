//! `Client`: writes and reads that find the leader by themselves.

use std::time::Duration;

use openconsensus::{ReadError, WriteError};
use openconsensus_memstore::kv::{Command, Kv, Response};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::Cluster;

/// How long a client looks for a leader before it gives up, and the longest that it waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a client waits before it asks the next node.
const PAUSE: Duration = Duration::from_millis(5);

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<R = Response> {
    /// It was acknowledged: it must be there for ever.
    Applied(R),
    /// It certainly was not carried out: it must never be there.
    Absent,
    /// It may be there or not.
    Unknown,
}

/// A client of a [`Cluster`]. It remembers who led last.
#[derive(Clone, Debug)]
pub struct Client {
    cluster: Cluster,
    leader: Option<u64>,
}

/// The command that sets `key` to `value`.
pub fn put(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Command {
    Command::Put { key: key.into(), value: value.into() }
}

impl Client {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self { cluster, leader: None }
    }

    /// Writes through whoever leads. Tried again only where it is certain that nothing was appended, for 20 seconds at
    /// most.
    ///
    /// # Panics
    ///
    /// When a node does not answer.
    pub async fn write(&mut self, command: Command) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let Some(id) = self.next_node() else {
                sleep(PAUSE).await; // paces the attempts
                continue;
            };
            match self.write_at(id, command.clone()).await {
                Ok(response) => return Outcome::Applied(response),
                Err(WriteError::NotLeader { leader }) => {
                    self.leader = leader.map(|leader| leader.id).filter(|leader| *leader != id);
                    if self.leader.is_none() {
                        sleep(PAUSE).await; // paces the attempts
                    }
                }
                Err(WriteError::Busy { .. } | WriteError::Transferring) => {
                    sleep(PAUSE).await; // paces the attempts
                }
                Err(WriteError::Dropped | WriteError::TooLarge { .. }) => return Outcome::Absent,
                Err(WriteError::Unknown { .. }) => {
                    self.leader = None;
                    // A node that has stopped answers at once, and its writer would never let another task run.
                    sleep(PAUSE).await; // paces the attempts
                    return Outcome::Unknown;
                }
                Err(WriteError::Fatal(_)) => {
                    self.leader = None;
                    // A node that has stopped answers at once, and would be asked again and again.
                    sleep(PAUSE).await; // paces the attempts
                    return Outcome::Absent;
                }
                Err(error) => panic!("a client must know what to make of {error}"),
            }
        }
        Outcome::Absent
    }

    /// Writes, and insists that it is acknowledged: for tests in which nothing goes wrong meanwhile.
    ///
    /// # Panics
    ///
    /// When the outcome is not [`Outcome::Applied`].
    pub async fn must_write(&mut self, command: Command) -> Response {
        match self.write(command).await {
            Outcome::Applied(response) => response,
            outcome @ (Outcome::Absent | Outcome::Unknown) => panic!("{outcome:?}: {:?}", self.cluster),
        }
    }

    /// One attempt to write at node `id`. [`WriteError::Unknown`] when the node is killed meanwhile.
    async fn write_at(&self, id: u64, command: Command) -> Result<Response, WriteError<Kv>> {
        let Some(node) = self.cluster.running_node(id) else {
            return Err(WriteError::NotLeader { leader: None });
        };
        match self.answered(node.raft.write(command)).await {
            // Nobody can tell what a killed process has done before.
            Err(_) if node.runtime.is_crashed() => {
                Err(WriteError::Unknown { log_id: openconsensus::LogId::ZERO })
            }
            result => result,
        }
    }

    /// Reads `key` linearizably through any node, for 20 seconds at most.
    ///
    /// # Panics
    ///
    /// When no node confirms the read in time, or one does not answer.
    pub async fn read(&mut self, key: &str) -> Option<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(id) = self.next_node()
                && let Ok(value) = self.read_at(id, key).await
            {
                self.leader = Some(id);
                return value;
            }
            self.leader = None;
            assert!(Instant::now() < deadline, "no node confirms a read: {:?}", self.cluster);
            sleep(PAUSE).await; // paces the attempts
        }
    }

    /// Reads `key` linearizably at node `id`.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub async fn read_at(&self, id: u64, key: &str) -> Result<Option<Vec<u8>>, ReadError<Kv>> {
        let Some(node) = self.cluster.running_node(id) else {
            return Err(ReadError::NotConfirmed { leader: None });
        };
        self.answered(node.raft.read()).await?;
        Ok(node.reader.get(key))
    }

    /// What `request` returns, which it must do in good time whatever happens: nobody is left without an answer.
    async fn answered<T>(&self, request: impl Future<Output = T>) -> T {
        let Ok(answer) = timeout(PATIENCE, request).await else {
            panic!("no answer within {PATIENCE:?}: {:?}", self.cluster);
        };
        answer
    }

    /// Whoever led last, or any node.
    fn next_node(&self) -> Option<u64> {
        self.leader.or_else(|| fastrand::choice(self.cluster.running()))
    }
}
