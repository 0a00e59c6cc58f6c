//! The contract of snapshots: built, sent, installed.

use std::io;
use std::path::Path;

use bytes::Bytes;
use futures::executor::block_on;
use futures::{TryStreamExt, stream};
use openconsensus::{
    AppliedState, ApplyBatch, LogId, RaftStateMachine, Snapshot, SnapshotMeta, snapshot_stream,
};
use openconsensus_memstore::kv::{Kv, Response};
use openconsensus_redb::kv::{KvApplication, KvReader};
use openconsensus_redb::redb::{ReadableTable, TableDefinition};
use openconsensus_redb::{
    Application, BoxError, Identity, OpenError, RedbStateMachine, StateTable, Transaction,
};

use crate::helpers::{
    KvState, apply, batch_after, identity, membership_entry, numbered, open_state, pairs, put,
};

fn build(state: &mut KvState) -> SnapshotMeta<Kv> {
    block_on(state.build_snapshot()).unwrap()
}

fn current(state: &mut KvState) -> Snapshot<Kv> {
    block_on(state.current_snapshot()).unwrap().expect("there is a snapshot")
}

async fn bytes_of(snapshot: Snapshot<Kv>) -> io::Result<Vec<u8>> {
    let chunks: Vec<Bytes> = snapshot.data.try_collect().await?;
    Ok(chunks.concat())
}

fn snapshot_of(meta: &SnapshotMeta<Kv>, bytes: &[u8]) -> Snapshot<Kv> {
    // Cut anew, as a transport may do.
    let chunks: Vec<_> = bytes.chunks(1000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    Snapshot { meta: meta.clone(), data: snapshot_stream(stream::iter(chunks)) }
}

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("snapshots")).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_snapshot_brings_another_node_to_the_same_state() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut state = open_state(dir.path());
    let before = AppliedState::default();
    let batch = ApplyBatch::new(&before, vec![membership_entry(LogId::new(1, 1))].into());
    block_on(state.apply(batch)).unwrap();
    // Larger than some chunks of the file.
    apply(&mut state, numbered(0..5000));
    let meta = build(&mut state);
    assert_eq!(meta.last, LogId::new(1, 5001));
    assert_eq!(meta.membership.log_id, LogId::new(1, 1));
    let snapshot = current(&mut state);
    assert_eq!(snapshot.meta, meta);
    let bytes = block_on(bytes_of(snapshot)).unwrap();
    assert_eq!(meta.size_bytes, Some(bytes.len() as u64));
    assert!(bytes.len() > 300_000, "{}", bytes.len());

    let identity = Identity::new("test", 2);
    let (path, snapshots) = (other_dir.path().join("state.redb"), other_dir.path().join("snapshots"));
    let open = || RedbStateMachine::open(&path, &snapshots, &identity, KvApplication).unwrap();
    let mut other = open();
    apply(&mut other, [put("to be gone", "1")]);
    block_on(other.install_snapshot(snapshot_of(&meta, &bytes))).unwrap();
    for round in ["at once", "after reopening"] {
        assert_eq!(pairs(&other), pairs(&state), "{round}");
        let applied = block_on(other.applied_state()).unwrap();
        assert_eq!(applied, block_on(state.applied_state()).unwrap(), "{round}");
        let snapshot = current(&mut other);
        assert_eq!(snapshot.meta, meta, "{round}");
        assert!(block_on(bytes_of(snapshot)).unwrap() == bytes, "{round}");
        drop(other);
        other = open();
    }
    // It goes on from there.
    apply(&mut other, [put("next", "1")]);
    assert_eq!(KvReader::new(&other).last_applied().unwrap(), LogId::new(1, 5002));
}

#[test]
fn the_current_snapshot_is_the_latest_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = open_state(dir.path());
    for round in 1..=3 {
        apply(&mut state, numbered(0..10));
        let meta = build(&mut state);
        assert_eq!(meta.last.index, round * 10);
        assert_eq!(current(&mut state).meta, meta);
        assert_eq!(files(dir.path()).len(), 1, "older ones are removed");
        drop(state);
        state = open_state(dir.path());
        assert_eq!(current(&mut state).meta, meta);
    }
    // Built twice at one place.
    build(&mut state);
    assert_eq!(build(&mut state).last.index, 30);
    assert_eq!(current(&mut state).meta.last.index, 30);
}

#[test]
fn a_future_that_is_dropped_leaves_the_snapshot_before_it_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = open_state(dir.path());
    apply(&mut state, numbered(0..3000));
    let meta = build(&mut state);
    apply(&mut state, numbered(0..3000));
    drop(state.build_snapshot());
    let mut polled = state.build_snapshot();
    assert!(futures::FutureExt::now_or_never(&mut polled).is_none());
    drop(polled);
    assert_eq!(current(&mut state).meta, meta);
    drop(state);
    assert_eq!(current(&mut open_state(dir.path())).meta, meta);
    assert_eq!(files(dir.path()).len(), 1, "{:?}", files(dir.path()));
}

/// A snapshot of 200 entries, and a state machine with ten of its own to install it in.
fn installation(test: impl Fn(&mut KvState, &SnapshotMeta<Kv>, &[u8])) {
    let (dir, leader_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut leader = open_state(leader_dir.path());
    apply(&mut leader, numbered(0..200));
    let meta = build(&mut leader);
    let bytes = block_on(bytes_of(current(&mut leader))).unwrap();
    let mut state = open_state(dir.path());
    apply(&mut state, numbered(1000..1010));
    let own = build(&mut state);
    let before = pairs(&state);
    test(&mut state, &meta, &bytes);
    for round in ["at once", "after reopening"] {
        assert_eq!(pairs(&state), before, "{round}");
        assert_eq!(block_on(state.applied_state()).unwrap().last_applied, LogId::new(1, 10), "{round}");
        assert_eq!(current(&mut state).meta, own, "{round}");
        assert_eq!(files(dir.path()).len(), 1, "{round}: {:?}", files(dir.path()));
        drop(state);
        state = open_state(dir.path());
    }
    block_on(state.install_snapshot(snapshot_of(&meta, &bytes))).unwrap();
    assert_eq!(pairs(&state).len(), 200);
}

#[test]
fn a_stream_that_breaks_off_leaves_all_as_before() {
    installation(|state, meta, bytes| {
        for part in [0, 1, 10, 15, 20] {
            let chunk = Bytes::copy_from_slice(&bytes[..bytes.len() * part / 20]);
            let error = io::Error::new(io::ErrorKind::ConnectionReset, "the sender has died");
            let data = snapshot_stream(stream::iter([Ok(chunk), Err(error)]));
            let snapshot = Snapshot { meta: meta.clone(), data };
            let error = block_on(state.install_snapshot(snapshot)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    });
}

#[test]
fn a_snapshot_that_is_damaged_or_short_leaves_all_as_before() {
    installation(|state, meta, bytes| {
        for place in (0..bytes.len()).step_by(bytes.len() / 40) {
            let mut wrong = bytes.to_vec();
            wrong[place] ^= 0x10;
            for wrong in [&wrong[..], &bytes[..place]] {
                let error = block_on(state.install_snapshot(snapshot_of(meta, wrong))).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{place}: {error}");
            }
        }
    });
}

#[test]
fn a_snapshot_of_something_else_than_announced_leaves_all_as_before() {
    installation(|state, meta, bytes| {
        let wrong = SnapshotMeta { last: LogId::new(1, 300), ..meta.clone() };
        let error = block_on(state.install_snapshot(snapshot_of(&wrong, bytes))).unwrap_err();
        assert!(error.to_string().contains("of entry 200(t1), but entry 300(t1) was announced"), "{error}");
    });
}

#[test]
fn a_snapshot_of_another_cluster_is_refused() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut state = open_state(dir.path());
    apply(&mut state, numbered(0..10));
    let meta = build(&mut state);
    let bytes = block_on(bytes_of(current(&mut state))).unwrap();
    let identity = Identity::new("else", 1);
    let (path, snapshots) = (other_dir.path().join("state.redb"), other_dir.path().join("snapshots"));
    let mut other = RedbStateMachine::<Kv, _>::open(path, snapshots, &identity, KvApplication).unwrap();
    let error = block_on(other.install_snapshot(snapshot_of(&meta, &bytes))).unwrap_err();
    assert!(error.to_string().contains("of cluster \"test\", this node of cluster \"else\""), "{error}");
}

#[test]
fn an_older_snapshot_is_refused() {
    let (dir, leader_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut leader = open_state(leader_dir.path());
    apply(&mut leader, numbered(0..10));
    let meta = build(&mut leader);
    let bytes = block_on(bytes_of(current(&mut leader))).unwrap();
    let mut state = open_state(dir.path());
    apply(&mut state, numbered(0..11));
    let error = block_on(state.install_snapshot(snapshot_of(&meta, &bytes))).unwrap_err();
    assert!(error.to_string().contains("of 10(t1) cannot replace the later state of 11(t1)"), "{error}");
}

const NUMBERS: TableDefinition<'static, (u32, &str), i64> = TableDefinition::new("numbers");
const NAMES: TableDefinition<'static, &str, ()> = TableDefinition::new("names");

/// A later version of some application, with tables of several types.
struct Typed;

impl Application<Kv> for Typed {
    fn tables(&self) -> Vec<StateTable> {
        let mut tables = KvApplication.tables();
        tables.push(StateTable::new(NUMBERS));
        tables.push(StateTable::new(NAMES));
        tables
    }

    fn apply(
        &self,
        transaction: &Transaction<'_>,
        batch: &ApplyBatch<Kv>,
    ) -> Result<Vec<Response>, BoxError> {
        let mut numbers = transaction.open_table(NUMBERS)?;
        let mut names = transaction.open_table(NAMES)?;
        for (log_id, _) in batch.commands() {
            let name = format!("name {}", log_id.index % 3);
            let number = numbers.get((7, &*name))?.map_or(-2, |number| number.value());
            numbers.insert((7, &*name), number + 1)?;
            names.insert(&*name, ())?;
        }
        KvApplication.apply(transaction, batch)
    }
}

fn open_typed(dir: &Path) -> Result<RedbStateMachine<Kv, Typed>, OpenError> {
    RedbStateMachine::open(dir.join("state.redb"), dir.join("snapshots"), &identity(), Typed)
}

#[test]
fn tables_of_any_type_are_in_snapshots() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut state = open_typed(dir.path()).unwrap();
    block_on(state.apply(batch_after(&AppliedState::default(), numbered(0..7)))).unwrap();
    let meta = block_on(state.build_snapshot()).unwrap();
    let snapshot = block_on(state.current_snapshot()).unwrap().unwrap();
    let mut other = open_typed(other_dir.path()).unwrap();
    block_on(other.install_snapshot(snapshot)).unwrap();
    let view = other.reader().view().unwrap();
    let numbers = view.open_table(NUMBERS).unwrap();
    let found: Vec<_> = numbers.iter().unwrap().map(|pair| pair.unwrap().1.value()).collect();
    assert_eq!(found, [0, 1, 0]);
    assert_eq!(view.open_table(NAMES).unwrap().iter().unwrap().count(), 3);
    assert_eq!(view.last_applied().unwrap(), meta.last);

    // The earlier version does not know these tables: it must not throw them away.
    let bytes = block_on(bytes_of(block_on(state.current_snapshot()).unwrap().unwrap())).unwrap();
    let old_dir = tempfile::tempdir().unwrap();
    let error =
        block_on(open_state(old_dir.path()).install_snapshot(snapshot_of(&meta, &bytes))).unwrap_err();
    assert!(error.to_string().contains("that this application does not declare"), "{error}");
}

#[test]
fn a_later_version_may_add_tables_and_an_earlier_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = open_state(dir.path());
    apply(&mut state, numbered(0..3));
    let meta = build(&mut state);
    let bytes = block_on(bytes_of(current(&mut state))).unwrap();
    drop(state);
    let mut later = open_typed(dir.path()).unwrap();
    assert_eq!(later.reader().view().unwrap().open_table(NAMES).unwrap().iter().unwrap().count(), 0);
    block_on(later.install_snapshot(snapshot_of(&meta, &bytes))).unwrap();
    drop(later);
    let (path, snapshots) = (dir.path().join("state.redb"), dir.path().join("snapshots"));
    let error = RedbStateMachine::<Kv, _>::open(path, snapshots, &identity(), KvApplication).unwrap_err();
    assert!(matches!(error, OpenError::UnsupportedFormat { .. }), "{error}");
}
