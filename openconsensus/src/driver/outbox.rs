//! What leaves for peers, and how each of them is reached.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::entry::LogId;
use crate::membership::{Membership, MembershipAt};
use crate::message::Message;
use crate::network::RaftNetwork;
use crate::type_config::TypeConfig;

/// Hands messages to the network. It remembers how nodes were reached that are not members any more: a node that is
/// removed is still told so.
pub(super) struct Outbox<C: TypeConfig, N> {
    network: Arc<N>,
    known: BTreeMap<C::NodeId, C::Node>,
    /// The membership that they were last taken from.
    membership: LogId,
}

impl<C, N> Outbox<C, N>
where
    C: TypeConfig,
    N: RaftNetwork<C>,
{
    pub(super) fn new(network: Arc<N>, at: &MembershipAt<C>) -> Self {
        Self { network, known: at.membership.nodes().clone(), membership: at.log_id }
    }

    /// Sends messages, those for one peer together and in order.
    pub(super) fn send(&self, membership: &Membership<C>, messages: Vec<(C::NodeId, Message<C>)>) {
        let mut by_peer: Vec<(C::NodeId, Vec<Message<C>>)> = Vec::new();
        for (peer, message) in messages {
            match by_peer.iter_mut().find(|(other, _)| *other == peer) {
                Some((_, messages)) => messages.push(message),
                None => by_peer.push((peer, vec![message])),
            }
        }
        for (peer, messages) in by_peer {
            self.network.send(peer, self.address(membership, peer), messages);
        }
    }

    /// How to reach a peer, be it a member or not any more.
    pub(super) fn address<'a>(
        &'a self,
        membership: &'a Membership<C>,
        peer: C::NodeId,
    ) -> Option<&'a C::Node> {
        membership.node(peer).or_else(|| self.known.get(&peer))
    }

    /// Keeps what the membership says, for the time when it does not say it any more.
    pub(super) fn learn_addresses(&mut self, at: &MembershipAt<C>) {
        if self.membership != at.log_id {
            self.membership = at.log_id;
            self.known.extend(at.membership.nodes().iter().map(|(id, node)| (*id, node.clone())));
        }
    }
}
