//! What a node is in its cluster, and how one that was removed learns it.

use std::time::Instant;

use crate::entry::LogId;
use crate::message::Body;
use crate::metrics::Standing;
use crate::type_config::TypeConfig;

use super::{Engine, Fingerprint};

/// What a node knows of its own removal, beside the membership in force.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Removal {
    /// Some membership in the log has named this node since it was started.
    was_member: bool,
    /// A member has said that this committed membership, a later one than any in the log here, does not name this node. It
    /// was away when that was decided.
    told: Option<LogId>,
}

impl Removal {
    pub(super) fn fingerprint<C: TypeConfig>(&self, to: &mut Fingerprint<'_, C>) {
        let Self { was_member, told } = self;
        to.value((was_member, told));
    }

    /// Whether this node has been told that it is no member.
    pub(super) fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// A leader speaks to this node, or an operator wants it to campaign: what it was told is out of date.
    pub(super) fn revoke(&mut self) {
        self.told = None;
    }
}

impl<C: TypeConfig> Engine<C> {
    /// What this node is in its cluster, as far as it knows.
    pub fn standing(&self) -> Standing {
        let membership = self.log.membership();
        if self.removal.is_told() {
            Standing::Removed
        } else if membership.is_voter(self.id) {
            Standing::Voter
        } else if membership.is_member(self.id) {
            Standing::Learner
        } else if self.removal.was_member {
            Standing::Removed
        } else {
            Standing::Outsider
        }
    }

    pub(super) fn look_at_standing(&mut self) {
        if !self.removal.was_member {
            self.removal.was_member = self.log.has_named(self.id);
        }
    }

    /// Tells a node that asks for votes that it is no member. It may have been away when it was removed, and would ask for
    /// ever. Its request is answered all the same, by log and term alone: whoever asks decides whose vote counts.
    pub(super) fn tell_if_removed(&mut self, from: C::NodeId, campaign: u64) {
        let committed = self.log.committed_membership();
        let is_member = committed.membership.is_member(from) || self.log.membership().is_member(from);
        if !is_member && !committed.membership.is_empty() {
            let membership = committed.log_id;
            self.send(from, Body::Removed { campaign, membership });
        }
    }

    /// A member says that this node is none. It is believed only by a campaign under way, and not where a later
    /// membership is known here: then the node was added again, and whoever says so does not know it yet.
    ///
    /// Nothing is lost when a node believes it that has been added again since and does not know that. It lacks an entry
    /// that is committed, so it could not win an election; and the leader, who has the entry, speaks to it.
    pub(super) fn on_removed(&mut self, now: Instant, from: C::NodeId, campaign: u64, membership: LogId) {
        if !self.is_campaigning(campaign) || membership < self.log.membership_at().log_id {
            return;
        }
        tracing::warn!(
            name: "raft.removed",
            node = %self.id, by = %membership, told_by = %from,
            "this node was removed from the cluster, and does not campaign any more"
        );
        self.removal.told = Some(membership);
        self.become_follower(now, self.term, None);
    }
}
