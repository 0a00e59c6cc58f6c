//! The smallest cluster that works: stores in memory, a network of channels, commands that are added up.
//!
//! With the feature `single-threaded` the stores hold an `Rc`, so that they are neither `Send` nor `Sync`.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::time::Duration;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{StreamExt, stream};
use openconsensus::{
    AppliedState, ApplyBatch, BoxFuture, Config, Entries, Entry, HardState, Index, InstallSnapshot,
    InstallSnapshotResponse, LogId, LogState, MaybeSend, Message, NetworkError, Raft, RaftLogReader,
    RaftLogStorage, RaftNetwork, RaftStateMachine, RequestNetwork, RequestNetworkLimits, RequestTransport,
    Snapshot, SnapshotMeta, SnapshotStream, TokioRuntime, TypeConfig, snapshot_stream,
};

/// Longer than anything that works takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sum;

impl TypeConfig for Sum {
    type Command = u64;
    type Response = u64;
    type NodeId = u64;
    type Node = ();

    fn command_bytes(_command: &u64) -> u64 {
        8
    }
}

#[cfg(feature = "single-threaded")]
mod shared {
    use std::cell::RefCell;
    use std::rc::Rc;

    /// Something that its clones share.
    #[derive(Default)]
    pub(crate) struct Shared<T>(Rc<RefCell<T>>);

    impl<T> Shared<T> {
        pub(crate) fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
            change(&mut self.0.borrow_mut())
        }
    }

    impl<T> Clone for Shared<T> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }
}

#[cfg(not(feature = "single-threaded"))]
mod shared {
    use std::sync::{Arc, Mutex};

    /// Something that its clones share.
    #[derive(Default)]
    pub(crate) struct Shared<T>(Arc<Mutex<T>>);

    impl<T> Shared<T> {
        pub(crate) fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
            change(&mut self.0.lock().unwrap())
        }
    }

    impl<T> Clone for Shared<T> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }
}

pub(crate) use shared::Shared;

/// A log that is kept as long as one of its clones is.
#[derive(Clone, Default)]
pub(crate) struct Log(Shared<LogData>);

#[derive(Default)]
struct LogData {
    hard_state: HardState<Sum>,
    purged: LogId,
    entries: BTreeMap<Index, Entry<Sum>>,
}

impl RaftLogStorage<Sum> for Log {
    type Reader = Self;

    fn reader(&self) -> Self {
        self.clone()
    }

    async fn load(&mut self) -> io::Result<LogState<Sum>> {
        Ok(self.0.with(|data| LogState {
            hard_state: data.hard_state,
            purged: data.purged,
            last: data.entries.values().last().map_or(data.purged, |entry| entry.log_id),
        }))
    }

    async fn save_hard_state(&mut self, state: HardState<Sum>) -> io::Result<()> {
        self.0.with(|data| data.hard_state = state);
        Ok(())
    }

    async fn append(&mut self, entries: Entries<Sum>, commit: Index) -> io::Result<()> {
        // Another task runs meanwhile, as when a disk is waited for.
        tokio::task::yield_now().await;
        self.0.with(|data| {
            data.hard_state.commit = data.hard_state.commit.max(commit);
            data.entries.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone())));
        });
        Ok(())
    }

    async fn truncate(&mut self, from: Index) -> io::Result<()> {
        self.0.with(|data| drop(data.entries.split_off(&from)));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.0.with(|data| {
            data.entries = data.entries.split_off(&(upto.index + 1));
            data.purged = upto;
        });
        Ok(())
    }
}

impl RaftLogReader<Sum> for Log {
    async fn read(&mut self, range: Range<Index>, bytes_max: u64) -> io::Result<Entries<Sum>> {
        Ok(self.0.with(|data| {
            let found: Vec<_> = data.entries.range(range).map(|(_, entry)| entry.clone()).collect();
            Entries::from(found).limit_bytes(bytes_max)
        }))
    }
}

/// Adds up commands; only its snapshot survives its node.
#[derive(Clone, Default)]
pub(crate) struct Adder {
    state: Shared<(AppliedState<Sum>, u64)>,
    snapshot: Shared<Option<(SnapshotMeta<Sum>, u64)>>,
}

impl Adder {
    pub(crate) fn sum(&self) -> u64 {
        self.state.with(|(_, sum)| *sum)
    }
}

impl RaftStateMachine<Sum> for Adder {
    async fn applied_state(&mut self) -> io::Result<AppliedState<Sum>> {
        Ok(self.state.with(|(applied, _)| applied.clone()))
    }

    async fn apply(&mut self, batch: ApplyBatch<Sum>) -> io::Result<Vec<u64>> {
        Ok(self.state.with(|(applied, sum)| {
            *applied = batch.applied_state().clone();
            let add = |(_, command): (LogId, &u64)| {
                *sum += command;
                *sum
            };
            batch.commands().map(add).collect()
        }))
    }

    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<Sum>>> {
        let (applied, sum) = self.state.with(|state| state.clone());
        let snapshot = self.snapshot.clone();
        Box::pin(async move {
            let AppliedState { last_applied: last, membership } = applied;
            let meta = SnapshotMeta { last, membership, size_bytes: Some(8) };
            snapshot.with(|snapshot| *snapshot = Some((meta.clone(), sum)));
            Ok(meta)
        })
    }

    async fn current_snapshot(&mut self) -> io::Result<Option<Snapshot<Sum>>> {
        Ok(self.snapshot.with(|snapshot| snapshot.clone()).map(|(meta, sum)| {
            let bytes = bytes::Bytes::copy_from_slice(&sum.to_be_bytes());
            Snapshot { meta, data: snapshot_stream(stream::iter([Ok(bytes)])) }
        }))
    }

    async fn install_snapshot(&mut self, snapshot: Snapshot<Sum>) -> io::Result<()> {
        let Snapshot { meta, mut data } = snapshot;
        let mut bytes = Vec::new();
        while let Some(chunk) = data.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        let sum = u64::from_be_bytes(bytes.try_into().map_err(|_| io::ErrorKind::InvalidData)?);
        let applied = AppliedState { last_applied: meta.last, membership: meta.membership.clone() };
        self.state.with(|state| *state = (applied, sum));
        self.snapshot.with(|snapshot| *snapshot = Some((meta, sum)));
        Ok(())
    }
}

/// Connects nodes. All clones are one network; each node has its own end of it.
#[derive(Clone)]
pub(crate) struct Network {
    id: u64,
    hub: Shared<Hub>,
}

#[derive(Default)]
pub(crate) struct Hub {
    inboxes: BTreeMap<u64, UnboundedSender<Envelope>>,
    nodes: BTreeMap<u64, Raft<Sum>>,
}

/// Messages on their way, and who has sent them.
type Envelope = (u64, Vec<Message<Sum>>);

impl RaftNetwork<Sum> for Network {
    fn send(&self, peer: u64, _node: Option<&()>, messages: Vec<Message<Sum>>) {
        self.hub.with(|hub| {
            if let Some(inbox) = hub.inboxes.get(&peer) {
                // A node that has stopped does not listen.
                let _ = inbox.unbounded_send((self.id, messages));
            }
        });
    }

    fn send_snapshot(
        &self,
        peer: u64,
        _node: &(),
        request: InstallSnapshot<Sum>,
        data: SnapshotStream,
    ) -> impl Future<Output = Result<InstallSnapshotResponse, NetworkError>> + MaybeSend + 'static {
        let node = self.hub.with(|hub| hub.nodes.get(&peer).cloned());
        async move {
            let gone = |error: &str| NetworkError::Unreachable(openconsensus::AnyError::error(error));
            let node = node.ok_or_else(|| gone("no such node"))?;
            node.receive_snapshot(request, data).await.map_err(|fatal| gone(&fatal.to_string()))
        }
    }
}

/// The same, by requests.
impl RequestTransport<Sum> for Network {
    async fn deliver(&self, peer: u64, _node: &(), messages: Vec<Message<Sum>>) -> Result<(), NetworkError> {
        let node = self.hub.with(|hub| hub.nodes.get(&peer).cloned());
        let gone = |error: &str| NetworkError::Unreachable(openconsensus::AnyError::error(error));
        let node = node.ok_or_else(|| gone("no such node"))?;
        node.receive(self.id, messages).await.map_err(|fatal| gone(&fatal.to_string()))
    }

    async fn deliver_snapshot(
        &self,
        peer: u64,
        node: &(),
        request: InstallSnapshot<Sum>,
        data: SnapshotStream,
    ) -> Result<InstallSnapshotResponse, NetworkError> {
        self.send_snapshot(peer, node, request, data).await
    }
}

/// Nodes and what they have stored.
#[derive(Default)]
pub(crate) struct Cluster {
    /// Whether the nodes talk by requests.
    by_requests: bool,
    hub: Shared<Hub>,
    logs: BTreeMap<u64, Log>,
    machines: BTreeMap<u64, Adder>,
}

impl Cluster {
    /// Three voters that run and have a leader.
    pub(crate) async fn of_three() -> Self {
        Self::default().with_three().await
    }

    /// As [`of_three`](Self::of_three), talking by requests.
    pub(crate) async fn of_three_by_requests() -> Self {
        Self { by_requests: true, ..Self::default() }.with_three().await
    }

    async fn with_three(self) -> Self {
        let mut cluster = self;
        for id in 1..=3 {
            cluster.start(id, Config::default()).await;
        }
        let voters = (1..=3).map(|id| (id, ())).collect();
        cluster.raft(1).initialize(voters).await.unwrap();
        cluster.leader().await;
        cluster
    }

    /// Starts a node with the log and the snapshot that it had before, if it had.
    pub(crate) async fn start(&mut self, id: u64, config: Config) {
        let log = self.logs.entry(id).or_default().clone();
        let snapshot = self.machines.get(&id).map(|machine| machine.snapshot.clone()).unwrap_or_default();
        let machine = Adder { snapshot, ..Adder::default() };
        self.machines.insert(id, machine.clone());
        let network = Network { id, hub: self.hub.clone() };
        let raft = if self.by_requests {
            let network = RequestNetwork::new(TokioRuntime, network, RequestNetworkLimits::default());
            (1..9).for_each(|peer| network.remember(peer, ()));
            let raft = Raft::start(id, config, TokioRuntime, network.clone(), log, machine).await.unwrap();
            network.attach(&raft);
            raft
        } else {
            Raft::start(id, config, TokioRuntime, network, log, machine).await.unwrap()
        };
        let (sender, mut receiver) = unbounded();
        self.hub.with(|hub| {
            hub.inboxes.insert(id, sender);
            hub.nodes.insert(id, raft.clone());
        });
        let deliver = async move {
            while let Some((from, messages)) = receiver.next().await {
                if raft.receive(from, messages).await.is_err() {
                    return;
                }
            }
        };
        openconsensus::AsyncRuntime::spawn(&TokioRuntime, deliver);
    }

    /// Stops a node in good order.
    pub(crate) async fn stop(&self, id: u64) {
        let raft = self.hub.with(|hub| {
            hub.inboxes.remove(&id);
            hub.nodes.remove(&id)
        });
        raft.expect("it runs").shutdown().await;
    }

    pub(crate) fn raft(&self, id: u64) -> Raft<Sum> {
        self.hub.with(|hub| hub.nodes[&id].clone())
    }

    /// What a node has added up.
    pub(crate) fn sum(&self, id: u64) -> u64 {
        self.machines[&id].sum()
    }

    /// Waits until all nodes that run know the same leader, and returns it.
    pub(crate) async fn leader(&self) -> Raft<Sum> {
        let nodes: Vec<_> = self.hub.with(|hub| hub.nodes.values().cloned().collect());
        for _ in 0..1000 {
            let mut known = Vec::new();
            for node in &nodes {
                known.push(node.wait(PATIENCE).leader().await.unwrap());
            }
            if known.iter().all(|leader| *leader == known[0])
                && self.hub.with(|hub| hub.nodes.contains_key(&known[0]))
            {
                return self.raft(known[0]);
            }
            tokio::task::yield_now().await;
        }
        panic!("the nodes do not agree on a leader");
    }
}
