//! `RedbLog`: the log and the hard state in one redb file.

mod file;
mod reader;

use std::future::Future;
use std::io;
use std::path::Path;

use openconsensus::{Entries, HardState, Index, LogId, LogState, MaybeSend, RaftLogStorage};
use redb::StorageBackend;

use crate::codec::StoredConfig;
use crate::database::Place;
use crate::error::{About, OpenError, catch_damage};
use crate::options::Options;
use openconsensus_store_common::Identity;
use openconsensus_store_common::worker::Worker;

pub use reader::RedbLogReader;

use file::LogFile;
use reader::LogReading;

/// A durable log storage in one redb file.
///
/// What is acknowledged has been synced: every call is one redb transaction with
/// [`Durability::Immediate`](redb::Durability::Immediate), which is there as a whole after a crash or not at all. All
/// I/O happens on a thread of the store, reads on a second one; futures of the store only wait for them.
///
/// Dropping it waits for the call that is under way and closes the file, also when readers are left: they return an
/// error from then on.
pub struct RedbLog<C: StoredConfig> {
    writer: Worker<LogFile<C>>,
    reading: Worker<LogReading>,
    state: LogState<C>,
}

impl<C: StoredConfig> RedbLog<C> {
    /// Opens the log in the file `path`, or makes an empty one when there is no such file, with the default
    /// [`Options`].
    ///
    /// Checks all of it: the owner, the format, every entry. Blocks meanwhile; after a crash redb repairs the file
    /// first, which reads it as a whole.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. A file that cannot be read as what it was is never taken for an empty one.
    pub fn open(path: impl AsRef<Path>, identity: &Identity) -> Result<Self, OpenError> {
        Self::open_with(path, identity, &Options::default())
    }

    /// As [`open`](Self::open), with limits of one's own.
    pub fn open_with(
        path: impl AsRef<Path>,
        identity: &Identity,
        options: &Options,
    ) -> Result<Self, OpenError> {
        Self::open_at(Place::File(path.as_ref().into()), identity, options)
    }

    /// Opens or makes the log on a storage of one's own: a simulated disk, say. `name` stands for it in errors.
    pub fn open_on(
        name: impl AsRef<Path>,
        backend: impl StorageBackend,
        identity: &Identity,
        options: &Options,
    ) -> Result<Self, OpenError> {
        Self::open_at(Place::backend(name.as_ref(), backend), identity, options)
    }

    fn open_at(place: Place, identity: &Identity, options: &Options) -> Result<Self, OpenError> {
        let path = place.path().to_path_buf();
        let about = About(&path);
        let file = catch_damage(&path, || LogFile::open(place, identity, options.log_cache_bytes))?;
        let state = file.state();
        let reading = LogReading::new(file.database());
        let name = path.display().to_string();
        let reading =
            Worker::spawn("redb log reader", name.as_str(), reading).map_err(|error| about.io(error))?;
        let writer = Worker::spawn("redb log", name.as_str(), file).map_err(|error| about.io(error))?;
        Ok(Self { writer, reading, state })
    }

    /// What was found when the log was opened.
    pub fn opened_state(&self) -> &LogState<C> {
        &self.state
    }
}

impl<C: StoredConfig> RaftLogStorage<C> for RedbLog<C> {
    type Reader = RedbLogReader<C>;

    fn reader(&self) -> RedbLogReader<C> {
        RedbLogReader::new(self.reading.handle().clone())
    }

    // Each method queues its call at once and returns the answer to it: nothing depends on the first poll.

    fn load(&mut self) -> impl Future<Output = io::Result<LogState<C>>> + MaybeSend {
        self.writer.handle().call(|file| Ok(file.state()))
    }

    fn save_hard_state(&mut self, state: HardState<C>) -> impl Future<Output = io::Result<()>> + MaybeSend {
        self.writer.handle().call(move |file| file.save_hard_state(state))
    }

    fn append(
        &mut self,
        entries: Entries<C>,
        commit: Index,
    ) -> impl Future<Output = io::Result<()>> + MaybeSend {
        self.writer.handle().call(move |file| file.append(&entries, commit))
    }

    fn truncate(&mut self, from: Index) -> impl Future<Output = io::Result<()>> + MaybeSend {
        self.writer.handle().call(move |file| file.truncate(from))
    }

    fn purge(&mut self, upto: LogId) -> impl Future<Output = io::Result<()>> + MaybeSend {
        self.writer.handle().call(move |file| file.purge(upto))
    }
}

impl<C: StoredConfig> std::fmt::Debug for RedbLog<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbLog").field("opened", &self.state).finish_non_exhaustive()
    }
}
