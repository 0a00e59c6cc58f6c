//! For readers who know etcd/raft: what each method and each message of it is here, or why there is none.
//!
//! The idea is the same: a state machine of the algorithm without I/O, and somebody who drives it. What differs most:
//! time is an argument instead of a count of ticks, a turn of the driver is [`Engine::step`] any number of times and
//! [`Engine::take_effects`] once, and completions are inputs that name a numbered write, so that there is no
//! `Advance`. An application has two ways in: the [`Engine`], in the place of `RawNode`, and [`Raft`], which is an engine
//! with its driver, in the place of `Node` and all that an application has to build around it.
//!
//! # The node interface
//!
//! | etcd/raft | on an engine | on [`Raft`] |
//! | --- | --- | --- |
//! | `Tick` | [`Input::Timeout`], at the latest at [`Engine::next_deadline`]; coming too early does no harm | none: the driver has a timer |
//! | `Campaign` | [`Input::Campaign`] | [`Raft::campaign`] |
//! | `Propose` | [`Input::Write`], answered by [`Reply::Appended`] or [`Reply::NotLeader`] | [`Raft::write`] and [`Raft::write_many`], which return the response of the state machine |
//! | `ProposeConfChange` | [`Input::ChangeMembership`] | [`Raft::change_membership`], [`Raft::add_learner`], [`Raft::promote`]; return when the change is done |
//! | `Step` | [`Input::Receive`] | [`Raft::receive`], called by the network |
//! | `Ready` | [`Engine::take_effects`] | none: the driver carries effects out |
//! | `Advance` | none: [`Input::Persisted`], [`Input::Applied`] and [`Input::LogRead`] say what is done, each when it is | none |
//! | `ApplyConfChange` | none: a membership is in force from the moment it is appended, and the engine reads it from its own log (Raft paper, section 6) | none |
//! | `TransferLeadership` | [`Input::TransferLeadership`], answered when it is over | [`Raft::transfer_leadership`] |
//! | `ForgetLeader` | [`Input::ForgetLeader`] | [`Raft::forget_leader`] |
//! | `ReadIndex` | [`Input::Read`], answered by [`Reply::ReadReady`]; [`Input::ReadByLease`] for what `ReadOnlyLeaseBased` does | [`Raft::read`] and [`Raft::read_by_lease`], which return when the state machine may be read |
//! | `Status` | [`Engine::metrics`], and a method for each number that is cheap to ask for | [`Raft::metrics`], [`Raft::wait`] |
//! | `ReportUnreachable` | [`Input::Unreachable`] | [`Raft::report_unreachable`], called by the network |
//! | `ReportSnapshot` | [`Input::SnapshotSent`] | none: what [`RaftNetwork::send_snapshot`] resolves to says it |
//! | `Stop` | drop the engine | [`Raft::shutdown`], or dropping the last handle |
//!
//! Of `RawNode` besides: `HasReady` is [`Effects::is_empty`] behind a [`take_effects`](Engine::take_effects) that costs nothing
//! when nothing has happened; `Bootstrap` and `StartNode` with peers are [`Input::Initialize`], to be asked of one node;
//! `RestartNode` is [`Engine::new`] with what was [`Recovered`].
//!
//! # Messages
//!
//! Where etcd/raft has one type for everything that goes into the state machine, here a [`Body`] is what peers say to each
//! other, an [`Input`] is what happens on a node, and what the engine wants to be done stands in [`Effects`].
//!
//! | etcd/raft | here |
//! | --- | --- |
//! | `MsgHup` | none: the deadline of an election is inside the engine; [`Input::Campaign`] by hand |
//! | `MsgBeat` | none: the deadline of the next heartbeats is inside the engine |
//! | `MsgProp` | [`Input::Write`]; not forwarded from node to node: [`Reply::NotLeader`] names the leader, and the client knows what became of each attempt |
//! | `MsgApp` | [`Body::Append`]; [`Body::Commit`] where there is only a commit index to tell, which needs no answer |
//! | `MsgAppResp` | [`Body::AppendResponse`] |
//! | `MsgVote` | [`Body::VoteRequest`] with [`VoteKind::Normal`](crate::VoteKind::Normal), or [`VoteKind::Transfer`](crate::VoteKind::Transfer) for one whom the leader has asked to campaign |
//! | `MsgVoteResp` | [`Body::VoteResponse`] |
//! | `MsgSnap` | [`SnapshotEffect::Send`] and [`Input::InstallSnapshot`]: a stream beside the messages, because it may be large |
//! | `MsgHeartbeat` | [`Body::Heartbeat`], whose round also confirms reads and leases |
//! | `MsgHeartbeatResp` | [`Body::HeartbeatResponse`] |
//! | `MsgUnreachable` | [`Input::Unreachable`] |
//! | `MsgSnapStatus` | [`Input::SnapshotSent`] |
//! | `MsgCheckQuorum` | none: a leader counts when it last heard of a quorum whenever its heartbeats are due |
//! | `MsgTransferLeader` | [`Input::TransferLeadership`]; from a follower to its leader [`Body::TransferRequest`], answered by [`Body::TransferResponse`] |
//! | `MsgTimeoutNow` | [`Body::TimeoutNow`]; one who will not take over says so by [`Body::TimeoutNowDeclined`] |
//! | `MsgReadIndex` | [`Input::Read`] and [`Input::ReadByLease`]; from a follower to its leader [`Body::ReadRequest`] |
//! | `MsgReadIndexResp` | [`Body::ReadResponse`], and to the client [`Reply::ReadReady`] |
//! | `MsgPreVote` | [`Body::VoteRequest`] with [`VoteKind::Pre`](crate::VoteKind::Pre) |
//! | `MsgPreVoteResp` | [`Body::VoteResponse`] with the same |
//! | `MsgStorageAppend` | [`LogWrite`] |
//! | `MsgStorageAppendResp` | [`Input::Persisted`] with the number of the write; it cannot be taken for another one, as an index and a term can |
//! | `MsgStorageApply` | [`Apply`] |
//! | `MsgStorageApplyResp` | [`Input::Applied`] |
//! | `MsgForgetLeader` | [`Input::ForgetLeader`] |
//!
//! # What has no counterpart in etcd/raft
//!
//! | here | what it is for | who does it there |
//! | --- | --- | --- |
//! | [`Input::LogRead`] | the engine keeps a bounded tail of the log in memory and asks for older entries | `Storage.Entries`, a call that blocks |
//! | [`Input::StorageFailed`] | a node whose disk has failed gives up leadership and falls silent | the application, which panics |
//! | [`Input::BuildSnapshot`], [`Input::SnapshotBuilt`] | the engine says when a snapshot is due and what may be purged behind it | the application, by `CreateSnapshot` and `Compact` |
//! | [`Input::SnapshotBuildFailed`], [`Input::SnapshotUnreadable`] | a snapshot that could not be built or is damaged is built again | the application |
//! | [`Input::PurgeLog`] | purges the log behind the snapshot by hand | the application, by `Compact` |
//! | [`Input::SnapshotInstalled`] | the state machine has taken a snapshot over, beside everything else | the application, before `Advance` |
//! | [`Input::PauseElections`], [`Input::PauseHeartbeats`] | maintenance at run time | nobody |
//! | [`Input::ClockJumped`] | ends leases that cannot be trusted any more | nobody: `ReadOnlyLeaseBased` trusts the clock |
//! | [`Body::Removed`] | tells a node that it was removed | the application |
//!
//! [`Raft`]: crate::Raft
//! [`Raft::add_learner`]: crate::Raft::add_learner
//! [`Raft::campaign`]: crate::Raft::campaign
//! [`Raft::change_membership`]: crate::Raft::change_membership
//! [`Raft::forget_leader`]: crate::Raft::forget_leader
//! [`Raft::metrics`]: crate::Raft::metrics
//! [`Raft::promote`]: crate::Raft::promote
//! [`Raft::read`]: crate::Raft::read
//! [`Raft::read_by_lease`]: crate::Raft::read_by_lease
//! [`Raft::receive`]: crate::Raft::receive
//! [`Raft::report_unreachable`]: crate::Raft::report_unreachable
//! [`Raft::shutdown`]: crate::Raft::shutdown
//! [`Raft::transfer_leadership`]: crate::Raft::transfer_leadership
//! [`Raft::wait`]: crate::Raft::wait
//! [`Raft::write`]: crate::Raft::write
//! [`Raft::write_many`]: crate::Raft::write_many
//! [`RaftNetwork::send_snapshot`]: crate::RaftNetwork::send_snapshot

#[cfg(doc)]
use super::{Apply, Effects, Engine, Input, LogWrite, Recovered, Reply, SnapshotEffect};
#[cfg(doc)]
use crate::message::Body;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// What the tables say: the comment at the head of this file.
    fn tables() -> &'static str {
        let source = include_str!("etcd.rs");
        source.split_once("\n\n").map(|(head, _)| head).expect("the code follows the comment")
    }

    /// The first cell of every row of a table.
    fn rows() -> BTreeSet<&'static str> {
        tables().lines().filter_map(|line| line.strip_prefix("//! | ")?.split(" | ").next()).collect()
    }

    /// The variants of an enum, read from its source.
    fn variants(source: &str, name: &str) -> Vec<String> {
        let (_, body) =
            source.split_once(&format!("pub enum {name}<C: TypeConfig> {{\n")).expect("it is an enum");
        let (body, _) = body.split_once("\n}").expect("it ends");
        let declared = body.lines().filter_map(|line| line.strip_prefix("    "));
        let named = declared.filter(|line| line.starts_with(char::is_uppercase));
        named.map(|line| line.chars().take_while(char::is_ascii_alphanumeric).collect()).collect()
    }

    #[test]
    fn every_method_of_the_node_interface_has_its_row() {
        const METHODS: [&str; 15] = [
            "Tick",
            "Campaign",
            "Propose",
            "ProposeConfChange",
            "Step",
            "Ready",
            "Advance",
            "ApplyConfChange",
            "TransferLeadership",
            "ForgetLeader",
            "ReadIndex",
            "Status",
            "ReportUnreachable",
            "ReportSnapshot",
            "Stop",
        ];
        let rows = rows();
        for method in METHODS {
            assert!(rows.contains(format!("`{method}`").as_str()), "no row says what {method} is here");
        }
    }

    #[test]
    fn every_message_has_its_row() {
        const MESSAGES: [&str; 24] = [
            "Hup",
            "Beat",
            "Prop",
            "App",
            "AppResp",
            "Vote",
            "VoteResp",
            "Snap",
            "Heartbeat",
            "HeartbeatResp",
            "Unreachable",
            "SnapStatus",
            "CheckQuorum",
            "TransferLeader",
            "TimeoutNow",
            "ReadIndex",
            "ReadIndexResp",
            "PreVote",
            "PreVoteResp",
            "StorageAppend",
            "StorageAppendResp",
            "StorageApply",
            "StorageApplyResp",
            "ForgetLeader",
        ];
        let rows = rows();
        for message in MESSAGES {
            assert!(
                rows.contains(format!("`Msg{message}`").as_str()),
                "no row says what Msg{message} is here"
            );
        }
    }

    #[test]
    fn every_input_and_every_message_of_ours_is_named() {
        let inputs = variants(include_str!("input.rs"), "Input");
        let bodies = variants(include_str!("../message.rs"), "Body");
        // The enums are read as they stand.
        assert!(
            ["Timeout", "Receive", "SnapshotInstalled"].iter().all(|name| inputs.iter().any(|i| i == name))
        );
        assert!(["VoteRequest", "TimeoutNow"].iter().all(|name| bodies.iter().any(|body| body == name)));
        let named = |kind: &str, name: &String| tables().contains(&format!("`{kind}::{name}`"));
        let inputs: Vec<_> = inputs.iter().filter(|name| !named("Input", name)).collect();
        let bodies: Vec<_> = bodies.iter().filter(|name| !named("Body", name)).collect();
        assert!(
            inputs.is_empty(),
            "say in a table what etcd/raft has for the inputs {inputs:?}, or that it has none"
        );
        assert!(
            bodies.is_empty(),
            "say in a table what etcd/raft has for the messages {bodies:?}, or that it has none"
        );
    }
}
