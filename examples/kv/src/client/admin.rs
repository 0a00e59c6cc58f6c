//! The calls that look at nodes and manage the cluster.

use std::time::Duration;

use super::call::{Safety, Target};
use super::{Checksum, Client, ClientError, MemberChange, Membership, NodeStatus, SnapshotTaken, millis};
use crate::proto;

impl Client {
    /// What the node at `endpoint` knows of itself. Tried once, so that a node that is down is known quickly.
    ///
    /// # Errors
    ///
    /// `Unavailable` when it does not answer.
    pub async fn status(&self, endpoint: &str) -> Result<NodeStatus, ClientError> {
        let answer = self
            .call(self.plan(Target::Once(endpoint), Safety::Read), |mut node| async move {
                node.status(proto::StatusRequest {}).await
            })
            .await?;
        answer.status.ok_or_else(|| ClientError::Failed(format!("{endpoint} answered without a status")))
    }

    /// The checksum of what the node at `endpoint` has applied. Tried once.
    ///
    /// # Errors
    ///
    /// `Unavailable` when it does not answer.
    pub async fn checksum(&self, endpoint: &str) -> Result<Checksum, ClientError> {
        let answer = self
            .call(self.plan(Target::Once(endpoint), Safety::LongRead), |mut node| async move {
                node.checksum(proto::ChecksumRequest {}).await
            })
            .await?;
        Ok(Checksum {
            applied_index: answer.applied_index,
            applied_term: answer.applied_term,
            checksum: answer.checksum,
            keys: answer.keys,
        })
    }

    /// Builds a snapshot on the node at `endpoint`. Tried once. Doing so twice does no harm, so a node that does not
    /// answer is `Unavailable`, although it may go on building.
    ///
    /// # Errors
    ///
    /// `Unavailable`, or `Refused` when there is nothing to take a snapshot of.
    pub async fn snapshot(&self, endpoint: &str) -> Result<SnapshotTaken, ClientError> {
        let answer = self
            .call(self.plan(Target::Once(endpoint), Safety::LongRead), |mut node| async move {
                node.snapshot(proto::SnapshotRequest {}).await
            })
            .await?;
        Ok(SnapshotTaken { index: answer.index, term: answer.term, size_bytes: answer.size_bytes })
    }

    /// Purges the log of the node at `endpoint` up to and including the entry at `upto`, or as far as its snapshot goes,
    /// and returns index and term of the last entry that is purged. Tried once; doing it again does no harm.
    ///
    /// # Errors
    ///
    /// `Refused` when the snapshot does not go so far. `Unavailable` when the node does not answer, and when a snapshot
    /// is on its way from or to it.
    pub async fn purge(&self, endpoint: &str, upto: Option<u64>) -> Result<(u64, u64), ClientError> {
        let answer = self
            .call(self.plan(Target::Once(endpoint), Safety::LongRead), |mut node| async move {
                node.purge(proto::PurgeRequest { upto }).await
            })
            .await?;
        Ok((answer.index, answer.term))
    }

    /// The membership in force as the leader has it, or as the first node that answers has it when none leads.
    ///
    /// # Errors
    ///
    /// `Unavailable` when no node answers in time.
    pub async fn member_list(&self) -> Result<Membership, ClientError> {
        Ok(self.any_status().await?.membership.unwrap_or_default())
    }

    /// The status of the leader, or of the first node that answers when none is known or it does not answer.
    ///
    /// # Errors
    ///
    /// `Unavailable` when no node answers in time.
    pub async fn any_status(&self) -> Result<NodeStatus, ClientError> {
        let answer = self
            .call(self.plan(Target::Any, Safety::Read), |mut node| async move {
                node.status(proto::StatusRequest {}).await
            })
            .await?;
        let status = answer.status.unwrap_or_default();
        let leader = status.leader.filter(|leader| *leader != status.id);
        let members = status.membership.iter().flat_map(|membership| &membership.members);
        let Some(leader) = members.into_iter().find(|member| Some(member.id) == leader) else {
            return Ok(status);
        };
        match self.status(&leader.address).await {
            Ok(leader) => Ok(leader),
            Err(_) => Ok(status),
        }
    }

    /// Adds a node that receives the log but does not vote. With `wait`, returns when it has caught up or that time
    /// is over.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; `Refused` when it is a member already.
    pub async fn member_add(
        &self,
        id: u64,
        address: &str,
        wait: Option<Duration>,
    ) -> Result<MemberChange, ClientError> {
        let wait = wait.unwrap_or_default();
        let request = proto::AddMemberRequest { id, address: address.to_owned(), wait_ms: millis(wait) };
        let mut plan = self.plan(Target::Leader, Safety::Write);
        plan.timeout += wait;
        let answer = self
            .call(plan, |mut node| {
                let request = request.clone();
                async move { node.add_member(request).await }
            })
            .await?;
        Ok(MemberChange { index: answer.index, note: answer.note })
    }

    /// Lets learners vote.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; `Refused` when one of them is not a learner or not a member.
    pub async fn member_promote(&self, ids: &[u64]) -> Result<MemberChange, ClientError> {
        let answer = self
            .call(self.plan(Target::Leader, Safety::Write), |mut node| {
                let request = proto::PromoteMembersRequest { ids: ids.to_vec() };
                async move { node.promote_members(request).await }
            })
            .await?;
        Ok(MemberChange { index: answer.index, note: answer.note })
    }

    /// Removes voters or learners.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; `Refused` when one of them is not a member, or no voter would be left.
    pub async fn member_remove(&self, ids: &[u64]) -> Result<MemberChange, ClientError> {
        let answer = self
            .call(self.plan(Target::Leader, Safety::Write), |mut node| {
                let request = proto::RemoveMembersRequest { ids: ids.to_vec() };
                async move { node.remove_members(request).await }
            })
            .await?;
        Ok(MemberChange { index: answer.index, note: answer.note })
    }

    /// Makes voters learners: they go on receiving the log, and vote no more.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; `Refused` when one of them is not a voter, or no voter would be left.
    pub async fn member_demote(&self, ids: &[u64]) -> Result<MemberChange, ClientError> {
        let answer = self
            .call(self.plan(Target::Leader, Safety::Write), |mut node| {
                let request = proto::DemoteMembersRequest { ids: ids.to_vec() };
                async move { node.demote_members(request).await }
            })
            .await?;
        Ok(MemberChange { index: answer.index, note: answer.note })
    }

    /// Changes where member `id` is reached.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; `Refused` when it is not a member, or reached there already.
    pub async fn member_move(&self, id: u64, address: &str) -> Result<MemberChange, ClientError> {
        let answer = self
            .call(self.plan(Target::Leader, Safety::Write), |mut node| {
                let request = proto::MoveMemberRequest { id, address: address.to_owned() };
                async move { node.move_member(request).await }
            })
            .await?;
        Ok(MemberChange { index: answer.index, note: answer.note })
    }

    /// Hands leadership to `target`, or to whom it is quickest. Returns the new leader.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; `Refused` when the target does not vote, `Failed` when it did not take over in time.
    pub async fn transfer(&self, target: Option<u64>) -> Result<u64, ClientError> {
        self.transfer_at(Target::Any, target).await
    }

    /// As [`transfer`](Self::transfer), asked of the node at `endpoint` and of no other, whether it leads or not.
    ///
    /// # Errors
    ///
    /// As [`transfer`](Self::transfer).
    pub async fn transfer_from(&self, endpoint: &str, target: Option<u64>) -> Result<u64, ClientError> {
        self.transfer_at(Target::Only(endpoint), target).await
    }

    async fn transfer_at(&self, asked: Target<'_>, target: Option<u64>) -> Result<u64, ClientError> {
        let answer = self
            .call(self.plan(asked, Safety::Write), |mut node| async move {
                node.transfer(proto::TransferRequest { target }).await
            })
            .await?;
        self.connections.forget_leader();
        Ok(answer.leader)
    }
}
