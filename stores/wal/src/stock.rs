//! Segments that stand ready, and those that are not needed any more: housekeeping beside the writes.

use std::collections::VecDeque;
use std::io;
use std::io::IoSlice;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::disk::DiskFile;
use crate::format::{HEADER_BYTES, SegmentHeader, segment_name, unfinished_name};
use crate::options::WalOptions;
use crate::queue::{Failure, lock};
use crate::segment::{AnyDisk, Seed, Segment};

/// How many zeros are written at once.
const ZEROS_BYTES: usize = 256 << 10;
/// Zeros are synced when there are so many: a sync of the log must not have to wait for all of them.
const ZEROS_SYNC_BYTES: u64 = 512 << 10;

/// Makes segments: a file gets the name of a segment when it is complete and synced, never before.
pub(crate) struct Maker {
    disk: Arc<dyn AnyDisk>,
    /// What every segment of the log says, but for its number.
    header: SegmentHeader,
}

impl Maker {
    pub(crate) fn new(disk: Arc<dyn AnyDisk>, header: SegmentHeader) -> Self {
        Self { disk, header }
    }

    /// A new segment of zeros that begins with `front` behind its header. `None` when it is not wanted any more.
    pub(crate) fn fresh(
        &self,
        number: u64,
        front: impl FnOnce(&SegmentHeader) -> Vec<u8>,
        is_wanted: &dyn Fn() -> bool,
    ) -> io::Result<Option<Segment>> {
        let unfinished = unfinished_name(number);
        let made = self.fill(number, &unfinished, front, is_wanted);
        if !matches!(made, Ok(Some(_))) {
            // What is left of it counts for nothing, and takes space where there may be none.
            let _ = self.disk.remove(&unfinished);
        }
        made
    }

    fn fill(
        &self,
        number: u64,
        unfinished: &str,
        front: impl FnOnce(&SegmentHeader) -> Vec<u8>,
        is_wanted: &dyn Fn() -> bool,
    ) -> io::Result<Option<Segment>> {
        let file = self.disk.create(unfinished)?;
        let header = SegmentHeader { number, ..self.header.clone() };
        let mut bytes = header.encode();
        bytes.extend(front(&header));
        file.write_at(0, &[IoSlice::new(&bytes)])?;
        if !write_zeros(&*file, bytes.len() as u64, header.segment_bytes, is_wanted)? {
            return Ok(None);
        }
        self.name(unfinished, file, &header).map(Some)
    }

    /// An old segment under a new number. What it holds does not fit the checksums of its new number.
    fn recycled(&self, old: &Segment, number: u64) -> io::Result<Segment> {
        let unfinished = unfinished_name(number);
        self.disk.rename(&old.name(), &unfinished)?;
        // Its name must be gone for good before the next older one can go.
        self.disk.sync_folder()?;
        let header = SegmentHeader { number, segment_bytes: old.bytes, ..self.header.clone() };
        old.file.write_at(0, &[IoSlice::new(&header.encode())])?;
        self.name(&unfinished, old.file.clone(), &header)
    }

    fn name(&self, unfinished: &str, file: Arc<dyn DiskFile>, header: &SegmentHeader) -> io::Result<Segment> {
        file.sync_data()?;
        self.disk.rename(unfinished, &segment_name(header.number))?;
        self.disk.sync_folder()?;
        let seed = Seed(header.seed());
        Ok(Segment { number: header.number, file, bytes: header.segment_bytes, seed })
    }

    fn remove(&self, old: &Segment) -> io::Result<()> {
        self.disk.remove(&old.name())?;
        self.disk.sync_folder()
    }
}

/// Writes zeros from `from` to `to`, and syncs now and then, not at the end. Returns `false` when they are not wanted any
/// more.
pub(crate) fn write_zeros(
    file: &dyn DiskFile,
    from: u64,
    to: u64,
    is_wanted: &dyn Fn() -> bool,
) -> io::Result<bool> {
    let zeros = vec![0; ZEROS_BYTES.min(to.saturating_sub(from) as usize)];
    let (mut at, mut unsynced) = (from, 0);
    while at < to {
        if !is_wanted() {
            return Ok(false);
        }
        let count = (to - at).min(ZEROS_BYTES as u64);
        file.write_at(at, &[IoSlice::new(&zeros[..count as usize])])?;
        at += count;
        unsynced += count;
        if ZEROS_SYNC_BYTES <= unsynced && at < to {
            file.sync_data()?;
            unsynced = 0;
        }
    }
    Ok(true)
}

/// Segments that stand ready, and those that are to go.
pub(crate) struct Stock {
    state: Mutex<State>,
    changed: Condvar,
    maker: Maker,
    ready_min: usize,
    ready_max: usize,
    is_aside: bool,
}

struct State {
    /// In the order of their numbers.
    ready: VecDeque<Arc<Segment>>,
    /// Not needed any more, from the oldest on. Each goes for good before the next: a log never has a gap.
    dropped: VecDeque<Arc<Segment>>,
    next_number: u64,
    /// Somebody waits for a segment.
    is_awaited: bool,
    /// Why none could be made. It is tried again when one is needed.
    failure: Option<Failure>,
    /// A step failed half-way: nothing is made or removed any more.
    broken: Option<Failure>,
    is_stopped: bool,
}

enum Job {
    Drop(Arc<Segment>),
    Make(u64),
}

impl State {
    fn job(&self, ready_min: usize) -> Option<Job> {
        if self.broken.is_some() {
            return None;
        }
        if let Some(segment) = self.dropped.front() {
            return Some(Job::Drop(segment.clone()));
        }
        let is_short = self.ready.len() < ready_min && self.failure.is_none();
        (is_short || self.is_awaited && self.ready.is_empty()).then_some(Job::Make(self.next_number))
    }
}

impl Stock {
    pub(crate) fn new(
        maker: Maker,
        ready: Vec<Arc<Segment>>,
        next_number: u64,
        options: &WalOptions,
    ) -> Self {
        let state = State {
            ready: ready.into(),
            dropped: VecDeque::new(),
            next_number,
            is_awaited: false,
            failure: None,
            broken: None,
            is_stopped: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            maker,
            ready_min: options.segments_ready_min,
            ready_max: options.segments_ready_max,
            is_aside: options.housekeeping_aside,
        }
    }

    /// Works until it is [stopped](Self::stop).
    pub(crate) fn work(&self) {
        loop {
            let state = lock(&self.state);
            let has_none = |state: &mut State| !state.is_stopped && state.job(self.ready_min).is_none();
            let state = self.changed.wait_while(state, has_none);
            if state.unwrap_or_else(std::sync::PoisonError::into_inner).is_stopped {
                return;
            }
            self.work_once();
        }
    }

    /// Does one piece of work, if there is any.
    pub(crate) fn work_once(&self) -> bool {
        let state = lock(&self.state);
        let Some(job) = state.job(self.ready_min) else { return false };
        match job {
            Job::Drop(segment) => self.drop_one(state, segment),
            Job::Make(number) => self.make_one(state, number),
        }
        self.changed.notify_all();
        true
    }

    fn make_one(&self, mut state: MutexGuard<'_, State>, number: u64) {
        state.failure = None;
        drop(state);
        let is_wanted = || !lock(&self.state).is_stopped;
        let made = self.maker.fresh(number, |_| Vec::new(), &is_wanted);
        let mut state = lock(&self.state);
        match made {
            Ok(Some(segment)) => {
                state.ready.push_back(Arc::new(segment));
                state.next_number = number + 1;
                state.is_awaited = false;
            }
            Ok(None) => {}
            Err(error) => {
                let what = format!("no room can be made for more of the log, segment {number}: {error}");
                tracing::warn!(name: "wal.segment.failed", segment = number, %error, "no segment can be made ahead of need");
                state.failure = Some(Failure::new(error.kind(), what));
                state.is_awaited = false;
            }
        }
    }

    fn drop_one(&self, mut state: MutexGuard<'_, State>, segment: Arc<Segment>) {
        state.dropped.pop_front();
        let number = state.next_number;
        // One of the two is here; a reader may hold others, and must not find the file changed.
        let is_free = Arc::strong_count(&segment) == 1;
        let has_place = state.ready.len() < self.ready_max;
        drop(state);
        let is_regular = segment.bytes == self.maker.header.segment_bytes
            && segment.file.len_bytes().is_ok_and(|bytes| bytes == segment.bytes)
            && HEADER_BYTES as u64 <= segment.bytes;
        let result = if is_free && has_place && is_regular {
            self.maker.recycled(&segment, number).map(Some)
        } else {
            self.maker.remove(&segment).map(|()| None)
        };
        let mut state = lock(&self.state);
        match result {
            Ok(None) => {}
            Ok(Some(recycled)) => {
                state.ready.push_back(Arc::new(recycled));
                state.next_number = number + 1;
                state.is_awaited = false;
                state.failure = None;
            }
            Err(error) => {
                let what = format!(
                    "segment {}, which is not needed any more, cannot be removed: {error}",
                    segment.number
                );
                tracing::error!(name: "wal.segment.stuck", segment = segment.number, %error, "an old segment cannot be removed");
                state.broken = Some(Failure::new(error.kind(), what));
            }
        }
    }

    /// The next segment, which is made now if none is ready.
    pub(crate) fn take(&self) -> io::Result<Arc<Segment>> {
        let mut state = lock(&self.state);
        loop {
            if let Some(segment) = state.ready.pop_front() {
                self.changed.notify_all();
                return Ok(segment);
            }
            if let Some(failure) = &state.broken {
                return Err(failure.error());
            }
            // What has failed ahead of need is tried once more: there may be space again.
            state.is_awaited = true;
            state.failure = None;
            if self.is_aside {
                self.changed.notify_all();
                let waits = |state: &mut State| state.is_awaited && state.broken.is_none();
                let woken = self.changed.wait_while(state, waits);
                state = woken.unwrap_or_else(std::sync::PoisonError::into_inner);
            } else {
                drop(state);
                self.work_once();
                state = lock(&self.state);
            }
            if let Some(failure) = &state.failure {
                return Err(failure.error());
            }
        }
    }

    /// These segments are not needed any more: all older ones are not either.
    pub(crate) fn drop_segments(&self, segments: impl IntoIterator<Item = Arc<Segment>>) {
        lock(&self.state).dropped.extend(segments);
        self.changed.notify_all();
    }

    /// Ends [`work`](Self::work) soon.
    pub(crate) fn stop(&self) {
        lock(&self.state).is_stopped = true;
        self.changed.notify_all();
    }
}
