//! What a replicated key-value store is asked and answers: shared by the state machine here and by durable ones.

use openconsensus::TypeConfig;
use serde::{Deserialize, Serialize};

/// A change of the key-value state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Sets `key` to `value`.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        value: Vec<u8>,
    },
    /// Removes `key`.
    Delete {
        /// The key.
        key: String,
    },
    /// Sets `key` to `value` (or removes it, with `None`) if it now has the value `expected` (`None`: is absent).
    CompareAndSet {
        /// The key.
        key: String,
        /// What it must be.
        expected: Option<Vec<u8>>,
        /// What it becomes.
        value: Option<Vec<u8>>,
    },
    /// Several changes, one after the other, in one entry: all of them are applied. Not nested.
    Batch(Vec<Self>),
}

/// What a change returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// A `Put` or `Delete`: what was there before.
    Previous(Option<Vec<u8>>),
    /// A `CompareAndSet`: whether it was carried out, and what was there before.
    Compared {
        /// Whether `expected` was met.
        set: bool,
        /// What was there before.
        actual: Option<Vec<u8>>,
    },
    /// A `Batch`: how many changes were applied.
    Batch(u64),
}

/// A key-value cluster: nodes are numbers, reached at a `host:port`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Kv;

impl TypeConfig for Kv {
    type Command = Command;
    type Response = Response;
    type NodeId = u64;
    type Node = String;

    fn command_bytes(command: &Command) -> u64 {
        command.size_bytes()
    }
}

impl Command {
    /// Its size in memory, as limits count it.
    pub fn size_bytes(&self) -> u64 {
        let payload = match self {
            Self::Put { key, value } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
            Self::CompareAndSet { key, expected, value } => {
                key.len() + expected.as_ref().map_or(0, Vec::len) + value.as_ref().map_or(0, Vec::len)
            }
            Self::Batch(commands) => return 32 + commands.iter().map(Self::size_bytes).sum::<u64>(),
        };
        64 + payload as u64
    }
}
