//! Fingerprints of engines, for programs that explore all states that a cluster can be in.

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use crate::entry::{Entry, Payload};
use crate::membership::Membership;
use crate::message::{AppendResult, Body, InstallSnapshot, Message, TransferAnswer, TransferRefusal};
use crate::type_config::TypeConfig;

use super::{Engine, Role};

/// Feeds engines, and what they say to each other, to a hasher, so that a program that explores states recognises those
/// that it has seen.
///
/// Two engines with one configuration whose fingerprints are equal do the same from then on, if time goes on in one
/// of two ways only: by [`horizon`](Self::new) or more at once, or by so little that all small steps between two large
/// ones together are less than any timeout but the interval of heartbeats, which every small step must reach. Then a
/// time in the past is either recent or as good as infinitely long ago, and it does not matter for which moment before
/// the horizon an election is set. So the chance that draws that moment is left out, and so are the counters, which
/// only people look at.
///
/// Nodes are fed by the names that `name` gives them. With the names exchanged, the fingerprint is that of an engine
/// that has another place in the same cluster.
pub struct Fingerprint<'a, C: TypeConfig> {
    now: Instant,
    horizon: Duration,
    name: &'a dyn Fn(C::NodeId) -> u64,
    hasher: &'a mut dyn Hasher,
}

impl<'a, C: TypeConfig> Fingerprint<'a, C> {
    /// A fingerprint at the time `now`, in which `horizon` is longer than any timeout.
    pub fn new(
        now: Instant,
        horizon: Duration,
        name: &'a dyn Fn(C::NodeId) -> u64,
        hasher: &'a mut dyn Hasher,
    ) -> Self {
        Self { now, horizon, name, hasher }
    }

    /// Feeds a value in which no node is named.
    pub fn value(&mut self, value: impl Hash) {
        value.hash(&mut self.hasher);
    }

    /// Feeds the name of a node.
    pub fn node(&mut self, id: C::NodeId) {
        self.value((self.name)(id));
    }

    /// Feeds the name of a node, if there is one.
    pub fn node_or_none(&mut self, id: Option<C::NodeId>) {
        self.value(id.map(self.name));
    }

    /// Feeds a set of nodes, whatever the order.
    pub fn nodes(&mut self, ids: impl IntoIterator<Item = C::NodeId>) {
        self.each_node(ids.into_iter().map(|id| (id, ())), |_, ()| {});
    }

    /// Feeds what belongs to each node, in the order of the names.
    pub(super) fn each_node<V>(
        &mut self,
        items: impl Iterator<Item = (C::NodeId, V)>,
        feed: impl Fn(&mut Self, V),
    ) {
        let mut items: Vec<_> = items.map(|(id, value)| ((self.name)(id), value)).collect();
        items.sort_by_key(|(name, _)| *name);
        self.value(items.len());
        for (name, value) in items {
            self.value(name);
            feed(self, value);
        }
    }

    /// Feeds whether something was long ago.
    pub(super) fn past(&mut self, at: Option<Instant>) {
        self.value(at.map(|at| at + self.horizon <= self.now));
    }

    /// Feeds whether a deadline is set and has come.
    pub(super) fn deadline(&mut self, at: Option<Instant>) {
        self.value(at.map(|at| at <= self.now));
    }
}

impl<C: TypeConfig> Fingerprint<'_, C> {
    /// Feeds why leadership is not handed over.
    pub(super) fn transfer_refusal(&mut self, refusal: &TransferRefusal<C>) {
        self.value(std::mem::discriminant(refusal));
        match refusal {
            TransferRefusal::NoTarget => {}
            TransferRefusal::InProgress { target }
            | TransferRefusal::NotAVoter { target }
            | TransferRefusal::NotActive { target }
            | TransferRefusal::TimedOut { target }
            | TransferRefusal::Declined { target } => self.node(*target),
            TransferRefusal::TooFarBehind { target, behind, limit } => {
                self.node(*target);
                self.value((behind, limit));
            }
        }
    }
}

impl<C: TypeConfig> Fingerprint<'_, C>
where
    C::Command: Hash,
    C::Node: Hash,
{
    /// Feeds an engine whose effects have been taken.
    ///
    /// # Panics
    ///
    /// When there are effects that have not been taken.
    pub fn engine(&mut self, engine: &Engine<C>) {
        let Engine {
            config,
            id,
            term,
            voted_for,
            role,
            log,
            writes,
            backlog,
            snapshots,
            reads,
            promise,
            transfer_outcome,
            asked_transfers,
            removal,
            initializing,
            purging,
            timers,
            // It decides when elections are due, and nothing else after the start.
            rng: _,
            next_number,
            counters: _,
            effects,
            elections_paused,
            heartbeats_paused,
            failed,
        } = engine;
        assert!(
            effects.write.is_none() && effects.messages.is_empty() && effects.snapshots.is_empty(),
            "the effects of node {id} have not been taken: {effects:?}"
        );
        self.node(*id);
        self.value((term, next_number, elections_paused, heartbeats_paused, failed));
        self.value(initializing.map(|(request, write)| (request, writes.distance(write))));
        for purging in purging {
            self.value((purging.parts(), writes.distance(purging.until)));
        }
        self.node_or_none(*voted_for);
        self.role(role);
        log.fingerprint(self);
        if config.limits_log_bytes() {
            log.sizes().fingerprint(self);
        }
        writes.fingerprint(self);
        self.value(backlog);
        snapshots.fingerprint(writes, self);
        reads.fingerprint(self);
        self.value(promise.is_some());
        if let Some(promise) = promise {
            promise.fingerprint(self);
        }
        self.value(transfer_outcome.is_some());
        if let Some(outcome) = transfer_outcome {
            outcome.fingerprint(self);
        }
        self.value(asked_transfers.len());
        asked_transfers.iter().for_each(|asked| asked.fingerprint(self));
        removal.fingerprint(self);
        timers.fingerprint(self);
    }

    fn role(&mut self, role: &Role<C>) {
        match role {
            Role::Follower(follower) => {
                self.value(0);
                follower.fingerprint(self);
            }
            Role::PreCandidate(campaign) => {
                self.value(1);
                campaign.fingerprint(self);
            }
            Role::Candidate(campaign) => {
                self.value(2);
                campaign.fingerprint(self);
            }
            Role::Leader(leader) => {
                self.value(3);
                leader.fingerprint(self);
            }
        }
    }

    /// Feeds a message. Its sender and receiver are not part of it.
    pub fn message(&mut self, message: &Message<C>) {
        let Message { term, body } = message;
        self.value((term, std::mem::discriminant(body)));
        match body {
            Body::VoteRequest { kind, campaign, last } => self.value((kind, campaign, last)),
            Body::VoteResponse { kind, campaign, granted } => self.value((kind, campaign, granted)),
            Body::Append { prev, entries, commit } => {
                self.value((prev, entries.len(), commit));
                entries.iter().for_each(|entry| self.entry(entry));
            }
            Body::AppendResponse { result } => match result {
                AppendResult::Matched { matched } => self.value((0, matched)),
                AppendResult::Conflict { rejected, hint } => self.value((1, rejected, hint)),
                AppendResult::StaleTerm => self.value(2),
            },
            Body::Heartbeat { round, commit } => self.value((round, commit)),
            Body::HeartbeatResponse { round, promise_ms } => self.value((round, promise_ms)),
            Body::Commit { commit } => self.value(commit),
            Body::ReadRequest { read, by_lease } => self.value((read, by_lease)),
            Body::ReadResponse { read, index } => self.value((read, index)),
            Body::TimeoutNow | Body::TimeoutNowDeclined => {}
            Body::TransferRequest { transfer, target } => {
                self.value(transfer);
                self.node_or_none(*target);
            }
            Body::TransferResponse { transfer, answer } => {
                self.value(transfer);
                self.transfer_answer(answer);
            }
            Body::Removed { campaign, membership } => self.value((campaign, membership)),
        }
    }

    fn transfer_answer(&mut self, answer: &TransferAnswer<C>) {
        self.value(std::mem::discriminant(answer));
        match answer {
            TransferAnswer::Begun { target } => self.node(*target),
            TransferAnswer::Leads { leader } => self.node(*leader),
            TransferAnswer::Refused(refusal) => self.transfer_refusal(refusal),
        }
    }

    /// Feeds an entry.
    pub fn entry(&mut self, entry: &Entry<C>) {
        let Entry { log_id, payload } = entry;
        self.value((log_id, std::mem::discriminant(payload)));
        match payload {
            Payload::Blank => {}
            Payload::Command(command) => self.value(command),
            Payload::Membership(membership) => self.membership(membership),
        }
    }

    /// Feeds a membership.
    pub fn membership(&mut self, membership: &Membership<C>) {
        self.nodes(membership.voters().iter().copied());
        self.nodes(membership.outgoing_voters().iter().copied());
        self.nodes(membership.retiring().iter().copied());
        self.each_node(membership.nodes().iter().map(|(id, node)| (*id, node)), |to, node| to.value(node));
    }

    /// Feeds what a leader announces before the bytes of a snapshot.
    pub fn install_snapshot(&mut self, snapshot: &InstallSnapshot<C>) {
        let InstallSnapshot { term, leader, meta } = snapshot;
        self.node(*leader);
        self.value((term, meta.last, meta.size_bytes, meta.membership.log_id));
        self.membership(&meta.membership.membership);
    }
}
