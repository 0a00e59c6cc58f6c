//! What may go wrong with one operation of a disk.

use std::collections::BTreeMap;
use std::io;

use super::content::Time;

/// What goes wrong with one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails; of a write nothing is done, of a sync any part.
    Fails,
    /// A write fails in its middle; anything else just fails.
    Partial,
    /// It succeeds, and a sync has made nothing durable.
    Lies,
}

/// What will go wrong, and how much room there is.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// By the number of the operation.
    planned: BTreeMap<Time, Fault>,
    /// From this operation on every one fails.
    broken_from: Option<Time>,
    /// From this operation on no sync makes anything durable.
    lies_from: Option<Time>,
    /// How many bytes all files may have together.
    pub(super) space: Option<u64>,
    /// Reads return less than was asked for, by this seed.
    pub(super) short_reads: Option<fastrand::Rng>,
    /// How many reads still succeed.
    pub(super) reads: Option<u64>,
}

impl Faults {
    pub(super) fn plan(&mut self, operation: Time, fault: Fault) {
        self.planned.insert(operation, fault);
    }

    pub(super) fn break_from(&mut self, operation: Time) {
        self.broken_from = Some(operation);
    }

    pub(super) fn lie_from(&mut self, operation: Time) {
        self.lies_from = Some(operation);
    }

    /// What goes wrong with this operation.
    pub(super) fn of(&self, operation: Time) -> Option<Fault> {
        if self.broken_from.is_some_and(|from| from <= operation) {
            return Some(Fault::Fails);
        }
        if self.lies_from.is_some_and(|from| from <= operation) {
            return Some(Fault::Lies);
        }
        self.planned.get(&operation).copied()
    }

    /// How much of `out` a read fills.
    pub(super) fn read_len(&mut self, wanted: usize) -> io::Result<usize> {
        if let Some(reads) = &mut self.reads {
            *reads = reads.checked_sub(1).ok_or_else(broken)?;
        }
        match &mut self.short_reads {
            // Half of them in full.
            Some(random) => Ok(random.usize(1..=2 * wanted.max(1)).min(wanted)),
            None => Ok(wanted),
        }
    }
}

pub(super) fn broken() -> io::Error {
    io::Error::other("the disk does not answer")
}

pub(super) fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left on device")
}
