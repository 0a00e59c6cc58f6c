//! The end of the core loop: what is still said, and everybody is answered.

use crate::engine::{Effects, Input};
use crate::error::WriteError;
use crate::network::RaftNetwork;
use crate::runtime::AsyncRuntime;
use crate::type_config::TypeConfig;

use super::super::pending::Pending;
use super::super::publish::Publisher;
use super::Core;

impl<C, R, N> Core<C, R, N>
where
    C: TypeConfig,
    R: AsyncRuntime,
    N: RaftNetwork<C>,
{
    /// A write to the log has failed: the engine names a successor and falls silent. Nothing else but its replies is
    /// passed on.
    pub(in crate::driver) fn storage_failed(&mut self) {
        let now = self.runtime.now();
        self.engine.step(now, Input::StorageFailed);
        let Effects { messages, replies, leadership, .. } = self.engine.take_effects(now);
        // All that a node without a disk may still say: who is to take over.
        self.outbox.send(now, self.engine.membership(), messages);
        self.shared.leadership.publish(leadership);
        for (request, reply) in replies {
            if let Some((batch, _)) = self.requests.answer(request, reply, now, now) {
                self.pending.appended(batch, now);
            }
        }
        self.publish(now, Publisher::look);
    }

    /// Answers everybody who still waits. Nothing may be asked of the core afterwards.
    ///
    /// `has_panicked` tells that the core was interrupted in the middle of a turn.
    pub(in crate::driver) fn finish(&mut self, has_panicked: bool) {
        self.queues.apply.close();
        self.queues.catch_up.close();
        self.cancels.clear();
        let reason = self.shared.reason();
        if has_panicked {
            self.requests.forget_writers();
        } else {
            self.publish(self.runtime.now(), Publisher::publish_last);
        }
        self.requests.fail(&reason);
        // Dropping those who wait for entries tells them that the outcome is unknown.
        self.pending = Pending::new();
        self.gathered.take_writes(usize::MAX).0.waiters.fail(&WriteError::Fatal(reason.clone()));
        std::mem::take(&mut self.taken).refuse(&reason);
        self.shared.inbox.drain().refuse(&reason);
        self.shared.leadership.close();
        self.shared.watch.stop(reason);
    }
}
