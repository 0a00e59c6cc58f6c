//! Elections: pre-vote, votes, and the timeout that starts them.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::entry::{LogId, Term};
use crate::error::ForgetLeaderError;
use crate::message::{Body, VoteKind};
use crate::type_config::TypeConfig;

use super::follower::Follower;
use super::timer::Timer;
use super::{Engine, Fingerprint, Reply, RequestId, Role, millis};

/// One attempt to be elected. A set of voters, not a number: an answer that comes twice counts once, and answers to
/// another campaign count nothing.
#[derive(Clone, Debug)]
pub(super) struct Campaign<C: TypeConfig> {
    id: u64,
    kind: VoteKind,
    pub(super) begun: Instant,
    pub(super) granted: BTreeSet<C::NodeId>,
    refused: BTreeSet<C::NodeId>,
    /// The leader that has asked for it, if one has.
    pub(super) predecessor: Option<C::NodeId>,
    /// Of a campaign for votes, who has answered the pre-vote before it; empty if there was none.
    reached: BTreeSet<C::NodeId>,
    /// Whether the next timeout has been drawn already, because nothing can come of this campaign.
    is_hopeless: bool,
}

impl<C: TypeConfig> Campaign<C> {
    fn new(id: u64, kind: VoteKind, begun: Instant) -> Self {
        Self {
            id,
            kind,
            begun,
            granted: BTreeSet::new(),
            refused: BTreeSet::new(),
            reached: BTreeSet::new(),
            is_hopeless: false,
            predecessor: None,
        }
    }

    pub(super) fn fingerprint(&self, to: &mut Fingerprint<'_, C>) {
        let Self { id, kind, begun, granted, refused, reached, is_hopeless, predecessor } = self;
        to.value((id, kind, is_hopeless));
        to.past(Some(*begun));
        to.nodes(granted.iter().copied());
        to.nodes(refused.iter().copied());
        to.nodes(reached.iter().copied());
        to.node_or_none(*predecessor);
    }
}

impl<C: TypeConfig> Engine<C> {
    /// Draws a fresh timeout (Raft paper, 5.2: randomised so that split votes are rare and resolved quickly).
    pub(super) fn restart_election_timer(&mut self, now: Instant) {
        let low = self.config.election_timeout_ms_min * 1000;
        let high = self.config.election_timeout_ms_max * 1000;
        let timeout = std::time::Duration::from_micros(self.rng.between(low, high));
        self.timers.set(Timer::Election, now + timeout);
    }

    pub(super) fn on_election_timeout(&mut self, now: Instant) {
        match self.role {
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                let is_free = !self.elections_paused && !self.is_bound_against(self.id, now);
                if is_free && self.is_electable(now) {
                    self.campaign(now);
                } else {
                    self.rest(now);
                }
            }
            Role::Leader(_) => {}
        }
    }

    /// No election is to begin: whoever led is silent, and nobody is asked any more.
    fn rest(&mut self, now: Instant) {
        match &mut self.role {
            Role::Follower(follower) => {
                follower.leader = None;
                self.restart_election_timer(now);
            }
            Role::PreCandidate(_) | Role::Candidate(_) => self.become_follower(now, self.term, None),
            Role::Leader(_) => {}
        }
    }

    /// A campaign for votes may still be won: its term is spent already. Pre-votes have cost nothing.
    pub(super) fn on_pause_elections(&mut self, now: Instant, paused: bool) {
        self.elections_paused = paused;
        if paused && matches!(self.role, Role::PreCandidate(_)) {
            self.rest(now);
        }
    }

    /// Stickiness (thesis 4.2.3) is over with the knowledge of who leads.
    pub(super) fn on_forget_leader(&mut self, request: RequestId) {
        let has_leases = self.config.lease_clock_drift_ppm_max.is_some();
        let reply = match &mut self.role {
            // The promise to the leader would hold all the same: nothing may be said that looks otherwise.
            Role::Follower(_) if has_leases => Reply::ForgetLeaderFailed(ForgetLeaderError::Leases),
            Role::Follower(follower) => {
                follower.leader = None;
                follower.contact = None;
                Reply::LeaderForgotten
            }
            Role::PreCandidate(_) | Role::Candidate(_) => Reply::LeaderForgotten,
            Role::Leader(_) => Reply::ForgetLeaderFailed(ForgetLeaderError::Leading),
        };
        self.reply(request, reply);
    }

    pub(super) fn on_campaign(&mut self, now: Instant) {
        match self.role {
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                // Somebody knows better than whoever has said that this node was removed.
                self.removal.revoke();
                if !self.is_electable(now) {
                    return;
                }
                if self.is_bound_against(self.id, now) {
                    tracing::warn!(
                        name: "raft.campaign_refused", node = %self.id, term = self.term,
                        "bound by a promise to a leader: no campaign"
                    );
                    self.counters.campaigns_refused += 1;
                    return;
                }
                self.campaign_for_votes(now, VoteKind::Normal);
            }
            // Campaigning against oneself would only disturb.
            Role::Leader(_) => {}
        }
    }

    /// Derived, never remembered: a voter that is not in the middle of replacing its state, and whose disk does not hang.
    ///
    /// A node that the membership in force no longer names may still be needed to commit that very membership (thesis
    /// 4.2.2): with two voters, of which one is removed, only the removed one may have the entry. So a voter of the
    /// committed membership is electable too; it does not count its own vote then.
    pub(super) fn is_electable(&self, now: Instant) -> bool {
        let is_voter = self.log.membership().is_voter(self.id)
            || self.log.committed_membership().membership.is_voter(self.id);
        is_voter && !self.removal.is_told() && !self.snapshots.is_installing() && !self.hangs_on_its_disk(now)
    }

    /// Every timeout starts with a pre-vote, also that of a candidate who has already raised its term once: if it is cut
    /// off, it raises it no further (thesis 9.6).
    fn campaign(&mut self, now: Instant) {
        if self.config.pre_vote {
            self.campaign_for_pre_votes(now);
        } else {
            self.campaign_for_votes(now, VoteKind::Normal);
        }
    }

    fn campaign_for_pre_votes(&mut self, now: Instant) {
        let mut campaign = Campaign::new(self.number(), VoteKind::Pre, now);
        campaign.granted.insert(self.id);
        self.end_role();
        self.role = Role::PreCandidate(campaign);
        self.restart_election_timer(now);
        self.request_votes();
        self.look_at_votes(now);
    }

    pub(super) fn campaign_for_votes(&mut self, now: Instant, kind: VoteKind) {
        self.end_role();
        self.term += 1;
        self.voted_for = Some(self.id);
        self.writes.stage_hard_state();
        self.counters.elections_started += 1;
        // Its own vote counts when it is durable, like any other.
        self.role = Role::Candidate(Campaign::new(self.number(), kind, now));
        self.restart_election_timer(now);
        self.request_votes();
    }

    fn request_votes(&mut self) {
        let (Role::PreCandidate(campaign) | Role::Candidate(campaign)) = &self.role else { return };
        let (id, kind) = (campaign.id, campaign.kind);
        let last = self.log.last();
        let voters: Vec<_> = self.log.membership().all_voters().filter(|voter| *voter != self.id).collect();
        for voter in voters {
            let body = Body::VoteRequest { kind, campaign: id, last };
            // The vote for itself must be durable before others are asked: after a crash it could vote twice.
            self.send_after(self.writes.of_hard_state(), voter, body);
        }
    }

    /// Counts a candidate's vote for itself once it is durable.
    pub(super) fn count_own_vote(&mut self, now: Instant) {
        if !self.writes.is_done(self.writes.of_hard_state()) {
            return;
        }
        let id = self.id;
        if let Role::Candidate(campaign) = &mut self.role
            && campaign.granted.insert(id)
        {
            self.look_at_votes(now);
        }
    }

    /// `term` is the sender's current term; with a pre-vote it asks about the term behind it.
    pub(super) fn on_vote_request(
        &mut self,
        now: Instant,
        from: C::NodeId,
        term: Term,
        kind: VoteKind,
        campaign: u64,
        last: LogId,
    ) {
        self.tell_if_removed(from, campaign);
        let refusal = Body::VoteResponse { kind, campaign, granted: false };
        let keeps_to_leader = match kind {
            VoteKind::Pre | VoteKind::Normal => {
                self.hears_leader_other_than(from, now) || self.is_bound_against(from, now)
            }
            // The leader itself has asked for this election, and has no lease any more.
            VoteKind::Transfer => false,
        };
        if term < self.term || keeps_to_leader {
            return self.send(from, refusal);
        }
        if self.term < term {
            self.become_follower(now, term, None);
        }
        // Raft paper, 5.4.1: the log of who is elected must be at least as up to date, by last term, then index.
        let is_up_to_date = self.log.last() <= last;
        match kind {
            // A pre-vote changes nothing here, neither vote nor timer.
            VoteKind::Pre => self.send(from, Body::VoteResponse { kind, campaign, granted: is_up_to_date }),
            VoteKind::Normal | VoteKind::Transfer => {
                let is_free = self.voted_for.is_none_or(|candidate| candidate == from);
                if !is_free || !is_up_to_date {
                    return self.send(from, refusal);
                }
                if self.voted_for.is_none() {
                    self.voted_for = Some(from);
                    self.writes.stage_hard_state();
                }
                self.restart_election_timer(now);
                let grant = Body::VoteResponse { kind, campaign, granted: true };
                self.send_after(self.writes.of_hard_state(), from, grant);
            }
        }
    }

    /// Thesis 4.2.3: a node that hears from a leader does not help to depose it. A leader that knows that it has a
    /// quorum does not either. The leader itself may ask: it has lost its leadership without our knowing.
    fn hears_leader_other_than(&self, from: C::NodeId, now: Instant) -> bool {
        match &self.role {
            Role::Follower(follower) => {
                let is_recent = |contact| now < contact + millis(self.config.election_timeout_ms_min);
                follower.leader.is_some_and(|leader| leader != from)
                    && follower.contact.is_some_and(is_recent)
            }
            Role::PreCandidate(_) | Role::Candidate(_) => false,
            // One that has lost its quorum must not keep others from electing another leader.
            Role::Leader(_) => self.hears_quorum(now),
        }
    }

    /// Whether this is the campaign under way here.
    pub(super) fn is_campaigning(&self, id: u64) -> bool {
        match &self.role {
            Role::PreCandidate(campaign) | Role::Candidate(campaign) => campaign.id == id,
            Role::Follower(_) | Role::Leader(_) => false,
        }
    }

    pub(super) fn on_vote_response(
        &mut self,
        now: Instant,
        from: C::NodeId,
        kind: VoteKind,
        campaign_id: u64,
        granted: bool,
    ) {
        let (Role::PreCandidate(campaign) | Role::Candidate(campaign)) = &mut self.role else { return };
        if campaign.id != campaign_id || campaign.kind != kind {
            return;
        }
        if granted {
            campaign.granted.insert(from);
        } else {
            campaign.refused.insert(from);
        }
        self.look_at_votes(now);
    }

    /// Counts the votes. Whose vote counts is for the candidate to decide, by the membership in force here.
    fn look_at_votes(&mut self, now: Instant) {
        let membership = self.log.membership();
        match &self.role {
            Role::PreCandidate(campaign) => {
                if membership.is_quorum(|voter| campaign.granted.contains(&voter)) {
                    let reached = campaign.granted.union(&campaign.refused).copied().collect();
                    self.campaign_for_votes(now, VoteKind::Normal);
                    if let Role::Candidate(campaign) = &mut self.role {
                        campaign.reached = reached;
                    }
                }
            }
            Role::Candidate(campaign) => {
                if membership.is_quorum(|voter| campaign.granted.contains(&voter)) {
                    self.become_leader(now);
                } else {
                    self.look_at_refusals(now);
                }
            }
            Role::Follower(_) | Role::Leader(_) => {}
        }
    }

    /// A candidate that was refused by so many that nothing can come of its campaign need not wait for the end of its
    /// timeout. Mostly two nodes have split the vote then, and a third one is dead: whoever has not even answered the
    /// pre-vote is not waited for. The next timeout is drawn at once, a shorter one. It is a fresh one for each of the
    /// two (5.2), and the next campaign begins with a pre-vote, which does no harm if a leader has been elected.
    fn look_at_refusals(&mut self, now: Instant) {
        let membership = self.log.membership();
        let Role::Candidate(campaign) = &mut self.role else { return };
        let is_lost = membership.is_lost(|voter| campaign.refused.contains(&voter));
        let is_hopeless = membership.is_lost(|voter| {
            campaign.refused.contains(&voter) || voter != self.id && !campaign.reached.contains(&voter)
        });
        if is_hopeless && !campaign.is_hopeless && !campaign.reached.is_empty() {
            campaign.is_hopeless = true;
            let low = self.config.heartbeat_interval_ms * 1000;
            let high = self.config.election_timeout_ms_min * 1000;
            let pause = std::time::Duration::from_micros(self.rng.between(low, high));
            self.timers.set_earlier(Timer::Election, now + pause);
        }
        if is_lost {
            self.role = Role::Follower(Follower::new(self.log.committed()));
        }
    }

    /// Follows `leader`, or nobody yet, in `term`.
    pub(super) fn become_follower(&mut self, now: Instant, term: Term, leader: Option<C::NodeId>) {
        assert!(self.term <= term, "term {} cannot fall to {term}", self.term);
        if self.term < term {
            // Only together with the term: a vote must never be forgotten within its term.
            self.term = term;
            self.voted_for = None;
            self.writes.stage_hard_state();
        }
        let had_timer = matches!(self.role, Role::Follower(_));
        self.end_role();
        let mut follower = Follower::new(self.log.committed());
        follower.leader = leader;
        self.role = Role::Follower(follower);
        if !had_timer {
            self.restart_election_timer(now);
        }
    }

    /// Ends what belongs to the present role.
    fn end_role(&mut self) {
        if let Role::Leader(_) = self.role {
            self.end_leadership();
        }
        self.requeue_forwarded_reads();
    }
}
