//! `Application`: what a user writes to have a durable state machine.

use std::fmt;
use std::io;
use std::marker::PhantomData;

use openconsensus::{ApplyBatch, TypeConfig};
use redb::{
    Key, ReadTransaction, ReadableTable, Table, TableDefinition, TableError, TableHandle, Value,
    WriteTransaction,
};

use crate::error::{BoxError, invalid_data, io_error};

/// The part of a state machine that is the application's own: which tables it has, and what its commands do to them.
///
/// [`RedbStateMachine`](crate::RedbStateMachine) does the rest: transactions, the applied state beside the effects,
/// snapshots of all tables, and recovery.
///
/// ```
/// use openconsensus::{ApplyBatch, TypeConfig};
/// use openconsensus_redb::redb::{ReadableTable, TableDefinition};
/// use openconsensus_redb::{Application, BoxError, StateTable, Transaction};
///
/// #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
/// struct Counters;
///
/// impl TypeConfig for Counters {
///     type Command = (String, i64);
///     type Response = i64;
///     type NodeId = u64;
///     type Node = String;
///
///     fn command_bytes((name, _): &(String, i64)) -> u64 {
///         32 + name.len() as u64
///     }
/// }
///
/// const COUNTERS: TableDefinition<&str, i64> = TableDefinition::new("counters");
///
/// struct AddToCounters;
///
/// impl Application<Counters> for AddToCounters {
///     fn tables(&self) -> Vec<StateTable> {
///         vec![StateTable::new(COUNTERS)]
///     }
///
///     fn apply(&self, transaction: &Transaction<'_>, batch: &ApplyBatch<Counters>) -> Result<Vec<i64>, BoxError> {
///         let mut counters = transaction.open_table(COUNTERS)?;
///         let mut sums = Vec::new();
///         for (_, (name, number)) in batch.commands() {
///             let sum = counters.get(&**name)?.map_or(0, |sum| sum.value()) + number;
///             counters.insert(&**name, sum)?;
///             sums.push(sum);
///         }
///         Ok(sums)
///     }
/// }
/// ```
pub trait Application<C: TypeConfig>: Send + 'static {
    /// All tables that hold the state. Asked for once, when the state machine is opened. A later version may declare
    /// further ones; they begin empty.
    fn tables(&self) -> Vec<StateTable>;

    /// Applies the commands of a batch, in order, and returns one response for each. Called on the state machine's
    /// own thread, one batch at a time, so it may take its time.
    ///
    /// It must do the same on every node, and in every version of the program that runs in the cluster: it depends
    /// on nothing but the tables and the commands.
    ///
    /// # Errors
    ///
    /// An error undoes the batch as a whole and stops the node, and with it what was applied before and no reader has
    /// seen: all of that is applied again when the node is started. A command that asks for something that cannot be done
    /// is not an error: that is for the response to say.
    fn apply(
        &self,
        transaction: &Transaction<'_>,
        batch: &ApplyBatch<C>,
    ) -> Result<Vec<C::Response>, BoxError>;
}

/// Tables of ours begin with this; no table of an application may.
pub(crate) const RESERVED: &str = "openconsensus.";

/// The transaction of a batch, and of those around it. It opens only the tables that [`Application::tables`] declared:
/// others would be missing in snapshots.
pub struct Transaction<'a> {
    transaction: &'a WriteTransaction,
    tables: &'a [StateTable],
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(transaction: &'a WriteTransaction, tables: &'a [StateTable]) -> Self {
        Self { transaction, tables }
    }

    /// Opens a table to read and change it. It can be open once at a time.
    ///
    /// # Errors
    ///
    /// When it was not declared, is of other types, is open already, or cannot be read.
    pub fn open_table<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<Table<'a, K, V>, TableError> {
        if !self.tables.iter().any(|declared| declared.name() == table.name()) {
            // The only error of redb that fits: for this transaction there is no such table.
            let name = format!("{} (Application::tables does not declare it)", table.name());
            return Err(TableError::TableDoesNotExist(name));
        }
        self.transaction.open_table(table)
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("tables", &self.tables).finish_non_exhaustive()
    }
}

/// A table of an application, whatever its types are.
pub struct StateTable {
    table: Box<dyn AnyTable>,
}

impl StateTable {
    /// Declares a table.
    ///
    /// # Panics
    ///
    /// When its name begins with `openconsensus.`: such tables are the store's own.
    pub fn new<K: Key + 'static, V: Value + 'static>(table: TableDefinition<'static, K, V>) -> Self {
        let name = table_name(&table);
        assert!(
            !name.starts_with(RESERVED),
            "table {name:?}: names that begin with {RESERVED:?} are reserved"
        );
        Self { table: Box::new(TypedTable::<K, V> { name, types: PhantomData }) }
    }

    pub(crate) fn name(&self) -> &str {
        self.table.name()
    }

    /// The types of key and value, as redb names them.
    pub(crate) fn types(&self) -> (String, String) {
        self.table.types()
    }

    /// Whether the table exists; an error when it has other types.
    pub(crate) fn exists(&self, transaction: &ReadTransaction) -> Result<bool, TableError> {
        self.table.exists(transaction)
    }

    /// Makes the table if it does not exist.
    pub(crate) fn create(&self, transaction: &WriteTransaction) -> Result<(), TableError> {
        self.table.create(transaction)
    }

    /// Hands every key with its value to `sink`, as bytes, in order.
    pub(crate) fn dump(&self, transaction: &ReadTransaction, sink: &mut DumpSink<'_>) -> io::Result<()> {
        self.table.dump(transaction, sink)
    }

    /// Removes all that is in the table.
    pub(crate) fn clear(&self, transaction: &WriteTransaction) -> Result<(), TableError> {
        self.table.clear(transaction)
    }

    /// Inserts what `source` yields until it has no more.
    pub(crate) fn load(&self, transaction: &WriteTransaction, source: &mut LoadSource<'_>) -> io::Result<()> {
        self.table.load(transaction, source)
    }
}

impl fmt::Debug for StateTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value) = self.types();
        write!(f, "{}<{key}, {value}>", self.name())
    }
}

/// Takes a key and its value.
pub(crate) type DumpSink<'a> = dyn FnMut(&[u8], &[u8]) -> io::Result<()> + 'a;

/// Gives the next key and its value, or `None` at the end.
pub(crate) type LoadSource<'a> = dyn FnMut() -> io::Result<Option<(Vec<u8>, Vec<u8>)>> + 'a;

trait AnyTable: Send + Sync {
    fn name(&self) -> &str;
    fn types(&self) -> (String, String);
    fn exists(&self, transaction: &ReadTransaction) -> Result<bool, TableError>;
    fn create(&self, transaction: &WriteTransaction) -> Result<(), TableError>;
    fn dump(&self, transaction: &ReadTransaction, sink: &mut DumpSink<'_>) -> io::Result<()>;
    fn clear(&self, transaction: &WriteTransaction) -> Result<(), TableError>;
    fn load(&self, transaction: &WriteTransaction, source: &mut LoadSource<'_>) -> io::Result<()>;
}

fn table_name<K: Key + 'static, V: Value + 'static>(table: &TableDefinition<'static, K, V>) -> String {
    table.name().to_owned()
}

struct TypedTable<K, V> {
    name: String,
    // A function of the types, so that it can be sent to the thread whatever they are.
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: Key + 'static, V: Value + 'static> TypedTable<K, V> {
    fn definition(&self) -> TableDefinition<'_, K, V> {
        TableDefinition::new(&self.name)
    }
}

impl<K: Key + 'static, V: Value + 'static> AnyTable for TypedTable<K, V> {
    fn name(&self) -> &str {
        &self.name
    }

    fn types(&self) -> (String, String) {
        (K::type_name().name().into(), V::type_name().name().into())
    }

    fn exists(&self, transaction: &ReadTransaction) -> Result<bool, TableError> {
        match transaction.open_table(self.definition()) {
            Ok(_) => Ok(true),
            Err(TableError::TableDoesNotExist(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn create(&self, transaction: &WriteTransaction) -> Result<(), TableError> {
        transaction.open_table(self.definition()).map(drop)
    }

    fn dump(&self, transaction: &ReadTransaction, sink: &mut DumpSink<'_>) -> io::Result<()> {
        let table = transaction.open_table(self.definition()).map_err(io_error)?;
        for pair in table.iter().map_err(io_error)? {
            let (key, value) = pair.map_err(io_error)?;
            let (key, value) = (key.value(), value.value());
            sink(K::as_bytes(&key).as_ref(), V::as_bytes(&value).as_ref())?;
        }
        Ok(())
    }

    fn clear(&self, transaction: &WriteTransaction) -> Result<(), TableError> {
        transaction.delete_table(self.definition())?;
        self.create(transaction)
    }

    fn load(&self, transaction: &WriteTransaction, source: &mut LoadSource<'_>) -> io::Result<()> {
        let mut table = transaction.open_table(self.definition()).map_err(io_error)?;
        while let Some((key, value)) = source()? {
            check_width(&self.name, K::fixed_width(), &key)?;
            check_width(&self.name, V::fixed_width(), &value)?;
            table.insert(K::from_bytes(&key), V::from_bytes(&value)).map_err(io_error)?;
        }
        Ok(())
    }
}

fn check_width(table: &str, width: Option<usize>, bytes: &[u8]) -> io::Result<()> {
    match width {
        Some(width) if width != bytes.len() => Err(invalid_data(format!(
            "a record of table {table:?} has {} bytes where {width} are right",
            bytes.len()
        ))),
        _ => Ok(()),
    }
}
