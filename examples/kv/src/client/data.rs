//! The calls that write and read pairs.

use tonic::Streaming;

use super::call::{self, Safety, Target};
use super::{Client, ClientError, Command, Response};
use crate::proto;

impl Client {
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
        self.apply_as(commands, false).await
    }

    /// As [`apply`](Self::apply), but a leader that has admitted as many bytes as it may does not let the command wait for
    /// its turn. The outcome is waited for all the same.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply), and `Busy` where it would have had to wait.
    pub async fn apply_at_once(&self, command: Command) -> Result<Response, ClientError> {
        let mut responses = self.apply_as(vec![command], true).await?;
        responses.pop().ok_or_else(|| unknown("the answer carries no response"))
    }

    async fn apply_as(&self, commands: Vec<Command>, no_wait: bool) -> Result<Vec<Response>, ClientError> {
        let count = commands.len();
        let commands = commands.into_iter().map(proto::Command::from).collect();
        let request = proto::ApplyRequest { commands, no_wait };
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

    /// As [`get`](Self::get), but a leader with a lease confirms it without asking the others. It rests on clocks: see
    /// [`read_by_lease`](openconsensus::Raft::read_by_lease).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn get_by_lease(&self, key: &str) -> Result<Option<Vec<u8>>, ClientError> {
        self.get_at(Target::Any, key, proto::Consistency::Lease).await
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

    /// As [`scan_pages`](Self::scan_pages), through the node at `endpoint` and no other.
    ///
    /// # Errors
    ///
    /// `Unavailable` when that node could not confirm the read in time.
    pub async fn scan_pages_from(
        &self,
        endpoint: &str,
        start: &str,
        end: Option<&str>,
        limit: u64,
    ) -> Result<ScanPages, ClientError> {
        let range = (start, end, limit);
        self.scan_at(Target::Only(endpoint), range, proto::Consistency::Linearizable).await
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
