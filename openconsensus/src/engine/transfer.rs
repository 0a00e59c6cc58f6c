//! Transfer of leadership (thesis 3.10).

use std::time::Instant;

use crate::error::TransferError;
use crate::message::{Body, VoteKind};
use crate::type_config::TypeConfig;

use super::timer::Timer;
use super::{Engine, Fingerprint, Reply, RequestId, Role, millis};

/// A transfer under way, on the node that still leads. Writes are kept back meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Transfer<C: TypeConfig> {
    request: RequestId,
    pub(super) target: C::NodeId,
    deadline: Instant,
    /// Whether the target has been told to campaign.
    is_sent: bool,
}

/// A transfer that has ended this node's leadership: who leads next decides whether it succeeded.
#[derive(Clone, Debug)]
pub(super) struct TransferOutcome<C: TypeConfig> {
    request: RequestId,
    target: C::NodeId,
}

impl<C: TypeConfig> Transfer<C> {
    pub(super) fn fingerprint(&self, to: &mut Fingerprint<'_, C>) {
        let Self { request, target, deadline, is_sent } = self;
        to.value((request, is_sent));
        to.node(*target);
        to.deadline(Some(*deadline));
    }
}

impl<C: TypeConfig> TransferOutcome<C> {
    pub(super) fn fingerprint(&self, to: &mut Fingerprint<'_, C>) {
        let Self { request, target } = self;
        to.value(request);
        to.node(*target);
    }
}

impl<C: TypeConfig> Engine<C> {
    pub(super) fn on_transfer(&mut self, now: Instant, request: RequestId, target: Option<C::NodeId>) {
        let Role::Leader(leader) = &self.role else {
            let leader = self.leader_hint();
            return self.reply(request, Reply::TransferFailed(TransferError::NotLeader { leader }));
        };
        if let Some(transfer) = &leader.transfer {
            let error = TransferError::InProgress { target: transfer.target };
            return self.reply(request, Reply::TransferFailed(error));
        }
        let Some(target) = target.or_else(|| self.best_successor()) else {
            return self.reply(request, Reply::TransferFailed(TransferError::NoTarget));
        };
        if target == self.id {
            return self.reply(request, Reply::Transferred { leader: target });
        }
        if !self.log.membership().is_voter(target) {
            let voters = self.log.membership().all_voters().collect();
            return self.reply(request, Reply::TransferFailed(TransferError::NotAVoter { target, voters }));
        }
        let deadline = now + millis(self.config.transfer_timeout_ms);
        if let Role::Leader(leader) = &mut self.role {
            leader.transfer = Some(Transfer { request, target, deadline, is_sent: false });
        }
        self.timers.set(Timer::Transfer, deadline);
    }

    /// The other voter with the longest log, those that answer first.
    pub(super) fn best_successor(&self) -> Option<C::NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let voters = self.log.membership().all_voters().filter(|voter| *voter != self.id);
        voters.max_by_key(|voter| {
            leader.peers.get(voter).map(|progress| (progress.contact.is_some(), progress.matched()))
        })
    }

    /// Tells the target to campaign once it has the whole log.
    pub(super) fn drive_transfer(&mut self) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let is_caught_up =
            leader.peers.get(&transfer.target).is_some_and(|progress| progress.matched() == last);
        if is_caught_up && !transfer.is_sent {
            transfer.is_sent = true;
            let target = transfer.target;
            self.send(target, Body::TimeoutNow);
        }
    }

    /// The message may have been lost.
    pub(super) fn repeat_transfer(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(transfer) = &mut leader.transfer {
            transfer.is_sent = false;
        }
    }

    /// Too slow. While this node leads, it goes on as if nothing had been asked.
    pub(super) fn on_transfer_timeout(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            if let Some(Transfer { request, target, .. }) = leader.transfer.take() {
                self.reply(request, Reply::TransferFailed(TransferError::TimedOut { target }));
            }
        } else {
            self.fail_transfer();
        }
    }

    pub(super) fn await_transfer_outcome(&mut self, transfer: Transfer<C>) {
        let Transfer { request, target, deadline, .. } = transfer;
        self.transfer_outcome = Some(TransferOutcome { request, target });
        self.timers.set(Timer::Transfer, deadline + millis(self.config.election_timeout_ms_max));
    }

    /// `leader` leads now.
    pub(super) fn look_at_transfer_outcome(&mut self, leader: C::NodeId) {
        let Some(TransferOutcome { request, target }) = self.transfer_outcome.take() else { return };
        self.timers.stop(Timer::Transfer);
        let reply = if leader == target {
            Reply::Transferred { leader }
        } else {
            Reply::TransferFailed(TransferError::Failed { target, leader: self.leader_hint() })
        };
        self.reply(request, reply);
    }

    pub(super) fn fail_transfer(&mut self) {
        if let Some(TransferOutcome { request, target }) = self.transfer_outcome.take() {
            let leader = self.leader_hint();
            self.reply(request, Reply::TransferFailed(TransferError::Failed { target, leader }));
        }
    }

    /// The leader asks this node to take over: no pre-vote, and voters need not doubt that the leader is gone.
    pub(super) fn on_timeout_now(&mut self, now: Instant, from: C::NodeId) {
        let is_from_leader = match &self.role {
            Role::Follower(follower) => follower.leader.is_none_or(|leader| leader == from),
            Role::PreCandidate(_) | Role::Candidate(_) | Role::Leader(_) => false,
        };
        if is_from_leader && self.is_electable(now) {
            self.campaign_for_votes(now, VoteKind::Transfer);
        }
    }
}
