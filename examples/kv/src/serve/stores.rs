//! The stores of a node in its data folder: which log it has, and that log and state belong together.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use openconsensus::{LogState, PostcardCodec};
use openconsensus_memstore::kv::Kv;
use openconsensus_redb::kv::KvApplication;
use openconsensus_redb::{Identity, Options, RedbLog, RedbStateMachine};
use openconsensus_wal::{WalLog, WalOptions};

use crate::outcome::{Failure, Result};

/// Where the log of a node is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogStore {
    /// In a write-ahead log made for it: the folder `log`
    Wal,
    /// In a database: the file `log.redb`
    Redb,
}

impl LogStore {
    fn name(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Redb => "redb",
        }
    }

    /// Where it is in the data folder.
    pub(crate) fn path(self, data_dir: &Path) -> PathBuf {
        match self {
            Self::Wal => data_dir.join("log"),
            Self::Redb => data_dir.join("log.redb"),
        }
    }

    /// The log that the data folder has.
    ///
    /// # Errors
    ///
    /// It has two, or cannot be read.
    pub(crate) fn of(data_dir: &Path) -> Result<Option<Self>> {
        let unreadable = |path: &Path, error: io::Error| {
            Failure::refused(format!("cannot read {}: {error}", path.display()))
        };
        let redb = Self::Redb.path(data_dir);
        let has_redb = redb.try_exists().map_err(|error| unreadable(&redb, error))?;
        let wal = Self::Wal.path(data_dir);
        let has_wal = has_segments(&wal).map_err(|error| unreadable(&wal, error))?;
        match (has_wal, has_redb) {
            (true, true) => Err(Failure::refused(format!(
                "there are two logs, {} and {}: a node has one; move away the one that is not of this node",
                wal.display(),
                redb.display()
            ))),
            (true, false) => Ok(Some(Self::Wal)),
            (false, true) => Ok(Some(Self::Redb)),
            (false, false) => Ok(None),
        }
    }
}

/// Whether a write-ahead log was ever made in the folder. The file that is locked says nothing.
fn has_segments(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        if entry?.file_name().to_string_lossy().ends_with(".segment") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The log of a node.
pub(super) enum Log {
    Wal(WalLog<Kv, PostcardCodec>),
    Redb(RedbLog<Kv>),
}

/// What a node has stored.
pub(super) struct Stores {
    pub(super) log: Log,
    pub(super) store: LogStore,
    pub(super) state_machine: RedbStateMachine<Kv, KvApplication>,
}

/// Opens what the node has in its data folder, or makes it when there is nothing. Never makes an empty log beside a state
/// that has come from another one.
///
/// # Errors
///
/// It belongs to another node, is damaged, in use, or in another store than `asked`.
pub(super) fn open(
    data_dir: &Path,
    identity: &Identity,
    asked: Option<LogStore>,
    options: &WalOptions,
) -> Result<Stores> {
    let found = LogStore::of(data_dir)?;
    let store = match (found, asked) {
        (Some(found), Some(asked)) if found != asked => {
            return Err(Failure::refused(format!(
                "the log of this node is in {}: start it without --log-store, or with --log-store {}; to change over, \
                 remove the node from its cluster and add it again under a new id with an empty folder",
                found.path(data_dir).display(),
                found.name()
            )));
        }
        (Some(found), Some(_) | None) => found,
        (None, asked) => asked.unwrap_or(LogStore::Wal),
    };
    match store {
        LogStore::Redb => {
            if found.is_some() && asked.is_none() {
                tracing::info!(
                    "the log is in log.redb, and stays there: new nodes have it in a write-ahead log"
                );
            }
            let (log, state_machine) =
                openconsensus_redb::open(data_dir, identity, KvApplication).map_err(Failure::refused)?;
            Ok(Stores { log: Log::Redb(log), store, state_machine })
        }
        LogStore::Wal => open_wal(data_dir, identity, found.is_some(), options),
    }
}

fn open_wal(data_dir: &Path, identity: &Identity, is_there: bool, options: &WalOptions) -> Result<Stores> {
    let path = LogStore::Wal.path(data_dir);
    let state = data_dir.join("state.redb");
    if is_there && !state.try_exists().unwrap_or(false) {
        return Err(Failure::refused(format!(
            "{} is damaged: the file is missing, though the log is there; restore it from a copy of the same moment, or \
             remove the node from the cluster and add it again with an empty folder",
            state.display()
        )));
    }
    // The state is made first: a crash between the two leaves a state without a log, in which nothing has happened.
    let state_machine = RedbStateMachine::open_with(
        &state,
        data_dir.join("snapshots"),
        identity,
        KvApplication,
        &Options::default(),
    )
    .map_err(Failure::refused)?;
    if !is_there {
        state_machine.check_log(&path, None).map_err(Failure::refused)?;
    }
    let log = WalLog::open(&path, identity, options).map_err(Failure::refused)?;
    let found: &LogState<Kv> = log.opened_state();
    state_machine.check_log(&path, Some(found)).map_err(Failure::refused)?;
    Ok(Stores { log: Log::Wal(log), store: LogStore::Wal, state_machine })
}
