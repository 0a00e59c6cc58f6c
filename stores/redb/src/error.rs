//! Why a store could not be opened, and how errors of redb become errors of the core's traits.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use crate::identity::Identity;

/// Any error that may be sent to another thread: what an application returns with `?`, be it of redb or of its own.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a store could not be opened. Nothing was changed, and nothing was taken for empty.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The operating system refused. Make the file accessible, or free some space, and open again.
    #[error("{}: {error}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// Another process, or another store of this process, has the file open. Stop it first.
    #[error("{} is in use: stop the other process that has it open, then start again", file.display())]
    Locked {
        /// The file.
        file: PathBuf,
    },
    /// The file belongs to another node or another cluster. Give the path of this node's own data, or an empty folder.
    #[error(
        "{} belongs to {found}, not to {expected}: give the data folder of {expected}, or an empty folder for a \
         new node", file.display()
    )]
    WrongIdentity {
        /// The file.
        file: PathBuf,
        /// Whose it is.
        found: Identity,
        /// Who opened it.
        expected: Identity,
    },
    /// The file is sound, but something else wrote it. Give the right path.
    #[error("{} is not what was expected here: {what}; give the path of the right file", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What was found instead.
        what: String,
    },
    /// The file has a format, or tables, that this version of the program does not know. Use the version that wrote
    /// it, or a later one.
    #[error(
        "{} has {found}, but this program knows {supported}: use the version of the program that wrote it, or a \
         later one", file.display()
    )]
    UnsupportedFormat {
        /// The file.
        file: PathBuf,
        /// What the file has.
        found: String,
        /// What would be right.
        supported: String,
    },
    /// The file is damaged, or lost a part. The node must not go on with it: it may have promised more than the file
    /// still says. Restore the file, or remove the node from the cluster, empty its folder and add it again.
    #[error(
        "{} is damaged: {what}; restore it from a copy of the same moment, or remove the node from the cluster and \
         add it again with an empty folder", file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        let kind = match &error {
            OpenError::Io { error, .. } => error.kind(),
            OpenError::Locked { .. } => io::ErrorKind::ResourceBusy,
            OpenError::WrongIdentity { .. } | OpenError::Foreign { .. } => io::ErrorKind::InvalidInput,
            OpenError::UnsupportedFormat { .. } => io::ErrorKind::Unsupported,
            OpenError::Damaged { .. } => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// Makes [`OpenError`]s about one file.
#[derive(Clone, Copy)]
pub(crate) struct About<'a>(pub(crate) &'a Path);

impl About<'_> {
    pub(crate) fn damaged(self, what: impl Into<String>) -> OpenError {
        OpenError::Damaged { file: self.0.into(), what: what.into() }
    }

    pub(crate) fn foreign(self, what: impl Into<String>) -> OpenError {
        OpenError::Foreign { file: self.0.into(), what: what.into() }
    }

    /// What a failed file operation means: bad content is damage, the rest is for the operator to set right.
    pub(crate) fn io(self, error: io::Error) -> OpenError {
        let file = self.0.to_path_buf();
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                OpenError::Damaged { file, what: error.to_string() }
            }
            _ => OpenError::Io { file, error },
        }
    }

    pub(crate) fn redb(self, error: impl Into<redb::Error>) -> OpenError {
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

/// Bytes that cannot be what was once written.
pub(crate) fn invalid_data(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
