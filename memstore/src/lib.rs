//! In-memory log storage and key-value state machine.

pub mod kv;
