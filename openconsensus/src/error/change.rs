//! Why the membership or the leadership was not changed: every refusal names the rule, and what would be right.

use std::collections::BTreeSet;

use crate::entry::{Index, LogId};
use crate::type_config::TypeConfig;

use super::{Fatal, LeaderHint, hint};

/// Why a membership change was refused, or what became of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeMembershipError<C: TypeConfig> {
    /// Not begun, because this node does not lead. Retry on `leader`.
    #[error(
        "only the leader changes the membership, and this node does not lead; {}; ask there",
        hint(leader)
    )]
    NotLeader {
        /// Where to retry.
        leader: Option<LeaderHint<C>>,
    },
    /// Not begun: another change is not finished yet (one change at a time, Raft thesis 4.1). Retry later.
    #[error(
        "the change of membership at {pending} is not finished yet; one change at a time, retry when it is"
    )]
    InProgress {
        /// The membership entry under way.
        pending: LogId,
    },
    /// Not begun: the leader has not committed an entry of its own term yet, and might not know the latest membership.
    /// Retry in a moment.
    #[error(
        "a leader must commit an entry of its own term before it changes the membership; retry in a moment"
    )]
    NotReady,
    /// Not begun: leadership is being transferred. Retry on the next leader.
    #[error("nothing is changed while leadership is being transferred; retry on the next leader")]
    Transferring,
    /// Not begun: the membership is not the one that the caller expected.
    #[error(
        "the membership in force is the one of entry {actual}, and the change was to be made only to that of {expected}; \
         read it again and decide anew"
    )]
    Mismatch {
        /// What the caller gave.
        expected: LogId,
        /// The entry of the membership in force.
        actual: LogId,
    },
    /// Not begun: a node that is named is not a member.
    #[error(
        "node {id} is not a member; members are {members:?}; name one of them, or add it as a learner first"
    )]
    UnknownNode {
        /// The node.
        id: C::NodeId,
        /// Who is a member.
        members: BTreeSet<C::NodeId>,
    },
    /// Not begun: a node that is to be added is a member already.
    #[error(
        "node {id} is a member already; only nodes that are none can be added, update its address instead"
    )]
    AlreadyMember {
        /// The node.
        id: C::NodeId,
    },
    /// Not begun: a node is named that the change does not fit.
    #[error("node {id} is {actual}; this change needs {needed}")]
    WrongRole {
        /// The node.
        id: C::NodeId,
        /// What it is.
        actual: &'static str,
        /// What it would have to be.
        needed: &'static str,
    },
    /// Not begun: a learner is too far behind to vote (thesis 4.2.1). Wait until it has caught up.
    #[error(
        "learner {id} is {behind} entries behind, at most {limit} are allowed; wait until it has caught up"
    )]
    NotCaughtUp {
        /// The learner.
        id: C::NodeId,
        /// How many entries it lacks.
        behind: u64,
        /// [`Config::promotion_lag_entries_max`](crate::Config::promotion_lag_entries_max).
        limit: u64,
    },
    /// Not begun: a learner that is to vote does not answer. Bring it up first; a voter that is not there would stop the
    /// cluster from committing.
    #[error("learner {id} does not answer; a node must be up before it can vote")]
    NotActive {
        /// The learner.
        id: C::NodeId,
    },
    /// Not begun: nobody would be left to vote.
    #[error("the change would leave no voter; keep at least one")]
    NoVoters,
    /// Not begun: a voter is named without the way to reach it.
    #[error("node {id} is to vote, but `nodes` does not say how it is reached; name every voter there")]
    NoNode {
        /// The voter.
        id: C::NodeId,
    },
    /// Not begun: so many of the new voters have not answered for twice the longest election timeout that the rest are no
    /// majority, and the cluster could commit nothing any more. Bring them up, or remove them first: that is never refused.
    #[error(
        "of the voters {voters:?} that there would be, {silent:?} do not answer, and the rest are no majority; bring them \
         up, or remove them first"
    )]
    QuorumSilent {
        /// Who of them does not answer.
        silent: BTreeSet<C::NodeId>,
        /// Who would vote.
        voters: BTreeSet<C::NodeId>,
    },
    /// Not begun: nothing would change.
    #[error("the change would change nothing; the membership is like that already")]
    Empty,
    /// Begun, but this node lost leadership before the end. The next leader finishes it or it is undone: look at the
    /// membership.
    #[error(
        "outcome unknown: the membership at {log_id} may or may not be committed; look at what the next leader has"
    )]
    Unknown {
        /// The membership entry.
        log_id: LogId,
    },
    /// Done, but the learner that was added has not caught up in the time given. It goes on catching up.
    #[error(
        "learner {id} was added and has {matched} of {last} entries; it is still catching up, wait longer"
    )]
    StillCatchingUp {
        /// The learner.
        id: C::NodeId,
        /// How far it is known to have the log.
        matched: Index,
        /// Where the log ended.
        last: Index,
    },
    /// The node has stopped. If the change was begun, its outcome is as open as with `Unknown`.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// What became of a transfer of leadership that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError<C: TypeConfig> {
    /// Not begun: this node does not lead, and has heard of no leader that it could have asked. Retry later, or on
    /// another node.
    #[error("not begun: this node does not lead and found no leader to ask; {}", hint(leader))]
    NotLeader {
        /// Where to retry.
        leader: Option<LeaderHint<C>>,
    },
    /// Not begun: another transfer is under way (one at a time). Wait for its end.
    #[error(
        "leadership is being transferred to node {target} already; one transfer at a time, retry when it has ended"
    )]
    InProgress {
        /// Its target.
        target: C::NodeId,
    },
    /// Not begun: the target is not a voter, or will not be one when the change of membership that is under way is done.
    /// Name one of the voters.
    #[error(
        "node {target} does not vote, or is about to lose its vote; only voters can lead, name one of {voters:?}"
    )]
    NotAVoter {
        /// The target.
        target: C::NodeId,
        /// Who is one.
        voters: BTreeSet<C::NodeId>,
    },
    /// Not begun: there is no other voter. Add one first.
    #[error("there is no other voter that could lead; add a learner and promote it first")]
    NoTarget,
    /// Not begun: the target has not answered the leader for the longest election timeout. Bring it up, or name another.
    #[error("node {target} has not answered for an election timeout; bring it up or name another voter")]
    NotActive {
        /// The target.
        target: C::NodeId,
    },
    /// Not begun: the target needs a snapshot, or lacks so many entries that bringing it up to date could take longer
    /// than writes should wait. Retry when it has caught up, or name another.
    #[error(
        "node {target} is too far behind: it needs a snapshot or lacks {behind} unsent entries, at most {limit} are \
         allowed; wait until it has caught up or name another voter"
    )]
    TooFarBehind {
        /// The target.
        target: C::NodeId,
        /// How many entries would have to be sent to it, those in a snapshot not counted.
        behind: u64,
        /// [`Config::promotion_lag_entries_max`](crate::Config::promotion_lag_entries_max).
        limit: u64,
    },
    /// The target did not take over in `transfer_timeout_ms`. The old leader leads on.
    #[error(
        "node {target} did not take over in time, so the old leader leads on; retry, or name another voter"
    )]
    TimedOut {
        /// The target.
        target: C::NodeId,
    },
    /// The target was told to take over and cannot: its disk hangs, or it is installing a snapshot. The old leader leads
    /// on.
    #[error(
        "node {target} cannot campaign now, because its disk hangs or it is installing a snapshot, so the old leader \
         leads on; name another voter"
    )]
    Declined {
        /// The target.
        target: C::NodeId,
    },
    /// Leadership ended, and another node than the target took over, or none in time.
    #[error(
        "leadership ended, but node {target} did not take over; {}; ask there if it is still wanted",
        hint(leader)
    )]
    Failed {
        /// The target.
        target: C::NodeId,
        /// Who leads now.
        leader: Option<LeaderHint<C>>,
    },
    /// Another node was asked as the leader, and has not said in time what became of it. Leadership may have been handed
    /// over, or still be: look who leads.
    #[error("outcome unknown: the leader that was asked has not answered in time; {}", hint(leader))]
    NotAnswered {
        /// Who leads, as far as this node knows.
        leader: Option<LeaderHint<C>>,
    },
    /// The node has stopped. Whether leadership was handed over is to be seen from the others.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::InitializeError;
    use crate::testing::U64;

    /// The rule that each refusal names, and what it says would be right. No arm for all: a new variant asks for both.
    fn words_of_change(error: &ChangeMembershipError<U64>) -> (&'static str, &'static str) {
        type E = ChangeMembershipError<U64>;
        match error {
            E::NotLeader { .. } => ("only the leader changes the membership", "ask there"),
            E::InProgress { .. } => ("one change at a time", "retry when it is"),
            E::NotReady => ("must commit an entry of its own term", "retry in a moment"),
            E::Transferring => ("while leadership is being transferred", "retry on the next leader"),
            E::Mismatch { .. } => ("only to that of", "read it again"),
            E::UnknownNode { .. } => ("not a member; members are", "add it as a learner first"),
            E::AlreadyMember { .. } => ("only nodes that are none can be added", "update its address"),
            E::WrongRole { .. } => ("this change needs", "a learner"),
            E::NotCaughtUp { .. } => ("at most 10 are allowed", "wait until it has caught up"),
            E::NotActive { .. } => ("before it can vote", "must be up"),
            E::NoVoters => ("would leave no voter", "keep at least one"),
            E::NoNode { .. } => ("does not say how it is reached", "name every voter"),
            E::QuorumSilent { .. } => ("the rest are no majority", "bring them up, or remove them first"),
            E::Empty => ("would change nothing", "like that already"),
            E::Unknown { .. } => ("may or may not be committed", "look at what the next leader has"),
            E::StillCatchingUp { .. } => ("still catching up", "wait longer"),
            E::Fatal(_) => ("the node", "has been shut down"),
        }
    }

    fn words_of_transfer(error: &TransferError<U64>) -> (&'static str, &'static str) {
        type E = TransferError<U64>;
        match error {
            E::NotLeader { .. } => ("found no leader to ask", "node 7"),
            E::InProgress { .. } => ("one transfer at a time", "retry when it has ended"),
            E::NotAVoter { .. } => ("only voters can lead", "name one of {1}"),
            E::NoTarget => ("no other voter", "add a learner and promote it first"),
            E::NotActive { .. } => ("has not answered for an election timeout", "name another voter"),
            E::TooFarBehind { .. } => ("at most 10 are allowed", "wait until it has caught up"),
            E::TimedOut { .. } => ("did not take over in time", "retry, or name another voter"),
            E::Declined { .. } => ("cannot campaign now", "name another voter"),
            E::Failed { .. } => ("did not take over", "ask there"),
            E::NotAnswered { .. } => ("has not answered in time", "node 7"),
            E::Fatal(_) => ("the node", "has been shut down"),
        }
    }

    fn words_of_initialize(error: &InitializeError<U64>) -> (&'static str, &'static str) {
        type E = InitializeError<U64>;
        match error {
            E::AlreadyInitialized { .. } => ("already initialized", "add nodes to that"),
            E::Empty => ("the membership is empty", "name at least one voter"),
            E::NotAMember { .. } => ("not in the membership", "initialize on one of its voters"),
            E::Fatal(_) => ("the node", "has been shut down"),
        }
    }

    fn check(text: &str, (rule, right): (&str, &str)) {
        assert!(text.contains(rule), "`{text}` does not name the rule `{rule}`");
        assert!(text.contains(right), "`{text}` does not say what would be right: `{right}`");
    }

    #[test]
    fn every_refusal_names_the_rule_and_what_would_be_right() {
        let (id, log_id, one) = (2, LogId::new(3, 9), BTreeSet::from([1]));
        let leader = Some(LeaderHint { id: 7, node: None });
        type Change = ChangeMembershipError<U64>;
        for error in [
            Change::NotLeader { leader: leader.clone() },
            Change::InProgress { pending: log_id },
            Change::NotReady,
            Change::Transferring,
            Change::Mismatch { expected: log_id, actual: LogId::ZERO },
            Change::UnknownNode { id, members: one.clone() },
            Change::AlreadyMember { id },
            Change::WrongRole { id, actual: "a voter", needed: "a learner" },
            Change::NotCaughtUp { id, behind: 90, limit: 10 },
            Change::NotActive { id },
            Change::NoVoters,
            Change::NoNode { id },
            Change::QuorumSilent { silent: one.clone(), voters: one.clone() },
            Change::Empty,
            Change::Unknown { log_id },
            Change::StillCatchingUp { id, matched: 3, last: 90 },
            Change::Fatal(Fatal::Stopped),
        ] {
            check(&error.to_string(), words_of_change(&error));
        }
        type Transfer = TransferError<U64>;
        for error in [
            Transfer::NotLeader { leader: leader.clone() },
            Transfer::InProgress { target: id },
            Transfer::NotAVoter { target: id, voters: one },
            Transfer::NoTarget,
            Transfer::NotActive { target: id },
            Transfer::TooFarBehind { target: id, behind: 90, limit: 10 },
            Transfer::TimedOut { target: id },
            Transfer::Declined { target: id },
            Transfer::Failed { target: id, leader: leader.clone() },
            Transfer::NotAnswered { leader },
            Transfer::Fatal(Fatal::Stopped),
        ] {
            check(&error.to_string(), words_of_transfer(&error));
        }
        type Initialize = InitializeError<U64>;
        for error in [
            Initialize::AlreadyInitialized { last: log_id },
            Initialize::Empty,
            Initialize::NotAMember { id },
            Initialize::Fatal(Fatal::Stopped),
        ] {
            check(&error.to_string(), words_of_initialize(&error));
        }
    }
}
