//! The transactions of the state machine, on the thread that owns the file.

use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openconsensus::{AppliedState, ApplyBatch, Entry, LogId, MembershipAt, SnapshotMeta};
use redb::{Database, Durability, ReadableDatabase, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::application::{Application, StateTable, Transaction};
use crate::codec::StoredConfig;
use crate::database::{self, Kind, Opening, Place};
use crate::error::{About, AboutRedb, OpenError, invalid_data, io_error, io_error_from_box};
use crate::options::Options;
use crate::snapshot::content;
use crate::snapshot::folder::{Folder, Unfinished};
use crate::snapshot::format::{ContentReader, FrameReader, Header};
use openconsensus_store_common::Identity;
use openconsensus_store_common::files;
use openconsensus_store_common::worker::Work;

use super::tables::{check_tables, declared_tables};
use super::transfer::{Built, Received, SnapshotFrames, View};

pub(crate) const APPLIED: &str = "applied_state";
const SNAPSHOT: &str = "snapshot";

/// The record that makes a file the current snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(serialize = "C: StoredConfig", deserialize = "C: StoredConfig"))]
struct Current<C: StoredConfig> {
    /// Counts the snapshots of this file, so that no two have one name.
    number: u64,
    name: String,
    last: LogId,
    membership: MembershipAt<C>,
    size_bytes: u64,
}

impl<C: StoredConfig> Current<C> {
    fn meta(&self) -> SnapshotMeta<C> {
        SnapshotMeta {
            last: self.last,
            membership: self.membership.clone(),
            size_bytes: Some(self.size_bytes),
        }
    }
}

/// The state of an application. Owned by one thread.
///
/// Invariant: `applied` is that of `open`, or of the last transaction where there is none; `current` is that of the last
/// transaction, and what it covers is synced. `unseen` is true while `open` holds what was applied, and for ever when that
/// was lost.
pub(super) struct State<C: StoredConfig, A> {
    database: Arc<Database>,
    /// Batches go on in one transaction until somebody wants to see the state: pages that they change again and again are
    /// copied once, and most of what a commit costs is paid once for all of them.
    open: Option<WriteTransaction>,
    unseen: Arc<AtomicBool>,
    application: A,
    /// In the order of their names.
    tables: Arc<[StateTable]>,
    applied: AppliedState<C>,
    current: Option<Current<C>>,
    folder: Folder,
    cluster: String,
    options: Options,
    /// What has been applied since the last sync.
    unsynced_entries: u64,
    unsynced_bytes: u64,
}

impl<C: StoredConfig, A: Application<C>> State<C, A> {
    pub(super) fn open(
        place: Place,
        snapshots: &Path,
        identity: &Identity,
        application: A,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let path = place.path().to_path_buf();
        let about = About(&path);
        let tables = declared_tables::<C, A>(&application);
        let folder = Folder::open(snapshots)?;
        check_not_lost(&place, &folder)?;
        let kind = Kind { name: "openconsensus state", version: 1 };
        let Options { state_cache_bytes: cache_bytes, check_state_at_open: is_checked, .. } = *options;
        let opening = Opening { kind, identity, cache_bytes, is_checked };
        let database = opening.open(place, |transaction| {
            database::put(transaction, APPLIED, &AppliedState::<C>::default())?;
            tables.iter().try_for_each(|table| table.create(transaction).map_err(io_error))
        })?;
        check_tables(&database, &tables, about)?;
        let transaction = database.begin_read().map_err(|error| about.redb(error))?;
        let applied = database::required(&transaction, APPLIED).map_err(|error| about.io(error))?;
        let current = database::get(&transaction, SNAPSHOT).map_err(|error| about.io(error))?;
        drop(transaction);
        let state = Self {
            database: Arc::new(database),
            open: None,
            unseen: Arc::default(),
            application,
            tables,
            applied,
            current,
            folder,
            cluster: identity.cluster.clone(),
            options: options.clone(),
            unsynced_entries: 0,
            unsynced_bytes: 0,
        };
        state.check_snapshot(about)?;
        let current = state.current.as_ref().map(|current| current.number);
        state.folder.clean(current, options.snapshots_kept).map_err(|error| About(snapshots).io(error))?;
        Ok(state)
    }

    /// A snapshot that is damaged or gone is not needed, as the state has all that it covers: the node replaces it.
    fn check_snapshot(&self, about: About<'_>) -> Result<(), OpenError> {
        let Some(current) = &self.current else { return Ok(()) };
        let (last, applied) = (current.last, self.applied.last_applied);
        if applied.index < last.index {
            return Err(about.damaged(format!("its snapshot goes up to {last}, the state only to {applied}")));
        }
        let path = self.folder.path(&current.name);
        match self.open_current(current) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound) => {
                tracing::error!(%error, file = %path.display(), "the current snapshot is damaged; another one takes its place");
                Ok(())
            }
            Err(error) => Err(About(&path).io(error)),
        }
    }

    pub(super) fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// Whether something was applied that no transaction shows yet. Whoever learns from an answer that an entry is applied,
    /// and finds this false afterwards, sees it.
    pub(super) fn unseen(&self) -> &Arc<AtomicBool> {
        &self.unseen
    }

    pub(super) fn applied_state(&self) -> AppliedState<C> {
        self.applied.clone()
    }

    pub(super) fn snapshot_meta(&self) -> Option<SnapshotMeta<C>> {
        self.current.as_ref().map(Current::meta)
    }

    pub(super) fn apply(&mut self, batch: &ApplyBatch<C>) -> io::Result<Vec<C::Response>> {
        let Some(first) = batch.entries().first() else { return Ok(Vec::new()) };
        let before = self.applied.last_applied;
        if first.index != before.index + 1 {
            return Err(misuse(format!("entry {first} cannot be applied behind entry {before}")));
        }
        // When anything below fails, all that is not committed is given up; it will be applied again from the log.
        let transaction = match self.open.take() {
            Some(transaction) => transaction,
            None => self.begin_volatile()?,
        };
        let commands = batch.commands().count();
        let responses = if commands == 0 {
            Vec::new()
        } else {
            let transaction = Transaction::new(&transaction, &self.tables);
            self.application.apply(&transaction, batch).map_err(io_error_from_box)?
        };
        if responses.len() != commands {
            let count = responses.len();
            return Err(misuse(format!("the application gave {count} responses to {commands} commands")));
        }
        self.applied = batch.applied_state().clone();
        self.open = Some(transaction);
        self.unseen.store(true, Ordering::Release);
        self.unsynced_entries += batch.entries().len() as u64;
        self.unsynced_bytes += batch.entries().iter().map(Entry::size_bytes).sum::<u64>();
        Ok(responses)
    }

    fn begin_volatile(&self) -> io::Result<WriteTransaction> {
        let mut transaction = self.database.begin_write().map_err(io_error)?;
        transaction.set_durability(Durability::None).map_err(io_error)?;
        Ok(transaction)
    }

    /// Lets readers see everything that was applied. An error loses it, so it must be one of the store.
    pub(super) fn show(&mut self) -> io::Result<()> {
        match self.open.take() {
            Some(transaction) => self.commit_applied(transaction),
            None => Ok(()),
        }
    }

    fn commit_applied(&self, transaction: WriteTransaction) -> io::Result<()> {
        database::put(&transaction, APPLIED, &self.applied)?;
        transaction.commit().map_err(io_error)?;
        self.unseen.store(false, Ordering::Release);
        Ok(())
    }

    /// Makes everything that was applied durable.
    fn sync(&mut self) -> io::Result<()> {
        let Some(mut transaction) = self.open.take() else {
            let transaction = self.begin_durable()?;
            return self.commit_durably(transaction);
        };
        transaction.set_durability(Durability::Immediate).map_err(io_error)?;
        transaction.set_quick_repair(true);
        self.commit_applied(transaction)?;
        self.unsynced_entries = 0;
        self.unsynced_bytes = 0;
        Ok(())
    }

    /// Begins a transaction whose commit makes all before it durable, too. Not the open one: what is begun here may be
    /// given up without harm, and what was applied may not.
    fn begin_durable(&mut self) -> io::Result<WriteTransaction> {
        self.show()?;
        let mut transaction = self.database.begin_write().map_err(io_error)?;
        // Commits of this kind are rare, so they can afford what makes opening after a crash quick.
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    fn commit_durably(&mut self, transaction: WriteTransaction) -> io::Result<()> {
        transaction.commit().map_err(io_error)?;
        self.unsynced_entries = 0;
        self.unsynced_bytes = 0;
        Ok(())
    }

    /// A consistent view of the state now, from which a snapshot can be written. Everything that was applied must be shown.
    pub(super) fn view(&self) -> io::Result<View<C>> {
        assert!(self.open.is_none(), "a snapshot of {} would lack what is open", self.applied.last_applied);
        let header = Header {
            cluster: self.cluster.clone(),
            last: self.applied.last_applied,
            membership: self.applied.membership.clone(),
        };
        Ok(View {
            transaction: self.database.begin_read().map_err(io_error)?,
            tables: self.tables.clone(),
            unfinished: self.folder.unfinished()?,
            header,
        })
    }

    /// Makes a snapshot that was built the current one, unless there is a later one. The inner error leaves all as it was;
    /// the outer one is one of this store.
    pub(super) fn publish(&mut self, built: Built<C>) -> io::Result<io::Result<SnapshotMeta<C>>> {
        let Built { unfinished, header, size_bytes } = built;
        let meta = SnapshotMeta {
            last: header.last,
            membership: header.membership.clone(),
            size_bytes: Some(size_bytes),
        };
        if self.current.as_ref().is_some_and(|current| header.last.index < current.last.index) {
            return Ok(Ok(meta));
        }
        let transaction = self.begin_durable()?;
        Ok(self.replace_current(transaction, unfinished, header, size_bytes)?.map(|()| meta))
    }

    /// Gives the file its name, then commits the transaction that counts from then on, then removes the file before.
    /// A crash in between leaves a file that nobody names, which `open` removes. The inner error is one of giving it its
    /// name: nothing is changed then.
    fn replace_current(
        &mut self,
        transaction: WriteTransaction,
        unfinished: Unfinished,
        header: Header<C>,
        size_bytes: u64,
    ) -> io::Result<io::Result<()>> {
        let number = self.current.as_ref().map_or(1, |current| current.number + 1);
        let Header { last, membership, .. } = header;
        let name = Folder::name(number, last.index);
        let current = Current { number, name, last, membership, size_bytes };
        database::put(&transaction, SNAPSHOT, &current)?;
        if let Err(error) = unfinished.finish(&self.folder, &current.name) {
            return Ok(Err(error));
        }
        self.commit_durably(transaction)?;
        self.current = Some(current);
        if let Err(error) = self.folder.remove_old(Some(number), self.options.snapshots_kept) {
            // It does no harm; the next one tries again, and so does the next start.
            tracing::warn!(%error, "old snapshots could not be removed");
        }
        Ok(Ok(()))
    }

    /// Opens the current snapshot.
    pub(super) fn open_snapshot(&self) -> io::Result<Option<(SnapshotMeta<C>, SnapshotFrames)>> {
        let Some(current) = &self.current else { return Ok(None) };
        let frames = self.open_current(current).map_err(|error| {
            let path = self.folder.path(&current.name);
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        Ok(Some((current.meta(), frames)))
    }

    fn open_current(&self, current: &Current<C>) -> io::Result<SnapshotFrames> {
        let path = self.folder.path(&current.name);
        let file = File::open(&path)?;
        let len = file.metadata()?.len();
        if len != current.size_bytes {
            return Err(invalid_data(format!("it has {len} bytes instead of {}", current.size_bytes)));
        }
        let (header, raw, frames) = FrameReader::begin::<C>(BufReader::new(file))?;
        if (header.last, &header.membership) != (current.last, &current.membership) {
            return Err(invalid_data(format!(
                "it is of entry {}, not of entry {} as the database says",
                header.last, current.last
            )));
        }
        Ok(SnapshotFrames { path, header: Some(raw), frames })
    }

    pub(super) fn begin_receiving(&self) -> io::Result<Received> {
        Ok(Received { unfinished: self.folder.unfinished()? })
    }

    /// Replaces the state by a snapshot that was received. The inner error is one of the snapshot and leaves all as it
    /// was; the outer one is one of this store.
    pub(super) fn install(
        &mut self,
        received: Received,
        meta: &SnapshotMeta<C>,
    ) -> io::Result<io::Result<()>> {
        let Received { mut unfinished } = received;
        let applied = self.applied.last_applied;
        if meta.last.index < applied.index {
            let last = meta.last;
            return Err(misuse(format!("a snapshot of {last} cannot replace the later state of {applied}")));
        }
        unfinished.file().sync_all()?;
        let transaction = self.begin_durable()?;
        let header = match self.load(&transaction, unfinished.file(), meta) {
            Ok(header) => header,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Err(error)),
            Err(error) => return Err(error),
        };
        let applied = AppliedState { last_applied: header.last, membership: header.membership.clone() };
        database::put(&transaction, APPLIED, &applied)?;
        let size_bytes = unfinished.file().metadata()?.len();
        self.replace_current(transaction, unfinished, header, size_bytes)??;
        self.applied = applied;
        Ok(Ok(()))
    }

    /// Loads a snapshot file into the tables, and checks all of it on the way.
    fn load(
        &self,
        transaction: &WriteTransaction,
        file: &mut File,
        meta: &SnapshotMeta<C>,
    ) -> io::Result<Header<C>> {
        file.rewind()?;
        let (header, _, frames) = FrameReader::begin::<C>(BufReader::new(&*file))?;
        if header.cluster != self.cluster {
            return Err(invalid_data(format!(
                "the snapshot is of cluster {:?}, this node of cluster {:?}",
                header.cluster, self.cluster
            )));
        }
        if (header.last, &header.membership) != (meta.last, &meta.membership) {
            return Err(invalid_data(format!(
                "the snapshot is of entry {}, but entry {} was announced",
                header.last, meta.last
            )));
        }
        content::load(&self.tables, transaction, &mut ContentReader::new(frames))?;
        Ok(header)
    }
}

impl<C: StoredConfig, A: Application<C>> Work for State<C, A> {
    fn idle_after(&self) -> Option<Duration> {
        (self.unsynced_entries > 0).then(|| Duration::from_millis(self.options.state_sync_idle_ms))
    }

    fn idle(&mut self) -> io::Result<()> {
        self.sync()
    }

    fn after_call(&mut self) -> io::Result<()> {
        let Options { state_sync_entries_max, state_sync_bytes_max, .. } = self.options;
        if self.unsynced_entries >= state_sync_entries_max || self.unsynced_bytes >= state_sync_bytes_max {
            self.sync()?;
        }
        Ok(())
    }

    fn stop(&mut self) {
        if self.unsynced_entries > 0
            && let Err(error) = self.sync()
        {
            // Nothing is lost: it is in the log and will be applied again.
            tracing::warn!(%error, "the state could not be synced at the end");
        }
    }
}

/// A call that the contract of the trait forbids, or an application that breaks its own.
fn misuse(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// A state that is gone while its snapshots are there must not be taken for a new one.
fn check_not_lost(place: &Place, folder: &Folder) -> Result<(), OpenError> {
    let Place::File(path) = place else { return Ok(()) };
    let about = About(path);
    if files::len(path)?.is_none() && folder.has_snapshot().map_err(|error| about.io(error))? {
        return Err(about.damaged("the file is missing, though there are snapshots of it"));
    }
    Ok(())
}
