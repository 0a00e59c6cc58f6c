//! How errors of redb become errors of the core's traits, and reasons why a store could not be opened.

use std::error::Error;
use std::io;
use std::path::Path;

pub(crate) use openconsensus_store_common::{About, OpenError, invalid_data};

/// Any error that may be sent to another thread: what an application returns with `?`, be it of redb or of its own.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Makes [`OpenError`]s of errors of redb.
pub(crate) trait AboutRedb {
    /// What `error` means for whoever opens the file.
    fn redb(self, error: impl Into<redb::Error>) -> OpenError;
}

impl AboutRedb for About<'_> {
    fn redb(self, error: impl Into<redb::Error>) -> OpenError {
        let file = self.0.to_path_buf();
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => OpenError::Locked { file },
            redb::Error::UpgradeRequired(found) => OpenError::UnsupportedFormat {
                file,
                found: format!("version {found} of redb's file format"),
                supported: "version 3 of it".into(),
            },
            error @ redb::Error::TableDoesNotExist(_) => self.damaged(error.to_string()),
            error @ (redb::Error::TableTypeMismatch { .. } | redb::Error::TypeDefinitionChanged { .. }) => {
                OpenError::UnsupportedFormat {
                    file,
                    found: format!("a table of another type ({error})"),
                    supported: "the types that the application declares".into(),
                }
            }
            error => self.io(io_error(error)),
        }
    }
}

/// Opens a store. redb checks much of what it reads, but not all: on some damage it panics. For the caller that is
/// damage as any other.
pub(crate) fn catch_damage<T>(
    path: &Path,
    open: impl FnOnce() -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    // Nothing outlives the closure but what it returns, so nothing half-changed can be seen.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(open)) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            Err(About(path).damaged(format!("redb could not read it: {text}")))
        }
    }
}

/// An error of redb as one of the core's traits, with the kind that the operating system gave it.
pub(crate) fn io_error(error: impl Into<redb::Error>) -> io::Error {
    match error.into() {
        redb::Error::Io(error) => error,
        redb::Error::Corrupted(what) => io::Error::new(io::ErrorKind::InvalidData, what),
        error => io::Error::other(error),
    }
}

/// An error of an application as one of the core's traits.
pub(crate) fn io_error_from_box(error: BoxError) -> io::Error {
    let error = match error.downcast::<io::Error>() {
        Ok(error) => return *error,
        Err(error) => error,
    };
    let error = match error.downcast::<redb::Error>() {
        Ok(error) => return io_error(*error),
        Err(error) => error,
    };
    let error = match error.downcast::<redb::StorageError>() {
        Ok(error) => return io_error(*error),
        Err(error) => error,
    };
    match error.downcast::<redb::TableError>() {
        Ok(error) => io_error(*error),
        Err(error) => io::Error::other(error),
    }
}
