//! A disk in memory that forgets what was not synced, and that can become full.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use openconsensus_redb::redb::StorageBackend;

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    /// What is there after a crash.
    synced: Vec<u8>,
    /// What was done since the last sync; after a crash any of it may be there.
    unsynced: Vec<Change>,
    /// How many bytes may still be written.
    space: Option<u64>,
    /// How many writes and syncs may still be carried out.
    operations: Option<u64>,
    /// One before each sync and one after it.
    crash_points: Vec<CrashPoint>,
    records: bool,
    /// A folder that crashes together with the disk.
    folder: Option<PathBuf>,
    /// Set by the test.
    mark: usize,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

/// What a crash at this moment would leave behind.
#[derive(Clone, Debug)]
pub(crate) struct CrashPoint {
    synced: Vec<u8>,
    unsynced: Vec<Change>,
    files: BTreeMap<String, Vec<u8>>,
    /// The mark that the test had set by then.
    pub(crate) mark: usize,
}

impl CrashPoint {
    /// Makes the folder as it was.
    pub(crate) fn write_files(&self, folder: &Path) {
        for (name, content) in &self.files {
            std::fs::write(folder.join(name), content).unwrap();
        }
    }

    /// The disk when nothing that was not synced is there.
    pub(crate) fn strict(&self) -> Disk {
        Disk::of(self.synced.clone())
    }

    /// The disk when some of what was not synced is there, in any combination.
    pub(crate) fn torn(&self, random: &mut fastrand::Rng) -> Disk {
        let mut bytes = self.synced.clone();
        for change in &self.unsynced {
            match change {
                // A length that is lost would lose the writes behind it as well.
                Change::SetLen(_) => change.apply(&mut bytes),
                Change::Write(offset, data) => {
                    for (number, sector) in data.chunks(512).enumerate() {
                        if random.bool() {
                            let offset = offset + 512 * number as u64;
                            Change::Write(offset, sector.to_vec()).apply(&mut bytes);
                        }
                    }
                }
            }
        }
        Disk::of(bytes)
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                let start = *offset as usize;
                bytes.resize(bytes.len().max(start + data.len()), 0);
                bytes[start..start + data.len()].copy_from_slice(data);
            }
            Self::SetLen(len) => bytes.resize(*len as usize, 0),
        }
    }
}

impl Disk {
    fn of(bytes: Vec<u8>) -> Self {
        let content = Content { now: bytes.clone(), synced: bytes, ..Content::default() };
        Self { content: Arc::new(Mutex::new(content)) }
    }

    /// A disk with this content, all of it synced, and with room for `space` more bytes.
    pub(crate) fn with_space(&self, space: Option<u64>) -> Self {
        let disk = Self::of(self.lock().now.clone());
        disk.lock().space = space;
        disk
    }

    /// From now on so many writes and syncs are carried out, and every further one fails.
    pub(crate) fn fail_after(&self, operations: u64) {
        self.lock().operations = Some(operations);
    }

    /// A disk with what is there now, all of it synced, after `change`.
    pub(crate) fn changed(&self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut bytes = self.lock().now.clone();
        change(&mut bytes);
        Self::of(bytes)
    }

    /// From now on every sync is a point at which the machine might crash.
    pub(crate) fn record(&self) {
        self.lock().records = true;
    }

    /// From now on crash points have the files of `folder` too, as they are then.
    pub(crate) fn watch(&self, folder: &Path) {
        self.lock().folder = Some(folder.into());
    }

    /// Stamps the crash points that follow.
    pub(crate) fn mark(&self, mark: usize) {
        self.lock().mark = mark;
    }

    pub(crate) fn take_crash_points(&self) -> Vec<CrashPoint> {
        std::mem::take(&mut self.lock().crash_points)
    }

    /// How many crash points there are.
    pub(crate) fn crash_points(&self) -> usize {
        self.lock().crash_points.len()
    }

    /// What a crash right now would leave behind.
    pub(crate) fn crash_point(&self) -> CrashPoint {
        self.lock().crash_point()
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }
}

impl Content {
    fn crash_point(&self) -> CrashPoint {
        let files = self.folder.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
        let files = files.filter_map(|file| {
            let file = file.unwrap();
            // It may be removed at this very moment.
            Some((file.file_name().into_string().unwrap(), std::fs::read(file.path()).ok()?))
        });
        CrashPoint {
            synced: self.synced.clone(),
            unsynced: self.unsynced.clone(),
            files: files.collect(),
            mark: self.mark,
        }
    }

    /// Fails when no operation is left.
    fn count_operation(&mut self) -> io::Result<()> {
        if let Some(operations) = self.operations {
            let left = operations.checked_sub(1);
            self.operations = Some(left.ok_or_else(|| io::Error::other("the disk does not answer"))?);
        }
        Ok(())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push(change);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = self.lock();
        let start = offset as usize;
        let bytes = content.now.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // As on most file systems, space is taken only when it is written to.
        self.lock().change(Change::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut content = self.lock();
        content.count_operation()?;
        if content.records {
            let point = content.crash_point();
            content.crash_points.push(point);
        }
        content.synced = content.now.clone();
        content.unsynced.clear();
        if content.records {
            let point = content.crash_point();
            content.crash_points.push(point);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut content = self.lock();
        content.count_operation()?;
        if let Some(space) = content.space {
            let Some(left) = space.checked_sub(data.len() as u64) else {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"));
            };
            content.space = Some(left);
        }
        content.change(Change::Write(offset, data.to_vec()));
        Ok(())
    }
}
