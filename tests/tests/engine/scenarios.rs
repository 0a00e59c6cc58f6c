//! Plays the scripts in `tests/scenarios/`, each as a test of its own: `REWRITE=1` writes what came into the files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use openconsensus_tests::scenario::{self, Scenario};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// A test for each script, and the list of them.
macro_rules! scripts {
    ($($name:ident)*) => {
        const SCRIPTS: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                let path = folder().join(concat!(stringify!($name), ".txt"));
                if let Err(error) = scenario::check(&path) {
                    panic!("{error}");
                }
            }
        )*
    };
}

scripts! {
    appends_are_limited_in_bytes
    catch_up_from_the_log_storage
    check_quorum_bridge
    check_quorum_in_a_joint_membership_needs_both_majorities
    check_quorum_partial_partition
    check_quorum_to_the_moment
    empty_cluster_is_initialized_once
    empty_node_votes_and_is_brought_up_to_date
    figure_2_a_candidate_gives_way_to_the_leader_of_its_term
    figure_2_a_candidate_that_lags_is_refused
    figure_2_a_follower_commits_what_an_append_has_proved
    figure_2_a_later_term_ends_leadership
    figure_2_a_leader_never_overwrites_its_log
    figure_2_a_node_votes_once_in_a_term
    figure_2_an_append_of_an_earlier_term_is_refused
    figure_2_late_and_repeated_appends_change_nothing
    figure_2_votes_of_an_earlier_campaign_count_nothing
    figure_7_a_it_lacks_one_entry
    figure_7_b_it_lacks_many_entries
    figure_7_c_it_has_one_entry_more
    figure_7_d_it_has_entries_of_a_later_term
    figure_7_e_it_has_entries_that_conflict
    figure_7_f_it_has_terms_that_the_leader_never_saw
    figure_8_d_an_entry_on_a_majority_is_overwritten
    figure_8_e_an_entry_of_the_own_term_commits_those_before_it
    forget_leader_lets_a_node_vote_at_once
    heartbeats_are_left_out_when_appends_say_the_same
    joint_a_leader_that_is_not_in_the_new_membership
    joint_a_second_change_is_refused
    joint_changes_that_make_no_sense
    joint_commit_needs_the_new_majority
    joint_commit_needs_the_old_majority
    joint_election_needs_both_majorities
    joint_election_without_the_entry
    joint_membership_is_entered_and_left
    joint_membership_is_left_after_a_crash_of_everybody
    joint_membership_survives_its_leader
    joint_membership_that_is_truncated_gives_way
    joint_no_change_before_the_first_commit_of_a_term
    joint_one_voter_changes_in_one_step
    joint_one_voter_replaces_another
    joint_two_learners_are_promoted
    joint_two_voters_are_demoted
    language_of_time_and_settings
    lease_begins_with_the_first_commit_of_the_term
    lease_ends_when_the_clock_has_stopped
    lease_in_a_joint_membership_needs_both_majorities
    lease_is_kept_when_a_transfer_times_out_before_anybody_was_told
    lease_is_shorter_where_clocks_may_differ_more
    lease_is_void_while_leadership_is_transferred
    lease_of_a_leader_that_is_cut_off_runs_out_before_another_is_elected
    lease_of_a_single_voter
    lease_promise_is_kept_over_a_restart
    lease_read_at_a_follower
    lease_read_without_leases
    lease_serves_reads_without_a_round
    lease_that_has_run_out_is_renewed_by_a_round
    member_a_change_whose_quorum_is_silent
    member_a_learner_is_added_catches_up_and_is_promoted
    member_a_learner_is_not_asked_and_does_not_campaign
    member_a_removed_node_disturbs_nobody
    member_a_voter_is_demoted
    member_a_whole_membership_in_one_call
    member_one_of_two_voters_is_removed
    member_removed_nodes_learn_of_it
    member_removed_while_it_was_away
    member_that_was_removed_is_added_again
    member_the_leader_demotes_itself
    member_the_leader_removes_itself
    member_the_leader_removes_itself_and_nobody_takes_over
    member_told_wrongly_that_it_was_removed
    one_way_a_follower_that_does_not_hear_the_leader
    one_way_a_follower_that_is_not_heard_by_the_leader
    one_way_a_leader_that_hears_nobody
    one_way_a_leader_that_nobody_hears
    one_way_ring_in_which_nobody_can_lead
    one_way_without_check_quorum_a_deaf_leader_stays
    one_way_without_pre_vote_a_node_that_hears_nothing_deposes_the_leader
    partition_in_which_only_one_node_reaches_a_majority
    partition_in_which_the_hub_lags
    partition_moves
    pause_of_elections
    pause_of_heartbeats
    pre_vote_a_living_leader_is_not_voted_out
    pre_vote_a_node_that_was_cut_off_comes_back
    pre_vote_changes_nothing_at_the_voter
    progress_a_full_window_stops_sending
    progress_a_lost_append_is_told_by_the_next_one
    progress_a_peer_behind_the_log_gets_a_snapshot
    progress_a_peer_that_has_lost_what_it_acknowledged
    progress_a_peer_that_is_unreachable_is_probed
    progress_a_probe_finds_the_match_and_pipelining_begins
    progress_a_snapshot_that_fails_is_sent_again_later
    progress_an_acknowledgement_ends_a_snapshot
    progress_heartbeats_find_lost_appends
    purge_by_hand
    read_at_a_follower
    read_at_a_follower_is_asked_for_again
    read_at_a_leader_that_is_deposed_meanwhile
    read_at_a_leader_that_stays_cut_off
    read_at_a_learner
    read_at_the_leader_waits_for_a_round_of_heartbeats
    read_before_the_first_commit_of_the_term
    read_confirmed_by_an_answer_that_is_older_than_it
    read_in_a_joint_membership_needs_both_majorities
    read_whose_heartbeats_are_lost
    restart_of_a_leader_finds_what_it_had_durably
    restart_of_a_whole_cluster
    restart_with_a_saved_commit_index
    single_voter_decides_alone
    snapshot_and_appends_at_the_same_time
    snapshot_brings_a_new_member_its_membership
    snapshot_builds_beside_everything_else
    snapshot_by_age
    snapshot_by_bytes
    snapshot_for_a_follower_whose_log_conflicts
    snapshot_for_a_follower_whose_log_goes_on
    snapshot_for_a_follower_whose_log_is_shorter
    snapshot_is_built_while_another_is_installed
    snapshot_is_given_up_with_leadership
    snapshot_is_installed_over_writes_in_flight
    snapshot_is_offered_twice
    snapshot_meets_entries_that_are_not_durable_yet
    snapshot_of_a_deposed_leader_is_refused
    snapshot_older_than_what_is_there_is_not_installed
    snapshot_purges_at_the_edges
    snapshot_that_cannot_be_built
    snapshot_that_cannot_be_installed
    snapshot_that_comes_twice_takes_nothing_back
    snapshot_that_fails_when_the_log_has_come
    snapshot_that_is_damaged_is_replaced_after_a_restart
    snapshot_that_is_damaged_on_the_disk
    snapshot_whose_receiver_crashes_behind_the_installation
    snapshot_whose_receiver_crashes_while_it_installs
    snapshot_whose_sender_crashes
    together_a_vote_request_before_an_append
    together_an_append_before_a_vote_request
    together_two_leaders_in_one_step
    too_much_uncommitted
    transfer_asked_of_another_node
    transfer_asked_while_nobody_leads
    transfer_that_another_node_wins
    transfer_that_is_refused
    transfer_to_a_voter_that_has_everything
    transfer_to_a_voter_that_is_down
    transfer_to_a_voter_that_is_far_behind
    transfer_to_a_voter_that_is_on_its_way_out
    transfer_to_a_voter_that_is_silent
    transfer_to_a_voter_that_lags
    transfer_while_the_membership_changes
    transfer_whose_message_is_lost
    transfer_whose_request_is_lost
    unreachable_peers_are_tried_less_often
    write_at_a_node_that_does_not_lead
    write_whose_leader_is_deposed
    writes_a_candidate_asks_when_its_own_vote_is_durable
    writes_a_completion_after_a_truncation_acknowledges_nothing
    writes_a_crash_in_the_middle_of_a_write
    writes_a_disk_that_hangs_ends_leadership
    writes_a_failing_disk_ends_leadership
    writes_a_failing_disk_silences_a_follower
    writes_a_leader_commits_before_its_own_disk
    writes_a_node_whose_disk_hangs_does_not_campaign
    writes_a_vote_that_is_out_of_date_is_not_sent
    writes_a_vote_waits_for_the_disk
    writes_an_acknowledgement_for_a_deposed_leader_is_not_sent
    writes_an_acknowledgement_waits_for_the_disk
    writes_many_completions_in_one
    writes_what_is_committed_is_applied_when_it_is_durable
}

/// A script that nobody plays proves nothing.
#[test]
fn every_script_is_played() {
    let files = std::fs::read_dir(folder()).expect("the folder of scripts is there");
    let names = files.map(|file| file.expect("the folder can be read").file_name().into_string().unwrap());
    let found: BTreeSet<String> = names.collect();
    let listed: BTreeSet<String> = SCRIPTS.iter().map(|name| format!("{name}.txt")).collect();
    assert_eq!(found, listed, "`scripts!` in {} lists each script once", file!());
}

/// What a script gets wrong is said with the place and with what would be right.
#[test]
fn a_mistake_in_a_script_is_told_with_its_place_and_what_would_be_right() {
    let wrong = [
        ("campain 1", "`campain` is not a command: did you mean `campaign`?"),
        ("dance", "`dance` is not a command: commands are config, members, "),
        ("campaign", "a node is missing: write `campaign ID`"),
        ("campaign 9", "there is no node 9: nodes are 1,2,3"),
        ("campaign one", "`one` is not a node: a number is written `3`"),
        ("campaign 1 2", "`2` is too much: write `campaign ID`"),
        ("config pre_vote=off", "there are nodes already: `config` stands before the first node"),
        ("node 4 log 2 1", "term 1 follows term 2: terms begin at 1 and never fall in a log"),
        (
            "node 4 log 2 term 1",
            "term 1 is lower than that of the last entry: a node that has an entry of term 2 has",
        ),
        ("nodes 1", "node 1 is there already: a node is added once"),
        ("deliver Apend", "`Apend` selects no messages: select by `first`, number `#2`"),
        ("settle losing #1", "numbers say nothing about messages to come: select by link or by kind"),
        ("restart 1", "node 1 runs: `crash 1` before"),
        ("complete 1", "no write of node 1 is in flight: `slow ID disk`"),
        ("change 1 add 4", "`add` is not a change of membership: write `change ID add-learners|"),
        ("heal 1 2", "1→2 is not cut: only what was cut can be healed"),
        ("slow 1 brain", "`brain` is no part of a node: write `slow ID disk|"),
        ("forge 1→2 Vote term 1", "`Vote` cannot be forged: PreVoteRequest, "),
        ("cut 1→", "`1→` leaves a node open: write `cut ID ID"),
        ("log 4", "there is no node 4"),
    ];
    for (command, expected) in wrong {
        let text = format!("# A story.\nnodes 1..3\n{command}\n");
        let error = Scenario::parse("story.txt", &text).unwrap().play().unwrap_err().to_string();
        assert!(error.starts_with(&format!("story.txt:3: {expected}")), "{command}: {error}");
    }
}

/// A broken property is told with the command that broke it: here a message makes a second leader of term 1.
#[test]
fn a_script_that_breaks_the_cluster_says_where() {
    let text = "# A story.\nnodes 1..3\nelect 1\nforge 2→1 Heartbeat term 2 round 1 commit 1@1\ndeliver\n";
    let error = Scenario::parse("story.txt", text).unwrap().play().unwrap_err().to_string();
    assert!(error.starts_with("story.txt:5: `deliver` breaks: "), "{error}");
    assert!(error.contains("both lead in term 2"), "{error}");
}

/// The same script gives the same text, to the last character.
#[test]
fn a_script_gives_the_same_text_each_time() {
    for name in SCRIPTS {
        let text = std::fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap();
        let play = || Scenario::parse(name, &text).unwrap().play().unwrap();
        assert_eq!(play(), play(), "{name}");
    }
}
