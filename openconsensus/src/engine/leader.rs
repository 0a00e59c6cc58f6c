//! What a leader does: appends, replicates, commits, and shows that it lives.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Instant;

use crate::entries::{Entries, NewEntries};
use crate::entry::{Entry, Index, LogId, Payload, Term};
use crate::leadership::LeadershipEvent;
use crate::message::{AppendResult, Body, Message, TransferRefusal};
use crate::type_config::TypeConfig;

use super::lease::Lease;
use super::membership_change::PendingChange;
use super::progress::{Progress, ProgressState};
use super::quorum::Rounds;
use super::read::LeaderReads;
use super::timer::Timer;
use super::transfer::Transfer;
use super::{Engine, Fingerprint, Reply, RequestId, Role, SnapshotEffect, WriteHold};

/// The state of a leader.
#[derive(Clone, Debug)]
pub(super) struct Leader<C: TypeConfig> {
    /// What it knows of every other member, and of those that have just been removed.
    pub(super) peers: BTreeMap<C::NodeId, Progress>,
    /// Kept beside the current term, which has risen already where a later one ends the leadership.
    term: Term,
    /// The first entry of its term. Nothing before it is committed by counting.
    pub(super) term_start: Index,
    /// The latest round of heartbeats.
    pub(super) round: u64,
    /// When the rounds before it began.
    pub(super) rounds: Rounds,
    /// When leadership began.
    pub(super) since: Instant,
    pub(super) reads: LeaderReads<C>,
    pub(super) lease: Lease,
    pub(super) transfer: Option<Transfer<C>>,
    /// What each peer was told last of a transfer that it has asked for: asked again, it is told the same.
    pub(super) refused_transfers: BTreeMap<C::NodeId, (u64, TransferRefusal<C>)>,
    pub(super) change: Option<PendingChange>,
    /// The membership entry that `peers` follows.
    pub(super) peers_of: LogId,
}

impl<C: TypeConfig> Leader<C> {
    pub(super) fn fingerprint(&self, to: &mut Fingerprint<'_, C>) {
        // The term is that of the engine.
        let Self {
            peers,
            term: _,
            term_start,
            round,
            rounds,
            since,
            reads,
            lease,
            transfer,
            refused_transfers,
            change,
            peers_of,
        } = self;
        to.each_node(peers.iter().map(|(id, progress)| (*id, progress)), |to, progress| {
            progress.fingerprint(to);
        });
        to.value((term_start, round, change, peers_of));
        rounds.fingerprint(to);
        to.past(Some(*since));
        reads.fingerprint(to);
        lease.fingerprint(to);
        to.value(transfer.is_some());
        if let Some(transfer) = transfer {
            transfer.fingerprint(to);
        }
        to.each_node(
            refused_transfers.iter().map(|(id, refused)| (*id, refused)),
            |to, (transfer, refusal)| {
                to.value(transfer);
                to.transfer_refusal(refusal);
            },
        );
    }
}

impl<C: TypeConfig> Engine<C> {
    pub(super) fn become_leader(&mut self, now: Instant) {
        let Role::Candidate(campaign) = &self.role else { panic!("only a candidate can be elected") };
        let (begun, voters) = (campaign.begun, campaign.granted.clone());
        let predecessor = campaign.predecessor;
        self.counters.elections_won += 1;
        let term_start = self.log.last().index + 1;
        self.role = Role::Leader(Box::new(Leader {
            peers: BTreeMap::new(),
            term: self.term,
            term_start,
            round: 0,
            rounds: Rounds::default(),
            since: now,
            reads: LeaderReads::new(),
            lease: Lease::default(),
            transfer: None,
            refused_transfers: BTreeMap::new(),
            change: None,
            peers_of: LogId::ZERO,
        }));
        self.effects.leadership.push(LeadershipEvent::Started { term: self.term, ready_at: term_start });
        self.timers.stop(Timer::Election);
        self.look_at_transfer_outcome(self.id);
        self.conclude_transfers(self.id);
        self.requeue_reads_for_leader(now);
        self.follow_membership(now);
        self.hear_of_voters(begun, &voters);
        // Raft paper, section 8; thesis 6.4: what was inherited is committed by an entry of the own term.
        self.append_one(Payload::Blank);
        self.send_heartbeats(now);
        self.relieve(predecessor);
        self.take_up_transfers(now);
        if self.hangs_on_its_disk(now) {
            // It was asked for votes before it hung.
            self.timers.set(Timer::Disk, now);
        }
    }

    /// A vote is an answer to what was asked when the campaign had begun.
    fn hear_of_voters(&mut self, begun: Instant, voters: &BTreeSet<C::NodeId>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let voters = leader.peers.iter_mut().filter(|(id, _)| voters.contains(id));
        voters.for_each(|(_, progress)| progress.hear_of(Some(begun)));
    }

    /// Answers those who rely on this leadership, and returns what it has begun.
    pub(super) fn end_leadership(&mut self) {
        let empty = Role::Follower(super::Follower::new(self.log.committed()));
        let Role::Leader(leader) = std::mem::replace(&mut self.role, empty) else { return };
        self.effects.leadership.push(LeadershipEvent::Stopped { term: leader.term });
        self.timers.stop(Timer::Heartbeat);
        self.timers.stop(Timer::Quorum);
        self.timers.stop(Timer::Transfer);
        if let Some(change) = leader.change {
            self.reply(change.request, Reply::ChangeMembershipFailed(change.unknown()));
        }
        if let Some(transfer) = leader.transfer {
            self.await_transfer_outcome(transfer);
        }
        for progress in leader.peers.values() {
            if let ProgressState::Snapshot { id, .. } = progress.state() {
                self.effects.snapshots.push(SnapshotEffect::Discard { id: *id });
            }
        }
        self.take_back_reads(leader.reads);
    }

    pub(super) fn on_write(&mut self, request: RequestId, commands: Vec<C::Command>) {
        if !matches!(self.role, Role::Leader(_)) || self.transfer_target().is_some() {
            let leader = self.next_leader_hint();
            return self.reply(request, Reply::NotLeader { leader });
        }
        if let Some(WriteHold::Uncommitted { bytes }) = self.write_hold() {
            let limit = self.config.uncommitted_bytes_max;
            return self.reply(request, Reply::Busy { bytes, limit });
        }
        self.counters.commands_appended += commands.len() as u64;
        let first = LogId { term: self.term, index: self.log.last().index + 1 };
        self.append(commands.into_iter().map(Payload::Command));
        self.reply(request, Reply::Appended { first });
    }

    pub(super) fn append_one(&mut self, payload: Payload<C>) -> LogId {
        self.append([payload]);
        self.log.last()
    }

    /// In batches of no more than one append has room for: whoever holds a view of an entry, a peer's queue, say, keeps
    /// its whole batch in memory.
    fn append(&mut self, payloads: impl IntoIterator<Item = Payload<C>>) {
        let (term, first) = (self.term, self.log.last().index + 1);
        let payloads = payloads.into_iter();
        let count = payloads.size_hint().0;
        let mut batch = NewEntries::with_capacity(count);
        for (index, payload) in (first..).zip(payloads) {
            let entry = Entry { log_id: LogId { term, index }, payload };
            if self.config.append_bytes_max < batch.bytes() + entry.size_bytes() && !batch.is_empty() {
                let left = count.saturating_sub((index - first) as usize);
                let full = std::mem::replace(&mut batch, NewEntries::with_capacity(left));
                self.log.append(full.into());
            }
            batch.push(entry);
        }
        self.log.append(batch.into());
    }

    /// Why writes should be kept back for the time being, if they should. A write that is stepped in nevertheless is
    /// answered with `NotLeader` during a transfer of leadership, otherwise with `Busy`.
    pub fn write_hold(&self) -> Option<WriteHold> {
        if self.transfer_target().is_some() || self.awaits_next_leader() {
            return Some(WriteHold::Transfer);
        }
        let bytes = self.log.uncommitted_bytes();
        let is_full = self.config.uncommitted_bytes_max <= bytes;
        (is_full && matches!(self.role, Role::Leader(_))).then_some(WriteHold::Uncommitted { bytes })
    }

    /// Everything that follows from the state of a leader, level by level rather than from single events.
    pub(super) fn lead(&mut self, now: Instant) {
        if !matches!(self.role, Role::Leader(_)) {
            return;
        }
        self.follow_membership(now);
        self.advance_commit();
        self.advance_membership_change();
        self.follow_membership(now);
        self.start_read_round(now);
        self.confirm_reads();
        self.drive_transfer();
        self.replicate(now);
        self.tell_commit();
        self.drop_departed(now);
        self.hand_over_if_removed(now);
    }

    /// Commits what a quorum has durably. Its own disk counts like any other, and only if it is a voter: a quorum of
    /// others is enough (thesis 10.2.1).
    fn advance_commit(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        if self.log.committed() == self.log.last().index {
            return;
        }
        let stable = self.log.stable();
        let matched = |id| match leader.peers.get(&id) {
            _ if id == self.id => stable,
            Some(progress) => progress.matched(),
            None => 0,
        };
        let index = self.log.membership().quorum_value(matched);
        // Thesis 3.6.2: only entries of the leader's own term are committed by counting replicas; earlier ones are
        // committed with them.
        if self.log.committed() < index && leader.term_start <= index {
            self.log.commit_to(index);
        }
    }

    /// Sends every peer what it lacks, as far as its window allows.
    fn replicate(&mut self, now: Instant) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &self.role else { return };
        let lacks_something = |progress: &Progress| {
            progress.next() <= last || matches!(progress.state(), ProgressState::Probe { .. })
        };
        if !leader.peers.values().any(lacks_something) {
            return;
        }
        let mut next = self.peer_behind(None);
        while let Some(peer) = next {
            while self.send_append(now, peer) {}
            next = self.peer_behind(Some(peer));
        }
    }

    /// The peer whose name comes next.
    fn peer_behind(&self, before: Option<C::NodeId>) -> Option<C::NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let from = before.map_or(Bound::Unbounded, Bound::Excluded);
        leader.peers.range((from, Bound::Unbounded)).next().map(|(id, _)| *id)
    }

    /// Sends one append if there is something to send and the window is open. Returns whether another may follow.
    fn send_append(&mut self, now: Instant, peer: C::NodeId) -> bool {
        let committed = self.log.committed();
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return false };
        let Some(progress) = leader.peers.get_mut(&peer) else { return false };
        let Some(window_bytes) = progress.window_bytes(&self.config) else { return false };
        let is_probe = matches!(progress.state(), ProgressState::Probe { .. });
        let next = progress.next();
        if last < next && !is_probe {
            return false;
        }
        let Some(prev) = self.log.log_id_at(next - 1) else {
            self.send_snapshot(now, peer);
            return false;
        };
        let entries = match self.log.recent(next, window_bytes) {
            Some(entries) => entries,
            // Whether `prev` matches can be asked without them.
            None if is_probe => Entries::empty(),
            None => {
                self.read_for_peer(peer, next, window_bytes);
                return false;
            }
        };
        let last_sent = prev.index + entries.len() as u64;
        let bytes = entries.size_bytes();
        progress.on_sent(last_sent, bytes, leader.round);
        progress.commit_sent = committed;
        self.counters.sent.bytes += bytes;
        self.send(peer, Body::Append { prev, entries, commit: committed });
        true
    }

    /// Tells peers of a commit that no append has carried to them: they should not have to wait for the next write.
    fn tell_commit(&mut self) {
        let committed = self.log.committed();
        let Role::Leader(leader) = &mut self.role else { return };
        for (peer, progress) in &mut leader.peers {
            if progress.commit_sent < committed
                && committed <= progress.matched()
                && let Some(commit) = self.log.log_id_at(committed)
            {
                progress.commit_sent = committed;
                let message = Message { term: self.term, body: Body::Commit { commit } };
                self.effects.messages.push((*peer, message));
            }
        }
    }

    pub(super) fn on_append_response(&mut self, from: C::NodeId, result: AppendResult) {
        let last = self.log.last().index;
        let purged = self.log.purged().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&from) else { return };
        progress.backoff.on_append_answer();
        match result {
            AppendResult::Matched { matched } => {
                if last < matched {
                    tracing::error!(
                        name: "raft.message.impossible", node = %self.id, %from, matched, last,
                        "a peer acknowledges what was never sent; dropped"
                    );
                    return;
                }
                let obsolete = progress.on_matched(matched, purged);
                let proved = progress.take_proved();
                progress.hear_of(proved.and_then(|round| leader.rounds.begun_at(round)));
                if let Some(id) = obsolete {
                    self.effects.snapshots.push(SnapshotEffect::Discard { id });
                }
            }
            AppendResult::Conflict { rejected, hint } => {
                if progress.is_news(rejected) {
                    let at = hint.index.min(rejected.saturating_sub(1));
                    // Without a match behind the purged entry only a snapshot helps: `next` at it asks for one.
                    let matching = self.log.last_not_above(at, hint.term);
                    progress.probe_from(matching.map_or(purged, |id| id.index + 1));
                }
            }
            // Its term is in the message and was looked at.
            AppendResult::StaleTerm => {}
        }
    }

    pub(super) fn on_unreachable(&mut self, peer: C::NodeId) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&peer) else { return };
        progress.backoff.on_unreachable(&self.config);
        match progress.state() {
            // What is in flight is probably lost: do not send more before it answers.
            ProgressState::Replicate(_) => progress.probe(),
            ProgressState::Probe { .. } | ProgressState::Snapshot { .. } => {}
        }
    }
}
