//! Tests of the write-ahead log through its public interface, most of them on a simulated disk.

mod conformance;
mod crash;
mod damage;
mod disk;
mod disk_itself;
mod explore;
mod faults;
mod helpers;
mod model;
mod stale;
mod workload;
