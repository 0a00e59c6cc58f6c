//! `LeadershipEvent`: what a node says of its own leadership.

use crate::entry::{Index, Term};

/// A step in the life of this node's leadership. For each term in which it is elected there is one `Started`, at most one
/// `Ready`, and one `Stopped`, in this order and before the `Started` of a later term.
///
/// Whoever acts because of `Started` or `Ready` must bear in mind that another node may lead by then: a leader that is cut
/// off learns it last. What must happen only once in the cluster goes through a [write](crate::Raft::write).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum LeadershipEvent {
    /// This node was elected: from now on it takes writes, and its votes are durable on a quorum. Its state machine may
    /// still lack what earlier leaders have committed.
    Started {
        /// The term that it leads in.
        term: Term,
        /// The first entry of its term. When it is applied, so is everything that was committed in earlier terms.
        ready_at: Index,
    },
    /// This node still leads, and its state machine has applied everything that earlier leaders have committed: work
    /// that only the leader does, and that begins with a look at the state, may begin. Membership may be changed from
    /// now on (Raft thesis 4.1, and 6.4 for the entry that this waits for).
    Ready {
        /// The term that it leads in.
        term: Term,
    },
    /// This node leads no more in this term, and never will again. What it was asked to write and has not answered may
    /// still be committed by another leader.
    Stopped {
        /// The term that it has led in.
        term: Term,
    },
}

impl LeadershipEvent {
    /// The term of the leadership.
    pub fn term(&self) -> Term {
        match self {
            Self::Started { term, .. } | Self::Ready { term } | Self::Stopped { term } => *term,
        }
    }
}
