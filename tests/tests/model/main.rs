//! The real engine inside a model checker: every order of everything that can happen, within bounds.
//!
//! A state is a cluster of engines, unmodified, with their disks, their state machines and what is on its way between
//! them. An action is one thing that happens: a letter arrives, a write is done, timers run out, a client asks, a node
//! crashes and restarts. After each action the rules of `check.rs` are looked at; each is a property of the checker. That
//! everything that a bound allows has happened at least once is a property too: an exploration that does nothing fails.
//!
//! # How far
//!
//! ```sh
//! cargo test -p openconsensus-tests --test model
//! MODEL_BOUND=medium cargo test --release -p openconsensus-tests --test model -- --nocapture
//! MODEL_BOUND=large MODEL_SECONDS=600 cargo test --release -p openconsensus-tests --test model snapshots -- --nocapture
//! ```
//!
//! The small bound is explored completely; the medium and the large one up to a number of steps, so that their time and
//! memory are bounded too. The search is breadth first, so one that is cut has seen everything up to the depth before the
//! one that it prints. `MODEL_STEPS` and `MODEL_SECONDS` set other ends; `MODEL_THREADS` is for one large exploration
//! (with one thread, the default, the path to what is broken is the shortest).
//!
//! # What is a state, and why that is sound
//!
//! *Time* stands still, but for three actions. When the timers of a node run out, its clock jumps by more than any
//! timeout, and so does the clock of a voter that is asked for its vote "after a long silence"; each node has a clock of
//! its own. When a leader sends heartbeats, its clock goes on by their interval, which is a hundred thousand times less
//! than the next longer timeout. So whatever is compared with the time is either recent or older than any timeout, and
//! that is all that is told apart. The chance in an engine only draws when its elections are due; as all timers run out
//! together, it is left out. See `openconsensus::engine::Fingerprint`, which also says what it leaves out.
//!
//! *The network* is a set. A letter stays until it arrives, in any order; one that never arrives is lost, so losing it
//! is no action of its own, but for snapshots, whose sender is told. A letter that arrives and stays is a duplicate, of
//! which the budget allows some. Two letters that say the same count as one. Answers, commits, requests to read and
//! orders to campaign of a term before the durable one of their receiver are taken away: the engine does nothing at all
//! with them, and never will, because that term cannot fall.
//!
//! *Disks* do writes in order, each at any later time. A crash keeps what is done, and with `torn_writes` a start of the
//! write that is being done. A node is never down: one that is down is one to which nothing happens. State machines
//! apply at once; installing a snapshot takes as long as the checker likes.
//!
//! *Symmetry.* Where nodes differ in nothing but their names, states that come from each other by exchanging names are
//! one state: its fingerprint is the least of those under all exchanges. An engine compares names only for equality, but
//! for one tie: to whom a leader that goes hands over. There, and wherever a node has a part of its own, no names are
//! exchanged.
//!
//! *Fingerprints* have 64 bits, so two states in ten million are taken for one with a probability of about one in three
//! hundred thousand.
//!
//! # What it does not see
//!
//! Whatever needs more than the budget: more terms, entries, crashes. And whatever the driver does: the driver here is
//! that of the model.

mod check;
mod driver;
mod letter;
mod node;
mod run;
mod state;
mod system;
mod systems;

use std::sync::Arc;

use openconsensus::{Entry, LogId};
use openconsensus_tests::engines::{Disk, Test};
use stateright::Model;

use check::Before;
use node::Node;
use run::{check_all, find};
use state::{Budget, Rule, State};
use system::{Action, Break, System};
use systems::Bound;

macro_rules! explore {
    ($($test:ident: $system:ident;)*) => {$(
        #[test]
        fn $test() {
            check_all(systems::$system(Bound::from_environment()));
        }
    )*};
}

explore! {
    the_first_elections_are_safe: first_elections;
    a_leader_and_its_successor_are_safe_on_slow_disks: slow_disks;
    crashes_also_in_the_middle_of_a_write_are_safe: crashes;
    messages_that_arrive_twice_are_safe: duplicates;
    lost_appends_are_found_and_sent_again_safely: lost_appends;
    pre_votes_and_leases_are_safe: pre_votes;
    reads_are_never_older_than_what_was_committed: reads;
    reads_by_lease_are_never_older_than_what_was_committed: lease_reads;
    figure_8_of_the_paper_is_safe: figure_8;
    adding_a_learner_is_safe: add_learner;
    promoting_a_learner_is_safe: promote;
    demoting_a_voter_is_safe: demote;
    removing_the_leader_is_safe: remove_leader;
    replacing_a_voter_is_safe: replace_voter;
    removing_two_voters_at_once_is_safe: remove_two;
    snapshots_are_safe: snapshots;
    snapshots_of_volatile_state_machines_are_safe: volatile_snapshots;
}

// ---- the checker sees what is broken

/// A system in which the world is broken so, and some rules are not looked at, so that what follows is seen.
fn broken(breaks: Break, blind_to: &'static [Rule], system: System) -> System {
    System { breaks, blind_to, ..system }
}

fn a_write_and_a_crash() -> System {
    let budget = Budget { timeouts: 1, writes: 1, crashes: 1, ..Budget::default() };
    System { budget, ..systems::crashes(Bound::Small) }
}

#[test]
fn a_disk_that_loses_a_completed_write_is_found() {
    let system = broken(Break::DiskLosesCompletedWrite, &[], a_write_and_a_crash());
    find("committed is durable", system);
}

#[test]
fn a_disk_that_loses_a_completed_write_loses_a_committed_entry() {
    let blind_to = &[Rule::CommittedIsDurable, Rule::DurableBeforeSent];
    let system = broken(Break::DiskLosesCompletedWrite, blind_to, a_write_and_a_crash());
    find("Leader Completeness", system);
}

#[test]
fn acknowledgements_before_the_write_is_done_are_found() {
    let system = broken(Break::DriverAcknowledgesEarly, &[], systems::slow_disks(Bound::Small));
    find("durable before sent", system);
}

#[test]
fn acknowledgements_before_the_write_is_done_lose_a_committed_entry() {
    let blind_to = &[Rule::CommittedIsDurable, Rule::DurableBeforeSent];
    let system = broken(Break::DriverAcknowledgesEarly, blind_to, a_write_and_a_crash());
    find("Leader Completeness", system);
}

#[test]
fn a_node_that_comes_back_with_an_older_vote_elects_two_leaders() {
    let blind_to = &[Rule::DurableBeforeSent];
    let budget = Budget { timeouts: 2, writes: 0, ..systems::crashes(Bound::Small).budget };
    let system = System { slow_disks: false, budget, ..systems::crashes(Bound::Small) };
    let system = broken(Break::DiskRestoresOldVote, blind_to, system);
    find("Election Safety", system);
}

#[test]
fn a_voter_that_restarts_and_forgets_what_it_has_promised_is_found() {
    find("reads are fresh", broken(Break::RestartForgetsPromise, &[], systems::lease_reads(Bound::Small)));
}

#[test]
fn a_leader_that_reads_without_asking_the_others_is_found() {
    find("reads are fresh", broken(Break::DriverReadsWithoutAsking, &[], systems::reads(Bound::Small)));
}

#[test]
fn a_snapshot_without_its_last_command_is_found() {
    let system = broken(Break::SnapshotLacksLastCommand, &[], systems::snapshots(Bound::Small));
    find("State Machine Safety", system);
}

#[test]
fn a_network_that_changes_commands_is_found() {
    find("Log Matching", broken(Break::NetworkGarblesCommands, &[], systems::slow_disks(Bound::Small)));
}

// ---- rules that only a broken engine could break notice it too

/// The first state of three nodes after `spoil`, and what the rules say of it after a step of node 1.
fn rule_broken_by(spoil: impl Fn(&System, &mut State)) -> Option<Rule> {
    let system = System::new("spoilt");
    let mut state = system.init_states().remove(0);
    let before = Before::of(state.node(1));
    spoil(&system, &mut state);
    system.check(&mut state, 1, &before);
    state.violation.map(|violation| violation.rule)
}

fn spoil_log(node: &mut Node, change: impl Fn(&mut Vec<Entry<Test>>)) {
    let mut entries = node.view.entries().to_vec();
    change(&mut entries);
    node.view = Arc::new(Disk::new(node.disk.hard_state, entries));
}

#[test]
fn the_rules_hold_where_nothing_is_spoilt() {
    assert_eq!(rule_broken_by(|_, _| {}), None);
}

#[test]
fn a_leader_that_gives_up_an_entry_is_found() {
    let broken = rule_broken_by(|_, state| {
        spoil_log(state.node_mut(1), |entries| {
            entries.pop();
        });
    });
    assert_eq!(broken, Some(Rule::LeaderAppendOnly));
}

#[test]
fn two_changes_under_way_are_found() {
    let broken = rule_broken_by(|_, state| {
        spoil_log(state.node_mut(1), |entries| {
            let membership = entries[0].payload.clone();
            let next = |index| Entry { log_id: LogId::new(2, index), payload: membership.clone() };
            entries.extend([next(3), next(4)]);
        });
    });
    assert_eq!(broken, Some(Rule::OneChangeAtATime));
}

#[test]
fn a_state_that_lacks_a_command_is_found() {
    let broken = rule_broken_by(|_, state| {
        Arc::make_mut(&mut state.node_mut(1).machine).commands.push((LogId::new(2, 2), 5));
    });
    assert_eq!(broken, Some(Rule::StateMachineSafety));
}

/// Exchanging the names of two nodes must not change what is told apart, and anything else must.
#[test]
fn fingerprints_see_through_names_and_nothing_else() {
    let system =
        System { budget: Budget { timeouts: 1, ..Budget::default() }, ..systems::slow_disks(Bound::Small) };
    let first = system.init_states().remove(0);
    let after = |id| system.next_state(&first, Action::Timeout(id)).expect("timers run out");
    assert!(after(2) == after(3), "nodes 2 and 3 are alike");
    let restarted =
        System { budget: Budget { crashes: 1, ..Budget::default() }, ..systems::crashes(Bound::Small) };
    let first = restarted.init_states().remove(0);
    let leader = restarted.next_state(&first, Action::Restart { node: 1, parts: 0 }).expect("it restarts");
    let follower = restarted.next_state(&first, Action::Restart { node: 2, parts: 0 }).expect("it restarts");
    assert!(leader != follower, "node 1 led");
}
