//! Which peers a leader serves, and how those are fed that lag behind what is in memory.

use std::time::Instant;

use crate::entries::Entries;
use crate::entry::Index;
use crate::message::Body;
use crate::type_config::TypeConfig;

use super::progress::{Progress, ProgressState};
use super::{Engine, LogRead, LogReadId, Role, SnapshotEffect, SnapshotId, millis};

impl<C: TypeConfig> Engine<C> {
    /// Makes the peers those of the membership in force. Progress is kept by node, whatever changes around it.
    pub(super) fn follow_membership(&mut self, now: Instant) {
        let at = self.log.membership_at();
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let inherited = leader.term_start - 1;
        if leader.peers_of == at.log_id && !leader.peers.is_empty() {
            return;
        }
        leader.peers_of = at.log_id;
        for id in at.membership.nodes().keys().filter(|id| **id != self.id) {
            // One that was removed and is added again may be another machine, or have lost its log: what the one before it
            // had acknowledged says nothing of it.
            let is_back = leader.peers.get(id).is_some_and(|progress| progress.leaves_at.is_some());
            let before = if is_back { leader.peers.remove(id) } else { None };
            if let Some(ProgressState::Snapshot { id, .. }) = before.as_ref().map(Progress::state) {
                self.effects.snapshots.push(SnapshotEffect::Discard { id: *id });
            }
            // Answers to what was sent to the one before it may still come.
            let known = if is_back { last } else { inherited };
            leader.peers.entry(*id).or_insert_with(|| Progress::new(last, known));
        }
        // A removed node is served a little longer, so that it learns that it was removed.
        let leaves_at = now + 4 * millis(self.config.election_timeout_ms_max);
        for (id, progress) in &mut leader.peers {
            if !at.membership.is_member(*id) {
                progress.leaves_at.get_or_insert(leaves_at);
            }
        }
        // The voters may be others now, and a quorum of them may have been heard long ago.
        self.watch_quorum(now);
    }

    /// Lets go of removed nodes that have learned it, or that have had their time.
    pub(super) fn drop_departed(&mut self, now: Instant) {
        let committed = self.log.committed();
        let membership_index = self.log.membership_at().log_id.index;
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.peers.values().all(|progress| progress.leaves_at.is_none()) {
            return;
        }
        let is_over = |progress: &Progress| match progress.leaves_at {
            None => false,
            Some(leaves_at) => {
                let knows = membership_index <= committed.min(progress.commit_sent).min(progress.matched());
                membership_index <= committed && (knows || leaves_at <= now)
            }
        };
        for progress in
            leader.peers.extract_if(.., |_, progress| is_over(progress)).map(|(_, progress)| progress)
        {
            if let ProgressState::Snapshot { id, .. } = progress.state() {
                self.effects.snapshots.push(SnapshotEffect::Discard { id: *id });
            }
        }
    }

    /// Asks for old entries that a peer needs. The answer is looked at like everything that comes late.
    pub(super) fn read_for_peer(&mut self, peer: C::NodeId, from: Index, bytes_max: u64) {
        let id = LogReadId(self.number());
        let end = self.log.last().index + 1;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&peer) else { return };
        if progress.log_read.is_some() {
            return;
        }
        progress.log_read = Some(id);
        self.counters.catch_up_reads += 1;
        self.effects.reads.push(LogRead { id, range: from..end, bytes_max });
    }

    pub(super) fn on_log_read(&mut self, read: LogReadId, entries: &Entries<C>) {
        let committed = self.log.committed();
        let Role::Leader(leader) = &mut self.role else { return };
        let asked = leader.peers.iter_mut().find(|(_, progress)| progress.log_read == Some(read));
        let Some((peer, progress)) = asked else { return };
        let peer = *peer;
        progress.log_read = None;
        let Some(window_bytes) = progress.window_bytes(&self.config) else { return };
        // The peer may have come on, and the log may have been cut or purged since: send what is right now, or nothing.
        let next = progress.next();
        let entries = entries.slice(next..self.log.last().index + 1).limit_bytes(window_bytes);
        let (Some(prev), Some(last)) = (self.log.log_id_at(next - 1), entries.last()) else { return };
        if entries.first().is_none_or(|first| first.index != next) || !self.log.contains(last) {
            return;
        }
        let bytes = entries.size_bytes();
        progress.on_sent(last.index, bytes, leader.round);
        progress.commit_sent = committed;
        self.counters.sent.bytes += bytes;
        self.send(peer, Body::Append { prev, entries, commit: committed });
    }

    /// The peer lacks entries that have been purged: only a snapshot helps. One that does not answer gets none.
    pub(super) fn send_snapshot(&mut self, now: Instant, peer: C::NodeId) {
        let id = SnapshotId(self.number());
        let pending = self.snapshots.last().index;
        // Another one is on its way if this one cannot be read.
        if pending < self.log.purged().index || self.snapshots.is_damaged() {
            return;
        }
        let is_recent = |contact| now < contact + millis(2 * self.config.election_timeout_ms_max);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&peer) else { return };
        let may_try = progress.snapshot_not_before.is_none_or(|time| time <= now);
        if !may_try || !progress.contact.is_some_and(is_recent) {
            return;
        }
        progress.snapshot(id, pending);
        self.effects.snapshots.push(SnapshotEffect::Send { id, peer, term: self.term });
    }
}
