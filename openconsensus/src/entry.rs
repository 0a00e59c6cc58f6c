//! Terms, indexes, log records and the hard state.

use std::fmt;

use crate::membership::Membership;
use crate::type_config::TypeConfig;

/// A period with at most one leader (Raft paper, 5.1). Term 0 is before the first.
pub type Term = u64;

/// The position of an entry in the log. The first entry has index 1; index 0 is before the first entry.
pub type Index = u64;

/// The name of an entry: two entries with the same `LogId` are the same, and so is all that stands before them
/// (Log Matching, Raft paper 5.3).
///
/// The order is the one of elections: by term, then by index (Raft paper, 5.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LogId {
    /// The term of the leader that created the entry.
    pub term: Term,
    /// Its place in the log.
    pub index: Index,
}

impl LogId {
    /// The place before the first entry.
    pub const ZERO: Self = Self { term: 0, index: 0 };

    /// Names the entry that the leader of `term` put at `index`.
    pub const fn new(term: Term, index: Index) -> Self {
        Self { term, index }
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(t{})", self.index, self.term)
    }
}

/// One record of the log.
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "C::Command: serde::Serialize, C::NodeId: serde::Serialize, C::Node: serde::Serialize",
        deserialize = "C::Command: serde::Deserialize<'de>, C::NodeId: serde::Deserialize<'de>, \
                       C::Node: serde::Deserialize<'de>"
    ))
)]
pub struct Entry<C: TypeConfig> {
    /// Its name.
    pub log_id: LogId,
    /// What it carries.
    pub payload: Payload<C>,
}

impl<C: TypeConfig> Clone for Entry<C>
where
    C::Command: Clone,
{
    fn clone(&self) -> Self {
        Self { log_id: self.log_id, payload: self.payload.clone() }
    }
}

impl<C: TypeConfig> PartialEq for Entry<C>
where
    C::Command: PartialEq,
{
    fn eq(&self, other: &Self) -> bool {
        self.log_id == other.log_id && self.payload == other.payload
    }
}

impl<C: TypeConfig> Eq for Entry<C> where C::Command: Eq {}

/// What an entry carries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "C::Command: serde::Serialize, C::NodeId: serde::Serialize, C::Node: serde::Serialize",
        deserialize = "C::Command: serde::Deserialize<'de>, C::NodeId: serde::Deserialize<'de>, \
                       C::Node: serde::Deserialize<'de>"
    ))
)]
pub enum Payload<C: TypeConfig> {
    /// Nothing: what a new leader appends to commit what it inherited (thesis 6.4, the no-op entry).
    Blank,
    /// A command for the state machine.
    Command(C::Command),
    /// A configuration of the cluster. It takes effect when it is appended (Raft paper, section 6).
    Membership(Membership<C>),
}

impl<C: TypeConfig> Entry<C> {
    /// What every entry is counted with on top of its command: its name, its kind and its place in memory.
    pub const OVERHEAD_BYTES: u64 = 48;

    /// The size that limits in bytes count this entry with.
    pub fn size_bytes(&self) -> u64 {
        let payload = match &self.payload {
            Payload::Blank => 0,
            Payload::Command(command) => C::command_bytes(command),
            Payload::Membership(membership) => 64 * membership.nodes().len() as u64,
        };
        Self::OVERHEAD_BYTES + payload
    }
}

/// What must survive a crash beside the log: the term, the vote in it, and a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "C::NodeId: serde::Serialize",
        deserialize = "C::NodeId: serde::Deserialize<'de>"
    ))
)]
pub struct HardState<C: TypeConfig> {
    /// The latest term that this node has seen. Never falls.
    pub term: Term,
    /// Who got this node's vote in `term`. Changes only together with the term, or from `None`.
    pub voted_for: Option<C::NodeId>,
    /// A hint: entries up to here are known to be committed. It may be older than the truth, never ahead of it.
    pub commit: Index,
}

impl<C: TypeConfig> Default for HardState<C> {
    fn default() -> Self {
        Self { term: 0, voted_for: None, commit: 0 }
    }
}
