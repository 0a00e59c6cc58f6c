//! Mistakes that other implementations of Raft have made and published, each as a test of the engine with its story. Every
//! one of them names the public report, and the rule of this library that rules the mistake out.

mod clients;
mod commit;
pub(crate) mod common;
mod elections;
mod liveness;
mod lone;
mod membership;
mod post;
mod reads;
mod replication;
mod snapshots;
mod storage;
mod transfer;
mod variations;
