//! The simulated disk is as bad as it says, and no worse.

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSlice};

use fastrand::Rng;
use openconsensus_wal::disk::{Disk, DiskFile};

use crate::disk::{Fault, SimDisk, SimFile, Survival};

fn write(file: &SimFile, offset: u64, byte: u8, len: usize) {
    file.write_at(offset, &[IoSlice::new(&vec![byte; len])]).unwrap();
}

/// A disk with a durable file of 10,000 ones.
fn with_a_file() -> (SimDisk, SimFile) {
    let disk = SimDisk::default();
    let file = disk.create("a").unwrap();
    write(&file, 0, 1, 10_000);
    file.sync_data().unwrap();
    disk.sync_folder().unwrap();
    (disk, file)
}

/// What crashes leave of the file, under many seeds.
fn left(disk: &SimDisk, survival: fn(u64) -> Survival) -> BTreeSet<Vec<u8>> {
    let point = disk.point();
    (0..200).map(|seed| point.survive(survival(seed)).bytes("a")).collect()
}

#[test]
fn what_was_synced_is_there_and_the_rest_in_any_combination_of_sectors() {
    let (disk, file) = with_a_file();
    write(&file, 512, 2, 3 * 512);
    let before = vec![1; 10_000];
    assert_eq!(left(&disk, |_| Survival::Nothing), BTreeSet::from([before]));
    assert_eq!(left(&disk, |_| Survival::Everything), BTreeSet::from([disk.bytes("a")]));
    let all = left(&disk, Survival::Combination);
    assert_eq!(all.len(), 8, "three sectors");
    assert_eq!(left(&disk, Survival::Sectors), all);
    for bytes in &all {
        assert_eq!(bytes.len(), 10_000);
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
    }
    assert!(left(&disk, Survival::Pieces).iter().any(|bytes| bytes[512..1024].contains(&1)));
    assert_eq!(left(&disk, Survival::Pages).len(), 2, "all in one page");
    file.sync_data().unwrap();
    assert_eq!(left(&disk, Survival::Sectors), BTreeSet::from([disk.bytes("a")]));
}

#[test]
fn an_earlier_version_may_be_there_too_and_later_writes_may_overtake() {
    let (disk, file) = with_a_file();
    write(&file, 0, 2, 512);
    write(&file, 512, 3, 512);
    write(&file, 0, 4, 512);
    let found: BTreeSet<_> =
        left(&disk, Survival::Sectors).iter().map(|bytes| (bytes[0], bytes[512])).collect();
    let all = [(1, 1), (1, 3), (2, 1), (2, 3), (4, 1), (4, 3)];
    assert_eq!(found, all.into());
    let in_order: BTreeSet<_> =
        left(&disk, Survival::Prefix).iter().map(|bytes| (bytes[0], bytes[512])).collect();
    assert!(in_order.contains(&(2, 1)) && !in_order.contains(&(1, 3)), "{in_order:?}");
}

#[test]
fn a_file_that_grew_has_its_old_length_or_zeros_where_nothing_was_kept() {
    let (disk, file) = with_a_file();
    write(&file, 10_000, 2, 1000);
    let all = left(&disk, Survival::Sectors);
    assert!(all.iter().any(|bytes| bytes.len() == 10_000));
    assert!(all.iter().any(|bytes| bytes.len() == 11_000 && bytes[10_500] == 0));
    assert!(all.contains(&disk.bytes("a")));
}

#[test]
fn a_name_is_durable_with_its_folder_only() {
    let (disk, _) = with_a_file();
    let b = disk.create("b").unwrap();
    write(&b, 0, 7, 10);
    b.sync_data().unwrap();
    disk.rename("b", "c").unwrap();
    disk.remove("a").unwrap();
    let point = disk.point();
    let names = |survival| point.survive(survival).names();
    assert_eq!(names(Survival::Nothing), ["a"]);
    assert_eq!(names(Survival::Everything), ["c"]);
    let all: BTreeSet<_> = (0..8).map(|bits| names(Survival::Combination(bits))).collect();
    let expected: BTreeSet<_> = [vec!["a"], vec!["a", "b"], vec!["a", "c"], vec![], vec!["b"], vec!["c"]]
        .into_iter()
        .map(|names| names.into_iter().map(String::from).collect::<Vec<_>>())
        .collect();
    assert_eq!(all, expected);
    assert_eq!(point.survive(Survival::Everything).bytes("c"), [7; 10]);
    disk.sync_folder().unwrap();
    assert_eq!(disk.point().survive(Survival::Nothing).names(), ["c"]);
}

#[test]
fn after_a_sync_that_failed_a_later_one_says_nothing() {
    let (disk, file) = with_a_file();
    write(&file, 0, 2, 512);
    disk.plan(0, Fault::Fails);
    file.sync_data().unwrap_err();
    file.sync_data().unwrap();
    assert_eq!(disk.bytes("a")[0], 2, "programs see what was written");
    assert_eq!(left(&disk, |_| Survival::Nothing).first().unwrap()[0], 1);
    // Written again, it is written.
    write(&file, 0, 2, 512);
    file.sync_data().unwrap();
    assert_eq!(left(&disk, |_| Survival::Nothing).first().unwrap()[0], 2);
}

#[test]
fn a_sync_that_lies_keeps_nothing() {
    let (disk, file) = with_a_file();
    write(&file, 0, 2, 512);
    disk.create("b").unwrap();
    disk.lie_after(0);
    file.sync_data().unwrap();
    disk.sync_folder().unwrap();
    let left = disk.point().survive(Survival::Nothing);
    assert_eq!((left.bytes("a")[0], left.names()), (1, vec!["a".to_string()]));
}

#[test]
fn writes_fail_as_planned_and_a_full_disk_cuts_them() {
    let (disk, file) = with_a_file();
    disk.plan(0, Fault::Partial);
    file.write_at(0, &[IoSlice::new(&[2; 100])]).unwrap_err();
    assert_eq!((disk.bytes("a")[49], disk.bytes("a")[50]), (2, 1));
    disk.leave_space(30);
    let error = file.write_at(10_000, &[IoSlice::new(&[3; 100])]).unwrap_err();
    assert_eq!((error.kind(), disk.bytes("a").len()), (ErrorKind::StorageFull, 10_030));
    assert_eq!(disk.create("b").unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_at(0, &[IoSlice::new(&[3; 100])]).unwrap();
    disk.free_space();
    disk.create("b").unwrap();
    disk.break_after(1);
    file.write_at(0, &[IoSlice::new(&[3; 100])]).unwrap();
    file.write_at(0, &[IoSlice::new(&[3; 100])]).unwrap_err();
    file.sync_data().unwrap_err();
}

#[test]
fn reads_are_short_now_and_then_and_never_wrong() {
    let (disk, file) = with_a_file();
    disk.read_short(1);
    let mut lengths = BTreeSet::new();
    for _ in 0..100 {
        let mut buffer = [0; 64];
        let len = file.read_at(9_950, &mut buffer).unwrap();
        assert!(0 < len && buffer[..len].iter().all(|byte| *byte == 1));
        lengths.insert(len);
    }
    assert!(10 < lengths.len() && lengths.contains(&50), "{lengths:?}");
    disk.break_reads_after(1);
    file.read_at(0, &mut [0; 1]).unwrap();
    file.read_at(0, &mut [0; 1]).unwrap_err();
}

#[test]
fn few_choices_are_tried_in_all_combinations() {
    let (disk, file) = with_a_file();
    write(&file, 0, 2, 1024);
    let all = Survival::some(&disk.point(), 6, &mut Rng::with_seed(1));
    assert_eq!(all, (0..4).map(Survival::Combination).collect::<Vec<_>>());
    write(&file, 0, 2, 9000);
    assert_eq!(Survival::some(&disk.point(), 6, &mut Rng::with_seed(1)).len(), 6);
}

#[test]
fn a_disk_is_locked_by_one() {
    let disk = SimDisk::default();
    let lock = disk.lock().unwrap();
    assert_eq!(disk.lock().unwrap_err().kind(), ErrorKind::ResourceBusy);
    drop(lock);
    disk.lock().unwrap();
}
