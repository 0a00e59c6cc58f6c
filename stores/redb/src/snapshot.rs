//! Snapshot files: their format, their folder, and what of a state machine is in them.

pub(crate) mod content;
pub(crate) mod folder;
pub(crate) mod format;
