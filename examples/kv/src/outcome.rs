//! How a command of the program ends: exit codes, and the error that carries one.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | done, with a negative result (the key is absent, the comparison failed, a line was malformed), or a local error (a file cannot be read) |
//! | 2 | the command line is wrong |
//! | 3 | no node could serve the request in time; nothing has happened |
//! | 4 | the outcome is unknown: it may have happened, or may happen still |
//! | 5 | refused: nothing has happened, and the same request will be refused again |
//! | 6 | the node has stopped because its disk, its state machine or one of its loops failed |

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::client::ClientError;

/// What most functions of the program return.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// The meaning of an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A negative result, or an error of this process alone.
    Negative = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No node could serve the request in time. Nothing has happened.
    Unavailable = 3,
    /// It may have happened, or may happen still.
    Unknown = 4,
    /// Nothing has happened, and the same request will be refused again.
    Refused = 5,
    /// The node has stopped for good.
    Fatal = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command of the program failed: a text for people and a code for scripts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The code to exit with.
    pub exit: Exit,
    /// What is wrong, and what would be right.
    pub text: String,
}

impl Failure {
    /// An error of this process alone, or a negative result.
    pub fn negative(text: impl fmt::Display) -> Self {
        Self { exit: Exit::Negative, text: text.to_string() }
    }

    /// The command line is wrong.
    pub fn usage(text: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, text: text.to_string() }
    }

    /// Nothing has happened, and the same request will be refused again.
    pub fn refused(text: impl fmt::Display) -> Self {
        Self { exit: Exit::Refused, text: text.to_string() }
    }

    /// The node has stopped for good.
    pub fn fatal(text: impl fmt::Display) -> Self {
        Self { exit: Exit::Fatal, text: text.to_string() }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Unknown { .. } => Exit::Unknown,
            ClientError::Refused { .. } => Exit::Refused,
            ClientError::Unavailable { .. } | ClientError::Busy(_) => Exit::Unavailable,
            ClientError::Failed { .. } => Exit::Negative,
        };
        Self { exit, text: error.to_string() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::negative(error)
    }
}

/// Whether what was written was taken: `false` when the reader of standard output has gone, as `head` does when it has
/// seen enough.
///
/// # Errors
///
/// Every other error of the output.
pub fn unless_closed(written: io::Result<()>) -> Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::negative(format!("cannot write: {error}"))),
    }
}
