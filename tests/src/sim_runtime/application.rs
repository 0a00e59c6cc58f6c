//! `SimApplication`: what is run in a simulated cluster, a state machine and a log storage.

use std::fmt::Debug;

use openconsensus::{MaybeSend, MaybeSync, RaftLogStorage, RaftStateMachine, TypeConfig};

/// What is run in a [`SimCluster`](super::SimCluster): how the stores of its nodes are opened.
///
/// The stores may be those of an application as they are, as long as they keep to the thread that polls them and ask
/// nobody for time or chance: files that are read and written at once are fine, a thread for them is not.
///
/// What a node keeps on its disk belongs into the value that implements this trait: it outlives the node.
pub trait SimApplication: MaybeSend + MaybeSync + 'static {
    /// The four types of the application.
    type Types: TypeConfig<NodeId = u64>;
    /// Its log storage.
    type Log: RaftLogStorage<Self::Types> + MaybeSync;
    /// Its state machine.
    type Machine: RaftStateMachine<Self::Types> + MaybeSync;
    /// Reads what the state machine of one start of a node has applied.
    type Reader: Clone + MaybeSend + MaybeSync + 'static;
    /// A state, to be compared between nodes.
    type State: PartialEq + Debug;

    /// Opens the stores of node `id`: empty the first time, later with what is on its disk. Those of its last start are
    /// gone by then, as after a crash.
    fn open(&self, id: u64) -> (Self::Log, Self::Machine, Self::Reader);

    /// The state that a reader sees now. It must be the same on nodes that have applied the same entries.
    fn state(&self, reader: &Self::Reader) -> Self::State;

    /// How node `id` is reached. The simulated network does not look at it.
    fn address(&self, id: u64) -> <Self::Types as TypeConfig>::Node;
}
