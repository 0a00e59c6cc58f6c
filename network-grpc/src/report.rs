//! Tells the node which peers cannot be reached, without keeping it alive.

use std::sync::{Mutex, PoisonError, Weak};

use openconsensus::TypeConfig;

use crate::receiver::Receiver;

/// The way from the network to the node.
///
/// The node owns its network. If the network owned the node too, neither would ever be dropped: so the network has
/// only a weak reference to what the service holds, and reports are lost when there is no service.
pub(crate) struct Reporter<C: TypeConfig> {
    receiver: Mutex<Option<Weak<dyn Receiver<C>>>>,
}

impl<C: TypeConfig> Reporter<C> {
    pub(crate) fn new() -> Self {
        Self { receiver: Mutex::new(None) }
    }

    pub(crate) fn attach(&self, receiver: Weak<dyn Receiver<C>>) {
        *self.receiver.lock().unwrap_or_else(PoisonError::into_inner) = Some(receiver);
    }

    pub(crate) fn report_unreachable(&self, peer: C::NodeId) {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(receiver) = receiver.and_then(|weak| weak.upgrade()) {
            receiver.report_unreachable(peer);
        }
    }
}
