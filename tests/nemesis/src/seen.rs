//! `Seen`: what the nodes of a cluster tell of themselves during a campaign, so that one that does nothing is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kv::client::NodeStatus;

/// What nodes have told of themselves. Between two looks things can happen unseen, so these are lower bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The leaders, each with its term.
    pub leaders: BTreeSet<(u64, u64)>,
    /// How many snapshots nodes have installed.
    pub snapshots_installed: u64,
    /// How many snapshots nodes have built.
    pub snapshots_built: u64,
    /// How often a node has cut entries off its log that contradicted the leader's.
    pub truncations: u64,
    /// How many elections nodes have started.
    pub elections: u64,
    /// How often a node was made a voter again after it had been removed.
    pub members_restored: u64,
    /// What each node has told last, and for how long it had run then.
    last: BTreeMap<u64, NodeStatus>,
}

impl Seen {
    /// Takes in what nodes say.
    pub fn look(&mut self, statuses: impl IntoIterator<Item = NodeStatus>) {
        for status in statuses {
            if status.role == "leader" {
                self.leaders.insert((status.term, status.id));
            }
            // A process counts from its start.
            let before = self.last.get(&status.id).filter(|before| before.uptime_ms <= status.uptime_ms);
            let before = before.and_then(|before| before.counters).unwrap_or_default();
            let now = status.counters.unwrap_or_default();
            self.snapshots_installed += now.snapshots_installed.saturating_sub(before.snapshots_installed);
            self.snapshots_built += now.snapshots_built.saturating_sub(before.snapshots_built);
            self.truncations += now.truncations.saturating_sub(before.truncations);
            self.elections += now.elections_started.saturating_sub(before.elections_started);
            self.last.insert(status.id, status);
        }
    }

    /// What a long campaign must have seen and this one has not.
    pub fn missing(&self) -> Vec<&'static str> {
        let counts = [
            ("changes of leadership", self.leaders.len().saturating_sub(1) as u64),
            ("installed snapshots", self.snapshots_installed),
            ("cut logs", self.truncations),
            ("restored members", self.members_restored),
        ];
        counts.into_iter().filter(|(_, count)| *count == 0).map(|(what, _)| what).collect()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            leaders,
            snapshots_installed,
            snapshots_built,
            truncations,
            elections,
            members_restored,
            ..
        } = self;
        write!(
            f,
            "at least {} leaders, {elections} elections, {truncations} cut logs, {snapshots_built} snapshots built, \
             {snapshots_installed} installed, {members_restored} members restored",
            leaders.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use kv::client::Counters;

    use super::*;

    #[test]
    fn counters_are_added_up_over_restarts() {
        let status = |uptime_ms, truncations| NodeStatus {
            id: 1,
            uptime_ms,
            counters: Some(Counters { truncations, ..Counters::default() }),
            ..NodeStatus::default()
        };
        let mut seen = Seen::default();
        seen.look([status(10, 2)]);
        seen.look([status(20, 5)]);
        seen.look([status(5, 1)]);
        seen.look([status(9, 1)]);
        assert_eq!(seen.truncations, 6);
        assert_eq!(seen.missing(), ["changes of leadership", "installed snapshots", "restored members"]);
    }
}
