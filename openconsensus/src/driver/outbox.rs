//! What leaves for peers, and how each of them is reached.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::entry::LogId;
use crate::membership::{Membership, MembershipAt};
use crate::message::{Body, Message};
use crate::network::RaftNetwork;
use crate::type_config::TypeConfig;

/// Hands messages to the network. It remembers how nodes were reached that are not members any more: a node that is
/// removed is still told so.
pub(super) struct Outbox<C: TypeConfig, N> {
    network: Arc<N>,
    known: BTreeMap<C::NodeId, C::Node>,
    /// The membership that they were last taken from.
    membership: LogId,
    /// Messages that only tell a commit and have not left, one for a peer at most.
    commits: Vec<(C::NodeId, Message<C>)>,
    spared: u64,
    /// Empty: keeps its allocation.
    by_peer: Vec<(C::NodeId, Vec<Message<C>>)>,
}

impl<C, N> Outbox<C, N>
where
    C: TypeConfig,
    N: RaftNetwork<C>,
{
    pub(super) fn new(network: Arc<N>, at: &MembershipAt<C>) -> Self {
        let known = at.membership.nodes().clone();
        Self { network, known, membership: at.log_id, commits: Vec::new(), spared: 0, by_peer: Vec::new() }
    }

    /// Sends messages, those for one peer together and in order. A message that only tells a commit is kept until
    /// [`send_commits`](Self::send_commits): the next append may tell it too.
    pub(super) fn send(&mut self, membership: &Membership<C>, messages: Vec<(C::NodeId, Message<C>)>) {
        let mut by_peer = std::mem::take(&mut self.by_peer);
        for (peer, message) in messages {
            match by_peer.iter_mut().find(|(other, _)| *other == peer) {
                Some((_, messages)) => messages.push(message),
                None => by_peer.push((peer, vec![message])),
            }
        }
        for (peer, mut messages) in by_peer.drain(..) {
            let kept = self.commits.iter().position(|(other, _)| *other == peer);
            if let [Message { body: Body::Commit { .. }, .. }] = messages[..] {
                self.spared += u64::from(kept.is_some());
                kept.map(|place| self.commits.remove(place));
                self.commits.extend(messages.pop().map(|commit| (peer, commit)));
                continue;
            }
            if let Some(place) = kept {
                let (_, commit) = self.commits.remove(place);
                if messages.iter().any(|message| matches!(message.body, Body::Append { .. })) {
                    self.spared += 1;
                } else {
                    messages.insert(0, commit);
                }
            }
            self.network.send(peer, self.address(membership, peer), messages);
        }
        self.by_peer = by_peer;
    }

    /// Whether there are commits that no append has told so far.
    pub(super) fn holds_commits(&self) -> bool {
        !self.commits.is_empty()
    }

    /// Sends what [`send`](Self::send) has kept.
    pub(super) fn send_commits(&mut self, membership: &Membership<C>) {
        for (peer, commit) in std::mem::take(&mut self.commits) {
            self.network.send(peer, self.address(membership, peer), vec![commit]);
        }
    }

    /// How many messages did not have to leave because later ones have told the same.
    pub(super) fn spared(&self) -> u64 {
        self.spared
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::NetworkError;
    use crate::driver::sync::lock;
    use crate::entries::Entries;
    use crate::message::{InstallSnapshot, InstallSnapshotResponse};
    use crate::runtime::{MaybeSend, SnapshotStream};
    use crate::testing::U64;

    /// What was sent to whom, call by call: `c` for a commit, `a` for an append, `t` for anything else.
    #[derive(Default)]
    struct Sent(Mutex<Vec<(u64, String)>>);

    impl RaftNetwork<U64> for Sent {
        fn send(&self, peer: u64, _node: Option<&()>, messages: Vec<Message<U64>>) {
            let kind = |message: &Message<U64>| match message.body {
                Body::Commit { .. } => 'c',
                Body::Append { .. } => 'a',
                _ => 't',
            };
            lock(&self.0).push((peer, messages.iter().map(kind).collect()));
        }

        fn send_snapshot(
            &self,
            _peer: u64,
            _node: &(),
            _request: InstallSnapshot<U64>,
            _data: SnapshotStream,
        ) -> impl Future<Output = Result<InstallSnapshotResponse, NetworkError>> + MaybeSend + 'static
        {
            std::future::pending()
        }
    }

    #[test]
    fn a_commit_leaves_by_itself_only_where_no_append_follows() {
        let network = Arc::new(Sent::default());
        let mut outbox = Outbox::<U64, _>::new(network.clone(), &MembershipAt::default());
        let membership = Membership::default();
        let message = |body| Message { term: 1, body };
        let commit = |index| message(Body::Commit { commit: LogId::new(1, index) });
        let append = || message(Body::Append { prev: LogId::ZERO, entries: Entries::empty(), commit: 9 });
        let sent = || std::mem::take(&mut *lock(&network.0));
        outbox.send(&membership, vec![(2, commit(1)), (3, commit(1)), (4, commit(1))]);
        assert!(outbox.holds_commits() && sent().is_empty());
        // A later one takes its place; an append tells it; other messages come behind it.
        outbox.send(&membership, vec![(2, commit(2)), (3, append()), (4, message(Body::TimeoutNow))]);
        assert_eq!(sent(), [(3, "a".to_owned()), (4, "ct".to_owned())]);
        assert_eq!(outbox.spared(), 2);
        outbox.send_commits(&membership);
        assert_eq!(sent(), [(2, "c".to_owned())]);
        assert!(!outbox.holds_commits());
        outbox.send(&membership, vec![(2, append()), (3, append()), (2, commit(3))]);
        assert_eq!(sent(), [(2, "ac".to_owned()), (3, "a".to_owned())]);
    }
}
