//! The tables that an application declares, and those that a file has.

use std::sync::Arc;

use redb::{Database, ReadableDatabase, TableHandle};

use crate::application::{Application, RESERVED, StateTable};
use crate::codec::StoredConfig;
use crate::error::{About, AboutRedb, OpenError};

/// Those that an application declares, in the order of their names.
pub(super) fn declared_tables<C: StoredConfig, A: Application<C>>(application: &A) -> Arc<[StateTable]> {
    let mut tables = application.tables();
    tables.sort_by(|a, b| a.name().cmp(b.name()));
    for pair in tables.windows(2) {
        assert!(pair[0].name() != pair[1].name(), "table {:?} is declared twice", pair[0].name());
    }
    tables.into()
}

/// Checks the tables of a file against those that are declared, and makes those that are new.
pub(super) fn check_tables(
    database: &Database,
    tables: &[StateTable],
    about: About<'_>,
) -> Result<(), OpenError> {
    let transaction = database.begin_read().map_err(|error| about.redb(error))?;
    for stored in transaction.list_tables().map_err(|error| about.redb(error))? {
        let name = stored.name();
        if !name.starts_with(RESERVED) && !tables.iter().any(|table| table.name() == name) {
            return Err(OpenError::UnsupportedFormat {
                file: about.0.into(),
                found: format!("a table {name:?}"),
                supported: format!("only {tables:?}"),
            });
        }
    }
    let mut missing = Vec::new();
    for table in tables {
        if !table.exists(&transaction).map_err(|error| about.redb(error))? {
            missing.push(table);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = database.begin_write().map_err(|error| about.redb(error))?;
    for table in missing {
        table.create(&transaction).map_err(|error| about.redb(error))?;
    }
    transaction.commit().map_err(|error| about.redb(error))
}
