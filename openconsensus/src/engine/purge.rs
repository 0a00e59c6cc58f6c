//! Which entries may be purged behind a snapshot, and which are kept for peers.

use std::time::Instant;

use crate::entry::{Index, LogId};
use crate::error::PurgeError;
use crate::type_config::TypeConfig;

use super::effects::WriteId;
use super::progress::{Progress, ProgressState};
use super::{Engine, Reply, RequestId, Role, millis};

/// A purge that is held back for a peer goes on in steps of so many entries.
const PURGE_ENTRIES_MIN: Index = 1024;

/// Somebody waits until the log is purged durably.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purging {
    request: RequestId,
    upto: LogId,
    pub(super) until: WriteId,
}

impl Purging {
    /// What is fed to a fingerprint: everything but the write, whose distance matters.
    pub(super) fn parts(self) -> (RequestId, LogId) {
        let Self { request, upto, until: _ } = self;
        (request, upto)
    }
}

impl<C: TypeConfig> Engine<C> {
    /// Purges what lies behind the snapshot, less what is kept for peers.
    pub(super) fn purge(&mut self, now: Instant) {
        if self.snapshots.is_installing() {
            return;
        }
        let snapshot = self.snapshots.last().index;
        let purged = self.log.purged().index;
        // All entries together are what is looked at first, because it has not to be searched for.
        let (sizes, keep_bytes) = (self.log.sizes(), self.config.log_keep_bytes);
        if snapshot.saturating_sub(self.config.log_keep_entries) <= purged
            && (sizes.all() <= keep_bytes || sizes.between(purged, snapshot) <= keep_bytes)
        {
            return;
        }
        let kept = snapshot.saturating_sub(self.config.log_keep_entries);
        let wanted = kept.max(self.log.sizes().start_of(self.config.log_keep_bytes, snapshot));
        let bound = snapshot.saturating_sub(self.config.log_hold_entries_max);
        let upto = wanted.min(self.held_for_peers(now).max(bound)).min(self.log.applied().index);
        // Every purge is a write: not one for each entry that a peer comes on.
        let is_worth_it = upto == wanted || upto == bound || purged + PURGE_ENTRIES_MIN <= upto;
        if upto <= purged || !is_worth_it {
            return;
        }
        if let Some(upto) = self.log.log_id_at(upto) {
            self.purge_to(upto);
        }
    }

    fn purge_to(&mut self, upto: LogId) {
        self.log.purge(upto);
        self.writes.stage_purge(upto);
    }

    /// The index behind which some peer needs entries: one that is being sent a snapshot, or that answers.
    fn held_for_peers(&self, now: Instant) -> Index {
        let Role::Leader(leader) = &self.role else { return Index::MAX };
        let is_recent = |contact| now < contact + millis(2 * self.config.election_timeout_ms_max);
        let held = |progress: &Progress| match progress.state() {
            ProgressState::Snapshot { pending, .. } => *pending,
            ProgressState::Replicate(_) if progress.contact.is_some_and(is_recent) => progress.matched(),
            // Nothing is known of what it has yet: what it needs may be anything that is still there.
            ProgressState::Probe { .. } if progress.contact.is_some_and(is_recent) => progress.matched(),
            ProgressState::Replicate(_) | ProgressState::Probe { .. } => Index::MAX,
        };
        leader.peers.values().map(held).min().unwrap_or(Index::MAX)
    }

    /// The end of the oldest snapshot that is being sent: its receiver will need what follows it.
    fn held_for_transfers(&self) -> Option<Index> {
        let Role::Leader(leader) = &self.role else { return None };
        let pending = |progress: &Progress| match progress.state() {
            ProgressState::Snapshot { pending, .. } => Some(*pending),
            ProgressState::Replicate(_) | ProgressState::Probe { .. } => None,
        };
        leader.peers.values().filter_map(pending).min()
    }

    pub(super) fn on_purge_log(&mut self, request: RequestId, upto: Index) {
        match self.purge_by_hand(upto) {
            Ok(upto) => {
                let until = self.writes.of_all(&self.log);
                self.purging.push(Purging { request, upto, until });
                self.finish_purging();
            }
            Err(error) => self.reply(request, Reply::PurgeFailed(error)),
        }
    }

    /// Purges up to `upto`, whatever is kept for peers that are late. Returns how far the log is purged then.
    fn purge_by_hand(&mut self, upto: Index) -> Result<LogId, PurgeError> {
        if upto <= self.log.purged().index {
            return Ok(self.log.purged());
        }
        if self.snapshots.is_installing() {
            return Err(PurgeError::Installing);
        }
        let snapshot = self.snapshots.last();
        if snapshot.index < upto || self.log.applied().index < upto {
            return Err(PurgeError::NotInSnapshot { upto, snapshot });
        }
        if let Some(pending) = self.held_for_transfers()
            && pending < upto
        {
            return Err(PurgeError::Sending { upto, snapshot: pending });
        }
        let upto =
            self.log.log_id_at(upto).expect("what a snapshot contains and is not purged is in the log");
        self.purge_to(upto);
        Ok(upto)
    }

    /// Answers those whose purge is durable.
    pub(super) fn finish_purging(&mut self) {
        let (writes, effects) = (&self.writes, &mut self.effects);
        self.purging.retain(|purging| {
            let is_done = writes.is_done(purging.until);
            if is_done {
                effects.replies.push((purging.request, Reply::LogPurged { upto: purging.upto }));
            }
            !is_done
        });
    }
}
