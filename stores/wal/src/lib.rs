//! A segmented write-ahead log for Raft: entries, hard state, truncations and purges of a node in one log.
//!
//! [`WalLog`] is a durable [`RaftLogStorage`](openconsensus::RaftLogStorage). Everything that waits is written at once and
//! synced once; segments are filled with zeros ahead of need and used again; entries are written in the bytes that
//! go over the wire. The futures work on any executor, and never block the thread that polls them. Opening does block.
//!
//! ```
//! use futures::executor::block_on;
//! use openconsensus::{Entry, LogId, Payload, PostcardCodec, RaftLogStorage};
//! use openconsensus_memstore::kv::Kv;
//! use openconsensus_wal::{Identity, WalLog, WalOptions};
//!
//! let folder = tempfile::tempdir()?;
//! let identity = Identity::new("example", 1);
//! let options = WalOptions { segment_bytes: 1 << 20, ..WalOptions::default() };
//! let mut log = WalLog::<Kv, PostcardCodec>::open(folder.path(), &identity, &options)?;
//! let first = Entry { log_id: LogId::new(1, 1), payload: Payload::Blank };
//! block_on(log.append(vec![first].into(), 0))?;
//! drop(log);
//! let log = WalLog::<Kv, PostcardCodec>::open(folder.path(), &identity, &options)?;
//! assert_eq!(log.opened_state().last, LogId::new(1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # In memory
//!
//! An index says where entries are: a place for each 64 KiB or so, the terms, and the indexes of memberships. Ten million
//! entries of 256 bytes take about one MiB. Recent entries are served by the core; older ones are read from the files, as
//! much as is needed.
//!
//! # On the disk
//!
#![doc = include_str!("../FORMAT.md")]
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
