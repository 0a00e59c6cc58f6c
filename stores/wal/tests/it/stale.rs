//! Frames of a write that was cut off must never count again, even where new frames end exactly at one of them.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use futures::executor::block_on;
use openconsensus::{Entries, Entry, Index, LogId, RaftLogReader, RaftLogStorage};
use openconsensus_memstore::kv::Kv;
use openconsensus_wal::inspect::{Item, walk};
use openconsensus_wal::{WalLog, WalOptions};

use crate::disk::SimDisk;
use crate::helpers::{Raw, identity, options};
use crate::model::command;

/// Each entry stands in a frame of its own.
const ENTRY_BYTES: usize = 1200;

fn open(disk: &SimDisk, frame_bytes_max: u64) -> WalLog<Kv, Raw> {
    let options = WalOptions { frame_bytes_max, ..options(65_536) };
    WalLog::open_on(disk.clone(), &identity(), &options).unwrap()
}

fn entries(range: Range<Index>, more: usize) -> Entries<Kv> {
    let entries = range.map(|index| {
        let log_id = LogId::new(1, index);
        Entry { log_id, payload: command(log_id, ENTRY_BYTES + more) }
    });
    entries.collect::<Vec<_>>().into()
}

/// The frames of all files, in order: file and place.
fn frames(disk: &SimDisk) -> Vec<(String, Range<usize>)> {
    let mut frames = Vec::new();
    let mut name = String::new();
    walk(disk, |item| {
        match item {
            Item::Segment { file, .. } => name = file.file_name().unwrap().to_str().unwrap().to_owned(),
            Item::Frame(frame) => {
                let start = frame.offset as usize;
                frames.push((name.clone(), start..start + frame.bytes as usize));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    frames
}

/// Opens the log that a crash has left in `files`, whose last `lost` frames but the very last did not reach the disk; appends
/// two entries behind entry `last`, in one frame of every size, is killed, and must find them and nothing else.
fn check(mut files: BTreeMap<String, Vec<u8>>, lost: usize, last: Index) {
    let all = frames(&SimDisk::with(files.clone()));
    let (stale_file, stale) = all.last().unwrap().clone();
    for (file, place) in &all[all.len() - 1 - lost..all.len() - 1] {
        files.get_mut(file).unwrap()[place.clone()].fill(0);
    }
    let mut is_met = false;
    for more in (0..200).step_by(4) {
        let disk = SimDisk::with(files.clone());
        let mut log = open(&disk, 60_000);
        assert_eq!(log.opened_state().last.index, last, "what was in flight is cut");
        block_on(log.append(entries(last + 1..last + 3, more), 0)).unwrap();
        let killed = SimDisk::with(disk.all_bytes());
        let written = frames(&killed);
        is_met |= written.contains(&(stale_file.clone(), stale.clone()))
            || written.iter().any(|(file, place)| *file == stale_file && place.end == stale.start);
        let mut log = open(&killed, 60_000);
        let state = block_on(log.load()).unwrap();
        assert_eq!(state.last, LogId::new(1, last + 2), "with {more} more bytes");
        let found = block_on(log.reader().read(last + 1..Index::MAX, u64::MAX)).unwrap();
        assert_eq!(found, entries(last + 1..last + 3, more));
    }
    assert!(is_met, "no new frame has ended where the old one began");
}

#[test]
fn a_frame_behind_a_cut_end_never_counts_again() {
    let disk = SimDisk::default();
    let mut log = open(&disk, 1024);
    block_on(log.append(entries(1..4, 0), 0)).unwrap();
    // One write of three frames, of which the last alone reaches the disk.
    block_on(log.append(entries(4..7, 0), 0)).unwrap();
    check(disk.all_bytes(), 2, 3);
}

#[test]
fn a_frame_in_a_segment_that_never_began_never_counts_again() {
    let disk = SimDisk::default();
    let mut log = open(&disk, 1024);
    // So many that the next one goes to the second segment.
    let mut last = 0;
    loop {
        last += 1;
        block_on(log.append(entries(last..last + 1, 0), 0)).unwrap();
        let place = frames(&disk).last().unwrap().1.clone();
        if 65_536 < place.end + place.len() {
            break;
        }
    }
    // One write of four frames: that with which the segment begins, and three entries.
    let before = frames(&disk).len();
    block_on(log.append(entries(last + 1..last + 4, 0), 0)).unwrap();
    let files: Vec<_> = frames(&disk).split_off(before).into_iter().map(|(file, _)| file).collect();
    assert_eq!(files, ["00000000000000000002.segment"; 4]);
    // The first frame of the segment and those behind it are lost, but for the last one.
    check(disk.all_bytes(), 3, last);
}
