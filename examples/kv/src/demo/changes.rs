//! Changes of the membership and of the leader, each asked for until the leader shows it.

use std::time::{Duration, Instant};

use super::cluster::{Cluster, Statuses, current_leader};
use super::kill::wait_caught_up;
use super::ui::Ui;
use crate::client::{Client, ClientError, NodeStatus};
use crate::outcome::{Failure, Result};

/// The cluster that is changed, and how.
#[derive(Debug)]
pub(super) struct Changes<'a> {
    /// The cluster.
    pub(super) cluster: &'a mut Cluster,
    /// Who asks.
    pub(super) client: &'a Client,
    /// Where it is told when it was necessary to ask again.
    pub(super) ui: &'a Ui,
    /// How long each may take.
    pub(super) timeout: Duration,
}

/// How often it was necessary to ask.
pub(super) type Attempts = u32;

impl Changes<'_> {
    /// Builds a snapshot on the leader, so that a node that is added needs it.
    pub(super) async fn snapshot(&mut self) -> Result<Attempts> {
        let leader = self.cluster.wait_healthy("a leader", self.timeout).await?;
        let address = self.cluster.address(leader.id)?.to_owned();
        let client = self.client.with_timeout(self.timeout);
        self.cluster.while_running(async { Ok(client.snapshot(&address).await?) }).await?;
        Ok(1)
    }

    /// Starts a node and adds it; returns when it has caught up.
    pub(super) async fn add(&mut self, id: u64) -> Result<Attempts> {
        self.cluster.add_node(id)?;
        let answers = |statuses: &Statuses| match statuses.get(&id) {
            Some(_) => Ok(()),
            None => Err("it does not answer".into()),
        };
        self.cluster.wait_until(&format!("node {id} to start"), self.timeout, answers).await?;
        let address = self.cluster.address(id)?.to_owned();
        let (client, timeout) = (self.client.clone(), self.timeout);
        let add = async || client.member_add(id, &address, Some(timeout)).await.map(drop);
        let attempts = self.reach("a learner", |leader| kind(leader, id) == Some("learner"), add).await?;
        wait_caught_up(self.cluster, id, self.timeout).await?;
        Ok(attempts)
    }

    /// Lets a learner vote.
    pub(super) async fn promote(&mut self, id: u64) -> Result<Attempts> {
        let client = self.client.clone();
        let promote = async || client.member_promote(&[id]).await.map(drop);
        self.reach("a voter", |leader| kind(leader, id) == Some("voter"), promote).await
    }

    /// Removes a voter, and stops it.
    pub(super) async fn remove(&mut self, id: u64) -> Result<Attempts> {
        let client = self.client.clone();
        let remove = async || client.member_remove(&[id]).await.map(drop);
        let attempts = self.reach("no member", |leader| kind(leader, id).is_none(), remove).await?;
        self.cluster.retire(id).await?;
        Ok(attempts)
    }

    /// Hands leadership to `id`; returns when all follow it.
    pub(super) async fn transfer(&mut self, id: u64) -> Result<Attempts> {
        let client = self.client.clone();
        let transfer = async || client.transfer(Some(id)).await.map(drop);
        let attempts = self.reach("the leader", |leader| leader.id == id, transfer).await?;
        self.cluster.wait_healthy("all to follow the new leader", self.timeout).await?;
        Ok(attempts)
    }

    /// Asks until the leader shows that it is done. After an answer that leaves it open, looks before it asks again.
    async fn reach(
        &mut self,
        what: &str,
        is_done: impl Fn(&NodeStatus) -> bool,
        request: impl AsyncFn() -> Result<(), ClientError>,
    ) -> Result<Attempts> {
        let deadline = Instant::now() + self.timeout;
        let what = format!("the leader to show that the node is {what}");
        let mut attempts = 0;
        loop {
            attempts += 1;
            let answer = self.cluster.while_running(async { Ok(request().await) }).await?;
            let is_certain = answer.is_ok();
            let look = |statuses: &Statuses| match current_leader(statuses) {
                None => Err("no node leads".to_owned()),
                Some(leader) if is_joint(leader) => Err("a change is under way".into()),
                Some(leader) if is_done(leader) => Ok(true),
                Some(_) if is_certain => Err("it does not".into()),
                Some(_) => Ok(false),
            };
            if self.cluster.wait_until(&what, self.timeout, look).await? {
                return Ok(attempts);
            }
            let Err(error) = answer else { continue };
            if matches!(error, ClientError::Refused(_)) || deadline <= Instant::now() {
                return Err(Failure::negative(error));
            }
            self.ui.tell(&format!("    asking again: {error}"));
        }
    }
}

fn is_joint(status: &NodeStatus) -> bool {
    status.membership.as_ref().is_some_and(|membership| membership.joint)
}

/// What node `id` is in the membership that `status` shows; `None`: not a member.
fn kind(status: &NodeStatus, id: u64) -> Option<&str> {
    let members = status.membership.iter().flat_map(|membership| &membership.members);
    members.into_iter().find(|member| member.id == id).map(|member| member.kind.as_str())
}
