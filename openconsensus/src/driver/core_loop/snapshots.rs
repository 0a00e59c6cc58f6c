//! Hands work on snapshots to the apply loop, and remembers how to give it up.

use futures::channel::oneshot;

use crate::engine::{Input, SnapshotEffect, SnapshotId};
use crate::network::RaftNetwork;
use crate::runtime::AsyncRuntime;
use crate::type_config::TypeConfig;

use super::super::apply_loop::Work;
use super::super::item::Item;
use super::Core;

impl<C, R, N> Core<C, R, N>
where
    C: TypeConfig,
    R: AsyncRuntime,
    N: RaftNetwork<C>,
{
    pub(super) fn carry_out_snapshot(&mut self, effect: SnapshotEffect<C>) {
        let work = match effect {
            SnapshotEffect::Build { id } => Work::BuildSnapshot { id, cancel: self.cancel(id) },
            SnapshotEffect::Send { id, peer, term } => {
                let Some(node) = self.outbox.address(self.engine.membership(), peer).cloned() else {
                    // It was never a member.
                    let input = Input::SnapshotSent { id, response: None };
                    let _ = self.shared.inbox.push(Item::input(input));
                    return;
                };
                Work::SendSnapshot { id, peer, node, term, cancel: self.cancel(id) }
            }
            SnapshotEffect::Install { id, request, snapshot } => {
                let Some(data) = self.requests.take_stream(request) else {
                    panic!("the engine installs a snapshot for {request:?}, which did not come with one");
                };
                self.installing.insert(id, snapshot.meta.last.index);
                Work::InstallSnapshot { id, snapshot, data, cancel: self.cancel(id) }
            }
            SnapshotEffect::Discard { id } => {
                self.cancels.remove(&id);
                return;
            }
        };
        let _ = self.queues.apply.push(work);
    }

    fn cancel(&mut self, id: SnapshotId) -> oneshot::Receiver<()> {
        let (cancel, cancelled) = oneshot::channel();
        self.cancels.insert(id, cancel);
        cancelled
    }
}
