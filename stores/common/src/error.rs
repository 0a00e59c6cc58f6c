//! Why a store could not be opened.

use std::io;
use std::path::{Path, PathBuf};

use crate::identity::Identity;

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
pub struct About<'a>(pub &'a Path);

impl About<'_> {
    /// It is damaged in the way that `what` says.
    pub fn damaged(self, what: impl Into<String>) -> OpenError {
        OpenError::Damaged { file: self.0.into(), what: what.into() }
    }

    /// It is none of ours, but what `what` says.
    pub fn foreign(self, what: impl Into<String>) -> OpenError {
        OpenError::Foreign { file: self.0.into(), what: what.into() }
    }

    /// What a failed file operation means: bad content is damage, the rest is for the operator to set right.
    pub fn io(self, error: io::Error) -> OpenError {
        let file = self.0.to_path_buf();
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                OpenError::Damaged { file, what: error.to_string() }
            }
            _ => OpenError::Io { file, error },
        }
    }
}

/// Bytes that cannot be what was once written.
pub fn invalid_data(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
