//! `RedbStateMachine`: any [`Application`] as a durable state machine, in one redb file and a folder of snapshots.

mod state;
mod tables;
mod transfer;

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use openconsensus::{
    AppliedState, ApplyBatch, BoxFuture, LogState, MaybeSend, RaftStateMachine, Snapshot, SnapshotMeta,
    SnapshotStream, snapshot_stream,
};
use redb::StorageBackend;

use crate::application::Application;
use crate::codec::StoredConfig;
use crate::database::Place;
use crate::error::{About, OpenError, catch_damage};
use crate::options::Options;
use crate::reader::StateReader;
use openconsensus_store_common::Identity;
use openconsensus_store_common::worker::{Handle, Work, Worker, run_aside};

pub(crate) use state::APPLIED;
use state::State;
use transfer::SnapshotFrames;

/// A durable state machine that runs an [`Application`].
///
/// The applied state is stored in the same transaction as the effects of a batch. `apply` does not wait for the disk:
/// its transactions are synced together, some time later. That is safe, because an entry whose effect a crash took
/// away is still in the log and is applied again: the log is purged only behind a snapshot that was built, and
/// publishing a snapshot syncs the state up to it in the same transaction.
///
/// Snapshots are files in a folder of their own. Which of them is current stands in the database: a file counts from
/// the moment when the transaction that names it has been synced, and any other is a leftover that `open` removes. So
/// there is never a doubt after a crash which of two files counts, and installing a snapshot replaces tables, applied
/// state and current snapshot in one step.
///
/// All I/O happens on threads of the store. Dropping it waits for the call that is under way, syncs the state and
/// closes the file, also when readers are left.
pub struct RedbStateMachine<C: StoredConfig, A: Application<C>> {
    worker: Worker<State<C, A>>,
    sending: Worker<Sending>,
    reader: StateReader<C>,
    opened: Opened<C>,
    name: String,
}

/// What was found when a state machine was opened.
struct Opened<C: StoredConfig> {
    applied: AppliedState<C>,
    snapshot: Option<SnapshotMeta<C>>,
}

impl<C: StoredConfig, A: Application<C>> RedbStateMachine<C, A> {
    /// Opens the state in the file `path` with its snapshots in the folder `snapshots`, or makes them when there are
    /// none, with the default [`Options`].
    ///
    /// Checks the owner, the format and the tables. Whether the current snapshot is whole is looked at too, but the state
    /// does not need it: one that is damaged or gone is reported, and the node builds another one. Blocks meanwhile.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    ///
    /// # Panics
    ///
    /// When the name of a table is declared twice.
    pub fn open(
        path: impl AsRef<Path>,
        snapshots: impl AsRef<Path>,
        identity: &Identity,
        application: A,
    ) -> Result<Self, OpenError> {
        Self::open_with(path, snapshots, identity, application, &Options::default())
    }

    /// As [`open`](Self::open), with limits of one's own.
    pub fn open_with(
        path: impl AsRef<Path>,
        snapshots: impl AsRef<Path>,
        identity: &Identity,
        application: A,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let place = Place::File(path.as_ref().into());
        Self::open_at(place, snapshots.as_ref(), identity, application, options)
    }

    /// Opens or makes the state on a storage of one's own: a simulated disk, say. `name` stands for it in errors.
    pub fn open_on(
        name: impl AsRef<Path>,
        backend: impl StorageBackend,
        snapshots: impl AsRef<Path>,
        identity: &Identity,
        application: A,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let place = Place::backend(name.as_ref(), backend);
        Self::open_at(place, snapshots.as_ref(), identity, application, options)
    }

    fn open_at(
        place: Place,
        snapshots: &Path,
        identity: &Identity,
        application: A,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let path = place.path().to_path_buf();
        let about = About(&path);
        let open = || State::open(place, snapshots, identity, application, options);
        let state = catch_damage(&path, open)?;
        let (database, unseen) = (Arc::downgrade(state.database()), state.unseen().clone());
        let opened = Opened { applied: state.applied_state(), snapshot: state.snapshot_meta() };
        let name = path.display().to_string();
        let worker = Worker::spawn("redb state", name.as_str(), state).map_err(|error| about.io(error))?;
        let sending =
            Worker::spawn("redb sending", name.as_str(), Sending).map_err(|error| about.io(error))?;
        let handle = worker.handle().clone();
        let show = Arc::new(move || handle.call(|state| state.show()));
        let reader = StateReader::new(database, unseen, show);
        Ok(Self { worker, sending, reader, opened, name })
    }

    /// Reads the state beside the state machine. To be taken before the state machine is given to
    /// [`Raft::start`](openconsensus::Raft::start).
    pub fn reader(&self) -> StateReader<C> {
        self.reader.clone()
    }

    /// Refuses a log that does not belong to the state as it was opened: for those whose log is not a
    /// [`RedbLog`](crate::RedbLog), since [`open`](crate::open) does it. `log` stands for the log in errors, and `found` is what
    /// its [`load`](openconsensus::RaftLogStorage::load) would say; `None` when nothing was ever stored there, which is asked
    /// before a new log is made.
    ///
    /// # Errors
    ///
    /// [`OpenError::Damaged`] where the state has applied what the log never had, the log begins behind the state, or there
    /// is a state and no log.
    pub fn check_log(&self, log: impl AsRef<Path>, found: Option<&LogState<C>>) -> Result<(), OpenError> {
        let log = About(log.as_ref());
        let applied = self.opened.applied.last_applied;
        let Some(found) = found else {
            return match applied.index {
                0 => Ok(()),
                _ => Err(log.damaged(format!("the file is missing, though the state is of {applied}"))),
            };
        };
        if applied.index < found.purged.index {
            let purged = found.purged;
            return Err(About(Path::new(&self.name))
                .damaged(format!("it is of entry {applied}, but the log begins behind entry {purged}")));
        }
        // A crash right after a snapshot was installed finds the state ahead of the log, and only that.
        let is_installed = self.opened.snapshot.as_ref().is_some_and(|snapshot| snapshot.last == applied);
        if found.last.index < applied.index && !is_installed {
            let last = found.last;
            return Err(
                log.damaged(format!("it ends at entry {last}, but the state has applied entry {applied}"))
            );
        }
        Ok(())
    }
}

impl<C: StoredConfig, A: Application<C>> RaftStateMachine<C> for RedbStateMachine<C, A> {
    // Each method queues its call at once, so that calls are carried out in the order in which they were made.

    fn applied_state(&mut self) -> impl Future<Output = io::Result<AppliedState<C>>> + MaybeSend {
        self.worker.handle().call(|state| Ok(state.applied_state()))
    }

    fn apply(
        &mut self,
        batch: ApplyBatch<C>,
    ) -> impl Future<Output = io::Result<Vec<C::Response>>> + MaybeSend {
        self.worker.handle().call(move |state| state.apply(&batch))
    }

    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<C>>> {
        // An error of the first is one of the store; a file that cannot be made changes nothing.
        let shown = self.worker.handle().call(|state| state.show());
        let view = self.worker.handle().read(|state| state.view());
        let handle = self.worker.handle().clone();
        let name = self.name.clone();
        Box::pin(async move {
            shown.await?;
            let view = view.await?;
            let built = run_aside("redb snapshot", name, move |is_wanted| view.write(is_wanted))?.await?;
            // Until here nothing was changed but an unfinished file, which goes when it is dropped.
            handle.call_if_wanted(move |state| state.publish(built)).await?
        })
    }

    fn current_snapshot(&mut self) -> impl Future<Output = io::Result<Option<Snapshot<C>>>> + MaybeSend {
        let found = self.worker.handle().read(|state| state.open_snapshot());
        let sending = self.sending.handle().clone();
        async move {
            let Some((meta, frames)) = found.await? else { return Ok(None) };
            Ok(Some(Snapshot { meta, data: send(sending, frames) }))
        }
    }

    fn install_snapshot(
        &mut self,
        snapshot: Snapshot<C>,
    ) -> impl Future<Output = io::Result<()>> + MaybeSend {
        let handle = self.worker.handle().clone();
        let begun = handle.call(|state| state.begin_receiving());
        async move {
            let Snapshot { meta, mut data } = snapshot;
            let mut received = begun.await?;
            while let Some(chunk) = data.next().await {
                let chunk = match chunk {
                    Ok(chunk) => chunk,
                    Err(error) => {
                        // The file is removed on the thread of the store, before the next call.
                        drop(handle.read(move |_| received.forget()));
                        return Err(error);
                    }
                };
                received = handle.call(move |_| received.with(&chunk)).await?;
            }
            // What the sender got wrong is an error of this call only; what the disk refuses is one of the store.
            handle.call(move |state| state.install(received, &meta)).await?
        }
    }
}

impl<C: StoredConfig, A: Application<C>> std::fmt::Debug for RedbStateMachine<C, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbStateMachine").field("file", &self.name).finish_non_exhaustive()
    }
}

/// The thread on which snapshots that are being sent are read.
struct Sending;

impl Work for Sending {}

/// Streams a snapshot file, part by part. A part whose checksum is wrong is never sent: the stream ends in an error.
fn send(sending: Handle<Sending>, frames: SnapshotFrames) -> SnapshotStream {
    let next = move |frames: SnapshotFrames| sending.read(move |_| frames.next());
    snapshot_stream(stream::try_unfold(frames, next))
}
