//! The commands that make one call.

mod admin;
mod control;
mod data;
mod scan;

pub use admin::{MemberArgs, TransferArgs, member, transfer};
pub use control::{
    CampaignArgs, ForgetLeaderArgs, NodeArgs, PauseArgs, PurgeArgs, SnapshotArgs, campaign, elections,
    forget_leader, heartbeats, purge, snapshot,
};
pub use data::{CasArgs, DeleteArgs, GetArgs, PutArgs, cas, delete, get, put};
pub use scan::{RangeArgs, ScanArgs, scan};
