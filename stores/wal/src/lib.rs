//! A segmented write-ahead log for Raft: entries, hard state, truncations and purges of a node in one log.

#![forbid(unsafe_code)]

pub mod disk;
mod options;

pub use options::WalOptions;
