//! `kv`: a replicated key-value store on openconsensus. One program is node, client and tool.

#![forbid(unsafe_code)]

pub mod client;
pub mod outcome;
pub mod proto;
