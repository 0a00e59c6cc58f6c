//! Conformance suites: one call that tells an implementer whether a part keeps its contract.
//!
//! | part | suite | what the implementer brings |
//! | --- | --- | --- |
//! | [`RaftLogStorage`](openconsensus::RaftLogStorage) and its reader | [`check_log_storage`] | [`LogStorageFactory`] |
//! | [`RaftStateMachine`](openconsensus::RaftStateMachine) | [`check_state_machine`] | [`StateMachineFactory`] |
//! | [`RaftNetwork`](openconsensus::RaftNetwork) and its receiving side | [`check_network`] | [`NetworkFactory`] |
//! | [`AsyncRuntime`](openconsensus::AsyncRuntime) | [`check_runtime`] | a function that returns one for each node |
//!
//! Each suite runs all of its checks, also when some fail, and returns a [`Report`]. Each check names itself and the
//! sentence of the contract that it holds the part against; a failure says what was seen and what would be right. What a
//! factory cannot do (cut the power, say) is skipped and listed as such, so that nobody takes it for passed.
//!
//! The suites of the stores need nothing but [`futures`]: they run on any executor, also inside
//! `futures::executor::block_on`. The suite of networks runs on the [`AsyncRuntime`](openconsensus::AsyncRuntime) that its
//! factory names. None of them waits for ever: a call that does not return fails its check.
//!
//! ```
//! use futures::executor::block_on;
//! use openconsensus_memstore::kv::{Command, Kv};
//! use openconsensus_memstore::MemLog;
//! use openconsensus_tests::conformance::{KvSamples, LogStorageFactory, Samples, check_log_storage};
//!
//! /// Makes logs for the suite. Here a disk is a handle to a log in memory; for a store in files it is a folder.
//! struct MemLogs;
//!
//! impl Samples<Kv> for MemLogs {
//!     fn command(&self, number: u64, bytes: usize) -> Command {
//!         KvSamples.command(number, bytes)
//!     }
//!     fn node_id(&self, number: u64) -> u64 {
//!         number
//!     }
//!     fn node(&self, number: u64) -> String {
//!         format!("node-{number}:7000")
//!     }
//! }
//!
//! impl LogStorageFactory<Kv> for MemLogs {
//!     type Disk = MemLog<Kv>;
//!     type Log = MemLog<Kv>;
//!
//!     fn disk(&self) -> MemLog<Kv> {
//!         MemLog::new()
//!     }
//!
//!     async fn open(&self, disk: &MemLog<Kv>) -> std::io::Result<MemLog<Kv>> {
//!         Ok(disk.clone())
//!     }
//! }
//!
//! let report = block_on(check_log_storage(&MemLogs));
//! report.assert_passed();
//! println!("{report}");
//! ```

mod log_storage;
mod network;
mod report;
mod runtime;
mod samples;
mod state_machine;
mod verdict;

pub use log_storage::{LogStorageFactory, check_log_storage};
pub use network::{NetworkFactory, NetworkLimits, Receiver, Started, check_network};
pub use report::{Outcome, Report, Verdict};
pub use runtime::{RuntimeLimits, check_runtime, check_runtime_within};
pub use samples::{KvSamples, Samples};
pub use state_machine::{StateMachineFactory, check_state_machine};
