//! Mistakes that other implementations of Raft have made and published, each as a test with its story. Every one of them
//! names the public report, and the rule of this library that rules the mistake out.

mod commit;
mod common;
mod elections;
mod membership;
mod replication;
mod variations;
//! Bugs that other implementations of Raft have had, each as a test of the engine: what went wrong there, and which rule
//! keeps it out of here.

mod clients;
mod liveness;
mod lone;
mod post;
mod reads;
mod snapshots;
mod storage;
mod transfer;
