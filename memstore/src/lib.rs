//! In-memory log storage and key-value state machine, for tests, examples and benchmarks.
//!
//! [`MemLog`] is a [`RaftLogStorage`](openconsensus::RaftLogStorage) for any
//! [`TypeConfig`](openconsensus::TypeConfig). [`MemStateMachine`] keeps keys and values for
//! [`kv::Kv`]; [`KvReader`] reads them beside it. Both keep what a disk would keep behind a handle that outlives the
//! node, so that a test can stop a node and start it again from the same store.
//!
//! The words of a key-value store, and what they mean, stand in [`kv`], where durable state machines use them too.

#![forbid(unsafe_code)]

pub mod kv;
mod log;
mod reader;
mod snapshot;
mod state_machine;

pub use log::{MemLog, MemLogReader};
pub use reader::{KvReader, KvView};
pub use state_machine::{KvDisk, MemStateMachine};
