//! A redb file of ours: made whole or not at all, and checked for kind, format version and owner whenever it is opened.

use std::io;
use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, StorageBackend, TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{decode_record, encode_record};
use crate::error::{About, AboutRedb, OpenError, invalid_data, io_error};
use openconsensus_store_common::Identity;
use openconsensus_store_common::files;

/// The records of a file that are not data: its format, its owner, and what its user adds.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("openconsensus.meta");
const FORMAT: &str = "format";
const IDENTITY: &str = "identity";

/// What a file is for, and in which version of its format.
pub(crate) struct Kind {
    /// Says what the file is. Never changes.
    pub(crate) name: &'static str,
    /// The format that this code writes and reads.
    pub(crate) version: u32,
}

type Create = Box<dyn FnOnce(&mut Builder) -> Result<Database, redb::DatabaseError>>;

/// Where a database lives.
pub(crate) enum Place {
    File(PathBuf),
    /// Somewhere else; the path only names it in errors.
    Backend(PathBuf, Create),
}

impl Place {
    pub(crate) fn backend(name: impl Into<PathBuf>, backend: impl StorageBackend) -> Self {
        Self::Backend(name.into(), Box::new(move |builder| builder.create_with_backend(backend)))
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Backend(path, _) => path,
        }
    }
}

/// How to open a database.
pub(crate) struct Opening<'a> {
    pub(crate) kind: Kind,
    pub(crate) identity: &'a Identity,
    pub(crate) cache_bytes: usize,
    /// Whether to check all pages of a file that exists.
    pub(crate) is_checked: bool,
}

impl Opening<'_> {
    /// Opens the database at `place`, or makes one that holds what `initialise` writes.
    pub(crate) fn open(
        &self,
        place: Place,
        initialise: impl FnOnce(&WriteTransaction) -> io::Result<()>,
    ) -> Result<Database, OpenError> {
        let mut builder = Builder::new();
        builder.set_cache_size(self.cache_bytes);
        match place {
            Place::File(path) => match files::len(&path)? {
                None => self.create(&mut builder, &path, initialise),
                // redb would make a new database of it; but we never leave an empty file behind.
                Some(0) => Err(About(&path).damaged("it is empty")),
                Some(_) => {
                    let mut database = builder.open(&path).map_err(|error| About(&path).redb(error))?;
                    self.check(&database, &path)?;
                    if self.is_checked {
                        check_pages(&mut database, &path)?;
                    }
                    Ok(database)
                }
            },
            Place::Backend(name, create) => {
                let database = create(&mut builder).map_err(|error| About(&name).redb(error))?;
                if is_new(&database).map_err(|error| About(&name).io(error))? {
                    self.initialise(&database, initialise).map_err(|error| About(&name).io(error))?;
                }
                self.check(&database, &name)?;
                Ok(database)
            }
        }
    }

    /// Makes the file under another name and gives it its own when it is complete and synced: a crash on the way
    /// leaves no file that looks damaged.
    fn create(
        &self,
        builder: &mut Builder,
        path: &Path,
        initialise: impl FnOnce(&WriteTransaction) -> io::Result<()>,
    ) -> Result<Database, OpenError> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        let about = About(&unfinished);
        files::create_parent(path)?;
        if files::len(&unfinished)?.is_some() {
            // Left by a crash, unless somebody is at work on it right now.
            if let Err(redb::DatabaseError::DatabaseAlreadyOpen) = builder.create(&unfinished) {
                return Err(OpenError::Locked { file: path.into() });
            }
            std::fs::remove_file(&unfinished).map_err(|error| about.io(error))?;
        }
        let database = builder.create(&unfinished).map_err(|error| about.redb(error))?;
        self.initialise(&database, initialise).map_err(|error| about.io(error))?;
        // Holding the lock of the unfinished file, nobody else can be between these two lines.
        if files::len(path)?.is_some() {
            return Err(OpenError::Locked { file: path.into() });
        }
        files::rename(&unfinished, path).map_err(|error| About(path).io(error))?;
        Ok(database)
    }

    fn initialise(
        &self,
        database: &Database,
        initialise: impl FnOnce(&WriteTransaction) -> io::Result<()>,
    ) -> io::Result<()> {
        let transaction = database.begin_write().map_err(io_error)?;
        put_format(&transaction, self.kind.name, self.kind.version)?;
        put(&transaction, IDENTITY, self.identity)?;
        initialise(&transaction)?;
        transaction.commit().map_err(io_error)
    }

    /// Checks kind, version and owner, in this order: each says how the next is to be read.
    fn check(&self, database: &Database, path: &Path) -> Result<(), OpenError> {
        let about = About(path);
        let transaction = database.begin_read().map_err(|error| about.redb(error))?;
        let table = match transaction.open_table(META) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => {
                return Err(about.foreign("a redb database, but none of this library"));
            }
            Err(error) => return Err(about.redb(error)),
        };
        let format = table.get(FORMAT).map_err(|error| about.redb(error))?;
        let Some(format) = format else {
            return Err(about.damaged("it does not say which format it has"));
        };
        let Kind { name, version } = self.kind;
        let Some((found_name, found_version)) = format.value().split_last_chunk::<4>() else {
            return Err(about.damaged("its format record is too short"));
        };
        if found_name != name.as_bytes() {
            let found = String::from_utf8_lossy(found_name);
            return Err(about.foreign(format!("its format is {found:?}, not {name:?}")));
        }
        let found_version = u32::from_le_bytes(*found_version);
        if found_version != version {
            return Err(OpenError::UnsupportedFormat {
                file: path.into(),
                found: format!("version {found_version} of the format {name:?}"),
                supported: format!("version {version}"),
            });
        }
        let found: Identity = required(&transaction, IDENTITY).map_err(|error| about.io(error))?;
        if found != *self.identity {
            return Err(OpenError::WrongIdentity {
                file: path.into(),
                found,
                expected: self.identity.clone(),
            });
        }
        Ok(())
    }
}

/// Checks every page. What redb can set right without losing anything, it does.
fn check_pages(database: &mut Database, path: &Path) -> Result<(), OpenError> {
    if !database.check_integrity().map_err(|error| About(path).redb(error))? {
        // The data is whole: redb keeps lists of free pages beside it, and has made them anew.
        tracing::warn!(file = %path.display(), "the free pages of a file were not what it said, and were counted anew");
    }
    Ok(())
}

/// Whether nothing was ever written to `database`.
fn is_new(database: &Database) -> io::Result<bool> {
    let transaction = database.begin_read().map_err(io_error)?;
    Ok(transaction.list_tables().map_err(io_error)?.next().is_none())
}

/// Stores `value` as the record `key`.
pub(crate) fn put<T: Serialize>(transaction: &WriteTransaction, key: &str, value: &T) -> io::Result<()> {
    let record = encode_record(key, value)?;
    let mut table = transaction.open_table(META).map_err(io_error)?;
    table.insert(key, &*record).map_err(io_error)?;
    Ok(())
}

/// Says what the file is. Not sealed as other records are, so that any version can read it.
pub(crate) fn put_format(transaction: &WriteTransaction, name: &str, version: u32) -> io::Result<()> {
    let mut format = name.as_bytes().to_vec();
    format.extend_from_slice(&version.to_le_bytes());
    transaction.open_table(META).map_err(io_error)?.insert(FORMAT, &*format).map_err(io_error)?;
    Ok(())
}

/// Removes the record `key`.
#[cfg(test)]
pub(crate) fn remove(transaction: &WriteTransaction, key: &str) -> io::Result<()> {
    transaction.open_table(META).map_err(io_error)?.remove(key).map_err(io_error)?;
    Ok(())
}

/// The record `key`, if there is one.
pub(crate) fn get<T: DeserializeOwned>(transaction: &ReadTransaction, key: &str) -> io::Result<Option<T>> {
    let table = transaction.open_table(META).map_err(io_error)?;
    let record = table.get(key).map_err(io_error)?;
    let value = record.map(|record| decode_record(key, record.value())).transpose();
    value.map_err(|error| invalid_data(format!("record {key:?}: {error}")))
}

/// The record `key`, which every file has.
pub(crate) fn required<T: DeserializeOwned>(transaction: &ReadTransaction, key: &str) -> io::Result<T> {
    get(transaction, key)?.ok_or_else(|| invalid_data(format!("its record {key:?} is missing")))
}
