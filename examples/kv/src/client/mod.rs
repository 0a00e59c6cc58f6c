//! The client: finds and follows the leader, and retries only what is safe to retry.
//!
//! A write is sent again only when it is certain that it has not happened and never will: the node answered so, or the
//! request did not leave this process. When a connection breaks after the request was sent, or no answer comes in time,
//! the write ends as [`ClientError::Unknown`]. Reads change nothing and are retried until the deadline.

mod admin;
mod call;
mod connections;
mod control;
mod data;
mod writer;

use std::sync::Arc;
use std::time::Duration;

pub use crate::proto::{Counters, Member, Membership, NodeStatus, PeerStatus};
use call::{Plan, Safety, Target};
use connections::Connections;
pub use data::ScanPages;
pub use openconsensus_memstore::kv::{Command, Response};
pub use writer::Writer;

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
    /// The longest wait before a retry. Default 100 ms.
    pub back_off_max: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(1),
            read_attempt_timeout: Duration::from_secs(2),
            back_off_min: Duration::from_millis(10),
            back_off_max: Duration::from_millis(100),
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
    /// Nothing has happened: the request would have had to wait for its turn, and asked not to. Slow down and try again.
    /// Only those are told so that have asked.
    #[error("{0}")]
    Busy(String),
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
    /// How many bytes it has, where that is known.
    pub size_bytes: Option<u64>,
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

    fn plan<'a>(&self, target: Target<'a>, safety: Safety) -> Plan<'a> {
        Plan { target, safety, timeout: self.options.timeout }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
