//! Tests of the pure engine: one for each sentence of the Raft paper and thesis that rules, and random faults.

mod impossible_messages;
mod known_bugs;
mod liveness;
mod paper_clients;
mod paper_elections;
mod paper_leases;
mod paper_membership;
mod paper_removals;
mod paper_replication;
mod paper_safety;
mod paper_snapshots;
mod paper_transfers;
mod scenarios;
mod simulation;
mod snapshots;
