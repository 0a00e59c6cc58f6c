//! Who watches the nodes while they work.

use clap::ValueEnum;

use crate::Failure;
use crate::cluster::Cluster;

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Watching {
    /// Nobody.
    Nothing,
    /// An exporter, and a subscriber of tracing at `info`.
    All,
}

/// Watches until it is told to end.
pub(crate) struct Watched {}

impl Watching {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::All => "all",
        }
    }

    pub(crate) fn begin(self, _cluster: &Cluster) -> Result<Watched, Failure> {
        Ok(Watched {})
    }
}

impl Watched {
    pub(crate) fn end(self) -> Result<(), Failure> {
        Ok(())
    }
}
