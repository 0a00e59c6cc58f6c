//! Snapshots in a simulation: built or not, damaged on the disk, sent; and logs that are purged by hand.

use openconsensus::engine::{Input, Reply};
use openconsensus::{AnyError, InstallSnapshot};

use super::coverage::Count;
use super::world::World;
use crate::engines::What;

impl World {
    pub(super) fn finish_building(&mut self, id: u64, succeeds: bool, waits: bool) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.is_alive()) else { return };
        let Some((snapshot, image)) = node.to_build.pop_front() else { return };
        if !succeeds {
            let error = AnyError::error("no space left on the device");
            return self.step(id, Input::SnapshotBuildFailed { id: snapshot, error }, waits);
        }
        let meta = image.meta();
        // A later one may have been installed meanwhile.
        if node.snapshot_index() <= meta.last.index {
            node.replace_snapshot(image);
        }
        self.step(id, Input::SnapshotBuilt { id: snapshot, meta }, waits);
    }

    /// A driver opens the current snapshot when it begins to send it: it may be a later one by then, or damaged.
    pub(super) fn send_snapshot(&mut self, id: u64) {
        let Some(node) = self.nodes.get(&id).filter(|node| node.is_alive()) else { return };
        let Some((snapshot, peer, term)) = self.sides[id as usize].to_send.pop_front() else { return };
        let image = Box::new(node.snapshot.clone().expect("a snapshot is sent only where there is one"));
        if node.is_snapshot_damaged {
            let last = Some(image.applied.last_applied);
            return self.step(id, Input::SnapshotUnreadable { id: snapshot, last }, false);
        }
        let request = InstallSnapshot { term, leader: id, meta: image.meta() };
        self.letters.push(id, peer, What::Snapshot { id: snapshot, request, image }, self.now_us);
    }

    /// The snapshot on the disk of a node is damaged, or whole again.
    pub(super) fn damage_snapshot(&mut self, id: u64, is_damaged: bool) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.snapshot.is_some()) else { return };
        node.is_snapshot_damaged = is_damaged;
        self.coverage.add_many(Count::SnapshotsSpoilt, u64::from(is_damaged));
    }

    /// Counts why a snapshot is built, as far as that can be seen from outside.
    pub(super) fn count_build(&mut self, id: u64) {
        let config = &self.config;
        let metrics = self.nodes[&id].engine().metrics(self.clock_of(id));
        let entries = metrics.applied.index - metrics.snapshot.index;
        let is_over = |limit: Option<u64>, value: u64| limit.is_some_and(|limit| limit / 2 <= value);
        if is_over(config.snapshot_after_entries, entries) {
            return;
        }
        let is_by_bytes = is_over(config.snapshot_after_bytes, metrics.log_bytes_since_snapshot);
        let is_by_age = is_over(config.snapshot_after_ms, metrics.snapshot_age_ms.unwrap_or(0));
        self.coverage.add_many(Count::SnapshotsByBytes, u64::from(is_by_bytes));
        self.coverage.add_many(Count::SnapshotsByAge, u64::from(is_by_age && !is_by_bytes));
    }

    /// An answer about the log or a snapshot must be true when it is given.
    pub(super) fn check_storage_reply(&mut self, id: u64, reply: &Reply<crate::engines::Test>) {
        let node = &self.nodes[&id];
        match reply {
            Reply::LogPurged { upto } => {
                let purged = node.disk.purged;
                assert!(
                    upto.index <= purged.index,
                    "node {id} says that its log is purged to {upto}; its disk has purged {purged}"
                );
                self.coverage.add(Count::LogsPurged);
            }
            Reply::PurgeFailed(_) => self.coverage.add(Count::PurgesRefused),
            Reply::SnapshotBuilt(meta) => {
                let (has, last) = (node.snapshot_index(), meta.last);
                assert!(
                    last.index <= has,
                    "node {id} says that it has a snapshot to {last}; it has one to {has}"
                );
            }
            _ => {}
        }
    }
}
