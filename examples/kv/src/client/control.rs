//! The calls that steer one node. Each is tried once: to ask another node instead would steer another node.

use super::call::{Safety, Target};
use super::{Client, ClientError, millis};
use crate::proto;

impl Client {
    /// Lets the node at `endpoint` start an election now, and returns the term in which it leads then.
    ///
    /// # Errors
    ///
    /// See [`ClientError`]; `Refused` when it does not vote, `Failed` when another node was elected, or when it is bound
    /// by a promise to its leader.
    pub async fn campaign(&self, endpoint: &str) -> Result<u64, ClientError> {
        // So that its answer comes in time.
        let wait = self.timeout() / 2;
        let answer = self
            .call(self.plan(Target::Once(endpoint), Safety::Write), |mut node| async move {
                node.campaign(proto::CampaignRequest { wait_ms: millis(wait) }).await
            })
            .await?;
        self.connections.forget_leader();
        Ok(answer.term)
    }

    /// Lets the node at `endpoint` start no elections on its own (`true`), or start them again (`false`).
    ///
    /// # Errors
    ///
    /// `Unavailable` when it does not answer. Doing it again does no harm.
    pub async fn pause_elections(&self, endpoint: &str, pause: bool) -> Result<(), ClientError> {
        self.call(self.plan(Target::Once(endpoint), Safety::LongRead), |mut node| async move {
            node.pause_elections(proto::PauseRequest { pause }).await
        })
        .await
        .map(drop)
    }

    /// Lets the node at `endpoint` send no periodic heartbeats while it leads (`true`), or send them again (`false`).
    ///
    /// # Errors
    ///
    /// `Unavailable` when it does not answer. Doing it again does no harm.
    pub async fn pause_heartbeats(&self, endpoint: &str, pause: bool) -> Result<(), ClientError> {
        self.call(self.plan(Target::Once(endpoint), Safety::LongRead), |mut node| async move {
            node.pause_heartbeats(proto::PauseRequest { pause }).await
        })
        .await
        .map(drop)
    }

    /// Lets the node at `endpoint` forget who leads, so that it may vote for another at once.
    ///
    /// # Errors
    ///
    /// `Refused` when it leads itself, and where nodes read by lease. `Unavailable` when it does not answer; doing it
    /// again does no harm.
    pub async fn forget_leader(&self, endpoint: &str) -> Result<(), ClientError> {
        self.call(self.plan(Target::Once(endpoint), Safety::LongRead), |mut node| async move {
            node.forget_leader(proto::ForgetLeaderRequest {}).await
        })
        .await
        .map(drop)
    }
}
