//! What is on the disk, byte by byte, and what recovery makes of it when a byte is another one.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use futures::executor::block_on;
use openconsensus::{
    Entries, Entry, HardState, Index, LogId, Payload, PostcardCodec, RaftLogReader, RaftLogStorage, Term,
};
use openconsensus_memstore::kv::{Command, Kv};
use openconsensus_wal::disk::Folder;
use openconsensus_wal::inspect::{self, Content, Item};
use openconsensus_wal::{Identity, OpenError, WalLog, WalOptions};

type Log = WalLog<Kv, PostcardCodec>;

fn identity() -> Identity {
    Identity::new("test", 1)
}

fn options() -> WalOptions {
    WalOptions { segment_bytes: 64 << 10, housekeeping_aside: false, ..WalOptions::default() }
}

fn open(dir: &Path) -> Log {
    WalLog::open(dir, &identity(), &options()).unwrap()
}

fn refusal(dir: &Path) -> String {
    let error = Log::open(dir, &identity(), &options()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    error.to_string()
}

/// Entries of `term`, each with a command of some 100 bytes.
fn entries(term: Term, range: std::ops::Range<Index>) -> Entries<Kv> {
    let entry = |index| {
        let value = format!("{index:0>100}").into_bytes();
        let command = Command::Put { key: "k".into(), value };
        Entry { log_id: LogId::new(term, index), payload: Payload::Command(command) }
    };
    range.map(entry).collect::<Vec<_>>().into()
}

fn append(log: &mut Log, term: Term, range: std::ops::Range<Index>) {
    block_on(log.append(entries(term, range), 0)).unwrap();
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.segment"))
}

/// What a process leaves that is killed now.
fn killed(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(dir).unwrap() {
        let file = file.unwrap().path();
        fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    copy
}

/// Changes a file.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Where each frame of a segment is, and its kind.
fn frames(dir: &Path, number: u64) -> Vec<(u64, &'static str)> {
    let mut frames = Vec::new();
    let mut current = PathBuf::new();
    let visit = |item: Item<'_>| {
        match item {
            Item::Segment { file, .. } => current = file,
            Item::Frame(frame) if current == segment(dir, number) => frames.push((
                frame.offset,
                match frame.content.unwrap() {
                    Content::Begin { .. } => "begin",
                    Content::HardState { .. } => "hard state",
                    Content::Entries { .. } => "entries",
                    Content::Truncate { .. } => "truncate",
                    Content::Purge { .. } => "purge",
                    Content::Opened => "opened",
                    Content::Closed => "closed",
                    other => panic!("{other:?}"),
                },
            )),
            _ => {}
        }
        ControlFlow::Continue(())
    };
    inspect::walk(&Folder::new(dir), visit).unwrap();
    frames
}

#[test]
fn a_log_is_laid_out_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    block_on(log.save_hard_state(HardState { term: 2, voted_for: Some(1), commit: 0 })).unwrap();
    let blank = Entry { log_id: LogId::new(2, 1), payload: Payload::Blank };
    block_on(log.append(vec![blank].into(), 0)).unwrap();
    drop(log);
    let bytes = fs::read(segment(dir.path(), 1)).unwrap();
    assert_eq!(bytes.len(), 64 << 10);
    let log_number = &bytes[16..24];
    // Each frame: its number, how far the log was synced, its kind, its body.
    let long = |number: u64| number.to_le_bytes();
    let hard_state = [&long(2)[..], &long(0), &[1, 0, 0, 0, 1, 0, 0, 0], &[1]].concat();
    let entry = [&long(1)[..], &long(0), &[1, 0, 0, 0, 0, 0, 0, 0], &[9, 0, 0, 0, 0], &long(2)].concat();
    let bodies: [(u64, u64, u8, Vec<u8>); 5] = [
        (1, 0, 1, [long(0), long(0)].concat()),
        (2, 1, 6, vec![]),
        (3, 2, 2, hard_state),
        (4, 3, 3, entry),
        (5, 4, 7, vec![]),
    ];
    let mut expected = bytes[..4096].to_vec();
    for (sequence, synced, kind, body) in bodies {
        let head = [
            &(body.len() as u32).to_le_bytes()[..],
            &long(sequence),
            &long(synced),
            &long(0),
            &[kind, 1, 0, 0, 0, 0, 0, 0],
        ];
        let covered = [&head.concat()[..], &body].concat();
        let mut sum = crc32fast::Hasher::new();
        sum.update(log_number);
        sum.update(&long(1));
        sum.update(&covered);
        expected.extend(sum.finalize().to_le_bytes());
        expected.extend(covered);
        expected.resize(expected.len().next_multiple_of(8), 0);
    }
    expected.resize(64 << 10, 0);
    assert!(bytes == expected, "what is in the file is not what is documented");
}

#[test]
fn an_end_that_is_torn_is_cut_and_told_and_does_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    append(&mut log, 1, 1..4);
    // One write of several frames.
    let before = killed(dir.path());
    append(&mut log, 1, 4..3000);
    let segments = fs::read_dir(dir.path()).unwrap().count();
    assert!(segments > 3, "{segments}");
    let mut log = open(before.path());
    append(&mut log, 1, 4..6);
    append(&mut log, 1, 6..9);
    let crashed = killed(before.path());
    let all = frames(crashed.path(), 1);
    let kinds: Vec<_> = all.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, ["begin", "opened", "entries", "opened", "entries", "entries"]);
    // Of the last write one sector has not come to the disk.
    let torn = all[5].0;
    change(&segment(crashed.path(), 1), |bytes| bytes[torn as usize + 200..torn as usize + 260].fill(0));
    let log = open(crashed.path());
    assert_eq!(log.opened_state().last, LogId::new(1, 5));
    let report = log.report();
    let cut = report.torn.as_ref().unwrap();
    assert_eq!((cut.file.clone(), cut.offset), (segment(crashed.path(), 1), torn));
    assert!(!report.was_closed && !report.is_new);
    let bytes = fs::read(segment(crashed.path(), 1)).unwrap();
    let after_opened = torn as usize + 40;
    assert!(bytes[after_opened..].iter().all(|byte| *byte == 0), "something is left of what was cut");
    drop(log);
    let log = open(crashed.path());
    assert_eq!(log.opened_state().last, LogId::new(1, 5));
    assert!(log.report().was_closed && log.report().torn.is_none());
}

#[test]
fn damage_before_what_was_synced_is_refused_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    append(&mut log, 1, 1..4);
    block_on(log.truncate(3)).unwrap();
    append(&mut log, 2, 3..6);
    append(&mut log, 2, 6..9);
    let left = killed(dir.path());
    let all = frames(left.path(), 1);
    let name = segment(Path::new(""), 1).display().to_string();
    for (number, (offset, kind)) in all.iter().enumerate() {
        let crashed = killed(left.path());
        change(&segment(crashed.path(), 1), |bytes| bytes[*offset as usize + 12] ^= 1);
        if number + 1 == all.len() {
            // Nobody can tell it from a write that was under way.
            assert_eq!(open(crashed.path()).opened_state().last, LogId::new(2, 5));
            continue;
        }
        let text = refusal(crashed.path());
        assert!(text.contains(&name) && text.contains(&format!("offset {offset}")), "{kind}: {text}");
        assert!(text.contains("restore it from a copy"), "{text}");
    }
    // When it was closed, the end can be told, too.
    drop(log);
    for (offset, kind) in frames(dir.path(), 1).iter().rev().skip(1) {
        let closed = killed(dir.path());
        change(&segment(closed.path(), 1), |bytes| bytes[*offset as usize + 12] ^= 1);
        let text = refusal(closed.path());
        assert!(text.contains(&format!("offset {offset}")), "{kind}: {text}");
    }
    open(dir.path());
}

#[test]
fn segments_that_are_missing_cut_off_or_of_another_log_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    for index in 1..1500 {
        append(&mut log, 1, index..index + 1);
    }
    drop(log);
    let verified = inspect::verify(&Folder::new(dir.path())).unwrap().unwrap();
    assert!(verified.is_closed && verified.segments > 4, "{verified:?}");
    for number in 1..verified.segments {
        let gone = killed(dir.path());
        fs::remove_file(segment(gone.path(), number)).unwrap();
        let text = refusal(gone.path());
        assert!(text.contains("missing"), "{text}");
    }
    let cut = killed(dir.path());
    change(&segment(cut.path(), 2), |bytes| bytes.truncate(60_000));
    assert!(refusal(cut.path()).contains("it was cut off: it had 65536 bytes, and has 60000"));
    // The same bytes, written by another log.
    let other = tempfile::tempdir().unwrap();
    let mut log = open(other.path());
    for index in 1..1500 {
        append(&mut log, 1, index..index + 1);
    }
    drop(log);
    fs::copy(segment(other.path(), 2), segment(dir.path(), 2)).unwrap();
    assert!(refusal(dir.path()).contains("a segment of another log"));
}

#[test]
fn the_place_where_a_segment_ends_is_known_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    for index in 1..1000 {
        append(&mut log, 1, index..index + 1);
    }
    drop(log);
    // The last frame of a segment that is not the last one: nothing in its own file follows it.
    let (offset, _) = *frames(dir.path(), 2).last().unwrap();
    change(&segment(dir.path(), 2), |bytes| bytes[offset as usize + 60] ^= 1);
    let text = refusal(dir.path());
    assert!(text.contains(&format!("at offset {offset} cannot be read")), "{text}");
    assert!(text.contains(&segment(dir.path(), 2).display().to_string()), "{text}");
}

#[test]
fn a_log_of_another_node_or_version_or_codec_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let error = Log::open(dir.path(), &Identity::new("test", 2), &options()).unwrap_err();
    assert!(error.to_string().contains("belongs to node 1 of cluster \"test\", not to node 2"), "{error}");
    let second = open(dir.path());
    let error = Log::open(dir.path(), &identity(), &options()).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(second);
    change(&segment(dir.path(), 1), |bytes| {
        bytes[8] = 2;
        let mut sum = crc32fast::Hasher::new();
        sum.update(&bytes[..12]);
        sum.update(&bytes[16..4096]);
        bytes[12..16].copy_from_slice(&sum.finalize().to_le_bytes());
    });
    let error = Log::open(dir.path(), &identity(), &options()).unwrap_err();
    assert!(matches!(error, OpenError::UnsupportedFormat { .. }), "{error}");
    assert!(error.to_string().contains("version 2 of the format of logs"), "{error}");
}

#[test]
fn segments_whose_entries_are_purged_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    block_on(log.save_hard_state(HardState { term: 7, voted_for: Some(3), commit: 0 })).unwrap();
    for first in (1..6000).step_by(5) {
        append(&mut log, 7, first..first + 5);
        if first % 500 == 1 && first > 500 {
            block_on(log.purge(LogId::new(7, first - 100))).unwrap();
        }
    }
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert!(files < 9, "{files}");
    assert!(!segment(dir.path(), 1).exists());
    let crashed = killed(dir.path());
    drop(log);
    for dir in [crashed.path(), dir.path()] {
        let mut log = open(dir);
        let state = log.opened_state().clone();
        assert_eq!((state.purged, state.last), (LogId::new(7, 5401), LogId::new(7, 6000)));
        assert_eq!(state.hard_state, HardState { term: 7, voted_for: Some(3), commit: 0 });
        let found = block_on(log.reader().read(5402..9999, u64::MAX)).unwrap();
        assert_eq!(found, entries(7, 5402..6001));
        append(&mut log, 7, 6001..6002);
    }
}
