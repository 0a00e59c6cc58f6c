//! Cluster harness for openconsensus: whole clusters in one process, over a network and stores that fail on demand.
//!
//! - [`MemNetwork`] carries messages and snapshots between nodes in memory; it can cut, delay, drop, repeat and
//!   reorder them.
//! - [`FaultyLog`] and [`FaultyStateMachine`] make stores fail, stall or crawl, through a [`StoreFaults`] handle.
//! - [`CrashRuntime`] runs a node on tokio and can kill it half-way through whatever it is doing.
//! - [`Cluster`] puts them together over `openconsensus-memstore`; [`Client`] and [`Load`] write to it, and [`Writes`]
//!   and [`Register`] check what came of it.
//! - [`engines`] holds pure engines in virtual time; [`scenario`] plays stories about them that are written as text.
//! - [`simulation`] runs many engines under one seed, with everything that can go wrong, and finds the few events that a
//!   violation needs.
//! - [`sim_runtime`] runs whole nodes on one thread in virtual time, so that every run can be repeated: for the driver, and
//!   for an application's own state machine and store.
//! - [`everywhere`] is one cluster test for every runtime.
//! - [`linearizability`] checks whether what clients saw is what one copy of the state could have answered.

#![forbid(unsafe_code)]

mod any_runtime;
mod client;
mod cluster;
pub mod conformance;
pub mod engines;
mod eventually;
pub mod everywhere;
mod faulty_log;
mod faulty_state_machine;
#[cfg(doctest)]
mod guide;
pub mod linearizability;
mod load;
mod network;
pub mod panics;
mod register;
mod runtime;
pub mod scenario;
pub mod sim_runtime;
pub mod simulation;
mod store_faults;
mod writes;

pub use any_runtime::{AnyRuntime, Notes};
pub use client::{Client, Outcome, put};
pub use cluster::{Cluster, ClusterOptions, StateKind};
pub use eventually::{eventually, eventually_within};
pub use faulty_log::{FaultyLog, FaultyLogReader};
pub use faulty_state_machine::FaultyStateMachine;
pub use load::Load;
pub use network::{LinkFaults, MemNetwork, MemNetworkNode, SnapshotFaults, Traffic};
pub use register::Register;
pub use runtime::CrashRuntime;
pub use store_faults::StoreFaults;
pub use writes::Writes;
