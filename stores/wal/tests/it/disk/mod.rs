//! A simulated disk: files and a folder in memory that a crash, a failure or damage treats as badly as real ones may.
//!
//! What a crash leaves is decided sector by sector. A file remembers for each sector what was last made durable, and every
//! version that was written since; after a crash any of them may be there, whatever happened to its neighbours. The
//! folder remembers which names are durable; each creation, renaming and removal since the last sync of the folder may
//! have happened or not.

mod content;
mod crash;
mod faults;
mod files;

pub(crate) use crash::{CrashPoint, Survival};
pub(crate) use faults::Fault;
pub(crate) use files::{Operation, SimDisk, SimFile};

/// What a disk writes as a whole: the smallest sector that there is.
pub(crate) const SECTOR: usize = 512;
