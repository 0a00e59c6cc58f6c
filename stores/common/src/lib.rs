//! What the durable stores have in common: whose data a file holds, why it could not be opened, steps on files that
//! survive a crash, and a thread for their I/O.
//!
//! For those who write a store. Applications find what they need of it in the stores.

#![forbid(unsafe_code)]

mod error;
pub mod files;
mod identity;
pub mod worker;

pub use error::{About, OpenError, invalid_data};
pub use identity::Identity;
