//! Linearizable reads by ReadIndex (thesis 6.4) or by lease: on the leader, and forwarded from followers.

use std::collections::VecDeque;
use std::time::Instant;

use crate::entry::Index;
use crate::message::Body;
use crate::type_config::TypeConfig;

use super::timer::Timer;
use super::{Engine, Fingerprint, Reply, RequestId, Role, millis};

/// Reads that a node cannot decide by itself: they wait for a leader, or for its answer.
#[derive(Clone, Debug)]
pub(super) struct Reads<C: TypeConfig> {
    waiting: Vec<PendingRead>,
    forwarded: Vec<Forwarded>,
    config: std::marker::PhantomData<C>,
}

#[derive(Clone, Debug)]
struct PendingRead {
    request: RequestId,
    deadline: Instant,
    /// A leader with a lease need not ask anybody.
    by_lease: bool,
}

/// Reads that were sent to the leader as one.
#[derive(Clone, Debug)]
struct Forwarded {
    id: u64,
    by_lease: bool,
    reads: Vec<PendingRead>,
}

/// Reads that a leader has to confirm.
#[derive(Clone, Debug)]
pub(super) struct LeaderReads<C: TypeConfig> {
    /// In the order of the rounds that they wait for.
    waiting: VecDeque<LeaderRead<C>>,
    /// The latest round of heartbeats, and when it began.
    latest: Option<(u64, Instant)>,
}

#[derive(Clone, Debug)]
struct LeaderRead<C: TypeConfig> {
    /// The round that confirms it: one that begins after the read has arrived.
    round: u64,
    index: Index,
    source: Source<C>,
}

#[derive(Clone, Debug)]
enum Source<C: TypeConfig> {
    Here(PendingRead),
    /// Given up without an answer at the deadline: the peer asks again, and does not for ever.
    Peer {
        peer: C::NodeId,
        read: u64,
        deadline: Instant,
    },
}

impl<C: TypeConfig> Source<C> {
    fn deadline(&self) -> Instant {
        match self {
            Self::Here(read) => read.deadline,
            Self::Peer { deadline, .. } => *deadline,
        }
    }
}

impl PendingRead {
    fn fingerprint<C: TypeConfig>(&self, to: &mut Fingerprint<'_, C>) {
        let Self { request, deadline, by_lease } = self;
        to.value((request, by_lease));
        to.deadline(Some(*deadline));
    }
}

impl<C: TypeConfig> Reads<C> {
    pub(super) fn new() -> Self {
        Self { waiting: Vec::new(), forwarded: Vec::new(), config: std::marker::PhantomData }
    }

    pub(super) fn fingerprint(&self, to: &mut Fingerprint<'_, C>) {
        let Self { waiting, forwarded, config: _ } = self;
        to.value((waiting.len(), forwarded.len()));
        waiting.iter().for_each(|read| read.fingerprint(to));
        for Forwarded { id, by_lease, reads } in forwarded {
            to.value((id, by_lease, reads.len()));
            reads.iter().for_each(|read| read.fingerprint(to));
        }
    }
}

impl<C: TypeConfig> LeaderReads<C> {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), latest: None }
    }

    pub(super) fn fingerprint(&self, to: &mut Fingerprint<'_, C>) {
        let Self { waiting, latest } = self;
        to.value(waiting.len());
        for LeaderRead { round, index, source } in waiting {
            to.value((round, index));
            match source {
                Source::Here(read) => read.fingerprint(to),
                Source::Peer { peer, read, deadline } => {
                    to.node(*peer);
                    to.value(read);
                    to.deadline(Some(*deadline));
                }
            }
        }
        to.value(latest.map(|(round, _)| round));
        to.past(latest.map(|(_, begun)| begun));
    }

    /// Whether reads wait for answers to heartbeats.
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A round of heartbeats to a quorum or more begins.
    pub(super) fn on_round(&mut self, round: u64, now: Instant) {
        self.latest = Some((round, now));
    }
}

impl<C: TypeConfig> Engine<C> {
    pub(super) fn on_read(&mut self, now: Instant, request: RequestId, by_lease: bool) {
        let deadline = now + millis(self.config.read_timeout_ms);
        let read = PendingRead { request, deadline, by_lease };
        self.timers.set_earlier(Timer::Read, deadline);
        match self.role {
            Role::Leader(_) => self.read_here(now, Source::Here(read), by_lease),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => self.reads.waiting.push(read),
        }
    }

    /// Answers a read by the lease, or fixes its index now; the round that confirms it begins later.
    fn read_here(&mut self, now: Instant, source: Source<C>, by_lease: bool) {
        let committed = self.log.committed();
        if by_lease && self.lease_left(now).is_some() {
            self.counters.reads_by_lease += 1;
            return self.answer_read(source, committed);
        }
        let Role::Leader(leader) = &mut self.role else { return };
        // A new leader may not know the latest commit yet, but whatever was committed stands before its first entry.
        let index = committed.max(leader.term_start);
        leader.reads.waiting.push_back(LeaderRead { round: leader.round + 1, index, source });
    }

    fn answer_read(&mut self, source: Source<C>, index: Index) {
        match source {
            Source::Here(read) => self.reply(read.request, Reply::ReadReady { index }),
            Source::Peer { peer, read, .. } => self.send(peer, Body::ReadResponse { read, index }),
        }
    }

    pub(super) fn on_read_request(&mut self, now: Instant, from: C::NodeId, read: u64, by_lease: bool) {
        let Role::Leader(leader) = &self.role else { return };
        // Asked again: the first one began no later, and its answer will do.
        let is_known = leader.reads.waiting.iter().any(|waiting| match &waiting.source {
            Source::Peer { peer, read: asked, .. } => *peer == from && *asked == read,
            Source::Here(_) => false,
        });
        if !is_known {
            let deadline = now + millis(self.config.read_timeout_ms);
            self.timers.set_earlier(Timer::Read, deadline);
            self.read_here(now, Source::Peer { peer: from, read, deadline }, by_lease);
        }
    }

    /// One round for all reads that have come since the last one began, and one round at a time unless it is lost.
    pub(super) fn start_read_round(&mut self, now: Instant) {
        let Role::Leader(leader) = &self.role else { return };
        if !leader.reads.are_waiting() {
            return;
        }
        let confirmed = self.confirmed_round();
        let is_wanted = leader.reads.waiting.back().is_some_and(|read| leader.round < read.round);
        let is_free = leader.reads.latest.is_none_or(|(round, begun)| {
            round <= confirmed || begun + millis(self.config.heartbeat_interval_ms) <= now
        });
        if is_wanted && is_free {
            self.send_heartbeats(now);
        }
    }

    /// The latest round that a quorum has answered in this term. This node answers itself.
    fn confirmed_round(&self) -> u64 {
        let Role::Leader(leader) = &self.role else { return 0 };
        self.log.membership().quorum_value(|id| match leader.peers.get(&id) {
            _ if id == self.id => leader.round,
            Some(progress) => progress.acked_round,
            None => 0,
        })
    }

    pub(super) fn confirm_reads(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        if !leader.reads.are_waiting() {
            return;
        }
        let confirmed = self.confirmed_round();
        loop {
            let Role::Leader(leader) = &mut self.role else { return };
            if leader.reads.waiting.front().is_none_or(|read| confirmed < read.round) {
                return;
            }
            let Some(LeaderRead { index, source, .. }) = leader.reads.waiting.pop_front() else { return };
            self.counters.reads_by_round += 1;
            self.answer_read(source, index);
        }
    }

    /// Sends the reads that wait for a leader to it, those of one kind as one.
    pub(super) fn forward_reads(&mut self, now: Instant) {
        if self.reads.waiting.is_empty() {
            return;
        }
        let Role::Follower(follower) = &self.role else { return };
        let Some(leader) = follower.leader else { return };
        let (by_lease, by_round): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.reads.waiting).into_iter().partition(|read| read.by_lease);
        for (by_lease, reads) in [(false, by_round), (true, by_lease)] {
            if !reads.is_empty() {
                let id = self.number();
                self.reads.forwarded.push(Forwarded { id, by_lease, reads });
                self.send(leader, Body::ReadRequest { read: id, by_lease });
            }
        }
        self.timers.set_earlier(Timer::Read, now + self.read_retry());
    }

    /// After so long a read is sent again: the message may be lost. The answer to either will do.
    fn read_retry(&self) -> std::time::Duration {
        millis(2 * self.config.heartbeat_interval_ms)
    }

    pub(super) fn on_read_response(&mut self, read: u64, index: Index) {
        let Some(place) = self.reads.forwarded.iter().position(|forwarded| forwarded.id == read) else {
            return;
        };
        for read in self.reads.forwarded.remove(place).reads {
            self.reply(read.request, Reply::ReadReady { index });
        }
    }

    pub(super) fn on_read_timeout(&mut self, now: Instant) {
        for read in self.take_expired_reads(now) {
            let leader = self.leader_hint();
            self.reply(read.request, Reply::ReadFailed { leader });
        }
        if let (Some(leader), false) = (self.leader(), matches!(self.role, Role::Leader(_))) {
            let again: Vec<_> =
                self.reads.forwarded.iter().map(|forwarded| (forwarded.id, forwarded.by_lease)).collect();
            for (read, by_lease) in again {
                self.send(leader, Body::ReadRequest { read, by_lease });
            }
        }
        if !self.reads.forwarded.is_empty() {
            self.timers.set_earlier(Timer::Read, now + self.read_retry());
        }
        if let Some(deadline) = self.next_read_deadline() {
            self.timers.set_earlier(Timer::Read, deadline);
        }
    }

    fn take_expired_reads(&mut self, now: Instant) -> Vec<PendingRead> {
        let is_over = |read: &mut PendingRead| read.deadline <= now;
        let mut expired: Vec<_> = self.reads.waiting.extract_if(.., is_over).collect();
        for forwarded in &mut self.reads.forwarded {
            expired.extend(forwarded.reads.extract_if(.., is_over));
        }
        self.reads.forwarded.retain(|forwarded| !forwarded.reads.is_empty());
        if let Role::Leader(leader) = &mut self.role {
            leader.reads.waiting.retain(|read| {
                let is_over = read.source.deadline() <= now;
                if let (true, Source::Here(read)) = (is_over, &read.source) {
                    expired.push(read.clone());
                }
                !is_over
            });
        }
        expired
    }

    fn next_read_deadline(&self) -> Option<Instant> {
        let waiting = self.reads.waiting.iter();
        let forwarded = self.reads.forwarded.iter().flat_map(|forwarded| &forwarded.reads);
        let here = match &self.role {
            Role::Leader(leader) => leader.reads.waiting.iter().map(|read| read.source.deadline()).min(),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        };
        waiting.chain(forwarded).map(|read| read.deadline).chain(here).min()
    }

    /// The leader has changed: what was sent to the old one is sent to the next.
    pub(super) fn requeue_forwarded_reads(&mut self) {
        for forwarded in std::mem::take(&mut self.reads.forwarded) {
            self.reads.waiting.extend(forwarded.reads);
        }
    }

    /// This node leads now, so it confirms its own reads itself.
    pub(super) fn requeue_reads_for_leader(&mut self, now: Instant) {
        self.requeue_forwarded_reads();
        for read in std::mem::take(&mut self.reads.waiting) {
            let by_lease = read.by_lease;
            self.read_here(now, Source::Here(read), by_lease);
        }
    }

    /// This node no longer leads: its own reads wait for the next leader, peers ask there themselves.
    pub(super) fn take_back_reads(&mut self, reads: LeaderReads<C>) {
        for read in reads.waiting {
            if let Source::Here(read) = read.source {
                self.reads.waiting.push(read);
            }
        }
    }

    pub(super) fn fail_reads(&mut self) {
        self.requeue_forwarded_reads();
        for read in std::mem::take(&mut self.reads.waiting) {
            self.reply(read.request, Reply::ReadFailed { leader: None });
        }
    }
}
