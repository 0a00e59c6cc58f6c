//! `kv`: a replicated key-value store on openconsensus. One program is node, client and tool.

#![forbid(unsafe_code)]

pub mod address;
pub mod bench;
pub mod cli;
pub mod client;
pub mod commands;
pub mod demo;
pub mod export;
pub mod format;
pub mod import;
pub mod log;
pub mod outcome;
pub mod process;
pub mod proto;
pub mod serve;
pub mod service;
pub mod status;
