//! Log storage and state machine: the traits, and what is promised on both sides.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;

use crate::entries::Entries;
use crate::entry::{HardState, Index, LogId, Payload};
use crate::membership::MembershipAt;
use crate::message::SnapshotMeta;
use crate::runtime::{BoxFuture, MaybeSend, SnapshotStream};
use crate::type_config::TypeConfig;

/// What a log storage found when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState<C: TypeConfig> {
    /// The last hard state saved, its `commit` raised to the latest hint given to
    /// [`append`](RaftLogStorage::append). The default for a new storage.
    pub hard_state: HardState<C>,
    /// The entry up to which the log was purged; [`LogId::ZERO`] when it never was.
    pub purged: LogId,
    /// The last entry, or `purged` when there is none behind it.
    pub last: LogId,
}

impl<C: TypeConfig> Default for LogState<C> {
    fn default() -> Self {
        Self { hard_state: HardState::default(), purged: LogId::ZERO, last: LogId::ZERO }
    }
}

impl<C: TypeConfig> LogState<C> {
    /// What contradicts itself, if anything does: such a storage has lost something.
    pub(crate) fn contradiction(&self) -> Option<String> {
        let (purged, last) = (self.purged, self.last);
        if last.index < purged.index {
            return Some(format!("the log ends at {last}, but is purged up to {purged}"));
        }
        if last.index == purged.index && last != purged {
            return Some(format!(
                "the log is empty behind {purged}, but its last entry is said to be {last}"
            ));
        }
        if last.term < purged.term {
            return Some(format!("the last entry {last} is of an earlier term than {purged} before it"));
        }
        self.unseen_term(last)
    }

    /// Says so if the hard state is older than the term of an entry: a node must not vote again in a term that it has
    /// seen the end of.
    pub(crate) fn unseen_term(&self, entry: LogId) -> Option<String> {
        let seen = self.hard_state.term;
        (seen < entry.term).then(|| {
            format!("the hard state is of term {seen}, but there is an entry {entry}: the hard state is lost or old")
        })
    }
}

/// The log and the hard state of one node on its disk.
///
/// All writes come from one loop of the driver: one at a time, in order, never cancelled half-way, and each is durable
/// when its future resolves. Readers run beside them. A storage does its I/O on a thread of its own or completes at
/// once: it must not block the thread that polls it, because elections and heartbeats live there.
///
/// An error of any method stops the node: it is not retried, and no later call is made. That is the only safe
/// reaction to a failed write or sync, since nobody knows what reached the disk.
///
/// See [the chapter of the guide](crate::guide::log_storage).
pub trait RaftLogStorage<C: TypeConfig>: MaybeSend + 'static {
    /// Reads entries beside the writer.
    type Reader: RaftLogReader<C>;

    /// A reader that sees what has been written whenever it is asked. Called at start.
    fn reader(&self) -> Self::Reader;

    /// What is stored. Called once, before any other method. A damaged store is an error that says what is damaged;
    /// it is never taken for an empty one.
    fn load(&mut self) -> impl Future<Output = io::Result<LogState<C>>> + MaybeSend;

    /// Replaces the hard state as a whole: after a crash either the old or the new one is found.
    fn save_hard_state(&mut self, state: HardState<C>) -> impl Future<Output = io::Result<()>> + MaybeSend;

    /// Adds entries behind the last one: they start at `last.index + 1`. After a crash in the middle a start of them
    /// may be found, never a hole.
    ///
    /// `commit` is a hint that rides along: stored with the entries it lets a restarted node know more. A storage to
    /// which that costs anything extra may drop it.
    fn append(
        &mut self,
        entries: Entries<C>,
        commit: Index,
    ) -> impl Future<Output = io::Result<()>> + MaybeSend;

    /// Removes the entries at and after `from`, which is above the purged index. After it they must not come back,
    /// whatever is appended before a crash.
    fn truncate(&mut self, from: Index) -> impl Future<Output = io::Result<()>> + MaybeSend;

    /// Removes the entries up to and including `upto`, and remembers it as the place before the first entry. When
    /// `upto` is behind the last entry the log becomes empty, and the next entry is `upto.index + 1`.
    fn purge(&mut self, upto: LogId) -> impl Future<Output = io::Result<()>> + MaybeSend;
}

/// Reads entries of one log storage, beside its writer.
pub trait RaftLogReader<C: TypeConfig>: Clone + MaybeSend + 'static {
    /// Consecutive entries from `range.start` on: as many of `range` as fit into `bytes_max` (counted with
    /// [`Entry::size_bytes`](crate::Entry::size_bytes)), but at least one if `range.start` is stored. Fewer than that
    /// only where the log ends. Empty when `range` is, and when `range.start` is purged or not stored. May be called at
    /// any time; entries that are being appended meanwhile may or may not be seen.
    fn read(
        &mut self,
        range: Range<Index>,
        bytes_max: u64,
    ) -> impl Future<Output = io::Result<Entries<C>>> + MaybeSend;

    /// The memberships in the entries of `range` that are stored, all of them and in order, where the storage knows them
    /// without looking at every entry; `None`, the default, where it does not. A node asks at start for those behind what
    /// the state machine has applied, and looks at every entry itself where it gets `None`: with millions of entries that
    /// is most of the time that it takes to start.
    fn memberships(
        &mut self,
        _range: Range<Index>,
    ) -> impl Future<Output = io::Result<Option<Vec<MembershipAt<C>>>>> + MaybeSend {
        std::future::ready(Ok(None))
    }
}

/// How far a state machine has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(bound(
        serialize = "C::NodeId: serde::Serialize, C::Node: serde::Serialize",
        deserialize = "C::NodeId: serde::Deserialize<'de>, C::Node: serde::Deserialize<'de>"
    ))
)]
pub struct AppliedState<C: TypeConfig> {
    /// The last entry whose effect it contains, be it a command or not; [`LogId::ZERO`] before the first.
    pub last_applied: LogId,
    /// The latest membership at or before `last_applied`.
    pub membership: MembershipAt<C>,
}

impl<C: TypeConfig> Default for AppliedState<C> {
    fn default() -> Self {
        Self { last_applied: LogId::ZERO, membership: MembershipAt::default() }
    }
}

/// Committed entries that follow each other, and what to remember with them.
#[derive(Clone, Debug)]
pub struct ApplyBatch<C: TypeConfig> {
    entries: Entries<C>,
    commands: usize,
    applied_state: AppliedState<C>,
}

impl<C: TypeConfig> ApplyBatch<C> {
    /// The batch that takes a state machine from `before` over `entries`.
    ///
    /// # Panics
    ///
    /// When `entries` do not follow `before.last_applied`.
    pub fn new(before: &AppliedState<C>, entries: Entries<C>) -> Self {
        let mut applied_state = before.clone();
        if let Some(first) = entries.first() {
            let expected = before.last_applied.index + 1;
            assert!(
                first.index == expected,
                "entry {first} cannot be applied: the next one is at {expected}"
            );
        }
        applied_state.last_applied = entries.last().unwrap_or(before.last_applied);
        let mut commands = 0;
        for entry in entries.iter() {
            match &entry.payload {
                Payload::Command(_) => commands += 1,
                Payload::Blank => {}
                Payload::Membership(membership) => {
                    applied_state.membership =
                        MembershipAt { log_id: entry.log_id, membership: membership.clone() };
                }
            }
        }
        Self { entries, commands, applied_state }
    }

    /// The commands in order, each with the name of its entry. Entries without a command are left out.
    pub fn commands(&self) -> impl Iterator<Item = (LogId, &C::Command)> {
        self.entries.iter().filter_map(|entry| match &entry.payload {
            Payload::Command(command) => Some((entry.log_id, command)),
            Payload::Blank | Payload::Membership(_) => None,
        })
    }

    /// How many [`commands`](Self::commands) there are.
    pub fn commands_len(&self) -> usize {
        self.commands
    }

    /// All entries, also those that carry no command.
    pub fn entries(&self) -> &Entries<C> {
        &self.entries
    }

    /// What to store together with the effects of the batch, in the same transaction.
    pub fn applied_state(&self) -> &AppliedState<C> {
        &self.applied_state
    }
}

/// A snapshot: what it covers, and its bytes.
pub struct Snapshot<C: TypeConfig> {
    /// What it covers.
    pub meta: SnapshotMeta<C>,
    /// Its bytes.
    pub data: SnapshotStream,
}

impl<C: TypeConfig> fmt::Debug for Snapshot<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// The application.
///
/// Owned by one loop of the driver: calls come one at a time, in order, and are never cancelled. To read the state
/// beside it, keep a handle of your own to what it stores, and call [`Raft::read`](crate::Raft::read) first.
///
/// A state machine may be persistent or volatile. A persistent one stores the applied state in the same transaction as
/// the effects. A volatile one starts empty after a restart and gets the snapshot and then the log once more; its
/// [`current_snapshot`](Self::current_snapshot) must then be as durable as the log, which is purged behind it.
///
/// A failed call stops the node, and nothing is retried behind the application's back, with three exceptions about
/// snapshots, which change nothing: one that cannot be built, one that cannot be read to be sent, and one that comes
/// damaged from a leader.
///
/// How many snapshots are kept is the state machine's affair. One is enough: the core only ever asks for the current
/// one. One that is still being read when another takes its place is removed afterwards. What a crash leaves behind of
/// a snapshot that was being built or received is removed at the next start.
///
/// See [the chapter of the guide](crate::guide::state_machine).
pub trait RaftStateMachine<C: TypeConfig>: MaybeSend + 'static {
    /// How far it has come. Called once, before any other method.
    fn applied_state(&mut self) -> impl Future<Output = io::Result<AppliedState<C>>> + MaybeSend;

    /// Applies the commands of a batch: all of them or, on an error, none. Must do the same on every node, so it
    /// depends on nothing but the state and the commands: no clock, no randomness, no order of a hash map.
    ///
    /// Returns one response for each of [`ApplyBatch::commands`], in order, and remembers
    /// [`ApplyBatch::applied_state`]. It need not be durable on return: what is lost in a crash is applied again.
    fn apply(
        &mut self,
        batch: ApplyBatch<C>,
    ) -> impl Future<Output = io::Result<Vec<C::Response>>> + MaybeSend;

    /// Takes a consistent view of the state now, which must be cheap; the future that is returned writes it out beside
    /// further calls of `apply`. When it resolves, [`current_snapshot`](Self::current_snapshot) returns this snapshot
    /// or a later one, also after a restart; the log may then be purged behind it. Called again without an `apply` in
    /// between, it writes the same state once more: it is asked to where the current snapshot is damaged.
    ///
    /// A future that is dropped, or that returns an error because the disk is full, say, leaves the snapshot before it
    /// in place and the state as it is. The node goes on after such an error, and tries again later.
    fn build_snapshot(&mut self) -> BoxFuture<'static, io::Result<SnapshotMeta<C>>>;

    /// The latest snapshot that was built or installed. A stream that was returned stays readable when a later
    /// snapshot takes its place. Called at start, and whenever a peer needs a snapshot.
    ///
    /// A snapshot that is damaged or gone is an error, of this call or of the stream, never a stream of wrong bytes: the
    /// state machine checks what it has stored, with checksums, as it reads. After such an error the state is as before
    /// and the node goes on: it builds another snapshot and sends that. Only where the state after a restart is older than
    /// the snapshot, and the log does not have all between, the node refuses to start; so the error says which file is
    /// damaged. A state machine whose state may be older than its snapshot, and is not empty, must know what even a
    /// damaged snapshot covers: it returns that, with a stream that ends in an error.
    fn current_snapshot(&mut self) -> impl Future<Output = io::Result<Option<Snapshot<C>>>> + MaybeSend;

    /// Replaces the whole state by that of a snapshot, and makes it the current snapshot: all or nothing, also in a
    /// crash. It is never older than the state.
    ///
    /// When the stream of the snapshot ends in an error (the sender has died, say), this must return an error and the
    /// state must be as before; the driver then does not take the error for one of the state machine. So it is when what
    /// has come is damaged or makes no sense: an error of the kind [`InvalidData`](io::ErrorKind::InvalidData) says that
    /// the state is as before and that the snapshot is to blame. It is refused, and the leader sends it again, later and
    /// later. Any other error stops the node.
    fn install_snapshot(&mut self, snapshot: Snapshot<C>)
    -> impl Future<Output = io::Result<()>> + MaybeSend;
}
