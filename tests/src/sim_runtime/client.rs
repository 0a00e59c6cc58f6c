//! Clients of a `SimCluster`: writes and linearizable reads that find their way.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::oneshot;
use futures::future::{Either, select};
use openconsensus::{AsyncRuntime, LogId, MaybeSend, Payload, Raft, TypeConfig, WriteError};

use super::application::SimApplication;
use super::cluster::SimCluster;
use crate::client::Outcome;

/// How long a client looks for a leader before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long it waits before it asks the next node.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a client waits for the answer to one request.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

type Response<A> = <<A as SimApplication>::Types as TypeConfig>::Response;
type Command<A> = <<A as SimApplication>::Types as TypeConfig>::Command;

impl<A: SimApplication> SimCluster<A> {
    /// Writes through whoever leads. Tried again only where it is certain that nothing was done, for 20 seconds of virtual
    /// time at most. Who is not answered within 5 seconds, because its node is killed or paused, say, knows nothing.
    pub async fn write(&self, command: Command<A>) -> Outcome<Response<A>>
    where
        Command<A>: Clone,
    {
        self.write_within(command, ANSWER_PATIENCE).await
    }

    /// As [`write`](Self::write), but waits only for `answer_patience` for the answer of one node.
    pub async fn write_within(&self, command: Command<A>, answer_patience: Duration) -> Outcome<Response<A>>
    where
        Command<A>: Clone,
    {
        let world = self.world();
        let deadline = world.elapsed() + PATIENCE;
        let mut leader = None;
        while world.elapsed() < deadline {
            let Some(id) = leader.take().or_else(|| self.some_node()) else {
                world.let_pass(PAUSE).await;
                continue;
            };
            match self.write_at(id, command.clone(), answer_patience).await {
                Ok(response) => return Outcome::Applied(response),
                Err(WriteError::NotLeader { leader: hint }) => {
                    leader = hint.map(|hint| hint.id).filter(|hint| *hint != id);
                    world.let_pass(PAUSE).await;
                }
                // Nothing was done: another node may do it.
                Err(
                    WriteError::Dropped
                    | WriteError::Busy { .. }
                    | WriteError::Transferring
                    | WriteError::Fatal(_),
                ) => world.let_pass(PAUSE).await,
                Err(WriteError::TooLarge { .. }) => return Outcome::Absent,
                Err(WriteError::Unknown { .. }) => return Outcome::Unknown,
                Err(error) => panic!("a client must know what to make of {error}"),
            }
        }
        Outcome::Absent
    }

    /// One attempt to write at node `id`. [`WriteError::Unknown`] when it is killed meanwhile or does not answer.
    ///
    /// # Errors
    ///
    /// Those of [`Raft::write`](openconsensus::Raft::write); [`WriteError::NotLeader`] when it does not run.
    pub async fn write_at(
        &self,
        id: u64,
        command: Command<A>,
        answer_patience: Duration,
    ) -> Result<Response<A>, WriteError<A::Types>> {
        let Some(node) = self.running_node(id) else { return Err(WriteError::NotLeader { leader: None }) };
        let raft = node.raft;
        let payload = Payload::<A::Types>::Command(command);
        let shown = format!("{payload:?}");
        let Payload::Command(command) = payload else { unreachable!("it is a command") };
        let (oracle, way) = (self.shared.oracle.clone(), self.world().random() % 5);
        let told = shown.clone();
        oracle.attempted(&shown);
        let runtime = node.runtime.clone();
        let attempt = async move {
            let outcome = write_in_some_way(&raft, command, way).await;
            let unknown = Err(WriteError::Unknown { log_id: LogId::ZERO });
            // Nobody can tell what a killed process has done before.
            let outcome = if outcome.is_err() && runtime.is_killed() { unknown } else { outcome };
            oracle.told(&told, &outcome);
            outcome
        };
        self.ask(answer_patience, attempt).await.unwrap_or(Err(WriteError::Unknown { log_id: LogId::ZERO }))
    }

    /// Confirms with node `id` that it may be read from, and returns the reader of its state: it has every write that was
    /// acknowledged before the call. `None` when it does not run, or does not confirm it.
    pub async fn read(&self, id: u64) -> Option<A::Reader> {
        let node = self.running_node(id)?;
        let raft = node.raft;
        self.ask(ANSWER_PATIENCE, async move { raft.read().await }).await?.ok()?;
        Some(node.reader)
    }

    /// As [`read`](Self::read), but a lease will do for the confirmation.
    pub async fn read_by_lease(&self, id: u64) -> Option<A::Reader> {
        let node = self.running_node(id)?;
        let raft = node.raft;
        self.ask(ANSWER_PATIENCE, async move { raft.read_by_lease().await }).await?.ok()?;
        Some(node.reader)
    }

    /// Some node that runs and takes itself for the leader, whether it still is or not; the seed chooses which.
    pub fn some_leader(&self) -> Option<u64> {
        let leaders: Vec<u64> =
            self.running().into_iter().filter(|id| self.metrics(*id).leader == Some(*id)).collect();
        let place = self.world().random() as usize;
        (!leaders.is_empty()).then(|| leaders[place % leaders.len()])
    }

    /// Some node that runs; the seed chooses which.
    pub fn some_node(&self) -> Option<u64> {
        let running = self.running();
        let place = self.world().random() as usize;
        (!running.is_empty()).then(|| running[place % running.len()])
    }

    /// What `request` returns, if it does within `patience`. It goes on in any case: every request must be answered some
    /// day, whether somebody waits for it or not.
    pub(super) async fn ask<T: MaybeSend + 'static>(
        &self,
        patience: Duration,
        request: impl Future<Output = T> + MaybeSend + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let open = Open::new(self.shared.open_requests.clone());
        self.world().spawn(async move {
            let result = request.await;
            drop(open);
            // Who asked may have given up.
            let _ = reply.send(result);
        });
        let too_late = std::pin::pin!(self.world().let_pass(patience));
        match select(answer, too_late).await {
            Either::Left((answer, _)) => answer.ok(),
            Either::Right(((), _)) => None,
        }
    }

    /// How many requests no node has answered yet.
    pub fn open_requests(&self) -> u64 {
        self.shared.open_requests.load(Ordering::SeqCst)
    }
}

/// Writes one command through one of all the calls that do that.
async fn write_in_some_way<C: TypeConfig>(
    raft: &Raft<C>,
    command: C::Command,
    way: u64,
) -> Result<C::Response, WriteError<C>> {
    let only = |mut responses: Vec<C::Response>| responses.pop().expect("one response for one command");
    match way {
        0 => raft.try_write(command).await,
        1 => raft.write_many(vec![command]).await.map(only),
        2 => raft.try_write_many(vec![command]).await.map(only),
        3 => {
            let mut outcomes = std::pin::pin!(raft.write_stream([command]));
            outcomes.next().await.expect("one outcome for one command")
        }
        _ => raft.write(command).await,
    }
}

/// A request that is not answered yet.
struct Open(Arc<AtomicU64>);

impl Open {
    fn new(count: Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
