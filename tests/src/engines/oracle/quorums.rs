//! Who could elect whom: no two nodes may be electable by quorums without a common voter.

use std::collections::BTreeMap;

use openconsensus::Membership;

use crate::engines::Test;
use crate::engines::node::Node;

/// Two nodes that could both be elected now, each by its own membership, need a voter in common (thesis 4.1).
pub(super) fn check_intersection(node: &Node, nodes: &BTreeMap<u64, Node>) {
    let Some(own) = Quorums::of(node, nodes) else { return };
    for other in nodes.values().filter(|other| other.is_alive() && other.id != node.id) {
        let Some(others) = Quorums::of(other, nodes) else { continue };
        assert!(
            own.all_meet(&others),
            "nodes {} by {} and {} by {} could both be elected in one term",
            node.id,
            own.membership,
            other.id,
            others.membership
        );
    }
}

/// Who could elect a node.
struct Quorums<'a> {
    membership: &'a Membership<Test>,
    /// Voters whose logs would let them vote for it, now or after a crash.
    willing: Vec<u64>,
}

impl<'a> Quorums<'a> {
    /// `None` when the node cannot be elected.
    fn of(candidate: &'a Node, nodes: &BTreeMap<u64, Node>) -> Option<Self> {
        let membership = candidate.engine.as_ref()?.membership();
        let last = candidate.view.last();
        let would_vote = |id: &u64| {
            *id == candidate.id
                || nodes.get(id).is_some_and(|node| node.disk.last().min(node.view.last()) <= last)
        };
        let willing: Vec<u64> = membership.all_voters().filter(would_vote).collect();
        membership.is_quorum(|id| willing.contains(&id)).then_some(Self { membership, willing })
    }

    /// Whether no quorum of this and quorum of `other` are without a common voter.
    fn all_meet(&self, other: &Self) -> bool {
        (0..1_u32 << self.willing.len()).all(|set| {
            let votes =
                |id| self.willing.iter().position(|voter| *voter == id).is_some_and(|at| set >> at & 1 == 1);
            let rest = |id| other.willing.contains(&id) && !votes(id);
            !(self.membership.is_quorum(votes) && other.membership.is_quorum(rest))
        })
    }
}
