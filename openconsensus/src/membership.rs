//! Voters, learners, joint configurations, and the one quorum function.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::entry::LogId;
use crate::type_config::TypeConfig;

/// Who belongs to the cluster, and who votes.
///
/// While a change is under way the membership is *joint*: it has an incoming and an outgoing set of voters, and every
/// decision needs a majority of each (Raft paper, section 6; thesis 4.3).
///
/// Cheap to clone, and as small as a pointer: every entry has room for one.
pub struct Membership<C: TypeConfig> {
    parts: Arc<Parts<C>>,
}

/// Invariant: every voter, incoming or outgoing, has a [`Node`](TypeConfig::Node); `retiring` is empty unless joint.
#[derive(PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "C::NodeId: serde::Serialize, C::Node: serde::Serialize",
        deserialize = "C::NodeId: serde::Deserialize<'de>, C::Node: serde::Deserialize<'de>"
    ))
)]
struct Parts<C: TypeConfig> {
    incoming: BTreeSet<C::NodeId>,
    /// Empty unless joint.
    outgoing: BTreeSet<C::NodeId>,
    /// Nodes that stop being members when the joint membership is left.
    retiring: BTreeSet<C::NodeId>,
    nodes: BTreeMap<C::NodeId, C::Node>,
}

impl<C: TypeConfig> Default for Parts<C> {
    fn default() -> Self {
        Self {
            incoming: BTreeSet::new(),
            outgoing: BTreeSet::new(),
            retiring: BTreeSet::new(),
            nodes: BTreeMap::new(),
        }
    }
}

impl<C: TypeConfig> From<Parts<C>> for Membership<C> {
    fn from(parts: Parts<C>) -> Self {
        Self { parts: Arc::new(parts) }
    }
}

impl<C: TypeConfig> Default for Membership<C> {
    /// Nobody: the membership of a node that has not heard of any.
    fn default() -> Self {
        Parts::default().into()
    }
}

impl<C: TypeConfig> Clone for Membership<C> {
    fn clone(&self) -> Self {
        Self { parts: self.parts.clone() }
    }
}

impl<C: TypeConfig> PartialEq for Membership<C> {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl<C: TypeConfig> Eq for Membership<C> {}

impl<C: TypeConfig> Membership<C> {
    /// A membership in which all of `nodes` vote.
    pub fn of_voters(nodes: BTreeMap<C::NodeId, C::Node>) -> Self {
        Parts { incoming: nodes.keys().copied().collect(), nodes, ..Parts::default() }.into()
    }

    /// A membership with the given voters; the rest of `nodes` are learners. `None` when a voter has no node.
    pub fn new(voters: BTreeSet<C::NodeId>, nodes: BTreeMap<C::NodeId, C::Node>) -> Option<Self> {
        voters
            .iter()
            .all(|id| nodes.contains_key(id))
            .then(|| Parts { incoming: voters, nodes, ..Parts::default() }.into())
    }

    /// The joint membership on the way from `self` to `voters`: `retiring` lists those that will be gone afterwards.
    pub(crate) fn joint_to(
        &self,
        voters: BTreeSet<C::NodeId>,
        nodes: BTreeMap<C::NodeId, C::Node>,
        retiring: BTreeSet<C::NodeId>,
    ) -> Self {
        assert!(!self.is_joint(), "a joint membership must be left before the next change: {self:?}");
        Parts { outgoing: self.parts.incoming.clone(), incoming: voters, retiring, nodes }.into()
    }

    /// The membership that a joint one leads to.
    pub(crate) fn left(&self) -> Self {
        let mut nodes = self.parts.nodes.clone();
        nodes.retain(|id, _| !self.parts.retiring.contains(id));
        Parts { incoming: self.parts.incoming.clone(), nodes, ..Parts::default() }.into()
    }

    /// Whether a change is under way and both sets of voters rule.
    pub fn is_joint(&self) -> bool {
        !self.parts.outgoing.is_empty()
    }

    /// Whether there is nobody in it.
    pub fn is_empty(&self) -> bool {
        self.parts.nodes.is_empty()
    }

    /// The voters, or the voters to be while the membership is joint.
    pub fn voters(&self) -> &BTreeSet<C::NodeId> {
        &self.parts.incoming
    }

    /// The voters that rule beside [`voters`](Self::voters) while the membership is joint; empty otherwise.
    pub fn outgoing_voters(&self) -> &BTreeSet<C::NodeId> {
        &self.parts.outgoing
    }

    /// Members that do not vote, in no set of voters.
    pub fn learners(&self) -> impl Iterator<Item = C::NodeId> {
        self.parts.nodes.keys().copied().filter(|id| !self.is_voter(*id))
    }

    /// Members that will be none when the joint membership is left; empty otherwise.
    pub fn retiring(&self) -> &BTreeSet<C::NodeId> {
        &self.parts.retiring
    }

    /// Every member with the way to reach it.
    pub fn nodes(&self) -> &BTreeMap<C::NodeId, C::Node> {
        &self.parts.nodes
    }

    /// How to reach `id`, if it is a member.
    pub fn node(&self, id: C::NodeId) -> Option<&C::Node> {
        self.parts.nodes.get(&id)
    }

    /// Whether `id` is a voter or a learner.
    pub fn is_member(&self, id: C::NodeId) -> bool {
        self.parts.nodes.contains_key(&id)
    }

    /// Whether `id` votes in either set.
    pub fn is_voter(&self, id: C::NodeId) -> bool {
        self.parts.incoming.contains(&id) || self.parts.outgoing.contains(&id)
    }

    /// All voters of both sets, each once, in order.
    pub fn all_voters(&self) -> impl Iterator<Item = C::NodeId> {
        self.parts.incoming.union(&self.parts.outgoing).copied()
    }

    /// Whether those for which `agrees` holds are a quorum: a majority of the voters and, while joint, of the outgoing
    /// voters too. An empty set of voters never agrees.
    pub fn is_quorum(&self, agrees: impl Fn(C::NodeId) -> bool) -> bool {
        self.quorum_value(agrees)
    }

    /// Whether so many have refused that the rest can no longer be a quorum.
    pub(crate) fn is_lost(&self, refused: impl Fn(C::NodeId) -> bool) -> bool {
        !self.is_quorum(|id| !refused(id))
    }

    /// The one quorum function: the greatest value that a quorum has reached, where `value` is what each voter has
    /// reached. With indexes it gives what is committed, with times how recently a quorum was heard, with answers
    /// whether an election is won. The default when there is no voter.
    pub fn quorum_value<V: Ord + Copy + Default>(&self, value: impl Fn(C::NodeId) -> V) -> V {
        let incoming = majority_value(&self.parts.incoming, &value);
        if self.parts.outgoing.is_empty() {
            return incoming;
        }
        incoming.min(majority_value(&self.parts.outgoing, &value))
    }
}

#[cfg(feature = "serde")]
mod with_serde {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Membership, Parts, TypeConfig};

    impl<C: TypeConfig> Serialize for Membership<C>
    where
        C::NodeId: Serialize,
        C::Node: Serialize,
    {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            self.parts.serialize(serializer)
        }
    }

    impl<'de, C: TypeConfig> Deserialize<'de> for Membership<C>
    where
        C::NodeId: Deserialize<'de>,
        C::Node: Deserialize<'de>,
    {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Parts::deserialize(deserializer).map(Self::from)
        }
    }
}

/// The greatest value that a majority of `voters` has reached.
fn majority_value<I: Copy + Ord, V: Ord + Copy + Default>(
    voters: &BTreeSet<I>,
    value: &impl Fn(I) -> V,
) -> V {
    if voters.is_empty() {
        return V::default();
    }
    // Asked for with every commit: few voters, as there mostly are, need no allocation.
    let mut few = [V::default(); 8];
    let mut many = Vec::new();
    let values = if voters.len() <= few.len() {
        few.iter_mut().zip(voters).for_each(|(place, id)| *place = value(*id));
        &mut few[..voters.len()]
    } else {
        many.extend(voters.iter().map(|id| value(*id)));
        &mut many[..]
    };
    values.sort_unstable();
    // With n voters a majority is n/2 + 1: that many values are at or above the one at this place.
    values[(values.len() - 1) / 2]
}

impl<C: TypeConfig> fmt::Debug for Membership<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl<C: TypeConfig> fmt::Display for Membership<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &mut dyn Iterator<Item = C::NodeId>| {
            ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
        };
        write!(f, "voters {{{}}}", list(&mut self.parts.incoming.iter().copied()))?;
        if self.is_joint() {
            write!(f, " outgoing {{{}}}", list(&mut self.parts.outgoing.iter().copied()))?;
        }
        let learners = list(&mut self.learners());
        if !learners.is_empty() {
            write!(f, " learners {{{learners}}}")?;
        }
        Ok(())
    }
}

/// A membership and the entry that it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "C::NodeId: serde::Serialize, C::Node: serde::Serialize",
        deserialize = "C::NodeId: serde::Deserialize<'de>, C::Node: serde::Deserialize<'de>"
    ))
)]
pub struct MembershipAt<C: TypeConfig> {
    /// The entry; [`LogId::ZERO`] for the empty membership before the first one.
    pub log_id: LogId,
    /// The membership.
    pub membership: Membership<C>,
}

impl<C: TypeConfig> Default for MembershipAt<C> {
    fn default() -> Self {
        Self { log_id: LogId::ZERO, membership: Membership::default() }
    }
}

/// A change of the membership that a leader can be asked for. One entry or two (through a joint membership) carry it
/// out; either all of it happens or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "C::NodeId: serde::Serialize, C::Node: serde::Serialize",
        deserialize = "C::NodeId: serde::Deserialize<'de>, C::Node: serde::Deserialize<'de>"
    ))
)]
#[non_exhaustive]
pub enum MembershipChange<C: TypeConfig> {
    /// Adds nodes that receive the log but do not vote. None of them may be a member yet.
    AddLearners(BTreeMap<C::NodeId, C::Node>),
    /// Lets learners vote. Each must be a learner that has caught up.
    Promote(BTreeSet<C::NodeId>),
    /// Makes voters learners.
    Demote(BTreeSet<C::NodeId>),
    /// Removes voters or learners.
    Remove(BTreeSet<C::NodeId>),
    /// Makes exactly these members the voters: learners among them are promoted, voters not among them are removed.
    SetVoters(BTreeSet<C::NodeId>),
    /// Changes how members are reached.
    UpdateNodes(BTreeMap<C::NodeId, C::Node>),
    /// Makes the membership exactly this: any change in one call. New voters must be learners that have caught up; nodes
    /// that are not members yet become learners, voters that only `nodes` names become learners, and members that `nodes`
    /// does not name are removed.
    Set {
        /// Who votes.
        voters: BTreeSet<C::NodeId>,
        /// Every member, voters and learners, with the way to reach it.
        nodes: BTreeMap<C::NodeId, C::Node>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::U64;

    fn nodes(ids: impl IntoIterator<Item = u64>) -> BTreeMap<u64, ()> {
        ids.into_iter().map(|id| (id, ())).collect()
    }

    /// By definition: some value v is reached by more than half.
    fn naive(values: &[u64]) -> u64 {
        (0..=9).rev().find(|v| 2 * values.iter().filter(|x| *x >= v).count() > values.len()).unwrap_or(0)
    }

    #[test]
    fn quorum_value_is_the_greatest_that_a_majority_has_for_sizes_up_to_nine() {
        for size in 0..=9_u64 {
            let membership = Membership::<U64>::of_voters(nodes(0..size));
            for seed in 0..200_u64 {
                let values: Vec<u64> = (0..size)
                    .map(|i| (seed.wrapping_mul(31).wrapping_add(i * i * 7 + seed * i)) % 10)
                    .collect();
                let expected = if size == 0 { 0 } else { naive(&values) };
                assert_eq!(membership.quorum_value(|id| values[id as usize]), expected, "{values:?}");
            }
        }
    }

    #[test]
    fn a_joint_quorum_needs_a_majority_of_each_set_for_all_pairs_and_answers() {
        // Every pair of non-empty voter sets out of five nodes, and every set of nodes that agree.
        for old in 1..32_u64 {
            for new in 1..32_u64 {
                let of = |mask: u64| (0..5).filter(move |i| mask >> i & 1 == 1).collect::<BTreeSet<u64>>();
                let start = Membership::<U64>::new(of(old), nodes(0..5)).unwrap();
                let joint = start.joint_to(of(new), nodes(0..5), BTreeSet::new());
                for agree in 0..32_u64 {
                    let majority = |set: u64| 2 * (set & agree).count_ones() > set.count_ones();
                    assert_eq!(joint.is_quorum(|id| agree >> id & 1 == 1), majority(old) && majority(new));
                }
            }
        }
    }

    #[test]
    fn an_empty_set_of_voters_is_never_a_quorum() {
        let nobody = Membership::<U64>::default();
        assert!(!nobody.is_quorum(|_| true));
        let learners_only = Membership::<U64>::new(BTreeSet::new(), nodes([1, 2])).unwrap();
        assert!(!learners_only.is_quorum(|_| true));
    }

    #[test]
    fn leaving_a_joint_membership_drops_the_retiring_and_keeps_the_demoted() {
        let start = Membership::<U64>::of_voters(nodes([1, 2, 3]));
        let joint = start.joint_to(BTreeSet::from([1]), nodes([1, 2, 3]), BTreeSet::from([3]));
        assert!(joint.is_voter(3));
        let left = joint.left();
        assert!(!left.is_joint());
        assert_eq!(left.voters(), &BTreeSet::from([1]));
        assert_eq!(left.learners().collect::<Vec<_>>(), vec![2]);
        assert!(!left.is_member(3));
    }
}
