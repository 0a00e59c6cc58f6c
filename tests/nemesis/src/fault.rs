//! `Fault`: what can happen to a cluster, and how it is done.

use std::fmt;
use std::time::Duration;

use crate::Error;
use crate::cluster::Cluster;
use crate::link::LinkState;

/// What can happen to a cluster. [`Cluster::heal`] and [`Cluster::restore_members`] undo all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The leader's process is killed.
    KillLeader,
    /// Some process is killed.
    KillOne,
    /// Two processes are killed.
    KillTwo,
    /// All processes are killed.
    KillAll,
    /// Some process is asked to stop, and does.
    StopOne,
    /// The leader's process is paused, and goes on later as if nothing had happened.
    PauseLeader,
    /// Two processes are paused.
    PauseTwo,
    /// The leader is alone: nothing from it arrives, nothing arrives at it.
    IsolateLeader,
    /// The leader and one other node are on one side, the rest on the other.
    PartitionMinority,
    /// The nodes on both sides of a cut through the middle hear one common node.
    PartitionBridge,
    /// Nothing that the leader says arrives; it hears everybody.
    MuteLeader,
    /// The leader hears nobody; what it says arrives.
    DeafenLeader,
    /// Nothing that some node says arrives.
    MuteOne,
    /// Some node does not hear some other one.
    CutOneWay,
    /// All connections between nodes end, and new ones can be made at once.
    ResetAll,
    /// Everything between nodes is late.
    SlowAll,
    /// What the leader says is late.
    SlowLeader,
    /// Leadership is handed over.
    Transfer,
    /// Some node is removed from the members, and goes on as if it did not know.
    RemoveOne,
    /// Two nodes are removed from the members at once, the leader among them: this takes a joint membership.
    RemoveTwo,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::KillLeader,
        Self::KillOne,
        Self::KillTwo,
        Self::KillAll,
        Self::StopOne,
        Self::PauseLeader,
        Self::PauseTwo,
        Self::IsolateLeader,
        Self::PartitionMinority,
        Self::PartitionBridge,
        Self::MuteLeader,
        Self::DeafenLeader,
        Self::MuteOne,
        Self::CutOneWay,
        Self::ResetAll,
        Self::SlowAll,
        Self::SlowLeader,
        Self::Transfer,
        Self::RemoveOne,
        Self::RemoveTwo,
    ];

    /// Makes it happen. The leader is whoever leads now; somebody, when nobody does.
    ///
    /// # Errors
    ///
    /// A process could not be sent a signal, or did not stop as it was asked to.
    pub async fn inject(self, cluster: &mut Cluster, rng: &mut fastrand::Rng) -> Result<(), Error> {
        let all = cluster.ids();
        let mut others = all.clone();
        rng.shuffle(&mut others);
        if let Some(leader) = cluster.leader().await {
            // The leader first, the others after it in no order.
            others.retain(|id| *id != leader);
            others.insert(0, leader);
        }
        let leader = others.remove(0);
        // Half of the cuts are noticed by those who are cut off, half only lose what is said.
        let cut = if rng.bool() { LinkState::Cut } else { LinkState::Stalled };
        let both_ways = |one: &[u64], other: &[u64]| {
            cluster.set_links(one, other, cut);
            cluster.set_links(other, one, cut);
        };
        match self {
            Self::KillLeader => cluster.kill(leader).await?,
            Self::KillOne => cluster.kill(others[0]).await?,
            Self::KillTwo => {
                cluster.kill(leader).await?;
                cluster.kill(others[0]).await?;
            }
            Self::KillAll => {
                for id in all {
                    cluster.kill(id).await?;
                }
            }
            Self::StopOne => cluster.stop(if rng.bool() { leader } else { others[0] }).await?,
            Self::PauseLeader => cluster.pause(leader)?,
            Self::PauseTwo => {
                cluster.pause(others[0])?;
                cluster.pause(others[1])?;
            }
            Self::IsolateLeader => both_ways(&[leader], &others),
            Self::PartitionMinority => both_ways(&[leader, others[0]], &others[1..]),
            Self::PartitionBridge => both_ways(&[leader, others[0]], &others[2..]),
            Self::MuteLeader => cluster.set_links(&[leader], &all, cut),
            Self::DeafenLeader => cluster.set_links(&all, &[leader], cut),
            Self::MuteOne => cluster.set_links(&others[..1], &all, cut),
            Self::CutOneWay => {
                let (from, to) = (others[0], if rng.bool() { leader } else { others[1] });
                cluster.set_links(&[from], &[to], cut);
            }
            Self::ResetAll => cluster.reset_links(),
            Self::SlowAll => cluster.set_links(&all, &all, LinkState::Slow(lateness(rng))),
            Self::SlowLeader => cluster.set_links(&[leader], &all, LinkState::Slow(lateness(rng))),
            Self::Transfer => cluster.transfer().await,
            Self::RemoveOne => cluster.remove(&others[..1]).await,
            Self::RemoveTwo => cluster.remove(&[leader, others[0]]).await,
        }
        Ok(())
    }

    /// Whether the cluster must go on without help: a majority runs and can talk, and another leader may be needed.
    pub fn takes_the_leader(self) -> bool {
        match self {
            Self::KillLeader
            | Self::KillTwo
            | Self::PauseLeader
            | Self::IsolateLeader
            | Self::PartitionMinority
            | Self::MuteLeader => true,
            Self::KillOne
            | Self::KillAll
            | Self::StopOne
            | Self::PauseTwo
            | Self::PartitionBridge
            | Self::DeafenLeader
            | Self::MuteOne
            | Self::CutOneWay
            | Self::ResetAll
            | Self::SlowAll
            | Self::SlowLeader
            | Self::Transfer
            | Self::RemoveOne
            | Self::RemoveTwo => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillLeader => "kill the leader",
            Self::KillOne => "kill one node",
            Self::KillTwo => "kill two nodes",
            Self::KillAll => "kill all nodes",
            Self::StopOne => "stop one node",
            Self::PauseLeader => "pause the leader",
            Self::PauseTwo => "pause two nodes",
            Self::IsolateLeader => "isolate the leader",
            Self::PartitionMinority => "partition off the leader and another",
            Self::PartitionBridge => "partition with a bridge",
            Self::MuteLeader => "mute the leader",
            Self::DeafenLeader => "deafen the leader",
            Self::MuteOne => "mute one node",
            Self::CutOneWay => "cut one link one way",
            Self::ResetAll => "reset all connections",
            Self::SlowAll => "slow all links",
            Self::SlowLeader => "slow the leader",
            Self::Transfer => "transfer leadership",
            Self::RemoveOne => "remove one member",
            Self::RemoveTwo => "remove the leader and another member",
        })
    }
}

/// From what is hardly noticed to about a heartbeat.
fn lateness(rng: &mut fastrand::Rng) -> Duration {
    Duration::from_millis(rng.u64(2..40))
}
