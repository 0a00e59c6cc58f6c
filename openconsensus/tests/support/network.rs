//! What is under way between nodes.

use openconsensus::engine::SnapshotId;
use openconsensus::{Body, InstallSnapshot, InstallSnapshotResponse, Message, Term};

use super::Test;
use super::node::Image;

/// Something on its way from one node to another.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) what: What,
}

/// What is on its way.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Message(Message<Test>),
    /// A snapshot with its bytes, and how the sender names the transfer.
    Snapshot {
        id: SnapshotId,
        request: InstallSnapshot<Test>,
        image: Box<Image>,
    },
    /// What became of a snapshot; `None` when it did not arrive.
    SnapshotAnswer {
        id: SnapshotId,
        response: Option<InstallSnapshotResponse>,
    },
}

impl Letter {
    pub(crate) fn body(&self) -> Option<&Body<Test>> {
        match &self.what {
            What::Message(message) => Some(&message.body),
            What::Snapshot { .. } | What::SnapshotAnswer { .. } => None,
        }
    }

    pub(crate) fn term(&self) -> Option<Term> {
        match &self.what {
            What::Message(message) => Some(message.term),
            What::Snapshot { .. } | What::SnapshotAnswer { .. } => None,
        }
    }

    pub(crate) fn is_append(&self) -> bool {
        matches!(self.body(), Some(Body::Append { .. }))
    }

    pub(crate) fn is_append_response(&self) -> bool {
        matches!(self.body(), Some(Body::AppendResponse { .. }))
    }

    pub(crate) fn is_heartbeat(&self) -> bool {
        matches!(self.body(), Some(Body::Heartbeat { .. }))
    }

    pub(crate) fn is_heartbeat_response(&self) -> bool {
        matches!(self.body(), Some(Body::HeartbeatResponse { .. }))
    }

    pub(crate) fn is_vote_request(&self) -> bool {
        matches!(self.body(), Some(Body::VoteRequest { .. }))
    }

    pub(crate) fn is_vote_response(&self) -> bool {
        matches!(self.body(), Some(Body::VoteResponse { .. }))
    }

    pub(crate) fn is_snapshot(&self) -> bool {
        matches!(self.what, What::Snapshot { .. })
    }
}
