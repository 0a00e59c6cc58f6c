//! The clusters that are explored, and how far.

use std::collections::BTreeSet;

use openconsensus::{Config, MembershipChange};
use openconsensus_tests::engines::{Test, nodes};

use crate::state::Budget;
use crate::system::{System, config, exchange_all, exchange_none};

/// How far to explore. `MODEL_BOUND` says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Seconds in a debug build: what every test run does.
    Small,
    /// A minute for all of them together in a release build: what is run before a change goes in.
    Medium,
    /// Some minutes each. `MODEL_STEPS` lets it go on for longer: a thousand steps take about a megabyte.
    Large,
}

impl Bound {
    pub(crate) fn from_environment() -> Self {
        match std::env::var("MODEL_BOUND").as_deref() {
            Err(_) | Ok("small") => Self::Small,
            Ok("medium") => Self::Medium,
            Ok("large") => Self::Large,
            Ok(other) => panic!("MODEL_BOUND is {other}; allowed: small, medium, large"),
        }
    }

    /// How many steps each exploration may take. What is cut is complete up to the depth before the one it has reached.
    pub(crate) fn steps_max(self) -> u64 {
        match self {
            Self::Small => u64::MAX,
            Self::Medium => 1_200_000,
            Self::Large => 5_000_000,
        }
    }

    fn pick(self, budgets: [Budget; 3]) -> Budget {
        budgets[self as usize]
    }
}

/// Nothing may happen.
const NONE: Budget = Budget {
    timeouts: 0,
    writes: 0,
    crashes: 0,
    duplicates: 0,
    heartbeats: 0,
    reads: 0,
    changes: 0,
    snapshots: 0,
};

const fn of(timeouts: u8, writes: u8) -> Budget {
    Budget { timeouts, writes, ..NONE }
}

// ---- three voters

/// From the first entry on, nobody leads yet.
pub(crate) fn first_elections(bound: Bound) -> System {
    System {
        led_by: None,
        ways: exchange_all(),
        first_heartbeats: bound == Bound::Small,
        slow_disks: bound != Bound::Medium,
        budget: bound.pick([of(1, 0), of(2, 0), of(3, 1)]),
        ..System::new("first elections")
    }
}

/// A leader, a write, an election against it, and disks that take their time.
pub(crate) fn slow_disks(bound: Bound) -> System {
    System { budget: bound.pick([of(1, 1), of(1, 2), of(2, 1)]), ..System::new("slow disks") }
}

/// The same with a crash, also in the middle of a write.
pub(crate) fn crashes(bound: Bound) -> System {
    let budgets = [of(1, 0), of(1, 1), of(2, 1)].map(|budget| Budget { crashes: 1, ..budget });
    let slow_disks = bound != Bound::Medium;
    System { slow_disks, torn_writes: true, budget: bound.pick(budgets), ..System::new("crashes") }
}

/// Messages that arrive twice.
pub(crate) fn duplicates(bound: Bound) -> System {
    let budgets = [of(1, 0), of(1, 1), of(2, 1)].map(|budget| Budget { duplicates: 1, ..budget });
    System { slow_disks: bound == Bound::Large, budget: bound.pick(budgets), ..System::new("duplicates") }
}

/// Appends that are lost and found to be by heartbeats; entries that are in memory no longer than they must.
pub(crate) fn lost_appends(bound: Bound) -> System {
    let config = Config { tail_bytes_max: 0, ..config() };
    let budgets = [of(0, 1), of(1, 1), of(1, 2)].map(|budget| Budget { heartbeats: 1, ..budget });
    System {
        config: config.validate().expect("the configuration of a model is valid"),
        slow_disks: false,
        budget: bound.pick(budgets),
        ..System::new("lost appends")
    }
}

/// Pre-votes, leaders that look after their quorum, and followers that hear from a leader or do not.
pub(crate) fn pre_votes(bound: Bound) -> System {
    let config = Config { pre_vote: true, check_quorum: true, ..config() };
    System {
        config: config.validate().expect("the configuration of a model is valid"),
        leases: true,
        slow_disks: false,
        budget: bound.pick([of(1, 1), of(2, 0), of(2, 1)]),
        ..System::new("pre-votes and leases")
    }
}

/// Reads on leaders, deposed or not, and on followers.
pub(crate) fn reads(bound: Bound) -> System {
    // A leader that has just been elected confirms a read with its second heartbeat when the first is lost.
    let heartbeats = u8::from(bound != Bound::Small);
    let budgets = [of(1, 0), of(1, 0), of(2, 1)].map(|budget| Budget { reads: 1, heartbeats, ..budget });
    System { slow_disks: false, budget: bound.pick(budgets), ..System::new("reads") }
}

/// Reads by lease, while a voter that has promised crashes, or is asked to campaign, or time passes.
pub(crate) fn lease_reads(bound: Bound) -> System {
    let config = Config { lease_clock_drift_ppm_max: Some(1), ..config() };
    let small = Budget { reads: 1, crashes: 1, ..of(1, 0) };
    let budgets = [small, Budget { reads: 2, ..small }, Budget { reads: 1, crashes: 1, ..of(2, 0) }];
    System {
        config: config.validate().expect("the configuration of a model is valid"),
        leases: true,
        one_clock: true,
        slow_disks: false,
        ways: exchange_none(),
        budget: bound.pick(budgets),
        ..System::new("reads by lease")
    }
}

/// Figure 8 of the Raft paper, as far as three nodes can show it: node 1 led in term 2, node 3 in term 3 with the vote
/// of node 2, and neither has replicated anything.
pub(crate) fn figure_8(bound: Bound) -> System {
    System {
        logs: vec![(&[1, 2], 3, None), (&[1], 3, Some(3)), (&[1, 3], 3, Some(3))],
        leaders: &[(2, 1), (3, 3)],
        led_by: None,
        slow_disks: false,
        ways: exchange_none(),
        budget: bound.pick([of(1, 0), of(2, 0), of(3, 0)]),
        ..System::new("figure 8")
    }
}

// ---- one change of the membership

fn change(
    name: &'static str,
    voters: &[u64],
    learners: &[u64],
    change: MembershipChange<Test>,
    budget: Budget,
) -> System {
    System {
        voters: voters.iter().copied().collect(),
        learners: learners.iter().copied().collect(),
        change: Some(change),
        slow_disks: false,
        // Nodes have parts of their own in the change.
        ways: exchange_none(),
        budget: Budget { changes: 1, ..budget },
        ..System::new(name)
    }
}

pub(crate) fn add_learner(bound: Bound) -> System {
    let to = MembershipChange::AddLearners(nodes([3]));
    change("add a learner", &[1, 2], &[], to, bound.pick([of(1, 0), of(1, 1), of(2, 2)]))
}

pub(crate) fn promote(bound: Bound) -> System {
    let to = MembershipChange::Promote(BTreeSet::from([3]));
    let crash = |budget| Budget { crashes: 1, ..budget };
    System {
        slow_disks: bound == Bound::Large,
        torn_writes: true,
        ..change(
            "promote a learner",
            &[1, 2],
            &[3],
            to,
            bound.pick([of(1, 0), crash(of(1, 0)), crash(of(2, 0))]),
        )
    }
}

pub(crate) fn demote(bound: Bound) -> System {
    let to = MembershipChange::Demote(BTreeSet::from([3]));
    change("demote a voter", &[1, 2, 3], &[], to, bound.pick([of(1, 0), of(1, 1), of(2, 1)]))
}

/// The leader itself goes.
pub(crate) fn remove_leader(bound: Bound) -> System {
    let to = MembershipChange::Remove(BTreeSet::from([1]));
    change("remove the leader", &[1, 2, 3], &[], to, bound.pick([of(1, 0), of(1, 1), of(2, 1)]))
}

/// A voter is replaced by a learner: joint.
pub(crate) fn replace_voter(bound: Bound) -> System {
    let to = MembershipChange::SetVoters(BTreeSet::from([1, 3]));
    let large = Budget { crashes: 1, ..of(2, 1) };
    change("replace a voter", &[1, 2], &[3], to, bound.pick([of(1, 0), of(2, 0), large]))
}

/// Two voters of three go at once: joint.
pub(crate) fn remove_two(bound: Bound) -> System {
    let to = MembershipChange::SetVoters(BTreeSet::from([1]));
    let name = "remove two voters at once";
    change(name, &[1, 2, 3], &[], to, bound.pick([of(0, 0), of(1, 0), of(1, 1)]))
}

// ---- snapshots

/// Any node builds a snapshot and purges its log; a leader sends one to whom it lacks the entries for.
pub(crate) fn snapshots(bound: Bound) -> System {
    let one = Budget { snapshots: 1, ..of(1, 1) };
    System {
        slow_disks: bound == Bound::Large,
        torn_writes: true,
        budget: bound.pick([
            one,
            Budget { duplicates: 1, ..one },
            Budget { crashes: 1, snapshots: 2, ..one },
        ]),
        ..System::new("snapshots")
    }
}

/// State machines that begin with their snapshot after a crash.
pub(crate) fn volatile_snapshots(bound: Bound) -> System {
    let one = Budget { snapshots: 1, crashes: 1, ..of(1, 0) };
    System {
        slow_disks: bound == Bound::Large,
        torn_writes: true,
        volatile_machine: true,
        // Without a write there is nothing that a snapshot could save anyone from sending.
        installs: bound != Bound::Small,
        budget: bound.pick([one, Budget { writes: 1, ..one }, Budget { writes: 1, crashes: 2, ..one }]),
        ..System::new("snapshots of volatile state machines")
    }
}
