//! Durable stores on [redb].

#![forbid(unsafe_code)]

mod application;
mod codec;
mod database;
mod error;
mod files;
mod identity;
pub mod kv;
mod log;
mod open;
mod options;
mod reader;
mod snapshot;
mod state_machine;
mod worker;

pub use application::{Application, StateTable, Transaction};
pub use codec::StoredConfig;
pub use error::{BoxError, OpenError};
pub use identity::Identity;
pub use log::{RedbLog, RedbLogReader};
pub use open::{open, open_with};
pub use options::Options;
/// The database below, whose table types applications use.
pub use redb;
pub use reader::{StateReader, StateView};
pub use state_machine::RedbStateMachine;
