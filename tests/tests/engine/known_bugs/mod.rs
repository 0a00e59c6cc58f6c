//! Mistakes that other implementations of Raft have made and published, each as a test with its story. Every one of them
//! names the public report, and the rule of this library that rules the mistake out.

mod commit;
mod common;
mod elections;
mod membership;
mod replication;
mod variations;
