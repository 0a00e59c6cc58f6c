//! Known bugs of building and installing snapshots, on the state machines of this workspace.

use std::io;

use bytes::Bytes;
use futures::executor::block_on;
use futures::{TryStreamExt, stream};
use openconsensus::{
    AppliedState, ApplyBatch, Entry, LogId, Payload, RaftStateMachine, Snapshot, SnapshotMeta,
    snapshot_stream,
};
use openconsensus_memstore::kv::{Command, Kv};
use openconsensus_memstore::{KvDisk, MemStateMachine};
use openconsensus_redb::kv::{KvApplication, KvReader};
use openconsensus_redb::{Identity, RedbStateMachine};
use openconsensus_tests::put;

/// Both keys always have the same value: the index of the entry that has set them. Keys in between make it large.
fn command(index: u64) -> Command {
    Command::Batch(vec![
        put("a", index.to_string()),
        put(format!("m/{:04}", index % 500), vec![7; 300]),
        put("z", index.to_string()),
    ])
}

fn apply(machine: &mut impl RaftStateMachine<Kv>, applied: &mut AppliedState<Kv>, upto: u64) {
    let entries: Vec<Entry<Kv>> = (applied.last_applied.index + 1..=upto)
        .map(|index| Entry { log_id: LogId::new(1, index), payload: Payload::Command(command(index)) })
        .collect();
    let batch = ApplyBatch::new(applied, entries.into());
    *applied = batch.applied_state().clone();
    block_on(machine.apply(batch)).unwrap();
}

fn again(meta: &SnapshotMeta<Kv>, chunks: &[Bytes]) -> Snapshot<Kv> {
    let chunks: Vec<io::Result<Bytes>> = chunks.iter().cloned().map(Ok).collect();
    Snapshot { meta: meta.clone(), data: snapshot_stream(stream::iter(chunks)) }
}

/// The values of the two keys.
type Values = (Option<Vec<u8>>, Option<Vec<u8>>);

fn both(index: u64) -> Values {
    let value = Some(index.to_string().into_bytes());
    (value.clone(), value)
}

/// Builds snapshots while entries are applied, and installs them elsewhere.
fn check_consistency<S: RaftStateMachine<Kv>>(mut leader: S, mut follower: S, values: impl Fn(&S) -> Values) {
    let mut applied = AppliedState::default();
    let mut installed = AppliedState::default();
    for round in 1..=3 {
        let upto = 600 * round;
        apply(&mut leader, &mut applied, upto);
        let mut building = leader.build_snapshot();
        // It is asked for at one moment, written at another, and entries are applied all the time.
        let polled = futures::FutureExt::now_or_never(&mut building);
        apply(&mut leader, &mut applied, upto + 50);
        let meta = match polled {
            Some(built) => built.unwrap(),
            None => block_on(building).unwrap(),
        };
        apply(&mut leader, &mut applied, upto + 100);
        assert_eq!(meta.last.index, upto);
        let snapshot = block_on(leader.current_snapshot()).unwrap().unwrap();
        assert_eq!(snapshot.meta, meta);
        let chunks: Vec<Bytes> = block_on(snapshot.data.try_collect()).unwrap();

        // Half of the bytes, none of them, bytes of another snapshot in between, and bytes that are not it: the index does
        // not move without the state. Whether the stream ends well makes no difference.
        let before = (values(&follower), installed.clone());
        let half = chunks.len() / 2;
        let mixed = [&chunks[..half], &chunks[half - 1..]].concat();
        let flipped: Vec<Bytes> = chunks
            .iter()
            .enumerate()
            .map(|(place, chunk)| {
                let mut bytes = chunk.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= u8::from(place == half);
                Bytes::from(bytes)
            })
            .collect();
        for broken in [chunks[..half].to_vec(), vec![], mixed, flipped] {
            for ends_well in [true, false] {
                let died = || io::Error::new(io::ErrorKind::ConnectionReset, "the sender has died");
                let end = if ends_well { None } else { Some(Err(died())) };
                let parts = broken.iter().cloned().map(Ok).chain(end).collect::<Vec<_>>();
                let data = snapshot_stream(stream::iter(parts));
                block_on(follower.install_snapshot(Snapshot { meta: meta.clone(), data })).unwrap_err();
                assert_eq!((values(&follower), block_on(follower.applied_state()).unwrap()), before);
            }
        }
        block_on(follower.install_snapshot(again(&meta, &chunks))).unwrap();
        installed = block_on(follower.applied_state()).unwrap();
        assert_eq!((values(&follower), installed.last_applied.index), (both(upto), upto));
        assert_eq!(values(&leader), both(upto + 100), "and the leader went on");
    }
}

/// vesoft-inc/nebula#3710, opencurve/curve#217; databendlabs/openraft (fixes 2eccb9e1 and eee8e534), camunda/zeebe#19862.
///
/// A snapshot was written in two passes over a state that went on changing, so it was that of no entry at all; or the index
/// was moved without the data, or over chunks of two snapshots. Here a snapshot is a view of one moment, however long it takes
/// to write it, and it is installed when all of it has proved to be whole, or not at all.
#[test]
fn a_snapshot_that_is_written_while_entries_are_applied_is_of_one_moment() {
    let machine = || MemStateMachine::persistent(&KvDisk::new());
    check_consistency(machine(), machine(), |machine| {
        let view = machine.reader().view();
        (view.get("a"), view.get("z"))
    });
}

/// vesoft-inc/nebula#3710, opencurve/curve#217: the same on a disk.
#[test]
fn a_snapshot_file_that_is_written_while_entries_are_applied_is_of_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let machine = |id: u64| {
        let dir = dir.path().join(id.to_string());
        let identity = Identity::new("known bugs", id);
        RedbStateMachine::open(dir.join("state.redb"), dir.join("snapshots"), &identity, KvApplication)
            .unwrap()
    };
    check_consistency(machine(1), machine(2), |machine| {
        let reader = KvReader::new(machine);
        (reader.get("a").unwrap(), reader.get("z").unwrap())
    });
}
