//! The suite for state machines: every sentence of `RaftStateMachine` that can be checked from outside.

mod applying;
mod crashing;
mod image;
mod installing;
mod snapshots;
mod story;
mod subject;

use std::future::Future;
use std::io;

use openconsensus::{RaftStateMachine, TypeConfig};

use super::report::{Report, checks};
use super::samples::Samples;

/// Makes state machines for [`check_state_machine`], persistent or volatile ones.
///
/// [`disk`](Self::disk), [`open`](Self::open) and [`contents`](Self::contents) are enough for most checks. The others let
/// the suite cut the power and make writes fail; see [`LogStorageFactory`](super::LogStorageFactory), where they are the
/// same.
pub trait StateMachineFactory<C: TypeConfig>: Samples<C> {
    /// The place of what one state machine keeps: its state if it is persistent, and its snapshot.
    type Disk;

    /// The state machine.
    type Machine: RaftStateMachine<C>;

    /// An empty place for a new state machine. The suite asks for some hundred of them.
    fn disk(&self) -> Self::Disk;

    /// Opens the state machine on `disk`. One that was opened before has been dropped by then.
    fn open(&self, disk: &Self::Disk) -> impl Future<Output = io::Result<Self::Machine>>;

    /// All of the state that commands change, in a form that is equal for equal states and differs for all others: keys with
    /// their values in order, say. Not the applied state.
    fn contents(&self, machine: &mut Self::Machine) -> impl Future<Output = io::Result<Vec<u8>>>;

    /// Whether a snapshot is refused whose bytes were changed, or of which the end is missing. The contract does not ask for
    /// it, so a state machine that cannot tell says `false`, and the check is skipped.
    fn detects_damage(&self) -> bool {
        true
    }

    /// Damages the current snapshot where it is kept, as a failing disk does, while the state machine is open. Returns
    /// `false`, the default, where that cannot be had.
    fn damage_snapshot(&self, _disk: &Self::Disk) -> bool {
        false
    }

    /// A copy of `disk` as it would be found after the power was cut now. `None`, the default, where that cannot be had.
    fn crashed(&self, _disk: &Self::Disk) -> Option<Self::Disk> {
        None
    }

    /// Copies of `disk` as they would have been found after the power was cut in the time since the last call. The first
    /// call for a disk begins it, and what it returns is not looked at. Empty, the default, where that cannot be had.
    fn crashes(&self, _disk: &Self::Disk) -> Vec<Self::Disk> {
        Vec::new()
    }

    /// From now on `disk` carries out so many more operations and refuses every further one. Returns `false`, the default,
    /// where that cannot be had.
    fn fail_after(&self, _disk: &Self::Disk, _operations: u64) -> bool {
        false
    }
}

/// Checks a state machine against its contract. The report says what came of it; see [`Report::assert_passed`].
///
/// Runs on any executor. Random checks print the seed with which they failed; the environment variable
/// `CONFORMANCE_SEED` repeats it.
///
/// ```
/// # use openconsensus_memstore::kv::{Command, Kv};
/// # use openconsensus_tests::conformance::{KvSamples, Samples};
/// use std::io;
///
/// use openconsensus_memstore::{KvDisk, MemStateMachine};
/// use openconsensus_tests::conformance::{StateMachineFactory, check_state_machine};
///
/// struct Machines;
/// # impl Samples<Kv> for Machines {
/// #     fn command(&self, number: u64, bytes: usize) -> Command { KvSamples.command(number, bytes) }
/// #     fn node_id(&self, number: u64) -> u64 { number }
/// #     fn node(&self, number: u64) -> String { format!("node-{number}:7000") }
/// # }
///
/// impl StateMachineFactory<Kv> for Machines {
///     type Disk = KvDisk;
///     type Machine = MemStateMachine;
///
///     fn disk(&self) -> KvDisk {
///         KvDisk::new()
///     }
///
///     async fn open(&self, disk: &KvDisk) -> io::Result<MemStateMachine> {
///         Ok(MemStateMachine::persistent(disk))
///     }
///
///     async fn contents(&self, machine: &mut MemStateMachine) -> io::Result<Vec<u8>> {
///         Ok(format!("{:x?}", machine.reader().scan(.., usize::MAX)).into_bytes())
///     }
/// }
///
/// futures::executor::block_on(check_state_machine(&Machines)).assert_passed();
/// ```
pub async fn check_state_machine<C, F>(factory: &F) -> Report
where
    C: TypeConfig<Response: PartialEq>,
    F: StateMachineFactory<C>,
{
    let mut report = Report::new("state machine");
    make_all(&mut report, factory).await;
    report
}

checks! {
    make_all where [C: TypeConfig<Response: PartialEq>, F: StateMachineFactory<C>];
    applying::a_new_state_machine_has_applied_nothing: [
        "How far it has come. Called once, before any other method.",
    ];
    applying::each_command_has_its_response_in_order: [
        "Returns one response for each of [`ApplyBatch::commands`], in order, and remembers \
         [`ApplyBatch::applied_state`].",
    ];
    applying::entries_without_a_command_are_applied_too: [
        "Returns one response for each of [`ApplyBatch::commands`], in order, and remembers \
         [`ApplyBatch::applied_state`].",
    ];
    applying::two_instances_do_the_same: [
        "Must do the same on every node, so it depends on nothing but the state and the commands: no clock, no \
         randomness, no order of a hash map.",
    ];
    applying::a_restart_finds_state_and_applied_state_of_one_moment: [
        "A state machine may be persistent or volatile.",
        "A persistent one stores the applied state in the same transaction as the effects.",
        "A volatile one starts empty after a restart and gets the snapshot and then the log once more; its \
         [`current_snapshot`](Self::current_snapshot) must then be as durable as the log, which is purged behind it.",
        "It need not be durable on return: what is lost in a crash is applied again.",
    ];
    applying::a_random_workload_does_as_the_story: [
        "Owned by one loop of the driver: calls come one at a time, in order, and are never cancelled.",
    ];
    snapshots::a_snapshot_is_of_the_moment_when_it_was_asked_for: [
        "Takes a consistent view of the state now, which must be cheap; the future that is returned writes it out beside \
         further calls of `apply`.",
    ];
    snapshots::a_snapshot_that_was_built_is_current: [
        "When it resolves, [`current_snapshot`](Self::current_snapshot) returns this snapshot or a later one, also after \
         a restart; the log may then be purged behind it.",
        "The latest snapshot that was built or installed.",
        "How many bytes its stream has, where that is known.",
    ];
    snapshots::a_build_that_is_dropped_leaves_the_snapshot_before_it: [
        "A future that is dropped, or that returns an error because the disk is full, say, leaves the snapshot before it \
         in place and the state as it is.",
    ];
    snapshots::a_build_that_ends_late_does_not_replace_a_later_snapshot: [
        "When it resolves, [`current_snapshot`](Self::current_snapshot) returns this snapshot or a later one, also after \
         a restart; the log may then be purged behind it.",
    ];
    snapshots::a_stream_outlives_its_snapshot: [
        "A stream that was returned stays readable when a later snapshot takes its place.",
        "One that is still being read when another takes its place is removed afterwards.",
    ];
    snapshots::a_damaged_snapshot_is_an_error_and_is_replaced_by_the_next: [
        "A snapshot that is damaged or gone is an error, of this call or of the stream, never a stream of wrong bytes: the \
         state machine checks what it has stored, with checksums, as it reads.",
        "After such an error the state is as before and the node goes on: it builds another snapshot and sends that.",
        "Called again without an `apply` in between, it writes the same state once more: it is asked to where the current \
         snapshot is damaged.",
        "A state machine whose state may be older than its snapshot, and is not empty, must know what even a damaged \
         snapshot covers: it returns that, with a stream that ends in an error.",
    ];
    installing::a_snapshot_replaces_everything: [
        "Replaces the whole state by that of a snapshot, and makes it the current snapshot: all or nothing, also in a \
         crash.",
        "It is never older than the state.",
    ];
    installing::a_snapshot_may_come_in_chunks_of_any_size: [
        "Replaces the whole state by that of a snapshot, and makes it the current snapshot: all or nothing, also in a \
         crash.",
    ];
    installing::a_stream_that_breaks_leaves_all_as_before: [
        "When the stream of the snapshot ends in an error (the sender has died, say), this must return an error and the \
         state must be as before; the driver then does not take the error for one of the state machine.",
    ];
    installing::wrong_bytes_are_refused_as_a_whole: [
        "So it is when what has come is damaged or makes no sense: an error of the kind \
         [`InvalidData`](io::ErrorKind::InvalidData) says that the state is as before and that the snapshot is to blame.",
        "Replaces the whole state by that of a snapshot, and makes it the current snapshot: all or nothing, also in a \
         crash.",
    ];
    crashing::a_crash_loses_no_snapshot: [
        "When it resolves, [`current_snapshot`](Self::current_snapshot) returns this snapshot or a later one, also after \
         a restart; the log may then be purged behind it.",
        "A volatile one starts empty after a restart and gets the snapshot and then the log once more; its \
         [`current_snapshot`](Self::current_snapshot) must then be as durable as the log, which is purged behind it.",
    ];
    crashing::a_crash_at_any_point_leaves_the_state_of_one_moment: [
        "A persistent one stores the applied state in the same transaction as the effects.",
        "Replaces the whole state by that of a snapshot, and makes it the current snapshot: all or nothing, also in a \
         crash.",
    ];
    crashing::a_crash_while_a_snapshot_arrives_leaves_all_as_before: [
        "Replaces the whole state by that of a snapshot, and makes it the current snapshot: all or nothing, also in a \
         crash.",
    ];
    crashing::a_call_that_fails_leaves_nothing_half_done: [
        "Applies the commands of a batch: all of them or, on an error, none.",
        "A failed call stops the node, and nothing is retried behind the application's back, with three exceptions about \
         snapshots, which change nothing: one that cannot be built, one that cannot be read to be sent, and one that comes \
         damaged from a leader.",
        "A future that is dropped, or that returns an error because the disk is full, say, leaves the snapshot before it \
         in place and the state as it is.",
    ];
}
