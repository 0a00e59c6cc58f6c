//! What must hold now, and between two steps.

use crate::entry::{Index, Term};
use crate::type_config::TypeConfig;

use super::{Engine, Role};

/// What a step is compared with.
pub(super) struct Before<C: TypeConfig> {
    term: Term,
    voted_for: Option<C::NodeId>,
    is_leader: bool,
    committed: Index,
    applied: Index,
    purged: Index,
}

impl<C: TypeConfig> Engine<C> {
    pub(super) fn before(&self) -> Before<C> {
        Before {
            term: self.term,
            voted_for: self.voted_for,
            is_leader: matches!(self.role, Role::Leader(_)),
            committed: self.log.committed(),
            applied: self.log.applied().index,
            purged: self.log.purged().index,
        }
    }

    /// What no transition may do. Cheap, so it is looked at in release builds too.
    pub(super) fn check_step(&self, before: &Before<C>) {
        assert!(before.term <= self.term, "the term fell from {} to {}", before.term, self.term);
        assert!(
            before.committed <= self.log.committed(),
            "commit fell from {} to {}",
            before.committed,
            self.log.committed()
        );
        assert!(
            before.applied <= self.log.applied().index,
            "applied fell from {} to {}",
            before.applied,
            self.log.applied()
        );
        assert!(
            before.purged <= self.log.purged().index,
            "purged fell from {} to {}",
            before.purged,
            self.log.purged()
        );
        if before.term == self.term && before.voted_for.is_some() {
            assert!(
                before.voted_for == self.voted_for,
                "the vote of term {} changed from {:?} to {:?}",
                self.term,
                before.voted_for,
                self.voted_for
            );
        }
        if !before.is_leader && matches!(self.role, Role::Leader(_)) {
            assert!(self.voted_for == Some(self.id), "leader of term {} without its own vote", self.term);
        }
    }

    /// What holds in every state.
    pub(super) fn check_now(&self) {
        let log = &self.log;
        assert!(
            log.purged().index <= log.applied().index,
            "purged {} beyond applied {}",
            log.purged(),
            log.applied()
        );
        assert!(
            log.applied().index <= log.dispatched(),
            "applied {} beyond dispatched {}",
            log.applied(),
            log.dispatched()
        );
        assert!(
            log.dispatched() <= log.committed(),
            "dispatched {} beyond committed {}",
            log.dispatched(),
            log.committed()
        );
        assert!(
            log.dispatched() <= log.stable(),
            "dispatched {} beyond stable {}",
            log.dispatched(),
            log.stable()
        );
        assert!(log.stable() <= log.written(), "stable {} beyond written {}", log.stable(), log.written());
        assert!(log.written() <= log.last().index, "written {} beyond last {}", log.written(), log.last());
        assert!(
            log.committed() <= log.last().index,
            "committed {} beyond last {}",
            log.committed(),
            log.last()
        );
        assert!(log.last().term <= self.term, "entry {} is from a later term than {}", log.last(), self.term);
        if let Role::Leader(leader) = &self.role {
            assert!(self.voted_for == Some(self.id), "leader of term {} without its own vote", self.term);
            for (peer, progress) in &leader.peers {
                assert!(
                    progress.matched() < progress.next(),
                    "peer {peer}: matched {} at or beyond next {}",
                    progress.matched(),
                    progress.next()
                );
                assert!(
                    progress.matched() <= log.last().index,
                    "peer {peer} matches {} beyond the log's end {}",
                    progress.matched(),
                    log.last()
                );
            }
        }
    }
}
