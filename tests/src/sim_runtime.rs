//! Whole nodes in virtual time: the real [`Raft`](openconsensus::Raft) with its real loops, on one thread, in an order
//! that a seed chooses.
//!
//! - [`Sim`] is a simulation, [`SimRuntime`] the [`AsyncRuntime`](openconsensus::AsyncRuntime) of one process in it,
//!   with a clock of its own ([`NodeClock`]); it can be killed and paused.
//! - [`SimCluster`] runs an application's own state machine and log storage ([`SimApplication`]) on it, over a network and
//!   disks that fail on demand or at random ([`Disturbances`]), and watches for what must not happen.
//! - [`KvApplication`] is the key-value store of `openconsensus-memstore` as such an application,
//!   [`KvWorkload`] the clients that use it and record what they were told, [`KvCampaign`] all of it
//!   together.
//! - [`for_seeds`] runs a simulation for many seeds, and says of one that fails how it is repeated.

mod application;
mod campaign;
mod client;
mod clock;
mod cluster;
mod disturb;
mod executor;
mod kv;
mod machine;
mod oracle;
mod runtime;
mod seeds;
mod trace;
mod workload;

pub use application::SimApplication;
pub use campaign::{CampaignReport, KvCampaign};
pub use clock::NodeClock;
pub use cluster::{SimCluster, SimOptions};
pub use disturb::Disturbances;
pub use kv::KvApplication;
pub use oracle::Coverage;
pub use runtime::{Sim, SimRuntime};
pub use seeds::{SeedFailure, SeedRun, for_seeds, run_seed};
pub use trace::TraceText;
pub use workload::{KvWorkload, WorkloadOptions};
