//! What an engine does when its log storage has failed: it answers everybody, and says nothing any more.

use std::time::Instant;

use crate::type_config::TypeConfig;

use super::{Engine, Input, Reply};

impl<C: TypeConfig> Engine<C> {
    /// The disk is lost: give up leadership, answer everyone, say nothing any more.
    pub(super) fn on_storage_failed(&mut self, now: Instant) {
        self.become_follower(now, self.term, None);
        self.fail_reads();
        self.fail_transfer();
        self.fail_asked_transfers();
        self.failed = true;
        self.timers.stop_all();
        // Nothing may leave that depends on what may not be on the disk.
        self.effects.messages.clear();
        self.effects.apply = None;
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
