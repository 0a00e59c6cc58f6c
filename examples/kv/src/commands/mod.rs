//! The commands that make one call.

mod admin;
mod data;
mod scan;

pub use admin::{MemberArgs, SnapshotArgs, TransferArgs, member, snapshot, transfer};
pub use data::{CasArgs, DeleteArgs, GetArgs, PutArgs, cas, delete, get, put};
pub use scan::{RangeArgs, ScanArgs, scan};
