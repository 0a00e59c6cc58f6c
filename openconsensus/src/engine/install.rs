//! Snapshots of leaders: which are refused, and how the others take the place of the state and of the log.

use std::hash::Hash;
use std::time::Instant;

use crate::entry::{Index, LogId};
use crate::message::{InstallSnapshot, InstallSnapshotResponse};
use crate::type_config::TypeConfig;

use super::effects::WriteId;
use super::writes::Writes;
use super::{Engine, Fingerprint, Reply, RequestId, Role, SnapshotEffect, SnapshotId};

/// A snapshot that is being installed, or that waits for that.
#[derive(Clone, Debug)]
pub(super) struct Installing<C: TypeConfig> {
    id: SnapshotId,
    request: RequestId,
    snapshot: InstallSnapshot<C>,
    /// Begun only when this write is durable: entries that conflict with the snapshot must be gone before it becomes
    /// current, or they would come back after a crash.
    after: Option<WriteId>,
}

impl<C: TypeConfig> Installing<C> {
    pub(super) fn fingerprint(&self, writes: &Writes<C>, to: &mut Fingerprint<'_, C>)
    where
        C::Command: Hash,
        C::Node: Hash,
    {
        let Self { id, request, snapshot, after } = self;
        to.value((id, request, after.map(|write| writes.distance(write))));
        to.install_snapshot(snapshot);
    }
}

impl<C: TypeConfig> Engine<C> {
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
            self.counters.snapshots_refused += u64::from(is_impossible);
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

    pub(super) fn on_snapshot_installed(&mut self, now: Instant, id: SnapshotId, installed: bool) {
        let Some(installing) = self.snapshots.installing.take_if(|installing| installing.id == id) else {
            return;
        };
        let meta = installing.snapshot.meta;
        let last = meta.last;
        if installed {
            self.counters.snapshots_installed += 1;
            self.log.install(last, meta.membership.clone());
            self.snapshots.replace(meta, &self.config, now);
            self.writes.stage_purge(last);
            self.hear_commit_of_snapshot(last.index);
        } else {
            self.counters.snapshots_refused += 1;
        }
        let response =
            InstallSnapshotResponse { term: self.term, installed: installed.then_some(last.index) };
        self.reply(installing.request, Reply::InstallFinished(response));
    }

    /// What a snapshot contains was committed, so it is verified too.
    fn hear_commit_of_snapshot(&mut self, index: Index) {
        if let Role::Follower(follower) = &mut self.role {
            follower.verify(index);
        }
    }
}
