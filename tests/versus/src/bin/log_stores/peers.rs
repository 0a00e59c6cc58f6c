//! Other stores, each used as a log of Raft uses it.

use std::path::Path;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use openconsensus_bench::Failure;
use raft::eraftpb::Entry;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};
use redb::TableDefinition;

use crate::Log;

/// The library of TiKV for logs of Raft.
pub(crate) struct OnRaftEngine {
    engine: Engine,
}

/// Tells it where the index of an entry is.
#[derive(Clone)]
struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// It holds logs of many groups.
const GROUP: u64 = 1;

impl OnRaftEngine {
    pub(crate) fn open(folder: &Path) -> Result<Self, Failure> {
        let config = Config {
            dir: folder.join("raft-engine").display().to_string(),
            // Random bytes cannot be compressed: to try only costs time.
            batch_compression_threshold: ReadableSize(0),
            // Files are used again when so much has been written, as ours are.
            purge_threshold: ReadableSize::mb(256),
            ..Config::default()
        };
        Ok(Self { engine: Engine::open(config)? })
    }
}

impl Log for OnRaftEngine {
    fn append(&mut self, first: u64, entries: &[Bytes]) -> Result<(), Failure> {
        let entry =
            |(index, data): (u64, &Bytes)| Entry { index, term: 1, data: data.clone(), ..Entry::default() };
        let entries: Vec<_> = (first..).zip(entries).map(entry).collect();
        let mut batch = LogBatch::with_capacity(1);
        batch.add_entries::<Entries>(GROUP, &entries)?;
        self.engine.write(&mut batch, true)?;
        Ok(())
    }

    fn purge(&mut self, upto: u64) -> Result<(), Failure> {
        self.engine.compact_to(GROUP, upto + 1);
        self.engine.purge_expired_files()?;
        Ok(())
    }
}

/// A store of sorted runs.
pub(crate) struct OnFjall {
    database: Database,
    entries: Keyspace,
    /// The first entry that was not purged.
    first: u64,
}

impl OnFjall {
    pub(crate) fn open(folder: &Path) -> Result<Self, Failure> {
        let database = Database::builder(folder.join("fjall")).open()?;
        let entries = database.keyspace("entries", KeyspaceCreateOptions::default)?;
        Ok(Self { database, entries, first: 1 })
    }
}

impl Log for OnFjall {
    fn append(&mut self, first: u64, entries: &[Bytes]) -> Result<(), Failure> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (index, entry) in (first..).zip(entries) {
            batch.insert(&self.entries, index.to_be_bytes(), &entry[..]);
        }
        Ok(batch.commit()?)
    }

    fn purge(&mut self, upto: u64) -> Result<(), Failure> {
        let mut batch = self.database.batch();
        for index in self.first..=upto {
            batch.remove(&self.entries, index.to_be_bytes());
        }
        self.first = upto + 1;
        Ok(batch.commit()?)
    }
}

/// A store of trees in one file.
pub(crate) struct OnRedb {
    database: redb::Database,
}

const ENTRIES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("entries");

impl OnRedb {
    pub(crate) fn open(folder: &Path) -> Result<Self, Failure> {
        Ok(Self { database: redb::Database::create(folder.join("log.redb"))? })
    }
}

impl Log for OnRedb {
    fn append(&mut self, first: u64, entries: &[Bytes]) -> Result<(), Failure> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(ENTRIES)?;
            for (index, entry) in (first..).zip(entries) {
                table.insert(index, &entry[..])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn purge(&mut self, upto: u64) -> Result<(), Failure> {
        let transaction = self.database.begin_write()?;
        transaction.open_table(ENTRIES)?.retain_in(..=upto, |_, _| false)?;
        Ok(transaction.commit()?)
    }
}
