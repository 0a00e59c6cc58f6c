//! Snapshots of this node: when one is built, and what becomes of those that cannot be built or read.

use std::hash::Hash;
use std::time::Instant;

use anyerror::AnyError;

use crate::config::ValidConfig;
use crate::entry::LogId;
use crate::error::SnapshotError;
use crate::message::{InstallSnapshotResponse, SnapshotMeta};
use crate::type_config::TypeConfig;

use super::install::Installing;
use super::progress::{Progress, ProgressState};
use super::rng::Rng;
use super::timer::Timer;
use super::writes::Writes;
use super::{Engine, Fingerprint, Reply, RequestId, Role, SnapshotEffect, SnapshotId, millis};

/// After a failed build the next one waits for so long, doubled with each further failure.
const RETRY_MS_MIN: u64 = 1000;
/// The longest wait is this power of two of the shortest.
const RETRY_DOUBLINGS_MAX: u32 = 6;

/// What is known of snapshots here.
#[derive(Clone, Debug)]
pub(super) struct Snapshots<C: TypeConfig> {
    /// The last entry of the current snapshot.
    last: LogId,
    /// What the current snapshot covers. After a start only its last entry is known.
    meta: Option<SnapshotMeta<C>>,
    /// When it was built or installed, or the node was started.
    since: Instant,
    /// The current snapshot cannot be read.
    is_damaged: bool,
    building: Option<Building>,
    /// How many builds have failed, or had to be repeated, since a snapshot was last known to be good.
    failures: u32,
    /// No snapshot is built by itself before this time.
    not_before: Option<Instant>,
    jitter: Jitter,
    pub(super) installing: Option<Installing<C>>,
}

#[derive(Clone, Debug, Hash)]
struct Building {
    id: SnapshotId,
    requests: Vec<RequestId>,
}

/// By how much the next snapshot is early, so that nodes that apply the same entries do not build at the same time.
#[derive(Clone, Debug, Hash)]
struct Jitter {
    /// `None` when snapshots are never early. A generator of its own: how many snapshots are built changes no election.
    rng: Option<Rng>,
    percent: u64,
}

impl Jitter {
    fn new(config: &ValidConfig, seed: u64) -> Self {
        let is_used = 0 < config.snapshot_jitter_percent && config.snapshots_by_themselves();
        let mut jitter = Self { rng: is_used.then(|| Rng::new(!seed)), percent: 0 };
        jitter.draw(config);
        jitter
    }

    fn draw(&mut self, config: &ValidConfig) {
        if let Some(rng) = &mut self.rng {
            self.percent = rng.between(0, config.snapshot_jitter_percent + 1);
        }
    }

    /// The limit that counts for the next snapshot.
    fn lower(&self, limit: u64) -> u64 {
        let early = u128::from(limit) * u128::from(self.percent) / 100;
        (limit - early as u64).max(1)
    }
}

impl<C: TypeConfig> Snapshots<C> {
    pub(super) fn new(last: LogId, config: &ValidConfig, seed: u64, now: Instant) -> Self {
        Self {
            last,
            meta: None,
            since: now,
            is_damaged: false,
            building: None,
            failures: 0,
            not_before: None,
            jitter: Jitter::new(config, seed),
            installing: None,
        }
    }

    pub(super) fn fingerprint(&self, writes: &Writes<C>, to: &mut Fingerprint<'_, C>)
    where
        C::Command: Hash,
        C::Node: Hash,
    {
        let Self { last, meta, since, is_damaged, building, failures, not_before, jitter, installing } = self;
        let size_bytes = meta.as_ref().map(|meta| meta.size_bytes);
        to.value((last, size_bytes, is_damaged, building, failures, jitter));
        to.past(Some(*since));
        to.deadline(*not_before);
        to.value(installing.is_some());
        if let Some(installing) = installing {
            installing.fingerprint(writes, to);
        }
    }

    pub(super) fn last(&self) -> LogId {
        self.last
    }

    /// What the current snapshot covers, where that is known.
    pub(super) fn meta(&self) -> Option<&SnapshotMeta<C>> {
        self.meta.as_ref()
    }

    /// When the current snapshot was built or installed, or the node was started.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Whether the current snapshot cannot be read.
    pub(super) fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    pub(super) fn is_building(&self) -> bool {
        self.building.is_some()
    }

    /// Whether the state is being replaced: nothing is applied meanwhile.
    pub(super) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// There is another current snapshot.
    pub(super) fn replace(&mut self, meta: SnapshotMeta<C>, config: &ValidConfig, now: Instant) {
        self.last = meta.last;
        self.meta = Some(meta);
        self.since = now;
        self.is_damaged = false;
        self.not_before = None;
        self.jitter.draw(config);
    }

    /// The snapshot that failed is built again: the first time at once if `is_at_once`, then later and later.
    fn retry_later(&mut self, now: Instant, is_at_once: bool) {
        let doublings = self.failures.min(RETRY_DOUBLINGS_MAX);
        let wait = if is_at_once && self.failures == 0 { 0 } else { RETRY_MS_MIN << doublings };
        self.failures = doublings + 1;
        self.not_before = Some(now + millis(wait));
    }
}

impl<C: TypeConfig> Engine<C> {
    /// Builds a snapshot when it is time, and purges what is no longer needed.
    pub(super) fn tend_snapshots(&mut self, now: Instant) {
        let due = self.snapshot_due(now);
        if due.is_some_and(|due| due <= now) {
            self.build_snapshot(Vec::new());
            self.timers.stop(Timer::Snapshot);
        } else {
            self.timers.set_or_stop(Timer::Snapshot, due);
        }
        self.purge(now);
    }

    /// When the next snapshot is to be built by itself, as far as is known now.
    fn snapshot_due(&self, now: Instant) -> Option<Instant> {
        let Snapshots { last, since, is_damaged, building, not_before, jitter, installing, .. } =
            &self.snapshots;
        if building.is_some() || installing.is_some() || self.log.applied().index == 0 {
            return None;
        }
        let (last, applied) = (last.index, self.log.applied().index);
        // A log that is purged without a snapshot behind it could not help a peer that is new.
        let is_missing = *is_damaged || last < self.log.purged().index;
        let is_over = |limit: Option<u64>, value: &dyn Fn() -> u64| {
            limit.is_some_and(|limit| jitter.lower(limit) <= value())
        };
        let due = if is_missing {
            now
        } else if applied <= last {
            return None;
        } else if is_over(self.config.snapshot_after_entries, &|| applied - last)
            || is_over(self.config.snapshot_after_bytes, &|| self.log.sizes().between(last, applied))
        {
            now
        } else {
            *since + millis(jitter.lower(self.config.snapshot_after_ms?))
        };
        Some(not_before.map_or(due, |not_before| due.max(not_before)))
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
        if let Some(building) = &mut self.snapshots.building {
            return building.requests.push(request);
        }
        let is_current = self.snapshots.last.index == self.log.dispatched() && !self.snapshots.is_damaged;
        match &self.snapshots.meta {
            Some(meta) if is_current => {
                let meta = meta.clone();
                self.reply(request, Reply::SnapshotBuilt(meta));
            }
            Some(_) | None => self.build_snapshot(vec![request]),
        }
    }

    pub(super) fn on_snapshot_built(&mut self, now: Instant, id: SnapshotId, meta: &SnapshotMeta<C>) {
        let Some(building) = self.snapshots.building.take_if(|building| building.id == id) else { return };
        self.counters.snapshots_built += 1;
        // A later one may have been installed meanwhile.
        if self.snapshots.last.index <= meta.last.index {
            // A snapshot that replaces a damaged one may be damaged too: it is good when it has been sent.
            if !self.snapshots.is_damaged {
                self.snapshots.failures = 0;
            }
            self.snapshots.replace(meta.clone(), &self.config, now);
        }
        for request in building.requests {
            self.reply(request, Reply::SnapshotBuilt(meta.clone()));
        }
    }

    /// A snapshot could not be built, because the disk is full, say: everything is as before, and it is tried again.
    pub(super) fn on_snapshot_build_failed(&mut self, now: Instant, id: SnapshotId, error: &AnyError) {
        let Some(building) = self.snapshots.building.take_if(|building| building.id == id) else { return };
        self.counters.snapshots_failed += 1;
        self.snapshots.retry_later(now, false);
        for request in building.requests {
            self.reply(request, Reply::SnapshotFailed(SnapshotError::Failed(error.clone())));
        }
    }

    /// The current snapshot could not be sent because it cannot be read here: another one takes its place.
    pub(super) fn on_snapshot_unreadable(&mut self, now: Instant, id: SnapshotId, last: Option<LogId>) {
        // It may have been replaced since.
        let is_current = last.is_none_or(|last| last == self.snapshots.last);
        if is_current && !self.snapshots.is_damaged {
            self.counters.snapshots_damaged += 1;
            self.snapshots.is_damaged = true;
            self.snapshots.retry_later(now, true);
        }
        self.on_snapshot_sent(now, id, None);
    }

    pub(super) fn on_snapshot_sent(
        &mut self,
        now: Instant,
        id: SnapshotId,
        response: Option<InstallSnapshotResponse>,
    ) {
        let purged = self.log.purged().index;
        let last = self.log.last().index;
        let retry_ms = self.config.election_timeout_ms_min;
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
                self.counters.snapshots_sent += 1;
                self.snapshots.failures = 0;
                let has_all = matches!(progress.state(), ProgressState::Snapshot { pending, .. } if *pending <= installed);
                progress.on_matched(installed, purged);
                if matches!(progress.state(), ProgressState::Snapshot { .. }) {
                    // It has less than the log still holds: the next one will do.
                    progress.probe();
                    if !has_all {
                        // It needed nothing of this one, and waits for its disk: the same again would not help it.
                        progress.snapshot_not_before = Some(now + millis(retry_ms));
                    }
                }
            }
            Some(_) | None => {
                self.counters.snapshots_unsent += 1;
                progress.snapshot_failed(now, retry_ms);
            }
        }
    }
}
