//! One call: which node is asked, what its answer means, and whether to ask again.

use std::error::Error;
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::{Client, ClientError, millis};
use crate::proto::failure::Kind;
use crate::proto::kv_client::KvClient;
use crate::proto::{Answer, Failure};

/// A retry is not begun when it would have less time than this (or a quarter of all, if that is less): a write that
/// certainly has not happened must not become one of unknown outcome for want of a few milliseconds.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// Whom to ask.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    /// The leader, wherever it is.
    Leader,
    /// Any node.
    Any,
    /// The node at this address, until the deadline.
    Only(&'a str),
    /// The node at this address, one time.
    Once(&'a str),
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Safety {
    /// It changes something: never sent twice.
    Write,
    /// It changes nothing.
    Read,
    /// It changes nothing, and one attempt may take all of the time.
    LongRead,
}

/// How a call is to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'a> {
    pub(super) target: Target<'a>,
    pub(super) safety: Safety,
    pub(super) timeout: Duration,
}

/// How one attempt ended.
#[derive(Debug)]
enum Attempt<R> {
    Done(R),
    /// Nothing has happened, and it makes sense to try again, at `leader` if one is named.
    Again {
        reason: String,
        leader: Option<String>,
    },
    Ended(ClientError),
}

/// What a failure says of a write that was sent together with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// None of them has happened, and the others may be the reason.
    NothingHappened,
    /// Any of them may have happened.
    Unknown(String),
}

/// What a node says of commands that it has not carried out, or may not have.
pub(super) fn failed_write(failure: Failure) -> Failed {
    match judge_failure::<()>(Safety::Write, failure) {
        Attempt::Ended(ClientError::Unknown { reason } | ClientError::Failed(reason)) => {
            Failed::Unknown(reason)
        }
        Attempt::Ended(ClientError::Refused(_) | ClientError::Busy(_) | ClientError::Unavailable { .. })
        | Attempt::Again { .. }
        | Attempt::Done(()) => Failed::NothingHappened,
    }
}

impl Client {
    /// The node that a call would ask first. `None` when there is no endpoint.
    pub(super) fn address_for(&self, target: Target<'_>) -> Option<String> {
        match target {
            Target::Leader | Target::Any => self.connections.preferred(),
            Target::Only(address) | Target::Once(address) => Some(address.to_owned()),
        }
    }

    /// Makes attempts until one ends the call or the time is over.
    pub(super) async fn call<R, F, Fut>(&self, plan: Plan<'_>, send: F) -> Result<R, ClientError>
    where
        R: Answer,
        F: Fn(KvClient<Channel>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<R>, Status>>,
    {
        let started = Instant::now();
        let deadline = started + plan.timeout;
        let mut back_off = self.options.back_off_min;
        // A node that names the leader is believed at once, but two that name each other are not.
        let mut may_hop = true;
        loop {
            let Some(address) = self.address_for(plan.target) else {
                return Err(ClientError::Refused("no endpoint is given: name at least one host:port".into()));
            };
            let (reason, leader) = match self.attempt(&address, plan.safety, deadline, &send).await {
                Attempt::Done(answer) => {
                    if matches!(plan.target, Target::Leader) {
                        self.connections.remember_leader(&address);
                    }
                    return Ok(answer);
                }
                Attempt::Ended(error) => {
                    if matches!(error, ClientError::Unknown { .. }) {
                        self.connections.avoid(&address);
                    }
                    return Err(error);
                }
                Attempt::Again { reason, leader } => (reason, leader),
            };
            let pause = match (&plan.target, leader) {
                (Target::Leader | Target::Any, Some(leader)) if leader != address => {
                    self.connections.remember_leader(&leader);
                    !std::mem::replace(&mut may_hop, false)
                }
                (Target::Leader | Target::Any, _) => {
                    self.connections.avoid(&address);
                    true
                }
                (Target::Only(_) | Target::Once(_), _) => true,
            };
            let wait = back_off.mul_f64(0.5 + fastrand::f64() / 2.0);
            let once = matches!(plan.target, Target::Once(_));
            let least = RETRY_MIN.min(plan.timeout / 4);
            if once || (pause && deadline <= Instant::now() + wait + least) {
                let waited_ms = millis(started.elapsed());
                return Err(ClientError::Unavailable { waited_ms, last: format!("{address}: {reason}") });
            }
            if pause {
                tokio::time::sleep(wait).await;
                back_off = (back_off * 2).min(self.options.back_off_max);
                may_hop = true;
            }
        }
    }

    async fn attempt<R, F, Fut>(
        &self,
        address: &str,
        safety: Safety,
        deadline: Instant,
        send: &F,
    ) -> Attempt<R>
    where
        R: Answer,
        F: Fn(KvClient<Channel>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<R>, Status>>,
    {
        let node = match self.connections.node(address) {
            Ok(node) => node,
            Err(reason) => return Attempt::Again { reason, leader: None },
        };
        let until = match safety {
            Safety::Write | Safety::LongRead => deadline,
            Safety::Read => deadline.min(Instant::now() + self.options.read_attempt_timeout),
        };
        match tokio::time::timeout_at(until, send(node)).await {
            Err(_) => open(safety, format!("no answer from {address} in time")),
            Ok(Err(status)) => judge_status(address, safety, &status),
            Ok(Ok(answer)) => {
                let mut answer = answer.into_inner();
                match answer.take_failure() {
                    None => Attempt::Done(answer),
                    Some(failure) => judge_failure(safety, failure),
                }
            }
        }
    }
}

/// Nobody knows what became of the request.
fn open<R>(safety: Safety, reason: String) -> Attempt<R> {
    match safety {
        Safety::Write => Attempt::Ended(ClientError::Unknown { reason }),
        Safety::Read | Safety::LongRead => Attempt::Again { reason, leader: None },
    }
}

/// The transport failed, or the server refused before it looked at the request.
fn judge_status<R>(address: &str, safety: Safety, status: &Status) -> Attempt<R> {
    let reason = describe(status);
    if is_not_sent(status) || status.code() == Code::Unimplemented {
        return Attempt::Again { reason, leader: None };
    }
    // The server reads a request whole before it acts on it, and answers so when it is over the limit.
    if status.code() == Code::OutOfRange {
        return Attempt::Ended(ClientError::Refused(format!("the request is too large: {reason}")));
    }
    open(safety, format!("{address}: {reason}"))
}

/// A node has answered that the request was not carried out.
fn judge_failure<R>(safety: Safety, failure: Failure) -> Attempt<R> {
    let kind = failure.kind();
    let Failure { text, leader_address, .. } = failure;
    match kind {
        Kind::NotLeader | Kind::NotReady => Attempt::Again { reason: text, leader: leader_address },
        Kind::Dropped | Kind::Stopped => Attempt::Again { reason: text, leader: None },
        Kind::TooLarge | Kind::Refused => Attempt::Ended(ClientError::Refused(text)),
        Kind::Failed => Attempt::Ended(ClientError::Failed(text)),
        Kind::Busy => Attempt::Ended(ClientError::Busy(text)),
        Kind::Unknown | Kind::Unspecified => open(safety, text),
    }
}

/// Whether the connection could not even be made, so that the request cannot have reached a node.
fn is_not_sent(status: &Status) -> bool {
    chain(status).any(|error| error.is::<tonic::ConnectError>())
}

/// A status in words, with the causes that its own text leaves out.
pub(super) fn describe(status: &Status) -> String {
    let mut text = if status.message().is_empty() {
        status.code().description().to_owned()
    } else {
        status.message().to_owned()
    };
    for cause in chain(status).map(ToString::to_string) {
        if !text.contains(&cause) && cause != "transport error" {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn chain(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut next = status.source();
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}
