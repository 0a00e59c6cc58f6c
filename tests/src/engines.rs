//! A synchronous harness: pure engines with model disks, state machines and a network, in virtual time.
//!
//! Nothing here is async and nothing waits. A test says what happens: which node's timer runs out, which message is
//! lost or comes twice, whose disk is slow, who crashes. After every step the properties that Raft promises are checked
//! over all nodes, so that a test need not say them.

mod cluster;
mod disk;
mod driver;
mod network;
pub(crate) mod node;
mod oracle;
mod time;

use std::collections::BTreeMap;

use openconsensus::{Entry, LogId, Membership, Payload, Term, TypeConfig};

pub use cluster::{Cluster, ELECTION_TIMEOUT_MS, Outcome};
pub use disk::Disk;
pub use network::{Letter, What};
pub use node::Image;
pub use oracle::Oracle;

/// Commands and responses are numbers, nodes have no address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test;

impl TypeConfig for Test {
    type Command = u64;
    type Response = u64;
    type NodeId = u64;
    type Node = ();

    fn command_bytes(command: &u64) -> u64 {
        // Small numbers have the size of numbers; see `sized_command` for others.
        (*command >> SIZE_SHIFT).max(8)
    }
}

/// Where the size of a command stands in its number.
const SIZE_SHIFT: u32 = 40;

/// A command that counts as so many bytes, below 2²⁴, and differs from others by its `number`, below 2⁴⁰.
pub fn sized_command(number: u64, bytes: u64) -> u64 {
    bytes << SIZE_SHIFT | number
}

/// The number that [`sized_command`] was given.
pub fn number_of(command: u64) -> u64 {
    command & ((1 << SIZE_SHIFT) - 1)
}

/// Nodes by their ids.
pub fn nodes(ids: impl IntoIterator<Item = u64>) -> BTreeMap<u64, ()> {
    ids.into_iter().map(|id| (id, ())).collect()
}

/// A log whose entries have these terms, one digit or letter each as in the figures of the paper: the first is the
/// membership of `voters`, the others are commands that differ between terms and places.
pub fn log_of(voters: u64, terms: &[Term]) -> Vec<Entry<Test>> {
    let entry = |(place, term): (usize, &Term)| {
        let log_id = LogId::new(*term, place as u64 + 1);
        let payload = match place {
            0 => Payload::Membership(Membership::of_voters(nodes(1..=voters))),
            _ => Payload::Command(command_at(log_id)),
        };
        Entry { log_id, payload }
    };
    terms.iter().enumerate().map(entry).collect()
}

/// The command that [`log_of`] puts there.
pub fn command_at(log_id: LogId) -> u64 {
    log_id.term * 1_000_000 + log_id.index
}
