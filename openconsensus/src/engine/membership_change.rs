//! Changes of the membership: one at a time, through a joint membership where more than one voter changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::entry::{Entry, LogId, Payload};
use crate::error::{ChangeMembershipError, InitializeError};
use crate::membership::{Membership, MembershipChange};
use crate::type_config::TypeConfig;

use super::{Engine, Reply, RequestId, Role, millis};

/// A change that a client waits for. The change itself lives in the log alone: the next leader finishes it.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct PendingChange {
    pub(super) request: RequestId,
    /// Its latest entry.
    log_id: LogId,
}

impl PendingChange {
    pub(super) fn unknown<C: TypeConfig>(&self) -> ChangeMembershipError<C> {
        ChangeMembershipError::Unknown { log_id: self.log_id }
    }
}

/// What a change leads to.
struct Target<C: TypeConfig> {
    voters: BTreeSet<C::NodeId>,
    nodes: BTreeMap<C::NodeId, C::Node>,
    /// Members that are to go.
    retiring: BTreeSet<C::NodeId>,
}

impl<C: TypeConfig> Engine<C> {
    pub(super) fn on_initialize(
        &mut self,
        now: Instant,
        request: RequestId,
        nodes: BTreeMap<C::NodeId, C::Node>,
    ) {
        let last = self.log.last();
        let refusal = if last != LogId::ZERO || !self.log.membership().is_empty() {
            Some(InitializeError::AlreadyInitialized { last })
        } else if nodes.is_empty() {
            Some(InitializeError::Empty)
        } else if !nodes.contains_key(&self.id) {
            Some(InitializeError::NotAMember { id: self.id })
        } else {
            None
        };
        if let Some(error) = refusal {
            return self.reply(request, Reply::InitializeFailed(error));
        }
        // No leader wins term 1: whoever is elected first has this entry and campaigns in a later term. So no other
        // log has another entry with this name, unless a second cluster is begun.
        if self.term == 0 {
            self.become_follower(now, 1, None);
        }
        let log_id = LogId { term: 1, index: 1 };
        let payload = Payload::Membership(Membership::of_voters(nodes));
        self.log.append(vec![Entry { log_id, payload }].into());
        self.initializing = Some((request, self.writes.of_entry(log_id.index, &self.log)));
    }

    /// Answers once the first membership is durable.
    pub(super) fn finish_initialize(&mut self) {
        let writes = &self.writes;
        if let Some((request, _)) = self.initializing.take_if(|(_, write)| writes.is_done(*write)) {
            self.reply(request, Reply::Initialized);
        }
    }

    pub(super) fn on_change_membership(
        &mut self,
        now: Instant,
        request: RequestId,
        change: &MembershipChange<C>,
        expected: Option<LogId>,
    ) {
        let planned = self.may_change(expected).and_then(|()| self.plan(now, change));
        match planned {
            Ok(membership) => {
                let log_id = self.append_one(Payload::Membership(membership));
                if let Role::Leader(leader) = &mut self.role {
                    leader.change = Some(PendingChange { request, log_id });
                }
            }
            Err(error) => self.reply(request, Reply::ChangeMembershipFailed(error)),
        }
    }

    /// The rules that make a change safe, whatever it is.
    fn may_change(&self, expected: Option<LogId>) -> Result<(), ChangeMembershipError<C>> {
        let Role::Leader(leader) = &self.role else {
            return Err(ChangeMembershipError::NotLeader { leader: self.leader_hint() });
        };
        if leader.transfer.is_some() {
            return Err(ChangeMembershipError::Transferring);
        }
        // A change in a term without a committed entry may divide the cluster: two leaders could each change the same
        // membership without knowing of each other.
        if self.log.committed() < leader.term_start {
            return Err(ChangeMembershipError::NotReady);
        }
        let at = self.log.membership_at();
        if self.log.committed() < at.log_id.index || at.membership.is_joint() {
            return Err(ChangeMembershipError::InProgress { pending: at.log_id });
        }
        match expected {
            Some(expected) if expected != at.log_id => {
                Err(ChangeMembershipError::Mismatch { expected, actual: at.log_id })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The membership that the change begins with: the last one already where at most one voter changes, a joint one
    /// otherwise.
    fn plan(
        &self,
        now: Instant,
        change: &MembershipChange<C>,
    ) -> Result<Membership<C>, ChangeMembershipError<C>> {
        let current = self.log.membership();
        let Target { voters, mut nodes, retiring } = self.target(now, change)?;
        if voters.is_empty() {
            return Err(ChangeMembershipError::NoVoters);
        }
        self.check_quorum_lives(now, &voters)?;
        let changed = voters.symmetric_difference(current.voters()).count();
        if 1 < changed {
            return Ok(current.joint_to(voters, nodes, retiring));
        }
        nodes.retain(|id, _| !retiring.contains(id));
        let next = Membership::new(voters, nodes).expect("every voter is a member");
        if next == *current {
            return Err(ChangeMembershipError::Empty);
        }
        Ok(next)
    }

    fn target(
        &self,
        now: Instant,
        change: &MembershipChange<C>,
    ) -> Result<Target<C>, ChangeMembershipError<C>> {
        let current = self.log.membership();
        let mut target = Target {
            voters: current.voters().clone(),
            nodes: current.nodes().clone(),
            retiring: BTreeSet::new(),
        };
        match change {
            MembershipChange::AddLearners(nodes) => {
                for (id, node) in nodes {
                    if target.nodes.insert(*id, node.clone()).is_some() {
                        return Err(ChangeMembershipError::AlreadyMember { id: *id });
                    }
                }
            }
            MembershipChange::Promote(ids) => {
                for id in ids {
                    self.check_role(*id, false)?;
                    self.check_caught_up(now, *id)?;
                    target.voters.insert(*id);
                }
            }
            MembershipChange::Demote(ids) => {
                for id in ids {
                    self.check_role(*id, true)?;
                    target.voters.remove(id);
                }
            }
            MembershipChange::Remove(ids) => {
                for id in ids {
                    self.check_member(*id)?;
                    target.voters.remove(id);
                    target.retiring.insert(*id);
                }
            }
            MembershipChange::SetVoters(ids) => {
                for id in ids.difference(current.voters()) {
                    self.check_member(*id)?;
                    self.check_caught_up(now, *id)?;
                }
                target.retiring = current.voters().difference(ids).copied().collect();
                target.voters.clone_from(ids);
            }
            MembershipChange::UpdateNodes(nodes) => {
                for (id, node) in nodes {
                    self.check_member(*id)?;
                    target.nodes.insert(*id, node.clone());
                }
            }
            MembershipChange::Set { voters, nodes } => {
                for id in voters.difference(current.voters()) {
                    self.check_member(*id)?;
                    self.check_caught_up(now, *id)?;
                }
                if let Some(id) = voters.iter().find(|id| !nodes.contains_key(id)) {
                    return Err(ChangeMembershipError::NoNode { id: *id });
                }
                let is_gone = |id: &C::NodeId| !nodes.contains_key(id);
                target.retiring = current.nodes().keys().copied().filter(is_gone).collect();
                target.nodes.extend(nodes.iter().map(|(id, node)| (*id, node.clone())));
                target.voters.clone_from(voters);
            }
        }
        Ok(target)
    }

    /// A membership whose voters are silent could commit nothing, not even the change that would repair it. A change that
    /// makes that no worse is let through: removing dead voters is how it is repaired.
    fn check_quorum_lives(
        &self,
        now: Instant,
        voters: &BTreeSet<C::NodeId>,
    ) -> Result<(), ChangeMembershipError<C>> {
        let silent = |voters: &BTreeSet<C::NodeId>| -> BTreeSet<C::NodeId> {
            voters.iter().copied().filter(|id| self.is_silent(now, *id)).collect()
        };
        // How many more voters may fall silent before nothing can be committed.
        let spare = |voters: &BTreeSet<C::NodeId>, silent: usize| {
            let majority = voters.len() / 2 + 1;
            (voters.len() - silent).cast_signed() - majority.cast_signed()
        };
        let current = self.log.membership().voters();
        let after = silent(voters);
        let spare_after = spare(voters, after.len());
        if spare_after < 0 && spare_after < spare(current, silent(current).len()) {
            return Err(ChangeMembershipError::QuorumSilent { silent: after, voters: voters.clone() });
        }
        Ok(())
    }

    /// Whether a node has not answered this leader for twice the longest election timeout.
    fn is_silent(&self, now: Instant, id: C::NodeId) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let Some(progress) = leader.peers.get(&id) else { return false };
        progress.contact.unwrap_or(leader.since) + millis(2 * self.config.election_timeout_ms_max) <= now
    }

    fn check_member(&self, id: C::NodeId) -> Result<(), ChangeMembershipError<C>> {
        let membership = self.log.membership();
        if membership.is_member(id) {
            return Ok(());
        }
        Err(ChangeMembershipError::UnknownNode { id, members: membership.nodes().keys().copied().collect() })
    }

    fn check_role(&self, id: C::NodeId, needs_voter: bool) -> Result<(), ChangeMembershipError<C>> {
        self.check_member(id)?;
        let name = |is_voter| if is_voter { "a voter" } else { "a learner" };
        let is_voter = self.log.membership().is_voter(id);
        if is_voter == needs_voter {
            return Ok(());
        }
        Err(ChangeMembershipError::WrongRole { id, actual: name(is_voter), needed: name(needs_voter) })
    }

    /// Thesis 4.2.1: a voter that lacks much of the log, or is not there at all, would stop the cluster from committing.
    fn check_caught_up(&self, now: Instant, id: C::NodeId) -> Result<(), ChangeMembershipError<C>> {
        let Role::Leader(leader) = &self.role else { return Ok(()) };
        let Some(progress) = leader.peers.get(&id) else { return Ok(()) };
        let is_recent = |contact| now < contact + millis(2 * self.config.election_timeout_ms_max);
        if !progress.contact.is_some_and(is_recent) {
            return Err(ChangeMembershipError::NotActive { id });
        }
        let behind = self.log.last().index - progress.matched();
        let limit = self.config.promotion_lag_entries_max;
        if limit < behind || progress.matched() == 0 {
            return Err(ChangeMembershipError::NotCaughtUp { id, behind, limit });
        }
        Ok(())
    }

    /// Leaves a joint membership once it is committed, whoever began it, and answers when all is done.
    pub(super) fn advance_membership_change(&mut self) {
        let committed = self.log.committed();
        let at = self.log.membership_at();
        let (log_id, is_joint) = (at.log_id, at.membership.is_joint());
        let Role::Leader(leader) = &mut self.role else { return };
        if committed < log_id.index || committed < leader.term_start {
            return;
        }
        if !is_joint {
            if let Some(change) = leader.change.take() {
                self.reply(change.request, Reply::MembershipChanged { log_id });
            }
            return;
        }
        let left = at.membership.left();
        let log_id = self.append_one(Payload::Membership(left));
        if let Role::Leader(leader) = &mut self.role
            && let Some(change) = &mut leader.change
        {
            change.log_id = log_id;
        }
    }
}
