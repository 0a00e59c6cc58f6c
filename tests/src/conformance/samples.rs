//! `Samples`: values of the types that an application chose, for the suites to work with.

use openconsensus::{Entries, Entry, Index, LogId, Membership, Payload, Term, TypeConfig};
use openconsensus_memstore::kv::{Command, Kv};

/// Makes values of a type configuration. Every call with the same arguments must return the same value.
pub trait Samples<C: TypeConfig> {
    /// A command that no other `number` gives, of about `bytes` bytes as
    /// [`TypeConfig::command_bytes`] counts them; as small as possible for 0.
    ///
    /// A state machine must show by its state which commands it has applied and in which order: commands that write to a
    /// few places again and again do that.
    fn command(&self, number: u64, bytes: usize) -> C::Command;

    /// The name of the node of this number, which is at least 1.
    fn node_id(&self, number: u64) -> C::NodeId;

    /// How to reach the node of this number. Nobody will try.
    fn node(&self, number: u64) -> C::Node;
}

/// Values for the key-value store of `openconsensus-memstore`.
#[derive(Clone, Copy, Debug, Default)]
pub struct KvSamples;

/// The samples write to so many keys.
const KEYS: u64 = 13;

impl Samples<Kv> for KvSamples {
    fn command(&self, number: u64, bytes: usize) -> Command {
        let key = format!("key {}", number % KEYS);
        let mut value = number.to_le_bytes().to_vec();
        value.resize(value.len().max(bytes), number as u8);
        match number % 7 {
            3 => Command::Batch(vec![
                Command::Put { key, value },
                Command::Delete { key: format!("key {}", (number + 1) % KEYS) },
            ]),
            // Set where there is nothing: so it shows whether the one before was applied.
            5 => Command::CompareAndSet { key, expected: None, value: Some(value) },
            _ => Command::Put { key, value },
        }
    }

    fn node_id(&self, number: u64) -> u64 {
        number
    }

    fn node(&self, number: u64) -> String {
        format!("node-{number}:7000")
    }
}

/// What the command of the entry at `index` of `term` is numbered with: no two entries have the same one.
fn number(term: Term, index: Index) -> u64 {
    index + 1_000_003 * (term - 1)
}

/// Entries of `term` at `range`, each with a small command that tells it from all others.
pub(super) fn commands<C: TypeConfig>(
    samples: &impl Samples<C>,
    term: Term,
    range: std::ops::Range<Index>,
) -> Entries<C> {
    commands_of(samples, term, range, 0)
}

/// As [`commands`], with commands of about `bytes` bytes.
pub(super) fn commands_of<C: TypeConfig>(
    samples: &impl Samples<C>,
    term: Term,
    range: std::ops::Range<Index>,
    bytes: usize,
) -> Entries<C> {
    let entry = |index| Entry {
        log_id: LogId::new(term, index),
        payload: Payload::Command(samples.command(number(term, index), bytes)),
    };
    range.map(entry).collect::<Vec<_>>().into()
}

/// Entries of `term` at `range`, of every kind: commands mostly, some blank, some with a membership.
pub(super) fn mixed<C: TypeConfig>(
    samples: &impl Samples<C>,
    term: Term,
    range: std::ops::Range<Index>,
) -> Entries<C> {
    let payload = |index| match index % 9 {
        1 => Payload::Blank,
        4 => Payload::Membership(membership(samples, index)),
        _ => Payload::Command(samples.command(number(term, index), 0)),
    };
    let entry = |index| Entry { log_id: LogId::new(term, index), payload: payload(index) };
    range.map(entry).collect::<Vec<_>>().into()
}

/// A membership that differs for most numbers: some voters, and a learner where the number is odd.
pub(super) fn membership<C: TypeConfig>(samples: &impl Samples<C>, number: u64) -> Membership<C> {
    let voters: Vec<u64> = (1..=1 + number % 5).collect();
    let learner = (number % 2 == 1).then_some(7);
    let nodes = voters.iter().copied().chain(learner).map(|id| (samples.node_id(id), samples.node(id)));
    let voters = voters.iter().map(|id| samples.node_id(*id)).collect();
    Membership::new(voters, nodes.collect()).expect("every voter has a node")
}
