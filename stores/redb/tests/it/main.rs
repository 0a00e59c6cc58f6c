//! Tests of the durable stores through their public interface.

mod cluster;
mod conformance;
mod disk;
mod garbage;
mod helpers;
mod identity;
mod known_bugs;
mod known_bugs_identity;
mod kv;
mod layout;
mod log_contract;
mod log_crash;
mod log_full_disk;
mod open;
mod snapshot_damage;
mod snapshots;
mod state_machine;
mod state_machine_full_disk;
