//! What several of these tests need: messages as a leader or a candidate might send them, and what is answered to them.

use std::collections::BTreeSet;

use openconsensus::engine::{Reply, RequestId};
use openconsensus::{
    AppendResult, Body, ChangeMembershipError, Config, Entries, LogId, MembershipChange, Message, Term,
    VoteKind,
};
use openconsensus_tests::engines::{Cluster, Letter, Test, log_of, nodes};

pub(crate) fn ids(ids: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    ids.into_iter().collect()
}

/// An append as the leader of `term` might send it: the entries behind `prev` of a log with these terms.
pub(crate) fn append(term: Term, prev: u64, terms: &[Term], commit: u64) -> Message<Test> {
    let log: Entries<Test> = log_of(3, terms).into();
    let entries = log.slice(prev + 1..u64::MAX);
    let prev = log.at(prev).map_or(LogId::ZERO, |entry| entry.log_id);
    Message { term, body: Body::Append { prev, entries, commit } }
}

/// What node `id` answers to an append of `leader`, when its disk is done.
pub(crate) fn answer(cluster: &mut Cluster, id: u64, leader: u64, message: Message<Test>) -> AppendResult {
    cluster.receive(id, leader, message);
    let answers = cluster.intercept(|letter| letter.from == id);
    match answers.last().and_then(Letter::body) {
        Some(Body::AppendResponse { result }) => *result,
        other => panic!("no answer to an append, but {other:?}"),
    }
}

pub(crate) fn matched(letter: &Letter) -> Option<u64> {
    match letter.body() {
        Some(Body::AppendResponse { result: AppendResult::Matched { matched } }) => Some(*matched),
        _ => None,
    }
}

pub(crate) fn granted(letter: &Letter) -> Option<bool> {
    match letter.body() {
        Some(Body::VoteResponse { granted, .. }) => Some(*granted),
        _ => None,
    }
}

/// Whether `voter` gives its vote to `candidate`, whose log ends with `last`; `None` when it says nothing yet.
pub(crate) fn ask(
    cluster: &mut Cluster,
    voter: u64,
    candidate: u64,
    term: Term,
    kind: VoteKind,
    last: LogId,
) -> Option<bool> {
    let body = Body::VoteRequest { kind, campaign: 77, last };
    cluster.receive(voter, candidate, Message { term, body });
    let answers = cluster.intercept(|letter| letter.from == voter && letter.is_vote_response());
    answers.last().and_then(granted)
}

/// Node `id` campaigns, and everything is delivered but what `is_lost`. A leader that lives is not heard meanwhile.
pub(crate) fn campaign_but(cluster: &mut Cluster, id: u64, is_lost: impl Fn(&Letter) -> bool) {
    cluster.skip(openconsensus_tests::engines::ELECTION_TIMEOUT_MS);
    cluster.step(id, openconsensus::engine::Input::Campaign);
    cluster.settle_but(is_lost);
}

pub(crate) fn refusal(cluster: &Cluster, request: RequestId) -> &ChangeMembershipError<Test> {
    match cluster.reply(request) {
        Some(Reply::ChangeMembershipFailed(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) fn is_changed(cluster: &Cluster, request: RequestId) -> bool {
    matches!(cluster.reply(request), Some(Reply::MembershipChanged { .. }))
}

pub(crate) fn is_commit(letter: &Letter) -> bool {
    matches!(letter.body(), Some(Body::Commit { .. }))
}

/// Long enough for everybody to have answered a heartbeat.
pub(crate) fn heartbeats() -> u64 {
    2 * Config::default().heartbeat_interval_ms
}

/// Keeps nothing in the log behind a snapshot.
pub(crate) fn purging() -> Config {
    Config { log_keep_entries: 0, log_hold_entries_max: 0, snapshot_after_entries: None, ..Config::default() }
}

/// Voters 1 to `voters` with node 1 leading, and learners behind them that have caught up.
pub(crate) fn with_learners(voters: u64, learners: impl IntoIterator<Item = u64>) -> Cluster {
    let mut cluster = Cluster::of(voters);
    let learners = nodes(learners);
    if learners.is_empty() {
        cluster.elect(1);
        return cluster;
    }
    for id in learners.keys() {
        cluster.add_fresh(*id);
    }
    cluster.elect(1);
    let request = cluster.change(1, MembershipChange::AddLearners(learners));
    cluster.settle();
    cluster.run(heartbeats());
    assert!(is_changed(&cluster, request));
    cluster
}
