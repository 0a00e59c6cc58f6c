//! Bugs that other implementations of Raft have had, as far as it takes whole stores or whole clusters to show them: what
//! went wrong there, and which rule keeps it out of here.

mod clients;
mod snapshots;
