//! A small type configuration, for unit tests.

use openconsensus::TypeConfig;

/// Commands are text, nodes are addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text;

impl TypeConfig for Text {
    type Command = String;
    type Response = ();
    type NodeId = u64;
    type Node = String;

    fn command_bytes(command: &String) -> u64 {
        command.len() as u64
    }
}
