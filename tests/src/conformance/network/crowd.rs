//! `Crowd`: nodes that the suite has started, and waiting for what they hear.

use std::sync::Arc;
use std::time::Duration;

use openconsensus::{AsyncRuntime, Body, LogId, MaybeSend, Message, RaftNetwork, TypeConfig};

use super::NetworkFactory;
use super::recorder::{Heard, Recorder};
use crate::conformance::samples::commands_of;
use crate::conformance::verdict::{Flaw, wrong};

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(2);

/// A node under test: the network of the implementer, with a recorder in the place of Raft.
pub(super) struct Member<C: TypeConfig, F: NetworkFactory<C>> {
    pub(super) id: C::NodeId,
    pub(super) node: C::Node,
    pub(super) network: Arc<F::Network>,
    pub(super) recorder: Recorder<C>,
    endpoint: F::Endpoint,
}

impl<C: TypeConfig, F: NetworkFactory<C>> Member<C, F> {
    /// Starts the node of this number.
    pub(super) async fn start(factory: &F, number: u64) -> Self {
        Self::start_at(factory, number, None, Recorder::new()).await
    }

    pub(super) async fn start_at(
        factory: &F,
        number: u64,
        place: Option<&C::Node>,
        recorder: Recorder<C>,
    ) -> Self {
        let id = factory.node_id(number);
        let started = factory.start(id, place, Arc::new(recorder.clone())).await;
        Self {
            id,
            node: started.node,
            network: Arc::new(started.network),
            recorder,
            endpoint: started.endpoint,
        }
    }

    /// Stops the node, and returns where it was.
    pub(super) async fn stop(self, factory: &F) -> C::Node {
        drop(self.network);
        factory.stop(self.endpoint).await;
        self.node
    }

    pub(super) fn send(&self, to: &Self, messages: Vec<Message<C>>) {
        self.network.send(to.id, Some(&to.node), messages);
    }

    /// The rounds of the heartbeats of `from` that have arrived here.
    pub(super) fn heartbeats(&self, from: &Self) -> Vec<u64> {
        self.recorder.heard().heartbeats.get(&from.id).cloned().unwrap_or_default()
    }

    /// The indexes of the appends of `from` that have arrived here.
    pub(super) fn appends(&self, from: &Self) -> Vec<u64> {
        self.recorder.heard().appends.get(&from.id).cloned().unwrap_or_default()
    }

    /// Sends heartbeats to `peer` at `node`, as a leader does, until the condition holds. Returns the last round.
    pub(super) async fn heartbeat_until(
        &self,
        factory: &F,
        peer: C::NodeId,
        node: &C::Node,
        first: u64,
        right: &str,
        is_true: impl Fn() -> bool,
    ) -> Result<u64, Flaw> {
        let runtime = factory.runtime();
        let patience = factory.limits().patience;
        let deadline = runtime.now() + patience;
        let mut round = first;
        while !is_true() {
            if deadline <= runtime.now() {
                let seen =
                    format!("heartbeats from {} to {peer} at {node:?}: not within {patience:?}", self.id);
                return wrong(seen, right);
            }
            self.network.send(peer, Some(node), vec![heartbeat(round)]);
            round += 1;
            runtime.sleep_until(runtime.now() + 2 * PAUSE).await; // paces the heartbeats
        }
        Ok(round)
    }

    /// Waits until what was heard fulfils a condition.
    pub(super) async fn until(
        &self,
        factory: &F,
        seen: &str,
        right: &str,
        is_true: impl Fn(&Heard<C>) -> bool,
    ) -> Result<(), Flaw> {
        eventually(factory, seen, right, || is_true(&self.recorder.heard())).await
    }
}

/// Waits until a condition holds.
pub(super) async fn eventually<C: TypeConfig>(
    factory: &impl NetworkFactory<C>,
    seen: &str,
    right: &str,
    is_true: impl Fn() -> bool,
) -> Result<(), Flaw> {
    let (runtime, patience) = (factory.runtime(), factory.limits().patience);
    let deadline = runtime.now() + patience;
    while !is_true() {
        if deadline <= runtime.now() {
            return wrong(format!("{seen}: not within {patience:?}"), right);
        }
        runtime.sleep_until(runtime.now() + PAUSE).await; // paces the looks
    }
    Ok(())
}

/// Runs `task` on the runtime. The result is found in what is returned, when there is one.
pub(super) fn spawn<T: MaybeSend + 'static>(
    runtime: &impl AsyncRuntime,
    task: impl Future<Output = T> + MaybeSend + 'static,
) -> futures::channel::oneshot::Receiver<T> {
    let (sender, receiver) = futures::channel::oneshot::channel();
    runtime.spawn(async move {
        // Whoever waited may have given up.
        let _ = sender.send(task.await);
    });
    receiver
}

pub(super) fn heartbeat<C: TypeConfig>(round: u64) -> Message<C> {
    Message { term: 1, body: Body::Heartbeat { round, commit: LogId::ZERO } }
}

/// An append of one entry at `index` with a command of `bytes` bytes.
pub(super) fn append<C: TypeConfig>(
    factory: &impl NetworkFactory<C>,
    index: u64,
    bytes: usize,
) -> Message<C> {
    let entries = commands_of(factory, 1, index..index + 1, bytes);
    let prev = if index == 1 { LogId::ZERO } else { LogId::new(1, index - 1) };
    Message { term: 1, body: Body::Append { prev, entries, commit: 0 } }
}
