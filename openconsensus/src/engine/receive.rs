//! What arrives from peers: looks at terms first, then hands each message to the role that it is for.

use std::time::Instant;

use crate::message::{AppendResult, Body, Message};
use crate::type_config::TypeConfig;

use super::Engine;

impl<C: TypeConfig> Engine<C> {
    /// Looks at the term of a message, then hands it to the role that it is for.
    pub(super) fn on_message(&mut self, now: Instant, from: C::NodeId, message: Message<C>) {
        if from == self.id {
            return;
        }
        if !message.is_possible() {
            tracing::error!(
                name: "raft.message.impossible", node = %self.id, %from, ?message,
                "a message that no cluster can have come to is dropped"
            );
            return;
        }
        // Votes have rules of their own about terms: a live leader must not be deposed by one who cannot hear it.
        if let Body::VoteRequest { kind, campaign, last } = message.body {
            return self.on_vote_request(now, from, message.term, kind, campaign, last);
        }
        // Says nothing of terms: whoever was removed may have come far beyond everybody else.
        if let Body::Removed { campaign, membership } = message.body {
            return self.on_removed(now, from, campaign, membership);
        }
        if message.term < self.term {
            return self.on_stale_message(from, &message);
        }
        if self.term < message.term {
            if !self.may_raise_term(from, &message.body) {
                return;
            }
            self.become_follower(now, message.term, None);
        }
        self.on_current_message(now, from, message.body);
    }

    /// Whoever speaks as the leader of a later term was elected; answers of a later term come from members that we
    /// need. A node that has been removed must not depose anyone with its answers.
    fn may_raise_term(&self, from: C::NodeId, body: &Body<C>) -> bool {
        match body {
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Commit { .. } | Body::TimeoutNow => true,
            Body::VoteRequest { .. }
            | Body::VoteResponse { .. }
            | Body::AppendResponse { .. }
            | Body::HeartbeatResponse { .. }
            | Body::ReadRequest { .. }
            | Body::ReadResponse { .. }
            | Body::TimeoutNowDeclined
            | Body::TransferRequest { .. }
            | Body::TransferResponse { .. } => self.log.membership().is_member(from),
            Body::Removed { .. } => false,
        }
    }

    /// A deposed leader must learn that there is a later term, or it would go on for ever (Raft paper, 5.1).
    fn on_stale_message(&mut self, from: C::NodeId, message: &Message<C>) {
        match message.body {
            Body::Append { .. } | Body::Heartbeat { .. } => {
                self.send(from, Body::AppendResponse { result: AppendResult::StaleTerm });
            }
            Body::VoteRequest { .. }
            | Body::VoteResponse { .. }
            | Body::AppendResponse { .. }
            | Body::HeartbeatResponse { .. }
            | Body::Commit { .. }
            | Body::ReadRequest { .. }
            | Body::ReadResponse { .. }
            | Body::TimeoutNow
            | Body::TimeoutNowDeclined
            | Body::TransferRequest { .. }
            | Body::TransferResponse { .. }
            | Body::Removed { .. } => {}
        }
    }

    fn on_current_message(&mut self, now: Instant, from: C::NodeId, body: Body<C>) {
        match body {
            Body::VoteRequest { .. } | Body::Removed { .. } => {}
            Body::VoteResponse { kind, campaign, granted } => {
                self.on_vote_response(now, from, kind, campaign, granted);
            }
            Body::Append { prev, entries, commit } => self.on_append(now, from, prev, entries, commit),
            Body::Heartbeat { round, commit } => self.on_heartbeat(now, from, round, commit),
            Body::Commit { commit } => self.on_commit(now, from, commit),
            Body::AppendResponse { result } => self.on_append_response(from, result),
            Body::HeartbeatResponse { round, promise_ms } => {
                self.on_heartbeat_response(now, from, round, promise_ms);
            }
            Body::ReadRequest { read, by_lease } => self.on_read_request(now, from, read, by_lease),
            Body::ReadResponse { read, index } => self.on_read_response(read, index),
            Body::TimeoutNow => self.on_timeout_now(now, from),
            Body::TimeoutNowDeclined => self.on_timeout_now_declined(now, from),
            Body::TransferRequest { transfer, target } => {
                self.on_transfer_request(now, from, transfer, target)
            }
            Body::TransferResponse { transfer, answer } => self.on_transfer_response(from, transfer, answer),
        }
    }
}
