//! What leaves for peers, and how each of them is reached.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// Since when the first of them has not left.
    commits_since: Option<Instant>,
    /// So long they may wait for an append.
    commit_delay: Duration,
    spared: u64,
    /// Empty: keeps its allocation.
    by_peer: Vec<(C::NodeId, Vec<Message<C>>)>,
}

impl<C, N> Outbox<C, N>
where
    C: TypeConfig,
    N: RaftNetwork<C>,
{
    pub(super) fn new(network: Arc<N>, at: &MembershipAt<C>, commit_delay: Duration) -> Self {
        Self {
            network,
            known: at.membership.nodes().clone(),
            membership: at.log_id,
            commits: Vec::new(),
            commits_since: None,
            commit_delay,
            spared: 0,
            by_peer: Vec::new(),
        }
    }

    /// Sends messages, those for one peer together and in order. A message that only tells a commit is kept until a call at
    /// [`next_deadline`](Self::next_deadline) or later, be it without messages: the next append may tell it too.
    pub(super) fn send(
        &mut self,
        now: Instant,
        membership: &Membership<C>,
        messages: Vec<(C::NodeId, Message<C>)>,
    ) {
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
                self.commits_since.get_or_insert(now);
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
        if self.commits.is_empty() {
            self.commits_since = None;
        }
        self.send_due(now, membership);
    }

    /// When [`send`](Self::send) is to be called for the commits that are kept.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.commits_since.map(|since| since + self.commit_delay)
    }

    /// Sends the commits that have waited long enough for an append.
    fn send_due(&mut self, now: Instant, membership: &Membership<C>) {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.commits_since = None;
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

    const COMMIT: fn(u64) -> Message<U64> =
        |index| Message { term: 1, body: Body::Commit { commit: LogId::new(1, index) } };

    fn append() -> Message<U64> {
        Message { term: 1, body: Body::Append { prev: LogId::ZERO, entries: Entries::empty(), commit: 9 } }
    }

    #[test]
    fn a_commit_leaves_by_itself_only_where_no_append_follows_in_time() {
        let network = Arc::new(Sent::default());
        let delay = Duration::from_millis(2);
        let mut outbox = Outbox::<U64, _>::new(network.clone(), &MembershipAt::default(), delay);
        let membership = Membership::default();
        let sent = || std::mem::take(&mut *lock(&network.0));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        outbox.send(at(0), &membership, vec![(2, COMMIT(1)), (3, COMMIT(1)), (4, COMMIT(1))]);
        assert!(sent().is_empty());
        assert_eq!(outbox.next_deadline(), Some(at(2)));
        // A later one takes its place; an append tells it; other messages come behind it.
        let timeout_now = Message { term: 1, body: Body::TimeoutNow };
        outbox.send(at(1), &membership, vec![(2, COMMIT(2)), (3, append()), (4, timeout_now)]);
        assert_eq!(sent(), [(3, "a".to_owned()), (4, "ct".to_owned())]);
        assert_eq!(outbox.spared(), 2);
        outbox.send_due(at(1), &membership);
        assert!(sent().is_empty());
        // Whatever else is sent, and when a later one has taken its place.
        outbox.send(at(2), &membership, vec![(3, append())]);
        assert_eq!(sent(), [(3, "a".to_owned()), (2, "c".to_owned())]);
        assert_eq!(outbox.next_deadline(), None);
        outbox.send(at(3), &membership, vec![(2, append()), (3, append()), (2, COMMIT(3))]);
        assert_eq!(sent(), [(2, "ac".to_owned()), (3, "a".to_owned())]);
        outbox.send(at(3), &membership, vec![(2, COMMIT(4))]);
        outbox.send(at(4), &membership, vec![(2, append())]);
        assert_eq!(outbox.next_deadline(), None, "nothing waits any more");
    }

    #[test]
    fn without_a_delay_a_commit_leaves_at_once() {
        let network = Arc::new(Sent::default());
        let mut outbox = Outbox::<U64, _>::new(network.clone(), &MembershipAt::default(), Duration::ZERO);
        outbox.send(Instant::now(), &Membership::default(), vec![(2, COMMIT(1))]);
        assert_eq!(*lock(&network.0), [(2, "c".to_owned())]);
        assert_eq!(outbox.next_deadline(), None);
    }
}
