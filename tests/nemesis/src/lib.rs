//! A campaign against a cluster of real `kv` processes: real sockets, real disks, real signals.
//!
//! Clients write, read and compare-and-set while the campaign kills, pauses and restarts processes and cuts, slows and
//! resets the connections between them. Every operation is recorded with its outcome by this one process, so that no
//! clock but its own matters. In the end the history must be linearizable, all nodes must hold the same, and after each
//! healing there must have been service again within a deadline.
//!
//! - [`Campaign`] says how long, with which seed, and against what; [`Campaign::run`] returns a [`Summary`].
//! - [`Cluster`] runs the processes, and [`Link`] is one direction between two nodes: a proxy that each message passes.
//! - [`Fault`] is what can be done to them, [`Load`] is the clients.
//!
//! The processes are this program itself, started with `kv` as its first argument, so that nothing else need be built.

#![forbid(unsafe_code)]

mod campaign;
mod cluster;
mod fault;
mod link;
mod load;
mod seen;
mod summary;

pub use campaign::{Campaign, Failed, recheck};
pub use cluster::Cluster;
pub use fault::Fault;
pub use link::{Link, LinkState};
pub use load::{KvHistory, Load, Reads};
pub use seen::Seen;
pub use summary::Summary;

/// An error in words: what went wrong in the world around the campaign, or what the campaign has found.
pub type Error = String;
