//! The client: finds and follows the leader, and retries only what is safe to retry.
//!
//! A write is sent again only when it is certain that it has not happened and never will: the node answered so, or the
//! request did not leave this process. When a connection breaks after the request was sent, or no answer comes in time,
//! the write ends as [`ClientError::Unknown`]. Reads change nothing and are retried until the deadline.

mod call;
mod connections;

use std::sync::Arc;
use std::time::Duration;

pub use openconsensus_memstore::kv::{Command, Response};
use tonic::Streaming;

use crate::proto;
pub use crate::proto::{Counters, Member, Membership, NodeStatus, PeerStatus};
use call::{Plan, Safety, Target};
use connections::Connections;

/// Timeouts of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How long one call may take, all its retries included. Default 10 s.
    pub timeout: Duration,
    /// How long a connection may take to be made before another node is tried. Default 1 s.
    pub connect_timeout: Duration,
    /// How long a node may take to answer a read before another one is tried. Default 2 s.
    pub read_attempt_timeout: Duration,
    /// The shortest wait before a retry; it doubles with each. The wait is drawn at random between half of it and all
    /// of it. Default 10 ms.
    pub back_off_min: Duration,
    /// The longest wait before a retry. Default 200 ms.
    pub back_off_max: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(1),
            read_attempt_timeout: Duration::from_secs(2),
            back_off_min: Duration::from_millis(10),
            back_off_max: Duration::from_millis(200),
        }
    }
}

/// Why a call did not return what was asked for: a variant per different reaction of the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// A write may have happened, or may happen still. Read before writing again; only what may happen twice without
    /// harm may be retried blindly. Reads never end so.
    #[error("outcome unknown: {reason}")]
    Unknown {
        /// What was seen of it.
        reason: String,
    },
    /// Nothing has happened, and the same request will be refused again. The text says what would be right.
    #[error("refused: {0}")]
    Refused(String),
    /// It was tried and did not succeed; nothing is lost.
    #[error("failed: {0}")]
    Failed(String),
    /// No node could serve the request before the deadline. Nothing has happened: safe to retry.
    #[error("no node could serve the request within {waited_ms} ms; last: {last}")]
    Unavailable {
        /// How long it was tried.
        waited_ms: u64,
        /// What the last attempt ended with.
        last: String,
    },
}

/// What became of a change of the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// The entry of the membership that is now committed.
    pub index: u64,
    /// What remains to be done, if anything: a learner that is still catching up, say.
    pub note: Option<String>,
}

/// A snapshot that was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotTaken {
    /// The index of the entry that it ends with.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
}

/// The contents of one node in short. Nodes that have applied the same entry have the same checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// The index of the last entry applied.
    pub applied_index: u64,
    /// The term of that entry.
    pub applied_term: u64,
    /// Over all keys and values.
    pub checksum: u64,
    /// How many keys there are.
    pub keys: u64,
}

/// A client of one cluster. Clones share its connections and what it knows of the leader; calls run beside each other.
#[derive(Clone, Debug)]
pub struct Client {
    connections: Arc<Connections>,
    options: ClientOptions,
}

impl Client {
    /// A client that reaches the cluster through `endpoints`, each a `host:port`. One that works is enough: the leader
    /// is found through it, even if it is not among them. Connects when the first call is made.
    pub fn new(endpoints: Vec<String>, options: ClientOptions) -> Self {
        Self { connections: Arc::new(Connections::new(endpoints, options.connect_timeout)), options }
    }

    /// The same client, whose calls may take `timeout` each.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            connections: self.connections.clone(),
            options: ClientOptions { timeout, ..self.options.clone() },
        }
    }

    /// How long one call may take.
    pub fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// The endpoints that it was made with.
    pub fn endpoints(&self) -> &[String] {
        self.connections.endpoints()
    }

    /// Carries out one command. Returns when it is committed and applied.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; `Unknown` only when the command may have been carried out.
    pub async fn apply(&self, command: Command) -> Result<Response, ClientError> {
        let mut responses = self.apply_many(vec![command]).await?;
        responses.pop().ok_or_else(|| unknown("the answer carries no response"))
    }

    /// Carries out commands in order, each in an entry of its own, and returns a response for each.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply). After `Unknown` any number of them, from the first on, may have been carried out.
    pub async fn apply_many(&self, commands: Vec<Command>) -> Result<Vec<Response>, ClientError> {
        let count = commands.len();
        let request =
            proto::ApplyRequest { commands: commands.into_iter().map(proto::Command::from).collect() };
        let answer = self
            .call(self.plan(Target::Leader, Safety::Write), |mut node| {
                let request = request.clone();
                async move { node.apply(request).await }
            })
            .await?;
        if answer.responses.len() != count {
            return Err(unknown(format!("{} responses to {count} commands", answer.responses.len())));
        }
        let responses = answer.responses.into_iter().map(Response::try_from);
        responses.collect::<Result<_, _>>().map_err(unknown)
    }

    /// The value of `key`, linearizably: it contains every write that was acknowledged before the call.
    ///
    /// # Errors
    ///
    /// `Unavailable` when no node could confirm the read in time.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, ClientError> {
        self.get_at(Target::Any, key, proto::Consistency::Linearizable).await
    }

    /// As [`get`](Self::get), through the node at `endpoint` and no other.
    ///
    /// # Errors
    ///
    /// `Unavailable` when that node could not confirm the read in time.
    pub async fn get_from(&self, endpoint: &str, key: &str) -> Result<Option<Vec<u8>>, ClientError> {
        self.get_at(Target::Only(endpoint), key, proto::Consistency::Linearizable).await
    }

    /// What the node at `endpoint` has under `key`, without asking any other: it may be old.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the node does not answer in time.
    pub async fn get_local(&self, endpoint: &str, key: &str) -> Result<Option<Vec<u8>>, ClientError> {
        self.get_at(Target::Only(endpoint), key, proto::Consistency::Local).await
    }

    async fn get_at(
        &self,
        target: Target<'_>,
        key: &str,
        consistency: proto::Consistency,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        let request = proto::GetRequest { key: key.to_owned(), consistency: consistency.into() };
        let answer = self
            .call(self.plan(target, Safety::Read), |mut node| {
                let request = request.clone();
                async move { node.get(request).await }
            })
            .await?;
        Ok(answer.value)
    }

    /// The keys from `start` on, in order, that are below `end` if there is one, at most `limit` of them (0 for no
    /// limit), with their values, linearizably. Holds all of them in memory: see [`scan_pages`](Self::scan_pages).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn scan(
        &self,
        start: &str,
        end: Option<&str>,
        limit: u64,
    ) -> Result<Vec<(String, Vec<u8>)>, ClientError> {
        let mut pages = self.scan_pages(start, end, limit).await?;
        let mut items = Vec::new();
        while let Some(page) = pages.next().await? {
            items.extend(page);
        }
        Ok(items)
    }

    /// As [`scan`](Self::scan), page by page. The start is retried like every read; a connection that breaks later
    /// ends the scan, because another node could only show the state at another moment.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn scan_pages(
        &self,
        start: &str,
        end: Option<&str>,
        limit: u64,
    ) -> Result<ScanPages, ClientError> {
        let range = (start, end, limit);
        self.scan_at(Target::Any, range, proto::Consistency::Linearizable).await
    }

    /// As [`scan_pages`](Self::scan_pages), but what the node at `endpoint` has, without asking any other: it may be
    /// old.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the node does not answer in time.
    pub async fn scan_pages_local(
        &self,
        endpoint: &str,
        start: &str,
        end: Option<&str>,
        limit: u64,
    ) -> Result<ScanPages, ClientError> {
        let range = (start, end, limit);
        self.scan_at(Target::Only(endpoint), range, proto::Consistency::Local).await
    }

    async fn scan_at(
        &self,
        target: Target<'_>,
        (start, end, limit): (&str, Option<&str>, u64),
        consistency: proto::Consistency,
    ) -> Result<ScanPages, ClientError> {
        let request = proto::ScanRequest {
            start: start.to_owned(),
            end: end.map(str::to_owned),
            limit,
            consistency: consistency.into(),
        };
        self.call(self.plan(target, Safety::Read), |mut node| {
            let request = request.clone();
            async move {
                let mut pages = node.scan(request).await?.into_inner();
                let first = pages.message().await?.unwrap_or_default();
                Ok(tonic::Response::new(ScanPages { first: Some(first), rest: pages }))
            }
        })
        .await
    }

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
        Ok(SnapshotTaken { index: answer.index, term: answer.term })
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

    /// Hands leadership to `target`, or to whom it is quickest. Returns the new leader.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; `Refused` when the target does not vote, `Failed` when it did not take over in time.
    pub async fn transfer(&self, target: Option<u64>) -> Result<u64, ClientError> {
        let answer = self
            .call(self.plan(Target::Leader, Safety::Write), |mut node| async move {
                node.transfer(proto::TransferRequest { target }).await
            })
            .await?;
        self.connections.forget_leader();
        Ok(answer.leader)
    }

    fn plan<'a>(&self, target: Target<'a>, safety: Safety) -> Plan<'a> {
        Plan { target, safety, timeout: self.options.timeout }
    }
}

/// The pages of a scan.
#[derive(Debug)]
pub struct ScanPages {
    first: Option<proto::ScanPage>,
    rest: Streaming<proto::ScanPage>,
}

impl ScanPages {
    /// The next page; `None` when there are no more keys.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the node does not send it: start again.
    pub async fn next(&mut self) -> Result<Option<Vec<(String, Vec<u8>)>>, ClientError> {
        let broken = |last: String| ClientError::Unavailable { waited_ms: 0, last };
        let page = match self.first.take() {
            Some(page) => Some(page),
            None => self.rest.message().await.map_err(|status| broken(call::describe(&status)))?,
        };
        let Some(mut page) = page else { return Ok(None) };
        if let Some(failure) = proto::Answer::take_failure(&mut page) {
            return Err(broken(failure.text));
        }
        Ok(Some(page.items.into_iter().map(|item| (item.key, item.value)).collect()))
    }
}

impl proto::Answer for ScanPages {
    fn take_failure(&mut self) -> Option<proto::Failure> {
        self.first.as_mut().and_then(proto::Answer::take_failure)
    }
}

fn unknown(reason: impl ToString) -> ClientError {
    ClientError::Unknown { reason: reason.to_string() }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
