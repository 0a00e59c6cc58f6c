//! Transfers of leadership that were asked for on a node that does not lead: passed on to the leader until it answers.

use std::time::Instant;

use crate::entry::Term;
use crate::error::TransferError;
use crate::message::{Body, TransferAnswer};
use crate::type_config::TypeConfig;

use super::timer::Timer;
use super::transfer::Asker;
use super::{Engine, Fingerprint, Reply, RequestId, Role, millis};

/// A transfer that a client of this node waits for.
#[derive(Clone, Debug)]
pub(super) struct AskedTransfer<C: TypeConfig> {
    request: RequestId,
    /// Who is to lead, as asked for or as the leader has chosen.
    target: Option<C::NodeId>,
    deadline: Instant,
    /// Which leader was asked.
    sent: Option<Sent<C>>,
}

#[derive(Clone, Copy, Debug)]
struct Sent<C: TypeConfig> {
    /// Names the request; a late answer to an earlier one is recognised by it.
    id: u64,
    term: Term,
    leader: C::NodeId,
}

impl<C: TypeConfig> AskedTransfer<C> {
    pub(super) fn fingerprint(&self, to: &mut Fingerprint<'_, C>) {
        let Self { request, target, deadline, sent } = self;
        to.value(request);
        to.node_or_none(*target);
        to.deadline(Some(*deadline));
        to.value(sent.map(|Sent { id, term, .. }| (id, term)));
        to.node_or_none(sent.map(|Sent { leader, .. }| leader));
    }
}

impl<C: TypeConfig> Engine<C> {
    /// Passes a request on to the leader, as soon as one is known.
    pub(super) fn ask_for_transfer(&mut self, now: Instant, request: RequestId, target: Option<C::NodeId>) {
        // Time to find a leader, for the transfer there, and for this node to hear who leads then.
        let timeout = self.config.transfer_timeout_ms + self.config.election_timeout_ms_max;
        let deadline = now + 2 * millis(timeout);
        self.asked_transfers.push(AskedTransfer { request, target, deadline, sent: None });
        self.timers.set_earlier(Timer::AskTransfer, deadline);
    }

    /// Asks the leader for what it has not been asked for.
    pub(super) fn forward_transfers(&mut self, now: Instant) {
        if self.asked_transfers.iter().all(|asked| asked.sent.is_some()) {
            return;
        }
        let Role::Follower(follower) = &self.role else { return };
        let Some(leader) = follower.leader else { return };
        let term = self.term;
        let mut asked = std::mem::take(&mut self.asked_transfers);
        for asked in asked.iter_mut().filter(|asked| asked.sent.is_none()) {
            let id = self.number();
            asked.sent = Some(Sent { id, term, leader });
            self.send(leader, Body::TransferRequest { transfer: id, target: asked.target });
        }
        self.asked_transfers = asked;
        self.timers.set_earlier(Timer::AskTransfer, now + self.transfer_retry());
    }

    /// After so long the leader is asked again: message or answer may be lost.
    fn transfer_retry(&self) -> std::time::Duration {
        millis(2 * self.config.heartbeat_interval_ms)
    }

    pub(super) fn on_ask_transfer_timeout(&mut self, now: Instant) {
        let is_over = |asked: &mut AskedTransfer<C>| asked.deadline <= now;
        let expired: Vec<_> = self.asked_transfers.extract_if(.., is_over).collect();
        for asked in expired {
            self.give_up_asking(&asked);
        }
        let (leader, term) = (self.leader(), self.term);
        let mut again = Vec::new();
        for asked in &self.asked_transfers {
            if let Some(sent) = asked.sent.filter(|sent| sent.term == term && Some(sent.leader) == leader) {
                again.push((sent, asked.target));
            }
        }
        for (Sent { id, leader, .. }, target) in again {
            self.send(leader, Body::TransferRequest { transfer: id, target });
        }
        let deadlines = self.asked_transfers.iter().map(|asked| match asked.sent {
            Some(_) => asked.deadline.min(now + self.transfer_retry()),
            None => asked.deadline,
        });
        if let Some(deadline) = deadlines.min() {
            self.timers.set_earlier(Timer::AskTransfer, deadline);
        }
    }

    fn give_up_asking(&mut self, asked: &AskedTransfer<C>) {
        let leader = self.leader_hint();
        let error = match asked.sent {
            Some(_) => TransferError::NotAnswered { leader },
            None => TransferError::NotLeader { leader },
        };
        self.reply(asked.request, Reply::TransferFailed(error));
    }

    pub(super) fn on_transfer_response(&mut self, from: C::NodeId, transfer: u64, answer: TransferAnswer<C>) {
        let is_asked = |sent: Sent<C>| sent.id == transfer && sent.leader == from;
        let place = self.asked_transfers.iter().position(|asked| asked.sent.is_some_and(is_asked));
        let Some(place) = place else { return };
        let request = self.asked_transfers[place].request;
        let reply = match answer {
            TransferAnswer::Begun { target } => {
                self.asked_transfers[place].target = Some(target);
                return;
            }
            TransferAnswer::Leads { leader } => Reply::Transferred { leader },
            TransferAnswer::Refused(refusal) => Reply::TransferFailed(self.transfer_error(refusal)),
        };
        self.asked_transfers.remove(place);
        self.reply(request, reply);
    }

    /// `leader` leads in this term: whatever an earlier one was asked for has come to its end.
    pub(super) fn conclude_transfers(&mut self, leader: C::NodeId) {
        if self.asked_transfers.is_empty() {
            return;
        }
        let term = self.term;
        let is_over = |asked: &mut AskedTransfer<C>| asked.sent.is_some_and(|sent| sent.term < term);
        for mut asked in self.asked_transfers.extract_if(.., is_over).collect::<Vec<_>>() {
            let was_leader = asked.sent.is_some_and(|sent| sent.leader == leader);
            let reply = match asked.target {
                Some(target) if target == leader => Reply::Transferred { leader },
                Some(target) => {
                    let leader = self.leader_hint();
                    Reply::TransferFailed(TransferError::Failed { target, leader })
                }
                // It does not lead any more, and somebody else does.
                None if !was_leader => Reply::Transferred { leader },
                // Elected once more, and it has not said that it has begun anything.
                None => {
                    asked.sent = None;
                    self.asked_transfers.push(asked);
                    continue;
                }
            };
            self.reply(asked.request, reply);
        }
    }

    /// This node leads now: it does itself what it could not ask anybody for.
    pub(super) fn take_up_transfers(&mut self, now: Instant) {
        for asked in std::mem::take(&mut self.asked_transfers) {
            self.take_transfer(now, Asker::Here(asked.request), asked.target);
        }
    }

    /// Nobody can be asked any more.
    pub(super) fn fail_asked_transfers(&mut self) {
        for asked in std::mem::take(&mut self.asked_transfers) {
            self.give_up_asking(&asked);
        }
    }
}
