//! Everything that a driver must do for an engine, and in which order.

use std::ops::Range;

use crate::entries::Entries;
use crate::entry::{HardState, Index, LogId, Term};
use crate::error::{
    ChangeMembershipError, ForgetLeaderError, InitializeError, LeaderHint, PurgeError, SnapshotError,
    TransferError,
};
use crate::leadership::LeadershipEvent;
use crate::message::{InstallSnapshot, InstallSnapshotResponse, Message, SnapshotMeta};
use crate::type_config::TypeConfig;

use super::input::RequestId;

/// Names a [`LogWrite`]. Numbers grow by one; completing one completes all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// Names a [`LogRead`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogReadId(pub u64);

/// Names a [`SnapshotEffect`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub u64);

/// What a driver must do after some steps. The fields are carried out **in the order in which they stand**; that order
/// is the contract:
///
/// 1. `write` is handed to the log storage. Nothing below waits for it: what depends on it is kept inside the engine
///    until [`Input::Persisted`](super::Input::Persisted) tells that it is durable.
/// 2. `messages` leave.
/// 3. `replies` go to those who asked.
/// 4. `reads` of old entries begin.
/// 5. `apply` is handed to the state machine.
/// 6. `snapshots`: each is handed to the state machine *behind* the entries of this and all earlier `apply`, in one
///    queue.
/// 7. `leadership`: those who watch the leadership of this node are told.
/// 8. `state_changed`: metrics are to be published.
#[derive(Clone, Debug)]
pub struct Effects<C: TypeConfig> {
    /// What to write to the log storage.
    pub write: Option<LogWrite<C>>,
    /// Messages, each to its peer. All that stand here may leave now.
    pub messages: Vec<(C::NodeId, Message<C>)>,
    /// Answers to requests. All that stand here may leave now.
    pub replies: Vec<(RequestId, Reply<C>)>,
    /// Old entries to read for peers that lag behind what is kept in memory.
    pub reads: Vec<LogRead>,
    /// Committed and stable entries to apply.
    pub apply: Option<Apply<C>>,
    /// Snapshots to build, send, install or give up.
    pub snapshots: Vec<SnapshotEffect<C>>,
    /// What has become of the leadership of this node, each step of it, also where it began and ended in between.
    pub leadership: Vec<LeadershipEvent>,
    /// Whether anything that [`Engine::metrics`](super::Engine::metrics) shows may have changed.
    pub state_changed: bool,
}

impl<C: TypeConfig> Default for Effects<C> {
    fn default() -> Self {
        Self {
            write: None,
            messages: Vec::new(),
            replies: Vec::new(),
            reads: Vec::new(),
            apply: None,
            snapshots: Vec::new(),
            leadership: Vec::new(),
            state_changed: false,
        }
    }
}

impl<C: TypeConfig> Effects<C> {
    /// Moves everything to `to`, where whatever there was is dropped, and keeps the memory of the lists there for the next
    /// time.
    pub(super) fn hand_over(&mut self, to: &mut Self) {
        fn give<T>(from: &mut Vec<T>, to: &mut Vec<T>) {
            to.clear();
            // Most lists are empty in most turns.
            if !from.is_empty() {
                std::mem::swap(from, to);
            }
        }
        let Self { write, messages, replies, reads, apply, snapshots, leadership, state_changed } = self;
        to.write = write.take();
        give(messages, &mut to.messages);
        give(replies, &mut to.replies);
        give(reads, &mut to.reads);
        to.apply = apply.take();
        give(snapshots, &mut to.snapshots);
        give(leadership, &mut to.leadership);
        to.state_changed = std::mem::take(state_changed);
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.write.is_none()
            && self.messages.is_empty()
            && self.replies.is_empty()
            && self.reads.is_empty()
            && self.apply.is_none()
            && self.snapshots.is_empty()
            && self.leadership.is_empty()
            && !self.state_changed
    }
}

/// A write to the log storage. Its parts are carried out **in the order in which they stand**, each durable before the
/// next, and all of them before the next write. Writes may be joined: adjacent appends into one.
#[derive(Clone, Debug)]
pub struct LogWrite<C: TypeConfig> {
    /// Names it in [`Input::Persisted`](super::Input::Persisted).
    pub id: WriteId,
    /// Save this hard state.
    pub hard_state: Option<HardState<C>>,
    /// Remove the entries at and after this index.
    pub truncate: Option<Index>,
    /// Purge the log up to and including this entry. It may be behind the last entry: then `append` follows it.
    pub purge: Option<LogId>,
    /// Append these entries.
    pub append: Entries<C>,
    /// The commit index now: a hint to be stored with `append`.
    pub commit: Index,
}

/// Old entries that a peer needs and that are not in memory any more. Answered by
/// [`Input::LogRead`](super::Input::LogRead).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRead {
    /// Names it.
    pub id: LogReadId,
    /// The entries to read.
    pub range: Range<Index>,
    /// The most bytes to read, as for [`RaftLogReader::read`](crate::RaftLogReader::read).
    pub bytes_max: u64,
}

/// Committed entries for the state machine: those of `range`. `entries` holds the end of it that is in memory, possibly
/// all of it, possibly nothing; what is before that must be read from the log storage, piece by piece.
#[derive(Clone, Debug)]
pub struct Apply<C: TypeConfig> {
    /// What to apply, directly behind what was handed over before.
    pub range: Range<Index>,
    /// The end of it, as far as it is in memory; may be empty.
    pub entries: Entries<C>,
}

/// Work on snapshots.
#[derive(Clone, Debug)]
pub enum SnapshotEffect<C: TypeConfig> {
    /// Build a snapshot. Answered by [`Input::SnapshotBuilt`](super::Input::SnapshotBuilt) or
    /// [`Input::SnapshotBuildFailed`](super::Input::SnapshotBuildFailed).
    Build {
        /// Names it.
        id: SnapshotId,
    },
    /// Send the current snapshot to a peer, in term `term`. Answered by
    /// [`Input::SnapshotSent`](super::Input::SnapshotSent), or by
    /// [`Input::SnapshotUnreadable`](super::Input::SnapshotUnreadable) when it is damaged or gone.
    Send {
        /// Names it.
        id: SnapshotId,
        /// To whom.
        peer: C::NodeId,
        /// The term to send it in.
        term: Term,
    },
    /// Install the snapshot whose stream came with `request`. Answered by
    /// [`Input::SnapshotInstalled`](super::Input::SnapshotInstalled). The engine is silent to the state machine until
    /// then.
    Install {
        /// Names it.
        id: SnapshotId,
        /// The request that it came with.
        request: RequestId,
        /// What it covers.
        snapshot: InstallSnapshot<C>,
    },
    /// Give up a `Send` or `Install`: its result is not wanted any more. An installation that can no longer be stopped
    /// may end as it likes; it is answered all the same.
    Discard {
        /// Names it.
        id: SnapshotId,
    },
}

/// The answer to a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reply<C: TypeConfig> {
    /// The commands of a `Write` are in the log of this leader, consecutively from `first` on. What becomes of them is
    /// seen when entries are applied at these indexes: the same term means that they were, another that they never
    /// will be.
    Appended {
        /// The first of them.
        first: LogId,
    },
    /// The commands of a `Write` were not appended and never will be.
    NotLeader {
        /// Where to retry.
        leader: Option<LeaderHint<C>>,
    },
    /// The commands of a `Write` were not appended and never will be: so much is in the log of this leader that is not
    /// committed or not durable yet. Ask again when [`Engine::holds_writes`](super::Engine::holds_writes) says no more.
    Busy {
        /// Bytes of such entries.
        bytes: u64,
        /// [`Config::uncommitted_bytes_max`](crate::Config::uncommitted_bytes_max).
        limit: u64,
    },
    /// A `Read` may be served once this index is applied.
    ReadReady {
        /// The index.
        index: Index,
    },
    /// A `Read` was not confirmed in time.
    ReadFailed {
        /// Who leads, as far as is known.
        leader: Option<LeaderHint<C>>,
    },
    /// The first membership is in the log, durably.
    Initialized,
    /// It has not.
    InitializeFailed(InitializeError<C>),
    /// The change is committed, its joint phase left.
    MembershipChanged {
        /// The entry of the membership that is in force now.
        log_id: LogId,
    },
    /// It was refused, or its outcome is unknown.
    ChangeMembershipFailed(ChangeMembershipError<C>),
    /// The target leads.
    Transferred {
        /// The target.
        leader: C::NodeId,
    },
    /// It does not.
    TransferFailed(TransferError<C>),
    /// No leader is known now, until one is heard.
    LeaderForgotten,
    /// The leader was not forgotten.
    ForgetLeaderFailed(ForgetLeaderError),
    /// A snapshot was built.
    SnapshotBuilt(SnapshotMeta<C>),
    /// It was not.
    SnapshotFailed(SnapshotError),
    /// The log is purged, durably.
    LogPurged {
        /// Up to this entry: as far as was asked for, or further.
        upto: LogId,
    },
    /// It was not.
    PurgeFailed(PurgeError),
    /// What to answer to the leader that sent a snapshot.
    InstallFinished(InstallSnapshotResponse),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::U64;

    /// A driver of one's own may wait when there is nothing to do: what is left out here would be forgotten.
    #[test]
    fn effects_are_empty_when_none_of_their_fields_asks_for_anything() {
        let is_empty = |fill: fn(&mut Effects<U64>)| {
            let mut effects = Effects::default();
            fill(&mut effects);
            effects.is_empty()
        };
        assert!(is_empty(|_| {}));
        assert!(!is_empty(|effects| {
            let (id, append) = (WriteId(1), Entries::empty());
            effects.write =
                Some(LogWrite { id, hard_state: None, truncate: None, purge: None, append, commit: 0 });
        }));
        assert!(!is_empty(|effects| {
            effects
                .messages
                .push((2, Message { term: 1, body: crate::message::Body::Commit { commit: LogId::ZERO } }));
        }));
        assert!(!is_empty(|effects| effects.replies.push((RequestId(1), Reply::Initialized))));
        assert!(!is_empty(|effects| {
            effects.reads.push(LogRead { id: LogReadId(1), range: 1..2, bytes_max: 1 });
        }));
        assert!(!is_empty(|effects| effects.apply = Some(Apply { range: 1..1, entries: Entries::empty() })));
        assert!(!is_empty(|effects| effects.snapshots.push(SnapshotEffect::Build { id: SnapshotId(1) })));
        assert!(!is_empty(|effects| effects.leadership.push(LeadershipEvent::Ready { term: 1 })));
        assert!(!is_empty(|effects| effects.state_changed = true));
    }

    /// One of each.
    fn full() -> Effects<U64> {
        let (id, append) = (WriteId(1), Entries::empty());
        let commit = crate::message::Body::Commit { commit: LogId::ZERO };
        Effects {
            write: Some(LogWrite { id, hard_state: None, truncate: None, purge: None, append, commit: 0 }),
            messages: vec![(2, Message { term: 1, body: commit })],
            replies: vec![(RequestId(1), Reply::Initialized)],
            reads: vec![LogRead { id: LogReadId(1), range: 1..2, bytes_max: 1 }],
            apply: Some(Apply { range: 1..1, entries: Entries::empty() }),
            snapshots: vec![SnapshotEffect::Build { id: SnapshotId(1) }],
            leadership: vec![LeadershipEvent::Ready { term: 1 }],
            state_changed: true,
        }
    }

    #[test]
    fn nothing_of_an_earlier_turn_is_handed_over_again() {
        let (mut engine, mut taken) = (full(), full());
        let text = format!("{engine:?}");
        engine.hand_over(&mut taken);
        assert_eq!(format!("{taken:?}"), text);
        assert!(engine.is_empty(), "{engine:?}");
        // Everything was left where it was.
        engine.hand_over(&mut taken);
        assert!(engine.is_empty() && taken.is_empty(), "{engine:?} {taken:?}");
        assert!(0 < taken.messages.capacity() && 0 < engine.messages.capacity(), "it is used again");
    }
}
