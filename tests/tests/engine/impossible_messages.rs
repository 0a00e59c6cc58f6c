//! Messages with numbers that no cluster can have come to: the sender is broken, or the bytes are not what was sent.

use openconsensus::engine::Input;
use openconsensus::{
    AppendResult, Body, Entries, Entry, InstallSnapshot, LogId, MembershipAt, Message, Payload, RoleName,
    SnapshotMeta,
};
use openconsensus_tests::engines::{Cluster, ELECTION_TIMEOUT_MS, Test};

/// A follower took over the last term that a number can hold from such a message, and failed when it campaigned in the
/// next one: one broken peer stopped every node that it could reach.
#[test]
fn a_term_that_no_cluster_comes_to_is_not_taken_over() {
    let mut cluster = Cluster::of(3);
    let bodies: [Body<Test>; 3] = [
        Body::Heartbeat { round: 1, commit: LogId::new(1, 1) },
        Body::Append { prev: LogId::new(1, 1), entries: Entries::empty(), commit: 1 },
        Body::TimeoutNow,
    ];
    for body in bodies {
        cluster.receive(1, 2, Message { term: u64::MAX, body });
    }
    let meta = SnapshotMeta { last: LogId::new(9, 9), membership: MembershipAt::default(), size_bytes: None };
    let snapshot = InstallSnapshot { term: u64::MAX, leader: 2, meta };
    let request = cluster.request();
    cluster.step(1, Input::InstallSnapshot { request, snapshot });
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(1, Input::Campaign);
    cluster.settle();
    assert_eq!((cluster.role(1), cluster.term(1)), (RoleName::Leader, 2));
}

/// The leader added one to the index of a conflict that had none behind it.
#[test]
fn an_index_that_no_log_comes_to_is_not_counted_on_from() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.step(1, Input::Unreachable { peer: 2 });
    let far = LogId::new(1, u64::MAX);
    let bodies: [Body<Test>; 4] = [
        Body::AppendResponse { result: AppendResult::Conflict { rejected: u64::MAX, hint: far } },
        Body::AppendResponse { result: AppendResult::Matched { matched: u64::MAX } },
        Body::AppendResponse { result: AppendResult::Conflict { rejected: 1, hint: far } },
        Body::VoteRequest { kind: openconsensus::VoteKind::Transfer, campaign: 1, last: far },
    ];
    for body in bodies {
        cluster.receive(1, 2, Message { term: 2, body });
    }
    let follower =
        Message { term: 2, body: Body::Append { prev: far, entries: Entries::empty(), commit: 9 } };
    cluster.receive(3, 1, follower);
    cluster.write(1, 7);
    cluster.settle();
    assert_eq!(cluster.commands(3), [7]);
}

/// An append began within what was committed, where nobody looks at the entry before it, and went on with entries of an
/// older term than what was committed. The follower failed; now it drops them.
#[test]
fn entries_of_an_older_term_than_what_is_committed_are_dropped() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let committed = cluster.committed(3);
    let entries: Vec<Entry<Test>> = (committed..committed + 2)
        .map(|index| Entry { log_id: LogId::new(1, index), payload: Payload::Blank })
        .collect();
    let prev = LogId::new(1, committed - 1);
    let message = Message { term: 2, body: Body::Append { prev, entries: entries.into(), commit: 9 } };
    cluster.receive(3, 1, message);
    cluster.write(1, 7);
    cluster.settle();
    assert_eq!((cluster.committed(3), cluster.commands(3)), (committed + 1, vec![7]));
}
