//! A disk that becomes full.

use std::io::ErrorKind;

use futures::executor::block_on;
use openconsensus::{HardState, LogId, RaftLogStorage};
use openconsensus_redb::{Options, RedbLog};

use crate::disk::Disk;
use crate::helpers::{entries, identity, read_all};

fn open(disk: &Disk) -> RedbLog<openconsensus_memstore::kv::Kv> {
    RedbLog::open_on("disk", disk.clone(), &identity(), &Options::default()).unwrap()
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing_that_was_acknowledged() {
    let empty = Disk::default();
    drop(open(&empty));
    for space in (20_000..400_000).step_by(17_000) {
        let disk = empty.with_space(Some(space));
        let mut log = open(&disk);
        let hard_state = HardState { term: 1, voted_for: Some(1), commit: 0 };
        let mut last = 0;
        let error = match block_on(log.save_hard_state(hard_state)) {
            Err(error) => error,
            Ok(()) => loop {
                match block_on(log.append(entries(1, last + 1..last + 21), last)) {
                    Ok(()) => last += 20,
                    Err(error) => break error,
                }
            },
        };
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        assert_eq!(error.to_string(), "disk: no space left on device");
        // Nothing is written any more, whatever it is.
        let later = block_on(log.truncate(1)).unwrap_err();
        assert_eq!(later.kind(), ErrorKind::StorageFull, "{later}");
        assert!(later.to_string().contains("an earlier operation failed"), "{later}");
        drop(log);

        // There is space again. The machine may have crashed before, too.
        for disk in [disk.with_space(None), disk.crash_point().strict()] {
            let mut log = open(&disk);
            let found = log.opened_state().clone();
            assert!(found.last.index == last || found.last.index == last + 20, "{found:?}, {last}");
            assert_eq!(read_all(&log), entries(1, 1..found.last.index + 1));
            if last > 0 {
                assert_eq!(found.hard_state.term, 1);
            }
            let next = found.last.index + 1;
            block_on(log.append(entries(2, next..next + 5), 0)).unwrap();
            assert_eq!(block_on(log.load()).unwrap().last, LogId::new(2, next + 4));
        }
    }
}
