//! Durable stores on [redb]: a log storage, and a state machine for any [`Application`].
//!
//! - [`open`] opens both for a node, in one folder. Most need nothing else.
//! - [`RedbLog`] is the log and the hard state. What it acknowledges has been synced.
//! - [`RedbStateMachine`] runs an [`Application`]: a few lines that say which tables there are and what a command does
//!   to them. It stores how far it has come in the same transaction, and makes and installs snapshots of all tables.
//! - [`kv`] is an application that is ready: the key-value store of `openconsensus-memstore`, on disk.
//!
//! Everything that the core's traits call I/O happens on threads of the stores, so the futures work on any executor
//! and never block the thread that polls them. Opening does block.
//!
//! Commands, node ids and nodes are stored with [serde](https://serde.rs) as [postcard](https://postcard.jamesmunns.com/wire-format):
//! every [`TypeConfig`](openconsensus::TypeConfig) whose types can be serialized is a [`StoredConfig`].
//!
//! # What is on the disk
//!
//! [`open`] gives a node this folder:
//!
//! ```text
//! log.redb                            a redb database: format "openconsensus log", version 1
//! state.redb                          a redb database: format "openconsensus state", version 1
//! snapshots/00000007-at-70000.snapshot    the current snapshot: the 7th of this file, of entry 70000
//! snapshots/4711-3.tmp                a snapshot that is being written or received; a leftover if nobody does
//! *.redb.new                          a database that is being made; a leftover if nobody does
//! ```
//!
//! A program of this version refuses any other version of a format, and anything that it cannot read as what it was.
//! Numbers in fixed places are little-endian. *Postcard* means the value as postcard writes it: fields of a struct one
//! after the other, numbers as varints, texts and lists behind their length as a varint, `Option` as 0, or 1 and the
//! value, and an enum as the number of its variant and the value.
//!
//! ## Records
//!
//! Both databases have the table `openconsensus.meta`: from text (redb's `&str`) to bytes (`&[u8]`).
//!
//! | key | in | value |
//! | --- | --- | --- |
//! | `format` | both | the name of the format as ASCII, then its version as 4 bytes |
//! | `identity` | both | *sealed*: cluster (text), node (text): see [`Identity`] |
//! | `hard_state` | log | *sealed*: term (number), voted for (option of a node id), commit (number) |
//! | `cursors` | log | *sealed*: latest commit hint (number), purged (term, index), last (term, index) |
//! | `applied_state` | state | *sealed*: last applied (term, index), then a membership with its entry |
//! | `snapshot` | state | *sealed*: number of the snapshot, name of its file, last entry (term, index), a membership with its entry, bytes of the file (number) |
//!
//! A *sealed* value is 4 bytes of CRC-32 (ISO-HDLC, as in zip) and then postcard. The checksum covers the bytes of the
//! key, then the postcard. A *membership with its entry* is term, index, then four lists: incoming voters, outgoing
//! voters, retiring nodes (of node ids), and all nodes (of pairs of node id and node).
//!
//! ## Entries
//!
//! The log has the table `openconsensus.entries`: from the index of an entry (redb's `u64`) to bytes:
//!
//! ```text
//!  0..4   CRC-32 of the index as 8 bytes, then of all that follows
//!  4..12  term
//! 12      kind: 0 blank, 1 command, 2 membership
//! 13..    nothing, the command as postcard, or the four lists of a membership as postcard
//! ```
//!
//! There is an entry for each index from `purged.index + 1` to `last.index`, and their terms do not fall. There may be
//! entries at or below `purged.index`, which count as absent: a purge records the new start first and removes entries
//! in pieces afterwards.
//!
//! ## State
//!
//! The state has one table for each that the application declares, under its name and with its types. Names that begin
//! with `openconsensus.` are ours.
//!
//! ## Snapshots
//!
//! A snapshot file is also what is sent to other nodes. It does not depend on redb's format.
//!
//! ```text
//! header   8 bytes   "OCSNAP\r\n"
//!          4 bytes   version of this format: 1
//!          4 bytes   N
//!          N bytes   postcard: cluster (text), last entry (term, index), a membership with its entry
//!          4 bytes   CRC-32 of all before it
//! chunk    4 bytes   L, from 1 to 1 MiB
//!          4 bytes   CRC-32 of the L bytes
//!          L bytes   content
//! …                  more chunks
//! end      4 bytes   0
//!          8 bytes   the number of bytes of content
//!          4 bytes   CRC-32 of all before it
//! ```
//!
//! The content of all chunks, one after the other:
//!
//! ```text
//! table    1 byte    1
//!          3 times   4 bytes of length and a text: name of the table, type of its keys, type of its values, as redb
//!                    names them
//! pair     1 byte    2
//!          2 times   4 bytes of length and bytes: a key and its value, as redb encodes their types
//! …                  more pairs in the order of their keys, more tables in the order of their names
//! end      1 byte    0
//! ```
//!
//! # After a crash
//!
//! *The log.* Each write is one transaction of redb, synced before it is acknowledged: it is there or it is not.
//!
//! *The state.* Transactions of `apply` are committed without a sync (redb's
//! [`Durability::None`](redb::Durability::None)): a crash takes back the state to that of an earlier entry, never to a
//! mixture, and the applied state with it. The log still has what was taken back, because it is purged only behind a
//! snapshot that was built or installed, and the transaction that makes a snapshot the current one is synced and makes
//! all before it durable. The state is also synced after [some entries or bytes](Options), when nothing comes to be
//! applied, and when it is dropped.
//!
//! *Snapshots.* A file is written under a temporary name, synced, renamed, and the folder synced; then a transaction
//! that names it in the record `snapshot` is synced; then old files are removed, down to
//! [`snapshots_kept`](Options::snapshots_kept). The record decides: a crash before the transaction leaves a file that
//! nothing names, one after it may leave the old file; [`open`] removes both. Installing a snapshot does the same, and
//! its one transaction also replaces all tables and the applied state: all of it has happened, or nothing. If it has,
//! and the log does not know of it yet, the core purges the log up to the snapshot when it starts.
//!
//! # Damage
//!
//! Everything above is checksummed, and what is damaged is an error that names the file: never wrong data, and never
//! an empty store. A log or a state that is damaged does not open. A *snapshot* that is damaged or gone is another
//! matter, because the state has all that it covers: the store opens and says so in its log, such a file is never sent,
//! and the core has another one built in its place.
//!
//! *Making a database.* It is made under a temporary name, and renamed when owner and format are in it and synced.

#![forbid(unsafe_code)]

mod application;
mod codec;
mod database;
mod error;
pub mod kv;
mod log;
mod open;
mod options;
mod reader;
mod snapshot;
mod state_machine;

pub use application::{Application, StateTable, Transaction};
pub use codec::StoredConfig;
pub use error::BoxError;
pub use log::{RedbLog, RedbLogReader};
pub use open::{open, open_with};
pub use openconsensus_store_common::{Identity, OpenError};
pub use options::Options;
pub use reader::{StateReader, StateView};
/// The database below, whose table types applications use.
pub use redb;
pub use state_machine::RedbStateMachine;
