//! The smallest type configuration, for unit tests.

use std::time::Instant;

use crate::type_config::TypeConfig;

/// Commands and responses are numbers, nodes have no address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct U64;

impl TypeConfig for U64 {
    type Command = u64;
    type Response = u64;
    type NodeId = u64;
    type Node = ();

    fn command_bytes(_command: &u64) -> u64 {
        8
    }
}

/// Some time to begin with.
pub(crate) fn start() -> Instant {
    Instant::now()
}
