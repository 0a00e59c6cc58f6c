//! What an engine does when its log storage hangs or has failed: it leads no more, and has another node take over at once.

use std::time::Instant;

use crate::message::{Body, Message};
use crate::type_config::TypeConfig;

use super::progress::Progress;
use super::timer::Timer;
use super::transfer::Transfer;
use super::{Engine, Input, Reply, Role, millis};

impl<C: TypeConfig> Engine<C> {
    /// A leader in this state keeps its clients waiting, and its heartbeats keep others from taking over; who campaigns in
    /// it cannot win.
    pub(super) fn hangs_on_its_disk(&self, now: Instant) -> bool {
        self.hangs_at().is_some_and(|at| at <= now)
    }

    /// When the write that is under way will have taken too long.
    fn hangs_at(&self) -> Option<Instant> {
        Some(self.writes.oldest_since()? + millis(self.config.write_stall_timeout_ms))
    }

    /// Looks at the disk when it hangs at the earliest. Writes that are done move that to a later time. A disk that hangs
    /// has been looked at: the next thing to see is that it goes on.
    pub(super) fn watch_disk(&mut self, now: Instant) {
        if let Some(at) = self.hangs_at().filter(|at| now < *at) {
            self.timers.set_earlier(Timer::Disk, at);
        }
    }

    pub(super) fn on_disk_timeout(&mut self, now: Instant) {
        if !self.hangs_on_its_disk(now) {
            return self.watch_disk(now);
        }
        tracing::warn!(name: "raft.disk_stalled", node = %self.id, term = self.term, role = %self.role(), "the log storage hangs");
        if let Role::Leader(_) = self.role {
            self.hand_over(now);
            self.become_follower(now, self.term, None);
        }
    }

    /// To be called when writes have been completed: `has_hung` is what was the case before.
    pub(super) fn look_at_recovery(&mut self, now: Instant, has_hung: bool) {
        if has_hung && !self.hangs_on_its_disk(now) {
            tracing::info!(name: "raft.disk_recovered", node = %self.id, term = self.term, "the log storage goes on");
        }
        self.watch_disk(now);
    }

    /// Asks the voter that is furthest to campaign at once, so that nobody has to wait for an election timeout. Whoever
    /// lacks what is committed here could not win, and who is silent would not hear it.
    fn hand_over(&mut self, now: Instant) {
        if let Some(successor) = self.successor(now) {
            self.send(successor, Body::TimeoutNow);
        }
    }

    fn successor(&self, now: Instant) -> Option<C::NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        if leader.transfer.as_ref().is_some_and(Transfer::is_sent) {
            return None;
        }
        let is_recent = |contact| now < contact + millis(self.config.election_timeout_ms_max);
        let is_fit = |id: &C::NodeId, progress: &Progress| {
            self.log.membership().voters().contains(id)
                && self.log.committed() <= progress.matched()
                && progress.contact.is_some_and(is_recent)
        };
        let fit = leader.peers.iter().filter(|(id, progress)| is_fit(id, progress));
        fit.max_by_key(|(_, progress)| progress.matched()).map(|(id, _)| *id)
    }

    /// The disk is lost: hand leadership over, answer everyone, say nothing any more.
    pub(super) fn on_storage_failed(&mut self, now: Instant) {
        let successor = self.successor(now);
        let term = self.term;
        self.become_follower(now, self.term, None);
        self.fail_reads();
        self.fail_transfer();
        self.fail_asked_transfers();
        self.failed = true;
        self.timers.stop_all();
        // Nothing may leave that depends on what may not be on the disk.
        self.effects.messages.clear();
        self.effects.apply = None;
        // That it leads no more depends on nothing.
        if let Some(successor) = successor {
            self.effects.messages.push((successor, Message { term, body: Body::TimeoutNow }));
        }
    }

    /// Answers requests after the storage has failed.
    pub(super) fn refuse(&mut self, input: Input<C>) {
        let leader = None;
        let (request, reply) = match input {
            Input::Write { request, .. } => (request, Reply::NotLeader { leader }),
            Input::Read { request } | Input::ReadByLease { request } => {
                (request, Reply::ReadFailed { leader })
            }
            Input::Initialize { request, .. } => {
                (request, Reply::InitializeFailed(crate::InitializeError::Fatal(crate::Fatal::Stopped)))
            }
            Input::ChangeMembership { request, .. } => {
                (request, Reply::ChangeMembershipFailed(crate::ChangeMembershipError::NotLeader { leader }))
            }
            Input::TransferLeadership { request, .. } => {
                (request, Reply::TransferFailed(crate::TransferError::NotLeader { leader }))
            }
            Input::ForgetLeader { request } => {
                (request, Reply::ForgetLeaderFailed(crate::ForgetLeaderError::Fatal(crate::Fatal::Stopped)))
            }
            Input::BuildSnapshot { request } => {
                (request, Reply::SnapshotFailed(crate::SnapshotError::Fatal(crate::Fatal::Stopped)))
            }
            Input::PurgeLog { request, .. } => {
                (request, Reply::PurgeFailed(crate::PurgeError::Fatal(crate::Fatal::Stopped)))
            }
            Input::InstallSnapshot { request, .. } => (request, self.install_refused()),
            Input::Timeout
            | Input::Receive { .. }
            | Input::Campaign
            | Input::ClockJumped
            | Input::PauseElections { .. }
            | Input::PauseHeartbeats { .. }
            | Input::Unreachable { .. }
            | Input::Persisted { .. }
            | Input::StorageFailed
            | Input::LogRead { .. }
            | Input::Applied { .. }
            | Input::SnapshotBuilt { .. }
            | Input::SnapshotBuildFailed { .. }
            | Input::SnapshotUnreadable { .. }
            | Input::SnapshotSent { .. }
            | Input::SnapshotInstalled { .. } => return,
        };
        self.reply(request, reply);
    }
}
