//! Clusters of real nodes over gRPC, in one process.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::{DEADLINE, eventually};
use openconsensus::{
    ChangeMembershipError, Config, MembershipChange, Raft, RoleName, Standing, TokioRuntime, WriteError,
};
use openconsensus_memstore::kv::{Command, Kv};
use openconsensus_memstore::{KvDisk, KvReader, MemLog, MemStateMachine};
use openconsensus_network_grpc::{GrpcConfig, GrpcNetwork, GrpcServer, Serving};

/// A configuration for a busy machine with debug builds: elections do not start because a thread had to wait.
fn config() -> Config {
    Config {
        election_timeout_ms_min: 500,
        election_timeout_ms_max: 1000,
        heartbeat_interval_ms: 40,
        ..Config::default()
    }
}

/// What survives of a node when it stops.
#[derive(Clone)]
struct Stores {
    id: u64,
    log: MemLog<Kv>,
    disk: KvDisk,
}

impl Stores {
    fn new(id: u64) -> Self {
        Self { id, log: MemLog::new(), disk: KvDisk::new() }
    }
}

struct Running {
    stores: Stores,
    address: String,
    raft: Raft<Kv>,
    reader: KvReader,
    network: GrpcNetwork<Kv>,
    serving: Serving,
}

impl Running {
    async fn start(stores: Stores, config: Config, listen: &str) -> Self {
        let server = GrpcServer::bind(listen).await.unwrap();
        let address = server.local_addr().to_string();
        let network = GrpcNetwork::<Kv>::new(GrpcConfig::new("cluster"), stores.id, &address).unwrap();
        let machine = MemStateMachine::persistent(&stores.disk);
        let reader = machine.reader();
        let raft = Raft::start(stores.id, config, TokioRuntime, network.clone(), stores.log.clone(), machine)
            .await
            .unwrap();
        let serving = server.serve(network.service(raft.clone()), None);
        Self { stores, address, raft, reader, network, serving }
    }

    /// Stops it and returns what survives, and where it was reached.
    async fn stop(self) -> (Stores, String) {
        self.serving.shutdown().await;
        self.raft.shutdown().await;
        (self.stores, self.address)
    }

    fn id(&self) -> u64 {
        self.stores.id
    }
}

/// Three nodes that know each other, and have a leader.
async fn three(config: &Config) -> BTreeMap<u64, Running> {
    let mut nodes = BTreeMap::new();
    for id in 1..=3 {
        nodes.insert(id, Running::start(Stores::new(id), config.clone(), "127.0.0.1:0").await);
    }
    let members = nodes.iter().map(|(id, node)| (*id, node.address.clone())).collect();
    nodes[&1].raft.initialize(members).await.unwrap();
    leader(&nodes).await;
    nodes
}

/// The node that leads, as soon as there is one.
async fn leader(nodes: &BTreeMap<u64, Running>) -> &Running {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        assert!(tokio::time::Instant::now() < deadline, "no leader in time");
        for node in nodes.values() {
            if let Ok(id) = node.raft.wait(Duration::from_millis(100)).leader().await
                && let Some(leader) = nodes.get(&id)
                && leader.raft.read().await.is_ok()
            {
                return leader;
            }
        }
    }
}

fn put(number: usize, bytes: usize) -> Command {
    Command::Put { key: format!("key {number:06}"), value: vec![number as u8; bytes] }
}

/// Writes through whoever leads, until it is acknowledged.
async fn write(nodes: &BTreeMap<u64, Running>, command: &Command) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        assert!(tokio::time::Instant::now() < deadline, "not written in time");
        match leader(nodes).await.raft.write(command.clone()).await {
            Ok(_) => return,
            // These commands may be carried out twice.
            Err(WriteError::NotLeader { .. } | WriteError::Dropped | WriteError::Unknown { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits until every node has the same state, with so many keys.
async fn agree(nodes: &BTreeMap<u64, Running>, keys: usize) {
    eventually("one state on all nodes", || {
        let states: BTreeSet<_> =
            nodes.values().map(|node| (node.reader.len(), node.reader.checksum())).collect();
        states.len() == 1 && states.iter().all(|(len, _)| *len == keys)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_agree_survive_the_loss_of_the_leader_and_take_it_back() {
    let config = config();
    let mut nodes = three(&config).await;
    for number in 0..100 {
        write(&nodes, &put(number, 100)).await;
    }
    agree(&nodes, 100).await;
    // A follower serves a linearizable read, which goes to the leader and back.
    let lead = leader(&nodes).await.id();
    let follower = nodes.values().find(|node| node.id() != lead).unwrap();
    follower.raft.read().await.unwrap();
    assert_eq!(follower.reader.get("key 000099"), Some(vec![99; 100]));

    let lost = nodes.remove(&lead).unwrap();
    let (stores, address) = lost.stop().await;
    for number in 100..200 {
        write(&nodes, &put(number, 100)).await;
    }
    assert_ne!(leader(&nodes).await.id(), lead);
    agree(&nodes, 200).await;

    nodes.insert(lead, Running::start(stores, config, &address).await);
    write(&nodes, &put(200, 100)).await;
    agree(&nodes, 201).await;
    eventually("everybody to know that all are well", || {
        nodes.values().all(|node| node.network.peers().values().all(|peer| peer.last_error.is_none()))
    })
    .await;
    for node in nodes.into_values() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_joins_gets_a_snapshot_and_becomes_a_voter() {
    let config = Config {
        snapshot_after_entries: Some(50),
        log_keep_entries: 10,
        log_hold_entries_max: 10,
        ..config()
    };
    let mut nodes = three(&config).await;
    for number in 0..200 {
        // Altogether several times a chunk.
        write(&nodes, &put(number, 10_000)).await;
    }
    let lead = leader(&nodes).await;
    let raft = lead.raft.clone();
    eventually("the log to be purged", || 100 < lead.stores.log.state().purged.index).await;

    let joining = Running::start(Stores::new(4), config, "127.0.0.1:0").await;
    raft.add_learner(4, joining.address.clone(), Some(DEADLINE)).await.unwrap();
    assert!(100 < joining.stores.disk.snapshot().unwrap().last.index);
    raft.change_membership(MembershipChange::Promote(BTreeSet::from([4])), None).await.unwrap();
    nodes.insert(4, joining);
    write(&nodes, &put(200, 100)).await;
    agree(&nodes, 201).await;
    for node in nodes.into_values() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_writes_do_not_cost_the_leader_its_place() {
    // Encoding is slow without optimization, and all of it happens on the same few threads.
    let config = Config { election_timeout_ms_min: 1500, election_timeout_ms_max: 3000, ..config() };
    let nodes = three(&config).await;
    let lead = leader(&nodes).await;
    let term = lead.raft.metrics().latest().term;
    let writes = (0..48).map(|number| lead.raft.write(put(number, 256 << 10)));
    for result in futures::future::join_all(writes).await {
        result.unwrap();
    }
    agree(&nodes, 48).await;
    assert_eq!(lead.raft.metrics().latest().term, term, "a heartbeat was held up");
    for node in nodes.into_values() {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_stops_with_its_last_handle() {
    let node = Running::start(Stores::new(1), config(), "127.0.0.1:0").await;
    node.raft.initialize(BTreeMap::from([(1, node.address.clone())])).await.unwrap();
    node.raft.wait(DEADLINE).leader_is(1).await.unwrap();
    let Running { raft, serving, network, .. } = node;
    let weak = raft.downgrade();
    drop(raft);
    // The server holds it.
    assert!(weak.upgrade().is_some());
    serving.shutdown().await;
    eventually("the node to be dropped", || weak.upgrade().is_none()).await;
    drop(network);
}

/// The members do not know any more how the node was reached: they answer where it says that it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_when_it_was_removed_is_told_by_members_that_were_restarted() {
    let config = config();
    let mut nodes = three(&config).await;
    let away = *nodes.keys().find(|id| nodes[id].raft.metrics().latest().role != RoleName::Leader).unwrap();
    // Two of three make a leader: the third may not have heard of its first membership yet.
    let raft = &nodes[&away].raft;
    eventually("its membership", || raft.metrics().latest().standing == Standing::Voter).await;
    let (stores, address) = nodes.remove(&away).unwrap().stop().await;
    let remove = MembershipChange::Remove(BTreeSet::from([away]));
    loop {
        match leader(&nodes).await.raft.change_membership(remove.clone(), None).await {
            Ok(_) => break,
            // It was done by somebody who has lost leadership over it.
            Err(ChangeMembershipError::UnknownNode { .. }) => break,
            Err(error) => tracing::debug!("again: {error}"),
        }
    }
    for id in nodes.keys().copied().collect::<Vec<_>>() {
        let (stores, address) = nodes.remove(&id).unwrap().stop().await;
        nodes.insert(id, Running::start(stores, config.clone(), &address).await);
    }
    leader(&nodes).await;
    let removed = Running::start(stores, config, &address).await;
    assert_eq!(removed.raft.metrics().latest().standing, Standing::Voter, "it does not know yet");
    eventually("its removal", || removed.raft.metrics().latest().standing == Standing::Removed).await;
    // Nobody had to elect anybody for that.
    write(&nodes, &put(1, 10)).await;
}
