//! Known bugs that let a cluster stand still or lose its leader for nothing.

use openconsensus::engine::Input;
use openconsensus::{Body, Config, LogId, MembershipChange, Message, ProgressName, RoleName, Term, VoteKind};
use openconsensus_tests::engines::{Cluster, ELECTION_TIMEOUT_MS, Letter, Outcome, nodes};

use super::post::each_way;

/// Starts a crashed node that asks before it campaigns, or not.
fn start_with_pre_vote(cluster: &mut Cluster, id: u64, pre_vote: bool) {
    let config = Config { pre_vote, ..Config::default() }.validate().expect("it is valid");
    let now = cluster.now;
    cluster.node_mut(id).start(&config, now).expect("its disk is whole");
    cluster.oracle.restarted(&cluster.nodes[&id]);
    cluster.step(id, Input::Timeout);
}

/// What node `to` says when `from` asks for its vote.
fn ask(cluster: &mut Cluster, to: u64, from: u64, kind: VoteKind, term: Term, last: LogId) -> bool {
    let others = cluster.intercept(|_| true);
    cluster.receive(to, from, Message { term, body: Body::VoteRequest { kind, campaign: 4_711, last } });
    let answers = cluster.intercept(|letter| letter.is_vote_response() && letter.to == from);
    others.into_iter().for_each(|letter| cluster.put_back(letter));
    match answers.first().and_then(Letter::body) {
        Some(Body::VoteResponse { granted, .. }) => *granted,
        other => panic!("not answered: {other:?}"),
    }
}

// ---- pre-votes ----

/// etcd-io/etcd#8243 and #8501, canonical/raft#279 and #280, tikv/raft-rs#42.
///
/// A node that had been away came back in an old term just as the leader of a much later one died. Its pre-votes were
/// dropped as old, so it never learnt of the later term; and the only other node had the shorter log. Nobody could be
/// elected. With nodes of which some asked first and others did not it was the same. Here every refusal is sent and
/// carries the term of its sender, and who gets it takes the term over.
#[test]
fn a_node_that_returns_in_an_old_term_can_elect_and_be_elected() {
    each_way(|post| {
        for (returning_has_more, asks) in [(true, false), (false, true), (true, true), (false, false)]
            .into_iter()
            .flat_map(|(more, ask)| [(more, [ask, true]), (more, [ask, false])])
        {
            // Node 2, which led in term 5, is gone.
            let (one, three): (&[Term], &[Term]) =
                if returning_has_more { (&[1], &[1, 1, 1]) } else { (&[1, 1, 5], &[1]) };
            let mut cluster = Cluster::with_logs(3, &[(1, one), (3, three)]);
            for (id, pre_vote) in [(1, asks[0]), (3, asks[1])] {
                cluster.crash(id);
                let state = &mut cluster.node_mut(id).disk.hard_state;
                state.term = if id == 1 { 5 } else { 1 };
                start_with_pre_vote(&mut cluster, id, pre_vote);
            }
            // The one that is to be elected must get there by the answers to its own questions.
            let expected = if returning_has_more { 3 } else { 1 };
            post.run_but(&mut cluster, 20 * ELECTION_TIMEOUT_MS, |letter| {
                letter.is_vote_request() && letter.from != expected
            });
            assert_eq!(cluster.leader(), Some(expected), "{asks:?}:\n{}", cluster.describe());
            assert!(cluster.term(expected) < 20, "{}", cluster.describe());
        }
    });
}

/// hashicorp/raft#605 and #606, etcd-io/etcd#8334, tikv/raft-rs#84, rabbitmq/ra#439 and #442.
///
/// Of three nodes one was dead, and the leader had given up its leadership by itself. The other node refused it its vote,
/// because "a leader is known": that very node. Or a node that was asking itself still named its old leader and refused
/// everybody. Here a known leader stands in nobody's way but in that of others, and who asks knows no leader.
#[test]
fn the_known_leader_itself_and_nodes_that_ask_themselves_are_answered() {
    let mut cluster = Cluster::of(3);
    cluster.elect(1);
    cluster.crash(3);
    let (term, last) = (cluster.term(1), cluster.metrics(1).last);
    cluster.time_out(1);
    cluster.settle();
    assert!(!ask(&mut cluster, 2, 3, VoteKind::Pre, term, last), "node 2 hears node 1");
    assert!(ask(&mut cluster, 2, 1, VoteKind::Pre, term, last), "which may ask itself");
    // Node 2 hears nothing more, and asks: it knows no leader from then on.
    cluster.lose_all();
    cluster.time_out(2);
    assert_eq!(cluster.role(2), RoleName::PreCandidate);
    cluster.lose_all();
    for asking in [1, 3] {
        assert!(ask(&mut cluster, 2, asking, VoteKind::Pre, term, last));
    }
    // A candidate answers one of its own term too, by its log.
    cluster.step(2, Input::Campaign);
    assert_eq!(cluster.role(2), RoleName::Candidate);
    let term = cluster.term(2);
    let longer = LogId { index: last.index + 1, ..last };
    assert!(ask(&mut cluster, 2, 1, VoteKind::Pre, term, longer));
    assert!(!ask(&mut cluster, 2, 1, VoteKind::Pre, term, LogId::new(1, 1)));
}

/// hashicorp/raft#605, rabbitmq/ra#439: the whole story, with a node that is dead and a leader that gives up.
#[test]
fn two_of_three_nodes_elect_a_leader_again_when_theirs_has_given_up() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 1);
        cluster.crash(3);
        // Node 1 is heard, and hears nothing.
        cluster.cut_one_way(2, 1);
        let mut waited = 0;
        while cluster.is_leader(1) {
            post.run(&mut cluster, 10);
            waited += 10;
            assert!(waited <= 2 * ELECTION_TIMEOUT_MS, "it gives up in time");
        }
        cluster.heal();
        post.run(&mut cluster, 4 * ELECTION_TIMEOUT_MS);
        assert!(cluster.leader().is_some(), "{}", cluster.describe());
    });
}

/// hashicorp/raft#609.
///
/// Saying yes to a pre-vote set the voter's own timer anew. A node with an old log and a short timeout asked all the time,
/// lost every time, and nobody else ever ran out of patience. Here a pre-vote changes nothing at all at the voter (thesis
/// 9.6).
#[test]
fn a_node_that_asks_in_vain_all_the_time_keeps_nobody_else_from_an_election() {
    for last in [LogId::new(1, 1), LogId::new(9, 9)] {
        let mut cluster = Cluster::of(3);
        cluster.elect(1);
        cluster.crash(1);
        cluster.crash(3);
        let term = cluster.term(2);
        let mut waited = 0;
        while cluster.role(2) == RoleName::Follower {
            let body = Body::VoteRequest { kind: VoteKind::Pre, campaign: waited, last };
            cluster.receive(2, 3, Message { term, body });
            cluster.lose_all();
            cluster.run(20);
            waited += 20;
            assert!(waited <= Config::default().election_timeout_ms_max + 20, "node 2 still waits");
        }
        assert_eq!((cluster.metrics(2).voted_for, cluster.term(2)), (Some(1), term));
    }
}

/// ClickHouse/NuRaft#134.
///
/// A pre-vote was granted by whoever heard no leader, whatever the log of who asked. A node with no hope of being elected
/// won every pre-vote and deposed one new leader after the other. Here the rule for the log is that of votes.
#[test]
fn a_node_that_cannot_be_elected_wins_no_pre_vote() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 1);
        cluster.isolate(&[3]);
        cluster.write_many(1, &[1, 2, 3]);
        post.settle(&mut cluster);
        cluster.crash(1);
        cluster.heal();
        let term = cluster.term(2);
        for _ in 0..20 {
            cluster.skip(ELECTION_TIMEOUT_MS);
            cluster.step(3, Input::Timeout);
            assert_eq!(cluster.role(3), RoleName::PreCandidate);
            // Appends and their answers are what would help it; it gets none.
            post.settle(&mut cluster);
            assert_eq!((cluster.term(2), cluster.term(3)), (term, term), "neither of them has moved");
        }
        post.run(&mut cluster, 10 * ELECTION_TIMEOUT_MS);
        assert_eq!(cluster.leader(), Some(2));
        assert!(cluster.term(2) <= term + 2);
    });
}

/// canonical/raft#196, redpanda-data/redpanda#2048.
///
/// A candidate was cut off right after it had won its pre-vote. From then on it raised its term with every timeout, and
/// deposed everybody with it when it came back. Here every timeout begins with a pre-vote, also that of a candidate.
#[test]
fn a_candidate_that_is_cut_off_raises_its_term_once() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 2);
        let term = cluster.term(1);
        cluster.isolate(&[2]);
        cluster.skip(ELECTION_TIMEOUT_MS);
        cluster.time_out(1);
        for _ in 0..10 {
            // The answers to its pre-vote arrive, and its requests for votes do not leave.
            let votes = |letter: &Letter| {
                matches!(letter.body(), Some(Body::VoteRequest { kind: VoteKind::Normal, .. }))
            };
            post.settle_but(&mut cluster, votes);
        }
        assert_eq!((cluster.role(1), cluster.term(1)), (RoleName::Candidate, term + 1));
        cluster.heal();
        cluster.isolate(&[1]);
        post.run(&mut cluster, 30 * ELECTION_TIMEOUT_MS);
        assert_eq!(cluster.term(1), term + 1);
        let leader = cluster.leader().expect("the others go on");
        cluster.heal();
        post.run(&mut cluster, 10 * ELECTION_TIMEOUT_MS);
        assert!(cluster.term(leader) <= term + 3, "{}", cluster.describe());
    });
}

// ---- links that work one way ----

/// Hoverbear/old-raft-rs#27, cockroachdb/cockroach#79699 and #49220.
///
/// A node was heard and heard nobody: it raised its term again and again, and each time the leader fell. Here it asks first,
/// and nobody who hears the leader says yes.
#[test]
fn a_node_that_is_heard_and_hears_nobody_deposes_no_leader() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 1);
        let term = cluster.term(1);
        cluster.cut_one_way(1, 3);
        cluster.cut_one_way(2, 3);
        for command in 0..20 {
            let write = cluster.write(1, command);
            post.run(&mut cluster, ELECTION_TIMEOUT_MS);
            assert_eq!(cluster.outcome(write), Outcome::Applied);
        }
        assert_eq!([1, 2, 3].map(|id| cluster.term(id)), [term; 3]);
        cluster.heal();
        post.run(&mut cluster, ELECTION_TIMEOUT_MS);
        assert_eq!((cluster.leader(), cluster.term(3)), (Some(1), term), "and it comes back quietly");
    });
}

/// RedisLabs/raft#24, neo4j/neo4j#8236, cockroachdb/cockroach#49220.
///
/// A leader was heard and heard nobody: its heartbeats kept the others calm, and nothing was committed any more. Here a
/// leader that hears no quorum for an election timeout steps down, and the others go on without it.
#[test]
fn a_leader_that_is_heard_and_hears_nobody_makes_room() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 1);
        cluster.cut_one_way(2, 1);
        cluster.cut_one_way(3, 1);
        post.run(&mut cluster, 6 * ELECTION_TIMEOUT_MS);
        let leader = cluster.leader().expect("somebody leads");
        assert_ne!(leader, 1);
        let write = cluster.write(leader, 7);
        post.run(&mut cluster, ELECTION_TIMEOUT_MS);
        assert_eq!(cluster.outcome(write), Outcome::Applied);
        let term = cluster.term(leader);
        post.run(&mut cluster, 20 * ELECTION_TIMEOUT_MS);
        assert_eq!((cluster.leader(), cluster.term(leader)), (Some(leader), term), "for good");
        cluster.recover();
    });
}

/// neo4j/neo4j#8236.
///
/// Three nodes in a ring, each of which hears only the one before it. No two of them can talk, so no rule can help: what is
/// shown is that nothing breaks, that no term grows meanwhile, and that all is well when the ring is mended.
#[test]
fn a_ring_of_one_way_links_elects_nobody_and_breaks_nothing() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 1);
        let term = cluster.term(1);
        for (from, to) in [(2, 1), (3, 2), (1, 3)] {
            cluster.cut_one_way(from, to);
        }
        post.run(&mut cluster, 30 * ELECTION_TIMEOUT_MS);
        assert_eq!(cluster.leader(), None);
        assert!([1, 2, 3].iter().all(|id| cluster.term(*id) <= term + 1), "{}", cluster.describe());
        cluster.recover();
    });
}

// ---- terms that grow ----

/// hashicorp/raft#524 and #525, redpanda-data/redpanda#2048 and #2071.
///
/// A node was restarted while the leader's connection to it was waiting before its next attempt. It heard no heartbeat for
/// three election timeouts, raised its term three times, and its first answer deposed the leader. Here it raises nothing,
/// because nobody says yes to it.
#[test]
fn a_restarted_node_that_is_not_reached_for_a_while_raises_no_term() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 1);
        let term = cluster.term(1);
        cluster.crash(3);
        cluster.restart(3);
        post.run_but(&mut cluster, 3 * ELECTION_TIMEOUT_MS, |letter| letter.from == 1 && letter.to == 3);
        post.run(&mut cluster, 2 * ELECTION_TIMEOUT_MS);
        assert_eq!([1, 2, 3].map(|id| cluster.term(id)), [term; 3]);
        assert_eq!((cluster.leader(), cluster.metrics(3).leader), (Some(1), Some(1)));
    });
}

/// RATIS-980, databendlabs/openraft (fix 228077a6).
///
/// A node that was no voter any more stood in a later term than the leader, and deposed it with every answer; when the leader
/// had been elected again the same began anew. Here a node that is no voter never raises its term, what a stranger says
/// of terms is not believed, and a member that is ahead costs one election at most.
#[test]
fn a_node_that_is_no_voter_does_not_depose_one_leader_after_the_other() {
    each_way(|post| {
        for demoted in [true, false] {
            let mut cluster = Cluster::of(4);
            post.elect(&mut cluster, 1);
            // Node 4 has campaigned on its own before it is told that it is no voter any more.
            cluster.isolate(&[4]);
            let ids = [4].into();
            let change = if demoted { MembershipChange::Demote(ids) } else { MembershipChange::Remove(ids) };
            cluster.change(1, change);
            post.settle(&mut cluster);
            for _ in 0..3 {
                cluster.step(4, Input::Campaign);
                cluster.skip(1);
            }
            cluster.lose_all();
            let (led, ahead) = (cluster.term(1), cluster.term(4));
            assert!(led + 3 <= ahead);
            cluster.heal();
            post.run(&mut cluster, 10 * ELECTION_TIMEOUT_MS);
            let leader = cluster.leader().expect("somebody leads");
            let term = cluster.term(leader);
            assert!(term <= ahead + 2, "{}", cluster.describe());
            post.run(&mut cluster, 20 * ELECTION_TIMEOUT_MS);
            assert_eq!((cluster.leader(), cluster.term(leader)), (Some(leader), term), "it is quiet then");
            assert_ne!(leader, 4);
            assert!(demoted || (leader, term) == (1, led), "a stranger has deposed the leader");
        }
    });
}

/// databendlabs/openraft (fix 228077a6): what a voter waits for once it has voted.
///
/// Its vote is on its way, and so is the first word of whoever has got it. Here it is given the time of a whole timeout.
#[test]
fn a_voter_gives_the_time_of_a_whole_timeout_to_who_got_its_vote() {
    let mut cluster = Cluster::of(3);
    cluster.crash(2);
    // Its own timer has run out, and was not looked at yet.
    cluster.skip(ELECTION_TIMEOUT_MS);
    cluster.step(1, Input::Campaign);
    let asked = cluster.intercept(|letter| letter.is_vote_request() && letter.to == 3);
    asked.into_iter().for_each(|letter| cluster.deliver(letter));
    let vote = cluster.intercept(Letter::is_vote_response);
    assert_eq!(vote.len(), 1);
    cluster.run(Config::default().election_timeout_ms_min - 10);
    assert_eq!(cluster.role(3), RoleName::Follower);
    vote.into_iter().for_each(|letter| cluster.deliver(letter));
    let term = cluster.term(1);
    cluster.run(10 * ELECTION_TIMEOUT_MS);
    assert_eq!((cluster.leader(), cluster.term(3)), (Some(1), term));
}

/// databendlabs/openraft (fix 228077a6), etcd-io/etcd#9892.
///
/// A voter's timer ran while its vote was being written, which took as long as an election timeout: it lost its patience right
/// after the new leader had won. Here the timer begins again with the vote and with the first word of the new leader, and
/// until then it only asks.
#[test]
fn a_voter_whose_disk_is_slow_does_not_depose_who_has_just_won() {
    each_way(|post| {
        for write_ms in [0, 60, 140] {
            let mut cluster = Cluster::of(3);
            cluster.crash(2);
            cluster.skip(ELECTION_TIMEOUT_MS);
            cluster.slow_disk(3);
            cluster.step(1, Input::Campaign);
            post.settle(&mut cluster);
            assert!(cluster.has_writes(3), "its vote is being written");
            post.run(&mut cluster, write_ms);
            let term = cluster.term(1);
            cluster.speed_up(3);
            post.settle(&mut cluster);
            assert!(cluster.is_leader(1), "{}", cluster.describe());
            post.run(&mut cluster, 10 * ELECTION_TIMEOUT_MS);
            assert_eq!((cluster.leader(), cluster.term(3)), (Some(1), term), "after {write_ms} ms");
        }
    });
}

// ---- what everybody must hear of ----

/// scylladb/scylladb#10379, tikv/tikv#6596, datafuselabs/databend#3474 (databendlabs/openraft, fix d836d85c).
///
/// A learner had forgotten the leader after a false alarm. Their logs were equal, so the leader had nothing to send, and
/// heartbeats went only to those who lagged: what the learner passed on went nowhere. Here heartbeats go to every member.
#[test]
fn a_member_that_has_everything_hears_of_the_leader_again() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 1);
        cluster.add_fresh(4);
        cluster.change(1, MembershipChange::AddLearners(nodes([4])));
        post.run(&mut cluster, ELECTION_TIMEOUT_MS);
        for id in [3, 4] {
            // It hears nothing until its timer runs out.
            cluster.time_out(id);
            assert_eq!(cluster.metrics(id).leader, None, "node {id} has forgotten the leader");
            let read = cluster.read(id);
            cluster.lose_all();
            post.run(&mut cluster, 4 * Config::default().heartbeat_interval_ms);
            assert_eq!(cluster.metrics(id).leader, Some(1));
            assert!(cluster.reply(read).is_some(), "and its read is answered");
        }
        assert_eq!(cluster.leader(), Some(1));
    });
}

/// hashicorp/raft#28, and the test data lagging_commit of etcd-io/raft.
///
/// The last write was committed, and with no further traffic the followers never heard of it. Here a commit that no append
/// has carried is told by itself, and if that is lost the next heartbeat brings it.
#[test]
fn followers_hear_of_the_last_commit_without_another_write() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 1);
        cluster.write(1, 7);
        post.settle(&mut cluster);
        assert_eq!([2, 3].map(|id| cluster.commands(id)), [[7], [7]], "at once");
        cluster.write(1, 8);
        post.settle_but(&mut cluster, |letter| matches!(letter.body(), Some(Body::Commit { .. })));
        assert_eq!(cluster.commands(2), [7]);
        post.run(&mut cluster, 2 * Config::default().heartbeat_interval_ms);
        assert_eq!([2, 3].map(|id| cluster.commands(id)), [[7, 8], [7, 8]], "with the next heartbeat");
    });
}

// ---- flow control ----

/// etcd-io/etcd#14633, and the test data replicate_pause and heartbeat_resp_recovers_from_probing of etcd-io/raft.
///
/// Three appends may be on their way to a peer, and three were lost: the window stayed full, and nothing was sent to that
/// peer any more. Here an answer to a later heartbeat makes the leader ask how far the peer has come.
#[test]
fn a_window_that_is_full_of_lost_appends_opens_again() {
    each_way(|post| {
        let config = Config { inflight_appends_max: 3, ..Config::default() };
        let mut cluster = Cluster::with_config(3, config);
        post.elect(&mut cluster, 1);
        for command in 0..6 {
            cluster.write(1, command);
            post.settle_but(&mut cluster, |letter| letter.to == 3 && letter.is_append());
        }
        assert_eq!(cluster.metrics(1).peers[&3].inflight_appends, 3);
        assert_eq!(cluster.metrics(3).last.index, 2);
        post.run(&mut cluster, 6 * Config::default().heartbeat_interval_ms);
        assert_eq!(cluster.commands(3), (0..6).collect::<Vec<_>>());
    });
}

/// cockroachdb/cockroach#31689 (etcd-io/etcd#10199).
///
/// A peer that had everything was reported to be unreachable, and was asked with care from then on: with nothing to send it
/// was never asked at all, and stayed in that state. Here the question is sent also when there is nothing to send.
#[test]
fn a_peer_that_has_everything_and_was_unreachable_is_replicated_to_again() {
    each_way(|post| {
        let mut cluster = Cluster::of(3);
        post.elect(&mut cluster, 1);
        cluster.write(1, 1);
        post.settle(&mut cluster);
        assert_eq!(cluster.metrics(1).peers[&3].progress, ProgressName::Replicate);
        for is_lost in [false, true] {
            cluster.step(1, Input::Unreachable { peer: 3 });
            assert_eq!(cluster.metrics(1).peers[&3].progress, ProgressName::Probe);
            if is_lost {
                cluster.lose_all();
            }
            post.run(&mut cluster, 4 * Config::default().heartbeat_interval_ms);
            assert_eq!(cluster.metrics(1).peers[&3].progress, ProgressName::Replicate);
        }
    });
}

/// etcd-io/raft#11.
///
/// An entry that was larger than the limit for one message was never sent. Here the limit lets at least one entry through.
#[test]
fn an_entry_larger_than_every_limit_is_sent_by_itself() {
    each_way(|post| {
        // Sent from memory, and read from the disk.
        for tail_bytes_max in [1 << 20, 0] {
            let config = Config {
                append_bytes_max: 1024,
                inflight_bytes_max: 1024,
                apply_bytes_max: 1024,
                tail_bytes_max,
                ..Config::default()
            };
            let mut cluster = Cluster::with_config(3, config);
            post.elect(&mut cluster, 1);
            // A membership of 60 nodes counts 64 bytes for each.
            let before = cluster.write(1, 1);
            cluster.change(1, MembershipChange::AddLearners(nodes(10..67)));
            let behind = cluster.write(1, 2);
            assert!(2 * 1024 < cluster.node(1).view.at(4).expect("it was appended").size_bytes());
            post.run(&mut cluster, ELECTION_TIMEOUT_MS);
            assert_eq!([before, behind].map(|write| cluster.outcome(write)), [Outcome::Applied; 2]);
            assert!(cluster.membership(3).is_member(66));
            assert_eq!(cluster.commands(3), [1, 2]);
        }
    });
}
