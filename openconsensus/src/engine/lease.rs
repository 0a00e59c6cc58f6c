//! Leases: what voters promise, and what a leader may rely on.
//!
//! A read by lease is answered without asking anybody (thesis 6.4.1). It is linearizable because no other leader can have
//! been elected when its time was read:
//!
//! * **Promise.** A node that answers a heartbeat promises the leader to help elect nobody else for
//!   `election_timeout_ms_min`, from the moment in which the heartbeat *arrived*, by its own clock: it grants no vote and
//!   no pre-vote to others and does not vote for itself. The promise outlives its role, and terms that it hears of. It
//!   does not outlive a restart, so a node that has ever run begins with a promise to nobody in particular. A promise
//!   counts only once the term is durable: a node without a term has never promised anything.
//! * **Lease.** The leader remembers when it *sent* each round of heartbeats. That is before any of them arrived, so by
//!   its own clock the promise in an answer lasts from then on for the time that was promised, divided by how much
//!   faster the clock of the voter may go, and less by what its own clock may have stood still unnoticed. An answer
//!   counts with the time of the very round that it names; an answer to an append names none, and counts nothing. The
//!   lease lasts as long as the promises of a quorum of the membership in force do. The leader keeps its own promise: it
//!   is no leader any more when it votes for somebody else.
//! * **Reading.** The time of the step was taken after the request had come in. If the lease lasts beyond that time and an
//!   entry of the leader's own term is committed, its commit index covers every write that anybody was told of before:
//!   the read takes effect at that time.
//!
//! Why a quorum of promises is enough while the membership changes: let a leader of term T hold a lease by its membership
//! M, and let L be the first node, in real time, that is elected in a later term. Nobody but leaders of T and before has
//! made entries then, an entry of T is committed, and L has all that is committed (Leader Completeness, 5.4.3). What L has
//! behind that entry is therefore of term T, a part of the leader's own log that contains all that the leader knows to be
//! committed. Only one change of membership is under way at a time (thesis 4.1), so the membership by which L was
//! elected is M or the one before it, and a quorum of either has a voter in common with every quorum of M. That voter
//! took part in the lease and voted for L. It voted after it had answered the heartbeat, because a node in a later term
//! does not answer it; and it did not vote before its promise was over, unless in a transfer of leadership. A transfer
//! into a later term than T + 1 needs a leader that was elected before L. One into T + 1 begins with `TimeoutNow` from the
//! leader itself. It has no lease from then on until its term ends, because that message may arrive late.
//!
//! It rests on the clocks: no two may differ in speed by more than
//! [`lease_clock_drift_ppm_max`](crate::Config::lease_clock_drift_ppm_max), and none may jump ahead. One that stops, with
//! the machine that it belongs to, makes a voter's promise longer, which is safe, and a leader's lease too long:
//! [`Input::ClockJumped`](super::Input::ClockJumped) tells of it. A process that is stopped while its clock goes on needs
//! nothing: its lease has run out when it goes on.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::ValidConfig;
use crate::type_config::TypeConfig;

use super::{Engine, Fingerprint, Recovered, Role, millis};

/// So many rounds of heartbeats may be on their way and still earn a lease.
const ROUNDS_MAX: usize = 1024;

/// What this node has promised: to help elect nobody but `to` until then.
#[derive(Clone, Debug)]
pub(super) struct Promise<C: TypeConfig> {
    /// `None` when it is not known any more.
    to: Option<C::NodeId>,
    until: Instant,
}

impl<C: TypeConfig> Promise<C> {
    /// What a node may have promised before it was started.
    pub(super) fn after_start(config: &ValidConfig, recovered: &Recovered<C>, now: Instant) -> Option<Self> {
        config.lease_clock_drift_ppm_max?;
        let has_run = 0 < recovered.hard_state.term;
        has_run.then(|| Self { to: None, until: now + millis(config.election_timeout_ms_min) })
    }

    pub(super) fn fingerprint(&self, to: &mut Fingerprint<'_, C>) {
        let Self { to: leader, until } = self;
        to.node_or_none(*leader);
        to.deadline(Some(*until));
    }
}

/// What a leader remembers for its lease. What it was promised is in the progress of each peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Lease {
    /// When recent rounds of heartbeats were sent, in order.
    sent: VecDeque<(u64, Instant)>,
    /// Somebody was asked to campaign in this term.
    is_given_up: bool,
}

impl Lease {
    /// A round of heartbeats begins.
    pub(super) fn on_round(&mut self, round: u64, now: Instant, config: &ValidConfig) {
        if config.lease_clock_drift_ppm_max.is_none() {
            return;
        }
        let is_over = |sent: Instant| sent + millis(config.election_timeout_ms_min) <= now;
        while self.sent.front().is_some_and(|(_, sent)| is_over(*sent)) || self.sent.len() == ROUNDS_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((round, now));
    }

    fn sent_at(&self, round: u64) -> Option<Instant> {
        let place = self.sent.binary_search_by_key(&round, |(round, _)| *round).ok()?;
        Some(self.sent[place].1)
    }

    pub(super) fn fingerprint<C: TypeConfig>(&self, to: &mut Fingerprint<'_, C>) {
        let Self { sent, is_given_up } = self;
        to.value((sent.len(), is_given_up));
        for (round, sent) in sent {
            to.value(round);
            to.past(Some(*sent));
        }
    }
}

/// Until when promises last. In this order, so that the quorum function can choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    #[default]
    Over,
    At(Instant),
    /// The leader's own.
    Never,
}

impl<C: TypeConfig> Engine<C> {
    /// Promises `leader`, whose heartbeat has just arrived, to elect nobody else. Returns what the answer may say.
    pub(super) fn promise(&mut self, now: Instant, leader: C::NodeId) -> u64 {
        if self.config.lease_clock_drift_ppm_max.is_none() {
            return 0;
        }
        let promise_ms = self.config.election_timeout_ms_min;
        self.promise = Some(Promise { to: Some(leader), until: now + millis(promise_ms) });
        // A node that crashes before it has saved its first term would start as one that has never run.
        if self.writes.is_done(self.writes.of_hard_state()) { promise_ms } else { 0 }
    }

    /// Whether a promise keeps this node from helping to elect `candidate`.
    pub(super) fn is_bound_against(&self, candidate: C::NodeId, now: Instant) -> bool {
        self.promise.as_ref().is_some_and(|promise| promise.to != Some(candidate) && now < promise.until)
    }

    /// A peer has answered a round of heartbeats of this term.
    pub(super) fn take_promise(&mut self, from: C::NodeId, round: u64, promise_ms: u64) {
        let Some(drift_ppm) = self.config.lease_clock_drift_ppm_max else { return };
        // No longer than this node itself promises: stops of its clock are noticed for as long.
        let promise_us = 1000 * promise_ms.min(self.config.election_timeout_ms_min);
        let certain = Duration::from_micros(promise_us * 1_000_000 / (1_000_000 + drift_ppm))
            .saturating_sub(self.config.clock_stop_allowance());
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(sent) = leader.lease.sent_at(round) else { return };
        let Some(progress) = leader.peers.get_mut(&from) else { return };
        progress.lease_until = progress.lease_until.max(Some(sent + certain));
    }

    /// How much longer this node may answer reads by its lease, at most `election_timeout_ms_min`. `None` when it may not
    /// now.
    pub(super) fn lease_left(&self, now: Instant) -> Option<Duration> {
        self.config.lease_clock_drift_ppm_max?;
        let Role::Leader(leader) = &self.role else { return None };
        let is_settled = leader.term_start <= self.log.committed();
        if !is_settled || leader.lease.is_given_up || leader.transfer.is_some() {
            return None;
        }
        let longest = millis(self.config.election_timeout_ms_min);
        let end = self.log.membership().quorum_value(|id| match leader.peers.get(&id) {
            _ if id == self.id => End::Never,
            Some(progress) => progress.lease_until.map_or(End::Over, End::At),
            None => End::Over,
        });
        match end {
            End::Over => None,
            End::At(end) => (now < end).then(|| longest.min(end - now)),
            End::Never => Some(longest),
        }
    }

    /// Somebody is asked to campaign, whatever the voters have promised.
    pub(super) fn give_up_lease(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            leader.lease.is_given_up = true;
        }
    }

    /// What was promised for a time after rounds of heartbeats cannot be told any more: these rounds count no longer.
    pub(super) fn on_clock_jump(&mut self) {
        if self.config.lease_clock_drift_ppm_max.is_none() {
            return;
        }
        self.counters.clock_jumps += 1;
        if let Role::Leader(leader) = &mut self.role {
            leader.lease.sent.clear();
            for progress in leader.peers.values_mut() {
                progress.lease_until = None;
            }
        }
    }
}
