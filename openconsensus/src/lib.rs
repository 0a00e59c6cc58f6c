//! Raft consensus: a replicated log that applies the same commands, in the same order, to a state machine on every
//! node of a cluster, and loses none that it has acknowledged.
//!
//! An application brings a [`RaftStateMachine`]; it may bring a [`RaftLogStorage`] and a [`RaftNetwork`] too, or take
//! those of the sister crates. [`Raft::start`] puts them together and returns the one handle, [`Raft`], to write, read
//! linearizably, change the membership and watch the cluster.
//!
//! The [`guide`] begins with [three nodes in ten minutes](guide::getting_started), and says how to bring parts of one's own,
//! how to choose limits, how to change a membership safely, what reads are worth, and what every error means.
//!
//! The algorithm itself is the [`engine`]: a pure, deterministic state machine without clock, tasks or I/O, public and
//! usable on its own.
//!
//! # The life of one write
//!
//! ```text
//! caller            core loop (owns engine, log storage)      peers              apply loop
//! Raft::write ──1──▶ take what is queued, step
//!                    take_effects
//!                      write to the log storage
//!                      append to the peers ──────2──────▶ step, write, sync
//!                    the own write is durable              answer ──┐
//!                    a quorum has it: committed ◀──────3────────────┘
//!                      hand it to the state machine ──────────────4────────────▶ apply
//! ◀────────────────────────────────────────5─────────────────────────────────── response
//! ```
//!
//! 1. [`Raft::write`] waits until its bytes are admitted ([`Config::uncommitted_bytes_max`]) and puts the command into
//!    the inbox. The core loop takes all that has gathered there at once: that is the batch.
//! 2. The engine appends the batch to the log and sends it to the peers while the own disk is writing it (Raft thesis,
//!    10.2.1). What arrives meanwhile is the next batch.
//! 3. A peer answers when the batch is durable there. When a quorum has it durably, it is committed.
//! 4. Committed batches go to the state machine, together with the index of their last entry.
//! 5. What applying the command returned goes straight to the caller.
//!
//! # What a write that fails tells
//!
//! [`WriteError`] has a variant for each different reaction. Most of them say that the command was never appended or
//! never will be committed, so that it can be sent again. [`WriteError::Unknown`] says that nobody can tell yet: sending it
//! again may apply it twice.
//!
//! # Features
//!
//! - `tokio`: `TokioRuntime`. Without it the crate depends on no runtime; implement [`AsyncRuntime`] for another.
//! - `metrics`: the module `export`, which records all that a node shows through the facade of the crate `metrics`.
//! - `serde`: `Serialize` and `Deserialize` for everything that is stored or sent.
//! - `postcard`: `PostcardCodec`, which turns entries into bytes for the disk and the wire where all types are serde.
//! - `single-threaded`: nothing needs to be `Send` or `Sync`; a node lives on one thread.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod config;
pub mod driver;
pub mod engine;
mod entries;
mod entry;
mod error;
#[cfg(feature = "metrics")]
pub mod export;
pub mod guide;
mod leadership;
mod membership;
mod message;
mod metrics;
mod network;
#[cfg(feature = "postcard")]
mod postcard_codec;
mod raft;
mod request_network;
mod runtime;
mod storage;
#[cfg(test)]
mod testing;
mod type_config;

pub use anyerror::AnyError;
pub use config::{Config, ValidConfig};
pub use entries::{CodecError, EncodedEntries, Entries, EntryCodec};
pub use entry::{Entry, HardState, Index, LogId, Payload, Term};
pub use error::{
    ChangeMembershipError, ConfigError, Fatal, ForgetLeaderError, InitializeError, LeaderHint, PurgeError,
    ReadError, SnapshotError, StartError, TransferError, WaitError, WriteError,
};
pub use leadership::LeadershipEvent;
pub use membership::{Membership, MembershipAt, MembershipChange};
pub use message::{
    AppendResult, Body, InstallSnapshot, InstallSnapshotResponse, Message, SnapshotMeta, TransferAnswer,
    TransferRefusal, VoteKind,
};
pub use metrics::{
    ApplyTimes, Counters, DiskTimes, Histogram, Histograms, MessageCounters, PeerMetrics, ProgressName,
    QueueMetrics, RaftMetrics, ReadTimes, RoleName, Standing, WriteTimes,
};
pub use network::{NetworkError, RaftNetwork};
#[cfg(feature = "postcard")]
pub use postcard_codec::PostcardCodec;
pub use raft::{LeadershipWatch, MetricsWatch, Raft, Wait, WeakRaft};
pub use request_network::{RequestNetwork, RequestNetworkLimits, RequestTransport};
#[cfg(feature = "tokio")]
pub use runtime::TokioRuntime;
pub use runtime::{
    AsyncRuntime, BoxFuture, BoxStream, MaybeSend, MaybeSync, SnapshotStream, snapshot_stream,
};
pub use storage::{
    AppliedState, ApplyBatch, LogState, RaftLogReader, RaftLogStorage, RaftStateMachine, Snapshot,
};
pub use type_config::TypeConfig;
