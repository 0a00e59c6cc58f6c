//! Reads the state beside the state machine that changes it.

use std::io;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use openconsensus::{AppliedState, LogId};
use openconsensus_store_common::worker::Call;
use redb::{Database, Key, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableDefinition, Value};

use crate::codec::StoredConfig;
use crate::database;
use crate::error::io_error;
use crate::state_machine::APPLIED;

/// Reads the state of a [`RedbStateMachine`](crate::RedbStateMachine) while it goes on applying. Cheap to clone.
///
/// A read is linearizable when [`Raft::read`](openconsensus::Raft::read) of the same node has returned before it. The state
/// machine commits batches together; a reader that comes between lets it commit, and waits for that:
/// [`fresh_view`](Self::fresh_view) as a future, [`view`](Self::view) with its thread. Pages that are not in memory are read
/// from the disk by the calling thread.
///
/// It does not keep the state machine alive: when the node has stopped, reads are errors.
pub struct StateReader<C: StoredConfig> {
    database: Weak<Database>,
    /// Whether something was applied that is not committed.
    unseen: Arc<AtomicBool>,
    show: Arc<Show>,
    config: PhantomData<fn() -> C>,
}

/// Lets the state machine commit what it has applied.
pub(crate) type Show = dyn Fn() -> Call<()> + Send + Sync;

impl<C: StoredConfig> StateReader<C> {
    pub(crate) fn new(database: Weak<Database>, unseen: Arc<AtomicBool>, show: Arc<Show>) -> Self {
        Self { database, unseen, show, config: PhantomData }
    }

    /// The whole state as it is now. It does not change while it is held, and keeps the space of what it shows from
    /// being used again: drop it soon.
    ///
    /// Blocks the thread while the state machine is busy with what it has been given before.
    pub fn view(&self) -> io::Result<StateView<C>> {
        if self.unseen.load(Ordering::Acquire) {
            wait((self.show)())?;
        }
        self.shown()
    }

    /// As [`view`](Self::view), without blocking the thread.
    pub async fn fresh_view(&self) -> io::Result<StateView<C>> {
        if self.unseen.load(Ordering::Acquire) {
            (self.show)().await?;
        }
        self.shown()
    }

    fn shown(&self) -> io::Result<StateView<C>> {
        let database = self.database.upgrade();
        let database = database.ok_or_else(|| io::Error::other("the state machine is closed"))?;
        let transaction = database.begin_read().map_err(io_error)?;
        Ok(StateView { transaction, config: PhantomData })
    }
}

/// Blocks the thread until the future is there. It may be within an executor, whatever that is.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result,
            Poll::Pending => thread::park(),
        }
    }
}

impl<C: StoredConfig> Clone for StateReader<C> {
    fn clone(&self) -> Self {
        Self {
            database: self.database.clone(),
            unseen: self.unseen.clone(),
            show: self.show.clone(),
            config: PhantomData,
        }
    }
}

impl<C: StoredConfig> std::fmt::Debug for StateReader<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateReader").finish_non_exhaustive()
    }
}

/// The state at one moment.
pub struct StateView<C: StoredConfig> {
    transaction: ReadTransaction,
    config: PhantomData<fn() -> C>,
}

impl<C: StoredConfig> StateView<C> {
    /// Opens a table of the application.
    pub fn open_table<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> io::Result<ReadOnlyTable<K, V>> {
        self.transaction.open_table(table).map_err(io_error)
    }

    /// The last entry whose effect is in this state, and the membership at it.
    pub fn applied_state(&self) -> io::Result<AppliedState<C>> {
        database::required(&self.transaction, APPLIED)
    }

    /// The last entry whose effect is in this state.
    pub fn last_applied(&self) -> io::Result<LogId> {
        Ok(self.applied_state()?.last_applied)
    }
}

impl<C: StoredConfig> std::fmt::Debug for StateView<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateView").finish_non_exhaustive()
    }
}
