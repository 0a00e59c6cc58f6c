//! What the measurements of openconsensus have in common.

#![forbid(unsafe_code)]

mod resident;

pub use resident::resident_bytes;
