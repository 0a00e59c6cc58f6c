//! What can happen in a simulation. A run is a list of events, which can be replayed with some of them left out.

use std::collections::BTreeSet;
use std::fmt;

use openconsensus::MembershipChange;

use super::letters::Name;
use crate::engines::{Test, nodes};

/// One thing that happens, and when.
///
/// An event names what it is about by what it is, not by what came before it: an event that finds nothing to do does
/// nothing. That is what lets a list be replayed with events left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Microseconds since the beginning, on no node's clock.
    pub(super) at_us: u64,
    pub(super) what: Happening,
    /// The effects of the node that is stepped are not taken yet: more inputs come first.
    pub(super) waits: bool,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// A timer of `node` runs out, or it is woken too early.
    Timeout { node: u64 },
    /// A letter arrives. With `keep` it will arrive once more.
    Deliver { letter: Name, keep: bool },
    /// A letter does not arrive.
    Lose { letter: Name },
    /// The oldest writes are durable, and the engine is told of the last of them.
    FinishWrites { node: u64, count: usize },
    /// A write fails, and the node goes down: of its writes so many are on the disk, and so many parts of the next.
    FailDisk { node: u64, writes: usize, parts: usize },
    /// The state machine does its next piece of work; of entries, so many.
    Work { node: u64, entries: u64 },
    /// A snapshot that was being written out is durable, or cannot be written.
    FinishBuilding { node: u64, succeeds: bool },
    /// The snapshot on the disk of a node cannot be read any more, or can be read again.
    DamageSnapshot { node: u64, is_damaged: bool },
    /// The installation of a snapshot ends.
    FinishInstalling { node: u64, succeeds: bool },
    /// Old entries have been read for a peer.
    FinishReading { node: u64 },
    /// The current snapshot begins to leave.
    SendSnapshot { node: u64 },
    /// What follows from all inputs so far is done.
    TakeEffects { node: u64 },
    /// The node dies. Of its writes so many are on the disk, and so many parts of the next one. With `forgets` its state
    /// machine has kept nothing but its snapshot.
    Crash { node: u64, writes: usize, parts: usize, forgets: bool },
    /// The node starts from what is on its disk.
    Restart { node: u64 },
    /// Everything from one node to another is lost from now on.
    Cut { from: u64, to: u64 },
    /// No more.
    Mend { from: u64, to: u64 },
    /// Nothing is cut any more.
    MendAll,
    /// The clock of the node goes at another rate (a million is right) and jumps ahead.
    SetClock { node: u64, rate_ppm: u64, jump_us: u64 },
    /// The machine of the node stands still for so long, and its clock with it.
    Suspend { node: u64, for_us: u64 },
    /// The node is to begin a cluster.
    Initialize { node: u64, voters: Ids },
    /// A client writes so many commands together.
    Write { node: u64, count: u64 },
    /// A client reads, and takes a lease for proof or not.
    Read { node: u64, by_lease: bool },
    /// Somebody asks for a change of the membership.
    Change { node: u64, change: Change, ids: Ids },
    /// Somebody asks for leadership to be transferred.
    Transfer { node: u64, target: Option<u64> },
    /// Somebody asks for a snapshot.
    BuildSnapshot { node: u64 },
    /// Somebody asks for the log to be purged.
    PurgeLog { node: u64, upto: u64 },
    /// Somebody asks the node to campaign.
    Campaign { node: u64 },
    /// Somebody wants the node to start no elections, or to start them again.
    PauseElections { node: u64, paused: bool },
    /// Somebody wants the node to send no heartbeats, or to send them again.
    PauseHeartbeats { node: u64, paused: bool },
    /// Somebody wants the node to forget its leader.
    ForgetLeader { node: u64 },
    /// The network reports a peer as unreachable.
    Unreachable { node: u64, peer: u64 },
}

/// A set of small node ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ids(u32);

impl Ids {
    /// The ids in order.
    pub(super) fn iter(self) -> impl Iterator<Item = u64> {
        (0..32).filter(move |id| self.0 >> id & 1 == 1)
    }
}

impl FromIterator<u64> for Ids {
    fn from_iter<I: IntoIterator<Item = u64>>(ids: I) -> Self {
        Self(ids.into_iter().fold(0, |set, id| set | 1 << id))
    }
}

/// The kind of a change of the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Add learners.
    Add,
    /// Let learners vote.
    Promote,
    /// Make voters learners.
    Demote,
    /// Remove members.
    Remove,
    /// Make exactly these members the voters.
    SetVoters,
    /// Change how members are reached.
    Update,
    /// Make these the voters and everybody else who was one a learner, with node 1 to 3 as members whatever they were.
    Set,
}

impl Change {
    pub(super) fn of(self, ids: Ids) -> MembershipChange<Test> {
        let set: BTreeSet<u64> = ids.iter().collect();
        match self {
            Self::Add => MembershipChange::AddLearners(nodes(ids.iter())),
            Self::Promote => MembershipChange::Promote(set),
            Self::Demote => MembershipChange::Demote(set),
            Self::Remove => MembershipChange::Remove(set),
            Self::SetVoters => MembershipChange::SetVoters(set),
            Self::Update => MembershipChange::UpdateNodes(nodes(ids.iter())),
            Self::Set => MembershipChange::Set { voters: set, nodes: nodes(ids.iter().chain(1..=3)) },
        }
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self.iter().map(|id| id.to_string()).collect();
        write!(f, "{{{}}}", ids.join(","))
    }
}

impl Happening {
    /// On which node it happens, if it is on one.
    pub(super) fn node(&self) -> Option<u64> {
        match *self {
            Self::Timeout { node }
            | Self::FinishWrites { node, .. }
            | Self::FailDisk { node, .. }
            | Self::Work { node, .. }
            | Self::FinishBuilding { node, .. }
            | Self::DamageSnapshot { node, .. }
            | Self::FinishInstalling { node, .. }
            | Self::FinishReading { node }
            | Self::SendSnapshot { node }
            | Self::TakeEffects { node }
            | Self::Crash { node, .. }
            | Self::Restart { node }
            | Self::SetClock { node, .. }
            | Self::Suspend { node, .. }
            | Self::Initialize { node, .. }
            | Self::Write { node, .. }
            | Self::Read { node, .. }
            | Self::Change { node, .. }
            | Self::Transfer { node, .. }
            | Self::BuildSnapshot { node }
            | Self::PurgeLog { node, .. }
            | Self::Campaign { node }
            | Self::PauseElections { node, .. }
            | Self::PauseHeartbeats { node, .. }
            | Self::ForgetLeader { node }
            | Self::Unreachable { node, .. } => Some(node),
            Self::Deliver { letter, .. } => Some(letter.to),
            Self::Lose { .. } | Self::Cut { .. } | Self::Mend { .. } | Self::MendAll => None,
        }
    }
}

impl Happening {
    /// Whether it is about this node.
    pub(super) fn concerns(&self, node: u64) -> bool {
        match *self {
            Self::Deliver { letter, .. } | Self::Lose { letter } => letter.from == node || letter.to == node,
            Self::Cut { from, to } | Self::Mend { from, to } => from == node || to == node,
            what => what.node() == Some(node),
        }
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { node } => write!(f, "n{node}: a timer runs out"),
            Self::Deliver { letter, keep: false } => write!(f, "deliver {letter}"),
            Self::Deliver { letter, keep: true } => write!(f, "deliver {letter}, and keep a copy"),
            Self::Lose { letter } => write!(f, "lose {letter}"),
            Self::FinishWrites { node, count } => write!(f, "n{node}: up to {count} writes are durable"),
            Self::FailDisk { node, writes, parts } => {
                write!(f, "n{node}: the disk fails; {writes} writes and {parts} parts of the next are on it")
            }
            Self::Work { node, entries } => {
                write!(f, "n{node}: the state machine works (up to {entries} entries)")
            }
            Self::FinishBuilding { node, succeeds: true } => write!(f, "n{node}: a snapshot is built"),
            Self::FinishBuilding { node, succeeds: false } => {
                write!(f, "n{node}: a snapshot cannot be built")
            }
            Self::DamageSnapshot { node, is_damaged } => {
                write!(f, "n{node}: the snapshot on its disk is damaged: {is_damaged}")
            }
            Self::FinishInstalling { node, succeeds: true } => write!(f, "n{node}: a snapshot is installed"),
            Self::FinishInstalling { node, succeeds: false } => {
                write!(f, "n{node}: the stream of a snapshot breaks off")
            }
            Self::FinishReading { node } => write!(f, "n{node}: old entries are read"),
            Self::SendSnapshot { node } => write!(f, "n{node}: the current snapshot begins to leave"),
            Self::TakeEffects { node } => write!(f, "n{node}: effects are taken"),
            Self::Crash { node, writes, parts, forgets } => {
                let state = if *forgets { ", the state machine forgets" } else { "" };
                write!(f, "n{node}: crash; {writes} writes and {parts} parts of the next are on disk{state}")
            }
            Self::Restart { node } => write!(f, "n{node}: restart"),
            Self::Cut { from, to } => write!(f, "cut n{from} -> n{to}"),
            Self::Mend { from, to } => write!(f, "mend n{from} -> n{to}"),
            Self::MendAll => f.write_str("mend all links"),
            Self::SetClock { node, rate_ppm, jump_us } => {
                write!(f, "n{node}: the clock goes at {rate_ppm} ppm and jumps by {jump_us} us")
            }
            Self::Suspend { node, for_us } => write!(f, "n{node}: the machine is suspended for {for_us} us"),
            Self::Initialize { node, voters } => write!(f, "n{node}: initialize with {voters}"),
            Self::Write { node, count } => write!(f, "n{node}: a client writes {count} commands"),
            Self::Read { node, by_lease: false } => write!(f, "n{node}: a client reads"),
            Self::Read { node, by_lease: true } => write!(f, "n{node}: a client reads by lease"),
            Self::Change { node, change, ids } => {
                write!(f, "n{node}: change the membership: {change:?} {ids}")
            }
            Self::Transfer { node, target: Some(target) } => write!(f, "n{node}: transfer to n{target}"),
            Self::Transfer { node, target: None } => write!(f, "n{node}: transfer to anybody"),
            Self::BuildSnapshot { node } => write!(f, "n{node}: build a snapshot"),
            Self::PurgeLog { node, upto } => write!(f, "n{node}: purge the log to {upto}"),
            Self::Campaign { node } => write!(f, "n{node}: campaign"),
            Self::PauseElections { node, paused } => write!(f, "n{node}: elections paused: {paused}"),
            Self::PauseHeartbeats { node, paused } => write!(f, "n{node}: heartbeats paused: {paused}"),
            Self::ForgetLeader { node } => write!(f, "n{node}: forget the leader"),
            Self::Unreachable { node, peer } => write!(f, "n{node}: n{peer} is said to be unreachable"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waits = if self.waits { " (more inputs follow)" } else { "" };
        write!(f, "{:>9.3} ms  {}{waits}", self.at_us as f64 / 1000.0, self.what)
    }
}
