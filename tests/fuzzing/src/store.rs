//! Stored files that are damaged.

use std::collections::BTreeMap;
use std::io;
use std::panic;
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock};

use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt, stream};
use openconsensus::{
    AppliedState, ApplyBatch, Entries, Entry, HardState, Index, LogId, LogState, Membership, Payload,
    RaftLogReader, RaftLogStorage, RaftStateMachine, Snapshot, SnapshotMeta, snapshot_stream,
};
use openconsensus_memstore::kv::{Command, Kv};
use openconsensus_redb::kv::KvApplication;
use openconsensus_redb::redb::StorageBackend;
use openconsensus_redb::{Identity, Options, RedbLog, RedbStateMachine};

use crate::bytes_in::BytesIn;

/// A file in memory. Clones are the same file.
#[derive(Clone, Debug, Default)]
struct File(Arc<Mutex<Vec<u8>>>);

impl File {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().expect("nobody panics while holding the lock")
    }
}

impl StorageBackend for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end =
            start.checked_add(out.len()).ok_or_else(|| io::Error::other("a read beyond all numbers"))?;
        let found = bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // A damaged file must not make us take all memory there is; a disk would be full.
        if 1 << 28 < len {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes().resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let place = bytes.get_mut(start..start + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        place.copy_from_slice(data);
        Ok(())
    }
}

fn identity() -> Identity {
    Identity::new("fuzzed", 1)
}

/// A log that is in order: its file, and everything that was ever true of it.
struct WholeLog {
    file: Vec<u8>,
    written: Vec<usize>,
    states: Vec<(HardState<Kv>, LogId, LogId)>,
    entries: BTreeMap<LogId, Payload<Kv>>,
}

fn state_of(state: &LogState<Kv>) -> (HardState<Kv>, LogId, LogId) {
    (state.hard_state, state.purged, state.last)
}

fn entry(term: u64, index: Index) -> Entry<Kv> {
    let payload = match index % 4 {
        0 => Payload::Blank,
        1 => {
            Payload::Membership(Membership::of_voters((1..=3).map(|id| (id, format!("host:{id}"))).collect()))
        }
        _ => Payload::Command(Command::Put { key: format!("key {index}"), value: vec![index as u8; 40] }),
    };
    Entry { log_id: LogId::new(term, index), payload }
}

fn whole_log() -> &'static WholeLog {
    static WHOLE: OnceLock<WholeLog> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let file = File::default();
        let open = || RedbLog::<Kv>::open_on("whole", file.clone(), &identity(), &Options::default());
        let mut states = Vec::new();
        let mut entries = BTreeMap::new();
        let mut write = |what: &dyn Fn(&mut RedbLog<Kv>) -> io::Result<()>| {
            let mut log = open().expect("the file is in order");
            states.push(state_of(log.opened_state()));
            what(&mut log).expect("the file is in order");
            drop(log);
            states.push(state_of(open().expect("the file is in order").opened_state()));
        };
        let mut append = |log: &mut RedbLog<Kv>, term, range: std::ops::Range<Index>| {
            let new: Vec<_> = range.map(|index| entry(term, index)).collect();
            entries.extend(new.iter().map(|entry| (entry.log_id, entry.payload.clone())));
            block_on(log.append(Entries::from(new), 1))
        };
        let append = std::cell::RefCell::new(&mut append);
        let vote = |term| HardState { term, voted_for: Some(2), commit: 1 };
        write(&|log| block_on(log.save_hard_state(vote(1))));
        write(&|log| append.borrow_mut()(log, 1, 1..9));
        write(&|log| block_on(log.save_hard_state(vote(3))));
        write(&|log| block_on(log.truncate(6)));
        write(&|log| append.borrow_mut()(log, 3, 6..12));
        write(&|log| block_on(log.purge(LogId::new(1, 2))));
        let file = file.bytes().clone();
        WholeLog { written: written(&file), file, states, entries }
    })
}

/// A snapshot that is in order.
struct WholeSnapshot {
    meta: SnapshotMeta<Kv>,
    bytes: Vec<u8>,
    written: Vec<usize>,
}

fn whole_snapshot() -> &'static WholeSnapshot {
    static WHOLE: OnceLock<WholeSnapshot> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let (_folder, mut state) = open_state();
        let entries: Vec<_> = (1..=12).map(|index| entry(2, index)).collect();
        let batch = ApplyBatch::new(&AppliedState::default(), entries.into());
        block_on(state.apply(batch)).expect("the state is in order");
        let (meta, bytes) = built(&mut state);
        WholeSnapshot { meta, written: written(&bytes), bytes }
    })
}

type State = RedbStateMachine<Kv, KvApplication>;

fn open_state() -> (tempfile::TempDir, State) {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let snapshots = folder.path().join("snapshots");
    let options = Options::default();
    let state = State::open_on("state", File::default(), snapshots, &identity(), KvApplication, &options);
    (folder, state.expect("a new state can be made"))
}

fn built(state: &mut State) -> (SnapshotMeta<Kv>, Vec<u8>) {
    block_on(state.build_snapshot()).expect("a snapshot can be built");
    let snapshot =
        block_on(state.current_snapshot()).expect("there is a snapshot").expect("there is a snapshot");
    let chunks: Vec<_> = block_on(snapshot.data.collect());
    let chunks = chunks.into_iter().map(|chunk| chunk.expect("the snapshot can be read"));
    (snapshot.meta, chunks.flat_map(|chunk| chunk.to_vec()).collect())
}

/// The places of a file in which something stands. In the rest there is what redb fills unused pages with.
fn written(file: &[u8]) -> Vec<usize> {
    (0..file.len()).filter(|place| !matches!(file[*place], 0 | 0xff)).collect()
}

/// Changes bytes, cuts the end off, or puts something behind it, as `input` says. It does so a few times at most: much
/// damage at once is found at once.
fn damage(bytes: &mut Vec<u8>, written: &[usize], input: &mut BytesIn<'_>) {
    for _ in 0..=input.below(4) {
        if input.is_empty() || bytes.is_empty() {
            break;
        }
        let kind = input.byte();
        let number = (0..3).fold(0, |sum, _| sum << 8 | usize::from(input.byte()));
        let anywhere = if kind & 3 == 0 { number } else { written[number % written.len()] };
        let place = anywhere % bytes.len();
        match kind >> 2 {
            0..=3 => bytes.truncate(place),
            4..=7 => {
                let end = bytes.len().min(place + 16 * usize::from(input.byte()));
                bytes[place..end].fill(0);
            }
            8..=11 => bytes.extend((0..=number % 64).map(|_| input.byte())),
            _ => bytes[place] ^= input.byte(),
        }
    }
}

/// The first byte chooses a file; the rest says how it is damaged. Opening it and reading all of it must end in errors
/// or in what was written: never in a panic, and never in anything else. A damaged log may open as it was before its
/// last writes, because redb keeps the root of the commit before and takes it when the last one cannot be read.
///
/// # Panics
///
/// When something is found.
pub fn open_store(data: &[u8]) {
    let_panics_be_caught();
    let mut input = BytesIn::new(data);
    if input.byte().is_multiple_of(2) {
        open_damaged_log(&mut input);
    } else {
        install_damaged_snapshot(&mut input);
    }
}

/// redb panics on some damage, and the store makes errors of that. libFuzzer would end the process at any panic, also at
/// one that is caught; so a panic is only printed here.
fn let_panics_be_caught() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| panic::set_hook(Box::new(|info| eprintln!("{info}"))));
}

fn open_damaged_log(input: &mut BytesIn<'_>) {
    let whole = whole_log();
    let mut bytes = whole.file.clone();
    damage(&mut bytes, &whole.written, input);
    let is_empty = bytes.is_empty();
    let file = File(Arc::new(Mutex::new(bytes)));
    let Ok(mut log) = RedbLog::<Kv>::open_on("damaged", file, &identity(), &Options::default()) else {
        return;
    };
    let Ok(state) = block_on(log.load()) else { return };
    let is_new = state_of(&state) == (HardState::default(), LogId::ZERO, LogId::ZERO);
    // An empty file is a new one; so is one in which nothing was committed.
    assert!(
        is_new && is_empty || whole.states.contains(&state_of(&state)),
        "a damaged log opens as {state:?}, which it never was"
    );
    let mut index = state.purged.index + 1;
    while index <= state.last.index {
        let Ok(entries) = block_on(log.reader().read(index..state.last.index + 1, 100)) else { return };
        assert!(!entries.is_empty(), "entry {index} of {state:?} is neither there nor an error");
        for entry in entries.iter() {
            assert_eq!(Some(&entry.payload), whole.entries.get(&entry.log_id), "entry {}", entry.log_id);
        }
        index = entries.range().end;
    }
}

fn install_damaged_snapshot(input: &mut BytesIn<'_>) {
    let whole = whole_snapshot();
    let mut bytes = whole.bytes.clone();
    damage(&mut bytes, &whole.written, input);
    let is_whole = bytes == whole.bytes;
    let (_folder, mut state) = open_state();
    let data = snapshot_stream(stream::iter([Ok(Bytes::from(bytes))]));
    let installed = block_on(state.install_snapshot(Snapshot { meta: whole.meta.clone(), data }));
    assert_eq!(installed.is_ok(), is_whole, "a damaged snapshot: {installed:?}");
    let applied = block_on(state.applied_state()).expect("the state is in order");
    if is_whole {
        assert_eq!(applied.last_applied, whole.meta.last);
        assert_eq!(built(&mut state).1, whole.bytes, "what was installed is not what was sent");
    } else {
        assert_eq!(applied, AppliedState::default(), "a snapshot that was refused has left something");
    }
}
