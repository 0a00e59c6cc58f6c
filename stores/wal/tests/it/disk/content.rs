//! What one file holds: what programs see, what is durable, and what of the rest a crash may leave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::SECTOR;
use super::crash::Choice;

/// When something was written: the number of an operation of the disk.
pub(crate) type Time = u64;

/// Bytes of one sector, as they were at one time.
#[derive(Clone, Debug)]
struct Version {
    time: Time,
    bytes: Arc<[u8]>,
}

/// One file. Cheap to clone: what does not change is shared.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    /// What programs see.
    now: Arc<Vec<u8>>,
    /// What was there when the file was last synced.
    durable: Arc<Vec<u8>>,
    /// By the number of the sector: what was written and may be on the disk or not, in the order of time.
    uncertain: BTreeMap<usize, Vec<Version>>,
    /// Lengths that the file had since it was synced, in the order of time.
    lengths: Vec<(Time, usize)>,
    /// Sectors that the next sync must write. One that a failed sync was to write is not among them: systems forget such
    /// sectors, and a later sync that succeeds says nothing about them.
    dirty: BTreeSet<usize>,
    /// Whether the next sync must make the length durable.
    is_length_dirty: bool,
}

impl Content {
    /// A file whose bytes are all durable.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        let bytes = Arc::new(bytes);
        Self { now: Arc::clone(&bytes), durable: bytes, ..Self::default() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.now
    }

    pub(super) fn write(&mut self, time: Time, offset: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let end = offset + data.len();
        if self.now.len() < end {
            self.set_len(time, end);
        }
        Arc::make_mut(&mut self.now)[offset..end].copy_from_slice(data);
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            self.touch(time, sector);
        }
    }

    pub(super) fn set_len(&mut self, time: Time, len: usize) {
        let before = self.now.len();
        if before == len {
            return;
        }
        resize(Arc::make_mut(&mut self.now), len);
        self.lengths.push((time, len));
        self.is_length_dirty = true;
        if len < before {
            // What was cut off must not come back as something else than zeros when the file grows again.
            for sector in len / SECTOR..before.div_ceil(SECTOR) {
                self.touch(time, sector);
            }
        }
    }

    /// Notes what is in the sector now.
    fn touch(&mut self, time: Time, sector: usize) {
        let bytes: Arc<[u8]> = sector_of(&self.now, sector).into();
        self.uncertain.entry(sector).or_default().push(Version { time, bytes });
        self.dirty.insert(sector);
    }

    /// Makes durable what is dirty.
    pub(super) fn sync(&mut self) {
        let len = if self.is_length_dirty { self.now.len() } else { self.durable.len() };
        let durable = Arc::make_mut(&mut self.durable);
        // A length that an earlier sync failed to make durable is needed by what is written behind it.
        let needed = self.dirty.last().map_or(0, |last| ((last + 1) * SECTOR).min(self.now.len()));
        resize(durable, len.max(needed));
        for sector in std::mem::take(&mut self.dirty) {
            let range = range_of(sector, durable.len().min(self.now.len()));
            durable[range.clone()].copy_from_slice(&self.now[range]);
            self.uncertain.remove(&sector);
        }
        if self.is_length_dirty {
            self.lengths.clear();
            self.is_length_dirty = false;
        }
    }

    /// A sync that failed: any of what was dirty may be there, and nobody will write the rest.
    pub(super) fn forget_dirty(&mut self) {
        self.dirty.clear();
        self.is_length_dirty = false;
    }

    /// What a crash leaves.
    pub(super) fn crashed(&self, choice: &mut Choice) -> Self {
        let mut bytes = (*self.durable).clone();
        let len = choice.version(None, &self.lengths.iter().map(|(time, _)| *time).collect::<Vec<_>>());
        let len = len.map_or(bytes.len(), |number| self.lengths[number].1);
        resize(&mut bytes, len);
        for (sector, versions) in &self.uncertain {
            let times: Vec<_> = versions.iter().map(|version| version.time).collect();
            if let Some(number) = choice.version(Some(*sector), &times) {
                let range = range_of(*sector, bytes.len());
                let version = &versions[number].bytes;
                let kept = choice.piece(range.len().min(version.len()));
                bytes[range.start + kept.start..range.start + kept.end].copy_from_slice(&version[kept]);
            }
        }
        Self::of(bytes)
    }

    /// In how many sectors a crash has a choice.
    pub(super) fn choices(&self) -> usize {
        self.uncertain.len() + usize::from(!self.lengths.is_empty())
    }
}

/// As `Vec::resize` with zeros, but fast without optimization.
fn resize(bytes: &mut Vec<u8>, len: usize) {
    let more = len.saturating_sub(bytes.len());
    bytes.truncate(len);
    bytes.extend_from_slice(&vec![0; more]);
}

/// Where a sector is in a file of `len` bytes; empty behind its end.
fn range_of(sector: usize, len: usize) -> std::ops::Range<usize> {
    (sector * SECTOR).min(len)..((sector + 1) * SECTOR).min(len)
}

fn sector_of(bytes: &[u8], sector: usize) -> &[u8] {
    &bytes[range_of(sector, bytes.len())]
}
