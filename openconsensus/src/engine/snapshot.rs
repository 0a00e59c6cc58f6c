//! Snapshots: when to build one, how one is installed, and what may be purged behind them.

use std::hash::Hash;
use std::time::Instant;

use crate::entry::{Index, LogId};
use crate::error::SnapshotError;
use crate::message::{InstallSnapshot, InstallSnapshotResponse, SnapshotMeta};
use crate::type_config::TypeConfig;

use super::effects::WriteId;
use super::progress::{Progress, ProgressState};
use super::writes::Writes;
use super::{Engine, Fingerprint, Reply, RequestId, Role, SnapshotEffect, SnapshotId, millis};

/// A purge that is held back for a peer goes on in steps of so many entries.
const PURGE_ENTRIES_MIN: Index = 1024;

/// What is known of snapshots here.
#[derive(Clone, Debug)]
pub(super) struct Snapshots<C: TypeConfig> {
    /// The last entry of the current snapshot.
    last: LogId,
    building: Option<Building>,
    installing: Option<Installing<C>>,
}

#[derive(Clone, Debug, Hash)]
struct Building {
    id: SnapshotId,
    requests: Vec<RequestId>,
}

#[derive(Clone, Debug)]
struct Installing<C: TypeConfig> {
    id: SnapshotId,
    request: RequestId,
    snapshot: InstallSnapshot<C>,
    /// Begun only when this write is durable: entries that conflict with the snapshot must be gone before it becomes
    /// current, or they would come back after a crash.
    after: Option<WriteId>,
}

impl<C: TypeConfig> Snapshots<C> {
    pub(super) fn new(last: LogId) -> Self {
        Self { last, building: None, installing: None }
    }

    pub(super) fn fingerprint(&self, writes: &Writes<C>, to: &mut Fingerprint<'_, C>)
    where
        C::Command: Hash,
        C::Node: Hash,
    {
        let Self { last, building, installing } = self;
        to.value((last, building, installing.is_some()));
        if let Some(Installing { id, request, snapshot, after }) = installing {
            to.value((id, request, after.map(|write| writes.distance(write))));
            to.install_snapshot(snapshot);
        }
    }

    pub(super) fn last(&self) -> LogId {
        self.last
    }

    /// Whether the state is being replaced: nothing is applied meanwhile.
    pub(super) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }
}

impl<C: TypeConfig> Engine<C> {
    /// Builds a snapshot when it is time, and purges what is no longer needed.
    pub(super) fn tend_snapshots(&mut self, now: Instant) {
        if let Some(entries) = self.config.snapshot_after_entries {
            let since = self.log.applied().index.saturating_sub(self.snapshots.last.index);
            // A log that is purged without a snapshot behind it could not help a peer that is new.
            let is_missing = self.snapshots.last.index < self.log.purged().index;
            if (is_missing || entries <= since)
                && self.snapshots.building.is_none()
                && !self.snapshots.is_installing()
            {
                self.build_snapshot(Vec::new());
            }
        }
        self.purge(now);
    }

    fn build_snapshot(&mut self, requests: Vec<RequestId>) {
        let id = SnapshotId(self.number());
        self.snapshots.building = Some(Building { id, requests });
        self.effects.snapshots.push(SnapshotEffect::Build { id });
    }

    pub(super) fn on_build_snapshot(&mut self, request: RequestId) {
        if self.snapshots.is_installing() {
            return self.reply(request, Reply::SnapshotFailed(SnapshotError::Installing));
        }
        if self.log.dispatched() == 0 {
            return self.reply(request, Reply::SnapshotFailed(SnapshotError::Empty));
        }
        match &mut self.snapshots.building {
            Some(building) => building.requests.push(request),
            None => self.build_snapshot(vec![request]),
        }
    }

    pub(super) fn on_snapshot_built(&mut self, id: SnapshotId, meta: &SnapshotMeta<C>) {
        let Some(building) = self.snapshots.building.take_if(|building| building.id == id) else { return };
        self.counters.snapshots_built += 1;
        if self.snapshots.last.index < meta.last.index {
            self.snapshots.last = meta.last;
        }
        for request in building.requests {
            self.reply(request, Reply::SnapshotBuilt(meta.clone()));
        }
    }

    /// Purges what lies behind the snapshot, less what is kept for peers.
    fn purge(&mut self, now: Instant) {
        if self.snapshots.is_installing() {
            return;
        }
        let snapshot = self.snapshots.last.index;
        let wanted = snapshot.saturating_sub(self.config.log_keep_entries);
        let purged = self.log.purged().index;
        if wanted <= purged {
            return;
        }
        let bound = snapshot.saturating_sub(self.config.log_hold_entries_max);
        let upto = wanted.min(self.held_for_peers(now).max(bound)).min(self.log.applied().index);
        // Every purge is a write: not one for each entry that a peer comes on.
        let is_worth_it = upto == wanted || upto == bound || purged + PURGE_ENTRIES_MIN <= upto;
        if upto <= purged || !is_worth_it {
            return;
        }
        if let Some(upto) = self.log.log_id_at(upto) {
            self.log.purge(upto);
            self.writes.stage_purge(upto);
        }
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

    pub(super) fn on_snapshot_sent(
        &mut self,
        now: Instant,
        id: SnapshotId,
        response: Option<InstallSnapshotResponse>,
    ) {
        let retry_at = now + millis(self.config.election_timeout_ms_min);
        let purged = self.log.purged().index;
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let is_sent = |progress: &Progress| matches!(progress.state(), ProgressState::Snapshot { id: of, .. } if *of == id);
        let Some((peer, progress)) = leader.peers.iter_mut().find(|(_, progress)| is_sent(progress)) else {
            return;
        };
        let peer = *peer;
        match response.filter(InstallSnapshotResponse::is_possible) {
            Some(response) if self.term < response.term => {
                progress.probe();
                if self.log.membership().is_member(peer) {
                    self.become_follower(now, response.term, None);
                }
            }
            Some(InstallSnapshotResponse { installed: Some(installed), .. }) if installed <= last => {
                progress.contact = Some(now);
                self.counters.snapshots_sent += 1;
                let has_all = matches!(progress.state(), ProgressState::Snapshot { pending, .. } if *pending <= installed);
                progress.on_matched(installed, purged);
                if matches!(progress.state(), ProgressState::Snapshot { .. }) {
                    // It has less than the log still holds: the next one will do.
                    progress.probe();
                    if !has_all {
                        // It needed nothing of this one, and waits for its disk: the same again would not help it.
                        progress.snapshot_not_before = Some(retry_at);
                    }
                }
            }
            Some(_) | None => {
                progress.snapshot_not_before = Some(retry_at);
                progress.probe();
            }
        }
    }

    pub(super) fn install_refused(&self) -> Reply<C> {
        Reply::InstallFinished(InstallSnapshotResponse { term: self.term, installed: None })
    }

    pub(super) fn on_install_snapshot(
        &mut self,
        now: Instant,
        request: RequestId,
        snapshot: InstallSnapshot<C>,
    ) {
        let last = snapshot.meta.last;
        // At the door: a snapshot that no leader of this cluster can have.
        let is_impossible = !snapshot.is_possible() || self.contradicts_committed(last);
        if snapshot.term < self.term || is_impossible || snapshot.leader == self.id {
            return self.reply(request, self.install_refused());
        }
        if self.term < snapshot.term {
            self.become_follower(now, snapshot.term, None);
        }
        self.hear_leader(now, snapshot.leader);
        if last.index <= self.log.committed() {
            // Older than what is here: nothing to install, and nothing to take back.
            let installed = Some(self.log.committed().min(self.log.stable()));
            let response = InstallSnapshotResponse { term: self.term, installed };
            return self.reply(request, Reply::InstallFinished(response));
        }
        if let Some(installing) = &self.snapshots.installing {
            // The one before it was given up by its sender. This one is refused until it has ended: the leader comes back.
            let obsolete = installing.id;
            let is_begun = installing.after.is_none();
            if is_begun {
                self.effects.snapshots.push(SnapshotEffect::Discard { id: obsolete });
                return self.reply(request, self.install_refused());
            }
            self.refuse_installing();
        }
        self.prepare_install(request, snapshot);
    }

    /// Whether `last` cannot be committed beside what is committed here: another entry is in its place, or the later of
    /// the two is of an earlier term.
    fn contradicts_committed(&self, last: LogId) -> bool {
        let committed = self.log.log_id_at(self.log.committed()).expect("what is committed is in the log");
        if committed.index < last.index {
            return last.term < committed.term;
        }
        committed.term < last.term || self.log.term_at(last.index).is_some_and(|term| term != last.term)
    }

    /// Ends an installation that has not begun.
    fn refuse_installing(&mut self) {
        if let Some(installing) = self.snapshots.installing.take() {
            self.reply(installing.request, self.install_refused());
        }
    }

    fn prepare_install(&mut self, request: RequestId, snapshot: InstallSnapshot<C>) {
        let last = snapshot.meta.last;
        if last.index <= self.log.last().index && !self.log.contains(last) {
            // Another entry stands where the snapshot ends: it and all behind it are leftovers (Raft paper, section 7).
            if self.log.truncate(last.index) {
                self.writes.stage_truncate(last.index);
            }
            self.counters.truncations += 1;
        }
        let after = Some(self.writes.of_all(&self.log));
        let id = SnapshotId(self.number());
        self.snapshots.installing = Some(Installing { id, request, snapshot, after });
        self.begin_install();
    }

    /// Hands the snapshot to the state machine once the log no longer contradicts it.
    pub(super) fn begin_install(&mut self) {
        let Some(installing) = &mut self.snapshots.installing else { return };
        if installing.after.is_none_or(|write| !self.writes.is_done(write)) {
            return;
        }
        installing.after = None;
        let Installing { id, request, snapshot, .. } = installing.clone();
        self.effects.snapshots.push(SnapshotEffect::Install { id, request, snapshot });
    }

    pub(super) fn on_snapshot_installed(&mut self, id: SnapshotId, installed: bool) {
        let Some(installing) = self.snapshots.installing.take_if(|installing| installing.id == id) else {
            return;
        };
        let meta = installing.snapshot.meta;
        if installed {
            self.counters.snapshots_installed += 1;
            self.snapshots.last = meta.last;
            self.log.install(meta.last, meta.membership);
            self.writes.stage_purge(meta.last);
            self.hear_commit_of_snapshot(meta.last.index);
        }
        let response =
            InstallSnapshotResponse { term: self.term, installed: installed.then_some(meta.last.index) };
        self.reply(installing.request, Reply::InstallFinished(response));
    }

    /// What a snapshot contains was committed, so it is verified too.
    fn hear_commit_of_snapshot(&mut self, index: Index) {
        if let Role::Follower(follower) = &mut self.role {
            follower.verify(index);
        }
    }
}
