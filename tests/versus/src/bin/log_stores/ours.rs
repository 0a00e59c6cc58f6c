//! The log storages of openconsensus, called as the driver calls them.

use std::path::Path;

use bytes::Bytes;
use futures::executor::block_on;
use openconsensus::{Entries, Entry, LogId, Payload, PostcardCodec, RaftLogStorage, TypeConfig};
use openconsensus_bench::Failure;
use openconsensus_redb::{Identity, RedbLog};
use openconsensus_wal::{WalLog, WalOptions};

use crate::Log;

/// Commands are bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub(crate) struct Types;

impl TypeConfig for Types {
    type Command = Bytes;
    type Response = ();
    type NodeId = u64;
    type Node = ();

    fn command_bytes(command: &Bytes) -> u64 {
        command.len() as u64
    }
}

/// A log storage and whoever waits for it.
pub(crate) struct Ours<L> {
    log: L,
}

/// The write-ahead log, with its defaults.
pub(crate) fn wal(folder: &Path) -> Result<impl Log + use<>, Failure> {
    let log = WalLog::<Types, PostcardCodec>::open(folder, &identity(), &WalOptions::default())?;
    loaded(log)
}

/// The log on redb.
pub(crate) fn on_redb(folder: &Path) -> Result<impl Log + use<>, Failure> {
    loaded(RedbLog::<Types>::open(folder.join("log.redb"), &identity())?)
}

fn identity() -> Identity {
    Identity::new("bench", 1)
}

fn loaded<L: RaftLogStorage<Types>>(mut log: L) -> Result<Ours<L>, Failure> {
    block_on(log.load())?;
    Ok(Ours { log })
}

const TERM: u64 = 1;

impl<L: RaftLogStorage<Types>> Log for Ours<L> {
    fn append(&mut self, first: u64, entries: &[Bytes]) -> Result<(), Failure> {
        let entry = |(index, command): (u64, &Bytes)| Entry {
            log_id: LogId::new(TERM, index),
            payload: Payload::Command(command.clone()),
        };
        let entries: Vec<_> = (first..).zip(entries).map(entry).collect();
        Ok(block_on(self.log.append(Entries::from(entries), first - 1))?)
    }

    fn purge(&mut self, upto: u64) -> Result<(), Failure> {
        Ok(block_on(self.log.purge(LogId::new(TERM, upto)))?)
    }
}
