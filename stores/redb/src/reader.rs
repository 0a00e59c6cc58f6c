//! Reads the state beside the state machine that changes it.

use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Weak};

use openconsensus::{AppliedState, LogId};
use redb::{Database, Key, ReadOnlyTable, ReadTransaction, ReadableDatabase, TableDefinition, Value};

use crate::codec::StoredConfig;
use crate::database;
use crate::error::io_error;
use crate::state_machine::APPLIED;

/// Reads the state of a [`RedbStateMachine`](crate::RedbStateMachine) while it goes on applying. Cheap to clone.
///
/// A read is linearizable when [`Raft::read`](openconsensus::Raft::read) of the same node has returned before it.
/// Reading takes no lock that `apply` holds; pages that are not in memory are read from the disk by the calling thread.
///
/// It does not keep the state machine alive: when the node has stopped, reads are errors.
pub struct StateReader<C: StoredConfig> {
    database: Weak<Database>,
    config: PhantomData<fn() -> C>,
}

impl<C: StoredConfig> StateReader<C> {
    pub(crate) fn new(database: &Arc<Database>) -> Self {
        Self { database: Arc::downgrade(database), config: PhantomData }
    }

    /// The whole state as it is now. It does not change while it is held, and keeps the space of what it shows from
    /// being used again: drop it soon.
    pub fn view(&self) -> io::Result<StateView<C>> {
        let database = self.database.upgrade();
        let database = database.ok_or_else(|| io::Error::other("the state machine is closed"))?;
        let transaction = database.begin_read().map_err(io_error)?;
        Ok(StateView { transaction, config: PhantomData })
    }
}

impl<C: StoredConfig> Clone for StateReader<C> {
    fn clone(&self) -> Self {
        Self { database: self.database.clone(), config: PhantomData }
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
