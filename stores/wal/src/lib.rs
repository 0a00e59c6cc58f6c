//! A segmented write-ahead log for Raft: entries, hard state, truncations and purges of a node in one log.

#![forbid(unsafe_code)]

pub mod disk;
mod format;
mod frame;
mod index;
pub mod inspect;
mod log;
mod open;
mod options;
mod queue;
mod reader;
mod records;
mod replay;
mod scan;
mod segment;
mod stock;
#[cfg(test)]
mod testing;
mod writer;

pub use format::SegmentHeader;
pub use log::WalLog;
pub use open::{OpenReport, TornTail};
pub use openconsensus_store_common::{Identity, OpenError};
pub use options::WalOptions;
pub use reader::WalReader;
