//! Things that go wrong at random, and what is left of them when they are over.

use std::time::Duration;

use openconsensus::{AsyncRuntime, LogId, MembershipChange, Term};

use super::application::SimApplication;
use super::cluster::SimCluster;
use crate::network::{LinkFaults, SnapshotFaults};

/// How long a cluster may take until all is well again, after everything was repaired. In virtual time.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// Metrics are not later than this.
const METRICS_LATENESS_MAX: Duration = Duration::from_millis(200);

/// How long it must then stay so.
const CALM: Duration = Duration::from_secs(3);

/// What may go wrong in [`SimCluster::disturb`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disturbances {
    /// Nodes are killed, or shut down, and started again.
    pub stops: bool,
    /// Nodes stand still for a while, longer than a leader may be silent; for some of them time stands still too. The
    /// time of day is set.
    pub pauses: bool,
    /// Nodes are cut off, in one direction or both.
    pub cuts: bool,
    /// Messages are lost, repeated, late and out of order; snapshots break off and stall.
    pub messages: bool,
    /// Disks are slow, stand still, are full, and fail.
    pub disks: bool,
    /// Members come and go, and change between voter and learner.
    pub membership: bool,
    /// Leadership is transferred; elections are held without need; snapshots are built.
    pub administration: bool,
}

impl Disturbances {
    /// All of them.
    pub fn all() -> Self {
        Self {
            stops: true,
            pauses: true,
            cuts: true,
            messages: true,
            disks: true,
            membership: true,
            administration: true,
        }
    }

    /// None of them, to name some: `Disturbances { stops: true, ..Disturbances::none() }`.
    pub fn none() -> Self {
        Self {
            stops: false,
            pauses: false,
            cuts: false,
            messages: false,
            disks: false,
            membership: false,
            administration: false,
        }
    }
}

impl<A: SimApplication> SimCluster<A> {
    /// Makes things go wrong for `duration` of virtual time, each some milliseconds after the other, as the seed of the
    /// simulation chooses. What is wrong at the end stays so until [`repair`](Self::repair).
    ///
    /// # Panics
    ///
    /// As [`check`](Self::check), which is called all the time.
    pub async fn disturb(&self, what: Disturbances, duration: Duration) {
        let mut chaos = Chaos { cluster: self, random: self.world().generator() };
        let end = self.world().elapsed() + duration;
        while self.world().elapsed() < end {
            chaos.disturb(what).await;
            self.check();
            let pause_ms = if chaos.random.u8(0..3) == 0 { 0..10 } else { 0..200 };
            self.world().let_pass(Duration::from_millis(chaos.random.u64(pause_ms))).await;
        }
    }

    /// Repairs everything: links, disks, nodes that stand still or do not run. Nodes that their stores have stopped are
    /// started again.
    pub async fn repair(&self) {
        self.world().note(format_args!("everything is repaired"));
        self.network().heal();
        self.network().calm();
        self.network().set_faults(self.shared.options.link_faults.clone());
        for id in self.nodes_known() {
            self.repair_disks(id);
            if self.running_node(id).is_some() {
                self.resume(id);
            }
        }
        self.restart_failed().await;
        for id in self.nodes_known() {
            if self.running_node(id).is_none() {
                self.until(RECOVERY_MAX, "a start to end", || (!self.is_changing(id)).then_some(())).await;
            }
            if self.running_node(id).is_none() {
                self.start(id).await;
            }
        }
    }

    /// Waits until all is well: a leader, every member with the same log, all of it applied, and the same state; every
    /// request answered; and that it stays so. Nobody may write meanwhile.
    ///
    /// # Panics
    ///
    /// When it does not come to that within a minute of virtual time, when the states differ, or when anything has
    /// happened that must not ([`check`](Self::check)).
    pub async fn converge(&self) {
        self.until(RECOVERY_MAX, "every request to be answered", || {
            (self.open_requests() == 0).then_some(())
        })
        .await;
        let (members, term, last) = loop {
            let found = self.until(RECOVERY_MAX, "all members to be equal", || self.members_if_equal()).await;
            // Metrics may be a little late. What is said twice holds.
            self.world().let_pass(METRICS_LATENESS_MAX).await;
            if self.members_if_equal().as_ref() == Some(&found) {
                break found;
            }
        };
        let state = self.state(members[0]);
        for id in &members[1..] {
            assert_eq!(self.state(*id), state, "the states of nodes {} and {id} differ", members[0]);
        }
        self.world().let_pass(CALM).await;
        for id in members {
            let now = self.metrics(id);
            assert_eq!(now.term, term, "node {id} has a new term, and nothing was wrong: {now:?}");
            assert_eq!(now.last, last, "node {id} has new entries, and nobody has written: {now:?}");
        }
        self.check();
    }

    /// The members of the cluster, if there is a leader and all of them have the same log, committed and applied.
    /// Also their term and their last entry.
    fn members_if_equal(&self) -> Option<(Vec<u64>, Term, LogId)> {
        let running = self.running();
        let leader = running.iter().map(|id| self.metrics(*id)).find(|metrics| {
            metrics.leader == Some(metrics.id) && metrics.applied == metrics.last && metrics.fatal.is_none()
        })?;
        let members: Vec<u64> = leader.membership.membership.nodes().keys().copied().collect();
        let is_equal = |id: &u64| {
            running.contains(id) && {
                let metrics = self.metrics(*id);
                metrics.last == leader.last
                    && metrics.committed == leader.last.index
                    && metrics.applied == leader.last
                    && metrics.leader == Some(leader.id)
            }
        };
        let is_done = members.iter().all(is_equal);
        is_done.then(|| (members, leader.term, leader.last))
    }

    fn repair_disks(&self, id: u64) {
        let options = &self.shared.options;
        let (log, machine) = (self.log_faults(id), self.machine_faults(id));
        log.set_latency(options.log_latency.clone());
        machine.set_latency(options.machine_latency.clone());
        for faults in [log, machine] {
            faults.free();
            faults.release();
        }
    }

    /// Starts nodes again that have stopped because a store has failed.
    async fn restart_failed(&self) {
        for id in self.running() {
            if self.metrics(id).fatal.is_some() {
                self.repair_disks(id);
                self.resume(id);
                self.stop(id).await;
                self.world().spawn(self.clone().start_alone(id));
            }
        }
    }

    /// Starts a node beside the caller: it may be killed meanwhile, and its stores may fail.
    async fn start_alone(self, id: u64) {
        if self.running_node(id).is_some() || self.is_changing(id) {
            return;
        }
        self.repair_disks(id);
        // A store that was made to fail is noted; somebody starts the node again later.
        let _ = self.try_start(id).await;
    }
}

/// Makes things go wrong.
struct Chaos<'a, A: SimApplication> {
    cluster: &'a SimCluster<A>,
    random: fastrand::Rng,
}

impl<A: SimApplication> Chaos<'_, A> {
    /// One thing goes wrong, or is put right.
    async fn disturb(&mut self, what: Disturbances) {
        self.cluster.restart_failed().await;
        let nodes = self.cluster.nodes_known();
        let node = nodes[self.random.usize(..nodes.len())];
        let other = nodes[self.random.usize(..nodes.len())];
        match self.random.u8(0..16) {
            0..=3 if what.stops => self.stop_or_start(node).await,
            4 | 5 if what.pauses => self.pause_or_resume(node),
            6 | 7 if what.cuts => self.cut(node, other),
            8 | 9 if what.messages => self.disturb_messages(node, other),
            10 | 11 if what.disks => self.disturb_disk(node),
            12 | 13 if what.membership => self.change_membership(node),
            14 | 15 if what.administration => self.administer(node, other),
            _ => self.cluster.network().heal(),
        }
    }

    async fn stop_or_start(&mut self, id: u64) {
        let cluster = self.cluster;
        let down: Vec<u64> =
            cluster.nodes_known().into_iter().filter(|id| cluster.running_node(*id).is_none()).collect();
        let is_running = cluster.running_node(id).is_some();
        match self.random.u8(0..12) {
            // All of them lose their power at once.
            0 if self.random.u8(0..3) == 0 => cluster.running().into_iter().for_each(|id| cluster.kill(id)),
            1 if is_running => {
                // A shutdown waits for what its stores are doing.
                cluster.repair_disks(id);
                cluster.resume(id);
                cluster.stop(id).await;
            }
            2..=6 if is_running && down.len() < 2 => cluster.kill(id),
            7 if cluster.is_changing(id) => cluster.kill(id),
            _ => down.into_iter().for_each(|id| cluster.world().spawn(cluster.clone().start_alone(id))),
        }
    }

    fn pause_or_resume(&mut self, id: u64) {
        if self.cluster.running_node(id).is_none() {
            return;
        }
        self.cluster.resume(id);
        let kind = self.random.u8(0..6);
        if let (5, Some(node)) = (kind, self.cluster.running_node(id)) {
            // Somebody sets the time of day.
            node.runtime.set_wall_clock(self.random.i64(-100_000..100_000));
        } else if 1 < kind {
            if kind < 4 {
                self.cluster.pause(id)
            } else {
                self.cluster.suspend(id)
            }
            let (cluster, pause) = (self.cluster.clone(), Duration::from_millis(self.random.u64(50..2000)));
            let Some(node) = cluster.running_node(id) else { return };
            // Nobody stands still for ever, whoever else comes into its place.
            self.cluster.world().spawn(async move {
                cluster.world().let_pass(pause).await;
                node.runtime.resume();
            });
        }
    }

    fn cut(&mut self, node: u64, other: u64) {
        let network = self.cluster.network();
        self.cluster.world().note(format_args!("links of n{node} and n{other} change"));
        match self.random.u8(0..6) {
            0 => self.isolate_leader(),
            1 => network.cut_one_way(node, other),
            2 => network.isolate(node),
            3 => {
                let nodes = self.cluster.nodes_known();
                let (left, right): (Vec<u64>, Vec<u64>) = nodes.iter().partition(|_| self.random.bool());
                network.partition(&[&left, &right]);
            }
            _ => network.heal(),
        }
    }

    /// Cuts off whoever leads: what is written there meanwhile must not be.
    fn isolate_leader(&self) {
        let mut running = self.cluster.running().into_iter();
        let leader = running.find(|id| self.cluster.metrics(*id).leader == Some(*id));
        leader.into_iter().for_each(|id| self.cluster.network().isolate(id));
    }

    fn disturb_messages(&mut self, node: u64, other: u64) {
        let network = self.cluster.network();
        self.cluster.world().note(format_args!("the network changes between n{node} and n{other}"));
        let usual = self.cluster.shared.options.link_faults.clone();
        match self.random.u8(0..6) {
            0 => network.set_faults(LinkFaults::rough()),
            1 => network.set_link_faults(node, other, LinkFaults { drop: 0.5, ..LinkFaults::rough() }),
            2 => {
                let delay = Duration::ZERO..Duration::from_millis(self.random.u64(1..400));
                network.set_link_faults(node, other, LinkFaults { delay, ..LinkFaults::default() });
            }
            3 => network.set_snapshot_faults(SnapshotFaults {
                // State machines of others need not have checksums: a network is trusted to have them.
                flip_bit_at: None,
                break_after_bytes: self.random.bool().then(|| self.random.u64(0..3000)),
                stall_after_bytes: self.random.bool().then(|| self.random.u64(0..3000)),
                chunk_bytes: Some(self.random.usize(1..500)),
                chunk_delay: Duration::from_millis(self.random.u64(0..20)),
            }),
            _ => {
                network.calm();
                network.set_faults(usual);
            }
        }
    }

    fn disturb_disk(&mut self, id: u64) {
        let is_log = self.random.bool();
        let faults = if is_log { self.cluster.log_faults(id) } else { self.cluster.machine_faults(id) };
        let store = if is_log { "log" } else { "state" };
        self.cluster.world().note(format_args!("the disk of n{id} changes ({store})"));
        match self.random.u8(0..8) {
            0 => faults.fail_write(self.random.u64(1..20)),
            1 => faults.fail_after_write(self.random.u64(1..20)),
            2 => faults.fill(),
            3 => faults.set_latency(Duration::ZERO..Duration::from_millis(self.random.u64(1..300))),
            4 => faults.stall(),
            _ => self.cluster.nodes_known().into_iter().for_each(|id| self.cluster.repair_disks(id)),
        }
    }

    /// Asks every node for one change; only a leader can begin it.
    fn change_membership(&mut self, node: u64) {
        let nodes = self.cluster.nodes_known();
        let app = self.cluster.app();
        let change: MembershipChange<A::Types> = match self.random.u8(0..8) {
            0..=2 => MembershipChange::AddLearners([(node, app.address(node))].into()),
            3 => MembershipChange::Promote([node].into()),
            4 => MembershipChange::Demote([node].into()),
            5 => MembershipChange::Remove([node].into()),
            6 => {
                let voters: std::collections::BTreeSet<_> =
                    nodes.iter().copied().filter(|_| self.random.u8(0..3) != 0).collect();
                let members = nodes.into_iter().filter(|_| self.random.u8(0..4) != 0).chain(voters.clone());
                let nodes = members.map(|id| (id, app.address(id))).collect();
                MembershipChange::Set { voters, nodes }
            }
            _ => {
                MembershipChange::SetVoters(nodes.into_iter().filter(|_| self.random.u8(0..3) != 0).collect())
            }
        };
        self.cluster.world().note(format_args!("asked for: {change:?}"));
        for id in self.cluster.running() {
            let (raft, change) = (self.cluster.raft(id), change.clone());
            self.ask(async move { drop(raft.change_membership(change, None).await) });
        }
    }

    fn administer(&mut self, node: u64, other: u64) {
        let Some(running) = self.cluster.running_node(node) else { return };
        let raft = running.raft;
        match self.random.u8(0..4) {
            // A node that has stopped cannot campaign.
            0 => drop(raft.campaign()),
            1 => self.ask(async move { drop(raft.snapshot().await) }),
            2 => self.ask(async move { drop(raft.transfer_leadership(Some(other)).await) }),
            _ => {
                for id in self.cluster.running() {
                    let raft = self.cluster.raft(id);
                    self.ask(async move { drop(raft.transfer_leadership(None).await) });
                }
            }
        }
    }

    /// Asks a node for something whose answer is of no interest, but must come.
    fn ask(&self, request: impl Future<Output = ()> + openconsensus::MaybeSend + 'static) {
        let cluster = self.cluster.clone();
        self.cluster.world().spawn(async move {
            cluster.ask(Duration::ZERO, request).await;
        });
    }
}
