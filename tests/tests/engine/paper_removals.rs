//! Nodes that are removed: how they learn it, whom they believe, and how those that lead hand over first.

use std::collections::BTreeSet;

use openconsensus::engine::{Input, Reply};
use openconsensus::{Body, Config, LogId, MembershipChange, Message, RoleName, Standing, VoteKind};
use openconsensus_tests::engines::{Cluster, ELECTION_TIMEOUT_MS, Letter, Outcome};

use super::known_bugs::common::{granted, heartbeats, ids, is_changed, with_learners};

fn standing(cluster: &Cluster, id: u64) -> Standing {
    cluster.metrics(id).standing
}

fn is_removed(letter: &Letter) -> bool {
    matches!(letter.body(), Some(Body::Removed { .. }))
}

/// Three voters, of which node 3 was removed while it was cut off.
fn removed_while_away(config: Config) -> Cluster {
    let mut cluster = Cluster::with_config(3, config);
    cluster.elect(1);
    cluster.isolate(&[3]);
    let request = cluster.change(1, MembershipChange::Remove(ids([3])));
    cluster.settle();
    assert!(is_changed(&cluster, request));
    // The leader does not serve it any more.
    cluster.run(5 * ELECTION_TIMEOUT_MS);
    cluster
}

/// A node says what it is: new, learner, voter, removed.
#[test]
fn a_node_says_what_it_is_in_its_cluster() {
    let mut cluster = Cluster::of(3);
    cluster.add_fresh(4);
    assert_eq!(standing(&cluster, 4), Standing::Outsider);
    cluster.elect(1);
    cluster.change(1, MembershipChange::AddLearners(openconsensus_tests::engines::nodes([4])));
    cluster.settle();
    cluster.run(heartbeats());
    assert_eq!(standing(&cluster, 4), Standing::Learner);
    cluster.change(1, MembershipChange::Promote(ids([4])));
    cluster.settle();
    assert_eq!((1..=4).map(|id| standing(&cluster, id)).collect::<BTreeSet<_>>(), [Standing::Voter].into());
    cluster.change(1, MembershipChange::Remove(ids([4])));
    cluster.settle();
    assert_eq!(standing(&cluster, 4), Standing::Removed);
    // What it was is not written down: a new beginning knows the latest membership only, unless the log shows more.
    cluster.crash(4);
    cluster.restart(4);
    assert!(matches!(standing(&cluster, 4), Standing::Removed | Standing::Outsider));
}

/// A node that was away when it was removed asks for votes, is told, and is silent from then on, with and without
/// pre-votes. After a restart it asks once more, and is told again.
#[test]
fn a_node_that_was_away_when_it_was_removed_is_told_once() {
    for (pre_vote, check_quorum) in [(true, true), (false, true), (true, false), (false, false)] {
        let mut cluster = removed_while_away(Config { pre_vote, check_quorum, ..Config::default() });
        assert_eq!(standing(&cluster, 3), Standing::Voter, "it does not know");
        for _ in 0..2 {
            cluster.heal();
            cluster.run(2 * ELECTION_TIMEOUT_MS);
            assert_eq!((standing(&cluster, 3), cluster.role(3)), (Standing::Removed, RoleName::Follower));
            let (terms, elections): (Vec<u64>, u64) =
                ((1..=3).map(|id| cluster.term(id)).collect(), cluster.metrics(3).counters.elections_started);
            cluster.run(20 * ELECTION_TIMEOUT_MS);
            assert_eq!((1..=3).map(|id| cluster.term(id)).collect::<Vec<_>>(), terms);
            assert_eq!(cluster.metrics(3).counters.elections_started, elections);
            assert!([1, 2].contains(&cluster.leader().expect("somebody leads")));
            cluster.crash(3);
            cluster.restart(3);
        }
    }
}

/// It is believed by a campaign that is under way, and by nobody else: not by a follower, a leader or a later campaign.
#[test]
fn whoever_does_not_campaign_does_not_believe_that_it_was_removed() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    let (term, membership) = (cluster.term(1), LogId::new(9, 9));
    let told = |campaign| Message { term, body: Body::Removed { campaign, membership } };
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(3, Input::Timeout);
    let early = cluster.campaign_of(3);
    cluster.lose_all();
    cluster.run(heartbeats());
    assert_eq!(cluster.role(3), RoleName::Follower);
    for id in 1..=3 {
        cluster.receive(id, 2, told(early));
    }
    cluster.crash(1);
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(3, Input::Timeout);
    assert_eq!(cluster.role(3), RoleName::PreCandidate);
    let now = cluster.campaign_of(3);
    cluster.receive(3, 2, told(early));
    assert_eq!((cluster.role(3), standing(&cluster, 3)), (RoleName::PreCandidate, Standing::Voter));
    cluster.receive(3, 2, told(now));
    assert_eq!((cluster.role(3), standing(&cluster, 3)), (RoleName::Follower, Standing::Removed));
    // It was a lie. The node still votes, so the others elect a leader; it hears that one, and is itself again.
    cluster.lose_all();
    cluster.run(5 * ELECTION_TIMEOUT_MS);
    assert!(cluster.is_leader(2) && standing(&cluster, 3) == Standing::Voter, "{}", cluster.describe());
    cluster.recover();
}

/// An operator who knows better asks the node to campaign.
#[test]
fn a_node_that_was_told_campaigns_when_it_is_asked_to() {
    let mut cluster = removed_while_away(Config::default());
    cluster.heal();
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    assert_eq!(standing(&cluster, 3), Standing::Removed);
    cluster.step(3, Input::Campaign);
    assert_eq!(cluster.role(3), RoleName::Candidate);
    cluster.settle();
    assert_eq!((cluster.role(3), standing(&cluster, 3)), (RoleName::Follower, Standing::Removed));
}

/// A member that lags does not know that a node was added again: it says that the node was removed, and its vote is the
/// one that is missing. Its word is not believed, because the candidate knows of a later membership; and its vote is
/// given, because it is given by log and term alone. Without either nobody could ever be elected here.
#[test]
fn a_member_that_lags_cannot_silence_the_only_node_that_can_be_elected() {
    let mut cluster = Cluster::of(4);
    cluster.elect(1);
    cluster.change(1, MembershipChange::Remove(ids([4])));
    cluster.settle();
    // Node 3 knows of the removal, and of nothing behind it.
    cluster.isolate(&[3]);
    cluster.change(1, MembershipChange::AddLearners(openconsensus_tests::engines::nodes([4])));
    cluster.settle();
    cluster.run(heartbeats());
    let request = cluster.change(1, MembershipChange::Promote(ids([4])));
    cluster.settle();
    assert!(is_changed(&cluster, request) && standing(&cluster, 4) == Standing::Voter);
    // Only node 4 has the last entry beside the leader, who dies.
    cluster.cut(1, 2);
    let write = cluster.write(1, 7);
    cluster.settle();
    assert_eq!(cluster.outcome(write), Outcome::Open);
    cluster.crash(1);
    cluster.heal();
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(4, Input::Campaign);
    let requests = cluster.intercept(|letter| letter.is_vote_request() && letter.to == 3);
    requests.into_iter().for_each(|letter| cluster.deliver(letter));
    assert!(cluster.letters().any(|letter| is_removed(letter) && (letter.from, letter.to) == (3, 4)));
    assert!(cluster.letters().any(|letter| letter.from == 3 && granted(letter) == Some(true)));
    cluster.settle();
    assert!(cluster.is_leader(4), "{}", cluster.describe());
    assert_eq!(cluster.outcome(write), Outcome::Applied);
    cluster.recover();
}

/// One that was added again while it was away believes that it was removed, and is back as soon as the leader speaks to it.
#[test]
fn a_node_that_is_added_again_is_back_when_it_hears_the_leader() {
    let mut cluster = removed_while_away(Config::default());
    cluster.heal();
    cluster.run(2 * ELECTION_TIMEOUT_MS);
    assert_eq!(standing(&cluster, 3), Standing::Removed);
    let leader = cluster.leader().expect("somebody leads");
    cluster.change(leader, MembershipChange::AddLearners(openconsensus_tests::engines::nodes([3])));
    cluster.settle();
    assert_eq!(standing(&cluster, 3), Standing::Learner);
    cluster.run(heartbeats());
    cluster.change(leader, MembershipChange::Promote(ids([3])));
    cluster.settle();
    cluster.elect(3);
}

/// Who asks for votes and is a member of the membership in force is told nothing, whatever is committed.
#[test]
fn members_are_not_told_that_they_were_removed() {
    let mut cluster = with_learners(3, [4]);
    let last = cluster.metrics(1).last;
    let term = cluster.term(1) + 1;
    for (from, is_told) in [(1, false), (2, false), (4, false), (9, true)] {
        let body = Body::VoteRequest { kind: VoteKind::Pre, campaign: 5, last };
        cluster.receive(3, from, Message { term, body });
        let answers = cluster.intercept(|letter| letter.from == 3);
        assert_eq!(answers.iter().any(is_removed), is_told, "node {from}: {answers:?}");
    }
}

/// Nobody waits for an election when a leader removes or demotes itself, also where its word to the successor is lost:
/// the time without a leader that takes writes is a round trip, or that and the time to the next heartbeat.
#[test]
fn a_leader_that_leaves_is_followed_within_a_heartbeat() {
    for voters in [2, 3, 4, 5, 7] {
        for is_demoted in [false, true] {
            for lost in 0..3_u64 {
                let mut cluster = Cluster::of(voters);
                cluster.elect(1);
                let change = if is_demoted { MembershipChange::Demote } else { MembershipChange::Remove };
                let request = cluster.change(1, change(ids([1])));
                let begun = cluster.now;
                let mut losses = 0;
                while cluster.leader() == Some(1) {
                    while let Some(letter) = cluster.take_oldest() {
                        if matches!(letter.body(), Some(Body::TimeoutNow)) && losses < lost {
                            losses += 1;
                            continue;
                        }
                        cluster.deliver(letter);
                    }
                    if cluster.leader() == Some(1) {
                        cluster.run_timers(1);
                    }
                    assert!((cluster.now - begun).as_millis() < 1000, "{}", cluster.describe());
                }
                let waited = (cluster.now - begun).as_millis() as u64;
                let heartbeat = Config::default().heartbeat_interval_ms;
                assert!(waited <= lost * heartbeat, "{waited} ms with {lost} losses");
                assert!(waited < Config::default().election_timeout_ms_min);
                assert!(matches!(cluster.reply(request), Some(Reply::MembershipChanged { .. })));
                let leader = cluster.leader().expect("somebody leads");
                let write = cluster.write(leader, 7);
                cluster.settle();
                assert_eq!(cluster.outcome(write), Outcome::Applied);
                // The old leader hears of it with its next heartbeat.
                cluster.run(heartbeats());
                assert_eq!(cluster.role(1), RoleName::Follower);
                let expected = if is_demoted { Standing::Learner } else { Standing::Removed };
                assert_eq!(standing(&cluster, 1), expected);
            }
        }
    }
}
