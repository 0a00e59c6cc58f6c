//! Administration: beginning a cluster, its membership, leadership, snapshots.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::channel::oneshot;

use crate::driver::{Item, Permit, Request};
use crate::engine::Input;
use crate::entry::{Index, LogId};
use crate::error::{
    ChangeMembershipError, Fatal, ForgetLeaderError, InitializeError, LeaderHint, PurgeError, SnapshotError,
    TransferError, WaitError,
};
use crate::membership::MembershipChange;
use crate::message::SnapshotMeta;
use crate::metrics::{PeerMetrics, RaftMetrics, RoleName};
use crate::runtime::MaybeSend;
use crate::type_config::TypeConfig;

use super::Raft;

impl<C: TypeConfig> Raft<C> {
    /// Begins a cluster with `nodes` as its voters, this node among them. To be called once, on one of them; calling
    /// it on several with the same `nodes` does no harm. The others are started with empty stores and wait.
    ///
    /// Returns when the first membership is durable here. [`wait`](Raft::wait) tells when a leader is found.
    ///
    /// # Errors
    ///
    /// [`InitializeError::AlreadyInitialized`] when the node belongs to a cluster: nothing is to be done then.
    pub async fn initialize(&self, nodes: BTreeMap<C::NodeId, C::Node>) -> Result<(), InitializeError<C>> {
        self.ask(|reply| Request::Initialize { nodes, reply }).await?
    }

    /// Changes the membership and returns the entry of the one that is in force then. On the leader only.
    ///
    /// Where more than one voter changes, the cluster goes through a joint membership by itself (Raft paper, section
    /// 6). With `expected`, the change is refused unless the membership in force came with that entry, so that two
    /// operators cannot undo each other's work.
    ///
    /// # Errors
    ///
    /// All but [`ChangeMembershipError::Unknown`] and [`Fatal`] mean that nothing was changed.
    pub async fn change_membership(
        &self,
        change: MembershipChange<C>,
        expected: Option<LogId>,
    ) -> Result<LogId, ChangeMembershipError<C>> {
        self.ask(|reply| Request::ChangeMembership { change, expected, reply }).await?
    }

    /// Adds a node that receives the log and does not vote, and returns the entry of the membership that names it. On
    /// the leader only. Adding a learner that is one already, reached in the same way, only waits.
    ///
    /// With `wait`, returns when the learner is known to have the log up to
    /// [`promotion_lag_entries_max`](crate::Config::promotion_lag_entries_max) entries, so that it may be promoted.
    ///
    /// # Errors
    ///
    /// As for [`change_membership`](Self::change_membership). [`ChangeMembershipError::StillCatchingUp`] means that
    /// the learner was added, but has not caught up within `wait` or while this node led.
    pub async fn add_learner(
        &self,
        id: C::NodeId,
        node: C::Node,
        wait: Option<Duration>,
    ) -> Result<LogId, ChangeMembershipError<C>> {
        let change = MembershipChange::AddLearners(BTreeMap::from([(id, node.clone())]));
        let log_id = match self.change_membership(change, None).await {
            Ok(log_id) => log_id,
            Err(error @ ChangeMembershipError::AlreadyMember { .. }) => {
                let metrics = self.metrics().latest();
                let membership = &metrics.membership.membership;
                if membership.is_voter(id) || membership.node(id) != Some(&node) {
                    return Err(error);
                }
                metrics.membership.log_id
            }
            Err(error) => return Err(error),
        };
        if let Some(timeout) = wait {
            self.wait_for_learner(id, timeout).await.map_err(|error| match error {
                // It was added all the same.
                ChangeMembershipError::NotLeader { .. } => {
                    let last = self.metrics().latest().last.index;
                    ChangeMembershipError::StillCatchingUp { id, matched: 0, last }
                }
                error => error,
            })?;
        }
        Ok(log_id)
    }

    /// Waits until a learner is known to have the log up to
    /// [`promotion_lag_entries_max`](crate::Config::promotion_lag_entries_max) entries, so that it may be promoted. On the
    /// leader only. [`watch_learner`](Self::watch_learner) also tells how far it has come.
    ///
    /// # Errors
    ///
    /// [`ChangeMembershipError::StillCatchingUp`] when it has not within `timeout`, or this node leads no more: it goes on
    /// catching up, and waiting again is safe. [`ChangeMembershipError::NotLeader`] and
    /// [`ChangeMembershipError::UnknownNode`] when there is nothing to wait for.
    pub async fn wait_for_learner(
        &self,
        id: C::NodeId,
        timeout: Duration,
    ) -> Result<(), ChangeMembershipError<C>> {
        self.watch_learner(id, timeout, |_| {}).await
    }

    /// As [`wait_for_learner`](Self::wait_for_learner), and calls `progress` with what the leader knows of the learner, at
    /// first and whenever that changes: how far it has come, and whether it is being sent a snapshot.
    ///
    /// # Errors
    ///
    /// As for [`wait_for_learner`](Self::wait_for_learner).
    pub async fn watch_learner(
        &self,
        id: C::NodeId,
        timeout: Duration,
        progress: impl FnMut(&PeerMetrics) + MaybeSend,
    ) -> Result<(), ChangeMembershipError<C>> {
        let lag_max = self.shared().config.promotion_lag_entries_max;
        // Nothing known to match means that it has not answered yet, however short the log is.
        let has_caught_up = move |metrics: &RaftMetrics<C>| {
            metrics.peers.get(&id).is_some_and(|peer| 0 < peer.matched && peer.lag_entries <= lag_max)
        };
        let metrics = self.metrics().latest();
        if metrics.role != RoleName::Leader {
            let leader = metrics
                .leader
                .map(|id| LeaderHint { id, node: metrics.membership.membership.node(id).cloned() });
            return Err(ChangeMembershipError::NotLeader { leader });
        }
        let seen = RefCell::new((progress, None));
        let is_over = move |metrics: &RaftMetrics<C>| {
            let is_member = metrics.membership.membership.is_member(id);
            let Some(peer) = metrics.peers.get(&id).filter(|_| is_member) else { return true };
            let (progress, last) = &mut *seen.borrow_mut();
            if last.as_ref() != Some(&(peer.progress, peer.matched)) {
                *last = Some((peer.progress, peer.matched));
                progress(peer);
            }
            has_caught_up(metrics)
        };
        let waited = self.wait(timeout).until(&format!("learner {id} to catch up"), is_over).await;
        let metrics = match waited {
            Ok(metrics) if has_caught_up(&metrics) => return Ok(()),
            Ok(metrics) => metrics,
            Err(WaitError::TimedOut { .. }) => self.metrics().latest(),
            Err(WaitError::Fatal(fatal)) => return Err(fatal.into()),
        };
        let membership = &metrics.membership.membership;
        if !membership.is_member(id) {
            let members = membership.nodes().keys().copied().collect();
            return Err(ChangeMembershipError::UnknownNode { id, members });
        }
        let matched = metrics.peers.get(&id).map_or(0, |peer| peer.matched);
        Err(ChangeMembershipError::StillCatchingUp { id, matched, last: metrics.last.index })
    }

    /// Lets learners that have caught up vote. Short for [`MembershipChange::Promote`].
    ///
    /// # Errors
    ///
    /// As for [`change_membership`](Self::change_membership).
    pub async fn promote(
        &self,
        ids: impl IntoIterator<Item = C::NodeId>,
    ) -> Result<LogId, ChangeMembershipError<C>> {
        let ids: BTreeSet<_> = ids.into_iter().collect();
        self.change_membership(MembershipChange::Promote(ids), None).await
    }

    /// Hands leadership over to `target` and returns the new leader (Raft thesis, 3.10). Without a target the leader chooses
    /// the voter with most of the log among those that answer and need no snapshot.
    ///
    /// May be asked of any node: one that does not lead asks its leader, waits for one if it knows none, and asks again
    /// when messages are lost. Where `target` leads already there is nothing to do.
    ///
    /// The leader refuses a target that could not take over soon. Otherwise it takes no writes for a while, so that the
    /// target can be brought up to date: they wait, and go on here or are told who leads. Then it tells the target to take
    /// over, again with each heartbeat. It takes about a round trip to a target that has caught up, and at most
    /// [`transfer_timeout_ms`](crate::Config::transfer_timeout_ms); after that the old leader leads on. Meanwhile
    /// [`transfer_to`](RaftMetrics::transfer_to) names the target, and [`Counters`](crate::Counters) say afterwards how
    /// many succeeded.
    ///
    /// # Errors
    ///
    /// [`TransferError`] says whether the leader leads on and why. Only [`TransferError::Failed`],
    /// [`TransferError::NotAnswered`] and [`Fatal`] leave open whether leadership has changed. An answer comes after
    /// `2 * (transfer_timeout_ms + election_timeout_ms_max)` at the latest.
    pub async fn transfer_leadership(
        &self,
        target: Option<C::NodeId>,
    ) -> Result<C::NodeId, TransferError<C>> {
        self.ask(|reply| Request::TransferLeadership { target, reply }).await?
    }

    /// Builds a snapshot now (Raft paper, section 7) and returns what it covers when it is durable. Works on every node,
    /// also on learners; each builds its own. If one is being built already, its result is returned; and if nothing has
    /// been applied since the last one that this node has built or installed since its start, that one is returned.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] says why there is no new one. [`SnapshotError::Failed`] leaves the one before in place.
    pub async fn snapshot(&self) -> Result<SnapshotMeta<C>, SnapshotError> {
        self.ask(|reply| Request::BuildSnapshot { reply }).await?
    }

    /// Purges the log of this node up to and including the entry at `upto`, and returns the last entry that is purged
    /// when that is durable: a later one than was asked for if more was purged already. Meant for a disk that is full;
    /// otherwise the log is purged by itself behind each snapshot.
    ///
    /// It goes beyond what [`log_keep_entries`](crate::Config::log_keep_entries),
    /// [`log_keep_bytes`](crate::Config::log_keep_bytes) and
    /// [`log_hold_entries_max`](crate::Config::log_hold_entries_max) keep for peers: one that still needs these entries
    /// gets a snapshot instead. It never goes beyond the latest snapshot, nor beyond one that is being sent.
    ///
    /// # Errors
    ///
    /// [`PurgeError`] says why nothing was purged, and how far the log can be.
    pub async fn purge_log(&self, upto: Index) -> Result<LogId, PurgeError> {
        self.ask(|reply| Request::PurgeLog { upto, reply }).await?
    }

    /// Starts an election now, whoever leads. Does nothing on a leader and on a node that is not a voter. Meant for
    /// tests and for emergencies; [`transfer_leadership`](Self::transfer_leadership) is the gentle way.
    ///
    /// With leases it is refused while this node is bound by a promise to a leader: for
    /// [`election_timeout_ms_min`](crate::Config::election_timeout_ms_min) after that leader's last heartbeat has arrived,
    /// and as long after a restart. [`campaigns_refused`](crate::Counters::campaigns_refused) counts that. So a leader
    /// that is heard can only be asked to hand over.
    ///
    /// # Errors
    ///
    /// Only when the node has stopped.
    pub fn campaign(&self) -> Result<(), Fatal> {
        self.push(Item::input(Input::Campaign))
    }

    /// Lets this node start no elections on its own (`true`), or start them again (`false`). Not remembered over a
    /// restart; shown as [`elections_paused`](crate::RaftMetrics::elections_paused).
    ///
    /// Meanwhile it votes for others, follows and leads as before, and [`campaign`](Self::campaign) and a transfer of
    /// leadership to it still work. A campaign for votes that is under way may still be won; one that has only asked for
    /// pre-votes ends. Meant for maintenance of a node that should not become the leader. With all voters paused nobody
    /// takes over from a leader that fails: the cluster stands still until one is resumed.
    ///
    /// # Errors
    ///
    /// Only when the node has stopped.
    pub fn pause_elections(&self, paused: bool) -> Result<(), Fatal> {
        self.push(Item::input(Input::PauseElections { paused }))
    }

    /// Lets this node send no periodic heartbeats while it leads (`true`), or send them again (`false`). Not remembered
    /// over a restart; shown as [`heartbeats_paused`](crate::RaftMetrics::heartbeats_paused).
    ///
    /// Appends, commits and the rounds of heartbeats that reads need are still sent. A leader that has nothing to send
    /// is not heard any more: its followers elect another after their election timeouts, and with
    /// [`check_quorum`](crate::Config::check_quorum) it gives up its leadership by itself. Appends that are lost are not
    /// sent again until the next heartbeat. Meant for tests, and for a leader that is to be given up without a
    /// transfer.
    ///
    /// # Errors
    ///
    /// Only when the node has stopped.
    pub fn pause_heartbeats(&self, paused: bool) -> Result<(), Fatal> {
        self.push(Item::input(Input::PauseHeartbeats { paused }))
    }

    /// Lets this node forget who leads, so that it may vote for another at once: otherwise it refuses to, for
    /// [`election_timeout_ms_min`](crate::Config::election_timeout_ms_min) since it last heard of its leader (thesis
    /// 4.2.3). For operators who know better than timeouts that the leader is gone, followed by
    /// [`campaign`](Self::campaign) on one of the others. What etcd/raft calls ForgetLeader.
    ///
    /// Term, vote and log stay as they are, and so does the time of its own next election. A leader that lives is known
    /// again with its next message. On a node that knows of no leader nothing happens.
    ///
    /// # Errors
    ///
    /// [`ForgetLeaderError::Leading`] on the leader, and [`ForgetLeaderError::Leases`] where leases are configured.
    pub async fn forget_leader(&self) -> Result<(), ForgetLeaderError> {
        self.ask(|reply| Request::ForgetLeader { reply }).await?
    }

    /// Asks the core for something, when its turn has come, and waits for the answer.
    pub(super) async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request<C>,
    ) -> Result<T, Fatal> {
        let permit = self.shared().requests.acquire(1).await.ok_or_else(|| self.shared().reason())?;
        self.ask_within(Some(permit), request).await
    }

    /// Asks the core for something that is limited in another way, and waits for the answer.
    pub(super) async fn ask_at_once<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request<C>,
    ) -> Result<T, Fatal> {
        self.ask_within(None, request).await
    }

    async fn ask_within<T>(
        &self,
        permit: Option<Permit>,
        request: impl FnOnce(oneshot::Sender<T>) -> Request<C>,
    ) -> Result<T, Fatal> {
        let (reply, answer) = oneshot::channel();
        self.push(Item::Request { request: Box::new(request(reply)), permit })?;
        // Only a panic or an executor that is shut down drops the sender.
        answer.await.map_err(|_| self.shared().reason())
    }
}
