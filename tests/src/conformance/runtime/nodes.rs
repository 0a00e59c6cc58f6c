//! Whole nodes on a runtime.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{AbortHandle, Abortable};
use openconsensus::{AsyncRuntime, Config, Fatal, MaybeSend, Raft, WriteError};
use openconsensus_memstore::kv::{Command, Kv, Response};
use openconsensus_memstore::{KvDisk, KvReader, MemLog, MemStateMachine};

use super::super::verdict::{Flaw, same, wrong};
use super::{Subject, within};
use crate::any_runtime::AnyRuntime;
use crate::network::MemNetwork;

/// Longer than anything takes that works, by the clock of the runtime.
const PATIENCE: Duration = Duration::from_secs(20);

/// Three nodes on the runtimes of a factory.
struct Nodes<'a, F> {
    factory: &'a F,
    network: MemNetwork<Kv>,
    nodes: Vec<Node>,
}

struct Node {
    id: u64,
    log: MemLog<Kv>,
    disk: KvDisk,
    running: Option<(Raft<Kv>, KvReader)>,
}

impl<F> Drop for Nodes<'_, F> {
    /// The network holds the nodes, and the nodes hold the network: a check that fails must not leave them running.
    fn drop(&mut self) {
        self.nodes.iter().for_each(|node| self.network.disconnect(node.id));
    }
}

impl<'a, R: AsyncRuntime, F: Fn() -> R> Nodes<'a, F> {
    fn new(factory: &'a F) -> Self {
        let node = |id| Node { id, log: MemLog::new(), disk: KvDisk::new(), running: None };
        let network = MemNetwork::on(AnyRuntime::new(factory()), 1);
        Self { factory, network, nodes: (1..=3).map(node).collect() }
    }

    async fn start(&mut self, place: usize) -> Result<Raft<Kv>, Flaw> {
        let node = &mut self.nodes[place];
        let machine = MemStateMachine::persistent(&node.disk);
        let (reader, config, network) = (machine.reader(), Config::default(), self.network.node(node.id));
        let started =
            Raft::start(node.id, config, (self.factory)(), network, node.log.clone(), machine).await;
        let raft = started.or_else(|error| wrong(format!("node {}: {error}", node.id), "it starts"))?;
        self.network.connect(raft.clone());
        node.running = Some((raft.clone(), reader));
        Ok(raft)
    }

    async fn stop(&mut self, place: usize) {
        let Some((raft, _)) = self.nodes[place].running.take() else { return };
        self.network.disconnect(raft.id());
        raft.shutdown().await;
    }

    /// Waits until a node that runs leads, and returns its place.
    async fn leader(&self) -> Result<usize, Flaw> {
        let mut last = String::new();
        for place in (0..self.nodes.len()).cycle().take(100) {
            let Some((raft, _)) = &self.nodes[place].running else { continue };
            match raft.wait(PATIENCE).leader().await {
                // It may not have noticed yet that the leader is gone.
                Ok(leader) if self.nodes[leader as usize - 1].running.is_some() => {
                    return Ok(leader as usize - 1);
                }
                Ok(gone) => {
                    let wait = raft.wait(PATIENCE);
                    let changed = wait.until("another leader", |metrics| {
                        metrics.leader.is_some_and(|leader| leader != gone)
                    });
                    last = format!("{:?}", changed.await.err());
                }
                Err(error) => return wrong(error, "a leader is found"),
            }
        }
        wrong(last, "a leader is found")
    }

    /// Writes through whoever leads, and asks again only where nothing was done.
    async fn write(&self, value: u64) -> Result<Response, Flaw> {
        for _ in 0..100 {
            let leader = self.leader().await?;
            let Some((raft, _)) = &self.nodes[leader].running else { continue };
            let command = Command::Put { key: "key".into(), value: value.to_string().into_bytes() };
            match raft.write(command).await {
                Ok(response) => return Ok(response),
                Err(WriteError::NotLeader { .. } | WriteError::Dropped) => {}
                Err(error) => return wrong(error, "a write succeeds"),
            }
        }
        wrong("no write succeeds in a hundred attempts", "the cluster is calm")
    }

    async fn read(&self, place: usize) -> Result<Option<Vec<u8>>, Flaw> {
        let Some((raft, reader)) = &self.nodes[place].running else { return Ok(None) };
        match raft.read().await {
            Ok(_) => Ok(reader.get("key")),
            Err(error) => wrong(format!("node {}: {error}", place + 1), "a read is confirmed"),
        }
    }
}

pub(super) async fn three_nodes_elect_write_and_survive_a_stop<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let factory = || subject.runtime();
    let story = elect_write_and_stop(&factory);
    within(subject, "three nodes elect, write and survive a stop", story).await?
}

async fn elect_write_and_stop<R: AsyncRuntime, F: Fn() -> R>(factory: &F) -> Result<(), Flaw> {
    let mut nodes = Nodes::new(factory);
    let first = nodes.start(0).await?;
    nodes.start(1).await?;
    nodes.start(2).await?;
    let voters = (1..=3).map(|id| (id, format!("node-{id}"))).collect();
    if let Err(error) = first.initialize(voters).await {
        return wrong(error, "a fresh node can be initialized");
    }
    drop(first);
    for value in 1..=50 {
        let previous = (value != 1).then(|| (value - 1).to_string().into_bytes());
        same("the response to a write", nodes.write(value).await?, Response::Previous(previous))?;
    }
    let leader = nodes.leader().await?;
    nodes.stop(leader).await;
    for value in 51..=100 {
        let previous = Some((value - 1).to_string().into_bytes());
        same("the response after a stop", nodes.write(value).await?, Response::Previous(previous))?;
    }
    nodes.start(leader).await?;
    for place in 0..3 {
        let value = nodes.read(place).await?;
        same(format!("what node {} reads", place + 1), value, Some(b"100".to_vec()))?;
    }
    for place in 0..3 {
        nodes.stop(place).await;
    }
    Ok(())
}

/// Another runtime whose timers resolve too early, each when half of its time is over.
#[derive(Clone)]
struct HastyRuntime<R>(R);

impl<R: AsyncRuntime> AsyncRuntime for HastyRuntime<R> {
    fn spawn(&self, task: impl Future<Output = ()> + MaybeSend + 'static) {
        self.0.spawn(task);
    }

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + MaybeSend + 'static {
        let now = self.0.now();
        let left = deadline.saturating_duration_since(now);
        // Half of it again and again would come to nothing in the end.
        let hasty = if left < Duration::from_millis(1) { left } else { left / 2 };
        self.0.sleep_until(now + hasty)
    }

    fn seed(&self) -> u64 {
        self.0.seed()
    }
}

pub(super) async fn nodes_live_with_timers_that_are_early<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let factory = || HastyRuntime(subject.runtime());
    let story = elect_write_and_stop(&factory);
    within(subject, "three nodes do the same with timers that are early", story).await?
}

/// Another runtime whose tasks can all be dropped.
#[derive(Clone)]
struct DroppingRuntime<R> {
    inner: R,
    tasks: Arc<Mutex<Vec<AbortHandle>>>,
}

impl<R: AsyncRuntime> AsyncRuntime for DroppingRuntime<R> {
    fn spawn(&self, task: impl Future<Output = ()> + MaybeSend + 'static) {
        let (handle, registration) = AbortHandle::new_pair();
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
        let task = Abortable::new(task, registration);
        self.inner.spawn(async move {
            // Whether it came to its end is seen by the node.
            let _ = task.await;
        });
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + MaybeSend + 'static {
        self.inner.sleep_until(deadline)
    }

    fn seed(&self) -> u64 {
        self.inner.seed()
    }
}

pub(super) async fn a_node_whose_tasks_are_dropped_stops<R, S>(subject: &S) -> Result<(), Flaw>
where
    R: AsyncRuntime,
    S: Subject<R>,
{
    let story = async {
        let tasks = Arc::new(Mutex::new(Vec::new()));
        let factory = || DroppingRuntime { inner: subject.runtime(), tasks: tasks.clone() };
        let mut nodes = Nodes::new(&factory);
        // The network is no part of the node.
        tasks.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let raft = nodes.start(0).await?;
        if let Err(error) = raft.initialize([(1, "node-1".to_string())].into()).await {
            return wrong(error, "a fresh node can be initialized");
        }
        nodes.write(1).await?;
        let running = std::mem::take(&mut *tasks.lock().unwrap_or_else(PoisonError::into_inner));
        running.iter().for_each(AbortHandle::abort);
        let mut metrics = raft.metrics();
        while metrics.latest().fatal.is_none() {
            metrics.changed().await;
        }
        let refused = raft.write(Command::Delete { key: "key".into() }).await;
        same("a write to a node whose tasks are gone", refused, Err(WriteError::Fatal(Fatal::Stopped)))
    };
    within(subject, "a node whose tasks are dropped stops", story).await?
}
