//! The commands that make one call.

mod admin;
mod control;
mod data;
mod scan;

pub use admin::{MemberArgs, SnapshotArgs, TransferArgs, member, snapshot, transfer};
pub use control::{
    CampaignArgs, ForgetLeaderArgs, NodeArgs, PauseArgs, campaign, elections, forget_leader, heartbeats,
};
pub use data::{CasArgs, DeleteArgs, GetArgs, PutArgs, cas, delete, get, put};
pub use scan::{RangeArgs, ScanArgs, scan};
