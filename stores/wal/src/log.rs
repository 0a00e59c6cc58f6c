//! `WalLog`: the log of one node.

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use futures::future::Either;
use openconsensus::{
    Entries, EntryCodec, HardState, Index, LogId, LogState, MaybeSend, RaftLogStorage, TypeConfig,
};
use openconsensus_store_common::worker::Worker;
use openconsensus_store_common::{About, Identity, OpenError, files, invalid_data};

use crate::disk::{Disk, Folder};
use crate::frame::{Hard, Kind};
use crate::open::{OpenReport, Opened, open};
use crate::options::WalOptions;
use crate::queue::{Done, Failure, Patience, Queue, lock};
use crate::reader::{Reading, WalReader};
use crate::scan::Owner;
use crate::stock::Stock;
use crate::writer::{Call, Group, Request, Shared, Writer};

/// The log of one node in a folder: entries, hard state, truncations and purges, in segments.
///
/// What is acknowledged has been synced. All I/O happens on threads of the log: one writes, one reads, one makes segments
/// ready; futures only wait for them, on any executor. Entries are encoded by whoever calls
/// [`append`](RaftLogStorage::append), if nobody has encoded them before, and decoded by whoever polls a read.
///
/// Any error of a write is remembered, and all later calls return it: nothing is retried. What was durable is found when the
/// log is opened again.
///
/// Dropping it carries out what is queued, marks the log as closed, and ends its threads; readers that are left return an
/// error from then on.
pub struct WalLog<C: TypeConfig, K: EntryCodec<C>> {
    queue: Arc<Queue<Request>>,
    group: Arc<Group>,
    state: LogState<C>,
    report: OpenReport,
    reading: Worker<Reading>,
    writing: Option<JoinHandle<()>>,
    types: PhantomData<fn() -> K>,
}

impl<C: TypeConfig, K: EntryCodec<C>> WalLog<C, K> {
    /// Opens the log in the folder `folder`, or makes an empty one when there is none there.
    ///
    /// Reads all of it and checks every checksum, without decoding a command; memory stays small. What a crash has left of
    /// the write that was under way is cut; see [`report`](Self::report). Blocks meanwhile.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. A log that is damaged anywhere else is not opened, and nothing of it is changed.
    pub fn open(
        folder: impl AsRef<Path>,
        identity: &Identity,
        options: &WalOptions,
    ) -> Result<Self, OpenError> {
        let folder = folder.as_ref();
        files::create_dir(folder)?;
        Self::open_on(Folder::new(folder), identity, options)
    }

    /// As [`open`](Self::open), on a disk of one's own: a simulated one, say.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open_on<D: Disk>(disk: D, identity: &Identity, options: &WalOptions) -> Result<Self, OpenError> {
        let path = disk.path("");
        let about = About(&path);
        let disk_lock = disk.lock().map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => OpenError::Locked { file: path.clone() },
            _ => about.io(error),
        })?;
        let Opened { writer, stock, shared, group, report } =
            open(Arc::new(disk), &Owner { identity, codec: K::NAME }, options)?;
        let state = state::<C, K>(&group).map_err(|error| about.io(error))?;
        let name = path.display().to_string();
        let reading = Reading::new(shared.clone(), group.clone());
        let reading = Worker::spawn("wal reader", name, reading).map_err(|error| about.io(error))?;
        let housekeeping = options.housekeeping_aside.then(|| {
            let stock = stock.clone();
            std::thread::Builder::new().name("wal segments".into()).spawn(move || stock.work())
        });
        let housekeeping = housekeeping.transpose().map_err(|error| about.io(error))?;
        let queue = Arc::new(Queue::new());
        let thread = WriterThread {
            queue: queue.clone(),
            writer,
            stock,
            shared,
            housekeeping,
            patience: Patience::new(options.spin_us_max),
            name: path.display().to_string(),
        };
        let writing = std::thread::Builder::new().name("wal writer".into()).spawn(move || {
            thread.run();
            drop(disk_lock);
        });
        let writing = Some(writing.map_err(|error| about.io(error))?);
        Ok(Self { queue, group, state, report, reading, writing, types: PhantomData })
    }

    /// What was found when the log was opened.
    pub fn opened_state(&self) -> &LogState<C> {
        &self.state
    }

    /// How the log was opened: whether it was new, whether something was cut.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    fn call(&self, what: Call) -> Done {
        let call = self.group.progress.issue();
        self.queue.push(Request { group: self.group.clone(), call, what });
        Done::new(self.group.progress.clone(), call)
    }
}

/// What is stored of a group.
fn state<C: TypeConfig, K: EntryCodec<C>>(group: &Group) -> io::Result<LogState<C>> {
    let cursors = lock(&group.state).cursors().clone();
    let voted_for = cursors.hard.vote.map(|vote| K::decode_node_id(vote.into())).transpose();
    let voted_for =
        voted_for.map_err(|error| invalid_data(format!("the vote cannot be decoded: {error}")))?;
    let commit = cursors.hard.commit.max(cursors.hint);
    let hard_state = HardState { term: cursors.hard.term, voted_for, commit };
    Ok(LogState { hard_state, purged: cursors.purged, last: cursors.last })
}

/// Fails at once.
fn refused(what: impl std::fmt::Display) -> std::future::Ready<io::Result<()>> {
    std::future::ready(Err(io::Error::new(io::ErrorKind::InvalidInput, what.to_string())))
}

impl<C: TypeConfig, K: EntryCodec<C>> RaftLogStorage<C> for WalLog<C, K> {
    type Reader = WalReader<C, K>;

    fn reader(&self) -> WalReader<C, K> {
        WalReader::new(self.reading.handle().clone())
    }

    // Each method queues its call at once and returns the answer to it: nothing depends on the first poll.

    fn load(&mut self) -> impl Future<Output = io::Result<LogState<C>>> + MaybeSend {
        std::future::ready(state::<C, K>(&self.group))
    }

    fn save_hard_state(&mut self, state: HardState<C>) -> impl Future<Output = io::Result<()>> + MaybeSend {
        let mut vote = None;
        if let Some(id) = &state.voted_for
            && let Err(error) = K::encode_node_id(id, vote.insert(Vec::new()))
        {
            return Either::Left(refused(error));
        }
        let hard = Hard { term: state.term, commit: state.commit, vote };
        Either::Right(self.call(Call::HardState(hard)))
    }

    fn append(
        &mut self,
        entries: Entries<C>,
        commit: Index,
    ) -> impl Future<Output = io::Result<()>> + MaybeSend {
        let Some(first) = entries.first() else {
            // A hint alone is not worth a sync: it may be dropped.
            return Either::Left(std::future::ready(Ok(())));
        };
        match entries.encoded::<K>() {
            Ok(records) => Either::Right(self.call(Call::Append { first, records, commit })),
            Err(error) => Either::Left(refused(error)),
        }
    }

    fn truncate(&mut self, from: Index) -> impl Future<Output = io::Result<()>> + MaybeSend {
        self.call(Call::Truncate { from })
    }

    fn purge(&mut self, upto: LogId) -> impl Future<Output = io::Result<()>> + MaybeSend {
        self.call(Call::Purge { upto })
    }
}

impl<C: TypeConfig, K: EntryCodec<C>> Drop for WalLog<C, K> {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(writing) = self.writing.take() {
            // A panic of the thread has been reported to whoever waited for an answer.
            let _ = writing.join();
        }
    }
}

impl<C: TypeConfig, K: EntryCodec<C>> std::fmt::Debug for WalLog<C, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WalLog").field("opened", &self.state).finish_non_exhaustive()
    }
}

/// The thread that writes.
struct WriterThread {
    queue: Arc<Queue<Request>>,
    writer: Writer,
    stock: Arc<Stock>,
    shared: Arc<Shared>,
    /// `None` when this thread does that, too.
    housekeeping: Option<JoinHandle<()>>,
    patience: Patience,
    name: String,
}

impl WriterThread {
    fn run(mut self) {
        self.queue.set_taker();
        // However it ends, nobody waits for it forever.
        let last_words = LastWords { shared: self.shared.clone(), name: self.name.clone() };
        let result = self.write();
        if let Err(error) = &result {
            tracing::error!(name: "wal.failed", %error, "the log cannot be written any more");
            let text = format!("{}: {error}", self.name);
            last_words.say(&Failure::new(error.kind(), text));
        } else if let Err(error) = self.writer.mark(Kind::Closed) {
            tracing::warn!(name: "wal.close.failed", %error, "the log could not be marked as closed");
        }
        self.stock.stop();
        if let Some(housekeeping) = self.housekeeping.take() {
            let _ = housekeeping.join();
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let mut requests = Vec::new();
        while self.queue.take(&mut requests, &mut self.patience) {
            self.writer.carry_out(&mut requests)?;
            self.writer.tidy();
            if self.housekeeping.is_none() {
                while !self.queue.is_due() && self.stock.work_once() {}
            }
        }
        Ok(())
    }
}

/// Tells everybody who waits that the log is not written any more.
struct LastWords {
    shared: Arc<Shared>,
    name: String,
}

impl LastWords {
    fn say(&self, failure: &Failure) {
        for group in &self.shared.groups {
            group.progress.fail(failure.clone());
        }
    }
}

impl Drop for LastWords {
    fn drop(&mut self) {
        let text = format!("{}: the log is closed, or its thread panicked", self.name);
        self.say(&Failure::new(io::ErrorKind::Other, text));
    }
}
