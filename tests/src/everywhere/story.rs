//! What happens to the cluster, part by part.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use openconsensus::{
    AsyncRuntime, ChangeMembershipError, Fatal, LogId, MembershipChange, Raft, ReadError, TransferError,
    WriteError,
};
use openconsensus_memstore::kv::{Command, Kv};

use super::nodes::{Nodes, PATIENCE};

/// Plays every part, and looks at all nodes behind each.
pub(super) async fn run<R: AsyncRuntime, F: Fn() -> R>(mut nodes: Nodes<R, F>) {
    begins(&mut nodes).await;
    writes(&mut nodes).await;
    reads(&mut nodes).await;
    leader_is_killed(&mut nodes).await;
    leadership_is_transferred(&mut nodes).await;
    members_change(&mut nodes).await;
    follower_catches_up_by_snapshot(&mut nodes).await;
    all_are_restarted(&mut nodes).await;
    all_are_shut_down(&mut nodes).await;
}

impl<R: AsyncRuntime, F: Fn() -> R> Nodes<R, F> {
    /// Writes until so many more are acknowledged. A write whose outcome is not known is left alone.
    async fn write(&mut self, count: usize) {
        let enough = self.outcomes.acknowledged() + count;
        while self.outcomes.acknowledged() < enough {
            let leader = self.leader().await;
            let missing = enough - self.outcomes.acknowledged();
            let attempts: Vec<_> = (0..missing).map(|_| self.outcomes.attempt()).collect();
            let told = attempts.into_iter().map(|(key, command)| {
                let leader = &leader;
                async move { (key, leader.write(command).await) }
            });
            for (key, outcome) in join_all(told).await {
                self.outcomes.told(key, outcome);
            }
        }
    }

    /// Reads at every node that runs: each shows what clients were told, and all show the same.
    async fn check_states(&mut self) {
        let leader = self.leader().await;
        let mut states = BTreeMap::new();
        for id in self.running() {
            let raft = self.raft(id);
            let index = raft.read().await.unwrap_or_else(|error| panic!("read at node {id}: {error}"));
            assert!(0 < index, "there is something to read");
            self.outcomes.check(id, &self.pairs(id));
        }
        // What is not acknowledged may come later here than there; what is committed comes everywhere.
        let last = leader.metrics().latest().last;
        self.until("all nodes to have applied the same", |seen| {
            seen.values().all(|metrics| last <= metrics.applied).then_some(())
        })
        .await;
        for id in self.running() {
            states.insert(id, self.pairs(id));
        }
        let first = states.values().next().expect("a node runs");
        for (id, state) in &states {
            assert!(state == first, "the state of node {id} differs");
        }
        self.check_logs();
    }

    /// Log Matching: what stands at one index is the same on all disks (Raft paper, figure 3).
    fn check_logs(&self) {
        let mut known: BTreeMap<u64, LogId> = BTreeMap::new();
        for id in self.running() {
            for entry in self.disk(id).entries() {
                let first = *known.entry(entry.index).or_insert(entry);
                assert_eq!(first, entry, "node {id} has another entry at {}", entry.index);
            }
        }
    }

    /// Asks the leader, whoever it is, for a change of the membership until it is done.
    async fn change(&mut self, change: MembershipChange<Kv>) {
        for _ in 0..1000 {
            let leader = self.leader().await;
            match leader.change_membership(change.clone(), None).await {
                // Another attempt had been carried out after all.
                Ok(_) | Err(ChangeMembershipError::Empty | ChangeMembershipError::AlreadyMember { .. }) => {
                    return;
                }
                Err(error) => assert!(passes(&error), "{change:?}: {error}"),
            }
            self.pause().await;
        }
        panic!("{change:?} is refused again and again");
    }
}

/// Whether a change that was refused may be asked for again soon.
fn passes(error: &ChangeMembershipError<Kv>) -> bool {
    matches!(
        error,
        ChangeMembershipError::NotLeader { .. }
            | ChangeMembershipError::InProgress { .. }
            | ChangeMembershipError::NotReady
            | ChangeMembershipError::Transferring
            | ChangeMembershipError::NotCaughtUp { .. }
            | ChangeMembershipError::NotActive { .. }
            | ChangeMembershipError::Unknown { .. }
    )
}

async fn begins<R: AsyncRuntime, F: Fn() -> R>(nodes: &mut Nodes<R, F>) {
    for id in 1..=3 {
        nodes.start(id).await;
    }
    let voters = (1..=3).map(|id| (id, Nodes::<R, F>::address(id))).collect();
    nodes.raft(1).initialize(voters).await.expect("a fresh node can be initialized");
    nodes.leader().await;
}

async fn writes<R: AsyncRuntime, F: Fn() -> R>(nodes: &mut Nodes<R, F>) {
    nodes.write(1).await;
    nodes.write(50).await;

    // A follower refuses, and says who leads.
    let leader = nodes.leader().await.id();
    let follower = nodes.raft(nodes.follower_of(leader));
    let (key, command) = nodes.outcomes.attempt();
    let refused = follower.write(command).await;
    match &refused {
        Err(WriteError::NotLeader { leader: hint }) => {
            let known = hint.as_ref().map(|hint| (hint.id, hint.node.clone()));
            assert!(known.is_none_or(|(id, node)| node == Some(Nodes::<R, F>::address(id))));
        }
        // It has become the leader meanwhile.
        Ok(_) => {}
        Err(error) => panic!("a follower says to a write: {error}"),
    }
    nodes.outcomes.told(key, refused);

    // A command above the limit is refused whole.
    let (key, _) = nodes.outcomes.attempt();
    let large = Command::Put { key: key.clone(), value: vec![0; 5 << 20] };
    let refused = follower.write(large).await;
    assert!(matches!(refused, Err(WriteError::TooLarge { .. })), "{refused:?}");
    nodes.outcomes.told(key, refused);

    // Many in one call.
    let (keys, commands): (Vec<_>, Vec<_>) = (0..20).map(|_| nodes.outcomes.attempt()).unzip();
    let leader = nodes.leader().await;
    match leader.write_many(commands).await {
        Ok(responses) => {
            assert_eq!(responses.len(), keys.len());
            for (key, response) in keys.into_iter().zip(responses) {
                nodes.outcomes.told(key, Ok(response));
            }
        }
        Err(error) => keys.into_iter().for_each(|key| {
            nodes.outcomes.told(key, Err(error.clone()));
        }),
    }
    nodes.check_states().await;
}

/// A read at a follower that begins behind a write sees it.
async fn reads<R: AsyncRuntime, F: Fn() -> R>(nodes: &mut Nodes<R, F>) {
    for _ in 0..5 {
        nodes.write(1).await;
        let leader = nodes.leader().await.id();
        let follower = nodes.follower_of(leader);
        nodes.raft(follower).read().await.unwrap_or_else(|error| panic!("read at a follower: {error}"));
        nodes.outcomes.check(follower, &nodes.pairs(follower));
    }
}

/// The leader is killed in the middle of writes.
async fn leader_is_killed<R: AsyncRuntime, F: Fn() -> R>(nodes: &mut Nodes<R, F>) {
    let (leader, term) = (nodes.leader().await, nodes.term().await);
    let mut writes: FuturesUnordered<_> = (0..200)
        .map(|_| {
            let ((key, command), leader) = (nodes.outcomes.attempt(), leader.clone());
            async move { (key, leader.write(command).await) }
        })
        .collect();
    let (key, outcome) = writes.next().await.expect("there are writes");
    nodes.outcomes.told(key, outcome);
    nodes.kill(leader.id()).await;
    while let Some((key, outcome)) = writes.next().await {
        nodes.outcomes.told(key, outcome);
    }
    let (key, command) = nodes.outcomes.attempt();
    let refused = leader.write(command).await;
    assert_eq!(refused, Err(WriteError::Fatal(Fatal::Stopped)), "the handle of a node that was killed");
    nodes.outcomes.told(key, refused);

    let next = nodes.leader().await;
    assert_ne!(next.id(), leader.id());
    assert!(term < nodes.term().await, "another leader needs a later term");
    nodes.write(20).await;
    nodes.check_states().await;
    nodes.start(leader.id()).await;
    nodes.check_states().await;
}

async fn leadership_is_transferred<R: AsyncRuntime, F: Fn() -> R>(nodes: &mut Nodes<R, F>) {
    let stranger = nodes.leader().await.transfer_leadership(Some(99)).await;
    let is_named = matches!(stranger, Err(TransferError::NotAVoter { .. } | TransferError::NotLeader { .. }));
    assert!(is_named, "{stranger:?}");
    for _ in 0..1000 {
        let leader = nodes.leader().await;
        let target = nodes.follower_of(leader.id());
        let (key, command) = nodes.outcomes.attempt();
        let (transferred, written) =
            futures::join!(leader.transfer_leadership(Some(target)), leader.write(command));
        nodes.outcomes.told(key, written);
        if transferred == Ok(target) {
            assert_eq!(nodes.leader().await.id(), target);
            nodes.write(5).await;
            return nodes.check_states().await;
        }
    }
    panic!("leadership is not transferred, however often it is asked for");
}

/// Two learners are added; one becomes a voter by itself, the other together with the removal of two voters.
async fn members_change<R: AsyncRuntime, F: Fn() -> R>(nodes: &mut Nodes<R, F>) {
    for id in [4, 5] {
        let learner = BTreeMap::from([(id, Nodes::<R, F>::address(id))]);
        nodes.change(MembershipChange::AddLearners(learner)).await;
        nodes.start(id).await;
        let leader = nodes.leader().await;
        // It is one already: nothing is changed, only waited for.
        match leader.add_learner(id, Nodes::<R, F>::address(id), Some(PATIENCE)).await {
            Ok(_) => {}
            Err(error) => assert!(passes(&error), "learner {id} catches up: {error}"),
        }
    }
    nodes.check_states().await;
    let leader = nodes.leader().await;
    let stale = leader.change_membership(MembershipChange::Promote([4].into()), Some(LogId::new(1, 1))).await;
    let is_compared = matches!(
        stale,
        Err(ChangeMembershipError::Mismatch { .. } | ChangeMembershipError::NotLeader { .. })
    );
    assert!(is_compared, "{stale:?}");

    nodes.change(MembershipChange::Promote([4].into())).await;
    let keeps = nodes.leader().await.id();
    let voters: BTreeSet<u64> = [keeps.min(3), 4, 5].into();
    nodes.change(MembershipChange::SetVoters(voters.clone())).await;
    for id in nodes.running() {
        if !voters.contains(&id) {
            nodes.stop(id).await;
        }
    }
    let membership = nodes.membership().await;
    assert_eq!((membership.voters(), membership.is_joint()), (&voters, false));
    assert!(membership.nodes().keys().eq(&voters), "{membership} has other members");
    nodes.write(20).await;
    nodes.check_states().await;
}

/// A follower misses so much that only a snapshot can bring it back.
async fn follower_catches_up_by_snapshot<R: AsyncRuntime, F: Fn() -> R>(nodes: &mut Nodes<R, F>) {
    let leader = nodes.leader().await.id();
    let follower = nodes.follower_of(leader);
    let last = nodes.raft(follower).metrics().latest().last.index;
    nodes.kill(follower).await;
    nodes.write(300).await;
    let leader = nodes.leader().await;
    let built = leader.snapshot().await.unwrap_or_else(|error| panic!("a snapshot is built: {error}"));
    assert!(last < built.last.index, "it covers what was written");
    nodes
        .until("the log to be purged behind what the follower has", |seen| {
            seen.values().all(|metrics| last < metrics.purged.index).then_some(())
        })
        .await;
    nodes.start(follower).await;
    nodes
        .until("a snapshot to be installed", |seen| {
            (0 < seen[&follower].counters.snapshots_installed).then_some(())
        })
        .await;
    nodes.write(10).await;
    nodes.check_states().await;
}

async fn all_are_restarted<R: AsyncRuntime, F: Fn() -> R>(nodes: &mut Nodes<R, F>) {
    let (term, ids) = (nodes.term().await, nodes.running());
    for id in &ids {
        nodes.stop(*id).await;
    }
    for id in ids {
        nodes.start(id).await;
    }
    assert!(term < nodes.term().await, "an election after the restart");
    nodes.check_states().await;
    nodes.write(10).await;
    nodes.check_states().await;
}

/// A node that was shut down has let go of everything, and says so to everybody.
async fn all_are_shut_down<R: AsyncRuntime, F: Fn() -> R>(nodes: &mut Nodes<R, F>) {
    let leader: Raft<Kv> = nodes.leader().await;
    let waits = leader.wait(PATIENCE);
    let waiting = waits.until("something that never happens", |_| false);
    let stopped = async {
        for id in nodes.running() {
            let raft = nodes.stop(id).await;
            let (_, command) = nodes.outcomes.attempt();
            assert_eq!(raft.write(command).await, Err(WriteError::Fatal(Fatal::Stopped)));
            assert_eq!(raft.read().await, Err(ReadError::Fatal(Fatal::Stopped)));
            assert_eq!(raft.metrics().latest().fatal, Some(Fatal::Stopped));
            // Once more does no harm.
            assert_eq!(raft.shutdown().now_or_never(), Some(()));
        }
    };
    let (waited, ()) = futures::join!(waiting, stopped);
    assert!(waited.is_err(), "nobody waits for a node that was shut down");
}
