//! The four types that an application chooses.

use std::fmt::{Debug, Display};
use std::hash::Hash;

use crate::runtime::{MaybeSend, MaybeSync};

/// The four types that an application chooses, and the size of one of them.
///
/// Implement it on a unit struct; the bounds on the struct itself are there so that generic types of this crate can
/// derive their traits.
///
/// ```
/// use openconsensus::TypeConfig;
///
/// #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
/// struct Counter;
///
/// impl TypeConfig for Counter {
///     type Command = i64;
///     type Response = i64;
///     type NodeId = u64;
///     type Node = String;
///
///     fn command_bytes(_command: &i64) -> u64 {
///         8
///     }
/// }
/// ```
pub trait TypeConfig: Copy + Debug + Default + Eq + Ord + MaybeSend + MaybeSync + 'static {
    /// What the state machine is asked to do: the payload of a log entry. It is never cloned.
    type Command: Debug + MaybeSend + MaybeSync + 'static;

    /// What applying a command returned.
    type Response: Debug + MaybeSend + 'static;

    /// The name of a node: unique in the cluster and never used again for another node.
    type NodeId: Copy + Debug + Display + Eq + Ord + Hash + MaybeSend + MaybeSync + 'static;

    /// How to reach a node: an address, say. The library stores it in memberships and hands it to the network.
    type Node: Clone + Debug + Eq + MaybeSend + MaybeSync + 'static;

    /// The size of `command` in bytes, encoded or in memory, whichever is larger. All limits in
    /// [`Config`](crate::Config) that are in bytes count with it, so an estimate that is too small makes the node use
    /// more memory than its limits say. Must always return the same number for the same command.
    fn command_bytes(command: &Self::Command) -> u64;
}
