//! What each error means to a client. The kind says what it may do next.

use openconsensus::{
    ChangeMembershipError, Fatal, ForgetLeaderError, LeaderHint, PurgeError, ReadError, SnapshotError,
    TransferError, WriteError,
};
use openconsensus_memstore::kv::Kv;

use crate::proto::Failure;
use crate::proto::failure::Kind;

/// Nothing has happened, and the same request will be refused again.
pub(super) fn refused(text: impl ToString) -> Failure {
    failure(Kind::Refused, text, None)
}

/// Nothing has happened, and another node, or this one later, may succeed.
pub(super) fn not_ready(text: impl ToString) -> Failure {
    failure(Kind::NotReady, text, None)
}

/// It was tried and did not succeed; nothing is lost.
pub(super) fn failed(text: impl ToString) -> Failure {
    failure(Kind::Failed, text, None)
}

fn failure(kind: Kind, text: impl ToString, leader: Option<&LeaderHint<Kv>>) -> Failure {
    Failure {
        kind: kind.into(),
        text: text.to_string(),
        leader_id: leader.map(|leader| leader.id),
        leader_address: leader.and_then(|leader| leader.node.clone()),
    }
}

/// An error that turns into a [`Failure`].
pub(super) trait IntoFailure {
    fn into_failure(self) -> Failure;
}

impl IntoFailure for WriteError<Kv> {
    fn into_failure(self) -> Failure {
        let (kind, leader) = match &self {
            Self::NotLeader { leader } => (Kind::NotLeader, leader.as_ref()),
            Self::TooLarge { .. } => (Kind::TooLarge, None),
            Self::Dropped => (Kind::Dropped, None),
            Self::Busy { .. } | Self::Transferring => (Kind::Busy, None),
            Self::Fatal(_) => (Kind::Stopped, None),
            // Also what a later version of the library may add: nothing is known of it.
            Self::Unknown { .. } | _ => (Kind::Unknown, None),
        };
        failure(kind, &self, leader)
    }
}

impl IntoFailure for ReadError<Kv> {
    fn into_failure(self) -> Failure {
        let (kind, leader) = match &self {
            Self::NotConfirmed { leader } => (Kind::NotReady, leader.as_ref()),
            Self::Fatal(_) => (Kind::Stopped, None),
            _ => (Kind::NotReady, None),
        };
        failure(kind, &self, leader)
    }
}

impl IntoFailure for ChangeMembershipError<Kv> {
    fn into_failure(self) -> Failure {
        let (kind, leader) = match &self {
            Self::NotLeader { leader } => (Kind::NotLeader, leader.as_ref()),
            Self::InProgress { .. } | Self::NotReady | Self::Transferring | Self::NotCaughtUp { .. } => {
                (Kind::NotReady, None)
            }
            Self::Mismatch { .. }
            | Self::UnknownNode { .. }
            | Self::AlreadyMember { .. }
            | Self::WrongRole { .. }
            | Self::NoVoters
            | Self::NoNode { .. }
            | Self::QuorumSilent { .. }
            | Self::Empty => (Kind::Refused, None),
            Self::StillCatchingUp { .. } => (Kind::Failed, None),
            Self::Fatal(_) => (Kind::Stopped, None),
            Self::Unknown { .. } | _ => (Kind::Unknown, None),
        };
        failure(kind, &self, leader)
    }
}

impl IntoFailure for TransferError<Kv> {
    fn into_failure(self) -> Failure {
        let (kind, leader) = match &self {
            Self::NotLeader { leader } => (Kind::NotLeader, leader.as_ref()),
            Self::InProgress { .. } | Self::TooFarBehind { .. } => (Kind::NotReady, None),
            Self::NotAVoter { .. } | Self::NoTarget | Self::NotActive { .. } => (Kind::Refused, None),
            Self::TimedOut { .. } | Self::Declined { .. } => (Kind::Failed, None),
            Self::NotAnswered { leader } => (Kind::Unknown, leader.as_ref()),
            Self::Failed { leader, .. } => (Kind::Failed, leader.as_ref()),
            Self::Fatal(_) => (Kind::Stopped, None),
            _ => (Kind::Unknown, None),
        };
        failure(kind, &self, leader)
    }
}

impl IntoFailure for SnapshotError {
    fn into_failure(self) -> Failure {
        let kind = match &self {
            Self::Empty => Kind::Refused,
            Self::Installing => Kind::NotReady,
            Self::Failed(_) => Kind::Failed,
            Self::Fatal(_) => Kind::Stopped,
            _ => Kind::Unknown,
        };
        failure(kind, &self, None)
    }
}

impl IntoFailure for PurgeError {
    fn into_failure(self) -> Failure {
        let kind = match &self {
            Self::NotInSnapshot { .. } => Kind::Refused,
            Self::Sending { .. } | Self::Installing => Kind::NotReady,
            Self::Fatal(_) => Kind::Stopped,
            _ => Kind::Unknown,
        };
        failure(kind, &self, None)
    }
}

impl IntoFailure for ForgetLeaderError {
    fn into_failure(self) -> Failure {
        let kind = match &self {
            Self::Leading | Self::Leases => Kind::Refused,
            Self::Fatal(_) => Kind::Stopped,
            _ => Kind::Unknown,
        };
        failure(kind, &self, None)
    }
}

impl IntoFailure for Fatal {
    fn into_failure(self) -> Failure {
        failure(Kind::Stopped, &self, None)
    }
}
