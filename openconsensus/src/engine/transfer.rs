//! Transfer of leadership, on the leader that gives it up and the target that takes it over (thesis 3.10).

use std::time::Instant;

use crate::error::{LeaderHint, TransferError};
use crate::message::{Body, TransferAnswer, TransferRefusal, VoteKind};
use crate::type_config::TypeConfig;

use super::progress::ProgressState;
use super::timer::Timer;
use super::{Engine, Fingerprint, Reply, RequestId, Role, millis};

/// A transfer under way, on the node that still leads. Writes are kept back meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Transfer<C: TypeConfig> {
    asker: Asker<C>,
    pub(super) target: C::NodeId,
    deadline: Instant,
    /// Whether the target has been told to campaign.
    is_sent: bool,
}

/// Who wants a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker<C: TypeConfig> {
    /// A client of this node.
    Here(RequestId),
    /// A client of a peer.
    Peer { peer: C::NodeId, transfer: u64 },
    /// Nobody: the committed membership does not let this node vote, so it hands over and leaves.
    Nobody,
}

/// A transfer that has ended this node's leadership: who leads next decides whether it succeeded.
#[derive(Clone, Debug)]
pub(super) struct TransferOutcome<C: TypeConfig> {
    asker: Asker<C>,
    target: C::NodeId,
}

impl<C: TypeConfig> Transfer<C> {
    /// Whether the target has been told to campaign.
    pub(super) fn is_sent(&self) -> bool {
        self.is_sent
    }

    pub(super) fn fingerprint(&self, to: &mut Fingerprint<'_, C>) {
        let Self { asker, target, deadline, is_sent } = self;
        asker.fingerprint(to);
        to.value(is_sent);
        to.node(*target);
        to.deadline(Some(*deadline));
    }
}

impl<C: TypeConfig> TransferOutcome<C> {
    pub(super) fn fingerprint(&self, to: &mut Fingerprint<'_, C>) {
        let Self { asker, target } = self;
        asker.fingerprint(to);
        to.node(*target);
    }
}

impl<C: TypeConfig> Asker<C> {
    fn fingerprint(&self, to: &mut Fingerprint<'_, C>) {
        to.value(std::mem::discriminant(self));
        match self {
            Self::Here(request) => to.value(request),
            Self::Peer { peer, transfer } => {
                to.node(*peer);
                to.value(transfer);
            }
            Self::Nobody => {}
        }
    }
}

impl<C: TypeConfig> Engine<C> {
    pub(super) fn on_transfer(&mut self, now: Instant, request: RequestId, target: Option<C::NodeId>) {
        match self.role {
            Role::Leader(_) => self.take_transfer(now, Asker::Here(request), target),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.ask_for_transfer(now, request, target);
            }
        }
    }

    /// A peer passes a request on. It asks again when it hears nothing, and is told the same then.
    pub(super) fn on_transfer_request(
        &mut self,
        now: Instant,
        from: C::NodeId,
        transfer: u64,
        target: Option<C::NodeId>,
    ) {
        let Role::Leader(leader) = &self.role else { return };
        let asker = Asker::Peer { peer: from, transfer };
        let refused = leader.refused_transfers.get(&from).filter(|(refused, _)| *refused == transfer);
        if let Some((_, refusal)) = refused.copied() {
            self.answer_transfer(asker, TransferAnswer::Refused(refusal));
        } else if let Some(begun) = leader.transfer.as_ref().filter(|begun| begun.asker == asker) {
            let target = begun.target;
            self.answer_transfer(asker, TransferAnswer::Begun { target });
        } else {
            self.take_transfer(now, asker, target);
        }
    }

    /// Begins a transfer unless it could not succeed.
    pub(super) fn take_transfer(&mut self, now: Instant, asker: Asker<C>, target: Option<C::NodeId>) {
        let answer = match self.choose_target(now, target) {
            Ok(target) if target == self.id => TransferAnswer::Leads { leader: target },
            Ok(target) => {
                self.begin_transfer(now, asker, target);
                TransferAnswer::Begun { target }
            }
            Err(refusal) => TransferAnswer::Refused(refusal),
        };
        self.answer_transfer(asker, answer);
    }

    fn choose_target(
        &self,
        now: Instant,
        target: Option<C::NodeId>,
    ) -> Result<C::NodeId, TransferRefusal<C>> {
        if let Some(target) = self.transfer_target() {
            return Err(TransferRefusal::InProgress { target });
        }
        let target = target.or_else(|| self.best_successor(now)).ok_or(TransferRefusal::NoTarget)?;
        if target != self.id {
            self.check_target(now, target)?;
        }
        Ok(target)
    }

    /// Whether a node could take over soon, as far as is known here.
    fn check_target(&self, now: Instant, target: C::NodeId) -> Result<(), TransferRefusal<C>> {
        // One that votes in the outgoing set alone would have to hand over again as soon as the change is done.
        if !self.log.membership().voters().contains(&target) {
            return Err(TransferRefusal::NotAVoter { target });
        }
        let Role::Leader(leader) = &self.role else { return Ok(()) };
        let Some(progress) = leader.peers.get(&target) else { return Ok(()) };
        let timeout = millis(self.config.election_timeout_ms_max);
        if progress.contact.unwrap_or(leader.since) + timeout <= now {
            return Err(TransferRefusal::NotActive { target });
        }
        // What is in flight will have arrived soon; what is not sent yet waits for that.
        let unsent = (self.log.last().index + 1).saturating_sub(progress.next());
        let needs_snapshot = matches!(progress.state(), ProgressState::Snapshot { .. })
            || self.log.log_id_at(progress.next() - 1).is_none();
        let limit = self.config.promotion_lag_entries_max;
        if needs_snapshot || limit < unsent {
            return Err(TransferRefusal::TooFarBehind { target, behind: unsent, limit });
        }
        Ok(())
    }

    /// The other voter that can take over, as far as is known, and has most of the log.
    fn best_successor(&self, now: Instant) -> Option<C::NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let voters = self.log.membership().voters().iter().copied().filter(|voter| *voter != self.id);
        voters.max_by_key(|voter| {
            let matched = leader.peers.get(voter).map(|progress| progress.matched());
            (self.check_target(now, *voter).is_ok(), matched)
        })
    }

    fn begin_transfer(&mut self, now: Instant, asker: Asker<C>, target: C::NodeId) {
        let deadline = now + millis(self.config.transfer_timeout_ms);
        if let Role::Leader(leader) = &mut self.role {
            leader.transfer = Some(Transfer { asker, target, deadline, is_sent: false });
        }
        self.counters.transfers_begun += 1;
        self.timers.set(Timer::Transfer, deadline);
    }

    fn answer_transfer(&mut self, asker: Asker<C>, answer: TransferAnswer<C>) {
        match (asker, answer) {
            (Asker::Nobody, _) | (Asker::Here(_), TransferAnswer::Begun { .. }) => {}
            (Asker::Here(request), TransferAnswer::Leads { leader }) => {
                self.reply(request, Reply::Transferred { leader });
            }
            (Asker::Here(request), TransferAnswer::Refused(refusal)) => {
                let error = self.transfer_error(refusal);
                self.reply(request, Reply::TransferFailed(error));
            }
            (Asker::Peer { peer, transfer }, answer) => {
                if let (Role::Leader(leader), TransferAnswer::Refused(refusal)) = (&mut self.role, &answer) {
                    leader.refused_transfers.insert(peer, (transfer, *refusal));
                }
                self.send(peer, Body::TransferResponse { transfer, answer });
            }
        }
    }

    pub(super) fn transfer_error(&self, refusal: TransferRefusal<C>) -> TransferError<C> {
        match refusal {
            TransferRefusal::InProgress { target } => TransferError::InProgress { target },
            TransferRefusal::NotAVoter { target } => {
                TransferError::NotAVoter { target, voters: self.log.membership().voters().clone() }
            }
            TransferRefusal::NoTarget => TransferError::NoTarget,
            TransferRefusal::NotActive { target } => TransferError::NotActive { target },
            TransferRefusal::TooFarBehind { target, behind, limit } => {
                TransferError::TooFarBehind { target, behind, limit }
            }
            TransferRefusal::TimedOut { target } => TransferError::TimedOut { target },
            TransferRefusal::Declined { target } => TransferError::Declined { target },
        }
    }

    /// To whom this node, which leads, is handing over.
    pub(super) fn transfer_target(&self) -> Option<C::NodeId> {
        match &self.role {
            Role::Leader(leader) => leader.transfer.as_ref().map(|transfer| transfer.target),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// Whether this node has just handed over its leadership, and will soon hear who leads. One that was removed will not.
    pub(super) fn awaits_next_leader(&self) -> bool {
        self.transfer_outcome.is_some() && self.log.membership().is_member(self.id)
    }

    /// Where writes belong that this node does not take: whom it hands over to, whom it follows, or whom it has told to take
    /// over.
    pub(super) fn next_leader_hint(&self) -> Option<LeaderHint<C>> {
        let told = self.transfer_outcome.as_ref().map(|outcome| outcome.target);
        let id = self.transfer_target().or(self.leader()).or(told)?;
        Some(LeaderHint { id, node: self.log.membership().node(id).cloned() })
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

    /// A leader that is no voter any more has led the change to its end (thesis 4.2.2). It makes sure that a successor has
    /// everything and tells it to take over, and leads until that has happened: nobody waits for an election.
    pub(super) fn hand_over_if_removed(&mut self, now: Instant) {
        let at = self.log.membership_at();
        let is_committed = at.log_id.index <= self.log.committed();
        let is_over =
            matches!(self.role, Role::Leader(_)) && is_committed && !at.membership.is_voter(self.id);
        if !is_over || self.transfer_target().is_some() {
            return;
        }
        match self.best_successor(now) {
            Some(successor) => {
                self.begin_transfer(now, Asker::Nobody, successor);
                self.drive_transfer();
            }
            None => self.become_follower(now, self.term, None),
        }
    }

    /// Too slow. A leader goes on as if nothing had been asked, unless it has to leave anyway.
    pub(super) fn on_transfer_timeout(&mut self, now: Instant) {
        if let Some(target) = self.transfer_target() {
            self.end_transfer(now, TransferRefusal::TimedOut { target });
        } else {
            self.fail_transfer();
        }
    }

    /// A late one, of an earlier transfer to the same target in this term, ends the present one early: its client asks again.
    pub(super) fn on_timeout_now_declined(&mut self, now: Instant, from: C::NodeId) {
        if self.transfer_target() == Some(from) {
            self.end_transfer(now, TransferRefusal::Declined { target: from });
        }
    }

    /// The transfer under way comes to nothing.
    fn end_transfer(&mut self, now: Instant, refusal: TransferRefusal<C>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(Transfer { asker, .. }) = leader.transfer.take() else { return };
        self.timers.stop(Timer::Transfer);
        self.counters.transfers_failed += 1;
        match asker {
            Asker::Here(_) | Asker::Peer { .. } => {
                self.answer_transfer(asker, TransferAnswer::Refused(refusal));
            }
            // Its committed membership has no place for it. The others elect somebody.
            Asker::Nobody => self.become_follower(now, self.term, None),
        }
    }

    pub(super) fn await_transfer_outcome(&mut self, transfer: Transfer<C>) {
        let Transfer { asker, target, deadline, .. } = transfer;
        self.transfer_outcome = Some(TransferOutcome { asker, target });
        self.timers.set(Timer::Transfer, deadline + millis(self.config.election_timeout_ms_max));
    }

    /// `leader` leads now.
    pub(super) fn look_at_transfer_outcome(&mut self, leader: C::NodeId) {
        let Some(TransferOutcome { asker, target }) = self.transfer_outcome.take() else { return };
        self.timers.stop(Timer::Transfer);
        let reply = if leader == target {
            self.counters.transfers_succeeded += 1;
            Reply::Transferred { leader }
        } else {
            self.counters.transfers_failed += 1;
            Reply::TransferFailed(TransferError::Failed { target, leader: self.leader_hint() })
        };
        match asker {
            Asker::Here(request) => self.reply(request, reply),
            // It hears the new leader itself.
            Asker::Peer { .. } | Asker::Nobody => {}
        }
    }

    /// Nobody has been heard to lead.
    pub(super) fn fail_transfer(&mut self) {
        let Some(TransferOutcome { asker, target }) = self.transfer_outcome.take() else { return };
        self.counters.transfers_failed += 1;
        if let Asker::Here(request) = asker {
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
        if !is_from_leader {
            return;
        }
        if self.is_electable(now) {
            self.campaign_for_votes(now, VoteKind::Transfer);
            if let Role::Candidate(campaign) = &mut self.role {
                campaign.predecessor = Some(from);
            }
        } else {
            // The leader need not wait until the time for the transfer is over.
            self.send(from, Body::TimeoutNowDeclined);
        }
    }

    /// Tells a leader that has removed itself and handed over to this node that it need lead no longer. Nobody else would:
    /// it is no member. If this is lost, it learns so from the answers to its next heartbeat.
    pub(super) fn relieve(&mut self, predecessor: Option<C::NodeId>) {
        let Some(predecessor) = predecessor.filter(|id| !self.log.membership().is_member(*id)) else {
            return;
        };
        let commit = self.log.log_id_at(self.log.committed()).expect("what is committed is in the log");
        let Role::Leader(leader) = &self.role else { return };
        let round = leader.round;
        self.send(predecessor, Body::Heartbeat { round, commit });
    }
}
