//! `Counters`: how often something has happened.

use crate::message::{Body, Message};
use crate::type_config::TypeConfig;

/// How often something has happened since the node was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Counters {
    /// Elections that this node started, pre-votes not counted.
    pub elections_started: u64,
    /// Elections that this node won.
    pub elections_won: u64,
    /// Times that conflicting entries were cut from the log.
    pub truncations: u64,
    /// Snapshots built here.
    pub snapshots_built: u64,
    /// Snapshots that could not be built here.
    pub snapshots_failed: u64,
    /// Times that the current snapshot could not be read, so that another one was built in its place.
    pub snapshots_damaged: u64,
    /// Snapshots received and installed.
    pub snapshots_installed: u64,
    /// Snapshots received and not installed: damaged, broken off, given up by their sender, or of no leader of this
    /// cluster.
    pub snapshots_refused: u64,
    /// Snapshots sent whole.
    pub snapshots_sent: u64,
    /// Snapshots that were not sent whole, or refused.
    pub snapshots_unsent: u64,
    /// Commands admitted as the leader.
    pub commands_appended: u64,
    /// Reads of old entries from the log storage for peers that lag.
    pub catch_up_reads: u64,
    /// Transfers of leadership begun here as the leader, its own when it is removed or demoted among them.
    pub transfers_begun: u64,
    /// Those after which the target was the first to lead.
    pub transfers_succeeded: u64,
    /// Those that the target declined, that took too long, or after which another node led.
    pub transfers_failed: u64,
    /// Reads answered by the lease as the leader, of this node's clients and of peers. Those that arrived together count
    /// as one, here and in `reads_by_round`.
    pub reads_by_lease: u64,
    /// Reads confirmed by a round of heartbeats as the leader.
    pub reads_by_round: u64,
    /// Campaigns that were asked for and not begun, because a promise to a leader bound this node.
    pub campaigns_refused: u64,
    /// Times that the clock of this node was seen to have stopped or jumped. A leader's lease ends with each. Counted
    /// with leases only.
    pub clock_jumps: u64,
    /// Periodic heartbeats that were not sent, because appends that were answered had said the same. Those that were sent
    /// are counted in `sent`.
    pub heartbeats_skipped: u64,
    /// Messages that have left for peers.
    pub sent: MessageCounters,
    /// Messages of peers that have been looked at.
    pub received: MessageCounters,
}

/// Messages by their kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MessageCounters {
    /// Requests for votes and pre-votes.
    pub vote_requests: u64,
    /// Answers to them.
    pub vote_responses: u64,
    /// Appends, with or without entries.
    pub appends: u64,
    /// Answers to them.
    pub append_responses: u64,
    /// Heartbeats.
    pub heartbeats: u64,
    /// Answers to them.
    pub heartbeat_responses: u64,
    /// Messages that only tell the commit index.
    pub commits: u64,
    /// Reads that a follower asks its leader for.
    pub read_requests: u64,
    /// Answers to them.
    pub read_responses: u64,
    /// Requests to campaign at once.
    pub timeout_nows: u64,
    /// Answers to them that decline.
    pub timeout_nows_declined: u64,
    /// Requests to the leader to transfer its leadership.
    pub transfer_requests: u64,
    /// Answers to them.
    pub transfer_responses: u64,
    /// Messages that tell a node that it was removed.
    pub removals: u64,
    /// Entries in all appends.
    pub entries: u64,
    /// Bytes of all messages, as limits count them: 64 for a message, and its entries.
    pub bytes: u64,
}

impl MessageCounters {
    /// Counts a message that is as large as `bytes`. The caller may know its size already.
    pub(crate) fn count<C: TypeConfig>(&mut self, message: &Message<C>, bytes: u64) {
        let kind = match &message.body {
            Body::VoteRequest { .. } => &mut self.vote_requests,
            Body::VoteResponse { .. } => &mut self.vote_responses,
            Body::Append { entries, .. } => {
                self.entries += entries.len() as u64;
                &mut self.appends
            }
            Body::AppendResponse { .. } => &mut self.append_responses,
            Body::Heartbeat { .. } => &mut self.heartbeats,
            Body::HeartbeatResponse { .. } => &mut self.heartbeat_responses,
            Body::Commit { .. } => &mut self.commits,
            Body::ReadRequest { .. } => &mut self.read_requests,
            Body::ReadResponse { .. } => &mut self.read_responses,
            Body::TimeoutNow => &mut self.timeout_nows,
            Body::TimeoutNowDeclined => &mut self.timeout_nows_declined,
            Body::TransferRequest { .. } => &mut self.transfer_requests,
            Body::TransferResponse { .. } => &mut self.transfer_responses,
            Body::Removed { .. } => &mut self.removals,
        };
        *kind += 1;
        self.bytes += bytes;
    }

    /// So many commits did not have to leave after they were counted.
    pub(crate) fn take_back_commits<C: TypeConfig>(&mut self, count: u64) {
        self.commits -= count;
        self.bytes -= count * Message::<C>::OVERHEAD_BYTES;
    }

    /// The counts of messages by the name of their kind.
    pub fn by_kind(&self) -> [(&'static str, u64); 14] {
        let Self {
            vote_requests,
            vote_responses,
            appends,
            append_responses,
            heartbeats,
            heartbeat_responses,
            commits,
            read_requests,
            read_responses,
            timeout_nows,
            timeout_nows_declined,
            transfer_requests,
            transfer_responses,
            removals,
            entries: _,
            bytes: _,
        } = *self;
        [
            ("vote_request", vote_requests),
            ("vote_response", vote_responses),
            ("append", appends),
            ("append_response", append_responses),
            ("heartbeat", heartbeats),
            ("heartbeat_response", heartbeat_responses),
            ("commit", commits),
            ("read_request", read_requests),
            ("read_response", read_responses),
            ("timeout_now", timeout_nows),
            ("timeout_now_declined", timeout_nows_declined),
            ("transfer_request", transfer_requests),
            ("transfer_response", transfer_responses),
            ("removed", removals),
        ]
    }

    /// Messages of all kinds.
    pub fn messages(&self) -> u64 {
        self.by_kind().iter().map(|(_, count)| count).sum()
    }
}
