//! Raft consensus: a replicated log that applies the same commands, in the same order, to a state machine on every
//! node of a cluster, and loses none that it has acknowledged.

#![forbid(unsafe_code)]

mod config;
pub mod driver;
pub mod engine;
mod entries;
mod entry;
mod error;
mod membership;
mod message;
mod metrics;
mod network;
mod raft;
mod runtime;
mod storage;
#[cfg(test)]
mod testing;
mod type_config;

pub use anyerror::AnyError;
pub use config::{Config, ValidConfig};
pub use entries::Entries;
pub use entry::{Entry, HardState, Index, LogId, Payload, Term};
pub use error::{
    ChangeMembershipError, ConfigError, Fatal, InitializeError, LeaderHint, ReadError, SnapshotError,
    StartError, TransferError, WaitError, WriteError,
};
pub use membership::{Membership, MembershipAt, MembershipChange};
pub use message::{
    AppendResult, Body, InstallSnapshot, InstallSnapshotResponse, Message, SnapshotMeta, VoteKind,
};
pub use metrics::{Counters, PeerMetrics, ProgressName, RaftMetrics, RoleName};
pub use network::{NetworkError, RaftNetwork};
pub use raft::{MetricsWatch, Raft, Wait};
#[cfg(feature = "tokio")]
pub use runtime::TokioRuntime;
pub use runtime::{
    AsyncRuntime, BoxFuture, BoxStream, MaybeSend, MaybeSync, SnapshotStream, snapshot_stream,
};
pub use storage::{
    AppliedState, ApplyBatch, LogState, RaftLogReader, RaftLogStorage, RaftStateMachine, Snapshot,
};
pub use type_config::TypeConfig;
