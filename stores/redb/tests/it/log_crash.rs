//! A crash while a purge that was acknowledged is being swept.

use std::time::{Duration, Instant};

use futures::executor::block_on;
use openconsensus::{LogId, RaftLogStorage};
use openconsensus_memstore::kv::Kv;
use openconsensus_redb::{Options, RedbLog};

use crate::disk::Disk;
use crate::helpers::{entries, identity, read_all};

fn open(disk: &Disk) -> RedbLog<Kv> {
    RedbLog::open_on("disk", disk.clone(), &identity(), &Options::default()).unwrap()
}

#[test]
fn a_crash_between_the_pieces_of_a_purge_leaves_the_same_log() {
    let disk = Disk::default();
    let mut log = open(&disk);
    block_on(log.append(entries(1, 1..15_000), 0)).unwrap();
    disk.record();
    block_on(log.purge(LogId::new(1, 14_990))).unwrap();
    // One point for each piece at least.
    let deadline = Instant::now() + Duration::from_secs(60);
    while disk.crash_points() < 8 {
        assert!(Instant::now() < deadline, "the log is not swept when it is idle");
        std::thread::yield_now();
    }
    drop(log);
    let points = disk.take_crash_points();
    let mut purged = 0;
    for point in points {
        let mut log = open(&point.strict());
        let state = block_on(log.load()).unwrap();
        if state.purged == LogId::ZERO {
            assert_eq!((purged, read_all(&log).range()), (0, 1..15_000));
            continue;
        }
        purged += 1;
        assert_eq!((state.purged, state.last), (LogId::new(1, 14_990), LogId::new(1, 14_999)));
        assert_eq!(read_all(&log), entries(1, 14_991..15_000));
        // It goes on sweeping, and takes new entries.
        block_on(log.append(entries(1, 15_000..15_001), 0)).unwrap();
    }
    assert!(purged > 3, "{purged}");
}
