//! What several tests need.

use std::path::Path;

use futures::executor::block_on;
use openconsensus::{
    AppliedState, ApplyBatch, Entries, Entry, Index, LogId, Membership, Payload, RaftLogReader,
    RaftLogStorage, RaftStateMachine, Term,
};
use openconsensus_memstore::kv::{Command, Kv, Response};
use openconsensus_redb::kv::{KvApplication, KvReader};
use openconsensus_redb::{Identity, RedbLog, RedbLogReader, RedbStateMachine};

pub(crate) fn identity() -> Identity {
    Identity::new("test", 1)
}

pub(crate) fn open_log(dir: &Path) -> RedbLog<Kv> {
    RedbLog::open(dir.join("log.redb"), &identity()).unwrap()
}

pub(crate) type KvState = RedbStateMachine<Kv, KvApplication>;

pub(crate) fn open_state(dir: &Path) -> KvState {
    RedbStateMachine::open(dir.join("state.redb"), dir.join("snapshots"), &identity(), KvApplication).unwrap()
}

pub(crate) fn put(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Command {
    Command::Put { key: key.into(), value: value.into() }
}

/// Entries of `term` at `range`, each with a command that tells it from all others.
pub(crate) fn entries(term: Term, range: std::ops::Range<Index>) -> Entries<Kv> {
    range
        .map(|index| Entry {
            log_id: LogId::new(term, index),
            payload: Payload::Command(put(format!("key {index}"), format!("value {index} of term {term}"))),
        })
        .collect::<Vec<_>>()
        .into()
}

pub(crate) fn membership_entry(log_id: LogId) -> Entry<Kv> {
    let nodes = [(1, "a:1".to_string()), (2, "b:2".to_string())].into();
    Entry { log_id, payload: Payload::Membership(Membership::of_voters(nodes)) }
}

pub(crate) fn append(log: &mut RedbLog<Kv>, entries: Entries<Kv>) {
    block_on(log.append(entries, 0)).unwrap();
}

pub(crate) fn read(reader: &mut RedbLogReader<Kv>, range: std::ops::Range<Index>) -> Entries<Kv> {
    block_on(reader.read(range, u64::MAX)).unwrap()
}

/// All entries of the log.
pub(crate) fn read_all(log: &RedbLog<Kv>) -> Entries<Kv> {
    let start = log.opened_state().purged.index + 1;
    read(&mut log.reader(), start..Index::MAX)
}

/// Applies `commands` behind what was applied, in term 1.
pub(crate) fn apply(state: &mut KvState, commands: impl IntoIterator<Item = Command>) -> Vec<Response> {
    let batch = batch_after(&block_on(state.applied_state()).unwrap(), commands);
    block_on(state.apply(batch)).unwrap()
}

pub(crate) fn batch_after(
    before: &AppliedState<Kv>,
    commands: impl IntoIterator<Item = Command>,
) -> ApplyBatch<Kv> {
    let first = before.last_applied.index + 1;
    let entries: Vec<_> = (first..)
        .zip(commands)
        .map(|(index, command)| Entry { log_id: LogId::new(1, index), payload: Payload::Command(command) })
        .collect();
    ApplyBatch::new(before, entries.into())
}

/// All keys with their values.
pub(crate) fn pairs(state: &KvState) -> Vec<(String, Vec<u8>)> {
    KvReader::new(state).scan(.., usize::MAX).unwrap()
}

/// Commands that put keys of these numbers.
pub(crate) fn numbered(range: std::ops::Range<u64>) -> impl Iterator<Item = Command> {
    range.map(|i| put(format!("key {i:06}"), format!("value {i}").repeat(10)))
}
